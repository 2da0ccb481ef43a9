"""The label sensor: refit whenever what is wanted is not what was fitted. Level-triggered.

Belongs: deciding, from the drop and the event log, whether to start one refit, wait, or stop.
Does not: reading a review file (``lib.labels``), fitting.
Concept: each tick compares four values (labels in the drop, the model and the dataset of the
shards, the number of shards) with those that the newest ``tier_thresholds`` recorded as it read
them. No edge can be lost to a tick boundary, a run in flight, a failed run or a reload.

Why not declarative automation: labels that land during a refit are never refitted by it, and a
failed refit is never retried (``docs/automation.md``).
"""

from dataclasses import asdict, dataclass

import dagster as dg
from dagster import DagsterRunStatus as Status

from dagster_project.defs import jobs
from dagster_project.defs.labels import labels_version, read_drop, report_drop
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.probabilities import DUMPS, shard_keys
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.files import digest
from dagster_project.settings import Settings

MAX_ATTEMPTS = 2
"""Automatic attempts at one wanted state; then a person looks, or new labels start afresh."""

WANTED_TAG = "tier_refit/wanted"
ACTIVE = [Status.QUEUED, Status.NOT_STARTED, Status.STARTING, Status.STARTED, Status.CANCELING]
BUSY_ASSETS = {dg.AssetKey("tier_thresholds"), *(dg.AssetKey(name) for name in DUMPS.values())}
BUSY_JOBS = {jobs.REFIT_JOB, jobs.DUMP_JOB}
RUNS_SEEN = 100
PAGE = 20


class NotReadyError(Exception):
    """Nothing can be fitted now; the message is the skip reason."""


@dataclass(frozen=True)
class Basis:
    """What a fit stands on; equal bases need no refit. Recorded on ``tier_thresholds``."""

    label_version: str
    model_tree_hash: str
    dataset_version: str
    n_shards: int

    @property
    def key(self) -> str:
        """One short name for the four values."""
        return digest(asdict(self))


def wanted_basis(instance: dg.DagsterInstance, settings: Settings) -> tuple[Basis, list[str]]:
    """The basis of a fit made now, and what to say of the drop, whose report is renewed.

    Raises
    ------
    NotReadyError
        Shards or dataset are missing or disagree, or the drop cannot be read at the moment.
    """
    from dagster_project.lib.labels.drop import DropUnreadable

    dataset = _newest(instance, "dataset_index")
    given = _newest(instance, "given_labels")
    if dataset is None or given is None:
        raise NotReadyError("waiting for dataset_index and given_labels: materialize them")
    dataset_version = _version(dataset)
    tree_hash = common_model(instance, settings, "test", dataset_version)
    try:
        drop = read_drop(settings, read_stored(settings, "dataset_index"))
    except DropUnreadable as error:
        raise NotReadyError(f"the label drop cannot be read now: {error}") from error
    version = labels_version(settings, _version(given), drop.version)
    basis = Basis(version, tree_hash, dataset_version, settings.num_shards)
    return basis, report_drop(settings, drop)


def common_model(
    instance: dg.DagsterInstance, settings: Settings, split: str, dataset_version: str
) -> str:
    """The one model that all shards of a split were dumped with, from the dataset in force.

    Raises
    ------
    NotReadyError
        A shard is missing, was dumped from another dataset or number of shards, or models differ.
    """
    asset = DUMPS[split]
    models: dict[str, str] = {}
    waiting = []
    for key in shard_keys(settings):
        event = _newest(instance, asset, key)
        if event is None or not table_path(settings, asset, key).is_file():
            waiting.append(key)
            continue
        values = {name: entry.value for name, entry in event.metadata.items()}
        models[key] = str(values.get("model_tree_hash"))
        read = (values.get("dataset_version"), values.get("n_shards"))
        if read != (dataset_version, settings.num_shards):
            waiting.append(key)
    if waiting:
        raise NotReadyError(f"waiting for {asset} shards {some(waiting, 16)} of {dataset_version}")
    if len(set(models.values())) != 1:
        found = ", ".join(f"{key}: {model[:12]}" for key, model in sorted(models.items()))
        raise NotReadyError(f"{asset} shards are of different models ({found}): dump them again")
    return next(iter(models.values()))


def fitted_basis(instance: dg.DagsterInstance) -> Basis | None:
    """What the newest thresholds were fitted on, as they recorded it.

    Only a run that went through counts: one that died after its fit has released nothing.
    """
    record = _newest_record(instance, "tier_thresholds")
    if record is None or record.asset_materialization is None:
        return None
    run = instance.get_run_by_id(record.run_id)
    done = run is not None and run.status == Status.SUCCESS
    return _basis_of(record.asset_materialization) if done else None


def attempts(instance: dg.DagsterInstance, wanted: Basis) -> tuple[int, int]:
    """Runs ever started for ``wanted``, and how many since it was last fitted as wanted.

    A run that succeeded but fitted something else counts as a failed attempt; a revert to labels
    that were once fitted starts afresh.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={WANTED_TAG: wanted.key}), limit=RUNS_SEEN)
    failed = 0
    for run in runs:
        if run.status == Status.SUCCESS and _fitted_by(instance, run.run_id) == wanted:
            break
        failed += 1
    return len(runs), failed


def busy(instance: dg.DagsterInstance) -> bool:
    """Whether a refit or a dump is queued or running."""
    runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE), limit=RUNS_SEEN)
    return any(r.job_name in BUSY_JOBS or BUSY_ASSETS & (r.asset_selection or set()) for r in runs)


def train_side_is_current(instance: dg.DagsterInstance, settings: Settings, wanted: Basis) -> bool:
    """Whether every train shard belongs to the model and dataset of this refit."""
    try:
        model = common_model(instance, settings, "train", wanted.dataset_version)
    except NotReadyError:
        return False
    return model == wanted.model_tree_hash


@dg.sensor(
    job_name=jobs.REFIT_JOB,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one refit when labels, model, dataset or shards are not those last fitted.",
)
def label_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.RunRequest:
    """Compare wanted and fitted; start at most one refit; never raise on what the world does."""
    instance = context.instance
    try:
        wanted, told = wanted_basis(instance, settings)
    except (NotReadyError, InputError) as error:
        return dg.SkipReason(str(error))
    for reason in told:
        context.log.warning(reason)
    fitted = fitted_basis(instance)
    if wanted == fitted:
        return dg.SkipReason(f"thresholds already fitted on labels {wanted.label_version}")
    if busy(instance):
        return dg.SkipReason("a refit or a dump is in progress; labels are looked at after it")
    started, failed = attempts(instance, wanted)
    if failed >= MAX_ATTEMPTS:
        return dg.SkipReason(
            f"labels {wanted.label_version}: {failed} refits did not end in released thresholds "
            "on them; mend the cause and run refit_job by hand, or drop new labels"
        )
    return dg.RunRequest(
        # unique for each attempt: a bare hash would be deduplicated and a revert never run
        run_key=f"{wanted.key}:{fitted.key if fitted else 'none'}:{started}",
        tags={WANTED_TAG: wanted.key},
        # explicit: with a bare target the run's asset selection stays empty
        asset_selection=jobs.refit_assets(train_side_is_current(instance, settings, wanted)),
        asset_check_keys=jobs.REFIT_CHECKS,
    )


def _newest(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> dg.AssetMaterialization | None:
    record = _newest_record(instance, asset, partition)
    return None if record is None else record.asset_materialization


def _newest_record(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> dg.EventLogRecord | None:
    """The newest materialization that a run made; events reported from outside are passed over."""
    wanted = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None
    )
    cursor: str | None = None
    while True:
        found = instance.fetch_materializations(wanted, limit=PAGE, cursor=cursor)
        for record in found.records:
            if instance.has_run(record.run_id):
                return record
        if not found.has_more:
            return None
        cursor = found.cursor


def _version(event: dg.AssetMaterialization) -> str:
    return str((event.tags or {}).get("dagster/data_version"))


def _basis_of(event: dg.AssetMaterialization) -> Basis | None:
    values = {name: entry.value for name, entry in event.metadata.items()}
    if not set(Basis.__annotations__) <= set(values):
        return None
    return Basis(
        label_version=str(values["label_version"]),
        model_tree_hash=str(values["model_tree_hash"]),
        dataset_version=str(values["dataset_version"]),
        n_shards=int(str(values["n_shards"])),
    )


def _fitted_by(instance: dg.DagsterInstance, run_id: str) -> Basis | None:
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    for record in records:
        event = record.asset_materialization
        if event and event.asset_key == dg.AssetKey("tier_thresholds"):
            return _basis_of(event)
    return None
