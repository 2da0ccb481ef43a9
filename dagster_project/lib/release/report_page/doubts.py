"""The sections on where it fails and how far scores and labels can be trusted.

Belongs: classes, subgroups, calibration, wrong labels.
Does not: what the thresholds do on the whole (``impact``).
Concept: few rows say so in words, in place of a number that looks like one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.lib.release.report_page import drawing
from dagster_project.lib.release.report_page.parts import (
    UNDEFINED,
    Figure,
    Items,
    Part,
    Section,
    Table,
    Text,
    amount,
    capped,
    count,
    facts,
    interval,
    name,
    per_1000,
    percent,
    said,
    span,
    with_span,
    words,
)
from dagster_project.lib.release.report_page.slider import (
    Grid,
)
from dagster_project.lib.release.reviewers import HEAD, reviewer_lines, reviewer_rows

_STATISTICS = {"top1": "right", "confident_wrong": "confident and wrong, of all images"}


def fails_section(report: Mapping[str, Any]) -> Section:
    """Classes and subgroups, the worst first."""
    parts = [*_classes(report), *_subgroups(report)]
    return Section("fails", "Where it fails", parts)


def _classes(report: Mapping[str, Any]) -> list[Part]:
    found = report.get("per_class")
    if not found:
        return [Text("This report is not broken down by class.")]
    # the worst first; a class without images has no recall and comes last
    ordered = sorted(found, key=lambda c: (c.get("recall") is None, c.get("recall") or 0.0))
    shown, left = capped(ordered, "classes")
    overall = report["full_coverage"]["top1"]
    rows = [
        (
            name(item["class"]) + (" (too few)" if item.get("too_few") else ""),
            count(item["n"]),
            count(item["n_patients"]) if item.get("n_patients") is not None else "not known",
            with_span(percent(item.get("recall")), interval(item, "recall")),
            drawing.dot_svg(item.get("recall"), interval(item, "recall"), reference=overall),
            *(percent(item.get(f"{tier}_share")) for tier in ("confident", "possible", "refer")),
            _wrong_of(item),
        )
        for item in shown
    ]
    head = (
        *("class", "images", "patients", "right", "0 to 100 %, all images dashed", "confident"),
        *("possible", "refer", "wrong, of the confident answers that name it"),
    )
    return [Table("Classes, worst first; estimand: images", head, rows), *left]


def _wrong_of(item: Mapping[str, Any]) -> str:
    answers = item.get("n_predicted_confident")
    if not answers:
        return UNDEFINED if answers is None else "none names it"
    return f"{percent(item.get('confident_wrong_predicted'))} of {count(answers)}"


def _subgroups(report: Mapping[str, Any]) -> list[Part]:
    found = report.get("subgroups")
    if not found:
        return [Text("No subgroups were asked for.")]
    shown, left = capped(found, "subgroups")
    rows = [
        (
            f"{name(item['column'])}: {name(item['group'])}",
            count(item["n"]),
            count(item["n_patients"]) if item.get("n_patients") is not None else "not known",
            percent(item.get("coverage")),
            percent(item.get("covered_top1")),
            per_1000(item.get("confident_wrong")),
            percent(item.get("refer_share")),
            _held(item),
        )
        for item in shown
    ]
    head = (
        *("subgroup", "images", "patients", "coverage", "right, of the confident"),
        *("confident and wrong per 1,000", "referred", "declared target"),
    )
    return [Table("Subgroups; estimand: images", head, rows), *left]


def _held(item: Mapping[str, Any]) -> str:
    if item.get("too_few"):
        return "too few to say"
    told = said(item.get("holds"), "shown to hold", "not shown to hold")
    return told if item.get("p") is None else f"{told}, p = {item['p']:.2g}"


def calibration_section(report: Mapping[str, Any], grid: Grid) -> Section:
    """Reliability diagram, calibration figures and the bins as a table."""
    found, title = report.get("calibration"), "Can the scores be read as probabilities?"
    if not found:
        return Section("calibration", title, [Text("Calibration is not in this report.")])
    bins = found.get("reliability") or []
    parts: list[Part] = []
    if bins:
        caption = (
            "Share right against mean score in bins of equal size (points, with 95 % intervals); "
            "on the dashed line a score says how often it is right. Below, how many images have "
            "which score. Estimand: images."
        )
        parts.append(Figure(drawing.reliability_svg(bins, grid), caption))
    known = {
        "calibration error": found.get("ece"),
        "calibration error, bias removed": found.get("ece_debiased"),
        "temperature": found.get("temperature"),
        "log loss before, after the temperature": _pair(found),
        "area under the risk-coverage curve": found.get("aurc"),
        "of it, above the best possible": found.get("e_aurc"),
    }
    rows = [(key, amount(value)) for key, value in known.items() if value is not None]
    mapped = found.get("mapped_thresholds") or {}
    rows += [(f"{title} after the temperature", text) for title, text in facts(mapped)]
    if rows:
        parts.append(Table("Calibration; estimand: images", ("figure", "value"), rows))
    if bins:
        lines = [
            (
                f"{item['mean_score']:.3f}" if item.get("mean_score") is not None else "undefined",
                count(item["n"]),
                with_span(percent(item.get("accuracy")), interval(item)),
            )
            for item in bins
        ]
        head = ("mean score", "images", "right")
        parts.append(Table("The bins of the diagram; estimand: images", head, lines))
    return Section("calibration", title, parts)


def _pair(found: Mapping[str, Any]) -> str | None:
    before, after = found.get("nll_before"), found.get("nll_after")
    return None if before is None or after is None else f"{amount(before)}, {amount(after)}"


def noise_section(report: Mapping[str, Any]) -> Section:
    """Bounds under a stated share of wrong labels, scenario and reviewed estimate."""
    found, title = report.get("label_noise"), "If labels are wrong"
    parts: list[Part] = []
    if found:
        parts = [*_bounds(found.get("bounds") or ()), *_scenario(found), *_reviewed(found)]
    if not parts:
        parts = [Text("How many labels may be wrong was not stated: no bounds can be given.")]
    return Section("noise", title, parts)


def _bounds(bounds: Sequence[Mapping[str, Any]]) -> list[Part]:
    rows = [
        (
            f"{name(item['tier'])}: {_statistic(item)}",
            percent(item.get("observed"), 2),
            percent(item.get("eta"), 2),
            words(item.get("source") or "declared"),
            span(interval(item), lambda value: percent(value, 2)) or UNDEFINED,
        )
        for item in bounds
    ]
    head = ("rate", "observed", "labels wrong, at most", "that share is", "bounds")
    caption = "Bounds that assume nothing else; estimand: images"
    return [Table(caption, head, rows)] if rows else []


def _statistic(item: Mapping[str, Any]) -> str:
    key = str(item.get("statistic", "top1"))
    return _STATISTICS.get(key, words(key))


def _scenario(found: Mapping[str, Any]) -> list[Part]:
    scenario = found.get("scenario")
    if not scenario:
        return []
    rows: list[tuple[str, ...]] = [
        (
            name(item["tier"]),
            percent(item.get("observed"), 2),
            percent(item.get("eta"), 2),
            percent(item.get("top1"), 2),
            str(item.get("refused") or ""),
        )
        for item in scenario.get("tiers") or ()
    ]
    head: tuple[str, ...] = (
        "tier",
        "right, observed",
        "labels wrong",
        "right, corrected",
        "why not",
    )
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    kind = name(scenario.get("name", "symmetric noise"))
    caption = f"A scenario, not a bound: {kind}; estimand: images"
    return [Table(caption, head, rows, words=frozenset({4}))]


def _reviewed(found: Mapping[str, Any]) -> list[Part]:
    rows = [
        (
            name(item["tier"]),
            count(item["n"]),
            count(item.get("n_reviewed")),
            with_span(percent(item.get("eta"), 2), item.get("ci95")),
        )
        for item in (found.get("reviewed") or {}).get("tiers") or ()
    ]
    head = ("tier", "images", "reviewed", "given labels wrong (95 %, approximate)")
    return [Table("What the reviews found; estimand: images", head, rows)] if rows else []


def reviewers_section(report: Mapping[str, Any]) -> Section:
    """Who reviewed, how blindly, how far they agree, what was left out."""
    reviews, title = report.get("reviews"), "Reviewers"
    if not reviews:
        told = "Who reviewed these labels, how blindly and with what agreement is not known."
        return Section("reviewers", title, [Text(told)])
    parts: list[Part] = [Items([f"{line}." for line in reviewer_lines(reviews)])]
    rows = [(name(reader), *figures) for reader, *figures in reviewer_rows(reviews)]
    if rows:
        parts.append(Table("Readers; estimand: images that each judged", HEAD, rows))
    return Section("reviewers", title, parts)


def partial_section(report: Mapping[str, Any]) -> Section | None:
    """What reviews of a known sample say of all labels; None where nothing was reviewed in part."""
    found = report.get("partial_review")
    if not found:
        return None
    rows = [
        (
            text,
            percent(found[key]["given"], 2),
            percent(found[key]["overwritten"], 2),
            with_span(percent(found[key]["estimate"], 2), found[key]["ci95"]),
        )
        for key, text in (
            ("confident_wrong", "confident and wrong, of all images"),
            ("covered_top1", "right, of confident answers"),
        )
    ]
    head = ("at the released thresholds", "given labels", "reviews put over them")
    upper = found["confident_wrong"]["upper_certified"]
    parts: list[Part] = [
        Text(
            f"{count(found['n_reviewed'])} images are reviewed. Reviews go where the model "
            "disagrees with the label, so putting them over the given labels flatters it; the "
            "estimate weighs each review by how probably its image was drawn."
        ),
        Table(
            "All labels, from those that were reviewed; estimand: images",
            (*head, "estimate (95 %, approximate)"),
            rows,
        ),
    ]
    if upper is not None:
        parts.append(Text(f"Certified upper bound of the first row: {percent(upper, 2)}."))
    undecided = found["confident_wrong"]["undecided"]
    if undecided is not None and undecided[0] < undecided[1]:
        parts.append(
            Text(
                "If every undecided review above the threshold were right, the first row would be "
                f"{percent(undecided[0], 2)}; if every one were wrong, {percent(undecided[1], 2)}."
            )
        )
    parts.append(Items([f"{note}." for note in found["notes"]]))
    return Section("partial", "Labels reviewed in part", parts)
