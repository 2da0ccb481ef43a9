"""Placing: the finest answer that is sure enough, of the leaf's own ancestors or of all nodes.

Belongs: our two rules, given thresholds, which nodes say nothing new, rows that cannot be placed.
Does not: the walk itself (``walk``), other systems' rules (``peers``), fitting (``fit``).
Concept: sums over all classes, finest rank first, the first rank whose node reaches its threshold.
N = images, K = classes, R = ranks with the class as rank 0, V = nodes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.rollup import peers
from dagster_project.lib.rollup.placed import REASONS, UNPLACED, Placed
from dagster_project.lib.rollup.walk import Rule, Said, walk

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.config import RollupConfig
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]


def place(
    prepared: Prepared, taxonomy: Taxonomy, config: RollupConfig, thresholds: Floats
) -> Placed:
    """Place each row at a node, or nowhere.

    Modes ``lineage`` and ``distribution`` look at one node a rank: the ancestor of the row's top
    class, or the node of largest summed share (of equal ones the top class's ancestor, else the
    first node number). The first rank, finest first, whose node's score is at least that rank's
    threshold is the answer; equal is enough. Lineage never leaves the ancestors of the top class,
    so a right leaf never becomes wrong.

    Parameters
    ----------
    prepared : N rows. taxonomy : over the same K classes in the same order.
    config : the rule, its parameter, ``skip_trivial_nodes`` (:func:`trivial_nodes`; only in
        lineage and distribution mode).
    thresholds : (R,) float64, NaN: the rank is never said. Only for lineage, distribution and
        antenna; the single-parameter rules have ``config.parameter``.

    Returns
    -------
    N entries. Undecided rows are unplaced but keep their leaf; rows without shares have no leaf.

    Raises
    ------
    InputError
        Other classes, or in another order; another number of ranks; a parameter that a rule needs
        or cannot use.
    """
    if prepared.classes != taxonomy.classes:
        raise InputError(
            f"probabilities of the classes {some(prepared.classes)}, a taxonomy over "
            f"{some(taxonomy.classes)}; read it for these classes in their order"
        )
    rule = rule_of(config, taxonomy, prepared.allowed, thresholds)
    shared = ~np.isnan(prepared.values[:, 0])
    said, line, top, leaf = walk(prepared.values[_rows(shared)], taxonomy, rule)
    n = len(shared)
    leaf_top, leaf_score = np.full(n, UNPLACED), np.full(n, np.nan)
    leaf_top[shared], leaf_score[shared] = top, leaf
    said, line = (_spread(x, shared, prepared.decided) for x in (said, line))
    placed = said.rank != UNPLACED
    threshold = np.where(placed, rule.thresholds[said.rank], np.nan)
    # of an unplaced row, rank UNPLACED counts from the end: it is masked
    own = taxonomy.ancestors[leaf_top, said.rank]
    return Placed(
        node=said.node,
        rank=said.rank,
        score=said.score,
        threshold=threshold,
        leaf_top=leaf_top,
        leaf_score=leaf_score,
        off_lineage=placed & (said.node != own),
        lineage_node=line.node,
        lineage_score=line.score,
        reason=_reasons(prepared, placed),
    )


def rule_of(config: RollupConfig, taxonomy: Taxonomy, allowed: Bools, thresholds: Floats) -> Rule:
    """What the configuration's rule is to the engine."""
    n_ranks = len(taxonomy.ranks)
    under = allowed_under(taxonomy, allowed)
    if config.rule == "speciesnet":
        return peers.speciesnet(config.parameter, n_ranks, under)
    if config.rule == "climbing":
        return peers.climbing(config.parameter, n_ranks, under)
    if config.rule == "darts":
        return peers.darts(config.parameter, n_ranks, int(allowed.sum()), under)
    if thresholds.shape != (n_ranks,):
        raise InputError(f"{thresholds.size} thresholds for the {n_ranks} ranks of the taxonomy")
    if config.rule == "antenna":
        return peers.antenna(thresholds, under)
    skipped = (
        trivial_nodes(taxonomy, allowed, thresholds)
        if config.skip_trivial_nodes
        else np.zeros(len(under), dtype=bool)
    )
    return Rule(thresholds, config.rule == "lineage", skipped)


def given_thresholds(given: Mapping[str, float], taxonomy: Taxonomy) -> Floats:
    """(R,) thresholds of a configuration that gives them by rank; NaN where it names none.

    Raises
    ------
    InputError
        A rank that the taxonomy has not, or a threshold below 0 or not finite.
    """
    unknown = [rank for rank in given if rank not in taxonomy.ranks]
    if unknown:
        near = difflib.get_close_matches(unknown[0], taxonomy.ranks, n=1, cutoff=0.0)
        raise InputError(
            f'thresholds: no rank "{unknown[0]}" in the taxonomy, which has '
            f'{some(taxonomy.ranks, 12)}; nearest "{near[0]}"'
        )
    for rank, value in given.items():
        if not (np.isfinite(value) and value >= 0):
            raise InputError(
                f"thresholds.{rank}: {value} is no threshold; give a number in [0, 1], or one "
                "above 1 for a rank that is never said"
            )
    return np.array([given.get(rank, np.nan) for rank in taxonomy.ranks], dtype=np.float64)


def allowed_under(taxonomy: Taxonomy, allowed: Bools) -> Ints:
    """(V,) how many allowed classes each node holds; 0: the node cannot be said."""
    return np.bincount(taxonomy.ancestors[allowed].ravel(), minlength=len(taxonomy.nodes))


def trivial_nodes(taxonomy: Taxonomy, allowed: Bools, thresholds: Floats) -> Bools:
    """(V,) nodes above the classes that say no less than a finer node which was not sure enough.

    Such a node holds the same allowed classes as a single class, or as a node of a finer rank that
    has a threshold (is not NaN). To say it would be to say the finer node below the finer node's
    own threshold, under another name. Which nodes these are does not depend on any threshold's
    value, so raising one never makes a result finer.
    """
    under = allowed_under(taxonomy, allowed)
    lineages = taxonomy.ancestors[allowed]
    trivial = np.zeros(len(under), dtype=bool)
    for rank in range(1, len(taxonomy.ranks)):
        finer = [r for r in range(rank) if r == 0 or not np.isnan(thresholds[r])]
        same = (under[lineages[:, finer]] == under[lineages[:, [rank]]]).any(axis=1)
        trivial[lineages[same, rank]] = True
    return trivial


def _rows(mask: Bools) -> Bools | slice:
    return slice(None) if mask.all() else mask


def _spread(said: Said, shared: Bools, decided: Bools) -> Said:
    """From rows with shares to all rows, undecided ones unplaced."""
    out = Said.nothing(len(shared))
    kept = decided[shared]
    out.node[decided], out.rank[decided] = said.node[kept], said.rank[kept]
    out.score[decided] = said.score[kept]
    return out


def _reasons(prepared: Prepared, placed: Bools) -> npt.NDArray[np.int8]:
    reason = np.full(len(placed), REASONS.index("nothing_clears"), dtype=np.int8)
    reason[placed] = REASONS.index("placed")
    reason[~prepared.decided] = REASONS.index("kept_mass_too_small")
    reason[np.isnan(prepared.kept_mass)] = REASONS.index("no_probabilities")
    return reason
