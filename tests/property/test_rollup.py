"""Roll-up: laws that hold for every tree, row, mask and threshold; every rule against its loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import rollup_oracles as oracles
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagster_project.lib.rollup import prepare as prepare_module
from dagster_project.lib.rollup.config import Mask, Normalisation, RollupConfig, RuleName
from dagster_project.lib.rollup.place import allowed_under, place
from dagster_project.lib.rollup.placed import UNPLACED, Placed
from dagster_project.lib.rollup.prepare import Prepared, prepare
from dagster_project.lib.rollup.taxonomy import Taxonomy
from dagster_project.lib.rollup.walk import node_scores

steady = settings(derandomize=True, deadline=None, max_examples=40)
PARTS = 16  # shares are whole sixteenths: sums are exact, and ties and boundaries are everywhere
RULES = get_args(RuleName)
BY_RANK = ("lineage", "distribution", "antenna")
sixteenths = st.integers(0, PARTS).map(lambda k: k / PARTS)
thresholds = st.one_of(sixteenths, sixteenths, st.sampled_from([np.nan, 1.5]), st.floats(0, 1))


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    """2 to 8 classes in any order of names, and 1 to 3 ranks above them."""
    names = draw(st.permutations("abcdefgh"))[: draw(st.integers(2, 8))]
    lines: list[tuple[str, ...]] = [(name,) for name in names]
    for rank in range(1, draw(st.integers(2, 4))):
        below = list(dict.fromkeys(line[-1] for line in lines))
        drawn = draw(st.lists(st.integers(0, 3), min_size=len(below), max_size=len(below)))
        parent = {
            node: f"{'-FGH'[rank]}{number}" for node, number in zip(below, drawn, strict=True)
        }
        lines = [(*line, parent[line[-1]]) for line in lines]
    return Taxonomy(("class", "family", "group", "realm")[: len(lines[0])], tuple(lines))


@dataclass(frozen=True)
class World:
    tree: Taxonomy
    probs: Any
    allowed: tuple[str, ...]
    at: Any
    skip: bool

    def config(self, rule: Any = "lineage", **options: Any) -> RollupConfig:
        parameter = {"climbing": 0.5, "darts": 0.5}.get(rule)
        return RollupConfig(
            rule=rule,
            **{
                "mask": Mask(include=self.allowed),
                "normalisation": "none",
                "parameter": parameter,
                "skip_trivial_nodes": self.skip,
                **options,
            },
        )

    def prepared(self, **options: Any) -> Prepared:
        return prepare(self.probs, self.tree.classes, self.config(**options))

    def placed(self, rule: Any = "lineage", at: Any = None, **options: Any) -> Placed:
        config = self.config(rule, **options)
        prepared = prepare(self.probs, self.tree.classes, config)
        return place(prepared, self.tree, config, self.at if at is None else at)


@st.composite
def worlds(draw: st.DrawFn, *, exact: bool = False) -> World:
    """1 to 4 rows that sum to 1; ``exact``: shares stay whole sixteenths, for nothing is masked."""
    tree = draw(trees())
    k = len(tree.classes)
    picks = draw(
        st.lists(
            st.lists(st.integers(0, k - 1), min_size=PARTS, max_size=PARTS), min_size=1, max_size=4
        )
    )
    allowed = tree.classes
    if not exact:
        allowed = tuple(draw(st.lists(st.sampled_from(tree.classes), min_size=1, unique=True)))
    return World(
        tree,
        np.array([np.bincount(row, minlength=k) / PARTS for row in picks]),
        allowed,
        np.array([draw(thresholds) for _ in tree.ranks]),
        draw(st.booleans()),
    )


@st.composite
def any_rows(draw: st.DrawFn, k: int, low: float, high: float) -> Any:
    cell = st.one_of(st.sampled_from([low, high, 0.0, 0.5]), st.floats(low, high))
    return np.array(draw(st.lists(st.lists(cell, min_size=k, max_size=k), min_size=1, max_size=4)))


def coarseness(found: Placed, tree: Taxonomy) -> Any:
    """Rank, with unplaced as coarsest."""
    return np.where(found.rank == UNPLACED, len(tree.ranks), found.rank)


def same(a: Placed, b: Placed) -> bool:
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True) for f in fields(a)
    )


# sums


@steady
@given(st.data(), trees(), st.sampled_from(["l1", "odds"]))
def test_a_parent_is_never_below_its_child_and_never_above_one(
    data: st.DataObject, tree: Taxonomy, how: Any
) -> None:
    probs = data.draw(any_rows(len(tree.classes), 0.0, 1.0))
    values = prepare(probs, tree.classes, RollupConfig(normalisation=how)).values
    scores = node_scores(values, tree)
    for line in tree.ancestors:
        for finer, coarser in pairwise(line):
            assert not (scores[:, coarser] < scores[:, finer]).any()
    assert not (scores > 1).any()
    by_hand = [
        [
            sum(v for v, line in zip(row, tree.lineages, strict=True) if node in line)
            for node in tree.nodes
        ]
        for row in values
    ]
    np.testing.assert_allclose(scores, by_hand, atol=1e-12)


# thresholds


@steady
@given(worlds(), st.sampled_from(BY_RANK))
def test_at_threshold_0_every_row_is_its_leaf_and_above_1_none_is_placed(
    world: World, rule: Any
) -> None:
    leaf = world.placed(rule, np.zeros(len(world.tree.ranks)))
    prepared = world.prepared()
    assert (leaf.node == np.where(prepared.decided, leaf.leaf_top, UNPLACED)).all()
    best = np.where(prepared.decided, np.argmax(prepared.values, axis=1), UNPLACED)
    assert (leaf.node == best).all()
    above = world.placed(rule, np.full(len(world.tree.ranks), np.nextafter(1, 2)))
    assert (above.node == UNPLACED).all()


def test_rows_that_sum_to_a_little_more_than_one_are_not_placed_above_one() -> None:
    tree = Taxonomy(("class", "family"), (("a", "F"), ("b", "F"), ("c", "G")))
    config = RollupConfig(normalisation="none", skip_trivial_nodes=False)
    over = prepare(np.array([[0.5, 0.5 + 5e-7, 0.0]]), tree.classes, config)
    at = np.array([np.nan, np.nextafter(1, 2)])
    assert place(over, tree, config, at).node.tolist() == [UNPLACED]


@steady
@given(worlds(), st.sampled_from(BY_RANK), st.data())
def test_raising_a_threshold_never_makes_a_result_finer(
    world: World, rule: Any, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, len(world.tree.ranks) - 1))
    raised = world.at.copy()
    raised[rank] += data.draw(sixteenths)  # NaN stays NaN: a rank that is never said
    before, after = world.placed(rule), world.placed(rule, raised)
    assert (coarseness(after, world.tree) >= coarseness(before, world.tree)).all()


@steady
@given(worlds(), st.sampled_from(["speciesnet", "climbing"]), sixteenths, sixteenths)
def test_raising_the_one_threshold_never_makes_a_result_finer(
    world: World, rule: Any, a: float, b: float
) -> None:
    before = world.placed(rule, parameter=min(a, b))
    after = world.placed(rule, parameter=max(a, b))
    assert (coarseness(after, world.tree) >= coarseness(before, world.tree)).all()


@steady
@given(worlds())
def test_a_larger_bonus_for_being_right_says_what_is_likelier(world: World) -> None:
    probable = [
        np.where(found.node == UNPLACED, 1.0, found.score)
        for found in (world.placed("darts", parameter=bonus) for bonus in (0.0, 0.3, 1.0, 1e9))
    ]
    decided = world.prepared().decided
    for lower, higher in pairwise(probable):
        assert (higher >= lower - 1e-9)[decided].all()
    assert (probable[-1] >= 1 - 1e-6).all()


# lineage


@steady
@given(worlds(), st.data())
def test_lineage_never_leaves_the_ancestors_and_never_makes_a_right_leaf_wrong(
    world: World, data: st.DataObject
) -> None:
    found = world.placed(data.draw(st.sampled_from(["lineage", "climbing"])))
    ancestors = world.tree.ancestors
    for node, top in zip(found.node, found.leaf_top, strict=True):
        assert node == UNPLACED or node in ancestors[top]
    assert not found.off_lineage.any()
    assert (found.lineage_node == found.node).all()
    true = data.draw(st.integers(0, len(world.tree.classes) - 1))
    right = (found.leaf_top == true) & (found.node != UNPLACED)
    assert np.isin(found.node[right], ancestors[true]).all()


@steady
@given(worlds())
def test_what_is_beside_distribution_is_what_lineage_says(world: World) -> None:
    lineage, beside = world.placed("lineage"), world.placed("distribution")
    assert (beside.lineage_node == lineage.node).all()
    assert np.array_equal(beside.lineage_score, lineage.score, equal_nan=True)
    own = world.tree.ancestors[beside.leaf_top, beside.rank]
    off = (beside.node != UNPLACED) & (beside.node != own)
    assert (beside.off_lineage == off).all()


@steady
@given(worlds(), st.sampled_from(["lineage", "distribution"]))
def test_passing_over_trivial_nodes_never_makes_a_result_finer(world: World, rule: Any) -> None:
    plain = world.placed(rule, skip_trivial_nodes=False)
    skipping = world.placed(rule, skip_trivial_nodes=True)
    assert (coarseness(skipping, world.tree) >= coarseness(plain, world.tree)).all()
    assert (skipping.leaf_top == plain.leaf_top).all()


# masks


@steady
@given(worlds(), st.sampled_from(RULES), st.booleans())
def test_masked_classes_are_never_said_nor_nodes_without_an_allowed_class(
    world: World, rule: Any, reweight: bool
) -> None:
    found = world.placed(rule, mask=Mask(include=world.allowed, reweight=reweight))
    under = allowed_under(world.tree, np.isin(world.tree.classes, world.allowed))
    for nodes in (found.node, found.lineage_node, found.leaf_top):
        assert (under[nodes[nodes != UNPLACED]] > 0).all()


@steady
@given(st.data(), trees(), st.sampled_from(["l1", "odds"]))
def test_two_masks_in_turn_are_one_mask_of_what_both_keep(
    data: st.DataObject, tree: Taxonomy, how: Any
) -> None:
    classes = tree.classes
    probs = data.draw(any_rows(len(classes), 0.0, 1.0))
    lists = st.lists(st.sampled_from(classes), min_size=1, unique=True)
    first, second = set(data.draw(lists)), set(data.draw(lists))
    assume(first & second)

    def masked(rows: Any, how: Any, names: set[str]) -> Prepared:
        mask = Mask(include=tuple(sorted(names)))
        return prepare(rows, classes, RollupConfig(normalisation=how, mask=mask))

    one = masked(probs, how, first)
    two = masked(one.values, "none", second)
    both = masked(probs, how, first & second)
    # a share far below the largest is 0 once rounded, and what is 0 shares nothing out
    fine = both.kept_mass > 1e-9 * one.kept_mass
    np.testing.assert_allclose(two.values[fine], both.values[fine], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        (one.kept_mass * two.kept_mass)[fine], both.kept_mass[fine], rtol=1e-6
    )
    assert (two.values[fine][:, ~both.allowed] == 0).all()


# numbers


@steady
@given(st.data(), trees(), st.sampled_from(["softmax", "odds", "l1"]))
def test_shares_are_finite_however_far_logits_are_apart(
    data: st.DataObject, tree: Taxonomy, how: Any
) -> None:
    reach = data.draw(st.sampled_from([800.0, 1e5, 1e300]))
    z = data.draw(any_rows(len(tree.classes), -reach, reach))
    allowed = data.draw(st.lists(st.sampled_from(tree.classes), min_size=1, unique=True))
    config = RollupConfig(normalisation=how, mask=Mask(include=tuple(allowed)))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = prepare(z, tree.classes, config, from_logits=True)
        placed = place(found, tree, config, np.zeros(len(tree.ranks)))
    assert np.isfinite(found.values).all()
    np.testing.assert_allclose(found.values.sum(axis=1), 1, atol=1e-12)
    assert ((found.kept_mass >= 0) & (found.kept_mass <= 1)).all()
    assert found.decided.all()
    largest = np.where(found.allowed, z, -np.inf).argmax(axis=1)
    assert (found.values[np.arange(len(z)), largest] == found.values.max(axis=1)).all()
    assert np.isin(placed.node, np.flatnonzero(found.allowed)).all()


@steady
@given(st.data(), worlds(), st.sampled_from(BY_RANK), st.sampled_from(["l1", "odds"]))
def test_the_order_of_the_classes_changes_no_digit(
    data: st.DataObject, world: World, rule: Any, how: Any
) -> None:
    k = len(world.tree.classes)
    order = list(data.draw(st.permutations(range(k))))
    probs = data.draw(any_rows(k, 0.0, 1.0))
    turned = replace(
        world,
        tree=Taxonomy(world.tree.ranks, tuple(world.tree.lineages[i] for i in order)),
        probs=probs[:, order],
    )
    world = replace(world, probs=probs)
    a, b = (w.prepared(normalisation=how) for w in (world, turned))
    assert np.array_equal(a.values[:, order], b.values, equal_nan=True)
    assert np.array_equal(a.kept_mass, b.kept_mass, equal_nan=True)
    # ties go by output order; rows without any must not know it
    scores = node_scores(a.values, world.tree)
    untied = np.ones(len(probs), dtype=bool)
    for rank in range(len(world.tree.ranks)):
        at_rank = scores[:, world.tree.rank_of == rank]
        untied &= (at_rank == at_rank.max(axis=1, keepdims=True)).sum(axis=1) == 1
    found, other = (w.placed(rule, normalisation=how) for w in (world, turned))
    name = [[None if v == UNPLACED else w.tree.nodes[v] for v in f.node]
            for w, f in ((world, found), (turned, other))]  # fmt: skip
    for row in np.flatnonzero(untied):
        assert name[0][row] == name[1][row]
        assert np.array_equal(found.score[row], other.score[row], equal_nan=True)


@steady
@given(worlds(), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_rows_do_not_know_each_other_and_the_same_rows_give_the_same_bytes(
    world: World, rule: Any, random: Any
) -> None:
    found = world.placed(rule)
    assert same(found, world.placed(rule))
    assert {len(getattr(found, f.name)) for f in fields(found)} == {len(world.probs)}
    order = list(range(len(world.probs)))
    random.shuffle(order)
    alone = replace(world, probs=world.probs[order]).placed(rule)
    assert same(alone, Placed(**{f.name: getattr(found, f.name)[order] for f in fields(found)}))


def test_rows_of_several_blocks_are_as_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tree = Taxonomy(
        ("class", "family"), tuple((c, f) for c, f in zip("abcdefg", "PPQQRRR", strict=True))
    )
    probs = rng.random((50, 7)) ** 3
    for rule in RULES:
        config = RollupConfig(rule=rule, parameter=0.5, mask=Mask(exclude=("b",)))
        found = []
        for block in (8192, 7):
            monkeypatch.setattr(prepare_module, "BLOCK", block)
            prepared = prepare(probs, tree.classes, config)
            found.append(place(prepared, tree, config, np.array([0.5, 0.4])))
        assert same(*found)


@steady
@given(st.data(), worlds(), st.sampled_from(RULES), st.sampled_from(["l1", "odds"]))
def test_rolling_up_what_has_been_prepared_changes_nothing(
    data: st.DataObject, world: World, rule: Any, how: Any
) -> None:
    probs = data.draw(any_rows(len(world.tree.classes), 0.0, 1.0))
    first = replace(world, probs=probs).prepared(normalisation=how)
    config = world.config(rule)
    kept = first.decided
    again = prepare(first.values[kept], world.tree.classes, config)
    assert np.array_equal(again.values, first.values[kept])
    a = place(first, world.tree, config, world.at)
    b = place(again, world.tree, config, world.at)
    for name in ("node", "rank", "score", "leaf_top"):
        assert np.array_equal(getattr(a, name)[kept], getattr(b, name), equal_nan=True), name


# every rule against its loop


def rows_of(world: World) -> list[oracles.Row]:
    return [
        oracles.Row(
            world.tree, dict(zip(world.tree.classes, row, strict=True)), frozenset(world.allowed)
        )
        for row in world.probs
    ]


def answers(found: Placed, tree: Taxonomy) -> list[oracles.Answer]:
    return [
        None if node == UNPLACED else (tree.nodes[node], float(score))
        for node, score in zip(found.node, found.score, strict=True)
    ]


@settings(steady, max_examples=100)
@given(worlds(exact=True), st.sampled_from([0.65, 0.5, 0.25, 1.0]))
def test_every_rule_says_what_its_loop_says(world: World, parameter: float) -> None:
    rows, at, tree = rows_of(world), world.at.tolist(), world.tree
    found = {
        rule: answers(world.placed(rule, parameter=parameter), tree)
        for rule in RULES
        if rule != "darts"
    }
    assert found["lineage"] == [oracles.lineage(row, at, world.skip) for row in rows]
    assert found["distribution"] == [oracles.distribution(row, at, world.skip) for row in rows]
    assert found["antenna"] == [oracles.antenna(row, at) for row in rows]
    assert found["speciesnet"] == [oracles.speciesnet(row, parameter) for row in rows]
    assert found["climbing"] == [oracles.climbing(row, parameter) for row in rows]


@steady
@given(worlds(exact=True), st.sampled_from([0.0, 0.25, 1.0, 3.0]))
def test_darts_says_a_node_of_largest_expected_reward(world: World, bonus: float) -> None:
    found = answers(world.placed("darts", parameter=bonus), world.tree)
    for row, answer in zip(rows_of(world), found, strict=True):
        values = oracles.darts_values(row, bonus)
        said = None if answer is None else answer[0]
        assert values[said] == pytest.approx(max(values.values()), abs=1e-12)
        if answer is not None:
            assert answer[1] == math.fsum(row.share[c] for c in row.classes_under(answer[0]))


def test_normalisations_are_all_known() -> None:
    assert set(get_args(Normalisation)) == {"none", "softmax", "odds", "l1"}
