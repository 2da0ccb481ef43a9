"""Composition: what was tried alone and together, and the order of what was not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from comparisons import comparison, difference

from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints
from dagster_project.lib.scorecard.comparison import Verdict
from dagster_project.lib.scorecard.composition import composition


def world(gains: Mapping[str, float | None], rejected: tuple[str, ...] = ()) -> dict[str, Any]:
    """Checkpoints ``lever+lever#run`` with their gains; a gain of None is not evaluated."""
    entries = [
        Checkpoint(name, "m", tuple(part for part in sorted(name.split("#")[0].split("+")) if part))
        for name in gains
    ]
    compared = {name: comparison(name, gain=g) for name, g in gains.items() if g is not None}
    said = {name: Verdict("REJECT" if name in rejected else "NEUTRAL", "") for name in compared}
    return composition(Checkpoints(tuple(entries)), compared, said)


def test_untried_combinations_come_in_the_order_of_their_additive_sum() -> None:
    found = world({"a": 0.010, "b": 0.004, "c": -0.002})
    assert [(r["changed"], round(r["expected"], 6), r["worth"]) for r in found["untried"]] == [
        (["a", "b"], 0.014, True),
        (["a", "b", "c"], 0.012, True),
        (["a", "c"], 0.008, False),
        (["b", "c"], 0.002, False),
    ]
    assert found["n_untried"] == 4
    assert found["untried"][0]["why"] == (
        "a +1.0 points and b +0.4 points, alone; the sum is above the best tried (a +1.0 points)"
    )
    assert found["sentences"] == [
        "Tried alone: a, b and c; together: nothing.",
        "Next, one training each: a + b (+1.4 points expected, ± 2.9) and a + b + c (+1.2 points "
        "expected, ± 4.1).",
        "An expected gain is the sum of what the levers did alone, a guess that no interaction was "
        "measured for, and the ± is what seeds make of it.",
    ]


def test_the_noise_of_a_sum_counts_the_baseline_once_for_each_lever() -> None:
    """Two single runs less twice one baseline run: SD 0.006 sqrt(1 + 1 + 4)."""
    (row,) = world({"a": 0.01, "b": 0.01})["untried"]
    assert row["noise"] == pytest.approx(1.959964 * 0.006 * math.sqrt(6), rel=1e-6)
    (row,) = world({"a#1": 0.01, "a#2": 0.01, "b": 0.01, "#again": 0.0})["untried"]
    assert row["noise"] == pytest.approx(1.959964 * 0.006 * math.sqrt(1 / 2 + 1 + 4 / 2), rel=1e-6)


def test_nothing_is_expected_of_what_holds_a_rejected_part() -> None:
    found = world({"a": 0.01, "b": 0.02, "c": 0.03, "a+b": 0.03}, rejected=("c", "a+b"))
    assert [row["lever"] for row in found["levers"] if row["rejected"]] == ["c"]
    assert {"+".join(r["changed"]): (r["expected"], r["why"]) for r in found["untried"]} == {
        "a+c": (None, "contains c, which was rejected"),
        "b+c": (None, "contains c, which was rejected"),
        "a+b+c": (None, "contains c, which was rejected"),
    }
    assert found["sentences"][-2:] == [
        "No untried combination is expected to beat the best that was tried.",
        "Not proposed: anything with c, which lost a class.",
    ]


def test_one_rejected_run_of_a_lever_is_enough() -> None:
    (row,) = world({"a#1": 0.01, "a#2": 0.01, "b": 0.01}, rejected=("a#2",))["untried"]
    assert (row["expected"], row["worth"]) == (None, False)


def test_tried_combinations_show_how_far_they_are_from_the_sum() -> None:
    found = world({"a": 0.01, "b": 0.02, "a+b": 0.018, "a+d": 0.05})
    by = {"+".join(row["changed"]): row for row in found["tried"]}
    assert by["a+b"]["additive"] == pytest.approx(0.03)
    assert by["a+b"]["deviation"] == pytest.approx(-0.012)
    assert by["a"]["deviation"] is None  # a single lever is its own sum
    assert by["a+d"]["deviation"] is None  # d was never alone
    assert (
        "The 1 tried combination came out -1.2 points from the sum of the levers on average, 1.2 "
        "at most." in found["sentences"]
    )


def test_a_lever_that_was_never_alone_is_proposed_alone_first() -> None:
    found = world({"a": 0.01, "b": 0.02, "a+d": 0.05})
    first = found["untried"][0]
    assert (first["changed"], first["expected"], first["worth"]) == (["d"], None, True)
    rest = {tuple(row["changed"]): row["why"] for row in found["untried"]}
    assert rest["b", "d"] == "d was never tried alone"
    assert "d alone (effect unknown)" in found["sentences"][1]


def test_runs_are_averaged_and_repeats_of_the_baseline_taken_off() -> None:
    """Deployed 0 and its repeat +0.4: their mean 0.2 is nobody's merit."""
    found = world({"#again": 0.004, "a#1": 0.010, "a#2": 0.020})
    (row,) = found["tried"]
    assert (row["runs"], row["difference"]) == (["a#1", "a#2"], pytest.approx(0.013))


def test_what_is_in_the_file_and_not_evaluated_is_not_proposed_again() -> None:
    found = world({"a": 0.01, "b": 0.02, "a+b": None})
    (row,) = found["untried"]
    assert (row["worth"], row["why"]) == (False, "a+b not evaluated yet")


def test_a_difference_that_is_undefined_is_not_tried() -> None:
    entries = Checkpoints((Checkpoint("a", "m", ("a",)),))
    unknown = comparison("a", measures={"balanced_accuracy": difference(None)})
    found = composition(entries, {"a": unknown}, {})
    assert found["tried"] == []


def test_many_levers_are_counted_and_capped() -> None:
    found = world({letter: 0.001 * at for at, letter in enumerate("abcdefgh", start=1)})
    assert (found["n_untried"], len(found["untried"])) == (28 + 56, 20)
    expected = [row["expected"] for row in found["untried"]]
    assert expected == sorted(expected, reverse=True)


def test_the_order_of_configurations_changes_nothing() -> None:
    gains = {"a": 0.01, "b": 0.01, "c": 0.01, "a+b": 0.02}
    assert world(gains) == world(dict(reversed(list(gains.items()))))


def test_without_a_lever_there_is_nothing_to_compose() -> None:
    found = world({"#again": 0.01})
    assert (found["levers"], found["tried"], found["untried"]) == ([], [], [])
    assert found["sentences"] == ["Tried alone: nothing; together: nothing."]
