"""Pictures of a roll-up: the tree with what is said at each node, and what accuracy costs.

Belongs: drawing a report of ``report.make_report`` that has an evaluation.
Does not: counting (``groups``, ``specificity``, ``rules``), the house style.
Concept: a node's colour is its accuracy, its size its share, and both stand beside it as text; a
node that says nothing is an empty ring, one with too few patients a pale diamond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.tiers.per_class import MIN_SHOWN_PATIENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

MAX_LEAVES = 80
"""Of a taxonomy over more classes only the coarser ranks are drawn; all are in the tables."""

_NAME = 38
_LEAST, _AREA = 14.0, 420.0
_BAND, _TOO_FEW = "#dbe6f2", "#dddddd"
_RULES: Mapping[str, tuple[str, str]] = {
    "leaf": ("s", house.INK),
    "lineage": ("o", house.CONFIDENT),
    "distribution": ("^", house.WRONG),
    "antenna": ("v", house.POSSIBLE),
    "speciesnet": ("P", house.CERTIFIED),
    "climbing": ("X", "#CC79A7"),
    "darts": ("D", "#56B4E9"),
}

_LEGEND = (
    "share of the images placed there that are right; size of a dot: how many are\n"
    f"ring: nothing is said there; grey diamond: fewer than {MIN_SHOWN_PATIENTS} patients, "
    "too few for a share"
)

Report = Mapping[str, Any]


def tree_png(report: Report) -> bytes:
    """The taxonomy, coarsest rank on the left: what is said where, and how often it is right."""
    masked = _masked(report)
    found = {
        row["node"]: {**row, "masked": row["node"] in masked}
        for row in report["evaluation"]["by_node"]
    }
    ranks, lineages = _drawn(report["taxonomy"])
    heights = _heights(lineages)
    figure = house.new_figure(1.0 + 2.9 * len(ranks), 1.8 + 0.34 * len(lineages))
    axes = figure.add_subplot()
    colours = _colours(found)
    most = max(row["share"] for row in found.values()) or 1.0
    for column in range(len(ranks) - 1):
        for low, high in sorted({(line[column], line[column + 1]) for line in lineages}):
            _edge(axes, (column, heights[low]), (column + 1, heights[high]), len(ranks))
    for column, rank in enumerate(ranks):
        x = len(ranks) - 1 - column
        for node in dict.fromkeys(line[column] for line in lineages):
            _draw_node(axes, (x, heights[node]), found[node], colours, most)
        axes.text(x, -1.3, _heading(report, rank), fontsize=9, ha="left", va="bottom")
    axes.set(xlim=(-0.06, len(ranks) - 0.05), ylim=(len(lineages) - 0.4, -1.9))
    axes.set_axis_off()
    bar = figure.colorbar(colours, ax=axes, location="bottom", aspect=50, shrink=0.5, pad=0.01)
    bar.set_label(_LEGEND, fontsize=8)
    figure.suptitle(_title(report, "what is said at each node of"), fontsize=10)
    return house.png(figure)


def curve_png(report: Report) -> bytes:
    """Accuracy, and mistakes among all images, against how much is said; all rules marked."""
    evaluation, rules = report["evaluation"], report["rules"]
    figure = house.new_figure(10.4, 4.9)
    left, right = figure.subplots(1, 2)
    for axes, key in ((left, "accuracy"), (right, "wrong")):
        _curve(axes, evaluation["curve"], key)
        for row in rules:
            _point(axes, row, key)
        axes.set_xlabel("specificity: 1 says a class, 0 says nothing (mean over all images)")
    rates = [row["accuracy"]["rate"] for row in (*evaluation["curve"], *rules)]
    left.set_ylim(min((x for x in rates if x is not None), default=0.0) - 0.05, 1.02)
    left.set_ylabel("accuracy: right, of the images that are placed")
    right.set_ylabel("placed and wrong, of all images")
    target = _target(report)
    if target is not None:
        right.axhline(target, color=house.WRONG, linestyle="--", linewidth=1, label="the target")
    handles: dict[str, Any] = {}
    for axes in (left, right):
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(_title(report, "accuracy against specificity,"), fontsize=10)
    return house.png(figure)


def _drawn(taxonomy: Report) -> tuple[list[str], list[tuple[str, ...]]]:
    """Ranks that are drawn, and one lineage a finest node, siblings beside each other."""
    first = 0 if len(taxonomy["lineages"]) <= MAX_LEAVES or len(taxonomy["ranks"]) == 1 else 1
    seen = {name: at for at, line in enumerate(taxonomy["lineages"]) for name in reversed(line)}
    lines = {tuple(line[first:]) for line in taxonomy["lineages"]}
    order = {name: at for at, name in enumerate(dict.fromkeys(seen))}
    lineages = sorted(lines, key=lambda line: [order[name] for name in reversed(line)])
    return taxonomy["ranks"][first:], lineages


def _heights(lineages: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """Where each node stands: a finest one in its row, the others amid theirs."""
    rows: dict[str, list[float]] = {}
    for at, line in enumerate(lineages):
        for name in line:
            rows.setdefault(name, []).append(float(at))
    return {name: sum(at) / len(at) for name, at in rows.items()}


def _masked(report: Report) -> set[str]:
    """Nodes that may never be said: every class under them is excluded."""
    mask, classes = report["config"]["mask"] or {}, report["classes"]
    include = classes if mask.get("include") is None else mask["include"]
    allowed = set(include) - set(mask.get("exclude") or ())
    lines = report["taxonomy"]["lineages"]
    said = {name for line in lines if line[0] in allowed for name in line}
    return {name for line in lines for name in line} - said


def _colours(found: Mapping[str, Any]) -> ScalarMappable:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rates = [rate for row in found.values() if (rate := _accuracy(row)) is not None]
    low = min(0.5, np.floor(10 * min(rates, default=0.5)) / 10)
    return ScalarMappable(Normalize(low, 1.0), "cividis")


def _accuracy(row: Report) -> float | None:
    return None if row["accuracy"] is None else row["accuracy"]["rate"]


def _edge(axes: Axes, low: tuple[float, float], high: tuple[float, float], n_ranks: int) -> None:
    """From a node (column from the finest, height) to its parent, in two corners."""
    x, parent = n_ranks - 1 - low[0], n_ranks - 1 - high[0]
    bend = x - 0.06
    axes.plot([parent, bend, bend, x], [high[1], high[1], low[1], low[1]],
              color="#cccccc", linewidth=0.8, zorder=1)  # fmt: skip


def _draw_node(
    axes: Axes, at: tuple[float, float], row: Report, colours: ScalarMappable, most: float
) -> None:
    rate = _accuracy(row)
    area = _LEAST + _AREA * row["share"] / most
    face: Any = _TOO_FEW if row["n"] else "white"
    if rate is not None:
        face = colours.to_rgba(np.array(rate))
    shape = "D" if row["n"] and rate is None else "o"
    axes.scatter(
        *at, s=area, marker=shape, color=[face], edgecolors=house.INK, linewidths=0.7, zorder=3
    )
    told = "masked" if row["masked"] else "nothing"
    if row["n"]:
        told = f"{100 * row['share']:.1f} % of images"
        told += ", too few" if rate is None else f", {100 * rate:.0f} % right"
    text = axes.annotate(
        f"{_short(row['node'])}\n{told}", at, (4 + np.sqrt(area) / 2, 0),
        textcoords="offset points", fontsize=7, va="center", linespacing=1.3, zorder=2,
        color=house.INK if row["n"] else "#777777",
    )  # fmt: skip
    text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _heading(report: Report, rank: str) -> str:
    row = next(row for row in report["evaluation"]["by_rank"] if row["rank"] == rank)
    share, accuracy = row["share"]["rate"], row["accuracy"]["rate"]
    right = "" if accuracy is None else f", {100 * accuracy:.1f} % right"
    at = row["threshold"]
    said = "never said" if at is None and not row["n"] else f"{100 * share:.1f} % said here{right}"
    return f"{_short(rank)}{'' if at is None else f', from {at:.3f}'}\n{said}"


def _curve(axes: Axes, points: Sequence[Report], key: str) -> None:
    known = [row for row in points if row[key]["rate"] is not None]
    x = [row["specificity"]["mean"] for row in known]
    ends = [row[key]["ci95"] or [row[key]["rate"]] * 2 for row in known]
    axes.fill_between(x, [low for low, _ in ends], [high for _, high in ends],
                      color=_BAND, linewidth=0, label="95 %, by patient, pointwise")  # fmt: skip
    axes.plot(x, [row[key]["rate"] for row in known], color=house.CONFIDENT, linewidth=1.4,
              marker=".", markersize=3, label="this roll-up along its own dial")  # fmt: skip


def _point(axes: Axes, row: Report, key: str) -> None:
    if row[key]["rate"] is None:
        return
    marker, colour = _RULES[row["rule"]]
    hollow = row["at"] == "matched"
    at = "" if row["parameter"] is None else f" {row['parameter']:g}"
    how = {"matched": ", matched", "published": ", as published"}.get(row["at"], "")
    own = " (this one)" if row["own"] else ""
    axes.plot(
        row["specificity"]["mean"], row[key]["rate"], marker, color=colour,
        markersize=13 if row["own"] else 7,
        markerfacecolor="white" if hollow else colour, markeredgewidth=1.4, linestyle="none",
        zorder=4 if row["own"] else 5, label=f"{row['rule']}{at}{how}{own}",
    )  # fmt: skip


def _target(report: Report) -> float | None:
    return None if report["fit"] is None else report["fit"]["certificate"]["target"]


def _title(report: Report, what: str) -> str:
    taxonomy = report["taxonomy"]
    warning = "" if taxonomy["validated"] else "\nNOT CLINICALLY VALIDATED"
    said = f"{what} {_short(taxonomy['name'])}: {report['n_judged']:,} images"
    return said[0].upper() + said[1:] + warning


def _short(name: str) -> str:
    short = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    return " ".join(short.split()).replace("$", r"\$")  # no formula
