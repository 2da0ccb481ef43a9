"""The label drop: reviews that dermatologists return as CSV files, read as one value.

Belongs: listing the drop, accepting or refusing each file whole, the version of what is accepted.
Does not: watching (``defs.label_sensor``), consensus (``consensus``), anything that writes.
Concept: a pure function of (files, classes, images, what is in force). A file with a fault counts
as not returned: its last accepted content stays in force. The version hashes accepted content
only, so touching, renaming or reordering files is no new version.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, unknown_class
from dagster_project.lib.labels import drop_source
from dagster_project.lib.labels.drop_source import DropUnreadable

__all__ = ["Drop", "DropUnreadable", "Refusal", "label_version", "read_drop"]

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
    """One fault of a refused file; ``row`` counts as a spreadsheet does (the header is row 1)."""

    file: str
    row: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        """``derm_a.csv row 4, column label: unknown class ...``."""
        row = f" row {self.row}" if self.row is not None else ""
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.file}{row}{column}: {self.reason}"


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

    Files are taken in name order. A refused file contributes its rows of ``in_force`` instead; a
    row of these that contradicts a file earlier in name order is left out. A drop without any
    accepted judgement keeps ``in_force`` as it is.

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
    reviews = _canonical(before if accepted.is_empty() else accepted)
    return Drop(_version(reviews), reviews, tuple(refusals), len(found))


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
        return empty, [Refusal(file.name, None, None, reason)]
    try:
        # The name is given to the refusal, not to the parser, so that its message has only a row.
        frame = tables.parse_csv("", file.data)
        tables.require_columns("", frame.columns, _REQUIRED)
    except InputError as error:
        return empty, [_from_message(file.name, str(error))]
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


def _from_message(name: str, message: str) -> Refusal:
    match = re.match(r"^(?: row (\d+))?: (.*)$", message, re.DOTALL)
    row, reason = match.groups() if match else (None, message)
    return Refusal(name, int(row) if row else None, None, reason)


def _cell_faults(
    judged: pl.DataFrame, classes: Sequence[str], image_uuids: pl.Series
) -> list[Refusal]:
    allowed = [*classes, UNSURE, NOT_USABLE]
    number = pl.col("confidence").cast(pl.Float64, strict=False)
    # NaN is no number here: polars orders it above 1, and a null never passes the filter.
    in_range = number.is_not_nan() & number.is_between(0, 1)
    tests: list[tuple[str, pl.Expr, str]] = [
        ("image_uuid", pl.col("image_uuid").is_null(), "empty; every judgement needs its image"),
        ("reviewer", pl.col("reviewer").is_null(), "empty; every judgement needs its reviewer"),
        (
            "image_uuid",
            ~pl.col("image_uuid").is_in(image_uuids.implode()),
            'unknown image "{}"; return the ids of the packet unchanged',
        ),
        ("label", ~pl.col("label").is_in(allowed), ""),
        (
            "confidence",
            pl.col("confidence").is_not_null() & ~in_range.fill_null(value=False),
            '"{}" is not a number from 0 to 1',
        ),
    ]
    faults: list[Refusal] = []
    for column, wrong, reason in tests:
        for row in judged.filter(wrong).head(_SEEN).iter_rows(named=True):
            said = reason.format(row[column]) if reason else unknown_class(row["label"], allowed)
            faults.append(Refusal(row["file"], row[tables.ROW], column, said))
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
    return Refusal(str(row["file"]), int(row[tables.ROW]), "label", reason)


def _different(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Rows for whose image and reviewer ``others`` has another label (``*_first``), in order."""
    pairs = rows.join(others, on=_KEY, suffix="_first", maintain_order="left")
    return pairs.filter(pl.col("label") != pl.col("label_first"))


def _capped(name: str, faults: list[Refusal]) -> list[Refusal]:
    if len(faults) <= MAX_FAULTS:
        return faults
    return [*faults[:MAX_FAULTS], Refusal(name, None, None, "and more faults of these kinds")]


def _canonical(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each image and reviewer; which of equal judgements stays depends on content."""
    return rows.sort(COLUMNS).unique(_KEY, keep="first", maintain_order=True)


def _version(reviews: pl.DataFrame) -> str:
    if reviews.is_empty():
        return NO_REVIEWS
    return files.digest(reviews.select(_VERSIONED).rows())
