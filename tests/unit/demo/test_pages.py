import numpy as np

from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.demo.pages import _WORDS, page


def test_a_page_is_not_skin_coloured() -> None:
    for seed in range(6):
        colours = page((96, 96), np.random.default_rng(seed)).reshape(-1, 3)
        assert abs(np.median(colours[:, 0]) - np.median(colours[:, 1])) < 0.1


def test_pages_have_the_shape_asked_and_differ() -> None:
    a, b, c = (page((96, 112), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert a.shape == (96, 112, 3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_no_word_on_a_page_names_a_disease() -> None:
    parts = {part for name in CLASSES for part in name.split("_")}
    assert parts.isdisjoint(_WORDS)
