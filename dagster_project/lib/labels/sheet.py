"""A review sheet: the bytes of one file become rows of five cells, or one named fault.

Belongs: encodings, separators, line ends, quotes, headers; what a spreadsheet does to a file.
Does not: whether a cell is right (``judgements``), which files there are (``drop_source``).
Concept: what is unambiguous is read, whoever saved it (UTF-8, UTF-16 with its mark; comma,
semicolon, tab). Everything that a lenient reader would read in silence as something else is a
fault with a name: :data:`KINDS`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dagster_project.lib.errors import some
from dagster_project.lib.labels.names import folded

REQUIRED = ("image_uuid", "reviewer", "label")
CELLS = (*REQUIRED, "confidence", "comment")
MAX_LINE = 100_000
MAX_ROWS = 50_000
MAX_COLUMNS = 200
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""What a byte that is no UTF-8 is read as (PEP 383)."""

_SIGNATURES: Sequence[tuple[bytes, str, str]] = (
    (b"\x1f\x8b", "gzip file", "this is a gzip file; decompress it first"),
    (b"PK\x03\x04", "Excel workbook", "this is an Excel workbook or a zip; save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "Excel workbook", "this is an old Excel workbook; save it as CSV UTF-8"),
    (b"%PDF", "PDF file", "this is a PDF; send the CSV itself"),
    (b"\xff\xfe\x00\x00", "UTF-32", "this is UTF-32; save it as CSV UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32", "this is UTF-32; save it as CSV UTF-8"),
)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file or a cell of it.

    Attributes
    ----------
    kind : what, in words of ours only: it may stand in logs.
    reason : the same with what stands in the cells, and the mend.
    row : as a spreadsheet counts (the header is row 1); None where the fault has no row.
    column : None where the fault has no column.
    value : what stands in the cell, None where it is no matter of one cell.
    nearest : what was probably meant.
    """

    kind: str
    reason: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    nearest: str | None = None


class SheetError(Exception):
    """The file cannot be read as a table: one fault says it all."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    number : as a spreadsheet counts.
    cells : :data:`CELLS` as they stand in the file; absent optional columns are empty.
    broken : cells that hold a line break, of any column.
    cut : it is the last row, nothing ends it, and this is the column it ends in.
    """

    number: int
    cells: Mapping[str, str]
    broken: tuple[str, ...]
    cut: str | None


@dataclass(frozen=True)
class Sheet:
    """A table whose header is understood; rows are read as they are asked for."""

    text: str
    separator: str
    header: tuple[str, ...]

    def rows(self) -> Iterator[Row]:
        """The rows below the header, blank ones left out.

        Raises
        ------
        SheetError
            At the first row that is not as wide as the header, or no CSV.
        """
        ended = self.text.endswith(("\n", "\r"))
        at = {name: place for place, name in enumerate(self.header) if name in CELLS}
        records = (item for item in _records(self.text, self.separator) if not _blank(item[1]))
        next(records)  # the header
        following = next(records, None)
        while following is not None:
            (number, record), following = following, next(records, None)
            if number > MAX_ROWS:
                raise _refused("too many rows", f"more than {MAX_ROWS} rows; split it into files")
            breaks_off = following is None and not ended
            whole = self._whole(number, record, at, breaks_off=breaks_off)
            yield Row(
                number,
                {name: whole[at[name]] if name in at else "" for name in CELLS},
                tuple(cell for cell in whole if "\n" in cell or "\r" in cell),
                self.header[-1] if breaks_off else None,
            )

    def _whole(
        self, number: int, record: list[str], at: Mapping[str, int], *, breaks_off: bool
    ) -> list[str]:
        """``record`` as wide as the header, or a fault."""
        missing = len(self.header) - len(record)
        filled = [*record, *[""] * missing]
        if missing == 0 or (missing < 0 and not any(record[len(self.header) :])):
            return filled[: len(self.header)]
        found = f"{len(record)} cells where the header has {len(self.header)}"
        if missing < 0:
            mend = f"quote cells that hold {SEPARATORS[self.separator]}"
        elif breaks_off:
            raise _refused("cut row", f"{found}, and the file ends there; send it again", number)
        elif self._left_out(filled, len(record), at):
            return filled
        else:
            mend = "fill it up"
        raise _refused("wrong number of cells", f"{found}; {mend}", number)

    def _left_out(self, filled: list[str], n: int, at: Mapping[str, int]) -> bool:
        """Whether the cells that lack are empty ones that a spreadsheet did not write.

        Excel, which ends rows with CR LF, leaves out the empty cells at the end of some rows. Then
        the row is not judged, or has all that is required.
        """
        if "\r\n" not in self.text:
            return False
        if not any(filled[place] for name, place in at.items() if name != "image_uuid"):
            return True
        return all(at[name] < n and filled[at[name]] for name in REQUIRED)


def read_sheet(data: bytes) -> Sheet:
    """The table in ``data``, its header checked.

    Raises
    ------
    SheetError
        It is no table, or its header is not understood: the first fault, see docs/labels.md.
    """
    text = _decode(data)
    if not text.strip():
        raise _refused("empty file", "the file is empty; a header row is needed")
    giant = re.search(rf"[^\r\n]{{{MAX_LINE + 1}}}", text)
    if giant is not None:
        row = text.count("\n", 0, giant.start()) + 1
        raise _refused("giant line", f"a line of more than {MAX_LINE} characters", row)
    separator, record = _header(text)
    return Sheet(text, separator, _named(text, separator, record))


def _decode(data: bytes) -> str:
    """The text; bytes that are not UTF-8 become lone surrogates, to be judged by their column."""
    for signature, kind, reason in _SIGNATURES:
        if data.startswith(signature):
            raise _refused(kind, reason)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise _refused("cut UTF-16", "UTF-16 that breaks off; save or send it again") from None
    else:
        text = data.decode("utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        reason = "a NUL character (UTF-16 without its mark?); save it as 'CSV UTF-8'"
        raise _refused("NUL character", reason, row)
    if re.match(r"\s*<(!doctype|html|\?xml)", text[:200], re.IGNORECASE):
        raise _refused("HTML page", "this is a web page, not a CSV; download the file itself")
    return text


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Row number and cells; :class:`SheetError` where quotes are not in order."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 1
    try:
        for record in reader:
            yield number, record
            number += 1
    except csv.Error as error:
        words = str(error)
        kind = "unclosed quote" if "end of data" in words or "limit" in words else "stray quote"
        raise _refused(kind, f"{kind} ({words}); close or double it", number) from None


def _header(text: str) -> tuple[str, list[str]]:
    """The separator, and the first row that is not blank, split at it."""
    start = text[: 2 * MAX_LINE]
    found: dict[str, list[str]] = {}
    best: tuple[int, list[str]] = (-1, [])
    for separator in SEPARATORS:
        try:
            record = next(r for _, r in _records(start, separator) if not _blank(r))
        except (SheetError, StopIteration):
            continue
        names = {folded(cell) for cell in record}
        if names.issuperset(REQUIRED):
            found[separator] = record
        known = len(names.intersection(CELLS))
        best = max(best, (known * 1000 + len(record), record), key=lambda pair: pair[0])
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        ways = " or ".join(SEPARATORS[s] for s in found)
        raise _refused("two separators", f"the header reads with {ways}; use one of them", 1)
    record = best[1]
    if record and record[0].lower().lstrip("\ufeff").startswith("sep="):
        raise _refused("sep= line", "the line sep= is not part of a CSV; remove it", 1)
    if any(NOT_UTF8.search(cell) for cell in record):
        raise _refused("not UTF-8", "the header is not UTF-8; save it as 'CSV UTF-8'", 1)
    missing = some(name for name in REQUIRED if name not in {folded(cell) for cell in record})
    raise _refused(
        f"missing column {missing}",
        f"missing column {missing}; it has {some([c[:40] for c in record], 12)}. "
        "Rename or add the column.",
    )


def _named(text: str, separator: str, record: list[str]) -> tuple[str, ...]:
    """The header's names; one of ours is spelt as we do, an unnamed empty column is ''."""
    if len(record) > MAX_COLUMNS:
        raise _refused("too many columns", f"{len(record)} columns; {MAX_COLUMNS} at most", 1)
    header = tuple(folded(cell) for cell in record)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        ours = [name for name in twice if name in CELLS]
        kind = f"duplicate header {some(ours)}" if ours else "duplicate header"
        raise _refused(kind, f"column {some(twice)} appears twice; keep one", 1)
    unnamed = [place for place, name in enumerate(header) if not name]
    for number, cells in _records(text, separator) if unnamed else ():
        if any(place < len(cells) and cells[place].strip() for place in unnamed):
            reason = f"column {unnamed[0] + 1} has cells but no name; name it or empty it"
            raise _refused("column without a name", reason, number)
    return header


def _blank(record: Sequence[str]) -> bool:
    return not any(cell.strip() for cell in record)


def _refused(kind: str, reason: str, row: int | None = None) -> SheetError:
    return SheetError(Fault(kind, reason, row))
