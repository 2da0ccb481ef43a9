"""Neighbours are exact; outliers are cleanlab's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.image_issues import neighbours
from dagster_project.lib.image_issues.neighbours import Neighbours, nearest
from dagster_project.lib.image_issues.outliers import outliers, scores


def cloud(n: int = 50, width: int = 12) -> np.ndarray:
    values = np.random.default_rng(4).normal(1, 0.3, (n, width)).astype(np.float32)
    values[7] = -values[7]
    return values


def test_neighbours_are_those_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_VALUES", 50 * 7)  # several blocks
    values = cloud().astype(np.float64)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, np.inf)
    seen: list[int] = []
    found = nearest(cloud(), 4, on_progress=lambda done, total, note="": seen.append(done))
    assert (found.index == np.argsort(distance, axis=1)[:, :4]).all()
    np.testing.assert_allclose(found.distance, np.sort(distance, axis=1)[:, :4], atol=1e-6)
    assert seen[-1] == 50
    assert len(seen) > 3


def test_an_image_is_never_its_own_neighbour_even_among_copies() -> None:
    found = nearest(np.ones((5, 3), dtype=np.float32), 10)
    assert found.index.shape == (5, 4)
    assert not (found.index == np.arange(5)[:, None]).any()
    assert (found.index == np.sort(found.index, axis=1)).all()
    assert found.distance.max() < 1e-6


def test_scores_are_those_of_cleanlab() -> None:
    from cleanlab.outlier import OutOfDistribution

    expected = OutOfDistribution({"k": 10}).fit_score(features=cloud())
    distance = nearest(cloud(), 10).distance.mean(axis=1)
    np.testing.assert_allclose(scores(distance), expected, atol=1e-5)


def test_what_lies_far_from_all_is_an_outlier_and_the_cut_is_datalabs() -> None:
    ids = pl.Series("image_uuid", [f"i{n:02d}" for n in range(50)])
    found = nearest(cloud(), 10)
    table = outliers(ids, found)
    distance = found.distance.mean(axis=1)
    q1, q3 = np.percentile(distance, [25, 75])
    cut = q3 + (1 / 0.37037 - 1) * (q3 - q1)
    assert table["image_uuid"][0] == "i07"
    assert set(table["image_uuid"]) == {f"i{n:02d}" for n in np.flatnonzero(distance > cut)}
    assert table["score"].is_sorted()


def test_the_cut_counted_by_hand() -> None:
    # quartiles 1 and 2: the cut is 2 + 1.7; 3.69 is inside, 3.71 is not
    distance = np.array([*[1.0] * 10, *[1.5] * 10, *[2.0] * 9, 3.69, 3.71]) / 10
    found = Neighbours(np.zeros((31, 1), dtype=np.int64), distance[:, None])
    table = outliers(pl.Series("image_uuid", [f"i{n:02d}" for n in range(31)]), found)
    assert table["image_uuid"].to_list() == ["i30"]
    assert table["score"].to_list() == pytest.approx([np.exp(-3.71 / 1.5)])


def test_a_handful_of_images_has_no_outlier() -> None:
    values = cloud(19)
    ids = pl.Series("image_uuid", [f"i{n}" for n in range(19)])
    assert outliers(ids, nearest(values)).is_empty()
    copies = np.ones((30, 3), dtype=np.float32)
    equal = outliers(pl.Series([str(n) for n in range(30)]), nearest(copies))
    assert equal.is_empty()
