from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers import reports
from dagster_project.lib.tiers.assign import TIERS, tier_of
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, full_report
from dagster_project.lib.tiers.movement import crossings, paired
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, PossibleItem, parse_policy
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(confident=0.8, refer=0.4, possible_item=0.25)


def rows(dtype: type[pl.DataType] = pl.Float64, **columns: Any) -> pl.DataFrame:
    """Six rows: two confident (one wrong), three possible, one refer."""
    rank = [0, 1, 0, 2, 5, 0]
    top = [[0.9, 0.1, 0.0], [0.8, 0.2, 0.1], [0.7, 0.3, 0.26], [0.5, 0.3, 0.2], [0.4, 0.25, 0.1]]
    frame = pl.DataFrame(
        {
            "image_uuid": list("abcdef"),
            "patient_id": list("ppqqrr"),
            "label": list("xxyyzz"),
            "predicted": list("xyyxxz"),
            "score": pl.Series([t[0] for t in top] + [0.3], dtype=dtype),
            "rank": rank,
            "top1": [r == 0 for r in rank],
            "top3": [r < 3 for r in rank],
            "top_probs": pl.Series([*top, [0.3, 0.1, 0.0]], dtype=pl.List(dtype)),
        }
    )
    return frame.with_columns(**{k: pl.Series(v) for k, v in columns.items()})


def test_a_score_equal_to_a_threshold_is_above_it() -> None:
    tiers = tier_of(rows(), AT).to_list()
    assert tiers == ["confident"] * 2 + ["possible"] * 3 + ["refer"]


def test_a_float32_score_is_compared_as_it_is_stored() -> None:
    # .8 is stored as .800000012, .7 as .699999988, .4 as .400000006
    at = Thresholds(confident=0.8, refer=0.7, possible_item=0.25)
    tiers = tier_of(rows(pl.Float32), at).to_list()
    assert tiers == ["confident"] * 2 + ["refer"] * 4


def test_a_hand_counted_report() -> None:
    assert reports.tier_report(rows(), AT) == {
        "n": 6,
        "thresholds": {"confident": 0.8, "refer": 0.4, "possible_item": 0.25},
        "full_coverage": {"top1": 3 / 6, "top3": 5 / 6},
        "tiers": {
            "confident": {"n": 2, "share": 2 / 6, "top1": 1 / 2, "top3": 1.0},
            "possible": {"n": 3, "share": 3 / 6, "top1": 1 / 3, "top3": 2 / 3},
            "refer": {"n": 1, "share": 1 / 6, "top1": 1.0, "top3": 1.0},
        },
        "outcomes": {
            "confident_correct": 1 / 6,
            "confident_wrong": 1 / 6,
            "possible_top3": 2 / 6,
            "possible_miss": 1 / 6,
            "refer": 1 / 6,
        },
    }


def test_a_tier_nobody_falls_in_has_null_rates() -> None:
    report = reports.tier_report(rows(), Thresholds(0.4, 0.4, 0.25))
    assert report["tiers"]["possible"] == {"n": 0, "share": 0.0, "top1": None, "top3": None}
    assert report["outcomes"]["possible_miss"] == 0.0


def test_a_hand_counted_highlight_sweep() -> None:
    sweep = reports.possible_item_sweep(rows(), AT, PossibleItem(cut=0.26))
    assert sweep["cut"].to_list() == [0.15, 0.2, 0.25, 0.26, 0.3, 0.35, 0.4]
    found = {row["cut"]: row for row in sweep.to_dicts()}
    # at .25 row c has 3 items, d 2, e 1: its .25 is not above the cut
    assert found[0.25] == {
        "cut": 0.25,
        "matches_1": 1 / 3,
        "matches_2": 1 / 3,
        "matches_3": 1 / 3,
        "mean": 2.0,
        "truth_in_highlighted": 1 / 3,
    }
    assert found[0.15]["truth_in_highlighted"] == 2 / 3  # d's truth is its third item, .2
    assert found[0.4]["matches_1"] == 1.0  # e's .4 is not above .4, the floor shows it


def test_floor_and_cap_bound_the_items() -> None:
    sweep = reports.possible_item_sweep(rows(), AT, PossibleItem(cut=0.25, floor=2, cap=2))
    assert sweep["matches_2"].to_list() == [1.0] * sweep.height
    assert sweep["mean"].to_list() == [2.0] * sweep.height


def test_a_sweep_without_possible_rows_is_null() -> None:
    sweep = reports.possible_item_sweep(rows(), Thresholds(0.0, 0.0, 0.25), PossibleItem())
    assert sweep.drop("cut").null_count().row(0) == (6,) * 5


def test_candidates_are_counted_at_the_released_threshold() -> None:
    table = reports.refer_candidates(rows(), 1 / 3)
    assert table.to_dicts() == [
        {
            "threshold": threshold,
            "refer_share": n / 6,
            "n_refer": n,
            "kept_top1": top1 / (6 - n),
            "kept_top3": top3 / (6 - n),
        }
        for threshold, n, top1, top3 in ((0.4, 1, 2, 4), (0.5, 2, 2, 4), (0.7, 3, 2, 3))
    ]


def test_candidates_that_leave_nobody_have_null_rates() -> None:
    table = reports.refer_candidates(rows(score=[0.99995] * 6), 0.5)
    assert table.to_dicts() == [
        {"threshold": 1.0, "refer_share": 1.0, "n_refer": 6, "kept_top1": None, "kept_top3": None}
    ]


def test_candidates_are_built_around_the_share_of_the_policy() -> None:
    share = {"rule": "share", "target": 0.2}
    confident = {"rule": "coverage", "target": 0.5}
    policy = parse_policy({"confident": confident, "refer": share})
    assert reports.refer_share_of(policy) == 0.2
    policy = parse_policy({"confident": confident, "refer": {"rule": "kept_top3", "target": 0.9}})
    assert reports.refer_share_of(policy) == 0.13


def test_crossings_count_who_moves_and_how_many_are_wrong() -> None:
    table = crossings(paired(rows(), rows(), AT, Thresholds(0.5, 0.35, 0.25)))
    moved = {(r["old_tier"], r["new_tier"]): (r["n"], r["n_wrong"]) for r in table}
    assert moved.pop(("possible", "confident")) == (2, 1)
    assert len(moved) == 5
    assert set(moved.values()) == {(0, 0)}


def test_the_baseline_is_paired_by_image() -> None:
    old = rows(
        image_uuid=list("fedcbz"),
        top1=[False, False, True, True, True, True],
        top3=[True] * 6,
    )
    # in both: b c d e f; new right c f; old right b c d
    report = reports.baseline_report(rows(), old, AT)
    assert report["n_common"] == 5
    assert report["difference"] == {"top1": -1 / 5, "top3": -1 / 5, "gained": 1, "lost": 2}
    assert report["n"] == 6
    with pytest.raises(InputError, match="no image in common"):
        reports.baseline_report(rows(), old.with_columns(image_uuid=pl.lit("x")), AT)


def test_the_full_report_has_the_keys_of_the_contract() -> None:
    coverage, share = {"rule": "coverage", "target": 0.3}, {"rule": "share", "target": 0.2}
    policy = parse_policy({"confident": coverage, "refer": share})
    fit = fit_thresholds(rows(), policy)
    labels = LabelsInfo("v1", provisional=True, n_reviewed=0)
    report = full_report(rows(), fit, policy, Context(labels))
    assert set(report) == {
        *("n", "thresholds", "full_coverage", "tiers", "outcomes", "selection", "labels"),
        *("baseline", "deployed", "estimand", "intervals", "patients", "moved", "accept"),
        *("label_noise", "partial_review", "calibration", "per_class", "subgroups", "reviews"),
    }
    chosen = report["selection"]["confident"]
    assert (chosen["rule"], chosen["target"], chosen["fitted"]) == ("coverage", 0.3, 0.8)
    assert len(chosen["ci95"]) == 2
    assert chosen["certificate"] is None
    assert report["labels"] == {"version": "v1", "provisional": True, "n_reviewed": 0}
    assert report["baseline"] is report["deployed"] is report["moved"] is None
    assert json.loads(json.dumps(report)) == report


def test_deployed_values_are_applied_to_the_same_rows() -> None:
    old = Thresholds(0.9, 0.35, 0.25)
    fit = fit_thresholds(rows(), DEFAULT_POLICY)
    labels = LabelsInfo("v1", provisional=False, n_reviewed=6)
    context = Context(labels, deployed=old, baseline=rows())
    report = full_report(rows(), fit, DEFAULT_POLICY, context)
    tiers = report["deployed"]["tiers"]
    assert [tiers[t]["n"] for t in TIERS] == [1, 4, 1]
    assert report["baseline"]["thresholds"] == old.as_dict()
    counts = [row["n"] for row in report["deployed"]["crossings"]]
    now = [report["tiers"][t]["n"] for t in TIERS]
    assert sum(counts) >= max(np.abs(np.subtract(now, [1, 4, 1])))
    assert report["moved"]["crossings"] == report["deployed"]["crossings"]
    assert json.loads(json.dumps(report)) == report
