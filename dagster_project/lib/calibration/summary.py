"""Calibration in one table: what a report or a scorecard shows of a set of scored rows.

Belongs: scored rows to arrays, all statistics of this room as plain JSON, what to say beside them.
Does not: any statistic of its own, drawing (``pictures``), files.
Concept: one estimand, images: every image counts once; uncertainty is by patient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.calibration.abstention import areas, tied_counts
from dagster_project.lib.calibration.reliability import (
    BINS,
    CalibrationError,
    calibration_error,
    reliability,
)
from dagster_project.lib.calibration.temperature import (
    CLIP,
    TemperatureFit,
    fit_temperature,
    map_threshold,
)
from dagster_project.lib.evidence import proportion
from dagster_project.lib.evidence.rows import patient_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Forecasts:
    """Top probabilities and whether they came true, in the order of ``image_uuid``.

    Attributes
    ----------
    score : (N,) float64 in [0, 1]; a stored float32 widened exactly.
    correct : (N,) bool, the top class is the truth.
    patient : (N,) int64 in 0..P-1; an image without a patient is its own.
    known : every image names its patient.
    """

    score: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.int64]
    known: bool


def forecasts(scored: pl.DataFrame) -> Forecasts:
    """Arrays of scored rows; sorted, so that sums do not depend on the order of the input."""
    rows = scored.select(
        "image_uuid",
        pl.col("score").cast(pl.Float64),
        "top1",
        (patient_key().rank("dense").cast(pl.Int64) - 1).alias("patient"),
    ).sort("image_uuid")
    return Forecasts(
        score=rows["score"].to_numpy(),
        correct=rows["top1"].to_numpy(),
        patient=rows["patient"].to_numpy(),
        known=scored["patient_id"].null_count() == 0,
    )


def calibration_summary(scored: pl.DataFrame, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Every statistic of calibration and ranking of the top probability, as plain JSON.

    Parameters
    ----------
    scored : (N,) rows with ``image_uuid``, ``patient_id``, ``score``, ``top1``; any order.
    thresholds : ``confident`` and ``refer``, in [0, 1].

    Returns
    -------
    ``estimand`` (always ``images``), ``n``, ``n_patients``; ``ece``, ``ece_debiased``,
    ``ece_debiased_squared`` (signed); ``temperature``, ``temperature_ci95``, ``nll_before``,
    ``nll_after``, ``n_clipped``; ``mapped_thresholds`` (``confident``, ``refer``; null without T);
    ``aurc``, ``e_aurc``, ``augrc``; ``reliability``, one row a bin (``n``, ``n_patients``,
    ``mean_score``, ``accuracy``, ``low``, ``high``); ``notes``, sentences for the reader. What is
    undefined is null, and a note says why. The same for any order of rows.
    """
    found = forecast_summary(forecasts(scored))
    t = found["temperature"]
    mapped = {
        side: None if t is None else map_threshold(float(thresholds[side]), t)
        for side in ("confident", "refer")
    }
    return {**found, "mapped_thresholds": mapped}


def forecast_summary(rows: Forecasts) -> dict[str, Any]:
    """All of :func:`calibration_summary` that needs no thresholds.

    Parameters
    ----------
    rows : in an order that does not depend on the input, because sums of floats do on theirs.
    """
    found = reliability(rows.score, rows.correct, rows.patient)
    error = calibration_error(found)
    fit = fit_temperature(rows.score, rows.correct, rows.patient)
    return {
        "estimand": "images",
        "n": int(rows.score.size),
        "n_patients": int(rows.patient.max()) + 1 if rows.patient.size else 0,
        "ece": error.ece,
        "ece_debiased": error.ece_debiased,
        "ece_debiased_squared": error.squared,
        "temperature": fit.temperature,
        "temperature_ci95": None if fit.ci95 is None else list(fit.ci95),
        "nll_before": fit.nll_before,
        "nll_after": fit.nll_after,
        "n_clipped": fit.n_clipped,
        **asdict(areas(*tied_counts(rows.score, rows.correct))),
        "reliability": found.rows(),
        "notes": _notes(rows, found.right.n.size, error, fit),
    }


def _notes(rows: Forecasts, bins: int, error: CalibrationError, fit: TemperatureFit) -> list[str]:
    notes = [
        "Of the top probability as a forecast that the top class is right, against the labels in"
        " force and on the rows themselves: T is fitted and judged on the same rows.",
        f"Intervals: {proportion.METHOD} (bins); sandwich by patient, approximate (temperature).",
    ]
    if not rows.known:
        notes.append("Images without a patient count as patients of their own.")
    if 0 < bins < BINS:
        notes.append(f"{bins} bins and not {BINS}: few rows, or equal scores that stay together.")
    if rows.score.size and error.squared is None:
        notes.append("A bin has fewer than two patients: no debiased calibration error.")
    if error.squared is not None and error.squared <= 0:
        notes.append(
            "The debiased squared error is not above 0 and is shown as 0: no calibration error can "
            "be told from noise on these rows."
        )
    if fit.reason is not None:
        notes.append(f"No temperature: {fit.reason}.")
    if fit.n_clipped:
        notes.append(
            f"{fit.n_clipped} of {rows.score.size} scores entered the fit of the temperature as "
            f"{CLIP:.1e} or 1 - {CLIP:.1e}: they are at or beyond what float32 tells from 0 or 1."
        )
    return notes
