from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib import sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.release import bundle
from dagster_project.lib.release.refit import RefitResult, prepare_out, refit, write_refit
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo
from dagster_project.lib.tiers.policy import DEFAULT_POLICY
from dagster_project.lib.tiers.scored_rows import ScoreCounts, score_counts
from dagster_project.lib.tiers.thresholds import Thresholds

CONTRACT = {
    *("coverage_curve.csv", "coverage_curve.png", "refer_candidates.csv"),
    *("possible_item_sweep.csv", "tier_reports.json", "thresholds.json", "thresholds.env"),
    *("thresholds.auto.tfvars.json", "metadata.json", "report.md", "SHA256SUMS"),
}
DEPLOYABLE = {"thresholds.json", "thresholds.env", "thresholds.auto.tfvars.json"}
LABELS = LabelsInfo("v1", provisional=True, n_reviewed=0)


@pytest.fixture(scope="module")
def result(
    original: pl.DataFrame, original_table: tuple[ProbabilityTable, pl.DataFrame]
) -> RefitResult:
    provenance = bundle.provenance_of(original_table[0], score_counts(*original_table))
    return refit(original, DEFAULT_POLICY, Context(LABELS), provenance)


def test_every_file_of_the_contract_is_written_and_hashed(
    result: RefitResult, tmp_path: Path
) -> None:
    out = write_refit(result, tmp_path / "new" / "out", run={"host": "here"})
    assert {p.name for p in out.iterdir()} >= CONTRACT | {"run.json"}
    assert sums.verify(out) == []
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # nothing half-written beside it
    curve = pl.read_csv(out / "coverage_curve.csv")
    assert curve.columns == ["threshold", "n", "coverage", "top1", "top3", "confident_wrong"]
    assert json.loads((out / "tier_reports.json").read_text()) == result.report


def test_an_earlier_output_is_replaced_whole(result: RefitResult, tmp_path: Path) -> None:
    out = write_refit(result, tmp_path / "out", run={"run_id": 1})
    (out / "report.md").unlink()  # even a damaged one
    write_refit(result, out, run={"run_id": 2})
    assert sums.verify(out) == []
    assert json.loads((out / "run.json").read_text()) == {"run_id": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_used(result: RefitResult, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert sums.verify(write_refit(result, tmp_path / "out")) == []


@pytest.mark.parametrize("refitted_before", [False, True], ids=["foreign", "note_in_an_output"])
def test_a_folder_with_somebody_elses_file_is_refused_and_kept(
    result: RefitResult, tmp_path: Path, refitted_before: bool
) -> None:
    out = tmp_path / "out"
    if refitted_before:
        write_refit(result, out)
    out.mkdir(exist_ok=True)
    (out / "thesis.txt").write_text("years")
    before = sorted(out.iterdir())
    with pytest.raises(InputError, match=r"thesis.txt.*not written by a refit"):
        write_refit(result, out)
    assert sorted(out.iterdir()) == before


def test_a_file_in_the_way_is_refused(result: RefitResult, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_refit(result, tmp_path / "out")


def test_a_blocked_refit_keeps_the_evidence_and_writes_nothing_deployable(
    original: pl.DataFrame, tmp_path: Path
) -> None:
    blocked = refit(
        original,
        DEFAULT_POLICY,
        Context(LABELS, deployed=Thresholds(0.5, 0.4, 0.25)),
        bundle.Provenance(("a", "b"), score_counts_of(original)),
        max_change=0.15,
    )
    assert len(blocked.blocked) == 1
    assert "moved too far" in blocked.blocked[0]
    out = write_refit(blocked, tmp_path / "out")
    names = {p.name for p in out.iterdir()}
    assert names & DEPLOYABLE == set()
    assert {"tier_reports.json", "coverage_curve.csv", "SHA256SUMS"} <= names


def score_counts_of(scored: pl.DataFrame) -> ScoreCounts:
    return ScoreCounts(scored.height, scored.height, 0, 0)


def test_a_link_stays_a_link_and_its_folder_is_replaced(
    result: RefitResult, tmp_path: Path
) -> None:
    write_refit(result, tmp_path / "real", run={"run_id": 1})
    (tmp_path / "link").symlink_to("real")
    assert write_refit(result, tmp_path / "link", run={"run_id": 2}) == tmp_path / "real"
    assert (tmp_path / "link").readlink() == Path("real")
    assert json.loads((tmp_path / "link" / "run.json").read_text()) == {"run_id": 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("out", [".", "..", "../here", "/"])
def test_the_working_folder_is_not_replaced_under_who_works_in_it(
    result: RefitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = (tmp_path / "here").stat().st_ino
    with pytest.raises(InputError, match="working folder or a mount point cannot be replaced"):
        write_refit(result, Path(out))
    assert (tmp_path / "here").stat().st_ino == before


def test_a_mount_point_is_refused(
    result: RefitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "volume")
    (tmp_path / "volume").mkdir()
    with pytest.raises(InputError, match="mount point"):
        write_refit(result, tmp_path / "volume")
    assert sums.verify(write_refit(result, tmp_path / "volume" / "out")) == []


def test_the_output_of_before_is_back_once_a_killed_run_is_followed_by_another(
    result: RefitResult, tmp_path: Path
) -> None:
    out = write_refit(result, tmp_path / "out")
    out.rename(tmp_path / ".out.replaced")  # killed between the two renames
    assert prepare_out(out) == out
    assert sums.verify(out) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
