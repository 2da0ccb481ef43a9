"""Coverage curve: how much is answered, and how well, at every distinct score.

Belongs: counting scored rows, for all thresholds in one sort.
Does not: choosing a threshold (``selection``), bounding it, plots (``pictures``).
Concept: risk-coverage curve, ties kept whole (arXiv 1705.08500). Counts are integers; a share is
one division at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

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


def curve_counts(scored: pl.DataFrame) -> CurveCounts:
    """Count rows for every distinct score at once, in O(N log N).

    The bits of a non-negative float sort like the float, and those of a value in [0, 1] leave the
    two highest free: score and both flags are packed into one integer, and one sort of plain
    integers orders all three.

    Parameters
    ----------
    scored : (N,) rows with ``score`` in [0, 1], ``top1`` and ``top3``.
    """
    score = scored["score"].to_numpy()
    word = np.uint32 if score.dtype == np.float32 else np.uint64
    # the sign bit of a -0.0 is shifted out as well
    keys: npt.NDArray[Any] = np.left_shift(score.view(word), word(2))
    keys |= scored["top1"].cast(pl.UInt8).to_numpy()
    keys |= scored["top3"].cast(pl.UInt8).to_numpy() << np.uint8(1)
    keys.sort()
    keys = keys[::-1]
    bits = keys >> word(2)
    last = np.empty(bits.size, dtype=bool)
    if bits.size:
        np.not_equal(bits[1:], bits[:-1], out=last[:-1])
        last[-1] = True
    ends = np.flatnonzero(last)
    return CurveCounts(
        threshold=bits[ends].view(score.dtype).astype(np.float64),
        n=ends + 1,
        # summed in the keys' own type, which holds any row count, and widened afterwards: a
        # cumsum that converts as it goes is several times slower
        top1=np.cumsum(keys & word(1), dtype=word)[ends].astype(np.int64),
        top3=np.cumsum((keys >> word(1)) & word(1), dtype=word)[ends].astype(np.int64),
    )


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
