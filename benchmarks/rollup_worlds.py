"""Made-up images with known truth, for the roll-up's tests and simulation. Not a benchmark.

The shares of a row are tilted away from the chances its truth is drawn from (``sharpness``), so
that thresholds have something to find. Images of a patient may share one look (``shared``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.rollup.taxonomy import Taxonomy

if TYPE_CHECKING:
    import numpy.typing as npt

TAXONOMY = Taxonomy(
    ("class", "family", "group"),
    (
        ("eczema", "eczematous", "inflammatory"),
        ("psoriasis", "papulosquamous", "inflammatory"),
        ("contact", "eczematous", "inflammatory"),
        ("tinea", "fungal", "infectious"),
        ("lichen", "papulosquamous", "inflammatory"),
        ("herpes", "viral", "infectious"),
    ),
)
"""Group "infectious" holds two families; family "fungal" and "viral" hold one class each."""


@dataclass(frozen=True)
class World:
    """``images`` a patient; ``sharpness`` above 1: the model is surer than it may be."""

    images: int = 1
    shared: float = 0.6
    sharpness: float = 1.3
    taxonomy: Taxonomy = TAXONOMY

    def draw(
        self, rng: np.random.Generator, patients: int
    ) -> tuple[npt.NDArray[np.float64], pl.DataFrame]:
        """(N, K) shares that sum to 1, and the rows: ``image_uuid, patient_id, label``."""
        patient = np.repeat(np.arange(patients), self.images)
        n, k = patient.size, len(self.taxonomy.classes)
        # a look: a little of everything, more of one family, most of one class
        family = self.taxonomy.ancestors[:, 1]
        main = rng.integers(k, size=n)
        looks = rng.gamma(0.3, size=(n, k))
        looks += rng.gamma(0.6, size=(n, 1)) * (family == family[main][:, None])
        looks[np.arange(n), main] += rng.gamma(2.0, size=n)
        chances = looks / looks.sum(axis=1, keepdims=True)
        true = (rng.random((n, 1)) > np.cumsum(chances, axis=1)).sum(axis=1).clip(0, k - 1)
        first = patient * self.images
        same = rng.random(n) < self.shared
        chances[same], true[same] = chances[first[same]], true[first[same]]
        shares = chances**self.sharpness
        shares /= shares.sum(axis=1, keepdims=True)
        names = np.array(self.taxonomy.classes)
        rows = pl.DataFrame(
            {
                "image_uuid": [f"i{at:07d}" for at in range(n)],
                "patient_id": [f"p{at:07d}" for at in patient.tolist()],
                "label": names[true],
            }
        )
        return shares, rows
