"""Nearest neighbours: which images the model sees as most alike.

Belongs: the exact k nearest neighbours by cosine.
Does not: what they mean (``duplicates``, ``outliers``), reading embeddings (``embedding_table``).
Concept: brute force in blocks of rows: exact, and never more than a block of distances in memory.
N = images, D = width, k = neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    import numpy.typing as npt

K = 10
"""As cleanlab: ``OutOfDistribution`` and Datalab."""
_BLOCK_VALUES = 64_000_000
"""Distances of a block: 256 MB."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each image, nearest first; never itself.

    Attributes
    ----------
    index : (N, k) int64. ``distance`` : (N, k) float64, 1 - cosine, in [0, 2].
    """

    index: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]


def nearest(
    values: npt.NDArray[np.float32], k: int = K, *, on_progress: OnProgress = silent
) -> Neighbours:
    """The exact k nearest neighbours by cosine.

    Parameters
    ----------
    values : (N, D) float32, finite, no row all zero; N >= 2.
    k : at most N - 1 are given.
    on_progress : called with rows done and rows in all.

    Equally near ones are ordered by their place; which of them are among the k is torch's to say
    where more are equally near.
    """
    import torch

    n = len(values)
    k = min(k, n - 1)
    unit = torch.from_numpy(values / np.linalg.norm(values, axis=1, keepdims=True))
    index, distance = np.empty((n, k), np.int64), np.empty((n, k), np.float64)
    rows = max(1, _BLOCK_VALUES // n)
    with torch.inference_mode():
        for first in range(0, n, rows):
            on_progress(first, n, "nearest neighbours")
            block = unit[first : first + rows] @ unit.T
            here = torch.arange(len(block))
            block[here, here + first] = -torch.inf  # never itself
            near, at = (found.numpy() for found in block.topk(k, dim=1))
            order = np.lexsort((at, -near), axis=1)
            index[first : first + rows] = np.take_along_axis(at, order, 1)
            distance[first : first + rows] = 1 - np.take_along_axis(near, order, 1)
    on_progress(n, n, "nearest neighbours")
    return Neighbours(index, distance.clip(0, 2))
