"""Accuracy against specificity: how much is said, and how often it is wrong, from strict to loose.

Belongs: the information of a node, one line of figures for a roll-up, the curve over its dial.
Does not: choosing a point of the curve (``fit``), transitions, drawing.
Concept: Deng, Krause, Berg and Fei-Fei, "Hedging your bets: optimizing accuracy-specificity
trade-offs in large scale visual recognition" (CVPR 2012). The information of node v is
log2 K less log2 of the classes under v, here divided by log2 K: 1 for a class, 0 for the root.
Unplaced is the root, which is never wrong: accuracy over all images is 1 - P(placed and wrong).
N = images, K = classes, V = nodes, R = ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.candidates import (
    BY_RANK,
    RollUp,
    all_right,
    candidates,
    is_right,
)
from dagster_project.lib.rollup.peers import parameter_of
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.rates import mean, rate
from dagster_project.lib.rollup.shift import LIMIT, shifted

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Truth

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

SHIFT_STEP = 0.5

PARAMETERS = {
    "speciesnet": tuple(k / 20 for k in range(21)),
    "climbing": tuple(k / 20 for k in range(21)),
    "darts": (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0),
}
"""Where the single-parameter rules are looked at, beside their own parameter."""


def information(taxonomy: Taxonomy) -> Floats:
    """(V,) log2(K / classes under the node) / log2 K, in [0, 1]; 1 everywhere if K = 1.

    Counted over all classes of the taxonomy, whatever a mask keeps, so that figures with and
    without a mask can be compared.

    >>> from dagster_project.lib.rollup.taxonomy import Taxonomy
    >>> tree = Taxonomy(("class", "family"), (("a", "f"), ("b", "f"), ("c", "g"), ("d", "g")))
    >>> information(tree).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    """
    k = len(taxonomy.classes)
    under = np.bincount(taxonomy.ancestors.ravel(), minlength=len(taxonomy.nodes))
    if k == 1:
        return np.ones(under.size)
    share: Floats = np.log2(k / under) / np.log2(k)
    return share


def figures(node: Ints, right: Bools, truth: Truth, taxonomy: Taxonomy) -> dict[str, Any]:
    """One line: how much is placed, how often it is right, how much it says.

    Parameters
    ----------
    node : (N,) ``UNPLACED`` where nothing is said. right : (N,) never where unplaced.

    Returns
    -------
    ``n``; ``placed``, ``right``, ``wrong`` (``rates.rate`` over all images; ``wrong`` is what a
    certificate bounds), ``accuracy`` (right among placed), ``specificity`` (``rates.mean`` of the
    information over all images, 0 where unplaced).
    """
    placed = node != UNPLACED
    said = np.where(placed, information(taxonomy)[np.maximum(node, 0)], 0.0)
    return {
        "n": int(node.size),
        "placed": rate(placed, truth.patient),
        "right": rate(right, truth.patient),
        "wrong": rate(placed & ~right, truth.patient),
        "accuracy": rate(right, truth.patient, placed),
        "specificity": mean(said, truth.patient, within=(0, 1)),
    }


def figures_of(placed: Placed, truth: Truth, taxonomy: Taxonomy) -> dict[str, Any]:
    """:func:`figures` of placed rows."""
    right = is_right(placed.node, truth.true, taxonomy)
    return figures(placed.node, right, truth, taxonomy)


def compare_rules(
    prepared: Mapping[str, Prepared], rollups: Mapping[str, RollUp], truth: Truth
) -> list[dict[str, Any]]:
    """Several roll-ups on the same images, one row each in the order given: ``name`` + figures.

    Parameters
    ----------
    prepared : by the same names; rules may want different normalisations. Rows as ``truth``.
    """
    return [
        {"name": name, "rule": rollup.config.rule}
        | figures_of(rollup.applied(prepared[name]), truth, rollup.taxonomy)
        for name, rollup in rollups.items()
    ]


def curve(prepared: Prepared, rollup: RollUp, truth: Truth) -> list[dict[str, Any]]:
    """The trade-off from strict to loose: figures along the rule's own dial.

    The dial of a rule with thresholds is the shift of all logits (``shift.shifted``), in steps of
    ``SHIFT_STEP``; of the others the parameter, at ``PARAMETERS`` and its own value. Each point is
    a plug-in figure of these rows; the intervals are pointwise.

    Returns
    -------
    Fewest placed first: ``dial`` (``shift`` or ``parameter``), ``at``, ``own`` (whether it is the
    roll-up as it is), then :func:`figures`. A point at which every row ends as at the one before is
    left out, unless it is the roll-up's own.
    """
    points: list[dict[str, Any]] = []
    last: Ints | None = None
    for dial, at, own, node, right in _along(prepared, rollup, truth):
        if not own and last is not None and np.array_equal(node, last):
            continue
        last = node
        here = figures(node, right, truth, rollup.taxonomy)
        points.append({"dial": dial, "at": at, "own": own} | here)
    return points


def _along(
    prepared: Prepared, rollup: RollUp, truth: Truth
) -> Iterator[tuple[str, float, bool, Ints, Bools]]:
    """(dial, value, whether it is its own, node, right), strict to loose."""
    taxonomy, config = rollup.taxonomy, rollup.config
    if config.rule in BY_RANK:
        said = candidates(prepared, taxonomy, config, ~np.isnan(rollup.thresholds))
        right = all_right(said, truth.true, taxonomy)
        rows = np.arange(len(truth))
        for at in np.arange(LIMIT, -LIMIT - SHIFT_STEP / 2, -SHIFT_STEP).tolist():
            own = at == 0
            thresholds = rollup.thresholds if own else _moved(rollup.thresholds, at)
            rank = said.rank_said(thresholds)
            placed = rank != UNPLACED
            node = np.where(placed, said.node[rows, rank], UNPLACED)
            yield "shift", at, own, node, placed & right[rows, rank]
        return
    here = parameter_of(config.rule, config.parameter)
    for at in sorted({*PARAMETERS[config.rule], here}, reverse=True):
        moved = RollUp(
            taxonomy, config.model_copy(update={"parameter": at}), rollup.thresholds
        ).applied(prepared)
        right = is_right(moved.node, truth.true, taxonomy)
        yield "parameter", at, at == here, moved.node, right


def _moved(thresholds: Floats, shift: float) -> Floats:
    """A threshold above 1 is of a rank that is never said, and stays."""
    inside = np.where(thresholds > 1, np.nan, thresholds)
    return np.where(thresholds > 1, thresholds, shifted(inside, shift))
