"""Finished pieces of a dump, so that a killed one loses at most the piece it was at.

Belongs: writing a segment atomically, deciding whether one found on disk is still good.
Does not: computing it, joining segments into a dump (``dump``).
Concept: a parquet file without its footer is unreadable, so a long dump is many small files. A
segment is good if it can be read, was made under the same layout, and holds exactly the rows that
are expected; anything else is computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_LAYOUT = "layout"


def write_segment(folder: Path, number: int, table: pa.Table, *, layout: str) -> None:
    """Publish segment ``number``; ``layout`` says how rows were batched when it was made."""
    metadata = {**tables.metadata_of(table), _LAYOUT: layout}
    tables.write_arrow(_path(folder, number), tables.with_metadata(table, metadata))


def read_segment(
    folder: Path, number: int, ids: Sequence[str], *, layout: str, schema: pa.Schema
) -> pa.Table | None:
    """Segment ``number`` if it is there and good, else None."""
    path = _path(folder, number)
    if not path.is_file():
        return None
    try:
        table = tables.read_arrow(path)
    except InputError:  # torn by a disk fault: it is made again
        return None
    metadata = tables.metadata_of(table)
    good = (
        metadata.pop(_LAYOUT, None) == layout
        and table.schema.remove_metadata().equals(schema)
        and table.column("image_uuid").to_pylist() == list(ids)
    )
    return tables.with_metadata(table, metadata) if good else None


def discard_segments(segments_dir: Path, identity: str) -> None:
    """Remove the segments of a dump that has been published.

    ``segments_dir`` stays: another dump may be about to make its own folder there.
    """
    shutil.rmtree(segments_dir / identity, ignore_errors=True)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"
