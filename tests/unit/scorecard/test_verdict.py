"""The rule, branch by branch and on its boundaries, and the sentence that goes with each word."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from comparisons import comparison, difference, recall

from dagster_project.lib.scorecard.comparison import Difference
from dagster_project.lib.scorecard.rule import Margins, Rule
from dagster_project.lib.scorecard.verdict import judge, least_half_width, lower_recall

RULE = Rule(recall_drop=0.1, margins=Margins(top1=0.01, recall=0.1, brier=0.01, nll=0.05))
SAFE = [recall("acne"), recall("eczema")]


def test_a_gain_that_harms_nothing_is_kept_and_says_how_near_the_margins_are() -> None:
    found = judge(comparison(classes=[recall("acne"), recall("warts", -0.03)]), RULE)
    assert (found.word, found.unclear, found.fallen) == ("KEEP", (), ())
    assert found.sentence == (
        "Balanced accuracy rises by 2.0 points (95 % interval +1.5 to +2.5), and even at the bad "
        "end of their intervals top-1 (-0.2 points, margin 1), Brier (+0.002, margin 0.01), NLL "
        "(+0.002, margin 0.05) and the recall of every class (worst warts 70.0 % → 67.0 %, at "
        "worst -5.0 points, margin 10) stay within their margins."
    )


def test_a_collapse_rejects_whatever_the_averages_say() -> None:
    eczema = recall("eczema", 0.237 - 0.718, p_holm=1e-9, before=0.718)
    found = judge(comparison(gain=0.05, classes=[recall("acne", 0.1), eczema]), RULE)
    assert (found.word, found.fallen) == ("REJECT", ("eczema",))
    assert found.sentence == (
        "Recall falls beyond chance, and by more than the 10 points allowed, in eczema 71.8 % → "
        "23.7 % (-48.1 points, adjusted p < 0.001); the averages do not outweigh that (balanced "
        "accuracy +5.0 points)."
    )


@pytest.mark.parametrize(
    ("drop", "p_holm", "word"),
    [
        pytest.param(-0.1001, 0.0499, "REJECT", id="beyond_both"),
        pytest.param(-0.10, 0.001, "NEUTRAL", id="exactly_the_drop"),
        pytest.param(0.2 - 0.3000000000000001, 0.001, "NEUTRAL", id="the_drop_but_for_last_bits"),
        pytest.param(-0.3, 0.05, "NEUTRAL", id="exactly_alpha"),
        pytest.param(-0.3, None, "NEUTRAL", id="no_p"),
        pytest.param(-0.3, math.nan, "NEUTRAL", id="nan_p"),
        pytest.param(None, 0.001, "NEUTRAL", id="no_estimate"),
        pytest.param(0.3, 0.001, "KEEP", id="a_significant_rise"),
    ],
)
def test_a_fall_rejects_only_beyond_the_drop_and_beyond_chance(
    drop: float | None, p_holm: float | None, word: str
) -> None:
    assert judge(comparison(classes=[recall("acne", drop, p_holm=p_holm)]), RULE).word == word


@pytest.mark.parametrize(
    ("measure", "bad", "says"),
    [
        pytest.param("top1", difference(-0.004, 0.006), "top-1 (-1.0 points, margin 1)", id="top1"),
        pytest.param("brier", difference(0.004, 0.006), "Brier (+0.010, margin 0.01)", id="brier"),
        pytest.param("nll", difference(0.02, 0.03), "NLL (+0.050, margin 0.05)", id="nll"),
        pytest.param("top1", difference(0.1, None), "top-1 (no interval)", id="top1_unknown"),
        pytest.param("brier", difference(-0.1, None), "Brier (no interval)", id="brier_unknown"),
        pytest.param("nll", difference(None), "NLL (no interval)", id="nll_undefined"),
        pytest.param("top1", Difference(math.nan, math.nan, math.nan), "top-1 (", id="top1_nan"),
    ],
)
def test_a_limit_on_its_margin_or_unknown_is_no_evidence_for_keeping(
    measure: str, bad: Difference, says: str
) -> None:
    found = judge(comparison(measures={measure: bad}, classes=SAFE), RULE)
    assert found.word == "NEUTRAL"
    assert f"not within the margin at the bad end of the interval: {says}" in found.sentence


@pytest.mark.parametrize(
    ("measure", "good"),
    [
        pytest.param("top1", difference(-0.0039, 0.006), id="top1"),
        pytest.param("brier", difference(0.0039, 0.006), id="brier"),
        pytest.param("nll", difference(0.0199, 0.03), id="nll"),
    ],
)
def test_a_limit_just_within_its_margin_is_kept(measure: str, good: Difference) -> None:
    assert judge(comparison(measures={measure: good}, classes=SAFE), RULE).word == "KEEP"


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        pytest.param(difference(0.005), "is within noise.", id="lower_limit_zero"),
        pytest.param(difference(0.001), "(+0.1 points, 95 % interval -0.4 to +0.6)", id="noise"),
        pytest.param(difference(-0.02), "Balanced accuracy falls by 2.0 points", id="lower"),
        pytest.param(difference(0.3, None), "without an interval", id="no_interval"),
        pytest.param(difference(None), "Balanced accuracy is undefined.", id="undefined"),
    ],
)
def test_without_a_gain_beyond_noise_a_checkpoint_is_neutral(gain: Difference, says: str) -> None:
    found = judge(comparison(measures={"balanced_accuracy": gain}, classes=SAFE), RULE)
    assert found.word == "NEUTRAL"
    assert says in found.sentence


def test_a_collapse_that_cannot_be_excluded_is_said_worst_class_first() -> None:
    unclear = [
        recall("acne", half=0.1),  # exactly the margin
        recall("tinea", -0.05, half=0.2, n_patients=12),
        recall("warts", half=None),
        replace(recall("lupus", None, n_patients=0), baseline=None),
        recall("eczema"),
    ]
    found = judge(comparison(classes=unclear), RULE)
    assert found.word == "NEUTRAL"
    assert found.unclear == ("lupus", "warts", "tinea", "acne")
    assert found.sentence.endswith(
        "; cannot exclude a collapse in lupus (unknown → unknown, no image of it), warts (70.0 % → "
        "70.0 %, 500 patients, no interval), tinea (70.0 % → 65.0 %, 12 patients, at worst -31.5 "
        "points) and 1 more (a recall more than 10 points lower)."
    )


def test_a_class_where_nobody_changed_is_safe_only_with_patients_enough() -> None:
    same = [recall("acne", half=0.0, p_holm=None, n_patients=n) for n in (35, 36)]
    assert [judge(comparison(classes=[c]), RULE).word for c in same] == ["NEUTRAL", "KEEP"]


def test_the_least_half_width_is_the_exact_limit_of_a_share_never_seen() -> None:
    for n in (1, 2, 20, 400):
        share = least_half_width(n)
        assert (1 - share) ** n == pytest.approx(0.025)
    assert least_half_width(0) == 1.0
    # two of whose twenty patients have most of the images: worth fewer
    few = dataclasses.replace(recall("acne", half=0.0, n_patients=20), n_effective=4.0)
    assert lower_recall(few) == pytest.approx(-least_half_width(4))
    assert lower_recall(recall("acne", 0.3, half=0.01, n_patients=20)) == pytest.approx(
        0.1316, abs=1e-4
    )
    assert lower_recall(recall("acne", 0.3, half=None)) is None


def test_a_long_list_of_fallen_classes_is_counted_and_the_worst_come_first() -> None:
    fallen = [recall(f"c{n}", -0.2 - n / 100, p_holm=0.01) for n in range(5)]
    found = judge(comparison(classes=fallen), RULE)
    assert found.fallen == ("c4", "c3", "c2", "c1", "c0")
    assert "c4 70.0 % → 46.0 % (-24.0 points, adjusted p = 0.010), c3" in found.sentence
    assert "c2 70.0 % → 48.0 % (-22.0 points, adjusted p = 0.010) and 2 more;" in found.sentence


def test_a_fallen_class_is_not_called_unclear_as_well() -> None:
    classes = [recall("acne", -0.3, p_holm=0.01), recall("tinea", half=0.3)]
    found = judge(comparison(classes=classes), RULE)
    assert (found.fallen, found.unclear) == (("acne",), ("tinea",))


def test_the_larger_the_drop_the_worse_the_word() -> None:
    """With one standard error a class only moves from KEEP over NEUTRAL to REJECT."""
    order = ["KEEP", "NEUTRAL", "REJECT"]
    words = []
    for drop in np.arange(-0.2, 0.6, 0.005):
        p = math.erfc(abs(drop) / 0.03 / math.sqrt(2))
        words.append(
            judge(comparison(classes=[recall("acne", -drop, half=0.0588, p_holm=p)]), RULE).word
        )
    ranks = [order.index(word) for word in words]
    assert ranks == sorted(ranks)
    assert set(words) == set(order)


def test_a_wider_margin_never_takes_a_keep_away() -> None:
    found = comparison(classes=[recall("acne", -0.04, half=0.05)])
    tight, wide = (
        judge(found, RULE.model_copy(update={"margins": Margins(recall=r)})).word
        for r in (0.08, 0.10)
    )
    assert (tight, wide) == ("NEUTRAL", "KEEP")


def test_no_margin_is_wide_enough_to_keep_a_fall_that_would_reject_if_it_were_proven() -> None:
    wide = RULE.model_copy(update={"margins": Margins(recall=0.3)})
    words = [
        judge(comparison(classes=[recall("acne", drop, p_holm=0.2)]), wide)
        for drop in (-0.101, -0.1)
    ]
    assert [(found.word, found.unclear) for found in words] == [
        ("NEUTRAL", ("acne",)),
        ("KEEP", ()),
    ]


def test_the_order_of_classes_changes_nothing() -> None:
    classes = [
        recall("a", -0.2, p_holm=0.01),
        recall("b", -0.2, p_holm=0.01),
        recall("c", half=0.3),
    ]
    assert judge(comparison(classes=classes), RULE) == judge(
        comparison(classes=classes[::-1]), RULE
    )
