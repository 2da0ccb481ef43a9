"""Coverage curve: how much is answered, and how well, at every distinct score.

Belongs: scored rows as counts and shares, for all thresholds.
Does not: counting (``evidence.by_score``), choosing a threshold (``selection``), bounding it, plots
(``pictures``).
Concept: risk-coverage curve, ties kept whole (arXiv 1705.08500).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.evidence.by_score import counts_by_score

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class CurveCounts:
    """Counts of rows at or above each distinct score, highest score first; M distinct scores.

    Attributes
    ----------
    threshold : (M,) float64, strictly falling; a stored float32 score widened exactly.
    n, top1, top3 : (M,) int64, never falling: rows, rows with rank 0, rows with rank < 3.
    """

    threshold: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    top1: npt.NDArray[np.int64]
    top3: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """N, all rows."""
        return int(self.n[-1]) if self.n.size else 0

    @property
    def wrong(self) -> npt.NDArray[np.int64]:
        """(M,) k(t): rows at or above t whose top class is not the truth."""
        wrong: npt.NDArray[np.int64] = self.n - self.top1
        return wrong

    def inside(self, threshold: float) -> int:
        """How many of the M distinct scores are at or above ``threshold``."""
        below = np.searchsorted(self.threshold[::-1], threshold, side="left")
        return int(self.threshold.size - below)


def curve_counts(scored: pl.DataFrame) -> CurveCounts:
    """Count rows for every distinct score at once (``evidence.by_score``), in O(N log N).

    Parameters
    ----------
    scored : (N,) rows with ``score`` in [0, 1], ``top1`` and ``top3``.
    """
    flags = [scored[name].to_numpy() for name in ("top1", "top3")]
    found = counts_by_score(scored["score"].to_numpy(), flags)
    return CurveCounts(found.threshold, found.n, *found.hits)


def coverage_curve(scored: pl.DataFrame) -> pl.DataFrame:
    """Coverage and accuracy of the rows with score >= threshold, at every distinct score.

    Parameters
    ----------
    scored : (N,) rows with ``score`` (float32 or float64 in [0, 1]), ``top1``, ``top3``.

    Returns
    -------
    (M,) rows, highest threshold first, M distinct scores (0 if N = 0): ``threshold``; ``n`` =
    #{score >= t}; ``coverage`` = n / N; ``top1``, ``top3`` = right ones among them / n;
    ``confident_wrong`` = wrong ones among them / N. ``top1`` need not be monotone in t,
    ``confident_wrong`` is.

    >>> rows = pl.DataFrame({"score": [.9, .9, .4, .3], "top1": [True, False, True, True],
    ...                      "top3": [True, True, True, True]})
    >>> coverage_curve(rows).select("threshold", "n", "confident_wrong").rows()
    [(0.9, 2, 0.25), (0.4, 3, 0.25), (0.3, 4, 0.25)]
    """
    counts = curve_counts(scored)
    total = counts.total or 1  # without rows there is nothing to divide
    return pl.DataFrame(
        {
            "threshold": counts.threshold,
            "n": counts.n,
            "coverage": counts.n / total,
            "top1": counts.top1 / counts.n,
            "top3": counts.top3 / counts.n,
            "confident_wrong": counts.wrong / total,
        }
    )
