"""Tables: what is written comes back, whatever the cells hold."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError

# NUL is refused on purpose; a lone surrogate is no text
CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
CELL = st.text(CHARACTERS | st.sampled_from(',;"\n\r\t '), max_size=12)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(ROWS)
def test_any_text_comes_back_from_a_csv_stripped_with_blank_as_null(
    rows: list[tuple[str, str]],
) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String}, orient="row")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        tables.write_csv(path, frame)
        first = path.read_bytes()
        tables.write_csv(path, frame)
        assert path.read_bytes() == first
        read = tables.read_table(path, ["a", "b"])
    assert read.rows() == [(a.strip() or None, b.strip() or None) for a, b in rows]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_one_line_of_refusal(data: bytes) -> None:
    try:
        frame = tables.parse_csv("x.csv", data)
    except InputError as error:
        assert str(error).startswith("x.csv")
    else:
        assert set(frame.dtypes) <= {pl.String}


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-9, 9),
            st.none() | st.text(CHARACTERS, max_size=3),
            st.none() | st.lists(st.floats(0, 1, width=32), max_size=2),
        ),
        max_size=6,
    ),
    st.integers(0, 6),
)
def test_the_digest_is_that_of_the_rows_however_they_came_together(
    rows: list[tuple[object, ...]], cut: int
) -> None:
    schema: dict[str, Any] = {"n": pl.Int64, "s": pl.String, "l": pl.List(pl.Float32)}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    pieces = pl.concat([frame.head(cut), frame.slice(cut)], rechunk=False)
    inside = pl.concat([frame, frame, frame]).slice(len(rows), len(rows))
    assert tables.digest_frame(pieces) == tables.digest_frame(frame)
    assert tables.digest_frame(inside) == tables.digest_frame(frame)
    changed = frame.with_columns(pl.col("n").fill_null(10))
    equal = tables.digest_frame(changed) == tables.digest_frame(frame)
    assert equal == changed.equals(frame)
