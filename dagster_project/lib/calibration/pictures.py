"""Picture of calibration: the reliability diagram, before and after a temperature.

Belongs: drawing bins that ``reliability`` counted.
Does not: counting, the house style (``lib.pictures``).
Concept: square, forecast across, share right up, calibrated on the diagonal; equal-mass bins with
intervals; below it how the forecasts lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.calibration.reliability import calibration_error, reliability
from dagster_project.lib.calibration.summary import forecasts
from dagster_project.lib.calibration.temperature import temper

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from dagster_project.lib.calibration.reliability import Reliability
    from dagster_project.lib.calibration.summary import Forecasts


def reliability_png(scored: pl.DataFrame, temperature: float | None = None) -> bytes:
    """Reliability diagram of the top probability as served, and beside it once tempered.

    Parameters
    ----------
    scored : (N,) scored rows, N >= 1.
    temperature : null draws the served scores alone.
    """
    rows = forecasts(scored)
    panels = [("as served", rows.score)]
    if temperature is not None:
        tempered = temper(rows.score, temperature)
        panels.append((f"temperature {temperature:.3f} (not served)", tempered))
    # one panel has its legend in two lines: without the room the square would shrink
    figure = house.new_figure(3.9 * len(panels), 5.2 if len(panels) > 1 else 5.6)
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=[4, 1]
    )
    for column, (title, score) in enumerate(panels):
        _diagram(axes[0, column], rows, score, title)
        _histogram(axes[1, column], score)
    axes[0, 0].set_ylabel("share of images that are right")
    axes[1, 0].set_ylabel("images")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(panels), fontsize=8)
    return house.png(figure)


def draw_before_after(axes: Any, rows: Forecasts, temperature: float | None) -> None:
    """Both diagrams in one, for small multiples: a temperature moves each bin sideways only.

    It keeps the order of the scores, and so the bins and what is right in them. Dots with intervals
    are as served, hollow squares are tempered; null draws the served scores alone.
    """
    served = reliability(rows.score, rows.correct, rows.patient)
    axes.plot([0, 1], [0, 1], color=house.INK, linestyle="--", linewidth=0.9, label="calibrated")
    _bins(axes, served, "as served: bin of equal mass, 95 % by patient (approximate)")
    said = f"ECE {calibration_error(served).ece:.3f}"
    if temperature is not None:
        tempered = reliability(temper(rows.score, temperature), rows.correct, rows.patient)
        if tempered.mean_score.size == served.mean_score.size:
            moved = [served.mean_score, tempered.mean_score]
            axes.plot(moved, [served.right.rate] * 2, color=house.REFER, linewidth=0.8, zorder=1)
        axes.plot(
            tempered.mean_score,
            tempered.right.rate,
            "s",
            markersize=5,
            color=house.WRONG,
            markerfacecolor="none",
            label="tempered, fitted on these images (not served)",
        )
        said += f", tempered {calibration_error(tempered).ece:.3f}\ntemperature {temperature:.2f}"
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
    axes.annotate(said, (0.97, 0.03), xycoords="axes fraction", ha="right", fontsize=8, bbox=paper)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def _diagram(axes: Any, rows: Forecasts, score: npt.NDArray[np.float64], title: str) -> None:
    found = reliability(score, rows.correct, rows.patient)
    error = calibration_error(found)
    axes.plot([0, 1], [0, 1], color=house.INK, linestyle="--", linewidth=0.9, label="calibrated")
    _bins(axes, found, "bin of equal mass, 95 % by patient (approximate)")
    debiased = "-" if error.ece_debiased is None else f"{error.ece_debiased:.3f}"
    axes.annotate(
        f"ECE {error.ece:.3f}\ndebiased (L2) {debiased}\nimages {rows.score.size:,}",
        (0.03, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize=8,
        color=house.INK,
    )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title(title, fontsize=9)


def _bins(axes: Any, found: Reliability, label: str) -> None:
    rate = found.right.rate
    # no interval (one patient) is drawn as a dot alone
    reach = np.nan_to_num(np.stack([rate - found.right.low, found.right.high - rate]))
    axes.errorbar(
        found.mean_score,
        rate,
        yerr=reach,
        fmt="o",
        markersize=4,
        color=house.CONFIDENT,
        elinewidth=1.2,
        capsize=2,
        label=label,
    )


def _histogram(axes: Any, score: npt.NDArray[np.float64]) -> None:
    axes.hist(score, bins=np.linspace(0, 1, 41).tolist(), color=house.REFER)
    axes.set_xlabel("largest probability")
    axes.locator_params(axis="y", nbins=3)
