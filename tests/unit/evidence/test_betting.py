from __future__ import annotations

import math

import numpy as np
import pytest

from dagster_project.lib.evidence.betting import log_wealth, upper_bound


def by_hand(losses: list[float], alpha: float, delta: float) -> float:
    """The formula of the docstring, one patient at a time."""
    total, spread, wealth, best = 0.5, 0.25, 0.0, 0.0
    variance = 0.25
    for number, loss in enumerate(losses, start=1):
        bet = min(1.0, math.sqrt(2 * math.log(1 / delta) / (len(losses) * variance)))
        wealth += math.log1p(bet * (alpha - loss))
        best = max(best, wealth)
        total += loss
        spread += (loss - total / (number + 1)) ** 2
        variance = spread / (number + 1)
    return best


def test_the_wealth_equals_betting_by_hand() -> None:
    rng = np.random.default_rng(1)
    losses = rng.choice([0.0, 0.1, 0.5, 1.0], size=(4, 200), p=[0.8, 0.1, 0.05, 0.05])
    for alpha in (0.05, 0.2, 1.0):
        expected = [by_hand(row.tolist(), alpha, 0.05) for row in losses]
        assert log_wealth(losses, alpha, delta=0.05) == pytest.approx(expected, rel=1e-12)


def test_nothing_is_shown_without_patients_or_against_a_bound_of_0() -> None:
    assert log_wealth(np.zeros((2, 0)), 0.1, delta=0.05).tolist() == [0, 0]
    assert log_wealth(np.zeros((1, 500)), 0.0, delta=0.05).tolist() == [0]


def test_one_total_loss_after_total_bets_is_ruin_and_no_error() -> None:
    # alpha 0 and a bet of 1 lose everything on the first loss of 1
    losses = np.concatenate([np.zeros(400), [1.0]])[None, :]
    assert log_wealth(losses, 0.0, delta=0.05).tolist() == [0]


def test_without_errors_the_bound_is_close_to_the_rule_of_three() -> None:
    bound = upper_bound(np.zeros(1000), delta=0.05)
    assert bound == pytest.approx(-math.log(0.05) / 1000, rel=0.05)
    assert upper_bound(np.ones(50), delta=0.05) == 1.0


def test_the_bound_is_monotone_in_alpha_so_that_bisection_finds_it() -> None:
    losses = (np.random.default_rng(2).random(300) < 0.1).astype(np.float64)
    grid = np.linspace(0, 1, 201)
    wealth = np.array([log_wealth(losses[None], a, delta=0.05)[0] for a in grid])
    assert (np.diff(wealth) >= -1e-9).all()
    bound = upper_bound(losses, delta=0.05)
    assert wealth[grid >= bound].min() >= math.log(20)
    assert losses.mean() < bound < losses.mean() + 0.1


def test_the_bound_is_broken_no_more_often_than_delta() -> None:
    """400 draws at delta 10 %: more than 57 breaks have probability 0.2 % if the bound is valid,
    and 56 % of a bound that is really broken 15 % of the time would show."""
    rng = np.random.default_rng(5)
    broken = 0
    for _ in range(400):
        losses = rng.choice([0.0, 1 / 3, 1.0], size=300, p=[0.9, 0.06, 0.04])
        broken += upper_bound(losses, delta=0.1) < 0.06
    assert broken <= 57
