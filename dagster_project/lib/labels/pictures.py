"""Pictures of reviews without an image in them: reviewers and classes, by agreement.

Belongs: drawing ``agreement_report``.
Does not: counting (``agreement``).
Concept: sorted dots with their interval and n, never bars; an undefined rate is a word, not a dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_ROWS = 30


def agreement_picture(report: Mapping[str, Any]) -> bytes:
    """PNG: each reviewer's agreement with the others, and below it alpha by class.

    Parameters
    ----------
    report : as ``agreement.agreement_report`` gives it.
    """
    reviewers = sorted(
        report["reviewers"],
        key=lambda r: (-(r["agreement_with_consensus"] or 0), r["reviewer"]),
    )
    known = [c for c in report["per_class"] if c["alpha"] is not None]
    classes = sorted(known, key=lambda c: (-c["alpha"], c["class"]))
    rows = tuple(min(max(len(found), 1), MAX_ROWS) for found in (reviewers, classes))
    figure = pictures.new_figure(7.0, 2.3 + 0.26 * sum(rows))
    above, below = figure.subplots(2, 1, height_ratios=rows)
    _reviewers(above, reviewers[:MAX_ROWS], _hidden(reviewers))
    few = len(report["per_class"]) - len(known)
    hidden = f"; {few} classes have too few images" if few else ""
    _classes(below, classes[:MAX_ROWS], hidden + _hidden(classes))
    alpha, ends = report["alpha"], report["alpha_ci95"]
    text = "undefined" if alpha is None else f"{alpha:.2f}"
    if ends is not None:
        text += f" ({ends[0]:.2f} to {ends[1]:.2f}, by {report['interval_by']})"
    figure.suptitle(
        f"Nominal alpha {text}; {report['n_images_two_readers']} images with two readers",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return pictures.png(figure)


def _reviewers(axes: Axes, reviewers: list[Mapping[str, Any]], hidden: str) -> None:
    for row, one in enumerate(reviewers):
        share, ends = one["agreement_with_consensus"], one["ci95"]
        if share is None:
            axes.annotate("not comparable", (0.01, row), va="center", fontsize=8)
        else:
            if ends is not None:
                axes.hlines(row, *ends, color=pictures.REFER, lw=2)
            mark = "D" if one["reference"] else "o"
            axes.plot(share, row, mark, color=pictures.INK, ms=5)
        words = (
            f"{one['n_compared']} compared, of {one['n']}; unsure {one['n_unsure']}, "
            f"not usable {one['n_not_usable']}"
        )
        _beside(axes, row, words)
    names = [r["reviewer"] + (" (reference)" if r["reference"] else "") for r in reviewers]
    _rows(axes, names)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"agreement with the others' consensus, 95 % interval{hidden}")


def _classes(axes: Axes, classes: list[Mapping[str, Any]], hidden: str) -> None:
    for row, one in enumerate(classes):
        axes.plot(one["alpha"], row, "s", color=pictures.INK, ms=5)
        _beside(axes, row, f"{one['n']} images")
    _rows(axes, [c["class"] for c in classes])
    axes.set_xlim(min([0.0, *(c["alpha"] for c in classes)]), 1)
    axes.set_xlabel(f"alpha of the class against the rest{hidden}")


def _hidden(rows: Sequence[object]) -> str:
    return f"; {len(rows) - MAX_ROWS} lower ones not shown" if len(rows) > MAX_ROWS else ""


def _rows(axes: Axes, names: list[str]) -> None:
    if not names:
        axes.annotate("none", (0.01, 0), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)


def _beside(axes: Axes, row: int, words: str) -> None:
    axes.annotate(words, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
