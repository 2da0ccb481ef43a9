"""What a tick of the label sensor says: what was compared, what follows, what a person can do.

Belongs: the sentences, from values that the sensor has at hand.
Does not: deciding anything (``label_sensor``), reading anything.
Concept: the same words in the tick (skip reason or tick log), on the run (tag ``tier_refit/why``)
and in tests. Counts, versions, and places of faults in files; never a cell of a review.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.lib.errors import some

if TYPE_CHECKING:
    from pathlib import Path

    from dagster_project.defs.label_sensor import Basis
    from dagster_project.lib.labels.drop import Drop

SHORT = 12
PLACES = 3
MANY = 16

UNTRIED = (
    "normalisation none is refused for rows that do not sum to 1, and has not been tried on this "
    "dump: run rollup_job once"
)

_NAMES = {
    "label_version": "labels",
    "model_tree_hash": "model",
    "dataset_version": "dataset",
    "n_shards": "number of shards",
}


def landed(drop: "Drop") -> str:
    """How much the drop holds: ``12 reviews by 2 readers; 3 files, 1 of them refused``."""
    refused = len({refusal.file for refusal in drop.refusals})
    reviews, readers = drop.reviews.height, drop.reviews["reviewer"].n_unique()
    files = f"{_n(drop.n_files, 'file')}" + (f", {refused} of them refused" if refused else "")
    said = f"{_n(reviews, 'review')} by {_n(readers, 'reader')}" if reviews else "no review yet"
    return f"{said}; {files}"


def left_out(drop: "Drop") -> str:
    """Which files are refused, where, and the mend; empty where none is."""
    if not drop.refusals:
        return ""
    places = [refusal.place for refusal in drop.refusals]
    more = f" and {len(places) - PLACES} more faults" if len(places) > PLACES else ""
    return (
        f" Left out of the labels: {'; '.join(places[:PLACES])}{more}. What was accepted of such a "
        "file before stays in force; label_drop_refusals.csv in the report folder names each cell: "
        "mend it and drop the file again."
    )


def differences(wanted: "Basis", fitted: "Basis | None") -> str:
    """What is wanted against what is fitted: ``labels 1a2b where 3c4d are fitted``."""
    if fitted is None:
        return "no finished refit stands behind the newest thresholds"
    pairs = {
        name: (getattr(wanted, field), getattr(fitted, field)) for field, name in _NAMES.items()
    }
    return "; ".join(
        f"{name} {str(new)[:SHORT]} where {str(old)[:SHORT]} was fitted"
        for name, (new, old) in pairs.items()
        if new != old
    )  # fmt: skip


def other_policy(wanted: str, fitted: str | None, file: "Path | None") -> str:
    """Policies by sha256; empty where one is wanted and fitted, or where none was recorded."""
    if fitted is None or wanted == fitted:
        return ""
    name = "the built-in policy" if file is None else f"the policy file {file.name}"
    by = f"{wanted[:SHORT]} where policy {fitted[:SHORT]} was fitted"
    return f"{name}, by which a refit goes, is {by}"


def unreadable_policy(error: Exception) -> str:
    """A refit would fail of it."""
    return f"the policy file cannot be read, mend it before the next refit ({error})"


def nothing_new(wanted: "Basis", drop: "Drop", policy: str, joined: str = "") -> str:
    """Wanted is fitted. ``policy``: how it is another one, else empty; told of, starts nothing.

    ``joined``: from :func:`joined_and_failed`, or empty.
    """
    but = f". But {policy}" if policy else ""
    return (
        f"thresholds are already fitted on what is there: {_whole(wanted, drop)}. The next tick "
        "compares again; new or other reviews start a refit; a changed policy starts none by "
        f"itself: run refit_job{but}.{joined}{left_out(drop)}"
    )


def joined_and_failed(run: dg.DagsterRun, lacking: Sequence[str], mend: Sequence[str]) -> str:
    """A refit counts, and its run failed of what joined it. ``mend``: the jobs that make that.

    Nothing lacks where a check could not be evaluated, or the process died at the very end.
    """
    if not lacking:
        return (
            f" The thresholds stand: {_run(run)} made every asset that it was asked for, and ended "
            "so all the same; its log says of what."
        )
    again = f"run {' and '.join(mend)}" if mend else "make them again by hand"
    return (
        f" The thresholds stand, but {_run(run)} did not make all that joined it. Not made: "
        f"{some(lacking, MANY)}. Read that run's log, mend the cause and {again}."
    )


def wait_for(run: dg.DagsterRun, wanted: "Basis", fitted: "Basis | None", drop: "Drop") -> str:
    """Something is wanted, and a refit or a dump has to end first."""
    return (
        f"{differences(wanted, fitted)} ({landed(drop)}), but {_run(run)} is in progress. What "
        "lands meanwhile is not lost: the first tick after it compares again, and starts one refit "
        f"if that run did not take it along.{left_out(drop)}"
    )


def given_up(runs: Sequence[dg.DagsterRun], failed: int, wanted: "Basis", drop: "Drop") -> str:
    """The wanted state was tried often enough."""
    last = f"; the last was {_run(runs[0])}" if runs else ""
    return (
        f"{failed} refits for {_whole(wanted, drop)} did not end in released thresholds on them"
        f"{last}. None is started by itself any more: read the log, mend the cause and run "
        f"refit_job by hand. New labels, another model or dataset start afresh.{left_out(drop)}"
    )


def joins(train_side: str | None, scorecard: str | None, rollup: str | None = "") -> str:
    """What else is made by a refit. Each is why it does not join; None if it does.

    ``scorecard`` is empty where no checkpoint is listed, ``rollup`` where no taxonomy is set:
    nothing is said of it.
    """
    told = (
        "mislabel assets of the train side join in"
        if train_side is None
        else f"the train side is left out ({train_side})"
    )
    for name, waits in (("the scorecard of checkpoints", scorecard), ("the roll-up", rollup)):
        if waits is None:
            told += f"; {name} joins in"
        elif waits:
            told += f"; {name} is left out ({waits})"
    return told


def starting(
    wanted: "Basis",
    fitted: "Basis | None",
    drop: "Drop",
    attempt: str,
    joins: str,
    policy: str,
) -> str:
    """A refit is asked for. ``joins``: from :func:`joins`.

    ``policy``: how it is another one, else empty; thresholds may then move for that reason, too.
    """
    also = f". Besides, {policy}" if policy else ""
    return (
        f"refit: {differences(wanted, fitted)} ({landed(drop)}){also}. Attempt {attempt}; {joins}; "
        f"no shard is dumped again.{left_out(drop)}"
    )


def checkpoints_wait(reasons: Sequence[str]) -> str:
    """Why checkpoints cannot be compared, the first in words."""
    more = f"; and {_n(len(reasons) - 1, 'more checkpoint')}" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}"


def shards(
    asset: str, missing: Sequence[str], other: Sequence[str], n_shards: int, job: str
) -> str:
    """Which shards a fit waits for: not dumped, or of another dataset or number of shards."""
    parts = [f"{some(missing, MANY)} not dumped yet"] if missing else []
    if other:
        parts.append(f"{some(other, MANY)} dumped from another dataset or number of shards")
    return (
        f"waiting for {asset} shards: {'; '.join(parts)} ({n_shards} of the dataset in force are "
        f"needed); run {job} for them"
    )


def _whole(wanted: "Basis", drop: "Drop") -> str:
    return (
        f"labels {wanted.label_version[:SHORT]} ({landed(drop)}), model "
        f"{wanted.model_tree_hash[:SHORT]}, dataset {wanted.dataset_version[:SHORT]}, "
        f"{_n(wanted.n_shards, 'shard')}"
    )


def _run(run: dg.DagsterRun) -> str:
    return f"run {run.run_id[:8]} of {run.job_name} ({run.status.value.lower()})"


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
