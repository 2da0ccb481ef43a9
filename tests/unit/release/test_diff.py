from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib import sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.release.diff import compare, deployed_lines, table_lines

OUTCOMES = {"confident_correct": 0.5, "confident_wrong": 0.041, "refer": 0.459}
REPORT: dict[str, Any] = {
    "n": 1000,
    "thresholds": {"confident": 0.815, "refer": 0.444, "possible_item": 0.25},
    "tiers": {"refer": {"n": 459, "share": 0.459, "top1": None}},
    "outcomes": OUTCOMES,
    "selection": {"refer": {"rule": "share", "ci95": [0.4, 0.5]}},
    "labels": {"version": "labels-1", "provisional": True, "n_reviewed": 0},
    "deployed": None,
}
METADATA: dict[str, Any] = {
    "policy": {"refer": {"rule": "share", "target": 0.13}},
    "policy_sha256": "p",
    "model_tree_hash": "m",
    "dataset_version": None,
}


def write(folder: Path, report: dict[str, Any], metadata: dict[str, Any] | None = None) -> Path:
    contents = {"tier_reports.json": json.dumps(report).encode()}
    if metadata is not None:
        contents["metadata.json"] = json.dumps(metadata).encode()
    folder.mkdir()
    sums.fill(folder, sums.with_sums(contents), None)
    return folder


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write(tmp_path / "a", REPORT, METADATA)


def changed(**at: Any) -> dict[str, Any]:
    """The report with values replaced at dotted paths (two underscores for a dot)."""
    report = copy.deepcopy(REPORT)
    for path, value in at.items():
        *parts, last = path.split("__")
        part = report
        for key in parts:
            part = part[key]
        part[last] = value
    return report


def test_equal_outputs_are_equal(a: Path, tmp_path: Path) -> None:
    found = compare(a, write(tmp_path / "b", REPORT, METADATA))
    assert not found["differ"]
    assert table_lines(found) == ["a and b are equal"]
    assert found["thresholds"]["confident"] == {"a": 0.815, "b": 0.815, "change": 0.0}


def test_every_kind_of_difference_is_named_under_its_head(a: Path, tmp_path: Path) -> None:
    report = changed(
        thresholds__refer=0.433,
        outcomes__confident_wrong=0.045,
        labels__version="labels-2",
        selection__refer__ci95=[0.4, 0.51],
        tiers__refer__top1=0.5,
    )
    metadata = {**METADATA, "model_tree_hash": "m2", "policy": {"refer": {"rule": "fixed"}}}
    found = compare(a, write(tmp_path / "b", report, metadata))
    assert found["differ"]
    assert found["thresholds"]["refer"]["change"] == pytest.approx(-0.011)
    assert found["outcomes_per_1000"]["confident_wrong"] == pytest.approx(
        {"a": 41.0, "b": 45.0, "change": 4.0}
    )
    assert found["identity"] == {
        "labels.version": {"a": "labels-1", "b": "labels-2"},
        "model_tree_hash": {"a": "m", "b": "m2"},
    }
    assert found["policy"] == {
        "refer.rule": {"a": "share", "b": "fixed"},
        "refer.target": {"a": 0.13, "b": None},
    }
    assert list(found["report"]) == ["selection.refer.ci95.1"]
    assert found["tiers"]["refer.top1"] == {"a": None, "b": 0.5}
    assert found["files"]["changed"] == ["metadata.json", "tier_reports.json"]
    lines = "\n".join(table_lines(found))
    for said in ("threshold", "refer", "labels.version", "-0.011", "outcomes per 1,000"):
        assert said in lines


@pytest.mark.parametrize(
    ("atol", "differ"),
    [
        pytest.param(0.0, True, id="exact"),
        pytest.param(0.0109, True, id="just_too_strict"),
        pytest.param(0.011, False, id="exactly_the_difference"),
    ],
)
def test_numbers_within_the_tolerance_are_equal(
    a: Path, tmp_path: Path, atol: float, differ: bool
) -> None:
    b = write(tmp_path / "b", changed(thresholds__refer=0.433), METADATA)
    assert compare(a, b, atol=atol)["differ"] is differ


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(changed(labels__version="labels-2"), id="text"),
        pytest.param(changed(labels__provisional=False), id="flag"),
        pytest.param(changed(tiers__refer__top1=0.0), id="null_is_not_zero"),
        pytest.param(changed(selection__refer__ci95=[0.4]), id="one_less"),
    ],
)
def test_no_tolerance_covers_what_is_not_a_number(
    a: Path, tmp_path: Path, report: dict[str, Any]
) -> None:
    assert compare(a, write(tmp_path / "b", report, METADATA), atol=1.0)["differ"]


def test_a_blocked_refit_can_be_compared(a: Path, tmp_path: Path) -> None:
    found = compare(a, write(tmp_path / "b", REPORT))
    assert found["differ"]
    assert found["files"]["only_in_a"] == ["metadata.json"]
    assert "files, only in a: metadata.json" in table_lines(found)


def test_a_folder_that_no_refit_wrote_is_refused(a: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; pass a folder that refit or gate wrote"):
        compare(a, tmp_path)


def test_a_report_is_set_against_what_is_in_service(a: Path) -> None:
    assert deployed_lines(REPORT) == []
    old = {
        "thresholds": {**REPORT["thresholds"], "refer": 0.433},
        "outcomes": {**OUTCOMES, "confident_wrong": 0.05},
    }
    lines = deployed_lines({**REPORT, "deployed": old})
    assert [" ".join(line.split()) for line in lines] == [
        "against what is in service: old -> new",
        "threshold confident 0.815 -> 0.815 +0.000",
        "threshold refer 0.433 -> 0.444 +0.011",
        "threshold possible_item 0.250 -> 0.250 +0.000",
        "confident correct per 1,000 500.0 -> 500.0 +0.0",
        "confident wrong per 1,000 50.0 -> 41.0 -9.0",
        "refer per 1,000 459.0 -> 459.0 +0.0",
    ]
