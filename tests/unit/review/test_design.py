"""The sampling design: strata, how many of each, and a draw that keeps its probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from packet_worlds import AT, judged, plan

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.strata import CERTAIN
from dagster_project.lib.review.design import (
    Priors,
    Sampling,
    allocate,
    draw_sample,
    plan_sample,
    stratified,
)


def test_a_score_on_a_threshold_is_above_it_and_strata_say_tier_agreement_and_flag() -> None:
    rows = judged(4).with_columns(
        predicted_prob=pl.Series([0.8, 0.4, 0.3999, 0.7999]),
        predicted_label=pl.Series(["acne", "tinea", "acne", "tinea"]),
        flagged=pl.Series([False, True, False, False]),
    )
    assert stratified(rows, AT)["stratum"].to_list() == [
        "confident/agrees/unflagged",
        "possible/differs/flagged",
        "refer/agrees/unflagged",
        "possible/differs/unflagged",
    ]


def test_every_image_is_in_one_stratum_and_can_be_asked() -> None:
    found = plan(judged(), Sampling(n=80))
    assert found.rows.height == 400
    assert set(found.rows["stratum"]) == set(found.strata["stratum"])
    assert found.strata["n_images"].sum() == 400
    assert (found.rows["inclusion_probability"] > 0).all()
    (certain,) = found.strata.filter(stratum=CERTAIN).rows(named=True)
    assert (certain["n_images"], certain["inclusion_probability"]) == (20, 1.0)


def test_the_certain_ones_are_the_worst_flagged_ones_and_equal_quality_goes_by_id() -> None:
    rows = judged(60).with_columns(quality=pl.lit(0.5), patient_id=pl.col("patient_id").reverse())
    found = plan(rows, Sampling(n=40, n_certain=4))
    flagged = rows.filter("flagged")["image_uuid"].sort()
    certain = found.rows.filter(stratum=CERTAIN)["image_uuid"]
    assert certain.to_list() == flagged.head(4).to_list()


def test_a_drawn_patient_brings_all_images_of_the_stratum_and_no_other() -> None:
    found = plan(judged(), Sampling(n=80))
    asked = draw_sample(found)
    for name, n_drawn in found.strata.select("stratum", "n_patients_drawn").rows():
        if name == CERTAIN:
            continue
        inside = asked.filter(stratum=name)
        assert inside["patient"].n_unique() == n_drawn
        every = found.rows.filter(pl.col("stratum") == name).join(inside, on="patient", how="semi")
        assert every["image_uuid"].to_list() == inside["image_uuid"].to_list()
    assert dict(asked.group_by("role").len().rows())["certain"] == 20


def test_images_are_asked_as_often_as_recorded_and_never_more_than_n() -> None:
    """150 seeded draws; a count that misses its probability by 4.5 standard errors fails."""
    rows, draws = judged(120), 150
    base = plan(rows, Sampling(n=40, n_certain=6))
    times = np.zeros(base.rows.height)
    for seed in range(draws):
        asked = draw_sample(replace(base, sampling=replace(base.sampling, seed=seed)))
        assert asked.height <= 40
        times += base.rows["image_uuid"].is_in(asked["image_uuid"].implode()).to_numpy()
    p = base.rows["inclusion_probability"].to_numpy()
    error = np.sqrt(np.maximum(p * (1 - p), 1e-12) / draws)
    assert (np.abs(times / draws - p) <= 4.5 * error).all()
    assert ((p > 0) & (p < 1)).sum() > 60


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = judged()
    again = rows.sample(fraction=1.0, shuffle=True, seed=1)
    one, two = (draw_sample(plan(r, Sampling(n=80, seed=5))) for r in (rows, again))
    assert one.equals(two)
    assert not one.equals(draw_sample(plan(rows, Sampling(n=80, seed=6))))


def test_unreadable_images_have_probability_zero_and_never_count_as_drawn() -> None:
    rows = judged()
    lost = tuple(rows.filter(pl.col("patient_id") < "p0040")["image_uuid"])
    found = plan(rows, Sampling(n=80, n_certain=0), lost)
    frame = found.rows
    assert frame.filter(pl.col("inclusion_probability") == 0)["image_uuid"].to_list() == list(lost)
    assert not draw_sample(found)["image_uuid"].is_in(lost).any()
    readable = frame.filter("readable").group_by("stratum").agg(n=pl.col("patient").n_unique())
    joined = found.strata.join(readable, on="stratum")
    assert (joined["n"] == joined["n_patients"]).all()


def test_confident_rows_that_agree_are_asked_about_more_than_neyman_would() -> None:
    """Hand-counted: W = patients x sqrt(p (1 - p)), twice that where the label agrees."""
    rows = judged(1000, images=1).with_columns(
        predicted_label=pl.Series(["acne"] * 600 + ["tinea"] * 400),
        flagged=pl.lit(value=False),
        predicted_prob=pl.lit(0.9),
    )
    same = Priors(agrees=0.5, differs=0.5)
    drawn = {}
    for factor in (1.0, 2.0):
        strata = plan(rows, Sampling(n=100, n_certain=0, oversample=factor, priors=same)).strata
        drawn[factor] = strata["n_patients_drawn"].to_list()
    assert drawn == {1.0: [60, 40], 2.0: [75, 25]}


def test_whole_numbers_are_the_best_ones() -> None:
    """Brute force over all allocations of 12 among three strata."""
    weights = {"a": 5.0, "b": 3.0, "c": 0.4}
    sizes = {name: np.ones(20, dtype=np.int64) for name in weights}
    found = allocate(sizes, weights, 12, floor=1)

    def variance(counts: tuple[int, int, int]) -> float:
        return sum(w**2 / m for w, m in zip(weights.values(), counts, strict=True))

    every = [(a, b, 12 - a - b) for a in range(1, 11) for b in range(1, 12 - a)]
    assert tuple(found.values()) == min(every, key=variance)


def test_the_floor_holds_where_n_allows_and_gives_way_to_one_patient_each() -> None:
    sizes = {name: np.ones(50, dtype=np.int64) for name in "abcd"}
    weights = {"a": 1000.0, "b": 1e-6, "c": 1e-6, "d": 1e-6}
    assert allocate(sizes, weights, 30, floor=3) == {"a": 21, "b": 3, "c": 3, "d": 3}
    assert allocate(sizes, weights, 5, floor=3) == {"a": 2, "b": 1, "c": 1, "d": 1}
    with pytest.raises(InputError, match="n leaves 3 images for 4 strata"):
        allocate(sizes, weights, 3, floor=3)


def test_one_patient_with_many_images_is_planned_for() -> None:
    sizes = {"a": np.array([1] * 9 + [40])}
    assert allocate(sizes, {"a": 1.0}, 40, floor=1) == {"a": 1}
    assert allocate(sizes, {"a": 1.0}, 49, floor=1) == {"a": 10}


def test_of_patients_with_one_to_three_images_more_than_four_fifths_of_n_are_used() -> None:
    found = plan(judged(3000), Sampling(n=200))
    heights = [
        draw_sample(replace(found, sampling=replace(found.sampling, seed=s))).height
        for s in range(20)
    ]
    assert 160 < np.mean(heights) <= 200


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        pytest.param(Sampling(n=0), "n 0: a packet needs", id="empty"),
        pytest.param(Sampling(n=9, n_certain=10), "n_certain 10: allowed are 0 to n", id="certain"),
        pytest.param(Sampling(oversample=0.0), "oversample 0.0", id="factor"),
        pytest.param(Sampling(seed=-1), "seed -1", id="seed"),
        pytest.param(Sampling(priors=Priors(agrees=1.5)), "priors 'agrees'", id="prior"),
        pytest.param(Sampling(priors=Priors(undecided=1.0)), "'undecided'", id="undecided"),
    ],
)
def test_a_bad_design_is_refused(sampling: Sampling, message: str) -> None:
    frame = stratified(judged(), AT)
    with pytest.raises(InputError, match=message):
        plan_sample(frame, sampling, certain=(), unreadable=())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(judged(0), "none; there is nothing to ask", id="empty"),
        pytest.param(judged(4).drop("flagged"), "missing column 'flagged'", id="column"),
        pytest.param(pl.concat([judged(4)] * 2), "on more than one row", id="twice"),
        pytest.param(
            judged(4).with_columns(given_label=pl.lit(None, pl.String)),
            "column given_label: 4 empty",
            id="label",
        ),
    ],
)
def test_rows_that_cannot_be_a_frame_are_refused(rows: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stratified(rows, AT)


def test_images_without_a_patient_are_their_own() -> None:
    rows = judged(100).with_columns(patient_id=pl.lit(None, pl.String))
    found = plan(rows, Sampling(n=40))
    assert found.strata["n_images"].to_list() == found.strata["n_patients"].to_list()
    assert draw_sample(found).height == 40
