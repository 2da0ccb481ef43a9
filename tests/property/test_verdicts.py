"""Verdicts for any comparison: the rule restated, what makes a word worse, and what must not."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from comparisons import comparison, difference, recall
from hypothesis import given, settings

from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints
from dagster_project.lib.scorecard.comparison import ClassDifference, Comparison, Verdict
from dagster_project.lib.scorecard.composition import composition
from dagster_project.lib.scorecard.recipe import judge_recipes, run_floor, winners_curse
from dagster_project.lib.scorecard.rule import Rule
from dagster_project.lib.scorecard.verdict import judge, lower_recall

RULE = Rule()
ORDER = ("KEEP", "NEUTRAL", "REJECT")
small = st.floats(-0.2, 0.2)
shares = st.floats(0, 1)
halves = st.one_of(st.none(), st.floats(0, 0.15))


@st.composite
def classes(draw: st.DrawFn) -> list[ClassDifference]:
    return [
        recall(
            f"c{at}",
            draw(st.one_of(st.none(), st.floats(-0.5, 0.5))),
            half=draw(halves),
            p_holm=draw(st.one_of(st.none(), shares)),
            n_patients=draw(st.integers(0, 600)),
        )
        for at in range(draw(st.integers(1, 4)))
    ]


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    measures = {
        name: difference(draw(st.one_of(st.none(), small)), draw(halves))
        for name in ("top1", "brier", "nll", "balanced_accuracy")
    }
    return comparison(measures=measures, classes=draw(classes()))


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


@given(comparisons())
@settings(max_examples=60, deadline=None)
def test_the_word_is_what_the_rule_says(found: Comparison) -> None:
    d = found.differences
    fell = any(
        c.p_holm is not None
        and c.p_holm < RULE.alpha
        and c.difference.estimate is not None
        and round(c.difference.estimate, 12) < -RULE.recall_drop
        for c in found.per_class
    )
    pairs = [
        (0.0, d["balanced_accuracy"].low),
        (RULE.margins.top1, d["top1"].low),
        (RULE.margins.brier, _negative(d["brier"].high)),
        (RULE.margins.nll, _negative(d["nll"].high)),
    ]
    pairs += [(RULE.margins.recall, lower_recall(c)) for c in found.per_class]
    kept = all(low is not None and round(low, 12) > -margin for margin, low in pairs)
    said = judge(found, RULE)
    assert said.word == ("REJECT" if fell else "KEEP" if kept else "NEUTRAL")
    assert bool(said.fallen) == fell
    assert not set(said.fallen) & set(said.unclear)
    assert said.sentence.endswith(".")
    assert "nan" not in said.sentence


@given(comparisons(), st.integers(0, 3), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_larger_fall_never_makes_the_word_better(found: Comparison, at: int, more: float) -> None:
    at %= len(found.per_class)
    one = found.per_class[at]
    d = one.difference
    if d.estimate is None:
        return
    moved = replace(d, estimate=d.estimate - more, low=None if d.low is None else d.low - more)
    worse = (*found.per_class[:at], replace(one, difference=moved), *found.per_class[at + 1 :])
    words = [judge(c, RULE).word for c in (found, replace(found, per_class=worse))]
    assert ORDER.index(words[1]) >= ORDER.index(words[0])


@given(st.lists(shares, min_size=2, max_size=5), st.lists(shares, min_size=2, max_size=5), small)
@settings(max_examples=40, deadline=None)
def test_the_floor_is_one_of_both_sides_and_does_not_move_with_the_level(
    ours: list[float], theirs: list[float], shift: float
) -> None:
    floor, sd, measured = run_floor(ours, theirs, RULE)
    assert run_floor(theirs, ours, RULE) == pytest.approx((floor, sd, measured))
    if measured and sd > 1e-6:
        moved = run_floor([value + shift for value in ours], theirs, RULE)
        assert moved == pytest.approx((floor, sd, measured), abs=1e-9)


@given(
    st.permutations(["a#1", "a#2", "b", "a+b", "#again", "c"]),
    st.lists(small, min_size=6, max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_the_order_of_configurations_changes_nothing(names: list[str], gains: list[float]) -> None:
    gain = dict(zip(sorted(names), gains, strict=True))

    def world(order: list[str]) -> tuple[object, ...]:
        entries = tuple(
            Checkpoint(n, "m", tuple(p for p in n.split("#")[0].split("+") if p)) for n in order
        )
        compared = {n: comparison(n, gain=gain[n]) for n in order}
        said: dict[str, Verdict] = {n: judge(compared[n], RULE) for n in order}
        accuracy = {"deployed": 0.7, **{n: 0.7 + gain[n] for n in order}}
        file = Checkpoints(entries)
        return (
            judge_recipes(file, accuracy, said, RULE),
            winners_curse(compared),
            composition(file, compared, said),
        )

    assert world(names) == world(sorted(names))
