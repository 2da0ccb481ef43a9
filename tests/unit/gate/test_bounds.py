"""Bounds of gates: the tiers' test, along taus in the right order, on the right rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from gate_rows import configured, rows
from scipy.stats import binom

from dagster_project.lib.evidence.certificate import Claim, Terms, certify, grid_from
from dagster_project.lib.evidence.rows import patient_rows
from dagster_project.lib.gate.bounds import (
    BETTING,
    CLOPPER_PEARSON,
    bound,
    certified_taus,
    level_of_each,
)
from dagster_project.lib.gate.config import Bounded, Certify
from dagster_project.lib.gate.points import operating_points
from dagster_project.lib.gate.scores import GateScores

ONE = Certify(max_rows_per_group=1)


def world(n: int, *, per_group: int = 1, seed: int = 0) -> GateScores:
    """Every row calibrates; whole groups share half of their luck."""
    rng = np.random.default_rng(seed)
    in_range = rng.random(n) < 0.6
    luck = np.repeat(rng.normal(0, 0.7, -(-n // per_group)), per_group)[:n]
    score = np.round(np.exp(np.where(in_range, 1.0, -0.5) + luck + rng.normal(0, 0.7, n)), 1)
    score[rng.random(n) < 0.02] = np.nan
    names = [f"g{row // per_group}" for row in range(n)]
    return rows(score.tolist(), in_range.tolist(), configured(), group=names, first=[True] * n)


def events(scores: GateScores, quantity: Bounded, tau: float) -> tuple[Any, Any]:
    """By the definitions, row by row: (n,) event, (n,) group of the quantity's rows."""
    bottom = scores.fault | (scores.score < tau)
    kind = {
        "fp_cens": ~scores.in_range,
        "fn_in": scores.in_range,
        "accepted_censored": np.ones(len(scores), dtype=bool),
    }[quantity]
    hit = bottom if quantity == "fn_in" else ~bottom & ~scores.in_range
    assert scores.group is not None
    return hit[kind], scores.group[kind]


@pytest.mark.parametrize("quantity", ["fp_cens", "fn_in", "accepted_censored"])
def test_with_one_row_a_group_taus_hold_while_the_binomial_tail_does(quantity: Bounded) -> None:
    scores = world(600)
    taus = np.unique(scores.score[~scores.fault])
    # no score equals these: between two steps, where strictness cannot matter, as well as at them
    taus = np.unique([*taus, *(taus + 0.05)])
    held = certified_taus(scores, quantity, 0.2, taus, level=0.05, terms=ONE)
    p = []
    for tau in taus:
        hit, _ = events(scores, quantity, tau)
        p.append(binom.cdf(hit.sum(), hit.size, 0.2))
    good = np.array(p) <= 0.05
    expected = (
        np.minimum.accumulate(good)
        if quantity == "fn_in"
        else (np.minimum.accumulate(good[::-1])[::-1])
    )
    assert held.tolist() == expected.tolist()
    assert 0 < held.sum() < taus.size


@pytest.mark.parametrize("quantity", ["fp_cens", "fn_in", "accepted_censored"])
@pytest.mark.parametrize("per_group", [1, 3])
def test_the_upper_bound_meets_the_target_exactly_where_the_test_passes(
    quantity: Bounded, per_group: int
) -> None:
    scores = world(900, per_group=per_group)
    terms = Certify(max_rows_per_group=3)
    taus = np.linspace(0.1, 9, 60)
    one = bound(scores, quantity, 0.25, level=0.05, terms=terms)
    held = one.certified(taus)
    assert 0 < held.sum() < taus.size
    edge = int(held.sum()) if one.rising else int((~held).sum()) - 1
    uppers = [one.at(float(tau), certified=False)["upper"] for tau in taus]
    assert uppers[edge] > 0.25
    assert all(upper <= 0.25 + 1e-9 for upper, is_held in zip(uppers, held, strict=True) if is_held)
    looked = one.at(float(taus[edge]), certified=False)
    hit, group = events(scores, quantity, float(taus[edge]))
    assert looked["observed"] == pytest.approx(hit.mean())
    assert (looked["n"], looked["n_groups"]) == (hit.size, np.unique(group).size)
    assert looked["method"] == (CLOPPER_PEARSON if per_group == 1 else BETTING)


def test_a_row_at_tau_is_answered_and_one_float_below_is_not() -> None:
    tau = 0.3
    below = float(np.nextafter(tau, 0))
    scores = rows([tau, below], [True, True], configured(), first=[True, True])
    one = bound(scores, "fn_in", 0.5, level=0.05, terms=ONE)
    assert one.at(tau, certified=False)["observed"] == 0.5
    assert one.at(below, certified=False)["observed"] == 0.0
    censored = replace(scores, in_range=~scores.in_range)
    other = bound(censored, "fp_cens", 0.5, level=0.05, terms=ONE)
    assert other.at(tau, certified=False)["observed"] == 0.5
    assert other.at(float(np.nextafter(tau, 1)), certified=False)["observed"] == 0.0


def test_a_single_float_is_widened_before_it_is_compared() -> None:
    stored = np.float32(0.3)  # above 0.3
    scores = replace(
        rows([1.0, 1.0], [True, True], configured(), first=[True, True]),
        score=np.array([stored, stored]),
    )
    one = bound(scores, "fn_in", 0.5, level=0.05, terms=ONE)
    assert one.at(0.3, certified=False)["observed"] == 0.0
    assert one.at(float(stored), certified=False)["observed"] == 0.0
    assert one.at(float(np.nextafter(np.float64(stored), 1)), certified=False)["observed"] == 1.0


def test_a_fault_is_never_accepted_and_always_bottom_whatever_its_score() -> None:
    scores = rows(
        [np.nan, np.inf, 5.0, 5.0],
        [False, False, False, False],
        configured(),
        fault=np.array([False, False, True, False]),
        first=[True] * 4,
    )
    one = bound(scores, "fp_cens", 0.5, level=0.05, terms=ONE)
    assert one.at(0.0, certified=False)["observed"] == 0.25
    inside = bound(replace(scores, in_range=~scores.in_range), "fn_in", 0.5, level=0.05, terms=ONE)
    assert inside.at(0.0, certified=False)["observed"] == 0.75


def test_the_cap_keeps_the_same_rows_of_a_group_whatever_they_score() -> None:
    scores = world(900, per_group=9)
    one = bound(scores, "fp_cens", 0.2, level=0.05, terms=Certify(max_rows_per_group=2))
    assert np.bincount(one.rows.patient).max() == 2
    assert one.rows.n_dropped == int((~scores.in_range).sum()) - len(one.rows)
    marked = replace(scores, score=np.arange(900.0), fault=np.zeros(900, dtype=bool))
    kept = bound(marked, "fp_cens", 0.2, level=0.05, terms=Certify(max_rows_per_group=2)).rows
    again = bound(
        replace(marked, score=-np.arange(900.0)),
        "fp_cens",
        0.2,
        level=0.05,
        terms=Certify(max_rows_per_group=2),
    ).rows
    assert kept.score.tolist() == (-again.score).tolist()


def test_only_calibration_rows_are_tested() -> None:
    scores = world(600)
    half = replace(scores, first=np.arange(600) < 300)
    one = bound(half, "accepted_censored", 0.2, level=0.05, terms=ONE)
    other = replace(half, score=np.where(half.first, half.score, 1e6))
    assert len(one.rows) == 300
    assert one.at(1.0, certified=False) == bound(
        other, "accepted_censored", 0.2, level=0.05, terms=ONE
    ).at(1.0, certified=False)


def test_rows_of_unknown_group_are_tested_only_as_groups_of_one() -> None:
    scores = world(600)
    scores.source["rows_without_group"] = 3
    taus = np.array([1.0, 50.0])
    several = bound(scores, "fp_cens", 0.2, level=0.05, terms=Certify(max_rows_per_group=3))
    assert not several.certified(taus).any()
    assert several.at(50.0, certified=False)["upper"] is None
    assert bound(scores, "fp_cens", 0.2, level=0.05, terms=ONE).certified(taus).any()


def test_nothing_is_certified_without_rows_nor_against_a_target_of_zero() -> None:
    scores = world(600)
    taus = np.array([1.0, 50.0])
    assert not certified_taus(scores, "fp_cens", 0.0, taus, level=0.05, terms=ONE).any()
    nobody = replace(scores, in_range=np.ones(600, dtype=bool))
    one = bound(nobody, "fp_cens", 0.2, level=0.05, terms=ONE)
    assert not one.certified(taus).any()
    looked = one.at(1.0, certified=False)
    assert (looked["observed"], looked["upper"], looked["rows_needed"]) == (None, None, None)


def test_rows_needed_is_never_at_a_rate_above_the_target_and_enough_below() -> None:
    scores = world(600)
    one = bound(scores, "fp_cens", 0.25, level=0.05, terms=ONE)
    assert one.at(0.2, certified=False)["rows_needed"] == "never"
    looked = one.at(1.5, certified=False)
    needed, rate = looked["rows_needed"], looked["observed"]
    # power of the binomial test itself, at that number and that rate
    n = np.arange(needed + 1)
    largest = n[binom.cdf(n, needed, 0.25) <= 0.05].max()
    assert 0.7 < binom.cdf(largest, needed, rate) < 0.9


def test_delta_is_shared_between_the_two_sequences_and_not_along_one() -> None:
    assert level_of_each(("fp_cens", "accepted_censored"), 0.05) == 0.05
    assert level_of_each(("fp_cens", "fn_in", "accepted_censored"), 0.05) == 0.025
    assert level_of_each((), 0.05) == 0.05


def probabilities(n: int, per_patient: int) -> pl.DataFrame:
    """Rows as the tiers score them: max probability, and whether top-1 is right."""
    rng = np.random.default_rng(3)
    luck = np.repeat(rng.normal(0, 0.5, n // per_patient), per_patient)
    score = np.round(1 / (1 + np.exp(-(1.2 + luck + rng.normal(0, 1.2, n)))), 4)
    right = rng.random(n) < score
    return pl.DataFrame(
        {
            "image_uuid": [f"i{row:05d}" for row in range(n)],
            "patient_id": [f"p{row // per_patient:05d}" for row in range(n)],
            "score": score,
            "top1": right,
            "top3": right,
        }
    )


@pytest.mark.parametrize("per_patient", [1, 3])
def test_a_gate_on_max_probability_is_certified_as_the_tiers_are(per_patient: int) -> None:
    scored = probabilities(3000, per_patient)
    claim = Claim("confident_wrong_share", 0.04)
    tiers = certify(
        patient_rows(scored, max_images=per_patient),
        [claim],
        Terms(0.05, 1.0, per_patient),
        released=0.5,
    )
    config = configured(
        {"head": "class", "magnitude": "softmax max", "normalisation": "none"},  # type: ignore[arg-type]
        taus=tuple(grid_from(1.0).tolist()),
        certify={"max_rows_per_group": per_patient},
        points={
            "rules": {"confident": {"choose": "smallest", "bound": {"accepted_censored": 0.04}}}
        },
    )
    n = scored.height
    patients = scored["patient_id"]
    gate = rows(
        [*scored["score"], 0.5],
        [*scored["top1"], True],
        config,
        group=[*patients, "somebody else"],
        first=[True] * n + [False],
    )
    point = operating_points(gate, config)["points"]["confident"]
    assert tiers.status == "certified"
    assert point["status"] == "backed"
    assert point["tau"] == tiers.threshold
    found = point["bounds"]["accepted_censored"]
    assert found["observed"] == tiers.claims[0].observed
    assert found["n_groups"] == tiers.n_patients
    assert found["upper"] <= 0.04
