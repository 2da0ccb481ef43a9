"""Scores with what is true of each row, oriented so that a high one is accepted.

Belongs: the arrays that the rest of this room counts, and reading them from a file nobody vouches
for.
Does not: what a score is (``gauge``), any rate (``sweep``).
Concept: bottom is ``fault or score < tau``, strict: a row at tau is answered. What is not finite
is a fault. N = rows, P = groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.files import sha256_file
from dagster_project.lib.gate.gauge import check_recorded, joined, recorded_in, sign_of
from dagster_project.lib.gate.split import divided

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from dagster_project.lib.gate.config import GateConfig, Gauge, Identity

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

REQUIRED = ("score", "in_range")
OPTIONAL = ("fault", "group", "direction_true", "direction_pred")
MAX_SIDES = 10
_SHOWN = 40
"""Characters of a cell that a message shows at most."""


@dataclass(frozen=True)
class Direction:
    """On which side of the range a row lies, and on which the model says it does.

    Attributes
    ----------
    names : of the sides, sorted. true : (N,) int8 number into ``names``, -1 in range.
    pred : (N,) int8 number into ``names``: what is said where no answer is given.
    """

    names: tuple[str, ...]
    true: npt.NDArray[np.int8]
    pred: npt.NDArray[np.int8]


@dataclass(frozen=True)
class GateScores:
    """N rows to choose a threshold on.

    Attributes
    ----------
    score : (N,) float32 or float64 as in the file; negated where the gauge accepts low ones, so
        that in here score < tau is bottom. Not finite: see ``fault``.
    in_range : (N,) bool, whether the row should be answered; the others are censored.
    fault : (N,) bool, no finite score, or flagged by the file: bottom at every tau.
    group : (N,) int64 in 0..P-1 by sha256 of the name; None where the file has no groups.
    n_groups : P; N where there are no groups.
    first : (N,) bool, calibration rows (``split``); the others evaluate.
    direction : None where the file has none.
    gauge, identity : as recorded; see ``gauge``.
    source : plain JSON on where the rows come from: ``sha256`` of the file, ``rows``, ``dtype``,
        ``columns``, ``infinite`` and ``nan`` (counts), ``groups``, ``rows_without_group`` (of a
        file with groups), ``calibration_share``.
    """

    score: npt.NDArray[Any]
    in_range: Bools
    fault: Bools
    group: Ints | None
    n_groups: int
    first: Bools
    direction: Direction | None
    gauge: Gauge
    identity: Identity
    source: dict[str, Any]

    def __len__(self) -> int:
        """N, rows."""
        return int(self.score.size)


def read_scores(path: Path, config: GateConfig) -> GateScores:
    """Scores from a parquet file.

    Parameters
    ----------
    path : columns ``score`` (float32 or float64; null or NaN: no score), ``in_range`` (bool);
        optional ``fault`` (bool), ``group`` (text or whole numbers; a row without one is its own),
        ``direction_true`` (text; read of censored rows, each of which must have one) with
        ``direction_pred`` (text; null: nothing is said). Other columns are not read. Key-value
        metadata ``gauge`` and ``identity`` (JSON) are what the scores are.

    Raises
    ------
    InputError
        File, row or column, and the mend; a gauge that is not the configured one.
    """
    name = path.name
    with _unchanged(path) as sha256:
        schema = tables.read_schema(path)
        tables.require_columns(name, schema.names, REQUIRED)
        recorded, stated = recorded_in(tables.metadata_of(schema.empty_table()), name=name)
        check_recorded(recorded, config, name=name)
        has = {column for column in (*REQUIRED, *OPTIONAL) if column in schema.names}
        score, in_range = _score(path), _flags(path, "in_range")
        if not score.size:
            raise InputError(f"{name}: no row; a threshold is chosen on scores")
        found = make_scores(
            score,
            in_range,
            config,
            fault=_flags(path, "fault") if "fault" in has else None,
            group=_text(path, "group") if "group" in has else None,
            direction=_direction(path, has, in_range, config.directions),
            identity=joined(stated, config.identity, name=name),
            name=name,
        )
    found.source.update(sha256=sha256, columns=sorted(has))
    return found


@dataclass(frozen=True)
class Unlabelled:
    """Scores of cases of which nothing is known yet, as a model in service gives them.

    Attributes
    ----------
    score : (N,) float32 or float64, in the file's own units. fault : (N,) bool, flagged by the
        file; what is not finite is not added. gauge, identity : as the file records them, or None.
    sha256 : of the file.
    """

    score: npt.NDArray[Any]
    fault: Bools
    gauge: Gauge | None
    identity: Identity | None
    sha256: str


def read_unlabelled(path: Path) -> Unlabelled:
    """``score`` and, where it is there, ``fault`` of a parquet file; labels are not looked at.

    Raises
    ------
    InputError
        File, row or column, and the mend; no row.
    """
    name = path.name
    with _unchanged(path) as sha256:
        schema = tables.read_schema(path)
        tables.require_columns(name, schema.names, ["score"])
        score = _score(path)
        if not score.size:
            raise InputError(f"{name}: no row; rates are of scores")
        flagged = "fault" in schema.names
        fault = _flags(path, "fault") if flagged else np.zeros(score.size, dtype=bool)
    recorded, stated = recorded_in(tables.metadata_of(schema.empty_table()), name=name)
    return Unlabelled(score, fault, recorded, stated, sha256)


def observe(path: Path) -> dict[str, Any]:
    """What tells one scores file from another, without reading its scores.

    Returns
    -------
    ``sha256`` of the content, ``rows``, ``in_range``, ``censored``, ``gauge`` and ``identity``
    (as the file records them, plain JSON, or null).

    Raises
    ------
    InputError
        No such file, no parquet, no bool column ``in_range``.
    """
    name = path.name
    with _unchanged(path) as sha256:
        schema = tables.read_schema(path)
        tables.require_columns(name, schema.names, ["in_range"])
        in_range = _flags(path, "in_range")
    inside = int(in_range.sum())
    gauge, identity = recorded_in(tables.metadata_of(schema.empty_table()), name=name)
    return {
        "sha256": sha256,
        "rows": in_range.size,
        "in_range": inside,
        "censored": in_range.size - inside,
        "gauge": gauge and gauge.model_dump(mode="json"),
        "identity": identity and identity.model_dump(mode="json"),
    }


def make_scores(
    score: npt.NDArray[Any],
    in_range: Bools,
    config: GateConfig,
    *,
    fault: Bools | None = None,
    group: pl.Series | None = None,
    direction: Direction | None = None,
    identity: Identity | None = None,
    name: str = "scores",
) -> GateScores:
    """Scores from arrays of a notebook, in their own units.

    Parameters
    ----------
    score : (N,) float32 or float64. in_range, fault : (N,) bool.
    config : its gauge, its identity unless one is given, and its split count.
    group : (N,) names; null: the row is a group of its own. name : of the scores, for messages.

    Raises
    ------
    InputError
        Not float; flags that are not bool; lengths differ; an empty name of a group; a negative
        magnitude; one half of the split is empty.
    """
    gauge = config.gauge
    _check_arrays(score, {"in_range": in_range, "fault": fault}, group, name)
    finite = np.isfinite(score)
    if gauge.magnitude == "abs" and (score[finite] < 0).any():
        row = int(np.flatnonzero(finite & (score < 0))[0])
        raise InputError(
            f"{name} row {row + 1}, column score: {score[row]:g} is negative, and the gauge's "
            "magnitude is abs; take absolute values, or name the convention"
        )
    flagged = np.zeros(score.size, dtype=bool) if fault is None else fault
    groups = divided(score.size, config.split.calibration, group, name=name)
    first, n_groups = groups.first, groups.n
    if first.all() or not first.any():
        raise InputError(
            f"{name}: all rows fall on one side of the division ({n_groups} groups or rows); more "
            "groups are needed, or another split.calibration"
        )
    return GateScores(
        score=score if sign_of(gauge) > 0 else -score,
        in_range=in_range,
        fault=flagged | ~finite,
        group=groups.number,
        n_groups=n_groups,
        first=first,
        direction=direction,
        gauge=gauge,
        identity=config.identity if identity is None else identity,
        source={
            "rows": int(score.size),
            "in_range": int(in_range.sum()),
            "censored": int((~in_range).sum()),
            "dtype": str(score.dtype),
            "nan": int(np.isnan(score).sum()),
            "infinite": int(np.isinf(score).sum()),
            "flagged_faults": int(flagged.sum()),
            "groups": None if group is None else n_groups,
            **({} if group is None else {"rows_without_group": groups.unnamed}),
            "calibration_share": config.split.calibration,
        },
    )


def _check_arrays(
    score: npt.NDArray[Any], flags: Mapping[str, Bools | None], group: pl.Series | None, name: str
) -> None:
    sizes = {len(x) for x in (score, *flags.values(), group) if x is not None}
    if score.dtype not in (np.float32, np.float64) or score.ndim != 1 or len(sizes) != 1:
        raise InputError(
            f"{name}: {score.dtype} scores of shape {score.shape} and lengths {sorted(sizes)}; "
            "give one dimension of float32 or float64, and one length"
        )
    for column, flag in flags.items():
        found = getattr(flag, "dtype", type(flag).__name__)
        if flag is not None and found != np.bool_:  # ~1 is -2: numbers would be miscounted
            raise InputError(f"{name}, {column}: {found}; an array of bool is needed")


@contextmanager
def _unchanged(path: Path) -> Iterator[str]:
    """The sha256 of a file, which is of the very bytes that are read within."""
    before = sha256_file(tables.existing(path, "scores file"))
    yield before
    if sha256_file(path) != before:
        raise InputError(f"{path.name}: changed while it was read; run it again once it is written")


def _column(path: Path, column: str) -> pa.ChunkedArray:
    """One column at a time, let go after: ten million rows fit."""
    return tables.read_arrow(path, [column]).column(0)


def _score(path: Path) -> npt.NDArray[Any]:
    import pyarrow as pa

    column = _column(path, "score")
    if column.type not in (pa.float32(), pa.float64()):
        raise InputError(
            f"{path.name}, column score: {column.type}; float32 or float64 is needed (float16 and "
            "whole numbers: cast them, so that what is compared is what was written)"
        )
    filled: npt.NDArray[Any] = column.to_numpy()  # a null becomes NaN
    return filled


def _flags(path: Path, column: str) -> Bools:
    import pyarrow as pa

    found, name = _column(path, column), path.name
    if found.type != pa.bool_():
        raise InputError(f"{name}, column {column}: {found.type}; bool is needed")
    if found.null_count:
        row = int(np.flatnonzero(found.is_null().to_numpy())[0]) + 1
        raise InputError(
            f"{name} row {row}, column {column}: empty ({found.null_count} such); say true or false"
        )
    values: Bools = found.to_numpy()
    return values.astype(bool)


def _text(path: Path, column: str) -> pl.Series:
    found = pl.Series(column, pl.from_arrow(_column(path, column)))
    whole = found.dtype.is_integer() and column == "group"
    if not (whole or found.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise InputError(f"{path.name}, column {column}: {found.dtype}; text is needed")
    return found.cast(pl.String)


def _direction(
    path: Path, has: Collection[str], in_range: Bools, declared: tuple[str, ...] | None
) -> Direction | None:
    name = path.name
    both = [column for column in OPTIONAL[2:] if column in has]
    if not both:
        return None
    if len(both) == 1:
        raise InputError(
            f"{name}: column {both[0]} stands alone; direction_true and direction_pred are needed "
            "together"
        )
    true, pred = (_text(path, column) for column in both)
    censored = pl.Series(~in_range)
    missing = np.flatnonzero((censored & true.is_null()).to_numpy())
    if missing.size:
        raise InputError(
            f"{name} row {missing[0] + 1}, column direction_true: empty in a censored row "
            f"({missing.size} such); name its side, or leave out both direction columns"
        )
    used = {*true.filter(censored).unique()} or {*pred.drop_nulls().unique()}
    names = tuple(sorted(used if declared is None else declared))
    if len(names) > MAX_SIDES:
        raise InputError(
            f"{name}, columns direction_true and direction_pred: {len(names)} sides "
            f"({some(names)}); {MAX_SIDES} at most"
        )
    _check_sides(true, censored, names, name)
    _check_sides(pred, pred.is_not_null(), names, name)
    return Direction(
        names, np.where(in_range, np.int8(-1), _numbers(true, names)), _numbers(pred, names)
    )


def _check_sides(found: pl.Series, read: pl.Series, names: Sequence[str], name: str) -> None:
    """Refuse a direction that is none: a misspelt one would be a side of its own, never right."""
    wrong = np.flatnonzero((read & ~found.is_in(list(names))).to_numpy())
    if wrong.size:
        raise InputError(
            f"{name} row {wrong[0] + 1}, column {found.name}: unknown direction "
            f"{found[int(wrong[0])][:_SHOWN]!r} ({wrong.size} such); known are {some(names)}. "
            "Correct it, or, if it is a side that no censored row has, list all under key "
            "directions of the configuration"
        )


def _numbers(found: pl.Series, names: Sequence[str]) -> npt.NDArray[np.int8]:
    number = {side: at for at, side in enumerate(names)}
    coded = found.replace_strict(number, default=-1, return_dtype=pl.Int8)
    return coded.fill_null(-1).to_numpy()
