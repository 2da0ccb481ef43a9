"""The sweep: strict, ties whole, faults bottom, nothing undefined called 0; and as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from zeroproof.metrics.tau_sweep import tau_infer_sweep_from_q_abs

from dagster_project.lib.gate.config import GateConfig, Quantiles, parse_config
from dagster_project.lib.gate.scores import GateScores, make_scores
from dagster_project.lib.gate.sweep import MAX_POINTS, RATES, curves, provenance, sweep, taus_of


def config(accept: str = "high") -> GateConfig:
    return parse_config(
        {
            "gauge": {
                "head": "q",
                "magnitude": "|Q|",
                "normalisation": "none",
                "accept": accept,
            }
        }
    )


def scores(
    values: list[float], in_range: str, fault: str | None = None, accept: str = "high"
) -> GateScores:
    """``in_range`` and ``fault`` as a row of 0 and 1."""
    flags = [None if row is None else np.array([*row]) == "1" for row in (in_range, fault)]
    truth = flags[0]
    assert truth is not None
    return make_scores(np.array(values), truth, config(accept), fault=flags[1])


def test_a_hand_counted_sweep_is_strict() -> None:
    found = scores([0.1, 0.2, 0.2, 0.3, 0.1, 0.2], "111100")
    counted = sweep(found, np.array([0.1, 0.2, 0.25, 0.3, 0.4]))
    assert counted.fn_in.tolist() == [0, 1 / 4, 3 / 4, 3 / 4, 1]  # a row at tau is answered
    assert counted.fp_cens.tolist() == [1, 1 / 2, 0, 0, 0]
    assert counted.bottom_rate.tolist() == [0, 2 / 6, 5 / 6, 5 / 6, 1]
    assert counted.accepted_censored.tolist() == [2 / 6, 1 / 6, 0, 0, 0]


def test_faults_are_bottom_everywhere_and_mixed_rows_count_in_both_rates() -> None:
    found = scores([np.nan, 0.1, 0.5, 0.9, np.inf, 0.2], "111100", "010000")
    counted = sweep(found, np.array([0.05, 0.3]))
    assert counted.fault_rate.tolist() == [3 / 6, 3 / 6]
    assert counted.semantic_bottom_rate.tolist() == [0, 2 / 6]  # the flagged one is mixed
    assert counted.bottom_rate.tolist() == [3 / 6, 4 / 6]
    assert counted.fn_in.tolist() == [2 / 4, 2 / 4]
    assert counted.fp_cens.tolist() == [1 / 2, 0]


@pytest.mark.parametrize(
    ("in_range", "undefined"),
    [
        pytest.param("111", "fp_cens", id="none_censored"),
        pytest.param("000", "fn_in", id="none_in"),
    ],
)
def test_a_rate_of_nothing_is_null_and_no_failure(in_range: str, undefined: str) -> None:
    found = scores([0.1, 0.2, 0.3], in_range)
    told = curves(sweep(found, taus_of(found, "distinct")), found.gauge)
    assert told[undefined] == [None] * 3
    assert [key for key, column in told.items() if None in column] == [undefined]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounded", [pytest.param(2, id="ties"), pytest.param(12, id="no_ties")])
def test_it_equals_the_published_sweep_where_that_is_defined(dtype: Any, rounded: int) -> None:
    """Without faults, for the published one counts NaN as answered; and with both kinds there."""
    rng = np.random.default_rng(5)
    magnitude = np.exp(rng.normal(0, 1.5, 3000)).round(rounded).astype(dtype)
    in_range = rng.random(3000) < 0.6
    found = make_scores(magnitude, in_range, config())
    for taus in (taus_of(found, "distinct"), np.linspace(0, 20, 333)):
        counted = sweep(found, taus)
        theirs = tau_infer_sweep_from_q_abs(
            torch.from_numpy(magnitude), is_in_range=torch.from_numpy(in_range), taus=taus.tolist()
        )
        for name in ("fn_in", "fp_cens", "bottom_rate"):
            assert np.abs(getattr(counted, name) - np.array(theirs[name])).max() <= 1e-12


def test_a_threshold_beside_a_float32_score_is_compared_without_rounding() -> None:
    score = np.float32(0.1)
    found = make_scores(np.full(4, score), np.array([True] * 4), config())
    exact, above = float(score), float(np.nextafter(np.float64(score), 1))
    assert sweep(found, np.array([exact, above])).bottom_in.tolist() == [0, 4]


def test_taus_are_distinct_scores_without_faults_quantiles_or_given() -> None:
    found = scores([0.3, 0.1, 0.3, np.nan, 0.2, 0.7], "111100", "000001")
    assert taus_of(found, "distinct").tolist() == [0.1, 0.2, 0.3]
    assert taus_of(found, Quantiles(quantiles=2)).tolist() == [0.1, 0.3]
    assert taus_of(found, (0.5, 0.1, 0.5)).tolist() == [0.1, 0.5]
    low = scores([0.3, 0.1, 0.2], "110", accept="low")
    assert taus_of(low, (0.5, 0.1)).tolist() == [-0.5, -0.1]


def test_where_low_scores_are_accepted_curves_are_in_the_units_of_the_file() -> None:
    """A distance above tau gets no answer; at tau it gets one."""
    found = scores([1.0, 2.0, 3.0], "110", accept="low")
    told = curves(sweep(found, taus_of(found, "distinct")), found.gauge)
    assert told["taus"] == [1.0, 2.0, 3.0]
    assert told["fn_in"] == [0.5, 0.0, 0.0]
    assert told["fp_cens"] == [0.0, 0.0, 1.0]


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_pins() -> None:
    n = 4 * MAX_POINTS
    values = np.random.default_rng(0).permutation(n) / n
    found = make_scores(values, np.arange(n) % 2 == 0, config())
    taus = taus_of(found, "distinct")
    told = curves(sweep(found, taus), found.gauge, pins=[float(taus[17]), 5.0])
    assert MAX_POINTS - 1 <= len(told["taus"]) <= MAX_POINTS
    assert {float(taus[0]), float(taus[17]), float(taus[-1])} <= set(told["taus"])
    assert {len(told[name]) for name in RATES} == {len(told["taus"])}
    said = provenance(found, config(), n_taus=taus.size)
    assert (said["taus"], said["bottom"]) == (n, "score < tau")


def test_taus_of_one_sign_of_nought_and_at_the_ends_of_the_doubles() -> None:
    found = scores([0.0, -0.0, 5e-324, 1.7e308], "1101")
    assert [str(tau) for tau in taus_of(found, "distinct").tolist()] == [
        "0.0",
        "5e-324",
        "1.7e+308",
    ]
    beyond = sweep(found, np.array([-1.0, 1.6e308, 1.75e308]))
    assert beyond.bottom_rate.tolist() == [0.0, 0.75, 1.0]
