from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from evidence_worlds import World

from dagster_project.lib.evidence.clustered import (
    curve_band,
    excess,
    patient_sums,
    threshold_interval,
)
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.rows import PatientRows


def drawn(n: int, patients: int, seed: int = 0) -> PatientRows:
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.7
    number = np.unique(rng.integers(0, patients, n), return_inverse=True)[1]
    score = rng.integers(0, 12, n) / 11
    return PatientRows(score, right, right, number, int(number.max()) + 1, known=True)


def per_patient(rows: PatientRows, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.bincount(rows.patient[keep], minlength=rows.n_patients)


@pytest.mark.parametrize("patients", [1, 7, 200])
def test_the_sums_equal_counting_each_patient_at_each_score(patients: int) -> None:
    rows = drawn(120, patients)
    sums = patient_sums(rows, ~rows.top1)
    m = per_patient(rows, np.ones(120, dtype=bool))
    assert sums.threshold.tolist() == sorted(set(rows.score.tolist()), reverse=True)
    for at, t in enumerate(sums.threshold):
        n = per_patient(rows, rows.score >= t)
        k = per_patient(rows, (rows.score >= t) & ~rows.top1)
        expected = [n.sum(), k.sum(), n @ n, k @ k, n @ k, n @ m, k @ m]
        names = ("n", "k", "nn", "kk", "nk", "nm", "km")
        assert [getattr(sums, name)[at] for name in names] == expected
    assert (sums.total, sums.mm) == (120, int(m @ m))


@pytest.mark.parametrize("rate", ["k/N", "k/n", "n/N"])
def test_the_score_statistic_is_the_sum_of_excesses_by_patient(rate: str) -> None:
    rows, c = drawn(150, 30), 0.3
    difference, deviation = excess(patient_sums(rows, ~rows.top1), rate, c)
    for at, t in enumerate(sorted(set(rows.score.tolist()), reverse=True)):
        inside = rows.score >= t
        event = inside if rate == "n/N" else inside & ~rows.top1
        base = inside if rate == "k/n" else np.ones(150, dtype=bool)
        d = per_patient(rows, event) - c * per_patient(rows, base)
        assert difference[at] == pytest.approx(d.sum())
        assert deviation[at] ** 2 == pytest.approx(max(d @ d, base.sum() * c * (1 - c)))


def test_an_interval_with_gaps_is_returned_in_parts() -> None:
    """Right and wrong in long runs: the rate crosses its target more than once."""
    right = np.repeat([True, False, True, False], [400, 160, 900, 900])
    score = np.linspace(0.99, 0.01, right.size)
    rows = PatientRows(score, right, right, np.arange(right.size), right.size, known=True)
    parts = threshold_interval(patient_sums(rows, ~right), "k/n", 0.2, fitted=float(score[1]))
    assert parts is not None
    assert len(parts) > 1
    assert all(low <= high for low, high in parts)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(parts))


def test_the_fitted_threshold_is_always_inside() -> None:
    # one tie takes W from far below its target to far above: no rate is near the target
    right = np.repeat([True, False, True], [500, 400, 100])
    score = np.repeat([0.9, 0.6, 0.3], [500, 400, 100])
    rows = PatientRows(score, right, right, np.arange(1000), 1000, known=True)
    sums = patient_sums(rows, ~right)
    assert threshold_interval(sums, "k/N", 0.1, fitted=0.9) == [(0.9, 0.9)]
    single = PatientRows(score, right, right, np.zeros(1000, dtype=np.int64), 1, known=True)
    assert threshold_interval(patient_sums(single, ~right), "k/N", 0.1, fitted=0.9) is None


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("rate", ["k/N", "n/N"])
def test_the_interval_covers_the_true_threshold_about_as_often_as_it_says(
    images: int, rate: str
) -> None:
    """300 draws: a true 95 % misses 27 or more with probability 0.2 %."""
    rng = np.random.default_rng(8)

    def sample(patients: int) -> PatientRows:
        patient = np.repeat(np.arange(patients), images)
        first = patient * images
        score = rng.random(patient.size)
        same = rng.random(patient.size) < 0.5
        score = np.where(same, score[first], score)
        wrong = rng.random(patient.size) < 0.4 * (1 - score)
        wrong = np.where(same, wrong[first], wrong)
        return PatientRows(score, ~wrong, ~wrong, patient, patients, known=True)

    # W(t) = integral of 0.4 (1 - s) from t to 1 = 0.2 (1 - t)^2; coverage = 1 - t
    target = 0.05 if rate == "k/N" else 0.5
    missed = 0
    for _ in range(300):
        rows = sample(600)
        parts = threshold_interval(patient_sums(rows, ~rows.top1), rate, target, fitted=2.0)
        assert parts is not None
        missed += not any(low - 0.01 <= 0.5 <= high + 0.01 for low, high in parts)
    assert missed < 27


def test_the_band_is_wilson_for_single_images_and_wider_for_patients_with_several() -> None:
    rows = World().draw(np.random.default_rng(2), 500)
    sums = patient_sums(rows, ~rows.top1)
    low, high = curve_band(sums, "k/n")
    p, n = sums.k / sums.n, sums.n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    assert low == pytest.approx(np.maximum(centre - half, 0), abs=1e-6)
    assert high == pytest.approx(np.minimum(centre + half, 1), abs=1e-6)
    thrice = PatientRows(
        np.repeat(rows.score, 3), np.repeat(rows.top1, 3), np.repeat(rows.top3, 3),
        np.repeat(rows.patient, 3), rows.n_patients, known=True,
    )  # fmt: skip
    wide = curve_band(patient_sums(thrice, ~thrice.top1), "k/n")
    assert wide[1] - wide[0] == pytest.approx(high - low, abs=1e-6)


def test_a_rate_that_never_comes_near_its_target_has_no_interval() -> None:
    rows = World().draw(np.random.default_rng(2), 2000)
    sums = patient_sums(rows, ~rows.top1)
    lowest = float(sums.threshold[-1])
    assert threshold_interval(sums, "k/N", 0.9, fitted=lowest) is None
