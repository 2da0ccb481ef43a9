"""``report.html`` in a real browser: what a person moves, reads and prints. Skips without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import polars as pl
import pytest
from report_sample import POLICY, certificate, made_rows, sample_report

from dagster_project.lib.release.html import report_html
from dagster_project.lib.tiers.curve import coverage_curve

pytestmark = pytest.mark.skipif(browser.found() is None, reason="no Chromium on PATH")

LOW, START = 0.852, 0.95  # of the sample's certificate


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return made_rows(3000, sharp=9.0)


@pytest.fixture(scope="module")
def file(rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(report_html(sample_report(rows), coverage_curve(rows), POLICY))
    return path


@pytest.fixture(scope="module")
def tab(file: Path) -> Iterator[browser.Page]:
    with browser.opened() as page:
        page.open(file)
        yield page


@pytest.fixture
def page(tab: browser.Page) -> browser.Page:
    tab.resize(1280, 900)
    tab.click("#reset")
    return tab


def values(page: browser.Page) -> dict[str, int]:
    found: dict[str, int] = page.read(
        "Object.fromEntries(['confident', 'refer'].map("
        "(id) => [id, Number(document.getElementById(id).value)]))"
    )
    return found


def numbers(page: browser.Page) -> dict[str, float | None]:
    found: dict[str, str] = page.read(
        "Object.fromEntries([...document.querySelectorAll('data[data-number]')].map("
        "(e) => [e.dataset.number, e.value]))"
    )
    return {key: float(value) if value else None for key, value in found.items()}


def expected(rows: pl.DataFrame, confident: int, refer: int) -> dict[str, float | None]:
    """The same from ``coverage_curve.csv`` as it is written, at both thresholds."""
    csv = pl.read_csv(coverage_curve(rows).write_csv().encode())
    above, kept = (
        next(iter(csv.filter(pl.col("threshold") >= k / 1000).tail(1).to_dicts()), None)
        for k in (confident, refer)
    )
    n, n_kept = (row["n"] if row else 0 for row in (above, kept))
    return {
        "confident": above["coverage"] if above else 0.0,
        "wrong": above["confident_wrong"] if above else 0.0,
        "covered_top1": above["top1"] if above else None,
        "kept_top3": kept["top3"] if kept else None,
        "refer": (rows.height - n_kept) / rows.height,
        "possible": (n_kept - n) / rows.height,
    }


def check(page: browser.Page, rows: pl.DataFrame) -> dict[str, int]:
    """All shown numbers are those of the CSV where the sliders stand, and the text rounds them."""
    at = values(page)
    shown = numbers(page)
    assert shown == expected(rows, at["confident"], at["refer"])
    for key, value in shown.items():
        text = page.text(f"data[data-number={key}]")
        if value is None:
            assert text == "undefined"
        else:
            scale = 1000 if key == "wrong" else 100
            assert float(text.removesuffix(" %")) == pytest.approx(scale * value, abs=0.0501)
    for side, step in at.items():
        assert page.text(f"#{side}-value") == f"{step / 1000:.3f}"
        assert page.read(f"document.getElementById('{side}').ariaValueText") == f"{step / 1000:.3f}"
    least = certificate()["min_coverage"] or 0.0
    answered = shown["confident"] or 0.0
    sure = LOW <= at["confident"] / 1000 <= START and answered >= least and answered > 0
    wanted = "certified" if sure else "not certified for the declared target"
    assert page.text("#verdict") == wanted, (at, shown, least)
    return at


def test_the_page_opens_at_the_released_values_as_it_was_written(
    page: browser.Page, rows: pl.DataFrame, file: Path
) -> None:
    at = check(page, rows)
    released = sample_report(rows)["thresholds"]
    assert at == {side: round(1000 * released[side]) for side in at}
    # the numbers that Python wrote, for readers without JavaScript and for print, are the same
    written = file.read_text()
    for key in numbers(page):
        text = page.text(f"data[data-number={key}]")
        assert f'data-number="{key}" value="' in written and f'">{text}</data>' in written


def test_arrow_keys_move_one_grid_value_and_every_number_follows(
    page: browser.Page, rows: pl.DataFrame
) -> None:
    before = values(page)
    page.focus("#confident")
    page.press("ArrowRight", 3)
    assert check(page, rows) == before | {"confident": before["confident"] + 3}
    page.press("ArrowLeft", 5)
    assert check(page, rows) == before | {"confident": before["confident"] - 2}
    page.focus("#refer")
    page.press("ArrowDown")
    assert check(page, rows)["refer"] == before["refer"] - 1


def test_a_click_on_the_track_moves_there(page: browser.Page, rows: pl.DataFrame) -> None:
    for across in (0.95, 0.7, 0.62):
        page.click("#confident", across)
        assert abs(check(page, rows)["confident"] / 1000 - across) < 0.05


def test_a_click_on_a_pin_or_its_mark_goes_there(page: browser.Page, rows: pl.DataFrame) -> None:
    pins = page.read(
        "[...document.querySelectorAll('button[data-step]')].map((e) => ({...e.dataset}))"
    )
    assert {p["kind"] for p in pins} == {"deployed", "fitted", "released", "certified"}
    for pin in pins:
        chosen = f"button[data-side={pin['side']}][data-kind={pin['kind']}]"
        page.click(chosen)
        assert check(page, rows)[pin["side"]] == int(pin["step"])
        assert page.read(f"document.querySelector('{chosen}').ariaPressed") == "true"
    page.click("#reset")
    page.click(".marks svg[data-side=confident][data-step='852'] path:last-of-type")
    assert check(page, rows)["confident"] == 852


def test_certified_is_said_from_the_certified_value_up_to_where_too_little_is_covered(
    page: browser.Page, rows: pl.DataFrame
) -> None:
    page.click("button[data-kind=certified]")
    assert page.text("#verdict") == "certified"
    page.click("button[data-side=confident][data-nudge='-1']")
    assert check(page, rows)["confident"] == 851
    for step in (853, 870, 950, 951):
        page.read(
            f"(() => {{ const e = document.getElementById('confident'); e.value = {step};"
            "e.dispatchEvent(new Event('input')); })()"
        )
        assert check(page, rows)["confident"] == step
    # no bound moves beside the slider: the word is all there is
    assert certificate()["threshold"] == LOW and "%" not in page.text("#verdict")


def test_refer_takes_confident_along_and_the_page_says_so(
    page: browser.Page, rows: pl.DataFrame
) -> None:
    page.focus("#refer")
    page.press("End")
    assert check(page, rows) == {"confident": 1000, "refer": 1000}
    assert "The confident threshold moved along" in page.text("#said")
    page.focus("#confident")
    page.press("Home")
    assert check(page, rows) == {"confident": 0, "refer": 0}
    assert "The refer threshold moved along" in page.text("#said")


def test_the_sentence_is_spoken_when_the_thumb_rests(page: browser.Page) -> None:
    page.focus("#confident")
    page.press("ArrowRight")
    page.until(
        "document.getElementById('spoken').textContent === "
        "document.getElementById('said').textContent"
    )
    assert page.read("document.getElementById('spoken').ariaLive") == "polite"


def test_the_bar_and_the_marker_stand_where_the_numbers_say(page: browser.Page) -> None:
    page.click("button[data-kind=certified]")
    shown = numbers(page)
    bar = page.read(
        "Object.fromEntries([...document.querySelectorAll('.bar rect')].map((e) => "
        "[e.id, e.getBoundingClientRect().width / e.parentNode.clientWidth]))"
    )
    for tier in ("confident", "possible", "refer", "wrong"):
        assert bar[f"bar-{tier}"] == pytest.approx(shown[tier], abs=0.004)
    plot = json.loads(page.text("#counts"))["plot"]
    place = page.read("document.getElementById('marker-confident').getAttribute('transform')")
    x, y = map(float, place.removeprefix("translate(").removesuffix(")").split())
    assert x == pytest.approx(plot["left"] + plot["width"] * (shown["confident"] or 0))
    risk = 1 - (shown["covered_top1"] or 0)
    assert y == pytest.approx(plot["top"] + plot["height"] * (1 - risk / plot["y_max"]))


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_needs_sideways_scrolling_and_a_thumb_can_hit_everything(
    page: browser.Page, width: int
) -> None:
    page.resize(width, 844)
    wide = page.read("document.scrollingElement.scrollWidth")
    assert wide <= page.read("innerWidth") == width
    small: list[Any] = page.read(
        "[...document.querySelectorAll('button, input, nav a')].map((e) => "
        "[e.outerHTML, e.getBoundingClientRect().height, e.getBoundingClientRect().width])"
        ".filter(([, height, width]) => height < 44 || width < 44)"
    )
    assert small == []


def test_print_leaves_the_slider_out_and_its_numbers_in(page: browser.Page) -> None:
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        hidden = page.read(
            "[...document.querySelectorAll('input, button, nav, .marker')].every("
            "(e) => e.getClientRects().length === 0)"
        )
        table = page.read(
            "[...document.querySelectorAll('table')].map((e) => e.innerText)"
            ".find((text) => text.startsWith('The slider at each pinned pair'))"
        )
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
    assert hidden and page.text("data[data-number=confident]") in table


def test_nothing_was_fetched_refused_or_run_from_the_data(page: browser.Page, file: Path) -> None:
    assert page.requests == [file.as_uri()]
    assert page.problems == []
    assert page.read("document.images.length") == 0
    # the policy is in force: a script that was not there when it was written does not run
    page.read(
        "(() => { const e = document.createElement('script'); e.textContent = 'window.bad = 1';"
        "document.body.append(e); })()"
    )
    assert page.read("window.bad === undefined")
    assert any("Content Security Policy" in problem for problem in page.problems)
