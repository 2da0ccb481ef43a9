"""The label sensor: refit whenever what is wanted is not what was fitted. Level-triggered.

Belongs: deciding, from the drop and the event log, whether to start one refit, wait, or stop.
Does not: reading a review file (``lib.labels``), the words of a tick (``tick_words``), fitting.
Concept: each tick compares four values (labels in the drop, the model and the dataset of the
shards, the number of shards) with those that the newest ``tier_thresholds`` recorded as it read
them. No edge can be lost to a tick boundary, a run in flight, a failed run or a reload. A
changed policy is told of and starts nothing: a person changes it, before the labels are seen.

Why not declarative automation: labels that land during a refit are never refitted by it, and a
failed refit is never retried (``docs/automation.md``).
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterRunStatus as Status

from dagster_project.defs import checkpoints, jobs, rollup, tick_words
from dagster_project.defs.labels import labels_version, read_drop, report_drop
from dagster_project.defs.parquet_io import asset_key, read_stored, table_path
from dagster_project.defs.policy_config import policy_without_run_config
from dagster_project.defs.probabilities import DUMPS, dump_of, dumped_classes, shard_keys
from dagster_project.defs.rollup_config import configured, mask_sha256
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import digest
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.labels.drop import Drop
    from dagster_project.lib.scorecard.checkpoints import Checkpoint

MAX_ATTEMPTS = 2
"""Automatic attempts at one wanted state; then a person looks, or new labels start afresh."""

WANTED_TAG = "tier_refit/wanted"
WHY_TAG = "tier_refit/why"
"""A tick that starts a run shows no text but its log; the run carries the same words."""

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


def wanted_basis(instance: dg.DagsterInstance, settings: Settings) -> tuple[Basis, "Drop"]:
    """The basis of a fit made now, and the drop that it was read from.

    Raises
    ------
    NotReadyError
        Shards or dataset are missing or disagree, or the drop cannot be read at the moment.
    """
    from dagster_project.lib.labels.drop import DropUnreadable

    dataset = _newest(instance, "dataset_index")
    given = _newest(instance, "given_labels")
    if dataset is None or given is None:
        raise NotReadyError("waiting for dataset_index and given_labels: run dataset_job")
    dataset_version = _version(dataset)
    tree_hash = current_dump(instance, settings, DUMPS["test"], dataset_version).model
    try:
        drop = read_drop(settings, read_stored(settings, "dataset_index"))
    except DropUnreadable as error:
        raise NotReadyError(
            f"the label drop cannot be read now: {error}. The thresholds stay as they are; the "
            "next tick tries again"
        ) from error
    version = labels_version(settings, _version(given), drop.version)
    return Basis(version, tree_hash, dataset_version, settings.num_shards), drop


@dataclass(frozen=True)
class CurrentDump:
    """A whole dump of the dataset in force: whose it is, and images it could not score."""

    model: str
    unscored: int


def current_dump(
    instance: dg.DagsterInstance,
    settings: Settings,
    asset: str,
    dataset_version: str,
    job: str = jobs.DUMP_JOB,
) -> CurrentDump:
    """The one model that all shards of a dump are of, from the dataset in force.

    ``asset`` is its key as people write it, ``job`` what dumps it.

    Raises
    ------
    NotReadyError
        A shard is missing, was dumped from another dataset or number of shards, or models differ.
    """
    models: dict[str, str] = {}
    missing, other, unscored = [], [], 0
    for key in shard_keys(settings):
        event = _newest(instance, asset, key)
        if event is None or not table_path(settings, asset, key).is_file():
            missing.append(key)
            continue
        values = _metadata(event)
        models[key] = str(values.get("model_tree_hash"))
        unscored += values.get("rows_without_probabilities", 0)
        read = (values.get("dataset_version"), values.get("n_shards"))
        if read != (dataset_version, settings.num_shards):
            other.append(key)
    if missing or other:
        raise NotReadyError(tick_words.shards(asset, missing, other, settings.num_shards, job))
    if len(set(models.values())) != 1:
        found = ", ".join(f"{key}: {model[:12]}" for key, model in sorted(models.items()))
        raise NotReadyError(
            f"{asset} shards are of different models ({found}): run {job} for the older ones"
        )
    return CurrentDump(next(iter(models.values())), unscored)


def fitted_basis(instance: dg.DagsterInstance) -> Basis | None:
    """What the newest thresholds were fitted on, as they recorded it.

    Only a run that counts as one (:func:`_counts`): one that died after its fit has released
    nothing.
    """
    event = _fitted(instance)
    return None if event is None else _basis_of(event)


def policy_note(instance: dg.DagsterInstance, settings: Settings) -> str:
    """Where the policy of a refit made now is not the one last fitted; empty where it is.

    The policy of a refit made now is the file's or the built-in one: the sensor gives no run
    config. A policy that was fitted by run config is told of, too: the next refit leaves it.
    """
    from dagster_project.lib.tiers.policy import policy_sha256

    event = _fitted(instance)
    fitted = None if event is None else _metadata(event).get("policy_sha256")
    try:
        wanted = policy_sha256(policy_without_run_config(settings))
    except (InputError, OSError) as error:
        return tick_words.unreadable_policy(error)
    return tick_words.other_policy(wanted, fitted, settings.policy)


def joined_note(instance: dg.DagsterInstance) -> str:
    """What the newest fit's run failed of, where it counts all the same; empty where it did not.

    What joined it and was not made is named until it has been made since, by whatever run.
    """
    record = _newest_record(instance, "tier_thresholds")
    run = None if record is None else instance.get_run_by_id(record.run_id)
    if record is None or run is None or run.status == Status.SUCCESS:
        return ""
    planned = _records(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    made = _records(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION)
    lacking = sorted(key.to_user_string() for key in planned.keys() - made.keys())
    newest = {name: _newest_record(instance, name) for name in lacking}
    still = [name for name, r in newest.items() if r is None or r.storage_id < record.storage_id]
    if lacking and not still:
        return ""
    mend = [job for job, names in jobs.JOINS.items() if set(names) & set(still)]
    return tick_words.joined_and_failed(run, still, mend)


def attempts(instance: dg.DagsterInstance, wanted: Basis) -> tuple[list[dg.DagsterRun], int]:
    """Runs ever started for ``wanted``, newest first; how many since it was fitted as wanted.

    A run that fitted something else counts as a failed attempt, too; a revert to labels that were
    once fitted starts afresh.
    """
    runs = list(instance.get_runs(dg.RunsFilter(tags={WANTED_TAG: wanted.key}), limit=RUNS_SEEN))
    failed = 0
    for run in runs:
        if _counts(instance, run) and _fitted_by(instance, run) == wanted:
            break
        failed += 1
    return runs, failed


def busy(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """A refit or a dump that is queued or running."""
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE), limit=RUNS_SEEN):
        if run.job_name in BUSY_JOBS or BUSY_ASSETS & (run.asset_selection or set()):
            return run
    return None


def train_side_waits(instance: dg.DagsterInstance, settings: Settings, wanted: Basis) -> str | None:
    """Why the train side cannot join this refit; None if every train shard is of its basis."""
    try:
        model = current_dump(instance, settings, DUMPS["train"], wanted.dataset_version).model
    except NotReadyError as error:
        return str(error)
    if model == wanted.model_tree_hash:
        return None
    return f"its shards are of model {model[:12]}"


def scorecard_waits(instance: dg.DagsterInstance, settings: Settings, wanted: Basis) -> str | None:
    """Why the scorecard cannot join this refit; None if it can, empty if there is nothing to say.

    A checkpoint that cannot be compared is seen here: in the run it would fail, after the release.
    """
    try:
        entries = checkpoints.configured(settings).entries
    except InputError as error:
        return str(error)
    if not entries:
        return ""
    waiting = [
        reason
        for entry in entries
        if (reason := _checkpoint_waits(instance, settings, wanted, entry)) is not None
    ]
    return tick_words.checkpoints_wait(waiting) if waiting else None


def _checkpoint_waits(
    instance: dg.DagsterInstance, settings: Settings, wanted: Basis, entry: "Checkpoint"
) -> str | None:
    in_service, asset = DUMPS[checkpoints.SPLIT], dump_of(checkpoints.SPLIT, entry)
    version, job = wanted.dataset_version, jobs.CHECKPOINT_DUMP_JOB
    try:
        found = current_dump(instance, settings, asset, version, job)
        against = current_dump(instance, settings, in_service, version)
        same = set(dumped_classes(settings, asset)) == set(dumped_classes(settings))
    except (NotReadyError, InputError) as error:
        return str(error)
    if not same:
        return f"{asset} has other classes than {in_service}: take {entry.name} off the list"
    if found.unscored != against.unscored:
        return (
            f"{asset} has {found.unscored} images without probabilities where {in_service} has "
            f"{against.unscored}: a difference is taken on the same images"
        )
    return None


def rollup_waits(instance: dg.DagsterInstance, settings: Settings, wanted: Basis) -> str | None:
    """Why the roll-up cannot join this refit; None if it can, empty where no taxonomy is set.

    A fault in its files is seen here: in the run it would fail, after the release. So is what only
    a look at the rows could tell: whether they sum to 1, as normalisation none demands.
    """
    if settings.taxonomy is None:
        return ""
    try:
        rollup.check_settings(settings, dumped_classes(settings))
    except (InputError, OSError) as error:
        return str(error)
    untried = jobs.MASKED in rollup_assets(instance, settings, wanted)
    if untried and configured(settings).normalisation == "none":
        return tick_words.UNTRIED
    return None


def rollup_assets(
    instance: dg.DagsterInstance, settings: Settings, wanted: Basis
) -> tuple[str, ...]:
    """What of the roll-up a refit makes again: masked rows only if they are of another basis.

    Or older than a shard: one model dumped again, as in another dtype, has other probabilities.
    """
    both = (jobs.MASKED, *jobs.ROLLUP)
    record, dumped = (_newest_record(instance, name) for name in (jobs.MASKED, DUMPS["test"]))
    if record is None or record.asset_materialization is None:
        return both
    values = _metadata(record.asset_materialization)
    found = [values.get(name) for name in (*rollup.BASIS, "mask_sha256")]
    current = [wanted.model_tree_hash, wanted.dataset_version, str(wanted.n_shards)]
    same = found == [*current, mask_sha256(settings)]
    same = same and (dumped is None or dumped.storage_id < record.storage_id)
    same = same and table_path(settings, jobs.MASKED).is_file()
    return jobs.ROLLUP if same else both


@dg.sensor(
    job_name=jobs.REFIT_JOB,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Starts one refit when labels, model, dataset or shards are not those last fitted. Each "
        "tick says why it did not; why it did is in the tick's log and in the run's tag "
        f"{WHY_TAG}."
    ),
)
def label_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.RunRequest:
    """Compare wanted and fitted; start at most one refit; never raise on what the world does."""
    instance = context.instance
    try:
        wanted, drop = wanted_basis(instance, settings)
    except (NotReadyError, InputError) as error:
        return dg.SkipReason(str(error))
    _report(context, settings, drop)
    policy = policy_note(instance, settings)
    fitted = fitted_basis(instance)
    if wanted == fitted:
        return dg.SkipReason(tick_words.nothing_new(wanted, drop, policy, joined_note(instance)))
    run = busy(instance)
    if run is not None:
        return dg.SkipReason(tick_words.wait_for(run, wanted, fitted, drop))
    runs, failed = attempts(instance, wanted)
    if failed >= MAX_ATTEMPTS:
        return dg.SkipReason(tick_words.given_up(runs, failed, wanted, drop))
    train_side = train_side_waits(instance, settings, wanted)
    attempt = f"{failed + 1} of {MAX_ATTEMPTS}"
    scorecard = scorecard_waits(instance, settings, wanted)
    rolls = rollup_waits(instance, settings, wanted)
    joins = tick_words.joins(train_side, scorecard, rolls)
    why = tick_words.starting(wanted, fitted, drop, attempt, joins, policy)
    context.log.info(why)
    return dg.RunRequest(
        # unique for each attempt: a bare hash would be deduplicated and a revert never run
        run_key=f"{wanted.key}:{fitted.key if fitted else 'none'}:{len(runs)}",
        tags={WANTED_TAG: wanted.key, WHY_TAG: why},
        # explicit: with a bare target the run's asset selection stays empty
        asset_selection=jobs.refit_assets(
            train_side is None,
            scorecard is None,
            rollup_assets(instance, settings, wanted) if rolls is None else (),
        ),
        asset_check_keys=jobs.refit_checks(scorecard is None, rolls is None),
    )


def _report(context: dg.SensorEvaluationContext, settings: Settings, drop: "Drop") -> None:
    """What is refused, where people mend it: a refused file alone starts no run for it."""
    try:
        for line in report_drop(settings, drop):
            context.log.warning(line)
    except OSError as error:
        context.log.warning(f"the report on refused files was not written: {error.strerror}")


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
        asset_key=asset_key(asset), asset_partitions=[partition] if partition else None
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


def _fitted(instance: dg.DagsterInstance) -> dg.AssetMaterialization | None:
    """The newest thresholds, if their run counts."""
    record = _newest_record(instance, "tier_thresholds")
    run = None if record is None else instance.get_run_by_id(record.run_id)
    counts = run is not None and _counts(instance, run)
    return record.asset_materialization if record is not None and counts else None


def _counts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run counts as a refit of what it fitted.

    It does if it went through, or if it has ended with every asset of ``jobs.REFIT`` made: then
    only what joined it failed, and the release is out. Another one would fail of the same again.
    """
    if run.status == Status.SUCCESS or not run.is_finished:
        return run.status == Status.SUCCESS
    made = _records(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {dg.AssetKey(name) for name in jobs.REFIT} <= made.keys()


def _fitted_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Basis | None:
    made = _records(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION)
    record = made.get(dg.AssetKey("tier_thresholds"))
    event = None if record is None else record.asset_materialization
    return None if event is None else _basis_of(event)


def _records(
    instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType
) -> dict[dg.AssetKey, dg.EventLogRecord]:
    """A run's events about assets of one kind, by asset."""
    found = instance.get_records_for_run(run.run_id, of_type=kind).records
    events = [(record.event_log_entry.get_dagster_event(), record) for record in found]
    return {event.asset_key: record for event, record in events if event.asset_key is not None}


def _metadata(event: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: entry.value for name, entry in event.metadata.items()}


def _version(event: dg.AssetMaterialization) -> str:
    return str((event.tags or {}).get("dagster/data_version"))


def _basis_of(event: dg.AssetMaterialization) -> Basis | None:
    values = _metadata(event)
    if not set(Basis.__annotations__) <= set(values):
        return None
    return Basis(
        label_version=str(values["label_version"]),
        model_tree_hash=str(values["model_tree_hash"]),
        dataset_version=str(values["dataset_version"]),
        n_shards=int(str(values["n_shards"])),
    )
