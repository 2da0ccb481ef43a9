"""The gate's assets: observed by content, never of two files at once, frozen behind checks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContext
from harness import Harness

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.lib import sums, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.gate import pictures, publish, report
from dagster_project.lib.gate.bundle import read_bundle
from dagster_project.lib.gate.config import read_config
from dagster_project.lib.gate.scores import read_scores
from dagster_project.settings import Settings

GAUGE = {"head": "q", "magnitude": "abs", "normalisation": "none", "accept": "high"}
IDENTITY = {
    "model_family": "rational",
    "model_tree_hash": "a" * 64,
    "preprocessing": "v1",
    "dataset": "made up",
}
CONFIG: dict[str, Any] = {
    "gauge": GAUGE,
    "taus": [0.05, 0.1, 0.2, 0.4, 0.8],
    "points": {"rules": {"impossible": {"choose": "smallest", "bound": {"fp_cens": 0.0}}}},
    "gray_zone": {"multiple": 2.0},
}
MADE = jobs.GATE


def write_scores(
    path: Path, *, seed: int = 0, texts: dict[str, Any] | None = None, labels: bool = True
) -> None:
    """600 rows, two in three in range and well apart from the others; the first is a fault."""
    rng = np.random.default_rng(seed)
    inside = rng.random(600) < 2 / 3
    score = np.exp(rng.normal(np.where(inside, 0.0, -4.0), 0.6))
    score[0] = np.nan
    frame = pl.DataFrame({"score": score, "in_range": inside})
    said = {"gauge": GAUGE, "identity": IDENTITY} if texts is None else texts
    table = (frame if labels else frame.drop("in_range")).to_arrow()
    metadata = {key: json.dumps(value) for key, value in said.items()}
    tables.write_arrow(path, tables.with_metadata(table, metadata))


@pytest.fixture
def gated(folder: Path) -> Iterator[Harness]:
    """Scores and a configuration, and nothing else; nothing observed yet."""
    write_scores(folder / "scores.parquet")
    (folder / "gate.json").write_text(json.dumps(CONFIG))
    settings = Settings(
        store=folder / "store", gate_scores=folder / "scores.parquet", gate=folder / "gate.json"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Harness(instance, settings, build_definitions(settings))


def other(made: Harness, **values: object) -> Harness:
    """The same instance with other settings."""
    settings = made.settings.model_copy(update=values)
    return Harness(made.instance, settings, build_definitions(settings))


def scores_of(made: Harness) -> Path:
    assert made.settings.gate_scores is not None
    return made.settings.gate_scores


def run(made: Harness, freeze: str | None = None) -> dg.ExecuteInProcessResult:
    ops = {"gate_operating_points": {"config": {"freeze": freeze}}}
    return made.run_job("gate_job", run_config={"ops": ops} if freeze else {})


def watch(made: Harness) -> dg.ExecuteInProcessResult:
    return made.run_job("gate_monitoring_job")


def why_failed(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return (
        (error.cause or error).message.strip().removeprefix(f"{InputError.__module__}.InputError: ")
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def tick(made: Harness) -> dg.AssetObservation | str:
    """One evaluation of the sensor, its cursor kept on the harness; what it reports is recorded."""
    sensor = made.definitions.resolve_sensor_def("gate_scores_sensor")
    with dg.build_sensor_context(
        instance=made.instance,
        cursor=CURSOR.get("last"),
        definitions=made.definitions,
        resources={"settings": made.settings},
    ) as context:
        data = sensor.evaluate_tick(context)
    CURSOR["last"] = data.cursor
    assert not data.run_requests
    for event in data.asset_events:
        made.instance.report_runless_asset_event(event)
    if not data.asset_events:
        return str(data.skip_message)
    [seen] = data.asset_events
    assert isinstance(seen, dg.AssetObservation)
    return seen


CURSOR: dict[str, str | None] = {}


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at a file so far; and pictures, which their own tests draw, are not drawn here."""
    CURSOR.clear()
    for name in ("sweep_png", "tradeoff_png", "distribution_png"):
        monkeypatch.setattr(pictures, name, lambda *_: b"not drawn")


class Loading(LoadingContext):
    """What the webserver hands to the resolver."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._loaders = instance, {}  # type: ignore[var-annotated]

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[Any, Any]:
        return self._loaders


def unsynced(made: Harness) -> list[str]:
    """The gate's assets that the UI marks as unsynced."""
    graph = made.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(made.instance, graph, Loading(made.instance))
    return [name for name in MADE if resolver.get_status(dg.AssetKey(name)).value == "STALE"]


def test_new_content_makes_the_sweep_stale_and_equal_content_does_not(gated: Harness) -> None:
    assert run(gated).success
    assert unsynced(gated) == []
    assert tick(gated) == "the scores are those of the newest observation"
    os.utime(scores_of(gated))
    write_scores(scores_of(gated))
    assert tick(gated) == "the scores are those of the newest observation"
    assert unsynced(gated) == []
    write_scores(scores_of(gated), seed=1)
    seen = tick(gated)
    assert isinstance(seen, dg.AssetObservation)
    assert seen.metadata["rows"].value == 600
    assert unsynced(gated) == [*MADE]
    assert run(gated).success
    assert unsynced(gated) == []
    assert isinstance(tick(gated), str)


def test_content_that_nobody_observed_before_it_was_read_leaves_nothing_stale(
    gated: Harness,
) -> None:
    tick(gated)
    write_scores(scores_of(gated), seed=1)
    assert run(gated).success
    assert unsynced(gated) == []
    assert tick(gated) == "the scores are those of the newest observation"
    write_scores(scores_of(gated))
    observe = gated.definitions.resolve_implicit_global_asset_job_def()
    button = observe.get_subset(asset_selection={dg.AssetKey("gate_scores")})
    assert button.execute_in_process(instance=gated.instance).success
    assert unsynced(gated) == [*MADE]


def test_a_change_that_was_seen_and_not_recorded_is_told_by_the_next_tick(gated: Harness) -> None:
    first = tick(gated)
    assert isinstance(first, dg.AssetObservation)
    gated.instance.wipe_assets([dg.AssetKey("gate_scores")])
    assert tick(gated) == first


def test_the_frozen_folder_is_what_the_command_writes_and_patients_are_in_no_event(
    gated: Harness,
) -> None:
    result = run(gated)
    assert result.success
    assert {name: found.passed for name, found in checks(result).items()} == {
        "point_to_freeze_backed": True,
        "chosen_on_scores_in_place": True,
        "scores_identified": True,
    }
    latest = gated.settings.gates_dir / "latest"
    assert sums.verify(latest) == []
    assert gated.settings.gate is not None
    config = read_config(gated.settings.gate)
    scores = read_scores(scores_of(gated), config)
    wanted = publish.contents(report.gate_report(report.GateInputs(scores, config)))
    assert {name: (latest / name).read_bytes() for name in wanted} == wanted
    assert json.loads((latest / "run.json").read_text())["job"] == "gate_job"
    for asset in MADE:
        told = gated.metadata(asset)
        assert told["scores_sha256"] == scores.source["sha256"], asset
    shown = gated.metadata("gate_operating_points")
    assert {"points", "gained_and_lost", "report", "tau_tradeoff", "tau_infer"} <= set(shown)
    assert shown["to_freeze"] == "safety_first"
    assert "- impossible: unavailable: fp_cens is not shown" in shown["not_backed"]
    before = latest.resolve()
    assert run(gated).success
    assert latest.resolve() == before
    assert gated.metadata("gate_bundle")["gate"] == before.name


def test_a_point_that_is_not_backed_blocks_and_is_refused_again_by_the_bundle(
    gated: Harness,
) -> None:
    result = run(gated, "impossible")
    assert not result.success
    blocked = checks(result)["point_to_freeze_backed"]
    assert not blocked.passed
    assert "nothing to freeze: impossible is unavailable: fp_cens is not shown" in str(
        blocked.description
    )
    assert gated.count("gate_operating_points") == 1
    assert gated.count("gate_bundle") == 0
    # in a run of its own no check stands before it
    alone = gated.run_job("gate_job", ["gate_bundle"])
    assert "nothing frozen: impossible is unavailable: fp_cens" in why_failed(alone)
    assert not gated.settings.gates_dir.exists()
    assert run(gated, "accuracy_first").success
    assert read_bundle(gated.settings.gates_dir / "latest").point.name == "accuracy_first"
    unknown = run(gated, "nobody")
    assert "run config: key freeze: nobody is no operating point" in why_failed(unknown)


def test_no_step_mixes_two_files_or_two_configurations(gated: Harness) -> None:
    assert run(gated).success
    write_scores(scores_of(gated), seed=1)
    told = "scores.parquet changed since gate_sweep was made of it: run gate_job"
    assert why_failed(gated.run_job("gate_job", ["gate_operating_points"])) == told
    told = "scores.parquet changed since gate_operating_points was made of it: run gate_job"
    assert why_failed(gated.run_job("gate_job", ["gate_bundle"])) == told
    assert gated.run_job("gate_job", ["gate_sweep"]).success
    assert why_failed(gated.run_job("gate_job", ["gate_bundle"])) == told
    assert gated.settings.gate is not None
    gated.settings.gate.write_text(json.dumps({**CONFIG, "taus": [0.1, 0.2]}))
    assert (
        why_failed(gated.run_job("gate_job", ["gate_operating_points"]))
        == "gate_sweep is of another configuration than is set now: run gate_job"
    )
    assert gated.count("gate_bundle") == 1


def test_a_file_that_changes_within_a_run_stops_it_before_anything_is_frozen(
    gated: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = report.points_report

    def then_changed(*given: Any) -> dict[str, Any]:
        made = found(*given)
        write_scores(scores_of(gated), seed=1)
        return made

    monkeypatch.setattr(report, "points_report", then_changed)
    result = run(gated)
    assert not result.success
    assert not checks(result)["chosen_on_scores_in_place"].passed
    assert gated.count("gate_operating_points") == 1
    assert gated.count("gate_bundle") == 0


def test_rates_of_the_gate_in_service_are_scalars_over_time(gated: Harness, folder: Path) -> None:
    assert "no gate was frozen yet: run gate_job, or set TIER_REFIT_GATE_BUNDLE" in why_failed(
        watch(gated)
    )
    assert run(gated).success
    assert watch(gated).success
    first = gated.metadata("gate_monitoring")
    frozen = read_bundle(gated.settings.gates_dir / "latest")
    score = pl.read_parquet(scores_of(gated))["score"].to_numpy()
    below = ~(score >= frozen.tau_infer)
    gap = ~below & (score < frozen.tau_train)
    assert first["bottom_rate"] == below.mean()
    assert first["gap_rate"] == gap.mean() > 0
    assert first["accept_rate"] == (~below).mean()
    assert first["fault_rate"] == 1 / 600
    live = folder / "live.parquet"
    write_scores(live, seed=3, labels=False, texts={"gauge": GAUGE})
    later = other(gated, gate_live_scores=live, gate_bundle=gated.settings.gates_dir / "latest")
    assert watch(later).success
    second = gated.metadata("gate_monitoring")
    assert second.keys() == first.keys()
    assert second["gap_rate"] != first["gap_rate"]
    assert "model family" in second["not_compared"]


def test_another_model_is_a_reason_to_sweep_again_and_another_gauge_is_refused(
    gated: Harness, folder: Path
) -> None:
    assert run(gated).success
    live = folder / "live.parquet"
    later = other(gated, gate_live_scores=live)
    write_scores(live, texts={"gauge": GAUGE, "identity": {**IDENTITY, "preprocessing": "v2"}})
    [check] = checks(watch(later)).values()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description == 'sweep again: preprocessing was "v1", is "v2"'
    assert gated.metadata("gate_monitoring")["reasons_to_rerun"] == (
        '- preprocessing was "v1", is "v2"'
    )
    write_scores(live, texts={"gauge": {**GAUGE, "normalisation": "unit norm"}})
    told = why_failed(watch(later))
    assert 'the bundle and live.parquet: normalisation "none" and "unit norm"' in told
    assert gated.count("gate_monitoring") == 1


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        pytest.param("gate_scores", "TIER_REFIT_GATE_SCORES is not set", id="no_scores"),
        pytest.param("gate", "TIER_REFIT_GATE is not set", id="no_configuration"),
    ],
)
def test_without_scores_or_configuration_the_job_says_which_variable_is_missing(
    gated: Harness, missing: str, told: str
) -> None:
    without = other(gated, **{missing: None})
    assert why_failed(run(without)).startswith(told)
    if missing == "gate_scores":
        assert tick(without) == "no scores: TIER_REFIT_GATE_SCORES is not set"


def test_a_file_that_is_gone_or_no_parquet_is_told_by_the_tick_and_raises_nothing(
    gated: Harness,
) -> None:
    scores_of(gated).write_bytes(b"score,in_range\n")
    assert "scores.parquet" in str(tick(gated))
    scores_of(gated).unlink()
    assert "no such file (TIER_REFIT_GATE_SCORES)" in str(tick(gated))
