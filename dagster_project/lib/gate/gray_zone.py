"""The gray zone: answers that are given, and marked, because training asked for more.

Belongs: tau_train of a tau_infer, the recipe quantile_multiple, how often the zone is met.
Does not: choosing tau_infer otherwise (``points``), what becomes of a row (``apply``).
Concept: tau_infer <= score < tau_train, only where tau_train is the stricter of the two. Taus in
here are oriented as ``scores.GateScores``. N = rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.apply import FAULT, SEMANTIC, apply_gate

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig, Recipe
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]

QUANTILE = (
    "the score at place floor(q (n - 1)) of the n sorted finite ones, from the side that gets no "
    "answer: an observed score, and a share of at most q lies beyond it"
)


def tau_train_of(tau: float, config: GateConfig) -> float | None:
    """The threshold of training beside ``tau``, both oriented; None where there is no gray zone.

    A given ``tau_train`` counts if it is stricter than ``tau``. A ``multiple`` m is the factor
    between the two, in the file's units: tau_train = m tau where high scores are accepted, and
    tau_train = tau / m where low ones are, so that it is stricter in both. A threshold that is not
    above 0 has no stricter multiple, and None is returned.
    """
    zone = config.gray_zone
    if zone is None:
        return None
    low = config.gauge.accept == "low"
    if zone.tau_train is not None:
        train = -zone.tau_train if low else zone.tau_train
    else:
        own = -tau if low else tau
        if own <= 0 or zone.multiple is None:
            return None
        train = -own / zone.multiple if low else own * zone.multiple
    return train if train > tau and math.isfinite(train) else None


def why_none(tau: float, config: GateConfig) -> str | None:
    """Why a configured gray zone is empty at ``tau`` (oriented); None where it is not."""
    if config.gray_zone is None or tau_train_of(tau, config) is not None:
        return None
    if config.gray_zone.tau_train is not None:
        return "tau_train is not stricter than tau"
    return "a multiple of a tau that is not above 0 is not stricter"


def recipe_tau(scores: GateScores, recipe: Recipe) -> float | None:
    """tau_infer (oriented) by ``quantile_multiple``: see ``QUANTILE``; None without a score.

    Of calibration rows without a fault, all or of one kind; labels count only where a kind is
    named.
    """
    rows = scores.first & ~scores.fault
    if recipe.of != "all":
        rows = rows & (scores.in_range if recipe.of == "in_range" else ~scores.in_range)
    found = scores.score[rows]
    if not found.size:
        return None
    place = math.floor(round(recipe.quantile * (found.size - 1), 9))  # 0.29 x 100 is 28.999...
    return float(np.partition(found, place)[place])


def rates(
    score: npt.NDArray[Any], gate: Any, *, fault: npt.NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """How often a gate says what, for watching it over time; labels are not needed.

    Parameters
    ----------
    score, fault : (N,) as for ``apply.apply_gate``, which says what becomes of each row.
    gate : a bundle, or ``json.load`` of one.

    Returns
    -------
    ``n`` and the shares of N rows ``bottom_rate``, ``gap_rate`` (answered, in the gray zone),
    ``accept_rate`` (answered, gap included), ``fault_rate``, ``semantic_bottom_rate`` (finite and
    below tau_infer, faulty or not); null where N = 0. bottom + accept = 1.

    Raises
    ------
    InputError
        What ``apply_gate`` refuses.
    """
    try:
        applied = apply_gate(score, gate, fault=fault)
    except ValueError as error:
        raise InputError(f"scores to be watched: {error}") from None
    counted = {
        "bottom_rate": applied.bottom_mask,
        "gap_rate": applied.gap_mask,
        "accept_rate": applied.accepted,
        "fault_rate": applied.provenance & FAULT,
        "semantic_bottom_rate": applied.provenance & SEMANTIC,
    }
    n = applied.accepted.size
    return {
        "n": n,
        **{name: int(np.count_nonzero(hit)) / n if n else None for name, hit in counted.items()},
    }
