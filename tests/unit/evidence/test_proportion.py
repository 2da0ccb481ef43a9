from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dagster_project.lib.evidence.proportion import (
    Z95,
    clustered_interval,
    clustered_variance,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n"), [pytest.param(k, n, id=f"{k}_of_{n}") for k, n in [(0, 5), (3, 40), (8, 8)]]
)
def test_the_interval_solves_the_score_equation(k: int, n: int) -> None:
    # Wilson's bounds p are where |k/n - p| = z sqrt(p (1 - p) / n).
    low, high = (float(end[0]) for end in wilson(np.array([k / n]), n))
    for bound in (low, high):
        assert abs(k / n - bound) == pytest.approx(Z95 * (bound * (1 - bound) / n) ** 0.5, abs=1e-9)
    assert low <= k / n <= high


def test_with_one_image_a_patient_it_is_wilson_with_t_in_place_of_z() -> None:
    hit = np.arange(40) < 9
    found = clustered_interval(hit, np.arange(40))
    t = float(stats.t.ppf(0.975, 39))
    # the roots of (p - .225)^2 = t^2 p (1 - p) / n, found without Wilson's formula
    roots = np.roots([1 + t**2 / 40, -2 * 0.225 - t**2 / 40, 0.225**2])
    assert (found.low[0], found.high[0]) == pytest.approx(sorted(roots), abs=1e-12)
    assert (found.n[0], found.n_patients[0], found.n_hits[0]) == (40, 40, 9)


def test_the_variance_is_counted_by_hand() -> None:
    # rate 3/5; patients: 2 of 2, 1 of 3, so (2 - 1.2)^2 + (1 - 1.8)^2 = 1.28, times 2, over 25
    hit = np.array([True, True, True, False, False])
    found = clustered_variance(hit, np.array([7, 7, 2, 2, 2]))
    assert found == pytest.approx([2 * 1.28 / 25])


def test_images_that_agree_within_a_patient_count_once() -> None:
    hit = np.arange(30) < 12
    once = clustered_interval(hit, np.arange(30))
    thrice = clustered_interval(np.repeat(hit, 3), np.repeat(np.arange(30), 3))
    assert thrice.rate == once.rate
    # the ratio of the variances is 3 (n - 1/3) / (n - 1), so that the two differ by a hair
    assert (thrice.low[0], thrice.high[0]) == pytest.approx((once.low[0], once.high[0]), abs=2e-3)


def test_patients_that_are_more_alike_than_chance_make_no_narrower_interval() -> None:
    # one hit of two in every patient: no variance between patients, an effect of 0
    hit, patient = np.tile([True, False], 20), np.repeat(np.arange(20), 2)
    assert clustered_variance(hit, patient)[0] == 0
    share = float(stats.t.ppf(0.975, 19)) ** 2 / 40
    found = clustered_interval(hit, patient)
    assert found.high[0] - 0.5 == pytest.approx(0.5 / (1 + share) ** 0.5 * share**0.5)


@pytest.mark.parametrize(
    ("hits", "low", "high"),
    [pytest.param(0, 0.0, 0.31, id="none"), pytest.param(30, 0.69, 1.0, id="all")],
)
def test_all_or_none_is_as_uncertain_as_one_image_a_patient(
    hits: int, low: float, high: float
) -> None:
    found = clustered_interval(np.arange(30) < hits, np.repeat(np.arange(10), 3))
    single = clustered_interval(np.arange(10) < hits, np.arange(10))
    assert found.low == pytest.approx(single.low)
    assert found.high == pytest.approx(single.high)
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=0.03)


def test_each_group_is_counted_as_if_it_were_alone() -> None:
    rng = np.random.default_rng(1)
    # sparse numbers, and a patient in several groups: the sorted path and the counted path
    for spread in (1, 10_000):
        patient = rng.integers(0, 20, 200) * spread
        group, hit = rng.integers(0, 4, 200), rng.random(200) < 0.3
        found = clustered_interval(hit, patient, group, n_groups=5)
        variance = clustered_variance(hit, patient, group, n_groups=5)
        for g in range(4):
            alone = clustered_interval(hit[group == g], patient[group == g])
            assert [getattr(found, k)[g] for k in vars(alone)] == [
                v[0] for v in vars(alone).values()
            ]
            assert variance[g] == clustered_variance(hit[group == g], patient[group == g])[0]
        assert found.n[4] == 0
        assert np.isnan([found.rate[4], found.low[4], found.high[4], variance[4]]).all()


def test_one_patient_has_a_rate_and_no_interval() -> None:
    found = clustered_interval(np.array([True, False]), np.array([3, 3]))
    assert found.rate.tolist() == [0.5]
    assert np.isnan([found.low[0], found.high[0]]).all()


def test_nothing_is_counted_without_rows() -> None:
    found = clustered_interval(np.zeros(0, bool), np.zeros(0, np.int64))
    assert (found.n[0], found.n_patients[0]) == (0, 0)
    assert np.isnan([found.rate[0], found.low[0], found.high[0]]).all()


@pytest.mark.parametrize("patients", [30, 300])
@pytest.mark.parametrize("rate", [0.13, 0.5, 0.9])
def test_about_95_of_100_intervals_hold_the_truth_with_three_images_a_patient(
    patients: int, rate: float
) -> None:
    """Beta-binomial patients with correlation 0.4; by rows it would be 85 of 100.

    2,000 seeded draws: at a true 95 % fewer than 92.5 % would come once in 1e6.
    """
    draws, rho = 2000, 0.4
    rng = np.random.default_rng(patients)
    a, b = rate * (1 - rho) / rho, (1 - rate) * (1 - rho) / rho
    own = rng.beta(a, b, (draws, patients, 1))
    hit = (rng.random((draws, patients, 3)) < own).ravel()
    patient = np.tile(np.repeat(np.arange(patients), 3), draws)
    group = np.repeat(np.arange(draws), 3 * patients)
    found = clustered_interval(hit, patient, group, n_groups=draws)
    held = np.mean((found.low <= rate) & (rate <= found.high))
    assert 0.925 <= held <= 0.98
    rows = clustered_interval(hit, np.arange(hit.size), group, n_groups=draws)
    assert np.mean((rows.low <= rate) & (rate <= rows.high)) < 0.9
