"""Reliability: what share is right among the images that were given about this probability.

Belongs: equal-mass bins, accuracy with its interval, calibration error with and without debiasing.
Does not: mending it (``temperature``), ranking (``abstention``), drawing (``pictures``).
Concept: the top probability s forecasts the event "the top class is right"; s is calibrated if
P(right | s) = s. N = images, P = patients, B = bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.evidence import proportion

if TYPE_CHECKING:
    import numpy.typing as npt

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """B bins of rising score. Nothing is null: a bin has at least one image.

    Attributes
    ----------
    mean_score : (B,) mean of the top probability in the bin.
    right : counts, accuracy (``rate``) and its interval (NaN with fewer than two patients).
    variance : (B,) of each accuracy by patient, NaN with fewer than two patients.
    """

    mean_score: npt.NDArray[np.float64]
    right: proportion.Proportions
    variance: npt.NDArray[np.float64]

    def rows(self) -> list[dict[str, Any]]:
        """One plain row a bin: n, n_patients, mean_score, accuracy, low, high (null undefined)."""
        columns = {
            "n": self.right.n,
            "n_patients": self.right.n_patients,
            "mean_score": self.mean_score,
            "accuracy": self.right.rate,
            "low": self.right.low,
            "high": self.right.high,
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [
            {k: None if math.isnan(v) else v for k, v in zip(columns, row, strict=True)}
            for row in values
        ]


@dataclass(frozen=True)
class CalibrationError:
    """How far accuracy lies from the forecast, over all bins. Null where it is undefined.

    Attributes
    ----------
    ece : sum over bins of n_b / N * |accuracy_b - mean_score_b|. Too high by noise alone: a
        perfect model has an ECE above 0, and the more so the fewer images a bin has.
    ece_debiased : square root of ``squared``, 0.0 where that is negative: then no error can be
        told from noise on these rows, which is not a proof that there is none.
    squared : debiased squared L2 error, with its sign. Its expectation is right; so for a
        calibrated model it is below 0 about half the time.
    """

    ece: float | None
    ece_debiased: float | None
    squared: float | None


def equal_mass_bins(
    score: npt.NDArray[np.floating[Any]], bins: int = BINS
) -> npt.NDArray[np.int64]:
    """(N,) bin of each row, 0-based and without gaps, rising with the score.

    Equal scores are never split: all rows of one score go where the middle of their block would.
    Bins that get nothing vanish, so that there may be fewer than ``bins``, and of unequal size.

    Parameters
    ----------
    score : (N,) finite. bins : at most so many, >= 1.

    >>> equal_mass_bins(np.array([.1, .2, .3, .4, .4, .4]), 3).tolist()
    [0, 0, 1, 2, 2, 2]
    """
    if not score.size:
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(score)
    ordered = score[order]
    starts = np.flatnonzero(np.append([True], ordered[1:] != ordered[:-1]))
    size = np.diff(starts, append=score.size)
    # whole numbers: the middle of the block as a share of N, times bins, rounded down
    block = (2 * starts + size) * bins // (2 * score.size)
    block = np.cumsum(np.diff(block, prepend=block[0]) > 0)
    found = np.empty(score.size, dtype=np.int64)
    found[order] = np.repeat(block, size)
    return found


def reliability(
    score: npt.NDArray[np.floating[Any]],
    correct: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.int64],
    *,
    bins: int = BINS,
) -> Reliability:
    """Accuracy against the mean forecast in equal-mass bins, with intervals by patient.

    Parameters
    ----------
    score : (N,) top probability in [0, 1], finite. Equal ones share a bin.
    correct : (N,) bool, True where the top class is the truth.
    patient : (N,) whole numbers >= 0; equal numbers are one patient.
    bins : at most so many.

    Returns
    -------
    No bins if N = 0. Intervals are ``proportion.clustered_interval``: Wilson with a design effect
    by patient, 95 %, approximate; and each is for its bin alone, not for all at once.
    """
    group = equal_mass_bins(score, bins)
    n_bins = int(group.max()) + 1 if group.size else 0
    right = proportion.clustered_interval(correct, patient, group, n_groups=n_bins)
    sums = np.bincount(group, weights=score.astype(np.float64), minlength=n_bins)
    return Reliability(
        mean_score=sums / right.n,
        right=right,
        variance=proportion.clustered_variance(correct, patient, group, n_groups=n_bins),
    )


def calibration_error(found: Reliability) -> CalibrationError:
    """ECE over equal-mass bins, and the debiased L2 error.

    Debiased: sum over bins of n_b / N * ((accuracy_b - mean_score_b)^2 - variance_b), where the
    variance of the accuracy is by patient. With one image a patient it is a(1 - a)/(n_b - 1), the
    estimator of Kumar, Liang and Ma; they assume independent rows. L1 (``ece``) and L2
    (``ece_debiased``) are different norms: L2 without noise is at least L1.

    Both are of the *binned* forecast, a lower bound of the true error (same paper, section 3).

    Returns
    -------
    All null without rows; the debiased ones null if a bin has fewer than two patients.

    References
    ----------
    Kumar, Liang, Ma, "Verified uncertainty calibration", NeurIPS 2019, arXiv 1909.10155.
    """
    n = found.right.n
    if not n.size:
        return CalibrationError(None, None, None)
    weight = n / n.sum()
    gap = found.right.rate - found.mean_score
    ece = float(np.sum(weight * np.abs(gap)))
    squared = float(np.sum(weight * (gap**2 - found.variance)))
    if np.isnan(squared):
        return CalibrationError(ece, None, None)
    return CalibrationError(ece, float(np.sqrt(max(squared, 0.0))), squared)
