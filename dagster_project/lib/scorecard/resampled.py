"""The paired patient bootstrap: one set of resamples for all configurations.

Belongs: percentile intervals of differences in averages and in every class's recall.
Does not: tests (``paired``), what an image counts for (``outcomes``).
Concept: a resample draws P patients with replacement and keeps all images of each; configurations
are compared within it, so what they share cancels. Sums are of whole numbers, by a sparse product
without BLAS: the same bytes on any number of threads. N = images, P = patients, K = classes,
D = draws. Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.scorecard.comparison import MEASURES
from dagster_project.lib.scorecard.outcomes import NOBODY, QUANTUM, Outcomes

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.scorecard.answers import Answers

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

DRAWS = 1000

_BLOCK = 64
"""Resamples at a time at most; more are slower, because their counts leave the cache."""

_CELLS = 4_000_000
"""Counts (patient, resample) that are held at a time: 32 MB, or one resample."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Approximate 95 % intervals of configuration minus baseline; None where undefined.

    Attributes
    ----------
    measures : one for each of ``comparison.MEASURES``.
    recalls : (K,) in class order.
    """

    measures: Mapping[str, Interval | None]
    recalls: tuple[Interval | None, ...]


def intervals(
    answers: Answers,
    found: Mapping[str, Outcomes],
    baseline: str,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Intervals]:
    """Percentile intervals of every other configuration against the baseline.

    All configurations see the same resamples, which depend on ``seed`` and P alone: adding one
    changes nothing for the others. A class without an image in a resample is left out of that
    resample's mean recall and mean F1, for both sides alike.

    Parameters
    ----------
    found : configuration -> its outcomes on the images of ``answers``.
    draws : D; 0 gives no intervals.

    Returns
    -------
    The k-th lowest and k-th highest of the D differences, k = 1 + (D - 1) // 40, so that swapping
    the sides swaps and negates the ends exactly. None with fewer than two patients, and where so
    many resamples lack the class that the interval has no end (up to about three patients). With
    few patients that differ it is too short; where none differs it is [0, 0], which excludes
    nothing (docs/scorecard.md has what was measured).
    """
    others = [name for name in found if name != baseline]
    k = len(answers.classes)
    if answers.n_patients < 2 or draws == 0:
        none = Intervals(dict.fromkeys(MEASURES), (None,) * k)
        return dict.fromkeys(others, none)
    sums = _sums(answers, found, baseline, others)
    values: dict[str, list[Floats]] = {name: [] for name in others}
    for counts in _resamples(answers.n_patients, draws, seed):
        totals = iter(np.split(sums @ counts, _parts(k, len(others))))
        n = next(totals)
        images = n.sum(axis=0)
        base = (next(totals), next(totals))
        for name in others:
            config, losses = (next(totals), next(totals)), next(totals)
            values[name].append(_differences(n, images, base, config, losses))
    return {name: _intervals(np.concatenate(parts, axis=1)) for name, parts in values.items()}


def _resamples(n_patients: int, draws: int, seed: int) -> Iterator[Ints]:
    """(P, at most _BLOCK) how often each patient was drawn; a draw does not depend on the block."""
    rng = np.random.default_rng(seed)
    block = max(1, min(_BLOCK, _CELLS // n_patients))
    for first in range(0, draws, block):
        counts = np.empty((n_patients, min(block, draws - first)), dtype=np.int64)
        for draw in range(counts.shape[1]):
            drawn = rng.integers(n_patients, size=n_patients)
            counts[:, draw] = np.bincount(drawn, minlength=n_patients)
        yield counts


def _parts(k: int, others: int) -> list[int]:
    """Where the rows of :func:`_sums` are cut."""
    sizes = [k, k, k] + [k, k, 3] * others
    ends: list[int] = np.cumsum(sizes)[:-1].tolist()
    return ends


def _sums(answers: Answers, found: Mapping[str, Outcomes], baseline: str, others: list[str]) -> Any:
    """Sparse (rows, P) whole numbers of each patient.

    Images by class; the baseline's right answers and its answers, by class; of each other
    configuration the same two, then its differences in ``top3``, ``brier`` and ``nll``.
    """
    from scipy import sparse

    k, base = len(answers.classes), found[baseline]
    shape = (k, answers.n_patients)

    def by_class(which: Ints, keep: npt.NDArray[np.bool_]) -> Any:
        ones = np.ones(int(keep.sum()), dtype=np.int64)
        cells = sparse.coo_array((ones, (which[keep], answers.patient[keep])), shape=shape)
        return cells.tocsr()  # repeated cells are added up

    def right_and_named(of: Outcomes) -> list[Any]:
        return [by_class(answers.true, of.right), by_class(of.predicted, of.predicted != NOBODY)]

    def losses(of: Outcomes) -> Any:
        dense = np.zeros((3, answers.n_patients), dtype=np.int64)
        columns = (of.top3.astype(np.int64) - base.top3, of.brier - base.brier, of.nll - base.nll)
        for row, column in zip(dense, columns, strict=True):
            np.add.at(row, answers.patient, column)
        return sparse.csr_array(dense)

    everything = np.ones(len(answers), dtype=bool)
    parts = [by_class(answers.true, everything), *right_and_named(base)]
    for name in others:
        parts += [*right_and_named(found[name]), losses(found[name])]
    return sparse.vstack(parts, format="csr")


def _differences(
    n: Ints, images: Ints, base: tuple[Ints, Ints], config: tuple[Ints, Ints], losses: Ints
) -> Floats:
    """(6 + K, B) differences in a block of resamples: ``MEASURES`` in order, then recalls."""
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (config[0] - base[0]) / n
        f1 = 2 * config[0] / (n + config[1]) - 2 * base[0] / (n + base[1])
    occurs = n > 0
    present = occurs.sum(axis=0)
    top3, brier, nll = losses / images
    top1 = (config[0] - base[0]).sum(axis=0) / images
    return np.vstack(
        [
            top1,
            top3,
            np.where(occurs, recall, 0.0).sum(axis=0) / present,
            np.where(occurs, f1, 0.0).sum(axis=0) / present,
            brier * QUANTUM,
            nll * QUANTUM,
            np.where(occurs, recall, np.nan),
        ]
    )


def _intervals(values: Floats) -> Intervals:
    """Of (6 + K, D) differences."""
    ends = [_percentiles(row) for row in values]
    measures = dict(zip(MEASURES, ends, strict=False))
    return Intervals(measures, tuple(ends[len(MEASURES) :]))


def _percentiles(values: Floats) -> Interval | None:
    """Of (D,) values, NaN where undefined."""
    ordered = np.sort(values[~np.isnan(values)])
    # an undefined resample could lie at either end
    if 2 * (values.size - ordered.size) >= 0.05 * values.size:
        return None
    k = (ordered.size - 1) // 40
    return float(ordered[k]), float(ordered[-1 - k])
