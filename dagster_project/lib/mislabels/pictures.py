"""Pictures of candidates without a patient in them: rates by class, given -> predicted pairs.

Belongs: drawing the tables of ``candidates`` and ``prune``.
Does not: photographs (``montage``), counting.
Concept: sorted dots with their interval and n, never bars; an undefined rate is not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import pictures
from dagster_project.lib.mislabels.candidates import IN_SAMPLE_WORD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ROWS = 40
"""Classes drawn at most; the rest are counted in the title."""
MAX_PAIRS = 20


def issue_rate_picture(per_class: pl.DataFrame, *, in_sample: bool | None) -> bytes:
    """PNG of the share of flagged rows by given class, highest first, with 95 % intervals.

    ``per_class`` : ``Candidates.per_class``; ``in_sample`` : as in the summary, for the title.
    """
    known = per_class.filter(pl.col("n") > 0).sort("issue_rate", "class", descending=[True, False])
    drawn = known.head(MAX_ROWS)
    rows = range(drawn.height)
    figure = pictures.new_figure(7.0, 1.2 + 0.22 * max(drawn.height, 1))
    axes = figure.add_subplot()
    axes.hlines(
        rows,
        drawn["issue_rate_low"].cast(pl.Float64),  # NaN, where it is null, is not drawn
        drawn["issue_rate_high"].cast(pl.Float64),
        color=pictures.REFER,
        lw=2,
    )
    axes.plot(drawn["issue_rate"], rows, "o", color=pictures.WRONG, ms=5)
    _counts(axes, drawn.select("n_issues", "n").rows())
    axes.set_yticks(rows, drawn["class"].to_list())
    axes.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("flagged share of the rows given this class, 95 % interval")
    hidden, without = known.height - drawn.height, per_class.height - known.height
    notes = [f"{hidden} lower classes not shown"] if hidden else []
    notes += [f"{without} classes without rows"] if without else []
    title = f"Probable label errors by given class, {IN_SAMPLE_WORD[in_sample]}"
    _title(figure, "; ".join([title, *notes]))
    return pictures.png(figure)


def confusion_picture(confusions: pl.DataFrame, *, in_sample: bool | None) -> bytes:
    """PNG of the most frequent given -> predicted pairs among the flagged rows.

    ``confusions`` : ``Candidates.confusions``; ``in_sample`` : as in the summary, for the title.
    """
    drawn = confusions.head(MAX_PAIRS)
    rows = range(drawn.height)
    figure = pictures.new_figure(7.0, 1.2 + 0.24 * max(drawn.height, 1))
    axes = figure.add_subplot()
    axes.plot(drawn["n"], rows, "o", color=pictures.WRONG, ms=5)
    top = int(drawn["n"][0]) if drawn.height else 1
    for row, (n, share) in zip(rows, drawn.select("n", "share").rows(), strict=True):
        text = f"{n}  ({100 * share:.0f} %)"
        axes.annotate(text, (n, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    names = [f"{a} \N{RIGHTWARDS ARROW} {b}" for a, b in drawn.select("given", "predicted").rows()]
    axes.set_yticks(rows, names)
    axes.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    axes.set_xlim(0, top * 1.15)
    axes.set_xlabel("flagged rows")
    total = int(confusions["n"].sum())
    _title(
        figure,
        f"Given \N{RIGHTWARDS ARROW} predicted: top {drawn.height} of {confusions.height} pairs, "
        f"{total} flagged rows\n{IN_SAMPLE_WORD[in_sample]}",
    )
    return pictures.png(figure)


def naive_prune_picture(per_class: pl.DataFrame, groups: pl.DataFrame) -> bytes:
    """PNG of the share that dropping every flagged row would take, by how verified and by class.

    ``per_class``, ``groups`` : of ``prune.NaivePrune``. Groups stand first, with other shapes.
    """
    columns = ("share", "low", "high", "n_flagged", "n")
    by_how = groups.filter(pl.col("n") > 0).select("group", *columns)
    known = per_class.filter(pl.col("n") > 0)
    by_class = known.head(MAX_ROWS).select(
        group="class",
        share="share_lost",
        low="share_lost_low",
        high="share_lost_high",
        n_flagged="n_lost",
        n="n",
    )
    drawn = pl.concat([by_how, by_class])
    rows = range(drawn.height)
    figure = pictures.new_figure(7.0, 1.4 + 0.22 * max(drawn.height, 1))
    axes = figure.add_subplot()
    low, high = (drawn[end].cast(pl.Float64) for end in ("low", "high"))
    axes.hlines(rows, low, high, color=pictures.REFER, lw=2)
    split = by_how.height
    axes.plot(drawn["share"][:split], rows[:split], "D", color=pictures.CONFIDENT, ms=6)
    axes.plot(drawn["share"][split:], rows[split:], "o", color=pictures.WRONG, ms=5)
    _counts(axes, drawn.select("n_flagged", "n").rows())
    axes.set_yticks(rows, drawn["group"].to_list())
    axes.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the rows that would be lost, 95 % interval")
    hidden = known.height - by_class.height
    title = "What dropping every flagged row would cost (nobody should)"
    _title(figure, f"{title}; {hidden} lower classes not shown" if hidden else title)
    return pictures.png(figure)


def _counts(axes: Axes, counts: Sequence[tuple[int, int]]) -> None:
    """``k of n`` beside each row."""
    for row, (part, among) in enumerate(counts):
        axes.annotate(
            f"{part} of {among}",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )


def _title(figure: Figure, text: str) -> None:
    """A title from the left edge of the figure: long class names leave the axes little width."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)
