"""Tiles: photographs with captions on one sheet, and the small sheet for the UI.

Belongs: laying out photographs, shortening text, deterministic PNG bytes of them.
Does not: which photographs (``mislabels``, ``image_issues``), plots (``pictures``).
**These are patients' photographs**: a sheet belongs in the access-controlled store beside the
tables, not in mail or tickets.
Concept: row by row, in the order given; an image that cannot be shown is a grey tile that says so.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import pictures
from dagster_project.lib.errors import InputError
from dagster_project.lib.photos import open_photo

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

PHOTO = 168
"""Side of a tile's photograph in pixels."""
THUMBNAIL_BYTES = 80_000
QUIET = "#555555"
_PAD, _GAP, _LINE, _FONT, _HEADER = 6, 2, 16, 12, 30
_GREY = "#d0d0d0"


@dataclass(frozen=True)
class Tile:
    """One photograph, or several side by side, over lines of text, each in its colour."""

    paths: Sequence[str | None]
    lines: Sequence[tuple[str, str]]


def sheet(tiles: Sequence[Tile], dataset_dir: Path, *, title: str, columns: int) -> bytes:
    """PNG of the tiles under ``title``, or of the title alone; same inputs, same bytes.

    Parameters
    ----------
    tiles : all with equally many photographs and lines.
    dataset_dir : folder that paths are relative to; a path that is None gets a grey tile.
    columns : tiles in a row at most.
    """
    from PIL import Image, ImageDraw

    photos = max((len(tile.paths) for tile in tiles), default=1)
    lines = max((len(tile.lines) for tile in tiles), default=0)
    inside = photos * (PHOTO + _GAP) - _GAP
    columns = max(min(columns, len(tiles)), -(-4 // photos))
    rows = -(-len(tiles) // columns)
    width, height = inside + _PAD, PHOTO + lines * _LINE + 2 * _PAD
    canvas = Image.new("RGB", (columns * width + _PAD, rows * height + _HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_PAD, _PAD), title, fill=pictures.INK, font=font(14))
    for number, tile in enumerate(tiles):
        x, y = _PAD + number % columns * width, _HEADER + number // columns * height
        for place, path in enumerate(tile.paths):
            canvas.paste(photo_tile(dataset_dir, path, PHOTO), (x + place * (PHOTO + _GAP), y))
        for line, (text, colour) in enumerate(tile.lines):
            at = (x, y + PHOTO + 2 + line * _LINE)
            draw.text(at, fitted(text, inside), fill=colour, font=font(_FONT))
    return png_of(canvas)


def thumbnail(
    paths: Sequence[str | None], dataset_dir: Path, *, max_bytes: int = THUMBNAIL_BYTES
) -> bytes:
    """PNG of at most ``max_bytes`` with the first twelve, no captions, for UI metadata.

    Tiles of 96 pixels in 64 colours; smaller tiles where these take too many bytes.
    """
    from PIL import Image

    tiles = [photo_tile(dataset_dir, path, 96) for path in paths[:12]]
    columns, rows = max(min(6, len(tiles)), 1), max(-(-len(tiles) // 6), 1)
    data = b""
    for side in (96, 72, 48, 32):
        canvas = Image.new("RGB", (columns * side, rows * side), _GREY)
        for number, tile in enumerate(tiles):
            canvas.paste(tile.resize((side, side)), (number % 6 * side, number // 6 * side))
        data = png_of(canvas.quantize(64))
        if len(data) <= max_bytes:
            break
    return data


def photo_tile(dataset_dir: Path, image_path: str | None, side: int) -> Image.Image:
    """The photograph inside a square of ``side`` pixels, or a grey one that says why not."""
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
    middle = (side // 2, side // 2)
    ImageDraw.Draw(tile).text(
        middle, reason, fill=pictures.INK, font=font(_FONT), anchor="mm", align="center"
    )
    return tile


def wrapped(text: str, width: int = PHOTO) -> list[str]:
    """One line or two, broken after a blank, hyphen or underscore; what is still wide is cut."""
    face = font(_FONT)
    if face.getlength(text) <= width:
        return [text]
    ends = [at + 1 for at, sign in enumerate(text) if sign in " -_/" and at > 1]
    fits = [end for end in ends if face.getlength(text[:end]) <= width]
    if not fits:
        return [fitted(text, width)]
    return [text[: fits[-1]].rstrip(), fitted(text[fits[-1] :], width)]


def fitted(text: str, width: int) -> str:
    """``text``, its middle left out where it is wider than ``width`` pixels."""
    face = font(_FONT)
    if face.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 2, -1):
        tail = kept // 2
        short = f"{text[: kept - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"
        if face.getlength(short) <= width:
            return short
    return text[:2]


@lru_cache
def font(size: int) -> FreeTypeFont:
    """The font of the other pictures: it comes with matplotlib, so every machine has the same."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def png_of(image: Image.Image) -> bytes:
    """Optimised PNG bytes: no time stamp inside."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
