"""What an image counts for, counted by hand, by loops and by other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scorecard_worlds import answering, seeded
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score

from dagster_project.lib.calibration.temperature import CLIP, fit_temperature_all
from dagster_project.lib.scorecard.outcomes import (
    NOBODY,
    QUANTUM,
    averages,
    class_counts,
    outcomes,
)


def test_six_images_counted_by_hand() -> None:
    # truth a a a b b c; the second and the fourth are answered wrongly, nobody is called c
    true = np.array([0, 0, 0, 1, 1, 2])
    found = outcomes(answering([0, 1, 0, 0, 1, 0], 3), true)
    counts = class_counts(found, true, 3)
    assert (counts.n.tolist(), counts.n_predicted.tolist()) == ([3, 2, 1], [4, 2, 0])
    assert counts.n_right.tolist() == [2, 1, 0]
    assert counts.recall.tolist() == [2 / 3, 1 / 2, 0]
    assert counts.precision.tolist()[:2] == [2 / 4, 1 / 2]
    assert math.isnan(counts.precision[2])  # nobody was called c: not 0
    assert counts.f1.tolist() == [4 / 7, 2 / 4, 0]
    assert counts.overprediction.tolist() == [4 / 3, 1, 0]
    measured = averages(found, true, 3)
    assert measured["top1"] == 3 / 6
    assert measured["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert measured["macro_f1"] == pytest.approx((4 / 7 + 1 / 2) / 3)


def test_a_class_without_an_image_has_no_recall_and_no_part_in_the_averages() -> None:
    true = np.array([0, 0])
    found = outcomes(answering([0, 1], 3), true)
    counts = class_counts(found, true, 3)
    assert counts.n_predicted.tolist() == [1, 1, 0]
    assert np.isnan(counts.recall).tolist() == np.isnan(counts.f1).tolist() == [False, True, True]
    assert np.isnan(counts.overprediction).tolist() == [False, True, True]
    assert averages(found, true, 3)["balanced_accuracy"] == 1 / 2
    assert averages(found, true, 3)["macro_f1"] == 2 / 3


def test_a_shared_top_is_wrong_and_names_nobody() -> None:
    true = np.array([0, 1, 2, 0])
    found = outcomes(np.full((4, 4), 0.5), true)
    assert not found.right.any()
    assert not found.top3.any()
    assert found.predicted.tolist() == [NOBODY] * 4
    assert class_counts(found, true, 4).n_predicted.tolist() == [0, 0, 0, 0]
    assert averages(found, true, 4)["macro_f1"] == 0


def test_losses_are_those_of_a_loop_over_images_and_classes() -> None:
    answers = seeded(n=30)
    probs = answers.probs["c0"].copy()
    probs[0] = [0, 1, 0, 1]  # both ends
    found = outcomes(probs, answers.true)
    for at, (row, truth) in enumerate(zip(probs.tolist(), answers.true.tolist(), strict=True)):
        brier = sum((p - (c == truth)) ** 2 for c, p in enumerate(row))
        clipped = [min(max(p, CLIP), 1 - CLIP) for p in row]
        nll = -sum(math.log(p if c == truth else 1 - p) for c, p in enumerate(clipped))
        assert found.brier[at] * QUANTUM == pytest.approx(brier, abs=5e-10)
        assert found.nll[at] * QUANTUM == pytest.approx(nll, abs=5e-10)


def test_averages_are_those_of_other_libraries() -> None:
    answers = seeded()
    probs, true = answers.probs["c1"], answers.true
    found = averages(outcomes(probs, true), true, 4)
    named = probs.argmax(axis=1)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, named))
    assert found["macro_f1"] == pytest.approx(f1_score(true, named, average="macro"))
    all_outputs = fit_temperature_all(probs, true, answers.patient).nll_before
    assert all_outputs is not None
    assert found["nll"] == pytest.approx(4 * all_outputs, abs=1e-9)
    normalised = probs / probs.sum(axis=1, keepdims=True)
    assert averages(outcomes(normalised, true), true, 4)["brier"] == pytest.approx(
        brier_score_loss(true, normalised, labels=range(4), scale_by_half=False), abs=1e-9
    )


def test_a_stored_float32_is_widened_and_nothing_else() -> None:
    answers = seeded(n=60)
    narrow = answers.probs["c0"].astype(np.float32)
    one, other = outcomes(narrow, answers.true), outcomes(narrow.astype(float), answers.true)
    assert all(
        (a == b).all() for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )
