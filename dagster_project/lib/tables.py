"""Tables from people: CSV and parquet in, checked; parquet and CSV out, atomically.

Belongs: reading a file nobody vouches for, and saying file, row and column when it is wrong.
Does not: what the columns mean (``dataset``, ``labels``, ``probability_table``).
Concept: every CSV cell is text (an id ``0012`` stays ``0012``); row 1 of a CSV is its header, as a
spreadsheet shows it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars import selectors as cs

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.files import publish

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_CSV_BYTES = 1 << 30
MAX_PARQUET_ROWS = 20_000_000
MAX_CELL = 100_000
_READ_BYTES = 1 << 20
ROW = "__row"
"""Column that :func:`read_table` adds to a CSV on request: the row number a person sees."""


def existing(path: Path, what: str = "file") -> Path:
    """``path`` if it is a regular file, else an :class:`InputError`."""
    if not path.is_file():
        raise InputError(f"{path}: no such {what}")
    return path


def find_table(folder: Path, stem: str) -> Path:
    """``folder/stem.parquet`` or ``.csv``; both or neither is an error."""
    found = [p for p in (folder / f"{stem}.parquet", folder / f"{stem}.csv") if p.is_file()]
    if len(found) != 1:
        which = "both are there: keep one" if found else "neither is there"
        raise InputError(f"{folder}: expected {stem}.parquet or {stem}.csv, {which}")
    return found[0]


def read_table(
    path: Path, required: Sequence[str], *, row_numbers: bool = False, may_be_empty: bool = False
) -> pl.DataFrame:
    """Read a CSV or parquet table that must have the columns ``required``.

    Parameters
    ----------
    path : a ``.csv`` or ``.parquet`` file.
    required : columns that must be there and, in a CSV, need not be first.
    row_numbers : add the column ``__row`` (1-based; a CSV's header is row 1, a parquet row is
        counted from 1).
    may_be_empty : a table without rows is no error.

    Returns
    -------
    All columns. CSV cells are stripped strings, an empty cell is null.

    Raises
    ------
    InputError
        Missing, empty, undecodable, ragged, or without a required column.
    """
    existing(path)
    if path.suffix == ".parquet":
        frame = _read_parquet(path)
        offset = 1
    elif path.suffix == ".csv":
        frame = parse_csv(path.name, _csv_bytes(path))
        offset = 2
    else:
        raise InputError(f"{path}: expected a .csv or .parquet file")
    require_columns(path.name, frame.columns, required)
    if frame.is_empty() and not may_be_empty:
        raise InputError(f"{path.name}: the table has no rows")
    return frame.with_row_index(ROW, offset=offset) if row_numbers else frame


def require_columns(name: str, columns: Sequence[str], required: Sequence[str]) -> None:
    """Raise if a required column is missing, naming those that are there."""
    missing = [c for c in required if c not in columns]
    if missing:
        raise InputError(
            f"{name}: missing column {some(missing)}; it has {some(columns, 12)}. "
            "Rename or add the column."
        )


def _csv_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_CSV_BYTES:
        raise InputError(f"{path.name}: {size} bytes is over the CSV limit; convert it to parquet")
    return path.read_bytes()


def parse_csv(name: str, data: bytes) -> pl.DataFrame:
    """Parse CSV bytes strictly; ``name`` is used in messages only.

    Raises
    ------
    InputError
        Compressed, not UTF-8, NUL inside, duplicate or empty header, wrong number of cells.
    """
    if data[:2] == b"\x1f\x8b":
        raise InputError(f"{name}: this is a gzip file; decompress it first")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1  # the byte order mark is not in it
        raise InputError(f"{name} row {row}: not UTF-8; save it as 'CSV UTF-8'") from None
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{name} row {row}: a NUL character; save it as 'CSV UTF-8'")
    records = _records(name, text)
    if not records:
        raise InputError(f"{name}: the file is empty; a header row is needed")
    header = [cell.strip() for cell in records[0]]
    _check_header(name, header)
    columns: dict[str, list[str | None]] = {column: [] for column in header}
    for number, record in enumerate(records[1:], start=2):
        if len(record) != len(header):
            raise InputError(
                f"{name} row {number}: {len(record)} cells where the header has {len(header)}; "
                "quote cells that hold commas"
            )
        for column, cell in zip(header, record, strict=True):
            columns[column].append(cell.strip() or None)
    return pl.DataFrame(columns, schema=dict.fromkeys(header, pl.String))


def _records(name: str, text: str) -> list[list[str]]:
    previous = csv.field_size_limit(MAX_CELL)
    records: list[list[str]] = []
    try:
        # one by one: a fault in row n leaves the n - 1 rows before it, for the message
        for record in csv.reader(io.StringIO(text, newline=""), strict=True):
            records.append(record)
    except csv.Error as error:
        raise InputError(f"{name} row {len(records) + 1}: {error}") from None
    finally:
        csv.field_size_limit(previous)
    while records and not records[-1]:  # blank lines at the end are no rows; elsewhere a fault
        records.pop()
    return records


def _check_header(name: str, header: list[str]) -> None:
    if not header:
        raise InputError(f"{name} row 1: a blank line where the header should be; remove it")
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{name} row 1: cells are separated by semicolons; use commas")
    repeated = sorted(column for column, n in Counter(header).items() if n > 1)
    if repeated:
        raise InputError(f"{name} row 1: column {some(repeated)} appears twice; keep one")
    if "" in header:
        raise InputError(f"{name} row 1: column {header.index('') + 1} has no name; name it")


def _read_parquet(path: Path) -> pl.DataFrame:
    table = read_arrow(path)
    try:
        return pl.DataFrame(pl.from_arrow(table))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name}: a column's type cannot be read ({reason})") from None


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file with its key-value metadata, the row count checked from the footer.

    ``columns``: those of them that the file has; None reads all.
    """
    with _opened(path) as file:
        names = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
        table = file.read(columns=names)
    return table if names is None else table.select(names)


def read_arrow_batches(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The columns of a parquet file, at most ``rows`` rows at a time; checks as `read_arrow`.

    Neither the file nor one of its row groups is in memory whole.
    """
    import pyarrow as pa

    with _opened(path, buffer_size=_READ_BYTES) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
            yield pa.Table.from_batches([batch]).select(list(columns))


@contextmanager
def _opened(path: Path, *, buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    """A parquet file whose row count and column names are in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    existing(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=buffer_size) as file:
            if file.metadata.num_rows > MAX_PARQUET_ROWS:
                raise InputError(f"{path.name}: {file.metadata.num_rows} rows is over the limit")
            counts = Counter(file.schema_arrow.names)
            repeated = sorted(column for column, n in counts.items() if n > 1)
            if repeated:
                raise InputError(f"{path.name}: column {some(repeated)} appears twice; keep one")
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_schema(path: Path) -> pa.Schema:
    """The columns of a parquet file, from its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    existing(path)
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def parquet_rows(path: Path) -> int:
    """How many rows a parquet file has, from its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    existing(path)
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read_metadata(path: Path) -> dict[str, str]:
    """The key-value metadata in the footer of a parquet file."""
    return metadata_of(read_schema(path).empty_table())


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path.name}: not a readable parquet file ({reason})")


def write_arrow(path: Path, table: pa.Table) -> None:
    """Publish a parquet file: same table, same bytes."""
    write_arrow_parts(path, table.schema, [table])


def write_arrow_parts(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    """Publish a parquet file of several tables, one after another: same parts, same bytes.

    Only one of them is in memory at a time. The file's metadata are those of ``schema``.
    """
    import pyarrow.parquet as pq

    with (
        publish(path) as temp,
        pq.ParquetWriter(temp, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for part in parts:
            writer.write_table(part)


def read_arrow_parts(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a parquet file, one at a time, page checksums verified."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    existing(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def write_csv(path: Path, frame: pl.DataFrame) -> None:
    """Publish a CSV file: same frame, same bytes."""
    with publish(path) as temp:
        frame.write_csv(temp)


def with_metadata(table: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """``table`` with its key-value metadata replaced."""
    return table.replace_schema_metadata({k.encode(): v.encode() for k, v in metadata.items()})


def metadata_of(table: pa.Table) -> dict[str, str]:
    """The key-value metadata of an arrow table as text."""
    found = table.schema.metadata or {}
    return {k.decode(errors="replace"): v.decode(errors="replace") for k, v in found.items()}


def duplicates(frame: pl.DataFrame, column: str) -> list[str]:
    """Values of ``column`` that stand on more than one row, in order of first appearance."""
    if frame[column].hash().n_unique() == frame.height:  # nearly always, and for little memory
        return []
    counts = frame.group_by(column, maintain_order=True).len()
    return counts.filter(pl.col("len") > 1)[column].cast(pl.String).to_list()


def digest_frame(frame: pl.DataFrame) -> str:
    """First 16 hex digits of the sha256 of a frame's content (columns, dtypes, rows in order)."""
    import numpy as np
    import pyarrow as pa

    plain = frame.with_columns(cs.array().arr.to_list())
    rows = pa.array(np.arange(frame.height))
    # taking every row writes fresh buffers: what lies under a null or outside a slice is not hashed
    table = pa.Table.from_arrays(
        [
            plain.select(name).to_arrow().take(rows).column(0).combine_chunks()
            for name in plain.columns  # one at a time, for the sake of memory
        ],
        schema=plain.head(0).to_arrow().schema.remove_metadata(),
    )
    sink = _Hashing()
    sink.write(str([(n, str(t)) for n, t in frame.schema.items()]).encode())
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    del table
    pa.default_memory_pool().release_unused()  # a gigabyte, after ten million labels
    return sink.sha256.hexdigest()[:16]


class _Hashing(io.RawIOBase):
    """A file that only hashes what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Hash ``data``."""
        self.sha256.update(data)
        return len(data)
