"""Pages and screens are found; skin of any tone, and what cannot be judged, is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib.image_issues.fingerprints import fingerprint_images
from dagster_project.lib.image_issues.not_skin import not_skin

from .conftest import Saver, page, skin


def screen() -> Image.Image:
    levels = np.full((400, 300, 3), (24, 26, 30), dtype=np.uint8)
    levels[:40] = (60, 110, 190)
    return Image.fromarray(levels)


def test_pages_and_screens_are_found_worst_first_and_skin_is_not(
    save: Saver, tmp_path: Path
) -> None:
    dark = Image.fromarray((np.asarray(skin(2)) * 0.35).astype(np.uint8))
    pale = Image.fromarray((np.asarray(skin(3)) * 0.4 + 150).clip(0, 255).astype(np.uint8))
    framed = Image.new("RGB", (900, 900))  # a mask, or a dermatoscope's black surroundings
    framed.paste(skin(4), (300, 300))
    frame = save(
        {"page": page(), "screen": screen(), "skin": skin(1), "dark": dark, "pale": pale,
         "framed": framed}
    )  # fmt: skip
    found = not_skin(fingerprint_images(frame, tmp_path / "data"))
    assert set(found.select("image_uuid", "reason").rows()) == {
        ("screen", "screen or drawing"),
        ("page", "page of text"),
    }
    assert found["score"].is_sorted()


def prints(**shares: float | int | None) -> pl.DataFrame:
    row = {
        "image_uuid": "a",
        "width": 300,
        "height": 200,
        "skin_share": 0.1,
        "textured_skin_share": None,
        "edge_share": 0.0,
        "flat_share": 0.0,
        **shares,
    }
    return pl.DataFrame([row])


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        pytest.param({"flat_share": 0.5}, "screen or drawing", id="half is flat"),
        pytest.param({"flat_share": 0.499}, None, id="not quite half"),
        pytest.param({"edge_share": 0.08}, "page of text", id="strokes"),
        pytest.param({"edge_share": 0.079}, None, id="few strokes"),
        pytest.param({"flat_share": 0.9, "skin_share": 0.31}, None, id="has skin"),
        pytest.param({"flat_share": 0.9, "textured_skin_share": 0.31}, None, id="framed skin"),
        pytest.param({"flat_share": 0.9, "edge_share": 0.2}, "screen or drawing", id="both"),
        pytest.param({"flat_share": 0.9, "height": 63}, None, id="too small"),
        pytest.param({"flat_share": None, "edge_share": None}, None, id="no shares"),
        pytest.param({"flat_share": 0.9, "skin_share": None}, None, id="unreadable"),
    ],
)
def test_the_rule_at_its_borders(shares: dict[str, float], reason: str | None) -> None:
    found = not_skin(prints(**shares))["reason"].to_list()
    assert found == ([] if reason is None else [reason])
