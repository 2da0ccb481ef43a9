"""Rates and means by patient, as the JSON of the evaluation has them.

Belongs: a count with its interval, a mean with its interval.
Does not: the intervals' mathematics (``evidence``), which rows are counted.
Concept: the patient is the independent unit. Every entry carries what it was divided by; undefined
is null. Intervals are 95 %, approximate, each for itself alone. N = images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.bootstrap import ratio_intervals
from dagster_project.lib.evidence.proportion import Z95, clustered_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

_FINE = 2.0**40


def rate(hit: Bools, patient: Ints, among: Bools | None = None) -> dict[str, Any]:
    """Share of images that are hits, with an interval by patient.

    The percentile interval of the patient bootstrap. Where all or none are hits every resample says
    the same and that interval is a point, which is no uncertainty at all: there it is Wilson's,
    with the largest design effect (``proportion.clustered_interval``).

    Parameters
    ----------
    hit : (N,) bool. patient : (N,) whole numbers >= 0.
    among : (N,) which images count; None: all.

    Returns
    -------
    ``n`` hits, ``of`` images, ``rate`` (null if ``of`` = 0), ``ci95`` ([low, high]; null with fewer
    than two patients).

    >>> rate(np.array([True, False, True]), np.arange(3), np.array([True, True, False]))["rate"]
    0.5
    """
    kept = np.ones(hit.size, dtype=bool) if among is None else among
    hits, who = hit[kept], patient[kept]
    n, total = int(hits.sum()), int(hits.size)
    return {
        "n": n,
        "of": total,
        "rate": n / total if total else None,
        "ci95": _bootstrap(hits, who) if 0 < n < total else _wilson(hits, who),
    }


def _bootstrap(hits: Bools, who: Ints) -> list[float] | None:
    images = np.bincount(who)
    counts = np.bincount(who[hits], minlength=images.size)
    frame = pl.DataFrame({"k": counts[images > 0], "n": images[images > 0]})
    return ratio_intervals(frame, {"rate": ("k", "n")})["rate"]


def _wilson(hits: Bools, who: Ints) -> list[float] | None:
    found = clustered_interval(hits, who)
    if not hits.size or math.isnan(found.low[0]):
        return None
    return [round(float(found.low[0]), 12), round(float(found.high[0]), 12)]


def mean(
    value: npt.NDArray[np.number[Any]], patient: Ints, *, within: tuple[float, float]
) -> dict[str, Any]:
    """Mean over images, with an interval by patient.

    With v the sum of a patient's values and m the number of images, D = sum v / sum m; the variance
    is sum (v - D m)^2 / (sum m)^2 (linearised ratio; Cochran, Sampling Techniques, 3rd ed., section
    2.11), the interval D +- 1.96 standard errors. Differences of paired values go in as they are.

    Parameters
    ----------
    value : (N,) finite. patient : (N,) whole numbers >= 0.
    within : where a value can lie; the interval is cut off there.

    Returns
    -------
    ``of`` images, ``mean`` (null if none), ``ci95`` (null with fewer than two patients).

    >>> mean(np.array([0.0, 1.0]), np.arange(2), within=(0, 1))["mean"]
    0.5
    """
    if not value.size:
        return {"of": 0, "mean": None, "ci95": None}
    images = np.bincount(patient)
    # whole multiples of 2^-40 add up exactly, in any order of the images
    sums = np.bincount(patient, weights=np.rint(value * _FINE)) / _FINE
    found = float(sums.sum() / value.size)
    half = Z95 * math.sqrt(float(((sums - found * images) ** 2).sum())) / value.size
    several = np.count_nonzero(images) > 1
    least, most = within
    ends = [round(max(found - half, least), 12), round(min(found + half, most), 12)]
    return {"of": int(value.size), "mean": found, "ci95": ends if several else None}
