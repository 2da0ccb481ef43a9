"""Measures along taus: equal to the published F1, and to plain counting at every tau."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from zeroproofml.benchmarks.domains.dose_metrics import macro_f1

from dagster_project.lib.gate.config import GateConfig, Measure, parse_config
from dagster_project.lib.gate.measures import measures
from dagster_project.lib.gate.scores import Direction, GateScores, make_scores
from dagster_project.lib.gate.sweep import taus_of


def config(**keys: Any) -> GateConfig:
    gauge = {"head": "q", "magnitude": "abs", "normalisation": "none"}
    return parse_config({"gauge": gauge, **keys})


def world(seed: int, n: int = 400, *, directed: bool = True) -> GateScores:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)  # 1 in range, as the reference numbers them
    said = np.where(rng.random(n) < 0.8, truth != 0, rng.random(n) < 0.5).astype(np.int8)
    score = np.where(truth == 1, rng.gamma(3, 1, n), rng.gamma(1, 1, n)).round(1)
    direction = Direction(("below", "above"), np.array([0, -1, 1], dtype=np.int8)[truth], said)
    fault = rng.random(n) < 0.05
    return make_scores(
        score, truth == 1, config(), fault=fault, direction=direction if directed else None
    )


@pytest.mark.parametrize("seed", range(3))
def test_macro_f1_is_the_published_one_at_every_tau(seed: int) -> None:
    found = world(seed)
    assert found.direction is not None
    taus = taus_of(found, "distinct")
    ours = measures(found, taus, config())
    truth = np.where(found.in_range, 1, np.where(found.direction.true == 1, 2, 0))
    for at, tau in enumerate(taus):
        bottom = found.fault | (found.score < tau)
        answer = np.where(~bottom, 1, np.where(found.direction.pred == 1, 2, 0))
        theirs, per = macro_f1(torch.from_numpy(truth), torch.from_numpy(answer))
        assert ours["macro_f1"][at] == pytest.approx(theirs, abs=1e-12)
        censored = truth != 1
        _, per = macro_f1(torch.from_numpy(truth[censored]), torch.from_numpy(answer[censored]))
        sides = (per["f1_c0"] + per["f1_c2"]) / 2
        assert ours["direction_f1"][at] == pytest.approx(sides, abs=1e-12)


def test_every_measure_that_a_rule_may_order_by_is_there() -> None:
    found = measures(world(0), np.array([0.5, 1.0]), config())
    assert set(found) == set(Measure.__args__)  # type: ignore[attr-defined]
    assert all(column.shape == (2,) for column in found.values())


def test_cost_weighs_faults_and_low_scores_as_configured() -> None:
    taus = np.array([1.0])
    plain = measures(world(1), taus, config())
    rates = plain["fault_rate"], plain["semantic_bottom_rate"]
    assert plain["cost"] == pytest.approx(rates[0] + 0.5 * rates[1])
    other = measures(world(1), taus, config(cost={"fault": 3, "semantic": 0.1}))
    assert other["cost"] == pytest.approx(3 * rates[0] + 0.1 * rates[1])


def test_the_gap_is_what_is_answered_below_tau_train() -> None:
    found, taus = world(2), np.array([0.0, 1.0, 2.5])
    for zone in ({"tau_train": 2.0}, {"multiple": 2.0}):
        train = np.full(3, 2.0) if "tau_train" in zone else 2 * taus
        gap = measures(found, taus, config(gray_zone=zone))["gap_rate"]
        counted = [
            np.mean(~found.fault & (found.score >= tau) & (found.score < top))
            for tau, top in zip(taus, train, strict=True)
        ]
        assert gap == pytest.approx(counted)
    assert measures(found, taus, config())["gap_rate"].tolist() == [0, 0, 0]


def test_without_directions_only_their_measures_are_undefined() -> None:
    found = measures(world(0, directed=False), np.array([1.0]), config())
    assert sorted(name for name, column in found.items() if np.isnan(column).any()) == [
        "direction_f1",
        "macro_f1",
    ]
