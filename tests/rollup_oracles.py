"""What each rule does to one row, written for itself: sets, loops and dictionaries, no engine.

Belongs: small independent implementations that the engine is checked against.
Does not: checks. Names of nodes stand for numbers; None is unplaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_project.lib.rollup.taxonomy import Taxonomy

Answer = tuple[str, float] | None


@dataclass(frozen=True)
class Row:
    """Shares by class, in output order, and which classes may be said."""

    tree: Taxonomy
    share: Mapping[str, float]
    allowed: frozenset[str]

    @property
    def top(self) -> str:
        return max(self.share, key=lambda name: self.share[name])  # of equal ones the first

    def classes_under(self, node: str) -> list[str]:
        return [line[0] for line in self.tree.lineages if node in line and line[0] in self.allowed]

    def nodes_at(self, rank: int) -> list[str]:
        return list(dict.fromkeys(line[rank] for line in self.tree.lineages))

    def lineage_of(self, name: str) -> tuple[str, ...]:
        return next(line for line in self.tree.lineages if line[0] == name)


def largest_at(row: Row, rank: int, classes: Sequence[str]) -> tuple[str, float]:
    """The node with most of ``classes``; the top class's own first, then in order of numbers."""
    own = row.lineage_of(row.top)[rank]
    best, score = own, math.fsum(row.share[c] for c in row.classes_under(own) if c in classes)
    for node in row.nodes_at(rank):
        found = math.fsum(row.share[c] for c in row.classes_under(node) if c in classes)
        if found > score:
            best, score = node, found
    return best, score


def says_nothing_new(row: Row, rank: int, node: str, at: Sequence[float]) -> bool:
    held = set(row.classes_under(node))
    finer = [r for r in range(rank) if r == 0 or not math.isnan(at[r])]
    return any(set(row.classes_under(other)) == held for r in finer for other in row.nodes_at(r))


def lineage(row: Row, at: Sequence[float], skip: bool) -> Answer:
    for rank, node in enumerate(row.lineage_of(row.top)):
        score = math.fsum(row.share[c] for c in row.classes_under(node))
        if score >= at[rank] and not (skip and says_nothing_new(row, rank, node, at)):
            return node, score
    return None


def distribution(row: Row, at: Sequence[float], skip: bool) -> Answer:
    for rank in range(len(at)):
        node, score = largest_at(row, rank, sorted(row.allowed))
        if score >= at[rank] and not (skip and says_nothing_new(row, rank, node, at)):
            return node, score
    return None


def antenna(row: Row, at: Sequence[float]) -> Answer:
    """Walks the ranks upward; the taxon with most summed score wins a rank if it reaches it."""
    for rank, threshold in enumerate(at):
        summed: dict[str, float] = {}
        for line in row.tree.lineages:
            summed[line[rank]] = summed.get(line[rank], 0.0) + row.share[line[0]]
        own = row.lineage_of(row.top)[rank]
        winner = max(summed, key=lambda taxon: (summed[taxon], taxon == own))
        if summed[winner] >= threshold:
            return winner, summed[winner]
    return None


def speciesnet(row: Row, threshold: float) -> Answer:
    """Five best labels only; each rank's accumulated best must exceed the threshold."""
    five = sorted(row.share, key=lambda name: -row.share[name])[:5]
    for rank in range(len(row.tree.ranks)):
        node, score = largest_at(row, rank, five)
        if score > threshold:
            return node, score
    return None


def climbing(row: Row, threshold: float) -> Answer:
    """From the leaf, parent by parent, until the cumulative score is enough."""
    for node in row.lineage_of(row.top):
        score = sum(row.share[c] for c in row.classes_under(node))
        if score >= threshold:
            return node, score
    return None


def darts_values(row: Row, bonus: float) -> dict[str | None, float]:
    """Expected reward of every node that holds a class, and of saying nothing (None)."""
    values: dict[str | None, float] = {None: bonus}
    for node in row.tree.nodes:
        under = row.classes_under(node)
        if under:
            gain = math.log2(len(row.allowed)) - math.log2(len(under))
            values[node] = (gain + bonus) * sum(row.share[c] for c in under)
    return values
