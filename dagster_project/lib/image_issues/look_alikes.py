"""Look-alikes: groups of images that should not be seen one after another, or be drawn apart.

Belongs: joining pairs into groups.
Does not: finding pairs (``duplicates``).
Concept: single linkage chains: a like b, b like c, and in the end everything is one group. So
groups are joined from the nearest pair on, and two groups of *near* images are not joined where the
result would have more than :data:`MOST` images; equal pictures always are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 50
"""Images of a group beyond which it is a chain, not a lesion."""


def similar_groups(pairs: pl.DataFrame, *, most: int = MOST) -> pl.DataFrame:
    """Groups of images that are one picture or look alike.

    Parameters
    ----------
    pairs : ``image_uuid, other_uuid, score`` (``duplicate_pairs``, or the rows of ``image_issues``:
        those without ``other_uuid`` are not pairs). Their order does not matter.
    most : images that a group may grow to by near pairs (score above 0).

    Returns
    -------
    ``image_uuid, group``, sorted by both. ``group`` is the smallest id in it. An image that is like
    no other is not listed: it is alone.

    >>> pairs = pl.DataFrame({"image_uuid": ["a", "b", "x"], "other_uuid": ["b", "c", "y"],
    ...                       "score": [0.0, 0.1, 0.1]})
    >>> similar_groups(pairs).rows()
    [('a', 'a'), ('b', 'a'), ('c', 'a'), ('x', 'x'), ('y', 'x')]
    """
    edges = pairs.filter(pl.col("other_uuid").is_not_null())
    edges = edges.select("score", "image_uuid", "other_uuid").sort(pl.all())
    members = _joined(edges.iter_rows(), most)
    found = [(uuid, min(group)) for group in members for uuid in group]
    schema = {"image_uuid": pl.String, "group": pl.String}
    return pl.DataFrame(found, schema=schema, orient="row").sort("group", "image_uuid")


def _joined(edges: Iterable[tuple[float, str, str]], most: int) -> list[list[str]]:
    group: dict[str, list[str]] = {}
    for score, a, b in edges:
        one, two = group.setdefault(a, [a]), group.setdefault(b, [b])
        if one is two or (score > 0 and len(one) + len(two) > most):
            continue
        large, small = (one, two) if len(one) >= len(two) else (two, one)
        large += small
        group.update(dict.fromkeys(small, large))
    return [g for g in {id(g): g for g in group.values()}.values() if len(g) > 1]
