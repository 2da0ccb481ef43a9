"""Calibration against brute force, on small tied data with every degenerate case among it."""

from __future__ import annotations

import math
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.calibration.abstention import areas, tied_counts
from dagster_project.lib.calibration.reliability import equal_mass_bins
from dagster_project.lib.calibration.summary import calibration_summary
from dagster_project.lib.calibration.temperature import map_threshold, temper
from dagster_project.lib.evidence.proportion import clustered_interval
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.thresholds import GRID, Thresholds

steady = settings(derandomize=True, deadline=None, max_examples=100)
# ties, both ends, and one half, where the logit changes sign
score = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.floats(0, 1, width=32))
grid = st.integers(0, GRID).map(lambda k: k / GRID)
temperatures = st.floats(0.5, 20)


@st.composite
def scored_rows(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.lists(st.tuples(score, st.booleans()), min_size=1, max_size=30))
    alike = draw(st.sampled_from(["mixed", "all_right", "all_wrong", "constant"]))
    scores = [rows[0][0]] * len(rows) if alike == "constant" else [s for s, _ in rows]
    right = {"all_right": [True] * len(rows), "all_wrong": [False] * len(rows)}
    images = draw(st.sampled_from([1, 3]))
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:02d}" for i in range(len(rows))],
            "patient_id": [f"p{i // images}" for i in range(len(rows))],
            "score": pl.Series(scores, dtype=draw(st.sampled_from([pl.Float32, pl.Float64]))),
            "top1": right.get(alike, [r for _, r in rows]),
        }
    )


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


@steady
@given(scored_rows(), st.randoms(use_true_random=False))
def test_the_summary_is_the_same_in_any_order_and_undefined_is_null(
    scored: pl.DataFrame, random: Any
) -> None:
    at = {"confident": 0.8, "refer": 0.2}
    found = calibration_summary(scored, at)
    order = list(range(scored.height))
    random.shuffle(order)
    assert calibration_summary(scored[order], at) == found
    assert finite(found)
    alike = scored["top1"].n_unique() == 1 or scored["score"].n_unique() == 1
    if alike:
        assert found["temperature"] is None
        assert any(note.startswith("No temperature") for note in found["notes"])
    if found["temperature"] is not None:
        assert found["temperature"] > 0
        assert found["nll_after"] <= found["nll_before"] + 1e-12
        low, high = found["temperature_ci95"] or (0, math.inf)
        assert low <= found["temperature"] <= high
    assert sum(row["n"] for row in found["reliability"]) == scored.height
    for row in found["reliability"]:
        assert (row["low"] is None) == (row["n_patients"] < 2)
        assert row["low"] is None or 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    assert 0 <= found["augrc"] <= 0.5 + 1e-12
    assert 0 <= found["e_aurc"] <= found["aurc"] <= 1 + 1e-12


@steady
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_areas_are_the_mean_over_every_order_that_keeps_the_scores_falling(
    rows: list[tuple[float, bool]],
) -> None:
    n = len(rows)
    aurc, augrc = [], []
    for order in permutations(rows):
        if any(a[0] < b[0] for a, b in pairwise(order)):
            continue
        wrong = np.cumsum([not right for _, right in order])
        aurc.append(np.mean(wrong / np.arange(1, n + 1)))
        augrc.append(np.trapezoid(np.append(0, wrong) / n, dx=1 / n))
    found = areas(*tied_counts(np.array([s for s, _ in rows]), np.array([r for _, r in rows])))
    assert found.aurc == pytest.approx(np.mean(aurc), abs=1e-12)
    assert found.augrc == pytest.approx(np.mean(augrc), abs=1e-12)
    wrong = np.cumsum(sorted(not right for _, right in rows))
    best = np.mean(wrong / np.arange(1, n + 1))
    assert found.e_aurc == pytest.approx(np.mean(aurc) - best, abs=1e-12)


@steady
@given(st.lists(score, min_size=1, max_size=40), st.integers(1, 20))
def test_bins_rise_with_the_score_keep_ties_and_have_no_gaps(scores: list[float], b: int) -> None:
    values = np.array(scores)
    bins = equal_mass_bins(values, b)
    assert sorted(set(bins.tolist())) == list(range(int(bins.max()) + 1))
    assert bins.max() < b
    order = np.argsort(values, kind="stable")
    for i, j in pairwise(order):
        assert bins[i] == bins[j] if values[i] == values[j] else bins[i] <= bins[j]


@steady
@given(st.lists(score, min_size=1, max_size=20), grid, grid, temperatures)
def test_tempered_scores_at_mapped_thresholds_make_the_tiers_from_before(
    scores: list[float], one: float, other: float, temperature: float
) -> None:
    before = pl.DataFrame({"score": pl.Series(scores, dtype=pl.Float32)})
    after = pl.DataFrame({"score": temper(before["score"].to_numpy(), temperature)})
    at = Thresholds(max(one, other), min(one, other), 0.25)
    mapped = Thresholds(
        map_threshold(at.confident, temperature), map_threshold(at.refer, temperature), 0.25
    )
    assert tier_of(after, mapped).to_list() == tier_of(before, at).to_list()


@steady
@given(grid, grid, temperatures)
def test_mapping_a_threshold_rises_and_can_be_undone(a: float, b: float, t: float) -> None:
    assert (map_threshold(a, t) < map_threshold(b, t)) == (a < b)
    assert map_threshold(map_threshold(a, t), 1 / t) == pytest.approx(a, abs=1e-9)
    assert map_threshold(1 - a, t) == pytest.approx(1 - map_threshold(a, t), abs=1e-12)


@steady
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 2)), max_size=25),
)
def test_a_clustered_rate_lies_in_its_interval_and_equals_counting(
    rows: list[tuple[bool, int, int]],
) -> None:
    hit = np.array([h for h, _, _ in rows], dtype=bool)
    patient = np.array([p for _, p, _ in rows], dtype=np.int64)
    group: npt.NDArray[np.int64] = np.array([g for _, _, g in rows], dtype=np.int64)
    found = clustered_interval(hit, patient, group, n_groups=3)
    back = clustered_interval(hit[::-1], patient[::-1], group[::-1], n_groups=3)
    for g in range(3):
        inside = group == g
        assert found.n[g] == inside.sum()
        assert found.n_patients[g] == len(set(patient[inside].tolist()))
        assert found.n_hits[g] == hit[inside].sum()
        if found.n_patients[g] > 1:
            assert 0 <= found.low[g] <= found.rate[g] <= found.high[g] <= 1
            assert found.low[g] < found.high[g]
        else:
            assert np.isnan(found.low[g])
        assert found.low[g] == back.low[g] or np.isnan(found.low[g])
