"""Rows that satisfy every table of the original run (15,561 images), and small photographs.

The original rows are not here; these are constructed so that counting them gives the published
figures. Scores of the tiers are chosen so that the thresholds .815, .444 and .250 come out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.tiers.scored_rows import score_rows

K = 25
# (rows, of which rank 0, of which rank 1 or 2, lowest score, highest score), best scores first.
BLOCKS = (
    (5835, 5547, 240, 0.885, 0.999),  # the stricter option: .885 covers 37.5 %
    (1861, 1512, 241, 0.815, 0.8849),
    (5, 2, 2, 0.8145, 0.8145),  # lowering the threshold past .815 would exceed the target
    (4826, 3156, 1263, 0.521, 0.8144),
    (1006, 515, 366, 0.444, 0.5209),
    (6, 2, 2, 0.4436, 0.4436),  # rounding .4436 up to .444 refers these six as well
    (1011, 420, 409, 0.352, 0.4435),
    (1011, 302, 452, 0.201, 0.3519),
)
# In the possible tier: rows with a second (third) item above .30, .25 and .20, and how many of
# those rows have the truth second.
SECOND = ((0.35, 1774, 582), (0.27, 613, 187), (0.22, 730, 163))
THIRD = ((0.32, 18), (0.26, 58), (0.21, 146))


def _probability_table() -> tuple[ProbabilityTable, pl.DataFrame]:
    """The 15,561 rows as a probability table with their labels, in a shuffled order."""
    rng = np.random.default_rng(3)
    score, rank = [], []
    for rows, first, second_or_third, low, high in BLOCKS:
        score.append(np.linspace(high, low, rows))
        parts = [first, second_or_third, rows - first - second_or_third]
        rank.append(rng.permutation(np.repeat([0, 1, 7], parts)))
    scores, ranks = np.concatenate(score), np.concatenate(rank)
    n = len(scores)
    second, third = np.full(n, 0.10), np.full(n, 0.05)
    possible = (scores >= 0.444) & (scores < 0.815)
    near: list[int] = np.flatnonzero(possible & (ranks == 1)).tolist()
    others: list[int] = np.flatnonzero(possible & (ranks != 1)).tolist()
    placed: list[int] = []
    for value, rows, with_truth in SECOND:
        chosen = [near.pop() for _ in range(with_truth)]
        chosen += [others.pop() for _ in range(rows - with_truth)]
        second[chosen] = value
        placed += chosen
    for value, rows in THIRD:
        # rows whose third item is high have a second above it: they come first in `placed`
        chosen = [placed.pop(0) for _ in range(rows)]
        third[chosen] = value
    ordered = np.tile(0.001 * np.arange(K, 0, -1), (n, 1))
    ordered[:, 0], ordered[:, 1], ordered[:, 2] = scores, second, third
    turn = np.arange(n) % K
    columns = (np.arange(K)[None, :] + turn[:, None]) % K
    probs = np.empty((n, K))
    np.put_along_axis(probs, columns, ordered, axis=1)
    classes = tuple(f"class_{i:02d}" for i in range(K))
    truth = (ranks + turn) % K
    order = rng.permutation(n)
    frame = pl.DataFrame(
        {
            "image_uuid": [f"image_{i:05d}" for i in order],
            "patient_id": [f"patient_{i // 2:05d}" for i in order],
        }
    )
    labels = frame.select("image_uuid").with_columns(
        pl.Series("label", [classes[i] for i in truth[order]])
    )
    return ProbabilityTable(classes, frame, {"probs": probs[order]}), labels


@pytest.fixture(scope="session")
def original_table() -> tuple[ProbabilityTable, pl.DataFrame]:
    """Probabilities and labels of the constructed rows."""
    return _probability_table()


@pytest.fixture(scope="session")
def original(original_table: tuple[ProbabilityTable, pl.DataFrame]) -> pl.DataFrame:
    """The constructed rows, scored."""
    return score_rows(*original_table)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., pl.DataFrame]:
    """Write one coloured JPEG for each id; returns ``image_uuid, image_path, patient_id``."""

    def write(ids: list[str]) -> pl.DataFrame:
        (tmp_path / "data").mkdir(exist_ok=True)
        for number, uuid in enumerate(ids):
            colour = (200, 40 + number * 5 % 200, 90)
            Image.new("RGB", (40, 30), colour).save(tmp_path / "data" / f"{uuid}.jpg")
        return pl.DataFrame(
            {
                "image_uuid": ids,
                "image_path": [f"{uuid}.jpg" for uuid in ids],
                "patient_id": [f"p{uuid}" for uuid in ids],
            }
        )

    return write


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's set-up, and an empty working folder: for tests of commands."""
    for name in list(os.environ):
        if name.startswith(("TIER_", "POSSIBLE_ITEM", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
