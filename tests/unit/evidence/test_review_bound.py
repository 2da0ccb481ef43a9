"""The certified bound: by hand, its parts, and in repetition (benchmarks/partial_review.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from partial_review import DELTA, THRESHOLD, Setting, draw

from dagster_project.lib.evidence import betting
from dagster_project.lib.evidence.partial_review import ReviewedRows
from dagster_project.lib.evidence.review_bound import (
    FIRST,
    certified_upper,
    hypergeometric_upper,
    review_test,
)
from dagster_project.lib.evidence.upper_bound import clopper_pearson, upper_by_patient

REST = 1 - FIRST


def rows(patient: list[int] | None = None, **columns: Sequence[Any]) -> ReviewedRows:
    """Twenty rows above .5 unless said otherwise: one asked with certainty, six drawn of 19."""
    n = len(columns.get("score", [0] * 20))
    table: dict[str, Sequence[Any]] = {
        "score": [0.9] * n,
        "given_wrong": [1] + [0] * (n - 1),
        "wrong": [0] * n,
        "reviewed": [1] * 7 + [0] * (n - 7),
        "asked": [1] * 7 + [0] * (n - 7),
        "probability": [1.0] + [6 / 19] * (n - 1),
        "stratum": [0] + [1] * (n - 1),
        **columns,
    }
    table.setdefault("returned", table["asked"])
    numbers = patient or list(range(n))

    def flags(name: str) -> Any:
        return np.array(table[name], dtype=bool)

    return ReviewedRows(
        score=np.array(table["score"], dtype=float),
        given_wrong=flags("given_wrong"),
        wrong=flags("wrong"),
        reviewed=flags("reviewed"),
        asked=flags("asked"),
        returned=flags("returned"),
        probability=np.array(table["probability"], dtype=float),
        strata=("certain", "x", "y"),
        stratum=np.array(table["stratum"]),
        patient=np.array(numbers),
        n_patients=max(numbers) + 1,
    )


def test_clopper_pearson_is_the_tabled_one() -> None:
    # 1 - .05 ** (1 / 30), and the tabled value for 2 of 20
    assert clopper_pearson(0, 30, 0.05) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert clopper_pearson(2, 20, 0.05) == pytest.approx(0.2826, abs=1e-4)
    assert clopper_pearson(3, 3, 0.05) == clopper_pearson(0, 0, 0.05) == 1


def test_the_finite_bound_by_hand() -> None:
    # none of 2 of 4 rows: C(4 - H, 2) / 6 is 1/6 for 2 hits and 0 for 3
    assert hypergeometric_upper(0, 2, 4, 0.1) == 2
    assert hypergeometric_upper(0, 2, 4, 0.2) == 1
    assert hypergeometric_upper(1, 4, 4, 0.2) == 1
    assert hypergeometric_upper(0, 0, 7, 0.2) == 7


def test_the_two_steps_carry_their_part_of_delta_each() -> None:
    hidden = hypergeometric_upper(0, 6, 19, 0.1 * FIRST)
    assert 0 < hidden < 13
    found = certified_upper(rows(), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(clopper_pearson(hidden, 20, 0.1 * REST))


def test_cells_share_the_first_step_by_what_a_row_of_them_stands_for() -> None:
    # 9 rows of which 3 drawn, 10 of which 5 drawn: weights 3 and 2
    stratum = [0] + [1] * 3 + [2] * 5 + [1] * 6 + [2] * 5
    asked = [1] * 9 + [0] * 11
    probability = [1.0] + [1 / 3] * 3 + [1 / 2] * 5 + [1 / 3] * 6 + [1 / 2] * 5
    found = certified_upper(
        rows(stratum=stratum, asked=asked, reviewed=asked, probability=probability),
        0.5, 0.3, max_images=1,
    )  # fmt: skip
    hidden = sum(
        hypergeometric_upper(0, *sizes, 0.3 * FIRST * weight / 5)
        for sizes, weight in (((3, 9), 3), ((5, 10), 2))
    )
    assert found == pytest.approx(clopper_pearson(hidden, 20, 0.3 * REST))


def test_labels_that_contradict_are_a_cell_of_their_own() -> None:
    # of the 8 drawn rows that contradict 4 came back, 3 of them show the prediction right
    given_wrong = [1] + [1] * 4 + [0] * 2 + [1] * 4 + [0] * 9
    wrong = [0, 1] + [0] * 5 + [1] * 4 + [0] * 9
    found = certified_upper(rows(given_wrong=given_wrong, wrong=wrong), 0.5, 0.3, max_images=1)
    against = hypergeometric_upper(1, 4, 8, 0.3 * FIRST * 2 / 7.5)
    hidden = hypergeometric_upper(0, 2, 11, 0.3 * FIRST * 5.5 / 7.5)
    assert found == pytest.approx(clopper_pearson(against + hidden, 20, 0.3 * REST))


def test_a_small_cell_counts_as_wrong_and_spends_nothing() -> None:
    n = 2000
    stratum = [0] + [1] * 1997 + [2] * 2
    asked = [1] + [1] * 500 + [0] * 1497 + [1, 0]
    probability = [1.0] + [500 / 1997] * 1997 + [0.5] * 2
    found = certified_upper(
        rows(score=[0.9] * n, stratum=stratum, asked=asked, reviewed=asked,
             probability=probability),
        0.5, 0.1, max_images=1,
    )  # fmt: skip
    hidden = hypergeometric_upper(0, 500, 1997, 0.1 * FIRST) + 1
    assert found == pytest.approx(clopper_pearson(hidden, n, 0.1 * REST))


def test_what_came_back_undecided_counts_as_wrong_and_what_did_not_come_back_was_not_drawn() -> (
    None
):
    reviewed = [1] * 6 + [0] * 14
    undecided = certified_upper(rows(reviewed=reviewed), 0.5, 0.1, max_images=1)
    hidden = hypergeometric_upper(1, 6, 19, 0.1 * FIRST)
    assert undecided == pytest.approx(clopper_pearson(hidden, 20, 0.1 * REST))
    missing = certified_upper(rows(reviewed=reviewed, returned=reviewed), 0.5, 0.1, max_images=1)
    hidden = hypergeometric_upper(0, 5, 19, 0.1 * FIRST)
    assert missing == pytest.approx(clopper_pearson(hidden, 20, 0.1 * REST))


def test_rows_that_could_not_be_drawn_count_as_wrong() -> None:
    probability = [1.0] + [6 / 19] * 17 + [float("nan"), 0.0]
    outside = rows(probability=probability, stratum=[0] + [1] * 17 + [-1] * 2)
    hidden = hypergeometric_upper(0, 6, 17, 0.1 * FIRST)
    found = certified_upper(outside, 0.5, 0.1, max_images=1)
    assert found == pytest.approx(clopper_pearson(hidden + 2, 20, 0.1 * REST))


def test_a_full_review_of_the_rows_in_play_is_bounded_by_its_plain_count() -> None:
    score = [0.9] * 7 + [0.1] * 13
    found = certified_upper(rows(score=score, wrong=[1] + [0] * 19), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(clopper_pearson(1, 20, 0.1))


def test_without_a_draw_of_known_probability_there_is_no_bound() -> None:
    unknown = rows(probability=[1.0] * 7 + [float("nan")] * 13, stratum=[0] * 7 + [-1] * 13)
    assert certified_upper(unknown, 0.5, 0.1, max_images=1) is None
    assert not review_test(unknown, 0.99, 0.1, max_images=1)(0.5)


def test_more_images_than_declared_are_refused() -> None:
    three = [0, 0, 0, *range(1, 18)]
    with pytest.raises(ValueError, match="over the declared 2"):
        upper_by_patient(rows(three).patient, np.zeros(20), 0.1, max_images=2)
    with pytest.raises(ValueError, match="over the declared 2"):
        certified_upper(rows(three), 0.5, 0.1, max_images=2)


def test_patients_of_equal_size_are_bounded_by_the_mean_of_their_means() -> None:
    loss = np.array([1.0, 0.0, 0.0, 0.0] * 50)
    pairs = rows([i // 2 for i in range(200)], score=[0.0] * 200)
    means = loss.reshape(-1, 2).mean(axis=1)
    expected = betting.upper_bound(means, delta=0.1)
    assert upper_by_patient(pairs.patient, loss, 0.1, max_images=2) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("images", [1, 3])
def test_the_bound_grows_with_coverage_and_is_what_the_test_decides(images: int) -> None:
    setting = Setting("small", images, 0.5, candidates=50, controls=500, by_strata=True)
    drawn = draw(setting, np.random.default_rng(2), 3000)
    found = []
    for t in (0.95, 0.9, THRESHOLD):
        bound = certified_upper(drawn, t, DELTA, max_images=images)
        assert bound is not None
        assert not review_test(drawn, bound - 1e-6, DELTA, max_images=images)(t)
        assert review_test(drawn, bound + 1e-6, DELTA, max_images=images)(t)
        found.append(bound)
    assert found == sorted(found)


@pytest.mark.parametrize("images", [1, 3])
def test_more_errors_never_lower_the_bound(images: int) -> None:
    """The second step must not fall as losses rise: the first one's bound is random."""
    setting = Setting("small", images, 0.5, candidates=50, controls=500, by_strata=True)
    drawn = draw(setting, np.random.default_rng(8), 1500)
    right = np.flatnonzero(drawn.reviewed & ~drawn.wrong & (drawn.score >= THRESHOLD))
    before = certified_upper(drawn, THRESHOLD, DELTA, max_images=images)
    assert before is not None
    for row in right[:: max(1, right.size // 8)]:
        drawn.wrong[row] = True
        after = certified_upper(drawn, THRESHOLD, DELTA, max_images=images)
        assert after is not None
        assert after >= before - 1e-9
        drawn.wrong[row] = False
