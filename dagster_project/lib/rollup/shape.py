"""The shape of thresholds: for each rank the loosest one that is right often enough, on patients A.

Belongs: one pass over the ranks, finest first; which ranks cannot reach their aim.
Does not: certifying anything (``shift``); a shape is a plug-in fit and claims nothing.
Concept: a rank is judged on the rows that reach it, those that no finer rank has answered.
N = images, R = ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

    Ask = Callable[[int, Bools], tuple[Floats, Bools]]
    """(rank, (R,) which finer ranks have a threshold) -> (N,) scores, NaN where there is nothing to
    say, and (N,) whether it would be right."""

SCALE = 1_000_000
"""Thresholds are k / SCALE; scores that share a step are tied."""

LEAST_PATIENTS = 30
"""A threshold that answers fewer patients has not been seen to be right often."""


@dataclass(frozen=True)
class Shape:
    """Thresholds before the shift.

    Attributes
    ----------
    thresholds : (R,) float64 on the grid; NaN where disabled.
    disabled : number of the rank -> why.
    """

    thresholds: Floats
    disabled: dict[int, str]


def fit_shape(
    ask: Ask,
    patient: Ints,
    aims: Sequence[float | None],
    *,
    least_patients: int = LEAST_PATIENTS,
) -> Shape:
    """For each rank, finest first, the smallest threshold whose accuracy reaches the rank's aim.

    At each rank the number of rows answered is maximised, subject to (right / answered) >= aim
    among the rows answered there, for at least ``least_patients`` patients. Accuracy is not
    monotone in the threshold: the smallest that reaches the aim is taken, even where stricter ones
    do not. Rows that a rank does not answer flow to the next coarser one; so do all rows of a
    disabled rank. Greedy by design: a row is answered as finely as the aims allow.

    Parameters
    ----------
    ask : what the N rows could say at a rank, given which finer ranks have a threshold.
    patient : (N,) whole numbers, one a patient.
    aims : (R,) accuracies in [0, 1]; None: the rank is never said.

    Returns
    -------
    Thresholds are k / 10^6: a score is rounded down to the step below it, so that the row itself
    clears it, and rows that share a step enter together (ties are never split).
    """
    left = np.ones(patient.size, dtype=bool)
    thresholds = np.full(len(aims), np.nan)
    disabled: dict[int, str] = {}
    for rank, aim in enumerate(aims):
        if aim is None:
            disabled[rank] = "accuracy does not name it, so it is never said"
            continue
        score, right = ask(rank, ~np.isnan(thresholds))
        here = left & ~np.isnan(score)
        found, best = _loosest(score[here], right[here], patient[here], aim, least_patients)
        if found is None:
            disabled[rank] = _why(int(here.sum()), best, aim, least_patients)
            continue
        thresholds[rank] = found
        left &= ~(score >= found)
    return Shape(thresholds, disabled)


def floor_steps(score: Floats) -> Ints:
    """(N,) int64 the largest k with k / SCALE <= score.

    >>> floor_steps(np.array([0.3, 0.9999999, 1.0])).tolist()
    [300000, 999999, 1000000]
    """
    # the product may round across a whole number, either way; division is correctly rounded
    steps = np.floor(score * SCALE).astype(np.int64) + 1
    steps -= steps / SCALE > score
    return steps - (steps / SCALE > score)


def _loosest(
    score: Floats, right: Bools, patient: Ints, aim: float, least_patients: int
) -> tuple[float | None, float | None]:
    """The smallest threshold that reaches the aim; and the best accuracy of enough patients."""
    steps = floor_steps(score)
    order = np.argsort(-steps, kind="stable")
    steps, right, patient = steps[order], right[order], patient[order]
    ends = np.flatnonzero(np.append(steps[1:] != steps[:-1], [True] * bool(steps.size)))
    first = np.zeros(steps.size, dtype=np.int64)
    first[np.unique(patient, return_index=True)[1]] = 1
    enough = np.cumsum(first)[ends] >= least_patients
    accuracy = np.cumsum(right)[ends] / (ends + 1)
    reached = np.flatnonzero(enough & (accuracy >= aim))
    best = float(accuracy[enough].max()) if enough.any() else None
    return (float(steps[ends[reached[-1]]] / SCALE) if reached.size else None), best


def _why(n: int, best: float | None, aim: float, least_patients: int) -> str:
    if best is None:
        return f"fewer than {least_patients} patients of A reach it ({n:,} images)"
    return (
        f"no threshold reaches {100 * aim:.1f} % on A: the best of at least {least_patients} "
        f"patients is {100 * best:.1f} %"
    )
