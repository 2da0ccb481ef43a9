"""Operating points: laws that hold for any scores, ties, faults, groups and rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gate_rows import SIGNED, configured, frozen, rows
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagster_project.lib.gate.bounds import Bound, bound
from dagster_project.lib.gate.config import Bounded, Certify
from dagster_project.lib.gate.gray_zone import rates
from dagster_project.lib.gate.points import grid, operating_points
from dagster_project.lib.gate.scores import GateScores

steady = settings(derandomize=True, deadline=None, max_examples=25)
few = st.sampled_from([0.0, 0.25, 0.5, 1.0, float(np.nextafter(0.5, 0)), np.nan, np.inf])
quantities = st.sampled_from(["fp_cens", "fn_in", "accepted_censored"])
TAUS = np.array([0.0, 0.25, float(np.nextafter(0.5, 0)), 0.5, 0.75, 1.0, 2.0])


@st.composite
def worlds(draw: st.DrawFn) -> GateScores:
    """4 to 60 rows of 2 to 20 groups on both sides."""
    n = draw(st.integers(4, 60))

    def many(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    group = many(st.integers(0, 19))
    first = [number % 2 == group[0] % 2 for number in group]
    assume(not all(first))
    return rows(
        many(few),
        many(st.booleans()),
        configured(),
        fault=np.array(many(st.sampled_from([False, False, False, True]))),
        group=[f"g{number}" for number in group],
        first=first,
    )


def made(scores: GateScores, quantity: Bounded, target: float, cap: int) -> Bound:
    terms = Certify(max_rows_per_group=cap)
    return bound(scores, quantity, target, level=0.3, terms=terms)


@steady
@given(worlds(), quantities, st.sampled_from([0.1, 0.4, 0.8]), st.integers(1, 4))
def test_what_is_certified_is_one_end_of_the_taus_and_grows_with_the_target(
    scores: GateScores, quantity: Bounded, target: float, cap: int
) -> None:
    one = made(scores, quantity, target, cap)
    held = one.certified(TAUS)
    steps = np.diff(held.astype(int))
    assert (steps <= 0).all() if one.rising else (steps >= 0).all()
    assert (held <= made(scores, quantity, min(1, target + 0.1), cap).certified(TAUS)).all()
    for tau in TAUS[held].tolist():
        assert one.at(tau, certified=False)["upper"] <= target + 1e-9


@steady
@given(worlds(), quantities)
def test_a_bound_sees_the_rates_of_its_rows_in_the_right_order(
    scores: GateScores, quantity: Bounded
) -> None:
    one = made(scores, quantity, 0.4, 60)
    observed = [one.at(float(tau), certified=False)["observed"] for tau in TAUS]
    kind = (
        scores.first
        & {
            "fp_cens": ~scores.in_range,
            "fn_in": scores.in_range,
            "accepted_censored": np.ones(len(scores), dtype=bool),
        }[quantity]
    )
    for tau, found in zip(TAUS, observed, strict=True):
        bottom = scores.fault | (scores.score < tau)
        hit = bottom if quantity == "fn_in" else ~bottom & ~scores.in_range
        assert found == (hit[kind].mean() if kind.any() else None)


@steady
@given(worlds(), st.sampled_from([0.2, 0.5, 0.9]))
def test_every_point_is_a_tau_of_the_grid_that_answers_somebody(
    scores: GateScores, target: float
) -> None:
    config = configured(
        certify={"delta": 0.3, "max_rows_per_group": 2},
        points={"safety_first": {"target": target}, "accuracy_first": {"target": target}},
    )
    found = operating_points(scores, config)
    taus = grid(scores, config)[0].tolist()
    for point in found["points"].values():
        assert (point["tau"] is None) == (point["status"] == "unavailable")
        assert (point["reason"] is None) == (point["status"] == "backed")
        if point["tau"] is not None:
            assert point["tau"] in taus
            assert point["calibration"]["accept_rate"] > 0
    ordered = [found["points"][name]["tau"] for name in found["order"]]
    assert ordered == sorted(ordered)
    for row in found["neighbours"]:
        assert row["per_1000"]["answered"] <= 0  # the next point never answers more


@steady
@given(worlds(), st.integers(0, 2**32 - 1))
def test_labels_beyond_calibration_move_no_tau(scores: GateScores, seed: int) -> None:
    config = configured(certify={"delta": 0.3, "max_rows_per_group": 2})
    flipped = np.random.default_rng(seed).random(len(scores)) < 0.5
    other = replace(
        scores, in_range=np.where(scores.first, scores.in_range, scores.in_range ^ flipped)
    )
    here, there = (operating_points(one, config)["points"] for one in (scores, other))
    assert {name: point["tau"] for name, point in here.items()} == {
        name: point["tau"] for name, point in there.items()
    }


@steady
@given(st.lists(few, max_size=20), st.sampled_from([0.0, 0.25, 0.5]), st.sampled_from([0.5, 1.0]))
def test_every_row_is_bottom_or_answered_and_the_gap_is_answered(
    values: list[float], infer: float, train: float
) -> None:
    score = np.array(values, dtype=np.float64)
    found = rates(score, frozen(infer, train if train > infer else None, gauge=SIGNED))
    if not values:
        return
    assert abs(found["bottom_rate"] + found["accept_rate"] - 1) < 1e-12
    assert found["gap_rate"] <= found["accept_rate"]
    stricter = rates(score, frozen(max(infer, train), gauge=SIGNED))
    assert abs(found["accept_rate"] - found["gap_rate"] - stricter["accept_rate"]) < 1e-12
