"""The whole evaluation: ``tier_reports.json``, every section in one place.

Belongs: which sections there are and what each is given.
Does not: any statistic (its own modules), words and files (``lib.release``).
Concept: aggregates only, plain JSON; a section that has nothing to say is null.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.lib.tiers.acceptance import acceptance
from dagster_project.lib.tiers.intervals import tier_intervals
from dagster_project.lib.tiers.movement import crossings, paired, what_moved
from dagster_project.lib.tiers.reports import baseline_report, tier_report

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
    deployed : the thresholds in service.
    baseline : scored rows of what is in service: other probabilities, or other labels.
    groups : ``image_uuid`` and metadata columns, for subgroups.
    looks : how often these rows have been looked at, this time included.
    """

    labels: LabelsInfo
    deployed: Thresholds | None = None
    baseline: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    looks: int | None = None


def full_report(
    scored: pl.DataFrame, fit: ThresholdFit, policy: TierPolicy, context: Context
) -> dict[str, Any]:
    """The whole ``tier_reports.json``.

    :func:`tier_report` at the released thresholds (its numbers are over images: ``estimand``), with
    ``intervals`` and ``patients`` (of :func:`tier_intervals`), ``selection`` (rule, target, fitted,
    interval, certificate; a refer threshold is never certified), ``accept`` (of
    :func:`acceptance`), ``labels``, ``baseline``
    (:func:`baseline_report` at the deployed thresholds if known, else at the new ones),
    ``deployed`` (:func:`tier_report` of *these* rows at the deployed thresholds, with
    ``crossings``) and ``moved`` (of :func:`what_moved`); the last three are null when there
    is nothing to compare with.
    """
    at, deployed, baseline = fit.thresholds, context.deployed, context.baseline
    certificate = None if fit.certificate is None else fit.certificate.model_dump(mode="json")
    tiers = tier_report(scored, at)
    selection = {
        "confident": {**fit.confident_rule.model_dump(mode="json"), "certificate": certificate},
        "refer": {**fit.refer_rule.model_dump(mode="json"), "certificate": None},
    }
    return {
        "estimand": "images",
        **tiers,
        **tier_intervals(scored, at),
        "selection": selection,
        "accept": acceptance({**tiers, "selection": selection}, policy.accept),
        "labels": asdict(context.labels),
        "moved": what_moved(scored, fit, deployed=deployed, baseline=baseline),
        "baseline": None if baseline is None else baseline_report(scored, baseline, deployed or at),
        "deployed": None
        if deployed is None
        else {
            **tier_report(scored, deployed),
            "crossings": crossings(paired(scored, scored, deployed, at)),
        },
    }
