"""Testing a shift on labels that were reviewed in part: the tiers' test, on what a shift says.

Belongs: rows of a review as a shift makes them, how far the sequence of tests gets, the estimate.
Does not: the bound and its proof (``evidence.review_bound``), the grid of shifts (``shift``).
Concept: at a shift an image is placed or not, and wrong or not; so it is a score of 1 or 0 against
a threshold between, and the tiers' bound on P(score >= t and wrong) is one on P(placed and wrong).
Cells follow from the shift, the draw of the reviews, its strata and the labels as given, never from
what reviewers found. N = images, P = patients, R = ranks, G = shifts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
)
from dagster_project.lib.evidence.review_bound import review_test
from dagster_project.lib.rollup.placed import UNPLACED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from dagster_project.lib.rollup.config import FitThresholds
    from dagster_project.lib.rollup.shift import Sample

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

BETWEEN = 0.5
"""Between the score of what is placed and of what is not."""


def rows_at(sample: Sample, rank: Ints) -> ReviewedRows:
    """What is said, (N,) ranks, as a score: 1 where placed and 0 where ``UNPLACED``.

    Parameters
    ----------
    sample : with a review.
    """
    review, given_right = sample.review, sample.given_right
    if review is None or given_right is None:
        raise ValueError("the sample has no review")
    placed, at = rank != UNPLACED, np.arange(rank.size)
    return ReviewedRows(
        score=placed.astype(np.float64),
        given_wrong=placed & ~given_right[at, rank],
        wrong=placed & ~sample.right[at, rank],
        reviewed=review.reviewed,
        asked=review.asked,
        returned=review.returned,
        probability=review.probability,
        strata=review.strata,
        stratum=review.stratum,
        patient=sample.patient,
        n_patients=sample.n_patients,
    )


def estimate(sample: Sample, thresholds: Floats) -> float | None:
    """W of all labels at (R,) thresholds; None where no estimate exists or nothing is placed.

    From the sample of reviews (``partial_review.estimated_curve``), never a count of the labels in
    force, unless every placed image is reviewed. It is not clipped, so that few reviews can make it
    negative.
    """
    rows = rows_at(sample, sample.candidates.rank_said(thresholds))
    placed = rows.score > BETWEEN
    if placed.any() and rows.reviewed[placed].all():
        return float(rows.wrong.sum() / len(rows))
    curve = estimated_curve(rows)
    found = None if curve is None else at_threshold(curve, BETWEEN)
    return None if found is None else found["estimate"]


def leading_passes(sample: Sample, thresholds: Iterable[Floats], terms: FitThresholds) -> int:
    """How many shifts pass, from the first up to the first that does not.

    Each is tested at ``terms.delta``. One at which no row says anything else than at the one before
    is decided like it, without a test.

    Parameters
    ----------
    thresholds : G times (R,), strict to loose.
    """
    before: Ints | None = None
    passed = 0
    for at in thresholds:
        rank = sample.candidates.rank_said(at)
        if before is None or not np.array_equal(rank, before):
            passes = review_test(
                rows_at(sample, rank),
                terms.target,
                terms.delta,
                max_images=terms.max_images_per_patient,
            )
            if not passes(BETWEEN):
                return passed
        before = rank
        passed += 1
    return passed
