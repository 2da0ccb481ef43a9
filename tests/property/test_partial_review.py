"""Partly reviewed labels on small tied data: brute force, and what a complete answer must give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
    weights,
)
from dagster_project.lib.evidence.review_bound import certified_upper, upper_bound

steady = settings(derandomize=True, deadline=None, max_examples=60)
LEVELS = (0.0, 0.3, 0.8, 0.8001, 1.0)


@st.composite
def rows(draw: st.DrawFn) -> ReviewedRows:
    """Few different scores and patients; each row is certain, drawn, only in the frame, or not."""
    n = draw(st.integers(1, 20))
    column = st.lists(st.booleans(), min_size=n, max_size=n)
    kind = draw(st.lists(st.sampled_from("cdfo"), min_size=n, max_size=n))
    reviewed = np.array(draw(column)) & ~np.isin(kind, ["f"])
    given_wrong = np.array(draw(column))
    patient = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    names, number = np.unique(patient, return_inverse=True)
    probability = {"c": 1.0, "d": 0.25, "f": 0.25, "o": np.nan}
    return ReviewedRows(
        score=np.array(draw(st.lists(st.sampled_from(LEVELS), min_size=n, max_size=n))),
        given_wrong=given_wrong,
        wrong=np.where(reviewed, np.array(draw(column)), given_wrong),
        reviewed=reviewed,
        asked=np.isin(kind, ["c", "d"]),
        probability=np.array([probability[k] for k in kind]),
        patient=number.astype(np.int64),
        n_patients=names.size,
    )


@steady
@given(rows())
def test_the_curve_equals_the_formula_at_every_distinct_score(found: ReviewedRows) -> None:
    weight, curve = weights(found), estimated_curve(found)
    assert (weight is None) == (curve is None)
    assume(weight is not None)
    assert weight is not None
    assert curve is not None
    assert curve["threshold"].to_list() == sorted(set(found.score.tolist()), reverse=True)
    for t in curve["threshold"]:
        inside = found.score >= t
        figure = sum(
            float(found.given_wrong[i])
            + weight[i] * (float(found.wrong[i]) - float(found.given_wrong[i]))
            for i in np.flatnonzero(inside)
        )
        if found.reviewed[inside].all():
            figure = float(found.wrong[inside].sum())
        at = at_threshold(curve, t)
        assert at is not None
        assert at["estimate"] == pytest.approx(figure / len(found))
        assert at["top1"] == pytest.approx(1 - figure / inside.sum())
        assert at["overwritten"] == pytest.approx((inside & found.wrong).sum() / len(found))


@steady
@given(rows(), st.sampled_from(LEVELS), st.sampled_from([0.01, 0.05, 0.3]))
def test_no_bound_is_below_what_reviews_have_already_shown(
    found: ReviewedRows, t: float, delta: float
) -> None:
    upper = certified_upper(found, t, delta, max_images=20)
    if upper is not None:
        shown_wrong = (found.score >= t) & found.wrong & (found.given_wrong | found.certain)
        assert shown_wrong.mean() <= upper <= 1


@steady
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_default_bound_lies_between_the_mean_and_one(values: list[float], delta: float) -> None:
    bound = upper_bound(np.array(values), delta)
    assert np.mean(values) - 1e-9 <= bound <= 1
    assert bound <= upper_bound(np.array(values), delta / 2)
