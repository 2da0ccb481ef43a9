"""Fingerprints: what is kept of each picture so that it need not be decoded again.

Belongs: hashes of bytes, pixels and look, a few shares of pixels, and why a picture has none.
Does not: comparing fingerprints (``duplicates``), judging them (``not_skin``).
Concept: a store keyed by the sha256 of the bytes: a second run reads and hashes every file, and
decodes only those that are new. A picture is decoded at the smallest scale whose shorter side has
:data:`SIDE` pixels (JPEG: a power of two below the original), which is enough for all of it.
N = images.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.photos import open_photo
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

VERSION = "2"
"""Raise it when an equal picture would have another fingerprint: stores of before are not used."""
SIDE = 256
"""Pixels of the shorter side that is looked at; a smaller picture is not enlarged."""
HASH_SIDE = 16
"""The perceptual hash has 16 x 16 bits. Of 64 bits 4 differ between distinct lesions in the middle
of bare skin, as many as between copies; of 256 bits it is 62 against 20 (docs/image-issues.md)."""
BLANK = 4.0
"""Standard deviation of the grey levels below which a picture has no look to hash."""
_CHUNK = 512
_MOST_THREADS = 8
_VERSION_KEY = "fingerprint_version"

SCHEMA = {
    "sha256": pl.String,
    "pixels": pl.String,
    "phash": pl.String,
    "width": pl.Int64,
    "height": pl.Int64,
    "skin_share": pl.Float64,
    "textured_skin_share": pl.Float64,
    "edge_share": pl.Float64,
    "flat_share": pl.Float64,
    "error": pl.String,
}


def fingerprint_images(
    rows: pl.DataFrame,
    dataset_dir: Path,
    *,
    known: pl.DataFrame | None = None,
    on_progress: OnProgress = silent,
) -> pl.DataFrame:
    """One row an image: its hashes, its size, its shares of pixels, or why it has none.

    Parameters
    ----------
    rows : (N,) ``image_uuid, image_path``.
    dataset_dir : folder that ``image_path`` is relative to.
    known : an earlier result (:func:`read_known`): bytes that are in it are not decoded.
    on_progress : called with images done and images in all.

    Returns
    -------
    (N,) in the order of ``rows``: ``image_uuid``, ``sha256`` (of the bytes; null where the file
    cannot be read), ``pixels`` (sha256 of the decoded picture), ``phash`` (64 hex digits; null for
    a picture without structure), ``width, height`` (as stored), ``skin_share,
    textured_skin_share, edge_share, flat_share`` (:func:`pixel_shares`), ``error``. All but ids
    and ``sha256`` are null where there is an error.
    """
    store = {} if known is None else {row["sha256"]: row for row in known.iter_rows(named=True)}

    def one(path: str) -> dict[str, Any]:
        return _fingerprint(dataset_dir / path, store)

    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(_threads()) as pool:
        for first in range(0, rows.height, _CHUNK):
            on_progress(first, rows.height, "fingerprints")
            found += pool.map(one, rows["image_path"][first : first + _CHUNK])
    on_progress(rows.height, rows.height, "fingerprints")
    prints = pl.DataFrame(found, schema=SCHEMA, orient="row")
    return pl.concat([rows.select("image_uuid"), prints], how="horizontal")


def write_known(path: Path, prints: pl.DataFrame) -> None:
    """Keep fingerprints for :func:`read_known`."""
    tables.write_arrow(path, tables.with_metadata(prints.to_arrow(), version()))


def read_known(path: Path) -> pl.DataFrame | None:
    """Fingerprints kept at ``path``; None if there are none of this version, or none readable."""
    try:
        table = tables.read_arrow(path)
    except InputError:  # not there, or torn: they are made again
        return None
    if tables.metadata_of(table).get(_VERSION_KEY) != VERSION:
        return None
    return pl.DataFrame(pl.from_arrow(table))


def version() -> dict[str, str]:
    """The key-value metadata of a table of fingerprints."""
    return {_VERSION_KEY: VERSION}


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _fingerprint(path: Path, store: dict[str, dict[str, Any]]) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(SCHEMA)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else type(error).__name__
        return {**nothing, "error": f"unreadable image ({reason})"}
    digest = files.sha256_bytes(data)
    if digest in store:
        return {name: store[digest][name] for name in SCHEMA}
    try:
        photo = open_photo(path, hint=SIDE, data=data)
    except InputError as error:  # its message begins with the file's name: bytes have none
        return {**nothing, "sha256": digest, "error": str(error).partition(": ")[2]}
    return {**nothing, "sha256": digest, **_size(data), **_look(photo)}


def _size(data: bytes) -> dict[str, int]:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return {"width": image.width, "height": image.height}


def _look(photo: Image.Image) -> dict[str, Any]:
    from PIL import Image

    pixels = f"{photo.width}x{photo.height}:".encode() + photo.tobytes()
    scale = SIDE / min(photo.size)
    if scale < 1:
        sides = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
        photo = photo.resize(sides, Image.Resampling.BOX)
    levels = np.asarray(photo)
    return {
        "pixels": files.sha256_bytes(pixels),
        "phash": _perceptual_hash(photo),
        **pixel_shares(levels),
    }


def _perceptual_hash(photo: Image.Image) -> str | None:
    """pHash: 16 x 16 low frequencies of the DCT against their median (Zauner 2010)."""
    import imagehash

    if np.asarray(photo.convert("L"), dtype=np.float64).std() < BLANK:
        return None
    return str(imagehash.phash(photo, hash_size=HASH_SIDE))


def pixel_shares(levels: npt.NDArray[np.uint8]) -> dict[str, float | None]:
    """Shares of pixels that tell paper and screens from skin.

    Parameters
    ----------
    levels : (H, W, 3) uint8 RGB.

    Returns
    -------
    ``skin_share``: warm pixels, red >= green >= blue - 8 and (red - blue) / red >= 0.1: skin of any
    tone under usual light, wood and tungsten-lit paper too. ``textured_skin_share``: the same among
    pixels that are not flat, null where all are: no frame or mask around a photograph counts.
    ``edge_share``: pixels whose grey level
    is more than 40 away from its right or lower neighbour: strokes, hairs. ``flat_share``: pixels
    that equal both in all three channels: what was drawn and not photographed. All but the first
    are null for a picture of one row or column.

    >>> page = np.full((64, 64, 3), 255, dtype=np.uint8)
    >>> pixel_shares(page)
    {'skin_share': 0.0, 'textured_skin_share': None, 'edge_share': 0.0, 'flat_share': 1.0}
    """
    red, green, blue = (levels[..., channel].astype(np.int32) for channel in range(3))
    warm = (red >= green) & (green >= blue - 8) & (10 * (red - blue) >= np.maximum(red, 1))
    shares: dict[str, float | None] = {"skin_share": float(warm.mean())}
    if min(levels.shape[:2]) < 2:
        return {**shares, "textured_skin_share": None, "edge_share": None, "flat_share": None}
    grey = (299 * red + 587 * green + 114 * blue) // 1000
    here, right, below = grey[:-1, :-1], grey[:-1, 1:], grey[1:, :-1]
    edge = np.maximum(np.abs(here - right), np.abs(here - below)) > 40
    packed = (red << 16) | (green << 8) | blue
    here, right, below = packed[:-1, :-1], packed[:-1, 1:], packed[1:, :-1]
    flat = (here == right) & (here == below)
    textured = warm[:-1, :-1][~flat]
    return {
        **shares,
        "textured_skin_share": float(textured.mean()) if textured.size else None,
        "edge_share": float(edge.mean()),
        "flat_share": float(flat.mean()),
    }
