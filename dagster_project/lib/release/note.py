"""``report.md``: one page that says in words what was fitted and what it does.

Belongs: the wording for a clinician and a reviewer of the pull request.
Does not: any number of its own; everything is read from ``tier_reports.json``.
Concept: what changes, per 1,000 images, on which labels, and what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib.markdown import table
from dagster_project.lib.release.conditions import rounding_kept
from dagster_project.lib.release.reviewers import HEAD, reviewer_lines, reviewer_rows
from dagster_project.lib.release.wording import CLAIMS, OUTCOMES, PATIENTS, RULES, looked
from dagster_project.lib.tiers.thresholds import ENV_NAMES

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy

_NOISE = {"top1": "right", "confident_wrong": "confident and wrong, of all images"}
_WORST = 5
"""Rows of the tables of what fails; all are in the page."""


def release_note(report: Mapping[str, Any], policy: TierPolicy, tta: bool | None) -> str:
    """Markdown; ``report`` as ``evaluation.full_report`` returns it.

    The sections follow what an auditor of a planned change asks for: what is modified, the protocol
    that was fixed before the labels, and the impact, above all the cases that cross tiers.
    """
    parts = [
        "# Tier thresholds: candidate for release",
        _labels(report),
        "Numbers are over images unless *patients* is said.",
        "## Description of the modification\n\n" + _thresholds(report),
        *([_moved(report["moved"])] if report["moved"] else []),
        "## Protocol, fixed before the labels\n\n" + _protocol(report, policy),
        "## How the thresholds were chosen\n\n" + _selection(report, policy),
        "## Certificate\n\n" + _certificate(report),
        "## Reviewers\n\n" + _reviewers(report.get("reviews")),
        *(
            [("## Labels reviewed in part\n\n" + _partial(report))]
            if report["partial_review"]
            else []
        ),
        *([("## Label noise\n\n" + _noise(report))] if report["label_noise"]["bounds"] else []),
        "## Impact: what the tiers do\n\n" + _tiers(report),
        "## Impact: per 1,000 images\n\n" + _outcomes(report),
        "## Impact: patients\n\n" + _patients(report),
        "## Impact: where it fails\n\n" + _fails(report),
        *([("## Who changes tier\n\n" + _crossings(report))] if report["deployed"] else []),
        *([("## Against the baseline\n\n" + _baseline(report))] if report["baseline"] else []),
        "## Calibration\n\n" + _calibration(report["calibration"]),
        "## Limits\n\n" + _limits(report, tta),
    ]
    return "\n\n".join(parts) + "\n"


def _labels(report: Mapping[str, Any]) -> str:
    labels, total = report["labels"], f"{report['n']:,}"
    if labels["n_reviewed"] is not None:
        count = f"{labels['n_reviewed']:,} of {total} reviewed"
    elif labels["provisional"]:
        count = "how many are reviewed is not known"
    else:
        count = "stated to be reviewed; how many is not known"
    state = f"Labels: {count}."
    if labels["provisional"]:
        state = (
            f"**Provisional labels**: {count}; wrong ones count as wrong answers, and hide some."
        )
    return f"{state} Label version `{labels['version']}`; {total} images."


def _thresholds(report: Mapping[str, Any]) -> str:
    old = report["deployed"]["thresholds"] if report["deployed"] else {}
    rows = []
    for name in ENV_NAMES:
        new = report["thresholds"][name]
        change = f"{new - old[name]:+.3f}" if old else "not known"
        rows.append((name, f"{old[name]:g}" if old else "not known", f"{new:g}", change))
    return table(("threshold", "deployed", "new", "change"), rows)


def _protocol(report: Mapping[str, Any], policy: TierPolicy) -> str:
    certify, allowed = policy.certify, policy.allowed
    lines = []
    for side, limits in (("confident", allowed.confident), ("refer", allowed.refer)):
        rule = report["selection"][side]
        told = RULES[rule["rule"]].format(target=_percent(rule["target"]), value=rule["target"])
        between = "any value" if limits is None else f"{limits[0]:g} to {limits[1]:g}"
        lines.append(f"- **{side}**: {told}; allowed: {between}.")
    for row in report["accept"]:
        mark = "met" if row["met"] else "**not met**"
        bound = f"{row['bound'].replace('_', ' ')} {_figure(row['target'])}"
        lines.append(
            f"- accept {row['criterion']}: {bound}; observed {_figure(row['observed'])}, {mark}."
        )
    if not report["accept"]:
        lines.append("- No acceptance criteria are set.")
    lines.append(
        f"- Certificate at delta {certify.delta:g}"
        + (f", shared by {certify.models} models" if certify.models > 1 else "")
        + (", enforced." if certify.enforce else ", shown beside the plug-in value.")
    )
    return "\n".join(lines)


def _figure(value: object) -> str:
    return _percent(value) if isinstance(value, float) or value is None else str(value).lower()


def _moved(moved: Mapping[str, Any]) -> str:
    lines = [f"**{moved['sentence']}**"]
    lines += [f"- {sentence}." for sentence in moved["old_on_new"]]
    return "\n\n".join([lines[0], "\n".join(lines[1:])]) if lines[1:] else lines[0]


def _certificate(report: Mapping[str, Any]) -> str:
    found = report["selection"]["confident"]["certificate"]
    if found is None:
        return (
            "None is asked for: the policy bounds neither the confident-wrong share nor covered "
            "top-1."
        )
    claims = " and ".join(
        CLAIMS[claim["quantity"]].format(target=_percent(claim["target"]))
        for claim in found["claims"]
    )
    against = (
        "against the given labels" if report["labels"]["provisional"] else "against these labels"
    )
    if found["status"] == "certified":
        said = [
            f"**Certified {against}** down to {found['threshold']:.3f}, which covers "
            f"{_percent(found['coverage'])}: {claims}. Wrong with probability at most "
            f"{found['delta']:g} over the draw of patients."
        ]
        said.append(
            "The released value is certified."
            if found["released_is_certified"]
            else "**The released value is not certified**; `certify.enforce` would release the "
            f"certified one. {_needed(found)}"
        )
    else:
        said = [f"**Cannot be certified**: {claims}: {found['reason']}. {_needed(found)}"]
    lines = [
        f"- Method: {found['method']}; {found['n_patients']:,} patients, {found['n_images']:,} "
        f"images, at most {found['max_images_per_patient']} a patient ({found['n_dropped']:,} left "
        f"out); tested from {found['start']:.3f} down.",
        *(
            []
            if found["patients_known"]
            else ["- Patients are not known for every image: each such image counts as its own."]
        ),
        *(
            f"- Quoted alone, at half of delta, {CLAIMS[c['quantity']].format(target='its bound')}"
            f": {c['alone']:.3f}."
            for c in found["claims"]
            if c["alone"] is not None
        ),
        *_groups(found),
        (
            "- How often these rows have been looked at is not counted."
            if found["looks"] is None
            else f"- {looked(found['looks'], found['delta'])}"
        ),
        *(f"- {sentence}" for sentence in found["scope"]),
    ]
    return "\n\n".join([" ".join(said), "\n".join(lines)])


def _reviewers(reviews: Mapping[str, Any] | None) -> str:
    if reviews is None:
        return "Who reviewed these labels, how blindly and with what agreement is not known."
    lines = "\n".join(f"- {line}." for line in reviewer_lines(reviews))
    rows = reviewer_rows(reviews)
    return f"{lines}\n\n{table(HEAD, rows)}" if rows else lines


def _partial(report: Mapping[str, Any]) -> str:
    found = report["partial_review"]
    rows = []
    for name, words in (
        ("confident_wrong", "confident and wrong, of all images"),
        ("covered_top1", "right, of confident answers"),
    ):
        item = found[name]
        figures = (_percent(item[key], 2) for key in ("given", "overwritten", "estimate"))
        rows.append((words, *figures, _ends(item["ci95"])))
    head = ("at the released value", "given labels", "reviews put over them", "estimate")
    upper = found["confident_wrong"]["upper_certified"]
    lines = [
        f"{found['n_reviewed']:,} of {report['n']:,} images are reviewed. Reviews go where the "
        "model disagrees with the label, so putting them over the given labels flatters it; the "
        "estimate weighs each review by how probably its image was drawn. "
        + (
            "The rules and criteria on wrong answers use the given labels, because no estimate "
            if found["confident_wrong"]["estimate"] is None
            else "The rules and criteria on wrong answers use the estimate"
        )
        + ("exists" if found["confident_wrong"]["estimate"] is None else "")
        + "; all other tables use the labels in force.",
        table((*head, "95 %, approximate"), rows),
    ]
    if upper is not None:
        lines.append(f"Certified upper bound of the first line: {_percent(upper)}.")
    undecided = found["confident_wrong"]["undecided"]
    if undecided is not None and undecided[0] < undecided[1]:
        lines.append(
            "If every undecided review above the threshold were right, the first line would be "
            f"{_percent(undecided[0], 2)}; if every one were wrong, {_percent(undecided[1], 2)}."
        )
    return "\n\n".join([*lines, "\n".join(f"- {note}." for note in found["notes"])])


def _noise(report: Mapping[str, Any]) -> str:
    found = report["label_noise"]
    rows = [
        (row["tier"], _NOISE[row["statistic"]], _percent(row["observed"]), _percent(row["eta"]),
         _ends((row["low"], row["high"])))
        for row in found["bounds"]
    ]  # fmt: skip
    lines = [
        "Without any assumption on which labels are wrong, if at most the share eta of them is "
        "(declared by the policy, or the upper end of what reviews found):",
        table(("tier", "figure", "observed", "eta", "the true one lies in"), rows),
    ]
    if found["scenario"]:
        told = []
        for row in found["scenario"]["tiers"]:
            if row["refused"]:
                told.append(f"{row['tier']}: {row['refused']}")
            elif row["top1"] is not None:
                told.append(f"{row['tier']} {_percent(row['top1'])} right")
        lines.append(f"Scenario, {found['scenario']['name']}: {'; '.join(told)}.")
    return "\n\n".join(lines)


def _fails(report: Mapping[str, Any]) -> str:
    known = [row for row in report["per_class"] if row["recall"] is not None]
    worst = sorted(known, key=lambda row: (row["recall"], row["class"]))[:_WORST]
    rows = [
        (row["class"], f"{row['n']:,}" + (" (too few)" if row["too_few"] else ""),
         f"{_percent(row['recall'])} ({_ends((row['recall_low'], row['recall_high']))})",
         _percent(row["confident_share"]), _percent(row["confident_wrong_predicted"]))
        for row in worst
    ]  # fmt: skip
    head = ("class, worst recall first", "images", "recall (95 %, approximate)",
            "answered confidently", "wrong, of confident answers that name it")  # fmt: skip
    lines = [table(head, rows)]
    groups = [r for r in report["subgroups"] or () if r["confident_wrong"] is not None]
    if groups:
        bad = sorted(groups, key=lambda r: (-r["confident_wrong"], r["column"], r["group"]))
        lines.append(
            f"Of {len(report['subgroups'])} subgroups those with most confident wrong answers "
            "(some look bad by chance):"
        )
        told = [
            (f"{r['column']}: {r['group']}", f"{r['n']:,}" + (" (too few)" if r["too_few"] else ""),
             f"{_percent(r['confident_wrong'])} "
             f"({_ends((r['confident_wrong_low'], r['confident_wrong_high']))})",
             _percent(r["coverage"]), _percent(r["refer_share"]))
            for r in bad[:_WORST]
        ]  # fmt: skip
        head = ("subgroup", "images", "confident and wrong (95 %)", "confident", "referred")
        lines.append(table(head, told))
    return "\n\n".join([*lines, "All classes and subgroups: `report.html`."])


def _calibration(found: Mapping[str, Any]) -> str:
    said = [
        f"Calibration error {_percent(found['ece'])} (equal-mass bins), bias removed "
        f"{_percent(found['ece_debiased'])}."
    ]
    if found["temperature"] is not None:
        mapped = ", ".join(
            f"{name} {value:.3f}" for name, value in found["mapped_thresholds"].items()
            if value is not None
        )  # fmt: skip
        said.append(
            f"A temperature of {found['temperature']:.2f} would calibrate it best; the same tiers "
            f"then lie at {mapped}. Nothing here applies it."
        )
    said.append(
        f"Area under the risk-coverage curve {found['aurc']:.4f}, {found['e_aurc']:.4f} above the "
        "best possible order."
    )
    return " ".join(said)


def _needed(certificate: Mapping[str, Any]) -> str:
    at, needed = certificate["rows_needed_at"], certificate["rows_needed"]
    if at is None or needed is None:
        return ""
    if needed == "never":
        return (
            f"At {at:.3f} no number of images would do: the rate observed there is at or above "
            "its bound."
        )
    rounded = round(needed, 2 - len(str(needed)))  # two digits: it is an estimate
    return f"At {at:.3f} and the rate observed there about {rounded:,} images give 80 % power."


def _groups(certificate: Mapping[str, Any]) -> list[str]:
    rows = certificate["subgroups"]
    if not rows:
        return []
    failing = [row for row in rows if not row["holds"]]
    named = ", ".join(
        f"{row['column']} = {row['group']} (n {row['n_images']:,})" for row in failing
    )
    said = f"not shown for {named}" if failing else "shown for every one"
    return [f"- At the released value, of {len(rows)} claims in subgroups (Holm): {said}."]


def _selection(report: Mapping[str, Any], policy: TierPolicy) -> str:
    lines = []
    for side in ("confident", "refer"):
        fit = report["selection"][side]
        lines.append(
            f"- **{side}**: fitted {fit['fitted']:.4f}, {_between(fit)}; released "
            f"{fit['released']:.3f}, rounded up."
            + (
                f" At the released value the rule's own figure is {_percent(fit['at_released'])}"
                + (
                    " (estimated for all labels)."
                    if fit["estimated"]
                    else " (by the given labels: no estimate for all labels exists)."
                    if fit["on_given"]
                    else "."
                )
                if fit["at_released"] is not None
                else ""
            )
        )
        if fit["raised_to_certified"]:
            lines.append("  Raised to the certified value, as the policy says.")
        if fit["raised_to_refer"]:
            lines.append(
                "  The confident value the rule found lies below refer and was raised to it: "
                "no image is *possible*, and the rule could allow more than is answered."
            )
        lines += [
            f"  - {other['rule']} at {_percent(other['target'])} would have chosen "
            + (f"{other['released']:.3f}" if other["released"] is not None else "nothing: not met")
            for other in fit["alternatives"]
        ]
    if not rounding_kept(report)[0]:
        lines.append(
            "- **Warning**: rounding to three decimals changed a figure by more than 2 points: "
            "these scores crowd at one end. Calibrate them before use."
        )
    item = policy.possible_item
    lines.append(
        f"- **possible_item**: items with probability above {item.cut:g} are highlighted, "
        f"at least {item.floor}, at most {item.cap}; set by the policy, not fitted."
    )
    return "\n".join(lines)


def _between(fit: Mapping[str, Any]) -> str:
    parts = fit["ci95_set"]
    if not parts:
        return "no interval (undefined here)"
    told = " and ".join(f"{low:.4f} to {high:.4f}" for low, high in parts)
    joined = "" if len(parts) == 1 else ", not connected: the rate crosses its target several times"
    return f"{told} (95 %, approximate{joined})"


def _patients(report: Mapping[str, Any]) -> str:
    found, ends = report["patients"], report["intervals"]["patients"]
    rows = [
        (words, f"{_percent(found[name])}", _ends(ends[name])) for name, words in PATIENTS.items()
    ]
    note = "" if found["known"] else " Images without a patient count as one each."
    return f"{found['n']:,} patients, {found['n_images']:,} images.{note}\n\n" + table(
        ("each patient counted once", "share", "95 %, approximate"), rows
    )


def _ends(interval: Sequence[float | None] | None) -> str:
    if interval is None or None in interval:
        return "undefined"
    return " to ".join(_percent(end) for end in interval)


def _tiers(report: Mapping[str, Any]) -> str:
    old = report["deployed"]
    rows = []
    for name, tier in report["tiers"].items():
        before = _percent(old["tiers"][name]["share"]) if old else "not known"
        share, top1, top3 = (_percent(tier[key]) for key in ("share", "top1", "top3"))
        rows.append((name, f"{tier['n']:,}", before, share, top1, top3))
    full = report["full_coverage"]
    rows.append(
        ("all", f"{report['n']:,}", "", "100.0 %", _percent(full["top1"]), _percent(full["top3"]))
    )
    head = ("tier", "images", "share at deployed", "share", "right", "truth among best three")
    return table(head, rows)


def _outcomes(report: Mapping[str, Any]) -> str:
    old, ends = report["deployed"], report["intervals"]["images"]
    rows = []
    for key, words in OUTCOMES.items():
        before = f"{1000 * old['outcomes'][key]:.1f}" if old else "not known"
        interval = ends[f"outcomes.{key}"]
        told = (
            "undefined"
            if interval is None
            else "{:.1f} to {:.1f}".format(*(1000 * end for end in interval))
        )
        rows.append((words, before, f"{1000 * report['outcomes'][key]:.1f}", told))
    head = ("outcome", "deployed thresholds", "new thresholds", "95 %, approximate")
    return table(head, rows)


def _crossings(report: Mapping[str, Any]) -> str:
    moved = [row for row in report["deployed"]["crossings"] if row["n"]]
    if not moved:
        return "No image changes tier."
    return "\n".join(
        f"- {row['old_tier']} to {row['new_tier']}: {row['n']:,} images, "
        f"{row['n_wrong']:,} of them with a wrong first answer"
        for row in moved
    )


def _baseline(report: Mapping[str, Any]) -> str:
    base = report["baseline"]
    change = base["difference"]
    return (
        f"Over the {base['n_common']:,} images in both: first answer right "
        f"{100 * change['top1']:+.2f} points ({change['gained']:,} gained, {change['lost']:,} "
        f"lost), truth among the best three {100 * change['top3']:+.2f} points. The baseline "
        f"gives {1000 * base['outcomes']['confident_wrong']:.1f} confident wrong answers and "
        f"{1000 * base['outcomes']['refer']:.1f} referrals per 1,000 at "
        f"{base['thresholds']['confident']:g} / {base['thresholds']['refer']:g}."
    )


def _limits(report: Mapping[str, Any], tta: bool | None) -> str:
    lines = [
        "- Plug-in values are the loosest thresholds that meet the targets on the same images they "
        "are reported on. On new images such a choice misses its target in about half of all "
        "cases, usually by little. Only what is called certified above carries a guarantee.",
        "- Intervals are by patient and approximate. A change well inside the interval means "
        "nothing.",
        "- All rates hold for images like these, served as these were.",
    ]
    n_reviewed = report["labels"]["n_reviewed"]
    if n_reviewed and n_reviewed < report["n"]:
        lines.append(
            "- **Reviewed labels are a selection.** Labels are reviewed mostly because the model "
            "disagrees with them; correcting those and not the errors it agrees with makes the "
            "model look better than it is."
        )
    if report["labels"]["provisional"]:
        lines.append("- Labels are provisional: fit again when the reviews return.")
    if tta is None:
        lines.append("- Whether mirror images were averaged (TTA) is not known.")
    elif not tta:
        lines.append("- Without mirror images (TTA off): serve it the same way.")
    return "\n".join(lines)


def _percent(value: float | None, digits: int = 1) -> str:
    return "none" if value is None else f"{100 * value:.{digits}f} %"
