"""Small rows for tests of gates: scores with what is true, and who calibrates said outright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.rows import hash_numbers
from dagster_project.lib.gate.apply import FORMAT, SCHEMA_VERSION
from dagster_project.lib.gate.config import GateConfig, Gauge
from dagster_project.lib.gate.scores import Direction, GateScores, make_scores

GAUGE = Gauge(head="denominator", magnitude="abs", normalisation="none")
SIGNED = GAUGE.model_copy(update={"magnitude": "margin"})
DISTANCE = Gauge(head="embedding", magnitude="Mahalanobis", normalisation="none", accept="low")


def configured(gauge: Gauge = GAUGE, **options: Any) -> GateConfig:
    """A configuration of :data:`GAUGE`; other keys as given, checked as from a file."""
    return GateConfig.model_validate({"gauge": gauge, **options})


def frozen(tau_infer: float, tau_train: float | None = None, *, gauge: Gauge) -> dict[str, Any]:
    """What applying a gate needs of a ``metadata.json``, in the units of the scores."""
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "tau_infer": tau_infer,
        "tau_train": tau_train,
        "use_gap": tau_train is not None,
        "gauge": gauge.model_dump(),
    }


def rows(
    score: Sequence[float],
    in_range: Sequence[bool],
    config: GateConfig,
    *,
    first: Sequence[bool] | None = None,
    group: Sequence[str] | None = None,
    **options: Any,
) -> GateScores:
    """Scores of a notebook; ``first``: which rows calibrate, instead of the division by hash."""
    names = None if group is None else pl.Series(group)
    arrays = np.array(score, dtype=np.float64), np.array(in_range, dtype=bool)
    if first is None:
        return make_scores(*arrays, config, group=names, **options)
    made = replace(make_scores(*arrays, config, **options), first=np.array(first, dtype=bool))
    if names is None:
        return made
    numbers, n_groups = hash_numbers(names)
    return replace(made, group=numbers, n_groups=n_groups)


def judged_twice(
    score: Sequence[float], in_range: Sequence[bool], config: GateConfig, **options: Any
) -> GateScores:
    """The same rows on both sides, calibration first; groups of the two sides differ."""
    n = len(score)
    group = options.pop("group", None)
    names = None if group is None else [*(f"a{g}" for g in group), *(f"b{g}" for g in group)]
    return rows(
        [*score, *score],
        [*in_range, *in_range],
        config,
        first=[True] * n + [False] * n,
        group=names,
        **options,
    )


def sides(true: Sequence[str | None], pred: Sequence[str]) -> Direction:
    """Directions by name; None is in range."""
    names = ("above", "below")
    return Direction(
        names,
        np.array([-1 if side is None else names.index(side) for side in true], dtype=np.int8),
        np.array([names.index(side) for side in pred], dtype=np.int8),
    )
