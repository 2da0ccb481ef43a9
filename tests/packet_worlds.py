"""Judged images to ask about: of every tier, agreement and flag, and a plan for them."""

from __future__ import annotations

import numpy as np
import polars as pl

from dagster_project.lib.review.design import (
    Plan,
    Sampling,
    plan_sample,
    stratified,
    worst_first,
)
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.8, 0.4, 0.25)


def judged(n: int = 400, seed: int = 0, images: int = 3) -> pl.DataFrame:
    """Images of patients with one to ``images`` images, of every tier, agreement and flag."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, images + 1, n)
    patient = np.repeat(np.arange(n), sizes)[:n]
    differs = rng.random(n) < 0.4
    return pl.DataFrame(
        {
            "image_uuid": [f"i{k:04d}" for k in range(n)],
            "patient_id": [f"p{k:04d}" for k in patient],
            "given_label": "acne",
            "predicted_label": np.where(differs, "tinea", "acne"),
            "quality": rng.random(n),
            "predicted_prob": rng.choice([0.2, 0.4, 0.6, 0.8, 0.95], n),
            "image_path": [f"i{k:04d}.jpg" for k in range(n)],
            "flagged": differs & (rng.random(n) < 0.5),
        }
    )


def plan(rows: pl.DataFrame, sampling: Sampling, unreadable: tuple[str, ...] = ()) -> Plan:
    frame = stratified(rows, AT)
    certain = worst_first(frame)["image_uuid"].head(sampling.certain).to_list()
    return plan_sample(frame, sampling, certain=certain, unreadable=unreadable)
