"""What holds of every sweep: order, ties, orientation; and that a gate is the tiers' curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.lib.gate.config import GateConfig, parse_config
from dagster_project.lib.gate.scores import GateScores, make_scores
from dagster_project.lib.gate.sweep import RATES, sweep, taus_of
from dagster_project.lib.tiers.curve import coverage_curve

FEW = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0, float("nan")])
"""Scores that tie, on both sides of what is packed into whole numbers."""

ROWS = st.lists(st.tuples(FEW, st.booleans(), st.booleans()), min_size=8, max_size=60)


def config(accept: str = "high") -> GateConfig:
    gauge = {"head": "h", "magnitude": "any", "normalisation": "none", "accept": accept}
    return parse_config({"gauge": gauge})


def made(rows: list[tuple[float, bool, bool]], dtype: Any = np.float64) -> GateScores:
    score, in_range, fault = (np.array(column) for column in zip(*rows, strict=True))
    return make_scores(score.astype(dtype), in_range, config(), fault=fault)


TAUS = np.array([-2.0, -1.5, 0.0, 0.2, 0.25, 0.5, 1.0, 2.5, 3.0, 9.0])


@given(rows=ROWS)
def test_every_count_is_that_of_a_mask_and_monotone(rows: list[tuple[float, bool, bool]]) -> None:
    scores = made(rows)
    found = sweep(scores, TAUS)
    for at, tau in enumerate(TAUS):
        bottom = scores.fault | (scores.score < tau)
        assert found.bottom_in[at] == (bottom & scores.in_range).sum()
        assert found.bottom_cens[at] == (bottom & ~scores.in_range).sum()
        assert found.semantic[at] == (np.isfinite(scores.score) & (scores.score < tau)).sum()
    assert (np.diff(found.bottom_in) >= 0).all()
    assert (np.diff(found.bottom_cens) >= 0).all()
    mixed = found.n_in * found.fn_in + found.n_cens * (1 - found.fp_cens)
    defined = ~np.isnan(mixed)
    np.testing.assert_allclose(mixed[defined], found.n * found.bottom_rate[defined])


@given(rows=ROWS, seed=st.integers(0, 99))
def test_the_order_of_rows_is_irrelevant(rows: list[tuple[float, bool, bool]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    one, other = sweep(made(rows), TAUS), sweep(made([rows[at] for at in order]), TAUS)
    for name in RATES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(rows=ROWS)
def test_float32_is_widened_exactly(rows: list[tuple[float, bool, bool]]) -> None:
    narrow, wide = made(rows, np.float32), made(rows)
    np.testing.assert_array_equal(taus_of(narrow, "distinct"), taus_of(wide, "distinct"))
    np.testing.assert_array_equal(sweep(narrow, TAUS).bottom_in, sweep(wide, TAUS).bottom_in)


@given(rows=ROWS)
def test_a_turned_score_gives_the_turned_gate(rows: list[tuple[float, bool, bool]]) -> None:
    """A distance above tau is bottom as its negative below -tau is."""
    high = made(rows)
    low = make_scores(-high.score, high.in_range, config("low"), fault=high.fault)
    one, other = (sweep(x, taus_of(x, "distinct")) for x in (high, low))
    np.testing.assert_array_equal(one.taus, other.taus)
    np.testing.assert_array_equal(one.bottom_in, other.bottom_in)
    np.testing.assert_array_equal(one.bottom_cens, other.bottom_cens)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()),
        min_size=8,
        max_size=50,
    )
)
def test_a_gate_on_the_largest_probability_is_the_tiers_curve(
    rows: list[tuple[float, bool]],
) -> None:
    """One mechanism: in range is "the first answer is right", censored "it is wrong"."""
    score, right = (np.array(column) for column in zip(*rows, strict=True))
    curve = coverage_curve(pl.DataFrame({"score": score, "top1": right, "top3": right}))
    found = sweep(make_scores(score, right, config()), curve["threshold"].to_numpy()[::-1].copy())
    np.testing.assert_array_equal(found.accept_rate[::-1], curve["coverage"])
    np.testing.assert_array_equal(found.accepted_censored[::-1], curve["confident_wrong"])
