"""Designs of any small frame: one stratum an image, probabilities that hold, never more than n."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_worlds import AT

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.strata import CERTAIN
from dagster_project.lib.review.design import (
    Sampling,
    draw_sample,
    plan_sample,
    stratified,
    worst_first,
)

TYPES = (pl.String, pl.String, pl.Float64, pl.Float64, pl.Boolean)

steady = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """One to forty images of few patients, with scores on and beside the thresholds."""
    row = st.tuples(
        st.sampled_from(["p1", "p2", "p3", "p4", None]),
        st.sampled_from(["acne", "tinea"]),
        st.sampled_from([0.2, 0.5, 0.5001]),
        st.sampled_from([0.1, 0.4, 0.79, 0.8]),
        st.booleans(),
    )
    rows = draw(st.lists(row, min_size=1, max_size=40))
    names = ("patient_id", "predicted_label", "quality", "predicted_prob", "flagged")
    frame = pl.DataFrame(
        rows,
        schema=dict(zip(names, TYPES, strict=True)),
        orient="row",
    )
    ids = [f"i{k:02d}" for k in draw(st.permutations(range(len(rows))))]
    return frame.with_columns(
        image_uuid=pl.Series(ids), image_path=pl.lit("x.jpg"), given_label=pl.lit("acne")
    )


@steady
@given(frames(), st.integers(1, 45), st.integers(0, 5), st.integers(0, 3), st.integers(0, 9))
def test_a_design_keeps_its_promises(
    judged: pl.DataFrame, n: int, certain: int, lost: int, seed: int
) -> None:
    rows = stratified(judged, AT)
    unreadable = rows["image_uuid"].head(lost).to_list()
    worst = worst_first(rows.filter(~pl.col("image_uuid").is_in(unreadable)))
    chosen = worst["image_uuid"].head(min(certain, n)).to_list()
    sampling = Sampling(n=n, n_certain=min(certain, n), seed=seed)
    try:
        plan = plan_sample(rows, sampling, certain=chosen, unreadable=unreadable)
    except InputError as error:
        assert "every stratum needs one" in str(error)
        return
    asked = draw_sample(plan)
    assert asked.height <= n
    assert plan.rows.height == judged.height
    p = plan.rows.select("image_uuid", "readable", "stratum", "inclusion_probability")
    assert (p.filter("readable")["inclusion_probability"] > 0).all()
    assert (p.filter(~pl.col("readable"))["inclusion_probability"] == 0).all()
    assert set(chosen) == set(asked.filter(role="certain")["image_uuid"])
    for part in plan.strata.filter(pl.col("stratum") != CERTAIN).iter_rows(named=True):
        inside = plan.rows.filter("readable", pl.col("stratum") == part["stratum"])
        taken = asked.filter(stratum=part["stratum"])
        assert part["n_patients"] == inside["patient"].n_unique()
        assert part["n_patients_drawn"] == taken["patient"].n_unique()
        assert part["inclusion_probability"] == part["n_patients_drawn"] / part["n_patients"]
        assert taken.height == inside.join(taken, on="patient", how="semi").height
