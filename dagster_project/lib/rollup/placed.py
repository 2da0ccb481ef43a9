"""Where each row ended: the shape that every rule returns.

Belongs: plain arrays. Does not: any rule (``place``, ``peers``), records of it (``provenance``).
Concept: a row is placed at a node, or it is unplaced; what it would have been is kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

UNPLACED = -1


@dataclass(frozen=True)
class Placed:
    """One entry a row, N of them.

    Attributes
    ----------
    node : int64 node number (``Taxonomy.nodes``), :data:`UNPLACED` where nothing clears.
    rank : int64 rank of the node, :data:`UNPLACED` where unplaced.
    score : float64 sum of the node's classes after mask and normalisation; NaN where unplaced.
    threshold : float64 what it had to reach; NaN where unplaced.
    leaf_top, leaf_score : int64 class of largest score (of equal ones the first) and that score.
    off_lineage : the node is no ancestor of ``leaf_top``.
    lineage_node, lineage_score : what lineage mode says of the row with the same thresholds;
        UNPLACED and NaN where nothing.
    reason : one of :data:`REASONS` a row, as a number into them.
    """

    node: Ints
    rank: Ints
    score: Floats
    threshold: Floats
    leaf_top: Ints
    leaf_score: Floats
    off_lineage: Bools
    lineage_node: Ints
    lineage_score: Floats
    reason: npt.NDArray[np.integer[Any]]


REASONS = ("placed", "nothing_clears", "kept_mass_too_small", "no_probabilities")
