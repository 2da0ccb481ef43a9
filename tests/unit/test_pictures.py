"""Pictures: same figure, same bytes, and no state shared with anybody's notebook."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dagster_project.lib import pictures


def drawn(color: str = pictures.CONFIDENT) -> bytes:
    figure = pictures.new_figure(3, 2)
    figure.add_subplot().plot([0, 1], [0, 1], color=color, label="x")
    return pictures.png(figure)


def test_the_same_picture_is_the_same_bytes_and_another_is_not() -> None:
    assert drawn() == drawn()
    assert drawn() != drawn(pictures.WRONG)


def test_neither_time_nor_version_is_inside() -> None:
    with Image.open(io.BytesIO(drawn())) as image:
        assert image.format == "PNG"
        assert image.size == (330, 220)
        assert set(image.info) == {"dpi"}


def test_drawing_leaves_pyplot_alone() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    drawn()
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("one", ["CONFIDENT", "POSSIBLE", "REFER", "WRONG"])
def test_no_two_meanings_share_a_colour(one: str) -> None:
    palette = {n: getattr(pictures, n) for n in ("CONFIDENT", "POSSIBLE", "REFER", "WRONG")}
    assert list(palette.values()).count(palette[one]) == 1


def test_fewer_colours_are_fewer_bytes_and_keep_a_rare_colour() -> None:
    figure = pictures.new_figure(6, 5)
    axes = figure.subplots(5, 5)
    for each in axes.flat:
        each.plot([0, 1], [0, 1], color=pictures.CONFIDENT, label="x")
    axes[0, 0].plot([0.5], [0.5], marker="o", color=pictures.CERTIFIED)
    data = pictures.png(figure)
    small = pictures.fewer_colours(data)
    assert len(small) < len(data) / 2
    assert small == pictures.fewer_colours(data)
    with Image.open(io.BytesIO(data)) as one, Image.open(io.BytesIO(small)) as two:
        pixels = [np.asarray(image.convert("RGB")).astype(int) for image in (one, two)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 20
