"""What moved: the new fit against what was in service, image by image.

Belongs: paired differences with their intervals, who crosses tiers, the old thresholds on the new
scores, one verdict in words.
Does not: choosing thresholds (``selection``), blocking a release (``release.conditions``).
Concept: before = the baseline's rows (old scores, old labels) at the deployed thresholds, after =
these rows at the new ones, joined by ``image_uuid``. Without a baseline only thresholds moved. A
difference is judged against its 95 % interval by patient (linearised ratio, approximate).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.rows import patient_key
from dagster_project.lib.tiers.assign import TIERS, tier_of

if TYPE_CHECKING:
    from dagster_project.lib.tiers.selection import ThresholdFit
    from dagster_project.lib.tiers.thresholds import Thresholds

STOP_MOVE = 0.1
"""A threshold that moves further than this is no refit of the same thing."""

STOP_NEW_WRONG = 0.01
"""Share of images that become confident and wrong from which a person must look."""


def paired(
    scored: pl.DataFrame, baseline: pl.DataFrame, old: Thresholds, new: Thresholds
) -> pl.DataFrame:
    """Every image that is in both, before and after.

    Returns
    -------
    Sorted by ``image_uuid``: ``image_uuid, patient, label, old_tier, new_tier, old_right,
    new_right, into_confident_wrong`` (confident and wrong now, and not before).

    Raises
    ------
    InputError
        No image in common.
    """
    before = baseline.select(
        "image_uuid", pl.col("top1").alias("old_right"), tier_of(baseline, old).alias("old_tier")
    )
    after = scored.select(
        "image_uuid",
        patient_key(),
        "label",
        pl.col("top1").alias("new_right"),
        tier_of(scored, new).alias("new_tier"),
    )
    both = after.join(before, on="image_uuid").sort("image_uuid")
    if both.is_empty():
        raise InputError("baseline probabilities: no image in common with the new ones")
    wrong_now = (pl.col("new_tier") == "confident") & ~pl.col("new_right")
    wrong_then = (pl.col("old_tier") == "confident") & ~pl.col("old_right")
    return both.select(
        "image_uuid",
        "patient",
        "label",
        "old_tier",
        "new_tier",
        "old_right",
        "new_right",
        (wrong_now & ~wrong_then).alias("into_confident_wrong"),
    )


def crossed_images(pairs: pl.DataFrame) -> pl.DataFrame:
    """The images that changed tier or became confident and wrong; these first. No patient ids."""
    moved = pl.col("old_tier") != pl.col("new_tier")
    columns = [name for name in pairs.columns if name not in ("patient", "label")]
    return (
        pairs.filter(moved | pl.col("into_confident_wrong"))
        .sort(["into_confident_wrong", "image_uuid"], descending=[True, False])
        .select(columns)
    )


def crossings(pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """How many images change tier: 6 rows, one for each pair of different tiers.

    Returns
    -------
    ``old_tier``, ``new_tier``, ``n``, ``n_wrong`` (images among them whose first answer is wrong
    now). Zero counts are listed.
    """
    counted = pairs.group_by("old_tier", "new_tier").agg(pl.len(), (~pl.col("new_right")).sum())
    found = {(old, new): (n, wrong) for old, new, n, wrong in counted.iter_rows()}
    rows = []
    for old, new in [(a, b) for a in TIERS for b in TIERS if a != b]:
        n, wrong = found.get((old, new), (0, 0))
        rows.append({"old_tier": old, "new_tier": new, "n": n, "n_wrong": wrong})
    return rows


def paired_difference(
    pairs: pl.DataFrame, before: pl.Expr, after: pl.Expr, *, by: str | None = None
) -> pl.DataFrame:
    """Mean of ``after`` minus mean of ``before`` over images, with a 95 % interval by patient.

    With d the differences of a patient's rows summed and m their number, D = sum d / sum m and its
    variance sum (d - D m)^2 / (sum m)^2 (linearised ratio; Cochran, Sampling Techniques, 3rd ed.,
    section 2.11). Approximate.

    Parameters
    ----------
    before, after : boolean expressions over the columns of :func:`paired`.
    by : one row for each value of this column; None: a single row.

    Returns
    -------
    ``by`` (if given), ``n``, ``before``, ``after``, ``difference``, ``low``, ``high``; the ends are
    null where fewer than two patients are left.
    """
    key = by or "all"
    rows = pairs.select(
        "patient",
        pl.col(by).alias(key) if by else pl.lit("all").alias(key),
        before.cast(pl.Int64).alias("b"),
        after.cast(pl.Int64).alias("a"),
    )
    patients = rows.group_by(key, "patient").agg(
        m=pl.len().cast(pl.Int64), b=pl.col("b").sum(), a=pl.col("a").sum()
    )
    d, m = pl.col("a") - pl.col("b"), pl.col("m")
    sums = patients.group_by(key).agg(
        patients=pl.len(),
        n=m.sum(),
        b=pl.col("b").sum(),
        a=pl.col("a").sum(),
        dd=(d * d).sum(),
        dm=(d * m).sum(),
        mm=(m * m).sum(),
    )
    mean = (pl.col("a") - pl.col("b")) / pl.col("n")
    variance = pl.col("dd") - 2 * mean * pl.col("dm") + mean * mean * pl.col("mm")
    half = (
        pl.when(pl.col("patients") > 1)
        .then(Z95 * variance.clip(lower_bound=0.0).sqrt() / pl.col("n"))
        .otherwise(None)
    )
    return sums.sort(key).select(
        *([key] if by else []),
        "n",
        (pl.col("b") / pl.col("n")).alias("before"),
        (pl.col("a") / pl.col("n")).alias("after"),
        mean.alias("difference"),
        (mean - half).alias("low"),
        (mean + half).alias("high"),
    )


def what_moved(
    scored: pl.DataFrame,
    fit: ThresholdFit,
    *,
    deployed: Thresholds | None,
    baseline: pl.DataFrame | None,
) -> dict[str, Any] | None:
    """The section "what moved" of the report; None where there is nothing to compare with.

    Returns
    -------
    ``verdict`` (keep, nudge or stop), ``sentence``; ``n_common``; ``thresholds`` (old, new, and
    whether the old one lies inside the interval of the new fit); ``old_on_new``: what the old
    thresholds do on the new scores, in sentences; ``crossings``, ``into_confident_wrong`` (number
    of images); ``tiers`` and ``classes``: paired differences of the share in each tier, and for
    each class of ``measure`` (recall, or the share answered confidently where only thresholds
    moved); ``top1``: the paired difference over all.
    """
    if deployed is None and baseline is None:
        return None
    old, new = deployed or fit.thresholds, fit.thresholds
    pairs = paired(scored, scored if baseline is None else baseline, old, new)
    in_tier = {
        tier: paired_difference(pairs, pl.col("old_tier") == tier, pl.col("new_tier") == tier)
        for tier in TIERS
    }
    right = (pl.col("old_right"), pl.col("new_right"))
    confident = (pl.col("old_tier") == "confident", pl.col("new_tier") == "confident")
    overall = paired_difference(pairs, *right).row(0, named=True)
    thresholds = _thresholds(fit, deployed)
    new_wrong = int(pairs["into_confident_wrong"].sum())
    verdict, sentence = _verdict(thresholds, overall, new_wrong / pairs.height)
    return {
        "verdict": verdict,
        "sentence": sentence,
        "n_common": pairs.height,
        "thresholds": thresholds,
        "old_on_new": [] if deployed is None else _old_on_new(scored, baseline, deployed),
        "crossings": crossings(pairs),
        "into_confident_wrong": new_wrong,
        "top1": overall,
        "tiers": [{"tier": tier, **row.row(0, named=True)} for tier, row in in_tier.items()],
        "measure": "share answered confidently" if baseline is None else "recall",
        "classes": [
            {"class": row.pop("label"), **row}
            for row in paired_difference(
                pairs, *(confident if baseline is None else right), by="label"
            ).to_dicts()
        ],
    }


def _thresholds(fit: ThresholdFit, deployed: Thresholds | None) -> list[dict[str, Any]]:
    if deployed is None:
        return []
    rows = []
    for name, rule in (("confident", fit.confident_rule), ("refer", fit.refer_rule)):
        old = deployed.as_dict()[name]
        inside = None if rule.ci95 is None else rule.ci95[0] <= old <= rule.ci95[1]
        rows.append(
            {
                "name": name,
                "old": old,
                "new": rule.released,
                "ci95": None if rule.ci95 is None else list(rule.ci95),
                "inside_interval": inside,
            }
        )
    return rows


def _old_on_new(scored: pl.DataFrame, baseline: pl.DataFrame | None, old: Thresholds) -> list[str]:
    """The deployed thresholds applied to the new scores, with what they did on the old ones."""

    def shares(rows: pl.DataFrame) -> tuple[float, float, float]:
        tiers = tier_of(rows, old)
        wrong = int(((tiers == "confident") & ~rows["top1"]).sum())
        n = rows.height
        return int((tiers == "refer").sum()) / n, int((tiers == "confident").sum()) / n, wrong / n

    now = shares(scored)
    then = None if baseline is None else shares(baseline)
    said = [
        ("refer", old.refer, "refers", now[0], then and then[0]),
        ("confident", old.confident, "answers confidently", now[1], then and then[1]),
        ("confident", old.confident, "is confident and wrong in", now[2], then and then[2]),
    ]
    return [
        f"{name} {value:g} now {does} {100 * share:.1f} % of images"
        + ("" if before is None else f" (before: {100 * before:.1f} %)")
        for name, value, does, share, before in said
    ]


def _verdict(
    thresholds: list[dict[str, Any]], top1: dict[str, Any], new_wrong: float
) -> tuple[str, str]:
    """Keep, nudge or stop, with the reason; every reason to stop is named."""
    far = [row for row in thresholds if abs(row["new"] - row["old"]) > STOP_MOVE + 1e-9]
    reasons = [f"{row['name']} moves from {row['old']:g} to {row['new']:g}" for row in far]
    if top1["high"] is not None and top1["high"] < 0:
        reasons.append(
            f"the first answer is right less often ({100 * top1['difference']:+.2f} points)"
        )
    if new_wrong > STOP_NEW_WRONG:
        reasons.append(f"{100 * new_wrong:.1f} % of images become confident and wrong")
    if reasons:
        return "stop", f"Stop and look: {'; '.join(reasons)}."
    outside = [row for row in thresholds if row["inside_interval"] is False]
    if outside or (not thresholds and top1["low"] is not None and top1["low"] > 0):
        named = ", ".join(f"{row['name']} {row['old']:g} to {row['new']:g}" for row in outside)
        return "nudge", (
            f"Nudge: more than these rows' own uncertainty: {named}."
            if named
            else "Nudge: the first answer is right more often than before."
        )
    return "keep", ("Keep: what is in service lies within the uncertainty of the new fit.")
