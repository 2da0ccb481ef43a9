"""The embedding table: what the image encoder makes of each image, beside a dump's probabilities.

Belongs: where it lies, reading it back, checking that what is compared is of one model.
Does not: making it (``inference``), comparing images (``image_issues``).
Concept: a file of its own beside the probabilities and not a column of theirs, so that whatever
depends on labels reads none of it (121,514 images are 280 MB). Half precision is enough to compare
images; a row whose values do not fit has no embedding and says so. N = images, D = width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

EMBEDDING = "embedding"
COLUMNS = ("image_uuid", EMBEDDING)
TOO_LARGE = "the embedding has a value that half precision cannot hold"
"""Beyond 65504, or no number. What is so large is not cut down: it would be another direction."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings that can be compared with each other.

    Attributes
    ----------
    image_uuids : (N,) text, unique.
    values : (N, D) float32, finite, no row all zero.
    missing : rows of the files that have none.
    """

    image_uuids: pl.Series
    values: npt.NDArray[np.float32]
    missing: int = 0


def embeddings_beside(path: Path) -> Path:
    """Where the embeddings of the dump at ``path`` lie.

    >>> embeddings_beside(Path("store/03.parquet")).as_posix()
    'store/03.embeddings.parquet'
    """
    return path.with_name(f"{path.stem}.embeddings.parquet")


def dumped_embeddings(dumps: Iterable[Path]) -> list[Path]:
    """Those embedding files of ``dumps`` that are there and belong to what lies beside them.

    A dump that was made again without embeddings leaves an older file for a moment; it is of
    another identity.
    """
    found = []
    for path in dumps:
        beside = embeddings_beside(path)
        if path.is_file() and beside.is_file():
            identities = {tables.read_metadata(p).get("identity") for p in (path, beside)}
            if len(identities) == 1:
                found.append(beside)
    return found


def read_embeddings(paths: Sequence[Path]) -> Embeddings:
    """Read one or more files as one set, in the order given.

    Parameters
    ----------
    paths : parquet files with ``image_uuid`` and ``embedding`` (a list of D numbers, or null).

    Raises
    ------
    InputError
        No embedding at all; widths, models or arithmetic that differ; a value that is no number; an
        image twice.
    """
    if not paths:
        raise InputError("no embedding files given")
    parts = [_read(path) for path in paths]
    for key in ("model_tree_hash", "preprocess_digest", "dtype"):
        found = sorted({str(tables.metadata_of(part).get(key)) for part in parts})
        if len(found) > 1:
            raise InputError(
                f"{some(paths)}: {key} differs ({some(found)}); embeddings of two models or "
                "settings cannot be compared: dump the older ones again"
            )
    ids = pl.concat([_ids(part) for part in parts])
    twice = tables.duplicates(pl.DataFrame(ids), "image_uuid")
    if twice:
        raise InputError(
            f"{some(paths, 1)}: column image_uuid: {some(twice)} on more than one row; keep one"
        )
    return _usable(paths, ids, [_matrix(p, part) for p, part in zip(paths, parts, strict=True)])


def _read(path: Path) -> pa.Table:
    table = tables.read_arrow(path, COLUMNS)
    tables.require_columns(path.name, table.column_names, COLUMNS)
    return table


def _ids(part: pa.Table) -> pl.Series:
    return pl.Series("image_uuid", part.column("image_uuid").to_pylist(), dtype=pl.String)


def _usable(
    paths: Sequence[Path], ids: pl.Series, parts: Sequence[npt.NDArray[np.float32]]
) -> Embeddings:
    widths = sorted({part.shape[1] for part in parts if part.shape[1]})
    if len(widths) != 1:
        what = f"have {some(widths)} numbers" if widths else "has no embedding"
        raise InputError(f"{some(paths)}: {what}; dump all of them with --embeddings and one model")
    missing = np.full((1, widths[0]), np.nan, dtype=np.float32)
    values = np.concatenate([p if p.shape[1] else np.repeat(missing, len(p), 0) for p in parts])
    # a row of zeros has no direction to compare
    keep = np.isfinite(values).all(axis=1) & values.any(axis=1)
    if not keep.any():
        raise InputError(f"{some(paths)}: no row has an embedding; dump again with --embeddings")
    return Embeddings(ids.filter(keep), values[keep], int((~keep).sum()))


def _matrix(path: Path, part: pa.Table) -> npt.NDArray[np.float32]:
    """(rows, D) with NaN where there is none; (rows, 0) if no row has one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = part.column(EMBEDDING).combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise InputError(f"{path.name}, column {EMBEDDING}: expected lists, got {column.type}")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    width = int(lengths.max(initial=0))
    wrong = np.flatnonzero((lengths != width) & (lengths != 0))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            f"{path.name} row {row + 1}, column {EMBEDDING}: {lengths[row]} numbers where others "
            f"have {width}; dump it again"
        )
    values = np.full((len(column), width), np.nan, dtype=np.float32)
    flat = pc.list_flatten(column.filter(pc.is_valid(column)))
    values[lengths > 0] = (
        flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, max(width, 1))[:, :width]
    )
    return values
