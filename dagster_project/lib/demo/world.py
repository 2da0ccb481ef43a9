"""Build the demo world on disk: dataset, model artifacts, and the truth kept apart.

Belongs: files and folders of the world, and recognising a finished one.
Does not: what is in them (``population``, ``drawing``, ``model``, ``candidates``).
Concept: a stamp claims the folder first and says "complete" last; a half-built world is built
again, a finished one of the same size, seed and code is used as it is, anything else is not ours
to delete.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.demo.candidates import CANDIDATES, DEPLOYED, FOLDER
from dagster_project.lib.demo.population import FULL, TRUTH_COLUMNS, WorldSize, population
from dagster_project.lib.demo.seeds import stream
from dagster_project.lib.errors import InputError
from dagster_project.lib.progress import silent

if TYPE_CHECKING:
    from typing import Any

    from dagster_project.lib.demo.drawing import Map
    from dagster_project.lib.progress import OnProgress

CODE_VERSION = "2"
"""Raise when the same seed gives other bytes: worlds of older code are then built again."""
SEED = 20261122
STAMP = "world.json"
PARTS = ("dataset", "model_bucket", FOLDER, "truth")
PATIENT_VARIATION, IMAGE_VARIATION = 0.15, 0.06


@dataclass(frozen=True)
class World:
    """Where a finished world lies.

    Attributes
    ----------
    root : the folder of all parts. ``size`` : name of the size. ``seed`` : of everything.
    reused : True if it was there already.
    """

    root: Path
    size: str
    seed: int
    reused: bool

    @property
    def dataset_dir(self) -> Path:
        """Manifest, splits and images, as ``DATASET_DIR`` wants them."""
        return self.root / "dataset"

    @property
    def model_bucket(self) -> Path:
        """The model artifact, as ``MODEL_URI`` wants it."""
        return self.root / "model_bucket"

    @property
    def candidates(self) -> Path:
        """Model artifacts of the other recipes, a folder each by the recipe's name."""
        return self.root / FOLDER

    @property
    def truth_path(self) -> Path:
        """For the final scoring only."""
        return self.root / "truth" / "truth.parquet"


def build_world(
    root: Path, size: WorldSize = FULL, *, seed: int = SEED, on_progress: OnProgress = silent
) -> World:
    """Build the world under ``root``, or find it there.

    Parameters
    ----------
    root : folder; other files in it are left alone.
    size : ``FULL`` (about 4,000 images) or ``SMALL`` (about 400).
    seed : same size and seed, same bytes of images, tables and truth.
    on_progress : called with images done and to do: all are drawn, then those of the train split
        are encoded for the heads.

    Raises
    ------
    InputError
        ``root`` has one of the world's folders, but no stamp of ours.
    """
    stamp: dict[str, Any] = {"size": size.name, "seed": seed, "code_version": CODE_VERSION}
    if _stamp(root) == {**stamp, "state": "complete"}:
        return World(root, size.name, seed, reused=True)
    _claim(root, stamp)
    people = population(size, seed)
    drawn = people.height
    total = drawn + people.filter(pl.col("split") == "train").height
    with files.publish_folder(root / "dataset") as folder:
        _write_dataset(
            folder, people, seed, lambda done, _, note="": on_progress(done, total, note)
        )
    _write_models(root, seed, lambda done, _, note="": on_progress(drawn + done, total, note))
    _write_truth(root / "truth" / "truth.parquet", people)
    files.write_json(root / STAMP, {**stamp, "state": "complete"})
    return World(root, size.name, seed, reused=False)


def read_truth(world: World) -> pl.DataFrame:
    """The truth table: ``TRUTH_COLUMNS``, one row an image, sorted by id."""
    return tables.read_table(world.truth_path, TRUTH_COLUMNS)


def _stamp(root: Path) -> object:
    path = root / STAMP
    return files.read_json(path) if path.is_file() else None


def _claim(root: Path, stamp: dict[str, Any]) -> None:
    """Remove what an earlier build left, after making sure that it was one."""
    present = [name for name in PARTS if (root / name).exists()]
    if present and _stamp(root) is None:
        raise InputError(
            f"{root}: has a folder '{present[0]}' that no demo world wrote; choose another root"
        )
    files.write_json(root / STAMP, {**stamp, "state": "building"})
    killed = [path for name in PARTS for path in root.glob(f".{name}.*.tmp")]
    for path in [*killed, *(root / name for name in present)]:
        shutil.rmtree(path)


def _write_dataset(folder: Path, people: pl.DataFrame, seed: int, on_progress: OnProgress) -> None:
    from dagster_project.lib.demo.questionnaire import answers

    (folder / "images").mkdir()
    for done, row in enumerate(people.iter_rows(named=True), start=1):
        # inside publish_folder: the folder appears whole, or not at all
        (folder / _path(row["image_uuid"])).write_bytes(_jpeg(row, seed))
        on_progress(done, people.height)
    patients = people.unique("patient_id").sort("patient_id")
    told = answers(patients["disease"].to_list(), seed).with_columns(patients["patient_id"])
    manifest = people.select(
        "image_uuid",
        pl.Series("image_path", [_path(i) for i in people["image_uuid"]]),
        "patient_id",
        label="given_label",
    ).join(told, on="patient_id", how="left", maintain_order="left")
    tables.write_csv(folder / "manifest.csv", manifest)
    tables.write_csv(folder / "splits.csv", patients.select("patient_id", "split"))


def _path(image_uuid: str) -> str:
    return f"images/{image_uuid}.jpg"


def _jpeg(row: dict[str, Any], seed: int) -> bytes:
    """The file of one image, whole or broken as planted."""
    from dagster_project.lib.demo.drawing import jpeg

    # the file's quality says nothing about the class: its stream knows the id only
    data = jpeg(_pixels(row, seed), stream(seed, "jpeg", row["image_uuid"]))
    if row["is_unreadable"]:
        return (
            b""
            if stream(seed, "broken", row["image_uuid"]).random() < 0.34
            else data[: len(data) // 2]
        )
    return data


def _pixels(row: dict[str, Any], seed: int) -> Map:
    from dagster_project.lib.demo.drawing import SHAPES, draw
    from dagster_project.lib.demo.looks import LOOKS, mixed, varied
    from dagster_project.lib.demo.pages import page

    rng = stream(seed, "draw", row["drawn_as"])
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    if row["is_garbage"]:
        return page(shape, rng)
    style = stream(seed, "style", row["style"], row["true_label"])
    look = mixed(LOOKS[row["true_label"]], LOOKS[row["look_alike"]], row["ambiguity"], rng)
    look = varied(varied(look, PATIENT_VARIATION, style), IMAGE_VARIATION, rng)
    pixels = draw(look, row["tone"], shape, rng)
    return pixels if row["near_duplicate_of"] is None else _copied(pixels, row["image_uuid"], seed)


def _copied(pixels: Map, image_uuid: str, seed: int) -> Map:
    """What re-sending does to a photograph: a few rows cut off, another brightness."""
    rng = stream(seed, "copy", image_uuid)
    top, left, bottom, right = rng.integers(0, 4, 4)
    height, width = pixels.shape[:2]
    cut = pixels[top : height - bottom, left : width - right]
    return np.asarray(np.clip(cut * np.float32(rng.uniform(0.93, 1.07)), 0, 1))


def _write_models(root: Path, seed: int, on_progress: OnProgress) -> None:
    from dagster_project.lib.demo.model import fit_models

    with (
        files.publish_folder(root / "model_bucket") as deployed,
        files.publish_folder(root / FOLDER) as others,
    ):
        folders = {DEPLOYED: deployed, **{r: others / r.name for r in CANDIDATES}}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        fit_models(root / "dataset", folders, seed=seed, on_progress=on_progress)


def _write_truth(path: Path, people: pl.DataFrame) -> None:
    tables.write_arrow(path, people.select(TRUTH_COLUMNS).to_arrow())
