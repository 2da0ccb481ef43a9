"""Roll-up together with tiers: what possible and referred images could still be told.

Belongs: possible and refer rows by what the roll-up says of them; the mix of outcomes with and
without the policy line "refer only if nothing clears".
Does not: tiers themselves (``tiers``), certificates of the combined policy (there is none).
Concept: the policy line touches referred images only. One that clears a rank is told that node and
no longer referred; confident and possible images are answered as before. N = images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.candidates import is_right
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.rates import rate
from dagster_project.lib.tiers.assign import TIERS

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Tiered, Truth

    Bools = npt.NDArray[np.bool_]

LINE = "refer only if nothing clears"


def outcome_mix(placed: Placed, truth: Truth, taxonomy: Taxonomy) -> dict[str, Any] | None:
    """What the roll-up adds to the tiers; None where tiers are not known.

    Returns
    -------
    ``tiers``: for *possible* and *refer* ``tier, n``, ``leaf_right`` (the first answer),
    ``right`` (by rank: placed there and right), ``wrong`` (placed and wrong), ``unplaced``;
    ``rates.rate`` over the tier's images, so that right, wrong and unplaced add up to the tier.

    ``mix``: ``outcome, without, with``, each ``rates.rate`` over all N images; both columns add up
    to N. ``without`` is the tiers' own mix (``tiers.reports``); ``with`` follows ``line``:
    ``rolled_up_right`` and ``rolled_up_wrong`` are referred images that clear a rank.
    """
    tiered = truth.tiers
    if tiered is None:
        return None
    right = is_right(placed.node, truth.true, taxonomy)
    tiers = [
        {
            "tier": tier,
            "n": int((tiered.tier == number).sum()),
            "leaf_right": rate(tiered.top1, truth.patient, tiered.tier == number),
            **_said_of(tiered.tier == number, placed, right, truth, taxonomy),
        }
        for number, tier in enumerate(TIERS)
        if tier != "confident"
    ]
    without, followed = _outcomes(tiered, placed, right)
    mix = [
        {
            "outcome": name,
            "without": rate(without.get(name, np.zeros(len(truth), dtype=bool)), truth.patient),
            "with": rate(here, truth.patient),
        }
        for name, here in followed.items()
    ]
    return {"tiers": tiers, "line": LINE, "mix": mix}


def _said_of(
    here: Bools, placed: Placed, right: Bools, truth: Truth, taxonomy: Taxonomy
) -> dict[str, Any]:
    return {
        "right": {
            name: rate(right & (placed.rank == rank), truth.patient, here)
            for rank, name in enumerate(taxonomy.ranks)
        },
        "wrong": rate((placed.node != UNPLACED) & ~right, truth.patient, here),
        "unplaced": rate(placed.node == UNPLACED, truth.patient, here),
    }


def _outcomes(
    tiered: Tiered, placed: Placed, right: Bools
) -> tuple[dict[str, Bools], dict[str, Bools]]:
    confident, possible, refer = (tiered.tier == number for number in range(len(TIERS)))
    kept = {
        "confident_correct": confident & tiered.top1,
        "confident_wrong": confident & ~tiered.top1,
        "possible_top3": possible & tiered.top3,
        "possible_miss": possible & ~tiered.top3,
    }
    clears = placed.node != UNPLACED
    moved = {
        "rolled_up_right": refer & right,
        "rolled_up_wrong": refer & clears & ~right,
        "refer": refer & ~clears,
    }
    return kept | {"refer": refer}, kept | moved
