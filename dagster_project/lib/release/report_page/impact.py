"""The sections on what the released thresholds do, and what moved.

Belongs: tiers, outcomes, acceptance, patients, who changes tier, the baseline.
Does not: where it goes wrong (``doubts``).
Concept: rates are over images unless patients are named; the worst stands first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.lib.release.report_page import drawing
from dagster_project.lib.release.report_page.parts import (
    Heading,
    Items,
    Part,
    Section,
    Table,
    Text,
    amount,
    capped,
    count,
    facts,
    fixed,
    interval,
    name,
    per_1000,
    percent,
    points,
    said,
    span,
    threshold,
    with_span,
    words,
)
from dagster_project.lib.release.wording import OUTCOMES, PATIENTS

_PATIENTS = {
    "n": "patients",
    "n_images": "their images",
    "known": "every image names its patient",
    **PATIENTS,
}


_CRITERIA = {
    "confident_wrong_share": "confident and wrong, of all images",
    "covered_top1": "right, of the confident images",
    "coverage": "answered confidently, of all images",
    "refer_share": "referred, of all images",
    "kept_top3": "truth in best three, of the images not referred",
    "certified": "the released threshold is certified",
}


def tiers_section(report: Mapping[str, Any]) -> Section:
    """Tiers, outcomes per 1,000, acceptance criteria and the rates over patients."""
    known = (report.get("intervals") or {}).get("images") or {}
    old = report.get("deployed")
    rows = []
    for key in ("confident", "possible", "refer"):
        tier = report["tiers"][key]
        cells = (
            with_span(percent(tier[part]), known.get(f"tiers.{key}.{part}"))
            for part in ("share", "top1", "top3")
        )
        before = percent(old["tiers"][key]["share"]) if old else "not known"
        rows.append((key, count(tier["n"]), before, *cells))
    full = report["full_coverage"]
    rows.append(
        (
            "all",
            count(report["n"]),
            percent(1.0),
            percent(1.0),
            percent(full["top1"]),
            percent(full["top3"]),
        )
    )
    head = ("tier", "images", "share at deployed", "share", "right", "truth in best three")
    mix = []
    for key, text in OUTCOMES.items():
        now = with_span(per_1000(report["outcomes"][key]), known.get(f"outcomes.{key}"), per_1000)
        mix.append((text, per_1000(old["outcomes"][key]) if old else "not known", now))
    more = " (in brackets: 95 %, approximate)" if known else ""
    parts: list[Part] = [
        Table(f"Tiers at the released thresholds; estimand: images{more}", head, rows),
        Table(
            f"Outcomes per 1,000; estimand: images{more}",
            ("outcome", "deployed thresholds", "released thresholds"),
            mix,
        ),
        *_accepted(report),
    ]
    return Section("tiers", "What they do", [*parts, *_patients(report)])


def _accepted(report: Mapping[str, Any]) -> list[Part]:
    found = report.get("accept")
    if not found:
        return []
    rows = [
        (
            _CRITERIA.get(item["criterion"], words(item["criterion"])),
            f"{words(item['bound'])} {_wanted(item['target'])}",
            _wanted(item["observed"]),
            "met" if item["met"] else "not met",
        )
        for item in found
    ]
    head = ("criterion of the policy", "bound", "observed", "result")
    return [Table("Acceptance; estimand: images", head, rows)]


def _wanted(value: float | bool | None) -> str:
    return amount(value) if isinstance(value, bool) else percent(value, 2)


def _patients(report: Mapping[str, Any]) -> list[Part]:
    found = report.get("patients")
    if not found:
        return [Text("Rates over patients are not in this report; all rates here are over images.")]
    known = (report.get("intervals") or {}).get("patients") or {}
    rows = []
    # in the order of the words, whatever that of the keys: a report read back from JSON is sorted
    for key in [*(k for k in _PATIENTS if k in found), *sorted(found.keys() - _PATIENTS.keys())]:
        value = found[key]
        if isinstance(value, float) or value is None:
            text = with_span(percent(value), known.get(key))
        elif isinstance(value, Mapping):
            text = "; ".join(f"{title}: {shown}" for title, shown in facts(value))
        else:
            text = amount(value)
        rows.append((_PATIENTS.get(key, words(key)), text))
    return [Table("The same thresholds; estimand: patients", ("over patients", "value"), rows)]


def moved_section(report: Mapping[str, Any]) -> Section:
    """The verdict, thresholds old and new, who crosses, and what changed by class."""
    found, title = report.get("moved"), "What moved"
    parts: list[Part] = []
    if found:
        parts.append(Text(str(found["sentence"]), strong=True))  # it begins with the verdict
        rows = [
            (
                name(item["name"]),
                threshold(item["old"]),
                threshold(item["new"]),
                said(item.get("inside_interval"), "inside", "outside", "not known"),
            )
            for item in found.get("thresholds") or ()
        ]
        head = ("threshold", "old", "new", "old value and the interval of the new")
        parts += [Table("Thresholds, old and new", head, rows)] if rows else []
        told = [str(line) for line in found.get("old_on_new") or ()]
        parts += [Heading("Old thresholds on the new images"), Items(told)] if told else []
    elif not report.get("deployed"):
        parts.append(Text("The deployed thresholds are not known: nothing can be compared."))
    parts += _crossings(report)
    parts += _class_changes(found) if found else []
    return Section("moved", title, [*parts, *_baseline(report)])


def _crossings(report: Mapping[str, Any]) -> list[Part]:
    found, old = report.get("moved") or {}, report.get("deployed") or {}
    listed = found.get("crossings")
    listed = old.get("crossings") if listed is None else listed
    if listed is None:
        return []
    rows = [
        (f"{item['old_tier']} to {item['new_tier']}", count(item["n"]), count(item["n_wrong"]))
        for item in listed
        if item["n"]
    ]
    head = ("change", "images", "of them with a wrong first answer")
    caption = "Who changes tier; estimand: images"
    parts: list[Part] = [
        Table(caption, head, rows) if rows else Text("No image changes tier."),
    ]
    if found.get("into_confident_wrong") is not None:
        new = count(found["into_confident_wrong"])
        parts.append(Text(f"Images that become confident and wrong: {new}.", strong=True))
    return parts


def _class_changes(found: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    over_all = [{"class": f"share {item['tier']}", **item} for item in found.get("tiers") or ()]
    if found.get("top1"):
        over_all.append({"class": "first answer right", **found["top1"]})
    if over_all:
        parts.append(_changes("All images, paired; estimand: images", "share", over_all))
    # the largest loss first: whoever reads ten lines has read the ones that matter
    ordered = sorted(
        found.get("classes") or (),
        key=lambda item: (item.get("difference") is None, item.get("difference") or 0.0),
    )
    if ordered:
        shown, left = capped(ordered, "classes")
        measure = name(found.get("measure") or "recall")
        caption = f"Classes, {measure}, lowest change first; estimand: images"
        parts += [_changes(caption, "class", shown), *left]
    return parts


def _changes(caption: str, what: str, shown: Sequence[Mapping[str, Any]]) -> Table:
    """Before and after with the difference as a dot; all rows share one symmetric axis."""
    values = [v for item in shown for v in (*(interval(item) or ()), item.get("difference"))]
    reach = max([0.01, *(abs(v) for v in values if v is not None)])
    rows = [
        (
            name(item["class"]),
            percent(item.get("before")),
            percent(item.get("after")),
            points(item.get("difference")),
            drawing.dot_svg(
                item.get("difference"), interval(item), reference=0.0, low=-reach, high=reach
            ),
            span(interval(item), points),
        )
        for item in shown
    ]
    axis = f"-{fixed(100 * reach, 1)} to +{fixed(100 * reach, 1)}, 0 dashed"
    return Table(caption, (what, "before", "after", "points", axis, "95 % interval"), rows)


def _baseline(report: Mapping[str, Any]) -> list[Part]:
    base = report.get("baseline")
    if not base:
        return [Text("No baseline probabilities were given.")]
    change = base["difference"]
    return [
        Heading("Against the baseline"),
        Text(
            f"Over the {count(base['n_common'])} images in both: first answer right "
            f"{points(change['top1'])} points ({count(change['gained'])} gained, "
            f"{count(change['lost'])} lost), truth among the best three {points(change['top3'])} "
            f"points. The baseline gives {per_1000(base['outcomes']['confident_wrong'])} confident "
            f"wrong answers and {per_1000(base['outcomes']['refer'])} referrals per 1,000 images "
            f"at {threshold(base['thresholds']['confident'])} / "
            f"{threshold(base['thresholds']['refer'])}."
        ),
    ]
