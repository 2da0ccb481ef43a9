from __future__ import annotations

from typing import Any

import pytest

from dagster_project.lib.tiers.acceptance import acceptance
from dagster_project.lib.tiers.policy import Accept

REPORT: dict[str, Any] = {
    "tiers": {
        "confident": {"n": 50, "share": 0.5, "top1": 0.9, "top3": 1.0},
        "possible": {"n": 30, "share": 0.3, "top1": 0.5, "top3": 0.8},
        "refer": {"n": 20, "share": 0.2, "top1": 0.2, "top3": 0.5},
    },
    "outcomes": {"confident_wrong": 0.05},
    "selection": {"confident": {"certificate": None}},
}
NOBODY = {"n": 0, "share": 0.0, "top1": None, "top3": None}


@pytest.mark.parametrize(
    ("accept", "observed", "met"),
    [
        pytest.param({"confident_wrong_share": 0.05}, 0.05, True, id="at_most_and_equal"),
        pytest.param({"confident_wrong_share": 0.04}, 0.05, False, id="at_most_and_above"),
        pytest.param({"covered_top1": 0.9}, 0.9, True, id="at_least_and_equal"),
        pytest.param({"coverage": 0.6}, 0.5, False, id="at_least_and_below"),
        pytest.param({"refer_share": 0.25}, 0.2, True, id="refer_share"),
        pytest.param({"kept_top3": 0.93}, (50 + 24) / 80, False, id="kept_top3_over_two_tiers"),
        pytest.param({"certified": True}, False, False, id="no_certificate"),
    ],
)
def test_each_criterion_is_judged_by_its_own_figure(
    accept: dict[str, Any], observed: object, met: bool
) -> None:
    (row,) = acceptance(REPORT, Accept(**accept))
    assert row["observed"] == pytest.approx(observed)
    assert row["met"] is met


def test_an_undefined_figure_does_not_meet_a_criterion() -> None:
    report = {**REPORT, "tiers": {**REPORT["tiers"], "confident": NOBODY}}
    (row,) = acceptance(report, Accept(covered_top1=0.0))
    assert (row["observed"], row["met"]) == (None, False)


def test_a_policy_without_criteria_has_none() -> None:
    assert acceptance(REPORT, Accept()) == []


@pytest.mark.parametrize(
    ("estimate", "observed"),
    [pytest.param(0.07, 0.07, id="estimate"), pytest.param(None, 0.09, id="given_labels")],
)
def test_on_labels_reviewed_in_part_wrong_answers_are_judged_for_all_labels(
    estimate: float | None, observed: float
) -> None:
    figures = {"given": 0.09, "overwritten": 0.05, "estimate": estimate}
    review = {"confident_wrong": figures, "covered_top1": figures}
    (row,) = acceptance({**REPORT, "partial_review": review}, Accept(confident_wrong_share=0.06))
    assert (row["observed"], row["met"]) == (observed, False)
