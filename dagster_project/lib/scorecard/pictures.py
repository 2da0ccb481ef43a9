"""Pictures of a scorecard: recall by class, calibration, and what is answered how well.

Belongs: drawing a card, and the curves of its configurations.
Does not: counting (``measures``, ``calibration.reliability``), judging, the house style.
Concept: a panel a configuration, so that ten stay legible; sorted dots with interval and noise
band, never bars; shape beside colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.calibration.abstention import tied_counts
from dagster_project.lib.calibration.pictures import draw_before_after
from dagster_project.lib.calibration.summary import Forecasts
from dagster_project.lib.tiers.scored_rows import rank_of_truth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dagster_project.lib.scorecard.answers import Answers

MAX_CLASSES = 40
"""Of more classes the largest changes are drawn; all are in the table."""

MAX_POINTS = 600
MIN_COVERED = 0.02
"""A curve is drawn from here on: the first few answers say nothing of a rate."""

_NAME = 30
_GRID = 3
_BAND, _FLOOR = "#dddddd", "#c9b8d8"


class _Look(NamedTuple):
    marker: str
    colour: str
    words: str
    hollow: bool = False

    @property
    def face(self) -> str:
        return "white" if self.hollow else self.colour


_NOT_EXCLUDED = "a fall beyond the margin is not excluded\n(by its interval, or for few patients)"
_LOOKS: Mapping[str, _Look] = {
    "fallen": _Look("v", house.WRONG, "falls by more than the rule allows, beyond chance"),
    "unclear": _Look("o", house.POSSIBLE, _NOT_EXCLUDED, hollow=True),
    "risen": _Look("^", house.CERTIFIED, "rises beyond chance (Holm)"),
    "steady": _Look("o", house.CONFIDENT, "neither"),
}
_COLOURS = (house.CONFIDENT, house.WRONG, house.CERTIFIED, "#CC79A7", house.POSSIBLE, "#56B4E9")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_SHAPES = ("", "x", "+", "1", "2")
"""Of the configurations after the baseline, which is ink: a colour that comes again has a shape."""


def recall_change_png(card: Mapping[str, Any]) -> bytes:
    """Change of every class's recall, a panel a configuration, largest gain first.

    Parameters
    ----------
    card : of ``make_scorecard``. Without a comparison the picture says so.

    The grey band is what chance alone does to a class (by patient); that of the first row is what
    two runs of one recipe differ by.
    """
    if not card["comparisons"]:
        return _says("Only the baseline is here: nothing is compared.")
    names = list(card["comparisons"])
    panels = {name: _sorted_rows(card["comparisons"][name]["per_class"]) for name in names}
    most = max(len(rows) for rows in panels.values())
    columns = min(_GRID, len(names))
    height = math.ceil(len(names) / columns)
    figure = house.new_figure(1.4 + 4.1 * columns, 1.3 + height * (0.9 + 0.17 * (most + 1)))
    grid = figure.subplots(height, columns, squeeze=False, sharex=True).ravel()
    ends = _ends(card, panels)
    for axes, name in zip(grid, names, strict=False):
        _change_panel(axes, card, name, panels[name])
        axes.set_xlim(*ends)
        _cut(axes, panels[name], ends)
        axes.tick_params(axis="x", labelbottom=True, labelsize=8)
        axes.set_xlabel(f"points against {_short(card['baseline'])}", fontsize=8)
    for axes in grid[len(names) :]:
        axes.remove()
    _change_legend(figure, card, columns)
    left_out = len(card["classes"]) - most
    more = (
        f"\n{left_out} of {len(card['classes'])} classes have no image or are only in the table"
        if left_out
        else ""
    )
    figure.suptitle(f"Change of each class's recall (images of the class){more}", fontsize=10)
    return house.png(figure)


def reliability_png(card: Mapping[str, Any], answers: Answers) -> bytes:
    """Reliability of the top probability, as served and once tempered; a panel a configuration."""
    configs = card["configs"]
    columns = min(4, len(configs))
    height = math.ceil(len(configs) / columns)
    figure = house.new_figure(max(3.2 * columns, 4.6), 0.5 + 3.55 * height)
    grid = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    handles: dict[str, Any] = {}
    for axes, row in zip(grid, configs, strict=False):
        draw_before_after(axes, _forecasts(answers, row["config"]), row["temperature"])
        axes.set_title(_short(row["config"]), fontsize=9)
        axes.set_xlabel("largest probability", fontsize=8)
        axes.tick_params(labelbottom=True, labelsize=8)
        # a configuration without a temperature has fewer
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for axes in grid[len(configs) :]:
        axes.remove()
    for axes in grid[: len(configs) : columns]:
        axes.set_ylabel("share of images that are right", fontsize=8)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center",
                  ncols=1 if columns < 3 else 3, fontsize=8)  # fmt: skip
    return house.png(figure)


def operating_curves_png(card: Mapping[str, Any], answers: Answers) -> bytes:
    """Selective risk against coverage, all configurations in one plot, operating points marked."""
    configs = card["configs"]
    figure = house.new_figure(8.6, 4.8)
    axes = figure.add_subplot()
    top = 0.05
    looks = zip(
        itertools.cycle(_COLOURS),
        itertools.cycle(_DASHES),
        itertools.cycle(np.repeat(_SHAPES, len(_COLOURS)).tolist()),
        strict=False,
    )
    for row in configs:
        is_baseline = row["config"] == card["baseline"]
        colour, dash, shape = (house.INK, "-", "") if is_baseline else next(looks)
        x, risk = _curve(answers, row["config"])
        shape = shape if x.size > 1 else "*"  # equal scores throughout: a point is no line
        told = " (baseline)" if is_baseline and row["config"] != "baseline" else ""
        label = _short(row["config"]) + told
        axes.plot(x, risk, color=colour, linestyle=dash, label=label, marker=shape, markersize=5,
                  markevery=0.12, linewidth=2.0 if is_baseline else 1.3)  # fmt: skip
        top = max(top, float(risk.max(initial=0.0)))
        for side, marker in (("deployed", "o"), ("refitted", "D")):
            _point(axes, row[side], marker, colour)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.08 * top),
        xlabel="coverage: share of images with largest probability at or above the threshold",
        ylabel="selective risk: wrong / answered",
    )
    axes.set_title(f"Operating curves, {card['n']:,} images", fontsize=10)
    for side, marker in (("deployed", "o"), ("refitted", "D")):
        if any(_has_point(row[side]) for row in configs):
            axes.plot([], [], marker, color="white", markeredgecolor=house.INK, markersize=7,
                      label=f"at {side} thresholds")  # fmt: skip
    figure.legend(loc="outside right upper", fontsize=8)
    return house.png(figure)


def _sorted_rows(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes that have a change, largest gain first; the largest changes if they are too many."""
    known = [row for row in per_class if row["difference"]["estimate"] is not None]
    ordered = sorted(known, key=lambda row: (-row["difference"]["estimate"], row["name"]))
    if len(ordered) <= MAX_CLASSES:
        return ordered
    half = MAX_CLASSES // 2
    return [*ordered[:half], *ordered[-half:]]


def _ends(card: Mapping[str, Any], panels: Mapping[str, Any]) -> tuple[float, float]:
    """Of the x axis: every dot, and all but the longest intervals of tiny classes."""
    rows = [row["difference"] for found in panels.values() for row in found]
    limit = 1.3 * card["rule"]["recall_drop"]
    ends = []
    for side, sign in (("low", -1.0), ("high", 1.0)):
        dots = [sign * row["estimate"] for row in rows]
        lines = [sign * row[side] for row in rows if row[side] is not None]
        far = float(np.quantile(lines, 0.95)) if lines else 0.0
        ends.append(sign * 108 * max(limit, far, *dots))
    return ends[0], ends[1]


def _change_panel(
    axes: Any, card: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    judged = next(row for row in card["configs"] if row["config"] == name)
    axes.axvline(0, color=house.INK, linewidth=0.8)
    axes.axvline(-100 * card["rule"]["recall_drop"], color=house.WRONG, linestyle="--", linewidth=1)
    margin = card["rule"]["margins"]["recall"]
    if margin != card["rule"]["recall_drop"]:
        axes.axvline(-100 * margin, color=house.POSSIBLE, linestyle=":", linewidth=1.2)
    _summary_row(axes, card, name)
    reach = 100 * np.array([row["chance"] for row in rows])
    axes.hlines(np.arange(1, reach.size + 1), -reach, reach, color=_BAND, linewidth=6, zorder=1)
    kinds = [_kind(row, judged, card["rule"]["alpha"]) for row in rows]
    for kind, look in _LOOKS.items():
        at = [y for y, found in enumerate(kinds, start=1) if found == kind]
        _dots(axes, at, [rows[y - 1]["difference"] for y in at], look)
    labels = ["balanced accuracy", *(f"{_short(row['name'])} ({row['n']:,})" for row in rows)]
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_ylim(len(rows) + 0.6, -0.7)
    axes.axhline(0.5, color=house.INK, linewidth=0.5)
    axes.grid(visible=False, axis="y")
    # to the right, where a long name runs over the names of classes and not out of the picture
    axes.set_title(f"{_short(name)}: {judged['verdict']}", fontsize=9, loc="right")


def _cut(axes: Any, rows: Sequence[Mapping[str, Any]], ends: tuple[float, float]) -> None:
    """An arrow head where an interval goes on beyond the axis."""
    for key, end, marker, sign in (("low", ends[0], "<", -1), ("high", ends[1], ">", 1)):
        reached = [row["difference"][key] for row in rows]
        y = [
            at
            for at, value in enumerate(reached, start=1)
            if value is not None and sign * 100 * value > sign * end
        ]
        if y:
            axes.plot([end] * len(y), y, marker, color=house.INK, markersize=4, clip_on=False)


def _summary_row(axes: Any, card: Mapping[str, Any], name: str) -> None:
    found = card["comparisons"][name]
    reach = 100 * found["between_runs"]
    axes.hlines(0, -reach, reach, color=_FLOOR, linewidth=7, zorder=1)
    change = found["differences"]["balanced_accuracy"]
    if change["estimate"] is not None:
        _dots(axes, [0], [change], _Look("D", house.INK, ""), size=4.0)


def _dots(
    axes: Any, y: Sequence[int], changes: Sequence[Any], look: _Look, size: float = 5.5
) -> None:
    if y:  # an interval that is not there is NaN, and no line
        x, low, high = (
            100 * np.array([change[key] for change in changes], dtype=np.float64)
            for key in ("estimate", "low", "high")
        )
        axes.hlines(y, low, high, color=look.colour, linewidth=1.3)
        axes.plot(x, y, look.marker, color=look.colour, markerfacecolor=look.face,
                  markersize=size, zorder=3)  # fmt: skip


def _kind(row: Mapping[str, Any], judged: Mapping[str, Any], alpha: float) -> str:
    if row["name"] in judged["fallen"]:
        return "fallen"
    if row["name"] in judged["unclear"]:
        return "unclear"
    risen = row["p_holm"] is not None and row["p_holm"] < alpha
    return "risen" if risen and row["difference"]["estimate"] > 0 else "steady"


def _change_legend(figure: Figure, card: Mapping[str, Any], columns: int) -> None:
    from matplotlib.lines import Line2D

    rule = card["rule"]
    marks = [
        Line2D([], [], marker=look.marker, color=look.colour, linestyle="none",
               label=look.words, markerfacecolor=look.face)
        for look in _LOOKS.values()
    ]  # fmt: skip
    lines = [
        Line2D([], [], color=house.CONFIDENT, linewidth=1.3,
               label="95 % of the change, by patient (approximate)"),
        Line2D([], [], color=_BAND, linewidth=6, label="95 % by chance alone, by patient"),
        Line2D([], [], color=house.WRONG, linestyle="--",
               label=f"the rule: a fall by {100 * rule['recall_drop']:g} points"),
    ]  # fmt: skip
    if rule["margins"]["recall"] != rule["recall_drop"]:
        words = f"margin: {100 * rule['margins']['recall']:g} points"
        lines.append(Line2D([], [], color=house.POSSIBLE, linestyle=":", label=words))
    seeds = "95 % between two runs of one recipe (seeds)"
    lines.append(Line2D([], [], color=_FLOOR, linewidth=7, label=seeds))
    figure.legend(
        handles=[*marks, *lines], loc="outside lower center", ncols=max(1, columns), fontsize=8
    )


def _forecasts(answers: Answers, config: str) -> Forecasts:
    probs = answers.probs[config]
    return Forecasts(
        score=probs.max(axis=1).astype(np.float64),
        correct=rank_of_truth(probs, answers.true) == 0,
        patient=answers.patient,
        known=answers.patients_known,
    )


def _curve(answers: Answers, config: str) -> tuple[Any, Any]:
    """Coverage and selective risk at every distinct score, thinned for drawing."""
    top = _forecasts(answers, config)
    n, wrong = tied_counts(top.score, top.correct)
    coverage, risk = n / n[-1], wrong / n
    first = min(int(np.searchsorted(coverage, MIN_COVERED)), n.size - 1)
    step = max(1, (n.size - first) // MAX_POINTS)
    keep = sorted({*range(first, n.size, step), n.size - 1})
    return coverage[keep], risk[keep]


def _has_point(found: Mapping[str, Any] | None) -> bool:
    return bool(found and found.get("coverage"))


def _point(axes: Any, found: Mapping[str, Any] | None, marker: str, colour: str) -> None:
    if found is not None and _has_point(found):
        x = found["coverage"]
        axes.plot(x, found["confident_wrong"] / x, marker, color="white", markeredgecolor=colour,
                  markeredgewidth=1.6, markersize=7, zorder=4, clip_on=False)  # fmt: skip


def _says(words: str) -> bytes:
    figure = house.new_figure(6.0, 1.2)
    figure.text(0.5, 0.5, words, ha="center", va="center", color=house.INK)
    return house.png(figure)


def _short(name: str) -> str:
    short = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    return " ".join(short.split()).replace("$", r"\$")  # no formula
