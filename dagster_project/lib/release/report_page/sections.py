"""The sections of the page below the slider, in order.

Belongs: the order, what stands under the title, the limits.
Does not: numbers of its own; a part whose key is absent or null says so in one sentence.
Concept: one function a section, from the report to a :class:`Section`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster_project.lib.release.report_page.parts import (
    Items,
    Section,
    count,
    fixed,
    name,
)
from dagster_project.lib.release.report_page.slider import (
    Grid,
    certified_at,
)

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.policy import TierPolicy

from dagster_project.lib.release.report_page.doubts import (
    calibration_section,
    fails_section,
    noise_section,
    partial_section,
    reviewers_section,
)
from dagster_project.lib.release.report_page.fitted import certificate_section, thresholds_section
from dagster_project.lib.release.report_page.impact import moved_section, tiers_section


def sections(
    report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid, policy: TierPolicy
) -> list[Section]:
    """Every section below the slider, in order."""
    partial = partial_section(report)
    return [
        thresholds_section(report, curve, grid),
        certificate_section(report),
        reviewers_section(report),
        *([] if partial is None else [partial]),
        tiers_section(report),
        moved_section(report),
        fails_section(report),
        calibration_section(report, grid),
        noise_section(report),
        _limits(report, policy),
    ]


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
    if report["selection"]["confident"].get("raised_to_certified"):
        lines.append("The confident value was raised to the certified one, as the policy says.")
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
