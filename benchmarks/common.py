"""What the benchmarks of the dump share: photographs, an artifact of a given size, medians.

Not a benchmark itself.
"""

from __future__ import annotations

import io
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

from dagster_project.lib.inference import architectures, checkpoint, questionnaire

MID_SIZE = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": 224,
    "patch_size": 16,
}
MEDSIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
}
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
CLASSES = [f"class_{number:02d}" for number in range(25)]
FIELDS: list[dict[str, Any]] = [
    {"name": "age", "type": "numeric", "range": [0, 120]},
    {"name": "cough", "type": "boolean"},
    {"name": "location_side", "type": "categorical", "values": ["left", "right"]},
    *({"name": f"question_{n:02d}", "type": "boolean"} for n in range(16)),
]


def photograph(rng: np.random.Generator, height: int, width: int) -> bytes:
    """A JPEG with smooth areas, edges and sensor noise, about as large as a phone's."""
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, dtype=np.int16) + rng.integers(-6, 7, (height, width, 1))
    sink = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def make_dataset(folder: Path, n: int, height: int, width: int, *, distinct: int = 32) -> None:
    """A dataset of ``n`` photographs, ``distinct`` different ones under different names."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(min(n, distinct)):
        path = folder / "images" / f"{number:06d}.jpg"
        path.write_bytes(photograph(rng, height, width))
    for number in range(distinct, n):
        os.link(
            folder / "images" / f"{number % distinct:06d}.jpg",
            folder / "images" / f"{number:06d}.jpg",
        )
    answers = {f["name"]: rng.choice(["yes", "no", ""], n).tolist() for f in FIELDS}
    answers["age"] = rng.integers(0, 100, n).astype(str).tolist()
    answers["location_side"] = rng.choice(["left", "right", ""], n).tolist()
    pl.DataFrame(
        {
            "image_uuid": [f"u{number:06d}" for number in range(n)],
            "image_path": [f"images/{number:06d}.jpg" for number in range(n)],
            "patient_id": [f"p{number // 3:06d}" for number in range(n)],
            "label": rng.choice(CLASSES, n).tolist(),
            **answers,
        }
    ).write_parquet(folder / "manifest.parquet")
    patients = [f"p{number:06d}" for number in range((n + 2) // 3)]
    splits = pl.DataFrame({"patient_id": patients, "split": ["test"] * len(patients)})
    splits.write_parquet(folder / "splits.parquet")


def make_artifact(folder: Path, vision: Mapping[str, int]) -> None:
    """An artifact of the deployed architecture with random weights."""
    config = {
        "architecture": "siglip_metadata",
        "vision": dict(vision),
        "pooling": "pooler",
        "head": {"type": "linear"},
        "preprocess": {
            "size": vision["image_size"],
            "resize": "squash",
            "resample": "bicubic",
            "antialias": True,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    }
    schema = {"version": "bench", "fields": FIELDS}
    torch.manual_seed(0)
    width = questionnaire.n_features(questionnaire.parse_schema(schema))
    module = architectures.build(config, width, len(CLASSES))
    folder.mkdir(parents=True)
    checkpoint.save_artifact(folder, module, config=config, schema=schema, classes=CLASSES)


def spread(values: Sequence[float]) -> str:
    """Median with range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
