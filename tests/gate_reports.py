"""Reports of a gate, counted by hand from a few thousand made-up scores: for words and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from dagster_project.lib.gate.config import Gauge, Identity, parse_config, rules_of
from dagster_project.lib.gate.distribution import distribution
from dagster_project.lib.gate.scores import GateScores

GAUGE = {"head": "denominator", "magnitude": "abs", "normalisation": "none", "accept": "high"}
RATES = ("fn_in", "fp_cens", "bottom_rate", "accept_rate", "fault_rate", "semantic_bottom_rate")


def scores(n: int = 4000, *, accept: str = "high", seed: int = 0) -> GateScores:
    """|Q| over decades: high in range, low out of it; a few faults; a third out of range."""
    rng = np.random.default_rng(seed)
    in_range = rng.random(n) < 2 / 3
    score = np.exp(rng.normal(np.where(in_range, 0.0, -4.0), 1.2))
    score[:: n // 8] = np.nan
    gauge = Gauge.model_validate({**GAUGE, "accept": accept})
    return GateScores(
        score=score if accept == "high" else -1 / score,
        in_range=in_range,
        fault=~np.isfinite(score),
        group=None,
        n_groups=n,
        first=np.arange(n) % 2 == 0,
        direction=None,
        gauge=gauge,
        identity=Identity(model_family="rational", dataset="made up"),
        source={"rows": n, "dtype": "float64", "calibration_share": 0.5},
    )


def curves(found: GateScores, taus: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Rates at every tau, one mask each; in the file's units."""
    made: dict[str, Any] = {name: [] for name in RATES}
    low = found.gauge.accept == "low"
    inside, fault = found.in_range[rows], found.fault[rows]
    for tau in taus:
        below = np.nan_to_num(found.score[rows], nan=np.inf) < tau
        bottom = below | fault
        made["fn_in"].append(rate(bottom[inside]))
        made["fp_cens"].append(rate(~bottom[~inside]))
        made["bottom_rate"].append(rate(bottom))
        made["accept_rate"].append(rate(~bottom))
        made["fault_rate"].append(rate(fault))
        made["semantic_bottom_rate"].append(rate(below))
    return {"taus": [-float(tau) if low else float(tau) for tau in taus], **made}


def rate(hits: np.ndarray) -> float | None:
    """Of nothing it is undefined."""
    return float(hits.mean()) if hits.size else None


def sweep(found: GateScores) -> dict[str, Any]:
    """As ``report.sweep_report`` has it."""
    taus = np.unique(np.quantile(found.score[~found.fault], np.linspace(0, 1, 200)))
    every = np.ones(len(found), dtype=bool)
    return {
        "curves": curves(found, taus, every),
        "evaluation_curves": curves(found, taus, ~found.first),
        "distribution": distribution(found),
        "provenance": {
            "gauge": found.gauge.model_dump(),
            "identity": found.identity.model_dump(),
            "source": found.source,
            "taus": int(taus.size),
        },
    }


def points(found: GateScores, taus: Mapping[str, float | None], freeze: str) -> dict[str, Any]:
    """As ``report.points_report`` has it, for taus as the scores are oriented."""
    rules = rules_of(parse_config({"gauge": GAUGE}))
    low = found.gauge.accept == "low"
    order = [name for _, name in sorted((tau, n) for n, tau in taus.items() if tau is not None)]
    made = {}
    for name, tau in taus.items():
        at = None if tau is None else curves(found, np.array([tau]), ~found.first)
        rule = rules.get(name, rules["balanced"]).model_dump(mode="json")
        bounds = {
            quantity: bound(target, None if at is None else at[quantity][0] or 0.0)
            for quantity, target in rule["bound"].items()
        }
        made[name] = {
            "status": "unavailable" if tau is None else "backed",
            "reason": "no tau meets the target" if tau is None else None,
            "tau": None if tau is None else -tau if low else tau,
            "tau_train": 2 * tau if name == freeze and tau is not None and not low else None,
            "no_gray_zone": None,
            "rule": rule,
            "certified": None if not bounds else tau is not None,
            "bounds": bounds,
            "calibration": {},
            "evaluation": None
            if at is None
            else {
                key: {"rate": at[key][0], "low": None, "high": None, "n": 1, "n_groups": 1}
                for key in RATES
            },
        }
    frozen = taus[freeze] is not None
    return {
        "points": made,
        "order": order,
        "neighbours": [neighbour(made, a, b) for a, b in pairwise(order)],
        "steps": [],
        "split": {"by": "row", "calibration": 0.5, "evaluation": judged(found)},
        "terms": {"delta": 0.05},
        "models": None,
        "gauge": found.gauge.model_dump(),
        "identity": found.identity.model_dump(),
        "groups": None,
        "freeze": {"point": freeze, "frozen": frozen,
                   "reason": None if frozen else f"{freeze} is unavailable: no tau is"},
    }  # fmt: skip


def judged(found: GateScores) -> dict[str, int]:
    """How many of each kind judge."""
    inside = found.in_range[~found.first]
    return {"in_range": int(inside.sum()), "censored": int((~inside).sum())}


def bound(target: float, seen: float | None) -> dict[str, Any]:
    """A bound one point above what was seen; without a tau, what would be needed."""
    known = {"target": target, "delta": 0.05, "method": "Clopper-Pearson", "n": 667}
    if seen is None:
        return {**known, "n_groups": 667, "upper": None, "observed": 0.01, "rows_needed": 1200}
    return {**known, "n_groups": 667, "upper": seen + 0.01, "observed": seen, "rows_needed": None}


def neighbour(made: dict[str, Any], one: str, other: str) -> dict[str, Any]:
    """Per 1,000 of a mix of two in range to one out of it."""
    a, b = (made[name]["evaluation"] for name in (one, other))
    inside = 1000 * 2 / 3 * (a["fn_in"]["rate"] - b["fn_in"]["rate"])
    outside = 1000 / 3 * (b["fp_cens"]["rate"] - a["fp_cens"]["rate"])
    change = {"answered": inside + outside, "answered_in_range": inside}
    return {"from": one, "to": other, "per_1000": {**change, "answered_censored": outside}}
