"""The dataset: every image in one split, every patient in one split, no label in the index."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib import dataset, tables
from dagster_project.lib.errors import InputError

MANIFEST = pl.DataFrame(
    {
        "image_uuid": ["0012", "12", "c", "d"],
        "image_path": ["i/1.jpg", "i/2.jpg", "i/3.jpg", "i/4.jpg"],
        "patient_id": ["p1", "p1", "p2", "p3"],
        "label": ["acne", None, "tinea", "acne"],
        "itch": ["yes", None, "no", "unknown"],
    }
)
BY_PATIENT = pl.DataFrame({"patient_id": ["p3", "p1", "p2"], "split": ["test", "test", "train"]})
BY_IMAGE = pl.DataFrame(
    {"image_uuid": ["d", "c", "12", "0012"], "split": ["test", "train", "test", "test"]}
)


def world(
    folder: Path, manifest: pl.DataFrame = MANIFEST, splits: pl.DataFrame = BY_PATIENT
) -> Path:
    manifest.write_csv(folder / "manifest.csv")
    splits.write_csv(folder / "splits.csv")
    return folder


@pytest.mark.parametrize("splits", [BY_PATIENT, BY_IMAGE], ids=["by_patient", "by_image"])
def test_splits_join_by_patient_or_by_image_and_keep_the_order_of_the_manifest(
    tmp_path: Path, splits: pl.DataFrame
) -> None:
    index = dataset.dataset_index(world(tmp_path, splits=splits))
    assert index.columns == ["image_uuid", "image_path", "patient_id", "split", "itch"]
    assert index["image_uuid"].to_list() == ["0012", "12", "c", "d"]
    assert index["split"].to_list() == ["test", "test", "train", "test"]


def test_parquet_and_csv_give_the_same_index(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "parquet").mkdir()
    MANIFEST.write_parquet(tmp_path / "parquet" / "manifest.parquet")
    BY_PATIENT.write_parquet(tmp_path / "parquet" / "splits.parquet")
    from_csv = dataset.dataset_index(world(tmp_path / "csv"))
    assert from_csv.equals(dataset.dataset_index(tmp_path / "parquet"))


def test_labels_are_never_in_the_index(tmp_path: Path) -> None:
    before = dataset.dataset_index(world(tmp_path))
    assert "label" not in before.columns
    after = world(tmp_path, MANIFEST.with_columns(label=pl.lit("tinea")))
    assert dataset.dataset_index(after).equals(before)  # new labels make no dump stale
    given_labels = dataset.given_labels(world(tmp_path))
    assert given_labels.rows() == [("0012", "acne"), ("12", None), ("c", "tinea"), ("d", "acne")]


def test_images_need_no_splits_and_have_no_labels_either(tmp_path: Path) -> None:
    rows = {"image_uuid": ["a"], "image_path": ["a.png"], "patient_id": ["p"], "label": ["acne"]}
    table = pl.DataFrame({**rows, "status": ["corrected"], "age": ["40"]}).to_arrow()
    about = {dataset.ABOUT_LABELS: '["status"]'}
    tables.write_arrow(tmp_path / "manifest.parquet", tables.with_metadata(table, about))
    found = dataset.images(tmp_path)
    assert found.columns == [*dataset.ID_COLUMNS, "age"]
    assert found["split"].to_list() == [None]


def test_a_split_column_in_the_manifest_does_not_count(tmp_path: Path) -> None:
    manifest = MANIFEST.with_columns(split=pl.lit("train"))
    index = dataset.dataset_index(world(tmp_path, manifest))
    assert index["split"].to_list() == ["test", "test", "train", "test"]


def test_a_split_said_twice_alike_is_no_fault_and_one_of_nobody_is_ignored(tmp_path: Path) -> None:
    more = pl.concat([BY_PATIENT, BY_PATIENT, pl.DataFrame({"patient_id": "p9", "split": "test"})])
    assert dataset.dataset_index(world(tmp_path, splits=more)).height == 4


@pytest.mark.parametrize(
    ("manifest", "splits", "message"),
    [
        pytest.param(
            MANIFEST,
            pl.concat([BY_PATIENT, pl.DataFrame({"patient_id": ["p1"], "split": ["train"]})]),
            "splits.csv, column patient_id: 'p1' in two splits; keep each in one",
            id="patient_in_two_splits",
        ),
        pytest.param(
            MANIFEST,
            BY_IMAGE.with_columns(
                split=pl.when(pl.col("image_uuid") == "12")
                .then(pl.lit("train"))
                .otherwise(pl.col("split"))
            ),
            "1 patients are in two splits: 'p1'; keep each in one",
            id="patient_torn_between_images",
        ),
        pytest.param(
            MANIFEST,
            BY_IMAGE.filter(pl.col("image_uuid") != "12"),
            "1 images have no split: '12'; assign each",
            id="image_without_split",
        ),
        pytest.param(
            MANIFEST,
            pl.DataFrame({"split": ["test"]}),
            "needs a column 'image_uuid' or 'patient_id'",
            id="splits_without_key",
        ),
        pytest.param(
            pl.concat([MANIFEST, MANIFEST.tail(1)]),
            BY_PATIENT,
            "manifest.csv, column image_uuid: 'd' on more than one row",
            id="image_twice",
        ),
        pytest.param(
            MANIFEST.with_columns(image_path=pl.lit("../../etc/passwd")),
            BY_PATIENT,
            "leaves the dataset folder",
            id="path_climbs_out",
        ),
        pytest.param(
            MANIFEST.with_columns(image_path=pl.lit("/etc/passwd")),
            BY_PATIENT,
            "column image_path: '/etc/passwd', .* leaves the dataset folder",
            id="absolute_path",
        ),
        pytest.param(
            MANIFEST.with_columns(patient_id=pl.Series(["p1", "p1", None, "p3"])),
            BY_PATIENT,
            "manifest.csv row 4, column patient_id: empty",
            id="no_patient",
        ),
        pytest.param(
            MANIFEST.drop("label"), BY_PATIENT, "missing column 'label'", id="no_label_column"
        ),
    ],
)
def test_a_fault_is_refused_and_named(
    tmp_path: Path, manifest: pl.DataFrame, splits: pl.DataFrame, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        dataset.dataset_index(world(tmp_path, manifest, splits))


def test_two_manifests_are_one_too_many(tmp_path: Path) -> None:
    MANIFEST.write_parquet(world(tmp_path) / "manifest.parquet")
    with pytest.raises(InputError, match=r"manifest.parquet or manifest.csv, both are there"):
        dataset.dataset_index(tmp_path)


def test_a_column_of_lists_is_refused_by_name(tmp_path: Path) -> None:
    (world(tmp_path) / "manifest.csv").unlink()
    MANIFEST.with_columns(embedding=[0.5]).write_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(InputError, match="column 'embedding': holds lists"):
        dataset.dataset_index(tmp_path)


def test_an_unknown_split_is_answered_with_those_there_are(tmp_path: Path) -> None:
    index = dataset.dataset_index(world(tmp_path))
    assert dataset.split_rows(index, "test")["image_uuid"].to_list() == ["0012", "12", "d"]
    with pytest.raises(InputError, match="split \"val\" has no images; splits are 'test', 'train'"):
        dataset.split_rows(index, "val")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 20))
def test_shards_hold_each_row_once_and_row_i_is_in_shard_i_mod_n(n: int, n_shards: int) -> None:
    rows = pl.DataFrame({"i": range(n)}, schema={"i": pl.Int64})
    shards = [dataset.shard_rows(rows, k, n_shards)["i"].to_list() for k in range(n_shards)]
    assert sorted(i for shard in shards for i in shard) == list(range(n))
    assert all(i % n_shards == k for k, shard in enumerate(shards) for i in shard)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize(("shard", "n"), [(16, 16), (-1, 16), (0, 0)])
def test_shards_are_counted_from_zero(shard: int, n: int) -> None:
    with pytest.raises(InputError, match=f"shard {shard}/{n}: shards are 0/{n} to {n - 1}/{n}"):
        dataset.shard_rows(MANIFEST, shard, n)
