"""Sums over patients at every distinct score, and the approximate intervals they give.

Belongs: one pass over sorted rows; z-scores of a target along the curve; thresholds by inversion.
Does not: exact statements (``certificate``), tier rates (``bootstrap``).
Concept: with D_i(t) the excess of patient i over a target, z(t) = sum D_i / sqrt(sum D_i^2) is a
score statistic by patient; the interval of a threshold is the set of t whose rate may be the target
(Woodruff, JASA 47 (1952) 635, for shares). Approximate, never a certificate. N rows, M distinct
scores, highest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence.proportion import Z95, wilson

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.evidence.rows import PatientRows

MERGE = 0.001
"""Parts of an interval that lie closer than one release step are one part."""


@dataclass(frozen=True)
class PatientSums:
    """Sums over patients of products of counts, for rows at or above each distinct score.

    With m_i all images of patient i, n_i those at or above t, k_i the events among them:

    Attributes
    ----------
    threshold : (M,) float64, strictly falling.
    n, k : (M,) int64, sum of n_i, of k_i.
    nn, kk, nk, nm, km : (M,) int64, sums of n_i^2, k_i^2, n_i k_i, n_i m_i, k_i m_i.
    total, mm : sum of m_i, of m_i^2.
    n_patients : P.
    """

    threshold: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    k: npt.NDArray[np.int64]
    nn: npt.NDArray[np.int64]
    kk: npt.NDArray[np.int64]
    nk: npt.NDArray[np.int64]
    nm: npt.NDArray[np.int64]
    km: npt.NDArray[np.int64]
    total: int
    mm: int
    n_patients: int


def patient_sums(rows: PatientRows, event: npt.NDArray[np.bool_]) -> PatientSums:
    """Every sum at every distinct score, in one sort; ``event`` is (N,), what k counts."""
    order = np.argsort(-rows.score, kind="stable")
    score, patient = rows.score[order], rows.patient[order]
    e = event[order].astype(np.int64)
    images = np.bincount(patient, minlength=rows.n_patients)
    m = images[patient]
    n_before, k_before = _running(patient, e, images)
    ends = np.append(np.flatnonzero(score[1:] != score[:-1]), score.size - 1)

    def at_ends(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        sums: npt.NDArray[np.int64] = np.cumsum(steps)[ends]
        return sums

    return PatientSums(
        threshold=score[ends],
        n=ends + 1,
        k=at_ends(e),
        # a row that enters turns n into n + 1 and k into k + e
        nn=at_ends(2 * n_before + 1),
        kk=at_ends(e * (2 * k_before + 1)),
        nk=at_ends(k_before + e * (n_before + 1)),
        nm=at_ends(m),
        km=at_ends(e * m),
        total=score.size,
        mm=int((images.astype(np.int64) ** 2).sum()),
        n_patients=rows.n_patients,
    )


def _running(
    patient: npt.NDArray[np.int64], event: npt.NDArray[np.int64], images: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many rows, and events, of the same patient come before each row."""
    by_patient = np.argsort(patient, kind="stable")
    starts = np.repeat(np.cumsum(images) - images, images)
    n_before = np.empty(patient.size, dtype=np.int64)
    n_before[by_patient] = np.arange(patient.size) - starts
    before = np.concatenate([[0], np.cumsum(event[by_patient])])
    k_before = np.empty(patient.size, dtype=np.int64)
    k_before[by_patient] = before[:-1] - before[starts]
    return n_before, k_before


def excess(
    sums: PatientSums, rate: str, target: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(M,) sum and (M,) standard deviation of the excess over ``target``, at every threshold.

    Parameters
    ----------
    rate : ``k/N`` (share of all rows that are events above t), ``k/n`` (share of those above t) or
        ``n/N`` (coverage).

    Returns
    -------
    sum_i D_i and sqrt(max(sum_i D_i^2, V)), V the variance of independent rows with that rate: a
    handful of rows that happen to agree must not look certain.
    """
    c = target
    if rate == "k/N":
        difference = sums.k - c * sums.total
        square = sums.kk - 2 * c * sums.km + c * c * sums.mm
        least = np.full(sums.n.size, sums.total * c * (1 - c))
    elif rate == "k/n":
        difference = sums.k - c * sums.n
        square = sums.kk - 2 * c * sums.nk + c * c * sums.nn
        least = sums.n * c * (1 - c)
    else:
        difference = sums.n - c * sums.total
        square = sums.nn - 2 * c * sums.nm + c * c * sums.mm
        least = np.full(sums.n.size, sums.total * c * (1 - c))
    deviation = np.sqrt(np.maximum(square, least))
    return difference.astype(np.float64), deviation.astype(np.float64)


def threshold_interval(
    sums: PatientSums, rate: str, target: float, fitted: float
) -> list[tuple[float, float]] | None:
    """95 % interval of a threshold by inversion; approximate.

    The scores that occur whose rate, as a statistic by patient, is not told apart from the target
    (|z| <= 1.96), and the fitted one. Neighbouring parts closer than :data:`MERGE` are joined.

    Returns
    -------
    Parts (low, high), lowest first; more than one where the rate crosses its target several times.
    None with fewer than two patients, and where the rate stays away from its target throughout.
    """
    if sums.n_patients < 2:
        return None
    difference, deviation = excess(sums, rate, target)
    inside = np.abs(difference) <= Z95 * deviation
    if not inside.any() and (difference.min() > 0 or difference.max() < 0):
        return None
    return connected_parts(sums.threshold, inside | (sums.threshold == fitted))


def connected_parts(
    threshold: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """Runs of neighbouring thresholds (M,) that are ``inside``, lowest first, near ones joined."""
    at = np.flatnonzero(inside)
    if not at.size:
        return []
    breaks = np.flatnonzero(np.diff(at) > 1)
    highs = threshold[at[np.concatenate([[0], breaks + 1])]]
    lows = threshold[at[np.concatenate([breaks, [at.size - 1]])]]
    parts: list[tuple[float, float]] = []
    for low, high in zip(lows[::-1].tolist(), highs[::-1].tolist(), strict=True):
        if parts and low - parts[-1][1] < MERGE:
            parts[-1] = (parts[-1][0], high)
        else:
            parts.append((low, high))
    return parts


def curve_band(
    sums: PatientSums, rate: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(M,) lower and upper ends of the pointwise 95 % band of ``k/n`` or ``k/N``; approximate.

    Wilson's interval with the number of rows divided by the design effect: the variance by patient
    over that of independent rows, at least 1.
    """
    base = sums.n if rate == "k/n" else np.full(sums.n.size, sums.total)
    p = sums.k / base
    cross, square = (sums.nk, sums.nn) if rate == "k/n" else (sums.km, sums.mm)
    by_patient = sums.kk - 2 * p * cross + p * p * square
    independent = base * p * (1 - p)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.where(independent > 0, by_patient / independent, 1.0)
    return wilson(p, base / np.maximum(effect, 1.0))
