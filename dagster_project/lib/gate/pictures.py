"""Pictures of a gate: rates along tau, what is lost against what slips through, where scores lie.

Belongs: drawing the reports' JSON.
Does not: counting (``sweep``, ``points``, ``distribution``), the house style.
Concept: every point is named beside its line, in rows that never overlap; a kind or rate has a
line style or hatch beside its colour. Units are those of the scores file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.gate.words import number, pinned

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Floats = npt.NDArray[np.float64]

MAX_POINTS = 1500
"""Of a curve; more would not be seen."""

FEW = 50
"""Taus of a curve that are marked one by one."""

_GRAY = "#F0E442"
_RATES = (
    ("fn_in", house.CONFIDENT, "-", "fn_in: in range without an answer, of those in range"),
    ("fp_cens", house.WRONG, "-.", "fp_cens: out of range and answered, of those out of range"),
    ("bottom_rate", house.REFER, "--", "bottom_rate: without an answer, of all"),
)
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_MARKERS = "oDs^vPX*"
_CHAR, _ROW = 5.1, 13.0
"""Points (1/72 inch): more than a character of a label is wide, a row of labels is high."""

Report = Mapping[str, Any]


def sweep_png(sweep: Report, points: Report | None = None) -> bytes:
    """Three rates against tau; with ``points`` each point's tau, and the frozen one's gray zone."""
    width = 8.0
    figure = house.new_figure(width, 4.6 + _more({} if points is None else pinned(points)))
    axes = figure.add_subplot()
    curves, scale = sweep["curves"], sweep["distribution"]["scale"]
    taus = _numbers(curves["taus"])
    x_range = _x_range(sweep, points)
    kept = _thinned(taus, x_range, scale)
    for key, colour, style, label in _RATES:
        axes.plot(taus[kept], _numbers(curves[key])[kept], color=colour, linestyle=style,
                  linewidth=1.6, marker=_dots(kept.size), label=label)  # fmt: skip
    axes.set(xlim=x_range, ylim=(-0.02, 1.02), xscale=scale, ylabel="share")
    _axis_words(axes, sweep["provenance"]["gauge"])
    if points is not None:
        _gray_zone(axes, points)
        _pin(axes, [(tau, _label(points, names, tau), _is_frozen(points, names))
                    for tau, names in _by_tau(pinned(points)).items()], width)  # fmt: skip
    figure.legend(loc="outside lower center", ncols=1, fontsize=8)
    figure.suptitle(_title(sweep, "what every threshold does"), fontsize=10)
    return house.png(figure)


def tradeoff_png(sweep: Report, points: Report) -> bytes:
    """Out of range and answered against in range and not, on the cases that judge."""
    figure = house.new_figure(7.2, 6.2 + _more(pinned(points)))
    axes = figure.add_subplot()
    curves = sweep["evaluation_curves"]
    x, y = _numbers(curves["fn_in"]), _numbers(curves["fp_cens"])
    axes.plot(x, y, color=house.CONFIDENT, linewidth=1.3, marker=_dots(x.size),
              label="all taus, on the evaluation cases")  # fmt: skip
    named = _by_tau(pinned(points))
    for at, names in enumerate(named.values()):
        _trade_point(axes, points, names, _MARKERS[at % len(_MARKERS)])
    for axis in (axes.xaxis, axes.yaxis):
        axis.axes.set(**{f"{axis.axis_name}lim": (0, 1)})
        getattr(axes, f"set_{axis.axis_name}scale")("function", functions=(_root, np.square))
        axis.set_ticks(_SHARES, [f"{100 * share:g} %" for share in _SHARES])
    axes.set(
        xlabel="fn_in: without an answer, of those in range (square root scale)",
        ylabel="fp_cens: answered, of those out of range",
    )
    figure.legend(loc="outside lower center", ncols=1, fontsize=8)
    judged = points["split"]["evaluation"]
    title = _title(sweep, "what is lost against what slips through",
                   (judged["in_range"], judged["censored"]))  # fmt: skip
    figure.suptitle(title, fontsize=10)
    return house.png(figure)


def distribution_png(sweep: Report, points: Report | None = None) -> bytes:
    """Scores in range and out of it, with the frozen threshold and its gray zone."""
    width = 8.0
    figure = house.new_figure(width, 4.4)
    axes = figure.add_subplot()
    found = sweep["distribution"]
    edges = _numbers(found["edges"])
    for key, words, colour, hatch in (
        ("in_range", "in range", house.CONFIDENT, ""),
        ("censored", "out of range", house.POSSIBLE, "////"),
    ):
        kind = found[key]
        share = np.array(kind["counts"], dtype=np.float64) / max(kind["n"], 1)
        share = share if edges.size else np.zeros(1)
        axes.stairs(share, edges if edges.size else [0.0, 1.0], fill=True, hatch=hatch,
                    facecolor=(*_rgb(colour), 0.25), edgecolor=colour, linewidth=1.3,
                    label=_kind(words, kind))  # fmt: skip
    gauge = sweep["provenance"]["gauge"]
    axes.set(
        xscale=found["scale"], xlim=_x_range(sweep, points), ylabel="share of the kind, by bin"
    )
    _axis_words(axes, gauge, "score")
    if points is not None and (frozen := _frozen(points)) is not None:
        _gray_zone(axes, points)
        _sides(axes, frozen["tau"], gauge)
        pins = [(frozen["tau"], f"tau_infer {number(frozen['tau'])}", True)]
        if frozen["tau_train"] is not None:
            pins.append((frozen["tau_train"], f"tau_train {number(frozen['tau_train'])}", False))
        _pin(axes, pins, width)
    figure.legend(loc="outside lower center", ncols=1, fontsize=8)
    figure.suptitle(_title(sweep, "where the scores lie"), fontsize=10)
    return house.png(figure)


def _more(taus: Mapping[str, float]) -> float:
    """Inches for the names of more than four thresholds; the axes keep their height."""
    return max(len(set(taus.values())) - 4, 0) * 1.15 * _ROW / 72


def _dots(n: int) -> str:
    """Few taus are marked, for nothing is known of what the line shows between them."""
    return "." if n <= FEW else ""


def _root(share: Floats) -> Floats:
    return np.sqrt(np.maximum(share, 0.0))


def _kind(words: str, kind: Report) -> str:
    outside = kind["below"] + kind["above"]
    left = [f"{kind['faults']:,} faults"] * (kind["faults"] > 0)
    left += [f"{outside:,} outside the picture"] * (outside > 0)
    told = f" ({', '.join(left)} not drawn)" if left else ""
    return f"{words}: {kind['n']:,} cases{told}"


def _trade_point(axes: Axes, points: Report, names: Sequence[str], marker: str) -> None:
    """A point where its evaluation cases put it, with what is certified as the end of a bar."""
    rates = points["points"][names[0]]["evaluation"]
    x, y = (rates[key]["rate"] for key in ("fn_in", "fp_cens"))
    if x is None or y is None:
        return
    frozen = _is_frozen(points, names)
    colour = house.CERTIFIED if frozen else house.INK
    told = [f"{' = '.join(names)}{' (frozen)' if frozen else ''}"]
    for name in names:
        point = points["points"][name]
        for key, bound in point["bounds"].items():
            if not point["certified"]:
                continue
            target = bound["target"]
            end = {"fn_in": ([x, target], [y, y], "|"),
                   "fp_cens": ([x, x], [y, target], "_")}.get(key)  # fmt: skip
            bar = " (bar)" if end is not None else ""
            told.append(f"{key} certified at {100 * target:g} % or less{bar}")
            if end is not None:
                axes.plot(end[0], end[1], color=colour, linewidth=1.2, linestyle=":")
                axes.plot(end[0][1], end[1][1], end[2], color=colour, markersize=11)
    axes.plot(
        x, y, marker, color=colour, markersize=9, markerfacecolor=colour if frozen else "white",
        markeredgewidth=1.5, linestyle="none", zorder=4, clip_on=False,
        label="; ".join(dict.fromkeys(told)),
    )  # fmt: skip


def _pin(axes: Axes, pins: Sequence[tuple[float, str, bool]], width: float) -> None:
    """A line at each tau, and its label to the right of it above the axes.

    The rightmost label is the lowest: a line rises on the left of every label that is below its
    own, and crosses none.
    """
    from matplotlib.transforms import blended_transform_factory

    across = blended_transform_factory(axes.transData, axes.transAxes)
    drawn = 72 * (width - 0.9)
    over = max((_across(axes, tau) * drawn + _long(label) for tau, label, _ in pins), default=0.0)
    drawn -= max(over - drawn, 0.0)  # the layout makes room for labels on the right
    row, right = 0, float("inf")
    for pin, label, frozen in sorted(pins, reverse=True):
        tau = _shown(axes, pin)
        at = _across(axes, tau) * drawn
        row = row + 1 if at + _long(label) > right else 0
        right = at
        colour = house.CERTIFIED if frozen else house.INK
        axes.axvline(tau, color=colour, linewidth=1.6 if frozen else 0.9,
                     linestyle="-" if frozen else ":", zorder=1)  # fmt: skip
        axes.annotate(
            label, (tau, 1.0), (3, 4 + _ROW * row), xycoords=across, textcoords="offset points",
            fontsize=8, ha="left", va="bottom", color=colour, annotation_clip=False,
        )  # fmt: skip
        axes.annotate(
            "", (tau, 1.0), (0, 4 + _ROW * (row + 0.8)), xycoords=across,
            textcoords="offset points", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0,
                        "shrinkB": 0},
        )  # fmt: skip


def _shown(axes: Axes, tau: float) -> float:
    """A tau that a logarithm cannot show stands at the left end; its label says what it is."""
    return max(tau, axes.get_xlim()[0]) if axes.get_xscale() == "log" else tau


def _long(label: str) -> float:
    return _CHAR * len(label) + 6


def _across(axes: Axes, tau: float) -> float:
    """Where tau stands between the left (0) and the right (1) end."""
    low, high = axes.get_xlim()
    if axes.get_xscale() == "log":
        low, high, tau = (float(np.log10(value)) for value in (low, high, _shown(axes, tau)))
    return (tau - low) / (high - low)


def _sides(axes: Axes, tau: float, gauge: Report) -> None:
    """Which side of tau has an answer."""
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    left, right = ("no answer", "answered")[:: 1 if gauge["accept"] == "high" else -1]
    at = (_shown(axes, tau), 0.97)
    for words, side, offset in ((f"\u2190 {left}", "right", -4), (f"{right} \u2192", "left", 4)):
        axes.annotate(words, at, (offset, 0), xycoords=axes.get_xaxis_transform(),
                      textcoords="offset points", ha=side, va="top", fontsize=8,
                      color=house.CERTIFIED)  # fmt: skip


def _gray_zone(axes: Axes, points: Report) -> None:
    frozen = _frozen(points)
    if frozen is not None and frozen["tau_train"] is not None:
        ends = sorted(_shown(axes, frozen[key]) for key in ("tau", "tau_train"))
        axes.axvspan(*ends, color=_GRAY, alpha=0.35, linewidth=0, zorder=0,
                     label="gray zone: answered, and marked")  # fmt: skip


def _frozen(points: Report) -> Report | None:
    freeze = points["freeze"]
    found: Report = points["points"][freeze["point"]]
    return found if freeze["frozen"] else None


def _is_frozen(points: Report, names: Sequence[str]) -> bool:
    return bool(points["freeze"]["frozen"]) and points["freeze"]["point"] in names


def _by_tau(taus: Mapping[str, float]) -> dict[float, list[str]]:
    found: dict[float, list[str]] = {}
    for name, tau in taus.items():
        found.setdefault(tau, []).append(name)
    return found


def _label(points: Report, names: Sequence[str], tau: float) -> str:
    frozen = " (frozen)" if _is_frozen(points, names) else ""
    return f"{' = '.join(names)} {number(tau)}{frozen}"


def _x_range(sweep: Report, points: Report | None) -> tuple[float, float]:
    """The bins and every point, with room at both ends; not what a logarithm cannot show."""
    found = sweep["distribution"]
    values = [*found["edges"][:1], *found["edges"][-1:]] or [*sweep["curves"]["taus"]]
    if points is not None:
        values += pinned(points).values()
        values += [p["tau_train"] for p in points["points"].values() if p["tau_train"] is not None]
    if found["scale"] == "log":
        values = [value for value in values if value > 0]
        room = (max(values) / min(values)) ** 0.02
        return min(values) / room, max(values) * room
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.02 * (high - low) or 0.5
    return low - room, high + room


def _thinned(taus: Floats, x_range: tuple[float, float], scale: str) -> npt.NDArray[np.int64]:
    """Positions spread evenly over the drawn width, not over the ranks; both ends stay."""
    if taus.size <= MAX_POINTS:
        return np.arange(taus.size)
    make = np.geomspace if scale == "log" else np.linspace
    order = np.argsort(taus, kind="stable")
    at = np.searchsorted(taus[order], make(*x_range, MAX_POINTS)).clip(0, taus.size - 1)
    kept: npt.NDArray[np.int64] = order[np.unique(np.concatenate([[0], at, [taus.size - 1]]))]
    return kept


def _axis_words(axes: Axes, gauge: Report, what: str = "tau") -> None:
    sign = "<" if gauge["accept"] == "high" else ">"
    rule = f"no answer: score {sign} tau"
    unit = f"{_short(gauge['magnitude'])} of {_short(gauge['head'])}"
    axes.set_xlabel(f"{what}: {unit} ({rule})")


def _title(sweep: Report, what: str, judged: tuple[int, int] | None = None) -> str:
    """Of all cases, or of those that are ``judged`` (in range, out of it)."""
    found = sweep["distribution"]
    n, censored = judged or (found["in_range"]["n"], found["censored"]["n"])
    kind = "cases" if judged is None else "evaluation cases"
    head = _short(sweep["provenance"]["gauge"]["head"])
    return f"{head}: {what}\n{n:,} {kind} in range, {censored:,} out of range"


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array(values, dtype=np.float64)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _short(name: str) -> str:
    short = name if len(name) <= 40 else name[:39] + "…"
    return " ".join(short.split()).replace("$", r"\$")  # no formula
