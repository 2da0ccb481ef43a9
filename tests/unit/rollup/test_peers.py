"""Other systems' rules by hand: where each of them goes, and where they differ on one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.config import Mask, RollupConfig
from dagster_project.lib.rollup.place import place
from dagster_project.lib.rollup.placed import UNPLACED, Placed
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.taxonomy import Taxonomy

TREE = Taxonomy(
    ("class", "family", "group"),
    tuple(zip("abcdefgh", "FFGGGHHI", "XXXXXYYY", strict=True)),
)


def placed(row: Any, rule: Any, parameter: float | None = None, **options: Any) -> Placed:
    config = RollupConfig(normalisation="none", rule=rule, parameter=parameter, **options)
    rows = prepare(np.array([row]), TREE.classes, config)
    return place(rows, TREE, config, np.array([0.8, 0.6, 0.4]))


def said(found: Placed) -> str | None:
    return None if found.node[0] == UNPLACED else TREE.nodes[found.node[0]]


DIFFUSE = [0.28, 0.02, 0.2, 0.2, 0.05, 0.125, 0.125, 0.0]


def test_one_diffuse_row_is_four_different_answers() -> None:
    # by family: F .30, G .45, H .25; by group: X .75, Y .25; top class a of F of X
    assert said(placed(DIFFUSE, "antenna")) == "X"
    assert said(placed(DIFFUSE, "climbing", 0.29)) == "F"
    assert said(placed(DIFFUSE, "speciesnet", 0.39)) == "G"  # off the lineage of a
    assert said(placed(DIFFUSE, "speciesnet", 0.67)) == "X"  # .28 + .2 + .2, not .75
    assert said(placed(DIFFUSE, "speciesnet", 0.69)) is None
    assert said(placed(DIFFUSE, "climbing", 0.69)) == "X"


def test_off_lineage_answers_say_so_and_what_the_leafs_ancestor_would_have_been() -> None:
    found = placed(DIFFUSE, "speciesnet", 0.39)
    assert found.off_lineage.tolist() == [True]
    assert TREE.nodes[found.lineage_node[0]] == "X"
    assert found.threshold.tolist() == [0.39]
    assert found.score == pytest.approx([0.4])  # c and d; e is not among the five largest


def test_speciesnets_threshold_must_be_exceeded_and_is_065_unless_given() -> None:
    at = [0.0] * 8
    at[0], at[7] = 0.65, 0.35
    assert said(placed(at, "speciesnet")) is None
    at[0], at[7] = 0.6875, 0.3125
    assert said(placed(at, "speciesnet")) == "a"


def test_the_sixth_of_equal_classes_is_left_out() -> None:
    # two of F and three of G are the first five of eight
    found = placed([0.125] * 8, "speciesnet", 0.3)
    assert said(found) == "G"
    assert found.score.tolist() == [0.375]


def test_climbing_says_the_leaf_first_and_equal_is_enough() -> None:
    row = [0.5, 0.25, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0]
    assert [said(placed(row, "climbing", t)) for t in (0.5, 0.75, 0.76)] == ["a", "F", None]


def test_darts_weighs_information_against_being_right() -> None:
    # of 8 classes a leaf is worth 3 bits, F 2, X log2(8/5)
    row = [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert said(placed(row, "darts", 0.0)) == "F"  # 2 bits for sure, 3 bits at even odds
    assert said(placed(row, "darts", 100.0)) == "F"  # being right is nothing extra: F is sure
    row = [0.5, 0.25, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0]
    # a: 3 * .5 + .5 bonus; F: 2 * .75 + .75 bonus; nothing: bonus
    assert said(placed(row, "darts", 0.0)) == "a"  # equal: the finest
    assert said(placed(row, "darts", 1.0)) == "F"
    assert said(placed(row, "darts", 6.0)) is None  # 6 = 2 * .75 + .75 * 6: equal is nothing
    assert np.isnan(placed(row, "darts", 1.0).threshold).all()


def test_darts_counts_only_classes_that_may_be_said() -> None:
    row = [0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    only = Mask(include=("a", "b"))
    # F is all that is left: to say it is to say nothing
    assert said(placed(row, "darts", 1.0, mask=only)) == "a"
    half = [0.25, 0.25, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert said(placed(half, "darts", 1.5, mask=only)) is None


def test_peers_pass_nothing_over() -> None:
    row = [0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7]
    assert said(placed(row, "antenna")) == "I"  # h by another name
    assert said(placed(row, "distribution")) == "Y"


@pytest.mark.parametrize(
    ("rule", "parameter", "says"),
    [
        pytest.param("climbing", None, "rule climbing needs a number", id="climbing"),
        pytest.param("darts", None, "rule darts needs a number", id="darts"),
        pytest.param("darts", -0.1, "-0.1 is below 0", id="negative"),
        pytest.param("climbing", float("nan"), "needs a number as parameter; got nan", id="nan"),
    ],
)
def test_a_parameter_that_a_rule_cannot_do_without_is_asked_for(
    rule: str, parameter: float | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        placed(DIFFUSE, rule, parameter)
