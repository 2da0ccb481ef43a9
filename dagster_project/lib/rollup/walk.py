"""The engine: one walk from the classes up, asking at each rank whether this is sure enough.

Belongs: sums by node, the two ways to pick a node at a rank, the two ways to stop.
Does not: which rule is which (``place``, ``peers``), thresholds (``fit``).
Concept: a rule is data. Sums go up rank by rank, children in order of their names: a parent is then
never below its child by rounding, and the order of the model's outputs changes no digit.
N = rows, B = rows of a block, K = classes, R = ranks, V = nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.prepare import blocks

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.taxonomy import Taxonomy

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """How rows are placed.

    Attributes
    ----------
    thresholds : (R,) what a node's score must reach, finest rank first; NaN: never said.
    lineage : at each rank only the ancestor of the row's top class; else the node of largest score,
        of equal ones the top class's ancestor, else the first node number.
    strict : a score must exceed its threshold; else equal is enough.
    passed_over : (V,) nodes that are never said.
    largest : only so many classes, those of largest probability, are added up; of equal ones the
        first in output order. None: all.
    worth : (V,) nodes are compared by score times worth, across ranks, and must beat
        ``worth_of_nothing``; of equal ones the finest. Then ``thresholds`` say nothing.
    """

    thresholds: Floats
    lineage: bool
    passed_over: Bools
    strict: bool = False
    largest: int | None = None
    worth: Floats | None = None
    worth_of_nothing: float = 0.0


@dataclass(frozen=True)
class Said:
    """(N,) node, rank and score of what was said; UNPLACED, UNPLACED and NaN where nothing."""

    node: Ints
    rank: Ints
    score: Floats

    @classmethod
    def nothing(cls, n: int) -> Said:
        """All unplaced."""
        return cls(np.full(n, UNPLACED), np.full(n, UNPLACED), np.full(n, np.nan))

    def __getitem__(self, rows: slice) -> Said:
        """A view."""
        return Said(self.node[rows], self.rank[rows], self.score[rows])


@dataclass(frozen=True)
class _Tree:
    """A taxonomy as the walk needs it."""

    ancestors: Ints
    """(K, R) node numbers."""
    first: tuple[int, ...]
    """(R + 1,) first node number of each rank, and V."""
    up: tuple[tuple[tuple[int, int], ...], ...]
    """By rank above the classes: (child, parent), each counted within its rank, by child's name."""

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> _Tree:
        ranks = range(len(taxonomy.ranks) + 1)
        first = tuple(int(x) for x in np.searchsorted(taxonomy.rank_of, ranks))
        steps = []
        for finer, coarser in pairwise(range(len(taxonomy.ranks))):
            edges = sorted(
                {(int(a[finer]), int(a[coarser])) for a in taxonomy.ancestors},
                key=lambda edge: taxonomy.nodes[edge[0]],
            )
            steps.append(tuple((c - first[finer], p - first[coarser]) for c, p in edges))
        return cls(taxonomy.ancestors, first, tuple(steps))


def walk(values: Floats, taxonomy: Taxonomy, rule: Rule) -> tuple[Said, Said, Ints, Floats]:
    """Place rows by a rule.

    Parameters
    ----------
    values : (N, K) shares >= 0; every row has one above 0.

    Returns
    -------
    What the rule says; what it says when kept to the ancestors of the top class; (N,) top class, of
    equal ones the first, and (N,) its share.
    """
    n = len(values)
    tree = _Tree.of(taxonomy)
    said = Said.nothing(n)
    line = said if rule.lineage else Said.nothing(n)
    top, leaf = np.empty(n, dtype=np.int64), np.empty(n)
    for rows in blocks(n):
        sums = np.minimum(values[rows].T, 1.0)
        top[rows], leaf[rows] = _largest(sums)
        if rule.largest is not None:
            sums = _only_largest(sums, rule.largest)
        _walk_block(sums, top[rows], tree, rule, (said[rows], line[rows]))
    return said, line, top, leaf


def node_scores(values: Floats, taxonomy: Taxonomy) -> Floats:
    """(N, V) summed share of every node, as the walk compares it; (N, K) shares, NaN stays NaN."""
    tree = _Tree.of(taxonomy)
    out = np.empty((len(values), tree.first[-1]))
    for rows in blocks(len(values)):
        sums = np.minimum(values[rows].T, 1.0)
        out[rows, : tree.first[1]] = sums.T
        for edges, first, end in zip(tree.up, tree.first[1:-1], tree.first[2:], strict=True):
            sums = _one_rank_up(sums, edges, end - first)
            out[rows, first:end] = sums.T
    return out


def _walk_block(sums: Floats, top: Ints, tree: _Tree, rule: Rule, into: tuple[Said, Said]) -> None:
    said, line = into
    here = np.arange(len(top))
    beaten = [np.full(len(top), rule.worth_of_nothing) for _ in into]
    for rank, first in enumerate(tree.first[:-1]):
        if rank:
            sums = _one_rank_up(sums, tree.up[rank - 1], tree.first[rank + 1] - first)
        own = tree.ancestors[top, rank]
        score = sums[own - first, here]
        _offer(line, beaten[1], rank, own, score, rule)
        if not rule.lineage:
            _offer(said, beaten[0], rank, *_best(sums, own, score, first, rule), rule)


def _offer(said: Said, beaten: Floats, rank: int, node: Ints, score: Floats, rule: Rule) -> None:
    """Say ``node`` in the rows where it is sure enough."""
    if rule.worth is None:
        threshold = rule.thresholds[rank]
        enough = (score > threshold) if rule.strict else (score >= threshold)  # False where NaN
        enough &= said.rank == UNPLACED
    else:
        worth = rule.worth[node] * score
        enough = worth > beaten
        beaten[enough] = worth[enough]
    enough &= ~rule.passed_over[node]
    said.node[enough], said.rank[enough], said.score[enough] = node[enough], rank, score[enough]


def _best(
    sums: Floats, own: Ints, own_score: Floats, first: int, rule: Rule
) -> tuple[Ints, Floats]:
    """The node of a rank that a row has most of, and its score."""
    if rule.worth is None:
        number, best = _largest(sums)
        return np.where(own_score == best, own, first + number), best
    worth = rule.worth[first : first + len(sums)]
    number, best = _largest(sums * worth[:, None])
    node = np.where(own_score * rule.worth[own] == best, own, first + number)
    return node, sums[node - first, np.arange(len(own))]


def _one_rank_up(sums: Floats, edges: tuple[tuple[int, int], ...], n_nodes: int) -> Floats:
    out = np.zeros((n_nodes, sums.shape[1]))
    for child, parent in edges:
        out[parent] += sums[child]
    return np.minimum(out, 1.0, out=out)


def _largest(sums: Floats) -> tuple[Ints, Floats]:
    """(B,) row of the largest number in each column, of equal ones the first, and that number."""
    number, best = np.zeros(sums.shape[1], dtype=np.int64), sums[0].copy()
    for row in range(1, len(sums)):
        np.copyto(number, row, where=sums[row] > best)
        np.maximum(best, sums[row], out=best)
    return number, best


def _only_largest(sums: Floats, n: int) -> Floats:
    """All but the ``n`` largest numbers of each column made 0; of equal ones the first stay."""
    order = np.argsort(-sums, axis=0, kind="stable")
    kept = sums.copy()
    np.put_along_axis(kept, order[n:], 0.0, axis=0)
    return kept
