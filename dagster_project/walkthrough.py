"""`tier-refit demo`: the whole chain on the demo world, through a real Dagster instance.

Belongs: the order in which a person would do things, and the closing table.
Does not: making the world (``lib.demo``), any stage (``defs``, ``lib``).
Concept: nothing is asserted here; what was computed again is read from the event log.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.parquet_io import asset_key, read_stored
from dagster_project.defs.probabilities import DUMPS, GPU_POOL, shard_keys
from dagster_project.lib import progress, tables
from dagster_project.lib.demo import scoring
from dagster_project.lib.demo.candidates import CANDIDATES, write_checkpoints
from dagster_project.lib.demo.gate import write_demo_gate
from dagster_project.lib.demo.population import FULL, WorldSize
from dagster_project.lib.demo.reviewers import REVIEWERS, simulate_reviews
from dagster_project.lib.demo.world import World, build_world, read_truth
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.files import write_json, write_text
from dagster_project.lib.review.hand_out import SHEET, answer_name
from dagster_project.lib.rollup.taxonomy import EXAMPLES
from dagster_project.settings import SETTINGS_FILE, Settings, load_settings, use_settings_of

CHECKPOINTS = "checkpoints.toml"
GATE = "gate"
ROLLUP = "rollup.json"
REMADE = ("dagster_home", "store", "label_drop", GATE, CHECKPOINTS, ROLLUP, SETTINGS_FILE)
"""What a second demo makes anew; the world itself is kept if it is whole."""
ROLLED_UP = {
    "thresholds": {
        "target": 0.2,
        "accuracy": {"class": 0.95, "family": 0.9, "group": 0.85},
        "max_images_per_patient": 1,
    }
}
"""What the packet's 145 images drawn at random can certify; they cannot certify much less."""

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""Run config: the instance keeps every event, the terminal shows the progress only."""

SHARDS = 8
BATCH = 16
"""Small: the tower is a fifth faster on a processor while a batch stays in its cache."""
PACKET_SIZE = 500
MAX_CHANGE = 0.5
"""Wide: so much planted noise moves thresholds further than a real release should."""

REVIEW_SEED = 5


@dataclass(frozen=True)
class Stage:
    """The definitions and the instance that the walk-through drives."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    settings: Settings


def run_demo(root: Path, size: WorldSize = FULL) -> None:
    """Build, dump, fit on noisy labels, land reviews, refit, and say what came of it.

    Raises
    ------
    InputError
        ``root`` holds something that no demo made, or another demo is running in it.
    RefusedError
        A run failed; the instance under ``root`` holds its log.
    """
    start = time.monotonic()
    root = root.absolute()
    with _lock(root):
        _say(f"1/6 demo world in {root}")
        with progress.bar("drawing", "image") as show:
            world = build_world(root, size, on_progress=show)
        settings = _prepare(world)
        with _instance(root, settings) as instance:
            stage = Stage(build_definitions(settings), instance, settings)
            _sync_and_dump(stage)
            _say("4/6 mislabel candidates and tiers, on the noisy labels")
            _run(stage, jobs.REFIT_JOB)
            before = _snapshot(stage)
            _say(f"    scorecard of the checkpoints: {_verdicts(before.scorecard)}")
            _say(f"    label sensor: {tick(stage)}")
            _run(stage, "image_issues_job")
            _run(stage, jobs.GATE_JOB)
            _run(stage, "gate_monitoring_job")
            _say("    the first release is taken as deployed; the next is compared with it")
            deployed = _deploy(root, settings)
            stage = Stage(build_definitions(deployed), instance, deployed)
            _say("5/6 blind packet, reviews, and what the label sensor makes of them")
            _run(stage, "mislabel_job", assets=["review_packet"])
            n_reviews = _land_reviews(stage, world)
            request = tick(stage)
            if not isinstance(request, dg.RunRequest):
                raise RefusedError(f"the label sensor did not ask for a refit: {request}")
            _say(f"    {n_reviews} reviews landed; the label sensor asks for one refit")
            run_id = _checked(run_request(stage, request), jobs.REFIT_JOB)
            _say(f"    label sensor, one tick later: {tick(stage)}")
            _run(stage, "mislabel_job", assets=["next_reviews"])
            ranked = read_stored(stage.settings, "next_reviews").frame
            n_open = ranked.filter(pl.col("why") != "not_reviewed").height
            _say(f"    {n_open} reviewed images need another reader; next_reviews ranks them")
            _say("6/6 what came of it")
            print(_closing_tables(stage, world, before, run_id))
        print(_where_to_look(root, settings, time.monotonic() - start))


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One demo at a time in a folder; the kernel drops the lock of a killed one."""
    foreign = root.is_dir() and any(root.iterdir()) and not (root / ".demo.lock").exists()
    if foreign or root.is_file():
        raise InputError(f"{root}: not empty and not made by the demo; pass another --root")
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".demo.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{root}: another demo is running here; wait or pass --root") from None
        yield


def _prepare(world: World) -> Settings:
    """Remove what an earlier demo left (no stale slot or run can hold this one up), then set up."""
    root = world.root
    for name in REMADE:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    home = root / "dagster_home"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        text = package_files("dagster_project").joinpath(name).read_text(encoding="utf-8")
        write_text(home / name, text)
    (root / "label_drop").mkdir()
    write_checkpoints(root / CHECKPOINTS, seed=world.seed)
    write_json(root / ROLLUP, ROLLED_UP)
    gate_scores, gate = write_demo_gate(root / GATE)
    given = load_settings()
    values = {
        "MODEL_URI": root / "model_bucket",
        "DATASET_DIR": root / "dataset",
        "LABELS_URI": root / "label_drop",
        "TIER_REFIT_STORE": root / "store",
        "TIER_REFIT_CHECKPOINTS": root / CHECKPOINTS,
        "TIER_REFIT_TAXONOMY": EXAMPLES["by_morphology"],
        "TIER_REFIT_ROLLUP": root / ROLLUP,
        "TIER_REFIT_GATE_SCORES": gate_scores,
        "TIER_REFIT_GATE": gate,
        "NUM_SHARDS": given.num_shards if "num_shards" in given.model_fields_set else SHARDS,
        "TIER_REFIT_BATCH_SIZE": BATCH,
        "TIER_REFIT_PACKET_SIZE": PACKET_SIZE,
        "TIER_REFIT_MAX_THRESHOLD_CHANGE": MAX_CHANGE,
        "TIER_REFIT_REVIEWERS": ",".join(reader.name for reader in REVIEWERS),
    }
    lines = [f"{name}={value}" for name, value in values.items()]
    write_text(root / SETTINGS_FILE, "\n".join(lines) + "\n")
    return use_settings_of(root)


def _deploy(root: Path, settings: Settings) -> Settings:
    """What a person does with a release that is good: its values become the deployed ones."""
    released = (settings.releases_dir / "latest" / "thresholds.env").read_text(encoding="utf-8")
    known = (root / SETTINGS_FILE).read_text(encoding="utf-8")
    write_text(root / SETTINGS_FILE, known + released)
    return use_settings_of(root)


@contextmanager
def _instance(root: Path, settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(root / "dagster_home")) as instance:
        # explicit: on a fresh database the first backfill ignores the default limit
        instance.event_log_storage.set_concurrency_slots(GPU_POOL, settings.gpu_slots)
        yield instance


def _sync_and_dump(stage: Stage) -> None:
    _say("2/6 the model in service, checkpoints that could replace it, and the dataset")
    _run(stage, "model_sync_job")
    _run(stage, "checkpoint_sync_job")
    _run(stage, "dataset_job")
    keys = shard_keys(stage.settings)
    names = ", ".join(recipe.name for recipe in CANDIDATES)
    _say(f"3/6 probabilities, {len(keys)} shards a split; of {names} for the test split only")
    _dump(stage, jobs.DUMP_JOB, [[asset] for asset in DUMPS.values()])
    _dump(
        stage,
        jobs.CHECKPOINT_DUMP_JOB,
        [[f"{recipe.name}/{DUMPS['test']}" for recipe in CANDIDATES]],
    )


def _dump(stage: Stage, job: str, selections: Sequence[Sequence[str]]) -> None:
    """Each selection of ``job``, shard by shard."""
    todo = [(assets, key) for assets in selections for key in shard_keys(stage.settings)]
    shards = sum(len(assets) for assets, _ in todo)
    done = 0
    with progress.bar("dumping", "shard") as show:
        for assets, key in todo:
            _run(stage, job, assets=assets, partition=key)
            done += len(assets)
            show(done, shards)


def _run(
    stage: Stage,
    job: str,
    *,
    assets: Sequence[str] | None = None,
    partition: str | None = None,
) -> str:
    """One run in this process; its log goes to the instance."""
    definition = stage.definitions.resolve_job_def(job)
    if assets is not None:
        definition = definition.get_subset(asset_selection={asset_key(a) for a in assets})
    result = definition.execute_in_process(
        instance=stage.instance,
        partition_key=partition,
        run_config=QUIET,
        raise_on_error=False,
    )
    return _checked(result, job)


def run_request(stage: Stage, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """What the daemon does with a run request, without the daemon."""
    definition = stage.definitions.resolve_job_def(jobs.REFIT_JOB).get_subset(
        asset_selection=set(request.asset_selection or ()),
        asset_check_selection=set(request.asset_check_keys or ()),
    )
    return definition.execute_in_process(
        instance=stage.instance,
        tags=dict(request.tags),
        run_config=QUIET,
        raise_on_error=False,
    )


def _checked(result: dg.ExecuteInProcessResult, job: str) -> str:
    if not result.success:
        failed = [e.step_key for e in result.all_events if e.is_step_failure]
        raise RefusedError(
            f"{job} failed in {', '.join(map(str, failed))}; see run {result.run_id}"
        )
    return result.run_id


def tick(stage: Stage) -> dg.RunRequest | str:
    """One evaluation of the label sensor, exactly as the daemon makes it."""
    sensor = stage.definitions.resolve_sensor_def("label_sensor")
    with dg.build_sensor_context(
        instance=stage.instance,
        definitions=stage.definitions,
        sensor_name="label_sensor",
        resources={"settings": stage.settings},
    ) as context:
        data = sensor.evaluate_tick(context)
    if data.run_requests:
        return data.run_requests[0]
    return str(data.skip_message)


@dataclass(frozen=True)
class Snapshot:
    """What stood in the store before the reviews."""

    report: dict[str, Any]
    labels: pl.DataFrame
    flagged: pl.DataFrame
    scorecard: dict[str, Any]


def _snapshot(stage: Stage) -> Snapshot:
    report = json.loads(read_stored(stage.settings, "tier_report").metadata["report"])
    labels = read_stored(stage.settings, "cleaned_labels").frame
    judged = read_stored(stage.settings, "mislabel_candidates").frame
    card = json.loads(read_stored(stage.settings, "checkpoint_scorecard").metadata["card"])
    return Snapshot(report, labels, judged.filter("flagged"), card)


def _land_reviews(stage: Stage, world: World) -> int:
    """Three simulated dermatologists fill in the packet's sheets and put them into the drop."""
    row = read_stored(stage.settings, "review_packet").frame.row(0, named=True)
    folder, drop = Path(row["folder"]), Path(stage.settings.labels_uri)
    key = tables.read_table(folder / "key.parquet", ["presented_uuid", "image_uuid", "role"])
    shown = key.select("image_uuid", "role", sheet_uuid="presented_uuid")
    n_reviews = 0
    for reader in REVIEWERS:
        sheet = tables.read_table(folder / "hand_out" / reader.name / SHEET, ["image_uuid"])
        asked = sheet.select(sheet_uuid="image_uuid")
        asked = asked.join(shown, on="sheet_uuid", maintain_order="left")
        again = pl.col("role") == "repeat"
        said = [
            _answers(reader.name, asked.filter(~again), stage, world, seed=REVIEW_SEED),
            _answers(reader.name, asked.filter(again), stage, world, seed=REVIEW_SEED + 1),
        ]
        tables.write_csv(drop / answer_name(row["packet"], reader.name), pl.concat(said))
        n_reviews += asked.height
    return n_reviews


def _answers(
    reader: str, asked: pl.DataFrame, stage: Stage, world: World, *, seed: int
) -> pl.DataFrame:
    """What one reader says; of an image that is shown again, at another moment (``seed``)."""
    classes = (stage.settings.models_dir / "current" / "labels.txt").read_text().split()
    said = simulate_reviews(read_truth(world), asked["image_uuid"].to_list(), classes, seed=seed)
    return said[reader].with_columns(asked["sheet_uuid"].alias("image_uuid"))


def _closing_tables(stage: Stage, world: World, before: Snapshot, run_id: str) -> str:
    after = _snapshot(stage)
    parts = [
        _tier_lines(before.report, after.report),
        _planted_lines(world, before, after) + _picture_lines(stage, world),
        _estimated_lines(stage, world, before),
        _checkpoint_lines(after.scorecard),
        _rollup_lines(stage),
        _gate_lines(stage),
        _recomputed_lines(stage, run_id),
    ]
    return "\n" + "\n\n".join("\n".join(lines) for lines in parts)


def _tier_lines(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Thresholds and tiers, before and after the reviews."""
    lines = [f"{'':34}{'noisy labels':>14}{'after reviews':>15}"]
    for name in ("confident", "refer", "possible_item"):
        pair = old["thresholds"][name], new["thresholds"][name]
        lines.append(f"{'threshold ' + name:34}{pair[0]:>14.3f}{pair[1]:>15.3f}")
    for tier in ("confident", "possible", "refer"):
        for field, label in (("share", "share"), ("top1", "top-1"), ("top3", "top-3")):
            pair = old["tiers"][tier][field], new["tiers"][tier][field]
            lines.append(f"{tier + ' ' + label:34}{_percent(pair[0]):>14}{_percent(pair[1]):>15}")
    for outcome in ("possible_miss", "confident_wrong"):
        pair = 1000 * old["outcomes"][outcome], 1000 * new["outcomes"][outcome]
        label = outcome.replace("_", " ") + " per 1,000"
        lines.append(f"{label:34}{pair[0]:>14.1f}{pair[1]:>15.1f}")
    estimates = [
        f"{1000 * report['partial_review']['confident_wrong']['estimate']:.1f}"
        if report["partial_review"] and report["partial_review"]["confident_wrong"]["estimate"]
        else "-"
        for report in (old, new)
    ]
    lines.append(f"{'  estimated for all labels':34}{estimates[0]:>14}{estimates[1]:>15}")
    lines.append(f"{'images scored':34}{old['n']:>14}{new['n']:>15}")
    return lines


def _planted_lines(world: World, before: Snapshot, after: Snapshot) -> list[str]:
    """What was planted and what was found; the only place where the truth is read."""
    truth = read_truth(world)
    lines = ["planted and found"]
    for split in DUMPS:
        examined = truth.filter(pl.col("split") == split)["image_uuid"].to_list()
        flagged = before.flagged.filter(pl.col("split") == split)["image_uuid"].to_list()
        found = scoring.score_flags(flagged, truth, examined=examined)
        lines.append(
            f"  {split}: {found['noise_found']} of {found['noise_planted']} wrong labels and "
            f"{found['garbage_flagged']} of {found['garbage_planted']} garbage images among "
            f"{found['flagged']} candidates"
        )
        lines.append(
            f"  {split}: pruning every candidate would wrongly drop "
            f"{found['naive_prune_wrongly_dropped']} good rows"
        )
    cleaned = scoring.score_cleaning(before.labels, after.labels, truth)
    lines.append(
        f"  reviews corrected {cleaned['corrected']} labels, spoiled {cleaned['spoiled']}, "
        f"took out {cleaned['dropped_garbage']} garbage images; labels right "
        f"{_percent(cleaned['accuracy_before'])} -> {_percent(cleaned['accuracy_after'])}"
    )
    return lines


def _picture_lines(stage: Stage, world: World) -> list[str]:
    """Planted and found, of the pictures themselves."""
    found = read_stored(stage.settings, "image_issues").frame
    score = scoring.score_pictures(found, read_truth(world))
    return [
        f"  pictures: {score['garbage_found']} of {score['garbage_planted']} garbage images called "
        f"no skin, and {score['not_skin_wrongly']} others; {score['copies_found']} of "
        f"{score['copies_planted']} cropped copies found, and {score['pairs_wrongly']} other pairs",
    ]


def _estimated_lines(stage: Stage, world: World, before: Snapshot) -> list[str]:
    """What the returned packet says of labels that nobody was asked about, beside the truth."""
    found = json.loads(read_stored(stage.settings, "review_findings").metadata["findings"])
    test = found["splits"]["test"]
    lines = [f"{'test labels, by the reviews':34}{'estimate':>14}{'95 %':>18}{'planted':>10}"]
    if test["reason"] is not None:
        return [*lines, f"  {test['reason']}"]
    truth = read_truth(world).filter(pl.col("split") == "test", ~pl.col("is_garbage"))
    skin = truth["image_uuid"].to_list()
    flagged = before.flagged.filter(pl.col("image_uuid").is_in(skin))["image_uuid"].to_list()
    planted = scoring.score_flags(flagged, truth)
    (precision,) = (row for row in test["precision"] if row["kind"] == "flagged")
    for label, item, true in (
        ("wrong", test["noise"], planted["noise_share"]),
        ("wrong, of those flagged", precision, planted["precision"]),
        ("flagged, of those wrong", test["recall"], planted["noise_recall"]),
    ):
        ends = item["ci95"]
        told = "-" if ends is None else f"{_percent(ends[0])} to {_percent(ends[1])}"
        lines.append(f"  {label:32}{_percent(item['estimate']):>14}{told:>18}{_percent(true):>10}")
    return lines


def _verdicts(card: dict[str, Any]) -> str:
    """One word a candidate."""
    judged = [row for row in card["configs"] if row["verdict"]]
    return ", ".join(f"{row['config']} {row['verdict']}" for row in judged)


def _checkpoint_lines(card: dict[str, Any]) -> list[str]:
    """Which checkpoint to ship, on the labels in force: a line and a sentence each."""
    lines = [
        f"{'checkpoint, by reviewed labels':34}{'top-1':>8}{'balanced':>10}"
        f"{'difference, 95 %':>26}  verdict"
    ]
    why: list[str] = []
    for row in card["configs"]:
        name = row["config"]
        line = f"  {name:32}{_percent(row['top1']):>8}{_percent(row['balanced_accuracy']):>10}"
        if row["verdict"] is not None:
            change = card["comparisons"][name]["differences"]["balanced_accuracy"]
            line += f"{_points(change):>26}  {row['verdict']}"
            said = f"{name}: {row['sentence']}"
            why += textwrap.wrap(said, 92, initial_indent="  ", subsequent_indent="    ")
        lines.append(line)
    return lines + why


def _rollup_lines(stage: Stage) -> list[str]:
    """What a coarser answer wins and costs where the class is unsure, on reviewed labels."""
    from dagster_project.lib.rollup.words import summary_lines

    report = json.loads(read_stored(stage.settings, "rollup_evaluation").metadata["report"])
    lines = ["rolled up to a family or a group where the class is unsure"]
    for said in summary_lines(report):
        lines += textwrap.wrap(said, 92, initial_indent="  ", subsequent_indent="    ")
    return lines


def _gate_lines(stage: Stage) -> list[str]:
    """What the gate that was frozen on synthetic scores does."""
    report = json.loads(read_stored(stage.settings, "gate_operating_points").metadata["points"])
    name = report["freeze"]["point"]
    point = report["points"][name]
    answered, missed, slips = (
        _percent(point["evaluation"][key]["rate"]) for key in ("accept_rate", "fn_in", "fp_cens")
    )
    said = (
        f"{answered} answered; no answer to {missed} of those in range; an answer to {slips} of "
        f"those out of range, {_percent(point['bounds']['fp_cens']['upper'])} at most (certified)"
    )
    return [
        f"a gate on synthetic |Q| scores: {name}, no answer below {point['tau']:.3g}",
        *textwrap.wrap(said, 92, initial_indent="  ", subsequent_indent="    "),
    ]


def _recomputed_lines(stage: Stage, run_id: str) -> list[str]:
    """Materializations of every asset, in all and in the refit, read from the event log."""
    graph = stage.definitions.resolve_asset_graph()
    in_refit = {
        record.asset_key.to_user_string()
        for record in stage.instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        if record.asset_key
    }
    lines = [f"{'asset (from the event log)':34}{'materialized':>14}{'by the refit':>15}"]
    dumped_again = 0
    for key in sorted(graph.get_all_asset_keys(), key=lambda k: k.to_user_string()):
        name = key.to_user_string()
        count = len(stage.instance.fetch_materializations(key, limit=1000).records)
        if count:
            lines.append(f"{name:34}{count:>14}{'again' if name in in_refit else '-':>15}")
        dumped_again += name.endswith(tuple(DUMPS.values())) and name in in_refit
    total = len(lines) - 1
    lines.append(
        f"{len(in_refit)} of {total} assets recomputed, {dumped_again} shards dumped again"
    )
    return lines


def _where_to_look(root: Path, settings: Settings, seconds: float) -> str:
    here = Path.cwd()
    root = root.relative_to(here) if root.is_relative_to(here) else root
    places = {
        "releases/latest/report.html": "the release as a page whose thresholds can be moved",
        "releases/latest/report.md": "the same in words",
        "report/tier_thresholds.png": "coverage curve with the thresholds marked",
        "report/scorecard/scorecard.md": "which checkpoint to ship, and why",
        "report/rollup/rollup_report.md": "what a coarser answer gains where the class is unsure",
        "report/gate/operating_points.md": "where a gate stops answering, and what that costs",
        "report/mislabels/test/": "candidates, worst first, with their picture",
        "report/image_issues/": "garbage, copies, contradicting copies, clusters",
        "packets/": "the blind packet: unzip one, double-click index.html",
        "report/review_findings.png": "what the reviews taught",
        "manifests/latest/": "the manifest for the next training",
    }
    paths = {f"{root}/{settings.store.name}/{place}": about for place, about in places.items()}
    width = max(map(len, paths))
    lines = [f"  {path:{width}}  {about}" for path, about in paths.items()]
    return "\n".join(
        [
            f"\ndone in {seconds:.0f} s. Open:",
            *lines,
            f"the Dagster UI on it, evaluation_summary first: make ui ROOT={root}",
            f"the settings it ran with: {root / SETTINGS_FILE}",
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _points(change: dict[str, float | None]) -> str:
    """A difference of shares and its interval, in percentage points."""
    ends = [change[end] for end in ("estimate", "low", "high")]
    if None in ends:
        return "-"
    estimate, low, high = (100 * end for end in ends if end is not None)
    return f"{estimate:+.1f} ({low:+.1f} to {high:+.1f})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
