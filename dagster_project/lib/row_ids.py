"""Ids for probabilities that have none: an explicit mapping of each row, never a guess.

Belongs: reading the mapping, and refusing all that does not match row by row.
Does not: the probability table itself (``probability_table``).
Concept: a file without ids is only its row order. Somebody who has that order documented writes it
down, row for row; nothing is ever joined by position because the lengths happen to agree. That the
documented order is the true one cannot be checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import text_ids

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("file", "row", "image_uuid")


def read_row_ids(path: Path, shards: Sequence[Path]) -> dict[str, pl.Series]:
    """The ids of every row of the files that have none.

    Parameters
    ----------
    path : CSV or parquet with the columns ``file`` (name of a shard, without folders), ``row``
        (whole number; 0 is the first row) and ``image_uuid``; its own order does not matter.
    shards : the probability files it is for; those that have a column ``image_uuid`` must not be in
        it, all others must, with every row exactly once.

    Returns
    -------
    ``str(shard)`` -> ids in row order, for the shards without ids.

    Raises
    ------
    InputError
        Another file, a file with ids, a row missing, twice or beyond the end, an id twice or empty,
        two shards of one name.
    """
    rows = _mapping(path)
    schemas = {shard: tables.read_schema(shard) for shard in shards}
    bare = [shard for shard, schema in schemas.items() if "image_uuid" not in schema.names]
    by_name = {shard.name: shard for shard in bare}
    if len(by_name) < len(bare):
        names = [shard.name for shard in bare if by_name[shard.name] != shard]
        raise InputError(f"{path.name}: {some(names)} is the name of two files; rename one")
    others = sorted(set(rows["file"]) - set(by_name))
    if others:
        raise InputError(
            f"{path.name}, column file: {some(others)} is not among the files without ids "
            f"({some(by_name) or 'there is none'}); list these, and no others"
        )
    found = {
        str(shard): _ids(
            path, name, rows.filter(pl.col("file") == name), tables.parquet_rows(shard)
        )
        for name, shard in by_name.items()
    }
    twice = tables.duplicates(rows, "image_uuid")
    if twice:
        raise InputError(
            f"{path.name}, column image_uuid: {some(twice)} on more than one row; "
            "each image may appear once"
        )
    return found


def with_ids(name: str, table: pa.Table, ids: Mapping[str, pl.Series]) -> pa.Table:
    """``table`` with its ids as a column, if the mapping has them."""
    if name not in ids:
        return table
    if ids[name].len() != table.num_rows:
        raise InputError(f"{name}: it was replaced while it was read; run again")
    return table.append_column("image_uuid", ids[name].to_arrow())


def _mapping(path: Path) -> pl.DataFrame:
    frame = tables.read_table(path, COLUMNS, row_numbers=True)
    ids = text_ids(path.name, frame["image_uuid"])
    row = frame["row"].cast(pl.Int64, strict=False)
    if frame["row"].dtype.is_float() or frame["row"].dtype == pl.Boolean:
        row = pl.Series([None] * frame.height, dtype=pl.Int64)
    made = pl.DataFrame({tables.ROW: frame[tables.ROW], "row": row, "image_uuid": ids})
    made = made.with_columns(frame["file"].cast(pl.String))
    for column in COLUMNS:
        bad = made[column].is_null()
        if bad.any():
            at = int(bad.arg_max() or 0)
            got = frame[column][at]
            said = "empty" if got is None else f'"{got}" is not a whole number'
            raise InputError(
                f"{path.name} row {made[tables.ROW][at]}, column {column}: {said} "
                f"({int(bad.sum())} such rows); fill it in"
            )
    return made


def _ids(path: Path, name: str, rows: pl.DataFrame, height: int) -> pl.Series:
    """The ids of one file in its row order; every row of it exactly once."""
    number = rows["row"].to_numpy()
    outside = (number < 0) | (number >= height)
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"{path.name} row {rows[tables.ROW][at]}, column row: {number[at]} is not in 0.."
            f"{height - 1}; {name} has {height} rows, and the first is row 0"
        )
    times = np.bincount(number, minlength=height)
    if (times > 1).any():
        again = np.flatnonzero(times > 1)
        raise InputError(
            f"{path.name}, column row: row {again[0]} of {name} stands {times[again[0]]} times "
            f"({again.size} such rows); give each once"
        )
    if (times == 0).any():
        missing = np.flatnonzero(times == 0)
        raise InputError(
            f"{path.name}: row {missing[0]} of {name} is not in it ({missing.size} of {height} "
            "rows are missing); a positional join is never guessed, list every row"
        )
    return rows.sort("row")["image_uuid"]
