"""The thresholds before and after: same rows and policy, other labels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.review.effect import as_given, threshold_effect
from dagster_project.lib.tiers.policy import TierPolicy, parse_policy
from dagster_project.lib.tiers.selection import fit_thresholds


def policy(**confident: object) -> TierPolicy:
    rule = {"rule": "confident_wrong_share", "target": 0.05, **confident}
    return parse_policy({"confident": rule, "refer": {"rule": "share", "target": 0.1}})


def scored(n: int = 400) -> pl.DataFrame:
    """All labels agree with the model; every fifth is wrong below .7, and half are drawn."""
    score = np.linspace(0.3, 0.99, n)
    wrong = (score < 0.7) & (np.arange(n) % 5 == 0)
    asked = np.arange(n) // 5 % 2 == 0
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:03d}" for i in range(n)],
            "patient_id": [f"p{i:03d}" for i in range(n)],
            "label": np.where(asked & wrong, "b", "a"),
            "given_label": ["a"] * n,
            "predicted": ["a"] * n,
            "score": score,
            "top1": ~(asked & wrong),
            "top3": [True] * n,
            "top_probs": [[s, 0.1] for s in score],
            "top_classes": [["a", "b"]] * n,
            "reviewed": asked,
            "returned": asked,
            "asked": asked,
            "inclusion_probability": [0.5] * n,
            "stratum": ["x"] * n,
        }
    )


def test_labels_that_agree_hide_errors_until_they_are_reviewed() -> None:
    rows = scored()
    found = threshold_effect(
        rows, policy(), fit_thresholds(rows, policy()), expected={"expected": 0.04}
    )
    before, after = found["before"], found["after"]
    # on given labels nothing is wrong, so everything could be confident
    assert (before["confident"], before["given"]) == (before["refer"], 0.0)
    assert after["confident"] > before["confident"] + 0.1
    assert found["change"]["confident"] == after["confident"] - before["confident"]
    # above the refer threshold .369: 38 of 192 rows below .7 wrong, estimated from half of them
    assert before["estimate"] == pytest.approx(0.095, abs=0.01)
    assert before["ci95"][0] < before["estimate"] < before["ci95"][1]
    assert after["estimate"] <= 0.05
    assert (found["expected"], found["reason"]) == ({"expected": 0.04}, None)


def test_without_reviews_both_fits_are_one() -> None:
    rows = scored().with_columns(
        label=pl.col("given_label"),
        top1=pl.lit(value=True),
        reviewed=pl.lit(value=False),
        returned=pl.lit(value=False),
    )
    found = threshold_effect(rows, policy(), fit_thresholds(rows, policy()))
    assert found["before"] == found["after"]
    assert (found["before"]["estimate"], found["before"]["ci95"]) == (None, None)


def test_a_target_that_given_labels_cannot_meet_is_a_reason() -> None:
    rows = scored().with_columns(given_label=pl.lit("b"))
    fit = fit_thresholds(rows, policy())
    asked = policy(rule="covered_top1", target=0.9)
    found = threshold_effect(rows, asked, fit)
    assert (found["before"], found["change"]) == (None, None)
    assert found["reason"].startswith("on given labels: confident.rule covered_top1")
    nothing = threshold_effect(rows.with_columns(given_label=pl.lit(None, pl.String)), asked, fit)
    assert nothing["reason"] == "no image has a given label"


def test_rows_as_given_are_judged_by_the_given_label() -> None:
    rows = scored(10).with_columns(given_label=pl.Series([None, "b", "c", *["a"] * 7]))
    found = as_given(rows)
    assert found.height == 9
    assert found["label"].to_list()[:3] == ["b", "c", "a"]
    assert found["top1"].to_list()[:3] == [False, False, True]
    assert found["top3"].to_list()[:3] == [True, False, True]
    assert "reviewed" not in found.columns
