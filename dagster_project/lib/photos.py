"""Photographs for people to look at: decoded upright, in RGB, or a reason why not.

Belongs: opening one image file of a dataset for montages, the packet and fingerprints.
Does not: the model's preprocessing (``inference``), which must not change with a nicer view.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def open_photo(path: Path, *, hint: int | None = None, data: bytes | None = None) -> Image.Image:
    """The photograph, upright (EXIF orientation applied), in RGB.

    Parameters
    ----------
    path : image file.
    hint : shorter side that is needed; a JPEG is then decoded at the smallest scale that has it.
    data : the file's bytes, if they have been read.

    Raises
    ------
    InputError
        Missing or unreadable; the message is one line without the folder's name.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            if hint is not None:
                image.draft("RGB", (hint, hint))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                # Pillow clips 16 bits at 255: keep the high byte instead.
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            photo = upright.convert("RGB")
    except (OSError, TypeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else type(error).__name__
        raise InputError(f"{path.name}: unreadable image ({reason})") from None
    return photo
