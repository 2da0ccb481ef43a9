"""The gray zone: only where training asked for more, in either direction of a score."""

from __future__ import annotations

import numpy as np
import pytest
from gate_rows import DISTANCE, GAUGE, SIGNED, configured, frozen, rows

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Gauge, Recipe
from dagster_project.lib.gate.gray_zone import rates, recipe_tau, tau_train_of, why_none


@pytest.mark.parametrize(
    ("gauge", "zone", "tau", "train"),
    [
        pytest.param(GAUGE, {"multiple": 1.5}, 0.2, 0.3, id="multiple"),
        pytest.param(GAUGE, {"tau_train": 0.3}, 0.2, 0.3, id="number"),
        pytest.param(GAUGE, {"tau_train": 0.2}, 0.2, None, id="equal_is_no_zone"),
        pytest.param(GAUGE, {"tau_train": 0.1}, 0.2, None, id="looser_is_no_zone"),
        pytest.param(GAUGE, {"multiple": 2.0}, 0.0, None, id="no_multiple_of_zero"),
        pytest.param(GAUGE, {"multiple": 2.0}, -1.0, None, id="no_multiple_below_zero"),
        pytest.param(GAUGE, {"multiple": 1e300}, 1e300, None, id="beyond_floats"),
        pytest.param(DISTANCE, {"multiple": 2.0}, -4.0, -2.0, id="distance_multiple"),
        pytest.param(DISTANCE, {"tau_train": 3.0}, -4.0, -3.0, id="distance_number"),
        pytest.param(DISTANCE, {"tau_train": 5.0}, -4.0, None, id="distance_looser"),
    ],
)
def test_a_gray_zone_is_there_only_where_training_was_stricter(
    gauge: Gauge, zone: dict[str, float], tau: float, train: float | None
) -> None:
    config = configured(gauge, gray_zone=zone)
    assert tau_train_of(tau, config) == (None if train is None else pytest.approx(train))
    assert (why_none(tau, config) is None) == (train is not None)


def test_without_a_gray_zone_there_is_no_threshold_of_training() -> None:
    assert tau_train_of(0.2, configured()) is None
    assert why_none(0.2, configured()) is None


def test_rates_count_strictly_and_a_mixed_row_twice() -> None:
    score = np.array([0.1, 0.2, 0.25, 0.3, np.nan, np.inf, 0.1, 0.9], dtype=np.float32)
    fault = np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=bool)
    gate = frozen(float(np.float32(0.2)), float(np.float32(0.3)), gauge=GAUGE)
    found = rates(score, gate, fault=fault)
    assert found == {
        "n": 8,
        "bottom_rate": 5 / 8,  # 0.1, NaN, inf, and both that are flagged
        "gap_rate": 2 / 8,  # 0.2 itself, 0.25; not 0.3
        "accept_rate": 3 / 8,
        "fault_rate": 4 / 8,
        "semantic_bottom_rate": 2 / 8,  # the second 0.1 is a fault too
    }


def test_rates_of_a_distance_are_those_of_its_negative() -> None:
    score = np.array([0.5, 1.0, 2.0, 3.0, np.nan])
    far = rates(score, frozen(2.0, 1.0, gauge=DISTANCE))
    assert far == rates(-score, frozen(-2.0, -1.0, gauge=SIGNED))
    assert (far["bottom_rate"], far["gap_rate"]) == (2 / 5, 1 / 5)


def test_faults_as_numbers_are_refused_and_not_miscounted() -> None:
    with pytest.raises(InputError, match="fault is int64"):
        rates(np.array([0.5]), frozen(1.0, gauge=GAUGE), fault=np.array([0]))


def test_rates_of_nothing_are_null() -> None:
    found = rates(np.zeros(0), frozen(1.0, gauge=GAUGE))
    assert found.pop("n") == 0
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("quantile", "of", "tau"),
    [
        pytest.param(0.0, "all", 0.0, id="least"),
        pytest.param(1.0, "all", 100.0, id="most"),
        pytest.param(0.29, "all", 29.0, id="place_is_not_lost_to_rounding"),
        pytest.param(0.295, "all", 29.0, id="never_between_two_scores"),
        pytest.param(0.5, "in_range", 75.0, id="in_range"),
        pytest.param(0.5, "censored", 24.0, id="censored"),
    ],
)
def test_the_recipe_takes_an_observed_score_with_at_most_the_quantile_below(
    quantile: float, of: str, tau: float
) -> None:
    score = np.arange(101.0)
    noise = [np.nan, 1e9]  # a fault, and a row of the other side
    made = rows(
        [*score, *noise],
        [*(score >= 50), True, True],
        configured(),
        first=[True] * 102 + [False],
    )
    found = recipe_tau(made, Recipe(quantile=quantile, of=of))
    assert found == tau
    kept = {"all": score, "in_range": score[50:], "censored": score[:50]}[of]
    assert (kept < found).mean() <= quantile


def test_the_recipe_has_no_answer_without_a_score() -> None:
    made = rows([0.1, 0.2], [True, True], configured(), first=[True, False])
    assert recipe_tau(made, Recipe(quantile=0.5, of="censored")) is None
