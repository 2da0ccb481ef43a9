"""Ids of files that have none: every row named once, in any order; everything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import open_probabilities, read_probabilities

Row = tuple[str, object, str | None]
ROWS: list[Row] = [("a.parquet", 1, "u1"), ("b.parquet", 0, "u2"), ("a.parquet", 0, "u0")]


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two files without ids: two rows and one."""
    (tmp_path / "labels.txt").write_text("acne\ntinea\n")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pl.DataFrame({"probs": [[0.0, 0.1], [0.1, 0.9]]}).write_parquet(paths[0])
    pl.DataFrame({"probs": [[0.2, 0.8]]}).write_parquet(paths[1])
    return paths


def mapping(folder: Path, rows: list[Row]) -> Path:
    path = folder / "mapping.csv"
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(["file,row,image_uuid", *lines]) + "\n")
    return path


def test_each_row_gets_the_id_the_mapping_gives_it(tmp_path: Path, shards: list[Path]) -> None:
    row_ids = mapping(tmp_path, ROWS)
    table = read_probabilities(shards, row_ids=row_ids)
    assert table.frame["image_uuid"].to_list() == ["u0", "u1", "u2"]
    assert table.probs[:, 1].tolist() == [0.1, 0.9, 0.8]
    opened = open_probabilities(shards, row_ids=row_ids)
    assert opened.frame.equals(table.frame)
    assert np.concatenate([values for _, values in opened.batches()]).tolist() == (
        table.probs.tolist()
    )


def test_a_file_with_ids_of_its_own_stands_beside_one_without(
    tmp_path: Path, shards: list[Path]
) -> None:
    own = tmp_path / "own.parquet"
    pl.DataFrame({"image_uuid": ["z"], "probs": [[0.5, 0.5]]}).write_parquet(own)
    table = read_probabilities([own, *shards], row_ids=mapping(tmp_path, ROWS))
    assert table.frame["image_uuid"].to_list() == ["z", "u0", "u1", "u2"]


def test_without_a_mapping_the_error_says_how_to_give_one(shards: list[Path]) -> None:
    for read in (read_probabilities, open_probabilities):
        with pytest.raises(InputError, match=r"missing column 'image_uuid'.*pass --row-ids"):
            read(shards)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(ROWS[:2], "row 0 of a.parquet is not in it \\(1 of 2 rows", id="missing"),
        pytest.param([*ROWS, ROWS[0]], "row 1 of a.parquet stands 2 times", id="twice"),
        pytest.param(
            [("a.parquet", 1, "u1"), ("a.parquet", 2, "u0"), ROWS[1]],
            r"mapping.csv row 3, column row: 2 is not in 0\.\.1; .* the first is row 0",
            id="counted_from_one",
        ),
        pytest.param([*ROWS[:2], ("a.parquet", -1, "u0")], "row 4, column row: -1", id="negative"),
        pytest.param([*ROWS[:2], ("a.parquet", "0.0", "u0")], '"0.0" is not a whole', id="float"),
        pytest.param(
            [*ROWS[:2], ("a.parquet", 0, "u1")], "'u1' on more than one row", id="same_id"
        ),
        pytest.param(
            [*ROWS[:2], ("a.parquet", 0, None)], "row 4, column image_uuid: empty", id="id"
        ),
        pytest.param(
            [*ROWS, ("c.parquet", 0, "u3")], "column file: 'c.parquet' is not among", id="stranger"
        ),
        pytest.param(
            [*ROWS[:1], ROWS[2]], "row 0 of b.parquet is not in it \\(1 of 1", id="whole_file"
        ),
    ],
)
def test_anything_but_every_row_once_is_refused(
    tmp_path: Path, shards: list[Path], rows: list[Row], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_probabilities(shards, row_ids=mapping(tmp_path, rows))


def test_a_file_with_ids_in_the_mapping_and_two_files_of_one_name_are_refused(
    tmp_path: Path, shards: list[Path]
) -> None:
    own = tmp_path / "own.parquet"
    pl.DataFrame({"image_uuid": ["z"], "probs": [[0.5, 0.5]]}).write_parquet(own)
    path = mapping(tmp_path, [*ROWS, ("own.parquet", 0, "z")])
    with pytest.raises(InputError, match=r"'own.parquet' is not among the files without ids"):
        read_probabilities([own, *shards], row_ids=path)
    (tmp_path / "more").mkdir()
    again = tmp_path / "more" / "a.parquet"
    again.write_bytes(shards[0].read_bytes())
    with pytest.raises(InputError, match=r"'a.parquet' is the name of two files"):
        read_probabilities([again, *shards], row_ids=mapping(tmp_path, ROWS))
