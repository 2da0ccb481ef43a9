"""Operating points: chosen on calibration rows, judged on the others, honest where they cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from gate_rows import DISTANCE, configured, judged_twice, rows, sides

from dagster_project.lib.gate.config import GateConfig, Gauge, parse_config
from dagster_project.lib.gate.measures import measures
from dagster_project.lib.gate.points import grid, operating_points
from dagster_project.lib.gate.scores import GateScores, make_scores

LOOSE = {"delta": 0.4, "max_rows_per_group": 1}
"""So that a handful of rows can certify something: 0 of 5 refutes 0.2 at 0.4."""


def world(config: GateConfig, n: int = 2000, *, directed: bool = True) -> GateScores:
    """Censored rows score lower; three rows a group; sides right five times in six."""
    rng = np.random.default_rng(2)
    in_range = rng.random(n) < 0.6
    score = np.exp(np.where(in_range, 1.0, -0.8) + rng.normal(0, 0.8, n))
    score[rng.random(n) < 0.01] = np.nan
    true = [None if inside else ("above", "below")[row % 2] for row, inside in enumerate(in_range)]
    pred = [side if side and rng.random() < 5 / 6 else "below" for side in true]
    return make_scores(
        score,
        in_range,
        config,
        group=pl.Series([f"g{row // 3}" for row in range(n)]),
        direction=sides(true, pred) if directed else None,
    )


def points_of(scores: GateScores, config: GateConfig) -> dict[str, Any]:
    found: dict[str, Any] = operating_points(scores, config)["points"]
    return found


def test_a_hand_counted_case() -> None:
    config = configured(
        taus=tuple(range(1, 12)),
        certify=LOOSE,
        points={
            "safety_first": {"target": 0.2},
            "accuracy_first": {"target": 0.5},
            "rules": {"cheap": {"choose": "best", "order": ["fn_in", "cost"]}},
        },
    )
    scores = judged_twice([1, 2, 3, 4, 9, 5, 6, 7, 8, 10], [False] * 5 + [True] * 5, config)
    found = operating_points(scores, config)
    points = found["points"]
    # 0.8^5 = 0.328 <= 0.4: no censored row may be accepted, one may not
    assert points["safety_first"]["tau"] == 10.0
    known = points["safety_first"]["bounds"]["fp_cens"]
    assert (known["observed"], known["n"], known["tau"]) == (0.0, 5, 10.0)
    assert known["upper"] == pytest.approx(1 - 0.4**0.2)
    # (1 + 5) / 32 <= 0.4 < (1 + 5 + 10) / 32: one in-range row may be withheld, two may not
    assert points["accuracy_first"]["tau"] == 6.0
    assert points["accuracy_first"]["bounds"]["fn_in"]["observed"] == 0.2
    assert points["balanced"]["tau"] == 5.0  # 0.2 + 0
    assert points["balanced"]["status"] == "backed"
    assert points["cheap"]["tau"] == 1.0  # fn_in is 0 up to 5, and cost rises with tau
    assert points["cheap"]["certified"] is None
    assert points["direction_aware"]["status"] == "unavailable"
    assert points["direction_aware"]["reason"] == (
        "macro_f1 is undefined: the scores have no direction columns"
    )
    assert found["order"] == ["cheap", "balanced", "accuracy_first", "safety_first"]
    change = {row["to"]: row["per_1000"] for row in found["neighbours"]}
    assert change["accuracy_first"]["answered"] == -100.0  # the 5
    assert change["safety_first"]["answered_censored"] == -100.0  # the 9


def test_the_tau_of_safety_is_the_smallest_certified_and_of_accuracy_the_largest() -> None:
    config = configured(
        certify={"max_rows_per_group": 3},
        points={"safety_first": {"target": 0.1}, "accuracy_first": {"target": 0.2}},
    )
    scores = world(config)
    points = points_of(scores, config)
    taus, _ = grid(scores, config)
    for name, quantity, step in (
        ("safety_first", "fp_cens", -1),
        ("accuracy_first", "fn_in", 1),
    ):
        point = points[name]
        assert (point["status"], point["certified"]) == ("backed", True)
        known = point["bounds"][quantity]
        assert known["observed"] < known["upper"] <= known["target"]
        at = int(np.flatnonzero(taus == point["tau"])[0])
        one_further = configured(
            taus=(float(taus[at + step]),),
            certify={"max_rows_per_group": 3},
            points={"safety_first": {"target": 0.1}, "accuracy_first": {"target": 0.2}},
        )
        assert points_of(scores, one_further)[name]["status"] == "unavailable"


def test_labels_of_evaluation_rows_choose_nothing() -> None:
    config = configured(points={"safety_first": {"target": 0.1}})
    scores = world(config)
    other = replace(scores, in_range=np.where(scores.first, scores.in_range, ~scores.in_range))
    here, there = points_of(scores, config), points_of(other, config)
    for name, point in here.items():
        assert point["tau"] == there[name]["tau"]
        assert point["calibration"] == there[name]["calibration"]
    assert here["safety_first"]["evaluation"] != there["safety_first"]["evaluation"]


def test_no_calibration_row_has_a_part_in_the_grid() -> None:
    config = configured()
    scores = world(config)
    moved = replace(
        scores,
        score=np.where(scores.first, 7.5, scores.score),
        in_range=~scores.in_range,
    )
    assert grid(scores, config)[0].tolist() == grid(moved, config)[0].tolist()
    taus, source = grid(scores, configured(taus={"quantiles": 11}))
    assert taus.size == 11
    assert set(taus) <= set(scores.score[~scores.first].tolist())
    assert source == "11 quantiles of evaluation rows' scores"
    given, source = grid(scores, configured(DISTANCE, taus=(3.0, 1.0, 3.0)))
    assert given.tolist() == [1.0, 3.0]  # oriented by the gauge of the scores
    assert source == "given"


def test_many_distinct_scores_become_a_thousand_taus_and_few_stay() -> None:
    config = configured()
    assert grid(world(config, 4000), config)[0].size == 1000
    scores = world(config, 300)
    few, source = grid(scores, config)
    assert few.tolist() == sorted(set(scores.score[~scores.first & ~scores.fault].tolist()))
    assert source == "every distinct score of evaluation rows"


def test_ties_of_the_best_go_on_along_the_order_and_then_to_the_smaller_tau() -> None:
    config = configured(
        taus=(2.0, 2.5, 3.0),
        points={"rules": {"first": {"choose": "best", "order": ["fp_cens"]}}},
    )
    scores = judged_twice([1, 4, 5], [False, True, True], config)
    assert points_of(scores, config)["first"]["tau"] == 2.0


def test_a_perfect_zero_wins() -> None:
    config = configured(
        taus=(1.0, 2.0, 3.0), points={"rules": {"least": {"choose": "best", "order": ["fp_cens"]}}}
    )
    scores = judged_twice([1, 2, 3, 3], [False, False, True, True], config)
    points = points_of(scores, config)
    assert points["least"]["tau"] == 3.0
    assert points["least"]["calibration"]["fp_cens"] == 0.0
    assert points["balanced"]["tau"] == 3.0
    assert points["balanced"]["calibration"]["fp_cens+fn_in"] == 0.0


def test_balanced_is_not_added_where_another_preset_has_its_tau() -> None:
    config = configured(taus=(1.0, 3.0), certify=LOOSE, points={"safety_first": {"target": 0.5}})
    scores = judged_twice([1, 1, 1, 3, 3, 3], [False] * 3 + [True] * 3, config)
    points = points_of(scores, config)
    assert points["safety_first"]["tau"] == points["balanced"]["tau"] == 3.0
    assert points["balanced"]["status"] == "not_added"
    assert points["balanced"]["reason"] == "safety_first has the same tau"
    assert points["balanced"]["evaluation"] is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"in_range": [True] * 6}, "no censored row is among", id="no_censored"),
        pytest.param({"fault": [True] * 6}, "no evaluation row has a finite score", id="faults"),
        pytest.param({"taus": (9.0,)}, "no tau answers a calibration row", id="beyond_all"),
        pytest.param(
            {},
            "fp_cens is not shown to be below 5 % even at tau 3, the strictest that answers a row: "
            "0 % of 3 censored calibration rows, upper bound 63.2 %; about 62 censored",
            id="too_few",
        ),
        pytest.param(
            {"score": [3, 3, 3, 1, 1, 1]},
            "100 % of 3 censored calibration rows, upper bound 100 %; no number of rows would do",
            id="never",
        ),
    ],
)
def test_what_cannot_be_shown_is_unavailable_and_says_why(
    options: dict[str, Any], said: str
) -> None:
    config = configured(certify={"max_rows_per_group": 1}, taus=options.get("taus", "distinct"))
    scores = judged_twice(
        options.get("score", [1, 1, 1, 3, 3, 3]),
        options.get("in_range", [False] * 3 + [True] * 3),
        config,
    )
    if "fault" in options:
        scores = replace(scores, fault=np.ones(12, dtype=bool))
    point = points_of(scores, config)["safety_first"]
    assert point["status"] == "unavailable"
    assert said in point["reason"]
    assert (point["tau"], point["tau_train"], point["evaluation"]) == (None, None, None)
    assert point["certified"] is False


def test_a_tau_that_answers_nobody_is_no_operating_point() -> None:
    config = configured(taus=(5.0, 9.0), certify=LOOSE, points={"safety_first": {"target": 0.3}})
    # at 9 nothing is accepted, so that fp_cens is certified there; at 5 one of two censored is
    scores = judged_twice([5, 1, 5, 5], [False, False, True, True], config)
    point = points_of(scores, config)["safety_first"]
    assert point["status"] == "unavailable"
    assert point["bounds"]["fp_cens"]["tau"] == 5.0


def test_two_bounds_that_no_tau_meets_together_say_where_each_fails() -> None:
    config = configured(
        certify={"max_rows_per_group": 1},
        points={
            "rules": {
                "both": {
                    "choose": "best",
                    "bound": {"fp_cens": 0.06, "fn_in": 0.06},
                    "order": ["cost"],
                },
                "easy": {
                    "choose": "best",
                    "bound": {"fp_cens": 0.4, "fn_in": 0.4},
                    "order": ["cost"],
                },
            }
        },
    )
    points = points_of(world(config), config)
    both = points["both"]
    assert both["status"] == "unavailable"
    assert "fp_cens is not shown" in both["reason"]
    assert "fn_in is not shown" in both["reason"]
    assert both["bounds"]["fp_cens"]["tau"] < both["bounds"]["fn_in"]["tau"]
    assert {bound["delta"] for bound in both["bounds"].values()} == {0.025}
    assert points["easy"]["status"] == "backed"
    assert points["safety_first"]["bounds"]["fp_cens"]["delta"] == 0.05


def test_evaluation_rates_are_of_evaluation_rows_by_group() -> None:
    config = configured(gray_zone={"multiple": 2.0})
    scores = world(config)
    point = points_of(scores, config)["balanced"]
    tau, train = point["tau"], point["tau_train"]
    assert train == 2 * tau
    judge = ~scores.first
    answered = judge & ~scores.fault & (scores.score >= tau)
    found = point["evaluation"]
    censored = judge & ~scores.in_range
    assert found["fp_cens"]["n"] == int(censored.sum())
    assert found["fp_cens"]["rate"] == (answered & censored).sum() / censored.sum()
    assert found["gap_rate"]["rate"] == (answered & (scores.score < train)).sum() / judge.sum()
    measured = measures(scores, np.array([tau]), config, where=judge)
    for name, values in measured.items():
        assert found[name]["rate"] == pytest.approx(values[0], abs=1e-12), name
        if found[name]["low"] is not None:
            assert found[name]["low"] <= found[name]["rate"] <= found[name]["high"]
    assert found["cost"]["low"] is None
    assert found["bottom_rate"]["n_groups"] == np.unique(scores.group[judge]).size  # type: ignore[index]


def test_neighbours_and_steps_count_what_the_next_tau_answers_more_or_fewer() -> None:
    config = configured(
        taus=(1.0, 2.0, 3.0, 4.0),
        points={
            "rules": {
                "low": {"choose": "best", "order": ["fn_in", "bottom_rate"]},
                "high": {"choose": "best", "order": ["fp_cens", "bottom_rate"]},
            }
        },
    )
    # ten rows on each side; low at 1, high at 4
    scores = judged_twice([1, 2, 3, 1, 2, 3, 4, 4, 4, np.nan], [False] * 3 + [True] * 7, config)
    found = operating_points(scores, config)
    pair = next(row for row in found["neighbours"] if row["to"] == "high")
    assert pair["from"] == found["order"][-2]
    ends = [row for row in found["steps"] if row["from"] in ("low", "high")]
    assert [(row["from"], row["to_tau"], row["answers"]) for row in ends] == [
        ("low", 2.0, "fewer"),
        ("high", 3.0, "more"),
    ]
    assert ends[0]["per_1000"] == {
        "answered": -200.0,
        "answered_in_range": -100.0,
        "answered_censored": -100.0,
        "faults": 100.0,
    }
    assert ends[1]["per_1000"]["answered"] == 200.0


def test_a_distance_picks_the_mirrored_taus_in_its_own_units() -> None:
    options: dict[str, Any] = {
        "certify": {"max_rows_per_group": 3},
        "points": {"safety_first": {"target": 0.1}, "accuracy_first": {"target": 0.2}},
        "gray_zone": {"multiple": 2.0, "tau_infer": {"quantile": 0.1}},
    }
    far = configured(DISTANCE, **options)
    scores = world(far)
    near = configured(Gauge(head="e", magnitude="negated", normalisation="none"), **options)
    mirrored = replace(scores, gauge=near.gauge)
    ours, theirs = operating_points(scores, far), operating_points(mirrored, near)
    assert ours["order"] == theirs["order"]
    for name, point in ours["points"].items():
        assert point["tau"] == (None if theirs["points"][name]["tau"] is None
                                else -theirs["points"][name]["tau"])  # fmt: skip
        assert point["evaluation"]["fn_in"] == theirs["points"][name]["evaluation"]["fn_in"]
    recipe = ours["points"]["quantile_multiple"]
    assert recipe["tau_train"] == recipe["tau"] / 2
    assert theirs["points"]["quantile_multiple"]["no_gray_zone"] is not None  # taus below 0


def test_the_same_rows_in_another_order_give_the_same_points() -> None:
    config = configured(certify={"max_rows_per_group": 3})
    scores = world(config)
    order = np.random.default_rng(1).permutation(len(scores))
    assert scores.group is not None
    assert scores.direction is not None
    shuffled = replace(
        scores,
        score=scores.score[order],
        in_range=scores.in_range[order],
        fault=scores.fault[order],
        group=scores.group[order],
        first=scores.first[order],
        direction=replace(
            scores.direction,
            true=scores.direction.true[order],
            pred=scores.direction.pred[order],
        ),
    )
    assert operating_points(scores, config) == operating_points(shuffled, config)


def test_the_result_is_plain_json_without_nan() -> None:
    config = parse_config(
        {
            "gauge": {"head": "q", "magnitude": "abs", "normalisation": "none"},
            "gray_zone": {"multiple": 1.5, "tau_infer": {"quantile": 0.05, "of": "censored"}},
        }
    )
    for scores in (world(config), world(config, 40, directed=False)):
        text = json.dumps(operating_points(scores, config), allow_nan=False)
        assert json.loads(text) == operating_points(scores, config)


def test_direction_f1_alone_is_best_where_the_fewest_censored_rows_are_answered() -> None:
    config = configured(points={"rules": {"sides": {"choose": "best", "order": ["-direction_f1"]}}})
    points = points_of(world(config, 4000), config)
    assert points["sides"]["calibration"]["fp_cens"] < 0.02
    assert points["sides"]["calibration"]["fn_in"] > 0.6
    assert points["direction_aware"]["calibration"]["fn_in"] < 0.3


def test_sums_that_differ_by_rounding_alone_are_tied() -> None:
    config = configured(taus=(3.0, 5.0))
    # at 3: 2 of 10 censored accepted, 1 of 10 in range withheld; at 5: none, and 3
    scores = judged_twice(
        [1] * 8 + [4] * 2 + [2] + [4] * 2 + [9] * 7, [False] * 10 + [True] * 10, config
    )
    assert 0.2 + 0.1 > 0.3
    assert points_of(scores, config)["balanced"]["tau"] == 3.0  # by cost


def test_what_neighbours_change_is_counted_on_evaluation_rows() -> None:
    config = configured(taus=(1.0, 2.0))
    scores = rows(
        [1, 1, 1, 2, 1, 2],
        [False, True, True, True, False, True],
        config,
        first=[True, True, True, True, False, False],
    )
    found = operating_points(scores, config)
    steps = {(row["from"], row["to_tau"]): row["per_1000"] for row in found["steps"]}
    assert steps
    for change in steps.values():
        assert abs(change["answered_censored"]) == 500.0
        assert change["answered_in_range"] == 0.0
