from __future__ import annotations

from typing import Any

import pytest

from dagster_project.lib.release import conditions as gate
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, Allowed
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.815, 0.444, 0.25)
NAN = float("nan")


def report(at: Thresholds = AT, **changes: Any) -> dict[str, Any]:
    tiers = {"confident": {"n": 5}, "possible": {"n": 4}, "refer": {"n": 1}}
    outcomes = {"confident_correct": 0.5, "possible_top3": 0.3, "possible_miss": 0.1, "refer": 0.1}
    fit = {"at_fitted": 0.13, "at_released": 0.131, "raised_to_refer": False}
    whole = {"n": 10, "thresholds": at.as_dict(), "tiers": tiers, "outcomes": outcomes}
    return {**whole, "selection": {"confident": fit, "refer": fit}, "accept": [], **changes}


def reasons(at: Thresholds = AT, deployed: Thresholds | None = None, **changes: Any) -> list[str]:
    policy = changes.pop("policy", DEFAULT_POLICY)
    made = report(at, **changes)
    return gate.blocking_reasons(made, at, deployed, max_change=0.1, policy=policy)


def test_good_thresholds_pass() -> None:
    assert reasons() == []
    assert reasons(deployed=Thresholds(0.715, 0.344, 0.25)) == []  # a move of exactly the bound


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(Thresholds(0.4, 0.5, 0.25), id="refer_above_confident"),
        pytest.param(Thresholds(1.001, 0.5, 0.25), id="above_1"),
        pytest.param(Thresholds(0.8, -0.1, 0.25), id="below_0"),
        pytest.param(Thresholds(0.8, 0.4, 1.5), id="item_above_1"),
        pytest.param(Thresholds(NAN, 0.4, 0.25), id="nan"),
    ],
)
def test_thresholds_out_of_order_or_range_block(at: Thresholds) -> None:
    passed, facts = gate.thresholds_ordered(at)
    assert not passed
    assert set(facts) == {"confident", "refer", "possible_item"}
    assert any(reason.startswith("thresholds are not ordered") for reason in reasons(at))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"n": 11}, id="a_row_in_no_tier"),
        pytest.param({"outcomes": {"refer": 0.9}}, id="outcomes_short_of_1"),
        pytest.param({"n": 0, "tiers": {"refer": {"n": 0}}}, id="no_rows"),
    ],
)
def test_tiers_that_do_not_sum_block(changes: dict[str, Any]) -> None:
    assert not gate.tiers_sum(report(**changes))[0]
    assert reasons(**changes)[0].startswith("the tiers do not hold each row once")


def test_a_large_move_blocks_and_an_unknown_one_does_not() -> None:
    old = Thresholds(0.815, 0.343, 0.25)
    passed, facts = gate.change_bounded(AT, old, 0.1)
    assert not passed
    assert facts["change_refer"] == pytest.approx(0.101)
    assert len(reasons(deployed=old)) == 1
    assert gate.change_bounded(AT, None, 0.1) == (True, {"compared": False})
    assert gate.change_bounded(AT, old, None) == (True, {"compared": False})


def test_a_value_outside_the_range_of_the_policy_blocks() -> None:
    policy = DEFAULT_POLICY.model_copy(update={"allowed": Allowed(confident=(0.815, 0.9))})
    assert gate.within_allowed(AT, policy)[0]
    lower = Thresholds(0.814, 0.444, 0.25)
    assert not gate.within_allowed(lower, policy)[0]
    assert reasons(lower, policy=policy) == [
        "a threshold lies outside the range the policy allows (confident 0.814 in [0.815, 0.9])"
    ]


def test_a_report_made_elsewhere_blocks() -> None:
    assert reasons(thresholds={"confident": 0.9})[0].startswith("the report was made at other")


def test_rounding_that_changes_a_figure_warns_and_does_not_block() -> None:
    fine = report()["selection"]["refer"]
    selection = {"confident": fine, "refer": {**fine, "at_released": 0.547}}
    passed, facts = gate.rounding_kept({"selection": selection})
    assert not passed
    assert facts["refer_shift"] == pytest.approx(0.417)
    assert reasons(selection=selection) == []


@pytest.mark.parametrize(
    "confident",
    [
        pytest.param(
            {"at_fitted": None, "at_released": None, "raised_to_refer": False}, id="fixed"
        ),
        pytest.param({"at_fitted": 0.9, "at_released": 0.4, "raised_to_refer": True}, id="raised"),
    ],
)
def test_rounding_is_judged_only_where_it_happened(confident: dict[str, Any]) -> None:
    refer = report()["selection"]["refer"]
    verdict = gate.rounding_kept({"selection": {"confident": confident, "refer": refer}})
    assert verdict == (True, {"refer_shift": pytest.approx(0.001)})


COUNTS = {"n_rows": 10, "n_scored": 7, "n_without_probs": 2, "n_without_label": 1}


def test_rows_that_are_scored_or_counted_as_left_out_are_all_accounted_for() -> None:
    passed, facts = gate.rows_accounted(7, COUNTS, 10)
    assert passed
    assert facts == {"n_reported": 7, "n_split": 10, **COUNTS}


@pytest.mark.parametrize(
    ("n_reported", "changes", "n_split"),
    [
        pytest.param(6, {}, 10, id="report_of_fewer"),
        pytest.param(7, {}, 11, id="an_image_of_the_split_never_seen"),
        pytest.param(7, {"n_rows": 11}, 11, id="a_row_in_no_count"),
        pytest.param(7, {"n_without_label": 2}, 10, id="a_row_in_two_counts"),
        pytest.param(7, {"n_rows": 9}, 10, id="a_shard_missing"),
    ],
)
def test_a_row_that_is_lost_or_counted_twice_is_noticed(
    n_reported: int, changes: dict[str, int], n_split: int
) -> None:
    assert not gate.rows_accounted(n_reported, COUNTS | changes, n_split)[0]


def test_a_criterion_that_is_not_met_blocks_and_is_named() -> None:
    row = {"criterion": "covered_top1", "bound": "at_least", "target": 0.9}
    met = {**row, "observed": 0.91, "met": True}
    missed = {**row, "observed": None, "met": False}
    assert reasons(accept=[met]) == []
    assert reasons(accept=[met, missed]) == [
        "an acceptance criterion of the policy is not met (covered_top1 None, at least 0.900)"
    ]
