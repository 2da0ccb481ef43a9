"""What release note and page say of labels that were reviewed in part."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from report_sample import made_rows, plain_report

from dagster_project.lib.release.note import release_note
from dagster_project.lib.release.report_page.doubts import partial_section
from dagster_project.lib.tiers.policy import DEFAULT_POLICY


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """Every second row asked, one in ten of these undecided."""
    rows = made_rows(400)
    number = pl.int_range(pl.len())
    asked = number % 2 == 0
    return plain_report(
        rows.with_columns(
            given_label=pl.col("label"),
            asked=asked,
            returned=asked,
            reviewed=asked & (number % 20 != 0),
            inclusion_probability=pl.lit(0.5),
            stratum=pl.lit("x"),
        )
    )


def test_note_and_page_say_what_undecided_reviews_leave_open(report: dict[str, Any]) -> None:
    low, high = report["partial_review"]["confident_wrong"]["undecided"]
    assert low < report["partial_review"]["confident_wrong"]["estimate"] < high
    section = partial_section(report)
    assert section is not None
    for text in (release_note(report, DEFAULT_POLICY, tta=None), str(section.parts)):
        assert "If every undecided review above the threshold were right" in text
        assert f"{100 * low:.2f} %" in text
        assert f"{100 * high:.2f} %" in text
        assert "180 of 200 returned rows are decided" in text


def test_where_nothing_is_undecided_no_range_is_said(report: dict[str, Any]) -> None:
    found = report["partial_review"]
    same = {**found["confident_wrong"], "undecided": [0.03, 0.03]}
    quiet = {**report, "partial_review": {**found, "confident_wrong": same}}
    assert "If every undecided" not in release_note(quiet, DEFAULT_POLICY, tta=None)
    assert "If every undecided" not in str(partial_section(quiet))
