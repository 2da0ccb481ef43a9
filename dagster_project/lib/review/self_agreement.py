"""Self-agreement: whether a reviewer says the same of an image that comes again.

Belongs: pairing the two readings of a repeated image, their agreement with and without chance.
Does not: agreement between reviewers (``labels.agreement``), which rows are repeated (``packet``).
Concept: intra-rater reliability. Two readings by one person are exchangeable, so chance agreement
is taken from their pooled answers (Scott, Public Opinion Quarterly 19:321, 1955), not from two
margins as Cohen's kappa would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.proportion import clustered_interval, wilson
from dagster_project.lib.labels.drop import UNSURE

ENOUGH = 30
"""Pairs from which a chance-corrected figure is given."""


def self_agreement(reviews: pl.DataFrame, repeats: pl.DataFrame) -> dict[str, Any]:
    """How often a reviewer repeats their own answer.

    A pair is one reviewer's answers to an image and to its repeat. ``not_usable`` is an answer like
    any class; a pair with ``unsure`` in it is counted apart.

    Parameters
    ----------
    reviews : ``image_uuid, reviewer, label``, repeats under their presented id.
    repeats : ``presented_uuid, image_uuid`` (``sample.read_repeats``).

    Returns
    -------
    ``n`` pairs, ``n_same``, ``n_unsure``, ``agreement`` and ``ci95`` over all of them (Wilson, with
    a design effect by image: reviewers of one image are not independent); ``chance_corrected``
    (Scott's pi, null below :data:`ENOUGH` pairs or where only one answer occurs); ``reviewers``:
    ``reviewer, n, n_same, n_unsure, agreement, ci95`` (Wilson), by name. Null where ``n`` is 0.
    """
    said = reviews.select("image_uuid", "reviewer", "label").drop_nulls()
    pairs = (
        repeats.select("presented_uuid", "image_uuid")
        .unique()
        .join(said.rename({"label": "first"}), on="image_uuid")
        .join(
            said.rename({"image_uuid": "presented_uuid", "label": "second"}),
            on=["presented_uuid", "reviewer"],
        )
        .with_columns(unsure=(pl.col("first") == UNSURE) | (pl.col("second") == UNSURE))
        .sort("reviewer", "presented_uuid")
    )
    sure = pairs.filter(~pl.col("unsure"))
    image = sure["image_uuid"].rank("dense").cast(pl.Int64).to_numpy()
    same = (sure["first"] == sure["second"]).to_numpy()
    found = clustered_interval(same, image) if sure.height else None
    interval = None
    if found is not None and not np.isnan(found.low[0]):
        interval = [float(found.low[0]), float(found.high[0])]
    return {
        **_counts(pairs),
        "ci95": interval,
        "chance_corrected": _scott(sure),
        "reviewers": [
            {"reviewer": str(name), **(counts := _counts(part)), "ci95": _interval(counts)}
            for (name,), part in pairs.group_by("reviewer", maintain_order=True)
        ],
    }


def _counts(pairs: pl.DataFrame) -> dict[str, Any]:
    sure = pairs.filter(~pl.col("unsure"))
    n_same = int((sure["first"] == sure["second"]).sum())
    return {
        "n": sure.height,
        "n_same": n_same,
        "n_unsure": pairs.height - sure.height,
        "agreement": n_same / sure.height if sure.height else None,
    }


def _interval(counts: dict[str, Any]) -> list[float] | None:
    if not counts["n"]:
        return None
    low, high = wilson(np.array([counts["agreement"]]), counts["n"])
    return [float(low[0]), float(high[0])]


def _scott(sure: pl.DataFrame) -> float | None:
    """(p_o - p_e) / (1 - p_e), p_e the sum of squared shares of the pooled answers."""
    if sure.height < ENOUGH:
        return None
    counts = pl.concat([sure["first"], sure["second"]]).value_counts()["count"].to_numpy()
    chance = float(((counts / counts.sum()) ** 2).sum())
    observed = float((sure["first"] == sure["second"]).to_numpy().mean())
    return None if chance == 1 else (observed - chance) / (1 - chance)
