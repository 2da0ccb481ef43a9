"""The cleaned manifest, whatever reviews say: rows are accounted for, the test split untouched."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.labels import manifest
from dagster_project.lib.labels.consensus import clean_labels

CLASSES = ("acne", "eczema", "tinea")
IMAGES = [f"i{n}" for n in range(8)]
ONE = st.sampled_from([*CLASSES, None])
VOTE = st.sampled_from([*CLASSES, "unsure", "not_usable"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A dataset, its labels after reviews, and proposals to drop."""
    splits = [draw(st.sampled_from(["train", "test", "val"])) for _ in IMAGES]
    index = pl.DataFrame({"image_uuid": IMAGES, "split": splits})
    labels = pl.Series([draw(ONE) for _ in IMAGES], dtype=pl.String)
    reviews = draw(
        st.lists(st.tuples(st.sampled_from(IMAGES), st.sampled_from("xyz"), VOTE), max_size=20)
    )
    rows = {(image, reader): vote for image, reader, vote in reviews}
    texts = dict.fromkeys(("image_uuid", "reviewer", "label"), pl.String)
    said = pl.DataFrame([(*key, vote) for key, vote in rows.items()], schema=texts, orient="row")
    cleaned = clean_labels(pl.DataFrame({"image_uuid": IMAGES, "label": labels}), said)
    proposed = draw(st.lists(st.sampled_from([*IMAGES, "elsewhere"])))
    schema = dict.fromkeys(("image_uuid", "reason"), pl.String)
    prune = pl.DataFrame([(i, "garbage") for i in proposed], schema=schema, orient="row")
    return index, cleaned, prune


@settings(derandomize=True, max_examples=60, deadline=None)
@given(worlds())
def test_every_row_is_accounted_for_whatever_was_decided(
    world: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame],
) -> None:
    index, cleaned, prune = world
    rows = manifest.decide_rows(index, cleaned, prune)
    assert rows["image_uuid"].to_list() == IMAGES
    assert rows["reason"].null_count() == rows["source"].null_count() == 0
    held = rows.filter(pl.col("split") == "test")
    assert held["label"].equals(held["given_label"])
    assert set(held["action"]) <= {"kept"}
    kept = rows.filter(pl.col("action") == "kept")
    assert kept["label"].equals(kept["given_label"])
    dropped = rows.filter(pl.col("action") == "dropped")
    assert dropped["label"].null_count() == dropped.height
    moved = rows.filter(pl.col("action") == "relabelled")
    assert moved["label"].null_count() == 0
    assert moved.filter(pl.col("label") == pl.col("given_label")).is_empty()
    balance = manifest.class_counts(rows).select(
        pl.col("before")
        - pl.col("relabelled_away")
        + pl.col("relabelled_to")
        - pl.col("dropped")
        - pl.col("after")
    )
    assert set(balance.to_series()) <= {0}
    summary = manifest.manifest_summary(rows)
    assert summary["n_training_before"] - summary["n_dropped"] == summary["n_training_after"]
    assert manifest.dropped_by_reason(rows)["n"].sum() == summary["n_dropped"]
    # ids decide, not places
    shuffled = cleaned.sample(fraction=1, shuffle=True, seed=1)
    again = manifest.decide_rows(index, shuffled, pl.concat([prune.reverse(), prune]))
    assert again.equals(rows)
