"""What a gate's reports say: sentences that a person understands, and nothing that is not so."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gate_reports as made
import pytest

from dagster_project.lib.gate import summary, words
from dagster_project.lib.gate.scores import GateScores

TAUS = {"safety_first": 0.3, "accuracy_first": None, "balanced": 0.08, "own": 0.08}


@pytest.fixture(scope="module")
def found() -> GateScores:
    return made.scores()


@pytest.fixture(scope="module")
def sweep(found: GateScores) -> dict[str, Any]:
    return made.sweep(found)


@pytest.fixture
def points(found: GateScores) -> dict[str, Any]:
    return made.points(found, TAUS, "safety_first")


def change(in_range: float | None, censored: float | None) -> str:
    per = {"answered_in_range": in_range, "answered_censored": censored}
    row = {"from": "balanced", "to": "safety_first", "per_1000": per}
    return words.change_words(row, {"balanced": 0.21, "safety_first": 0.45})


@pytest.mark.parametrize(
    ("in_range", "censored", "says"),
    [
        pytest.param(-71.2, -12.8, "answers 84 fewer of 1,000 cases: 71 of them could have been "
                     "answered, 13 were out of range.", id="fewer"),
        pytest.param(3.0, 40.0, "answers 43 more of 1,000 cases: 3 of them should be answered, 40 "
                     "are out of range and should not be.", id="more"),
        pytest.param(-20.0, -0.04, "answers 20.04 fewer of 1,000 cases: 20.00 of them could",
                     id="what_is_there_is_never_0"),
        pytest.param(-70.6, -13.8, "answers 85 fewer of 1,000 cases: 71 of them could have been "
                     "answered, 14", id="parts_add_up"),
        pytest.param(0.0, 0.0, "answers the same cases.", id="same"),
        pytest.param(-0.0001, 0.0, "changes less than 0.001 of 1,000 cases.", id="next_to_nothing"),
        pytest.param(-5.0, None, "undefined", id="no_censored"),
    ],
)  # fmt: skip
def test_a_neighbour_is_told_in_cases_of_a_thousand(
    in_range: float, censored: float | None, says: str
) -> None:
    told = change(in_range, censored)
    assert told.startswith("Against **balanced** (tau 0.21), **safety_first** (tau 0.45)")
    assert says in told


def test_a_point_that_stands_alone_is_told_against_the_next_taus(found: GateScores) -> None:
    points = made.points(found, {"safety_first": 0.3, "balanced": None}, "safety_first")
    step = {"from": "safety_first", "tau": 0.3, "to_tau": 0.29, "answers": "more"}
    per = {"answered_in_range": 2.0, "answered_censored": 1.0}
    points["steps"] = [{**step, "per_1000": per}]
    told = (
        "Against safety_first (tau 0.3), the next tau, 0.29, answers 3 more of 1,000 cases: 2 of "
        "them should be answered, 1 is out of range and should not be."
    )
    assert told in words.summary_lines(points)
    assert told.replace("safety_first", "**safety_first**") in words.points_note(points)
    nothing = made.points(found, {"safety_first": None}, "safety_first")
    assert "There is no threshold to compare with another." in words.points_note(nothing)


def test_models_are_told_with_the_means_that_picked_them(points: dict[str, Any]) -> None:
    means = {"accept_rate": 0.7, "fn_in": 0.04, "fp_cens": 0.0123}
    metrics = {key: {"mean": mean, "std": 0.0, "n_seeds": 2} for key, mean in means.items()}
    picked = {"model": "mlp", "reason": None, "order": ["fp_cens", "-accept_rate"]}
    none: dict[str, Any] = {
        "model": None,
        "reason": "no model has direction_f1",
        "order": [],
        "metrics": None,
    }
    points["models"] = {
        "point": "safety_first", "rows": [],
        "choice": {"points": {"safety_first": {**picked, "metrics": metrics}, "own": none}},
    }  # fmt: skip
    told = (
        "mlp, accept_rate 70.0 %, fn_in 4.0 %, fp_cens 1.2 % on the mean of 2 seeds; by least "
        "`fp_cens`, then most `accept_rate`"
    )
    assert f"safety_first among models: {told}" in words.summary_lines(points)
    assert f"- safety_first: {told.replace('mlp', '**mlp**')}" in words.points_note(points)
    assert "- own: none (no model has direction_f1)" in words.points_note(points)


def test_the_frozen_point_is_said_first_and_an_unavailable_one_says_what_it_needs(
    points: dict[str, Any],
) -> None:
    note = words.points_note(points)
    second = note.split("\n\n")[1]
    assert second == (
        "**Frozen: safety_first, tau 0.3**; answers from there up to 0.6 are marked as gray."
    )
    assert (
        "- **accuracy_first** answers the fewest cases of all taus with `fn_in` certified at"
        in note
    )
    assert note.split("\n\n")[2].startswith("On the evaluation cases it answers ")
    assert "; `fp_cens` is certified at " in note.split("\n\n")[2]
    assert "**unavailable**: no tau meets the target" in note
    assert "- **accuracy_first**, fn_in: about 1,200 such cases would be needed." in note
    assert "- **balanced** bounds nothing: its rates are estimates only." in note
    assert "\n- Against **balanced** (tau 0.08), **own** (tau 0.08) answers the same" in note
    assert words.summary_lines(points)[-1].startswith("Frozen: safety_first, tau 0.3")


def test_nothing_frozen_is_said_with_its_reason(found: GateScores) -> None:
    points = made.points(found, TAUS, "accuracy_first")
    told = words.points_note(points).split("\n\n")[1]
    assert told == "**Nothing is frozen**: accuracy_first is unavailable: no tau is"
    assert not [line for line in words.summary_lines(points) if line.startswith("Frozen")]


def test_a_gauge_that_accepts_low_scores_is_told_in_its_own_direction() -> None:
    found = made.scores(accept="low")
    sweep = made.sweep(found)
    points = made.points(found, {"balanced": -10.0, "safety_first": -5.0}, "safety_first")
    for note in (words.sweep_note(sweep, points), words.points_note(points)):
        assert "A score > tau is no answer" in note
        assert "score <" not in note
    assert "**Frozen: safety_first, tau 5**" in words.points_note(points)


def test_the_target_is_what_is_promised_and_no_bound_is_told_as_less_than_it_is(
    points: dict[str, Any],
) -> None:
    of = points["points"]["safety_first"]["bounds"]["fp_cens"]
    of |= {"target": 0.00012, "upper": 0.000101}
    points["points"]["safety_first"]["rule"]["bound"]["fp_cens"] = of["target"]
    note = words.points_note(points)
    assert "These are estimates; `fp_cens` is certified at 0.012 % or less." in note
    assert "`fp_cens` certified at 0.012 % or less" in note
    assert "| safety_first | fp_cens | 0.012 % | 0.02 % |" in note


def test_a_gray_zone_that_cannot_be_is_said(points: dict[str, Any]) -> None:
    points["points"]["safety_first"] |= {"tau_train": None, "no_gray_zone": "tau is below 0"}
    note = words.points_note(points)
    assert "tau 0.3**, without the gray zone that was asked for: tau is below 0." in note
    assert "## Gray zone\n\n**None** beside safety_first: tau is below 0." in note


def test_a_quantile_is_told_from_its_side() -> None:
    rule = {"recipe": "quantile_multiple", "quantile": 0.025, "of": "in_range"}
    assert words.rule_words(rule) == (
        "is the 2.5 % quantile, from the side that gets no answer, of the scores of in-range "
        "calibration rows"
    )


def test_a_thinned_curve_says_how_many_taus_there_were(sweep: dict[str, Any]) -> None:
    assert "30 of 200 taus are shown; all of them are in" in words.sweep_note(sweep)
    thinned = {**sweep, "provenance": {**sweep["provenance"], "taus": 123456}}
    assert "30 of 123,456 taus are shown; 200 of them are in" in words.sweep_note(thinned)


def test_rows_without_groups_are_a_limit_that_is_said(points: dict[str, Any]) -> None:
    assert "**No groups are given**" in words.points_note(points)
    grouped = {**points, "groups": 7}
    assert "No groups" not in words.points_note(grouped)


def test_identities_that_nobody_stated_are_named_as_a_gap(sweep: dict[str, Any]) -> None:
    told = words.rerun_words(sweep["provenance"])
    assert "| model family | rational |" in told
    assert "**Not stated: `model_tree_hash`, `preprocessing`.**" in told
    whole = {**sweep["provenance"], "identity": dict.fromkeys(words.IDENTITY, "x")}
    assert "Not stated" not in words.rerun_words(whole)


def test_the_table_is_short_and_keeps_ends_and_points(
    sweep: dict[str, Any], points: dict[str, Any]
) -> None:
    curves = sweep["curves"]
    pins = words.pinned(points)
    kept = words.readable(curves, pins.values())
    assert len(kept) <= words.MAX_ROWS
    assert (kept[0], kept[-1]) == (0, len(curves["taus"]) - 1)
    shown = [curves["bottom_rate"][at] for at in kept]
    assert max(b - a for a, b in pairwise(shown)) < 0.1
    assert words.readable({"taus": [1.0, 2.0], "bottom_rate": [0, 1]}, [2.0]) == [0, 1]
    exact = {key: [*values[:99], values[99], *values[100:]] for key, values in curves.items()}
    exact["taus"][99] = pins["safety_first"]
    note = words.sweep_note({**sweep, "curves": exact}, points)
    assert "| 0.3 | **safety_first** |" in note


def test_rates_of_nothing_are_undefined_and_said_so(
    sweep: dict[str, Any], points: dict[str, Any]
) -> None:
    empty = {**sweep["distribution"]["censored"], "n": 0, "faults": 0}
    nothing = {**sweep["curves"], "fp_cens": [None] * len(sweep["curves"]["taus"])}
    told = {
        **sweep,
        "curves": nothing,
        "distribution": {**sweep["distribution"], "censored": empty},
    }
    note = words.sweep_note(told)
    assert "None is out of range (censored): what is a share of them is undefined." in note
    assert " undefined |" in note
    points["points"]["safety_first"]["evaluation"]["fp_cens"]["rate"] = None
    assert "undefined" in words.summary_lines(points)[1]


def test_a_name_from_a_file_stays_text(sweep: dict[str, Any]) -> None:
    gauge = {**sweep["provenance"]["gauge"], "head": "q | *x*\n# no"}
    note = words.sweep_note({**sweep, "provenance": {**sweep["provenance"], "gauge": gauge}})
    assert "# no" not in note.splitlines()
    assert "q \\| \\*x\\*" in note


def test_tables_hold_what_the_reports_hold(sweep: dict[str, Any], points: dict[str, Any]) -> None:
    table = summary.point_table(points)
    assert table["point"].to_list() == list(TAUS)
    assert table.filter(table["status"] == "unavailable")["tau"].to_list() == [None]
    assert table["bounds"][0].startswith("fp_cens 0.0")
    assert summary.change_table(points).height == 2
    swept = summary.sweep_table(sweep, points)
    assert swept.height <= words.MAX_ROWS
    assert swept["fn_in"].null_count() == 0
