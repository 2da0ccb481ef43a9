"""A few photographs that look like skin, their copies, and what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw

Saver = Callable[[dict[str, Image.Image]], pl.DataFrame]


def skin(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Warm, with spots at several scales and the noise of a sensor."""
    rng = np.random.default_rng(seed)
    width, height = size
    shade = np.zeros((height, width))
    for cells in (3, 6, 12, 24):
        coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        shade += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) / np.sqrt(cells)
    levels = (
        np.array([196, 150, 124]) + 30 * shade[..., None] + rng.normal(0, 3, (height, width, 3))
    )
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def page(seed: int = 0) -> Image.Image:
    """Text on paper, photographed: with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (320, 400), (236, 234, 230))
    draw = ImageDraw.Draw(image)
    for top in range(10, 390, 14):
        draw.text(
            (8, top), "received from the department on monday, see reverse", fill=(30, 30, 34)
        )
    noisy = np.asarray(image) + rng.normal(0, 2, (400, 320, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


@pytest.fixture
def save(tmp_path: Path) -> Saver:
    """Write pictures as ``data/<id>.png`` and give their rows: one patient each, split train."""

    def write(images: dict[str, Image.Image]) -> pl.DataFrame:
        (tmp_path / "data").mkdir(exist_ok=True)
        for uuid, image in images.items():
            image.save(tmp_path / "data" / f"{uuid}.png")
        return rows(list(images))

    return write


def rows(uuids: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_uuid": uuids,
            "image_path": [f"{uuid}.png" for uuid in uuids],
            "patient_id": [f"p-{uuid}" for uuid in uuids],
            "split": ["train"] * len(uuids),
        }
    )
