"""What the reviews did to the thresholds: fitted on given labels, and on what is known now.

Belongs: the fit on given labels of the same rows, and what the reviews say of both fits.
Does not: fitting (``tiers.selection``), the estimate (``evidence.partial_review``), movement
against what is in service (``tiers.movement``).
Concept: same rows, same scores, same policy; only the labels differ, so the difference is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.evidence.partial_review import (
    at_threshold,
    estimated_curve,
    given_right,
    reviewed_rows,
)
from dagster_project.lib.tiers.evaluation import groups_in
from dagster_project.lib.tiers.selection import fit_thresholds

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.selection import ThresholdFit

REVIEW_COLUMNS = (
    "given_label",
    "reviewed",
    "returned",
    "asked",
    "inclusion_probability",
    "stratum",
)


def as_given(scored: pl.DataFrame) -> pl.DataFrame:
    """Scored rows as they would be had nobody reviewed them; those without a given label left out.

    ``top3`` is whether the given label is among the three best classes: of a fourth class with the
    same probability as the third these rows know nothing.
    """
    rows = scored.filter(pl.col("given_label").is_not_null()).with_columns(
        label=pl.col("given_label"),
        top1=given_right(),
        top3=pl.col("top_classes").list.contains(pl.col("given_label")),
    )
    return rows.drop(REVIEW_COLUMNS, strict=False)


def threshold_effect(
    scored: pl.DataFrame,
    policy: TierPolicy,
    fit: ThresholdFit,
    *,
    expected: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Thresholds before and after the reviews, and what the reviews say of both.

    Parameters
    ----------
    scored : (N,) rows with the columns of ``sample.with_reviews``.
    policy, fit : the policy and the fit in force on these rows.
    expected : of the packet's summary, the confident-wrong share that its priors made likely
        (``expected, half_width``), at the thresholds it was built with.

    Returns
    -------
    ``before`` and ``after``: ``confident``, ``refer`` (as released, on given labels and in force)
    and, at that confident threshold, ``given`` (W by given labels), ``estimate`` and ``ci95`` (W of
    all labels, from the reviews); ``change`` (after - before); ``expected``; ``reason``, why
    ``before`` is null. A figure that does not exist is null.
    """
    rows = reviewed_rows(scored)
    curve = estimated_curve(rows) if rows.reviewed.any() else None
    after = _at(fit, curve)
    found: dict[str, Any] = {
        "before": None,
        "after": after,
        "change": None,
        "expected": None if expected is None else dict(expected),
        "reason": None,
    }
    given = as_given(scored)
    if given.is_empty():
        return {**found, "reason": "no image has a given label"}
    try:
        own = fit_thresholds(given, policy, groups=groups_in(given))
    except RefusedError as error:
        return {**found, "reason": f"on given labels: {error}"}
    before = _at(own, curve)
    change = {name: after[name] - before[name] for name in ("confident", "refer")}
    return {**found, "before": before, "change": change}


def _at(fit: ThresholdFit, curve: pl.DataFrame | None) -> dict[str, Any]:
    at = None if curve is None else at_threshold(curve, fit.confident)
    known = at is not None and at["low"] is not None
    return {
        "confident": fit.confident,
        "refer": fit.refer,
        "given": None if at is None else at["given"],
        "estimate": None if at is None else at["estimate"],
        "ci95": [at["low"], at["high"]] if at is not None and known else None,
    }
