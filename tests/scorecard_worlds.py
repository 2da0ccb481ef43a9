"""Small worlds for the scorecard's tests: several configurations on the same labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_project.lib.scorecard.answers import Answers

NAMES = "abcdefghijklmnopqrstuvwxyz"


def answers_of(
    true: Sequence[int],
    probs: Mapping[str, Any],
    patient: Sequence[int] | None = None,
    *,
    classes: int | None = None,
) -> Answers:
    """Answers with classes ``a, b...``; without patients every image is its own."""
    rows = {name: np.asarray(values, dtype=np.float64) for name, values in probs.items()}
    of = np.arange(len(true)) if patient is None else np.unique(patient, return_inverse=True)[1]
    k = classes or next(iter(rows.values())).shape[1]
    return Answers(
        classes=tuple(NAMES[:k]),
        image_uuid=pl.Series("image_uuid", [f"i{at:05d}" for at in range(len(true))]),
        patient=of.astype(np.int64),
        n_patients=int(of.max()) + 1,
        patients_known=patient is not None,
        true=np.asarray(true, dtype=np.int64),
        probs=rows,
    )


def answering(predicted: Sequence[int], k: int) -> npt.NDArray[np.float64]:
    """(N, K) probabilities that name these classes: .6, the next class .3, the rest 0."""
    at = np.arange(len(predicted))
    values = np.zeros((len(predicted), k))
    values[at, predicted] = 0.6
    values[at, (np.asarray(predicted) + 1) % k] = 0.3
    return values


def seeded(n: int = 240, k: int = 4, images: int = 3, configs: int = 3) -> Answers:
    """Configurations that differ on some images; a rare last class; images of a patient alike."""
    rng = np.random.default_rng(5)
    patient = np.arange(n) // images
    true = np.minimum(rng.geometric(0.5, n) - 1, k - 1)
    shared = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[true]
    logits = {f"c{at}": shared + 0.7 * rng.normal(size=(n, k)) for at in range(configs)}
    probs = {name: 1 / (1 + np.exp(-x)) for name, x in logits.items()}
    return answers_of(true.tolist(), probs, patient.tolist())
