"""Photographs open upright and in RGB, whatever a phone or a scanner wrote; else say why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dagster_project.lib.errors import InputError
from dagster_project.lib.photos import open_photo


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_photo(tmp_path / "a.jpg").size == (20, 40)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x4000, np.uint16)).save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png").getpixel((0, 0)) == (64, 64, 64)


def test_a_hint_may_make_a_large_jpeg_smaller_but_not_below_it(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200)).save(tmp_path / "a.jpg")
    assert open_photo(tmp_path / "a.jpg", hint=150).size == (200, 150)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(None, "missing", id="missing"),
        pytest.param(b"", "UnidentifiedImageError", id="empty"),
        pytest.param(b"\xff\xd8\xff\xe0" + b"\0" * 40, "Error", id="garbage"),
    ],
)
def test_an_unreadable_image_says_so_in_one_line(
    tmp_path: Path, data: bytes | None, reason: str
) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=rf"^a.jpg: unreadable image \(\w*{reason}\)$"):
        open_photo(tmp_path / "a.jpg")


def test_a_truncated_jpeg_is_unreadable(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="unreadable"):
        open_photo(tmp_path / "a.jpg")
