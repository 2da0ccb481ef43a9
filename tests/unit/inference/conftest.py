"""A tiny artifact of the deployed family, and a handful of photographs with answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

CLASSES = ("acne", "eczema", "scabies", "tinea", "vitiligo")
N_IMAGES = 14
UNREADABLE = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks on a busy machine: waiting for a second thread costs more than it gives."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "architecture": "siglip_metadata",
        "vision": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        "pooling": "pooler",
        "head": {"type": "mlp", "hidden": 16},
        "preprocess": {
            "size": 32,
            "resize": "squash",
            "resample": "bicubic",
            "antialias": True,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "epoch": 1,
    }


@pytest.fixture
def schema() -> dict[str, Any]:
    return {
        "version": "t1",
        "fields": [
            {"name": "age", "type": "numeric", "range": [0, 120]},
            {"name": "cough", "type": "boolean"},
            {"name": "location_side", "type": "categorical", "values": ["left", "right"]},
            {"name": "widespread_face", "type": "boolean"},
        ],
    }


@pytest.fixture
def save(config: dict[str, Any], schema: dict[str, Any]) -> Callable[[Path], Any]:
    """Write an artifact with seeded random weights (loud enough to tell inputs apart)."""

    def save_to(folder: Path) -> Any:
        import torch

        from dagster_project.lib.inference import architectures, checkpoint, questionnaire

        torch.manual_seed(7)
        width = questionnaire.n_features(questionnaire.parse_schema(schema))
        module = architectures.build(config, width, len(CLASSES))
        with torch.no_grad():
            for weight in module.head.parameters():
                weight.normal_(0, 0.3)
        checkpoint.save_artifact(folder, module, config=config, schema=schema, classes=CLASSES)
        return module.eval()

    return save_to


@pytest.fixture(scope="session")
def cached_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def artifact(cached_artifacts: Path, save: Callable[[Path], Any], tmp_path: Path) -> Path:
    """A fresh copy of one artifact, the test's own to damage."""
    if not (cached_artifacts / "a").exists():
        save(cached_artifacts / "a")
    shutil.copytree(cached_artifacts / "a", tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, pl.DataFrame]:
    """A folder with 14 photographs, one of them no picture, and their index with labels."""
    from PIL import Image

    folder = tmp_path / "dataset"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for i in range(N_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize((60, 44), Image.Resampling.BICUBIC).save(folder / f"images/{i:02d}.png")
    (folder / f"images/{UNREADABLE:02d}.png").write_bytes(b"no picture")
    rows = pl.DataFrame(
        {
            "image_uuid": [f"u{i:02d}" for i in range(N_IMAGES)],
            "image_path": [f"images/{i:02d}.png" for i in range(N_IMAGES)],
            "patient_id": [f"p{i // 2}" for i in range(N_IMAGES)],
            "split": ["test"] * N_IMAGES,
            "label": [CLASSES[i % 5] for i in range(N_IMAGES)],
            "age": [None if i % 3 == 0 else str(5 * i) for i in range(N_IMAGES)],
            "cough": [("yes", "no", "unknown", "")[i % 4] for i in range(N_IMAGES)],
            "location_side": [("left", "right", None)[i % 3] for i in range(N_IMAGES)],
            "widespread_face": [("true", "false", "UNK")[i % 3] for i in range(N_IMAGES)],
        }
    )
    return folder, rows


@pytest.fixture
def planner(artifact: Path, dataset: tuple[Path, pl.DataFrame]) -> Callable[..., Any]:
    """Plans of dumps of that artifact and those photographs."""
    from dagster_project.lib import model_store
    from dagster_project.lib.inference import dump

    folder, rows = dataset
    tree_hash = model_store.read_artifact(artifact).tree_hash

    def plan(rows: pl.DataFrame = rows, shard: int = 0, n_shards: int = 1, **options: Any) -> Any:
        options = {"segment_rows": 5, "batch_size": 3, "device": "cpu", **options}
        return dump.plan_dump(
            model_dir=artifact,
            tree_hash=tree_hash,
            dataset_dir=folder,
            rows=rows,
            shard=shard,
            n_shards=n_shards,
            options=dump.DumpOptions(**options),
        )

    return plan


@pytest.fixture
def encoder_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every encoder pass."""
    from dagster_project.lib.inference.architectures import SiglipMetadata

    passes: list[int] = []
    plain = SiglipMetadata.encode_image

    def counted(self: SiglipMetadata, pixel_values: Any) -> Any:
        passes.append(len(pixel_values))
        return plain(self, pixel_values)

    monkeypatch.setattr(SiglipMetadata, "encode_image", counted)
    return passes
