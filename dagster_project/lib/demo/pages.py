"""Pictures that are not skin: scanned pages and phone screens.

Belongs: the garbage that any upload form collects.
Does not: deciding which images are garbage (``population``).
Concept: plain text that names no disease; what the page says must not say its label.
"""

from __future__ import annotations

import numpy as np

from dagster_project.lib.demo.drawing import Map, noise, plane

_WORDS = [
    "name",
    "date",
    "page",
    "received",
    "invoice",
    "total",
    "address",
    "thank",
    "you",
    "please",
    "find",
    "attached",
    "the",
    "results",
    "of",
    "your",
    "visit",
    "next",
    "appointment",
    "monday",
    "fee",
    "paid",
    "signature",
    "insurance",
    "number",
    "phone",
    "form",
    "version",
    "terms",
    "apply",
    "see",
    "reverse",
    "side",
    "copy",
    "archive",
    "department",
]


def page(shape: tuple[int, int], rng: np.random.Generator) -> Map:
    """(H, W, 3) in [0, 1]: a scanned letter, or one time in three a phone screen."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = shape
    screen = rng.random() < 1 / 3
    paper = (28, 30, 36) if screen else (238, 234, 224)
    ink = (220, 225, 235) if screen else (40, 38, 44)
    image = Image.new("RGB", (width * 2, height * 2), paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=int(rng.integers(11, 16)))
    if screen:
        draw.rectangle((0, 0, width * 2, 16), fill=(60, 110, 190))
    for top in range(22, height * 2 - 12, int(rng.integers(15, 22))):
        if rng.random() < 0.15:
            continue
        line = " ".join(rng.choice(_WORDS, int(rng.integers(3, 8))))
        draw.text((10, top), line, fill=ink, font=font)
    turned = image.rotate(rng.normal(0, 2), fillcolor=paper, resample=Image.Resampling.BICUBIC)
    small = turned.resize((width, height), Image.Resampling.BOX)
    light = 1 + 0.12 * plane(*shape).x + 0.02 * noise(shape, 4, rng)
    return np.clip(np.asarray(small, dtype=np.float32) / 255 * light[..., None], 0, 1)
