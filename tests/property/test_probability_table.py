"""Probability tables: spelling, chunking and sharding never change what is read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import completeness_problems, from_arrow

Matrix = npt.NDArray[np.float64]
MATRICES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 8), st.integers(2, 4)),
    elements=st.floats(0, 1),
)


def names(width: int) -> list[str]:
    return [f"c{i}" for i in range(width)]


def listed(matrix: Matrix, kind: pa.DataType, ids: list[str]) -> pa.Table:
    made = pa.table({"image_uuid": ids, "probs": pa.array(matrix.tolist(), kind)})
    metadata = {"classes": json.dumps(names(matrix.shape[1])), "n_shards": "3"}
    return tables.with_metadata(made, metadata)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(MATRICES, st.integers(0, 8))
def test_every_spelling_reads_as_the_matrix(matrix: Matrix, cut: int) -> None:
    n, width = matrix.shape
    ids = [f"i{i}" for i in range(n)]
    columns = {f"prob_c{i}": matrix[:, i] for i in range(width)}
    spellings = [
        listed(matrix, pa.list_(pa.float64()), ids),
        listed(matrix, pa.large_list(pa.float64()), ids),
        listed(matrix, pa.list_(pa.float64(), width), ids),
        pa.table({"image_uuid": ids, **columns}),
    ]
    for made in spellings:
        chunked = pa.concat_tables([made.slice(0, cut), made.slice(cut)])
        read = from_arrow({"x": chunked})
        assert read.classes == tuple(names(width))
        np.testing.assert_array_equal(read.probs, matrix)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(MATRICES, st.data())
def test_one_value_outside_zero_to_one_is_always_found(matrix: Matrix, data: st.DataObject) -> None:
    n, width = matrix.shape
    row, column = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, width - 1))
    bad: Any = data.draw(st.floats(max_value=0, exclude_max=True) | st.just(np.nan) | st.just(1.5))
    matrix[row, column] = bad
    made = listed(matrix, pa.list_(pa.float64()), [f"i{i}" for i in range(n)])
    try:
        from_arrow({"x": made})
    except InputError as error:
        assert f"row {row + 1}," in str(error)
    else:
        raise AssertionError(f"{bad} was taken for a probability")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.permutations(range(9)), st.integers(0, 8))
def test_any_dealing_of_the_rows_is_whole_and_any_lost_row_is_noticed(
    order: list[int], lost: int
) -> None:
    matrix = np.linspace(0, 1, 18).reshape(9, 2)
    images = pl.Series([f"i{i}" for i in range(9)])

    def dealt(rows: list[int]) -> dict[str, pa.Table]:
        hands = [rows[k::3] for k in range(3)]
        return {
            f"{k:02d}": listed(matrix[hand], pa.list_(pa.float64(), 2), [f"i{i}" for i in hand])
            for k, hand in enumerate(hands)
        }

    assert completeness_problems(dealt(order), images, 3) == []
    left = [i for i in order if i != lost]
    assert completeness_problems(dealt(left), images, 3) == ["1 of 9 images have no row"]
