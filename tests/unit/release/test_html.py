from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_sample import HOSTILE, POLICY, made_rows, plain_report, sample_report

from dagster_project.lib.release.html import report_html
from dagster_project.lib.release.report_page import drawing, parts, slider
from dagster_project.lib.tiers.curve import coverage_curve
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, ConfidentRule, ReferRule, TierPolicy
from dagster_project.lib.tiers.thresholds import Thresholds

LIMIT = 2_000_000
FIXED = TierPolicy(
    confident=ConfidentRule(rule="fixed", target=0.5), refer=ReferRule(rule="fixed", target=0.2)
)


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of each style, script and heading."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inner: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        self.inner.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inner[self._open[-1]][-1] += data
            if self._open[-1] not in ("script", "style"):
                self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def report(original: pl.DataFrame) -> dict[str, Any]:
    return sample_report(original)


@pytest.fixture(scope="module")
def curve(original: pl.DataFrame) -> pl.DataFrame:
    return coverage_curve(original)


@pytest.fixture(scope="module")
def page(report: dict[str, Any], curve: pl.DataFrame) -> bytes:
    return report_html(report, curve, POLICY)


@pytest.fixture(scope="module")
def parsed(page: bytes) -> Parsed:
    return Parsed(page)


def embedded(page: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Parsed(page).inner["script"][0])
    return found


def test_the_page_is_one_small_file_that_asks_for_nothing(page: bytes, parsed: Parsed) -> None:
    assert len(page) < LIMIT / 10
    for _, attributes in parsed.elements:
        assert not {"src", "srcset", "action", "style", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert set(re.findall(r"url\(([^)]*)\)", page.decode())) == {"#inside"}
    assert not parsed.all("link") and "@import" not in parsed.inner["style"][0]


def test_equal_reports_give_equal_bytes(
    report: dict[str, Any], curve: pl.DataFrame, page: bytes
) -> None:
    again = json.loads(json.dumps(report, sort_keys=True))  # as tier_reports.json has it
    assert report_html(again, curve, POLICY) == page


def test_only_this_style_and_this_script_are_allowed(parsed: Parsed) -> None:
    (policy,) = (
        a["content"] or ""
        for a in parsed.all("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (parsed.inner["style"][0], parsed.inner["script"][1])
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(parsed.all("style")) == 1 and len(parsed.all("script")) == 2


def test_embedded_counts_are_those_of_the_rows_at_every_grid_threshold(
    original: pl.DataFrame, page: bytes
) -> None:
    data = embedded(page)
    score = original["score"].cast(pl.Float64).to_numpy()
    top1, top3 = original["top1"].to_numpy(), original["top3"].to_numpy()
    inside = [score >= k / 1000 for k in range(1001)]
    assert data["n"] == [int(kept.sum()) for kept in inside]
    assert data["top1"] == [int((kept & top1).sum()) for kept in inside]
    assert data["top3"] == [int((kept & top3).sum()) for kept in inside]


def test_every_rate_at_a_grid_threshold_is_the_one_of_the_csv(curve: pl.DataFrame) -> None:
    grid = slider.grid_counts(curve)
    csv = pl.read_csv(curve.write_csv().encode())
    for k in (201, 444, 445, 815, 885, 999):
        row = csv.filter(pl.col("threshold") >= k / 1000).row(-1, named=True)
        at = slider.Counts(*(int(column[k]) for column in (grid.n, grid.top1, grid.top3)))
        shown = slider.numbers(grid.total, at, at)
        assert (shown["confident"], shown["covered_top1"]) == (row["coverage"], row["top1"])
        assert (shown["wrong"], shown["kept_top3"]) == (row["confident_wrong"], row["top3"])


def test_the_released_numbers_are_those_of_the_report(
    report: dict[str, Any], parsed: Parsed
) -> None:
    shown = {a["data-number"]: a["value"] or "" for a in parsed.all("data")}
    assert float(shown["confident"]) == report["tiers"]["confident"]["share"]
    assert float(shown["wrong"]) == report["outcomes"]["confident_wrong"]
    assert float(shown["covered_top1"]) == report["tiers"]["confident"]["top1"]
    assert float(shown["refer"]) == report["outcomes"]["refer"]
    assert float(shown["possible"]) == report["tiers"]["possible"]["share"]


def test_names_from_the_data_are_text_and_nothing_else(
    report: dict[str, Any], curve: pl.DataFrame
) -> None:
    labels = {**report["labels"], "version": HOSTILE}
    moved = {**report["moved"], "sentence": HOSTILE, "old_on_new": [HOSTILE]}
    page = report_html({**report, "labels": labels, "moved": moved}, curve, POLICY)
    parsed = Parsed(page)
    assert not parsed.all("img") and len(parsed.all("script")) == 2
    # class, subgroup, label version, verdict and sentence, each word for word
    assert parsed.text.count(HOSTILE) == 5
    assert b"onerror" in page and b"<img" not in page


def test_control_and_direction_characters_in_names_are_replaced() -> None:
    assert parts.name("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc\ufffdd"
    assert len(parts.name("x" * 10_000)) == parts.MAX_NAME


@pytest.mark.parametrize("change", [pytest.param("absent"), pytest.param("null")])
@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        pytest.param("intervals", None, id="intervals"),
        pytest.param("patients", "Rates over patients are not in this report", id="patients"),
        pytest.param("per_class", "not broken down by class", id="classes"),
        pytest.param("subgroups", "No subgroups were asked for", id="subgroups"),
        pytest.param("calibration", "Calibration is not in this report", id="calibration"),
        pytest.param("label_noise", "How many labels may be wrong was not stated", id="noise"),
        pytest.param("moved", None, id="moved"),
        pytest.param("baseline", "No baseline probabilities were given", id="baseline"),
        pytest.param("deployed", None, id="deployed"),
        pytest.param("accept", None, id="accept"),
    ],
)
def test_a_part_that_is_not_there_is_said_or_left_out(
    report: dict[str, Any], curve: pl.DataFrame, key: str, sentence: str | None, change: str
) -> None:
    less = {k: v for k, v in report.items() if k != key}
    text = Parsed(report_html(less | ({key: None} if change == "null" else {}), curve, POLICY)).text
    assert sentence is None or sentence in text


def test_nothing_deployed_is_said(original: pl.DataFrame, curve: pl.DataFrame) -> None:
    page = report_html(plain_report(original), curve, DEFAULT_POLICY)
    assert "deployed thresholds are not known" in Parsed(page).text
    assert b'data-kind="deployed"' not in page


def test_provisional_labels_qualify_what_certified_means(
    report: dict[str, Any], curve: pl.DataFrame, parsed: Parsed
) -> None:
    words = "certified against the given labels"
    assert words in parsed.text
    reviewed = {**report, "labels": {**report["labels"], "provisional": False}}
    assert words not in Parsed(report_html(reviewed, curve, POLICY)).text


def certified(report: dict[str, Any], **change: Any) -> dict[str, Any]:
    sides = report["selection"]
    found = sides["confident"]["certificate"] | change
    return {
        **report,
        "selection": {**sides, "confident": {**sides["confident"], "certificate": found}},
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, "not certified for the declared target", id="released_below_it"),
        pytest.param({"threshold": 0.815}, "certified", id="exactly_at_it"),
        pytest.param({"threshold": 0.7}, "certified", id="within_the_range"),
        pytest.param(
            {"threshold": 0.7, "start": 0.8},
            "not certified for the declared target",
            id="stricter_than_what_was_tested",
        ),
        pytest.param(
            {"threshold": 0.7, "start": None},
            "not certified for the declared target",
            id="start_not_named",
        ),
        pytest.param(
            {"threshold": 0.7, "status": "not_certified"},
            "not certified for the declared target",
            id="the_answer_was_no",
        ),
    ],
)
def test_certified_is_said_only_within_the_tested_range(
    report: dict[str, Any], curve: pl.DataFrame, change: dict[str, Any], expected: str
) -> None:
    page = report_html(certified(report, **change), curve, POLICY)
    (verdict,) = re.findall(r'<strong id="verdict"[^>]*>([^<]*)<', page.decode())
    assert verdict == expected


def test_what_cannot_be_certified_says_why_and_how_many_rows_it_takes(
    report: dict[str, Any], curve: pl.DataFrame
) -> None:
    change = {"status": "not_certified", "threshold": None, "rows_needed": "never", "reason": "Why"}
    page = Parsed(report_html(certified(report, **change), curve, POLICY))
    assert "Not certified for the declared target." in page.text
    assert "Why" in page.text and "never" in page.text


def test_an_interval_in_two_pieces_is_shown_as_such(parsed: Parsed) -> None:
    assert "0.797 to 0.810 and 0.813 to 0.834 (not connected)" in parsed.text


def test_no_image_and_no_patient_is_named(original: pl.DataFrame, page: bytes) -> None:
    assert original["image_uuid"][0].startswith("image_")
    assert original["patient_id"][0].startswith("patient_")
    assert not re.search(rb"image_\d|patient_\d", page)


def test_the_drawn_line_is_thin_and_keeps_every_pinned_threshold(
    report: dict[str, Any], curve: pl.DataFrame, page: bytes
) -> None:
    pinned = slider.pins(report)
    keys, counts = drawing._thinned(curve, pinned)
    assert len(keys) <= drawing.MAX_POINTS
    assert {pin.value for pin in pinned} <= set(keys.tolist())
    for key, n in zip(keys[::50], counts.n[::50], strict=True):
        assert n == curve.filter(pl.col("threshold") >= key)["n"].max()
    (line,) = re.findall(r'polyline points="([^"]*)"', page.decode())
    assert len(line.split()) <= drawing.MAX_POINTS


def test_headings_descend_and_tables_name_their_cells(parsed: Parsed) -> None:
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 8
    assert {a.get("scope") for a in parsed.all("th")} == {"col", "row"}
    labelled = {a["for"] for a in parsed.all("label")}
    assert {a["id"] for a in parsed.all("input")} == labelled == {"confident", "refer"}
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_thousand_classes_stay_below_two_megabytes(
    report: dict[str, Any], curve: pl.DataFrame
) -> None:
    long = [{**report["per_class"][0], "class": f"{HOSTILE * 9}{i}"} for i in range(1000)]
    changes = [{**report["moved"]["classes"][0], "class": row["class"]} for row in long]
    groups = [{**report["subgroups"][0], "group": row["class"]} for row in long]
    moved = {**report["moved"], "classes": changes}
    page = report_html(
        {**report, "per_class": long, "subgroups": groups, "moved": moved}, curve, POLICY
    )
    assert len(page) < LIMIT
    assert "200 of 1,000 classes are shown" in Parsed(page).text


def constant(rows: pl.DataFrame, score: float) -> pl.DataFrame:
    return rows.with_columns(score=pl.lit(score, pl.Float32))


@pytest.mark.parametrize(
    ("make", "policy"),
    [
        pytest.param(lambda: made_rows(1), FIXED, id="one_row"),
        pytest.param(lambda: made_rows(40, classes=2), FIXED, id="two_classes"),
        pytest.param(lambda: constant(made_rows(20), 0.3), FIXED, id="nobody_confident"),
        pytest.param(lambda: constant(made_rows(20), 0.9), FIXED, id="all_confident"),
        pytest.param(lambda: constant(made_rows(20), 0.1), FIXED, id="all_referred"),
        pytest.param(lambda: constant(made_rows(20), 1.0), FIXED, id="scores_of_one"),
        pytest.param(lambda: constant(made_rows(20), 0.0), FIXED, id="scores_of_zero"),
        pytest.param(
            lambda: made_rows(20).with_columns(top1=True, top3=True, rank=0), FIXED, id="all_right"
        ),
        pytest.param(
            lambda: made_rows(20).with_columns(top1=False, top3=False), FIXED, id="all_wrong"
        ),
        pytest.param(
            lambda: made_rows(60),
            FIXED.model_copy(update={"confident": ConfidentRule(rule="coverage", target=0.0)}),
            id="coverage_target_zero",
        ),
    ],
)
def test_degenerate_rows_have_a_page(make: Callable[[], pl.DataFrame], policy: TierPolicy) -> None:
    rows = make()
    page = report_html(plain_report(rows, policy), coverage_curve(rows), policy)
    assert embedded(page)["n"][0] == rows.height
    assert not re.search(rb"\bnan\b|\binf\b|None", page)


def test_undefined_is_said_and_never_zero() -> None:
    rows = constant(made_rows(20), 0.3)
    page = Parsed(report_html(plain_report(rows, FIXED), coverage_curve(rows), FIXED))
    empty = [i for i, a in enumerate(page.all("data")) if a["value"] == ""]
    assert [page.inner["data"][i] for i in empty] == ["undefined"]  # right, of the confident
    assert page.all("data")[empty[0]]["data-number"] == "covered_top1"


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        pytest.param(0.815, 815, "fitted 0.815", id="on_the_grid"),
        pytest.param(0.8141, 815, "fitted 0.8141, slider at 0.815", id="off_the_grid"),
        pytest.param(1.0, 1000, "fitted 1.000", id="one"),
        pytest.param(float(np.float32(0.7)), 700, "fitted 0.7000, slider at 0.700", id="float32"),
    ],
)
def test_a_pin_goes_to_the_grid_value_on_the_safe_side(value: float, step: int, text: str) -> None:
    pin = slider.Pin("fitted", "confident", value)
    assert pin.step == step and step / 1000 >= value
    assert pin.text == text


def test_a_deployed_value_off_the_grid_is_counted_exactly(original: pl.DataFrame) -> None:
    from dagster_project.lib.tiers.reports import tier_report

    exact = Thresholds(0.81477, 0.4436, 0.25)
    found = tier_report(original, exact)
    curve = coverage_curve(original)
    shown = slider.numbers(
        found["n"], slider.single(curve, exact.confident), slider.single(curve, exact.refer)
    )
    assert shown["confident"] == found["tiers"]["confident"]["share"]
    assert shown["refer"] == found["outcomes"]["refer"]
