"""Folds: laws that hold for any dataset."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.folds import assign_folds
from dagster_project.lib.mislabels.out_of_fold import check_folds

image = st.tuples(st.integers(0, 7), st.sampled_from(["acne", "acne", "tinea", None]))
images = st.lists(image, min_size=6, max_size=24).filter(
    lambda rows: (
        len({patient for patient, _ in rows}) >= 3
        and max([name for _, name in rows].count(label) for label in ("acne", "tinea", None)) >= 3
    )
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(images, st.integers(2, 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_patients_stay_whole_every_image_once_and_the_order_of_rows_does_not_matter(
    rows: list[tuple[int, str | None]], k: int, seed: int, random: object
) -> None:
    frame = pl.DataFrame(
        {
            "image_uuid": [f"i{n:02d}" for n in range(len(rows))],
            "patient_id": [f"p{patient}" for patient, _ in rows],
            "label": pl.Series([label for _, label in rows], dtype=pl.String),
        }
    )
    folds = assign_folds(frame, k, seed=seed)
    assert folds["image_uuid"].to_list() == frame["image_uuid"].to_list()
    assert folds["fold"].is_between(0, k - 1).all()
    assert folds["fold"].n_unique() == k
    assert folds.group_by("patient_id").agg(pl.col("fold").n_unique())["fold"].max() == 1
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert assign_folds(frame[order], k, seed=seed).equals(folds)
    assert check_folds(folds.with_columns(pl.col("fold").cast(pl.String)), []) is not None
