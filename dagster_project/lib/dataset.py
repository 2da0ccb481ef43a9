"""The dataset: which images there are, whose they are, and in which split.

Belongs: the seed-free join of manifest and splits, and the assignment of rows to shards.
Does not: label content beyond reading it (``labels``), pixels and questionnaires (``inference``).
Concept: row i of a split, in manifest order, belongs to shard i mod n.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.files import sha256_file

ID_COLUMNS = ("image_uuid", "image_path", "patient_id", "split")
ABOUT_LABELS = "columns_about_labels"
"""Parquet metadata of a manifest: a JSON list of columns that say where its labels come from."""


def read_manifest(dataset_dir: Path) -> pl.DataFrame:
    """The manifest: ``image_uuid, image_path, patient_id, label`` and questionnaire columns, text.

    Raises
    ------
    InputError
        Missing file or column, duplicate or empty id, a path that leaves the dataset folder.
    """
    path = tables.find_table(dataset_dir, "manifest")
    frame = tables.read_table(path, ["image_uuid", "image_path", "patient_id", "label"])
    frame = _as_text(path.name, frame)
    offset = 2 if path.suffix == ".csv" else 1
    for column in ("image_uuid", "image_path", "patient_id"):
        missing = frame[column].is_null()
        if missing.any():
            row = int(missing.arg_max() or 0) + offset
            raise InputError(f"{path.name} row {row}, column {column}: empty; fill it in")
    twice = tables.duplicates(frame, "image_uuid")
    if twice:
        raise InputError(
            f"{path.name}, column image_uuid: {some(twice)} on more than one row; keep one"
        )
    outside = [p for p in frame["image_path"] if Path(p).is_absolute() or ".." in Path(p).parts]
    if outside:
        raise InputError(
            f"{path.name}, column image_path: {some(outside)} leaves the dataset folder; "
            "use paths relative to it"
        )
    return frame


def _columns_about_labels(dataset_dir: Path) -> list[str]:
    path = tables.find_table(dataset_dir, "manifest")
    if path.suffix != ".parquet":
        return []
    try:
        named = json.loads(tables.read_metadata(path).get(ABOUT_LABELS, "[]"))
    except ValueError:
        named = None
    if not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise InputError(f"{path.name}, metadata {ABOUT_LABELS}: not a JSON list of column names")
    return [name for name in named if name not in ID_COLUMNS]


def _as_text(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    nested = [c for c, dtype in frame.schema.items() if dtype.is_nested()]
    if nested:
        raise InputError(f"{name}, column {some(nested)}: holds lists, not text; remove it")
    return frame.with_columns(pl.all().cast(pl.String))


def dataset_index(dataset_dir: Path) -> pl.DataFrame:
    """Every image with its split, in manifest order, **without** its label.

    Returns
    -------
    ``image_uuid, image_path, patient_id, split`` and the questionnaire columns, all text. What a
    cleaned manifest says about its labels (:data:`ABOUT_LABELS`) is left out with them.

    Raises
    ------
    InputError
        As :func:`read_manifest`; also a patient in two splits, or an image in none.
    """
    left_out = ["label", "split", *_columns_about_labels(dataset_dir)]
    manifest = read_manifest(dataset_dir).drop(left_out, strict=False)
    path = tables.find_table(dataset_dir, "splits")
    splits = _as_text(path.name, tables.read_table(path, ["split"]))
    keys = [c for c in ("image_uuid", "patient_id") if c in splits.columns]
    if not keys:
        raise InputError(f"{path.name}: needs a column 'image_uuid' or 'patient_id' beside 'split'")
    key = keys[0]
    pairs = splits.select(key, "split").unique(maintain_order=True)
    twice = tables.duplicates(pairs, key)
    if twice:
        raise InputError(
            f"{path.name}, column {key}: {some(twice)} in two splits; keep each in one"
        )
    joined = manifest.join(pairs, on=key, how="left", maintain_order="left")
    without = joined.filter(pl.col("split").is_null())
    if without.height:
        ids = without["image_uuid"].to_list()
        raise InputError(f"{path.name}: {len(ids)} images have no split: {some(ids)}; assign each")
    per_patient = joined.select("patient_id", "split").unique(maintain_order=True)
    torn = tables.duplicates(per_patient, "patient_id")
    if torn:
        raise InputError(
            f"{path.name}: {len(torn)} patients are in two splits: {some(torn)}; keep each in one"
        )
    front = list(ID_COLUMNS)
    return joined.select(front + [c for c in joined.columns if c not in front])


def images(dataset_dir: Path) -> pl.DataFrame:
    """Every image as :func:`dataset_index` gives it; ``split`` is null where no file says it."""
    if any((dataset_dir / f"splits.{kind}").is_file() for kind in ("parquet", "csv")):
        return dataset_index(dataset_dir)
    left_out = ["label", "split", *_columns_about_labels(dataset_dir)]
    rows = read_manifest(dataset_dir).drop(left_out, strict=False)
    rows = rows.with_columns(split=pl.lit(None, pl.String))
    return rows.select(*ID_COLUMNS, pl.exclude(ID_COLUMNS))


def split_origin(dataset_dir: Path) -> dict[str, str]:
    """Which file made the split: ``splits_sha256``, and ``split_recipe`` if it states one.

    A ``splits.parquet`` may say in its key-value metadata, under ``recipe``, how it was made.
    """
    path = tables.find_table(dataset_dir, "splits")
    found = {"splits_sha256": sha256_file(path)}
    recipe = tables.read_metadata(path).get("recipe") if path.suffix == ".parquet" else None
    return {**found, "split_recipe": recipe} if recipe else found


def given_labels(dataset_dir: Path) -> pl.DataFrame:
    """``image_uuid, label`` as the dataset gives them; a missing label is null."""
    return read_manifest(dataset_dir).select("image_uuid", "label")


def split_rows(index: pl.DataFrame, split: str) -> pl.DataFrame:
    """The rows of one split, in dataset order; an unknown split is an error."""
    rows = index.filter(pl.col("split") == split)
    if rows.is_empty():
        known = index["split"].unique().sort().to_list()
        raise InputError(f'split "{split}" has no images; splits are {some(known, 6)}')
    return rows


def shard_rows(rows: pl.DataFrame, shard: int, n_shards: int) -> pl.DataFrame:
    """Shard ``shard`` (0-based) of ``n_shards``: rows i with i mod n_shards = shard."""
    if not 0 <= shard < n_shards:
        raise InputError(
            f"shard {shard}/{n_shards}: shards are 0/{n_shards} to {n_shards - 1}/{n_shards}"
        )
    return rows.gather_every(n_shards, shard)
