"""Scoring from files in batches: how the rows are dealt and read never changes what comes out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib import probability_table, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import open_probabilities, read_probabilities
from dagster_project.lib.tiers.scored_rows import labels_in, score_counts, score_rows

Matrix = npt.NDArray[np.floating[Any]]
steady = settings(derandomize=True, deadline=None, max_examples=40)


def write(
    path: Path, probs: Matrix, rows: Sequence[int], spelling: str, truth: Sequence[int]
) -> None:
    """Rows of a matrix as one parquet file; some images failed, some have no label."""
    names = [f"c{i}" for i in range(probs.shape[1])]
    failed = ["unreadable" if i % 5 == 4 else None for i in rows]
    columns: dict[str, Any] = {
        "image_uuid": pa.array([f"i{i * 7919 % 1009:04d}" for i in rows], pa.string()),
        "patient_id": pa.array([f"p{i // 2}" for i in rows], pa.string()),
        "label": pa.array([None if i % 7 == 6 else names[truth[i]] for i in rows], pa.string()),
        "error": pa.array(failed, pa.string()),
    }
    values = probs[list(rows)]
    kind = pa.from_numpy_dtype(values.dtype)
    if spelling == "wide":
        columns |= {f"prob_{name}": pa.array(values[:, j], kind) for j, name in enumerate(names)}
    else:
        lists = [None if bad else row for bad, row in zip(failed, values.tolist(), strict=True)]
        width = len(names) if spelling == "fixed" else -1
        columns["probs"] = pa.array(lists, pa.list_(kind, width))
    made = tables.with_metadata(pa.table(columns), {"classes": json.dumps(names), "tta": "true"})
    pq.write_table(made, path, row_group_size=max(1, len(rows) // 2))


@st.composite
def tables_dealt(
    draw: st.DrawFn,
) -> tuple[Matrix, list[int], list[list[int]], list[tuple[str, Any]]]:
    """A matrix, truths, and the rows of one to four files, each of its own spelling and dtype."""
    n, k = draw(st.integers(1, 40)), draw(st.sampled_from([2, 3, 4, 25, 1000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # a coarse grid that float32 holds exactly: ties, and the same value in either dtype
    probs = rng.integers(0, 9, (n, k)) / 8
    order = rng.permutation(n).tolist()
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=3)))
    hands = [order[a:b] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    spelling = st.sampled_from(["list", "fixed", "wide"])
    kinds = [(draw(spelling), draw(st.sampled_from([np.float32, np.float64]))) for _ in hands]
    return probs, rng.integers(0, k, n).tolist(), hands, kinds


@steady
@given(tables_dealt(), st.integers(1, 45), st.integers(2, 5000))
def test_scores_are_the_same_for_any_dealing_into_files_and_any_batches(
    dealt: Any, rows: int, block: int
) -> None:
    probs, truth, hands, kinds = dealt
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.parquet" for i in range(len(hands))]
        for path, hand, (spelling, dtype) in zip(paths, hands, kinds, strict=True):
            write(path, probs.astype(dtype), hand, spelling, truth)
        whole = read_probabilities(paths)
        expected = labels_in(whole)
        with patch.object(probability_table, "BATCH_VALUES", rows * probs.shape[1]):
            files = open_probabilities(paths[::-1])
            labels = labels_in(files)
            assert score_counts(files, labels) == score_counts(whole, expected)
            assert (files.classes, files.metadata) == (whole.classes, whole.metadata)
            if score_counts(files, labels).n_scored == 0:
                return
            with patch("dagster_project.lib.tiers.scored_rows._BLOCK_VALUES", block):
                scored = score_rows(files, labels)
            compact = score_rows(files, labels, compact=True)
    assert scored.equals(score_rows(whole, expected))
    assert scored.schema == score_rows(whole, expected).schema
    assert compact.cast(scored.schema).equals(scored)


FAULTS = [
    pytest.param(np.nan, id="nan"),
    pytest.param(np.inf, id="infinite"),
    pytest.param(-1e-9, id="negative"),
    pytest.param(1.0001, id="above_1"),
]


@pytest.mark.parametrize("bad", FAULTS)
@pytest.mark.parametrize("spelling", ["list", "fixed", "wide"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_is_no_probability_is_refused_in_the_same_words(
    tmp_path: Path, bad: float, spelling: str, dtype: Any
) -> None:
    probs = np.full((20, 3), 0.25, dtype=dtype)
    probs[[12, 17], 1] = bad
    write(tmp_path / "0.parquet", probs, range(5), spelling, [0] * 20)
    write(tmp_path / "1.parquet", probs, range(5, 20), spelling, [0] * 20)
    assert_same_refusal([tmp_path / "0.parquet", tmp_path / "1.parquet"])


def listed(lists: list[Any], kind: pa.DataType | None = None, **columns: Any) -> pa.Table:
    made = pa.table(
        {
            "image_uuid": [f"i{i}" for i in range(len(lists))],
            "label": ["c0"] * len(lists),
            "probs": pa.array(lists, kind or pa.list_(pa.float64())),
            **columns,
        }
    )
    return tables.with_metadata(made, {"classes": '["c0", "c1"]'})


GOOD = [[0.5, 0.25]] * 4


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(listed([*GOOD, [0.5]]), id="width"),
        pytest.param(listed([*GOOD, None]), id="null_without_error"),
        pytest.param(listed([*GOOD, [0.5, None]]), id="null_inside"),
        pytest.param(listed([0.5, 0.25], pa.float64()), id="no_list"),
        pytest.param(listed([["a", "b"]], pa.list_(pa.string())), id="text"),
        pytest.param(listed(GOOD, image_uuid=["a", "b", "c", "a"]), id="twice"),
        pytest.param(listed(GOOD, image_uuid=["a", "b", None, "d"]), id="no_id"),
        pytest.param(listed(GOOD, label=["c0", "c1", "x", "x"]), id="unknown_label"),
        pytest.param(listed(GOOD, probs_full_plain=[*GOOD[1:], [0.5, 7.0]]), id="other_view"),
        pytest.param(
            listed([[9.0, 9.0], *GOOD, [3.0, 0.0]], error=["unreadable", *[None] * 5]),
            id="beside_an_error",
        ),
        pytest.param(listed(GOOD).drop_columns("probs"), id="no_probabilities"),
        pytest.param(listed(GOOD).drop_columns("image_uuid"), id="no_ids"),
        pytest.param(listed(GOOD).slice(0, 0), id="no_rows"),
        pytest.param(listed(GOOD).replace_schema_metadata(None), id="no_classes"),
    ],
)
def test_every_fault_of_a_file_is_refused_in_the_same_words(tmp_path: Path, made: pa.Table) -> None:
    pq.write_table(made, tmp_path / "p.parquet")
    assert_same_refusal([tmp_path / "p.parquet"])


def assert_same_refusal(paths: list[Path]) -> None:
    with pytest.raises(InputError) as whole:
        read_probabilities(paths)
    for rows in (1, 2, 3, 50):
        with (
            patch.object(probability_table, "BATCH_VALUES", 3 * rows),
            pytest.raises(InputError) as streamed,
        ):
            files = open_probabilities(paths)
            score_rows(files, labels_in(files))
        assert str(streamed.value) == str(whole.value)


def test_a_file_that_was_replaced_between_its_rows_and_its_values_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(listed(GOOD), path)
    files = open_probabilities([path])
    tables.write_arrow(path, listed(GOOD[::-1]))  # as many rows, and the same ids
    with pytest.raises(InputError, match="replaced while it was read"):
        score_rows(files, labels_in(files))


def test_no_batch_holds_more_than_asked_for(tmp_path: Path) -> None:
    pq.write_table(listed(GOOD * 25), tmp_path / "p.parquet")
    files = open_probabilities([tmp_path / "p.parquet"])
    sizes = [len(values) for _, values in files.batches(7)]
    assert sum(sizes) == 100
    assert max(sizes) == 7
    assert pl.Series([first for first, _ in files.batches(7)]).is_sorted()
