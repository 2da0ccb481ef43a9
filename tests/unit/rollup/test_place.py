"""Placing by hand: modes, ties, ranks that are never said, nodes that say nothing new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.config import Mask, RollupConfig
from dagster_project.lib.rollup.place import given_thresholds, place, trivial_nodes
from dagster_project.lib.rollup.placed import REASONS, UNPLACED, Placed
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.taxonomy import Taxonomy

# a and b are of one family, c alone, d and e of one; the last two families are of one group
TREE = Taxonomy(
    ("class", "family", "group"),
    (("a", "F", "X"), ("b", "F", "X"), ("c", "G", "Y"), ("d", "H", "Y"), ("e", "H", "Y")),
)
NAN = np.nan


def placed(rows: Any, at: Any, **options: Any) -> Placed:
    config = RollupConfig(normalisation="none", **options)
    return place(prepare(np.array(rows), TREE.classes, config), TREE, config, np.array(at))


def names(found: Placed) -> list[str | None]:
    return [None if v == UNPLACED else TREE.nodes[v] for v in found.node]


def test_the_first_rank_that_reaches_its_threshold_is_said_and_equal_is_enough() -> None:
    rows = [
        [0.8, 0.1, 0.1, 0.0, 0.0],
        [0.5, 0.25, 0.25, 0.0, 0.0],
        [0.125, 0.0, 0.25, 0.5, 0.125],
        [0.4, 0.1, 0.3, 0.1, 0.1],
    ]
    found = placed(rows, [0.8, 0.75, 0.875])
    assert names(found) == ["a", "F", "Y", None]
    assert found.rank.tolist() == [0, 1, 2, UNPLACED]
    assert found.score[:3] == pytest.approx([0.8, 0.75, 0.875])
    assert np.isnan(found.score[3])
    assert found.threshold[:3].tolist() == [0.8, 0.75, 0.875]
    assert np.isnan(found.threshold[3])
    assert found.leaf_top.tolist() == [0, 0, 3, 0]
    assert found.leaf_score.tolist() == [0.8, 0.5, 0.5, 0.4]
    assert [REASONS[r] for r in found.reason] == ["placed"] * 3 + ["nothing_clears"]


def test_lineage_stays_with_the_leafs_ancestors_where_distribution_goes_elsewhere() -> None:
    row = [[0.3, 0.05, 0.15, 0.25, 0.25]]
    lineage = placed(row, [0.9, 0.5, 0.4])
    assert names(lineage) == [None]
    elsewhere = placed(row, [0.9, 0.5, 0.4], rule="distribution")
    assert names(elsewhere) == ["H"]
    assert elsewhere.off_lineage.tolist() == [True]
    assert elsewhere.lineage_node.tolist() == [UNPLACED]
    lower = placed(row, [0.9, 0.33, 0.2], rule="distribution")
    assert names(lower) == ["H"]
    assert [TREE.nodes[v] for v in lower.lineage_node] == ["F"]
    assert lower.lineage_score == pytest.approx([0.35])


def test_of_equal_nodes_the_one_that_holds_the_top_class_is_said_else_the_first() -> None:
    # families .5, 0, .5; the top class is d
    assert names(placed([[0.25, 0.25, 0.0, 0.5, 0.0]], [NAN, 0.5, NAN], rule="distribution")) == [
        "H"
    ]
    # top class c (.25), families .375, .25, .375: neither of the larger holds it
    equal = [[0.1875, 0.1875, 0.25, 0.1875, 0.1875]]
    assert names(placed(equal, [NAN, 0.3, NAN], rule="distribution")) == ["F"]
    # equal classes: the first in output order
    assert names(placed([[0.0, 0.25, 0.25, 0.25, 0.25]], [0.25, NAN, NAN])) == ["b"]


def test_a_rank_without_threshold_and_one_above_1_are_never_said() -> None:
    row = [[0.5, 0.5, 0.0, 0.0, 0.0]]
    assert names(placed(row, [NAN, NAN, 0.5], skip_trivial_nodes=False)) == ["X"]
    assert names(placed(row, [1.01, 1.01, 0.5], skip_trivial_nodes=False)) == ["X"]
    assert names(placed(row, [NAN, NAN, NAN])) == [None]


def test_a_node_that_holds_what_a_finer_one_holds_is_passed_over() -> None:
    allowed = np.ones(5, dtype=bool)
    at = np.array([0.8, 0.6, 0.5])

    def trivial(mask: Any, thresholds: Any) -> list[str]:
        return [
            TREE.nodes[v] for v in np.flatnonzero(trivial_nodes(TREE, mask, np.array(thresholds)))
        ]

    # G is c; X is F
    assert trivial(allowed, at) == ["G", "X"]
    # where no family is ever said, X says less than anything that is
    assert trivial(allowed, [0.8, NAN, 0.5]) == ["G"]
    # without e, H is d; Y still is more than its parts
    assert trivial(np.array([True, True, True, True, False]), at) == ["G", "H", "X"]
    # without b and the whole of H, every node says what a class says
    assert trivial(np.array([True, False, True, False, False]), at) == ["F", "G", "X", "Y"]


def test_passing_over_says_less_or_nothing_never_more() -> None:
    row = [[0.1, 0.0, 0.7, 0.1, 0.1]]  # c, whose family is c alone
    assert names(placed(row, [0.8, 0.6, 0.5], skip_trivial_nodes=False)) == ["G"]
    assert names(placed(row, [0.8, 0.6, 0.5])) == ["Y"]
    assert names(placed(row, [0.8, 0.6, 0.95])) == [None]


def test_undecided_rows_keep_their_leaf_and_rows_without_probabilities_have_none() -> None:
    rows = [[0.6, 0.1, 0.1, 0.1, 0.1], [NAN] * 5, [1.0, 0.0, 0.0, 0.0, 0.0]]
    found = placed(rows, [0.0, 0.0, 0.0], mask=Mask(exclude=("a",), min_kept_mass=0.5))
    assert names(found) == [None, None, None]
    assert found.leaf_top.tolist() == [1, UNPLACED, UNPLACED]
    assert [REASONS[r] for r in found.reason] == [
        "kept_mass_too_small",
        "no_probabilities",
        "kept_mass_too_small",
    ]
    assert not found.off_lineage.any()


def test_a_masked_class_is_not_said_and_neither_is_a_node_that_is_masked_whole() -> None:
    row = [[0.05, 0.05, 0.0, 0.5, 0.4]]
    found = placed(row, [0.6, 0.0, 0.0], mask=Mask(exclude=("d", "e")), rule="distribution")
    assert names(found) == ["F"]


def test_no_rows_are_placed_nowhere() -> None:
    assert placed(np.zeros((0, 5)), [0.5, 0.5, 0.5]).node.shape == (0,)


def test_thresholds_by_name_leave_other_ranks_unsaid() -> None:
    found = given_thresholds({"group": 0.5, "class": 0}, TREE)
    assert np.isnan(found[1])
    assert found[[0, 2]].tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"famly": 0.5}, 'no rank "famly".*nearest "family"', id="unknown"),
        pytest.param({"family": -0.1}, "thresholds.family: -0.1", id="negative"),
        pytest.param({"family": float("inf")}, "thresholds.family: inf", id="infinite"),
    ],
)
def test_thresholds_of_no_rank_or_no_number_are_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        given_thresholds(given, TREE)


def test_other_classes_another_order_of_them_or_other_ranks_are_refused() -> None:
    config = RollupConfig()
    for names in ("abcd", "bacde"):
        other = prepare(np.full((1, len(names)), 0.2), names, config)
        with pytest.raises(InputError, match=f"classes '{names[0]}'.*a taxonomy over 'a'"):
            place(other, TREE, config, np.zeros(3))
    with pytest.raises(InputError, match="2 thresholds for the 3 ranks"):
        placed([[0.2] * 5], [0.5, 0.5])
