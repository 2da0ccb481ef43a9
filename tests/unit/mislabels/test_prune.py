"""The prune list: reasons and sources, never a flag; and what the naive prune would cost."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.mislabels.prune import (
    clear_garbage,
    naive_prune,
    prune_list,
    prune_report,
    write_prune,
)

ROOT = Path(__file__).parents[3]
CLASSES = ("acne", "tinea", "wart")
IDS = list("abcdefgh")


@pytest.fixture
def cleaned() -> pl.DataFrame:
    """One image of each status, and more that nobody looked at."""
    status = ["given", "confirmed", "corrected", "tie", "unsure", "not_usable", "given", "given"]
    return pl.DataFrame(
        {
            "image_uuid": IDS,
            "given_label": ["acne"] * 5 + ["tinea"] * 3,
            "status": status,
            "n_reviews": [0, 2, 3, 2, 1, 2, 0, 0],
        }
    )


@pytest.fixture
def rows() -> pl.DataFrame:
    """Seven judged rows; ``h`` could not be judged."""
    return pl.DataFrame(
        {
            "image_uuid": IDS[:7],
            "patient_id": [f"p{i}" for i in range(7)],
            "given_label": ["acne"] * 5 + ["tinea"] * 2,
            "quality": [0.05, 0.3, 0.2, 0.1, 0.9, 0.01, 0.02],
            "flagged": [True, True, True, True, False, True, True],
        }
    )


def garbage(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"image_uuid": list(ids), "reason": ["not_skin"] * len(ids)})


def test_nothing_is_dropped_because_it_is_flagged(
    cleaned: pl.DataFrame, rows: pl.DataFrame
) -> None:
    found = prune_list(cleaned, rows)
    assert found.rows() == [("f", "tinea", True, "not_usable", "reviewers (2 reviews)")]
    usable = cleaned.with_columns(status=pl.col("status").replace("not_usable", "tie"))
    assert prune_list(usable, rows).is_empty()


def test_garbage_leaves_only_where_no_reviewer_looked(
    cleaned: pl.DataFrame, rows: pl.DataFrame
) -> None:
    found = prune_list(cleaned, rows, garbage(*IDS[:6], "h"))
    assert found.select("image_uuid", "reason", "source").rows() == [
        ("a", "not_skin", "image issues"),
        ("f", "not_usable", "reviewers (2 reviews)"),
        ("h", "not_skin", "image issues"),
    ]
    assert found.row(2) == ("h", "tinea", None, "not_skin", "image issues")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(garbage("a", "a"), "'a' on more than one row", id="twice"),
        pytest.param(garbage("z"), "'z' not among the labels", id="stranger"),
    ],
)
def test_garbage_that_cannot_be_placed_is_refused(
    cleaned: pl.DataFrame, rows: pl.DataFrame, found: pl.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prune_list(cleaned, rows, found)


def test_only_what_is_no_skin_is_clear_garbage() -> None:
    kinds = ["not_skin", "outlier", "exact_duplicate", "not_skin"]
    issues = pl.DataFrame({"kind": kinds, "image_uuid": ["b", "c", "d", "b"]})
    assert clear_garbage(issues).rows() == [("b", "not_skin")]


def test_what_the_naive_prune_would_cost_is_counted(
    cleaned: pl.DataFrame, rows: pl.DataFrame
) -> None:
    verified = pl.Series([uuid for i, uuid in enumerate(IDS) if i not in (2, 3)])
    found = naive_prune(rows, cleaned, CLASSES, verified=verified)
    assert found.summary == {
        "n": 7,
        "n_lost": 6,
        "share_lost": 6 / 7,
        "n_confirmed_lost": 1,
        "n_corrected_lost": 1,
        "n_verified": 5,
        "n_verified_lost": 4,
        "verified_share_lost": 4 / 5,
        "share_of_lost_verified": 4 / 6,
    }
    counts = ("class", "n", "n_lost", "n_decided_lost", "n_verified", "n_verified_lost")
    assert found.per_class.select(counts).rows() == [
        ("tinea", 2, 2, 0, 2, 2),
        ("acne", 5, 4, 2, 3, 2),
        ("wart", 0, 0, 0, 0, 0),
    ]
    assert found.per_class["share_lost"].to_list() == [1.0, 0.8, None]
    assert found.per_class["verified_share_lost"].to_list() == [1.0, 2 / 3, None]
    assert found.groups.select("group", "n", "n_flagged").rows() == [
        ("verified", 5, 4),
        ("not verified", 2, 2),
    ]
    assert found.losses.select("image_uuid", "why").rows() == [
        ("c", "corrected by 3 reviews"),
        ("b", "confirmed by 2 reviews; verified"),
        ("f", "verified"),
        ("g", "verified"),
        ("a", "verified"),
    ]


def test_without_verification_nothing_is_said_of_it(
    cleaned: pl.DataFrame, rows: pl.DataFrame
) -> None:
    found = naive_prune(rows, cleaned, CLASSES)
    assert found.summary["n_verified"] is found.summary["share_of_lost_verified"] is None
    assert found.per_class["n_verified"].null_count() == len(CLASSES)
    assert found.groups.is_empty()
    assert found.losses["image_uuid"].to_list() == ["c", "b"]
    report = prune_report(prune_list(cleaned, rows), found)
    assert "not known" in report
    named = re.findall(r"TIER_REFIT_\w+", report)
    assert [f"# {name}=" in (ROOT / ".env.example").read_text() for name in named] == [True]


def test_no_flag_costs_nothing(cleaned: pl.DataFrame, rows: pl.DataFrame) -> None:
    found = naive_prune(rows.with_columns(flagged=pl.lit(value=False)), cleaned, CLASSES)
    assert found.summary["share_lost"] == 0
    assert naive_prune(rows.clear(), cleaned, CLASSES).summary["share_lost"] is None


def test_the_report_counts_and_names_no_row(
    tmp_path: Path, cleaned: pl.DataFrame, rows: pl.DataFrame
) -> None:
    verified = pl.Series([f"image-{uuid}" for uuid in IDS])
    renamed = [
        frame.with_columns(image_uuid=pl.format("image-{}", "image_uuid"))
        for frame in (cleaned, rows)
    ]
    proposed = prune_list(*renamed)
    naive = naive_prune(renamed[1], renamed[0], CLASSES, verified=verified)
    picture = write_prune(proposed, naive, tmp_path)
    assert (tmp_path / "naive_prune.png").read_bytes() == picture
    report = (tmp_path / "prune_report.md").read_text()
    assert "1 x not_usable, by reviewers (2 reviews)" in report
    assert "Of 7 verified labels 6 would go (85.7 %); they are 100.0 % of what" in report
    assert "- tinea: 2 of 2 (100.0 %)" in report
    assert "image-" not in report
    assert pl.read_csv(tmp_path / "prune_list.csv").equals(proposed)
    assert pl.read_csv(tmp_path / "naive_prune_losses.csv").height == naive.losses.height
    assert write_prune(proposed, naive, tmp_path) == picture
