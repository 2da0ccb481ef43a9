"""Certifying a shift on labels that were reviewed in part: bounds counted apart, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from rollup_worlds import TAXONOMY, World
from scipy import stats

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.certificate import share_p_values
from dagster_project.lib.evidence.review_bound import review_test
from dagster_project.lib.rollup.candidates import Candidates
from dagster_project.lib.rollup.config import FitThresholds, RollupConfig
from dagster_project.lib.rollup.fit import RankThresholds, fit_thresholds
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.reviewed import estimate, leading_passes, rows_at
from dagster_project.lib.rollup.shift import (
    STEPS_IN_PART,
    Sample,
    certify_shift,
    shifted,
    shifts,
)
from dagster_project.lib.rollup.truth import Review, truth_of

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES = ["a", "b"]
SHAPE = np.array([0.8])


def review_of(
    reviewed: Bools, probability: Floats, asked: Bools | None = None, stratum: Ints | None = None
) -> Review:
    asked = reviewed if asked is None else asked
    given = np.zeros(reviewed.size, dtype=np.int64)  # not looked at: given_right says it
    known = np.greater(probability, 0)
    number = np.where(known, 0 if stratum is None else stratum, -1)
    return Review(given, reviewed, asked, asked, probability, ("s", "t"), number)


def sample_of(
    score: Floats, right: Bools, given_right: Bools, review: Review, images: int = 1
) -> Sample:
    """One rank, or as many as ``score`` has columns."""
    score = score.reshape(len(score), -1)
    right, given_right = right.reshape(score.shape), given_right.reshape(score.shape)
    node = np.where(np.isnan(score), UNPLACED, 0)
    patient = np.arange(len(score)) // images
    return Sample(
        Candidates(node, score), right, patient, int(patient[-1]) + 1, known=True,
        review=review, given_right=given_right, in_part=True,
    )  # fmt: skip


def certified(sample: Sample, **terms: Any) -> dict[str, Any]:
    fit = FitThresholds(**{"target": 0.05, **terms})
    return certify_shift(sample, SHAPE, fit, loosest=-10, monotone=True)


def test_what_a_shift_says_is_a_score_of_one_or_nothing() -> None:
    """Two ranks. Placed: 0 at the first rank (given right, found wrong), 1 at the second."""
    score = np.array([[0.9, 0.95], [0.5, 0.7], [0.5, 0.6]])
    right = np.array([[False, True], [False, True], [False, False]])
    given = np.array([[True, True], [False, False], [False, False]])
    review = review_of(np.array([True, True, False]), np.array([0.5, 0.5, np.nan]))
    sample = sample_of(score, right, given, review)
    rows = rows_at(sample, sample.candidates.rank_said(np.array([0.8, 0.7])))
    assert rows.score.tolist() == [1.0, 1.0, 0.0]
    assert rows.wrong.tolist() == [True, False, False]
    assert rows.given_wrong.tolist() == [False, True, False]
    assert rows.stratum.tolist() == [0, 0, -1]


def test_the_bound_is_that_of_a_finite_sample_and_of_the_patients() -> None:
    """1,000 patients, all placed with a label that agrees; of 300 drawn 3 are found wrong.

    So many of the 1,000 can be wrong that 300 show at most 3 with chance .8 delta; and the draw of
    patients has the rest. Counted with another library's distributions.
    """
    drawn = np.arange(1000) < 300
    wrong = np.arange(1000) < 3
    sample = sample_of(
        np.full(1000, 0.9), ~wrong, np.full(1000, True), review_of(drawn, np.full(1000, 0.3))
    )
    most = max(m for m in range(3, 100) if stats.hypergeom.cdf(3, 1000, m, 300) > 0.04)
    bound = float(stats.beta.ppf(1 - 0.01, most + 1, 1000 - most))
    assert 0.02 < bound < 0.05
    found = certified(sample, target=bound + 1e-4)
    assert (found["status"], found["shift"]) == ("certified", -10.0)
    assert found["observed"] == pytest.approx(0.01)  # 3 of 300, not 3 of 1,000
    assert (found["p"], found["rows_needed"], found["n_reviewed"]) == (None, None, 300)
    assert found["grid"]["step"] == 1 / STEPS_IN_PART
    below = certified(sample, target=bound - 1e-4)
    assert below["status"] == "not_certified"
    assert "300 reviewed images that were drawn at random leave much room" in below["reason"]
    naive = certify_shift(
        Sample(sample.candidates, sample.right, sample.patient, 1000, known=True),
        SHAPE, FitThresholds(target=bound - 1e-4), loosest=-10, monotone=True,
    )  # fmt: skip
    assert (naive["status"], naive["observed"]) == ("certified", 0.003)


def test_of_an_unknown_design_nothing_is_certified_until_what_is_placed_is_reviewed() -> None:
    """The 400 at .9 are reviewed, the 100 at .5 are not: no further than before those."""
    score = np.repeat([0.9, 0.5], [400, 100])
    right = np.full(500, True)
    unknown = np.full(500, np.nan)
    found = certified(sample_of(score, right, right, review_of(score > 0.7, unknown)))
    assert found["status"] == "certified"
    assert shifted(SHAPE, found["shift"])[0] > 0.5 >= shifted(SHAPE, found["stopped_at"])[0]
    assert found["observed"] == 0.0
    none = certified(sample_of(score, right, right, review_of(score < 0.7, unknown)))
    assert (none["status"], none["observed"]) == ("not_certified", None)
    assert none["reason"].endswith("or some that a review packet draws")


@pytest.mark.parametrize("images", [pytest.param(1, id="binomial"), pytest.param(2, id="betting")])
@pytest.mark.parametrize("seed", range(3))
def test_reviewed_wholly_the_test_is_the_plain_one(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    score, right = np.sort(rng.random((300, 3)), axis=1), rng.random((300, 3)) < 0.9
    score[rng.random((300, 3)) < 0.2] = np.nan
    given = right ^ (rng.random((300, 3)) < 0.1)
    review = review_of(np.full(300, True), rng.choice([0.3, 1.0, np.nan], 300))
    sample = sample_of(score, right, given, review, images)
    terms = FitThresholds(target=0.15, max_images_per_patient=2)
    shape = np.array([0.7, 0.8, 0.9])
    grid = shifted(shape, shifts(steps=STEPS_IN_PART)[:, None])
    wrong = np.stack([sample.wrong(at)[0] for at in grid])
    p = share_p_values(wrong, np.bincount(sample.patient), 0.15, level=0.05, max_images=2)
    expected = int(np.append(np.flatnonzero(p > 0.05), p.size)[0])
    assert expected > 0
    assert leading_passes(sample, grid, terms) == expected
    found = certify_shift(sample, shape, terms, loosest=-10, monotone=False)
    assert found["observed"] == wrong[expected - 1].sum() / 300


@pytest.mark.parametrize(
    ("images", "target"),
    [pytest.param(1, 0.12, id="binomial"), pytest.param(2, 0.3, id="betting")],
)
def test_shifts_that_say_nothing_else_are_decided_like_the_one_before(
    images: int, target: float
) -> None:
    """Every shift tested anew comes as far; three ranks, right or wrong at random."""
    rng = np.random.default_rng(5)
    score, right = np.sort(rng.random((200, 3)), axis=1).round(1), rng.random((200, 3)) < 0.95
    given = right ^ (rng.random((200, 3)) < 0.05)
    drawn = rng.random(200) < 0.6
    stratum = rng.integers(2, size=200)
    review = review_of(drawn, np.full(200, 0.6), stratum=stratum)
    sample = sample_of(score, right, np.where(drawn[:, None], given, right), review, images)
    terms = FitThresholds(target=target, max_images_per_patient=2)
    grid = shifted(np.array([0.7, 0.8, 0.9]), shifts(steps=STEPS_IN_PART)[:, None])
    expected = 0
    for at in grid:
        rows = rows_at(sample, sample.candidates.rank_said(at))
        if not review_test(rows, target, 0.05, max_images=2)(0.5):
            break
        expected += 1
    assert 0 < expected < len(grid)
    assert leading_passes(sample, grid, terms) == expected


def test_an_estimate_needs_a_draw_and_something_placed() -> None:
    right = np.full(100, True)
    review = review_of(np.arange(100) < 50, np.full(100, 0.5))
    sample = sample_of(np.full(100, 0.9), right, right, review)
    assert estimate(sample, np.array([0.5])) == 0.0
    assert estimate(sample, np.array([0.95])) is None


# ---- from labels to the fit ----


def rows_of(**columns: Any) -> pl.DataFrame:
    usual: dict[str, Any] = {
        "image_uuid": ["i", "j", "k"],
        "label": ["a", "b", "b"],
        "given_label": ["b", None, "b"],
        "reviewed": [True, True, False],
        "asked": [True, False, False],
        "inclusion_probability": [0.5, None, 0.5],
    }
    return pl.DataFrame({**usual, **columns})


def test_an_image_without_a_given_label_counts_by_the_one_in_force() -> None:
    review = truth_of(rows_of(), CLASSES).review
    assert review is not None
    assert review.given.tolist() == [1, 1, 1]
    assert (review.stratum.tolist(), review.strata) == ([0, -1, 0], ("0.5",))
    assert (review.n_reviewed, review.n_drawn, review.in_part) == (2, 1, True)
    assert review.returned.tolist() == [True, False, False]
    named = truth_of(rows_of(stratum=["t", None, "s"], returned=[True] * 3), CLASSES).review
    assert named is not None
    assert (named.stratum.tolist(), named.strata) == ([1, -1, 0], ("s", "t"))
    assert named.returned.all()
    assert truth_of(rows_of().drop("reviewed"), CLASSES).review is None


def test_what_is_no_review_is_refused() -> None:
    with pytest.raises(InputError, match="missing column 'asked'"):
        truth_of(rows_of().drop("asked"), CLASSES)
    with pytest.raises(InputError, match="column given_label: image 'k': unknown class"):
        truth_of(rows_of(given_label=["b", None, "c"]), CLASSES)


@pytest.fixture(scope="module")
def world() -> tuple[Floats, pl.DataFrame]:
    """Of the labels some name the leaf where it is wrong; a fifth was drawn for review."""
    probs, rows = World(images=2).draw(np.random.default_rng(5), 1200)
    rng = np.random.default_rng(6)
    names = np.array(TAXONOMY.classes)
    true, leaf = rows["label"].to_numpy(), names[probs.argmax(axis=1)]
    given = np.where((true != leaf) & (rng.random(true.size) < 0.3), leaf, true)
    drawn = rng.random(1200).repeat(2) < 0.2
    return probs, rows.with_columns(
        label=np.where(drawn, true, given),
        given_label=pl.Series(given),
        reviewed=drawn,
        asked=drawn,
        inclusion_probability=pl.lit(0.2),
    )


def fitted(probs: Floats, rows: pl.DataFrame, target: float = 0.15) -> RankThresholds:
    made = RollupConfig(normalisation="none", thresholds=FitThresholds(target=target))
    prepared = prepare(probs, TAXONOMY.classes, made)
    return fit_thresholds(prepared, truth_of(rows, TAXONOMY.classes), TAXONOMY, made)


def test_the_fit_pays_for_what_nobody_saw(world: tuple[Floats, pl.DataFrame]) -> None:
    probs, rows = world
    careful, naive = fitted(probs, rows), fitted(probs, rows.drop("reviewed"))
    assert careful.certificate["status"] == naive.certificate["status"] == "certified"
    assert careful.shift is not None
    assert naive.shift is not None
    assert careful.shift > naive.shift
    assert careful.certificate["reviewed_in_part"]
    assert not naive.certificate["reviewed_in_part"]
    assert np.array_equal(careful.shape, naive.shape)
    in_force = fitted(probs, rows.with_columns(given_label="label"))  # cells by what was found
    assert in_force.certificate["observed"] != careful.certificate["observed"]
    said = [found.certificate["scope"][2] for found in (careful, naive)]
    assert "reviews drawn at random" in said[0]
    assert "is not known here" in said[1]


@pytest.mark.parametrize(("reviewed", "says"), [(False, "none of them"), (True, "every label")])
def test_with_all_or_no_labels_reviewed_the_fit_is_the_plain_one(
    world: tuple[Floats, pl.DataFrame], reviewed: bool, says: str
) -> None:
    probs, rows = world
    plain = fitted(probs, rows.drop("reviewed"))
    whole = fitted(probs, rows.with_columns(reviewed=pl.lit(reviewed)))
    assert says in whole.certificate["scope"][2]
    for key in ("shift", "observed", "p", "grid", "method", "reviewed_in_part", "rows_needed"):
        assert whole.certificate[key] == plain.certificate[key]
    assert np.array_equal(whole.thresholds, plain.thresholds, equal_nan=True)
