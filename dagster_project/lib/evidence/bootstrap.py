"""The patient bootstrap of rates: resampled patients, all at once.

Belongs: percentile intervals of ratios of counts, for images and for patients.
Does not: what is counted (``tiers.tier_intervals``), intervals of thresholds (``clustered``).
Concept: patients with equal counts are interchangeable, so a resample of P patients is one
multinomial draw over the U patterns of counts that occur. Its cost does not depend on P.
Approximate, never a certificate (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13: percentile interval).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

DRAWS = 2000
SEED = 20260101

Interval = list[float]
"""[low, high], as JSON has it."""


def ratio_intervals(
    counts: pl.DataFrame,
    ratios: Mapping[str, tuple[str, str]],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Interval | None]:
    """95 % percentile interval of sum(numerator) / sum(denominator) over resampled patients.

    Parameters
    ----------
    counts : (P,) rows, one a patient; integer or float columns. Their order does not matter.
    ratios : name -> (numerator column, denominator column).

    Returns
    -------
    [low, high] by name. None with fewer than two patients, where the denominator is 0, or where it
    is 0 in so many resamples that the interval has no end.
    """
    if counts.height < 2 or draws == 0:
        return dict.fromkeys(ratios)
    columns = sorted({column for pair in ratios.values() for column in pair})
    patterns = counts.group_by(columns).agg(pl.len().alias("patients")).sort(columns)
    share = patterns["patients"].to_numpy() / counts.height
    # every draw is one row: how often each pattern was drawn
    drawn = np.random.default_rng(seed).multinomial(counts.height, share, size=draws)
    totals = drawn @ patterns.select(columns).to_numpy().astype(np.float64)
    at = {column: totals[:, place] for place, column in enumerate(columns)}
    return {name: _percentiles(at[above], at[below]) for name, (above, below) in ratios.items()}


def _percentiles(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> Interval | None:
    defined = below > 0
    # an undefined resample could lie at either end
    if 2 * (~defined).sum() >= 0.05 * below.size:
        return None
    low, high = np.quantile(above[defined] / below[defined], [0.025, 0.975], method="inverted_cdf")
    return [round(float(low), 12), round(float(high), 12)]  # the last bits are the machine's
