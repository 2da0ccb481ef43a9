"""Comparisons on small tied worlds: symmetries, and a slow loop beside the fast code."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorecard_worlds import answers_of

from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.comparison import Comparison, Difference
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.scorecard.outcomes import averages, outcomes
from dagster_project.lib.scorecard.paired import compare

steady = settings(derandomize=True, deadline=None, max_examples=60)
# few values, so that ties are the rule
value = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@st.composite
def worlds(draw: st.DrawFn) -> Answers:
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    row = st.lists(value, min_size=k, max_size=k)
    table = st.lists(row, min_size=n, max_size=n)
    return answers_of(
        draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)),
        {"old": draw(table), "new": draw(table)},
        draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n)),
    )


def against(answers: Answers, baseline: str = "old") -> Comparison:
    (found,) = compare(answers, baseline, draws=41).values()
    return found


def ordered(answers: Answers, order: list[int]) -> Answers:
    return dataclasses.replace(
        answers,
        image_uuid=answers.image_uuid[order],
        patient=answers.patient[order],
        true=answers.true[order],
        probs={name: probs[order] for name, probs in answers.probs.items()},
    )


@steady
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_images_is_irrelevant(answers: Answers, random: object) -> None:
    order = list(range(len(answers)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert against(ordered(answers, order)) == against(answers)


def negated(found: Difference) -> Difference:
    def minus(v: float | None) -> float | None:
        return None if v is None else -v

    return Difference(
        minus(found.estimate), minus(found.high), minus(found.low), minus(found.z), found.p
    )


@steady
@given(worlds())
def test_swapping_the_sides_negates_every_difference_exactly(answers: Answers) -> None:
    one, other = against(answers), against(answers, "new")
    assert (other.baseline, other.config) == ("new", "old")
    assert {m: negated(d) for m, d in one.differences.items()} == other.differences
    for a, b in zip(one.per_class, other.per_class, strict=True):
        assert negated(a.difference) == b.difference
        assert (a.baseline, a.recall, a.p_holm) == (b.recall, b.baseline, b.p_holm)


@steady
@given(worlds())
def test_equal_configurations_differ_by_nothing_and_are_not_tested(answers: Answers) -> None:
    same = dataclasses.replace(answers, probs=dict.fromkeys(answers.probs, answers.probs["old"]))
    found = against(same)
    for difference in (*found.differences.values(), *(c.difference for c in found.per_class)):
        assert difference.estimate in (0.0, None)
        assert difference.low in (0.0, None)
        assert difference.high in (0.0, None)
        assert difference.z is difference.p is None


@steady
@given(worlds())
def test_the_z_of_a_class_is_that_of_a_slow_loop(answers: Answers) -> None:
    def is_right(name: str, at: int) -> bool:
        row = answers.probs[name][at].tolist()
        own = row.pop(answers.true[at])
        return all(own > other for other in row)  # a tie never counts for the truth

    for at, found in enumerate(against(answers).per_class):
        by_patient: dict[int, int] = defaultdict(int)
        for row in np.flatnonzero(answers.true == at).tolist():
            by_patient[int(answers.patient[row])] += is_right("new", row) - is_right("old", row)
        d = list(by_patient.values())
        assert found.n_patients == len(d)
        if not any(d):
            assert found.difference.z is found.difference.p is None
        else:
            assert found.difference.z == pytest.approx(sum(d) / math.sqrt(sum(x * x for x in d)))
            assert found.difference.p is not None
            assert 0 < found.difference.p <= 1
            assert found.p_holm is not None
            assert found.difference.p <= found.p_holm <= 1


@steady
@given(worlds())
def test_renaming_and_reordering_classes_moves_their_rows_and_nothing_else(
    answers: Answers,
) -> None:
    k = len(answers.classes)
    order = list(range(k))[::-1]
    turned = dataclasses.replace(
        answers,
        classes=tuple(answers.classes[c] for c in order),
        true=np.array([order.index(t) for t in answers.true]),
        probs={name: probs[:, order] for name, probs in answers.probs.items()},
    )
    one, other = against(answers), against(turned)
    assert {c.name: c for c in one.per_class} == {c.name: c for c in other.per_class}
    for name in ("top1", "top3", "balanced_accuracy", "macro_f1"):
        a, b = one.differences[name], other.differences[name]
        # means over classes are added up in another order
        assert (a.estimate, a.low, a.high) == pytest.approx((b.estimate, b.low, b.high), abs=1e-12)
    assert one.differences["brier"] == other.differences["brier"]
    before, after = measures(answers, "old"), measures(turned, "old")
    assert before["sink"] == after["sink"]
    assert before["per_class"] == after["per_class"][::-1]


@steady
@given(worlds())
def test_an_output_that_says_the_same_of_every_class_is_never_right(answers: Answers) -> None:
    constant = np.full_like(answers.probs["old"], 0.5)
    found = averages(outcomes(constant, answers.true), answers.true, len(answers.classes))
    assert (found["top1"], found["balanced_accuracy"], found["macro_f1"]) == (0, 0, 0)
