"""The tier of each row: the comparison that serving makes.

Belongs: that one comparison.
Does not: counting tiers (``reports``), moves between them (``movement``).
Concept: refer is asked first; a score on the threshold is confident (``>=``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from dagster_project.lib.tiers.thresholds import Thresholds

TIERS = ("confident", "possible", "refer")


def tier_of(scored: pl.DataFrame, thresholds: Thresholds) -> pl.Series:
    """The tier of each row, in row order: ``confident``, ``possible`` or ``refer``.

    A row is refer if score < refer, else confident if score >= confident. Scores are widened to
    float64 (exact) before they are compared.
    """
    score = pl.col("score").cast(pl.Float64)
    tier = (
        pl.when(score < thresholds.refer)
        .then(pl.lit("refer"))
        .when(score >= thresholds.confident)
        .then(pl.lit("confident"))
        .otherwise(pl.lit("possible"))
    )
    return scored.select(tier.alias("tier"))["tier"]
