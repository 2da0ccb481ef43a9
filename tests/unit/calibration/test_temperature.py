from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, logit, ndtr

from dagster_project.lib.calibration.temperature import (
    CLIP,
    fit_temperature,
    fit_temperature_all,
    map_threshold,
    temper,
)


def rows(
    rng: np.random.Generator, patients: int, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three images a patient that share their luck; right with chance sigmoid(x / T)."""
    x = rng.normal(1, 1.5, 3 * patients)
    shared = np.repeat(rng.normal(size=patients), 3)
    luck = ndtr(0.7 * shared + np.sqrt(0.51) * rng.normal(size=3 * patients))
    return expit(x), luck < expit(x / temperature), np.repeat(np.arange(patients), 3)


def test_two_scores_have_a_temperature_in_closed_form() -> None:
    # all at .8 (and mirrored at .2), 3 of 4 as forecast: sigmoid(logit(.8)/T) = .75
    score = np.array([0.8] * 4 + [0.2] * 4)
    correct = np.array([True, True, True, False, False, False, False, True])
    fit = fit_temperature(score, correct, np.arange(8))
    assert fit.temperature == pytest.approx(np.log(4) / np.log(3), rel=1e-12)
    assert fit.nll_before == pytest.approx(-(0.75 * np.log(0.8) + 0.25 * np.log(0.2)))
    assert fit.nll_after == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert fit.n_clipped == 0
    # 8 patients with (q - y) x of 6 * .25 and 2 * .75 times log 4; curvature 8 * .1875 * log(4)^2
    width = float(stats.t.ppf(0.975, 7)) * (8 / 7 * 1.5) ** 0.5 / 1.5 / np.log(3)
    expected = [fit.temperature * np.exp(-width), fit.temperature * np.exp(width)]
    assert fit.ci95 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("truth", [0.2, 1.0, 1.5, 6.0])
def test_it_is_the_minimum_that_a_general_search_finds(truth: float) -> None:
    score, correct, patient = rows(np.random.default_rng(3), 200, truth)
    fit = fit_temperature(score, correct, patient)

    def nll(log_t: float) -> float:
        signed = np.where(correct, 1, -1) * logit(score) / np.exp(log_t)
        return float(-np.mean(log_expit(signed)))

    found = minimize_scalar(nll, bounds=(-4, 6), method="bounded", options={"xatol": 1e-9})
    assert fit.temperature == pytest.approx(np.exp(found.x), rel=1e-5)
    assert fit.nll_after == pytest.approx(found.fun, rel=1e-10)


def test_saturated_scores_are_clipped_and_counted() -> None:
    score = np.array([1.0, 1.0, 0.9, 0.3, 0.0], dtype=np.float32)
    fit = fit_temperature(score, np.array([True, False, True, False, False]), np.arange(5))
    assert fit.n_clipped == 3
    assert fit.temperature is not None
    assert 1 < fit.temperature < 1e3
    assert np.isfinite([fit.nll_before, fit.nll_after]).all()  # type: ignore[arg-type]
    assert np.float32(1) - np.float32(CLIP) == np.nextafter(np.float32(1), np.float32(0))


@pytest.mark.parametrize(
    ("score", "correct", "reason"),
    [
        pytest.param([], [], "no rows", id="nothing"),
        pytest.param([0.7], [True], "one row", id="one_row"),
        pytest.param([0.7, 0.4], [True, True], "all rows are right", id="all_right"),
        pytest.param([0.7, 0.4], [False, False], "all rows are wrong", id="all_wrong"),
        pytest.param([0.7, 0.7], [True, False], "all scores are equal", id="constant"),
        pytest.param([0.7, 0.4], [True, False], "the best T is 0", id="separated"),
        pytest.param([0.7, 0.4], [False, True], "no finite T", id="upside_down"),
        pytest.param([0.5, 0.5 + 1e-9], [False, True], "the best T is 0", id="at_one_half"),
    ],
)
def test_where_there_is_no_temperature_it_is_null_and_says_why(
    score: list[float], correct: list[bool], reason: str
) -> None:
    fit = fit_temperature(np.array(score), np.array(correct, bool), np.arange(len(score)))
    assert (fit.temperature, fit.ci95, fit.nll_after) == (None, None, None)
    assert fit.reason is not None
    assert reason in fit.reason


def test_the_interval_holds_the_truth_about_95_of_100_times() -> None:
    """500 seeded draws of 100 patients; at a true 94 % fewer than 450 hold once in 1e4."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(500):
        fit = fit_temperature(*rows(rng, 100, 1.5))
        assert fit.ci95 is not None
        held += fit.ci95[0] <= 1.5 <= fit.ci95[1]
    assert 450 <= held <= 495


def test_one_patient_has_a_temperature_and_no_interval() -> None:
    score, correct, _ = rows(np.random.default_rng(3), 50, 1.5)
    fit = fit_temperature(score, correct, np.zeros(150, np.int64))
    assert fit.temperature is not None
    assert fit.ci95 is None


def test_repeating_every_image_of_a_patient_leaves_the_interval() -> None:
    score, correct, patient = rows(np.random.default_rng(4), 60, 1.5)
    once = fit_temperature(score, correct, patient)
    twice = fit_temperature(np.tile(score, 2), np.tile(correct, 2), np.tile(patient, 2))
    assert twice.ci95 == pytest.approx(once.ci95)


def test_all_outputs_are_the_same_fit_over_every_class() -> None:
    rng = np.random.default_rng(6)
    probs = expit(rng.normal(-2, 1.5, (120, 4)))
    true = rng.integers(0, 4, 120)
    probs[np.arange(120), true] = expit(rng.normal(1, 1.5, 120))
    patient = np.repeat(np.arange(60), 2)
    found = fit_temperature_all(probs, true, patient)
    one_hot = np.eye(4, dtype=bool)[true]
    flat = fit_temperature(probs.ravel(), one_hot.ravel(), np.repeat(patient, 4))
    assert found.temperature == pytest.approx(flat.temperature, rel=1e-12)
    assert found.ci95 == pytest.approx(flat.ci95, rel=1e-12)
    assert fit_temperature_all(probs[:1], true[:1], patient[:1]).reason == "one row"
    assert fit_temperature_all(probs[:0], true[:0], patient[:0]).reason == "no rows"


def test_tempering_leaves_0_one_half_and_1_where_they_are() -> None:
    assert [map_threshold(t, 3.7) for t in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert temper(np.array([[0.0, 1.0]], dtype=np.float32), 0.2).tolist() == [[0.0, 1.0]]
    assert map_threshold(0.815, 1.0) == pytest.approx(0.815, rel=1e-15)
