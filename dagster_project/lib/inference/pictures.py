"""The picture of a dump: how sure the model is, before any label is known.

Belongs: what can be drawn from probabilities alone.
Does not: accuracy, tiers (``lib.tiers.pictures``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib import pictures as house
from dagster_project.lib.probability_table import from_arrow

if TYPE_CHECKING:
    import pyarrow as pa


def confidence_png(shard: pa.Table, name: str) -> bytes:
    """Histogram of the largest probability of each row of one shard, rows with errors left out."""
    scores = from_arrow({name: shard}).scored().probs.max(axis=1, initial=0.0)
    figure = house.new_figure(5.0, 2.6)
    axes = figure.add_subplot()
    axes.hist(scores, bins=np.linspace(0, 1, 41).tolist(), color=house.CONFIDENT)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="largest probability", ylabel="images")
    axes.set_title(f"Confidence of {len(scores):,} images, {name}")
    return house.png(figure, dpi=90)
