"""Pictures of label versions: drawn for none, one and many, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.labels.history import history_table
from dagster_project.lib.labels.training_pictures import class_counts_png, history_png

COUNTS = pl.DataFrame(
    {
        "class": [f"class {i}" for i in range(50)],
        **{
            name: [1000 - i for i in range(50)]
            for name in ("before", "after", "relabelled_away", "relabelled_to", "dropped")
        },
    }
)
AT = {"confident": 0.8, "refer": 0.4, "possible_item": 0.25}


def history(n: int) -> pl.DataFrame:
    same = {
        "time": "2026-11-02T12:00:00+00:00",
        "changed": None,
        "thresholds_before": None,
        "thresholds_after": AT,
        **dict.fromkeys(("n_reviews", "n_reviewers", "n_files", "n_files_refused", "n_changed"), 1),
    }
    lines = [
        {**same, "label_version": f"{i:016x}", "model_tree_hash": "ab"[i % 2] * 64}
        for i in range(n)
    ]
    return history_table(lines, releases=Path("none"))


@pytest.mark.parametrize("n", [0, 50])
def test_class_counts_are_drawn_and_equal_counts_are_equal_bytes(n: int) -> None:
    drawn = class_counts_png(COUNTS.head(n))
    assert drawn.startswith(b"\x89PNG")
    assert drawn == class_counts_png(COUNTS.head(n))


@pytest.mark.parametrize("n", [0, 40])
def test_a_history_is_drawn_and_an_equal_one_is_equal_bytes(n: int) -> None:
    drawn = history_png(history(n))
    assert drawn.startswith(b"\x89PNG")
    assert drawn == history_png(history(n))


def test_a_change_is_seen() -> None:
    one = COUNTS.head(1)
    moved = one.with_columns(after=pl.col("after") + 100)
    assert class_counts_png(moved) != class_counts_png(one)
    one = history(1)
    assert history_png(one.with_columns(confident_after=pl.lit(0.5))) != history_png(one)
