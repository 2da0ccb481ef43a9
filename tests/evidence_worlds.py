"""Made-up patients with known rates, for tests of what is claimed about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_project.lib.evidence.rows import PatientRows


@dataclass(frozen=True)
class World:
    """Scores on a grid of 20 steps, each with its own chance to be right; images share fate.

    ``images`` a patient; with ``informative`` sick patients have many images and more errors.
    """

    images: int = 1
    shared: float = 0.6
    informative: bool = False

    def draw(self, rng: np.random.Generator, patients: int) -> PatientRows:
        """``patients`` independent patients."""
        sick = rng.random(patients) < 0.2
        many = np.where(sick, self.images, 1) if self.informative else self.images
        images = np.broadcast_to(many, patients)
        patient = np.repeat(np.arange(patients), images)
        first = np.repeat(np.cumsum(images) - images, images)
        n = patient.size
        step = np.floor(20 * rng.beta(3, 1.2, n)).clip(0, 19).astype(np.int64)
        right = rng.random(n) < self.chance(step, sick[patient])
        same = rng.random(n) < self.shared
        step, right = np.where(same, step[first], step), np.where(same, right[first], right)
        score = (step + 0.5) / 20
        return PatientRows(score, right, right, patient, patients, known=True)

    def chance(
        self, step: npt.NDArray[np.int64], sick: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        base = 0.35 + 0.62 * (step + 0.5) / 20
        return base - 0.25 * sick if self.informative else base

    def truth(self) -> dict[float, tuple[float, float]]:
        """score step -> (W, R), from many patients: their own error is far below what is asked."""
        rows = self.draw(np.random.default_rng(99), 1_500_000 // self.images)
        found = {}
        for score in np.unique(rows.score):
            covered = rows.score >= score
            wrong = int((covered & ~rows.top1).sum())
            found[float(score)] = (wrong / len(rows), wrong / int(covered.sum()))
        return found
