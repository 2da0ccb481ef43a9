"""Fitting and certifying on labels that were reviewed in part must not trust what was overwritten.

A review of the worst suspects corrects what the model contradicts and leaves what it repeats: the
naive fit is too loose.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.evidence.partial_review import reviewed_rows
from dagster_project.lib.evidence.review_bound import certified_upper, review_test
from dagster_project.lib.tiers.certification import certified_by
from dagster_project.lib.tiers.policy import TierPolicy, parse_policy
from dagster_project.lib.tiers.selection import fit_thresholds


def policy(target: float = 0.04, **more: object) -> TierPolicy:
    return parse_policy(
        {
            "confident": {"rule": "confident_wrong_share", "target": target},
            "refer": {"rule": "share", "target": 0.1},
            **more,
        }
    )


def reviewed(
    n: int = 6000, *, controls: float = 0.2, images: int = 1, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with review columns, and the same rows with the true labels.

    Three classes; the truth is wrong with a chance that falls with the score. One label in ten is
    wrong, half of these repeat a wrong prediction. All contradicted labels above .5 are candidates.
    """
    rng = np.random.default_rng(seed)
    score = 0.34 + 0.66 * rng.random(n)
    predicted = np.full(n, "a")
    truth = np.where(rng.random(n) < 0.55 + 0.45 * score, "a", "b")
    given = truth.copy()
    hidden = (truth != "a") & (rng.random(n) < 0.4)
    given[hidden] = "a"  # the label repeats the model's error
    shown = (truth == "a") & (rng.random(n) < 0.04)
    given[shown] = "c"
    candidate = (given != "a") & (score > 0.5)
    drawn = ~candidate & (rng.random(n) < controls)
    asked = candidate | drawn
    in_force = np.where(asked, truth, given)
    probability = np.where(candidate, 1.0, controls)
    second = np.minimum(0.3, 1 - score)
    frame = pl.DataFrame(
        {
            "image_uuid": [f"i{i:05d}" for i in range(n)],
            "patient_id": [f"p{i // images:05d}" for i in range(n)],
            "label": in_force,
            "given_label": given,
            "predicted": predicted,
            "score": score,
            "top1": in_force == "a",
            "top3": [True] * n,
            "top_probs": [[a, b] for a, b in zip(score, second, strict=True)],
            "top_classes": [["a", "b"]] * n,
            "reviewed": asked,
            "asked": asked,
            "inclusion_probability": probability,
        }
    )
    honest = frame.with_columns(label=pl.Series(truth), top1=pl.Series(truth == "a"))
    return frame, honest.drop("inclusion_probability", "reviewed", "asked", "given_label")


def test_the_fit_on_a_sample_is_near_the_fit_on_the_truth_and_the_naive_one_is_too_loose() -> None:
    frame, honest = reviewed(n=12_000)
    wanted = policy()
    true_fit = fit_thresholds(honest, wanted).confident
    fit = fit_thresholds(frame, wanted)
    naive = fit_thresholds(frame.drop("inclusion_probability"), wanted).confident
    assert fit.confident_rule.estimated
    assert naive < true_fit - 0.02
    assert abs(fit.confident - true_fit) < (true_fit - naive) / 2
    low, high = fit.confident_rule.ci95 or (1, 0)
    assert low <= true_fit <= high


def test_a_certificate_from_a_sample_pays_for_what_nobody_saw() -> None:
    frame, honest = reviewed(n=12_000)
    wanted = policy(0.06)
    sampled = fit_thresholds(frame, wanted).certificate
    full = fit_thresholds(honest, wanted).certificate
    assert sampled is not None
    assert full is not None
    assert sampled.reviewed_in_part
    assert not full.reviewed_in_part
    assert sampled.threshold is not None
    assert full.threshold is not None
    assert sampled.threshold > full.threshold


def test_few_controls_certify_nothing_and_say_why() -> None:
    frame, _ = reviewed(n=3000, controls=0.01)
    found = fit_thresholds(frame, policy(0.01, certify={"min_coverage": 0.1})).certificate
    assert found is not None
    assert found.status == "not_certified"
    assert "drawn at random leave much room" in (found.reason or "")
    assert found.rows_needed is None


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"accept": {"covered_top1": 0.5}}, id="covered_top1"),
        pytest.param({"certify": {"subgroups": ["predicted"]}}, id="subgroups"),
    ],
)
def test_what_a_sample_cannot_certify_waits_for_the_full_review(more: dict[str, object]) -> None:
    frame, _ = reviewed(n=1000)
    found = fit_thresholds(frame, policy(0.2, **more), groups=frame).certificate
    assert found is not None
    assert "once every image in play is reviewed" in (found.reason or "")


def test_a_full_review_is_the_plain_count() -> None:
    frame, honest = reviewed(n=3000, controls=1.0)
    whole = frame.with_columns(reviewed=pl.lit(True))
    assert fit_thresholds(whole, policy()) == fit_thresholds(honest, policy())


@pytest.mark.parametrize("images", [1, 3])
def test_the_quick_decision_is_that_of_the_bound(images: int) -> None:
    """``review_test`` decides without a bound; the bound is the slow, independent way to say it.

    By another inequality where patients have several images, so there only the order is common.
    """
    frame, _ = reviewed(n=1500, images=images)
    rows = reviewed_rows(frame, max_images=3)
    for threshold in (0.95, 0.9, 0.8):
        bound = certified_upper(rows, threshold, 0.1, max_images=3)
        assert bound is not None
        if images == 1:
            assert not review_test(rows, bound - 1e-4, 0.1, max_images=3)(threshold)
            assert review_test(rows, bound + 1e-4, 0.1, max_images=3)(threshold)
        else:
            assert review_test(rows, bound + 0.05, 0.1, max_images=3)(threshold)


def test_a_certificate_from_a_sample_is_wrong_no_more_often_than_delta() -> None:
    """60 draws at delta 20 %: 22 or more wrong ones have probability 0.2 % if it is valid."""
    wrong, wanted = 0, policy(0.06, certify={"delta": 0.2})
    for seed in range(60):
        frame, _ = reviewed(n=800, controls=0.5, seed=seed + 1000)
        found = certified_by(frame, wanted, released=0.9)
        assert found is not None
        if found.threshold is not None:
            # W(t) = integral of (1 - .55 - .45 s) / .66 from t to 1
            wrong += 0.45 * (1 - found.threshold) ** 2 / 2 / 0.66 >= 0.06
    assert wrong < 22


def test_with_unknown_probabilities_the_rules_use_the_given_labels() -> None:
    """No estimate exists then; labels overwritten where the model disagreed would flatter it."""
    frame, _ = reviewed(n=6000)
    unknown = frame.with_columns(
        inclusion_probability=pl.lit(None, pl.Float64), asked=pl.lit(value=False)
    )
    fit = fit_thresholds(unknown, policy(0.1))
    as_given = frame.with_columns(top1=pl.col("given_label") == "a").drop("inclusion_probability")
    assert fit.confident_rule.fitted == fit_thresholds(as_given, policy(0.1)).confident_rule.fitted
    assert (fit.confident_rule.estimated, fit.confident_rule.on_given) == (False, True)
    assert fit.certificate is not None
    assert "drawn for review is not known" in (fit.certificate.reason or "")


def test_enforcing_never_releases_what_was_not_tested() -> None:
    _, honest = reviewed(n=6000)
    wanted = parse_policy(
        {
            "confident": {"rule": "fixed", "target": 0.98},
            "refer": {"rule": "share", "target": 0.1},
            "accept": {"covered_top1": 0.7},
            "certify": {"enforce": True},
        }
    )
    with pytest.raises(RefusedError, match=r"0.980, which the rules .* is not certified"):
        fit_thresholds(honest, wanted)
