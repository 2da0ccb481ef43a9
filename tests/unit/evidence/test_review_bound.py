from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from partial_review import DELTA, THRESHOLD, Setting, draw

from dagster_project.lib.evidence import betting
from dagster_project.lib.evidence.partial_review import ReviewedRows
from dagster_project.lib.evidence.review_bound import by_patient, certified_upper, upper_bound


def rows(patient: list[int] | None = None, **columns: Sequence[float]) -> ReviewedRows:
    """Ten rows above .5 unless said otherwise: one asked with certainty, three drawn of nine."""
    table: dict[str, Sequence[float]] = {
        "score": [0.9] * 10,
        "given_wrong": [1] + [0] * 9,
        "wrong": [0] * 10,
        "reviewed": [1] * 4 + [0] * 6,
        "asked": [1] * 4 + [0] * 6,
        "probability": [1.0] + [1 / 3] * 9,
        **columns,
    }
    numbers = patient or list(range(10))
    as_bool = {k: np.array(table[k], dtype=bool) for k in ("given_wrong", "wrong", "reviewed")}
    return ReviewedRows(
        score=np.array(table["score"]),
        asked=np.array(table["asked"], dtype=bool),
        probability=np.array(table["probability"]),
        patient=np.array(numbers),
        n_patients=max(numbers) + 1,
        **as_bool,
    )


def exact(k: int, n: int, delta: float) -> float:
    return upper_bound(np.array([1.0] * k + [0.0] * (n - k)), delta)


def test_the_bound_of_zeros_and_ones_is_clopper_pearsons() -> None:
    # 1 - .05 ** (1 / 30), and the tabled value for 2 of 20
    assert exact(0, 30, 0.05) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert exact(2, 20, 0.05) == pytest.approx(0.2826, abs=1e-4)
    assert exact(3, 3, 0.05) == exact(0, 0, 0.05) == 1


def test_the_two_parts_carry_half_of_delta_each() -> None:
    found = certified_upper(rows(), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(exact(0, 10, 0.05) + 0.9 * exact(0, 3, 0.05))


def test_what_nobody_decided_counts_as_wrong() -> None:
    found = certified_upper(rows(reviewed=[0, 1, 1, 0] + [0] * 6), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(min(1, exact(1, 10, 0.05) + 0.9 * exact(1, 3, 0.05)))


def test_rows_that_could_not_be_drawn_count_as_wrong() -> None:
    probability = [1.0] + [1 / 3] * 7 + [float("nan"), 0.0]
    found = certified_upper(rows(probability=probability), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(min(1, exact(2, 10, 0.05) + 0.7 * exact(0, 3, 0.05)))


def test_a_second_drawn_row_of_a_patient_counts_as_wrong() -> None:
    both = rows([0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    hidden = 0.9 * (2 / 3 * exact(0, 2, 0.25) + 1 / 3)
    shown = by_patient(both, np.zeros(10), 0.25, 2, upper_bound)
    found = certified_upper(both, 0.5, 0.5, max_images=2)
    assert found == pytest.approx(min(1.0, shown + hidden))


def test_a_full_review_of_the_rows_in_play_is_bounded_by_its_plain_count() -> None:
    score = [0.9] * 4 + [0.1] * 6
    found = certified_upper(rows(score=score, wrong=[1] + [0] * 9), 0.5, 0.1, max_images=1)
    assert found == pytest.approx(exact(1, 10, 0.1))


@pytest.mark.parametrize(
    "probability",
    [
        pytest.param([1.0] * 4 + [float("nan")] * 6, id="nothing_drawn"),
        pytest.param([1.0, 0.2, 0.3, 0.3] + [0.3] * 6, id="unequal"),
    ],
)
def test_without_a_simple_random_sample_there_is_no_bound(probability: list[float]) -> None:
    assert certified_upper(rows(probability=probability), 0.5, 0.1, max_images=1) is None


def test_more_images_than_declared_are_refused() -> None:
    with pytest.raises(ValueError, match="over the declared 2"):
        by_patient(rows([0, 0, 0, 1, 2, 3, 4, 5, 6, 7]), np.zeros(10), 0.1, 2, upper_bound)


def test_patients_of_equal_size_are_bounded_by_the_mean_of_their_means() -> None:
    loss = np.array([1.0, 0.0, 0.0, 0.0] * 50)
    empty = dict.fromkeys(("score", "given_wrong", "wrong", "reviewed", "asked"), [0.0] * 200)
    pairs = rows([i // 2 for i in range(200)], probability=[0.5] * 200, **empty)
    means = loss.reshape(-1, 2).mean(axis=1)
    expected = betting.upper_bound(means, delta=0.1)
    assert by_patient(pairs, loss, 0.1, 2, upper_bound) == pytest.approx(expected, abs=1e-5)


def test_a_bound_that_is_passed_in_is_used() -> None:
    seen: list[tuple[int, float]] = []

    def bound(values: npt.NDArray[np.float64], delta: float) -> float:
        seen.append((values.size, delta))
        return 0.01

    found = certified_upper(rows(), 0.5, 0.1, max_images=1, bound=bound)
    assert found == pytest.approx(0.019)
    assert seen == [(10, 0.05), (3, 0.05)]


def test_the_bound_never_falls_as_the_threshold_falls() -> None:
    setting = Setting("small", candidates=50, controls=100)
    drawn = draw(setting, np.random.default_rng(2), 2000)
    found = [
        certified_upper(drawn, t, DELTA, max_images=1) for t in (1.0, 0.95, 0.9, THRESHOLD, 0.5)
    ]
    assert None not in found
    assert found == sorted(found, key=lambda value: value or 0.0)
