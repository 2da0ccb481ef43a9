"""Which confusions a taxonomy can mend: errors whose two classes share a node.

Belongs: the share of errors that stay inside a node, at each rank of each taxonomy.
Does not: whether rolling up such an error is worth it (``transitions``), building taxonomies.
Concept: a leaf error is mended at a rank if truth and answer have the same ancestor there. A coarse
enough rank mends everything and says nothing, so the share stands beside what chance would mend.
N = images, K = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.rates import rate

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.taxonomy import Taxonomy

    Ints = npt.NDArray[np.int64]


def captured(
    true: Ints, said: Ints, patient: Ints, taxonomies: Mapping[str, Taxonomy]
) -> list[dict[str, Any]]:
    """Share of confusions within one node, for each rank above the class of each taxonomy.

    Parameters
    ----------
    true, said : (N,) class numbers; equal ones are no confusion and do not count, nor does a
        negative ``said``. patient : (N,).
    taxonomies : by name, over the same K classes in the same order.

    Returns
    -------
    ``taxonomy, rank, n_nodes``; ``captured`` (``rates.rate`` over the confusions); ``by_chance``:
    the mean over the same truths of (classes in the truth's node - 1) / (K - 1), what answers that
    are drawn evenly from the other classes would score. Null without confusions.

    >>> from dagster_project.lib.rollup.taxonomy import Taxonomy
    >>> tree = Taxonomy(("class", "family"), (("a", "f"), ("b", "f"), ("c", "g")))
    >>> row, = captured(np.array([0, 0]), np.array([1, 2]), np.arange(2), {"t": tree})
    >>> row["captured"]["rate"], row["by_chance"]
    (0.5, 0.5)
    """
    wrong = (true != said) & (said >= 0)
    rows = []
    for name, taxonomy in taxonomies.items():
        k = len(taxonomy.classes)
        for rank in range(1, len(taxonomy.ranks)):
            ancestor = taxonomy.ancestors[:, rank]
            others = np.bincount(ancestor)[ancestor] - 1
            chance = others[true[wrong]] / (k - 1) if k > 1 else np.zeros(0)
            rows.append(
                {
                    "taxonomy": name,
                    "rank": taxonomy.ranks[rank],
                    "n_nodes": int(np.unique(ancestor).size),
                    "captured": rate(ancestor[true] == ancestor[said], patient, wrong),
                    "by_chance": float(chance.mean()) if chance.size else None,
                }
            )
    return rows
