"""Certificates: exact where they can be counted by hand, and no more wrong than delta allows.

The long simulations are ``benchmarks/guarantees.py``; the short ones here would miss a mild fault
and say how strong a fault they see.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence_worlds import World
from scipy import stats

from dagster_project.lib.evidence.certificate import (
    BETTING,
    CLOPPER_PEARSON,
    Claim,
    Terms,
    certify,
    grid_from,
    holm,
    p_values,
    rows_needed,
)
from dagster_project.lib.evidence.rows import PatientRows

W = Claim("confident_wrong_share", 0.05)
R = Claim("covered_top1", 0.85)
TERMS = Terms(delta=0.05, start=1.0, max_images=3)


def all_at(score: float, n_right: int, n_wrong: int) -> PatientRows:
    right = np.repeat([True, False], [n_right, n_wrong])
    n = right.size
    return PatientRows(np.full(n, score), right, right, np.arange(n), n, known=True)


def together(*parts: PatientRows) -> PatientRows:
    right = np.concatenate([part.top1 for part in parts])
    score = np.concatenate([part.score for part in parts])
    return PatientRows(score, right, right, np.arange(right.size), right.size, known=True)


@pytest.mark.parametrize(
    ("claim", "threshold", "expected"),
    [
        pytest.param(W, 0.5, stats.binom.cdf(10, 600, 0.05), id="W_over_all_rows"),
        pytest.param(R, 0.8, stats.binom.cdf(10, 300, 0.15), id="R_over_the_covered_ones"),
        pytest.param(R, 0.9, 1.0, id="R_where_nothing_is_covered"),
        pytest.param(W, 0.9, stats.binom.cdf(0, 600, 0.05), id="W_where_nothing_is_covered"),
    ],
)
def test_with_one_image_a_patient_p_is_binomial(
    claim: Claim, threshold: float, expected: float
) -> None:
    rows = all_at(0.8, 290, 10)
    rest = all_at(0.2, 100, 200)
    both = together(rows, rest)
    p = p_values(both, claim, np.array([threshold]), level=0.05, max_images=3)
    assert p == pytest.approx([expected], rel=1e-9)


def test_a_threshold_equal_to_a_score_covers_it_and_float32_scores_count_as_stored() -> None:
    stored = float(np.float32(0.815))  # below 0.815
    rows = all_at(stored, 400, 0)
    p = p_values(rows, R, np.array([0.815, 0.814]), level=0.05, max_images=1)
    assert p[0] == 1.0
    assert p[1] < 0.05


def test_betting_p_values_equal_testing_each_threshold_alone() -> None:
    """Blocks and running counts must not matter: brute force over one threshold at a time."""
    rows = World(images=3).draw(np.random.default_rng(0), 250)
    grid = grid_from(1.0)[::7]
    for claim in (W, R, Claim("covered_top1", 0.4), Claim("confident_wrong_share", 0.5)):
        found = p_values(rows, claim, grid, level=0.05, max_images=3)
        single = [
            p_values(rows, claim, grid[i : i + 1], level=0.05, max_images=3)[0]
            for i in range(found.size)
        ]
        assert found == pytest.approx(single)
        assert found.size == grid.size or found.max() > 0.05


def test_the_sequence_stops_at_the_first_failure() -> None:
    """Good above .9, bad just below it, and so good below that R would hold again at .5."""
    rows = together(all_at(0.95, 600, 0), all_at(0.85, 100, 300), all_at(0.55, 4000, 0))
    found = certify(rows, [R], replace(TERMS, start=0.95), released=0.5)
    assert found.threshold == 0.851
    assert not found.released_is_certified
    lower = p_values(rows, R, np.array([0.55]), level=0.05, max_images=1)
    assert lower[0] < 0.05  # it would pass if it were tested alone


def test_nothing_covered_at_the_start_certifies_no_accuracy_and_poisons_nothing_below() -> None:
    """W passes where nothing is covered; R cannot, and says so (a known fault of a peer)."""
    rows = all_at(0.7, 990, 10)
    wrong = certify(rows, [W], TERMS, released=0.7)
    assert (wrong.status, wrong.threshold, wrong.coverage) == ("certified", 0.001, 1.0)
    accuracy = certify(rows, [R], TERMS, released=0.7)
    assert accuracy.status == "not_certified"
    assert (
        accuracy.reason == "the first threshold tested, 1.000, fails: it covers 0 of 1,000 images"
    )
    lower = certify(rows, [R], replace(TERMS, start=0.7), released=0.7)
    assert lower.threshold == 0.001


def test_a_certificate_that_covers_too_little_is_none() -> None:
    rows = all_at(0.2, 300, 700)
    found = certify(rows, [W], TERMS, released=0.2)
    assert found.status == "not_certified"
    assert found.reason == "only thresholds that cover no image pass (down to 0.201)"
    assert found.rows_needed == "never"
    little = certify(rows, [W], replace(TERMS, min_coverage=0.5), released=0.2)
    assert little.reason is not None
    assert "covers 0.0 %" not in little.reason


def test_both_claims_are_held_along_one_sequence_and_quoted_apart_at_half_delta() -> None:
    rows = World().draw(np.random.default_rng(1), 4000)
    terms = replace(TERMS, start=0.95)
    claims = [Claim("confident_wrong_share", 0.06), Claim("covered_top1", 0.87)]
    both = certify(rows, claims, terms, released=0.7)
    alone = [certify(rows, [claim], terms, released=0.7) for claim in claims]
    half = [certify(rows, [c], replace(terms, delta=0.025), released=0.7) for c in claims]
    assert both.threshold == max(a.threshold or 1 for a in alone)
    assert [claim.alone for claim in both.claims] == [h.threshold for h in half]


def test_models_compared_on_these_rows_share_delta() -> None:
    rows = World().draw(np.random.default_rng(1), 4000)
    once = certify(rows, [W], TERMS, released=0.7)
    five = certify(rows, [W], replace(TERMS, models=5), released=0.7)
    fifth = certify(rows, [W], replace(TERMS, delta=0.01), released=0.7)
    assert once.threshold is not None
    assert five.threshold is not None
    assert five.threshold >= once.threshold
    assert five.threshold == fifth.threshold


def test_the_method_is_named_and_a_second_image_changes_it() -> None:
    rows = World().draw(np.random.default_rng(1), 500)
    assert certify(rows, [W], TERMS, released=0.7).method == CLOPPER_PEARSON
    paired = replace(rows, patient=rows.patient // 2, n_patients=250)
    assert certify(paired, [W], TERMS, released=0.7).method == BETTING


def test_holm_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([], 0.05) == []


def test_which_groups_hold_takes_holm_and_a_failing_one_is_named() -> None:
    good, bad = all_at(0.8, 990, 10), all_at(0.8, 600, 400)
    both = together(good, bad)
    found = certify(both, [W], TERMS, released=0.8, groups={("sex", "f"): good, ("sex", "m"): bad})
    assert [(g.group, g.holds) for g in found.subgroups] == [("f", True), ("m", False)]
    assert found.status == "not_certified"


@pytest.mark.parametrize("images", [1, 3])
def test_the_rows_it_asks_for_give_about_80_percent_power(images: int) -> None:
    world = World(images=images)
    pilot = world.draw(np.random.default_rng(3), 400_000)
    threshold = 0.775
    covered = pilot.score >= threshold
    target = 1.15 * float((covered & ~pilot.top1).mean())
    claim, terms = Claim("confident_wrong_share", target), replace(TERMS, max_images=images)
    needed = rows_needed(pilot, claim, terms, threshold=threshold)
    assert needed != "never"
    rng = np.random.default_rng(11)
    passed = [
        p_values(
            world.draw(rng, needed // images), claim, np.array([threshold]),
            level=0.05, max_images=images,
        )[0] <= 0.05
        for _ in range(120)
    ]  # fmt: skip
    assert 0.7 < np.mean(passed) < 0.9


def test_at_or_above_the_target_no_number_of_rows_is_enough() -> None:
    assert rows_needed(all_at(0.8, 95, 5), W, TERMS, threshold=0.8) == "never"


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(World(images=1), id="one_image"),
        pytest.param(World(images=3), id="three_images"),
        pytest.param(World(images=3, informative=True), id="informative_cluster_size"),
    ],
)
def test_a_certificate_is_wrong_no_more_often_than_delta(world: World) -> None:
    """200 draws at delta 10 %: 34 or more wrong ones have probability 0.2 % if it is valid; a
    method that is really wrong 20 % of the time shows with probability 88 %."""
    truth = world.truth()
    claims = [Claim("confident_wrong_share", truth[0.775][0] + 1e-4)]
    claims.append(Claim("covered_top1", 1 - truth[0.775][1] - 1e-3))
    terms = Terms(delta=0.1, start=0.95, max_images=3)
    rng = np.random.default_rng(17)
    wrong = 0
    for _ in range(200):
        found = certify(world.draw(rng, 800), claims, terms, released=0.7).threshold
        # between two steps of the score every threshold covers the same rows
        wrong += found is not None and found <= 0.725
    assert wrong < 34


def test_a_released_value_that_covers_too_little_is_not_certified() -> None:
    """It is stricter than a certified one, and W holds there for the worst reason: no answers."""
    rows = all_at(0.7, 990, 10)
    for released, terms, holds in (
        (0.7, TERMS, True),
        (0.8, TERMS, False),
        (0.7, replace(TERMS, min_coverage=1.0), True),
    ):
        found = certify(rows, [W], terms, released=released)
        assert (found.status, found.released_is_certified) == ("certified", holds)


def test_above_the_start_accuracy_was_never_tested_and_no_number_of_rows_helps() -> None:
    rows = together(all_at(0.97, 600, 0), all_at(0.9, 600, 3))
    found = certify(rows, [R], replace(TERMS, start=0.95), released=0.96)
    assert (found.status, found.released_is_certified) == ("certified", False)
    assert found.rows_needed is None
    wrong = certify(rows, [W], replace(TERMS, start=0.95), released=0.96)
    assert wrong.released_is_certified  # W is monotone


def test_unknown_patients_certify_nothing_unless_one_image_each_is_declared() -> None:
    rows = replace(all_at(0.7, 990, 10), known=False)
    found = certify(rows, [W], TERMS, released=0.7)
    assert found.status == "not_certified"
    assert "patients are not known" in (found.reason or "")
    declared = certify(rows, [W], replace(TERMS, max_images=1), released=0.7)
    assert declared.released_is_certified


def test_a_group_that_stops_the_sequence_is_named_and_too_few_are_called_so() -> None:
    rows, few = all_at(0.8, 990, 10), all_at(0.8, 20, 0)
    found = certify(rows, [W], TERMS, released=0.8, groups={("site", "b"): few})
    assert found.status == "not_certified"
    assert (found.reason or "").endswith(
        "it fails in site = b (20 images of 20 patients, too few to certify even without an error)"
    )
    # of the whole so many that the group has the 59 that a bound of 5 % takes
    assert found.rows_needed is not None
    assert found.rows_needed != "never"
    assert found.rows_needed >= 59 * 1000 / 20
