"""Folds: patients whole, classes spread, what is uneven is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.folds import (
    UNLABELLED,
    assign_folds,
    fold_summary,
    worst_class,
    write_folds,
)


def world(n_patients: int = 120, seed: int = 0) -> pl.DataFrame:
    """Patients of one to four images, most of one class; three classes, one of them rare."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    main = rng.choice(3, n_patients, p=[0.6, 0.3, 0.1])[patient]
    label = np.where(rng.random(patient.size) < 0.8, main, rng.integers(0, 3, patient.size))
    return pl.DataFrame(
        {
            "image_uuid": [f"i{n:04d}" for n in range(patient.size)],
            "patient_id": [f"p{p:03d}" for p in patient],
            "label": [("acne", "eczema", "tinea")[k] for k in label],
        }
    )


def test_each_class_is_spread_more_evenly_than_patients_dealt_at_random() -> None:
    images = world()
    _, _, low, high = worst_class(assign_folds(images, 5), images)
    assert 0.16 < low <= 0.2 <= high < 0.24
    rng = np.random.default_rng(1)
    dealt = pl.DataFrame({"patient_id": images["patient_id"].unique().sort()})
    dealt = dealt.with_columns(fold=pl.Series(rng.integers(0, 5, dealt.height)))
    random = images.join(dealt, on="patient_id").select("image_uuid", "patient_id", "fold")
    _, _, random_low, random_high = worst_class(random, images)
    assert max(high - 0.2, 0.2 - low) < 0.5 * max(random_high - 0.2, 0.2 - random_low)


def test_another_seed_gives_another_assignment() -> None:
    images = world()
    assert not assign_folds(images, 5).equals(assign_folds(images, 5, seed=1))


def test_what_is_uneven_is_said() -> None:
    images = pl.DataFrame(
        {
            "image_uuid": list("abcdefgh"),
            "patient_id": ["p0", "p0", "p1", "p1", "p2", "p3", "p4", "p5"],
            "label": ["acne", "acne", "acne", "acne", "tinea", "acne", "acne", None],
        }
    )
    folds = pl.DataFrame(
        {
            "image_uuid": list("abcdefgh"),
            "patient_id": images["patient_id"],
            "fold": [0, 0, 1, 1, 0, 0, 1, 1],
        }
    )
    assert fold_summary(folds, images) == [
        "fold 0: 4 images, 3 patients",
        "fold 1: 4 images, 3 patients",
        f"worst class: {UNLABELLED}, 0.0 to 100.0 % of its 1 images in a fold (even: 50.0 %)",
        f"classes with fewer patients than folds, missing from some: '{UNLABELLED} (1)', "
        "'tinea (1)'",
    ]


@pytest.mark.parametrize(
    ("k", "message"),
    [
        pytest.param(1, "k 1: at least two", id="one"),
        pytest.param(3, "k 3: there are 2 patients", id="patients"),
        pytest.param(2, "k 2: no class has as many images", id="images"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(k: int, message: str) -> None:
    images = pl.DataFrame(
        {"image_uuid": ["a", "b"], "patient_id": ["p", "q"], "label": ["acne", "tinea"]}
    )
    with pytest.raises(InputError, match=message):
        assign_folds(images, k)


def test_the_file_is_parquet_or_csv_by_its_name(tmp_path: Path) -> None:
    folds = assign_folds(world(20), 3, seed=4)
    write_folds(tmp_path / "f.csv", folds, seed=4)
    write_folds(tmp_path / "f.parquet", folds, seed=4)
    assert pl.read_csv(tmp_path / "f.csv").equals(folds)
    assert pl.read_parquet(tmp_path / "f.parquet").equals(folds)
    recipe = tables.read_metadata(tmp_path / "f.parquet")
    assert (recipe["k"], recipe["seed"]) == ("3", "4")
    with pytest.raises(InputError, match=r"name it \*.parquet or \*.csv"):
        write_folds(tmp_path / "f.json", folds, seed=4)
