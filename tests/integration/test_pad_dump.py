"""The dump on a dataset and a questionnaire that nobody here made: PAD-UFES-20.

An executable recipe for a second dataset: manifest, splits and feature schema from the photographs
and ``metadata.csv``; a tiny artifact whose head is fitted in a second on frozen random features (a
toy: it shows that the chain carries signal, nothing else); sync; two shards. Skips without the
data. ``biopsed`` is left out of the questionnaire: it was decided after seeing the lesion.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib import dataset, model_store, tables
from dagster_project.lib.inference import dump
from dagster_project.lib.probability_table import read_probabilities

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "pad_ufes_20"
PHOTOS = 120
SIDE = 96
NOT_ASKED = ("img_id", "patient_id", "diagnostic", "lesion_id", "biopsed")
NUMERIC: dict[str, tuple[float, float]] = {
    "age": (0, 120),
    "diameter_1": (0, 200),
    "diameter_2": (0, 200),
    "fitspatrick": (1, 6),
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="PAD-UFES-20 is not here")


@dataclass(frozen=True)
class World:
    dataset_dir: Path
    artifact: Path
    classes: tuple[str, ...]
    damaged: str


def build_world(folder: Path, photos: int) -> World:
    """The first ``photos`` photographs (by hash of their name) as a dataset, and an artifact."""
    metadata = pl.read_csv(DATA / "metadata.csv", infer_schema=False)
    names = pl.col("img_id").str.replace(r"\.png$", ".jpg")
    metadata = metadata.with_columns(photo=names).filter(
        pl.col("photo").map_elements(lambda n: (DATA / "images_320" / n).is_file(), pl.Boolean)
    )
    rank = pl.col("photo").map_elements(_hash, pl.Int64)
    metadata = metadata.sort(rank).head(photos)
    asked = [c for c in metadata.columns if c not in (*NOT_ASKED, "photo")]
    fields = [_field(name, metadata[name]) for name in asked]
    dataset_dir = folder / "dataset"
    damaged = _write_dataset(dataset_dir, metadata, asked)
    classes = tuple(metadata["diagnostic"].unique().sort())
    artifact = folder / "artifact"
    _fit(artifact, dataset_dir, {"version": "pad", "fields": fields}, classes)
    return World(dataset_dir, artifact, classes, damaged)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def _field(name: str, answers: pl.Series) -> dict[str, Any]:
    values = sorted(set(answers.drop_nulls()))
    if name in NUMERIC:
        return {"name": name, "type": "numeric", "range": list(NUMERIC[name])}
    if set(values) <= {"True", "False", "UNK"}:
        return {"name": name, "type": "boolean"}
    return {"name": name, "type": "categorical", "values": values}


def _write_dataset(folder: Path, metadata: pl.DataFrame, asked: list[str]) -> str:
    """Manifest, splits (3 of 10 patients are test), links to the photographs, one of them cut."""
    (folder / "images").mkdir(parents=True)
    manifest = metadata.select(
        pl.col("photo").str.replace(".jpg", "", literal=True).alias("image_uuid"),
        (pl.lit("images/") + pl.col("photo")).alias("image_path"),
        "patient_id",
        pl.col("diagnostic").alias("label"),
        *asked,
    )
    tables.write_csv(folder / "manifest.csv", manifest)
    split = pl.col("patient_id").map_elements(
        lambda p: "test" if _hash(p) % 10 < 3 else "train", pl.String
    )
    splits = manifest.select("patient_id").unique().sort("patient_id").with_columns(split=split)
    tables.write_csv(folder / "splits.csv", splits)
    for photo in metadata["photo"]:
        (folder / "images" / photo).symlink_to((DATA / "images_320" / photo).resolve())
    victim = dataset.split_rows(dataset.dataset_index(folder), "test").row(5, named=True)
    path = folder / victim["image_path"]
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    return str(victim["image_uuid"])


def _fit(folder: Path, dataset_dir: Path, schema: dict[str, Any], classes: tuple[str, ...]) -> None:
    """A linear sigmoid head over a frozen random SigLIP, fitted on the train split."""
    import torch

    from dagster_project.lib.inference import architectures, checkpoint, preprocess, questionnaire

    torch.manual_seed(0)
    half = [0.5, 0.5, 0.5]
    config = {
        "architecture": "siglip_metadata",
        "vision": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": 8,
        },
        "pooling": "mean",
        "preprocess": {
            "size": SIDE,
            "resize": "squash",
            "resample": "bilinear",
            "antialias": True,
            "mean": half,
            "std": half,
        },
        "head": {"type": "linear"},
        "epoch": 0,
    }
    parsed = questionnaire.parse_schema(schema)
    module = architectures.build(config, questionnaire.n_features(parsed), len(classes)).eval()
    rows = dataset.split_rows(dataset.dataset_index(dataset_dir), "train")
    labels = rows.join(
        dataset.given_labels(dataset_dir), on="image_uuid", how="left", maintain_order="left"
    )["label"]
    recipe = preprocess.parse_preprocess(config)
    with torch.no_grad(), architectures.sized_threads(module):
        pooled = torch.stack(
            [
                module.encode_image(
                    preprocess.to_tensor(preprocess.decode(dataset_dir / path), recipe)[None]
                )[0]
                for path in rows["image_path"]
            ]
        )
        module.pooled_mean.copy_(pooled.mean(0))
        module.pooled_std.copy_(pooled.std(0).clamp_min(1e-4))
    features = torch.from_numpy(questionnaire.encode(parsed, rows))
    truth = torch.tensor([[float(label == name) for name in classes] for label in labels])
    optimiser = torch.optim.AdamW(module.head.parameters(), lr=1e-2, weight_decay=0.3)
    with architectures.sized_threads(module):
        for _ in range(300):
            optimiser.zero_grad()
            logits = module.head_logits(pooled, features)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    checkpoint.save_artifact(folder, module, config=config, schema=schema, classes=classes)


def dump_shards(world: World, folder: Path, n_shards: int) -> list[Path]:
    """Sync the artifact and dump the test split."""
    artifact = model_store.sync(str(world.artifact), folder / "models")
    rows = dataset.split_rows(dataset.dataset_index(world.dataset_dir), "test")
    paths = []
    for shard in range(n_shards):
        plan = dump.plan_dump(
            model_dir=artifact.path,
            tree_hash=artifact.tree_hash,
            dataset_dir=world.dataset_dir,
            rows=dataset.shard_rows(rows, shard, n_shards),
            shard=shard,
            n_shards=n_shards,
            options=dump.DumpOptions(device="cpu"),
        )
        paths.append(folder / f"test_{shard}.parquet")
        dump.dump_to(plan, paths[-1], folder / "segments")
    return paths


def accuracy(world: World, paths: list[Path]) -> tuple[float, float]:
    """Top-1 on the readable test photographs, and that of always naming their commonest class."""
    table = read_probabilities(paths).scored()
    labels = table.frame.join(
        dataset.given_labels(world.dataset_dir),
        on="image_uuid",
        how="left",
        maintain_order="left",
    )["label"]
    truth = np.array([world.classes.index(label) for label in labels])
    top1 = float((table.probs.argmax(axis=1) == truth).mean())
    return top1, float(np.bincount(truth).max() / len(truth))


def test_a_second_dataset_with_its_own_questionnaire_is_dumped_in_shards(tmp_path: Path) -> None:
    world = build_world(tmp_path, PHOTOS)
    paths = dump_shards(world, tmp_path, 2)
    table = read_probabilities(paths)
    index = dataset.split_rows(dataset.dataset_index(world.dataset_dir), "test")
    assert sorted(table.frame["image_uuid"]) == sorted(index["image_uuid"])
    assert table.classes == ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
    failed = table.frame.filter(pl.col("error").is_not_null())
    assert failed["image_uuid"].to_list() == [world.damaged]
    assert "truncated" in failed["error"][0]
    # The schema has none of the five fields that the app does not collect.
    assert np.array_equal(table.scored().probs, table.scored().views["probs_full_tta"])
    assert not np.array_equal(table.scored().probs, table.scored().views["probs_full_plain"])
    top1, commonest = accuracy(world, paths)
    assert top1 > commonest
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in dump_shards(world, tmp_path, 2)] == before
