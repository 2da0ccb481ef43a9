"""Judgements: rows of a review sheet that are right in every cell, or the faults of the sheet.

Belongs: what a cell may say, how it is spelt in the end, what spreadsheets do to ids.
Does not: bytes and separators (``sheet``), one file against another (``drop``).
Concept: a row without a label is not judged yet and says nothing; every other row must be right,
or its file is refused whole. Faults are told with the value and what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dagster_project.lib.labels.names import KnownNames, cleaned, folded, mixes_alphabets
from dagster_project.lib.labels.sheet import NOT_UTF8, Fault, Row, SheetError, read_sheet

UNSURE = "unsure"
NOT_USABLE = "not_usable"
MAX_NAME = 100
MAX_TOLD = 200
_NUMBER = re.compile(r"(\d+[.]?\d*|[.]\d+)([eE][+-]?\d{1,3})?")
_SCIENTIFIC = re.compile(r"\d([.,]\d+)?E[+-]?\d+", re.IGNORECASE)
_DATE = re.compile(
    r"\d{1,2}[-. ]+[A-Za-z]{3}\.?|[A-Za-z]{3}[-. ]\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
)
_TOTALS = {"total", "totals", "sum", "summe", "gesamt", "count", "anzahl", "soma", "total_geral"}
_FORMULA = ("=", "+", "-", "@")

Judgement = tuple[str, str, str, str | None, str | None, int]
"""image_uuid, reviewer, label, confidence, comment, row."""


@dataclass(frozen=True)
class Known:
    """What reviews may be about: the classes, and the images."""

    classes: Sequence[str]
    image_uuids: Collection[str]

    @cached_property
    def labels(self) -> KnownNames:
        """The classes, ``unsure`` and ``not_usable``."""
        return KnownNames((*self.classes, UNSURE, NOT_USABLE))

    @cached_property
    def ids(self) -> frozenset[str]:
        """The images."""
        return frozenset(self.image_uuids)

    @cached_property
    def numbers(self) -> dict[str, str]:
        """Id without its leading zeros -> id, of ids that are numbers with leading zeros."""
        zeros = (i for i in self.image_uuids if i.startswith("0") and i.isascii() and i.isdigit())
        return {i.lstrip("0") or "0": i for i in zeros}

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Folded id -> id: only to say what was probably meant."""
        return {folded(i): i for i in self.image_uuids}


def read_judgements(
    data: bytes, known: Known, max_faults: int
) -> tuple[list[Judgement], list[Fault]]:
    """The judged rows of one file and its faults; rows count only where there are none.

    Labels come out as the model spells them, a confidence as one spelling a number (0.80 and 0.8
    are the same judgement), ids, reviewers and comments without stray blanks.

    Parameters
    ----------
    data : the file.
    max_faults : reading stops after as many.
    """
    judged: list[Judgement] = []
    faults: list[Fault] = []
    try:
        sheet = read_sheet(data)
        for row in sheet.rows():
            label = cleaned(row.cells["label"])
            found = list(_swallowed(row, sheet.separator, known)) if row.broken else []
            if label and not found:
                cells = {name: cleaned(cell) for name, cell in row.cells.items()}
                found = list(_faults(row, cells, sheet.separator, known))
                if not found and not faults:
                    judged.append(_judgement(row.number, cells, known))
            faults += found
            if len(faults) >= max_faults:
                break
    except SheetError as error:
        faults.append(error.fault)
    return judged, [_bounded(fault) for fault in faults]


def _judgement(number: int, cells: Mapping[str, str], known: Known) -> Judgement:
    stated = cells["confidence"]
    comment = cells["comment"]
    if not comment.isprintable():
        plain = NOT_UTF8.sub("\ufffd", comment)
        comment = "".join(c for c in plain if c.isprintable())
    return (
        cells["image_uuid"],
        cells["reviewer"],
        known.labels.match(cells["label"]).name or cells["label"],
        repr(float(stated.replace(",", "."))) if stated else None,
        comment or None,
        number,
    )


def _faults(row: Row, cells: Mapping[str, str], separator: str, known: Known) -> Iterator[Fault]:
    unreadable = [n for n, cell in cells.items() if not cell.isascii() and _is_foreign(n, cell)]
    for name in unreadable:
        shown = _shown(row.cells[name])
        reason = f"\"{shown}\" is not UTF-8; save the file as 'CSV UTF-8'"
        yield Fault("not UTF-8", reason, row.number, name, shown)
    if unreadable:
        return
    if cells["image_uuid"] not in known.ids and folded(cells["label"]) == "label":
        yield Fault("second header", "the header again; remove this row", row.number)
        return
    if row.cut is not None:
        yield from _cut(row, known)
    yield from _image_faults(row, cells["image_uuid"], known)
    yield from _reviewer_faults(row, cells["reviewer"])
    yield from _label_faults(row, cells["label"], known)
    yield from _confidence_faults(row, cells["confidence"], separator)


def _image_faults(row: Row, image: str, known: Known) -> Iterator[Fault]:
    if image in known.ids:
        return
    nearest = None
    if not image:
        kind, reason = "empty", "empty; every judgement needs its image"
    elif folded(image) in _TOTALS:
        kind, reason = "total row", f'"{image}" is no image; remove the row of totals'
    elif image.startswith("="):
        kind, reason = "formula", f'"{image}" is a formula; write the id itself'
    elif _SCIENTIFIC.fullmatch(image):
        kind = "id turned into a number"
        reason = f'"{image}": a spreadsheet has rounded the id; start from the packet\'s own file'
    elif (plain := re.sub(r"[.,]0*$", "", image)) in known.numbers or plain in known.ids:
        nearest = known.numbers.get(plain, plain)
        kind = "leading zeros lost" if plain == image else "id turned into a number"
        reason = (
            f'"{image}": a spreadsheet has changed the id, probably "{nearest}"; format as text'
        )
    elif _DATE.fullmatch(image):
        kind = "id turned into a date"
        reason = f'"{image}": a spreadsheet has changed the id; start from the packet\'s own file'
    else:
        nearest = known.spellings.get(folded(image))
        hint = f' (nearest "{nearest}")' if nearest else ""
        kind = "unknown image"
        reason = f'unknown image "{image}"{hint}; return the ids of the packet unchanged'
    yield Fault(kind, reason, row.number, "image_uuid", image, nearest)


def _reviewer_faults(row: Row, name: str) -> Iterator[Fault]:
    if not name:
        kind, reason = "empty", "empty; every judgement needs its reviewer"
    elif name.startswith(_FORMULA):
        kind, reason = "formula", f'"{name}" begins like a formula; write the name itself'
    elif len(name) > MAX_NAME:
        kind, reason = "too long", f"a name of {len(name)} characters; {MAX_NAME} at most"
    elif mixes_alphabets(name):
        kind = "look-alike letters"
        reason = f'"{name}" mixes letters of two alphabets; type the name again'
    elif not name.isprintable():
        kind, reason = "control character", "a character that cannot be printed; type it again"
    else:
        return
    yield Fault(kind, reason, row.number, "reviewer", name)


def _label_faults(row: Row, label: str, known: Known) -> Iterator[Fault]:
    match = known.labels.match(label)
    if match.name is not None:
        return
    kind, nearest, n = match.kind, match.nearest, len(known.labels.names)
    if label.startswith(_FORMULA):
        nearest = None
        kind, reason = "formula", f'"{label}" is a formula; write the class itself'
    elif kind == "ambiguous class":
        reason = f'"{label}" may be more than one class; write it exactly, as "{match.nearest}"'
    elif kind == "look-alike letters":
        reason = f'"{label}" has letters of another alphabet; type "{match.nearest}"'
    else:
        reason = f'unknown class "{label}" ({n} known; nearest "{match.nearest}")'
    yield Fault(kind, reason, row.number, "label", label, nearest)


def _confidence_faults(row: Row, stated: str, separator: str) -> Iterator[Fault]:
    text = stated.replace(",", ".") if separator != "," else stated
    if not stated or (_NUMBER.fullmatch(text) and text.isascii() and 0 <= float(text) <= 1):
        return
    kind, mend = "not a number from 0 to 1", ""
    if re.fullmatch(r"\d*,\d+", stated) and separator == ",":
        kind, mend = "decimal comma", "; write it with a point"
    elif re.fullmatch(r"\d+([.,]\d+)? ?%", stated):
        kind, mend = "percentage", "; write 0.8 for 80 %"
    reason = f'"{stated}" is not a number from 0 to 1{mend}'
    yield Fault(kind, reason, row.number, "confidence", stated)


def _cut(row: Row, known: Known) -> Iterator[Fault]:
    """A last row that nothing ends may lack the end of its last cell: 0.85 reads 0.8."""
    cell = cleaned(row.cells.get(row.cut or "", ""))
    if row.cut in (None, "comment") or not cell:
        return
    name = known.labels.match(cell).name if row.cut == "label" else None
    if name is not None and not known.labels.could_be_cut(name):
        return
    reason = f'"{cell}" is where the file ends, perhaps too early; end the row with a line break'
    yield Fault("cut row", reason, row.number, row.cut, cell)


def _swallowed(row: Row, separator: str, known: Known) -> Iterator[Fault]:
    """Rows that an open quote has made part of a cell."""
    for cell in row.broken:
        starts = (line.split(separator)[0] for line in cell.splitlines()[1:])
        if any(cleaned(start.strip('"')) in known.ids for start in starts):
            reason = "a cell holds whole rows: a quote is open; close or double it"
            yield Fault("unclosed quote", reason, row.number)
            return


def _bounded(fault: Fault) -> Fault:
    """A cell may be huge; what is told of it is not."""
    value = None if fault.value is None else fault.value[:MAX_TOLD]
    return replace(fault, value=value, reason=fault.reason[: 3 * MAX_TOLD])


def _is_foreign(name: str, cell: str) -> bool:
    """Whether a cell that counts holds bytes that are not UTF-8."""
    return name != "comment" and NOT_UTF8.search(cell) is not None


def _shown(cell: str) -> str:
    """What the bytes of a cell would be in Windows-1252, the usual other encoding."""
    return cleaned(cell.encode("utf-8", "surrogateescape").decode("cp1252", "replace"))
