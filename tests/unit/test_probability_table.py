"""Probability tables: three spellings read equal; every fault is refused with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import (
    VIEWS,
    completeness_problems,
    from_arrow,
    read_classes,
    read_probabilities,
)

CLASSES = ("acne", "eczema", "tinea")
MATRIX = np.array([[0.5, 0.25, 1.0], [0.0, 0.75, 0.125]])
LIST = pa.list_(pa.float64())


def table(
    probs: Any = None,
    kind: pa.DataType = LIST,
    metadata: dict[str, str] | None = None,
    **columns: Any,
) -> pa.Table:
    """Two rows, ``a`` and ``b``, unless told otherwise; a column given as None is left out."""
    rows: dict[str, Any] = {
        "image_uuid": ["a", "b"],
        "probs": pa.array(MATRIX.tolist() if probs is None else probs, kind),
        **columns,
    }
    made = pa.table({name: value for name, value in rows.items() if value is not None})
    return tables.with_metadata(made, {"classes": json.dumps(CLASSES)} | (metadata or {}))


def wide(**columns: Any) -> pa.Table:
    """The same two rows with a column a class, and more such columns."""
    probs = {name: MATRIX[:, i] for i, name in enumerate(CLASSES)} | columns
    return pa.table({"image_uuid": ["a", "b"]} | {f"prob_{k}": v for k, v in probs.items()})


def save(path: Path, made: pa.Table) -> Path:
    pq.write_table(made, path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(LIST, id="list"),
        pytest.param(pa.large_list(pa.float64()), id="large_list"),
        pytest.param(pa.list_(pa.float64(), 3), id="fixed_size_list"),
    ],
)
def test_every_kind_of_list_reads_equal_to_one_column_a_class(
    tmp_path: Path, kind: pa.DataType
) -> None:
    wide = pa.table(
        {"image_uuid": ["a", "b"]} | {f"prob_{c}": MATRIX[:, i] for i, c in enumerate(CLASSES)}
    )
    lists = read_probabilities([save(tmp_path / "lists.parquet", table(kind=kind))])
    columns = read_probabilities([save(tmp_path / "columns.parquet", wide)])
    assert lists.classes == columns.classes == CLASSES
    np.testing.assert_array_equal(lists.probs, MATRIX)
    np.testing.assert_array_equal(columns.probs, MATRIX)
    assert lists.frame.equals(columns.frame)


@pytest.mark.parametrize(
    ("value_type", "dtype"),
    [(pa.float32(), np.float32), (pa.float64(), np.float64), (pa.int64(), np.float64)],
    ids=["float32", "float64", "whole_numbers"],
)
def test_float32_stays_float32_and_all_else_is_float64(value_type: pa.DataType, dtype: Any) -> None:
    made = table([[0, 0, 1], [1, 0, 0]], pa.list_(value_type))
    assert from_arrow({"x": made}).probs.dtype == dtype
    wide = pa.table(
        {"image_uuid": ["a"]} | {f"prob_{c}": pa.array([1], value_type) for c in CLASSES}
    )
    assert from_arrow({"x": wide}).probs.dtype == dtype


def test_values_in_several_chunks_are_read_in_row_order() -> None:
    parts = pa.concat_tables(
        [table(image_uuid=["c", "d"]).slice(1), table()], promote_options="default"
    )
    read = from_arrow({"x": parts})
    assert read.frame["image_uuid"].to_list() == ["d", "a", "b"]
    np.testing.assert_array_equal(read.probs, MATRIX[[1, 0, 1]])


def test_class_names_come_from_metadata_before_any_labels_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    assert read_probabilities([save(tmp_path / "p.parquet", table())]).classes == CLASSES


def test_without_metadata_they_come_from_the_file_given_then_from_the_one_beside(
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "p.parquet", table().replace_schema_metadata(None))
    with pytest.raises(InputError, match=r"unknown; put labels.txt beside it or pass"):
        read_probabilities([path])
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    assert read_probabilities([path]).classes == ("x", "y", "z")
    (tmp_path / "mine.txt").write_text("q\nr\ns\n")
    assert read_probabilities([path], tmp_path / "mine.txt").classes == ("q", "r", "s")


def test_labels_files_that_differ_between_shards_are_refused(tmp_path: Path) -> None:
    paths = []
    for i, (folder, names) in enumerate({"1": "x\ny\nz\n", "2": "z\ny\nx\n"}.items()):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels.txt").write_text(names)
        made = table(image_uuid=[f"{i}a", f"{i}b"]).replace_schema_metadata(None)
        paths.append(save(tmp_path / folder / "p.parquet", made))
    with pytest.raises(InputError, match="they differ; dump all shards with one model"):
        read_probabilities(paths)


WRONG = [
    pytest.param(
        table([[0.1, 0.2, 0.3], [0.1, np.nan, 0.3]]), r"row 2.*nan.*image \"b\"", id="nan"
    ),
    pytest.param(table([[0.1, 0.2, 0.3], [0.1, None, 0.3]]), "row 2.*nan", id="null_inside"),
    pytest.param(table([[0.1, 0.2, -3.5], [0, 0, 0]]), "row 1.*-3.5.*not logits", id="logit"),
    pytest.param(table([[0, 0, 0], [0, 1.0001, 0]]), r"row 2.*1.0001.*\[0, 1\]", id="above_1"),
    pytest.param(table([[0, 0, 0], [0, np.inf, 0]]), "row 2.*inf", id="infinite"),
    pytest.param(table([[0.1, 0.2], [0.1, 0.2]]), "row 1.*2 numbers where there are 3", id="width"),
    pytest.param(
        table([[0.1, 0.2, 0.3], None]), "row 2.*nothing where there are 3", id="null_without_error"
    ),
    pytest.param(
        table([["a", "b", "c"], ["d", "e", "f"]], pa.list_(pa.string())),
        "column probs: expected lists of 3 numbers, got list",
        id="text_in_lists",
    ),
    pytest.param(
        table([1.0, 0.5], pa.float64()), "expected lists of 3 numbers, got double", id="no_list"
    ),
    pytest.param(
        table(image_uuid=["a", "a"]), "column image_uuid: 'a' on more than one row", id="twice"
    ),
    pytest.param(table(image_uuid=["a", None]), "row 2, column image_uuid: empty", id="no_id"),
    pytest.param(table(image_uuid=None), "missing column 'image_uuid'", id="no_id_column"),
    pytest.param(
        table(label=["acne", "ezcema"]),
        r'row 2, column label: unknown class "ezcema" \(3 known; nearest "eczema"\)',
        id="unknown_label",
    ),
    pytest.param(table(true_idx=[0, 3]), r"row 2, column true_idx: 3 is not in 0\.\.2", id="index"),
    pytest.param(table(true_idx=[-1, 0]), "row 1, column true_idx: -1", id="negative_index"),
    pytest.param(table(true_idx=[0.0, 1.5]), "row 2, column true_idx: 1.5", id="index_and_a_half"),
    pytest.param(table(true_idx=["0", "x"]), "true_idx: expected whole numbers", id="text_index"),
    pytest.param(
        table(image_uuid=[0.0, 1.0]),
        "column image_uuid: expected text or whole numbers, got Float64; write image_uuid as text",
        id="float_ids",
    ),
    pytest.param(
        table(metadata={"classes": "acne,eczema,tinea"}), "not a JSON list of names", id="no_json"
    ),
    pytest.param(table(metadata={"classes": '["a", 1]'}), "not a JSON list", id="no_names"),
    pytest.param(table(metadata={"classes": '["a", "b", "a"]'}), "repeats a name", id="repeated"),
    pytest.param(
        pa.table({"image_uuid": ["a"], "p_acne": [0.5]}),
        "no column 'probs' and no 'prob_<class>' columns; it has 'image_uuid', 'p_acne'",
        id="no_probabilities",
    ),
    pytest.param(
        pa.table({"image_uuid": ["a"], "prob_acne": ["0.5"], "prob_tinea": ["0.1"]}),
        "column prob_acne: expected numbers, got string; rename it if it is no class",
        id="text_columns",
    ),
]


@pytest.mark.parametrize(("made", "message"), WRONG)
def test_a_fault_is_refused_with_its_row(made: pa.Table, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_arrow({"p.parquet": made})
    assert "p.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        pytest.param(
            wide(max=[1.0, 1.0]),
            "columns 'prob_<class>': not in --classes: 'max'. Rename or remove",
            id="left_over_column",
        ),
        pytest.param(
            wide().drop_columns("prob_tinea"),
            "columns 'prob_<class>': missing: 'tinea'.",
            id="missing_column",
        ),
        pytest.param(
            table(metadata={"classes": '["acne", "ezcema", "tinea"]'}),
            "metadata 'classes': not in --classes: 'ezcema'; missing: 'eczema'.",
            id="metadata",
        ),
    ],
)
def test_classes_that_are_not_those_asked_for_are_refused(
    tmp_path: Path, made: pa.Table, message: str
) -> None:
    (tmp_path / "c.txt").write_text("acne\neczema\ntinea\n")
    with pytest.raises(InputError, match=message) as caught:
        read_probabilities([save(tmp_path / "p.parquet", made)], tmp_path / "c.txt")
    assert "p.parquet" in str(caught.value)


def test_columns_take_the_order_of_the_classes_asked_for_and_lists_keep_their_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "c.txt").write_text("tinea\nacne\neczema\n")
    columns = read_probabilities([save(tmp_path / "w.parquet", wide())], tmp_path / "c.txt")
    assert columns.classes == ("tinea", "acne", "eczema")
    np.testing.assert_array_equal(columns.probs, MATRIX[:, [2, 0, 1]])
    lists = read_probabilities([save(tmp_path / "l.parquet", table())], tmp_path / "c.txt")
    assert lists.classes == CLASSES
    np.testing.assert_array_equal(lists.probs, MATRIX)


def test_a_file_without_rows_is_refused_where_a_person_gives_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.parquet.*: the table has no rows"):
        read_probabilities([save(tmp_path / "p.parquet", table().slice(0, 0))])


@pytest.mark.parametrize("kind", [LIST, pa.list_(pa.float64(), 3)], ids=["list", "fixed_size"])
def test_a_shard_without_rows_is_a_table(kind: pa.DataType) -> None:
    empty = table(kind=kind, label=["acne", None]).slice(0, 0)
    assert from_arrow({"x": empty}).probs.shape == (0, 3)
    assert from_arrow({"x": empty, "y": table(kind=kind)}).probs.shape == (2, 3)
    none = pa.Table.from_batches([], empty.schema)
    assert from_arrow({"x": none}).scored().probs.shape == (0, 3)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(pa.large_string(), ["0", "1"], id="large_string"),
        pytest.param(pa.dictionary(pa.int8(), pa.string()), ["0", "1"], id="category"),
        pytest.param(pa.int32(), ["0", "1"], id="whole_numbers"),
    ],
)
def test_ids_are_read_as_text(kind: pa.DataType, text: list[str]) -> None:
    values = [0, 1] if pa.types.is_integer(kind) else text
    read = from_arrow({"x": table(image_uuid=pa.array(values, kind))})
    assert read.frame["image_uuid"].to_list() == text


def shard(ids: list[str], metadata: dict[str, str] | None = None, **columns: Any) -> pa.Table:
    rows = MATRIX[:1].repeat(len(ids), axis=0).tolist()
    return table(rows, metadata=metadata, image_uuid=ids, **columns)


DUMPED = {"model_tree_hash": "m1", "tta": "true", "dtype": "float32", "n_shards": "2"}


def test_shards_are_one_table_in_the_order_given() -> None:
    read = from_arrow({"2": shard(["b"], DUMPED), "1": shard(["a", "c"], DUMPED)})
    assert read.frame["image_uuid"].to_list() == ["b", "a", "c"]
    assert read.probs.shape == (3, 3)


@pytest.mark.parametrize("key", ["model_tree_hash", "tta", "dtype", "device"])
def test_shards_of_different_models_or_settings_are_refused(key: str) -> None:
    other = shard(["b"], DUMPED | {key: "other"})
    with pytest.raises(InputError, match=f"^second: {key} is other, in first it is"):
        from_arrow({"first": shard(["a"], DUMPED), "second": other})


def test_shards_with_other_classes_are_refused() -> None:
    other = shard(["b"], {"classes": '["tinea", "eczema", "acne"]'})
    with pytest.raises(InputError, match="second: its classes differ from those of first"):
        from_arrow({"first": shard(["a"]), "second": other})


def test_an_image_in_two_shards_is_refused() -> None:
    with pytest.raises(InputError, match="'a' on more than one row"):
        from_arrow({"first": shard(["a"]), "second": shard(["b", "a"])})


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "p.parquet", table())
    with pytest.raises(InputError, match="given twice"):
        read_probabilities([path, path])


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no probability files given"):
        read_probabilities([])


@pytest.mark.parametrize("kind", [LIST, pa.list_(pa.float64(), 3)], ids=["list", "fixed_size"])
def test_a_row_with_an_error_is_kept_and_left_out_of_what_is_scored(kind: pa.DataType) -> None:
    made = table([None, MATRIX[1].tolist()], kind, error=["not a picture", None])
    read = from_arrow({"x": made})
    assert read.frame["image_uuid"].to_list() == ["a", "b"]
    assert np.isnan(read.probs[0]).all()
    scored = read.scored()
    assert scored.frame["image_uuid"].to_list() == ["b"]
    np.testing.assert_array_equal(scored.probs, MATRIX[1:])
    assert scored.classes == CLASSES


def test_numbers_beside_an_error_are_no_probabilities() -> None:
    read = from_arrow({"x": table([[9, 9, 9], [0.5, 0.5, 0.5]], error=["unreadable", None])})
    assert np.isnan(read.probs[0]).all()


def test_a_table_without_errors_is_scored_whole() -> None:
    assert from_arrow({"x": table()}).scored().frame.height == 2


def test_only_views_that_every_shard_has_are_offered() -> None:
    plain = pa.array(MATRIX[:1].tolist(), LIST)
    both = shard(["a"], probs_full_plain=plain)
    assert list(from_arrow({"1": both}).views) == ["probs", "probs_full_plain"]
    assert list(from_arrow({"1": both, "2": shard(["b"])}).views) == ["probs"]
    assert VIEWS[0] == "probs"


def test_labels_and_patients_travel_with_the_table_as_text() -> None:
    read = from_arrow({"x": table(label=["tinea", None], patient_id=[12, 7], other=[1, 2])})
    assert read.frame.columns == ["image_uuid", "patient_id", "label"]
    assert read.frame.rows() == [("a", "12", "tinea"), ("b", "7", None)]


@pytest.mark.parametrize(
    "index", [[2, None], [2.0, None]], ids=["whole_numbers", "as_pandas_leaves_them"]
)
def test_a_true_index_becomes_the_name_of_its_class(index: list[Any]) -> None:
    assert from_arrow({"x": table(true_idx=index)}).frame["label"].to_list() == ["tinea", None]


def test_sums_above_one_are_no_fault() -> None:
    np.testing.assert_array_equal(
        from_arrow({"x": table([[1, 1, 1], [0, 0, 0]])}).probs.sum(1), [3, 0]
    )


IMAGES = pl.Series(["a", "b", "c"])
WHOLE = {"00": shard(["a", "c"], DUMPED), "01": shard(["b"], DUMPED)}


@pytest.mark.parametrize(
    ("shards", "problems"),
    [
        pytest.param(WHOLE, [], id="whole"),
        pytest.param({}, ["no shard has been dumped"], id="none"),
        pytest.param({"00": WHOLE["00"]}, ["1 of 3 images have no row"], id="missing_shard"),
        pytest.param(
            WHOLE | {"02": shard(["a"], DUMPED)},
            ["'00' and 2 more: column image_uuid: 'a' on more than one row; "
             "each image may appear once"],
            id="duplicated",
        ),
        pytest.param(
            WHOLE | {"01": shard(["b", "z"], DUMPED)},
            ["1 rows are of images that are not in the split"],
            id="extra_row",
        ),
        pytest.param(
            WHOLE | {"01": shard(["b"], DUMPED | {"n_shards": "16"})},
            ["shards '01' were dumped for another number of shards"],
            id="other_n_shards",
        ),
        pytest.param(
            WHOLE | {"01": shard(["b"], DUMPED | {"model_tree_hash": "m2"})},
            ["01: model_tree_hash is m2, in 00 it is m1; "
             "dump all shards with one model and one setting"],
            id="other_model",
        ),
        pytest.param(
            {"00": shard(["a", "z"], DUMPED | {"n_shards": "16"})},
            ["shards '00' were dumped for another number of shards",
             "2 of 3 images have no row",
             "1 rows are of images that are not in the split"],
            id="all_problems_at_once",
        ),
    ],
)  # fmt: skip
def test_what_keeps_shards_from_being_one_whole_dump(
    shards: dict[str, pa.Table], problems: list[str]
) -> None:
    assert completeness_problems(shards, IMAGES, 2) == problems


def test_an_empty_shard_of_a_small_split_is_complete() -> None:
    empty = shard(["x"], DUMPED).slice(0, 0)
    assert completeness_problems(WHOLE | {"02": empty}, IMAGES, 2) == []
    assert completeness_problems({"02": empty}, IMAGES.head(0), 2) == []


def test_a_shard_with_errors_is_complete() -> None:
    failed = shard(["b"], DUMPED, error=["no such file"])
    assert completeness_problems(WHOLE | {"01": failed}, IMAGES, 2) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"acne\n\ntinea\n", "labels.txt row 2: empty class name", id="blank"),
        pytest.param(b"acne\ntinea\nacne\n", 'row 3: class "acne" appears twice', id="twice"),
        pytest.param(b"acne\n", "at least two classes", id="one"),
        pytest.param(b"", "at least two classes", id="empty"),
        pytest.param(b"acn\xe9\ntinea\n", "labels.txt: not UTF-8", id="latin_1"),
    ],
)
def test_a_class_list_with_a_fault_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / "labels.txt")


def test_a_class_list_from_windows_reads_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfacne\r\ntinea\r\n")
    assert read_classes(tmp_path / "labels.txt") == ("acne", "tinea")
