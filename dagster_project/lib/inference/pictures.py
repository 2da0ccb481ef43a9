"""The picture of a dump: how sure the model is, before any label is known.

Belongs: what can be drawn from probabilities alone.
Does not: accuracy, tiers (``lib.tiers.pictures``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib import tables


def confidence_png(dump: Path, name: str) -> bytes:
    """Histogram of the largest probability of each row of one dump, rows with errors left out."""
    scores: list[float] = []
    for part in tables.read_arrow_parts(dump, ["probs"]):
        probs = part.column("probs").drop_null().combine_chunks()
        scores += probs.flatten().to_numpy().reshape(len(probs), -1).max(axis=1, initial=0).tolist()
    figure = house.new_figure(5.0, 2.6)
    axes = figure.add_subplot()
    axes.hist(scores, bins=np.linspace(0, 1, 41).tolist(), color=house.CONFIDENT)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="largest probability", ylabel="images")
    axes.set_title(f"Confidence of {len(scores):,} images, {name}")
    return house.png(figure, dpi=90)
