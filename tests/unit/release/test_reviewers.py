"""What the note and the page say of the readers behind the labels."""

from __future__ import annotations

from report_sample import made_rows, plain_report, reviews

from dagster_project.lib.release.note import release_note
from dagster_project.lib.release.reviewers import HEAD, reviewer_lines, reviewer_rows
from dagster_project.lib.tiers.policy import DEFAULT_POLICY


def test_blinding_consensus_agreement_and_exclusions_are_told() -> None:
    told = " | ".join(reviewer_lines(reviews()))
    for words in (
        "600 of 620 images came back", "at least 2 agreeing", "not overruled by readers: histology",
        "588 images", "0.71 (95 %: 0.68 to 0.74)", "7 judged not usable", "31 in conflict",
        "9 with one vote",
    ):  # fmt: skip
        assert words in told


def test_reviews_from_no_packet_are_not_called_blind_and_no_agreement_is_not_a_number() -> None:
    found = {**reviews(), "packet": None, "images": {"confirmed": 3}}
    found["agreement"] = {"n_images_two_readers": 0, "alpha": None, "alpha_ci95": None}
    blind, _, agreement, left_out = reviewer_lines(found)
    assert "not known" in blind
    assert "not estimable" in agreement
    assert left_out == "Excluded or undecided: no reviewed image"


def test_a_readers_name_can_break_neither_the_table_nor_the_page() -> None:
    rows = reviewer_rows(reviews())
    assert [len(row) for row in rows] == [len(HEAD), len(HEAD)]
    assert not set("<>|`") & set(rows[1][0])
    assert rows[1][-1] == "undefined"


def test_the_note_says_so_where_nobody_knows_who_reviewed() -> None:
    report = plain_report(made_rows(200))
    assert "is not known." in release_note(report, DEFAULT_POLICY, None).split("## Reviewers")[1]
    report["reviews"] = reviews()
    told = release_note(report, DEFAULT_POLICY, None)
    assert "91.2 % (88.5 to 93.4 %)" in told
