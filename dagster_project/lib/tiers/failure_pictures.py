"""Pictures of where it fails: dots by class and by subgroup, with intervals and n.

Belongs: drawing the tables of ``per_class`` and ``subgroups``.
Does not: counting, suppressing (a null in the table is a word in the picture).
Concept: sorted dots with intervals, never bars: a rate without its uncertainty is not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.tiers.per_class import TOO_FEW_PATIENTS

if TYPE_CHECKING:
    import polars as pl

MAX_ROWS = 60
"""More classes or groups than fit a page are left to the table, and their number is written."""

_NAME = 34
_CAPTION = (
    f"lines: 95 % by patient, approximate; hollow: under {TOO_FEW_PATIENTS} patients, "
    "the line may go on"
)


def per_class_png(table: pl.DataFrame) -> bytes:
    """Recall by true class, and wrong share by confidently predicted class.

    Parameters
    ----------
    table : rows of ``per_class``, at least one; drawn best recall first, no recall last.
    """
    ordered = table.sort("recall", "class", descending=[True, False], nulls_last=True)
    names = [f"{_short(row['class'])} ({row['n']:,})" for row in ordered.iter_rows(named=True)]
    panels = [
        ("recall", "recall: right / images of the class", house.CONFIDENT, "o"),
        ("confident_wrong_predicted", "wrong / confidently called so", house.WRONG, "s"),
    ]
    return _dots(ordered, names, panels, "By class (images), worst recall last")


def subgroups_png(table: pl.DataFrame) -> bytes:
    """Coverage, confident-wrong share and refer share of each group, in the table's order.

    Parameters
    ----------
    table : rows of ``subgroup_table``, at least one.
    """
    names = [
        f"{_short(row['column'] + ': ' + row['group'])} ({row['n']:,})"
        for row in table.iter_rows(named=True)
    ]
    panels = [
        ("coverage", "confident / group", house.CONFIDENT, "o"),
        ("confident_wrong", "confident and wrong / group", house.WRONG, "s"),
        ("refer_share", "referred / group", house.REFER, "^"),
    ]
    return _dots(table, names, panels, "By subgroup (images)")


def _dots(
    table: pl.DataFrame, names: list[str], panels: list[tuple[str, str, str, str]], title: str
) -> bytes:
    left = max(0, table.height - MAX_ROWS)
    table, names = table.head(MAX_ROWS), names[:MAX_ROWS]
    figure = house.new_figure(3.0 + 2.4 * len(panels), 1.5 + 0.2 * len(names))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (column, label, colour, marker) in zip(axes, panels, strict=True):
        _panel(panel, table, column, (colour, marker))
        panel.set_xlabel(label, fontsize=8)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    if "column" in table.columns:
        new = table["column"].rle_id().diff().fill_null(0).to_numpy().nonzero()[0]
        for panel in axes:
            for at in new:
                panel.axhline(at - 0.5, color=house.INK, linewidth=0.5)
    figure.suptitle(title + (f"; {left} more in the table" if left else ""), fontsize=10)
    figure.supxlabel(_CAPTION, fontsize=8)
    return house.png(figure)


def _panel(axes: Any, table: pl.DataFrame, column: str, style: tuple[str, str]) -> None:
    colour, marker = style
    rate = table[column].fill_null(float("nan")).to_numpy()
    low = table[f"{column}_low"].fill_null(float("nan")).to_numpy()
    high = table[f"{column}_high"].fill_null(float("nan")).to_numpy()
    few = table["too_few"].to_numpy()
    if column == "confident_wrong_predicted":  # these rows are not the ones that make the class
        few = (table["n_patients_predicted_confident"] < TOO_FEW_PATIENTS).to_numpy()
    y = np.arange(len(rate))
    axes.hlines(y, low, high, color=colour, linewidth=1.4)
    for which, face in ((~few, colour), (few, "white")):
        axes.plot(rate[which], y[which], marker, color=colour, markerfacecolor=face, markersize=4.5)
    # the long lines of small groups must not squeeze all others
    top = float(np.nanmax([0.05, *high[~few], *rate]))
    right = 1.0 if top > 0.6 else top * 1.1
    for at in y[np.isnan(rate)]:
        axes.text(0.02 * right, at, "too few", fontsize=7, va="center", color=house.INK)
    axes.set_xlim(-0.02 * right, 1.02 * right)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
