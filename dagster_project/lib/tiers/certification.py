"""What a policy asks to be certified, on these rows.

Belongs: claims and terms from the policy, its subgroups, which labels the test may use.
Does not: the test (``evidence.certificate``), choosing a threshold (``selection``).
Concept: labels that were reviewed in part are tested by what is known of all labels, never by what
overwriting some of them would give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.certificate import (
    Certificate,
    Claim,
    ReviewedInPart,
    Terms,
    certify,
    certify_reviewed,
)
from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
    reviewed_rows,
)
from dagster_project.lib.evidence.review_bound import review_test, shortage
from dagster_project.lib.evidence.rows import patient_rows
from dagster_project.lib.tiers.policy import START_WITH_ACCURACY
from dagster_project.lib.tiers.subgroups import group_names

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy


def partly_reviewed(scored: pl.DataFrame, max_images: int | None = None) -> ReviewedRows | None:
    """The rows with what was reviewed; None where nothing was, or everything."""
    if "inclusion_probability" not in scored.columns:
        return None
    partly = scored["reviewed"].any() and not scored["reviewed"].all()
    return reviewed_rows(scored, max_images=max_images) if partly else None


def claims_of(policy: TierPolicy) -> tuple[Claim, ...]:
    """What a certificate must show: the confident rule's target and what ``accept`` bounds.

    Where both bound the same quantity the stricter counts.
    """
    bounds: dict[str, list[float]] = {"confident_wrong_share": [], "covered_top1": []}
    if policy.confident.rule in bounds:
        bounds[policy.confident.rule].append(policy.confident.target)
    for quantity, asked in bounds.items():
        wanted = getattr(policy.accept, quantity)
        if wanted is not None:
            asked.append(wanted)
    found = []
    if bounds["confident_wrong_share"]:
        found.append(Claim("confident_wrong_share", min(bounds["confident_wrong_share"])))
    if bounds["covered_top1"]:
        found.append(Claim("covered_top1", max(bounds["covered_top1"])))
    return tuple(found)


def certified_by(
    scored: pl.DataFrame,
    policy: TierPolicy,
    *,
    released: float,
    groups: pl.DataFrame | None = None,
    looks: int | None = None,
) -> Certificate | None:
    """The certificate that a policy asks for; None where it bounds nothing that can be certified.

    Errors as :func:`fit_thresholds`.
    """
    claims = claims_of(policy)
    if not claims:
        return None
    asked = policy.certify
    accuracy = any(claim.quantity == "covered_top1" for claim in claims)
    terms = Terms(
        delta=asked.delta,
        start=(START_WITH_ACCURACY if accuracy else 1.0) if asked.start is None else asked.start,
        max_images=asked.max_images_per_patient,
        min_coverage=asked.min_coverage or 0.0,
        models=asked.models,
    )
    rows = patient_rows(scored, max_images=terms.max_images)
    review = partly_reviewed(scored, terms.max_images)
    if review is not None:
        tested = _reviewed_in_part(review, policy, terms)
        return certify_reviewed(rows, claims, terms, tested, released=released, looks=looks)
    parts = {
        part: patient_rows(frame, max_images=terms.max_images)
        for part, frame in _groups(scored, groups, asked.subgroups).items()
    }
    return certify(rows, claims, terms, released=released, groups=parts, looks=looks)


def _reviewed_in_part(review: ReviewedRows, policy: TierPolicy, terms: Terms) -> ReviewedInPart:
    """How W is tested on labels reviewed in part; other claims have no valid bound there."""
    claims = {claim.quantity: claim for claim in claims_of(policy)}
    wrong = claims.get("confident_wrong_share")
    curve = estimated_curve(review)

    def observed(threshold: float) -> float | None:
        found = None if curve is None else at_threshold(curve, threshold)
        return None if found is None else found["estimate"]

    if wrong is None or len(claims) > 1 or policy.certify.subgroups:
        note = "covered top-1 and subgroups can be certified once every image in play is reviewed"
        return ReviewedInPart(lambda _: False, observed, note)
    note = shortage(int((review.drawn & review.reviewed).sum()))
    passes = review_test(review, wrong.alpha, terms.level, max_images=terms.max_images)
    return ReviewedInPart(passes, observed, note)


def _groups(
    scored: pl.DataFrame, groups: pl.DataFrame | None, columns: tuple[str, ...]
) -> dict[tuple[str, str], pl.DataFrame]:
    """(column, group) -> its scored rows; an image whose group is not known is in "unknown"."""
    missing = [name for name in columns if groups is None or name not in groups.columns]
    if missing:
        raise InputError(
            f"certify.subgroups: no column {some(missing)} beside the images; "
            "pass metadata that has it, or leave it out"
        )
    found: dict[tuple[str, str], pl.DataFrame] = {}
    if groups is not None:
        for column in columns:
            joined = scored.with_columns(group_names(scored, groups, column))
            for (group,), part in joined.sort("group").group_by("group", maintain_order=True):
                found[column, str(group)] = part.drop("group")
    return found
