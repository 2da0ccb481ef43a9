"""A scalar gate: its scores observed, its threshold swept, chosen, frozen and watched.

Belongs: the five assets, what is asked for in the launchpad, the checks before anything is frozen.
Does not: any rule, statistic, wording or picture (``lib.gate``); labels, tiers.
Concept: the scores are a file that somebody brings, and its content is their version. Each asset
says which bytes it read, and refuses others than those that the asset before it read: a threshold
is never chosen on one file and frozen with another. Nothing of a refit waits for any of this.
"""

import json
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dagster_project.defs import show
from dagster_project.defs.release import LATEST, author_of
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.files import canonical_json, digest, publish_bytes
from dagster_project.lib.stored_table import StoredTable
from dagster_project.lib.sums import json_bytes
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dagster_project.lib.gate.config import GateConfig
    from dagster_project.lib.gate.scores import GateScores

SCORES = "gate_scores"
FOLDER = "gate"
OWNERS = ["team:data-science"]
AGAIN = "run gate_job"
CONTENT_TAG = "dagster/data_version"
READ_TAG = f"dagster/input_data_version/{SCORES}"
"""On a materialization: which content it is of. Dagster sets it to the newest observation; the file
may be newer than that, so each asset says what it read."""

SPEC = dg.AssetSpec(
    SCORES,
    group_name="gate",
    kinds={"parquet"},
    owners=OWNERS,
    code_version="1",
    description=(
        "Cached scores with task labels, a parquet file that somebody brings "
        "(TIER_REFIT_GATE_SCORES). Its version is the sha256 of its content: a file written again "
        "with the same bytes makes nothing stale."
    ),
)


class FreezeConfig(dg.Config):
    """What to freeze; left out, what the configuration file says."""

    freeze: str | None = Field(
        None,
        description="The operating point that goes into the bundle: safety_first, accuracy_first, "
        "direction_aware, balanced, quantile_multiple, or a rule of the configuration file by its "
        "name. Unset: the file's own choice.",
    )


def _observe(settings: dg.ResourceParam[Settings]) -> Iterator[dg.ObserveResult]:
    sha256, metadata = _seen(settings)
    yield dg.ObserveResult(data_version=dg.DataVersion(sha256), metadata=metadata)


with warnings.catch_warnings():
    # observing is beta in Dagster 1.13; what we rely on is pinned by tests/assets/test_gate.py
    warnings.simplefilter("ignore", dg.BetaWarning)
    gate_scores = dg.multi_observable_source_asset(specs=[SPEC], name=SCORES)(_observe)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes gate_scores when the file's content changed; starts no run.",
)
def gate_scores_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.SensorResult:
    """Compare the file with the newest observation; never raise on what the world does."""
    if settings.gate_scores is None:
        return dg.SkipReason("no scores: TIER_REFIT_GATE_SCORES is not set")
    try:
        stamp = _stamp(settings.gate_scores)
        known, _, sha256 = (context.cursor or "").rpartition(" ")
        if known != stamp:
            sha256 = _seen(settings)[0]
            context.update_cursor(f"{stamp} {sha256}")
        if sha256 == _newest(context.instance):
            return dg.SkipReason("the scores are those of the newest observation")
        return dg.SensorResult(asset_events=[_observation(settings)])
    except (InputError, OSError) as error:
        return dg.SkipReason(str(error))


@dg.asset(group_name="gate", kinds={"numpy"}, owners=OWNERS, code_version="1", deps=[SCORES])
def gate_sweep(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult[StoredTable]:
    """What every threshold would do: no answer in range, answers out of range, faults."""
    import polars as pl

    from dagster_project.lib.gate import pictures, publish, report, summary, words

    config = _config(settings)
    scores = _scores(settings, config)
    if scores.source["sha256"] != _newest(context.instance):
        context.log_event(_observation(settings))
    swept = report.sweep_report(scores, config)
    curves = pl.DataFrame(swept["curves"], dict.fromkeys(swept["curves"], pl.Float64))
    drawn = {"tau_sweep": pictures.sweep_png, "score_distribution": pictures.distribution_png}
    return dg.MaterializeResult(
        value=StoredTable.of(curves, _carried(scores, config)),
        data_version=dg.DataVersion(digest(swept)),
        tags={READ_TAG: scores.source["sha256"]},
        metadata={
            **_told(scores),
            "taus_written": curves.height,
            "no_answer": words.no_answer(swept["provenance"]["gauge"]),
            "sweep": show.table(summary.sweep_table(swept)),
            **_note(publish.SWEEP_NOTE, words.sweep_note(swept), publish.SWEEP, swept, settings),
            **_pictures({name: draw(swept) for name, draw in drawn.items()}, settings),
        },
    )


@dg.asset(group_name="gate", kinds={"markdown"}, owners=OWNERS, code_version="1", deps=[SCORES])
def gate_operating_points(
    config: FreezeConfig, settings: dg.ResourceParam[Settings], gate_sweep: StoredTable
) -> dg.MaterializeResult[StoredTable]:
    """The threshold for each declared purpose, on calibration rows; what it does on the others."""
    from dagster_project.lib.gate import pictures, publish, report, summary, words

    chosen = _config(settings, config.freeze)
    if _but_freeze(gate_sweep.metadata["config"]) != _but_freeze(_json(chosen)):
        raise InputError(f"gate_sweep is of another configuration than is set now: {AGAIN}")
    scores = _scores(settings, chosen, gate_sweep)
    found = report.points_report(scores, chosen)
    swept = report.sweep_report(scores, chosen, pins=[*words.pinned(found).values()])
    drawn = {"tau_tradeoff": pictures.tradeoff_png, "points_on_sweep": pictures.sweep_png}
    points = summary.point_table(found)
    return dg.MaterializeResult(
        value=StoredTable.of(points, {**_carried(scores, chosen), "points": _in_order(found)}),
        data_version=dg.DataVersion(digest([found, _carried(scores, chosen)])),
        tags={READ_TAG: scores.source["sha256"]},
        metadata={
            **_told(scores),
            **_headline(found),
            "to_freeze": found["freeze"]["point"],
            "points": show.table(points.drop("reason")),
            "not_backed": show.reasons(_not_backed(found)),
            "gained_and_lost": show.reasons(summary.change_table(found)["words"].to_list()),
            **_note(publish.POINTS_NOTE, words.points_note(found), publish.POINTS, found, settings),
            **_pictures({name: draw(swept, found) for name, draw in drawn.items()}, settings),
        },
    )


@dg.asset_check(asset=gate_operating_points, blocking=True)
def point_to_freeze_backed(gate_operating_points: StoredTable) -> dg.AssetCheckResult:
    """The operating point that is to be frozen has a threshold that meets its rule."""
    found = _points(gate_operating_points)
    name, backed = found["freeze"]["point"], found["freeze"]["frozen"]
    told = f"{name}: tau {found['points'][name]['tau']}"
    return dg.AssetCheckResult(
        passed=backed,
        description=told if backed else f"nothing to freeze: {found['freeze']['reason']}",
        metadata={"point": name},
    )


@dg.asset_check(asset=gate_operating_points, blocking=True)
def chosen_on_scores_in_place(
    settings: dg.ResourceParam[Settings], gate_operating_points: StoredTable
) -> dg.AssetCheckResult:
    """The scores file is still the one that the points were chosen on, byte for byte."""
    from dagster_project.lib.gate.scores import observe

    chosen_on = gate_operating_points.metadata["scores_sha256"]
    same = observe(_scores_file(settings))["sha256"] == chosen_on
    return dg.AssetCheckResult(
        passed=same,
        description=f"{_scores_file(settings).name} is unchanged"
        if same
        else _changed(settings, gate_operating_points),
        metadata={"scores_sha256": chosen_on},
    )


@dg.asset_check(asset=gate_operating_points)
def scores_identified(gate_operating_points: StoredTable) -> dg.AssetCheckResult:
    """It is stated of which model, preprocessing and data the scores are; blocks nothing."""
    from dagster_project.lib.gate.config import Identity
    from dagster_project.lib.gate.gauge import unstated

    missing = unstated(Identity(**_points(gate_operating_points)["identity"]))
    return dg.AssetCheckResult(
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"not stated: {', '.join(missing)}; a change there would not be seen"
        if missing
        else "all of it is stated",
    )


@dg.asset(group_name="gate", kinds={"json"}, owners=OWNERS, code_version="1", deps=[SCORES])
def gate_bundle(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    gate_operating_points: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """The frozen threshold with its evidence, in a folder named by its content."""
    import polars as pl

    from dagster_project.lib import files, sums
    from dagster_project.lib.gate import bundle, publish, report, words
    from dagster_project.lib.gate.config import parse_config
    from dagster_project.lib.release.people import run_facts

    found = _points(gate_operating_points)
    config = parse_config(json.loads(gate_operating_points.metadata["config"]))
    scores = _scores(settings, config, gate_operating_points)
    try:
        frozen = bundle.freeze(found, scores, config)
    except RefusedError as error:
        raise dg.Failure(f"nothing frozen: {error}", allow_retries=False) from None
    swept = report.sweep_report(scores, config, pins=[*words.pinned(found).values()])
    contents = publish.contents(report.GateReport(swept, found, frozen))
    by = run_facts(author_of(context.run.tags))
    run = {"run_id": context.run.run_id, "job": context.run.job_name, **by}
    folder = sums.write_folder(settings.gates_dir, contents, run=run)
    files.point(settings.gates_dir / LATEST, folder.name)
    hashes = sums.read_sums(folder)
    listed = pl.DataFrame({"file": list(hashes), "sha256": list(hashes.values())})
    return dg.MaterializeResult(
        value=StoredTable.of(listed, {"scores_sha256": frozen["scores"]["sha256"]}),
        data_version=dg.DataVersion(folder.name),
        tags={READ_TAG: scores.source["sha256"]},
        metadata={
            **_headline(found),
            "point": frozen["point"]["name"],
            "gate": folder.name,
            "folder": dg.MetadataValue.path(folder),
            "scores_sha256": frozen["scores"]["sha256"],
            "files": show.table(listed),
        },
    )


@dg.asset(
    group_name="gate", kinds={"numpy"}, owners=OWNERS, code_version="1", deps=[SCORES, gate_bundle]
)
def gate_monitoring(settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult[StoredTable]:
    """How often the gate in service answers, marks and declines the newest scores."""
    import polars as pl

    from dagster_project.lib.gate import watch
    from dagster_project.lib.gate.bundle import read_bundle

    folder = _in_service(settings)
    frozen = read_bundle(folder)
    live = settings.gate_live_scores or _scores_file(settings)
    seen = watch.watched(live, frozen, None if settings.gate is None else _config(settings))
    rates = {name: seen[name] for name in watch.RATES}
    return dg.MaterializeResult(
        value=StoredTable.of(pl.DataFrame([{"n": seen["n"], **rates}]), _why_again(seen)),
        data_version=dg.DataVersion(digest([seen, frozen.content_sha256])),
        tags=None if settings.gate_live_scores else {READ_TAG: seen["sha256"]},
        metadata={
            **show.scalars(rates),
            "rows": seen["n"],
            "tau_infer": frozen.tau_infer,
            "reasons_to_rerun": show.reasons(seen["reasons"]),
            "not_compared": show.reasons(seen["unstated"]),
            "scores_sha256": seen["sha256"],
            "bundle_sha256": frozen.content_sha256,
            "bundle": dg.MetadataValue.path(folder),
        },
    )


@dg.asset_check(asset=gate_monitoring)
def sweep_still_holds(gate_monitoring: StoredTable) -> dg.AssetCheckResult:
    """Model, preprocessing and data are those of the frozen gate, as far as stated; no block."""
    reasons = json.loads(gate_monitoring.metadata["reasons"])
    unstated = json.loads(gate_monitoring.metadata["unstated"])
    held = f"nothing changed that is stated; not stated: {', '.join(unstated) or 'nothing'}"
    return dg.AssetCheckResult(
        passed=not reasons,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"sweep again: {'; '.join(reasons)}" if reasons else held,
    )


ASSETS = [gate_scores, gate_sweep, gate_operating_points, gate_bundle, gate_monitoring]
CHECKS = [point_to_freeze_backed, chosen_on_scores_in_place, scores_identified, sweep_still_holds]


def _not_set(names: str) -> InputError:
    return InputError(
        f"{names} is not set: a gate is chosen on scores that you bring (docs/gate.md)"
    )


def _config(settings: Settings, freeze: str | None = None) -> "GateConfig":
    """The configuration file of the settings, with another point to freeze where one is given."""
    from dagster_project.lib.gate.config import parse_config, read_config

    if settings.gate is None:
        raise _not_set("TIER_REFIT_GATE")
    config = read_config(settings.gate)
    if freeze is None:
        return config
    return parse_config({**config.model_dump(mode="json"), "freeze": freeze}, "run config")


def _scores_file(settings: Settings) -> "Path":
    if settings.gate_scores is None:
        raise _not_set("TIER_REFIT_GATE_SCORES")
    return settings.gate_scores


def _scores(
    settings: Settings, config: "GateConfig", before: StoredTable | None = None
) -> "GateScores":
    """The scores of the file; where ``before`` is given, only if it was made of the same bytes."""
    from dagster_project.lib.gate.scores import read_scores

    scores = read_scores(_scores_file(settings), config)
    if before is not None and scores.source["sha256"] != before.metadata["scores_sha256"]:
        raise InputError(_changed(settings, before))
    return scores


def _changed(settings: Settings, before: StoredTable) -> str:
    return f"{_scores_file(settings).name} changed since {before.name} was made of it: {AGAIN}"


def _json(config: "GateConfig") -> str:
    return canonical_json(config.model_dump(mode="json"))


def _but_freeze(config: str) -> dict[str, Any]:
    """Which point is frozen changes nothing in a sweep."""
    return {**json.loads(config), "freeze": None}


def _carried(scores: "GateScores", config: "GateConfig") -> dict[str, str]:
    """What a table carries of what it is made of."""
    return {"scores_sha256": scores.source["sha256"], "config": _json(config)}


def _in_order(report: "Mapping[str, Any]") -> str:
    """JSON that keeps the order of the points, which people read."""
    return json.dumps(report, allow_nan=False)


def _points(stored: StoredTable) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stored.metadata["points"])
    return found


def _not_backed(points: "Mapping[str, Any]") -> list[str]:
    """One line for each point that has no threshold of its own."""
    return [
        f"{name}: {point['status']}: {point['reason']}"
        for name, point in points["points"].items()
        if point["status"] != "backed"
    ]


def _told(scores: "GateScores") -> dict[str, Any]:
    """Of which scores: counts, gauge, content."""
    source = scores.source
    return {
        "scores_sha256": source["sha256"],
        "rows": source["rows"],
        "in_range": source["in_range"],
        "censored": source["censored"],
        "faults": int(scores.fault.sum()),
        "gauge": dg.MetadataValue.json(scores.gauge.model_dump(mode="json")),
    }


def _headline(points: "Mapping[str, Any]") -> dict[str, Any]:
    """Scalars under names that never change: the point to freeze."""
    point = points["points"][points["freeze"]["point"]]
    rates = {
        name: ((point["evaluation"] or {}).get(name) or {}).get("rate")
        for name in ("accept_rate", "fn_in", "fp_cens", "gap_rate")
    }
    return show.scalars({"tau_infer": point["tau"], "tau_train": point["tau_train"], **rates})


def _note(
    name: str, text: str, plain: str, value: "Mapping[str, Any]", settings: Settings
) -> dict[str, Any]:
    """Publish a report as Markdown and JSON; shown without its pictures, which stand apart."""
    folder = settings.report_dir / FOLDER
    publish_bytes(folder / name, text.encode())
    publish_bytes(folder / plain, json_bytes(value))
    shown = "\n".join(line for line in text.splitlines() if not line.startswith("!["))
    return {
        "report": dg.MetadataValue.md(shown),
        **show.link(folder / name, settings),
        **show.link(folder / plain, settings),
    }


def _pictures(drawn: "Mapping[str, bytes]", settings: Settings) -> dict[str, Any]:
    """Publish pictures beside the reports, and show them."""
    return {
        key: value
        for name, png in drawn.items()
        for key, value in show.picture(png, f"{FOLDER}/{name}", settings).items()
    }


def _why_again(seen: "Mapping[str, Any]") -> dict[str, str]:
    return {key: canonical_json(seen[key]) for key in ("reasons", "unstated")}


def _in_service(settings: Settings) -> "Path":
    """The gate of the settings, or the newest one frozen here."""
    if settings.gate_bundle is not None:
        return settings.gate_bundle
    latest = settings.gates_dir / LATEST
    if not latest.is_dir():
        raise InputError(f"no gate was frozen yet: {AGAIN}, or set TIER_REFIT_GATE_BUNDLE")
    return latest.resolve()


def _seen(settings: Settings) -> tuple[str, dict[str, Any]]:
    """sha256 of the scores file, and what an observation says of it: aggregates."""
    from dagster_project.lib.gate.scores import observe

    found = observe(_scores_file(settings))
    unknown = "not recorded in the file"
    return found["sha256"], {
        **{key: found[key] for key in ("sha256", "rows", "in_range", "censored")},
        **{
            key: unknown if found[key] is None else dg.MetadataValue.json(found[key])
            for key in ("gauge", "identity")
        },
        "file": dg.MetadataValue.path(_scores_file(settings)),
    }


def _observation(settings: Settings) -> dg.AssetObservation:
    sha256, metadata = _seen(settings)
    return dg.AssetObservation(SCORES, metadata=metadata, tags={CONTENT_TAG: sha256})


def _stamp(path: "Path") -> str:
    """Changes whenever a file is written; only then does a tick hash it again."""
    if not path.is_file():
        raise InputError(f"{path}: no such file (TIER_REFIT_GATE_SCORES)")
    found = path.stat()
    return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _newest(instance: dg.DagsterInstance) -> str | None:
    """The content that the newest observation is of."""
    records = instance.fetch_observations(dg.AssetKey(SCORES), limit=1).records
    observed = records[0].asset_observation if records else None
    return None if observed is None else observed.tags.get(CONTENT_TAG)
