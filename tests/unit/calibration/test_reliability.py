from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from dagster_project.lib.calibration.reliability import (
    calibration_error,
    equal_mass_bins,
    reliability,
)


def test_bins_and_errors_are_counted_by_hand() -> None:
    # two bins of three: means .2 and .8, one of three and two of three right
    score = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    correct = np.array([True, False, True, True, False, False])
    found = reliability(score, correct, np.arange(6), bins=2)
    assert found.mean_score == pytest.approx([0.2, 0.8])
    assert found.right.rate == pytest.approx([1 / 3, 2 / 3])
    error = calibration_error(found)
    gap = 1 / 3 - 0.2
    assert error.ece == pytest.approx(gap)
    # Kumar, Liang, Ma: a(1 - a)/(n_b - 1) is taken off each squared gap
    assert error.squared == pytest.approx(gap**2 - (1 / 3) * (2 / 3) / 2)
    assert error.ece_debiased == 0.0


def test_the_debiased_error_is_that_of_the_paper_when_no_patient_has_two_images() -> None:
    rng = np.random.default_rng(5)
    score = rng.uniform(0.2, 1, 900)
    correct = rng.random(900) < score**2
    found = reliability(score, correct, rng.permutation(900))
    total = 0.0
    for part in np.array_split(np.argsort(score), 15):
        accuracy = correct[part].mean()
        own = accuracy * (1 - accuracy) / (len(part) - 1)
        total += len(part) / 900 * ((accuracy - score[part].mean()) ** 2 - own)
    error = calibration_error(found)
    assert error.squared == pytest.approx(total, rel=1e-12)
    assert error.ece_debiased == pytest.approx(total**0.5, rel=1e-12)


def test_equal_scores_share_a_bin_and_empty_bins_vanish() -> None:
    score = np.array([0.5] * 90 + [0.1, 0.2, 0.3] + [0.9] * 7)
    bins = equal_mass_bins(score, 10)
    assert [len(set(bins[score == s])) for s in (0.5, 0.9)] == [1, 1]
    assert sorted(set(bins.tolist())) == list(range(bins.max() + 1))
    assert bins.max() + 1 < 10


def test_a_block_of_equal_scores_goes_where_its_middle_is() -> None:
    # rows 1 to 7 of 8 are equal: they begin in the first half, and their middle is in the second
    assert equal_mass_bins(np.array([0.1] + [0.5] * 7), 2).tolist() == [0] + [1] * 7


def test_bins_without_ties_have_equal_mass() -> None:
    sizes = np.bincount(equal_mass_bins(np.random.default_rng(0).random(1003), 15))
    assert len(sizes) == 15
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("images", [1, 3], ids=["one_image_a_patient", "three_images_a_patient"])
def test_the_debiased_square_of_a_calibrated_model_is_zero_on_average(images: int) -> None:
    """Below 0 about half the time, where the plain ECE is .08; 300 seeded draws of 300 images."""
    rng = np.random.default_rng(images)
    shared = 0.7 if images > 1 else 0.0
    squares, plain = [], []
    for _ in range(300):
        score = rng.uniform(0.2, 1, 300)
        of_patient = np.repeat(rng.normal(size=300 // images), images)
        luck = ndtr(shared * of_patient + np.sqrt(1 - shared**2) * rng.normal(size=300))
        patient = np.repeat(np.arange(300 // images), images)
        error = calibration_error(reliability(score, luck < score, patient))
        squares.append(error.squared)
        plain.append(error.ece)
    squared = np.array(squares, dtype=float)
    assert abs(squared.mean()) < 4 * squared.std() / np.sqrt(300)
    assert 0.4 < np.mean(squared < 0) < 0.65
    assert np.mean(np.array(plain, dtype=float)) > 0.06


def test_undefined_errors_are_null() -> None:
    nothing = np.zeros(0)
    none = reliability(nothing, nothing.astype(bool), nothing.astype(np.int64))
    assert none.rows() == []
    assert vars(calibration_error(none)) == {"ece": None, "ece_debiased": None, "squared": None}
    one = reliability(np.array([0.8]), np.array([True]), np.array([0]))
    assert one.rows() == [
        {"n": 1, "n_patients": 1, "mean_score": 0.8, "accuracy": 1.0, "low": None, "high": None}
    ]
    error = calibration_error(one)
    assert error.ece == pytest.approx(0.2)
    assert (error.ece_debiased, error.squared) == (None, None)
