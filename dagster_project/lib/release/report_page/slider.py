"""Numbers behind the slider: counts at every threshold that can be released, and the pinned ones.

Belongs: reading the coverage curve at a threshold, what is pinned, the certified range.
Does not: drawing, words around it; the script repeats :func:`numbers` in the browser.
Concept: 1,001 grid values have 1,001 triples of integers. With them every number of the page is
*the* number of ``coverage_curve.csv`` at that threshold; nothing is thinned or interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dagster_project.lib.release.report_page.parts import threshold as threshold_text
from dagster_project.lib.tiers.thresholds import GRID, round_up

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

SIDES = ("confident", "refer")


class Counts(NamedTuple):
    """Rows at or above a threshold: all, rank 0, rank < 3."""

    n: int
    top1: int
    top3: int


@dataclass(frozen=True)
class Grid:
    """(1001,) int64 counts at k / 1000, k = 0 … 1000; index 0 counts every row."""

    n: npt.NDArray[np.int64]
    top1: npt.NDArray[np.int64]
    top3: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """N, all rows: every score is at least 0."""
        return int(self.n[0])


@dataclass(frozen=True)
class Pin:
    """A threshold worth returning to. ``step``: where the slider goes, the grid value above."""

    kind: str
    side: str
    value: float

    @property
    def step(self) -> int:
        """The smallest k with k / 1000 not below the value: rounding is towards safety."""
        return round(round_up(min(self.value, 1.0)) * GRID)

    @property
    def text(self) -> str:
        """``fitted 0.8145, slider at 0.815``."""
        text = f"{self.kind} {threshold_text(self.value)}"
        if self.step / GRID == self.value:
            return text
        return f"{text}, slider at {threshold_text(self.step / GRID)}"


def counts_at(curve: pl.DataFrame, values: npt.NDArray[np.float64]) -> Grid:
    """Counts at any thresholds, in their order; 0 above every score.

    Parameters
    ----------
    curve : (M,) rows of ``coverage_curve``; rates are turned back into the integers they came from.
    values : (V,) float64.
    """
    inside = np.searchsorted(-curve["threshold"].to_numpy(), -values, side="right")
    n = curve["n"].to_numpy().astype(np.int64)
    columns = [
        n,
        *(np.rint(curve[key].to_numpy() * n).astype(np.int64) for key in ("top1", "top3")),
    ]
    return Grid(*(np.concatenate([[0], column])[inside] for column in columns))


def grid_counts(curve: pl.DataFrame) -> Grid:
    """Counts at the 1,001 thresholds k / 1000."""
    return counts_at(curve, np.arange(GRID + 1) / GRID)


def single(curve: pl.DataFrame, value: float) -> Counts:
    """Counts at one threshold."""
    at = counts_at(curve, np.array([value]))
    return Counts(int(at.n[0]), int(at.top1[0]), int(at.top3[0]))


def numbers(total: int, confident: Counts, refer: Counts) -> dict[str, float | None]:
    """What two thresholds do, over images; ``wrong`` is a share of all, ``None`` is undefined."""
    return {
        "confident": _rate(confident.n, total),
        "possible": _rate(refer.n - confident.n, total),
        "refer": _rate(total - refer.n, total),
        "wrong": _rate(confident.n - confident.top1, total),
        "covered_top1": _rate(confident.top1, confident.n),
        "kept_top3": _rate(refer.top3, refer.n),
    }


def pins(report: Mapping[str, Any]) -> list[Pin]:
    """What is pinned, side by side: deployed, fitted, released, certified, as far as known."""
    found = []
    for side in SIDES:
        selection = report["selection"][side]
        known = {
            "deployed": report["deployed"]["thresholds"][side] if report.get("deployed") else None,
            "fitted": selection["fitted"],
            "released": report["thresholds"][side],
            "certified": certified_at(report) if side == "confident" else None,
        }
        found += [Pin(kind, side, float(v)) for kind, v in known.items() if v is not None]
    return found


def certificate(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The certificate's own object, whatever it says; None if none was computed."""
    found: Mapping[str, Any] | None = report["selection"]["confident"].get("certificate")
    return found or None


def certified_at(report: Mapping[str, Any]) -> float | None:
    """The certified threshold; None unless there is a certificate that says so."""
    found = certificate(report)
    if found is None or found.get("status") != "certified" or found.get("threshold") is None:
        return None
    return float(found["threshold"])


def certified_range(report: Mapping[str, Any], grid: Grid) -> tuple[float, float] | None:
    """The thresholds that are certified: from the loosest one up to where too little is covered.

    At most up to the policy's start; the claims hold above as well, but a threshold that answers
    nothing, or less than ``min_coverage``, is not certified. A certificate that does not name its
    start speaks of its own threshold only.
    """
    low = certified_at(report)
    found = certificate(report)
    if low is None or found is None:
        return None
    start = found.get("start")
    if start is None:
        return low, low
    least = max(1.0, float(found.get("min_coverage") or 0.0) * grid.total)
    enough = np.flatnonzero(grid.n >= least)  # the counts fall as the threshold rises
    strictest = float(enough[-1]) / GRID if enough.size else low
    return low, max(low, min(float(start), strictest))


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
