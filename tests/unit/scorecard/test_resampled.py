"""The paired bootstrap against explicit resampling: rows copied, measured, sorted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scorecard_worlds import answering, answers_of, seeded

from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.scorecard import resampled
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.comparison import MEASURES
from dagster_project.lib.scorecard.outcomes import averages, class_counts, outcomes
from dagster_project.lib.scorecard.resampled import Intervals, intervals

DRAWS = 80


def found(answers: Answers, baseline: str = "c0", draws: int = DRAWS) -> dict[str, Intervals]:
    scored = {name: outcomes(probs, answers.true) for name, probs in answers.probs.items()}
    return intervals(answers, scored, baseline, draws=draws)


def test_every_interval_is_that_of_resampled_copies_of_the_rows() -> None:
    answers = seeded(n=90, k=6, configs=3)
    k = len(answers.classes)
    rows = [np.flatnonzero(answers.patient == p) for p in range(answers.n_patients)]
    rng = np.random.default_rng(SEED)
    drawn: dict[str, list[list[float]]] = {"c1": [], "c2": []}
    for _ in range(DRAWS):
        who = rng.integers(answers.n_patients, size=answers.n_patients)
        at = np.concatenate([rows[p] for p in who])
        true = answers.true[at]
        scored = {name: outcomes(probs[at], true) for name, probs in answers.probs.items()}
        means = {name: averages(of, true, k) for name, of in scored.items()}
        recall = {name: class_counts(of, true, k).recall for name, of in scored.items()}
        for name, kept in drawn.items():
            change = [means[name][m] - means["c0"][m] for m in MEASURES]
            kept.append([*change, *(recall[name] - recall["c0"])])
    ours = found(answers)
    for name, kept in drawn.items():
        columns = np.array(kept).T
        ends = [*ours[name].measures.values(), *ours[name].recalls]
        defined = 0
        for column, end in zip(columns, ends, strict=True):
            ordered = np.sort(column[~np.isnan(column)])
            if end is None:
                assert ordered.size <= 0.975 * DRAWS
                continue
            defined += 1
            # the 2nd lowest and 2nd highest of 80
            assert end == pytest.approx((ordered[1], ordered[-2]), abs=1e-12)
        assert defined >= len(MEASURES) + 3


def test_blocks_of_resamples_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = seeded(n=60)
    whole = found(answers)
    monkeypatch.setattr(resampled, "_BLOCK", 7)
    assert found(answers) == whole
    monkeypatch.setattr(resampled, "_CELLS", 1)  # more patients than may be held
    assert found(answers) == whole


def test_sums_are_of_whole_numbers() -> None:
    """So no order of adding, and no number of threads, can show in a result."""
    answers = seeded(n=60)
    scored = {name: outcomes(probs, answers.true) for name, probs in answers.probs.items()}
    sums = resampled._sums(answers, scored, "c0", ["c1", "c2"])
    counts = next(resampled._resamples(answers.n_patients, 3, SEED))
    assert sums.dtype == counts.dtype == (sums @ counts).dtype == np.int64
    assert counts.sum(axis=0).tolist() == [answers.n_patients] * 3


def test_the_rule_of_the_ends_is_the_same_from_both_sides() -> None:
    for size in (1, 40, 41, 200, 999, 1000):
        values = np.random.default_rng(size).permutation(np.arange(float(size)))
        ends = resampled._percentiles(values)
        mirrored = resampled._percentiles(-values)
        assert ends is not None
        assert mirrored == (-ends[1], -ends[0])
        assert sum(values < ends[0]) == (size - 1) // 40


def test_a_class_that_is_often_absent_has_no_interval_and_leaves_the_mean_of_both_sides() -> None:
    # class b is one patient's: absent from a third of the resamples
    true = [0] * 9 + [1]
    answers = answers_of(
        true, {"c0": answering([0] * 9 + [1], 2), "c1": answering([0] * 9 + [0], 2)}
    )
    ours = found(answers, draws=400)["c1"]
    assert ours.recalls == ((0.0, 0.0), None)
    # present: one recall of two falls from 1 to 0; absent: the other alone, unchanged
    assert ours.measures["balanced_accuracy"] == (-0.5, 0.0)


def test_where_nothing_can_be_resampled_there_are_no_intervals() -> None:
    one = answers_of(
        [0, 1], {"c0": answering([0, 1], 2), "c1": answering([0, 0], 2)}, patient=[0, 0]
    )
    for ours in (found(one), found(seeded(n=60), draws=0)):
        assert set(ours["c1"].measures.values()) == {None}
        assert set(ours["c1"].recalls) == {None}


def test_the_order_of_the_images_does_not_show() -> None:
    answers = seeded(n=60)
    order = np.random.default_rng(2).permutation(60)
    turned = dataclasses.replace(
        answers,
        image_uuid=answers.image_uuid[order],
        patient=answers.patient[order],
        true=answers.true[order],
        probs={name: probs[order] for name, probs in answers.probs.items()},
    )
    assert found(turned) == found(answers)
