"""A picture is decoded once; what cannot be read is a row with its reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, PngImagePlugin

from dagster_project.lib.image_issues import fingerprints
from dagster_project.lib.image_issues.fingerprints import fingerprint_images, pixel_shares
from dagster_project.lib.photos import open_photo

from .conftest import Saver, rows, skin


def test_a_second_run_decodes_only_what_is_new(
    save: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = save({"a": skin(1), "b": skin(2)})
    first = fingerprint_images(frame, tmp_path / "data")
    fingerprints.write_known(tmp_path / "known.parquet", first)
    known = fingerprints.read_known(tmp_path / "known.parquet")
    frame = save({"b": skin(3), "a": skin(1), "c": skin(2)})  # b's old bytes are c's now
    decoded: list[str] = []

    def counted(path: Path, **options: Any) -> Image.Image:
        decoded.append(path.name)
        return open_photo(path, **options)

    monkeypatch.setattr(fingerprints, "open_photo", counted)
    second = fingerprint_images(frame, tmp_path / "data", known=known)
    assert decoded == ["b.png"]
    monkeypatch.undo()
    assert second.equals(fingerprint_images(frame, tmp_path / "data"))


def test_fingerprints_of_another_version_or_torn_are_not_used(
    save: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known.parquet"
    assert fingerprints.read_known(path) is None
    fingerprints.write_known(path, fingerprint_images(save({"a": skin(1)}), tmp_path / "data"))
    assert fingerprints.read_known(path) is not None
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "VERSION", "next")
        assert fingerprints.read_known(path) is None
    path.write_bytes(path.read_bytes()[:-5])
    assert fingerprints.read_known(path) is None


def test_an_unreadable_picture_is_a_row_with_its_reason(save: Saver, tmp_path: Path) -> None:
    frame = save({"good": skin(1)})
    (tmp_path / "data" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "data" / "folder.png").mkdir()
    frame = pl.concat([frame, rows(["bad", "gone", "folder"])])
    found = fingerprint_images(frame, tmp_path / "data")
    assert found["image_uuid"].to_list() == ["good", "bad", "gone", "folder"]
    assert found["error"].to_list() == [
        None,
        "unreadable image (UnidentifiedImageError)",
        "unreadable image (missing)",
        "unreadable image (IsADirectoryError)",
    ]
    assert found["sha256"].is_not_null().to_list() == [True, True, False, False]
    lost = found.filter(pl.col("error").is_not_null()).drop("image_uuid", "sha256", "error")
    assert lost.null_count().row(0) == (3,) * lost.width


def test_equal_pixels_in_other_bytes_have_one_pixel_hash(save: Saver, tmp_path: Path) -> None:
    frame = save({"a": skin(1), "b": skin(1)})
    note = PngImagePlugin.PngInfo()
    note.add_text("camera", "another")
    skin(1).save(tmp_path / "data" / "b.png", pnginfo=note)
    found = fingerprint_images(frame, tmp_path / "data")
    assert found["sha256"].n_unique() == 2
    assert found["pixels"].n_unique() == 1


def altered(image: Image.Image, how: str) -> Image.Image:
    if how == "half":
        return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    if how == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=30)
        return Image.open(buffer)
    return image.point(lambda level: int(level * 0.93))


@pytest.mark.parametrize("how", ["half", "jpeg", "darker"])
def test_an_altered_copy_keeps_its_look_and_another_picture_has_another(
    how: str, save: Saver, tmp_path: Path
) -> None:
    frame = save({"a": skin(1), "b": altered(skin(1), how), "c": skin(2)})
    a, b, c = (int(h, 16) for h in fingerprint_images(frame, tmp_path / "data")["phash"])
    assert (a ^ b).bit_count() <= 24
    assert (a ^ c).bit_count() > 60


def test_a_blank_picture_has_no_look(save: Saver, tmp_path: Path) -> None:
    blank = Image.new("RGB", (300, 300), (200, 150, 130))
    found = fingerprint_images(save({"a": blank}), tmp_path / "data")
    assert found["phash"].to_list() == [None]
    assert found["pixels"].null_count() == 0


def test_size_is_the_files_own_and_progress_ends_at_all(save: Saver, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = fingerprint_images(
        save({"a": skin(1, (700, 520))}),
        tmp_path / "data",
        on_progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert found.select("width", "height").row(0) == (700, 520)
    assert seen[-1] == (1, 1)
    assert fingerprint_images(rows([]), tmp_path).is_empty()


def naive_shares(levels: np.ndarray) -> dict[str, float]:
    """Pixel by pixel, as the docstring says."""
    height, width = levels.shape[:2]
    warm = edge = flat = warm_textured = 0

    def grey(pixel: np.ndarray) -> int:
        red, green, blue = (int(v) for v in pixel)
        return (299 * red + 587 * green + 114 * blue) // 1000

    for y in range(height):
        for x in range(width):
            red, green, blue = (int(v) for v in levels[y, x])
            is_warm = red >= green >= blue - 8 and (red - blue) >= 0.1 * max(red, 1)
            warm += is_warm
            if y == height - 1 or x == width - 1:
                continue
            near = levels[y, x + 1], levels[y + 1, x]
            edge += any(abs(grey(levels[y, x]) - grey(other)) > 40 for other in near)
            is_flat = all((levels[y, x] == other).all() for other in near)
            flat += is_flat
            warm_textured += is_warm and not is_flat
    inner = (height - 1) * (width - 1)
    return {
        "skin_share": warm / (height * width),
        "textured_skin_share": warm_textured / (inner - flat),
        "edge_share": edge / inner,
        "flat_share": flat / inner,
    }


@pytest.mark.parametrize("spread", [2, 256], ids=["nearly flat", "any colour"])
def test_shares_are_what_a_loop_over_pixels_counts(spread: int) -> None:
    rng = np.random.default_rng(spread)
    low = 140 if spread == 2 else 0
    levels = rng.integers(low, low + spread, (13, 11, 3), dtype=np.uint8)
    assert pixel_shares(levels) == pytest.approx(naive_shares(levels))


def test_a_single_row_of_pixels_has_no_edges() -> None:
    shares = pixel_shares(np.zeros((1, 9, 3), dtype=np.uint8))
    assert (shares["edge_share"], shares["flat_share"]) == (None, None)
