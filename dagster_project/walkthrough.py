"""`tier-refit demo`: the whole chain on the demo world, through a real Dagster instance.

Belongs: the order in which a person would do things, and the closing table.
Does not: making the world (``lib.demo``), any stage (``defs``, ``lib``).
Concept: nothing is asserted here; what was computed again is read from the event log.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.parquet_io import table_path
from dagster_project.defs.probabilities import DUMPS, GPU_POOL, shard_partitions
from dagster_project.lib import demo, progress, tables
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.files import write_text
from dagster_project.settings import SETTINGS_FILE, Settings, load_settings

MARKER = "settings.env"
REMADE = ("dagster_home", "store", "label_drop", MARKER)
"""What a second demo makes anew; the world itself is kept if it is whole."""

PACKET_SIZE = 500


@dataclass(frozen=True)
class Stage:
    """The definitions and the instance that the walk-through drives."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    settings: Settings


def run_demo(root: Path, size: demo.WorldSize = demo.FULL) -> None:
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
        with progress.bar("drawing and fitting", "image") as show:
            world = demo.build_world(root, size, on_progress=show)
        settings = _prepare(root)
        with _instance(root, settings) as instance:
            stage = Stage(build_definitions(settings), instance, settings)
            _sync_and_dump(stage)
            _say("4/6 mislabel candidates and tiers, on the noisy labels")
            _run(stage, jobs.REFIT_JOB)
            before = _state(stage)
            _say(f"    label sensor: {_tick(stage)}")
            _say("5/6 blind packet, reviews, and what the label sensor makes of them")
            _run(stage, "mislabel_job", assets=["review_packet"])
            _land_reviews(stage, world)
            request = _tick(stage)
            if not isinstance(request, dg.RunRequest):
                raise RefusedError(f"the label sensor did not ask for a refit: {request}")
            run_id = _run_request(stage, request)
            _say(f"    label sensor, one tick later: {_tick(stage)}")
            _say("6/6 what came of it\n")
            print(_closing_table(stage, world, before, _state(stage), run_id))
        print(_where_to_look(root, settings, time.monotonic() - start))


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """One demo at a time in a folder; the kernel drops the lock of a killed one."""
    foreign = root.is_dir() and any(root.iterdir()) and not (root / ".demo.lock").exists()
    if foreign:
        raise InputError(f"{root}: not empty and not made by the demo; pass another --root")
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".demo.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{root}: another demo is running here; wait or pass --root") from None
        yield


def _prepare(root: Path) -> Settings:
    """Remove what an earlier demo left (no stale slot or run can hold this one up), then set up."""
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
    values = {
        "MODEL_URI": root / "model_bucket",
        "DATASET_DIR": root / "dataset",
        "LABELS_URI": root / "label_drop",
        "TIER_REFIT_STORE": root / "store",
        "NUM_SHARDS": load_settings().num_shards,
        "TIER_REFIT_PACKET_SIZE": PACKET_SIZE,
        "TIER_REFIT_REVIEWERS": ",".join(demo.REVIEWERS),
    }
    lines = [f"{name}={value}" for name, value in values.items()]
    write_text(root / SETTINGS_FILE, "\n".join(lines) + "\n")
    os.environ["DAGSTER_HOME"] = str(home)
    return load_settings()


@contextmanager
def _instance(root: Path, settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(root / "dagster_home")) as instance:
        # explicit: on a fresh database the first backfill ignores the default limit
        instance.event_log_storage.set_concurrency_slots(GPU_POOL, settings.gpu_slots)
        yield instance


def _sync_and_dump(stage: Stage) -> None:
    _say("2/6 model artifact and dataset")
    _run(stage, "model_sync_job")
    _run(stage, "dataset_job")
    keys = shard_partitions(stage.settings).get_partition_keys()
    todo = [(asset, key) for asset in DUMPS.values() for key in keys]
    _say(f"3/6 probabilities, {len(keys)} shards a split")
    with progress.bar("dumping", "shard") as show:
        for done, (asset, key) in enumerate(todo, start=1):
            _run(stage, jobs.DUMP_JOB, assets=[asset], partition=key)
            show(done, len(todo))


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
        definition = definition.get_subset(asset_selection={dg.AssetKey(a) for a in assets})
    result = definition.execute_in_process(
        instance=stage.instance, partition_key=partition, raise_on_error=False
    )
    return _checked(result, job)


def _run_request(stage: Stage, request: dg.RunRequest) -> str:
    """What the daemon does with a run request, without the daemon."""
    definition = stage.definitions.resolve_job_def(jobs.REFIT_JOB).get_subset(
        asset_selection=set(request.asset_selection or ()),
        asset_check_selection=set(request.asset_check_keys or ()),
    )
    result = definition.execute_in_process(
        instance=stage.instance, tags=dict(request.tags), raise_on_error=False
    )
    return _checked(result, jobs.REFIT_JOB)


def _checked(result: dg.ExecuteInProcessResult, job: str) -> str:
    if not result.success:
        failed = [e.step_key for e in result.all_events if e.is_step_failure]
        raise RefusedError(f"{job} failed in {', '.join(map(str, failed))}; see run {result.run_id}")
    return result.run_id


def _tick(stage: Stage) -> dg.RunRequest | str:
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
