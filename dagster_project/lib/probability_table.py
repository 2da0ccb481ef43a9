"""The probability table: what every stage after the GPU reads.

Belongs: reading and checking it, from a dump or brought from elsewhere.
Does not: making it (``inference``), labels (``labels``), any statistic.
Concept: one row an image, keyed by ``image_uuid``; K sigmoid outputs in [0, 1] that need not sum
to 1; class names travel with the file. N = rows, K = classes. A table that is only scored may stay
on disk: its rows are read, its probabilities pass by in batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import check_known, text_ids
from dagster_project.lib.row_ids import read_row_ids, with_ids

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

VIEWS = ("probs", "probs_production_plain", "probs_full_tta", "probs_full_plain")
"""Deployed view (production-shaped questionnaire, TTA) first; the other three for comparison."""

ROW_COLUMNS = ("image_uuid", "patient_id", "error", "fold", "label", "true_idx")
"""Columns that say what a row is; all that is read of a file whose probabilities stay on disk."""


BATCH_VALUES = 2_000_000
"""Probabilities of one view that :class:`ProbabilityFiles` holds at a time."""


class Probabilities(Protocol):
    """What scoring needs of a table, be its probabilities in memory or on disk."""

    @property
    def classes(self) -> tuple[str, ...]:
        """(K,) names, unique; order of the outputs."""

    @property
    def frame(self) -> pl.DataFrame:
        """(N,) rows, as in :class:`ProbabilityTable`."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's key-value metadata."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: how the deployed view is stored."""

    def batches(self) -> Iterator[tuple[int, npt.NDArray[np.floating[Any]]]]:
        """The deployed view, in order: the first row of a batch, and its (B, K) values."""


@dataclass(frozen=True)
class ProbabilityTable:
    """Checked probabilities.

    Attributes
    ----------
    classes : (K,) names, unique; order of the outputs.
    frame : (N,) rows: ``image_uuid`` (unique), optional ``patient_id``, ``label`` (class name),
        ``error`` (why a row has no probabilities), ``fold`` (text; the fold that was held out from
        the model which scored the row, checked by ``mislabels.out_of_fold``).
    views : name -> (N, K) float32 or float64, NaN in rows with an error. Has ``probs``.
    metadata : the file's key-value metadata (``model_tree_hash``, ``tta``... when it is a dump).
    """

    classes: tuple[str, ...]
    frame: pl.DataFrame
    views: Mapping[str, npt.NDArray[np.floating[Any]]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def probs(self) -> npt.NDArray[np.floating[Any]]:
        """(N, K) the deployed view."""
        return self.views["probs"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """How the deployed view is stored."""
        return self.probs.dtype

    def batches(self) -> Iterator[tuple[int, npt.NDArray[np.floating[Any]]]]:
        """The deployed view, as one batch."""
        yield 0, self.probs

    def scored(self) -> ProbabilityTable:
        """Only the rows that have probabilities."""
        keep = (
            self.frame["error"].is_null().to_numpy()
            if "error" in self.frame.columns
            else np.ones(self.frame.height, dtype=bool)
        )
        return ProbabilityTable(
            self.classes,
            self.frame.filter(keep),
            {name: view[keep] for name, view in self.views.items()},
            self.metadata,
        )


@dataclass(frozen=True)
class ProbabilityFiles:
    """A table whose probabilities stay in its files; they are checked whenever they pass by.

    Attributes
    ----------
    classes, frame, metadata : as in :class:`ProbabilityTable`.
    dtype : of the deployed view: float32 if every file stores that, else float64.
    files : each parquet file, its number of rows, and what it was when they were read (inode, size,
        time), in the order of ``frame``.
    """

    classes: tuple[str, ...]
    frame: pl.DataFrame
    metadata: Mapping[str, str]
    dtype: np.dtype[Any]
    files: tuple[tuple[Path, int, tuple[int, int, int]], ...]

    def batches(
        self, rows: int | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.floating[Any]]]]:
        """The deployed view, in order: the first row of a batch, and its (B, K) values.

        Parameters
        ----------
        rows : of a batch at most; None: as many as have :data:`BATCH_VALUES` values.

        Raises
        ------
        InputError
            Values as :func:`read_probabilities` refuses them, in any view, once their file is
            read to its end; or a file has been replaced since it was opened.
        """
        at_most = rows or max(1, BATCH_VALUES // len(self.classes))
        first = 0
        for path, height, stamp in self.files:
            part = self.frame.slice(first, height)
            _check_stamp(path, stamp)
            for row, values in _checked_batches(path, part, self.classes, at_most):
                yield first + row, values.astype(self.dtype, copy=False)
            _check_stamp(path, stamp)
            first += height


def open_probabilities(
    paths: Sequence[Path], classes_file: Path | None = None, *, row_ids: Path | None = None
) -> ProbabilityFiles:
    """Read everything but the probabilities, which :meth:`ProbabilityFiles.batches` reads.

    Parameters and errors as :func:`read_probabilities`.
    """
    fallback, wanted = _class_names(paths, classes_file)
    ids = {} if row_ids is None else read_row_ids(row_ids, paths)
    parts: dict[str, ProbabilityTable] = {}
    dtypes: list[np.dtype[Any]] = []
    stamps: list[tuple[int, int, int]] = []
    for path in paths:
        stamps.append(_stamp(path))
        schema = tables.read_schema(path)
        name = str(path)
        table = with_ids(name, tables.read_arrow(path, ROW_COLUMNS), ids)
        columns = [*schema.names, *(c for c in table.column_names if c not in schema.names)]
        parts[name] = _rows(name, table, columns, fallback, wanted)
        dtypes.append(_dtypes(name, schema, parts[name].classes)["probs"])
    joined = _one_table(parts)
    if joined.frame.is_empty():
        raise InputError(f"{some(paths, 1)}: the table has no rows")
    return ProbabilityFiles(
        joined.classes,
        joined.frame,
        joined.metadata,
        np.result_type(*dtypes),
        tuple(
            (path, parts[str(path)].frame.height, stamp)
            for path, stamp in zip(paths, stamps, strict=True)
        ),
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = tables.existing(path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_stamp(path: Path, stamp: tuple[int, int, int]) -> None:
    # rows of one file and probabilities of another would be joined by position
    if _stamp(path) != stamp:
        raise InputError(f"{path}: it was replaced while it was read; run again")


def read_probabilities(
    paths: Sequence[Path], classes_file: Path | None = None, *, row_ids: Path | None = None
) -> ProbabilityTable:
    """Read one table from one or more parquet files (shards), in the order given.

    Parameters
    ----------
    paths : parquet files with ``image_uuid`` and ``probs`` or ``prob_<class>`` columns.
    classes_file : one class a line; needed only where the parquet does not name its classes and
        no ``labels.txt`` lies beside it. Where it is given, the parquet must have exactly these.
    row_ids : ids of files that have no ``image_uuid``, row by row (``row_ids.read_row_ids``).

    Raises
    ------
    InputError
        No rows, duplicate id, a value outside [0, 1] or NaN, wrong width, classes that differ
        between files, from ``classes_file``, or are not known.
    """
    fallback, wanted = _class_names(paths, classes_file)
    ids = {} if row_ids is None else read_row_ids(row_ids, paths)
    table = from_arrow(
        {str(path): with_ids(str(path), tables.read_arrow(path), ids) for path in paths},
        fallback,
        wanted_classes=wanted,
    )
    if table.frame.is_empty():
        raise InputError(f"{some(paths, 1)}: the table has no rows")
    return table


def _class_names(
    paths: Sequence[Path], classes_file: Path | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Names for files that bring none, and names that every file must have."""
    if not paths:
        raise InputError("no probability files given")
    if len({str(path) for path in paths}) < len(paths):
        raise InputError(f"{some(paths)}: a file is given twice; give each once")
    if classes_file is None:
        return _classes_beside(paths), None
    return None, read_classes(classes_file)


def _classes_beside(paths: Sequence[Path]) -> tuple[str, ...] | None:
    files = [p.parent / "labels.txt" for p in paths if (p.parent / "labels.txt").is_file()]
    lists = [read_classes(p) for p in files]
    if len(set(lists)) > 1:
        raise InputError(f"{some(files)}: they differ; dump all shards with one model")
    return lists[0] if lists else None


def from_arrow(
    named: Mapping[str, pa.Table],
    fallback_classes: Sequence[str] | None = None,
    *,
    wanted_classes: Sequence[str] | None = None,
) -> ProbabilityTable:
    """Check and join the arrow tables of one split; keys are used in messages only.

    Parameters
    ----------
    named : tables; one may be empty (a split with fewer images than shards).
    fallback_classes : names for a table that brings none.
    wanted_classes : names that every table must have, no more and no fewer.
    """
    parts = {
        name: _checked(name, table, fallback_classes, wanted_classes)
        for name, table in named.items()
    }
    joined = _one_table(parts)
    views = [v for v in VIEWS if all(v in part.views for part in parts.values())]
    values = {v: np.concatenate([part.views[v] for part in parts.values()]) for v in views}
    return ProbabilityTable(joined.classes, joined.frame, values, joined.metadata)


def _one_table(parts: Mapping[str, ProbabilityTable]) -> ProbabilityTable:
    """The rows of all parts as one table without views; of one model, each image once."""
    names = list(parts)
    first = parts[names[0]]
    for name in names[1:]:
        if parts[name].classes != first.classes:
            raise InputError(
                f"{name}: its classes differ from those of {names[0]}; dump both with one model"
            )
        _same_model(names[0], first, name, parts[name])
    frame = pl.concat([part.frame for part in parts.values()], how="diagonal_relaxed")
    twice = tables.duplicates(frame, "image_uuid")
    if twice:
        raise InputError(
            f"{some(names, 1)}: column image_uuid: {some(twice)} on more than one row; "
            "each image may appear once"
        )
    return ProbabilityTable(first.classes, frame, {}, _joined_metadata(list(parts.values())))


def _joined_metadata(parts: Sequence[ProbabilityTable]) -> dict[str, str]:
    """The first table's metadata, with ``identities``: the data version of every dump in order.

    Sorted, so that the order in which shards are given changes nothing; left out if one has none.
    """
    found = dict(parts[0].metadata)
    versions = [part.metadata.get("identity") for part in parts]
    known = sorted(version for version in versions if version)
    if len(known) == len(parts):
        found["identities"] = json.dumps(known)
    return found


def too_many_errors(failed: int, rows: int, max_share: float) -> str | None:
    """Why more than ``max_share`` of a dump's rows have no probabilities; None if they have.

    >>> too_many_errors(3, 60, 0.05)
    >>> too_many_errors(4, 60, 0.05)[:57]
    '4 of 60 rows have no probabilities (6.7 %, allowed 5.0 %)'
    """
    if failed <= max_share * rows:
        return None
    return (
        f"{failed} of {rows} rows have no probabilities ({100 * failed / rows:.1f} %, allowed "
        f"{100 * max_share:.1f} %); column error says why: mend the images and dump again, or "
        "raise the limit"
    )


def completeness_problems(
    shards: Mapping[str, pa.Table],
    image_uuids: pl.Series,
    n_shards: int,
    max_error_share: float = 1.0,
) -> list[str]:
    """Why ``shards`` are not one whole dump of ``image_uuids``; empty when they are.

    Whole means: every image on exactly one row, nothing else, one model and one setting in all
    shards, each dumped for ``n_shards`` shards (a fit on 8 of 16 otherwise succeeds in silence),
    and at most ``max_error_share`` of the rows without probabilities.
    """
    if not shards:
        return ["no shard has been dumped"]
    try:
        frame = from_arrow(shards).frame
    except InputError as error:
        return [str(error)]
    found = frame["image_uuid"]
    failed = int(frame["error"].is_not_null().sum()) if "error" in frame.columns else 0
    errors = too_many_errors(failed, frame.height, max_error_share)
    problems = [errors] if errors else []
    other = sorted(
        k for k, t in shards.items() if tables.metadata_of(t).get("n_shards") != str(n_shards)
    )
    if other:
        problems.append(f"shards {some(other)} were dumped for another number of shards")
    missing = image_uuids.filter(~image_uuids.is_in(found.to_list()))
    if missing.len():
        problems.append(f"{missing.len()} of {image_uuids.len()} images have no row")
    extra = found.filter(~found.is_in(image_uuids.to_list()))
    if extra.len():
        problems.append(f"{extra.len()} rows are of images that are not in the split")
    return problems


def read_classes(path: Path) -> tuple[str, ...]:
    """``labels.txt``: one class name a line, order = output index, no blanks or repeats."""
    try:
        lines = tables.existing(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not UTF-8; save it as UTF-8 text") from None
    names = tuple(line.strip() for line in lines)
    for row, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"{path.name} row {row}: empty class name; remove the line")
        if name in names[: row - 1]:
            raise InputError(f'{path.name} row {row}: class "{name}" appears twice; keep one')
    if len(names) < 2:
        raise InputError(f"{path.name}: at least two classes are needed")
    return names


def _same_model(name_a: str, a: ProbabilityTable, name_b: str, b: ProbabilityTable) -> None:
    for key in ("model_tree_hash", "tta", "dtype", "device"):
        if a.metadata.get(key) != b.metadata.get(key):
            raise InputError(
                f"{name_b}: {key} is {b.metadata.get(key)}, in {name_a} it is "
                f"{a.metadata.get(key)}; dump all shards with one model and one setting"
                + (" (cpu or cuda, not auto)" if key == "device" else "")
            )


def _checked(
    name: str,
    table: pa.Table,
    fallback: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> ProbabilityTable:
    part = _rows(name, table, table.column_names, fallback, wanted)
    failed = _failed(part.frame)
    views = _values(name, table, part.classes, failed)
    for view, values in views.items():
        bad = _bad_rows(values, failed)
        if bad.size:
            row = int(bad[0])
            raise _range_error(name, view, (row, values[row]), part.frame, bad.size)
        values[failed] = np.nan  # whatever stands in a row with an error is no probability
    return ProbabilityTable(part.classes, part.frame, views, part.metadata)


def _rows(
    name: str,
    table: pa.Table,
    columns: Sequence[str],
    fallback: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> ProbabilityTable:
    """Everything but the views, of a table that has at least :data:`ROW_COLUMNS` of ``columns``."""
    if "image_uuid" not in columns:
        raise InputError(
            f"{name}: missing column 'image_uuid'; it has {some(columns, 12)}. Rename or add the "
            "column, or, if the order of its rows is documented, pass --row-ids with file, row, "
            "image_uuid of every row"
        )
    metadata = tables.metadata_of(table)
    classes = _classes(name, columns, metadata, fallback, wanted)
    kept = [c for c in ("image_uuid", "patient_id", "error", "fold") if c in columns]
    frame = pl.DataFrame(pl.from_arrow(table.select(kept)))
    frame = frame.with_columns(
        *(text_ids(name, frame[c]) for c in kept if c in ("image_uuid", "fold")),
        *(pl.col(c).cast(pl.String) for c in kept if c in ("patient_id", "error")),
    )
    if frame["image_uuid"].null_count():
        row = int(frame["image_uuid"].is_null().arg_max() or 0) + 1
        raise InputError(f"{name} row {row}, column image_uuid: empty; every row needs an id")
    label = _labels(name, table, classes)
    if label is not None:
        frame = frame.with_columns(label)
    return ProbabilityTable(classes, frame, {}, metadata)


def _failed(frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """(N,) which rows have an error in place of probabilities."""
    if "error" not in frame.columns:
        return np.zeros(frame.height, dtype=bool)
    return frame["error"].is_not_null().to_numpy()


def _checked_batches(
    path: Path, frame: pl.DataFrame, classes: Sequence[str], at_most: int
) -> Iterator[tuple[int, npt.NDArray[np.floating[Any]]]]:
    """The deployed view of one file in batches, while every view is checked.

    A value out of range is raised at the end of the file, because the message counts them.
    """
    name, failed = str(path), _failed(frame)
    columns = _value_columns(tables.read_schema(path).names, classes)
    faults: dict[str, tuple[int, npt.NDArray[np.floating[Any]], int]] = {}
    first = 0
    for table in tables.read_arrow_batches(path, columns, at_most):
        here = failed[first : first + table.num_rows]
        views = _values(name, table, classes, here, first)
        for view, values in views.items():
            bad = _bad_rows(values, here)
            if bad.size:
                found = faults.get(view, (first + int(bad[0]), values[bad[0]], 0))
                faults[view] = (*found[:2], found[2] + bad.size)
        if not faults:
            views["probs"][here] = np.nan
            yield first, views["probs"]
        first += table.num_rows
    for view in (v for v in VIEWS if v in faults):
        row, values, n = faults[view]
        raise _range_error(name, view, (row, values), frame, n)


def _classes(
    name: str,
    columns: Sequence[str],
    metadata: Mapping[str, str],
    fallback: Sequence[str] | None,
    wanted: Sequence[str] | None,
) -> tuple[str, ...]:
    """The classes in the order of the outputs; columns have no order of their own but a file's."""
    if "probs" not in columns:
        found = _classes_of_columns(name, columns)
        _check_wanted(f"{name}, columns 'prob_<class>'", found, wanted)
        return tuple(wanted or found)
    if "classes" in metadata:
        found = _classes_of_metadata(name, metadata["classes"])
        _check_wanted(f"{name}, parquet metadata 'classes'", found, wanted)
        return found
    names = wanted or fallback
    if names is None:
        raise InputError(
            f"{name}: class names are unknown; put labels.txt beside it or pass --classes"
        )
    return tuple(names)


def _classes_of_columns(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    wide = tuple(c.removeprefix("prob_") for c in columns if c.startswith("prob_"))
    if len(wide) < 2:
        raise InputError(
            f"{name}: no column 'probs' and no 'prob_<class>' columns; it has {some(columns, 12)}"
        )
    return wide


def _classes_of_metadata(name: str, text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not (isinstance(found, list) and all(isinstance(c, str) for c in found)):
        raise InputError(f"{name}: parquet metadata 'classes' is not a JSON list of names")
    if len(found) < 2 or len(set(found)) < len(found):
        raise InputError(f"{name}: parquet metadata 'classes' repeats a name or has only one")
    return tuple(found)


def _check_wanted(where: str, found: Sequence[str], wanted: Sequence[str] | None) -> None:
    if wanted is None or set(found) == set(wanted):
        return
    parts = {
        "not in --classes": [c for c in found if c not in wanted],
        "missing": [c for c in wanted if c not in found],
    }
    said = "; ".join(f"{what}: {some(names)}" for what, names in parts.items() if names)
    raise InputError(f"{where}: {said}. Rename or remove columns, or correct the file of --classes")


def _value_columns(columns: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The columns with probabilities: the views, else one a class."""
    if "probs" in columns:
        return [view for view in VIEWS if view in columns]
    return [f"prob_{name}" for name in classes]


def _dtypes(name: str, schema: pa.Schema, classes: Sequence[str]) -> dict[str, np.dtype[Any]]:
    """How each view is held: float32 if it is stored so, else float64; other types are refused."""
    import pyarrow as pa

    if "probs" in schema.names:
        kinds = {view: schema.field(view).type for view in VIEWS if view in schema.names}
        for view, kind in kinds.items():
            if not (_is_list(kind) and _is_number(kind.value_type)):
                raise InputError(
                    f"{name}, column {view}: expected lists of {len(classes)} numbers, got {kind}"
                )
        stored = {view: [kind.value_type] for view, kind in kinds.items()}
    else:
        for column in (f"prob_{c}" for c in classes):
            if not _is_number(found := schema.field(column).type):
                raise InputError(
                    f"{name}, column {column}: expected numbers, got {found}; "
                    "rename it if it is no class"
                )
        stored = {"probs": [schema.field(f"prob_{c}").type for c in classes]}
    return {
        view: np.dtype(np.float32 if all(map(pa.types.is_float32, kinds)) else np.float64)
        for view, kinds in stored.items()
    }


def _values(
    name: str,
    table: pa.Table,
    classes: Sequence[str],
    failed: npt.NDArray[np.bool_],
    first: int = 0,
) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Each view as a matrix, not yet checked; ``first`` rows of the file come before this table."""
    dtypes = _dtypes(name, table.schema, classes)
    if "probs" not in table.column_names:
        columns = [table.column(f"prob_{c}").to_numpy() for c in classes]
        return {"probs": np.stack(columns, axis=1).astype(dtypes["probs"])}
    return {
        view: _matrix(name, view, table, (first, len(classes)), failed, dtype)
        for view, dtype in dtypes.items()
    }


def _matrix(
    name: str,
    view: str,
    table: pa.Table,
    first_and_width: tuple[int, int],
    failed: npt.NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> npt.NDArray[np.floating[Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    first, width = first_and_width
    column = table.column(view).combine_chunks()
    values = np.full((len(column), width), np.nan, dtype=dtype)
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero((lengths != width) & ~((lengths == -1) & failed))
    if wrong.size:
        row = int(wrong[0])
        got = "nothing" if lengths[row] == -1 else f"{lengths[row]} numbers"
        raise InputError(
            f"{name} row {first + row + 1}, column {view}: {got} where there are {width} classes; "
            "pass the right --classes or mend the row"
        )
    present = column.filter(pc.is_valid(column))
    flat = pc.list_flatten(present).cast(pa.from_numpy_dtype(dtype)).to_numpy(zero_copy_only=False)
    values[lengths == width] = flat.reshape(-1, width)
    return values


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _bad_rows(
    values: npt.NDArray[np.floating[Any]], failed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Rows with a value that is no probability, of those without an error."""
    if values.size and values.min() >= 0 and values.max() <= 1:  # false where one is NaN
        return np.zeros(0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(~((values >= 0) & (values <= 1)).all(axis=1) & ~failed)


def _range_error(
    name: str,
    view: str,
    at: tuple[int, npt.NDArray[np.floating[Any]]],
    frame: pl.DataFrame,
    rows: int,
) -> InputError:
    row, values = at
    value = values[~((values >= 0) & (values <= 1))][0]
    image = frame["image_uuid"][row]
    return InputError(
        f'{name} row {row + 1}, column {view}: {value} (image "{image}") is not in [0, 1]; '
        f"{rows} such rows. Export sigmoid outputs, not logits."
    )


def _labels(name: str, table: pa.Table, classes: Sequence[str]) -> pl.Series | None:
    columns = table.column_names
    if "label" in columns:
        label = pl.Series(pl.from_arrow(table.column("label"))).cast(pl.String).rename("label")
        check_known(pl.DataFrame(label).with_row_index(tables.ROW, 1), classes, source=name)
        return label.cast(pl.Enum(classes)).cast(pl.String)  # each name in memory once
    if "true_idx" in columns:
        index = pl.Series(pl.from_arrow(table.column("true_idx")))
        if not index.dtype.is_numeric():
            raise InputError(f"{name}, column true_idx: expected whole numbers, got {index.dtype}")
        # floats are what pandas makes of whole numbers with gaps
        whole = index.is_between(0, len(classes) - 1) & (index == index.cast(pl.Float64).floor())
        inside = whole | index.is_null()
        if not inside.all():
            row = int((~inside).arg_max() or 0)
            raise InputError(
                f"{name} row {row + 1}, column true_idx: {index[row]} is not in "
                f"0..{len(classes) - 1}"
            )
        names = pl.Series("label", list(classes), dtype=pl.String)
        return names.gather(index.cast(pl.Int64))
    return None
