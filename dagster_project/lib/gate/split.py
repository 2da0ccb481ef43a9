"""Which rows choose a threshold, and which judge it.

Belongs: the deterministic division, and the recipe that is recorded of it.
Does not: dividing patients in general (``evidence.division``, used here where groups are given).
Concept: rows of a group never part. Where a file has no groups a row's side follows from its
number, mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17): no
seed to shop for, and a file in another order is another division, which is recorded by its hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.evidence.division import in_first

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from dagster_project.lib.gate.scores import GateScores

BY_GROUP = "sha256 of the group's name"
BY_ROW = "SplitMix64 of the row's number, from 0"


def calibration_rows(
    n: int, share: float, groups: pl.Series | None = None
) -> npt.NDArray[np.bool_]:
    """(n,) whether a row is on the calibration side.

    Parameters
    ----------
    share : of groups (or rows), expected; in (0, 1).
    groups : (n,) names, no null; None: every row by itself.

    >>> calibration_rows(6, 0.5).tolist()
    [False, True, True, False, True, True]
    """
    if groups is not None:
        return in_first(groups, share)
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    return mixed(np.arange(n)) < limit


def mixed(number: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(N,) SplitMix64's output for row numbers: fixed, and without order.

    >>> hex(int(mixed(np.array([0]))[0]))
    '0xe220a8397b1dcdaf'
    """
    z = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return found


def recipe(scores: GateScores) -> dict[str, Any]:
    """The division as plain JSON: how it was made, and what came of it.

    Returns
    -------
    ``method`` (a row without a group counts as a group of its own), ``calibration_share`` as asked
    for; for ``calibration`` and ``evaluation`` the ``rows``, those ``in_range`` and ``censored``,
    and ``groups`` (null where there are none).
    """
    sides = {"calibration": scores.first, "evaluation": ~scores.first}
    return {
        "method": BY_ROW if scores.group is None else BY_GROUP,
        "calibration_share": scores.source["calibration_share"],
        **{
            name: {
                "rows": int(side.sum()),
                "in_range": int((side & scores.in_range).sum()),
                "censored": int((side & ~scores.in_range).sum()),
                "groups": None if scores.group is None else int(np.unique(scores.group[side]).size),
            }
            for name, side in sides.items()
        },
    }
