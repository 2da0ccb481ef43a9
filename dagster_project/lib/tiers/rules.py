"""Rules: which threshold one rule and one target choose from the counts of a curve.

Belongs: the statistic of each rule, and the search for the threshold that meets its target.
Does not: counting (``curve``), rounding, what is released (``selection``).
Concept: coverage, referred share and W = k/N change in one direction along the curve, so that
bisection finds where they meet a target; R = k/n does not, and is searched from its loose end.
Shares are compared as float64 quotients. M distinct scores, highest first.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.tiers.curve import CurveCounts

_BLOCK = 1 << 14


def statistic(rule: str, counts: CurveCounts, at: slice = slice(None)) -> npt.NDArray[np.float64]:
    """What the rule compares with its target, at the thresholds ``at`` (default: all M)."""
    n, top1, top3, total = counts.n[at], counts.top1[at], counts.top3[at], counts.total
    values: npt.NDArray[np.float64] = {
        "coverage": lambda: n / total,
        "covered_top1": lambda: top1 / n,
        "confident_wrong_share": lambda: (n - top1) / total,
        "share": lambda: (total - n) / total,
        "kept_top3": lambda: top3 / n,
    }[rule]()
    return values


def choose(rule: str, target: float, counts: CurveCounts) -> int | None:
    """Index of the threshold that the rule chooses, or None if no score meets the target.

    ``coverage`` (at least the target) and ``share`` (at most) take the highest threshold;
    ``confident_wrong_share`` (at most), ``covered_top1`` and ``kept_top3`` (at least) the lowest,
    and for the last two some higher threshold may miss the target.
    """
    size = counts.n.size
    if rule in ("covered_top1", "kept_top3"):
        for high in range(size, 0, -_BLOCK):
            low = max(0, high - _BLOCK)
            where = np.flatnonzero(statistic(rule, counts, slice(low, high)) >= target)
            if where.size:
                return low + int(where[-1])
        return None
    # the highest that meets it comes first, the lowest lies before the first that does not
    wanted = rule in ("coverage", "share")

    def reached(index: int) -> bool:
        value = _one(rule, counts, index)
        return (value >= target if rule == "coverage" else value <= target) == wanted

    found = bisect_left(range(size), True, key=reached) - (not wanted)
    return found if 0 <= found < size else None


def statistic_at(rule: str, counts: CurveCounts, threshold: float) -> float | None:
    """The rule's statistic over rows with score >= threshold; null if it is undefined there."""
    inside = counts.inside(threshold)
    if rule == "fixed":
        return None
    if inside == 0:
        return {"coverage": 0.0, "confident_wrong_share": 0.0, "share": 1.0}.get(rule)
    return _one(rule, counts, inside - 1)


def _one(rule: str, counts: CurveCounts, index: int) -> float:
    return float(statistic(rule, counts, slice(index, index + 1))[0])
