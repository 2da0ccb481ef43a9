"""One configuration's row of the table: by hand, and against the rooms it is put together from."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scorecard_worlds import answering, answers_of, seeded

from dagster_project.lib.calibration.summary import calibration_summary
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.scorecard.answers import same_rows
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, parse_policy
from dagster_project.lib.tiers.scored_rows import score_rows
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(confident=0.8, refer=0.3, possible_item=0.25)
CERTIFIED = {"delta": 0.05, "enforce": True, "subgroups": ["site"]}


def test_classes_and_the_sink_counted_by_hand() -> None:
    # truth a a a b b c d; named a a b a a a b
    answers = answers_of([0, 0, 0, 1, 1, 2, 3], {"one": answering([0, 0, 1, 0, 0, 0, 1], 5)})
    found = measures(answers, "one")
    assert found["sink"] == {
        "class": "a",
        "n_predicted": 5,
        "n_true": 3,
        "overprediction": 5 / 3,
        "swallows": [{"class": "b", "n": 2, "share": 1.0}, {"class": "c", "n": 1, "share": 1.0}],
    }
    assert [row["class"] for row in found["per_class"]] == list("abcde")
    assert found["per_class"][0] == {
        "class": "a",
        "n": 3,
        "n_patients": 3,
        "n_predicted": 5,
        "recall": 2 / 3,
        "precision": 2 / 5,
        "f1": 4 / 8,
        "overprediction": 5 / 3,
    }
    assert found["per_class"][2]["precision"] is None  # nobody was called c
    assert [found["per_class"][4][name] for name in ("recall", "f1", "overprediction")] == [
        None
    ] * 3
    assert any(
        "1 of 5 classes have no image" in note and note.endswith("e.") for note in found["notes"]
    )
    assert found["deployed"] is found["refitted"] is None


def test_the_sink_is_the_first_by_name_of_equals_and_null_where_nothing_is_swallowed() -> None:
    answers = answers_of([0, 1, 2], {"one": answering([1, 0, 2], 3)})
    assert measures(answers, "one")["sink"]["class"] == "a"
    right = answers_of([0, 1, 2], {"one": answering([0, 1, 2], 3)})
    assert measures(right, "one")["sink"] is None


def test_a_shared_top_is_swallowed_by_nobody_and_said() -> None:
    found = measures(answers_of([0, 1], {"one": np.full((2, 2), 0.5)}), "one")
    assert (found["top1"], found["sink"]) == (0.0, None)
    assert [row["n_predicted"] for row in found["per_class"]] == [0, 0]
    assert any(note.startswith("2 of 2 images have their largest") for note in found["notes"])


def test_patients_of_a_class_are_counted_once() -> None:
    answers = answers_of([0, 0, 0, 1], {"one": answering([0, 0, 1, 1], 2)}, [7, 7, 9, 9])
    found = measures(answers, "one")
    assert [row["n_patients"] for row in found["per_class"]] == [2, 1]
    assert (found["n"], found["n_patients"]) == (4, 2)


def test_operating_points_are_counted_at_thresholds_in_service_and_at_refitted_ones() -> None:
    probs = [[0.9, 0.1], [0.8, 0.1], [0.85, 0.1], [0.5, 0.1], [0.2, 0.1]]
    answers = answers_of([0, 0, 1, 0, 0], {"one": probs})
    policy = parse_policy(
        {
            "confident": {"rule": "confident_wrong_share", "target": 0},
            "refer": {"rule": "share", "target": 0.4},
        }
    )
    found = measures(answers, "one", thresholds=AT, policy=policy)
    assert found["deployed"] == {
        "confident": 0.8,
        "refer": 0.3,
        "coverage": 3 / 5,
        "confident_wrong": 1 / 5,
    }
    # the wrong image at .85 may not stand; only the one above it is left
    assert found["refitted"] == {
        "confident": 0.9,
        "refer": 0.8,
        "coverage": 1 / 5,
        "confident_wrong": 0.0,
    }


def test_a_policy_that_cannot_be_met_is_a_reason_and_no_number() -> None:
    policy = parse_policy(
        {
            "confident": {"rule": "covered_top1", "target": 1},
            "refer": {"rule": "share", "target": 0.1},
        }
    )
    answers = answers_of([1, 0], {"one": [[0.9, 0.1], [0.8, 0.1]]})
    found = measures(answers, "one", policy=policy)["refitted"]
    assert list(found) == ["reason"]
    assert "no threshold meets it" in found["reason"]


def test_subgroups_of_a_certificate_are_not_asked_of_a_scorecard() -> None:
    policy = parse_policy({**DEFAULT_POLICY.model_dump(exclude={"certify"}), "certify": CERTIFIED})
    assert "certif" in measures(seeded(), "c0", policy=policy)["refitted"]["reason"]


def test_the_row_agrees_with_scoring_calibration_and_refit_of_the_same_table() -> None:
    """The scorecard must not have its own idea of right, calibrated or confident."""
    answers = seeded(n=600)
    frame = pl.DataFrame(
        {
            "image_uuid": answers.image_uuid,
            "patient_id": [f"p{p:04d}" for p in answers.patient],
            "label": [answers.classes[t] for t in answers.true],
        }
    )
    table = ProbabilityTable(
        answers.classes, frame, {"probs": answers.probs["c0"].astype(np.float32)}
    )
    labels = frame.select("image_uuid", "label")
    scored = score_rows(table, labels)
    found = measures(same_rows({"c0": table}, labels), "c0", thresholds=AT, policy=DEFAULT_POLICY)
    assert found["top1"] == scored["top1"].mean()
    assert found["top3"] == scored["top3"].mean()
    fit = fit_thresholds(scored, DEFAULT_POLICY)
    assert (found["refitted"]["confident"], found["refitted"]["refer"]) == (
        fit.confident,
        fit.refer,
    )
    summary = calibration_summary(scored, {"confident": 0.8, "refer": 0.3})
    for name in ("ece", "ece_debiased", "temperature", "aurc", "e_aurc", "augrc"):
        assert found[name] == pytest.approx(summary[name], abs=1e-12)
    assert found["nll_top_after"] < found["nll_top_before"]
    assert sum(row["n"] for row in found["reliability"]) == 600
    assert json.loads(json.dumps(found, allow_nan=False)) == found
