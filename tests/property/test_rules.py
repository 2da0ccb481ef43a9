"""Counts in blocks and rules by bisection, against whole arrays; blocks are made tiny here."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.evidence import by_score
from dagster_project.lib.tiers import rules
from dagster_project.lib.tiers.curve import CurveCounts, curve_counts

RULES = ("coverage", "covered_top1", "confident_wrong_share", "share", "kept_top3")
HIGHEST = ("coverage", "share")
steady = settings(derandomize=True, deadline=None, max_examples=150)
scores = st.sampled_from([0.0, -0.0, 5e-324, 0.25, 0.5, 0.5000001, 0.75, 1.0])
rows = st.lists(st.tuples(scores, st.booleans(), st.booleans()), max_size=40)
targets = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 2 / 3, 0.9, 1.0]) | st.floats(0, 1)


def frame(drawn: list[tuple[float, bool, bool]], dtype: Any) -> pl.DataFrame:
    columns: list[Any] = [list(column) for column in zip(*drawn, strict=True)] or [[], [], []]
    return pl.DataFrame(
        {
            "score": pl.Series(columns[0], dtype=pl.Float64).cast(dtype),
            "top1": pl.Series(columns[1], dtype=pl.Boolean),
            "top3": pl.Series(columns[2], dtype=pl.Boolean),
        }
    )


@steady
@given(rows, st.sampled_from([pl.Float32, pl.Float64]), st.integers(1, 9))
def test_blocks_of_any_size_count_every_row_once_and_never_split_a_tie(
    drawn: list[tuple[float, bool, bool]], dtype: Any, block: int
) -> None:
    scored = frame(drawn, dtype)
    with patch.object(by_score, "_BLOCK", block):
        counts = curve_counts(scored)
    score = scored["score"].cast(pl.Float64).to_numpy()
    top1, top3 = scored["top1"].to_numpy(), scored["top3"].to_numpy()
    distinct = np.unique(score + 0.0)[::-1]
    assert counts.threshold.tolist() == distinct.tolist()
    assert counts.n.tolist() == [int((score >= t).sum()) for t in distinct]
    assert counts.top1.tolist() == [int(top1[score >= t].sum()) for t in distinct]
    assert counts.top3.tolist() == [int(top3[score >= t].sum()) for t in distinct]
    for t in (0.0, 0.25, 0.3, 1.0, 1.5):
        assert counts.inside(t) == int((distinct >= t).sum())


def by_scanning(rule: str, target: float, counts: CurveCounts) -> int | None:
    values = rules.statistic(rule, counts)
    meets = values <= target if rule in ("confident_wrong_share", "share") else values >= target
    where = np.flatnonzero(meets)
    if not where.size:
        return None
    return int(where[0] if rule in HIGHEST else where[-1])


@steady
@given(rows, st.sampled_from(RULES), targets, st.integers(1, 9))
def test_bisection_and_scanning_choose_the_same_threshold(
    drawn: list[tuple[float, bool, bool]], rule: str, target: float, block: int
) -> None:
    counts = curve_counts(frame(drawn, pl.Float64))
    with patch.object(rules, "_BLOCK", block):
        assert rules.choose(rule, target, counts) == by_scanning(rule, target, counts)
    values = rules.statistic(rule, counts)
    for index, threshold in enumerate(counts.threshold.tolist()):
        assert rules.statistic_at(rule, counts, threshold) == values[index]


def test_a_statistic_without_rows_is_null_unless_it_is_a_share_of_all_rows() -> None:
    counts = curve_counts(frame([(0.25, True, True), (0.5, False, True)], pl.Float64))
    found = {rule: rules.statistic_at(rule, counts, 0.75) for rule in (*RULES, "fixed")}
    assert found == {
        "coverage": 0.0,
        "covered_top1": None,
        "confident_wrong_share": 0.0,
        "share": 1.0,
        "kept_top3": None,
        "fixed": None,
    }
