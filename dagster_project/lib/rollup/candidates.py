"""What each row could say at each rank, before any threshold: one look for many thresholds.

Belongs: a rule with its taxonomy and thresholds in one hand; its candidates; which of them is said.
Does not: how a candidate is found (``place``), which thresholds are right (``fit``).
Concept: under a rule with a threshold for each rank, a row's node and score at a rank do not depend
on the thresholds' values, so that sweeping them needs no roll-up again; they depend on which ranks
have one, because of nodes that say nothing new. N = images, R = ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.place import place
from dagster_project.lib.rollup.placed import UNPLACED, Placed

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.config import RollupConfig
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

BY_RANK = ("lineage", "distribution", "antenna")
"""Rules that say the finest rank whose own candidate reaches its own threshold."""

_UNREACHABLE = 2.0


@dataclass(frozen=True)
class RollUp:
    """Everything that turns prepared rows into answers.

    Attributes
    ----------
    thresholds : (R,) float64 by rank, finest first; NaN: never said.
    """

    taxonomy: Taxonomy
    config: RollupConfig
    thresholds: Floats

    def applied(self, prepared: Prepared) -> Placed:
        """Where each row ends."""
        return place(prepared, self.taxonomy, self.config, self.thresholds)


@dataclass(frozen=True)
class Candidates:
    """Of N rows.

    Attributes
    ----------
    node : (N, R) int64 the node that would be said at each rank, ``UNPLACED`` where none may be.
    score : (N, R) float64 its score; NaN where none.
    """

    node: Ints
    score: Floats

    def take(self, at: npt.NDArray[Any]) -> Candidates:
        """These rows only."""
        return Candidates(self.node[at], self.score[at])

    def rank_said(self, thresholds: Floats) -> Ints:
        """(N,) int64 the finest rank whose score reaches its threshold (``>=``), or UNPLACED."""
        clears = self.score >= thresholds  # a NaN on either side never does
        return np.where(clears.any(axis=1), clears.argmax(axis=1), UNPLACED)


def candidates(
    prepared: Prepared, taxonomy: Taxonomy, config: RollupConfig, said: Bools
) -> Candidates:
    """Ask the rule at one rank at a time, with a threshold that everything reaches.

    Parameters
    ----------
    said : (R,) which ranks have a threshold; the others have no candidate.

    Raises
    ------
    InputError
        The rule has no threshold for each rank (``BY_RANK``).
    """
    shape = (len(prepared.decided), len(taxonomy.ranks))
    node, score = np.full(shape, UNPLACED), np.full(shape, np.nan)
    for rank in np.flatnonzero(said).tolist():
        node[:, rank], score[:, rank] = candidate(prepared, taxonomy, config, said, rank)
    return Candidates(node, score)


def candidate(
    prepared: Prepared, taxonomy: Taxonomy, config: RollupConfig, said: Bools, rank: int
) -> tuple[Ints, Floats]:
    """(N,) node and (N,) score of one rank; see :func:`candidates`.

    Only what ``said`` holds of finer ranks matters.
    """
    check_by_rank(config)
    thresholds = np.where(said, _UNREACHABLE, np.nan)
    thresholds[rank] = 0.0
    found = place(prepared, taxonomy, config, thresholds)
    here = found.rank == rank
    return np.where(here, found.node, UNPLACED), np.where(here, found.score, np.nan)


def check_by_rank(config: RollupConfig) -> None:
    """Raise unless the rule has a threshold for each rank."""
    if config.rule not in BY_RANK:
        raise InputError(
            f'rule "{config.rule}" has no threshold for each rank; choose one of '
            f"{', '.join(BY_RANK)}"
        )


def is_right(node: Ints, true: Ints, taxonomy: Taxonomy) -> Bools:
    """(N,) whether a node is the true class or one of its ancestors; never where unplaced."""
    rank = taxonomy.rank_of[np.maximum(node, 0)]
    right: Bools = (node != UNPLACED) & (taxonomy.ancestors[true, rank] == node)
    return right


def all_right(candidates: Candidates, true: Ints, taxonomy: Taxonomy) -> Bools:
    """(N, R) :func:`is_right` of every candidate."""
    right: Bools = candidates.node == taxonomy.ancestors[true]
    return right
