"""Partly reviewed labels on small tied data: brute force, and what a complete answer must give."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
    sample_of,
)
from dagster_project.lib.evidence.review_bound import certified_upper, hypergeometric_upper
from dagster_project.lib.evidence.strata import share

steady = settings(derandomize=True, deadline=None, max_examples=60)
LEVELS = (0.0, 0.3, 0.8, 0.8001, 1.0)


@st.composite
def rows(draw: st.DrawFn) -> ReviewedRows:
    """Few different scores and patients; each row is certain, drawn, only in the frame, or not."""
    n = draw(st.integers(1, 20))
    column = st.lists(st.booleans(), min_size=n, max_size=n)
    kind = np.array(draw(st.lists(st.sampled_from("cdfegxo"), min_size=n, max_size=n)))
    asked = np.isin(kind, ["c", "d", "e", "x"])
    answer = draw(st.lists(st.sampled_from("ddddddun"), min_size=n, max_size=n))
    returned = np.isin(answer, ["d", "u"]) & (asked | (kind == "o"))
    reviewed = returned & np.isin(answer, ["d"])
    given_wrong = np.array(draw(column))
    patient = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    names, number = np.unique(patient, return_inverse=True)
    strata = ("certain", "confident/agrees/flagged", "possible/agrees/flagged", "x")
    place = {"c": 0, "d": 1, "f": 1, "e": 2, "g": 2, "x": 3, "o": -1}
    probability = {0: 1.0, 1: 0.25, 2: 0.5, 3: 0.75, -1: np.nan}
    stratum = np.array([place[k] for k in kind.tolist()])
    return ReviewedRows(
        score=np.array(draw(st.lists(st.sampled_from(LEVELS), min_size=n, max_size=n))),
        given_wrong=given_wrong,
        wrong=np.where(reviewed, np.array(draw(column)), given_wrong),
        reviewed=reviewed,
        asked=asked,
        returned=returned,
        probability=np.array([probability[h] for h in stratum.tolist()]),
        strata=strata,
        stratum=stratum,
        patient=number.astype(np.int64),
        n_patients=names.size,
    )


@steady
@given(rows())
def test_the_curve_equals_the_formula_at_every_distinct_score(found: ReviewedRows) -> None:
    sample, curve = sample_of(found), estimated_curve(found)
    assert (sample is None) == (curve is None)
    if sample is None or curve is None:
        return
    weight = sample.weight
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
@given(rows())
def test_the_decided_rows_of_every_stratum_stand_for_all_of_it(found: ReviewedRows) -> None:
    sample = sample_of(found)
    if sample is None:
        return
    inside = sample.stratum >= 0
    assert (inside == (found.stratum >= 0)).all()
    assert np.bincount(sample.stratum[inside], sample.weight[inside]) == pytest.approx(
        np.bincount(sample.stratum[inside])
    )
    assert not sample.weight[~(found.asked & found.reviewed)].any()


@steady
@given(rows(), st.lists(st.booleans(), min_size=20, max_size=20))
def test_a_share_lies_in_its_interval_and_turns_round_with_its_complement(
    found: ReviewedRows, domain: list[bool]
) -> None:
    sample = sample_of(found)
    if sample is None:
        return
    inside = np.array(domain[: len(found)])
    one, other = (share(sample, hit, inside) for hit in (found.wrong, ~found.wrong))
    if one.estimate is None:
        assert one.ci95 is None
        return
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.estimate + 1e-12
    assert one.estimate - 1e-12 <= one.high <= 1
    assert other.estimate == pytest.approx(1 - one.estimate)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low))


@steady
@given(rows(), st.sampled_from(LEVELS), st.sampled_from([0.01, 0.05, 0.3]))
def test_no_bound_is_below_what_reviews_have_already_shown(
    found: ReviewedRows, t: float, delta: float
) -> None:
    upper = certified_upper(found, t, delta, max_images=20)
    if upper is not None:
        shown_wrong = (found.score >= t) & found.wrong & found.reviewed
        assert shown_wrong.mean() <= upper + 1e-9
        assert upper <= 1


@steady
@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 30), st.sampled_from([0.01, 0.2]))
def test_the_bound_of_a_finite_number_is_the_largest_that_is_not_refuted(
    k: int, n: int, more: int, delta: float
) -> None:
    assume(k <= n)
    total = n + more

    def at_most(hits: int) -> float:
        ways = [comb(hits, x) * comb(total - hits, n - x) for x in range(k + 1)]
        return sum(ways) / comb(total, n)

    allowed = [hits for hits in range(k, total - (n - k) + 1) if at_most(hits) > delta]
    assert hypergeometric_upper(k, n, total, delta) == max(allowed, default=k)
