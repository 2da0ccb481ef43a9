"""From files to the inputs of a scorecard: what the command line and a notebook start with.

Belongs: reading tables, labels and the list of checkpoints; refusing what does not fit together.
Does not: any statistic, what a run of assets reads (``defs``).
Concept: everything is read and checked before anything is computed. M configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.consensus import DECIDED
from dagster_project.lib.labels.given import read_labels, text_ids
from dagster_project.lib.probability_table import ProbabilityTable, read_probabilities
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.release.inputs import labels_of
from dagster_project.lib.scorecard.answers import same_rows
from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints, read_checkpoints
from dagster_project.lib.scorecard.noise import Noise, from_joint, from_reviews
from dagster_project.lib.scorecard.scorecard import ScorecardInputs, check_names
from dagster_project.lib.scorecard.tta import tta_gain

if TYPE_CHECKING:
    from dagster_project.lib.scorecard.answers import Answers
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.thresholds import Thresholds

_BESIDE = ("patient_id", "status", "inclusion_probability")
"""Columns of a label file that say more than the label."""


@dataclass(frozen=True)
class ScorecardFiles:
    """Where the inputs are.

    Attributes
    ----------
    probs : configuration -> its parquet files, shards of one table; the first is the baseline.
    baseline : another one; None: the first, or the one that ``checkpoints`` declares.
    labels : in force; None: those that travel with the baseline's table.
    given_labels : before cleaning, where those in force are cleaned.
    classes : labels.txt, where the parquet names none.
    checkpoints : levers, seeds and the rule; None: the built-in rule, and each configuration is a
        recipe of its own.
    """

    probs: Mapping[str, Sequence[Path]]
    baseline: str | None = None
    labels: Path | None = None
    given_labels: Path | None = None
    classes: Path | None = None
    checkpoints: Path | None = None


def read_inputs(
    found: ScorecardFiles,
    *,
    thresholds: Thresholds | None = None,
    policy: TierPolicy | None = None,
    on_progress: OnProgress = silent,
) -> ScorecardInputs:
    """Read and check everything, with the gain of TTA and the noise of the labels.

    Raises
    ------
    InputError
        A file that is wrong; names that are not those of ``checkpoints``; other rows, classes or
        labels in one table than in the first.
    """
    checkpoints = _checkpoints(found)
    check_names(found.probs, checkpoints)
    steps = len(found.probs) + 1
    read: dict[str, ProbabilityTable] = {}
    for name, paths in found.probs.items():
        read[name] = read_probabilities(list(paths), found.classes)
        on_progress(len(read), steps, name)
    base = read[checkpoints.baseline]
    labels = _labels(found.labels, base)
    if found.labels is None:
        _check_same_labels(read, checkpoints.baseline)
    given = None if found.given_labels is None else read_labels(found.given_labels, base.classes)
    answers = same_rows(read, labels)
    gain = tta_gain(base, labels)
    on_progress(steps, steps, "TTA against plain")
    return ScorecardInputs(
        answers=answers,
        checkpoints=checkpoints,
        given=given,
        thresholds=thresholds,
        policy=policy,
        tta=gain,
        noise=_noise(answers, checkpoints.baseline, labels, given),
        levers_known=found.checkpoints is not None,
    )


def _checkpoints(found: ScorecardFiles) -> Checkpoints:
    if found.checkpoints is None:
        return _undeclared(found)
    declared = read_checkpoints(found.checkpoints)
    wanted = found.baseline
    flagged = next((entry.name for entry in declared.entries if entry.baseline), None)
    if wanted is None or wanted == declared.baseline:
        return declared
    if flagged is not None:
        raise InputError(
            f"--baseline {wanted}: {found.checkpoints.name} declares {flagged}; leave the option "
            "out, or change the file"
        )
    if wanted not in {entry.name for entry in declared.entries}:
        raise InputError(
            f"--baseline {wanted}: no entry of {found.checkpoints.name} has that name; it has "
            f"{some(entry.name for entry in declared.entries)}"
        )
    levers = declared.recipe_of(wanted)
    if levers:
        raise InputError(
            f"--baseline {wanted}: {found.checkpoints.name} says that it changed {some(levers)}; "
            "levers are what differs from the baseline: list all entries against it, or leave the "
            "option out"
        )
    entries = (replace(entry, baseline=entry.name == wanted) for entry in declared.entries)
    return replace(declared, entries=tuple(entries))


def _undeclared(found: ScorecardFiles) -> Checkpoints:
    """The built-in rule; each configuration is a recipe of its own, with one run."""
    baseline = found.baseline or next(iter(found.probs))
    if baseline not in found.probs:
        raise InputError(
            f"--baseline {baseline}: no --probs has that name; there are {some(found.probs)}"
        )
    return Checkpoints(
        tuple(
            Checkpoint(
                name=name,
                model="",
                changed=() if name == baseline else (name,),
                baseline=name == baseline,
            )
            for name in found.probs
        )
    )


def _labels(path: Path | None, table: ProbabilityTable) -> pl.DataFrame:
    """``image_uuid, label`` and what else the file says of an image (:data:`_BESIDE`).

    Of labels that cleaning wrote too (``labels.given.labels_on``).
    """
    labels = labels_of(path, table)
    if path is None:
        return labels
    frame = tables.read_table(path, ["image_uuid", "label"])
    beside = frame.select(
        text_ids(path.name, frame["image_uuid"]), *(c for c in _BESIDE if c in frame.columns)
    )
    return labels.join(beside, on="image_uuid", how="left", maintain_order="left")


def _check_same_labels(read: Mapping[str, ProbabilityTable], baseline: str) -> None:
    """Labels that travel with the tables must not contradict the baseline's."""
    ours = read[baseline].frame.select("image_uuid", "label")
    for name, table in read.items():
        if "label" in table.frame.columns:
            both = ours.join(table.frame.select("image_uuid", other="label"), on="image_uuid")
            differ = both.filter(pl.col("label").ne_missing(pl.col("other")))
            if differ.height:
                raise InputError(
                    f"{name}, column label: other labels than {baseline} on {differ.height} "
                    f"images: {some(differ['image_uuid'].sort())}; pass the labels in force with "
                    "--labels"
                )


def _noise(
    answers: Answers, baseline: str, labels: pl.DataFrame, given: pl.DataFrame | None
) -> Noise:
    """As reviews show it where the labels say which were reviewed, else as the model suspects."""
    if given is None or "status" not in labels.columns:
        return from_joint(answers, baseline)
    cleaned = labels
    if "inclusion_probability" in labels.columns:
        chance = pl.col("inclusion_probability").cast(pl.Float64, strict=False)
        cleaned = labels.with_columns(inclusion_probability=chance)
    decided = cleaned.filter(pl.col("status").is_in(DECIDED))["image_uuid"]
    found = from_reviews(given, cleaned, answers.classes)
    return found or from_joint(answers, baseline, decided=decided)
