"""Consensus: two agreeing readers decide, a reference is not outvoted, nothing is lost."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.consensus import (
    STATUSES,
    ConsensusPolicy,
    clean_labels,
    label_problems,
    label_summary,
    overruled,
    status_by_class,
)


def given(**labels: str | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"image_uuid": list(labels), "label": list(labels.values())},
        schema={"image_uuid": pl.String, "label": pl.String},
    )


def reviews(**votes: str) -> pl.DataFrame:
    """``a="acne tinea"``: two reviewers about image a."""
    rows = [(i, f"r{n}", v) for i, s in votes.items() for n, v in enumerate(s.split())]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("image_uuid", "reviewer", "label"), pl.String), orient="row"
    )


def said_by(**images: dict[str, str]) -> pl.DataFrame:
    """``i={"ann": "acne"}``: who said what about image i."""
    rows = [(i, who, label) for i, votes in images.items() for who, label in votes.items()]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("image_uuid", "reviewer", "label"), pl.String), orient="row"
    )


@pytest.mark.parametrize(
    ("votes", "label", "status", "agreement", "source"),
    [
        pytest.param("", "acne", "given", None, "given", id="nobody_looked"),
        pytest.param("acne", "acne", "single", 1.0, "given", id="one_agrees"),
        pytest.param("tinea", "acne", "single", 1.0, "given", id="one_differs"),
        pytest.param("acne acne", "acne", "confirmed", 1.0, "consensus", id="two_agree"),
        pytest.param("tinea tinea", "tinea", "corrected", 1.0, "consensus", id="two_correct"),
        pytest.param("tinea tinea acne", "tinea", "corrected", 2 / 3, "consensus", id="third"),
        pytest.param("acne tinea", "acne", "tie", 0.5, "given", id="two_differ"),
        pytest.param("tinea eczema", "acne", "tie", 0.5, "given", id="tie_keeps_given"),
        pytest.param("tinea eczema acne", "acne", "tie", 1 / 3, "given", id="three_differ"),
        pytest.param("acne acne tinea tinea", "acne", "tie", 0.5, "given", id="two_against_two"),
        pytest.param("tinea unsure unsure", "acne", "single", 1.0, "given", id="unsure_no_vote"),
        pytest.param("unsure unsure", "acne", "unsure", None, "given", id="only_unsure"),
        pytest.param("not_usable", "acne", "single", 1.0, "given", id="one_not_usable"),
        pytest.param("not_usable not_usable", None, "not_usable", 1.0, "consensus", id="out"),
        pytest.param("not_usable tinea", "acne", "tie", 0.5, "given", id="not_usable_tied"),
        pytest.param("not_usable tinea tinea", "tinea", "corrected", 2 / 3, "consensus", id="in"),
    ],
)
def test_two_agreeing_readers_decide_and_one_does_not(
    votes: str, label: str, status: str, agreement: float | None, source: str
) -> None:
    row = clean_labels(given(a="acne"), reviews(a=votes)).row(0, named=True)
    assert row == {
        "image_uuid": "a",
        "label": label,
        "given_label": "acne",
        "status": status,
        "n_reviews": len(votes.split()),
        "n_votes": len([v for v in votes.split() if v != "unsure"]),
        "agreement": pytest.approx(agreement) if agreement else None,
        "source": source,
        "confidence": None,
    }


@pytest.mark.parametrize(
    ("policy", "votes", "expected"),
    [
        pytest.param({"single": "accept"}, "tinea", ("tinea", "corrected", "single"), id="accept"),
        pytest.param({"single": "accept"}, "acne", ("acne", "confirmed", "single"), id="agrees"),
        pytest.param({"single": "accept"}, "not_usable", (None, "not_usable", "single"), id="out"),
        pytest.param({"single": "accept"}, "acne tinea", ("acne", "tie", "given"), id="no_single"),
        pytest.param({"single": "exclude"}, "tinea", (None, "single", None), id="exclude_one"),
        pytest.param({"single": "exclude"}, "unsure", ("acne", "unsure", "given"), id="unsure"),
        pytest.param({"conflict": "exclude"}, "acne tinea", (None, "tie", None), id="exclude_tie"),
        pytest.param(
            {"conflict": "majority"}, "acne tinea", ("acne", "tie", "given"), id="no_majority"
        ),
        pytest.param(
            {"min_agreeing": 3}, "tinea tinea", ("acne", "single", "given"), id="two_of_three"
        ),
        pytest.param(
            {"min_agreeing": 3}, "tinea tinea acne", ("acne", "tie", "given"), id="not_enough"
        ),
        pytest.param(
            {"min_agreeing": 3, "conflict": "majority"},
            "tinea tinea acne",
            ("tinea", "corrected", "consensus"),
            id="majority",
        ),
        pytest.param(
            {"min_agreeing": 3, "conflict": "majority"},
            "tinea tinea",
            ("acne", "single", "given"),
            id="majority_is_of_conflicts",
        ),
        pytest.param(
            {"min_agreeing": 1}, "tinea", ("tinea", "corrected", "consensus"), id="plurality"
        ),
    ],
)
def test_what_is_undecided_is_for_the_policy_to_say(
    policy: dict[str, Any], votes: str, expected: tuple[str | None, ...]
) -> None:
    cleaned = clean_labels(given(a="acne"), reviews(a=votes), ConsensusPolicy(**policy))
    assert cleaned.select("label", "status", "source").row(0) == expected


REFERENCES = ConsensusPolicy(references=(("histology", "biopsy"), ("in_person",)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            {"histology": "tinea", "a": "acne", "b": "acne"},
            ("tinea", "corrected", 1, "reference"),
            id="readers_do_not_overrule",
        ),
        pytest.param(
            {"Histology ": "acne", "a": "tinea", "b": "tinea"},
            ("acne", "confirmed", 1, "reference"),
            id="spelling_does_not_matter",
        ),
        pytest.param(
            {"in_person": "tinea", "histology": "eczema"},
            ("eczema", "corrected", 1, "reference"),
            id="the_stronger_one",
        ),
        pytest.param(
            {"biopsy": "tinea", "histology": "eczema", "a": "tinea", "b": "tinea"},
            ("acne", "tie", 2, "given"),
            id="equals_that_conflict",
        ),
        pytest.param(
            {"biopsy": "tinea", "histology": "tinea", "in_person": "acne"},
            ("tinea", "corrected", 2, "reference"),
            id="equals_that_agree",
        ),
        pytest.param(
            {"histology": "unsure", "a": "tinea", "b": "tinea"},
            ("tinea", "corrected", 2, "consensus"),
            id="an_unsure_reference_is_no_vote",
        ),
        pytest.param(
            {"histology": "not_usable", "a": "tinea", "b": "tinea"},
            ("tinea", "corrected", 2, "consensus"),
            id="histology_says_nothing_of_photographs",
        ),
        pytest.param(
            {"histology": "tinea", "a": "not_usable", "b": "not_usable"},
            ("tinea", "corrected", 1, "reference"),
            id="nor_do_readers_take_it_out",
        ),
    ],
)
def test_a_reference_decides_alone_and_is_not_outvoted(
    said: dict[str, str], expected: tuple[str, str, int, str]
) -> None:
    cleaned = clean_labels(given(i="acne"), said_by(i=said), REFERENCES)
    assert cleaned.select("label", "status", "n_votes", "source").row(0) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({}, ("acne", "given", 0, None, "reference"), id="nobody_looked"),
        pytest.param(
            {"a": "tinea", "b": "tinea"}, ("acne", "confirmed", 0, None, "reference"), id="readers"
        ),
        pytest.param({"a": "unsure"}, ("acne", "confirmed", 0, None, "reference"), id="unsure"),
        pytest.param(
            {"in_person": "tinea"}, ("acne", "confirmed", 0, None, "reference"), id="weaker"
        ),
        pytest.param({"biopsy": "tinea"}, ("acne", "tie", 1, 0.5, "given"), id="as_strong"),
        pytest.param(
            {"biopsy": "acne"}, ("acne", "confirmed", 1, 1.0, "reference"), id="as_strong_agrees"
        ),
    ],
)
def test_a_verified_given_label_stands_with_the_strongest_references(
    said: dict[str, str], expected: tuple[Any, ...]
) -> None:
    proven = pl.Series(["i", "nolabel"])
    rows = given(i="acne", nolabel=None)
    cleaned = clean_labels(rows, said_by(i=said), REFERENCES, verified=proven)
    columns = ("label", "status", "n_votes", "agreement", "source")
    assert cleaned.select(columns).rows() == [expected, (None, "given", 0, None, "given")]


def test_disagreement_with_a_reference_is_counted() -> None:
    rows = given(i="acne", j="acne", k="acne", m="acne", n="acne")
    votes = said_by(
        i={"histology": "tinea", "a": "acne", "b": "acne"},
        j={"histology": "tinea", "a": "tinea", "b": "tinea"},
        k={"a": "tinea", "b": "tinea"},
        m={"histology": "acne", "a": "not_usable", "b": "not_usable"},
        n={"histology": "acne", "a": "tinea"},
    )
    cleaned = clean_labels(rows, votes, REFERENCES, verified=pl.Series(["k"]))
    assert overruled(rows, votes, cleaned, REFERENCES).to_list() == ["i", "k", "m"]


def test_confidence_is_the_mean_of_what_the_votes_for_the_label_stated() -> None:
    rows = [("a", "x", "tinea", "0.5"), ("a", "y", "tinea", None), ("a", "z", "tinea", "0.8")]
    rows += [("a", "w", "acne", "1.0"), ("b", "x", "acne", None), ("b", "y", "acne", None)]
    columns = ("image_uuid", "reviewer", "label", "confidence")
    votes = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    cleaned = clean_labels(given(a="acne", b="acne"), votes)
    assert cleaned["confidence"].to_list() == [0.65, None]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        pytest.param({"min_agreeing": 0}, "min_agreeing 0 is below 1", id="nobody"),
        pytest.param(
            {"references": (("Histology",), ("histology ",))},
            "'histology' stands at two",
            id="twice",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConsensusPolicy(**policy)


def test_what_a_policy_changes_is_json_and_nothing_if_it_changes_nothing() -> None:
    assert ConsensusPolicy().changed() == {}
    policy = ConsensusPolicy(single="accept", references=(("Histology ",), ("in person",)))
    assert policy.changed() == {"single": "accept", "references": [["histology"], ["in_person"]]}


def test_a_missing_given_label_is_filled_by_reviews_only() -> None:
    cleaned = clean_labels(given(a=None, b=None, c=None), reviews(a="acne acne", c="tinea"))
    assert cleaned.select("label", "status").rows() == [
        ("acne", "corrected"),
        (None, "given"),
        (None, "single"),
    ]


def test_rows_stay_in_given_order_and_foreign_reviews_add_none() -> None:
    cleaned = clean_labels(given(c="acne", a="acne", b="acne"), reviews(b="tinea tinea", z="acne"))
    assert cleaned.select("image_uuid", "label").rows() == [
        ("c", "acne"),
        ("a", "acne"),
        ("b", "tinea"),
    ]


def test_without_reviews_every_label_is_as_given() -> None:
    cleaned = clean_labels(given(a="acne", b=None), reviews())
    assert cleaned.schema == clean_labels(given(a="acne"), reviews(a="acne")).schema
    assert cleaned["status"].to_list() == ["given", "given"]


def test_the_summary_counts_every_status_once() -> None:
    rows = given(**dict.fromkeys("abcdefg", "acne"))
    votes = reviews(
        b="acne acne",
        c="tinea tinea acne",
        d="acne tinea",
        e="unsure",
        f="not_usable not_usable",
        g="tinea",
    )
    summary = label_summary(clean_labels(rows, votes))
    assert summary == {
        "n_images": 7,
        "n_labelled": 6,
        "n_reviewed": 6,
        **{f"n_{status}": 1 for status in STATUSES},
        "corrected_share": 0.5,
        "mean_agreement": pytest.approx((1 + 2 / 3 + 1 / 2 + 1 + 1) / 5),
    }


def test_how_each_class_fared_is_counted_where_anybody_looked() -> None:
    rows = given(a="acne", b="acne", c="tinea", d="eczema")
    votes = reviews(a="acne acne", b="tinea tinea", c="acne tinea")
    table = status_by_class(clean_labels(rows, votes))
    assert table.select("given", "n", "confirmed", "corrected", "tie").rows() == [
        ("acne", 2, 1, 1, 0),
        ("tinea", 1, 0, 0, 1),
    ]


def test_a_share_of_nothing_is_none() -> None:
    summary = label_summary(clean_labels(given(a="acne"), reviews(a="unsure")))
    assert (summary["corrected_share"], summary["mean_agreement"]) == (None, None)


def test_sound_labels_have_no_problems_and_null_is_sound() -> None:
    labels = given(a="acne", b=None)
    assert label_problems(labels, pl.Series(["b", "a"]), ["acne"]) == []


def test_every_kind_of_problem_is_told_at_once() -> None:
    labels = pl.concat([given(a="acne", x="acme"), given(a="acne")])
    assert label_problems(labels, pl.Series(["a", "b", "c"]), ["acne"]) == [
        "1 images on more than one row: 'a'",
        "2 images without a row: 'b', 'c'",
        "1 rows of unknown images: 'x'",
        "1 unknown classes: 'acme'",
    ]
