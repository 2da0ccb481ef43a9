"""Conflicting duplicates: one picture, two labels; at least one of them is wrong.

Belongs: joining labels to pairs.
Does not: finding pairs (``duplicates``), deciding which label is right (``labels``).
Concept: kept apart from the pairs, because it changes with every label and they with none.
"""

from __future__ import annotations

import polars as pl


def conflicting(pairs: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Pairs whose two labels differ, surest first.

    Parameters
    ----------
    pairs : ``image_uuid, other_uuid, relation, distance, score, same_patient, across_splits``; rows
        without ``other_uuid`` are no pairs.
    labels : ``image_uuid, label``, one row an image; an image without a label conflicts with none.

    Returns
    -------
    The pairs' columns with ``label`` and ``other_label`` behind the two ids. Look-alikes may be two
    lesions; for the other relations two labels cannot both be right.
    """
    known = labels.filter(pl.col("label").is_not_null()).select("image_uuid", "label")
    other = known.select(other_uuid="image_uuid", other_label="label")
    return (
        pairs.join(known, on="image_uuid", how="inner", maintain_order="left")
        .join(other, on="other_uuid", how="inner", maintain_order="left")
        .filter(pl.col("label") != pl.col("other_label"))
        .select(
            *("image_uuid", "other_uuid", "label", "other_label"),
            *("relation", "distance", "score", "same_patient", "across_splits"),
        )
    )
