"""The acceptance criteria of the policy, judged at the released values.

Belongs: which figure each criterion is about, and whether it is met.
Does not: blocking (``release.conditions``), certificates (``evidence``).
Concept: criteria are fixed with the policy, before the labels; a figure that is undefined (nobody
is confident) does not meet one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import Accept


def acceptance(report: Mapping[str, Any], accept: Accept) -> list[dict[str, Any]]:
    """Each criterion that the policy sets.

    Parameters
    ----------
    report : of ``tier_report``, with ``selection`` (its certificate) and ``partial_review``.

    Returns
    -------
    ``criterion``, ``bound`` (at_most, at_least or is), ``target``, ``observed`` (null where it is
    undefined), ``met``; empty where the policy sets none.
    """
    tiers = report["tiers"]
    kept = [tiers[name] for name in ("confident", "possible")]
    n_kept = sum(tier["n"] for tier in kept)
    right = sum(tier["n"] * (tier["top3"] or 0.0) for tier in kept)
    wrong, top1 = report["outcomes"]["confident_wrong"], tiers["confident"]["top1"]
    review = report.get("partial_review")
    if review is not None:  # what reviews were put over flatters: the estimate, or the given labels
        wrong, top1 = (
            row["given"] if row["estimate"] is None else row["estimate"]
            for row in (review["confident_wrong"], review["covered_top1"])
        )
    figures = {
        "confident_wrong_share": ("at_most", wrong),
        "covered_top1": ("at_least", top1),
        "coverage": ("at_least", tiers["confident"]["share"]),
        "refer_share": ("at_most", tiers["refer"]["share"]),
        "kept_top3": ("at_least", right / n_kept if n_kept else None),
    }
    found: list[dict[str, Any]] = []
    for criterion, (bound, observed) in figures.items():
        target = getattr(accept, criterion)
        if target is None:
            continue
        met = observed is not None and (
            observed <= target if bound == "at_most" else observed >= target
        )
        found.append(
            {
                "criterion": criterion,
                "bound": bound,
                "target": target,
                "observed": observed,
                "met": met,
            }
        )
    if accept.certified:
        certificate = report["selection"]["confident"]["certificate"]
        held = certificate is not None and certificate["released_is_certified"]
        found.append(
            {"criterion": "certified", "bound": "is", "target": True, "observed": held, "met": held}
        )
    return found
