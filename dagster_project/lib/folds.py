"""Folds: which images to hold out together, so that each is scored by a model that never saw it.

Belongs: the assignment of patients to k folds, and how even it came out.
Does not: training (elsewhere), checking what comes back (``mislabels.out_of_fold``).
Concept: a patient's images share one fold; within that, each class is spread as evenly as can be.
N = images, P = patients, K = classes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some

UNLABELLED = "(no label)"
"""Images without a label are spread like a class of their own."""


def assign_folds(images: pl.DataFrame, k: int, *, seed: int = 0) -> pl.DataFrame:
    """Assign every image to one of ``k`` folds: patients whole, classes spread evenly.

    scikit-learn's ``StratifiedGroupKFold``: patients in order of how uneven their classes are
    (ties shuffled by ``seed``), each into the fold that leaves the classes most even. Greedy, so
    not the best assignment there is; versions before 1.8 did not stratify when they shuffled.

    Parameters
    ----------
    images : (N,) ``image_uuid`` (unique), ``patient_id``, ``label`` (null: no label).
    k : folds, at least 2, and no more than there are patients.
    seed : breaks ties; equal input and seed give an equal assignment, in any order of rows.

    Returns
    -------
    (N,) ``image_uuid, patient_id, fold`` (int, 0 to k - 1), sorted by ``image_uuid``.

    Raises
    ------
    InputError
        k below 2, fewer patients than k, or no class with k images.

    >>> images = pl.DataFrame({"image_uuid": ["a", "b", "c", "d"], "patient_id": list("ppqq"),
    ...     "label": ["acne", "tinea", "acne", "tinea"]})
    >>> assign_folds(images, 2)["fold"].to_list() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    from sklearn.model_selection import StratifiedGroupKFold

    rows = images.sort("image_uuid").select(
        "image_uuid", "patient_id", pl.col("label").fill_null(UNLABELLED)
    )
    _require_enough(rows, k)
    patient, label = (
        rows[name].rank("dense").to_numpy().astype(np.int64) for name in ("patient_id", "label")
    )
    fold = np.empty(rows.height, dtype=np.int64)
    with warnings.catch_warnings():
        # a class with fewer images than folds is named by `fold_summary`
        warnings.filterwarnings("ignore", message="The least populated class")
        splits = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(
            np.zeros(rows.height), label, patient
        )
        for number, (_, held_out) in enumerate(splits):
            fold[held_out] = number
    return rows.select("image_uuid", "patient_id", pl.Series("fold", fold))


def _require_enough(rows: pl.DataFrame, k: int) -> None:
    if k < 2:
        raise InputError(f"k {k}: at least two folds are needed")
    if (n_patients := rows["patient_id"].n_unique()) < k:
        raise InputError(f"k {k}: there are {n_patients} patients; each fold needs one")
    most = int(rows["label"].value_counts()["count"].to_numpy().max())
    if most < k:
        raise InputError(f"k {k}: no class has as many images (the largest has {most}); lower k")


def fold_summary(folds: pl.DataFrame, images: pl.DataFrame) -> list[str]:
    """How even an assignment is, in lines: each fold, the worst class, classes in too few patients.

    ``folds`` of :func:`assign_folds` for ``images``.
    """
    rows = folds.join(images.select("image_uuid", pl.col("label").fill_null(UNLABELLED)),
                      on="image_uuid")  # fmt: skip
    k = folds["fold"].n_unique()
    lines = [
        f"fold {fold}: {n} images, {patients} patients"
        for fold, n, patients in rows.group_by("fold")
        .agg(pl.len(), pl.col("patient_id").n_unique())
        .sort("fold")
        .rows()
    ]
    name, n, low, high = worst_class(folds, images)
    lines.append(
        f"worst class: {name}, {100 * low:.1f} to {100 * high:.1f} % of its {n} images in a fold "
        f"(even: {100 / k:.1f} %)"
    )
    patients = rows.group_by("label").agg(pl.col("patient_id").n_unique()).sort("label")
    few = patients.filter(pl.col("patient_id") < k)
    if few.height:
        named = [f"{label} ({count})" for label, count in few.rows()]
        lines.append(
            f"classes with fewer patients than folds, missing from some: {some(named, len(named))}"
        )
    return lines


def worst_class(folds: pl.DataFrame, images: pl.DataFrame) -> tuple[str, int, float, float]:
    """The class least evenly spread: name, images, and its smallest and largest share in a fold.

    The share of a class's images that a fold holds would be 1/k in every fold. Equal ones by name.
    """
    label = pl.col("label").fill_null(UNLABELLED)
    rows = folds.join(images.select("image_uuid", label), on="image_uuid")
    k = folds["fold"].n_unique()
    counts = rows.group_by("label", "fold").len().sort("label")
    shares = counts.group_by("label", maintain_order=True).agg(
        n=pl.col("len").sum(),
        low=pl.when(pl.len() < k).then(0.0).otherwise(pl.col("len").min() / pl.col("len").sum()),
        high=pl.col("len").max() / pl.col("len").sum(),
    )
    off = pl.max_horizontal(pl.col("high") - 1 / k, 1 / k - pl.col("low"))
    worst = shares.sort(off, "label", descending=[True, False]).row(0)
    return str(worst[0]), int(worst[1]), float(worst[2]), float(worst[3])


def write_folds(path: Path, folds: pl.DataFrame, *, seed: int) -> None:
    """Publish an assignment as ``.parquet`` (with ``k`` and ``seed`` in its metadata) or ``.csv``.

    Raises
    ------
    InputError
        Another suffix.
    """
    if path.suffix == ".csv":
        tables.write_csv(path, folds)
    elif path.suffix == ".parquet":
        recipe = {"k": str(folds["fold"].n_unique()), "seed": str(seed)}
        tables.write_arrow(path, tables.with_metadata(folds.to_arrow(), recipe))
    else:
        raise InputError(f"{path}: name it *.parquet or *.csv")
