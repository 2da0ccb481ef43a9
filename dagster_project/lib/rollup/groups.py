"""The same figures in parts: by class, tier, confidence, side of the fit and node said.

Belongs: cutting images into groups, one row of figures a group.
Does not: the figures (``specificity``), certificates (nothing here corrects for many groups).
Concept: a rate of fewer than five patients is null, its count still listed, as in the tiers'
tables. N = images, R = ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.candidates import is_right
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.rates import mean, rate
from dagster_project.lib.rollup.specificity import information
from dagster_project.lib.tiers.per_class import MIN_SHOWN_PATIENTS, TOO_FEW_PATIENTS

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Truth

    Ints = npt.NDArray[np.int64]

BINS = 10


def confidence_bins(score: npt.NDArray[np.float64]) -> tuple[list[str], Ints]:
    """Names of ten equal bins of [0, 1] and ``none``, and (N,) the bin of each score.

    A bin holds its lower end; the last holds 1 too. NaN is ``none``. Above 1 (under normalisation
    ``none`` by a rounding) counts as 1.

    >>> names, bins = confidence_bins(np.array([0.0, 0.3, 1.0, np.nan]))
    >>> [names[at] for at in bins]
    ['0.0-0.1', '0.3-0.4', '0.9-1.0', 'none']
    """
    names = [f"{k / BINS:.1f}-{(k + 1) / BINS:.1f}" for k in range(BINS)] + ["none"]
    ends = np.arange(1, BINS) / BINS
    bins = np.searchsorted(ends, np.nan_to_num(score), side="right")
    return names, np.where(np.isnan(score), BINS, bins)


def by_group(
    names: Sequence[str],
    group: Ints,
    sides: tuple[Placed, Placed],
    truth: Truth,
    taxonomy: Taxonomy,
) -> list[dict[str, Any]]:
    """One row a group that has an image, in the order of ``names``.

    Parameters
    ----------
    names : of the G groups. group : (N,) in 0..G-1. sides : before and after, N rows each.

    Returns
    -------
    ``group, n, n_patients, too_few`` (fewer than ``TOO_FEW_PATIENTS``), ``right_before``,
    ``placed``, ``right``, ``wrong`` (over the group's images), ``accuracy`` (right among placed),
    ``specificity``, ``ranks`` (images answered at each rank, and ``unplaced``). With fewer than
    ``MIN_SHOWN_PATIENTS`` patients rates and means are null.
    """
    before, after = sides
    was = is_right(before.node, truth.true, taxonomy)
    now = is_right(after.node, truth.true, taxonomy)
    placed = after.node != UNPLACED
    said = np.where(placed, information(taxonomy)[np.maximum(after.node, 0)], 0.0)
    rows = []
    for number in np.unique(group).tolist():
        at = np.flatnonzero(group == number)
        patient = truth.patient[at]
        n_patients = int(np.unique(patient).size)
        figures = {
            "right_before": rate(was[at], patient),
            "placed": rate(placed[at], patient),
            "right": rate(now[at], patient),
            "wrong": rate(placed[at] & ~now[at], patient),
            "accuracy": rate(now[at], patient, placed[at]),
            "specificity": mean(said[at], patient, within=(0, 1)),
        }
        few = n_patients < MIN_SHOWN_PATIENTS
        ranks = {name: int((after.rank[at] == r).sum()) for r, name in enumerate(taxonomy.ranks)}
        rows.append(
            {
                "group": names[number],
                "n": int(at.size),
                "n_patients": n_patients,
                "too_few": n_patients < TOO_FEW_PATIENTS,
                **(dict.fromkeys(figures) if few else figures),
                "ranks": ranks | {"unplaced": int((~placed[at]).sum())},
            }
        )
    return rows


def by_node(placed: Placed, truth: Truth, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """One row a node of the tree, said or not, in the order of ``taxonomy.nodes``.

    Returns
    -------
    ``node, rank, n`` (images placed there), ``n_patients``, ``share`` (of all images), ``accuracy``
    (``rates.rate`` among those placed there). With fewer than ``MIN_SHOWN_PATIENTS`` patients, but
    not none, ``accuracy`` is null.
    """
    right = is_right(placed.node, truth.true, taxonomy)
    rows = []
    for number, name in enumerate(taxonomy.nodes):
        at = np.flatnonzero(placed.node == number)
        n_patients = int(np.unique(truth.patient[at]).size)
        few = 0 < n_patients < MIN_SHOWN_PATIENTS
        rows.append(
            {
                "node": name,
                "rank": taxonomy.ranks[int(taxonomy.rank_of[number])],
                "n": int(at.size),
                "n_patients": n_patients,
                "share": at.size / len(truth),
                "accuracy": None if few else rate(right[at], truth.patient[at]),
            }
        )
    return rows
