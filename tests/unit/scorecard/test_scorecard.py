"""The card: everything in it, on one set of labels and on two, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_worlds import CLASSES, NAMES, N, answers, checkpoints, labels, mistaken

from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints
from dagster_project.lib.scorecard.noise import from_joint
from dagster_project.lib.scorecard.recipe import RecipeVerdict
from dagster_project.lib.scorecard.rule import Rule, rule_sha256
from dagster_project.lib.scorecard.scorecard import (
    ScorecardInputs,
    between_runs,
    chance_reach,
    make_scorecard,
)
from dagster_project.lib.scorecard.words import scorecard_note, verdict_lines
from dagster_project.lib.tiers.policy import DEFAULT_POLICY
from dagster_project.lib.tiers.thresholds import Thresholds


def card_of(inputs: ScorecardInputs, **options: Any) -> dict[str, Any]:
    return make_scorecard(inputs, draws=100, **options)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """Everything that can be in a card."""
    found = answers()
    return card_of(
        ScorecardInputs(
            found,
            checkpoints(),
            given=mistaken(),
            thresholds=Thresholds(0.8, 0.45, 0.25),
            policy=DEFAULT_POLICY,
            noise=from_joint(found, "baseline"),
        )
    )


def words(card: Any) -> dict[str, str | None]:
    return {row["config"]: row["verdict"] for row in card["configs"]}


def test_the_better_one_is_kept_and_the_one_that_loses_a_class_rejected(whole: Any) -> None:
    assert words(whole) == {"baseline": None, "focal": "KEEP", "collapsed": "REJECT"}
    collapsed = whole["configs"][2]
    assert collapsed["fallen"] == ["eczema"]
    assert collapsed["per_class"][1]["recall"] == 0.0
    assert "eczema" in collapsed["sentence"]


def test_a_single_run_keeps_every_recipe_neutral(whole: Any) -> None:
    assert [row["recipe"] for row in whole["configs"]] == [None, "NEUTRAL", "NEUTRAL"]
    assert {tuple(row["changed"]) for row in whole["recipes"]} == {("focal",), ("collapsed",)}


def test_the_card_is_plain_json_and_says_what_it_stands_on(whole: Any) -> None:
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert (whole["n"], whole["n_patients"], whole["classes"]) == (N, N // 3, list(CLASSES))
    assert (whole["baseline"], whole["rule_sha256"]) == ("baseline", rule_sha256(Rule()))
    assert whole["bootstrap"]["draws"] == 100
    assert whole["noise"]["flips"][0]["config"] == "focal"
    assert whole["winners_curse"]["n_candidates"] == 2
    assert whole["composition"]["untried"][0]["changed"] == ["collapsed", "focal"]


def test_the_same_table_on_given_labels_stands_beside_with_the_verdicts_that_differ(
    whole: Any,
) -> None:
    given = whole["given"]
    # all eczema images were called acne, and so does `collapsed` call them
    assert whole["labels"] == {"source": "cleaned", "n_changed": 201}
    assert (given["n"], [row["config"] for row in given["configs"]]) == (N, list(NAMES))
    alone = card_of(ScorecardInputs(relabel(answers(), mistaken()), checkpoints()))
    assert [row["top1"] for row in given["configs"]] == [row["top1"] for row in alone["configs"]]
    assert words(given) == words(alone)
    assert given["differs"] == [
        {"config": name, "in_force": words(whole)[name], "given": words(alone)[name]}
        for name in NAMES[1:]
        if words(whole)[name] != words(alone)[name]
    ]
    assert given["differs"][-1]["config"] == "collapsed"


def test_a_sample_of_reviews_says_what_overwriting_made_of_a_difference() -> None:
    reviews = labels().select(
        "image_uuid", inclusion_probability=1.0, stratum=pl.lit("certain"), decided=True
    )
    inputs = ScorecardInputs(answers(), checkpoints(), given=mistaken(), reviews=reviews)
    card = card_of(inputs)
    # all of them reviewed: the labels in force are the truth
    for name in NAMES[1:]:
        found = card["sampled"]["top1"][name]
        change = card["comparisons"][name]["differences"]["top1"]["estimate"]
        assert found["estimate"] == pytest.approx(change) == found["overwritten"]
    assert card_of(replace(inputs, reviews=None))["sampled"] is None


def relabel(found: Answers, other: pl.DataFrame) -> Answers:
    return replace(found, true=np.array([CLASSES.index(name) for name in other["label"]]))


def test_without_given_labels_nothing_is_claimed_of_cleaning() -> None:
    card = card_of(ScorecardInputs(answers(NAMES[:1]), checkpoints(NAMES[:1])))
    assert card["labels"] == {"source": "unstated", "n_changed": None}
    assert card["given"] is None


def test_a_baseline_alone_is_measured_and_compared_with_nothing() -> None:
    found = answers(NAMES[:1])
    noise = from_joint(found, "baseline")
    card = card_of(ScorecardInputs(found, checkpoints(NAMES[:1]), noise=noise, given=labels()))
    assert (card["comparisons"], card["recipes"]) == ({}, [])
    assert card["winners_curse"] is card["composition"] is card["noise"] is None
    assert card["configs"][0]["verdict"] is None


def test_what_nobody_declared_is_no_lever() -> None:
    card = card_of(ScorecardInputs(answers(), checkpoints(), levers_known=False))
    assert card["composition"] is None
    assert {row["changed"] for row in card["configs"]} == {None}


def test_progress_ends_when_everything_is_done() -> None:
    seen: list[tuple[int, int]] = []

    def show(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))

    found = answers(NAMES[:2])
    noise = from_joint(found, "baseline")
    inputs = ScorecardInputs(found, checkpoints(NAMES[:2]), given=labels(), noise=noise)
    card_of(inputs, on_progress=show)
    assert seen == [(i, 7) for i in range(1, 8)]


def test_an_entry_that_is_left_out_and_a_stranger_are_refused() -> None:
    with pytest.raises(InputError, match=r"no probabilities of 'collapsed'"):
        card_of(ScorecardInputs(answers(NAMES[:2]), checkpoints()))
    with pytest.raises(InputError, match=r"'collapsed' is no entry of the checkpoints"):
        card_of(ScorecardInputs(answers(), checkpoints(NAMES[:2])))


def test_the_model_in_service_needs_no_entry_beside_another_baseline() -> None:
    found = answers(("baseline", "focal"))
    renamed = {"deployed": found.probs["focal"], "baseline": found.probs["baseline"]}
    entries = (Checkpoint("baseline", "/m", baseline=True),)
    card = card_of(ScorecardInputs(replace(found, probs=renamed), Checkpoints(entries)))
    assert words(card) == {"deployed": "KEEP", "baseline": None}
    assert card["configs"][0]["changed"] is None


def test_the_reach_of_chance_is_counted_by_patient() -> None:
    # class a: patient 0 gains two images, patient 1 loses one, patient 2 has none of it
    probs = {
        "old": np.array([[0.1, 0.9, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0.1, 0.9, 0]]),
        "new": np.array([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.1, 0.9, 0], [0.1, 0.9, 0]]),
    }
    found = Answers(
        classes=("a", "b", "c"),
        image_uuid=pl.Series("image_uuid", ["1", "2", "3", "4"]),
        patient=np.array([0, 0, 1, 2]),
        n_patients=3,
        patients_known=True,
        true=np.array([0, 0, 0, 1]),
        probs=probs,
    )
    reach = chance_reach(found, "old", "new")
    assert reach[0] == pytest.approx(1.959964 * np.sqrt(2**2 + 1) / 3, rel=1e-6)
    assert reach[1:] == [0.0, None]


def test_two_runs_differ_by_the_declared_spread_until_one_is_measured(whole: Any) -> None:
    declared = [row["between_runs"] for row in whole["comparisons"].values()]
    assert declared == pytest.approx([0.0166] * 2, abs=5e-5)
    measured = RecipeVerdict((), (), "NEUTRAL", "", 0.0, 0.01, df=4, sd=0.01, sd_measured=True)
    assert between_runs(Rule(), measured) == pytest.approx(2.776445 * 0.01 * np.sqrt(2))
    assert between_runs(Rule(), replace(measured, sd_measured=False)) < 0.017


def test_the_same_weights_under_other_names_are_no_run_and_no_try() -> None:
    found = answers()
    again = {f"again_{seed}": found.probs["focal"] for seed in (2, 3, 4)}
    wide = replace(found, probs={**found.probs, **again, "still": found.probs["baseline"]})
    entries = [
        *checkpoints().entries,
        *(Checkpoint(name, f"/{name}", ("focal",), seed=at) for at, name in enumerate(again, 2)),
        Checkpoint("still", "/still", ("mixup",), seed=1),
    ]
    card = card_of(ScorecardInputs(wide, Checkpoints(tuple(entries))))
    assert card["copies"] == {**dict.fromkeys(again, "focal"), "still": "baseline"}
    runs = {row["changed"][0]: row["runs"] for row in card["recipes"]}
    assert runs == {"focal": ["focal"], "collapsed": ["collapsed"], "mixup": []}
    assert card["winners_curse"]["n_candidates"] == 2
    assert words(card)["again_2"] == "KEEP"  # a verdict is on the weights, whatever their name
    recipes = {row["config"]: row["recipe"] for row in card["configs"]}
    assert (recipes["focal"], recipes["again_2"], recipes["still"]) == ("NEUTRAL", None, None)
    note = scorecard_note(card)
    assert "**again_2 answers every image exactly as focal" in note
    assert "still answers every image exactly as baseline" in verdict_lines(card)[-1]
