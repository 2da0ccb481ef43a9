"""Given labels: every fault is refused with its row; joins go by id."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.given import (
    check_known,
    given_version,
    join_labels,
    labels_on,
    read_labels,
    verified_images,
)

CLASSES = ("acne", "eczema")


def labels_csv(folder: Path, rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("image_uuid,label\n" + rows, encoding="utf-8")
    return path


def test_ids_stay_text_and_rows_keep_the_order_of_the_file(tmp_path: Path) -> None:
    frame = read_labels(labels_csv(tmp_path, "0012,acne\n12,eczema\n"), CLASSES)
    assert frame.rows() == [("0012", "acne"), ("12", "eczema")]
    assert frame.columns == ["image_uuid", "label"]


def test_cleaned_labels_fit_as_they_are_and_others_must_be_whole(tmp_path: Path) -> None:
    ids = pl.Series(["b", "a", "c"])
    path = tmp_path / "cleaned.csv"
    rows = "a,acne,confirmed\nb,,not_usable\nelsewhere,eczema,unreviewed\n"
    path.write_text("image_uuid,label,status\n" + rows)
    assert labels_on(path, ids, CLASSES).rows() == [("b", None), ("a", "acne"), ("c", None)]
    with pytest.raises(InputError, match=r"row 2, column label: empty"):
        labels_on(labels_csv(tmp_path, "b,\n"), ids, CLASSES)
    with pytest.raises(InputError, match=r"1 labels for unknown images: 'elsewhere'"):
        labels_on(labels_csv(tmp_path, "elsewhere,acne\n"), ids, CLASSES)


def test_a_parquet_file_reads_as_its_csv_does(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pl.DataFrame({"label": ["acne"], "image_uuid": [7], "site": ["arm"]}).write_parquet(path)
    assert read_labels(path, CLASSES).rows() == [("7", "acne")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(
            "a,acne\nb,ezcema\n",
            r'labels.csv row 3, column label: unknown class "ezcema" \(2 known; nearest "eczema"\)',
            id="unknown_class",
        ),
        pytest.param("a,acne\nb,\n", "row 3, column label: empty", id="empty_label"),
        pytest.param("a,acne\n,acne\n", "row 3, column image_uuid: empty", id="empty_id"),
        pytest.param(
            "a,acne\nb,acne\na,acne\n", "row 4, column image_uuid: 'a' on more than", id="twice"
        ),
        pytest.param("", "no rows", id="no_rows"),
    ],
)
def test_a_fault_is_refused_with_its_row(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(labels_csv(tmp_path, rows), CLASSES)


@pytest.mark.parametrize("ids", [[0.0, 1.0], [True, False], [b"a", b"b"]], ids=str)
def test_ids_that_are_neither_text_nor_whole_numbers_are_refused(
    tmp_path: Path, ids: list[object]
) -> None:
    path = tmp_path / "labels.parquet"
    pl.DataFrame({"image_uuid": ids, "label": ["acne", "acne"]}).write_parquet(path)
    with pytest.raises(InputError, match=r"labels.parquet, column image_uuid: expected text"):
        read_labels(path, CLASSES)


def test_without_a_class_list_every_name_is_taken(tmp_path: Path) -> None:
    assert read_labels(labels_csv(tmp_path, "a,zebra\n"))["label"].to_list() == ["zebra"]


def test_check_known_names_the_image_where_there_is_no_row_and_lets_null_pass() -> None:
    labels = pl.DataFrame({"image_uuid": ["a", "b", "c"], "label": [None, "x", "y"]})
    with pytest.raises(InputError, match=r'manifest, image "b", .* \(2 such rows\)'):
        check_known(labels, CLASSES, source="manifest")
    check_known(labels.head(1), CLASSES, source="manifest")


def test_labels_join_by_id_and_an_absent_one_is_null() -> None:
    labels = pl.DataFrame({"image_uuid": ["c", "a"], "label": ["eczema", "acne"]})
    joined = join_labels(pl.Series(["a", "b", "c"]), labels)
    assert joined.rows() == [("a", "acne"), ("b", None), ("c", "eczema")]


def test_a_label_for_an_unknown_image_is_refused() -> None:
    labels = pl.DataFrame({"image_uuid": ["z", "a"], "label": ["acne", "acne"]})
    with pytest.raises(InputError, match=r"labels.csv, .*1 labels for unknown images: 'z'"):
        join_labels(pl.Series(["a", "b"]), labels, source="labels.csv")


def test_the_version_ignores_row_order_and_sees_every_label() -> None:
    labels = pl.DataFrame({"image_uuid": ["a", "b"], "label": ["acne", None]})
    assert given_version(labels) == given_version(labels.reverse())
    assert given_version(labels) != given_version(labels.with_columns(label=pl.lit("acne")))


def test_the_version_is_of_two_columns_as_text_however_they_are_held(tmp_path: Path) -> None:
    labels = pl.DataFrame({"image_uuid": ["b", "a", "c"], "label": [None, "acne", "eczema"]})
    version = given_version(labels)
    labels.write_parquet(tmp_path / "l.parquet")
    held = {
        "from parquet": pl.read_parquet(tmp_path / "l.parquet"),
        "in pieces": pl.concat([labels[2:], labels[:2]], rechunk=False),
        "a slice": pl.concat([labels, labels])[2:5],
        "with more": labels.select(site=pl.lit(1), label="label", image_uuid="image_uuid"),
        "as categories": labels.with_columns(pl.col("label").cast(pl.Categorical)),
    }
    assert {k: given_version(frame) for k, frame in held.items()} == dict.fromkeys(held, version)


def test_the_version_sees_an_unlabelled_image_and_no_dtype_where_nothing_is_labelled() -> None:
    bare = pl.DataFrame({"image_uuid": ["a"], "label": [None]})
    assert given_version(bare) == given_version(bare.cast(pl.String))
    more = pl.DataFrame({"image_uuid": ["a", "b"], "label": [None, None]})
    assert given_version(bare) != given_version(more)
    assert given_version(bare) != given_version(bare.with_columns(label=pl.lit("")))


INDEX = pl.DataFrame({"image_uuid": ["a", "b", "c"], "biopsed": [True, None, False]})


def test_proven_labels_are_found_by_value_whatever_the_capitals_and_the_type() -> None:
    assert verified_images(INDEX, "biopsed = TRUE | yes").to_list() == ["a"]
    text = INDEX.with_columns(biopsed=pl.Series(["no", " Yes", None]))
    assert verified_images(text, "biopsed=true|yes").to_list() == ["b"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param("biopsed", "expected column=value", id="no_value"),
        pytest.param("=yes", "expected column=value", id="no_column"),
        pytest.param("histology=yes", "no column histology; it has 'image_uuid'", id="absent"),
        pytest.param(
            "biopsed=yes", "no row has that; column biopsed holds 'false', 'true'", id="none"
        ),
    ],
)
def test_a_rule_that_protects_nothing_is_refused(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        verified_images(INDEX, rule)
