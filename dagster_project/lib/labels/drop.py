"""The label drop: reviews that dermatologists return as CSV files, read as one value.

Belongs: accepting or refusing each file whole, the version of what is accepted, the list of faults.
Does not: watching (``defs.label_sensor``), consensus (``consensus``).
Concept: a pure function of (files, classes, images, what is in force). The version hashes accepted
content only, so touching, renaming or splitting files is no new version, and what is in force need
not lie in the file that it is recorded under. Therefore nothing in force is withdrawn while any
file is refused: nobody can tell which judgements the refused file was to hold.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl

from dagster_project.lib import files, s3
from dagster_project.lib.errors import some
from dagster_project.lib.labels import drop_source
from dagster_project.lib.labels.drop_source import DropUnreadable
from dagster_project.lib.labels.judgements import (
    NOT_USABLE,
    UNSURE,
    Judgement,
    Known,
    read_judgements,
)
from dagster_project.lib.labels.names import folded
from dagster_project.lib.labels.sheet import Fault

__all__ = [
    "NOT_USABLE",
    "UNSURE",
    "Drop",
    "DropUnreadable",
    "Refusal",
    "label_version",
    "read_drop",
    "write_refusals",
]

NO_REVIEWS = "none"
"""Version of a drop in which nothing was ever judged."""
MAX_FAULTS = 20
"""Faults reported for one file, the first by row."""

MAX_JUDGEMENTS = 100_000
"""In one drop. A thousand packets of a hundred images; with it the memory is bounded."""

COLUMNS = ("image_uuid", "reviewer", "label", "confidence", "comment", "file")
SCHEMA = dict.fromkeys(COLUMNS, pl.String)
_READER = "reader"
"""The reviewer's name folded: capitals and blanks do not make another person, or one would confirm
himself."""
_JUDGED = dict.fromkeys(COLUMNS[:5], pl.String)
_INNER = {**SCHEMA, _READER: pl.String}
_KEY = ["image_uuid", _READER]
_VERSIONED = [*_KEY, "label", "confidence"]
Said = dict[tuple[str, str], tuple[str, str]]
"""(image, reader) -> what counts so far, and the file that says it first."""
REPORT_SCHEMA = {
    "status": pl.String,
    "file": pl.String,
    "row": pl.Int64,
    "column": pl.String,
    "kind": pl.String,
    "value": pl.String,
    "nearest": pl.String,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Refusal:
    """One fault of a refused file, or a warning about an accepted one.

    Attributes
    ----------
    row : as a spreadsheet counts (the header is row 1); None where the fault has no row.
    column : None where the fault has no column.
    kind : what is wrong, in words of ours only.
    reason : the same with what stands in the cells, and the mend.
    value : what stands in the cell; None where it is no matter of one cell.
    nearest : what was probably meant; None where nothing is near.
    """

    file: str
    row: int | None
    column: str | None
    kind: str
    reason: str
    value: str | None = None
    nearest: str | None = None

    @property
    def place(self) -> str:
        """For logs and metadata, no content: ``ann.csv row 5, column label: unknown class``."""
        return f"{self._where()}: {self.kind}"

    def __str__(self) -> str:
        """For those who mend it: ``ann.csv row 5, column label: unknown class "akne" ...``."""
        return f"{self._where()}: {self.reason}"

    def _where(self) -> str:
        row = f" row {self.row}" if self.row is not None else ""
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.file}{row}{column}"


@dataclass(frozen=True)
class Drop:
    """What the drop says now.

    Attributes
    ----------
    version : 16 hex digits over accepted content, or ``"none"``.
    reviews : accepted judgements ``image_uuid, reviewer, label, confidence, comment, file``, all
        text, one row for each image and reviewer, sorted by these two. Spellings of a reviewer
        that fold to one are one reviewer, under the spelling that sorts first.
    refusals : faults of the refused files, in file and row order.
    n_files : CSV files seen, refused ones included.
    warnings : accepted files that look like an accident.
    """

    version: str
    reviews: pl.DataFrame
    refusals: tuple[Refusal, ...]
    n_files: int
    warnings: tuple[Refusal, ...] = ()


def read_drop(
    uri: str,
    *,
    classes: Sequence[str],
    image_uuids: pl.Series,
    in_force: pl.DataFrame | None = None,
) -> Drop:
    """Read every review file of the drop and say what counts.

    Files are taken in name order, and one that contradicts what stands before it is refused. In
    the place of a refused file stand the rows of ``in_force`` recorded under its name. While any
    file is refused, or where nothing is accepted at all, the rest of ``in_force`` stays too. An
    accepted file that says otherwise about the same image and reviewer always wins over it.

    Parameters
    ----------
    uri : folder or ``s3://bucket/prefix``; a folder that is not there is an empty drop.
    classes : (K,) class names a reviewer may give, beside ``unsure`` and ``not_usable``.
    image_uuids : the images that may be reviewed.
    in_force : ``Drop.reviews`` of the last accepted reading, None if there was none.

    Raises
    ------
    DropUnreadable
        The drop cannot be read now (network, permission, files changing under the reader), or
        holds more than any review.
    """
    found = drop_source.read_files(uri)
    known = Known(tuple(classes), image_uuids.to_list())
    before = _still_valid(in_force, known)
    said: Said = {}
    frames = [pl.DataFrame(schema=_INNER)]
    refusals: list[Refusal] = []
    n_files = len(found)
    found.reverse()
    while found:
        file = found.pop()  # its bytes are not needed twice, and there may be many
        rows, faults = _read_file(file, known, said)
        if faults:
            refusals += _capped(file.name, faults)
            kept = before.filter(pl.col("file") == file.name)
            told = [said.get((i, r), (label, ""))[0] == label for i, r, label in _keys_labels(kept)]
            rows = kept.filter(pl.Series(told, dtype=pl.Boolean))
        for image, reader, label in _keys_labels(rows):
            said.setdefault((image, reader), (label, file.name))
        frames.append(rows)
        if len(said) > MAX_JUDGEMENTS:
            raise DropUnreadable(
                f"{s3.shown(uri)}: more than {MAX_JUDGEMENTS} judgements; is this the right place?"
            )
    accepted = pl.concat(frames)
    if refusals or accepted.is_empty():
        accepted = pl.concat([accepted, before.join(accepted, on=_KEY, how="anti")])
    reviews = _canonical(accepted)
    return Drop(
        _version(reviews),
        reviews.select(COLUMNS),
        tuple(refusals),
        n_files,
        tuple(_replaced(before, reviews)),
    )


def write_refusals(
    path: Path, refusals: Iterable[Refusal], warnings: Iterable[Refusal] = ()
) -> None:
    """Publish :func:`refusal_table` as CSV, if it says something else than what is there.

    Keep it where the reviews themselves may lie.
    """
    sink = io.BytesIO()
    refusal_table(refusals, warnings).write_csv(sink)
    if not (path.is_file() and path.read_bytes() == sink.getvalue()):  # each tick says it again
        files.publish_bytes(path, sink.getvalue())


def refusal_table(refusals: Iterable[Refusal], warnings: Iterable[Refusal] = ()) -> pl.DataFrame:
    """Faults and warnings for those who mend the files, with what stands in the cells.

    Returns
    -------
    ``status`` (refused, warning), ``file, row, column, kind, value, nearest, reason``. Text that a
    spreadsheet would take for a formula has an apostrophe before it.
    """
    told = chain((("refused", r) for r in refusals), (("warning", w) for w in warnings))
    rows = [(s, r.file, r.row, r.column, r.kind, r.value, r.nearest, r.reason) for s, r in told]
    table = pl.DataFrame(rows, schema=REPORT_SCHEMA, orient="row")
    risky = r"^[=+\-@\t\r]"
    return table.with_columns(
        pl.when(pl.col(name).str.contains(risky))
        .then("'" + pl.col(name))
        .otherwise(name)
        .alias(name)
        for name in ("file", "value", "nearest", "reason")
    )


def label_version(given_version: str, reviews_version: str, rules: object = None) -> str:
    """Version of the labels that follow from given labels, reviews and the rules of consensus.

    ``rules`` : JSON value of what differs from the built-in rules; None or empty if nothing does.
    """
    return files.digest([given_version, reviews_version, *([rules] if rules else [])])


def _still_valid(in_force: pl.DataFrame | None, known: Known) -> pl.DataFrame:
    if in_force is None:
        return pl.DataFrame(schema=_INNER)
    valid = in_force.select(COLUMNS).filter(
        pl.col("label").is_in(list(known.labels.names)),
        pl.col("image_uuid").is_in(list(known.ids)),
    )
    return _with_reader(valid)


def _with_reader(rows: pl.DataFrame) -> pl.DataFrame:
    names = rows["reviewer"].unique()
    readers = pl.DataFrame(
        {"reviewer": names, _READER: [folded(name) for name in names]},
        schema={"reviewer": pl.String, _READER: pl.String},
    )
    return rows.join(readers, on="reviewer", how="left", maintain_order="left")


def _keys_labels(rows: pl.DataFrame) -> Iterator[tuple[str, str, str]]:
    return rows.select(*_KEY, "label").iter_rows()


def _read_file(
    file: drop_source.DropFile, known: Known, said: Said
) -> tuple[pl.DataFrame, list[Fault]]:
    """The judged rows of one file, and its faults; rows count only where there are none."""
    if file.data is None:
        reason = f"over {drop_source.MAX_FILE_BYTES >> 20} MiB; split it into several files"
        return pl.DataFrame(schema=_INNER), [Fault("too large", reason)]
    judged, faults = read_judgements(file.data, known, MAX_FAULTS + 1)
    faults += _conflicts(judged, said)
    frame = pl.DataFrame([row[:5] for row in judged], schema=_JUDGED, orient="row")
    rows = _with_reader(frame.with_columns(file=pl.lit(file.name)))
    return rows, sorted(faults, key=lambda f: (f.row or 0, f.column or ""))


def _conflicts(judged: Sequence[Judgement], said: Said) -> list[Fault]:
    """Rows that say otherwise than a row before them, or an earlier file, of the same reader."""
    readers = {name: folded(name) for name in {row[1] for row in judged}}
    here: dict[tuple[str, str], tuple[str, int]] = {}
    found: list[Fault] = []
    for image, reviewer, label, _, _, number in judged:
        key = (image, readers[reviewer])
        first, row = here.setdefault(key, (label, number))
        earlier, file = said.get(key, (label, ""))
        for other, place in ((first, f"row {row}"), (earlier, file)):
            if other != label:
                reason = (
                    f'"{label}" for image "{image}" by reviewer "{reviewer}", '
                    f'but {place} says "{other}"; keep one'
                )
                found.append(Fault(f"contradicts {place}", reason, number, "label", label))
        if len(found) > MAX_FAULTS:
            break
    return found


def _capped(name: str, faults: list[Fault]) -> list[Refusal]:
    told = [
        Refusal(name, f.row, f.column, f.kind, f.reason, f.value, f.nearest)
        for f in faults[:MAX_FAULTS]
    ]
    more = "and more faults of these kinds"
    return told if len(faults) <= MAX_FAULTS else [*told, Refusal(name, None, None, more, more)]


def _replaced(before: pl.DataFrame, reviews: pl.DataFrame) -> list[Refusal]:
    """Accepted files that hold another reviewer's judgements than before, whose own are gone.

    One file saved over another of the same name looks like a withdrawal; it is rarely meant.
    """
    gone = before.join(reviews, on=_KEY, how="anti")
    found: list[Refusal] = []
    for (name,), rows in gone.group_by("file", maintain_order=True):
        now = reviews.filter(pl.col("file") == name)["reviewer"].unique().sort()
        then = before.filter(pl.col("file") == name)
        if (
            not now.len()
            or rows.height < then.height
            or now.is_in(then["reviewer"].implode()).any()
        ):
            continue
        kind = "another reviewer than before"
        reason = (
            f"{rows.height} judgements by {some(then['reviewer'].unique().sort())} are withdrawn, "
            f"the file is now of {some(now)}; if it was saved over, return both under other names"
        )
        found.append(Refusal(str(name), None, "reviewer", kind, reason))
    return sorted(found, key=lambda warning: warning.file)


def _canonical(accepted: pl.DataFrame) -> pl.DataFrame:
    """One row for each image and reader, by these; of equal judgements that of the first file.

    The first, because a row in force must stay recorded under the file in whose place it stands
    when that is refused: else the next reading would find another order of files.
    """
    one_spelling = accepted.with_columns(pl.col("reviewer").min().over(_READER))
    rows = one_spelling.sort("file", *COLUMNS[:-1]).unique(_KEY, keep="first")
    return rows.sort(_KEY)


def _version(reviews: pl.DataFrame) -> str:
    if reviews.is_empty():
        return NO_REVIEWS
    return files.digest(reviews.select(_VERSIONED).rows())
