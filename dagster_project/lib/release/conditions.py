"""Conditions of a release: reasons why thresholds must not be written for deployment.

Belongs: one small function a reason, each returning (passed, facts), and their sum.
Does not: files (``release``), the asset checks that show these one by one (``defs``).
Concept: every check is evaluated and every reason is given; an empty list lets the release pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster_project.lib.tiers.thresholds import ENV_NAMES, Thresholds

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy

Verdict = tuple[bool, dict[str, Any]]
"""(passed, facts); the facts are plain numbers and texts."""

MAX_ROUNDING_SHIFT = 0.02
"""A share; ordinary outputs move by a few rows, far less than this."""


def thresholds_ordered(thresholds: Thresholds) -> Verdict:
    """0 <= refer <= confident <= 1 and 0 <= possible_item <= 1; NaN fails."""
    item = thresholds.possible_item
    passed = 0 <= thresholds.refer <= thresholds.confident <= 1 and 0 <= item <= 1
    return passed, _plain(thresholds.as_dict())


def tiers_sum(report: Mapping[str, Any]) -> Verdict:
    """The three tiers hold each row once, and the outcome shares sum to 1."""
    in_tiers = sum(int(tier["n"]) for tier in report["tiers"].values())
    outcomes = sum(float(share or 0.0) for share in report["outcomes"].values())
    passed = in_tiers == report["n"] > 0 and math.isclose(outcomes, 1.0, abs_tol=1e-9)
    return passed, {"n": int(report["n"]), "n_in_tiers": in_tiers, "outcome_sum": outcomes}


def rows_accounted(n_reported: int, counts: Mapping[str, int], n_split: int) -> Verdict:
    """Every image of the split is in the report, or counted where it was left out.

    Parameters
    ----------
    n_reported : ``n`` of the report.
    counts : ``ScoreCounts.as_dict()`` of the scored rows.
    n_split : images that the dataset has in the split.
    """
    parts = sum(counts[name] for name in ("n_scored", "n_without_probs", "n_without_label"))
    passed = n_reported == counts["n_scored"] and counts["n_rows"] == parts == n_split
    return passed, {"n_reported": n_reported, "n_split": n_split, **counts}


def change_bounded(
    thresholds: Thresholds, deployed: Thresholds | None, max_change: float | None
) -> Verdict:
    """No threshold moved further than ``max_change`` from the deployed one; passes if unknown."""
    if deployed is None or max_change is None:
        return True, {"compared": False}
    new, old = thresholds.as_dict(), deployed.as_dict()
    change = {name: new[name] - old[name] for name in ENV_NAMES}
    # a move of exactly the bound is allowed, whatever the last bit of the difference says
    passed = all(abs(value) <= max_change + 1e-9 for value in change.values())
    return passed, {"compared": True, "max_change": max_change, **_plain(change, "change_")}


def within_allowed(thresholds: Thresholds, policy: TierPolicy) -> Verdict:
    """Both thresholds lie in the range that the policy allows (ends included)."""
    ranges = {"confident": policy.allowed.confident, "refer": policy.allowed.refer}
    values = thresholds.as_dict()
    given = {name: limits for name, limits in ranges.items() if limits is not None}
    passed = all(low <= values[name] <= high for name, (low, high) in given.items())
    facts = {name: f"{values[name]:g} in [{low}, {high}]" for name, (low, high) in given.items()}
    return passed, facts


def accepted(report: Mapping[str, Any]) -> Verdict:
    """Every acceptance criterion of the policy is met at the released values."""
    failed = [row for row in report["accept"] if not row["met"]]
    facts = {
        row["criterion"]: f"{_short(row['observed'])}, {row['bound'].replace('_', ' ')} "
        f"{_short(row['target'])}"
        for row in failed or report["accept"]
    }
    return not failed, facts


def rounding_kept(report: Mapping[str, Any]) -> Verdict:
    """Rounding to three decimals moved no rule's own figure by more than ``MAX_ROUNDING_SHIFT``.

    Where outputs are saturated a thousandth can hold half of all images. A confident value that
    was raised to refer is left out: it moved on purpose. Rounding is always the safe way, so this
    warns (here and in ``report.md``) and is no reason of :func:`blocking_reasons`.
    """
    shifts = {
        side: abs(fit["at_released"] - fit["at_fitted"])
        for side, fit in report["selection"].items()
        if not fit["raised_to_refer"] and None not in (fit["at_released"], fit["at_fitted"])
    }
    passed = all(shift <= MAX_ROUNDING_SHIFT for shift in shifts.values())
    return passed, {f"{side}_shift": shift for side, shift in shifts.items()}


def blocking_reasons(
    report: Mapping[str, Any],
    thresholds: Thresholds,
    deployed: Thresholds | None,
    *,
    max_change: float | None,
    policy: TierPolicy,
) -> list[str]:
    """Every reason to block the release; empty when there is none."""
    verdicts = {
        "thresholds are not ordered within [0, 1]": thresholds_ordered(thresholds),
        "the tiers do not hold each row once": tiers_sum(report),
        "a threshold moved too far from the deployed one": change_bounded(
            thresholds, deployed, max_change
        ),
        "a threshold lies outside the range the policy allows": within_allowed(thresholds, policy),
        "an acceptance criterion of the policy is not met": accepted(report),
    }
    reasons = []
    for reason, (passed, facts) in verdicts.items():
        if not passed:
            shown = ", ".join(f"{key} {_short(value)}" for key, value in facts.items())
            reasons.append(f"{reason} ({shown})")
    if report["thresholds"] != thresholds.as_dict():
        reasons.append("the report was made at other thresholds; make it again")
    return reasons


def _plain(values: Mapping[str, float], prefix: str = "") -> dict[str, Any]:
    # JSON and the UI know no NaN: say it in words
    return {f"{prefix}{k}": v if math.isfinite(v) else str(v) for k, v in values.items()}


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
