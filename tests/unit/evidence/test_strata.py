"""Stratified samples: by hand, in closed form, and over every sample that could have been drawn."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from dagster_project.lib.evidence.strata import (
    Sample,
    by_probability,
    effective_rows,
    numbered,
    share,
    stratified,
)

HIT = np.array([1, 0, 0, 1, 1, 0, 0, 1], dtype=bool)
SIZES = {"certain": [0], "a": [1, 2, 3, 4], "b": [5, 6, 7]}
DRAWN = {"certain": 1, "a": 2, "b": 2}


def sample(
    decided: list[int], *, patient: npt.NDArray[np.int64] | None = None, n: int = 8
) -> Sample:
    """Eight rows: one certain, two of four drawn in ``a`` and two of three in ``b``."""
    names = tuple(SIZES)
    stratum = np.zeros(n, dtype=np.int64)
    probability = np.zeros(n)
    for number, name in enumerate(names):
        stratum[SIZES[name]] = number
        probability[SIZES[name]] = DRAWN[name] / len(SIZES[name])
    which = np.isin(np.arange(n), decided)
    found = stratified(
        names, stratum, probability, which, np.arange(n) if patient is None else patient
    )
    assert found is not None
    return found


def test_a_hand_counted_share() -> None:
    # certain 1 of 1; a: 1 of 2 stands for 2 of 4; b: 0 of 2
    found = share(sample([0, 1, 3, 5, 6]), HIT)
    assert found.estimate == pytest.approx((1 + 2 + 0) / 8)
    assert (found.n, found.n_decided, found.n_patients, found.n_hits) == (8, 5, 5, 2)
    # s^2 = 1/2 in a: (4/8)^2 (1 - 2/4) (1/2) / 2; nothing in b
    assert found.se == pytest.approx((0.25 * 0.5 * 0.5 / 2) ** 0.5)


def test_with_one_row_a_patient_the_variance_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(3)
    stratum = np.repeat([0, 1, 2], [300, 120, 40])
    decided = np.zeros(460, dtype=bool)
    for h, n in enumerate((60, 40, 7)):
        decided[rng.choice(np.flatnonzero(stratum == h), n, replace=False)] = True
    hit = rng.random(460) < np.array([0.1, 0.5, 0.3])[stratum]
    probability = np.array([0.2, 1 / 3, 7 / 40])[stratum]
    made = stratified(("x", "y", "z"), stratum, probability, decided, np.arange(460))
    assert made is not None
    expected, variance = 0.0, 0.0
    for h in range(3):
        y = hit[decided & (stratum == h)].astype(float)
        size = (stratum == h).sum()
        expected += size / 460 * y.mean()
        variance += (size / 460) ** 2 * (1 - y.size / size) * y.var(ddof=1) / y.size
    found = share(made, hit)
    assert found.estimate == pytest.approx(expected)
    assert found.se == pytest.approx(variance**0.5)


def every_sample() -> list[list[int]]:
    parts = [combinations(SIZES[name], DRAWN[name]) for name in SIZES]
    return [[row for part in chosen for row in part] for chosen in product(*parts)]


def test_over_every_possible_sample_estimate_and_variance_are_exactly_unbiased() -> None:
    drawn = every_sample()
    assert len(drawn) == 6 * 3
    found = [share(sample(rows), HIT) for rows in drawn]
    estimates = np.array([one.estimate for one in found], dtype=float)
    assert estimates.mean() == pytest.approx(HIT.mean())
    variances = np.array([one.se for one in found], dtype=float) ** 2
    assert variances.mean() == pytest.approx(estimates.var())


def test_over_every_partial_return_the_estimate_is_exactly_unbiased() -> None:
    """Any four of the five presentations are as likely to be back as any other four."""
    estimates = []
    for rows in every_sample():
        for back in combinations(rows, 4):
            if all(set(back) & set(SIZES[name]) for name in SIZES):
                estimates.append(share(sample(list(back)), HIT).estimate)
    assert len(estimates) == 18 * 4
    assert np.mean(np.array(estimates, dtype=float)) == pytest.approx(HIT.mean())


def test_over_every_sample_of_patients_of_equal_size_the_estimate_is_exactly_unbiased() -> None:
    patient = np.repeat(np.arange(5), 2)
    hit = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
    estimates, variances = [], []
    for chosen in combinations(range(5), 3):
        made = stratified(
            ("s",), np.zeros(10, np.int64), np.full(10, 0.6), np.isin(patient, chosen), patient
        )
        assert made is not None
        found = share(made, hit)
        estimates.append(found.estimate)
        variances.append((found.se or 0.0) ** 2)
    assert np.mean(np.array(estimates, dtype=float)) == pytest.approx(hit.mean())
    assert np.mean(variances) == pytest.approx(np.var(np.array(estimates, dtype=float)))


def test_patients_of_unequal_size_count_by_their_rows() -> None:
    # two of four patients, of 3 and 1 rows: a ratio of 3 hits to 4 rows
    patient = np.array([0, 0, 0, 1, 2, 2, 3, 3])
    hit = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    made = stratified(
        ("s",), np.zeros(8, np.int64), np.full(8, 0.5), np.isin(patient, [0, 1]), patient
    )
    assert made is not None
    found = share(made, hit)
    assert found.estimate == pytest.approx(3 / 4)
    # residuals 3 - 3 x 3/4 and 0 - 3/4; (1 - 2/4) x 2/1 x sum / 4^2
    assert found.se == pytest.approx((0.5 * 2 * (0.75**2 + 0.75**2) / 16) ** 0.5)


def test_a_domain_that_cuts_strata_is_a_ratio() -> None:
    # of the decided rows 0 (weight 1), 1 and 3 (2 each), 5 and 6 (1.5 each): domain 0, 3, 5
    domain = np.isin(np.arange(8), [0, 2, 3, 5])
    found = share(sample([0, 1, 3, 5, 6]), HIT, domain)
    assert found.estimate == pytest.approx((1 + 2) / (1 + 2 + 1.5))
    assert (found.n, found.n_decided, found.n_outside) == (4, 3, 0)


def test_a_domain_that_nobody_saw_has_no_share() -> None:
    unseen = share(sample([0, 1, 3, 5, 6]), HIT, np.isin(np.arange(8), [2, 7]))
    assert (unseen.n, unseen.estimate, unseen.ci95) == (2, None, None)
    nothing = share(sample([0, 1, 3, 5, 6]), HIT, np.zeros(8, dtype=bool))
    assert (nothing.n, nothing.estimate, nothing.se) == (0, None, None)


@pytest.mark.parametrize(("n_outside", "known"), [(1, True), (2, False)])
def test_a_domain_much_of_which_could_not_be_asked_has_no_share(
    n_outside: int, known: bool
) -> None:
    stratum = np.where(np.arange(10) < 10 - n_outside, 0, -1)
    made = stratified(("s",), stratum, np.full(10, 0.5), np.arange(10) < 4, np.arange(10))
    assert made is not None
    found = share(made, np.zeros(10, dtype=bool))
    assert (found.n_outside, found.estimate is not None) == (n_outside, known)


def test_a_complete_review_is_a_plain_count_without_error() -> None:
    found = share(sample(list(range(8))), HIT)
    assert (found.estimate, found.se, found.ci95) == (0.5, 0.0, [0.5, 0.5])


def test_no_hit_leaves_room_upwards_only() -> None:
    found = share(sample([0, 1, 3, 5, 6]), np.zeros(8, dtype=bool))
    assert (found.estimate, found.se, found.low) == (0.0, 0.0, 0.0)
    assert found.high is not None
    assert found.high > 0.1


def tiers(decided: list[int]) -> Sample | None:
    """Four rows each of five strata, half of each asked."""
    names = (
        "confident/agrees/flagged",
        "confident/agrees/unflagged",
        "confident/differs/flagged",
        "possible/agrees/unflagged",
        "refer/differs/flagged",
    )
    stratum = np.repeat(np.arange(5), 4)
    which = np.isin(np.arange(20), decided)
    return stratified(names, stratum, np.full(20, 0.5), which, np.arange(20))


@pytest.mark.parametrize(
    ("decided", "merged"),
    [
        pytest.param([0, 1, 4, 5, 8, 9, 12, 13, 16, 17], {}, id="all_there"),
        pytest.param(
            [4, 5, 8, 9, 12, 13, 16, 17],
            {"confident/agrees/flagged": "confident/agrees/unflagged"},
            id="flag_before_tier",
        ),
        pytest.param(
            [0, 1, 4, 5, 8, 9, 12, 16, 17],
            {"possible/agrees/unflagged": "confident/agrees/unflagged"},
            id="one_patient_is_too_few",
        ),
        pytest.param(
            [0, 1, 4, 5, 8, 9, 12, 13],
            {"refer/differs/flagged": "confident/differs/flagged"},
            id="never_with_another_agreement",
        ),
        pytest.param(
            [8, 9, 12, 13, 16, 17],
            {
                "confident/agrees/flagged": "possible/agrees/unflagged",
                "confident/agrees/unflagged": "possible/agrees/unflagged",
            },
            id="two_thin_ones_together_to_the_next_tier",
        ),
    ],
)
def test_thin_strata_are_estimated_with_their_neighbour(
    decided: list[int], merged: dict[str, str]
) -> None:
    found = tiers(decided)
    assert found is not None
    assert found.merged == merged
    sums = np.bincount(found.stratum, found.weight)
    assert sums == pytest.approx(found.n_rows)


def test_a_stratum_without_answers_and_neighbours_leaves_no_estimate() -> None:
    assert tiers([0, 1, 4, 5, 12, 13]) is None
    nobody = np.zeros(3, dtype=bool)
    outside = np.full(3, -1, dtype=np.int64)
    assert stratified((), outside, np.full(3, np.nan), nobody, np.arange(3)) is None


def test_rows_of_a_merged_stratum_keep_their_own_weight() -> None:
    """One decided row of a stratum drawn with 1/4, four of one drawn with 1/2."""
    names = ("confident/agrees/flagged", "confident/agrees/unflagged")
    stratum = np.repeat([0, 1], [4, 8])
    probability = np.repeat([0.25, 0.5], [4, 8])
    decided = np.isin(np.arange(12), [0, 4, 5, 6, 7])
    found = stratified(names, stratum, probability, decided, np.arange(12))
    assert found is not None
    assert found.weight[decided].tolist() == pytest.approx([4.0, 2.0, 2.0, 2.0, 2.0])


def test_strata_are_numbered_by_name_and_rows_without_probability_are_outside() -> None:
    column = pl.Series(["b", None, "a", "b"])
    names, number = numbered(column, np.array([0.5, 0.5, 1.0, 0.0]))
    assert (names, number.tolist()) == (("a", "b"), [1, -1, 0, -1])
    nothing, outside = by_probability(np.array([np.nan, 0.0]))
    assert (nothing, outside.tolist()) == ((), [-1, -1])


def test_rows_of_one_patient_that_agree_count_once() -> None:
    # 10 patients of 2 rows that always agree: half the rows, times (P - 1) / (n - 1) corrections
    rate, residual = np.array([0.5]), np.array([10 * 1.0 / 20**2])
    found = effective_rows(rate, kish=20, by_patient=residual, n_patients=10, least=10)
    assert found[0] == pytest.approx(20 / (10 / 9 * residual[0] / (0.25 / 19)))
    none = effective_rows(np.array([0.0]), kish=20, by_patient=residual, n_patients=10, least=10)
    assert none[0] == 10


def test_another_flag_is_nearer_than_another_tier() -> None:
    names = ("confident/agrees/unflagged", "possible/agrees/flagged", "possible/agrees/unflagged")
    decided = np.isin(np.arange(12), [0, 1, 4, 5])
    stratum = np.repeat(np.arange(3), 4)
    found = stratified(names, stratum, np.full(12, 0.5), decided, np.arange(12))
    assert found is not None
    assert found.merged == {"possible/agrees/unflagged": "possible/agrees/flagged"}
