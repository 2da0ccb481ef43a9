"""What operating points do on rows that had no part in choosing them.

Belongs: rates with intervals, changes per 1,000 cases from one point to the next.
Does not: choosing (``points``), wording (``words``).
Concept: the group is the independent unit; intervals are 95 %, approximate, each for itself alone,
and no certificate. N = rows, P = groups, T = taus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.evidence.proportion import clustered_interval
from dagster_project.lib.gate.gauge import shown
from dagster_project.lib.gate.sweep import sweep

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.scores import GateScores
    from dagster_project.lib.gate.sweep import Sweep

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

PER = 1000


def evaluated(
    scores: GateScores, tau: float, train: float | None, measured: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Every measure of evaluation rows at one tau, and for what is a share its interval.

    Parameters
    ----------
    tau, train : oriented; train None: no gray zone.
    measured : the measures of evaluation rows at ``tau``; NaN is undefined.

    Returns
    -------
    By measure ``rate`` (null if undefined), ``low``, ``high`` (``proportion.clustered_interval``;
    null for what is no share of rows, as cost and F1, and with fewer than two groups), ``n`` rows
    and ``n_groups`` it is a share of (all evaluation rows for what is none).
    """
    kept = np.flatnonzero(~scores.first)
    score, fault = scores.score[kept].astype(np.float64), scores.fault[kept]
    group = np.arange(kept.size)
    if scores.group is not None:
        group = np.unique(scores.group[kept], return_inverse=True)[1]
    below = ~fault & (score < tau)
    bottom, inside = fault | below, scores.in_range[kept]
    everything = np.ones(kept.size, dtype=bool)
    shares: dict[str, tuple[Bools, Bools]] = {
        "fn_in": (bottom, inside),
        "fp_cens": (~bottom, ~inside),
        "accepted_censored": (~bottom & ~inside, everything),
        "bottom_rate": (bottom, everything),
        "accept_rate": (~bottom, everything),
        "fault_rate": (fault, everything),
        "semantic_bottom_rate": (np.isfinite(score) & (score < tau), everything),
    }
    if train is not None:
        shares["gap_rate"] = (~bottom & (score < train), everything)
    made = {name: _rate(hit[among], group[among]) for name, (hit, among) in shares.items()}
    plain = made["accept_rate"] | {"low": None, "high": None}
    return {
        name: made.get(name, plain | {"rate": _number(value)}) for name, value in measured.items()
    }


def neighbours(scores: GateScores, points: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """What each point does otherwise than the one before it, per 1,000 evaluation rows.

    Parameters
    ----------
    points : names with their oriented taus, rising.

    Returns
    -------
    For each pair of neighbours ``from``, ``to`` (names) and ``per_1000`` (:func:`_change`).
    """
    taus, found = _swept(scores, [tau for _, tau in points])
    at = np.searchsorted(taus, [tau for _, tau in points])
    return [
        {
            "from": points[i][0],
            "to": points[i + 1][0],
            "per_1000": _change(found, int(at[i]), int(at[i + 1])),
        }
        for i in range(len(points) - 1)
    ]


def grid_steps(
    scores: GateScores, points: Sequence[tuple[str, float]], grid: Floats
) -> list[dict[str, Any]]:
    """What one step of the grid to either side of each point would change.

    Parameters
    ----------
    points : as for :func:`neighbours`. grid : (T,) taus that were tested, oriented, rising.

    Returns
    -------
    By point ``from`` (its name), ``tau`` and ``to_tau`` (in the file's units), ``answers`` (what
    the step does: ``more`` or ``fewer``), ``per_1000``; nothing beyond an end of the grid.
    """
    pairs = []
    for name, tau in points:
        lower, upper = grid[grid < tau], grid[grid > tau]
        pairs += [(name, tau, float(lower[-1]), "more")] if lower.size else []
        pairs += [(name, tau, float(upper[0]), "fewer")] if upper.size else []
    taus, found = _swept(scores, [tau for _, *both, _ in pairs for tau in both])
    return [
        {
            "from": name,
            "tau": shown(tau, scores.gauge),
            "to_tau": shown(other, scores.gauge),
            "answers": answers,
            "per_1000": _change(
                found, int(np.searchsorted(taus, tau)), int(np.searchsorted(taus, other))
            ),
        }
        for name, tau, other, answers in pairs
    ]


def _swept(scores: GateScores, taus: list[float]) -> tuple[Floats, Sweep]:
    distinct = np.unique(np.array(taus, dtype=np.float64))
    return distinct, sweep(scores, distinct, where=~scores.first)


def _change(found: Sweep, one: int, other: int) -> dict[str, float | None]:
    """Signed, per 1,000 rows of ``n``: answered in ``other`` less answered in ``one``.

    ``answered`` is the sum of ``answered_in_range`` and ``answered_censored``; ``faults``: rows
    that neither answers, whatever tau is. All null without a row.
    """
    inside = int(found.bottom_in[one]) - int(found.bottom_in[other])
    censored = int(found.bottom_cens[one]) - int(found.bottom_cens[other])
    counts = {
        "answered": inside + censored,
        "answered_in_range": inside,
        "answered_censored": censored,
        "faults": found.n_fault,
    }
    return {name: PER * n / found.n if found.n else None for name, n in counts.items()}


def _rate(hit: Bools, group: npt.NDArray[np.int64]) -> dict[str, Any]:
    found = clustered_interval(hit, group)
    return {
        "rate": _number(found.rate[0]),
        "low": _number(found.low[0]),
        "high": _number(found.high[0]),
        "n": int(found.n[0]),
        "n_groups": int(found.n_patients[0]),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
