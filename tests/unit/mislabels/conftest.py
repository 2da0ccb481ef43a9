"""A small table of probabilities with planted label errors."""

from __future__ import annotations

import numpy as np
import polars as pl

from dagster_project.lib.probability_table import ProbabilityTable

CLASSES = ("acne", "eczema", "tinea")


def table(probs: list[list[float]], **columns: list[str | None]) -> ProbabilityTable:
    """Ids ``r00, r01...`` and any further columns of the frame."""
    ids = [f"r{i:02d}" for i in range(len(probs))]
    return ProbabilityTable(
        CLASSES, pl.DataFrame({"image_uuid": ids, **columns}), {"probs": np.array(probs)}
    )


def labels(*names: str | None) -> pl.DataFrame:
    ids = [f"r{i:02d}" for i in range(len(names))]
    return pl.DataFrame(
        {"image_uuid": ids, "label": names}, schema={"image_uuid": pl.String, "label": pl.String}
    )


def planted(n: int = 30) -> tuple[ProbabilityTable, pl.DataFrame]:
    """``n`` rows that the model gets right, of which r00 and r04 were given a wrong label."""
    probs = [[0.05, 0.05, 0.05] for _ in range(n)]
    given = []
    for i in range(n):
        probs[i][i % 3] = 0.95 - 0.001 * i
        given.append(CLASSES[i % 3])
    given[0], given[4] = "eczema", "tinea"
    return table(probs), labels(*given)
