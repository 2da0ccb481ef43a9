"""Not skin: pages of text, screenshots and drawings, told by their pixels alone.

Belongs: the rule and its thresholds.
Does not: pixels (``fingerprints``), outliers (``outliers``): without a model nobody can tell a
photograph of a garden from one of skin, and nothing here tries.
Concept: few false alarms before many hits, because ``prune_list`` proposes what is found. Both
rules ask that little of the picture has the colour of skin: (a) half of it is flat to the last bit,
as only what was drawn is, and the rest has little of that colour either (a framed photograph has),
or (b) it is full of hard strokes, as text is.
N = images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_SKIN = 0.3
"""Share of skin-coloured pixels above which nothing is claimed."""
LEAST_FLAT = 0.5
"""Of 914 photographs of skin the flattest has 0.38, and 0.98 of it has the colour of skin."""
LEAST_EDGES = 0.08
"""Of 914 photographs of skin one with so little skin colour has more than 0.058: the one at hand
that experts call irrelevant."""
SMALLEST = 64
"""Pixels of the shorter side below which shares mean little."""
REASONS: Mapping[str, str] = {
    "screen or drawing": "flat_share",
    "page of text": "edge_share",
}


def not_skin(prints: pl.DataFrame) -> pl.DataFrame:
    """Pictures that are clearly no photograph of skin, worst first.

    Parameters
    ----------
    prints : (N,) fingerprints.

    Returns
    -------
    ``image_uuid, reason, score, skin_share, edge_share, flat_share``, sorted by score, then id.
    ``score`` in [0, 0.3] is the share of skin-coloured pixels. A picture without shares
    (unreadable), or smaller than 64 pixels, is never here.
    """
    # a photograph in a black frame is flat for the most part; what is not flat is skin
    framed = (pl.col("textured_skin_share") > MOST_SKIN).fill_null(value=False)
    drawn = (pl.col("flat_share") >= LEAST_FLAT) & ~framed
    text = pl.col("edge_share") >= LEAST_EDGES
    large = pl.min_horizontal("width", "height") >= SMALLEST
    reason = pl.when(drawn).then(pl.lit("screen or drawing")).otherwise(pl.lit("page of text"))
    return (
        prints.filter((pl.col("skin_share") <= MOST_SKIN) & (drawn | text) & large)
        .select(
            "image_uuid",
            reason.alias("reason"),
            pl.col("skin_share").alias("score"),
            "skin_share",
            "edge_share",
            "flat_share",
        )
        .sort("score", "image_uuid")
    )
