"""What holds of every fit and every evaluation, whatever the rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from rollup_worlds import TAXONOMY

from dagster_project.lib.rollup.candidates import RollUp, all_right, candidates
from dagster_project.lib.rollup.config import RollupConfig, RuleName
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.shape import SCALE, fit_shape, floor_steps
from dagster_project.lib.rollup.shift import Sample, shifted, shifts
from dagster_project.lib.rollup.transitions import leaf_of, transitions
from dagster_project.lib.rollup.truth import truth_of

Floats = npt.NDArray[np.float64]
SHIFTS = st.sampled_from(shifts().tolist())


def rows_of(seed: int, n: int) -> tuple[Floats, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    # coarse values, so that equal scores and scores on a threshold are common
    weights = rng.integers(0, 4, size=(n, len(TAXONOMY.classes))) + (rng.random((n, 1)) < 0.05)
    weights[weights.sum(axis=1) == 0] = 1
    names = np.array(TAXONOMY.classes)[rng.integers(len(TAXONOMY.classes), size=n)]
    rows = {
        "image_uuid": [f"i{at}" for at in range(n)],
        "patient_id": [f"p{at}" for at in rng.integers(max(1, n // 2), size=n)],
        "label": names,
    }
    return weights / weights.sum(axis=1, keepdims=True), pl.DataFrame(rows)


thresholds_of = st.lists(
    st.one_of(st.just(float("nan")), st.integers(1, SCALE).map(lambda k: k / SCALE)),
    min_size=3,
    max_size=3,
).map(np.array)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), thresholds_of, SHIFTS, SHIFTS,
    st.sampled_from(["lineage", "distribution", "antenna"]),
)  # fmt: skip
def test_raising_the_shift_never_places_more_nor_finer(
    seed: int, thresholds: Floats, one: float, other: float, rule: RuleName
) -> None:
    """And in lineage mode never makes a row wrong."""
    probs, rows = rows_of(seed, 30)
    config = RollupConfig(normalisation="none", rule=rule)
    prepared = prepare(probs, TAXONOMY.classes, config)
    truth = truth_of(rows, TAXONOMY.classes)
    loose, strict = (
        RollUp(TAXONOMY, config, shifted(thresholds, at)).applied(prepared)
        for at in sorted((one, other))
    )
    as_deep = np.where(loose.rank == UNPLACED, 3, loose.rank)
    assert (np.where(strict.rank == UNPLACED, 3, strict.rank) >= as_deep).all()
    found = candidates(prepared, TAXONOMY, config, ~np.isnan(thresholds))
    sample = Sample(
        found,
        all_right(found, truth.true, TAXONOMY),
        truth.patient,
        truth.n_patients,
        known=True,
    )
    (few, n_few), (many, n_many) = (
        sample.wrong(shifted(thresholds, at)) for at in sorted((one, other), reverse=True)
    )
    assert n_few == (strict.node != UNPLACED).sum() <= n_many == (loose.node != UNPLACED).sum()
    if rule == "lineage":
        assert (few <= many).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), thresholds_of, st.sampled_from(["lineage", "distribution"]))
def test_transitions_add_up_and_lineage_introduces_nothing(
    seed: int, thresholds: Floats, rule: RuleName
) -> None:
    probs, rows = rows_of(seed, 25)
    config = RollupConfig(normalisation="none", rule=rule)
    placed = RollUp(TAXONOMY, config, thresholds).applied(prepare(probs, TAXONOMY.classes, config))
    truth = truth_of(rows, TAXONOMY.classes)
    before = leaf_of(placed)
    found = transitions(before, placed, truth, TAXONOMY)
    counts = {row["kind"]: row["share"]["n"] for row in found["kinds"]}
    assert sum(counts.values()) == 25
    for row in found["kinds"]:
        assert sum(row["by_rank"].values()) == row["share"]["n"]
    leaf_right = int((placed.leaf_top == truth.true).sum())
    stays = ("kept_right", "specificity_lost", "withheld_right", "introduced")
    assert sum(counts[kind] for kind in stays) == leaf_right
    both = found["tests"][2]["difference"]
    changed = counts["fixed"] + counts["corrected"] - counts["introduced"]
    assert both["of"] == int((placed.node != UNPLACED).sum())
    if both["of"]:
        assert round(both["mean"] * both["of"]) == changed
    if rule == "lineage":
        assert counts["introduced"] == counts["corrected"] == 0


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.sampled_from([None, 0.3, 0.5, 0.8, 1.0]), min_size=2, max_size=2),
    st.integers(1, 4),
)
def test_a_shape_is_what_trying_every_threshold_finds(
    seed: int, aims: list[float | None], least: int
) -> None:
    """Brute force: each rank's smallest threshold among the scores of rows that reach it."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 14))
    score = rng.integers(1, 8, (n, 2)) / 8 + rng.integers(0, 3, (n, 2)) * 4e-7
    right, patient = rng.random((n, 2)) < 0.6, rng.integers(0, 6, n)
    found = fit_shape(
        lambda rank, finer: (score[:, rank], right[:, rank]), patient, aims, least_patients=least
    )
    left = np.ones(n, dtype=bool)
    for rank, aim in enumerate(aims):
        tried = []
        for t in np.unique(floor_steps(score[left, rank])) / SCALE:
            here = left & (score[:, rank] >= t)
            enough = here.any() and np.unique(patient[here]).size >= least
            if aim is not None and enough and right[here, rank].mean() >= aim:
                tried.append(t)
        if not tried:
            assert np.isnan(found.thresholds[rank])
            assert rank in found.disabled
            continue
        assert found.thresholds[rank] == min(tried)
        left &= ~(score[:, rank] >= min(tried))
