from __future__ import annotations

from typing import Any

import pytest
from frozen_packet import cleaned, packet, returned

from dagster_project.lib.review.findings import review_findings, split_findings
from dagster_project.lib.review.findings_page import (
    findings_picture,
    findings_table,
    sentences,
)

AT = {"confident": 0.8, "refer": 0.4, "given": 0.03, "estimate": 0.04, "ci95": [0.03, 0.05]}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    effect = {
        "before": AT,
        "after": {**AT, "confident": 0.85, "estimate": 0.02},
        "change": {"confident": 0.05, "refer": 0.0},
        "expected": {"expected": 0.035, "half_width": 0.01},
        "reason": None,
    }
    return review_findings(returned(packet("train")), thresholds=effect)


def test_every_figure_is_a_row_and_what_is_not_known_says_why(found: dict[str, Any]) -> None:
    table = findings_table(found)
    assert table.row(0, named=True)["note"] == "no packet asks about the test split"
    recall = table.filter(statistic="recall").row(0, named=True)
    assert recall["estimate"] == pytest.approx(4 / 6.5)
    assert recall["low"] < recall["estimate"] < recall["high"]
    assert recall["expected"] == 0.5
    assert table.filter(statistic="wrong, given the class")["note"].to_list() == ["too few"]
    assert table.filter(statistic="self-agreement")["note"].to_list() == ["nothing decided"]
    without = table.filter(table["estimate"].is_null())
    assert without["note"].null_count() == 0


def test_the_sentences_say_it_in_words(found: dict[str, Any]) -> None:
    text = "\n".join(sentences(found))
    for part in (
        "Test: no packet asks about the test split.",
        "Train: 10 of 10 images asked about are back; 10 are decided, 0 are not",
        "Train: 32.5 % (95 %:",
        "of all wrong labels 61.5 %",
        "50.0 % was expected",
        "label and model agree with confidence, 25.0 %",
        "Train: 0 of 1 classes have enough decided images",
        "No reviewer has judged an image twice",
        "threshold is 0.800 on given labels of these images and 0.850 with the reviews",
        "the reviews say 4.0 % (95 %: 3.0 % to 5.0 %); 3.5 % was expected",
    ):
        assert part in text
    assert "None" not in text
    assert "nan" not in text


def test_no_sentence_or_picture_needs_a_packet() -> None:
    nothing = review_findings(returned())
    assert sentences(nothing)[0] == "Test: no packet asks about the test split."
    assert findings_picture(nothing).startswith(b"\x89PNG")


def test_a_packet_without_an_estimate_is_said_and_not_drawn() -> None:
    open_ones = split_findings(packet(), cleaned(i00="given", i01="given"))
    found = {
        **review_findings(returned()),
        "splits": {"test": open_ones, "train": {"packet": None, "reason": "none"}},
    }
    assert "nothing can be estimated" in " ".join(sentences(found))
    assert findings_table(found)["estimate"].null_count() == findings_table(found).height


def test_the_picture_is_the_same_every_time(found: dict[str, Any]) -> None:
    assert findings_picture(found) == findings_picture(found)
