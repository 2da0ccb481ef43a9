"""The montage shows every candidate in order, unreadable ones too, in the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib import tiles
from dagster_project.lib.mislabels import montage as module
from dagster_project.lib.mislabels.montage import thumbnail
from dagster_project.lib.tiles import PHOTO

Photos = Callable[[list[str]], pl.DataFrame]
montage = partial(module.montage, in_sample=False)


def issues(paths: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "given_label": "acne",
            "predicted_label": "post_inflammatory_hyperpigmentation",
            "quality": 0.01,
            "image_path": pl.Series(paths, dtype=pl.String),
        }
    )


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_equal_input_gives_equal_bytes(tmp_path: Path, photos: Photos) -> None:
    frame = issues(photos(["a", "b", "c"])["image_path"].to_list())
    assert montage(frame, tmp_path / "data") == montage(frame, tmp_path / "data")


def test_tiles_stand_in_the_order_of_the_issues(tmp_path: Path, photos: Photos) -> None:
    photos(["a", *"bcdefghi"])
    image = pixels(montage(issues(["a.jpg", "i.jpg"]), tmp_path / "data"))
    row = tiles._HEADER + PHOTO // 2
    first, second = (image[row, tiles._PAD + PHOTO // 2 + n * (PHOTO + 6)] for n in (0, 1))
    assert abs(first.astype(int) - (200, 40, 90)).max() < 4
    assert abs(second.astype(int) - (200, 80, 90)).max() < 4


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("gone.jpg", id="missing"),
        pytest.param("text.jpg", id="not_an_image"),
        pytest.param(None, id="no_path"),
    ],
)
def test_an_image_that_cannot_be_shown_is_a_grey_tile_with_words(
    tmp_path: Path, path: str | None
) -> None:
    (tmp_path / "text.jpg").write_text("scanned?")
    image = pixels(montage(issues([path]), tmp_path))
    tile = image[tiles._HEADER : tiles._HEADER + PHOTO, tiles._PAD : tiles._PAD + PHOTO]
    grey = (tile == 0xD0).all(axis=2)
    assert grey[:40].all()
    assert not grey[PHOTO // 2 - 16 : PHOTO // 2 + 16].all()


def test_no_more_than_the_limit_is_drawn(tmp_path: Path, photos: Photos) -> None:
    frame = issues(photos(["a"])["image_path"].to_list() * 25)
    one_row = pixels(montage(frame, tmp_path / "data", limit=10)).shape
    three_rows = pixels(montage(frame, tmp_path / "data")).shape
    tile = PHOTO + 4 * tiles._LINE + 2 * tiles._PAD
    assert three_rows[0] - one_row[0] == 2 * tile
    assert three_rows[1] == one_row[1]


def test_no_candidates_still_make_a_picture(tmp_path: Path) -> None:
    assert pixels(montage(issues([]), tmp_path)).size
    assert pixels(thumbnail(issues([]), tmp_path)).size


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        pytest.param("acne", ["acne"], id="short"),
        pytest.param(
            "post_inflammatory_hyperpigmentation",
            ["post_inflammatory_", "hyperpigmentation"],
            id="two_lines",
        ),
        pytest.param("Basal Cell Carcinoma of skin", ["Basal Cell Carcinoma of", "skin"], id="gap"),
        pytest.param(
            "dermatofibrosarcomaprotuberans",
            ["dermatofibro\N{HORIZONTAL ELLIPSIS}protuberans"],
            id="cut",
        ),
    ],
)
def test_a_caption_is_whole_where_two_lines_hold_it_and_never_too_wide(
    name: str, lines: list[str]
) -> None:
    wrapped = tiles.wrapped(name)
    assert wrapped == lines
    arrow = tiles.wrapped(f"\N{RIGHTWARDS ARROW} {name}")
    assert all(tiles.font(tiles._FONT).getlength(line) <= PHOTO for line in wrapped + arrow)
    assert arrow[0].startswith(f"\N{RIGHTWARDS ARROW} {name[0]}")


def test_a_caption_says_given_predicted_the_row_and_its_quality() -> None:
    row = issues([None]).with_columns(quality=0.1236).row(0, named=True)
    words = [text for text, _ in module._caption(7, row)]
    assert words == [
        "acne",
        "\N{RIGHTWARDS ARROW} post_inflammatory_",
        "hyperpigmentation",
        "7: quality 0.124",
    ]


def test_the_title_says_whether_the_model_saw_these_rows(tmp_path: Path) -> None:
    titles = [
        module.montage(issues([None]), tmp_path, in_sample=known) for known in (True, False, None)
    ]
    assert len(set(titles)) == 3


def test_the_thumbnail_keeps_its_size_even_for_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        noise = rng.integers(0, 255, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    frame = issues([f"{number}.png" for number in range(12)])
    for limit in (80_000, 30_000):
        assert len(thumbnail(frame, tmp_path, max_bytes=limit)) <= limit
    assert thumbnail(frame, tmp_path) == thumbnail(frame, tmp_path)
