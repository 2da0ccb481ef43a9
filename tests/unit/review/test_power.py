"""What a packet can show: hand-counted, against a simulation, and the sizes it asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from packet_worlds import judged, plan

from dagster_project.lib.review.design import Plan, Priors, Sampling, draw_sample
from dagster_project.lib.review.power import expected_precision, recall_error, sentences

PRIORS = Priors(agrees=0.05, differs=0.3, differs_flagged=0.7, undecided=0.0, likeness=0.0)


def test_recall_from_300_and_300_reviews_is_known_to_fifteen_points() -> None:
    """By simulation: 7 % of labels wrong, precision .88, recall .55; 20,000 seeded draws."""
    share, precision, missed = 0.0451, 0.88, 0.034
    rng = np.random.default_rng(0)
    found = share * rng.binomial(300, precision, 20_000) / 300
    left = (1 - share) * rng.binomial(300, missed, 20_000) / 300
    recall = found / (found + left)
    low, high = np.quantile(recall, [0.025, 0.975])
    assert (high - low) / 2 == pytest.approx(0.15, abs=0.01)
    variances = (
        share**2 * precision * (1 - precision) / 300,
        (1 - share) ** 2 * missed * (1 - missed) / 300,
    )
    error = recall_error(share * precision, variances[0], (1 - share) * missed, variances[1])
    assert 1.96 * error == pytest.approx((high - low) / 2, abs=0.01)


def test_a_plan_without_clusters_gives_the_hand_counted_error() -> None:
    rows = judged(1000, images=1).with_columns(
        predicted_label=pl.Series(["acne"] * 600 + ["tinea"] * 400),
        flagged=pl.lit(value=False),
        predicted_prob=pl.lit(0.9),
    )
    sampling = Sampling(n=100, n_certain=0, oversample=1.0, priors=replace(PRIORS, differs=0.05))
    found = expected_precision(plan(rows, sampling))
    assert found["n_asked"] == 100
    # 60 of 600 and 40 of 400: 1.96 sqrt(.9 x .05 x .95 x (.36 / 60 + .16 / 40))
    assert found["noise_rate"]["half_width"] == pytest.approx(0.0405, abs=1e-4)
    assert (found["precision"], found["recall"]) == (None, None)
    # W: 5 % of the 600, and all of the 400 whose label is right
    assert found["confident_wrong"]["expected"] == pytest.approx((30 + 380) / 1000)
    assert found["hidden"]["smallest"] == pytest.approx(1 - 0.05 ** (1 / 60))


@pytest.fixture(scope="module")
def world() -> tuple[Plan, pl.Series]:
    """A frame, and which labels are truly wrong, at exactly the assumed shares."""
    found = plan(judged(3000, images=1), Sampling(n=300, n_certain=40, priors=PRIORS))
    share = (
        pl.when("agrees").then(PRIORS.agrees).when("flagged").then(PRIORS.differs_flagged)
    ).otherwise(PRIORS.differs)
    cell = ["stratum", "tier", "agrees", "flagged"]
    place = (pl.int_range(pl.len()) + 0.5).over(cell) / pl.len().over(cell)
    return found, found.rows.select(place < share).to_series()


def test_the_expected_errors_are_those_of_a_simulation(world: tuple[Plan, pl.Series]) -> None:
    """300 seeded draws from a frame with known errors; 12 % is three errors of a deviation."""
    found, wrong = world
    rows = found.rows.with_columns(wrong=wrong, weight=1 / pl.col("inclusion_probability"))
    noise, recall = np.empty(300), np.empty(300)
    for seed in range(300):
        asked = draw_sample(replace(found, sampling=replace(found.sampling, seed=seed)))
        hit = asked.select("image_uuid").join(rows.filter("wrong"), on="image_uuid")
        total = float(hit["weight"].sum())
        noise[seed] = total / rows.height
        recall[seed] = float(hit.filter("flagged")["weight"].sum()) / total
    expected = expected_precision(found)
    for values, name in ((noise, "noise_rate"), (recall, "recall")):
        assert 1.96 * np.std(values) == pytest.approx(expected[name]["half_width"], rel=0.12)
        assert np.mean(values) == pytest.approx(expected[name]["expected"], abs=0.02)


def test_the_size_it_asks_for_gives_the_width_it_promises(world: tuple[Plan, pl.Series]) -> None:
    found, _ = world
    size = expected_precision(found)["size_for"]["recall"]["n"]
    larger = plan(judged(3000, images=1), replace(found.sampling, n=size))
    assert expected_precision(larger)["recall"]["half_width"] == pytest.approx(0.05, abs=0.006)
    assert size > 300


def test_patients_who_are_alike_and_undecided_reviews_widen_everything() -> None:
    rows = judged(1000)
    wide = expected_precision(plan(rows, Sampling(n=200, priors=replace(PRIORS, likeness=0.8))))
    lost = expected_precision(plan(rows, Sampling(n=200, priors=replace(PRIORS, undecided=0.3))))
    base = expected_precision(plan(rows, Sampling(n=200, priors=PRIORS)))
    for name in ("noise_rate", "precision", "recall", "confident_wrong"):
        assert wide[name]["half_width"] > base[name]["half_width"] < lost[name]["half_width"]


def test_it_says_in_words_what_can_and_cannot_be_shown() -> None:
    found = expected_precision(plan(judged(1000), Sampling(n=100)), n_outside=7)
    json.dumps(found, allow_nan=False)
    text = "\n".join(sentences(found))
    for word in ("of 1,000 images", "recall ", "For recall to ± 5 points ask about", "Not"):
        assert word in text
    assert "the 7 images without" in text
    assert max(map(len, sentences(found))) < 280


def test_without_a_flag_or_a_confident_image_it_says_that_nothing_is_known() -> None:
    rows = judged(200).with_columns(flagged=pl.lit(value=False), predicted_prob=pl.lit(0.5))
    found = expected_precision(plan(rows, Sampling(n=60)))
    assert found["confident_wrong"] is None
    assert found["hidden"]["smallest"] is None
    assert found["size_for"] == {
        "recall": {"half_width": 0.05, "n": None},
        "confident_wrong": {"half_width": 0.01, "n": None},
    }
    assert "unknown (nothing to estimate it from)" in "\n".join(sentences(found))
