from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dagster_project.lib import sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.release import bundle
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, full_report
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, Accept, TierPolicy, policy_sha256
from dagster_project.lib.tiers.scored_rows import ScoreCounts
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds, read_deployed

COUNTS = ScoreCounts(15_561, 15_561, 0, 0)
DUMP = bundle.Provenance(("a", "b"), COUNTS, "tree", "data", 16, tta=True)
FOREIGN = bundle.Provenance(("a", "b"), COUNTS)
OLD = Thresholds(0.8, 0.433, 0.25)


@pytest.fixture(scope="module")
def report(original: pl.DataFrame) -> dict[str, Any]:
    fit = fit_thresholds(original, DEFAULT_POLICY)
    labels = LabelsInfo("labels-7", provisional=True, n_reviewed=12)
    context = Context(labels, deployed=OLD, baseline=original)
    return full_report(original, fit, DEFAULT_POLICY, context)


CURVE = pl.DataFrame(
    {
        "threshold": [0.9, 0.5, 0.2],
        "n": [7_000, 14_000, 15_561],
        "coverage": [0.45, 0.9, 1.0],
        "top1": [0.93, 0.8, 0.736],
        "top3": [0.98, 0.95, 0.927],
        "confident_wrong": [0.03, 0.18, 0.264],
    }
)
"""Enough of a curve for a page; what it shows is tested with the page."""


@pytest.fixture
def contents(report: dict[str, Any]) -> dict[str, bytes]:
    return bundle.release_files(report, DEFAULT_POLICY, DUMP, CURVE)


def test_a_release_has_the_files_and_keys_of_the_contract(contents: dict[str, bytes]) -> None:
    assert json.loads(contents["thresholds.json"]) == {
        "confident": 0.815,
        "refer": 0.444,
        "possible_item": 0.25,
        "possible_floor": 1,
        "possible_cap": 3,
        "tta": True,
        "policy_sha256": policy_sha256(DEFAULT_POLICY),
        "label_version": "labels-7",
        "model_tree_hash": "tree",
    }
    assert json.loads(contents["thresholds.auto.tfvars.json"]) == {
        "tier_confident_threshold": 0.815,
        "tier_refer_threshold": 0.444,
        "possible_item_threshold": 0.25,
    }
    assert contents["thresholds.env"].decode().splitlines() == [
        "TIER_CONFIDENT_THRESHOLD=0.815",
        "TIER_REFER_THRESHOLD=0.444",
        "POSSIBLE_ITEM_THRESHOLD=0.25",
        "TTA=true",
    ]
    metadata = json.loads(contents["metadata.json"])
    assert metadata["n_shards"] == 16
    assert metadata["dataset_version"] == "data"
    assert metadata["counts"]["n_scored"] == 15_561
    assert metadata["certified"] is False


def test_what_was_released_can_be_read_back_as_deployed(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    path = sums.write_folder(tmp_path, contents) / "thresholds.json"
    assert read_deployed(path) == Thresholds(0.815, 0.444, 0.25)


def test_unknown_tta_is_left_out_with_a_warning(report: dict[str, Any]) -> None:
    made = bundle.release_files(report, DEFAULT_POLICY, FOREIGN, CURVE)
    lines = made["thresholds.env"].decode().splitlines()
    assert [line for line in lines if "TTA" in line] == [
        "# WARNING: TTA is left out: it is not known whether these probabilities"
    ]
    assert json.loads(made["thresholds.json"])["tta"] is None
    assert "(TTA) is not known" in made["report.md"].decode()


def test_the_note_says_what_a_reader_must_know(report: dict[str, Any]) -> None:
    policy = TierPolicy.model_validate({**DEFAULT_POLICY.model_dump(), "accept": {"coverage": 0.4}})
    criteria = [{"criterion": "coverage", "bound": "at_least", "target": 0.4, "observed": 0.49}]
    report = {**report, "accept": [{**row, "met": True} for row in criteria]}
    note = bundle.release_files(report, policy, DUMP, CURVE)["report.md"].decode()
    for said in (
        "**Provisional labels**: 12 of 15,561 reviewed; wrong ones count as wrong answers",
        "| confident | 0.8 | 0.815 | +0.015 |",
        "| refer | 0.433 | 0.444 | +0.011 |",
        "at most 4.1 % of all images get a confident wrong answer",
        "| referred to a doctor |",
        "| 130.3 |",
        "Only what is called certified above carries a guarantee",
        "95 %, approximate",
        "confident to possible:",
        "accept coverage: at least 40.0 %; observed",
        "**Certified against the given labels** down to 0.82",
        "**The released value is not certified**",
        "How often these rows have been looked at is not counted",
        "at least one confident wrong answer",
    ):
        assert said in note
    assert len(note.splitlines()) < 120


def test_the_note_warns_where_rounding_changed_a_figure(report: dict[str, Any]) -> None:
    def note(made: dict[str, Any]) -> str:
        return bundle.release_files(made, DEFAULT_POLICY, DUMP, CURVE)["report.md"].decode()

    coarse = {**report["selection"]["refer"], "at_released": 0.547}
    selection = {**report["selection"], "refer": coarse}
    assert "three decimals" in note({**report, "selection": selection})
    assert "three decimals" not in note(report)


@pytest.mark.parametrize(
    ("n_reviewed", "warned"),
    [
        pytest.param(None, False, id="unknown"),
        pytest.param(0, False, id="none"),
        pytest.param(1, True, id="some"),
        pytest.param("all", False, id="all"),
    ],
)
def test_the_note_warns_that_reviewed_labels_are_a_selection(
    report: dict[str, Any], n_reviewed: int | str | None, warned: bool
) -> None:
    labels = {**report["labels"], "n_reviewed": report["n"] if n_reviewed == "all" else n_reviewed}
    made = bundle.release_files({**report, "labels": labels}, DEFAULT_POLICY, DUMP, CURVE)
    assert ("Reviewed labels are a selection" in made["report.md"].decode()) is warned


def test_the_same_inputs_give_the_same_bytes_and_folder(
    report: dict[str, Any], contents: dict[str, bytes], tmp_path: Path
) -> None:
    again = bundle.release_files(dict(reversed(report.items())), DEFAULT_POLICY, DUMP, CURVE)
    assert again == contents
    first = sums.write_folder(tmp_path, contents, run={"run_id": "1"})
    second = sums.write_folder(tmp_path, again, run={"run_id": "2"})
    assert first == second
    assert json.loads((first / "run.json").read_text()) == {"run_id": "1"}
    assert [p.name for p in tmp_path.iterdir()] == [first.name]


def test_another_policy_gives_another_folder(
    report: dict[str, Any], contents: dict[str, bytes], tmp_path: Path
) -> None:
    strict = DEFAULT_POLICY.model_copy(update={"accept": Accept(coverage=0.4)})
    other = bundle.release_files(report, strict, DUMP, CURVE)
    assert sums.write_folder(tmp_path, contents) != sums.write_folder(tmp_path, other)


def test_sha256sum_accepts_the_sums(contents: dict[str, bytes], tmp_path: Path) -> None:
    folder = sums.write_folder(tmp_path, contents, run={})
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=folder, check=True)
    assert sums.read_sums(folder).keys() == contents.keys()


def test_sums_can_be_taken_again(contents: dict[str, bytes]) -> None:
    once = sums.with_sums(contents)
    assert sums.with_sums({**once, "run.json": b"{}"})["SHA256SUMS"] == once["SHA256SUMS"]


def test_verify_names_what_is_missing_changed_or_added(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    folder = sums.write_folder(tmp_path, contents, run={})
    assert sums.verify(folder) == []
    (folder / "run.json").write_text("{}")
    (folder / "approval.json").write_text("{}")
    (folder / "metadata.json").unlink()
    (folder / "report.md").write_text("all is well")
    (folder / "notes.txt").write_text("")
    assert sums.verify(folder) == [
        "metadata.json: missing",
        "report.md: its content is not what was released",
        "notes.txt: was not released here",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "no such file", id="no_sums"),
        pytest.param("abc  report.md\n", "row 1: expected a sha256", id="short_hash"),
        pytest.param("0" * 64 + "  ../report.md\n", "row 1", id="path_that_leaves"),
        pytest.param("0" * 64 + " report.md\n", "row 1", id="one_blank"),
    ],
)
def test_a_folder_without_readable_sums_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(InputError, match=message):
        sums.verify(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "tta", "n_shards"),
    [
        pytest.param({}, None, None, id="brought_from_elsewhere"),
        pytest.param({"tta": "true", "n_shards": "8", "dataset_version": "v"}, True, 8, id="dump"),
        pytest.param({"tta": "False", "n_shards": "16"}, False, 16, id="no_tta"),
    ],
)
def test_provenance_is_read_from_the_table(
    metadata: Mapping[str, str], tta: bool | None, n_shards: int | None
) -> None:
    table = ProbabilityTable(("a", "b"), pl.DataFrame(), {}, metadata)
    found = bundle.provenance_of(table, COUNTS)
    assert (found.tta, found.n_shards) == (tta, n_shards)
    assert (found.dataset_version, found.counts) == (metadata.get("dataset_version"), COUNTS)


def test_unreadable_provenance_is_refused() -> None:
    table = ProbabilityTable(("a", "b"), pl.DataFrame(), {}, {"tta": "maybe"})
    with pytest.raises(InputError, match="tta 'maybe'"):
        bundle.provenance_of(table, COUNTS)


@pytest.mark.parametrize(
    ("provisional", "n_reviewed", "said"),
    [
        pytest.param(True, 0, "**Provisional labels**: 0 of 15,561 reviewed; ", id="none"),
        pytest.param(
            True, None, "**Provisional labels**: how many are reviewed is not known; ", id="unknown"
        ),
        pytest.param(False, 9000, "Labels: 9,000 of 15,561 reviewed. Label", id="most"),
        pytest.param(
            False, None, "Labels: stated to be reviewed; how many is not known. ", id="stated"
        ),
    ],
)
def test_the_note_says_how_many_labels_are_reviewed(
    report: dict[str, Any], provisional: bool, n_reviewed: int | None, said: str
) -> None:
    labels = {"version": "v", "provisional": provisional, "n_reviewed": n_reviewed}
    made = bundle.release_files({**report, "labels": labels}, DEFAULT_POLICY, DUMP, CURVE)
    assert said in made["report.md"].decode()
    assert json.loads(made["metadata.json"])["labels"] == labels


def test_a_note_without_deployed_thresholds_says_they_are_not_known(report: dict[str, Any]) -> None:
    made = bundle.release_files({**report, "deployed": None}, DEFAULT_POLICY, DUMP, CURVE)
    note = made["report.md"].decode()
    assert "| confident | not known | 0.815 | not known |" in note
    assert "Who changes tier" not in note


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda f: (f / "thresholds.json").write_text("{}"), id="changed"),
        pytest.param(lambda f: (f / "report.md").unlink(), id="missing"),
        pytest.param(lambda f: (f / "SHA256SUMS").unlink(), id="no_sums"),
        pytest.param(lambda f: (f / "SHA256SUMS").write_text("?"), id="spoilt_sums"),
    ],
)
def test_a_damaged_release_is_put_aside_and_published_anew(
    contents: dict[str, bytes], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = sums.write_folder(tmp_path, contents, run={"run_id": "1"})
    damage(folder)
    damaged = sorted(p.name for p in folder.iterdir())
    assert sums.write_folder(tmp_path, contents, run={"run_id": "2"}) == folder
    assert sums.verify(folder) == []
    assert json.loads((folder / "run.json").read_text()) == {"run_id": "2"}
    aside, whole = sorted(tmp_path.iterdir())
    assert aside.name.startswith(f".damaged-{folder.name}-")
    assert whole == folder
    assert sorted(p.name for p in aside.iterdir()) == damaged
