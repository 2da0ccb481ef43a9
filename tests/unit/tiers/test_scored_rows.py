from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.tiers.scored_rows import (
    ScoreCounts,
    labels_in,
    rank_of_truth,
    score_counts,
    score_rows,
)

CLASSES = ("acne", "eczema", "scabies", "urticaria")
LABELS = pl.DataFrame({"image_uuid": ["c", "a", "b"], "label": ["urticaria", "acne", "scabies"]})


def table(probs: Any, ids: list[str], **columns: Any) -> ProbabilityTable:
    frame = pl.DataFrame({"image_uuid": ids, **columns})
    return ProbabilityTable(CLASSES, frame, {"probs": np.asarray(probs)})


THREE = table(
    np.array([[0.1, 0.7, 0.3, 0.2], [0.9, 0.0, 0.1, 0.2], [0.2, 0.5, 0.4, 0.1]], dtype=np.float32),
    ["b", "a", "c"],
    patient_id=["p1", "p0", "p1"],
)


def test_a_hand_counted_join_by_id() -> None:
    rows = score_rows(THREE, LABELS)
    assert rows["image_uuid"].to_list() == ["a", "b", "c"]
    assert rows["patient_id"].to_list() == ["p0", "p1", "p1"]
    assert rows["predicted"].to_list() == ["acne", "eczema", "eczema"]
    assert rows["rank"].to_list() == [0, 1, 3]
    assert rows["top1"].to_list() == [True, False, False]
    assert rows["top3"].to_list() == [True, True, False]
    assert rows["top_classes"][1].to_list() == ["eczema", "scabies", "urticaria"]
    assert rows["score"].to_list() == [np.float32(0.9), np.float32(0.7), np.float32(0.5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_keep_the_stored_dtype(dtype: type) -> None:
    rows = score_rows(table(THREE.probs.astype(dtype), ["b", "a", "c"]), LABELS)
    expected = pl.Float32 if dtype is np.float32 else pl.Float64
    assert rows.schema["score"] == expected
    assert rows.schema["top_probs"] == pl.List(expected)


def test_the_order_of_rows_and_labels_changes_nothing() -> None:
    back = table(THREE.probs[::-1], ["c", "a", "b"], patient_id=["p1", "p0", "p1"])
    assert score_rows(back, LABELS.reverse()).equals(score_rows(THREE, LABELS))


def test_a_tie_is_never_counted_for_the_truth() -> None:
    tied = np.array([[0.4, 0.4, 0.1, 0.1], [0.4, 0.4, 0.4, 0.4]])
    assert rank_of_truth(tied, np.array([0, 3])).tolist() == [1, 3]
    labels = pl.DataFrame({"image_uuid": ["a", "b"], "label": ["acne", "acne"]})
    rows = score_rows(table(tied, ["a", "b"]), labels)
    assert rows["top1"].to_list() == [False, False]
    assert rows["top3"].to_list() == [True, False]
    assert rows["predicted"].to_list() == ["acne", "acne"]  # what is served: the first of them
    assert rows["top_classes"][1].to_list() == ["acne", "eczema", "scabies"]


def test_rows_without_probabilities_or_label_are_counted_and_left_out() -> None:
    probs = np.vstack([THREE.probs, np.full((2, 4), np.nan, dtype=np.float32)])
    errors = [None, None, None, "unreadable image", "unreadable image"]
    five = table(probs, ["b", "a", "c", "d", "e"], error=errors)
    labels = pl.DataFrame(
        {"image_uuid": ["a", "b", "d", "zz"], "label": ["acne", None] + 2 * ["acne"]}
    )
    assert score_rows(five, labels)["image_uuid"].to_list() == ["a"]
    assert score_counts(five, labels) == ScoreCounts(5, 1, 2, 2)


def test_an_unknown_patient_is_null_and_labels_can_bring_patients() -> None:
    bare = table(THREE.probs, ["b", "a", "c"])
    assert score_rows(bare, LABELS)["patient_id"].null_count() == 3
    brought = LABELS.with_columns(patient_id=pl.lit("p9"))
    assert score_rows(bare, brought)["patient_id"].unique().to_list() == ["p9"]


def test_two_classes_have_two_items() -> None:
    two = ProbabilityTable(
        ("no", "yes"), pl.DataFrame({"image_uuid": ["a"]}), {"probs": np.array([[0.2, 0.6]])}
    )
    rows = score_rows(two, pl.DataFrame({"image_uuid": ["a"], "label": ["no"]}))
    assert rows["top_classes"][0].to_list() == ["yes", "no"]
    assert rows.select("rank", "top1", "top3").row(0) == (1, False, True)


def test_labels_that_travel_with_the_table_are_used_only_if_there() -> None:
    carried = table(THREE.probs, ["b", "a", "c"], label=["scabies", "acne", "urticaria"])
    assert score_rows(carried, labels_in(carried))["rank"].to_list() == [0, 1, 3]
    with pytest.raises(InputError, match="pass labels"):
        labels_in(THREE)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param({"image_uuid": ["x"], "label": ["acne"]}, "none of the 3 images", id="no_id"),
        pytest.param({"image_uuid": ["a"], "label": [None]}, "none of the 3", id="all_null"),
        pytest.param(
            {"image_uuid": ["a"], "label": ["exzema"]}, 'image "a".*nearest "eczema"', id="class"
        ),
        pytest.param(
            {"image_uuid": ["a", "a"], "label": ["acne", "acne"]}, "more than one row", id="twice"
        ),
        pytest.param({"image_uuid": ["a"]}, "missing column 'label'", id="column"),
    ],
)
def test_bad_labels_are_refused(labels: dict[str, Any], message: str) -> None:
    schema = dict.fromkeys(labels, pl.String)
    with pytest.raises(InputError, match=message):
        score_rows(THREE, pl.DataFrame(labels, schema=schema))
