"""Paired differences: by hand, by every sign pattern, by Holm's definition."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import norm
from scorecard_worlds import answering, answers_of, seeded

from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard.comparison import MEASURES
from dagster_project.lib.scorecard.paired import MIN_PATIENTS, compare, holm, sign_test


def test_seven_images_of_four_patients_counted_by_hand() -> None:
    true, patient = [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 3]
    answers = answers_of(
        true,
        {"old": answering([1, 1, 0, 1, 1, 1, 0], 2), "new": answering([0, 0, 1, 1, 0, 1, 0], 2)},
        patient,
    )
    found = compare(answers, "old")["new"]
    # patient 0: two more right, patient 1: one less, patient 2: one less, patient 3: none
    top1 = found.differences["top1"]
    assert (top1.estimate, top1.z) == (0, 0)
    assert top1.p == 1.0
    a, b = found.per_class
    assert (a.name, a.n, a.n_patients, a.baseline, a.recall) == ("a", 3, 2, 1 / 3, 2 / 3)
    assert a.difference.z == pytest.approx(1 / np.sqrt(5))  # +2 and -1
    assert a.difference.p == 1.0  # of +-2 +-1 every sum is at least 1 from 0
    assert (b.n_patients, b.difference.z, b.difference.p) == (3, -1, 1)
    assert a.method == b.method == "sign_flips"
    assert list(found.differences) == list(MEASURES)


def test_patients_count_and_not_their_images() -> None:
    """Thirty images of one patient are one coin; McNemar by images would give p = 4e-8."""
    answers = answers_of(
        [0] * 31, {"old": answering([1] * 31, 2), "new": answering([0] * 31, 2)}, [0] * 30 + [1]
    )
    assert compare(answers, "old")["new"].differences["top1"].p == 0.5


def test_with_one_image_a_patient_z_is_mcnemars() -> None:
    # 12 images won, 5 lost, 23 unchanged: chi^2 = (12 - 5)^2 / 17
    old, new = [1] * 12 + [0] * 28, [0] * 12 + [1] * 5 + [0] * 23
    answers = answers_of([0] * 40, {"old": answering(old, 2), "new": answering(new, 2)})
    found = compare(answers, "old")["new"].per_class[0]
    assert found.difference.z == pytest.approx(7 / np.sqrt(17))
    assert found.difference.p == pytest.approx(2 * norm.sf(7 / np.sqrt(17)))
    assert found.method == "normal"


def test_few_patients_are_counted_over_every_sign_pattern() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        d = rng.integers(-4, 5, size=rng.integers(1, 9))
        found = sign_test(d, d.size)
        moved = d[d != 0]
        if not moved.size:
            assert (found.z, found.p, found.method) == (None, None, None)
            continue
        sums = [abs(int(np.dot(signs, moved))) for signs in product((1, -1), repeat=moved.size)]
        assert found.p == sum(s >= abs(moved.sum()) for s in sums) / len(sums)
        assert found.z == pytest.approx(moved.sum() / np.sqrt((moved**2).sum()))


def test_the_count_of_patterns_is_where_random_flips_lead() -> None:
    rng = np.random.default_rng(8)
    d = np.array([3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, -1, -1, -2, -2, -3, 1, 1, 2, 1, 1])
    flips = 99_999
    signs = rng.choice([-1, 1], size=(flips, d.size))
    drawn = (1 + int((np.abs(signs @ d) >= abs(d.sum())).sum())) / (1 + flips)
    found = sign_test(d, 29)
    assert found.p == pytest.approx(drawn, abs=4 * np.sqrt(drawn / flips))
    assert found.p is not None
    assert 0.05 < found.p < 0.07


def test_the_method_changes_at_thirty_patients_of_the_class() -> None:
    d = np.array([1, 1, 1, 1, 1, -1])
    few, many = sign_test(d, MIN_PATIENTS - 1), sign_test(d, MIN_PATIENTS)
    assert (few.method, many.method) == ("sign_flips", "normal")
    assert few.p == 14 / 64
    assert many.p == pytest.approx(2 * norm.sf(4 / np.sqrt(6)))
    # patients of the class count, whether or not they changed
    true = [0] * 30 + [1] * 29
    old, new = [1] + [0] * 29 + [0] + [1] * 28, [0] * 30 + [1] * 29
    answers = answers_of(true, {"old": answering(old, 2), "new": answering(new, 2)})
    found = compare(answers, "old")["new"].per_class
    assert [c.method for c in found] == ["normal", "sign_flips"]
    assert [c.n_patients for c in found] == [30, 29]


def test_where_no_patient_differs_there_is_no_test_and_no_part_in_holm() -> None:
    # b is unchanged; were its p a 1, that of a would be adjusted by two
    true = [0] * 6 + [1] * 4
    answers = answers_of(
        true,
        {"old": answering([1] * 10, 2), "new": answering([0] * 6 + [1] * 4, 2)},
    )
    a, b = compare(answers, "old")["new"].per_class
    assert a.difference.p == a.p_holm == 2 / 64
    assert (b.difference.z, b.difference.p, b.method, b.p_holm) == (None, None, None, None)
    assert b.difference.estimate == 0.0


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    rng = np.random.default_rng(1)
    for _ in range(25):
        p = rng.uniform(size=5).round(2) ** 3
        for at, found in enumerate(holm(p.tolist())):
            subsets = (s for r in range(1, 6) for s in combinations(range(5), r) if at in s)
            assert found == pytest.approx(
                max(min(1.0, len(s) * min(p[i] for i in s)) for s in subsets)
            )


def test_a_class_without_an_image_is_there_and_undefined() -> None:
    answers = answers_of([0, 0], {"old": answering([0, 0], 2), "new": answering([1, 1], 2)})
    found = compare(answers, "old")["new"].per_class[1]
    assert (found.n, found.n_patients, found.baseline, found.recall) == (0, 0, None, None)
    assert (found.difference.estimate, found.difference.low, found.p_holm) == (None, None, None)


def test_a_configuration_that_is_added_changes_nothing_for_the_others() -> None:
    answers = seeded(configs=4)
    few = dict(list(answers.probs.items())[:2])
    fewer = answers_of(answers.true.tolist(), few, answers.patient.tolist())
    assert compare(answers, "c0")["c1"] == compare(fewer, "c0")["c1"]
    assert list(compare(answers, "c2")) == ["c0", "c1", "c3"]


def test_a_baseline_alone_has_nothing_to_be_compared_with() -> None:
    assert compare(seeded(n=6, configs=1), "c0") == {}


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(InputError, match='baseline "focal": no such configuration'):
        compare(seeded(n=6), "focal")
