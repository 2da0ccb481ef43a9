"""Before and after, image by image: what became right, wrong, coarser or silent.

Belongs: the kinds of transition, their counts, the paired tests by patient.
Does not: rates of one side alone (``evaluation``), the tests' mathematics (``scorecard.paired``).
Concept: both sides come from the same stored probabilities, so that every image is its own control.
An answer is right if it is the true class or an ancestor of it; before is the leaf, unless another
roll-up is given. N = images, R = ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.candidates import is_right
from dagster_project.lib.rollup.placed import UNPLACED, Placed
from dagster_project.lib.rollup.rates import mean, rate
from dagster_project.lib.scorecard.paired import holm, sign_test

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Truth

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

KINDS = {
    "kept_right": "right, and the same answer after",
    "specificity_lost": "right, and right at a coarser rank after",
    "specificity_gained": "right, and right at a finer rank after",
    "withheld_right": "right, and unplaced after",
    "introduced": "right, and wrong after",
    "fixed": "wrong, and a right ancestor (a coarser rank) after",
    "corrected": "wrong, and right at the same or a finer rank after",
    "withheld_wrong": "wrong, and unplaced after",
    "still_wrong": "wrong, and wrong after",
    "newly_right": "unplaced, and right after",
    "newly_wrong": "unplaced, and wrong after",
    "still_unplaced": "unplaced, and unplaced after",
}
"""Every image is exactly one of these."""


def leaf_of(placed: Placed) -> Placed:
    """The answer without any roll-up: the top class, whatever its score.

    For the leaf of the whole model, with no class masked, ``placed`` comes from rows prepared
    without a mask. Rows without probabilities have no leaf and stay unplaced.
    """
    has = placed.leaf_top != UNPLACED
    return Placed(
        node=placed.leaf_top,
        rank=np.where(has, 0, UNPLACED),
        score=placed.leaf_score,
        threshold=np.where(has, 0.0, np.nan),
        leaf_top=placed.leaf_top,
        leaf_score=placed.leaf_score,
        off_lineage=np.zeros(has.size, dtype=bool),
        lineage_node=placed.leaf_top,
        lineage_score=placed.leaf_score,
        reason=np.where(has, 0, placed.reason),
    )


def kinds(before: Placed, after: Placed, true: Ints, taxonomy: Taxonomy) -> npt.NDArray[np.str_]:
    """(N,) the kind of each image, a key of ``KINDS``."""
    was, now = is_right(before.node, true, taxonomy), is_right(after.node, true, taxonomy)
    silent_before, silent = before.node == UNPLACED, after.node == UNPLACED
    coarser, finer = after.rank > before.rank, after.rank < before.rank
    return np.select(
        [
            silent_before & silent,
            silent_before & now,
            silent_before,
            was & silent,
            was & now & coarser,
            was & now & finer,
            was & now,
            was,
            silent,
            now & coarser,
            now,
        ],
        [
            "still_unplaced",
            "newly_right",
            "newly_wrong",
            "withheld_right",
            "specificity_lost",
            "specificity_gained",
            "kept_right",
            "introduced",
            "withheld_wrong",
            "fixed",
            "corrected",
        ],
        "still_wrong",
    )


def transitions(before: Placed, after: Placed, truth: Truth, taxonomy: Taxonomy) -> dict[str, Any]:
    """Counts of every kind, and whether the change is more than chance.

    Parameters
    ----------
    before, after : of the same N images in the same order, under one taxonomy.

    Returns
    -------
    ``kinds``: for each of ``KINDS`` ``kind, meaning``, ``share`` (``rates.rate`` over all images)
    and ``by_rank`` (images by the rank of the answer after, and ``unplaced``). Their counts add up
    to N.

    ``tests``: three paired differences, after less before, of right answers and of wrong answers
    over all images, and of right answers over the images that are answered both times (where it
    is fixed + corrected - introduced): ``measure, before, after`` (shares), ``difference``
    (``rates.mean``), ``z, p, method`` (``scorecard.paired.sign_test``, by patient), ``p_holm``
    (Holm over those of the three that have a p). Null where nobody differs.
    """
    found = kinds(before, after, truth.true, taxonomy)
    listed = []
    for kind, meaning in KINDS.items():
        here = found == kind
        ranks = {
            name: int((here & (after.rank == rank)).sum())
            for rank, name in enumerate(taxonomy.ranks)
        }
        ranks["unplaced"] = int((here & (after.rank == UNPLACED)).sum())
        share = rate(here, truth.patient)
        listed.append({"kind": kind, "meaning": meaning, "share": share, "by_rank": ranks})
    return {"kinds": listed, "tests": paired_tests(before, after, truth, taxonomy)}


def paired_tests(
    before: Placed, after: Placed, truth: Truth, taxonomy: Taxonomy
) -> list[dict[str, Any]]:
    """The three tests of :func:`transitions`."""
    sides = []
    for placed in (before, after):
        right = is_right(placed.node, truth.true, taxonomy)
        sides.append((right, (placed.node != UNPLACED) & ~right))
    (was_right, was_wrong), (now_right, now_wrong) = sides
    everyone = np.ones(len(truth), dtype=bool)
    both = (was_right | was_wrong) & (now_right | now_wrong)
    rows = [
        _test("right", was_right, now_right, everyone, truth),
        _test("wrong", was_wrong, now_wrong, everyone, truth),
        _test("right_where_both_answer", was_right, now_right, both, truth),
    ]
    adjusted = holm([row["p"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _test(measure: str, was: Bools, now: Bools, among: Bools, truth: Truth) -> dict[str, Any]:
    patient = truth.patient[among]
    difference = now[among].astype(np.int64) - was[among]
    by_patient = np.bincount(patient, weights=difference).astype(np.int64)
    test = sign_test(by_patient, int(np.unique(patient).size))
    n = int(among.sum())
    return {
        "measure": measure,
        "before": int(was[among].sum()) / n if n else None,
        "after": int(now[among].sum()) / n if n else None,
        "difference": mean(difference, patient, within=(-1, 1)),
        "z": test.z,
        "p": test.p,
        "method": test.method,
    }
