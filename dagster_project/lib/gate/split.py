"""Which rows choose a threshold, and which judge it.

Belongs: the deterministic division, and the recipe that is recorded of it.
Does not: dividing patients in general (``evidence.division``, used here where groups are given).
Concept: rows of a group never part. Where a file has no groups a row's side follows from its
number, mixed by the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17): no
seed to shop for, and a file in another order is another division, which is recorded by its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.division import below, first_bits

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl
    import pyarrow as pa

    from dagster_project.lib.gate.scores import GateScores

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

BY_GROUP = "first 64 bits of sha256 of group:<name>, or of row:<number from 1> where it has none"
BY_ROW = "SplitMix64 of the row's number, from 0"
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Groups:
    """Rows that belong together, and the side each is on.

    Attributes
    ----------
    number : (N,) int64 in 0..P-1, by the hash of the name; None: every row by itself.
    n : P. first : (N,) bool, calibration. unnamed : rows that name no group, each its own.
    """

    number: Ints | None
    n: int
    first: Bools
    unnamed: int


def divided(
    n: int, share: float, group: pl.Series | None = None, *, name: str = "scores"
) -> Groups:
    """Groups of ``n`` rows, and which of them calibrate.

    Names become numbers without a Python object a row: ten million rows fit.

    Parameters
    ----------
    share : of groups (or rows), expected; in (0, 1). name : of the scores, for messages.
    group : (n,) names; null: the row is a group of its own. None: every row is.

    Raises
    ------
    InputError
        An empty name.

    >>> divided(6, 0.5).first.tolist()
    [False, True, True, False, True, True]
    >>> import polars as pl
    >>> divided(3, 0.5, pl.Series(["a", None, "a"])).number.tolist()
    [0, 1, 0]
    """
    if group is None:
        blocks = (np.arange(at, min(at + _BLOCK, n)) for at in range(0, n, _BLOCK))
        sides = [below(mixed(block), share) for block in blocks]
        return Groups(None, n, np.concatenate([*sides, np.empty(0, dtype=bool)]), 0)
    column = group.to_arrow().dictionary_encode()
    code = np.array(column.indices.fill_null(-1))
    alone = np.flatnonzero(code < 0)
    code[alone] = len(column.dictionary) + np.arange(alone.size)
    bits = first_bits(_keys(column.dictionary, alone))
    number = np.empty(bits.size, dtype=np.int64)
    number[np.argsort(bits, kind="stable")] = np.arange(bits.size)
    empty = column.dictionary.index("").as_py() if len(column.dictionary) else -1
    if empty >= 0:
        raise InputError(
            f"{name} row {int((code == empty).argmax()) + 1}, column group: an empty name; leave "
            "it null where it is not known"
        )
    return Groups(number[code], bits.size, below(bits, share)[code], int(alone.size))


def _keys(names: pa.Array, alone: npt.NDArray[np.intp]) -> Iterator[str]:
    """What is hashed: of each name, then of each row without one; never the same."""
    for start in range(0, len(names), _BLOCK):  # a list of all takes 100 bytes a name
        yield from (f"group:{name}" for name in names.slice(start, _BLOCK).to_pylist())
    yield from (f"row:{row + 1}" for row in alone.tolist())


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
