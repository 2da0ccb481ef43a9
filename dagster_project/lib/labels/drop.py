"""The label drop: reviews that dermatologists return as CSV files, read as one value.

Belongs: accepting or refusing each file whole, the version of what is accepted, the list of faults.
Does not: watching (``defs.label_sensor``), consensus (``consensus``).
Concept: a pure function of (files, classes, images, what is in force). The version hashes accepted
content only, so touching, renaming or splitting files is no new version, and what is in force need
not lie in the file that it is recorded under. Therefore nothing in force is withdrawn while any
file is refused: nobody can tell which judgements the refused file was to hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some, unknown_class
from dagster_project.lib.labels import drop_source
from dagster_project.lib.labels.drop_source import DropUnreadable

__all__ = ["Drop", "DropUnreadable", "Refusal", "label_version", "read_drop", "write_refusals"]

UNSURE = "unsure"
NOT_USABLE = "not_usable"
NO_REVIEWS = "none"
"""Version of a drop in which nothing was ever judged."""
MAX_FAULTS = 20
"""Faults reported for one file, the first by row."""

COLUMNS = ("image_uuid", "reviewer", "label", "confidence", "comment", "file")
SCHEMA = dict.fromkeys(COLUMNS, pl.String)
_REQUIRED = COLUMNS[:3]
_KEY = ["image_uuid", "reviewer"]
_VERSIONED = list(COLUMNS[:4])
_SEEN = MAX_FAULTS + 1
"""Faults of one kind that are worded: enough to report, and a spoilt giant file stays cheap."""


@dataclass(frozen=True)
class Refusal:
    """One fault of a refused file.

    Attributes
    ----------
    row : as a spreadsheet counts (the header is row 1); None where the fault has no row.
    column : None where the fault has no column.
    kind : what is wrong, in words of ours only.
    reason : the same with what stands in the cells, and the mend.
    """

    file: str
    row: int | None
    column: str | None
    kind: str
    reason: str

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
        text, one row for each image and reviewer, sorted by these two.
    refusals : faults of the refused files, in file and row order.
    n_files : CSV files seen, refused ones included.
    """

    version: str
    reviews: pl.DataFrame
    refusals: tuple[Refusal, ...]
    n_files: int


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
        The drop cannot be read now (network, permission, files changing under the reader).
    """
    found = drop_source.read_files(uri)
    before = _still_valid(in_force, classes, image_uuids)
    accepted = pl.DataFrame(schema=SCHEMA)
    refusals: list[Refusal] = []
    for file in found:
        rows, faults = _read_file(file, classes, image_uuids, accepted)
        if faults:
            refusals += _capped(file.name, faults)
            kept = before.filter(pl.col("file") == file.name)
            rows = kept.join(_different(kept, accepted), on=_KEY, how="anti")
        accepted = pl.concat([accepted, rows])
    if refusals or accepted.is_empty():
        accepted = pl.concat([accepted, before.join(accepted, on=_KEY, how="anti")])
    reviews = _canonical(accepted)
    return Drop(_version(reviews), reviews, tuple(refusals), len(found))


def write_refusals(path: Path, refusals: Sequence[Refusal]) -> None:
    """Publish the faults as CSV ``file, row, column, kind, reason``, for those who mend the files.

    ``reason`` holds what stands in the cells: keep the file where the reviews themselves may lie.
    """
    schema = {"file": pl.String, "row": pl.Int64, "column": pl.String}
    schema |= {"kind": pl.String, "reason": pl.String}
    rows = [(r.file, r.row, r.column, r.kind, r.reason) for r in refusals]
    data = pl.DataFrame(rows, schema=schema, orient="row").write_csv().encode()
    if not (path.is_file() and path.read_bytes() == data):  # each tick of the sensor says it again
        files.publish_bytes(path, data)


def label_version(given_version: str, reviews_version: str) -> str:
    """Version of the labels that follow from given labels and reviews."""
    return files.digest([given_version, reviews_version])


def _still_valid(
    in_force: pl.DataFrame | None, classes: Sequence[str], image_uuids: pl.Series
) -> pl.DataFrame:
    if in_force is None:
        return pl.DataFrame(schema=SCHEMA)
    return in_force.select(COLUMNS).filter(
        pl.col("label").is_in([*classes, UNSURE, NOT_USABLE]),
        pl.col("image_uuid").is_in(image_uuids.implode()),
    )


def _read_file(
    file: drop_source.DropFile,
    classes: Sequence[str],
    image_uuids: pl.Series,
    accepted: pl.DataFrame,
) -> tuple[pl.DataFrame, list[Refusal]]:
    """The judged rows of one file, and its faults; rows count only where there are none."""
    empty = pl.DataFrame(schema=SCHEMA)
    if file.data is None:
        reason = f"over {drop_source.MAX_FILE_BYTES >> 20} MiB; split it into several files"
        return empty, [Refusal(file.name, None, None, "too large", reason)]
    try:
        # The name is given to the refusal, not to the parser, so that its message has only a row.
        frame = tables.parse_csv("", file.data)
    except InputError as error:
        return empty, [_from_message(file.name, "not a proper CSV", str(error))]
    try:
        tables.require_columns("", frame.columns, _REQUIRED)
    except InputError as error:
        kind = f"missing column {some(c for c in _REQUIRED if c not in frame.columns)}"
        return empty, [_from_message(file.name, kind, str(error))]
    optional = [c for c in ("confidence", "comment") if c not in frame.columns]
    judged = (
        frame.select(c for c in frame.columns if c in COLUMNS)
        .with_row_index(tables.ROW, offset=2)
        .with_columns(pl.lit(None, pl.String).alias(c) for c in optional)
        .filter(pl.col("label").is_not_null())
        .with_columns(file=pl.lit(file.name))
        .select(tables.ROW, *COLUMNS)
    )
    faults = [
        *_cell_faults(judged, classes, image_uuids),
        *_conflicts_inside(judged),
        *_conflicts_with(judged, accepted),
    ]
    # One spelling a number: 0.80 and 0.8 are the same judgement.
    number = pl.col("confidence").cast(pl.Float64, strict=False).cast(pl.String)
    rows = judged.drop(tables.ROW).with_columns(number)
    return rows, sorted(faults, key=lambda f: (f.row or 0, f.column or ""))


def _from_message(name: str, kind: str, message: str) -> Refusal:
    match = re.match(r"^(?: row (\d+))?: (.*)$", message, re.DOTALL)
    row, reason = match.groups() if match else (None, message)
    return Refusal(name, int(row) if row else None, None, kind, reason)


def _cell_faults(
    judged: pl.DataFrame, classes: Sequence[str], image_uuids: pl.Series
) -> list[Refusal]:
    allowed = [*classes, UNSURE, NOT_USABLE]
    number = pl.col("confidence").cast(pl.Float64, strict=False)
    # NaN is no number here: polars orders it above 1, and a null never passes the filter.
    in_range = number.is_not_nan() & number.is_between(0, 1)
    tests: list[tuple[str, pl.Expr, str, str]] = [
        (
            "image_uuid",
            pl.col("image_uuid").is_null(),
            "empty",
            "empty; every judgement needs its image",
        ),
        (
            "reviewer",
            pl.col("reviewer").is_null(),
            "empty",
            "empty; every judgement needs its reviewer",
        ),
        (
            "image_uuid",
            ~pl.col("image_uuid").is_in(image_uuids.implode()),
            "unknown image",
            'unknown image "{}"; return the ids of the packet unchanged',
        ),
        ("label", ~pl.col("label").is_in(allowed), "unknown class", ""),
        (
            "confidence",
            pl.col("confidence").is_not_null() & ~in_range.fill_null(value=False),
            "not a number from 0 to 1",
            '"{}" is not a number from 0 to 1',
        ),
    ]
    faults: list[Refusal] = []
    for column, wrong, kind, reason in tests:
        for row in judged.filter(wrong).head(_SEEN).iter_rows(named=True):
            said = reason.format(row[column]) if reason else unknown_class(row["label"], allowed)
            faults.append(Refusal(row["file"], row[tables.ROW], column, kind, said))
    return faults


def _conflicts_inside(judged: pl.DataFrame) -> list[Refusal]:
    first = judged.filter(pl.struct(_KEY).is_first_distinct())
    pairs = _different(judged, first).head(_SEEN)
    return [
        _conflict(row, f"row {row[tables.ROW + '_first']}") for row in pairs.iter_rows(named=True)
    ]


def _conflicts_with(judged: pl.DataFrame, accepted: pl.DataFrame) -> list[Refusal]:
    first = accepted.filter(pl.struct(_KEY).is_first_distinct())
    pairs = _different(judged, first).head(_SEEN)
    return [_conflict(row, row["file_first"]) for row in pairs.iter_rows(named=True)]


def _conflict(row: dict[str, str | int], where: str) -> Refusal:
    reason = (
        f'"{row["label"]}" for image "{row["image_uuid"]}" by reviewer "{row["reviewer"]}", '
        f'but {where} says "{row["label_first"]}"; keep one'
    )
    kind = f"contradicts {where}"
    return Refusal(str(row["file"]), int(row[tables.ROW]), "label", kind, reason)


def _different(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Rows for whose image and reviewer ``others`` has another label (``*_first``), in order."""
    pairs = rows.join(others, on=_KEY, suffix="_first", maintain_order="left")
    return pairs.filter(pl.col("label") != pl.col("label_first"))


def _capped(name: str, faults: list[Refusal]) -> list[Refusal]:
    if len(faults) <= MAX_FAULTS:
        return faults
    more = "and more faults of these kinds"
    return [*faults[:MAX_FAULTS], Refusal(name, None, None, more, more)]


def _canonical(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each image and reviewer, by these; of equal judgements that of the first file.

    The first, because a row in force must stay recorded under the file in whose place it stands
    when that is refused: else the next reading would find another order of files.
    """
    return rows.sort("file", *COLUMNS[:-1]).unique(_KEY, keep="first").sort(_KEY)


def _version(reviews: pl.DataFrame) -> str:
    if reviews.is_empty():
        return NO_REVIEWS
    return files.digest(reviews.select(_VERSIONED).rows())
