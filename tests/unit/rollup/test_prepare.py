"""Shares by hand: each normalisation, each way of masking, and numbers at the edge of a float."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.config import Mask, RollupConfig
from dagster_project.lib.rollup.prepare import Prepared, prepare

CLASSES = ("a", "b", "c", "d")
NAN = np.nan


def prepared(
    rows: Any, how: Any = "l1", mask: Mask | None = None, *, dtype: Any = np.float64, **options: Any
) -> Prepared:
    config = RollupConfig(normalisation=how, mask=mask)
    return prepare(np.array(rows, dtype=dtype), CLASSES, config, **options)


def test_l1_divides_by_the_sum_and_odds_by_the_sum_of_odds() -> None:
    row = [[0.5, 0.2, 0.1, 0.2]]
    assert prepared(row).values[0] == pytest.approx([0.5, 0.2, 0.1, 0.2])
    halves = [[0.5, 0.75, 0.5, 0.0]]  # odds 1, 3, 1, 0
    assert prepared(halves, "odds").values[0].tolist() == pytest.approx([0.2, 0.6, 0.2, 0.0])
    assert prepared(halves).values[0] == pytest.approx([2 / 7, 3 / 7, 2 / 7, 0])


def test_odds_are_the_chance_that_this_class_holds_given_that_exactly_one_does() -> None:
    q = np.array([0.7, 0.4, 0.2, 0.05])
    only = np.array([q[k] * np.prod(1 - np.delete(q, k)) for k in range(4)])
    assert prepared([q], "odds").values[0] == pytest.approx(only / only.sum(), abs=1e-15)


def test_softmax_of_logits_is_odds_of_their_sigmoids() -> None:
    z = np.array([[2.0, -1.0, 0.5, -3.0]])
    by_hand = np.exp(z[0]) / np.exp(z[0]).sum()
    assert prepared(z, "softmax", from_logits=True).values[0] == pytest.approx(by_hand)
    assert prepared(z, "odds", from_logits=True).values[0] == pytest.approx(by_hand)
    q = 1 / (1 + np.exp(-z))
    assert prepared(q, "softmax").values[0] == pytest.approx(by_hand)
    assert prepared(z, "l1", from_logits=True).values[0] == pytest.approx(q[0] / q.sum())


def test_none_leaves_rows_that_sum_to_one_as_they_are() -> None:
    row = [0.1, 0.2, 0.3, 0.4]
    assert prepared([row], "none").values[0].tolist() == row


@pytest.mark.parametrize("how", ["none", "l1", "odds"])
def test_a_mask_takes_mass_away_and_says_how_much(how: str) -> None:
    row = [[0.5, 0.3, 0.1, 0.1]]
    before = prepared(row, how).values[0]
    left = prepared(row, how, Mask(exclude=("a", "d"), reweight=False))
    assert left.values[0].tolist() == [0.0, before[1], before[2], 0.0]
    assert left.kept_mass[0] == pytest.approx(before[1] + before[2])
    again = prepared(row, how, Mask(exclude=("a", "d")))
    assert again.values[0] == pytest.approx([0, *(before[1:3] / before[1:3].sum()), 0])
    assert again.values[0, [0, 3]].tolist() == [0.0, 0.0]
    assert again.kept_mass[0] == left.kept_mass[0]
    assert again.raw_max[0] == 0.3  # of the classes that may be said
    assert again.allowed.tolist() == [False, True, True, False]


def test_a_mask_that_takes_nothing_away_changes_no_digit() -> None:
    # just below 1/2, and above it once divided by a sum just below 1: twice as coarse there
    half = 0.5 - 4e-7 * np.random.default_rng(0).random(300)
    rows = np.stack([half, np.full(300, 0.3), 0.7 - 5e-7 - half, np.zeros(300)], axis=1)
    assert (prepared(rows, "none", Mask(exclude=("d",))).values == rows).all()


def test_below_the_least_kept_mass_a_row_is_not_decided_and_at_it_it_is() -> None:
    rows = [[0.5, 0.25, 0.25, 0.0], [0.75, 0.25, 0.0, 0.0]]
    mask = Mask(exclude=("a",), min_kept_mass=0.5)
    assert prepared(rows, "none", mask).decided.tolist() == [True, False]


@pytest.mark.parametrize("how", ["softmax", "odds", "l1"])
@pytest.mark.parametrize("gap", [800.0, 1e6, 1e300])
def test_no_distance_to_an_excluded_class_makes_the_kept_ones_vanish(how: str, gap: float) -> None:
    z = [[0.0, -gap, -gap, -2 * gap]]
    found = prepared(z, how, Mask(exclude=("a",)), from_logits=True)
    assert found.values[0].tolist() == [0.0, 0.5, 0.5, 0.0]
    assert found.kept_mass.tolist() == [0.0]
    assert found.decided.tolist() == [True]
    # without reweighting nothing is left that could be compared
    gone = prepared(z, how, Mask(exclude=("a",), reweight=False), from_logits=True)
    assert gone.decided.tolist() == [False]
    assert np.isnan(gone.values).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stored_one_is_above_every_number_below_it_and_finite(dtype: Any) -> None:
    below = np.nextafter(dtype(1), dtype(0))
    found = prepared([[1.0, below, 0.5, 0.0]], "odds", dtype=dtype).values[0]
    assert np.isfinite(found).all()
    assert found[0] > found[1] > found[2] > found[3] == 0
    both = prepared([[1.0, 1.0, 0.5, 0.0]], "odds", dtype=dtype).values[0]
    assert both[0] == both[1] == pytest.approx(0.5)


def test_the_smallest_numbers_still_have_shares() -> None:
    found = prepared([[0.9, 5e-324, 0.0, 0.0]], "l1", Mask(exclude=("a",)))
    assert found.values.tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_rows_without_probabilities_or_with_zeros_only_share_nothing_out() -> None:
    found = prepared([[NAN] * 4, [0.0] * 4, [0.5, 0.0, 0.0, 0.0]], "l1", Mask(exclude=("a",)))
    assert np.isnan(found.values).all()
    assert found.decided.tolist() == [False] * 3
    # nothing at all, nothing at all, and all of it on an excluded class
    assert np.isnan(found.kept_mass[:2]).all()
    assert found.kept_mass[2] == 0.0
    assert np.isnan(found.raw_max[0])


def test_a_table_without_rows_has_none_prepared() -> None:
    assert prepared(np.zeros((0, 4))).values.shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "how", "options", "says"),
    [
        pytest.param([[0.25] * 4, [0.9, 0.8, 0.1, 0.0]], "none", {},
                     r"row 2: they sum to 1.8, not to 1 \(1 such rows\)", id="sigmoids"),
        pytest.param([[NAN] * 4, [0.25] * 4], "softmax", {}, "sum to 1 already", id="softmaxed"),
        pytest.param([[0.5, 1.5, 0.0, 0.0]], "l1", {}, r"row 1: 1.5 is not a prob", id="above_1"),
        pytest.param([[0.5, -0.1, 0.0, 0.0]], "odds", {}, r"row 1: -0.1 is not", id="below_0"),
        pytest.param([[0.5, NAN, 0.0, 0.0]], "l1", {}, r"row 1: nan is not", id="partly_nan"),
        pytest.param([[0.5, -np.inf, 0.0, 0.0]], "l1", {"from_logits": True},
                     r"row 1: -inf is not a finite logit", id="infinite_logit"),
        pytest.param([[0.5, 0.5, 0.0, 0.0]], "none", {"from_logits": True},
                     "logits are no probabilities", id="logits_as_they_are"),
        pytest.param([[0.5, 0.5]], "l1", {}, "for 4 classes", id="width"),
    ],
)  # fmt: skip
def test_what_cannot_be_shares_is_refused(
    rows: npt.NDArray[np.float64], how: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        prepared(rows, how, **options)
