"""``report.html``: the whole report as one page that can be played with, offline.

Belongs: putting template, style, script and data into one file.
Does not: what the page says (``report_page``), any number of its own.
Concept: nothing is fetched and nothing but this style and this script runs: both are allowed by
their hash alone, all text is escaped, and the file is the same for the same report.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from dagster_project.lib.offline_page import script_json, security_policy
from dagster_project.lib.release.report_page import drawing, slider
from dagster_project.lib.release.report_page.fitted import claims_words, rule_words
from dagster_project.lib.release.report_page.parts import count, per_1000, percent, threshold
from dagster_project.lib.release.report_page.sections import sections, state_lines
from dagster_project.lib.tiers.thresholds import GRID

if TYPE_CHECKING:
    import polars as pl
    from jinja2 import Template

    from dagster_project.lib.tiers.policy import TierPolicy

_SIDES = {
    "confident": ("Confident threshold", "An answer stands on its own if its score is at least:"),
    "refer": ("Refer threshold", "An image goes to a doctor if its score is below:"),
}


def report_html(report: Mapping[str, Any], curve: pl.DataFrame, policy: TierPolicy) -> bytes:
    """The page as UTF-8: aggregates only, no request, the same bytes for the same input.

    Parameters
    ----------
    report : ``tier_reports.json`` as ``evaluation.full_report`` returns it. Keys that a report may
        lack (certificate, intervals, patients, classes, subgroups, calibration, noise, what moved)
        may be absent or null; the page then says that they are.
    curve : (M,) rows of ``coverage_curve`` of the same rows, M >= 1. Its counts at the 1,001
        thresholds of the release grid are embedded, so every number that the slider shows is the
        one of ``coverage_curve.csv`` there.
    policy : rule, target and acceptance criteria; they are what the dashed lines show.
    """
    grid = slider.grid_counts(curve)
    page, plot = _page(report, curve, grid, policy)
    data = {
        "grid": GRID,
        "bar_room": drawing.BAR_ROOM,
        **{key: getattr(grid, key).tolist() for key in ("n", "top1", "top3")},
        "released": {key: _step(report, key) for key in slider.SIDES},
        "certified": slider.certified_range(report, grid),
        "plot": {key: getattr(plot, key) for key in ("left", "top", "width", "height", "y_max")},
    }
    style, script = _text("report.css"), _text("report.js")
    text = _template().render(
        page=page,
        csp=security_policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        data=Markup(script_json(data)),  # noqa: S704 - escaped for a script element
    )
    return text.encode()


def _page(
    report: Mapping[str, Any], curve: pl.DataFrame, grid: slider.Grid, policy: TierPolicy
) -> tuple[dict[str, Any], drawing.Plot]:
    pinned = slider.pins(report)
    at = {key: slider.single(curve, report["thresholds"][key]) for key in slider.SIDES}
    exact = slider.numbers(grid.total, at["confident"], at["refer"])
    svg, plot = drawing.curve_svg(curve, pinned, policy)
    sure = slider.certified_range(report, grid)
    certified = sure is not None and sure[0] <= report["thresholds"]["confident"] <= sure[1]
    page = {
        "title": "Tier thresholds: candidate for release",
        "state": state_lines(report),
        "target": rule_words(policy.confident.rule, policy.confident.target),
        "claims": claims_words(report),
        "total": count(grid.total),
        "partial": bool(report.get("partial_review")),
        "grid": GRID,
        "sides": [_side(report, pinned, key) for key in slider.SIDES],
        "certified": certified,
        "verdict": "certified" if certified else "not certified for the declared target",
        "exact": {key: "" if value is None else repr(value) for key, value in exact.items()},
        "shown": {k: (per_1000 if k == "wrong" else percent)(v) for k, v in exact.items()},
        "bar": drawing.bar_parts(exact),
        "curve": svg,
        "dashed": "; ".join(drawing.dashed_words(policy)),
        "sections": sections(report, curve, grid, policy),
    }
    return page, plot


def _side(report: Mapping[str, Any], pinned: list[slider.Pin], key: str) -> dict[str, Any]:
    label, hint = _SIDES[key]
    return {
        "key": key,
        "label": label,
        "hint": hint,
        "step": _step(report, key),
        "text": threshold(_step(report, key) / GRID),
        "pins": [
            {
                "kind": pin.kind,
                "step": pin.step,
                "text": pin.text,
                "x": f"{min(100 * pin.value, 100):.4g}%",
                "mark": drawing.mark(pin.kind),
                "key_mark": drawing.key_mark(pin.kind),
            }
            for pin in pinned
            if pin.side == key
        ],
    }


def _step(report: Mapping[str, Any], key: str) -> int:
    """The released threshold as k of k / 1000."""
    return slider.Pin("released", key, report["thresholds"][key]).step


def _text(name: str) -> str:
    folder = resources.files("dagster_project.lib.release.report_page")
    return (folder / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("template.html.j2"))
