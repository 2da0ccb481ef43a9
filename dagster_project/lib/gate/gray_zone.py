"""The gray zone: answers that are given, and marked, because training asked for more.

Belongs: tau_train of a tau_infer, the recipe quantile_multiple, how often the zone is met.
Does not: choosing tau_infer otherwise (``points``), applying a bundle (``apply``).
Concept: tau_infer <= score < tau_train, only where tau_train is the stricter of the two. Taus in
here are oriented as ``scores.GateScores`` unless said otherwise. N = rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig, Recipe
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]

QUANTILE = (
    "the score at place floor(q (n - 1)) of the n sorted finite ones, from the side that gets no "
    "answer: an observed score, and a share of at most q lies beyond it"
)


@dataclass(frozen=True)
class Taus:
    """The thresholds of a gate, in the file's own units, as a bundle has them."""

    tau_infer: float
    tau_train: float | None = None
    accept: Literal["high", "low"] = "high"


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
    score : (N,) float in the file's own units; not finite is a fault.
    gate : :class:`Taus` or a bundle with ``tau_infer``, ``tau_train`` and ``accept``, in the
        file's units.
    fault : (N,) bool, further rows that are faults; None: none.

    Returns
    -------
    ``n`` and the shares of N rows ``bottom_rate``, ``gap_rate`` (answered, in the gray zone),
    ``accept_rate`` (answered, gap included), ``fault_rate``, ``semantic_bottom_rate`` (finite and
    below tau_infer, faulty or not); null where N = 0. bottom + accept = 1.

    Raises
    ------
    InputError
        ``fault`` is not bool.

    >>> rates(np.array([0.1, 0.2, 0.3, np.nan]), Taus(0.2, 0.3))["gap_rate"]
    0.25
    """
    if fault is not None and fault.dtype != np.bool_:
        raise InputError(f"fault is {fault.dtype}; an array of bool is needed")
    low = gate.accept == "low"
    infer = -gate.tau_infer if low else gate.tau_infer
    values = score.astype(np.float64)
    finite = np.isfinite(values)
    values = np.where(finite, -values if low else values, -np.inf)
    faulty = ~finite if fault is None else ~finite | fault
    below = values < infer
    bottom = faulty | below
    gap = np.zeros(values.size, dtype=bool)
    if gate.tau_train is not None:
        gap = ~bottom & (values < (-gate.tau_train if low else gate.tau_train))
    counted = {
        "bottom_rate": bottom,
        "gap_rate": gap,
        "accept_rate": ~bottom,
        "fault_rate": faulty,
        "semantic_bottom_rate": below & finite,
    }
    n = values.size
    return {"n": n, **{name: int(hit.sum()) / n if n else None for name, hit in counted.items()}}
