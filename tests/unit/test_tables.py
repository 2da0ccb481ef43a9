"""Tables: whatever is wrong with a file is one line that names file and row."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(gzip.compress(b"a,b\n1,2\n"), "x.csv: this is a gzip file", id="gzip"),
        pytest.param("a,b\n".encode("utf-16"), "x.csv row 1: not UTF-8", id="utf_16"),
        pytest.param("a,b\n".encode("utf-16-le"), "x.csv row 1: a NUL character", id="nul"),
        pytest.param(b"a,b\n1,2\n3,\x00\n", "x.csv row 3: a NUL character", id="nul_in_row"),
        pytest.param(b"a,b\n1,2\n\xe4,3\n", "x.csv row 3: not UTF-8", id="latin_1"),
        pytest.param(b"\xef\xbb\xbfa\n\xff\n", "x.csv row 2: not UTF-8", id="latin_1_after_bom"),
        pytest.param(b"a,b,a\n1,2,3\n", "row 1: column 'a' appears twice", id="repeated_column"),
        pytest.param(b"a, a\n1,2\n", "column 'a' appears twice", id="repeated_but_for_a_blank"),
        pytest.param(b"a,,c\n1,2,3\n", "row 1: column 2 has no name", id="nameless_column"),
        pytest.param(b"a;b\n1;2\n", "separated by semicolons; use commas", id="semicolons"),
        pytest.param(
            b"a,b\n1,2\n3\n",
            "row 3: 1 cells where the header has 2; quote cells that hold commas",
            id="too_few_cells",
        ),
        pytest.param(b"a,b\n1,2,3\n", "row 2: 3 cells where the header has 2", id="too_many"),
        pytest.param(b"a,b\n1,2\n\n3,4\n", "row 3: 0 cells", id="blank_line_in_the_middle"),
        pytest.param(b"\na,b\n1,2\n", "row 1: a blank line where the header", id="blank_first"),
        pytest.param(b'a,b\n"1,2\n', "row 2: unexpected end of data", id="open_quote"),
        pytest.param(b'a,b\n"1"x,2\n', "row 2: ',' expected after", id="text_after_a_quote"),
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\n\n", "the file is empty", id="only_blank_lines"),
        pytest.param(b"a\n" + b"x" * 100_001, "row 2: field larger", id="endless_cell"),
    ],
)
def test_a_csv_that_is_not_a_plain_table_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        tables.parse_csv("x.csv", data)
    assert "\n" not in str(caught.value)


def test_a_row_is_counted_as_a_spreadsheet_counts_it() -> None:
    # the cell with a line break inside is one row
    with pytest.raises(InputError, match="row 4"):
        tables.parse_csv("x.csv", b'a,b\n"1\n1",2\n3,4\n5\n')


def test_ids_stay_text_cells_are_stripped_and_an_empty_one_is_null() -> None:
    frame = tables.parse_csv("x.csv", b'\xef\xbb\xbf id ,n\r\n 0012 ,1e3\r\n12,""\r\n,  \r\n')
    assert frame.columns == ["id", "n"]
    assert frame.rows() == [("0012", "1e3"), ("12", None), (None, None)]
    assert set(frame.dtypes) == {pl.String}


def test_blank_lines_at_the_end_are_no_rows() -> None:
    assert tables.parse_csv("x.csv", b"a,b\n1,2\n\n\r\n\n").height == 1


def test_the_limit_on_cells_does_not_leak_into_other_readers() -> None:
    import csv

    before = csv.field_size_limit()
    with pytest.raises(InputError):
        tables.parse_csv("x.csv", b"a\n" + b"x" * 100_001)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    frame = pl.DataFrame({"image_id": ["a"], "label": ["acne"]})
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    with pytest.raises(
        InputError, match=r"missing column 'image_uuid'; it has 'image_id', 'label'"
    ):
        tables.read_table(path, ["image_uuid", "label"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_without_rows_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    frame = pl.DataFrame(schema={"a": pl.String})
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    with pytest.raises(InputError, match=f"x{suffix}: the table has no rows"):
        tables.read_table(path, ["a"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("gone.csv", "no such file", id="missing"),
        pytest.param("folder.csv", "no such file", id="a_folder"),
        pytest.param("x.xlsx", "expected a .csv or .parquet file", id="spreadsheet"),
    ],
)
def test_what_is_no_table_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=message):
        tables.read_table(tmp_path / name, [])


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def test_a_parquet_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", pa.table({"a": ["x"] * 50}))
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"x.parquet: not a readable parquet file") as caught:
            tables.read_table(path, ["a"])
        assert "\n" not in str(caught.value)


def test_the_row_count_is_capped_before_a_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "x.parquet", pa.table({"a": ["x"] * 50}))
    monkeypatch.setattr(tables, "MAX_PARQUET_ROWS", 49)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self: pytest.fail("it was read"))
    with pytest.raises(InputError, match="50 rows is over the limit"):
        tables.read_arrow(path)


def test_a_huge_csv_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    monkeypatch.setattr(tables, "MAX_CSV_BYTES", 3)
    with pytest.raises(InputError, match="over the CSV limit; convert it to parquet"):
        tables.read_table(tmp_path / "x.csv", ["a"])


def test_a_column_that_is_there_twice_in_a_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", pa.table([["1"], ["2"]], names=["a", "a"]))
    with pytest.raises(InputError, match=r"x.parquet: column 'a' appears twice"):
        tables.read_arrow(path)


def test_row_numbers_are_those_a_person_sees(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": ["x", "y"]})
    frame.write_csv(tmp_path / "x.csv")
    frame.write_parquet(tmp_path / "x.parquet")
    for name, rows in (("x.csv", [2, 3]), ("x.parquet", [1, 2])):
        read = tables.read_table(tmp_path / name, ["a"], row_numbers=True)
        assert read[tables.ROW].to_list() == rows


def test_a_table_is_found_by_its_stem_and_two_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither is there"):
        tables.find_table(tmp_path, "manifest")
    (tmp_path / "manifest.csv").touch()
    assert tables.find_table(tmp_path, "manifest").name == "manifest.csv"
    (tmp_path / "manifest.parquet").touch()
    with pytest.raises(InputError, match="both are there: keep one"):
        tables.find_table(tmp_path, "manifest")


def test_parquet_comes_back_with_its_metadata_and_the_same_bytes(tmp_path: Path) -> None:
    table = tables.with_metadata(
        pa.table({"a": ["x", None], "p": [[0.5], [1.0]]}), {"classes": '["ä"]', "n_shards": "8"}
    )
    for name in ("1.parquet", "2.parquet"):
        tables.write_arrow(tmp_path / name, table)
    back = tables.read_arrow(tmp_path / "1.parquet")
    assert back.equals(table)
    assert tables.metadata_of(back) == {"classes": '["ä"]', "n_shards": "8"}
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_metadata_that_is_no_text_does_no_harm() -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({b"x": b"\xff", b"tta": b"true"})
    assert tables.metadata_of(table)["tta"] == "true"
    assert tables.metadata_of(pa.table({"a": [1]})) == {}


def test_duplicates_come_in_order_of_first_appearance() -> None:
    frame = pl.DataFrame({"a": ["z", "b", "z", "c", "b", "z"]})
    assert tables.duplicates(frame, "a") == ["z", "b"]


FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", None]})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(FRAME.with_columns(a=pl.Series([1, 3])), id="value"),
        pytest.param(FRAME.with_columns(b=pl.Series(["x", ""])), id="empty_is_not_null"),
        pytest.param(FRAME.with_columns(pl.col("a").cast(pl.Int32)), id="dtype"),
        pytest.param(FRAME.select("b", "a"), id="column_order"),
        pytest.param(FRAME.rename({"a": "c"}), id="column_name"),
        pytest.param(FRAME.reverse(), id="row_order"),
        pytest.param(FRAME.head(1), id="fewer_rows"),
        pytest.param(FRAME.clear(), id="no_rows"),
        pytest.param(pl.DataFrame(), id="nothing"),
    ],
)
def test_the_digest_of_a_frame_sees_every_difference(other: pl.DataFrame) -> None:
    assert tables.digest_frame(other) != tables.digest_frame(FRAME)


def test_the_digest_of_a_frame_sees_content_only() -> None:
    # buffers differ under a null, outside a slice and between chunks; the content does not
    plain = pl.DataFrame({"n": [1, None, 3], "s": ["a", None, "c"], "l": [[1.0], None, [2.0]]})
    hidden = pl.DataFrame({"n": [1, 2, 3], "s": ["a", "bb", "c"], "l": [[1.0], [9.0], [2.0]]})
    many = pl.concat([plain] * 5)
    same = {
        "values under nulls": hidden.with_columns(pl.when(pl.int_range(3) != 1).then(pl.all())),
        "chunks": pl.concat([plain.head(1), plain.tail(2)], rechunk=False),
        "slice": many.slice(3, 3),
        "gather": many[[6, 7, 8]],
        "through arrow": pl.DataFrame(pl.from_arrow(plain.to_arrow())),
    }
    for how, frame in same.items():
        assert frame.equals(plain), how
        assert tables.digest_frame(frame) == tables.digest_frame(plain), how
    lists = pl.Series([[0.1, 0.2], None], dtype=pl.Array(pl.Float32, 2))
    under = pl.Series([[0.1, 0.2], [0.3, 0.4]], dtype=pl.Array(pl.Float32, 2))
    shown = pl.DataFrame({"p": under}).with_columns(pl.when(pl.int_range(2) != 1).then(pl.all()))
    assert tables.digest_frame(shown) == tables.digest_frame(pl.DataFrame({"p": lists}))


def numbers(first: int, last: int) -> pa.Table:
    return pa.table({"x": list(range(first, last)), "y": [str(i) for i in range(first, last)]})


def test_parts_are_one_file_with_the_schemas_metadata_and_read_back_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    schema = numbers(0, 1).schema.with_metadata({"of": "schema"})
    parts = [tables.with_metadata(numbers(0, 3), {"of": "part"}), numbers(3, 5)]
    tables.write_arrow_parts(path, schema, iter(parts))
    assert tables.read_arrow(path).column("x").to_pylist() == [0, 1, 2, 3, 4]
    assert tables.read_metadata(path)["of"] == "schema"
    assert tables.read_schema(path).names == ["x", "y"]
    read = list(tables.read_arrow_parts(path, ["y"]))
    assert [part.column("y").to_pylist() for part in read] == [["0", "1", "2"], ["3", "4"]]
    assert read[0].column_names == ["y"]


def test_no_parts_are_an_empty_table(tmp_path: Path) -> None:
    tables.write_arrow_parts(tmp_path / "p.parquet", numbers(0, 1).schema, iter(()))
    assert len(tables.read_arrow(tmp_path / "p.parquet")) == 0
    assert list(tables.read_arrow_parts(tmp_path / "p.parquet")) == []


def test_a_part_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    tables.write_arrow(path, numbers(0, 2))
    before = path.read_bytes()

    def failing() -> Iterator[pa.Table]:
        yield numbers(0, 1)
        raise InputError("a segment vanished")

    with pytest.raises(InputError, match="vanished"):
        tables.write_arrow_parts(path, numbers(0, 1).schema, failing())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


def test_a_damaged_page_is_found_while_parts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    tables.write_arrow_parts(path, numbers(0, 1).schema, [numbers(0, 500), numbers(500, 900)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a readable parquet file"):
        list(tables.read_arrow_parts(path))
