"""The whole evaluation: ``tier_reports.json``, every section in one place.

Belongs: which sections there are and what each is given.
Does not: any statistic (its own modules), words and files (``lib.release``).
Concept: aggregates only, plain JSON; a section that has nothing to say is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.lib.calibration.summary import calibration_summary
from dagster_project.lib.evidence.label_noise import label_noise_report, reviewed_noise
from dagster_project.lib.evidence.partial_review import partial_review_report
from dagster_project.lib.tiers.acceptance import acceptance
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.intervals import tier_intervals
from dagster_project.lib.tiers.movement import crossings, paired, what_moved
from dagster_project.lib.tiers.per_class import per_class
from dagster_project.lib.tiers.reports import baseline_report, tier_report
from dagster_project.lib.tiers.subgroups import groupable, subgroup_table

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.selection import ThresholdFit
    from dagster_project.lib.tiers.thresholds import Thresholds


@dataclass(frozen=True)
class LabelsInfo:
    """Which labels were used; ``provisional`` until the reviews that matter have returned.

    ``n_reviewed``: scored images whose label reviewers decided (confirmed or corrected); None if
    that is not known.
    """

    version: str
    provisional: bool
    n_reviewed: int | None


@dataclass(frozen=True)
class Context:
    """What the rows are judged beside; None where it is not known.

    Attributes
    ----------
    labels : which labels the rows carry.
    reviews : who reviewed, how blindly, with what agreement (what ``release.reviewers`` words).
    deployed : the thresholds in service.
    baseline : scored rows of what is in service: other probabilities, or other labels.
    groups : ``image_uuid`` and metadata columns, for subgroups.
    subgroups : the columns to show; None: all with few groups.
    looks : how often these rows have been looked at, this time included.
    classes : (K,) class names in output order.
    """

    labels: LabelsInfo
    reviews: Mapping[str, Any] | None = None
    deployed: Thresholds | None = None
    baseline: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    subgroups: Sequence[str] | None = None
    looks: int | None = None
    classes: tuple[str, ...] | None = None


GROUP_PREFIX = "metadata."
"""Before the name of a metadata column that travels with scored rows."""


def groups_in(scored: pl.DataFrame) -> pl.DataFrame | None:
    """``image_uuid`` and the metadata columns that travel with scored rows; None without any."""
    carried = [name for name in scored.columns if name.startswith(GROUP_PREFIX)]
    if not carried:
        return None
    names = {name: name.removeprefix(GROUP_PREFIX) for name in carried}
    return scored.select("image_uuid", *carried).rename(names)


def full_report(
    scored: pl.DataFrame, fit: ThresholdFit, policy: TierPolicy, context: Context
) -> dict[str, Any]:
    """The whole ``tier_reports.json``.

    :func:`tier_report` at the released thresholds (its numbers are over images: ``estimand``), with
    ``intervals`` and ``patients`` (of :func:`tier_intervals`), ``selection`` (rule, target, fitted,
    interval, certificate; a refer threshold is never certified), ``accept`` (of
    :func:`acceptance`), ``labels``, ``reviews`` (null: not known), ``label_noise`` (of
    :func:`label_noise_report`), ``partial_review`` (of :func:`partial_review_report`),
    ``calibration`` (of :func:`calibration_summary`), ``per_class``, ``subgroups`` (null without
    metadata), ``baseline`` (:func:`baseline_report` at the deployed thresholds if known, else
    at the new ones),
    ``deployed`` (:func:`tier_report` of *these* rows at the deployed thresholds, with
    ``crossings``) and ``moved`` (of :func:`what_moved`); the last three are null when there
    is nothing to compare with.
    """
    at, deployed, baseline = fit.thresholds, context.deployed, context.baseline
    certificate = None if fit.certificate is None else fit.certificate.model_dump(mode="json")
    tiers = tier_report(scored, at)
    sampled = "inclusion_probability" in scored.columns
    partial = None
    if sampled:
        cap = policy.certify.max_images_per_patient
        partial = partial_review_report(scored, at, policy.certify.delta, max_images=cap)
    selection = {
        "confident": {**fit.confident_rule.model_dump(mode="json"), "certificate": certificate},
        "refer": {**fit.refer_rule.model_dump(mode="json"), "certificate": None},
    }
    return {
        "estimand": "images",
        **tiers,
        **tier_intervals(scored, at),
        "selection": selection,
        "accept": acceptance(
            {**tiers, "selection": selection, "partial_review": partial}, policy.accept
        ),
        "labels": asdict(context.labels),
        "reviews": None if context.reviews is None else dict(context.reviews),
        "label_noise": label_noise_report(
            tiers,
            policy,
            None if context.classes is None else len(context.classes),
            reviewed=reviewed_noise(scored, tier_of(scored, at)) if sampled else None,
        ),
        "partial_review": partial,
        "calibration": calibration_summary(scored, at.as_dict()),
        "per_class": per_class(scored, at, classes=context.classes).to_dicts(),
        "subgroups": _subgroups(scored, fit, context),
        "moved": what_moved(scored, fit, deployed=deployed, baseline=baseline),
        "baseline": None if baseline is None else baseline_report(scored, baseline, deployed or at),
        "deployed": None
        if deployed is None
        else {
            **tier_report(scored, deployed),
            "crossings": crossings(paired(scored, scored, deployed, at)),
        },
    }


def _subgroups(
    scored: pl.DataFrame, fit: ThresholdFit, context: Context
) -> list[dict[str, Any]] | None:
    """Rows of ``subgroup_table``; where claims were tested by group, whether all hold there."""
    if context.groups is None:
        return None
    columns = groupable(context.groups) if context.subgroups is None else context.subgroups
    tested = () if fit.certificate is None else fit.certificate.subgroups
    rows = subgroup_table(scored, context.groups, fit.thresholds, columns).to_dicts()
    for row in rows:
        own = [t for t in tested if (t.column, t.group) == (row["column"], row["group"])]
        row["holds"] = all(t.holds for t in own) if own else None
        row["p"] = max((t.p for t in own), default=None)
    return rows
