"""Where the scores lie: counts by bin, apart for in range and censored.

Belongs: the bins, and what falls outside them.
Does not: drawing (``pictures``), any rate (``sweep``).
Concept: aggregates, in the file's own units. Magnitudes that span decades are binned by their
logarithm. Bins run over the middle 99.8 % of the scores, so that one outlier does not squeeze all
others into one bin; what lies outside is counted beside them. N = rows, B = bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.gate.gauge import sign_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.scores import GateScores

BINS = 60
DECADES = 2.0
"""From so many decades on, scores without a negative one are binned by their logarithm."""

_OUTSIDE = 0.001


def distribution(scores: GateScores) -> dict[str, Any]:
    """Histogram of the scores that are no fault, as plain JSON.

    Returns
    -------
    ``scale`` (``log`` or ``linear``), ``edges`` (B + 1, rising; the last bin holds its upper edge,
    too; empty where every row is a fault), and for ``in_range`` and ``censored`` each ``counts``
    (B,), ``below`` and ``above`` (the edges), ``faults`` and ``n``: all rows of the kind.
    """
    own = scores.score if sign_of(scores.gauge) > 0 else -scores.score
    scale, edges = _edges(own[~scores.fault])
    kinds = {"in_range": scores.in_range, "censored": ~scores.in_range}
    return {
        "scale": scale,
        "edges": edges.tolist(),
        **{name: _counts(own, of, scores.fault, edges) for name, of in kinds.items()},
    }


def _counts(
    own: npt.NDArray[Any],
    of: npt.NDArray[np.bool_],
    fault: npt.NDArray[np.bool_],
    edges: npt.NDArray[np.float64],
) -> dict[str, Any]:
    told = own[of & ~fault]
    n = int(of.sum())
    found = {"n": n, "faults": n - int(told.size)}
    if not edges.size:
        return {**found, "counts": [], "below": 0, "above": 0}
    return {
        **found,
        "counts": np.histogram(told, edges)[0].tolist(),
        "below": int((told < edges[0]).sum()),
        "above": int((told > edges[-1]).sum()),
    }


def _edges(told: npt.NDArray[Any]) -> tuple[str, npt.NDArray[np.float64]]:
    if not told.size:
        return "linear", np.empty(0)
    low, high = _middle(told)
    if told.min() >= 0 and high > 0:
        least = low if low > 0 else _middle(told[told > 0])[0]
        if np.log10(high) - np.log10(least) >= DECADES:
            return "log", np.geomspace(least, high, BINS + 1)
    if not high > low:
        wide = 0.5 * max(abs(low), 1e-3)
        low, high = low - wide, high + wide
    return "linear", np.linspace(low, high, BINS + 1)


def _middle(told: npt.NDArray[Any]) -> tuple[float, float]:
    """Scores that are there, so that no interpolation between two kinds makes one up."""
    at = np.array([_OUTSIDE, 1 - _OUTSIDE])
    low, high = np.quantile(told, at, method="inverted_cdf").astype(np.float64)
    return float(low), float(high)
