"""What each image's answer counts for: right or not, the class it named, its losses.

Belongs: one configuration's rows as whole numbers, and the six averages that are compared.
Does not: differences (``paired``), resampling (``resampled``), calibration (``measures``).
Concept: everything that is summed is a whole number, so a sum is exact in any order, on any number
of threads. N = images, P = patients, K = classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.calibration.temperature import CLIP
from dagster_project.lib.tiers.scored_rows import TOP, rank_of_truth

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

QUANTUM = 2.0**-30
"""Losses are rounded to multiples of this, once, image by image (an error below 5e-10). Their sums
fit into 63 bits while N * K < 5e8."""

NOBODY = -1
"""``predicted`` of an image whose largest probability is shared."""

_BLOCK = 8192


@dataclass(frozen=True)
class Outcomes:
    """One configuration's answers to N images.

    Attributes
    ----------
    score : (N,) float64, the largest probability; a stored float32 widened exactly.
    predicted : (N,) int64, the class of the largest probability; :data:`NOBODY` where two or more
        share it. So no order of the classes can make an answer, and ``right`` is
        ``predicted == true``.
    right, top3 : (N,) bool, rank of the truth 0, and below 3, ties against the truth
        (``tiers.scored_rows.rank_of_truth``).
    brier, nll : (N,) int64 multiples of :data:`QUANTUM`. Brier: sum over classes of (p - y)^2, in
        [0, K]. NLL: sum of the K binary cross-entropies (natural logarithm), with p in
        [CLIP, 1 - CLIP] of ``calibration.temperature``. y is one-hot.
    """

    score: npt.NDArray[np.float64]
    predicted: Ints
    right: Bools
    top3: Bools
    brier: Ints
    nll: Ints


def outcomes(probs: npt.NDArray[np.floating[Any]], true: npt.NDArray[np.integer[Any]]) -> Outcomes:
    """Score every image.

    Parameters
    ----------
    probs : (N, K) in [0, 1]; rows need not sum to 1. true : (N,) in 0..K-1.

    >>> found = outcomes(np.array([[.9, .2], [.5, .5]]), np.array([0, 0]))
    >>> found.right.tolist(), found.predicted.tolist()
    ([True, False], [0, -1])
    >>> (found.brier * QUANTUM).round(6).tolist()
    [0.05, 0.5]
    """
    n = len(probs)
    score, brier, nll = (np.empty(n) for _ in range(3))
    predicted = np.empty(n, dtype=np.int64)
    for first in range(0, n, _BLOCK):
        here = slice(first, first + _BLOCK)
        p = probs[here].astype(np.float64)
        at = (np.arange(len(p)), true[here])
        score[here] = p.max(axis=1)
        shared = np.count_nonzero(p == score[here, None], axis=1) > 1
        predicted[here] = np.where(shared, NOBODY, p.argmax(axis=1))
        away = p.copy()
        away[at] -= 1
        brier[here] = np.square(away, out=away).sum(axis=1)
        # of the truth p itself, of the others 1 - p
        fits = 1 - p
        fits[at] = p[at]
        np.clip(fits, CLIP, 1 - CLIP, out=fits)
        nll[here] = -np.log(fits, out=fits).sum(axis=1)
    return Outcomes(
        score=score,
        predicted=predicted,
        right=predicted == true,
        top3=rank_of_truth(probs, true) < TOP,
        brier=np.rint(brier / QUANTUM).astype(np.int64),
        nll=np.rint(nll / QUANTUM).astype(np.int64),
    )


@dataclass(frozen=True)
class ClassCounts:
    """(K,) int64 each: images of the class, answers that name it, images that are both."""

    n: Ints
    n_predicted: Ints
    n_right: Ints

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """(K,) n_right / n; NaN without an image."""
        return _shares(self.n_right, self.n)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """(K,) n_right / n_predicted; NaN where nobody was answered so."""
        return _shares(self.n_right, self.n_predicted)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """(K,) 2 n_right / (n + n_predicted); NaN without an image, whatever was answered."""
        return np.where(self.n > 0, _shares(2 * self.n_right, self.n + self.n_predicted), np.nan)

    @property
    def overprediction(self) -> npt.NDArray[np.float64]:
        """(K,) n_predicted / n; NaN without an image."""
        return _shares(self.n_predicted, self.n)


def class_counts(found: Outcomes, true: npt.NDArray[np.integer[Any]], k: int) -> ClassCounts:
    """Counts of K classes."""
    return ClassCounts(
        n=np.bincount(true, minlength=k),
        n_predicted=np.bincount(found.predicted[found.predicted != NOBODY], minlength=k),
        n_right=np.bincount(true[found.right], minlength=k),
    )


def averages(found: Outcomes, true: npt.NDArray[np.integer[Any]], k: int) -> dict[str, float]:
    """The six of ``comparison.MEASURES``, over N >= 1 images.

    ``top1``, ``top3``, ``brier``, ``nll``: means over images. ``balanced_accuracy`` and
    ``macro_f1``: plain means, over the classes that occur, of recall and of F1.
    """
    n, counts = true.size, class_counts(found, true, k)
    occurs = counts.n > 0
    return {
        "top1": int(found.right.sum()) / n,
        "top3": int(found.top3.sum()) / n,
        "balanced_accuracy": float(counts.recall[occurs].mean()),
        "macro_f1": float(counts.f1[occurs].mean()),
        "brier": int(found.brier.sum()) * QUANTUM / n,
        "nll": int(found.nll.sum()) * QUANTUM / n,
    }


def _shares(above: Ints, below: Ints) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)
