"""The files of a scorecard: columns, bytes, words, pictures, and the folder they stand in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.figure import Figure
from report_worlds import CLASSES, NAMES, answers, checkpoints, mistaken

from dagster_project.lib import pictures as house
from dagster_project.lib.errors import InputError
from dagster_project.lib.markdown import percent
from dagster_project.lib.scorecard import pictures, publish, words
from dagster_project.lib.scorecard.comparison import MEASURES
from dagster_project.lib.scorecard.noise import from_joint
from dagster_project.lib.scorecard.scorecard import ScorecardInputs, make_scorecard
from dagster_project.lib.tiers.policy import DEFAULT_POLICY
from dagster_project.lib.tiers.thresholds import Thresholds

Made = tuple[dict[str, Any], Any]


def made_of(names: tuple[str, ...], classes: tuple[str, ...], **inputs: Any) -> Made:
    found = answers(names, classes)
    card = make_scorecard(ScorecardInputs(found, checkpoints(names), **inputs), draws=50)
    return card, found


@pytest.fixture(scope="module")
def whole() -> Made:
    """Three configurations, thresholds, both labels, noise; a class without an image."""
    classes = (*CLASSES, "tinea | of the feet")
    found = answers(NAMES, classes)
    return made_of(
        NAMES,
        classes,
        given=mistaken(),
        thresholds=Thresholds(0.65, 0.45, 0.25),
        policy=DEFAULT_POLICY,
        noise=from_joint(found, "baseline"),
    )


@pytest.fixture(scope="module")
def alone() -> Made:
    return made_of(NAMES[:1], CLASSES)


@pytest.fixture(scope="module")
def note(whole: Made) -> str:
    return words.scorecard_note(whole[0])


# tables


def test_scorecard_csv_begins_with_the_columns_of_the_contract(whole: Made) -> None:
    table = publish.scorecard_table(whole[0])
    first = ["config", "n", "top1", "top3", "balanced_accuracy", "ece", "temperature", "verdict"]
    assert table.columns[:8] == first
    last = [f"{name}_{end}" for name in MEASURES for end in ("difference", "low", "high")]
    assert table.columns[-18:] == last
    assert table["config"].to_list() == list(NAMES)
    row = table.row(1, named=True)
    for name in MEASURES:
        assert row[f"{name}_low"] < row[f"{name}_difference"] < row[f"{name}_high"]


def test_the_baseline_has_no_verdict_and_no_difference(whole: Made) -> None:
    row = publish.scorecard_table(whole[0]).row(0, named=True)
    assert row["top1"] is not None
    empty = ["verdict", "recipe", "sentence", "fallen", "unclear"]
    assert [row[name] for name in (*empty, "top1_difference", "nll_high")] == [None] * 7


def test_per_class_csv_has_a_row_a_configuration_and_class(whole: Made) -> None:
    table = publish.per_class_table(whole[0])
    assert table.columns[:7] == ["config", "class", "n", "recall", "precision", "f1",
                                 "overprediction"]  # fmt: skip
    assert table.height == 3 * 4
    collapsed = table.filter(config="collapsed", **{"class": "eczema"}).row(0, named=True)
    assert (collapsed["n"], collapsed["recall"]) == (201, 0.0)
    assert collapsed["recall_difference"] == -collapsed["recall_baseline"]
    assert collapsed["p_holm"] < 0.001


def test_the_labels_before_cleaning_have_columns_of_their_own(whole: Made, alone: Made) -> None:
    card = whole[0]
    table, classes = publish.scorecard_table(card), publish.per_class_table(card)
    before = card["given"]["configs"]
    assert table["given_nll"].to_list() == [row["nll"] for row in before]
    assert table["given_verdict"].to_list() == [row["verdict"] for row in before]
    # all eczema was called acne
    eczema = classes.filter(config="collapsed", **{"class": "eczema"})
    assert eczema.select("n_given", "recall_given").row(0) == (0, None)
    acne = classes.filter(config="collapsed", **{"class": "acne"})
    assert acne["n_given"].to_list() == [402]
    assert publish.scorecard_table(alone[0])["given_top1"].to_list() == [None]
    assert publish.per_class_table(alone[0])["n_given"].null_count() == len(CLASSES)


def test_a_class_without_an_image_is_empty_cells_and_never_a_zero(whole: Made) -> None:
    table = publish.per_class_table(whole[0]).filter(pl.col("n") == 0)
    assert table["class"].to_list() == ["tinea | of the feet"] * 3
    undefined = ["recall", "f1", "overprediction", "recall_difference", "recall_by_chance", "p"]
    assert table.select(undefined).null_count().row(0) == (3,) * 6


# files


def test_the_same_card_makes_the_same_bytes_twice(whole: Made) -> None:
    files = publish.scorecard_files(*whole)
    assert tuple(files) == publish.FILES
    assert files == publish.scorecard_files(*whole)


def test_a_baseline_alone_has_every_file_too(alone: Made, tmp_path: Path) -> None:
    out = publish.write_scorecard(*alone, tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == sorted(publish.FILES)
    assert json.loads((out / "scorecard.json").read_text()) == alone[0]
    assert pl.read_csv(out / "scorecard.csv").height == 1
    assert "nothing is compared" in (out / "scorecard.md").read_text()


def test_an_earlier_scorecard_is_replaced_and_a_stranger_stays(
    alone: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "scorecard_files", lambda *_, **__: {"scorecard.md": b"new"})
    out = publish.write_scorecard(*alone, tmp_path / "out")
    (out / "scorecard.md").write_text("old")
    publish.write_scorecard(*alone, out)
    assert (out / "scorecard.md").read_text() == "new"
    (out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'mine.txt', not written by a scorecard"):
        publish.write_scorecard(*alone, out)
    assert (out / "mine.txt").read_text() == "mine"


# words


def test_the_report_begins_with_the_decision(note: str, whole: Made) -> None:
    decision, _, rest = note.partition("## Measures")
    assert "| `focal` | **NEUTRAL** | NEUTRAL |" in decision
    assert "| `collapsed` | **REJECT** | NEUTRAL |" in decision
    assert "No recipe is shown to be better over seeds" in decision
    assert "600 images of 200 patients, 4 classes" in decision
    assert whole[0]["rule_sha256"] in decision
    for row in whole[0]["configs"][1:]:
        assert f"## {row['config']}: {row['verdict']}\n\n{row['sentence'][:30]}" in rest


def test_each_number_of_a_fall_says_what_it_is_of(note: str) -> None:
    section = note.partition("## collapsed: REJECT")[2].partition("## ")[0]
    assert "| class | images (patients) | recall, baseline to here | points (95 %) |" in section
    assert "| eczema | 201 (67) | " in section
    assert " to 0.0 % | -" in section
    assert "swallows most images of others is acne" in section


def test_both_labels_stand_side_by_side(note: str, whole: Made) -> None:
    section = note.partition("## Label noise")[2].partition("## ")[0]
    new = {row["config"]: row for row in whole[0]["configs"]}["collapsed"]["top1"]
    old = {row["config"]: row for row in whole[0]["given"]["configs"]}["collapsed"]["top1"]
    assert f"{100 * old:.1f} % / {100 * new:.1f} %" in section
    assert "Verdicts that differ" in section
    assert whole[0]["noise"]["flips"][1]["sentence"] in section


def test_what_partial_reviews_do_to_a_comparison_is_said_and_where_possible_shown(
    note: str, whole: Made
) -> None:
    section = note.partition("## Label noise")[2].partition("## ")[0]
    assert "favour the model whose suspicions were reviewed" in section
    assert "How large that is here is not estimated" in section
    row = {"given": 0.02, "overwritten": -0.01, "estimate": 0.018, "low": -0.004, "high": 0.04}
    sampled = {"n": 600, "n_outside": 3, "n_decided": 80, "top1": {"focal": row}}
    shown = words.scorecard_note(whole[0] | {"sampled": sampled})
    assert "| `focal` | +2.0 | -1.0 | +1.8 (-0.4 to +4.0) |" in shown
    assert "weighs the 80 decided reviews" in shown
    assert "not estimated: it takes" not in shown


def test_names_cannot_break_a_table(note: str) -> None:
    assert "tinea \\| of the feet" in note
    for block in note.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        cells = {row.replace("\\|", "").count("|") for row in rows}
        assert len(cells) <= 1


def test_what_is_missing_is_said_and_not_left_out(alone: Made) -> None:
    note = words.scorecard_note(alone[0] | {"patients_known": False})
    for said in (
        "No thresholds are deployed",
        "The labels before cleaning were not given",
        "Not compared.",
        "Patients are not known for every image",
    ):
        assert said in note
    assert "None" not in note
    assert words.verdict_lines(alone[0]) == ["only the baseline baseline: nothing is compared"]


def test_the_gain_of_mirror_images_is_a_table_or_a_reason(whole: Made) -> None:
    measured = whole[0]["configs"]
    comparison = whole[0]["comparisons"]["focal"]
    tta = {"plain": measured[0], "tta": measured[1], "comparison": comparison, "reason": None}
    note = words.scorecard_note(whole[0] | {"tta": tta})
    assert f"| top-1 | {percent(measured[0]['top1'])} |" in note
    refused = words.scorecard_note(whole[0] | {"tta": {"reason": "the dump has one view"}})
    assert "Not compared: the dump has one view." in refused


# pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bytes]], Figure]:
    """The figure that a picture is made of."""

    def draw(picture: Callable[[], bytes]) -> Figure:
        kept: list[Figure] = []

        def keep(figure: Figure) -> bytes:
            kept.append(figure)
            return b""

        monkeypatch.setattr(house, "png", keep)
        picture()
        return kept[0]

    return draw


def test_recalls_are_sorted_dots_in_a_panel_a_configuration(whole: Made, drawn: Any) -> None:
    figure = drawn(lambda: pictures.recall_change_png(whole[0]))
    titles = [axes.get_title(loc="right") for axes in figure.axes]
    assert titles == ["focal: NEUTRAL", "collapsed: REJECT"]
    names = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert names[0] == "balanced accuracy"
    changes = {row["name"]: row for row in whole[0]["comparisons"]["collapsed"]["per_class"]}
    order = [changes[name.split(" (")[0]]["difference"]["estimate"] for name in names[1:]]
    assert order == sorted(order, reverse=True)
    assert len(order) == 3  # the class without an image has no dot
    assert not any(axes.patches for axes in figure.axes)  # never bars
    low, high = figure.axes[0].get_xlim()
    assert low < 100 * order[-1]
    assert high > 0


def test_a_fallen_class_has_a_shape_of_its_own(whole: Made, drawn: Any) -> None:
    figure = drawn(lambda: pictures.recall_change_png(whole[0]))
    shapes = [{line.get_marker() for line in axes.lines} for axes in figure.axes]
    assert "v" not in shapes[0]
    assert "v" in shapes[1]


def test_an_interval_that_leaves_the_picture_ends_in_an_arrow_head(whole: Made, drawn: Any) -> None:
    far = json.loads(json.dumps(whole[0]))
    for row in far["comparisons"]["focal"]["per_class"] * 2:
        row["difference"] |= {"low": -0.3, "high": 0.3}
    far["comparisons"]["focal"]["per_class"][1]["difference"]["high"] = 0.99
    heads = {}
    for name, card in (("whole", whole[0]), ("far", far)):
        axes = drawn(lambda card=card: pictures.recall_change_png(card)).axes[0]
        heads[name] = [
            (line.get_marker(), list(line.get_ydata())) for line in axes.lines
            if line.get_marker() in {"<", ">"} and len(line.get_xdata())
        ]  # fmt: skip
    assert heads["whole"] == []
    at = [row["name"] for row in pictures._sorted_rows(far["comparisons"]["focal"]["per_class"])]
    assert heads["far"] == [(">", [1 + at.index("eczema")])]


def test_a_dollar_in_a_name_is_no_formula() -> None:
    assert pictures._short("a $x") == r"a \$x"


def test_of_very_many_classes_the_largest_changes_are_drawn() -> None:
    rows = [{"name": f"c{i:03d}", "difference": {"estimate": i / 100}} for i in range(100)]
    kept = [row["name"] for row in pictures._sorted_rows(rows)]
    assert kept[:2] == ["c099", "c098"]
    assert kept[-2:] == ["c001", "c000"]
    assert len(kept) == pictures.MAX_CLASSES


def test_operating_points_lie_on_the_curve_of_their_configuration(whole: Made, drawn: Any) -> None:
    card, found = whole
    axes = drawn(lambda: pictures.operating_curves_png(card, found)).axes[0]
    row = card["configs"][2]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(points) == 2 * len(NAMES)
    deployed = [line for line in points if line.get_marker() == "o"][2]
    x, y = deployed.get_xdata()[0], deployed.get_ydata()[0]
    assert (x, y) == (
        row["deployed"]["coverage"],
        row["deployed"]["confident_wrong"] / row["deployed"]["coverage"],
    )
    assert 0 < row["deployed"]["coverage"] < 1
    assert y > 0
    curve = next(line for line in axes.lines if line.get_label() == "collapsed")
    at = min(zip(curve.get_xdata(), curve.get_ydata(), strict=True), key=lambda p: abs(p[0] - x))
    assert at == pytest.approx((x, y), abs=0.01)


def test_reliability_has_a_panel_a_configuration_before_and_after(whole: Made, drawn: Any) -> None:
    figure = drawn(lambda: pictures.reliability_png(*whole))
    assert [axes.get_title() for axes in figure.axes] == list(NAMES)
    assert all("tempered" in axes.texts[0].get_text() for axes in figure.axes)
    assert len(figure.legends[0].get_texts()) == 3
