"""Counts at or above each distinct score: what every curve over a threshold is made of.

Belongs: counting rows and flagged rows for all thresholds in one sort.
Does not: what a flag means, shares, choosing a threshold (``tiers.curve``, ``gate.sweep``).
Concept: risk-coverage curve, ties kept whole (arXiv 1705.08500). Counts are integers; a share is
one division at the end. N = rows, M = distinct scores, F = flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

_BLOCK = 1 << 14
_PACKED = 2.0
"""Below it the two highest bits of a non-negative float are 0."""


@dataclass(frozen=True)
class CountsByScore:
    """Rows at or above each distinct score, highest score first.

    Attributes
    ----------
    threshold : (M,) float64, strictly falling; a stored float32 score widened exactly.
    n : (M,) int64, rows at or above it, never falling.
    hits : for each of the F flags (M,) int64, the flagged ones among them.
    """

    threshold: npt.NDArray[np.float64]
    n: Ints
    hits: tuple[Ints, ...]


def counts_by_score(score: npt.NDArray[Any], flags: Sequence[Bools]) -> CountsByScore:
    """Count for every distinct score at once, in O(N log N).

    Where every score is in [0, 2) and there are two flags at most, the bits of score and flags are
    packed into one integer, and one sort of plain integers orders all: the bits of a non-negative
    float sort like the float, and those of a value below 2 leave the two highest free. Otherwise
    the rows are sorted by score.

    Parameters
    ----------
    score : (N,) float32 or float64, no NaN. -0.0 equals 0.0.
    flags : F of (N,).
    """
    if len(flags) <= 2 and (not score.size or (score.min() >= 0 and score.max() < _PACKED)):
        return _counted_packed(score, flags)
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), score.size - 1)
    hits = tuple(np.cumsum(flag[order], dtype=np.int64)[last] for flag in flags)
    return CountsByScore(falling[last].astype(np.float64) + 0.0, last + 1, hits)


def _counted_packed(score: npt.NDArray[Any], flags: Sequence[Bools]) -> CountsByScore:
    """What follows the sort runs in blocks that stay in the processor's cache."""
    keys = _packed(score, flags)
    keys.sort()
    threshold = np.empty(keys.size)
    n, *hits = (np.empty(keys.size, dtype=np.int64) for _ in range(3))
    above = [0, 0]
    found = 0
    for high in range(keys.size, 0, -_BLOCK):
        low = max(0, high - _BLOCK)
        block = keys[low:high][::-1].copy()  # highest score first
        bits = block >> 2
        last = np.empty(block.size, dtype=bool)  # of its score: ties enter together
        np.not_equal(bits[1:], bits[:-1], out=last[:-1])
        last[-1] = low == 0 or keys[low - 1] >> 2 != bits[-1]
        ends = np.flatnonzero(last)
        here = slice(found, found + ends.size)
        threshold[here] = bits[ends].view(score.dtype)
        np.add(ends, keys.size - high + 1, out=n[here])
        # both flags in one word, 16 bits apart: a block has fewer rows than those can count
        both = np.cumsum((block & 3 | (block & 3) << 15) & 0x10001, dtype=keys.dtype)
        counted = both[ends].astype(np.int64)
        np.add(counted & 0xFFFF, above[0], out=hits[0][here])
        np.add(counted >> 16, above[1], out=hits[1][here])
        above[0] += int(both[-1]) & 0xFFFF
        above[1] += int(both[-1]) >> 16
        found += ends.size
    kept = tuple(hit[:found] for hit in hits[: len(flags)])
    return CountsByScore(threshold[:found], n[:found], kept)


def _packed(score: npt.NDArray[Any], flags: Sequence[Bools]) -> npt.NDArray[Any]:
    """(N,) integers: the score's bits, then the second flag, then the first."""
    # the sign bit of a -0.0 is shifted out as well
    keys: npt.NDArray[Any] = np.left_shift(score.view(f"u{score.dtype.itemsize}"), 2)
    for place, flag in enumerate(flags):
        keys |= flag.view(np.uint8) << place
    return keys
