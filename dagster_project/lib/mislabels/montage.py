"""Montage of the worst candidates: photograph, given -> predicted, quality.

Belongs: laying out tiles and their captions, the small variant for the UI.
Does not: choosing candidates. **These are patients' photographs**: the full montage belongs in the
access-controlled store beside the tables, not in mail or tickets.
Concept: worst first, row by row; an image that cannot be shown is a grey tile that says so.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import pictures
from dagster_project.lib.errors import InputError
from dagster_project.lib.mislabels.candidates import IN_SAMPLE_WORD
from dagster_project.lib.photos import open_photo

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

LIMIT = 60
COLUMNS = 10
PHOTO = 168
"""Side of a tile's photograph in pixels."""
THUMBNAIL_BYTES = 80_000
_PAD, _LINE, _FONT, _HEADER = 6, 16, 12, 30
_GREY = "#d0d0d0"


def montage(
    issues: pl.DataFrame, dataset_dir: Path, *, in_sample: bool | None, limit: int = LIMIT
) -> bytes:
    """PNG of the first ``limit`` candidates with captions; same inputs, same bytes.

    Parameters
    ----------
    issues : ``Candidates.issues``; a row without ``image_path`` gets a grey tile.
    dataset_dir : folder that ``image_path`` is relative to.
    in_sample : as in the summary, for the title.
    limit : tiles at most, ten in a row.
    """
    from PIL import Image, ImageDraw

    shown = issues.head(limit)
    columns = max(min(COLUMNS, shown.height), 4)
    rows = max(-(-shown.height // columns), 1)
    captions = [_caption(n, row) for n, row in enumerate(shown.iter_rows(named=True), start=1)]
    lines = max(map(len, captions), default=0)
    width, height = PHOTO + _PAD, PHOTO + lines * _LINE + 2 * _PAD
    canvas = Image.new("RGB", (columns * width + _PAD, rows * height + _HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    title = (
        f"{shown.height} of {issues.height} candidates, worst first; {IN_SAMPLE_WORD[in_sample]}. "
        "Given, \N{RIGHTWARDS ARROW} predicted, row of label_issues.csv and quality"
    )
    draw.text((_PAD, _PAD), title, fill=pictures.INK, font=_font(14))
    for number, (path, caption) in enumerate(zip(shown["image_path"], captions, strict=True)):
        x, y = _PAD + number % columns * width, _HEADER + number // columns * height
        canvas.paste(_tile(dataset_dir, path, PHOTO), (x, y))
        for line, (text, colour) in enumerate(caption):
            place = (x, y + PHOTO + 2 + line * _LINE)
            draw.text(place, text, fill=colour, font=_font(_FONT))
    return _png(canvas)


def thumbnail(
    issues: pl.DataFrame, dataset_dir: Path, *, max_bytes: int = THUMBNAIL_BYTES
) -> bytes:
    """PNG of at most ``max_bytes`` with the worst candidates, no captions, for UI metadata.

    Twelve tiles of 96 pixels in 64 colours; smaller tiles where these take too many bytes.
    """
    from PIL import Image

    tiles = [_tile(dataset_dir, path, 96) for path in issues["image_path"].head(12)]
    columns, rows = max(min(6, len(tiles)), 1), max(-(-len(tiles) // 6), 1)
    data = b""
    for side in (96, 72, 48, 32):
        canvas = Image.new("RGB", (columns * side, rows * side), _GREY)
        for number, tile in enumerate(tiles):
            canvas.paste(tile.resize((side, side)), (number % 6 * side, number // 6 * side))
        data = _png(canvas.quantize(64))
        if len(data) <= max_bytes:
            break
    return data


def _tile(dataset_dir: Path, image_path: str | None, side: int) -> Image.Image:
    from PIL import Image, ImageDraw, ImageOps

    tile = Image.new("RGB", (side, side), _GREY)
    if image_path is None:
        reason = "no image\nat hand"
    else:
        try:
            photo = open_photo(dataset_dir / image_path, hint=side)
        except InputError:
            reason = "unreadable\nimage"
        else:
            photo = ImageOps.contain(photo, (side, side))
            tile.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2))
            return tile
    ImageDraw.Draw(tile).text(
        (side // 2, side // 2),
        reason,
        fill=pictures.INK,
        font=_font(_FONT),
        anchor="mm",
        align="center",
    )
    return tile


def _caption(number: int, row: dict[str, object]) -> list[tuple[str, str]]:
    """Lines below a photograph, each with its colour; a long class name takes two."""
    given = _wrapped(str(row["given_label"]))
    predicted = _wrapped(f"\N{RIGHTWARDS ARROW} {row['predicted_label']}")
    return [
        *((line, pictures.INK) for line in given),
        *((line, pictures.WRONG) for line in predicted),
        (f"{number}: quality {row['quality']:.3f}", "#555555"),
    ]


def _wrapped(text: str) -> list[str]:
    """One line or two, broken after a blank, hyphen or underscore; what is still wide is cut."""
    font = _font(_FONT)
    if font.getlength(text) <= PHOTO:
        return [text]
    ends = [at + 1 for at, sign in enumerate(text) if sign in " -_/" and at > 1]  # not the arrow's
    fits = [end for end in ends if font.getlength(text[:end]) <= PHOTO]
    if not fits:
        return [_fitted(text, PHOTO)]
    return [text[: fits[-1]].rstrip(), _fitted(text[fits[-1] :], PHOTO)]


def _fitted(text: str, width: int) -> str:
    """``text``, its middle left out where it is wider than ``width`` pixels."""
    font = _font(_FONT)
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 2, -1):
        tail = kept // 2
        short = f"{text[: kept - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"
        if font.getlength(short) <= width:
            return short
    return text[:2]


@lru_cache
def _font(size: int) -> FreeTypeFont:
    """The font of the other pictures: it comes with matplotlib, so every machine has the same."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
