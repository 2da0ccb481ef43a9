"""From a candidate to what is in service and back, by real runs, approvals and sensor ticks.

What the sensor does needs no fit: releases are made by hand there. The fits are two stories.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from harness import CLASSES, Harness

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.release import author_of, deployed_thresholds
from dagster_project.lib import files, sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.release import approval, inputs, ledger, people
from dagster_project.lib.tiers.thresholds import Thresholds
from dagster_project.settings import Settings

AT = {"confident": 0.815, "refer": 0.444, "possible_item": 0.25}
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def latest(harness: Harness) -> Path:
    return (harness.settings.releases_dir / "latest").resolve()


def approve(folder: Path, user: str = "bert", meaning: str = "approval") -> None:
    approval.approve(folder, name=f"Dr. {user.title()}", meaning=meaning, user=user, now=NOW)


def tick(harness: Harness) -> dict[str, Any] | str:
    """What the daemon does with one evaluation: report its events, or note the reason to skip."""
    sensor = harness.definitions.resolve_sensor_def("approval_sensor")
    with dg.build_sensor_context(
        instance=harness.instance,
        definitions=harness.definitions,
        sensor_name="approval_sensor",
        resources={"settings": harness.settings},
    ) as context:
        data = sensor.evaluate_tick(context)
    if not data.asset_events:
        return str(data.skip_message)
    for event in data.asset_events:
        assert isinstance(event, dg.AssetMaterialization)
        harness.instance.report_runless_asset_event(event)
    return harness.metadata("approved_release")


@pytest.fixture
def plain(folder: Path, settings: Settings) -> Iterator[Harness]:
    """An instance that never ran anything, and an empty folder of releases."""
    (folder / "home").mkdir()
    settings.releases_dir.mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(folder / "home")) as instance:
        yield Harness(instance, settings, build_definitions(settings))


def release(harness: Harness, refer: float = 0.444) -> Path:
    """A release as far as approval can see it, by user anna."""
    thresholds = {**AT, "refer": refer, "label_version": "labels-1"}
    contents = {
        "thresholds.json": json.dumps(thresholds).encode(),
        "metadata.json": b"{}",
    }
    return sums.write_folder(harness.settings.releases_dir, contents, run={"user": "anna"})


def test_an_approval_is_recorded_once_with_who_when_what_and_of_which_labels(
    plain: Harness,
) -> None:
    folder = release(plain)
    assert "no release has been approved yet" in str(tick(plain))
    approve(folder, meaning="review")
    assert "no release has been approved yet" in str(tick(plain))
    approve(folder)
    found = tick(plain)
    assert isinstance(found, dict)
    assert found == {
        "release": folder.name,
        "action": "approve",
        "previous": "none",
        "approved_by": "Dr. Bert",
        "approved_by_user": "bert",
        "meaning": "approval",
        "author": "anna",
        "time": "2026-11-02T09:30:00+00:00",
        "confident_threshold": 0.815,
        "refer_threshold": 0.444,
        "possible_item_threshold": 0.25,
        "label_version": "labels-1",
        "sha256": files.sha256_file(folder / "SHA256SUMS"),
        "ledger_line": 1,
        "folder": str(folder),
    }
    assert "Dr. Bert, is recorded already" in str(tick(plain))
    assert plain.count("approved_release") == 1


def test_a_rollback_is_one_more_materialization_even_between_two_ticks(plain: Harness) -> None:
    first, second = release(plain), release(plain, refer=0.4)
    approve(first)
    tick(plain)
    approve(second)
    approve(first)  # before any tick: the pointer is where it was
    found = tick(plain)
    assert isinstance(found, dict)
    assert (found["release"], found["action"]) == (first.name, "rollback")
    assert found["previous"] == second.name
    assert plain.count("approved_release") == 2
    assert isinstance(tick(plain), str)


@pytest.mark.parametrize(
    ("world", "said"),
    [
        pytest.param(lambda r: (r / "current").symlink_to("0" * 16), "with nothing", id="pointer"),
        pytest.param(lambda r: (r / "releases.jsonl").write_bytes(b"\xff{"), "no rel", id="torn"),
        pytest.param(lambda r: (r / "releases.jsonl").mkdir(), "no release", id="a_folder"),
        pytest.param(lambda r: r.rmdir(), "no release", id="no_folder"),
    ],
)
def test_the_sensor_says_why_and_never_raises(
    plain: Harness, world: Callable[[Path], object], said: str
) -> None:
    world(plain.settings.releases_dir)
    assert said in str(tick(plain))


def test_an_approval_that_was_killed_is_said_and_recorded_once_it_is_healed(
    plain: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    folder = release(plain)
    with monkeypatch.context() as patch:
        patch.setattr(files, "point", killed)
        with pytest.raises(KeyboardInterrupt):
            approve(folder)
    assert "approve the one that shall be in service" in str(tick(plain))
    approve(folder)
    assert isinstance(tick(plain), dict)
    assert len(ledger.read_ledger(plain.settings.releases_dir)) == 1


def test_what_the_settings_state_is_deployed_else_what_is_approved(plain: Harness) -> None:
    assert deployed_thresholds(plain.settings) is None
    folder = release(plain)
    approve(folder)
    assert deployed_thresholds(plain.settings) == Thresholds(**AT)
    stated = {"deployed_confident": 0.9, "deployed_refer": 0.3, "deployed_possible_item": 0.25}
    assert deployed_thresholds(plain.settings.model_copy(update=stated)) == Thresholds(
        0.9, 0.3, 0.25
    )
    (folder / "thresholds.json").write_text('{"confident": 0.1}')
    assert "thresholds.json: its content is not what was released" in str(tick(plain))
    with pytest.raises(InputError, match="approve a whole release"):
        deployed_thresholds(plain.settings)


@pytest.mark.parametrize(
    ("tags", "automatic"),
    [
        pytest.param({"dagster/sensor_name": "label_sensor"}, True, id="sensor"),
        pytest.param({"dagster/schedule_name": "weekly_refit"}, True, id="schedule"),
        pytest.param({"tier_refit/wanted": "x"}, False, id="by_hand"),
    ],
)
def test_the_author_is_automation_where_nobody_started_the_run(
    tags: dict[str, str], automatic: bool
) -> None:
    assert author_of(tags) == ("automation" if automatic else people.os_user())


def labels_in_summary(harness: Harness) -> list[dict[str, Any]]:
    records = harness.metadata("evaluation_summary")["thresholds_and_labels"].records
    return [dict(record.data) for record in records]


def test_a_fit_is_a_candidate_then_approved_and_other_labels_are_a_candidate_beside_it(
    fitted: Harness,
) -> None:
    first = latest(fitted)
    assert not (first.parent / "current").exists()
    found = fitted.metadata("evaluation_summary")
    assert found["release_state"] == "candidate"
    assert found["release"] == "candidate; no release has been approved yet"

    approve(first)
    assert isinstance(tick(fitted), dict)
    assert fitted.run_job("refit_job", assets=["evaluation_summary"]).success
    found = fitted.metadata("evaluation_summary")
    assert found["release_state"] == "approved"
    assert "approved by Dr. Bert" in found["release"]
    rows = labels_in_summary(fitted)
    assert [row["threshold"] for row in rows] == ["confident", "refer", "possible_item"]
    assert all(row["fitted"] == row["in_service"] for row in rows)
    old = fitted.metadata("tier_thresholds")["label_version"]
    assert {row["in_service_label_version"] for row in rows} == {old}

    fitted.drop("ann.csv", [(uuid, "ann", CLASSES[0]) for uuid in fitted.test_images()[:9]])
    fitted.refit()
    second = latest(fitted)
    assert second != first
    assert fitted.metadata("evaluation_summary")["release_state"] == "candidate"
    assert all(row["label_version"] != old for row in labels_in_summary(fitted))
    report = json.loads((second / "tier_reports.json").read_text())
    in_service = json.loads((first / "thresholds.json").read_text())
    assert report["deployed"]["thresholds"] == {name: in_service[name] for name in AT}

    # both come out the same again, though the store holds the rows of the second only
    assert inputs.recompute(first) == []
    assert inputs.recompute(second) == []
    copies = sorted(fitted.settings.release_inputs_dir.iterdir())
    assert len(copies) == 2
    assert all(files.sha256_file(path) == path.stem for path in copies)
    # the second was compared with the rows of the first, and needs both
    recorded = json.loads((second / "run.json").read_text())["recompute"]["files"]
    assert set(recorded) == {"scored_rows", "baseline_rows"}
    own = Path(recorded["scored_rows"]["path"])
    pl.read_parquet(own).with_columns(pl.col("score") * 0.5).write_parquet(own)
    assert [len(inputs.recompute(folder)) for folder in (first, second)] == [0, 1]


def test_a_release_says_which_run_of_whom_and_no_patient(ready: Harness) -> None:
    tags = {"dagster/sensor_name": "label_sensor"}
    result = ready.run_job("refit_job", assets=jobs.REFIT, tags=tags)
    assert result.success
    folder = latest(ready)
    run = json.loads((folder / "run.json").read_text())
    assert (run["run_id"], run["job"], run["user"]) == (result.run_id, "refit_job", "automation")
    found = json.loads((folder / "metadata.json").read_text())
    splits = files.sha256_file(ready.settings.dataset_dir / "splits.csv")
    assert found["split"] == {"name": "test", "splits_sha256": splits, "recipe": None}
    assert found["dump"]["dtype"] == "float32"
    assert found["dump"]["versions"] is None  # the stand-in dumps have no identity
    assert (found["n_shards"], found["tta"]) == (3, True)
    assert set(found["inputs"]) == {"scored_rows"}
    approve(folder, user=people.os_user())
    told = [path.read_bytes() for path in folder.iterdir()] + [str(tick(ready)).encode()]
    for uuid in ready.test_images():
        assert not any(uuid.encode() in data for data in told)

    # a fit of other rows than those that lie there now is not released
    ready.drop("ann.csv", [(uuid, "ann", CLASSES[0]) for uuid in ready.test_images()[:9]])
    assert ready.run_job("refit_job", assets=jobs.REFIT[:3]).success
    assert not ready.run_job("refit_job", assets=["threshold_release"]).success
    assert latest(ready) == folder
