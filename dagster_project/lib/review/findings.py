"""What a returned packet taught: how good the suspicion was, how wrong the labels are."""

from __future__ import annotations

from typing import Any

from dagster_project.lib.evidence.strata import Share


def recall(flagged: Share, rest: Share) -> dict[str, Any]:
    """Share of all wrong labels that were flagged: N_F p_F / (N_F p_F + N_C e_C).

    The interval is all r for which A (1 - r) - B r = 0 is inside its MOVER interval, with A and B
    the two totals and their own intervals: MOVER-R (Donner and Zou, Stat Methods Med Res
    2012;21:347) of B / A, which r is a falling function of. The two are taken as independent.

    Parameters
    ----------
    flagged, rest : shares of wrong labels among flagged rows and among all others.

    Returns
    -------
    ``estimate`` in [0, 1], ``ci95``; both null where a part is unknown or no label is found wrong.
    """
    parts = []
    for part in (flagged, rest):
        if not part.n:
            parts.append((0.0, 0.0, 0.0))
        elif part.estimate is None or part.low is None or part.high is None:
            return {"estimate": None, "ci95": None}
        else:
            parts.append((part.n * part.estimate, part.n * part.low, part.n * part.high))
    (a, a_low, a_high), (b, b_low, b_high) = parts
    if a + b == 0:
        return {"estimate": None, "ci95": None}
    # odds = (1 - r) / r, so A odds - B = 0; each end solves a quadratic
    most = _odds(a, a - a_low, b, b_high - b, sign=1)
    least = _odds(a, a_high - a, b, b - b_low, sign=-1)
    return {"estimate": a / (a + b), "ci95": [1 / (1 + most), 1 / (1 + least)]}


def _odds(a: float, arm_a: float, b: float, arm_b: float, *, sign: int) -> float:
    """The root of (a x - b)^2 = (arm_a x)^2 + arm_b^2 above or below b / a; may be infinite."""
    left, right = (a - arm_a) * (a + arm_a), (b - arm_b) * (b + arm_b)
    root = float(max((a * b) ** 2 - left * right, 0.0)) ** 0.5
    if sign > 0:
        return (a * b + root) / left if left > 0 else float("inf")
    return right / (a * b + root) if a * b + root > 0 else 0.0
