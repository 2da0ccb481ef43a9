"""Pictures of candidates without a patient in them: rates by class, given -> predicted pairs.

Belongs: drawing the tables of ``candidates``.
Does not: photographs (``montage``), counting.
Concept: sorted dots with their interval and n, never bars; an undefined rate is not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import pictures
from dagster_project.lib.evidence.proportion import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 40
"""Classes drawn at most; the rest are counted in the title."""
MAX_PAIRS = 20


def issue_rate_picture(per_class: pl.DataFrame) -> bytes:
    """PNG of the share of flagged rows by given class, highest first, with 95 % intervals.

    ``per_class`` : ``class, n, n_issues, issue_rate`` (``Candidates.per_class``).
    """
    known = per_class.filter(pl.col("n") > 0).sort("issue_rate", "class", descending=[True, False])
    drawn = known.head(MAX_ROWS)
    k, n = (drawn[name].cast(pl.Float64).to_numpy() for name in ("n_issues", "n"))
    low, high = wilson(k / n, n)
    rows = range(drawn.height)
    figure = pictures.new_figure(7.0, 1.2 + 0.22 * max(drawn.height, 1))
    axes = figure.add_subplot()
    axes.hlines(rows, low, high, color=pictures.REFER, lw=2)
    axes.plot(drawn["issue_rate"], rows, "o", color=pictures.WRONG, ms=5)
    for row, (flagged, among) in zip(rows, drawn.select("n_issues", "n").rows(), strict=True):
        axes.annotate(
            f"{flagged} of {among}",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(rows, drawn["class"].to_list())
    axes.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("flagged share of the rows given this class, 95 % interval")
    hidden, without = known.height - drawn.height, per_class.height - known.height
    notes = [f"{hidden} lower classes not shown"] if hidden else []
    notes += [f"{without} classes without rows"] if without else []
    _title(figure, "; ".join(["Probable label errors by given class", *notes]))
    return pictures.png(figure)


def confusion_picture(confusions: pl.DataFrame) -> bytes:
    """PNG of the most frequent given -> predicted pairs among the flagged rows.

    ``confusions`` : ``given, predicted, n`` (``Candidates.confusions``).
    """
    drawn = confusions.head(MAX_PAIRS)
    rows = range(drawn.height)
    figure = pictures.new_figure(7.0, 1.2 + 0.24 * max(drawn.height, 1))
    axes = figure.add_subplot()
    axes.plot(drawn["n"], rows, "o", color=pictures.WRONG, ms=5)
    top = int(drawn["n"][0]) if drawn.height else 1
    for row, n in zip(rows, drawn["n"], strict=True):
        axes.annotate(str(n), (n, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    names = [f"{given} \N{RIGHTWARDS ARROW} {said}" for given, said, _ in drawn.rows()]
    axes.set_yticks(rows, names)
    axes.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    axes.set_xlim(0, top * 1.1)
    axes.set_xlabel("flagged rows")
    total = int(confusions["n"].sum())
    _title(
        figure,
        f"Given \N{RIGHTWARDS ARROW} predicted: top {drawn.height} of {confusions.height} pairs, "
        f"{total} flagged rows",
    )
    return pictures.png(figure)


def _title(figure: Figure, text: str) -> None:
    """A title from the left edge of the figure: long class names leave the axes little width."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)
