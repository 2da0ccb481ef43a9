"""What a roll-up's report says: numbers, words, pictures, and the rules side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rollup_files import FITTED, GIVEN, inputs, table
from rollup_worlds import TAXONOMY

from dagster_project.lib import pictures as house
from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup import pictures, publish, words
from dagster_project.lib.rollup.config import parse_config
from dagster_project.lib.rollup.provenance import FOLDER
from dagster_project.lib.rollup.report import RolledUp, check_config, labelled_rows, roll_up
from dagster_project.lib.tiers.scored_rows import score_rows

MASKED = {**GIVEN, "mask": {"exclude": ["herpes"], "min_kept_mass": 0.2}}


@pytest.fixture(scope="module")
def fitted() -> RolledUp:
    return roll_up(inputs(FITTED))


@pytest.fixture(scope="module")
def masked() -> dict[str, Any]:
    """Given thresholds, a mask, no tiers."""
    return roll_up(inputs(MASKED, tiers=None)).report


@pytest.fixture(scope="module")
def unlabelled() -> dict[str, Any]:
    return roll_up(inputs(GIVEN, labels=False)).report


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that become PNGs."""
    found: list[Figure] = []

    def keep(figure: Figure, dpi: int = 110) -> bytes:
        found.append(figure)
        return f"{dpi}".encode()

    monkeypatch.setattr(house, "png", keep)
    return found


# numbers


def test_all_images_are_placed_and_those_with_a_label_are_judged(fitted: RolledUp) -> None:
    report = fitted.report
    n = len(table().frame)
    assert (report["n"], report["n_judged"]) == (n, n - 1)
    assert sum(report["placed"]["reasons"].values()) == n
    placed = sum(row["n"] for row in report["placed"]["by_rank"])
    assert placed + report["placed"]["unplaced"] == n
    assert report["evaluation"]["n"] == n - 1
    assert report["fit"]["certificate"]["status"] == "certified"
    assert report["thresholds"] == report["fit"]["thresholds"]


def test_labels_that_are_given_in_another_order_belong_to_the_same_rows() -> None:
    read = inputs(GIVEN).table
    scored = score_rows(read, read.frame.select("image_uuid", label="image_uuid").with_columns(
        label=np.array([TAXONOMY.classes[i % 3] for i in range(read.frame.height)])))  # fmt: skip
    found, shuffled = (labelled_rows(read, rows) for rows in (scored, scored.reverse()))
    assert found.at.tolist() == shuffled.at.tolist()
    uuid = read.frame["image_uuid"][found.at.tolist()]
    assert uuid.to_list() == found.truth.keys["image_uuid"].to_list()
    with pytest.raises(InputError, match="score them anew"):
        labelled_rows(replace(read, frame=read.frame.head(9)), scored)


def test_a_mask_is_judged_against_the_whole_model(masked: dict[str, Any]) -> None:
    whole = roll_up(inputs(GIVEN, tiers=None)).report["evaluation"]
    evaluation = masked["evaluation"]
    assert evaluation["before"] == whole["before"]
    assert evaluation["mask"]["n_allowed"] == len(TAXONOMY.classes) - 1
    assert evaluation["mask"]["truth_excluded"]["n"] > 0


def test_every_rule_stands_in_one_table_and_matched_ones_err_no_more(fitted: RolledUp) -> None:
    rows = fitted.report["rules"]
    assert [(row["rule"], row["at"]) for row in rows] == [
        ("leaf", "always"),
        ("lineage", "thresholds"),
        ("distribution", "thresholds"),
        ("antenna", "thresholds"),
        ("speciesnet", "published"),
        ("speciesnet", "matched"),
        ("climbing", "matched"),
        ("darts", "matched"),
    ]
    [own] = [row for row in rows if row["own"]]
    after = fitted.report["evaluation"]["after"]
    assert {key: own[key] for key in after} == after
    for row in rows:
        if row["at"] == "matched":
            assert row["wrong"]["n"] <= own["wrong"]["n"]


@pytest.mark.parametrize("rule", ["climbing", "speciesnet", "darts"])
def test_a_rule_of_one_number_needs_no_thresholds_and_no_labels(rule: str) -> None:
    value = {"rule": rule, "parameter": 0.6}
    assert roll_up(inputs(value, labels=False)).report["n_judged"] is None
    if rule == "darts":
        report = roll_up(inputs(value)).report
        [own] = [row for row in report["rules"] if row["own"]]
        assert (own["rule"], own["at"], own["parameter"]) == (rule, "given", 0.6)
        assert report["fit"] is None
        assert "single number" in words.rollup_note(report)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(FITTED, "are to be fitted, and there are no labels", id="no_labels"),
        pytest.param({"rule": "climbing"}, "climbing needs a number", id="no_parameter"),
        pytest.param({**GIVEN, "parameter": 0.7}, "rule lineage has none", id="parameter"),
        pytest.param(
            {**GIVEN, "rule": "darts", "parameter": 0.7},
            "rule darts has one number .* remove them, or choose lineage",
            id="thresholds",
        ),
        pytest.param({"thresholds": {"famly": 0.5}}, 'nearest "family"', id="unknown_rank"),
        pytest.param({"thresholds": {"class": -1}}, "-1.0 is no threshold", id="below_zero"),
        pytest.param(
            {**GIVEN, "mask": {"exclude": ["ezcema"]}}, 'nearest "eczema"', id="unknown_class"
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_config(parse_config(value), TAXONOMY, labels=False)
    with pytest.raises(InputError, match=message):
        roll_up(inputs(value, labels=False))


@pytest.mark.usefixtures("drawn")
def test_an_uncertified_fit_places_nothing_and_says_so(fitted: RolledUp) -> None:
    report = roll_up(inputs({"thresholds": {"target": 0.001}})).report
    assert report["fit"]["certificate"]["status"] == "not_certified"
    assert report["placed"]["reasons"]["placed"] == 0
    note = words.rollup_note(report)
    assert "**Not certified**" in note
    assert "Nothing is placed" in note
    publish.report_files(report)  # and can be drawn


def test_a_certificate_says_whose_labels_and_which_images(fitted: RolledUp) -> None:
    assert "errors that label and model share stay unseen" in words.rollup_note(fitted.report)
    found = fitted.report["fit"]["certificate"]
    assert (found["status"], found["n_dropped"]) == ("certified", 0)
    assert "a patient)" not in words.certificate_words(found)
    capped = found | {"n_dropped": 1, "max_images_per_patient": 5}
    assert "of all images (at most 5 a patient), with" in words.certificate_words(capped)
    assert "as these labels have it" in words.certificate_words(found)


# words


def test_the_note_begins_with_what_is_gained_and_what_it_costs(fitted: RolledUp) -> None:
    note = words.rollup_note(fitted.report)
    kinds = {
        row["kind"]: row["share"]["n"]
        for row in fitted.report["evaluation"]["transitions"]["kinds"]
    }
    lost = f"{kinds['specificity_lost']:,} right leaves are said at a coarser rank only"
    assert note.index("NOT CLINICALLY VALIDATED") < note.index(lost) < note.index("## By rank")
    assert f"{kinds['fixed']:,} become a right coarser answer" in note
    assert "none became wrong" in note
    for part in ("refer only if nothing clears", "side of the fit", "by chance", "speciesnet"):
        assert part in note


def test_validation_is_told_as_the_table_tells_it(masked: dict[str, Any]) -> None:
    def note(validated: bool | None) -> str:
        return words.rollup_note(
            {**masked, "taxonomy": {**masked["taxonomy"], "validated": validated}}
        )

    assert "NOT CLINICALLY VALIDATED" in note(False)
    assert "NOT CLINICALLY VALIDATED" in note(None)
    assert "NOT CLINICALLY VALIDATED" not in note(True)
    assert "## Mask" in note(True)
    assert "No thresholds of the tiers are known" in note(True)


def test_without_labels_nothing_is_claimed(unlabelled: dict[str, Any]) -> None:
    note = words.rollup_note(unlabelled)
    assert "nothing is judged, because there are no labels" in note
    assert (
        "right" not in note.split("How often these answers are right")[1].split("## Made")[0][30:]
    )
    assert sorted(publish.report_files(unlabelled)) == [publish.JSON, publish.NOTE]


def test_names_from_people_stay_in_their_cells_and_pictures() -> None:
    odd = {"eczematous": "a | b $x$ *c*", "inflammatory": "<b>" + "long " * 20}
    lines = tuple(tuple(odd.get(name, name) for name in line) for line in TAXONOMY.lineages)
    report = roll_up(inputs(GIVEN, taxonomy=replace(TAXONOMY, lineages=lines))).report
    files = publish.report_files(report)
    assert files["taxonomy_tree.png"].startswith(b"\x89PNG")
    assert "long" not in files[publish.NOTE].decode()  # nodes are in the picture and the JSON


# pictures


def test_the_tree_says_of_each_node_how_much_and_how_often_right(
    fitted: RolledUp, drawn: list[Figure]
) -> None:
    pictures.tree_png(fitted.report)
    axes = drawn[0].axes[0]
    texts = {text.get_text() for text in axes.texts}
    for row in fitted.report["evaluation"]["by_node"]:
        if row["n"] == 0:
            told = "nothing"
        elif row["accuracy"] is None:
            told = f"{100 * row['share']:.1f} % of images, too few"
        else:
            share, right = row["share"], row["accuracy"]["rate"]
            told = f"{100 * share:.1f} % of images, {100 * right:.0f} % right"
        assert f"{row['node']}\n{told}" in texts
    assert "NOT CLINICALLY VALIDATED" in drawn[0].get_suptitle()
    sizes = [float(dots.get_sizes()[0]) for dots in axes.collections]  # type: ignore[attr-defined]
    assert len(sizes) == len(fitted.report["evaluation"]["by_node"])
    assert max(sizes) > 5 * min(sizes)


def test_the_tree_says_what_is_masked(fitted: RolledUp, drawn: list[Figure]) -> None:
    mask = {"include": [TAXONOMY.classes[0]], "exclude": None}
    report = {**fitted.report, "config": {**fitted.report["config"], "mask": mask}}
    nothing = [{**row, "n": 0} for row in report["evaluation"]["by_node"]]
    pictures.tree_png({**report, "evaluation": {**report["evaluation"], "by_node": nothing}})
    told = dict(text.get_text().split("\n") for text in drawn[0].axes[0].texts)
    said = {name for name in TAXONOMY.nodes if told[name] == "nothing"}
    assert said == set(TAXONOMY.lineages[0])
    assert {told[name] for name in set(TAXONOMY.nodes) - said} == {"masked"}


def test_a_wide_taxonomy_is_drawn_without_its_classes(
    fitted: RolledUp, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_LEAVES", 5)
    pictures.tree_png(fitted.report)
    names = {text.get_text().split("\n")[0] for text in drawn[0].axes[0].texts}
    assert "eczematous" in names
    assert not names & set(TAXONOMY.classes)


def test_the_curve_marks_every_rule_and_the_target(fitted: RolledUp, drawn: list[Figure]) -> None:
    pictures.curve_png(fitted.report)
    left, right = drawn[0].axes
    labels = {str(line.get_label()) for line in right.lines}
    assert {"leaf", "lineage (this one)", "distribution", "the target"} <= labels
    low = left.get_ylim()[0]
    rates = [row["accuracy"]["rate"] for row in fitted.report["rules"]]
    assert low < min(rates)


# files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("drawn")
def test_a_second_run_leaves_every_byte_and_another_configuration_every_record(
    fitted: RolledUp, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert publish.write_rollup(fitted, out)
    before = contents(out)
    assert sorted(path.name for path in out.iterdir()) == sorted(publish.FILES)
    assert json.loads(before[publish.JSON]) == fitted.report
    assert not publish.write_rollup(fitted, out)
    assert contents(out) == before
    (out / ".rollup_report.md.0123abcd.tmp").write_text("a killed run left it")
    assert publish.write_rollup(roll_up(inputs(GIVEN, labels=False)), out)
    after = contents(out)
    record = f"{FOLDER}/{fitted.record.file_name}"
    assert after[record] == before[record]
    assert not set(after) & set(words.PICTURES)  # they were not of this report


def test_a_folder_with_other_files_is_left_alone(fitted: RolledUp, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'letter.txt', not written by a roll-up"):
        publish.write_rollup(fitted, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt"]
