from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.tiers.curve import coverage_curve


def rows(
    score: list[float], top1: list[bool], dtype: type[pl.DataType] = pl.Float64
) -> pl.DataFrame:
    return pl.DataFrame(
        {"score": pl.Series(score, dtype=dtype), "top1": top1, "top3": [True] * len(score)}
    )


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_a_hand_counted_curve(dtype: type[pl.DataType]) -> None:
    curve = coverage_curve(rows([0.5, 0.75, 0.75, 0.25], [True, True, False, False], dtype))
    assert curve.to_dict(as_series=False) == {
        "threshold": [0.75, 0.5, 0.25],
        "n": [2, 3, 4],
        "coverage": [0.5, 0.75, 1.0],
        "top1": [0.5, 2 / 3, 0.5],
        "top3": [1.0, 1.0, 1.0],
        "confident_wrong": [0.25, 0.25, 0.5],
    }


def test_a_float32_threshold_is_the_stored_value_widened() -> None:
    stored = float(np.float32(0.815))
    curve = coverage_curve(rows([0.815], [True], pl.Float32))
    assert curve["threshold"].to_list() == [stored]
    assert stored < 0.815


def test_float64_scores_one_bit_apart_stay_apart() -> None:
    near = float(np.nextafter(0.815, 1))
    curve = coverage_curve(rows([0.815, near, 0.815], [True, False, True]))
    assert curve["threshold"].to_list() == [near, 0.815]
    assert curve["n"].to_list() == [1, 3]


def test_the_ends_of_the_range_and_a_negative_zero_are_counted() -> None:
    curve = coverage_curve(rows([0.0, -0.0, 1.0, 5e-324], [True, True, False, True]))
    assert curve["threshold"].to_list() == [1.0, 5e-324, 0.0]
    assert curve["n"].to_list() == [1, 2, 4]


def test_no_rows_give_no_points() -> None:
    assert coverage_curve(rows([], []).with_columns(pl.col("top1", "top3").cast(bool))).height == 0
