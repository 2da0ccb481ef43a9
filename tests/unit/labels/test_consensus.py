"""Consensus: most votes wins, a tie asks for another reader, nothing is lost or reordered."""

from __future__ import annotations

import polars as pl
import pytest

from dagster_project.lib.labels.consensus import (
    STATUSES,
    clean_labels,
    label_problems,
    label_summary,
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


@pytest.mark.parametrize(
    ("votes", "label", "status", "agreement"),
    [
        pytest.param("", "acne", "given", None, id="nobody_looked"),
        pytest.param("acne", "acne", "confirmed", 1.0, id="one_agrees"),
        pytest.param("tinea", "tinea", "corrected", 1.0, id="one_differs"),
        pytest.param("tinea tinea acne", "tinea", "corrected", 2 / 3, id="majority_differs"),
        pytest.param("acne tinea acne", "acne", "confirmed", 2 / 3, id="majority_agrees"),
        pytest.param("acne tinea", "acne", "tie", 0.5, id="two_differ"),
        pytest.param("tinea eczema", "acne", "tie", 0.5, id="tie_keeps_given"),
        pytest.param("tinea unsure unsure", "tinea", "corrected", 1.0, id="unsure_is_no_vote"),
        pytest.param("unsure unsure", "acne", "unsure", None, id="only_unsure"),
        pytest.param("not_usable", None, "not_usable", 1.0, id="not_usable"),
        pytest.param("not_usable tinea", "acne", "tie", 0.5, id="not_usable_tied"),
        pytest.param("not_usable tinea tinea", "tinea", "corrected", 2 / 3, id="outvoted"),
        pytest.param("not_usable not_usable acne", None, "not_usable", 2 / 3, id="by_majority"),
    ],
)
def test_the_votes_decide(votes: str, label: str, status: str, agreement: float | None) -> None:
    row = clean_labels(given(a="acne"), reviews(a=votes)).row(0, named=True)
    assert row == {
        "image_uuid": "a",
        "label": label,
        "given_label": "acne",
        "status": status,
        "n_reviews": len(votes.split()),
        "n_votes": len(votes.replace("unsure", "").split()),
        "source": "given" if status in ("given", "tie", "unsure") else "consensus",
        "agreement": pytest.approx(agreement) if agreement else None,
    }


def test_a_missing_given_label_is_filled_by_reviews_only() -> None:
    cleaned = clean_labels(given(a=None, b=None), reviews(a="acne"))
    assert cleaned.select("label", "status").rows() == [("acne", "corrected"), (None, "given")]


def test_rows_stay_in_given_order_and_foreign_reviews_add_none() -> None:
    cleaned = clean_labels(given(c="acne", a="acne", b="acne"), reviews(b="tinea", z="acne"))
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
    rows = given(a="acne", b="acne", c="acne", d="acne", e="acne", f="acne")
    votes = reviews(b="acne", c="tinea tinea acne", d="acne tinea", e="unsure", f="not_usable")
    summary = label_summary(clean_labels(rows, votes))
    assert summary == {
        "n_images": 6,
        "n_labelled": 5,
        "n_reviewed": 5,
        **{f"n_{status}": 1 for status in STATUSES},
        "corrected_share": 0.5,
        "mean_agreement": pytest.approx((1 + 2 / 3 + 1 / 2 + 1) / 4),
    }


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
