from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dagster_project.lib.calibration.abstention import Areas, areas, tied_counts

# four tied rows, two of them wrong, above two right ones
SCORE = np.array([0.9, 0.9, 0.9, 0.9, 0.4, 0.4])
BEST = np.array([True, True, False, False, True, True])
WORST = np.array([False, False, True, True, True, True])


def of(score: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> Areas:
    return areas(*tied_counts(score, correct))


def in_row_order(correct: npt.NDArray[np.bool_]) -> float:
    """AURC as peers compute it: a sort that keeps tied rows as they came, then a trapezoid."""
    risk = np.cumsum(~correct) / np.arange(1, correct.size + 1)
    return float(np.trapezoid(risk, dx=1 / (correct.size - 1)))


def test_the_order_of_tied_rows_moves_other_tools_from_0_280_to_0_647_and_not_us() -> None:
    assert (round(in_row_order(BEST), 3), round(in_row_order(WORST), 3)) == (0.28, 0.647)
    assert of(SCORE, BEST) == of(SCORE, WORST)


def test_it_is_the_mean_over_all_orders_of_tied_rows() -> None:
    aurc, augrc = [], []
    for order in permutations(range(4)):
        wrong = np.cumsum(~BEST[[*order, 4, 5]])
        aurc.append(np.mean(wrong / np.arange(1, 7)))
        # W over coverage, trapezoid from (0, 0)
        augrc.append(np.trapezoid(np.append(0, wrong) / 6, dx=1 / 6))
    found = of(SCORE, BEST)
    assert found.aurc == pytest.approx(np.mean(aurc), rel=1e-14)
    assert found.augrc == pytest.approx(np.mean(augrc), rel=1e-14)


def test_three_rows_are_counted_by_hand() -> None:
    found = of(np.array([0.9, 0.8, 0.7]), np.array([False, True, True]))
    assert found.aurc == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found.e_aurc == pytest.approx((1 + 1 / 2 + 1 / 3) / 3 - (1 / 3) / 3)
    assert found.augrc == pytest.approx((0.5 + 1 + 1) / 9)


def test_augrc_is_its_closed_form_in_auroc() -> None:
    rng = np.random.default_rng(2)
    score = rng.integers(0, 8, 60) / 8
    correct = rng.random(60) < score
    pairs = score[correct][:, None] - score[~correct][None, :]
    auroc = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    accuracy = correct.mean()
    expected = (1 - auroc) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert of(score, correct).augrc == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("wrong", [0, 1, 5, 9, 10])
def test_a_perfect_ranking_has_no_excess(wrong: int) -> None:
    found = of(np.arange(10, 0, -1) / 10, np.arange(10) < 10 - wrong)
    assert found.e_aurc == pytest.approx(0, abs=1e-15)
    found = of(np.repeat([0.9, 0.1], [10 - wrong, wrong]), np.arange(10) < 10 - wrong)
    assert found.e_aurc == 0


def test_constant_scores_have_the_error_rate_as_area() -> None:
    found = of(np.full(8, 0.5), np.arange(8) < 6)
    assert found.aurc == pytest.approx(0.25)
    assert found.augrc == pytest.approx(0.125)


def test_all_right_is_zero_and_all_wrong_is_one() -> None:
    score = np.array([0.3, 0.2, 0.1])
    assert of(score, np.ones(3, bool)) == Areas(0.0, 0.0, 0.0)
    wrong = of(score, np.zeros(3, bool))
    assert [wrong.aurc, wrong.e_aurc, wrong.augrc] == pytest.approx([1.0, 0.0, 0.5])


def test_without_rows_every_area_is_null() -> None:
    assert of(np.zeros(0), np.zeros(0, bool)) == Areas(None, None, None)
