"""Operating points among models or training seeds: the published lexicographic orders.

Belongs: which model a purpose picks, from metrics that are already means over seeds or become so
here.
Does not: a threshold of one model (``points``): there fp_cens and fn_in are monotone in tau, and
these orders would pick an end of the sweep.
Concept: the orders of the published presets (zeroproofml ``compute_dose_operating_points``), with
its result wherever no mean is exactly 0. A 0 is a value here: the reference takes ``0.0 or inf``
and so ranks a model without any error last. M = models, S = seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import polars as pl

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Cost

METRICS = (
    "fp_cens",
    "fn_in",
    "bottom_rate",
    "accept_rate",
    "fault_rate",
    "semantic_bottom_rate",
    "gap_rate",
    "macro_f1",
    "direction_f1",
)

DECIMALS = 12
"""Means that agree to so many decimals are equal: what is beyond is rounding."""

_Means = dict[str, float | None]

ORDERS: dict[str, tuple[str, ...]] = {
    "safety_first": ("fp_cens", "cost", "-accept_rate", "fn_in"),
    "accuracy_first": ("fn_in", "cost", "-macro_f1", "-accept_rate"),
    "direction_aware": ("-direction_f1", "fp_cens", "cost", "-macro_f1"),
    "balanced": ("fp_cens+fn_in", "cost", "|fp_cens-fn_in|", "-macro_f1"),
}
"""First difference decides, smaller is better, larger where a minus stands before it."""


def choose_models(metrics: pl.DataFrame, cost: Cost | None = None) -> dict[str, Any]:
    """Which model each purpose picks, among M models trained with S seeds.

    Parameters
    ----------
    metrics : one row a model and seed: ``model`` (text), ``seed`` (whole number), and whichever of
        ``METRICS`` were measured, on the same cases for all. Null or NaN is "not measured". The
        order of rows does not matter.
    cost : weights; default fault 1, semantic 0.5. Cost = both rates weighted; where one of them is
        missing it is bottom_rate less the other, not below 0; where that is missing too, the
        model's cost is unknown.

    Returns
    -------
    Plain JSON. ``models``: names, sorted. ``points``: by name ``status`` (``backed``;
    ``unavailable``: no model has the leading metric; ``not_added``: ``balanced`` picks the model
    of ``safety_first`` or ``accuracy_first``), ``reason``, ``model``, ``order``, ``metrics`` (by
    name ``mean``, ``std`` over seeds with S - 1, ``n_seeds`` that have it; null where undefined).
    ``terms``: weights of the cost, the metrics that were given.

    A model without the leading metric is no candidate; any other metric that is missing ranks
    last. A tie through the whole order goes to the first name, under ``direction_aware`` to the
    last, as in the reference.

    Raises
    ------
    InputError
        No ``model`` or ``seed``, a pair given twice, a metric that is no number.
    """
    weights = cost or Cost()
    _check(metrics)
    stats = _stats(metrics)
    means = {model: _means(found, weights) for model, found in stats.items()}
    points: dict[str, Any] = {}
    for name, order in ORDERS.items():
        model = _best(means, order, last_name=name == "direction_aware")
        points[name] = {
            "status": "unavailable" if model is None else "backed",
            "reason": _missing(order[0]) if model is None else None,
            "model": model,
            "order": list(order),
            "metrics": None if model is None else stats[model],
        }
    _not_twice(points)
    return {
        "models": sorted(stats),
        "points": points,
        "terms": {
            "cost": weights.model_dump(),
            "metrics": [name for name in METRICS if name in metrics.columns],
        },
    }


def _check(metrics: pl.DataFrame) -> None:
    absent = [name for name in ("model", "seed") if name not in metrics.columns]
    if absent:
        raise InputError(
            f"metrics of models: column {absent[0]} is missing; give one row a model and seed"
        )
    words = [
        name
        for name in METRICS
        if name in metrics.columns
        and not (metrics[name].dtype.is_numeric() or metrics[name].dtype == pl.Null)
    ]
    if words:
        raise InputError(
            f"metrics of models: column {words[0]} is {metrics[words[0]].dtype}; give numbers, "
            "null where not measured"
        )
    if metrics["model"].null_count() or metrics["seed"].null_count():
        raise InputError("metrics of models: a row has no model or no seed; name both")
    twice = metrics.filter(metrics.select("model", "seed").is_duplicated())
    if twice.height:
        row = twice.sort("model", "seed").row(0, named=True)
        raise InputError(
            f"metrics of models: model {row['model']}, seed {row['seed']} occurs more than once; "
            "give each once"
        )


def _stats(metrics: pl.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """By model and metric: mean, std, number of seeds; sums in the order of seeds."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (model,), rows in sorted(metrics.sort("model", "seed").group_by("model")):
        found[str(model)] = {}
        for name in METRICS:
            values = rows.sort("seed")[name].to_list() if name in rows.columns else []
            known = [float(v) for v in values if v is not None and math.isfinite(v)]
            mean = sum(known) / len(known) if known else None
            std = None
            if mean is not None and len(known) > 1:
                std = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1))
            found[str(model)][name] = {"mean": mean, "std": std, "n_seeds": len(known)}
    return found


def _means(stats: dict[str, dict[str, Any]], weights: Cost) -> _Means:
    means: _Means = {name: stats[name]["mean"] for name in METRICS}
    bottom, fault, semantic = (
        means[name] for name in ("bottom_rate", "fault_rate", "semantic_bottom_rate")
    )
    if bottom is not None and fault is None and semantic is not None:
        fault = max(0.0, bottom - semantic)
    elif bottom is not None and semantic is None and fault is not None:
        semantic = max(0.0, bottom - fault)
    cost = None
    if fault is not None and semantic is not None:
        cost = weights.fault * fault + weights.semantic * semantic
    means["cost"] = cost
    means["fp_cens+fn_in"] = _both(means, lambda fp, fn: fp + fn)
    means["|fp_cens-fn_in|"] = _both(means, lambda fp, fn: abs(fp - fn))
    return means


def _both(means: _Means, of: Callable[[float, float], float]) -> float | None:
    fp, fn = means["fp_cens"], means["fn_in"]
    return None if fp is None or fn is None else of(fp, fn)


def _best(means: dict[str, _Means], order: tuple[str, ...], *, last_name: bool) -> str | None:
    leading = order[0].removeprefix("-")
    candidates = sorted(
        (model for model in means if means[model][leading] is not None), reverse=last_name
    )

    def key(model: str) -> list[float]:
        return [_ranked(means[model][name.removeprefix("-")], name) for name in order]

    return min(candidates, key=key, default=None)


def _ranked(value: float | None, name: str) -> float:
    if value is None:
        return math.inf
    return round(-value if name.startswith("-") else value, DECIMALS)


def _missing(leading: str) -> str:
    return f"no model has {leading.removeprefix('-').replace('+', ' and ')}"


def _not_twice(points: dict[str, Any]) -> None:
    balanced = points["balanced"]
    for name in ("safety_first", "accuracy_first"):
        if balanced["status"] == "backed" and balanced["model"] == points[name]["model"]:
            balanced["status"] = "not_added"
            balanced["reason"] = f"{name} picks the same model"
