"""Pictures of label versions: the training set by class before and after, thresholds over versions.

Belongs: drawing the tables of ``manifest`` and ``history``.
Does not: counting.
Concept: dots and their connecting line, never bars; before is hollow, after is filled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES = 40
MAX_VERSIONS = 30

_COLUMNS = {
    "before": "before",
    "moved\naway": "relabelled_away",
    "moved\nhere": "relabelled_to",
    "dropped": "dropped",
    "after": "after",
}
_LINES = (
    ("confident", pictures.CONFIDENT, "o"),
    ("refer", pictures.REFER, "^"),
    ("possible_item", pictures.POSSIBLE, "s"),
)


def class_counts_png(counts: pl.DataFrame) -> bytes:
    """PNG of the training rows of each class before and after, most frequent first.

    ``counts`` : of ``manifest.class_counts``.
    """
    drawn = counts.head(MAX_CLASSES)
    n, rows = drawn.height, range(drawn.height)
    before, after = drawn["before"].to_list(), drawn["after"].to_list()
    figure = pictures.new_figure(8.8, 1.6 + 0.24 * max(n, 1))
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[1.3, 1])
    axes.hlines(rows, before, after, color=pictures.REFER, lw=2)
    axes.plot(before, rows, "o", color=pictures.INK, markerfacecolor="white", ms=6, label="before")
    axes.plot(after, rows, "o", color=pictures.CONFIDENT, ms=4, label="after")
    _numbers(beside, drawn)
    axes.set_yticks(rows, drawn["class"].to_list())
    axes.set_ylim(max(n, 1) - 0.5, -1.0)
    axes.set_xlim(0, max([1, *before, *after]) * 1.06)
    axes.set_xlabel("rows to train on")
    figure.legend(loc="outside lower right", ncols=2, fontsize=8)
    more = f"; {counts.height - n} rarer classes not shown" if counts.height > n else ""
    title = f"Training rows by class, before and after the reviews{more}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return pictures.png(figure)


def _numbers(axes: Axes, drawn: pl.DataFrame) -> None:
    """The same numbers in words: a column each, in the rows of the dots."""
    axes.axis("off")
    axes.set_xlim(0, len(_COLUMNS))
    for at, (heading, column) in enumerate(_COLUMNS.items(), start=1):
        for row, text in [(-1.1, heading), *((i, f"{n:,}") for i, n in enumerate(drawn[column]))]:
            axes.text(at, row, text, ha="right", va="center", fontsize=8)


def history_png(history: pl.DataFrame) -> bytes:
    """PNG of the three thresholds after each label version, oldest left.

    ``history`` : of ``history.history_table``; the last :data:`MAX_VERSIONS` are drawn.
    """
    drawn = history.tail(MAX_VERSIONS)
    at = range(drawn.height)
    figure = pictures.new_figure(max(5.0, 2.5 + 0.35 * drawn.height), 3.6)
    axes = figure.add_subplot()
    for name, colour, marker in _LINES:
        values = drawn[f"{name}_after"].to_list()
        axes.plot(at, values, marker=marker, color=colour, ms=5, lw=1.2)
        if values:
            text = f"{name} {values[-1]:.3f}"
            last = (drawn.height - 1, values[-1])
            axes.annotate(text, last, (8, 0), textcoords="offset points", va="center", fontsize=8)
    for row in range(1, drawn.height):
        if drawn["model"][row] != drawn["model"][row - 1]:
            axes.axvline(row - 0.5, color=pictures.INK, lw=0.8, ls="--")
            axes.annotate("new model", (row - 0.46, 0.02), fontsize=7, rotation=90)
    names = [
        f"{version[:8]}\n{time[:10]}"
        for version, time in drawn.select("label_version", "time").rows()
    ]
    axes.set_xticks(at, names, fontsize=7, rotation=45 if drawn.height > 6 else 0)
    axes.set_xlim(-0.5, drawn.height + max(0.8, 0.15 * drawn.height))
    axes.set_ylim(0, 1)
    axes.set_xlabel("label version")
    axes.set_ylabel("threshold")
    left = history.height - drawn.height
    more = f" (the last {drawn.height} of {history.height})" if left else ""
    figure.suptitle(f"Thresholds over label versions{more}", x=0.01, ha="left", fontsize=10)
    return pictures.png(figure)
