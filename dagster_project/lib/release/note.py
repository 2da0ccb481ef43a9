"""``report.md``: one page that says in words what was fitted and what it does.

Belongs: the wording for a clinician and a reviewer of the pull request.
Does not: any number of its own; everything is read from ``tier_reports.json``.
Concept: what changes, per 1,000 images, on which labels, and what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib.release.conditions import rounding_kept
from dagster_project.lib.tiers.thresholds import ENV_NAMES

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy

_RULES = {
    "coverage": "answer confidently at least {target} of images",
    "covered_top1": "at least {target} of confident answers are right",
    "confident_wrong_share": "at most {target} of all images get a confident wrong answer",
    "share": "refer at most {target} of images",
    "kept_top3": "for at least {target} of images not referred, the truth is among the best three",
    "fixed": "fixed at {value}",
}
_OUTCOMES = {
    "confident_correct": "confident and right",
    "confident_wrong": "confident and wrong",
    "possible_top3": "possible, truth among the best three",
    "possible_miss": "possible, truth not among them",
    "refer": "referred to a doctor",
}


def release_note(report: Mapping[str, Any], policy: TierPolicy, tta: bool | None) -> str:
    """Markdown of about one page; ``report`` as ``reports.full_report`` returns it."""
    parts = [
        "# Tier thresholds: candidate for release",
        _labels(report),
        "## Thresholds\n\n" + _thresholds(report),
        "## How they were chosen\n\n" + _selection(report, policy),
        "## What they do\n\n" + _tiers(report),
        "## Per 1,000 images\n\n" + _outcomes(report),
        *([("## Who changes tier\n\n" + _crossings(report))] if report["deployed"] else []),
        *([("## Against the baseline\n\n" + _baseline(report))] if report["baseline"] else []),
        "## Limits\n\n" + _limits(report, policy, tta),
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
    return _table(("threshold", "deployed", "new", "change"), rows)


def _selection(report: Mapping[str, Any], policy: TierPolicy) -> str:
    lines = []
    for side in ("confident", "refer"):
        fit = report["selection"][side]
        text = _RULES[fit["rule"]].format(target=_percent(fit["target"]), value=fit["target"])
        between = (
            f"{fit['ci95'][0]:.4f} to {fit['ci95'][1]:.4f} (95 %, approximate)"
            if fit["ci95"]
            else "no interval (undefined here)"
        )
        lines.append(
            f"- **{side}**: {text}. Fitted {fit['fitted']:.4f}, {between}; released "
            f"{fit['released']:.3f}, rounded up."
            + (
                f" At the released value the rule's own figure is {_percent(fit['at_released'])}."
                if fit["at_released"] is not None
                else ""
            )
        )
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
    return _table(head, rows)


def _outcomes(report: Mapping[str, Any]) -> str:
    old = report["deployed"]
    rows = []
    for key, words in _OUTCOMES.items():
        before = f"{1000 * old['outcomes'][key]:.1f}" if old else "not known"
        rows.append((words, before, f"{1000 * report['outcomes'][key]:.1f}"))
    return _table(("outcome", "deployed thresholds", "new thresholds"), rows)


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


def _limits(report: Mapping[str, Any], policy: TierPolicy, tta: bool | None) -> str:
    lines = [
        "- **Not certified.** These are plug-in values: the loosest thresholds that meet the "
        "targets on the same images they are reported on. On new images such a choice misses its "
        "target in about half of all cases, usually by little.",
        "- Intervals come from resampling patients and are approximate. A change well inside the "
        "interval means nothing.",
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
    if policy.accept != type(policy.accept)():
        lines.append("- The policy's `accept` criteria are recorded and were **not** evaluated.")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
