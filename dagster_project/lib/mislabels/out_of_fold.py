"""Out-of-fold probabilities: each row scored by a model that did not see its patient.

Belongs: checking the ``fold`` column of a probability table, alone or against an assignment.
Does not: making an assignment (``folds``), training, reading either file's probabilities.
Concept: ``fold`` names the fold that was held out from the model which scored the row. Where all
rows of a patient carry one fold, and it is the one the patient was assigned to, that model was
trained on other patients. That it really was trained so, no table can show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import text_ids

UNPROVEN = "that the models were trained so cannot be seen from a table"
FOLD_COLUMNS = ("image_uuid", "patient_id", "fold")


@dataclass(frozen=True)
class FoldCheck:
    """What was verified of a ``fold`` column that stood the check.

    Attributes
    ----------
    n_folds, n_patients : among the rows with probabilities.
    assignment : name of the file the folds were compared with; None: only with each other.
    """

    n_folds: int
    n_patients: int
    assignment: str | None

    @property
    def means(self) -> str:
        """A sentence that goes wherever the numbers go."""
        against = (
            f"equal to {self.assignment} by image and patient"
            if self.assignment
            else "no patient in two folds, not compared with an assignment"
        )
        return (
            f"Out of fold: {self.n_patients} patients in {self.n_folds} folds, {against}; each row "
            f"names the fold held out from the model that scored it ({UNPROVEN})."
        )


def in_sample_of(stated: bool | None, checked: FoldCheck | None) -> bool | None:
    """Whether the model was trained on these rows: as stated, unless folds say that it was not.

    Raises
    ------
    InputError
        It is stated that it was, and the folds, which stood the check, say that it was not.
    """
    if checked is None:
        return stated
    if stated:
        raise InputError(
            "--in-sample, but the column fold says that each row was scored by a model which did "
            "not see its patient; leave one of them out"
        )
    return False


def check_folds(
    rows: pl.DataFrame, paths: Sequence[Path], *, assignment: Path | None = None
) -> FoldCheck | None:
    """Check that no row was scored by a model that was trained on its patient.

    Parameters
    ----------
    rows : of a probability table: ``image_uuid``, and ``fold``, ``patient_id``, ``error`` where
        there are such columns. Rows with an error have no probabilities, and are not looked at.
    paths : the parquet files they come from, in order; for messages.
    assignment : the file that ``tier-refit folds`` wrote. Every row must be in it, with the same
        fold and, where the table names it, the same patient; it may hold more images.

    Returns
    -------
    What was verified; None where the table has no ``fold`` column and no assignment is given.

    Raises
    ------
    InputError
        A row without a fold, one fold only, unknown patients, a patient in two folds (of the table
        or of the assignment), or a row that differs from the assignment. Patients are counted, not
        named.
    """
    names = some([path.name for path in paths], 1)
    if "fold" not in rows.columns:
        if assignment is None:
            return None
        raise InputError(
            f"{names}: missing column 'fold'; {assignment.name} can only be compared with the "
            "fold that was held out from the model which scored each row: export it too"
        )
    place = partial(_place, paths)
    scored = rows.with_row_index(tables.ROW)
    if "error" in rows.columns:
        scored = scored.filter(pl.col("error").is_null())
    without = scored.filter(pl.col("fold").is_null())
    if without.height:
        raise InputError(
            f"{place(without[tables.ROW][0])}, column fold: empty ({without.height} such rows); "
            "every row needs the fold that was held out from the model which scored it"
        )
    if assignment is not None:
        scored = _against(scored, place, assignment)
    elif "patient_id" not in rows.columns or scored["patient_id"].null_count():
        raise InputError(
            f"{names}, column patient_id: missing or empty, so that folds cannot be checked by "
            "patient; add it, or pass the file of `tier-refit folds` with --folds"
        )
    _require_whole_patients(scored, place)
    if (n_folds := scored["fold"].n_unique()) < 2:
        raise InputError(
            f"{names}, column fold: {n_folds} fold in all, so that nothing was held out from "
            "anything; leave the column out if there were no folds"
        )
    name = None if assignment is None else assignment.name
    return FoldCheck(n_folds, scored["patient_id"].n_unique(), name)


def _place(paths: Sequence[Path], row: int) -> str:
    """File and row, as a person counts them, of a row of all files together."""
    for path in paths[:-1]:
        if row < (height := tables.parquet_rows(path)):
            return f"{path.name} row {row + 1}"
        row -= height
    return f"{paths[-1].name} row {row + 1}"


def _against(scored: pl.DataFrame, place: Callable[[int], str], path: Path) -> pl.DataFrame:
    """``scored`` with the patients of the assignment, once every row agrees with it."""
    assigned = read_folds(path).rename({"patient_id": "assigned_patient", "fold": "assigned_fold"})
    joined = scored.join(assigned, on="image_uuid", how="left", maintain_order="left")
    missing = joined.filter(pl.col("assigned_fold").is_null())
    if missing.height:
        raise InputError(
            f"{place(missing[tables.ROW][0])}, column image_uuid: not in {path.name} "
            f"({missing.height} such rows); pass the assignment that the models were trained with"
        )
    if "patient_id" in scored.columns:
        others = joined.filter(pl.col("patient_id") != pl.col("assigned_patient"))
        if others.height:
            raise InputError(
                f"{place(others[tables.ROW][0])}, column patient_id: another patient than in "
                f"{path.name} ({others.height} such rows); pass the assignment of this dataset"
            )
    seen = joined.filter(pl.col("fold") != pl.col("assigned_fold"))
    if seen.height:
        first = seen.row(0, named=True)
        raise InputError(
            f"{place(first[tables.ROW])}, column fold: {first['fold']}, assigned to "
            f"{first['assigned_fold']} in {path.name} ({seen.height} such rows of "
            f"{seen['assigned_patient'].n_unique()} patients): a model saw the patient that it "
            "scored; score each row with the model that its own fold was held out from"
        )
    return joined.with_columns(patient_id="assigned_patient")


def _require_whole_patients(rows: pl.DataFrame, place: Callable[[int], str]) -> None:
    pairs = rows.select("patient_id", "fold").unique()
    torn = pairs.filter(pl.col("patient_id").is_duplicated())["patient_id"].unique()
    if torn.len():
        first = rows.filter(pl.col("patient_id").is_in(torn.implode()))[tables.ROW][0]
        raise InputError(
            f"{place(first)}, column fold: {torn.len()} patients are in two folds, so that a model "
            "saw the patient that it scored; assign folds by patient (`tier-refit folds`)"
        )


def read_folds(path: Path) -> pl.DataFrame:
    """The assignment of ``tier-refit folds``: ``image_uuid, patient_id, fold``, all text.

    Raises
    ------
    InputError
        A column missing or empty, an image twice, a patient in two folds.
    """
    frame = tables.read_table(path, FOLD_COLUMNS, row_numbers=True)
    frame = frame.select(tables.ROW, *(text_ids(path.name, frame[name]) for name in FOLD_COLUMNS))
    for name in FOLD_COLUMNS:
        empty = frame[name].is_null()
        if empty.any():
            row = frame[tables.ROW][int(empty.arg_max() or 0)]
            raise InputError(f"{path.name} row {row}, column {name}: empty; fill it in")
    twice = tables.duplicates(frame, "image_uuid")
    if twice:
        raise InputError(
            f"{path.name}, column image_uuid: {some(twice)} on more than one row; keep one"
        )
    _require_whole_patients(frame, lambda row: f"{path.name} row {row}")
    return frame.drop(tables.ROW)
