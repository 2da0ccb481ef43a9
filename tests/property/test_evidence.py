"""Evidence on small tied data where every boundary is hit: order, ties, monotony, extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.evidence.bootstrap import ratio_intervals
from dagster_project.lib.evidence.certificate import Claim, Terms, certify, grid_from, p_values
from dagster_project.lib.evidence.clustered import patient_sums, threshold_interval
from dagster_project.lib.evidence.rows import patient_rows
from dagster_project.lib.tiers.curve import curve_counts
from dagster_project.lib.tiers.intervals import tier_intervals
from dagster_project.lib.tiers.policy import parse_policy
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

steady = settings(derandomize=True, deadline=None, max_examples=60)
few = st.one_of(st.sampled_from([0.0, 0.2, 0.8149, 0.815, 1.0]), st.floats(0, 1))


def many(values: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=n, max_size=n)


@st.composite
def scored(draw: st.DrawFn, rights: st.SearchStrategy[bool] | None = None) -> pl.DataFrame:
    """1 to 60 images of 1 to 12 patients; some name no patient; float32 or float64 scores."""
    n = draw(st.integers(1, 60))
    right = draw(many(st.booleans() if rights is None else rights, n))
    patient = draw(many(st.one_of(st.none(), st.integers(0, 11)), n))
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:03d}" for i in range(n)],
            "patient_id": [None if p is None else f"p{p}" for p in patient],
            "score": pl.Series(
                draw(many(few, n)), dtype=draw(st.sampled_from([pl.Float32, pl.Float64]))
            ),
            "top1": right,
            "top3": [r or draw(st.booleans()) for r in right],
        },
        schema_overrides={"patient_id": pl.String},
    )


targets = st.sampled_from([0.0, 0.041, 0.3, 0.5, 1.0])
claims = st.builds(Claim, st.sampled_from(["confident_wrong_share", "covered_top1"]), targets)


@steady
@given(scored(), claims, st.randoms(use_true_random=False))
def test_nothing_depends_on_the_order_of_rows(rows: pl.DataFrame, claim: Claim, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(rows.height))
    random.shuffle(order)
    terms = Terms(delta=0.3, start=1.0, max_images=2)
    found = [
        certify(patient_rows(frame, max_images=2), [claim], terms, released=0.5)
        for frame in (rows, rows[order])
    ]
    assert found[0] == found[1]
    at = Thresholds(0.8, 0.3, 0.25)
    assert tier_intervals(rows, at, draws=50) == tier_intervals(rows[order], at, draws=50)


@steady
@given(scored(), targets)
def test_a_certified_threshold_is_one_whose_every_stricter_test_passed(
    rows: pl.DataFrame, target: float
) -> None:
    """The definition, one threshold at a time; and W observed there is below its bound."""
    claim = Claim("confident_wrong_share", target)
    capped = patient_rows(rows, max_images=3)
    terms = Terms(delta=0.3, start=1.0, max_images=3)
    found = certify(capped, [claim], terms, released=0.5)
    grid = grid_from(1.0)[::97]
    for t in grid.tolist():
        p = p_values(capped, claim, np.array([t]), level=0.3, max_images=3)[0]
        if found.threshold is not None and t >= found.threshold:
            assert p <= 0.3
    if found.threshold is not None:
        covered = capped.score >= found.threshold
        assert (covered & ~capped.top1).mean() < max(target, 1e-12) or target == 1.0
    if target == 0.0:
        assert found.status == "not_certified"
        assert found.rows_needed in ("never", None)


@steady
@given(scored(st.just(value=False)))
def test_where_everything_is_wrong_accuracy_is_never_certified(rows: pl.DataFrame) -> None:
    claim = Claim("covered_top1", 0.5)
    found = certify(patient_rows(rows), [claim], Terms(0.3, 1.0, 60), released=0.5)
    assert (found.status, found.rows_needed) == ("not_certified", "never")


@steady
@given(scored(st.just(value=True)), st.sampled_from([0.041, 0.3, 1.0]))
def test_where_everything_is_right_enough_patients_certify_any_bound(
    rows: pl.DataFrame, target: float
) -> None:
    copies = [
        rows.with_columns(pl.col("image_uuid") + f"_{i}", patient_id=pl.lit(None, pl.String))
        for i in range(100)
    ]
    claim = Claim("confident_wrong_share", target)
    found = certify(patient_rows(pl.concat(copies)), [claim], Terms(0.3, 1.0, 1), released=0.5)
    assert found.status == "certified" or rows["score"].max() == 0.0  # 0 lies below the grid


@steady
@given(scored(), st.sampled_from(["coverage", "covered_top1", "confident_wrong_share"]), targets)
def test_the_fitted_threshold_lies_in_its_own_interval(
    rows: pl.DataFrame, rule: str, target: float
) -> None:
    policy = parse_policy(
        {"confident": {"rule": rule, "target": target}, "refer": {"rule": "share", "target": 0.3},
         "certify": {"max_images_per_patient": 2}}
    )  # fmt: skip
    try:
        fit = fit_thresholds(rows, policy)
    except RefusedError:
        return
    for found in (fit.confident_rule, fit.refer_rule):
        if found.ci95 is not None and found.ci95_set is not None:
            assert any(low <= found.fitted <= high for low, high in found.ci95_set)
            assert found.ci95 == (found.ci95_set[0][0], found.ci95_set[-1][1])
    scores = set(rows["score"].cast(pl.Float64).to_list())
    assert fit.confident_rule.ci95 is None or set(fit.confident_rule.ci95) <= scores


@steady
@given(scored())
def test_w_never_falls_as_the_threshold_falls_and_ties_stay_whole(rows: pl.DataFrame) -> None:
    counts = curve_counts(rows)
    assert (np.diff(counts.wrong) >= 0).all()
    assert np.unique(counts.threshold).size == counts.threshold.size
    sums = patient_sums(patient_rows(rows), ~rows["top1"].to_numpy())
    assert sums.threshold.tolist() == counts.threshold.tolist()
    assert sums.k.tolist() == counts.wrong.tolist()


@steady
@given(scored(), st.floats(0.01, 0.99))
def test_an_interval_of_one_patient_is_null(rows: pl.DataFrame, target: float) -> None:
    one = rows.with_columns(patient_id=pl.lit("p"))
    sums = patient_sums(patient_rows(one), ~one["top1"].to_numpy())
    assert threshold_interval(sums, "k/N", target, fitted=0.5) is None
    counts = pl.DataFrame({"k": [1], "n": [2]})
    assert ratio_intervals(counts, {"r": ("k", "n")}) == {"r": None}
