"""Pictures of the tiers: the coverage curve, the scores by tier, the highlight sweep.

Belongs: drawing numbers that are already counted.
Does not: counting (``curve``, ``reports``), the house style (``lib.pictures``).
Concept: risk-coverage plot, x coverage from 0 to 1, target dashed, thresholds marked in words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import pictures as house
from dagster_project.lib.evidence.clustered import PatientSums, curve_band, patient_sums
from dagster_project.lib.evidence.partial_review import estimated_curve, reviewed_rows
from dagster_project.lib.evidence.rows import patient_rows
from dagster_project.lib.tiers.assign import TIERS, tier_of

if TYPE_CHECKING:
    from dagster_project.lib.tiers.selection import ThresholdFit
    from dagster_project.lib.tiers.thresholds import Thresholds

MAX_POINTS = 1000
COLOURS = {"confident": house.CONFIDENT, "possible": house.POSSIBLE, "refer": house.REFER}
_TARGETS = {
    "covered_top1": "target: wrong among confident",
    "confident_wrong_share": "target: confident and wrong",
}


def curve_png(
    curve: pl.DataFrame,
    fit: ThresholdFit | None = None,
    *,
    deployed: Thresholds | None = None,
    scored: pl.DataFrame | None = None,
) -> bytes:
    """Selective risk and confident-wrong share against coverage, thresholds marked.

    Parameters
    ----------
    curve : (M,) rows of ``coverage_curve``, M >= 1; thinned for drawing only.
    fit, deployed : marked where given, with the certified threshold as a point on the curve.
    scored : the rows behind the curve; where given, each line has its pointwise 95 % band.
    """
    figure = house.new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    step = max(1, curve.height // MAX_POINTS)
    keep = sorted({*range(0, curve.height, step), curve.height - 1})
    shown = curve[keep]
    x = shown["coverage"].to_numpy()
    lines = (
        ("k/n", 1 - shown["top1"].to_numpy(), house.INK, "-", "selective risk: wrong / answered"),
        ("k/N", shown["confident_wrong"].to_numpy(), house.WRONG, "-.",
         "confident and wrong / all"),
    )  # fmt: skip
    sums = None
    if scored is not None:
        rows = patient_rows(scored)
        sums = _thinned(patient_sums(rows, ~rows.top1), keep)
    for rate, y, shade, style, label in lines:
        axes.plot(x, y, color=shade, linestyle=style, label=label)
        if sums is not None:
            low, high = curve_band(sums, rate)
            axes.fill_between(x, low, high, color=shade, alpha=0.15, linewidth=0)
    if fit is not None and fit.confident_rule.estimated and scored is not None:
        _estimated(axes, scored)
    if fit is not None and fit.confident_rule.rule in _TARGETS:
        rule, target = fit.confident_rule.rule, fit.confident_rule.target
        height = target if rule == "confident_wrong_share" else 1 - target
        label = f"{_TARGETS[rule]} = {height:.3g}"
        axes.axhline(height, color=house.INK, linestyle="--", linewidth=0.9, label=label)
    top = float(max(0.05, 1.45 * (1 - shown["top1"].to_numpy()[x >= 0.02]).max()))
    if fit is not None and fit.certificate is not None and fit.certificate.threshold is not None:
        _certified(axes, curve, fit.certificate.threshold)
    marks = [("released", fit.thresholds, "-", 0.97)] if fit is not None else []
    if deployed is not None:
        marks.append(("deployed", deployed, ":", 0.83))
    for who, thresholds, style, height in marks:
        _mark(axes, curve, thresholds, (who, style, height * top))
    axes.set(
        xlim=(0, 1),
        ylim=(0, top),
        xlabel="coverage: share of images with score at or above the threshold",
        ylabel="share",
        title="Coverage curve" + ("" if scored is None else ", bands: 95 %, approximate"),
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return house.png(figure)


def _estimated(axes: Any, scored: pl.DataFrame) -> None:
    """The confident-wrong share of all labels, where only some are reviewed: what the rule used."""
    table = estimated_curve(reviewed_rows(scored))
    if table is not None:
        shown = table.gather_every(max(1, table.height // MAX_POINTS))
        axes.plot(
            shown["coverage"].to_numpy(),
            shown["estimate"].to_numpy(),
            color=house.WRONG,
            linestyle=":",
            linewidth=1.8,
            label="confident and wrong, estimated for all labels",
        )


def _thinned(sums: PatientSums, keep: list[int]) -> PatientSums:
    """The sums at some of the thresholds: a band for every one of millions takes a gigabyte."""
    arrays: dict[str, Any] = {
        name: value[keep] for name, value in vars(sums).items() if isinstance(value, np.ndarray)
    }
    return replace(sums, **arrays)


def _certified(axes: Any, curve: pl.DataFrame, threshold: float) -> None:
    covered = curve.filter(pl.col("threshold") >= threshold)
    if covered.height:
        at = covered.row(covered.height - 1, named=True)
        axes.plot(
            [at["coverage"]] * 2,
            [1 - at["top1"], at["confident_wrong"]],
            linestyle="none",
            marker="D",
            markersize=6,
            color=house.CERTIFIED,
            markeredgecolor=house.INK,
            label=f"certified down to {threshold:.3f}",
            zorder=5,
        )


def _mark(
    axes: Any, curve: pl.DataFrame, thresholds: Thresholds, how: tuple[str, str, float]
) -> None:
    who, style, height = how
    for side in ("confident", "refer"):
        value = thresholds.as_dict()[side]
        covered = curve.filter(pl.col("threshold") >= value)["coverage"].to_numpy()
        x = float(covered[-1]) if covered.size else 0.0  # coverage rises as the threshold falls
        axes.axvline(x, color=COLOURS[side], linestyle=style, linewidth=1.4)
        right = x > 0.6
        axes.annotate(
            f"{who}\n{side} {value:.3f}",
            (x, height),
            xytext=(-4 if right else 4, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=8,
            color=house.INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8},
        )


def histogram_png(scored: pl.DataFrame, thresholds: Thresholds) -> bytes:
    """How the top probabilities lie, stacked by tier, with each tier's share in words."""
    figure = house.new_figure(7.0, 3.4)
    axes = figure.add_subplot()
    tiers = tier_of(scored, thresholds)
    scores = scored["score"].cast(pl.Float64)
    axes.hist(
        [scores.filter(tiers == tier).to_numpy() for tier in TIERS],
        bins=np.linspace(0, 1, 51).tolist(),
        stacked=True,
        color=[COLOURS[tier] for tier in TIERS],
        label=[f"{tier}: {(tiers == tier).sum() / scored.height:.1%}" for tier in TIERS],
    )
    top = axes.get_ylim()[1] * 1.12
    for side in ("refer", "confident"):
        value = thresholds.as_dict()[side]
        axes.axvline(value, color=house.INK, linestyle="--", linewidth=1.0)
        axes.annotate(
            f"{side} {value:.3f}",
            (value, top),
            xytext=(-3, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
        )
    axes.set(xlim=(0, 1), ylim=(0, top), xlabel="largest probability", ylabel="images")
    axes.set_title(f"Confidence of {scored.height:,} images by tier")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return house.png(figure)


def refer_png(candidates: pl.DataFrame) -> bytes:
    """Accuracy of the kept images against the share that is referred, one point a candidate.

    Parameters
    ----------
    candidates : (1 to 3) rows of ``refer_candidates``; a null rate (nobody is kept) is no point.
    """
    figure = house.new_figure(7.0, 3.2)
    axes = figure.add_subplot()
    x = candidates["refer_share"].to_numpy()
    for name, style, shade in (("top1", "o-", house.CONFIDENT), ("top3", "s--", house.INK)):
        y = _numbers(candidates[f"kept_{name}"])
        axes.plot(x, y, style, color=shade, label=f"{name} of the kept")
    for level, (share, threshold) in enumerate(zip(x, candidates["threshold"], strict=True)):
        axes.axvline(share, color=house.REFER, linestyle=":", linewidth=0.9)
        axes.annotate(
            f"refer < {threshold:.3f}",
            (share, 0),
            xycoords=("data", "axes fraction"),
            # one height each: saturated scores put candidates side by side
            xytext=(0, 5 + 12 * level),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
    rates = candidates.select("kept_top1", "kept_top3").to_numpy()
    rates = rates[~np.isnan(rates)]
    low, high = (rates.min(), rates.max()) if rates.size else (0.0, 1.0)
    space = max(high - low, 0.02)
    side = max(0.2 * (x.max() - x.min()), 0.01)
    axes.set(xlim=(x.min() - side, x.max() + side), ylim=(low - 0.6 * space, high + 0.2 * space))
    axes.set(xlabel="share of images referred", ylabel="share right", title="Refer candidates")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return house.png(figure)


def sweep_png(sweep: pl.DataFrame, cut: float) -> bytes:
    """Share of possible images with 1, 2, 3 items, and truth among them, against the cut."""
    figure = house.new_figure(7.0, 3.2)
    axes = figure.add_subplot()
    x = sweep["cut"].to_numpy()
    styles = {"matches_1": "o-", "matches_2": "s-", "matches_3": "^-"}
    for (name, style), shade in zip(
        styles.items(), (house.POSSIBLE, house.REFER, house.INK), strict=True
    ):
        label = f"{name[-1]} item" + ("s" if name[-1] != "1" else "")
        axes.plot(x, _numbers(sweep[name]), style, color=shade, label=label)
    truth = _numbers(sweep["truth_in_highlighted"])
    axes.plot(x, truth, "D--", color=house.CONFIDENT, label="truth among them")
    axes.axvline(cut, color=house.INK, linestyle="--", linewidth=1.0)
    axes.annotate(
        f"policy {cut:g}", (cut, 1.0), xytext=(3, -3), textcoords="offset points", va="top"
    )
    axes.set(ylim=(0, 1.02), xlabel="highlight items with probability above", ylabel="share")
    axes.set_title("Highlighted items in the possible tier")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return house.png(figure)


def _numbers(column: pl.Series) -> Any:
    # a null share (no possible row) is drawn as a gap
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
