"""Measures: one configuration's row of the scorecard.

Belongs: averages, classes, the sink, calibration and operating points of one configuration.
Does not: differences (``paired``), a statistic of its own where another room has it.
Concept: every configuration is measured on the same images against the label in force; every image
counts once. A largest probability that is shared is an answer to nobody: wrong, and of no class.
N = images, P = patients, K = classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.calibration.summary import Forecasts, forecast_summary
from dagster_project.lib.errors import RefusedError
from dagster_project.lib.scorecard.outcomes import (
    NOBODY,
    ClassCounts,
    Outcomes,
    averages,
    class_counts,
    outcomes,
)
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.selection import fit_thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.scorecard.answers import Answers
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.thresholds import Thresholds


def measures(
    answers: Answers,
    config: str,
    *,
    thresholds: Thresholds | None = None,
    policy: TierPolicy | None = None,
) -> dict[str, Any]:
    """Every measure of one configuration, as plain JSON. Shares in [0, 1]; undefined is null.

    Parameters
    ----------
    answers : N >= 1 images.
    thresholds : in service, applied as they are to this configuration's scores.
    policy : by which thresholds are fitted to this configuration. Its certificate is not given
        here; where it is enforced the fitted value is the certified one, without subgroups.

    Returns
    -------
    ``config``, ``n``, ``n_patients``; the six of ``outcomes.averages``; ``ece`` (equal-mass bins),
    ``ece_debiased``, ``temperature``, ``temperature_ci95``, ``nll_top_before``, ``nll_top_after``
    (mean NLL of the top probability at T = 1 and at T), ``aurc``, ``e_aurc``, ``augrc``,
    ``reliability`` and ``notes``, all of ``calibration.summary``.

    ``deployed``, ``refitted`` : ``confident`` and ``refer`` (the thresholds), ``coverage`` (share
    of images that are confident), ``confident_wrong`` (confident and wrong, / N); or ``reason``
    where the policy cannot be met. Null without thresholds, or policy.

    ``per_class`` : ``class, n, n_patients, n_predicted, recall, precision, f1, overprediction`` in
    class order; definitions in ``outcomes.ClassCounts``.

    ``sink`` : the class that swallows the most images of other classes, i.e. of the largest
    ``n_predicted`` less right ones; of equal ones the first by name, null where none does.
    ``class, n_predicted, n_true, overprediction, swallows``; ``swallows`` is where they belong:
    ``class, n, share`` (of that class's images), most first, equal ones by name. It is the largest
    sink, not necessarily a large one: its ``overprediction`` says that.
    """
    k = len(answers.classes)
    found = outcomes(answers.probs[config], answers.true)
    counts = class_counts(found, answers.true, k)
    ranked = forecast_summary(
        Forecasts(found.score, found.right, answers.patient, answers.patients_known)
    )
    scored = _scored(answers, found)
    return {
        "config": config,
        "n": len(answers),
        "n_patients": answers.n_patients,
        **averages(found, answers.true, k),
        "ece": ranked["ece"],
        "ece_debiased": ranked["ece_debiased"],
        "temperature": ranked["temperature"],
        "temperature_ci95": ranked["temperature_ci95"],
        "nll_top_before": ranked["nll_before"],
        "nll_top_after": ranked["nll_after"],
        "aurc": ranked["aurc"],
        "e_aurc": ranked["e_aurc"],
        "augrc": ranked["augrc"],
        "deployed": None if thresholds is None else _operating(scored, thresholds),
        "refitted": None if policy is None else _refitted(scored, policy),
        "sink": _sink(answers, found, counts),
        "per_class": _per_class(answers, counts),
        "reliability": ranked["reliability"],
        "notes": ranked["notes"] + _notes(answers, found, counts),
    }


def _scored(answers: Answers, found: Outcomes) -> pl.DataFrame:
    """As ``tiers.scored_rows.score_rows`` has them, as far as thresholds need."""
    return pl.DataFrame(
        {
            "image_uuid": answers.image_uuid,
            "patient_id": pl.Series(answers.patient).cast(pl.String),
            "score": found.score,
            "top1": found.right,
            "top3": found.top3,
        }
    )


def _operating(scored: pl.DataFrame, at: Thresholds) -> dict[str, Any]:
    confident = tier_of(scored, at) == "confident"
    return {
        "confident": at.confident,
        "refer": at.refer,
        "coverage": int(confident.sum()) / scored.height,
        "confident_wrong": int((confident & ~scored["top1"]).sum()) / scored.height,
    }


def _refitted(scored: pl.DataFrame, policy: TierPolicy) -> dict[str, Any]:
    whole = policy.certify.model_copy(update={"subgroups": ()})
    try:
        fit = fit_thresholds(scored, policy.model_copy(update={"certify": whole}))
    except RefusedError as error:
        return {"reason": str(error)}
    return _operating(scored, fit.thresholds)


def _per_class(answers: Answers, counts: ClassCounts) -> list[dict[str, Any]]:
    k = len(answers.classes)
    pairs = np.unique(answers.true * answers.n_patients + answers.patient)
    patients = np.bincount(pairs // answers.n_patients, minlength=k)
    columns: dict[str, npt.NDArray[Any]] = {
        "n": counts.n,
        "n_patients": patients,
        "n_predicted": counts.n_predicted,
        "recall": counts.recall,
        "precision": counts.precision,
        "f1": counts.f1,
        "overprediction": counts.overprediction,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        # a NaN is not equal to itself
        {"class": name, **{c: v if v == v else None for c, v in zip(columns, row, strict=True)}}  # noqa: PLR0124
        for name, row in zip(answers.classes, rows, strict=True)
    ]


def _sink(answers: Answers, found: Outcomes, counts: ClassCounts) -> dict[str, Any] | None:
    swallowed = (counts.n_predicted - counts.n_right).tolist()
    most = max(swallowed)
    if most == 0:
        return None
    name = min(c for c, n in zip(answers.classes, swallowed, strict=True) if n == most)
    at = answers.classes.index(name)
    theirs = answers.true[(found.predicted == at) & ~found.right]
    taken = np.bincount(theirs, minlength=len(answers.classes)).tolist()
    n_true = int(counts.n[at])
    return {
        "class": name,
        "n_predicted": int(counts.n_predicted[at]),
        "n_true": n_true,
        "overprediction": int(counts.n_predicted[at]) / n_true if n_true else None,
        "swallows": [
            {"class": answers.classes[c], "n": n, "share": n / int(counts.n[c])}
            for n, c in sorted(
                ((n, c) for c, n in enumerate(taken) if n),
                key=lambda pair: (-pair[0], answers.classes[pair[1]]),
            )
        ],
    }


def _notes(answers: Answers, found: Outcomes, counts: ClassCounts) -> list[str]:
    notes = []
    shared = int((found.predicted == NOBODY).sum())
    if shared:
        notes.append(
            f"{shared} of {len(answers)} images have their largest probability in two classes or "
            "more: counted as wrong, and as an answer of no class."
        )
    absent = [c for c, n in zip(answers.classes, counts.n, strict=True) if n == 0]
    if absent:
        notes.append(
            f"{len(absent)} of {len(answers.classes)} classes have no image and are left out of "
            f"balanced accuracy and macro-F1: {', '.join(absent)}."
        )
    return notes
