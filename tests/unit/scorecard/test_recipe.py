"""Recipes: the floor that seeds make, what their runs allow, and what picking the best is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from comparisons import comparison, difference

from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints
from dagster_project.lib.scorecard.comparison import Verdict, Word
from dagster_project.lib.scorecard.recipe import (
    RecipeVerdict,
    judge_recipes,
    recipes,
    run_floor,
    winners_curse,
)
from dagster_project.lib.scorecard.rule import Rule

BASE = [0.660, 0.670, 0.680]
GOOD = [0.700, 0.710, 0.720]


def runs(
    values: dict[str, list[float]], *, seeds: bool = True
) -> tuple[Checkpoints, dict[str, float]]:
    """A file with these runs by lever (``""``: the baseline's), and their balanced accuracies."""
    entries, accuracy = [], {}
    for lever, each in values.items():
        for at, value in enumerate(each):
            name = f"{lever or 'base'}{at}"
            seed = at if seeds else 7
            changed = (lever,) if lever else ()
            entries.append(Checkpoint(name, "m", changed, seed, baseline=name == "base0"))
            accuracy[name] = value
    return Checkpoints(tuple(entries)), accuracy


def words(**by_name: Word) -> dict[str, Verdict]:
    fallen = {"REJECT": ("eczema",)}
    return {name: Verdict(word, "", fallen=fallen.get(word, ())) for name, word in by_name.items()}


def judged(
    values: dict[str, list[float]], said: dict[str, Verdict], rule: Rule | None = None
) -> RecipeVerdict:
    (found,) = judge_recipes(*runs(values), said, rule or Rule())
    return found


def test_single_runs_leave_a_recipe_neutral_however_good_it_looks() -> None:
    found = judged({"": [0.66], "focal": [0.96]}, words(focal0="KEEP"))
    assert found.word == "NEUTRAL"
    assert (found.df, found.sd, found.sd_measured) == (0, 0.006, False)
    assert found.floor == pytest.approx(0.01663, abs=5e-6)  # 1.96 x 0.006 x sqrt 2
    assert found.sentence == (
        "focal: balanced accuracy +30.0 points over 1 against 1 run, where seeds alone make ± 1.7 "
        "(SD 0.6, declared, not measured); too few seeds to tell a recipe from luck, 3 runs of "
        "either would do."
    )


def test_single_runs_reject_no_recipe_either_but_say_what_was_lost() -> None:
    found = judged({"": [0.66], "focal": [0.46]}, words(focal0="REJECT"))
    assert found.word == "NEUTRAL"
    assert found.sentence.endswith("would do; 1 of 1 runs rejected for eczema.")


def test_three_runs_of_either_have_the_floor_of_the_pooled_t_test() -> None:
    """By hand: SD 0.01 in both, t(.975, 4) = 2.7764, so 2.7764 x 0.01 x sqrt(2/3) = 0.02267."""
    found = judged({"": BASE, "focal": GOOD}, words(focal0="KEEP", focal1="NEUTRAL", focal2="KEEP"))
    assert (found.df, found.sd_measured) == (4, True)
    assert found.sd == pytest.approx(0.01)
    assert found.floor == pytest.approx(2.776445 * 0.01 * math.sqrt(2 / 3), abs=1e-7)
    assert found.difference == pytest.approx(0.04)
    assert (found.word, found.runs) == ("KEEP", ("focal0", "focal1", "focal2"))
    assert found.sentence.endswith("beyond what seeds make, 2 of 3 runs kept and none rejected.")


@pytest.mark.parametrize(
    ("said", "shift", "word", "why"),
    [
        pytest.param("KKR", 0.0, "NEUTRAL", "1 of 3 runs rejected for eczema, so it", id="one"),
        pytest.param("KRR", 0.0, "REJECT", "2 of 3 runs rejected for eczema: the", id="most"),
        pytest.param("KNN", 0.0, "NEUTRAL", "but only 1 of 3 runs kept", id="few_kept"),
        pytest.param("KKK", -0.0174, "NEUTRAL", "within what seeds make", id="below_the_floor"),
        pytest.param("KKK", -0.0172, "KEEP", "beyond what seeds make", id="above_the_floor"),
        pytest.param("NNN", -0.08, "NEUTRAL", "lower beyond what seeds make", id="lower"),
    ],
)  # fmt: skip
def test_a_recipe_is_at_most_the_median_of_its_runs(
    said: str, shift: float, word: str, why: str
) -> None:
    long: dict[str, Word] = {"K": "KEEP", "N": "NEUTRAL", "R": "REJECT"}
    verdicts = words(**{f"focal{at}": long[letter] for at, letter in enumerate(said)})
    found = judged({"": BASE, "focal": [value + shift for value in GOOD]}, verdicts)
    assert found.word == word
    assert why in found.sentence


@pytest.mark.parametrize(
    ("values", "df"),
    [
        pytest.param({"": BASE, "focal": GOOD[:2]}, 3, id="too_few_degrees_of_freedom"),
        pytest.param({"": [*BASE, 0.661, 0.671], "focal": GOOD[:1]}, 4, id="one_run_of_its_own"),
        pytest.param({"": [0.66] * 3, "focal": [0.7] * 3}, 4, id="copies_are_no_repeats"),
    ],
)
def test_a_spread_that_was_not_measured_keeps_nothing(
    values: dict[str, list[float]], df: int
) -> None:
    kept: dict[str, Word] = {f"focal{at}": "KEEP" for at in range(len(values["focal"]))}
    found = judged(values, words(**kept))
    assert (found.word, found.df, found.sd_measured, found.sd) == ("NEUTRAL", df, False, 0.006)


def test_checkpoints_of_one_seed_are_one_run() -> None:
    file, accuracy = runs({"": BASE, "focal": GOOD}, seeds=False)
    (found,) = judge_recipes(file, accuracy, {}, Rule())
    assert (found.df, found.sd_measured) == (0, False)
    assert found.difference == pytest.approx(0.04)


def test_the_model_in_service_is_a_run_of_the_baseline_unless_another_is() -> None:
    repeat = Checkpoint("repeat", "m", (), 2)
    focal = Checkpoint("focal", "m", ("focal",), 1)
    accuracy = {"deployed": 0.60, "repeat": 0.62, "focal": 0.65}
    (found,) = judge_recipes(Checkpoints((repeat, focal)), accuracy, {}, Rule())
    assert found.difference == pytest.approx(0.04)
    named = Checkpoint("named", "m", (), 3, baseline=True)
    file = Checkpoints((repeat, focal, named))
    (found,) = judge_recipes(file, {**accuracy, "named": 0.66}, {}, Rule())
    assert found.difference == pytest.approx(0.01)
    assert [run.name for run in recipes(file)[()]] == ["named", "repeat"]


def test_what_was_not_evaluated_is_no_run() -> None:
    file, accuracy = runs({"": BASE, "focal": GOOD, "smooth": [0.7]})
    accuracy["focal2"] = math.nan
    del accuracy["smooth0"]
    focal, smooth = judge_recipes(file, accuracy, {}, Rule())
    assert (focal.runs, focal.df) == (("focal0", "focal1"), 3)
    assert (smooth.word, smooth.runs, smooth.difference, smooth.floor) == (
        "NEUTRAL",
        (),
        None,
        None,
    )
    assert smooth.sentence == "smooth: no checkpoint of it was evaluated."


def test_the_order_of_entries_and_levers_changes_nothing() -> None:
    file, accuracy = runs({"": BASE, "focal": GOOD, "smooth": [0.7, 0.6]})
    both = Checkpoint("both", "m", ("focal", "smooth"))
    turned = Checkpoint("both", "m", ("smooth", "focal"))
    said = words(focal0="KEEP", focal1="REJECT")
    accuracy["both"] = 0.7
    one = judge_recipes(Checkpoints((*file.entries, both)), accuracy, said, Rule())
    other = judge_recipes(Checkpoints((turned, *file.entries[::-1])), accuracy, said, Rule())
    assert one == other
    assert [found.changed for found in one] == [("focal",), ("smooth",), ("focal", "smooth")]


def test_the_floor_holds_what_it_promises_between_equal_recipes() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(0.7, 0.006, (4000, 6))
    beyond = 0
    for row in draws.tolist():
        floor, _, _ = run_floor(row[:3], row[3:], Rule())
        beyond += abs(np.mean(row[:3]) - np.mean(row[3:])) > floor
    assert beyond / 4000 == pytest.approx(0.05, abs=0.011)  # 3 standard errors


def test_the_best_of_ten_equals_owes_chance_what_the_normal_order_statistic_says() -> None:
    """E max of 10 normals is 1.5388 (tables); with a shared baseline sqrt(1/2) of it."""
    names = [f"c{at}" for at in range(10)]
    gains = dict(zip(names, np.linspace(-0.01, 0.02, 10).tolist(), strict=True))
    many = {name: comparison(name, gain=gain) for name, gain in gains.items()}
    found = winners_curse(many)
    error = 0.005 / 1.959964
    assert (found["n_candidates"], found["best"], found["best_difference"]) == (10, "c9", 0.02)
    assert found["expected_by_chance"] == pytest.approx(1.5388 * math.sqrt(0.5) * error, rel=0.01)
    assert found["sentence"] == (
        "The best of 10 candidates, c9 (+2.0 points), would be expected at +0.3 points by chance "
        "alone, were none better than the baseline."
    )


def test_the_order_of_candidates_with_other_errors_does_not_move_the_expectation() -> None:
    halves = {"a": 0.002, "b": 0.02, "c": 0.008}
    many = {
        name: comparison(name, measures={"balanced_accuracy": difference(0.01, half)})
        for name, half in halves.items()
    }
    found = winners_curse(many)
    assert found == winners_curse(dict(reversed(many.items())))
    assert found["best"] == "a"  # the first by name among equals


def test_one_candidate_was_not_picked_and_none_has_no_curse() -> None:
    one = winners_curse({"a": comparison("a")})
    assert (one["n_candidates"], one["expected_by_chance"]) == (1, 0.0)
    unknown = comparison("a", measures={"balanced_accuracy": difference(0.1, None)})
    none = winners_curse({"a": unknown})
    assert (none["n_candidates"], none["best"], none["expected_by_chance"]) == (0, None, None)
