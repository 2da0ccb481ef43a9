"""Folds: patients whole, equal to the assignment, and said in words what was verified."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.mislabels.out_of_fold import UNPROVEN, check_folds, in_sample_of

FOLDS = ["0", "0", "1", "1", "2"]
PATIENTS = ["p0", "p0", "p1", "p2", "p3"]
PATHS = [Path("one.parquet")]


def rows(**columns: list[str | None]) -> pl.DataFrame:
    made = {"image_uuid": list("abcde"), "patient_id": PATIENTS, "fold": FOLDS}
    return pl.DataFrame({**made, **columns})


@pytest.fixture
def assignment(tmp_path: Path) -> Path:
    """What `tier-refit folds` wrote, for one image more."""
    path = tmp_path / "folds.parquet"
    more = pl.DataFrame({"image_uuid": ["z"], "patient_id": ["p9"], "fold": ["4"]})
    pl.concat([rows(), more]).with_columns(pl.col("fold").cast(pl.Int64)).write_parquet(path)
    return path


def test_whole_patients_are_out_of_fold_and_what_was_not_verified_is_said() -> None:
    checked = check_folds(rows(), PATHS)
    assert checked is not None
    assert (checked.n_folds, checked.n_patients, checked.assignment) == (3, 4, None)
    assert "4 patients in 3 folds" in checked.means
    assert "not compared with an assignment" in checked.means
    assert UNPROVEN in checked.means
    assert in_sample_of(None, checked) is in_sample_of(False, checked) is False


def test_an_equal_assignment_is_named(assignment: Path) -> None:
    checked = check_folds(rows(), PATHS, assignment=assignment)
    assert checked is not None
    assert "equal to folds.parquet by image and patient" in checked.means


def test_patients_may_come_from_the_assignment_alone(assignment: Path) -> None:
    without = rows().drop("patient_id")
    checked = check_folds(without, PATHS, assignment=assignment)
    assert checked is not None
    assert checked.n_patients == 4
    with pytest.raises(InputError, match=r"column patient_id: missing.*--folds"):
        check_folds(without, PATHS)


def test_a_row_with_an_error_was_scored_by_no_model() -> None:
    failed: list[str | None] = [None, None, None, None, "unreadable"]
    folds: list[str | None] = [*FOLDS[:4], None]
    assert check_folds(rows(fold=folds, error=failed), PATHS) is not None


def test_a_table_without_folds_says_nothing() -> None:
    without = rows().drop("fold")
    assert check_folds(without, PATHS) is None
    assert [in_sample_of(stated, None) for stated in (True, False, None)] == [True, False, None]


def test_stated_in_sample_against_folds_that_stood_the_check_is_refused() -> None:
    with pytest.raises(InputError, match=r"--in-sample, but the column fold"):
        in_sample_of(True, check_folds(rows(), PATHS))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"fold": ["0", "1", "1", "1", "2"]},
            r"one.parquet row 1, column fold: 1 patients are in two folds",
            id="torn_patient",
        ),
        pytest.param({"fold": [*FOLDS[:3], None, "2"]}, "row 4, column fold: empty", id="empty"),
        pytest.param({"fold": ["0"] * 5}, "1 fold in all", id="one_fold"),
        pytest.param({"patient_id": [*PATIENTS[:4], None]}, "column patient_id: missing", id="who"),
    ],
)
def test_what_is_not_out_of_fold_is_refused(
    columns: dict[str, list[str | None]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_folds(rows(**columns), PATHS)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"fold": ["0", "0", "2", "1", "1"]},
            r"row 3, column fold: 2, assigned to 1 in folds.parquet \(2 such rows of 2 patients\): "
            "a model saw the patient",
            id="scored_by_the_wrong_model",
        ),
        pytest.param({"image_uuid": list("abcdx")}, "row 5, column image_uuid: not in", id="image"),
        pytest.param(
            {"patient_id": ["p0", "p0", "p7", "p2", "p3"]},
            "row 3, column patient_id: another patient than in folds.parquet",
            id="patient",
        ),
    ],
)
def test_what_differs_from_the_assignment_is_refused(
    assignment: Path, columns: dict[str, list[str | None]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_folds(rows(**columns), PATHS, assignment=assignment)


def test_an_assignment_without_folds_to_compare_is_refused(assignment: Path) -> None:
    with pytest.raises(
        InputError, match=r"'one.parquet': missing column 'fold'; folds.parquet can"
    ):
        check_folds(rows().drop("fold"), PATHS, assignment=assignment)


def test_an_assignment_that_tears_a_patient_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    rows(patient_id=["p0", "p0", "p0", "p2", "p3"]).write_csv(path)
    with pytest.raises(InputError, match=r"folds.csv row 2, column fold: 1 patients are in two"):
        check_folds(rows(), PATHS, assignment=path)


def test_the_file_of_several_that_holds_the_row_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    whole = rows(fold=["0", "0", "1", "2", None])
    for path, part in zip(paths, (whole[:3], whole[3:]), strict=True):
        part.write_parquet(path)
    with pytest.raises(InputError, match=r"b.parquet row 2, column fold: empty"):
        check_folds(whole, paths)
