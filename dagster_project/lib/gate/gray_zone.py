"""The gray zone: answers that are given, and marked as near the edge.

Belongs: tau_train from a configuration, the named recipe, the rates that are watched.
Does not: choosing tau_infer otherwise (``points``), applying a frozen gate (``apply``).
Concept: a model trained to be sure down to ``tau_train`` and asked down to ``tau_infer`` answers
rows with tau_infer <= score < tau_train outside what it was trained for; there is a gap only where
tau_train is the stricter one. T = taus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.gauge import sign_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig, Recipe
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]

RULE = "quantile_multiple"


def tau_train_of(taus: Floats, config: GateConfig) -> Floats:
    """(T,) tau_train that belongs to each tau_infer, both oriented; tau_infer without a gray zone.

    ``multiple`` is of tau_infer in the units of the file: times it where high scores are accepted,
    divided by it where low ones are; stricter in both.

    Raises
    ------
    InputError
        ``multiple`` with a tau below 0, of which a multiple is not stricter.
    """
    zone = config.gray_zone
    if zone is None:
        return taus
    sign = sign_of(config.gauge)
    if zone.tau_train is not None:
        return np.full(taus.shape, sign * zone.tau_train)
    own = sign * taus
    if (own < 0).any():
        raise InputError(
            f"key gray_zone.multiple: scores go down to {own.min():g}, and a multiple of a "
            "negative tau is not stricter; give tau_train as a number"
        )
    factor = 1.0 if zone.multiple is None else zone.multiple
    return sign * (own * factor if sign > 0 else own / factor)


def quantile_tau(scores: GateScores, recipe: Recipe) -> float | None:
    """tau_infer of the recipe, oriented: a quantile of the calibration rows' scores.

    The largest score that at most a share ``quantile`` of them lies strictly below: a score that
    occurs, never one in between, so that bottom, which is strict, takes no more than that share.
    Faults do not count. None where there is no such row.
    """
    kinds = {"all": np.ones(len(scores), dtype=bool), "in_range": scores.in_range}
    kinds["censored"] = ~scores.in_range
    rows = scores.first & kinds[recipe.of] & ~scores.fault
    found = np.sort(scores.score[rows])
    if not found.size:
        return None
    return float(found[min(int(np.floor(recipe.quantile * found.size)), found.size - 1)])
