"""From a file of any kind to the pixels the network was trained on.

Belongs: decoding, and the resize and normalisation that the artifact declares.
Does not: guessing (a missing key is an error), batching, the network.
Concept: three recipes are published for one and the same network, and the wrong one moves
probabilities by up to 4e-3; so the artifact says which, and this module owns the few lines.
Pillow decides what a picture is and reads every format; the pixels of a plain JPEG come from
simplejpeg, which gives the same bits from the same codec in less than half the time, because it
writes them where they are wanted (12 megapixels: 59 ms in place of 148).
H, W = size of the photograph, S = side of the network's input.
"""

from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagster_project.lib.errors import InputError, some

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from PIL.Image import Image as PilImage

    Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 89_478_485
"""A larger picture is refused before its pixels are allocated (Pillow's own limit)."""
_KEYS = ("size", "resize", "resample", "antialias", "mean", "std")
_ORIENTATION = "exif_orientation"
_EXIF_TAG = 0x0112
_ZOO = (
    OSError,
    TypeError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
"""What Pillow's plugins raise on broken files (DecompressionBombError is caught by name)."""


class DecodeError(Exception):
    """A picture that cannot be used; the one-line message becomes the row's ``error``."""


@dataclass(frozen=True)
class Preprocess:
    """``config.json``'s ``preprocess``, checked.

    Attributes
    ----------
    size : S, side of the square input in pixels.
    resize : ``squash`` changes the aspect ratio; ``pad`` first centres the picture on a black
        square of its longer side.
    resample : ``bilinear`` or ``bicubic``.
    antialias : widen the kernel when shrinking, as Pillow always does and tf.image does not.
    mean, std : of the three channels, in units of 0 to 1.
    upright : turn the picture as its EXIF orientation says (``exif_orientation``: ``apply``, also
        where the key is left out, or ``ignore``).
    """

    size: int
    resize: Literal["squash", "pad"]
    resample: Literal["bilinear", "bicubic"]
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    upright: bool = True


def parse_preprocess(config: Mapping[str, Any]) -> Preprocess:
    """The ``preprocess`` object of a parsed ``config.json``; nothing is guessed.

    Raises
    ------
    InputError
        A key is missing or unknown, or its value is not allowed.
    """
    raw = config.get("preprocess")
    if not isinstance(raw, Mapping):
        raise InputError(f"config.json, preprocess: missing; it needs the keys {some(_KEYS, 9)}")
    missing = [key for key in _KEYS if key not in raw]
    unknown = [key for key in raw if key not in (*_KEYS, _ORIENTATION)]
    if missing or unknown:
        word = f"missing {some(missing, 9)}" if missing else f"unknown {some(unknown, 9)}"
        raise InputError(f"config.json, preprocess: {word}; the keys are {some(_KEYS, 9)}")
    if not isinstance(raw["size"], int) or not 8 <= raw["size"] <= 4096:
        raise InputError(f"config.json, preprocess.size: got {raw['size']!r}; allowed 8 to 4096")
    _choice(raw, "resize", ("squash", "pad"))
    _choice(raw, "resample", ("bilinear", "bicubic"))
    _choice(raw, "antialias", (True, False))
    mean, std = _triple(raw, "mean"), _triple(raw, "std")
    if min(std) <= 0:
        raise InputError(f"config.json, preprocess.std: got {list(std)}; each must be > 0")
    upright = raw.get(_ORIENTATION, "apply")
    _choice({_ORIENTATION: upright}, _ORIENTATION, ("apply", "ignore"))
    antialias = bool(raw["antialias"])
    return Preprocess(
        raw["size"], raw["resize"], raw["resample"], antialias, mean, std, upright == "apply"
    )


def decode(source: Path | bytes, *, upright: bool = True) -> Pixels:
    """A photograph as (H, W, 3) uint8 RGB.

    Transparency is laid on white; 16-bit pixels keep their high byte (Pillow's own conversion
    clips them to white); CMYK, palettes and greyscale are converted; of an animation the first
    frame counts.

    Parameters
    ----------
    source : a file, or its bytes.
    upright : turn and mirror it as its EXIF orientation says.

    Raises
    ------
    DecodeError
        Missing, unreadable, truncated, too large, or no picture at all.
    """
    data = source if isinstance(source, bytes) else read_bytes(source)
    pixels, orientation = _pixels(data)
    return oriented(pixels, orientation) if upright else pixels


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels as they are to be shown, by the EXIF tag (1 to 8; anything else is 1).

    >>> oriented(np.array([[[1], [2]], [[3], [4]]], dtype=np.uint8), 6)[..., 0].tolist()
    [[3, 1], [4, 2]]
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file, else a :class:`DecodeError` that names no path."""
    try:
        if not path.is_file():
            raise DecodeError("no such file")
        return path.read_bytes()
    except OSError as error:
        raise DecodeError(f"unreadable file ({error.strerror})") from None


def resize(image: Pixels, preprocess: Preprocess) -> Pixels:
    """(H, W, 3) uint8 -> (S, S, 3) uint8, rounded as Pillow rounds."""
    import torch
    from torch.nn.functional import interpolate

    if preprocess.resize == "pad":
        image = _padded(image)
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    resized = interpolate(
        pixels,
        size=(preprocess.size, preprocess.size),
        mode=preprocess.resample,
        align_corners=False,
        antialias=preprocess.antialias,
    )
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def normalise(pixels: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, (x / 255 - mean) / std, on its own device."""
    mean = pixels.new_tensor(preprocess.mean, dtype=_float32())
    std = pixels.new_tensor(preprocess.std, dtype=_float32())
    scaled = (pixels.to(_float32()) / 255.0 - mean) / std
    return scaled.permute(0, 3, 1, 2).contiguous()


def to_tensor(image: Pixels, preprocess: Preprocess) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, S, S) float32: :func:`resize`, then :func:`normalise`."""
    import torch

    return normalise(torch.from_numpy(resize(image, preprocess))[None], preprocess)[0]


def finite_number(value: object) -> bool:
    """Whether a value from JSON is a number that a float can hold (no NaN, no 10^400, no bool).

    >>> [finite_number(x) for x in (1, 0.5, float("nan"), 10**400, True, "1")]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _pixels(data: bytes) -> tuple[Pixels, int]:
    """The stored pixels as RGB, and the EXIF orientation."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DecodeError(f"{opened.width} x {opened.height} pixels is over the limit")
            plain = opened.format == "JPEG" and opened.mode == "RGB"
            fast = _plain_jpeg(data) if plain else None
            if fast is not None and fast.shape == (opened.height, opened.width, 3):
                return fast, _orientation(opened)
            opened.load()
            return _rgb(opened), _orientation(opened)
    except UnidentifiedImageError:
        raise DecodeError("not a picture in a known format") from None
    except Image.DecompressionBombError:
        raise DecodeError("more pixels than the limit") from None
    except _ZOO as error:
        # No addresses or folders: equal pictures must give equal rows everywhere.
        reason = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
        raise DecodeError(f"broken picture ({reason or type(error).__name__})") from None


def _plain_jpeg(data: bytes) -> Pixels | None:
    """The pixels of a flawless RGB JPEG; None where Pillow shall decide what a flaw means."""
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, RuntimeError, MemoryError):
        return None
    return pixels


def _orientation(image: PilImage) -> int:
    found = image.getexif().get(_EXIF_TAG, 1)
    return found if isinstance(found, int) else 1


def _rgb(image: PilImage) -> Pixels:
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
            raise DecodeError(f"pixels of mode {image.mode} have no known range")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer)
    return np.array(image.convert("RGB"))


def _padded(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _choice(raw: Mapping[str, Any], key: str, allowed: tuple[object, ...]) -> None:
    if raw[key] not in allowed:
        raise InputError(
            f"config.json, preprocess.{key}: got {raw[key]!r}; allowed are {some(allowed)}"
        )


def _triple(raw: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    value = raw[key]
    numbers = value if isinstance(value, list | tuple) else []
    if len(numbers) != 3 or not all(finite_number(x) for x in numbers):
        raise InputError(
            f"config.json, preprocess.{key}: got {str(value)[:80]}; three numbers are needed"
        )
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
