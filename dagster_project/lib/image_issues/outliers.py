"""Outliers: images that are like no others, as the model sees them.

Belongs: score and threshold.
Does not: neighbours (``neighbours``), pixels (``not_skin``).
Concept: the mean distance to the ten nearest neighbours (Kuan and Mueller, "Back to the basics",
arXiv 2207.03061), scored as cleanlab's ``OutOfDistribution`` does and cut as its Datalab does. An
outlier may be garbage, a rare disease or a rare skin tone: a reason to look, never to drop. Many
copies of one odd picture are no outliers, but ``duplicates``. N = images with an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.image_issues.neighbours import Neighbours

THRESHOLD = 0.37037
"""Datalab's: a mean distance above Q3 + (1 / 0.37037 - 1) IQR = Q3 + 1.7 IQR is an outlier."""
FEWEST = 20
"""Images below which the quartiles of their distances say little, and none is called an outlier."""


def outliers(image_uuids: pl.Series, neighbours: Neighbours) -> pl.DataFrame:
    """The outliers, worst first.

    Parameters
    ----------
    image_uuids : (N,) of the neighbours' rows.
    neighbours : (N, k).

    Returns
    -------
    ``image_uuid, distance, score``, sorted by score, then id. ``distance`` is the mean over the k
    nearest; ``score`` in [0, 1] is exp(-distance / median distance), low is odd. Empty if N < 20.
    """
    schema = {"image_uuid": pl.String, "distance": pl.Float64, "score": pl.Float64}
    if image_uuids.len() < FEWEST:
        return pl.DataFrame(schema=schema)
    distance = neighbours.distance.mean(axis=1)
    low, high = np.quantile(distance, [0.25, 0.75])
    cut = high + (1 / THRESHOLD - 1) * (high - low)
    found = pl.DataFrame(
        {"image_uuid": image_uuids, "distance": distance, "score": scores(distance)}, schema=schema
    )
    return found.filter(pl.Series(distance > cut)).sort("score", "image_uuid")


def scores(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) exp(-distance / median distance), in [0, 1]; 1 for an image among equal ones.

    >>> scores(np.array([0.1, 0.2, 0.4])).round(3).tolist()
    [0.607, 0.368, 0.135]
    """
    smallest = np.finfo(np.float64).eps * 100  # as cleanlab: more than half may be copies
    return np.exp(-distance / max(float(np.median(distance)), smallest))
