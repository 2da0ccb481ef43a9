"""Scores with what is true of each row, oriented so that a high one is accepted.

Belongs: the arrays that the rest of this room counts, and reading them from a file nobody vouches
for.
Does not: what a score is (``gauge``), any rate (``sweep``).
Concept: bottom is ``fault or score < tau``, strict: a row at tau is answered. What is not finite
is a fault. N = rows, P = groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dagster_project.lib.gate.config import Gauge, Identity

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Direction:
    """On which side of the range a row lies, and on which the model says it does.

    Attributes
    ----------
    names : of the sides, sorted. true : (N,) int8 number into ``names``, -1 in range.
    pred : (N,) int8 number into ``names``: what is said where no answer is given.
    """

    names: tuple[str, ...]
    true: npt.NDArray[np.int8]
    pred: npt.NDArray[np.int8]


@dataclass(frozen=True)
class GateScores:
    """N rows to choose a threshold on.

    Attributes
    ----------
    score : (N,) float32 or float64 as in the file; negated where the gauge accepts low ones, so
        that in here score < tau is bottom. Not finite: see ``fault``.
    in_range : (N,) bool, whether the row should be answered; the others are censored.
    fault : (N,) bool, no finite score, or flagged by the file: bottom at every tau.
    group : (N,) int64 in 0..P-1 by sha256 of the name; None where the file has no groups.
    n_groups : P; N where there are no groups.
    first : (N,) bool, calibration rows (``split``); the others evaluate.
    direction : None where the file has none.
    gauge, identity : as recorded; see ``gauge``.
    source : plain JSON on where the rows come from: ``sha256`` of the file, ``rows``, ``dtype``,
        ``columns``, ``infinite`` and ``nan`` (counts), ``groups``.
    """

    score: npt.NDArray[Any]
    in_range: Bools
    fault: Bools
    group: Ints | None
    n_groups: int
    first: Bools
    direction: Direction | None
    gauge: Gauge
    identity: Identity
    source: dict[str, Any]

    def __len__(self) -> int:
        """N, rows."""
        return int(self.score.size)
