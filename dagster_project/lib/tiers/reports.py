"""What the thresholds do to these rows: tiers, outcomes, candidates, highlights.

Belongs: the tables of the tiers, counted at the released values.
Does not: choosing thresholds (``selection``), the whole report (``evaluation``), pictures.
Concept: integer counts over one set of rows, one division at the end; a rate without rows is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers.assign import TIERS, tier_of
from dagster_project.lib.tiers.curve import curve_counts
from dagster_project.lib.tiers.selection import DESIGN_TARGETS
from dagster_project.lib.tiers.thresholds import Thresholds, round_up

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import PossibleItem, TierPolicy

REFER_FACTORS = (0.5, 1.0, 1.5)


def tier_report(scored: pl.DataFrame, thresholds: Thresholds) -> dict[str, Any]:
    """Size and accuracy of each tier, and the outcome mix.

    Parameters
    ----------
    scored : (N,) rows, N >= 1.

    Returns
    -------
    ``n``, ``thresholds``, ``full_coverage`` (``top1``, ``top3`` over all rows), ``tiers`` (``n``;
    ``share`` = n/N; ``top1``, ``top3`` within the tier, null if n = 0) and ``outcomes``, five
    shares of N that sum to 1: confident and right, confident and wrong, possible with the truth
    among the three best, possible without, refer.
    """
    rows = scored.select("top1", "top3").with_columns(tier_of(scored, thresholds))
    total = rows.height
    parts = {tier: rows.filter(pl.col("tier") == tier) for tier in TIERS}
    right = {tier: (int(p["top1"].sum()), int(p["top3"].sum())) for tier, p in parts.items()}
    n_confident, n_possible = parts["confident"].height, parts["possible"].height
    outcomes = {
        "confident_correct": right["confident"][0],
        "confident_wrong": n_confident - right["confident"][0],
        "possible_top3": right["possible"][1],
        "possible_miss": n_possible - right["possible"][1],
        "refer": parts["refer"].height,
    }
    return {
        "n": total,
        "thresholds": thresholds.as_dict(),
        "full_coverage": {
            "top1": _rate(sum(top1 for top1, _ in right.values()), total),
            "top3": _rate(sum(top3 for _, top3 in right.values()), total),
        },
        "tiers": {
            tier: {
                "n": part.height,
                "share": _rate(part.height, total),
                "top1": _rate(right[tier][0], part.height),
                "top3": _rate(right[tier][1], part.height),
            }
            for tier, part in parts.items()
        },
        "outcomes": {name: _rate(count, total) for name, count in outcomes.items()},
    }


def refer_share_of(policy: TierPolicy) -> float:
    """The refer share the candidates are built around: the policy's, else the design share."""
    return policy.refer.target if policy.refer.rule == "share" else DESIGN_TARGETS["refer"]["share"]


def refer_candidates(scored: pl.DataFrame, share: float) -> pl.DataFrame:
    """What 0.5, 1 and 1.5 times a refer share would mean.

    Returns
    -------
    3 rows (fewer where two coincide): ``threshold`` (released: rule ``share``, rounded up),
    ``refer_share`` and ``n_refer`` of rows with score < threshold, ``kept_top1`` and ``kept_top3``
    of the others (null if none is left). All at the released threshold.
    """
    counts = curve_counts(scored)
    below = (counts.total - counts.n) / counts.total
    rows = []
    for factor in REFER_FACTORS:
        highest = int(np.flatnonzero(below <= min(1.0, factor * share))[0])
        threshold = round_up(float(counts.threshold[highest]))
        inside = int(np.searchsorted(-counts.threshold, -threshold, side="right"))
        kept, top1, top3 = (
            int(column[inside - 1]) if inside else 0
            for column in (counts.n, counts.top1, counts.top3)
        )
        rows.append(
            {
                "threshold": threshold,
                "refer_share": (counts.total - kept) / counts.total,
                "n_refer": counts.total - kept,
                "kept_top1": _rate(top1, kept),
                "kept_top3": _rate(top3, kept),
            }
        )
    schema = {"threshold": pl.Float64, "refer_share": pl.Float64, "n_refer": pl.Int64}
    rates = {"kept_top1": pl.Float64, "kept_top3": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, **rates}).unique("threshold", maintain_order=True)


def possible_item_sweep(
    scored: pl.DataFrame, thresholds: Thresholds, item: PossibleItem
) -> pl.DataFrame:
    """How many items would be highlighted in the possible tier, at each cut.

    Items with probability > cut (strict), at least ``item.floor`` and at most ``item.cap`` of them,
    best first. Cuts: those of ``item.sweep``, and the policy's own.

    Returns
    -------
    ``cut``; ``matches_1``, ``matches_2``, ``matches_3``: share of possible rows with so many
    items, summing to 1; ``mean`` number of items; ``truth_in_highlighted``: share of possible rows
    whose label is among them (rank < number of items). All null when no row is possible.
    """
    rows = scored.filter(tier_of(scored, thresholds) == "possible")
    width = len(rows["top_probs"][0]) if rows.height else 0
    best = [rows["top_probs"].list.get(j).cast(pl.Float64).to_numpy() for j in range(width)]
    rank = rows["rank"].to_numpy()
    out = []
    for cut in sorted({*item.sweep, item.cut}):
        above = sum((column > cut).astype(np.int64) for column in best)
        items = np.clip(above, item.floor, item.cap) if best else np.zeros(0, dtype=np.int64)
        sizes = {f"matches_{m}": _rate(int((items == m).sum()), rows.height) for m in (1, 2, 3)}
        out.append(
            {
                "cut": cut,
                **sizes,
                "mean": _rate(int(items.sum()), rows.height),
                "truth_in_highlighted": _rate(int((rank < items).sum()), rows.height),
            }
        )
    return pl.DataFrame(out, schema=dict.fromkeys(out[0], pl.Float64))


def baseline_report(
    scored: pl.DataFrame, baseline: pl.DataFrame, thresholds: Thresholds
) -> dict[str, Any]:
    """The baseline's tiers at ``thresholds``, and paired differences over the common images.

    Returns
    -------
    :func:`tier_report` of ``baseline``, with ``n_common`` and ``difference``: over images in both,
    ``top1`` and ``top3`` new minus baseline, ``gained`` (wrong, now right) and ``lost``.

    Raises
    ------
    InputError
        No image in common.
    """
    both = scored.select("image_uuid", "top1", "top3").join(
        baseline.select("image_uuid", "top1", "top3"), on="image_uuid", suffix="_old"
    )
    if both.is_empty():
        raise InputError("baseline probabilities: no image in common with the new ones")
    gained = int((both["top1"] & ~both["top1_old"]).sum())
    lost = int((~both["top1"] & both["top1_old"]).sum())
    top3 = int(both["top3"].sum()) - int(both["top3_old"].sum())
    return {
        **tier_report(baseline, thresholds),
        "n_common": both.height,
        "difference": {
            "top1": (gained - lost) / both.height,
            "top3": top3 / both.height,
            "gained": gained,
            "lost": lost,
        },
    }


def _rate(count: int, total: int) -> float | None:
    return count / total if total else None
