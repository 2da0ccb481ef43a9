"""Given labels: the ones a person hands over in one file, and how they meet other rows.

Belongs: reading a label file, refusing unknown classes and images, the version of given labels.
Does not: labels inside the dataset's manifest (``dataset``), reviews (``drop``), consensus.
Concept: one label an image; absent is null, and a label never decides which rows exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some, unknown_class
from dagster_project.lib.labels.names import folded

_COLUMNS = ("image_uuid", "label")


def read_labels(path: Path, classes: Sequence[str] | None = None) -> pl.DataFrame:
    """Read the label file of ``--labels``.

    Parameters
    ----------
    path : CSV or parquet with the columns ``image_uuid, label``; others are left out.
    classes : (K,) known class names; None takes every name.

    Returns
    -------
    (N,) ``image_uuid, label``, both text, in file order.

    Raises
    ------
    InputError
        Missing column, empty cell, ids that are neither text nor whole numbers, an image on two
        rows, a label that is no known class.
    """
    return _checked(tables.read_table(path, [*_COLUMNS], row_numbers=True), path, classes)


def labels_on(path: Path, ids: pl.Series, classes: Sequence[str]) -> pl.DataFrame:
    """The labels of a file for the images ``ids``, in the order of ``ids``.

    A file with a column ``status`` is what cleaning wrote: of all splits, so that other images are
    passed over, and with images that nobody can use, so that an empty label is no label. In any
    other file both are faults, as of :func:`read_labels` and :func:`join_labels`.
    """
    frame = tables.read_table(path, [*_COLUMNS], row_numbers=True)
    cleaned = "status" in frame.columns
    labels = _checked(frame, path, classes, gaps=cleaned)
    if cleaned:
        labels = labels.filter(labels["image_uuid"].is_in(ids.implode()))
    return join_labels(ids, labels, source=path.name)


def _checked(
    frame: pl.DataFrame, path: Path, classes: Sequence[str] | None, *, gaps: bool = False
) -> pl.DataFrame:
    frame = frame.select(
        tables.ROW, text_ids(path.name, frame["image_uuid"]), pl.col("label").cast(pl.String)
    )
    for column in _COLUMNS[:1] if gaps else _COLUMNS:
        empty = frame.filter(pl.col(column).is_null())
        if empty.height:
            row = empty[tables.ROW][0]
            raise InputError(
                f"{path.name} row {row}, column {column}: empty ({empty.height} such rows); "
                "fill it in or remove the row"
            )
    again = frame.filter(~pl.col("image_uuid").is_first_distinct())
    if again.height:
        raise InputError(
            f"{path.name} row {again[tables.ROW][0]}, column image_uuid: "
            f"{some(tables.duplicates(frame, 'image_uuid'))} on more than one row; keep one"
        )
    if classes is not None:
        check_known(frame, classes, source=path.name)
    return frame.drop(tables.ROW)


def text_ids(name: str, ids: pl.Series) -> pl.Series:
    """A column of image ids as text.

    Raises
    ------
    InputError
        It is neither text nor whole numbers: the id 7, stored as 7.0, would match no 7 elsewhere.
    """
    kind = ids.dtype
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(
            f"{name}, column {ids.name}: expected text or whole numbers, got {kind}; "
            f"write {ids.name} as text, as it is in the other tables"
        )
    return ids.cast(pl.String)


def check_labels(labels: pl.DataFrame, classes: Sequence[str]) -> None:
    """Raise unless ``labels`` are ``image_uuid, label``, an image a row, of ``classes`` or null."""
    tables.require_columns("labels", labels.columns, ["image_uuid", "label"])
    twice = tables.duplicates(labels, "image_uuid")
    if twice:
        raise InputError(f"labels, column image_uuid: {some(twice)} on more than one row; keep one")
    check_known(labels, classes, source="labels")


def check_known(labels: pl.DataFrame, classes: Sequence[str], *, source: str) -> None:
    """Raise if a label is not one of ``classes``; a null label is no fault.

    Parameters
    ----------
    labels : ``image_uuid, label``; with a ``__row`` column the message names that row, else the
        image.
    classes : (K,) known names.
    source : where the labels come from, for the message.
    """
    wrong = labels.filter(pl.col("label").is_not_null() & ~pl.col("label").is_in(list(classes)))
    if wrong.is_empty():
        return
    first = wrong.row(0, named=True)
    where = (
        f"{source} row {first[tables.ROW]}"
        if tables.ROW in labels.columns
        else f'{source}, image "{first["image_uuid"]}"'
    )
    more = f" ({wrong.height} such rows)" if wrong.height > 1 else ""
    raise InputError(
        f"{where}, column label: {unknown_class(first['label'], classes)}{more}. "
        "Correct it or pass --classes."
    )


def join_labels(ids: pl.Series, labels: pl.DataFrame, *, source: str = "labels") -> pl.DataFrame:
    """The labels of the images ``ids``, in the order of ``ids``.

    Parameters
    ----------
    ids : (N,) unique image ids, text.
    labels : ``image_uuid, label``, an image at most once.
    source : where the labels come from, for the message.

    Returns
    -------
    (N,) ``image_uuid, label``; null where there is no label, so ``label.null_count()`` is the
    number of rows without one.

    Raises
    ------
    InputError
        A label belongs to an image that is not in ``ids``.

    >>> labels = pl.DataFrame({"image_uuid": ["b"], "label": ["acne"]})
    >>> join_labels(pl.Series(["a", "b"]), labels)["label"].to_list()
    [None, 'acne']
    """
    rows = pl.DataFrame({"image_uuid": ids})
    unknown = labels.join(rows, on="image_uuid", how="anti", maintain_order="left")
    if unknown.height:
        raise InputError(
            f"{source}, column image_uuid: {unknown.height} labels for unknown images: "
            f"{some(unknown['image_uuid'])}; remove them or pass the table that has these images"
        )
    columns = labels.select("image_uuid", "label")
    return rows.join(columns, on="image_uuid", how="left", maintain_order="left")


def verified_images(index: pl.DataFrame, rule: str) -> pl.Series:
    """Images whose given label is proven, by a column of the dataset.

    Parameters
    ----------
    index : ``image_uuid`` and metadata columns.
    rule : ``column=value`` or ``column=value|value``; capitals and stray blanks do not matter.

    Returns
    -------
    ``image_uuid`` in the order of ``index``.

    Raises
    ------
    InputError
        Not of that form, no such column, or no row with such a value: a rule that finds nothing
        would protect nothing.

    >>> index = pl.DataFrame({"image_uuid": ["a", "b"], "biopsed": ["True", "no"]})
    >>> verified_images(index, "biopsed=true|yes").to_list()
    ['a']
    """
    column, _, values = (part.strip() for part in rule.partition("="))
    wanted = [folded(value) for value in values.split("|") if value.strip()]
    if not column or not wanted:
        raise InputError(f'verified labels "{rule}": expected column=value or column=value|value')
    if column not in index.columns:
        raise InputError(
            f'verified labels "{rule}": the dataset has no column {column}; '
            f"it has {some(index.columns, 12)}"
        )
    text = index[column].cast(pl.String)
    proven = [value is not None and folded(value) in wanted for value in text]
    if not any(proven):
        raise InputError(
            f'verified labels "{rule}": no row has that; column {column} '
            f"holds {some(text.drop_nulls().unique().sort(), 6)}"
        )
    return index["image_uuid"].filter(pl.Series(proven, dtype=pl.Boolean))


def given_version(labels: pl.DataFrame) -> str:
    """Data version of given labels, of ``image_uuid`` and ``label`` only.

    The same for the same labels in any row order and any text dtype; an image without a label
    (null) is part of it, an image that is not there is not.
    """
    text = labels.select(pl.col("image_uuid", "label").cast(pl.String))
    # sorting by both columns takes several times the memory of sorting by one
    unique = text["image_uuid"].hash().n_unique() == text.height
    return tables.digest_frame(text.sort("image_uuid", *([] if unique else ["label"])))
