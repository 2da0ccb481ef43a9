"""Both estimands of the tiers: rates over images and over patients, with their intervals.

Belongs: which counts a patient contributes, which ratios are reported, under which names.
Does not: the resampling (``evidence.bootstrap``), the point estimates over images (``reports``).
Concept: over *images*, a patient with three images counts three times; over *patients*, each counts
once, by the mean over the patient's own images. The tables show images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.evidence import bootstrap
from dagster_project.lib.evidence.rows import patient_key
from dagster_project.lib.tiers.assign import TIERS, tier_of

if TYPE_CHECKING:
    from dagster_project.lib.tiers.thresholds import Thresholds

OUTCOMES = ("confident_correct", "confident_wrong", "possible_top3", "possible_miss", "refer")

_IMAGES = {
    **{f"tiers.{tier}.share": (f"n_{tier}", "n") for tier in TIERS},
    **{
        f"tiers.{tier}.{top}": (f"{top}_{tier}", f"n_{tier}")
        for tier in TIERS
        for top in ("top1", "top3")
    },
    **{f"outcomes.{outcome}": (outcome, "n") for outcome in OUTCOMES},
    "full_coverage.top1": ("top1", "n"),
    "full_coverage.top3": ("top3", "n"),
}
_PATIENTS = {
    "coverage": "n_confident",
    "confident_wrong": "confident_wrong",
    "refer_share": "n_refer",
    "top1": "top1",
}


def tier_intervals(
    scored: pl.DataFrame,
    thresholds: Thresholds,
    *,
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> dict[str, Any]:
    """Intervals over images, and the same rates over patients.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows``.

    Returns
    -------
    ``intervals``: ``images`` and ``patients``, each name -> [low, high] or null; 95 %, percentile
    bootstrap of patients, approximate. Over images the names are paths into the tier report.
    ``patients``: ``n``, ``n_images``, ``known`` (every image names its patient), and shares of
    patients: ``coverage``, ``confident_wrong``, ``refer_share``, ``top1`` (each patient's own mean,
    averaged) and ``any_confident_wrong`` (at least one confident wrong answer).
    """
    counts = _counts(scored, thresholds)
    means = {name: f"mean_{column}" for name, column in _PATIENTS.items()}
    by_patient = counts.select(
        *((pl.col(column) / pl.col("n")).alias(means[name]) for name, column in _PATIENTS.items()),
        (pl.col("confident_wrong") > 0).cast(pl.Int64).alias("any"),
        pl.lit(1, pl.Int64).alias("one"),
    )
    ratios = {
        **{name: (mean, "one") for name, mean in means.items()},
        "any_confident_wrong": ("any", "one"),
    }
    return {
        "intervals": {
            "images": bootstrap.ratio_intervals(counts, _IMAGES, draws=draws, seed=seed),
            "patients": bootstrap.ratio_intervals(by_patient, ratios, draws=draws, seed=seed),
        },
        "patients": {
            "n": counts.height,
            "n_images": scored.height,
            "known": scored["patient_id"].null_count() == 0,
            **{
                name: round(float(by_patient[column].sum()) / counts.height, 12)
                for name, (column, _) in ratios.items()
            },
        },
    }


def _counts(scored: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """One row a patient: images in each tier, right ones among them, and the outcomes."""
    known = scored["patient_id"].null_count() == 0
    key = pl.col("patient_id").alias("patient") if known else patient_key()  # in the same order
    rows = scored.select(key, "top1", "top3").with_columns(tier_of(scored, thresholds))
    tier, top1, top3 = pl.col("tier"), pl.col("top1"), pl.col("top3")
    sums = {
        "n": pl.len(),
        "top1": top1.sum(),
        "top3": top3.sum(),
        **{f"n_{name}": (tier == name).sum() for name in TIERS},
        **{f"top1_{name}": ((tier == name) & top1).sum() for name in TIERS},
        **{f"top3_{name}": ((tier == name) & top3).sum() for name in TIERS},
        "confident_correct": ((tier == "confident") & top1).sum(),
        "confident_wrong": ((tier == "confident") & ~top1).sum(),
        "possible_top3": ((tier == "possible") & top3).sum(),
        "possible_miss": ((tier == "possible") & ~top3).sum(),
        "refer": (tier == "refer").sum(),
    }
    return (
        rows.group_by("patient")
        .agg(expression.cast(pl.UInt32).alias(name) for name, expression in sums.items())
        .sort("patient")
    )  # sums of floats depend on the order
