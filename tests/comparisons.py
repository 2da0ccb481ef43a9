"""Comparisons by hand, for tests of what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from dagster_project.lib.scorecard.comparison import (
    MEASURES,
    ClassDifference,
    Comparison,
    Difference,
)

HALF = 0.005


def difference(estimate: float | None, half: float | None = HALF) -> Difference:
    """``estimate`` with an interval of ``half`` on either side; no interval without it."""
    if estimate is None or half is None:
        return Difference(estimate, None, None)
    return Difference(estimate, estimate - half, estimate + half)


def recall(
    name: str,
    estimate: float | None = 0.0,
    *,
    half: float | None = 0.02,
    p_holm: float | None = 1.0,
    n_patients: int = 500,
    before: float = 0.7,
) -> ClassDifference:
    """One class; ``p_holm`` is its p, too."""
    after = None if estimate is None else before + estimate
    d = difference(estimate, half)
    d = Difference(d.estimate, d.low, d.high, None, p_holm)
    method: Literal["normal"] | None = None if p_holm is None else "normal"
    n = (3 * n_patients, n_patients, n_patients)
    return ClassDifference(name, *n, before, after, d, method, p_holm)


def comparison(
    config: str = "focal",
    *,
    gain: float | None = 0.02,
    measures: Mapping[str, Difference] | None = None,
    classes: Sequence[ClassDifference] = (),
) -> Comparison:
    """A candidate that passes everything, but for what is passed."""
    found = {name: difference(0.0, 0.002) for name in MEASURES}
    found["balanced_accuracy"] = difference(gain)
    return Comparison("deployed", config, {**found, **(measures or {})}, tuple(classes))
