"""Drawings of the page as SVG text: the curve, the reliability diagram, dots with intervals.

Belongs: scales, axes and marks.
Does not: choosing what is shown (``sections``), numbers of its own.
Concept: attributes only, never a style attribute, which the page's security policy forbids; colour
always with a shape or a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from dagster_project.lib import pictures as house
from dagster_project.lib.release.report_page.parts import fixed, percent, threshold
from dagster_project.lib.release.report_page.slider import SIDES, Grid, Pin, counts_at
from dagster_project.lib.tiers.thresholds import GRID

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.policy import TierPolicy

WIDTH = 400
LEFT = 62
MAX_POINTS = 500
LEGEND_LINE = 20
BAR_ROOM = 0.22
"""Share of the bar that a tier's name needs on a phone."""
GREY = "#dddddd"
FAINT = "#666666"
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
_SHAPES = {
    "deployed": ("M0-7 7 0 0 7-7 0Z", "#ffffff", house.INK),
    "fitted": ("M-7 0A7 7 0 1 0 7 0A7 7 0 1 0-7 0Z", "#ffffff", house.CONFIDENT),
    "released": ("M-4-4H4V4H-4Z", house.CONFIDENT, house.CONFIDENT),
    "certified": ("M0-7 7 6H-7Z", house.INK, "#ffffff"),
}


@dataclass(frozen=True)
class Plot:
    """The rectangle of an axes pair inside a drawing, and its ranges; y grows upwards."""

    left: float
    top: float
    width: float
    height: float
    x_max: float = 1.0
    y_max: float = 1.0

    def x(self, value: float) -> float:
        """Horizontal position."""
        return self.left + self.width * value / self.x_max

    def y(self, value: float) -> float:
        """Vertical position."""
        return self.top + self.height * (1 - value / self.y_max)

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height


def tag(name: str, *inner: str | Markup, **attributes: str | float | None) -> Markup:
    """One SVG element; text and attribute values are escaped, ``_`` in names becomes ``-``."""
    given = Markup().join(
        Markup(' {}="{}"').format(
            {"viewBox": "viewBox"}.get(key, key.rstrip("_").replace("_", "-")), _short(value)
        )
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, given, Markup().join(inner))


def _short(value: str | float | None) -> str | None:
    if not isinstance(value, float):
        return None if value is None else str(value)
    text = fixed(value, 2)
    return text.rstrip("0").rstrip(".")


def _text(x: float, y: float, words: str, anchor: str = "start", **more: str | float) -> Markup:
    return tag("text", words, x=x, y=y, text_anchor=anchor, **more)


def mark(kind: str) -> Markup:
    """The shape of a pinned point, around 0, 0."""
    path, fill, stroke = _SHAPES[kind]
    return tag("path", d=path, fill=fill, stroke=stroke, stroke_width=1.5)


def key_mark(kind: str) -> Markup:
    """The same shape as a small picture beside a word."""
    return tag(
        "svg", mark(kind), viewBox="-9 -9 18 18", width=18, height=18, class_="key",
        aria_hidden="true",
    )  # fmt: skip


# The curve


def curve_svg(
    curve: pl.DataFrame, pinned: Sequence[Pin], policy: TierPolicy
) -> tuple[Markup, Plot]:
    """Selective risk against coverage, targets dashed, pinned points, and markers to be moved.

    The line has at most 500 points: grid thresholds, thinned evenly, and every pinned one.
    """
    shown = [pin for pin in pinned if pin.side == "confident"]
    keys, at = _thinned(curve, pinned)
    total = at.total
    answered = at.n > 0
    coverage = at.n[answered] / total
    risk = (at.n - at.top1)[answered] / at.n[answered]
    settled = risk[coverage >= min(0.02, coverage.max())]
    top = LEGEND_LINE * ((len(shown) + 3) // 2) + 10
    y_max = max(0.01, 1.12 * float(settled.max()))
    plot = Plot(LEFT, top, WIDTH - LEFT - 14, 250, y_max=y_max)
    line = " ".join(
        f"{fixed(plot.x(x), 1)},{fixed(plot.y(min(y, 2 * y_max)), 1)}"
        for x, y in zip(coverage, risk, strict=True)
    )
    inner = [
        _axes(plot, "coverage: answered / all images", "selective risk: wrong / answered"),
        tag("polyline", points=line, fill="none", stroke=house.INK, stroke_width=1.8,
            clip_path="url(#inside)"),
        *_targets(plot, policy),
        *_pinned_points(plot, shown, at, keys),
        *_legend(shown),
        *(_marker(side) for side in ("refer", "confident")),
    ]  # fmt: skip
    clip = tag("clipPath", _box(plot), id="inside")
    svg = tag(
        "svg", tag("defs", clip), *inner,
        viewBox=f"0 0 {WIDTH} {int(plot.bottom + 46)}", class_="plot", role="img",
        aria_label="Risk-coverage curve; its numbers are in the table of pinned thresholds",
    )  # fmt: skip
    return svg, plot


def _thinned(curve: pl.DataFrame, pinned: Sequence[Pin]) -> tuple[Any, Grid]:
    """(V,) thresholds, falling, and the counts there; the last one is 0 and counts all rows."""
    own = np.array([pin.value for pin in pinned])
    grid = np.arange(GRID + 1) / GRID
    counts = counts_at(curve, grid)
    new = np.flatnonzero(np.diff(counts.n, prepend=-1))  # thresholds between which nothing changes
    room = MAX_POINTS - own.size - 1
    even = np.unique(np.linspace(0, new.size - 1, min(room, new.size)).round().astype(int))
    keys = np.unique(np.concatenate([[0.0], own, grid[new[even]]]))
    at = counts_at(curve, keys)
    return keys, at


def _pinned_points(plot: Plot, shown: Sequence[Pin], at: Grid, keys: Any) -> list[Markup]:
    """The pinned points; where nothing is answered there is no risk and no point."""
    drawn = []
    for pin in shown:
        index = int(np.searchsorted(keys, pin.value))
        n, top1 = int(at.n[index]), int(at.top1[index])
        if n:
            x, y = plot.x(n / at.total), plot.y(min((n - top1) / n, plot.y_max))
            drawn.append(_moved(mark(pin.kind), x, y))
    return drawn


def _legend(shown: Sequence[Pin]) -> list[Markup]:
    """Shape and words, two a line: points that lie close together need no labels of their own."""
    entries: list[tuple[Markup, str, str | None]]
    entries = [(mark(pin.kind), f"{pin.kind} {threshold(pin.value)}", None) for pin in shown]
    entries += [(_marker_shape(side), f"slider, {side}", "marker") for side in SIDES]
    drawn = []
    for index, (shape, words, class_) in enumerate(entries):
        x, y = LEFT + 10 + 165 * (index % 2), 12 + LEGEND_LINE * (index // 2)
        drawn.append(tag("g", _moved(shape, x, y), _text(x + 14, y + 4, words), class_=class_))
    return drawn


def _moved(shape: Markup, x: float, y: float) -> Markup:
    return tag("g", shape, transform=f"translate({fixed(x, 1)} {fixed(y, 1)})")


def _bounds(policy: TierPolicy) -> tuple[list[float], list[float]]:
    """What may be wrong at most: shares of all images, and shares of what is answered."""
    rule, accept = policy.confident, policy.accept
    of_all = {accept.confident_wrong_share}
    of_answered = {None if accept.covered_top1 is None else 1 - accept.covered_top1}
    if rule.rule == "confident_wrong_share":
        of_all.add(rule.target)
    if rule.rule == "covered_top1":
        of_answered.add(1 - rule.target)
    return sorted(v for v in of_all if v is not None), sorted(
        v for v in of_answered if v is not None
    )


def dashed_words(policy: TierPolicy) -> list[str]:
    """What the dashed lines are."""
    of_all, of_answered = _bounds(policy)
    found = [f"{percent(v)} of all images confident and wrong (curved)" for v in of_all]
    found += [f"{percent(v)} of confident answers wrong (level)" for v in of_answered]
    if policy.confident.rule == "coverage":
        found.append(f"{percent(policy.confident.target)} answered")
    return found


def _targets(plot: Plot, policy: TierPolicy) -> list[Markup]:
    """The policy's bounds, dashed; one on k/N is a hyperbola over n/N, one on k/n is level."""
    of_all, of_answered = _bounds(policy)
    drawn = []
    for target in of_answered:
        path = f"M{plot.left} {fixed(plot.y(target), 1)}H{plot.left + plot.width}"
        drawn.append(_dashed(path, "8 4"))
    for target in of_all:
        xs = np.linspace(max(target / plot.y_max / 2, 0.002), 1, 120)
        path = "M" + " ".join(
            f"{fixed(plot.x(x), 1)} {fixed(plot.y(target / x), 1)}" for x in xs.tolist()
        )
        drawn.append(_dashed(path, "3 4"))
    if policy.confident.rule == "coverage":
        path = f"M{fixed(plot.x(policy.confident.target), 1)} {plot.top}V{plot.bottom}"
        drawn.append(_dashed(path, "8 4"))
    return drawn


def _dashed(path: str, dash: str) -> Markup:
    return tag(
        "path", d=path, fill="none", stroke=house.WRONG, stroke_width=1.8,
        stroke_dasharray=dash, clip_path="url(#inside)",
    )  # fmt: skip


def _marker_shape(side: str) -> Markup:
    if side == "confident":
        return tag("circle", r=6, fill=house.CONFIDENT, stroke="#ffffff", stroke_width=2)
    return tag("rect", x=-6, y=-6, width=12, height=12, fill=house.REFER, stroke=house.INK)


def _marker(side: str) -> Markup:
    """A point that the script moves; nothing without it, and nothing in print."""
    return tag("g", _marker_shape(side), id=f"marker-{side}", class_="marker", display="none")


def _axes(plot: Plot, x_words: str, y_words: str) -> Markup:
    """Grid lines, numbers at both axes and their names."""
    step = next((s for s in _STEPS if plot.y_max / s <= 6), 1.0)
    parts = []
    for i in range(int(plot.y_max / step + 1e-9) + 1):
        y = plot.y(i * step)
        parts += [
            tag("path", d=f"M{plot.left} {fixed(y, 1)}H{plot.left + plot.width}", stroke=GREY),
            _text(plot.left - 6, y + 4, f"{100 * i * step:g} %", "end"),
        ]
    for i in range(6):
        x = plot.x(0.2 * i)
        parts += [
            tag("path", d=f"M{fixed(x, 1)} {plot.bottom}v5", stroke=FAINT),
            _text(x, plot.bottom + 18, f"{0.2 * i:g}", "middle"),
        ]
    middle = plot.top + plot.height / 2
    parts += [
        tag("path", d=f"M{plot.left} {plot.bottom}H{plot.left + plot.width}", stroke=FAINT),
        _text(plot.left + plot.width / 2, plot.bottom + 38, x_words, "middle"),
        _text(0, 0, y_words, "middle", transform=f"translate(11 {fixed(middle, 1)}) rotate(-90)"),
    ]
    return Markup().join(parts)


def _box(plot: Plot) -> Markup:
    return tag("rect", x=plot.left, y=plot.top, width=plot.width, height=plot.height)


# Reliability


def reliability_svg(bins: Sequence[Mapping[str, Any]], grid: Grid) -> Markup:
    """Equal-mass bins with intervals in a square, the diagonal dashed, and the scores below."""
    side = WIDTH - LEFT - 14
    plot = Plot(LEFT, 10, side, side)
    low = Plot(LEFT, plot.bottom + 34, plot.width, 60)
    parts = [_square(plot)]
    for item in bins:
        if item.get("mean_score") is None or item.get("accuracy") is None:
            continue
        x, y = plot.x(item["mean_score"]), plot.y(item["accuracy"])
        if item.get("low") is not None and item.get("high") is not None:
            parts.append(_whisker(x, plot.y(item["high"]), plot.y(item["low"])))
        parts.append(tag("circle", cx=x, cy=y, r=4.5, fill=house.CONFIDENT, stroke="#ffffff"))
    edges = grid.n[:: GRID // 20]
    height = edges[:-1] - edges[1:]
    height[-1] += edges[-1]  # a score of 1 belongs to the highest of the 20
    for index, value in enumerate(height.tolist()):
        share = value / max(int(height.max()), 1)
        parts.append(
            tag("rect", x=low.x(index / 20) + 0.5, y=low.y(share), height=low.height * share,
                width=low.width / 20 - 1, fill="#56B4E9")
        )  # fmt: skip
    parts += [
        tag("path", d=f"M{low.left} {low.bottom}H{low.left + low.width}", stroke=FAINT),
        _text(low.left - 6, low.top + 10, f"{int(height.max()):,}", "end"),
        _text(low.left - 6, low.bottom + 2, "0", "end"),
        _text(low.left + low.width / 2, low.bottom + 20, "score, images per 0.05", "middle"),
    ]
    return tag(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {int(low.bottom + 28)}", class_="plot", role="img",
        aria_label="Reliability diagram; its numbers are in the table below",
    )  # fmt: skip


def _square(plot: Plot) -> Markup:
    parts = []
    for i in range(6):
        value = 0.2 * i
        parts += [
            tag("path", d=f"M{plot.left} {fixed(plot.y(value), 1)}H{plot.left + plot.width}",
                stroke=GREY),
            _text(plot.left - 6, plot.y(value) + 4, f"{value:g}", "end"),
            _text(plot.x(value), plot.bottom + 18, f"{value:g}", "middle"),
        ]  # fmt: skip
    middle = plot.top + plot.height / 2
    parts += [
        tag("path", d=f"M{plot.left} {plot.bottom}L{plot.left + plot.width} {plot.top}",
            stroke=FAINT, stroke_dasharray="6 4"),
        _text(0, 0, "share right", "middle", transform=f"translate(11 {middle}) rotate(-90)"),
    ]  # fmt: skip
    return Markup().join(parts)


def _whisker(x: float, high: float, low: float) -> Markup:
    path = f"M{fixed(x - 3, 1)} {fixed(high, 1)}h6m-3 0V{fixed(low, 1)}m-3 0h6"
    return tag("path", d=path, stroke=house.CONFIDENT, stroke_width=1.5, fill="none")


# Dots, one a row of a table


def dot_svg(
    value: float | None,
    limits: tuple[float, float] | None,
    *,
    reference: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Markup:
    """A value on a line from ``low`` to ``high`` with its interval; the reference is dashed."""
    width, height = 170, 22

    def x(at: float) -> float:
        return 8 + (width - 16) * (min(max(at, low), high) - low) / ((high - low) or 1.0)

    parts = [tag("path", d=f"M8 {height / 2}H{width - 8}", stroke=GREY)]
    if reference is not None:
        parts.append(
            tag("path", d=f"M{fixed(x(reference), 1)} 0V{height}", stroke=FAINT,
                stroke_dasharray="3 3")
        )  # fmt: skip
    if limits is not None:
        ends = [fixed(x(limit), 1) for limit in limits]
        path = f"M{ends[0]} 7v8m0-4H{ends[1]}m0-4v8"
        parts.append(tag("path", d=path, stroke=house.CONFIDENT, stroke_width=2, fill="none"))
    if value is not None:
        parts.append(tag("circle", cx=x(value), cy=11, r=4, fill=house.CONFIDENT, stroke="#ffffff"))
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", width=width, height=height,
        aria_hidden="true",
    )  # fmt: skip


# The bar of the three tiers


def bar_parts(shown: Mapping[str, float | None]) -> list[dict[str, str]]:
    """Rectangles of the stacked bar in per cent of its width, left to right, as the script does.

    ``middle`` is where the tier's name goes, empty where it has no room.
    """
    left, parts = 0.0, []
    wrong = shown["wrong"] or 0.0
    for tier in ("confident", "possible", "refer"):
        share = shown[tier] or 0.0
        free = share - wrong if tier == "confident" else share
        middle = "" if free < BAR_ROOM else _of_width(left + free / 2)
        place = {"x": _of_width(left), "width": _of_width(share), "middle": middle}
        parts.append({"tier": tier, **place})
        left += share
    end = shown["confident"] or 0.0
    last = {"tier": "wrong", "x": _of_width(end - wrong), "width": _of_width(wrong), "middle": ""}
    return [*parts, last]


def _of_width(share: float) -> str:
    return f"{fixed(100 * share, 3)}%"
