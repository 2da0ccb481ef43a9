"""The sections of the page below the slider: tables, lists and sentences from the report.

Belongs: which key of ``tier_reports.json`` is shown where, in which words, and of which estimand.
Does not: numbers of its own; a part whose key is absent or null says so in one sentence.
Concept: one function a section, from the report to a :class:`Section`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib.release.report_page import drawing
from dagster_project.lib.release.report_page.parts import (
    Figure,
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
    name,
    per_1000,
    percent,
    points,
    span,
    threshold,
    with_span,
    words,
)
from dagster_project.lib.release.report_page.slider import (
    Grid,
    certificate,
    certified_at,
    numbers,
    pins,
    single,
)
from dagster_project.lib.tiers.thresholds import ENV_NAMES

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.policy import TierPolicy

RULES = {
    "coverage": "answer confidently at least {target} of images",
    "covered_top1": "at least {target} of confident answers are right",
    "confident_wrong_share": "at most {target} of all images get a confident wrong answer",
    "share": "refer at most {target} of images",
    "kept_top3": "for at least {target} of images not referred, the truth is among the best three",
    "fixed": "fixed at {value}",
}
OUTCOMES = {
    "confident_correct": "confident and right",
    "confident_wrong": "confident and wrong",
    "possible_top3": "possible, truth among the best three",
    "possible_miss": "possible, truth not among them",
    "refer": "referred to a doctor",
}
_PATIENTS = {
    "n": "patients",
    "confident_wrong_any": "at least one confident wrong answer",
}
_VERDICTS = {"keep": "Keep", "nudge": "Nudge", "stop": "Stop and look"}


def rule_words(rule: str, target: float) -> str:
    """A rule and its target as half a sentence."""
    return RULES[rule].format(target=percent(target), value=threshold(target))


def sections(
    report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid, policy: TierPolicy
) -> list[Section]:
    """Every section below the slider, in order."""
    return [
        _thresholds(report, curve, grid),
        _certificate(report),
        _tiers(report),
        _moved(report),
        _fails(report),
        _calibration(report, grid),
        _noise(report),
        _limits(report, policy),
    ]


def _thresholds(report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid) -> Section:
    old = report["deployed"]["thresholds"] if report.get("deployed") else {}
    rows = []
    for key in ENV_NAMES:
        fit = report["selection"].get(key)
        sure = threshold(certified_at(report)) if key == "confident" else "not certified"
        rows.append(
            (
                key,
                threshold(fit["fitted"]) if fit else "set by the policy",
                _interval_of(fit) if fit else "",
                threshold(report["thresholds"][key]),
                threshold(old[key]) if old else "not known",
                sure,
                rule_words(fit["rule"], fit["target"]) if fit else "not fitted",
            )
        )
    head = ("threshold", "fitted", "95 % interval", "released", "deployed", "certified", "rule")
    parts: list[Part] = [
        Table("Thresholds", head, rows, words=frozenset({2, 6})),
        Text(
            "Released is fitted, rounded up to three decimals. Intervals are of the fitted value, "
            "over resampled patients, and approximate."
        ),
        _pinned(report, curve, grid),
    ]
    others = [
        f"{side}: {other['rule']} at {percent(other['target'])} would have chosen "
        + ("nothing: not met" if other["released"] is None else threshold(other["released"]))
        for side in ("confident", "refer")
        for other in report["selection"][side].get("alternatives") or ()
    ]
    if others:
        parts += [Heading("What other rules would have chosen"), Items(others)]
    return Section("thresholds", "Thresholds", parts)


def _interval_of(fit: Mapping[str, Any]) -> str:
    pieces = fit.get("ci95_set") or ([fit["ci95"]] if fit.get("ci95") else [])
    text = " and ".join(span(piece, threshold) for piece in pieces)
    return (f"{text} (not connected)" if len(pieces) > 1 else text) or "undefined"


def _pinned(report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid) -> Table:
    """What the slider shows at each pinned pair: the table that stands for it in print."""
    found = {(pin.kind, pin.side): pin.value for pin in pins(report)}
    rows = []
    for kind in ("released", "fitted", "deployed", "certified"):
        confident = found.get((kind, "confident"))
        # a certificate is about confident alone: it is shown beside the released refer value
        refer = found.get((kind, "refer"), report["thresholds"]["refer"])
        if confident is None:
            continue
        refer = min(refer, confident)
        shown = numbers(grid.total, single(curve, confident), single(curve, refer))
        rows.append(
            (
                kind,
                threshold(confident),
                threshold(refer),
                percent(shown["confident"]),
                per_1000(shown["wrong"]),
                percent(shown["covered_top1"]),
                percent(shown["refer"]),
                percent(shown["kept_top3"]),
            )
        )
    head = (
        *("pinned", "confident", "refer", "coverage", "confident and wrong per 1,000"),
        *("right, of the confident", "referred", "truth in best three, of the not referred"),
    )
    return Table("The slider at each pinned pair (estimand: images)", head, rows)


def _certificate(report: Mapping[str, Any]) -> Section:
    found = certificate(report)
    title = "Certificate"
    if found is None:
        none = "No certificate was computed: the thresholds are plug-in values, not certified."
        return Section("certificate", title, [Text(none)])
    sure = certified_at(report) is not None
    state = (
        f"Certified at {threshold(found['threshold'])}."
        if sure
        else "Not certified for the declared target."
    )
    parts: list[Part] = [Text(f"{state} {name(found.get('reason') or '')}".strip(), strong=True)]
    if sure and not found.get("released_is_certified"):
        released = threshold(report["thresholds"]["confident"])
        parts.append(Text(f"The released threshold, {released}, is not a certified one."))
    rows = [
        (
            _claim(claim),
            percent(claim.get("observed"), 2),
            {True: "holds", False: "does not hold"}.get(claim.get("holds"), "not tested"),
        )
        for claim in found.get("claims") or ()
    ]
    if rows:
        caption = f"What was tested (estimand: {name(found.get('estimand') or 'images')})"
        parts.append(Table(caption, ("claim", "observed", "result"), rows))
    terms = _terms(found)
    if terms:
        parts.append(
            Table("Terms of the certificate", ("term", "value"), terms, words=frozenset({1}))
        )
    if found.get("scope"):
        parts += [Heading("What it does and does not say"), Items([*map(str, found["scope"])])]
    return Section("certificate", title, parts)


def _claim(claim: Mapping[str, Any]) -> str:
    quantity, target = str(claim["quantity"]), claim.get("target")
    if quantity in RULES and target is not None:
        return rule_words(quantity, target)
    return f"{words(quantity)} {amount(target)}"


def _terms(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    coverage = None if found.get("coverage") is None else percent(found["coverage"])
    needed = found.get("rows_needed")
    given = {
        "probability of a wrong certificate, at most (delta)": found.get("delta"),
        "method": found.get("method"),
        "strictest threshold tested (start)": found.get("start"),
        "least coverage": found.get("min_coverage"),
        "images": found.get("n_images"),
        "patients": found.get("n_patients"),
        "images of one patient that count, at most": found.get("max_images_per_patient"),
        "images dropped for that": found.get("n_dropped"),
        "patients are known": found.get("patients_known"),
        "coverage at the certified threshold": coverage,
        "looks at these rows": found.get("looks"),
        "rows needed for a certificate": needed,
    }
    return [(key, amount(value)) for key, value in given.items() if value is not None]


def _tiers(report: Mapping[str, Any]) -> Section:
    known = (report.get("intervals") or {}).get("images") or {}
    old = report.get("deployed")
    rows = []
    for key, tier in report["tiers"].items():
        cells = (
            with_span(percent(tier[part]), known.get(f"tiers.{key}.{part}"))
            for part in ("share", "top1", "top3")
        )
        before = percent(old["tiers"][key]["share"]) if old else "not known"
        rows.append((key, count(tier["n"]), before, *cells))
    full = report["full_coverage"]
    rows.append(("all", count(report["n"]), percent(1.0), percent(1.0), percent(full["top1"]), percent(full["top3"])))
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
    ]
    return Section("tiers", "What they do", [*parts, *_patients(report)])


def _patients(report: Mapping[str, Any]) -> list[Part]:
    found = report.get("patients")
    if not found:
        return [Text("Rates over patients are not in this report; all rates here are over images.")]
    known = (report.get("intervals") or {}).get("patients") or {}
    rows = []
    for key, value in found.items():
        if isinstance(value, float) or value is None:
            text = with_span(percent(value), known.get(key))
        elif isinstance(value, Mapping):
            text = "; ".join(f"{title}: {shown}" for title, shown in facts(value))
        else:
            text = amount(value)
        rows.append((_PATIENTS.get(key, words(key)), text))
    return [Table("The same thresholds; estimand: patients", ("over patients", "value"), rows)]


def _moved(report: Mapping[str, Any]) -> Section:
    found, title = report.get("moved"), "What moved"
    parts: list[Part] = []
    if found:
        verdict = _VERDICTS.get(found.get("verdict"), words(str(found.get("verdict"))))
        parts.append(Text(f"{verdict}. {found.get('sentence') or ''}".strip(), strong=True))
        rows = [
            (
                name(item["name"]),
                threshold(item["old"]),
                threshold(item["new"]),
                {True: "inside", False: "outside"}.get(item.get("inside_interval"), "not known"),
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
    parts += _class_changes(found.get("classes") or ()) if found else []
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


def _class_changes(classes: Sequence[Mapping[str, Any]]) -> list[Part]:
    # the largest loss first: whoever reads ten lines has read the ones that matter
    ordered = sorted(classes, key=lambda c: (c.get("difference") is None, c.get("difference") or 0))
    shown, left = capped(ordered, "classes")
    reach = max((abs(v) for c in shown for v in _limits_of(c) or ()), default=0.0)
    reach = max([reach, *(abs(c.get("difference") or 0) for c in shown), 0.01])
    rows = [
        (
            name(item["class"]),
            percent(item.get("before")),
            percent(item.get("after")),
            points(item.get("difference")),
            drawing.dot_svg(
                item.get("difference"), _limits_of(item), reference=0.0, low=-reach, high=reach
            ),
            span(_limits_of(item), points),
        )
        for item in shown
    ]
    axis = f"change, -{percent(reach)} to +{percent(reach)}, 0 dashed"
    head = ("class", "before", "after", "points", axis, "95 % interval")
    return [Table("Classes, largest loss first; estimand: images", head, rows), *left] if rows else []


def _limits_of(item: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = item.get("low"), item.get("high")
    return None if low is None or high is None else (low, high)


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


def _fails(report: Mapping[str, Any]) -> Section:
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
            with_span(percent(item.get("recall")), _limits_of(item)),
            drawing.dot_svg(item.get("recall"), _limits_of(item), reference=overall),
            *(_share(item.get(tier)) for tier in ("confident", "possible", "refer")),
            count(item.get("n_predicted_confident")),
            _share(item.get("confident_wrong_predicted")),
        )
        for item in shown
    ]
    head = (
        *("class", "images", "patients", "right", "0 to 100 %, all images dashed", "confident"),
        *("possible", "refer", "confident answers that name it", "of them wrong"),
    )
    return [Table("Classes, worst first; estimand: images", head, rows), *left]


def _share(value: float | None) -> str:
    """A share as per cent; a whole number is a count and stays one."""
    return count(value) if isinstance(value, int) else percent(value)


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
    said = {True: "shown to hold", False: "not shown to hold"}.get(item.get("holds"), "not tested")
    return said if item.get("p") is None else f"{said}, p = {item['p']:.2g}"


def _calibration(report: Mapping[str, Any], grid: Grid) -> Section:
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
                with_span(percent(item.get("accuracy")), _limits_of(item)),
            )
            for item in bins
        ]
        head = ("mean score", "images", "right")
        parts.append(Table("The bins of the diagram; estimand: images", head, lines))
    return Section("calibration", title, parts)


def _pair(found: Mapping[str, Any]) -> str | None:
    before, after = found.get("nll_before"), found.get("nll_after")
    return None if before is None or after is None else f"{amount(before)}, {amount(after)}"


def _noise(report: Mapping[str, Any]) -> Section:
    found, title = report.get("label_noise"), "If labels are wrong"
    if not found:
        none = "How many labels may be wrong was not stated: no bounds can be given."
        return Section("noise", title, [Text(none)])
    parts: list[Part] = []
    rows = [
        (
            name(item["tier"]),
            percent(item.get("observed"), 2),
            percent(item.get("eta"), 2),
            span(_limits_of(item), lambda value: percent(value, 2)) or "undefined",
        )
        for item in found.get("bounds") or ()
    ]
    if rows:
        head = ("tier", "right, observed", "labels wrong, at most", "right, bounds")
        parts.append(Table("Bounds that assume nothing else; estimand: images", head, rows))
    for key, words_ in (
        ("assumed", "Assumed"),
        ("scenario", "A scenario, not a bound"),
        ("reviewed", "With the reviewed labels weighed in"),
    ):
        if found.get(key):
            parts.append(Table(words_, ("figure", "value"), facts(found[key])))
    return Section("noise", title, parts)


def _limits(report: Mapping[str, Any], policy: TierPolicy) -> Section:
    labels, lines = report["labels"], []
    if certified_at(report) is None:
        lines.append(
            "Not certified. These are plug-in values: the loosest thresholds that meet the targets "
            "on the same images they are reported on. On new images such a choice misses its "
            "target in about half of all cases, usually by little."
        )
    else:
        lines.append(
            "Only the claims of the certificate are certified, for the range of thresholds that "
            "was tested. Refer share, truth in the best three, outcome mix and highlighted items "
            "are estimates."
        )
    lines += [
        "Intervals come from resampling patients and are approximate. A change well inside the "
        "interval means nothing.",
        "All rates hold for images and patients like these, served as these were.",
        "A threshold picked by moving the slider until a number looks right is chosen on the rows "
        "it is reported on: state the target first, then fit.",
    ]
    if labels["provisional"]:
        lines.append("Labels are provisional: fit again when the reviews return.")
    if labels["n_reviewed"] and labels["n_reviewed"] < report["n"]:
        lines.append(
            "Reviewed labels are a selection, mostly where the model disagrees with them; "
            "correcting those and not the errors it agrees with makes it look better than it is."
        )
    if any(report["selection"][side].get("raised_to_refer") for side in ("confident", "refer")):
        lines.append(
            "The confident value that the rule found lies below refer and was raised to it: no "
            "image is possible."
        )
    item = policy.possible_item
    lines.append(
        f"In the possible tier items with probability above {fixed(item.cut, 3)} are highlighted, "
        f"at least {item.floor}, at most {item.cap}; set by the policy, not fitted."
    )
    return Section("limits", "Limits", [Items(lines)])


def state_lines(report: Mapping[str, Any]) -> list[str]:
    """What stands under the title: which labels, and what certified can mean with them."""
    labels, total = report["labels"], count(report["n"])
    if labels["n_reviewed"] is not None:
        reviewed = f"{count(labels['n_reviewed'])} of {total} reviewed"
    elif labels["provisional"]:
        reviewed = "how many are reviewed is not known"
    else:
        reviewed = "stated to be reviewed; how many is not known"
    lines = [f"{total} images, label version {name(labels['version'])}; labels: {reviewed}."]
    if labels["provisional"]:
        lines.append(
            "Labels are provisional: wrong ones count as wrong answers, and hide some. Where this "
            "page says certified, read: certified against the given labels."
        )
    return lines


