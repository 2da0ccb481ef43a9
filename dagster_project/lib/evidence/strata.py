"""A stratified sample of patients that came back in part: weights, and shares with intervals.

Belongs: which strata are estimated apart, what each decided review stands for, the share of a
domain with its standard error and interval.
Does not: what is counted (``partial_review``, ``label_noise``, ``review.findings``), where strata
come from (``review.sample``), certified bounds (``review_bound``).
Concept: stratified cluster sampling (Cochran, Sampling Techniques, 3rd ed., sections 5.3, 5A.11 and
9A.1). Within a stratum h patients are a simple random sample and every image of a sampled patient
is asked. Presentation is in random order, so what came back is a simple random sample as well: the
n_h decided rows stand for N_h, which is design and response in one number.
N = rows, H = strata, P = patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.proportion import LEVEL, Z95, wilson

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

CERTAIN = "certain"
"""The stratum that is asked whole."""
TIER_ORDER = ("confident", "possible", "refer")
_PLACES = {"name": pl.String, "at": pl.Int64}
MOST_OUTSIDE = 0.1
"""A share is null where a larger part of its rows than this could not be asked."""


@dataclass(frozen=True)
class Sample:
    """The decided reviews of a stratified sample.

    Attributes
    ----------
    names : (H,) strata that are estimated apart, in the order of their numbers.
    merged : stratum -> the one it is estimated with; only those that stand for themselves no more.
    stratum : (N,) int64 in 0..H-1, -1 where a row could not be asked.
    weight : (N,) float64, how many rows a decided one stands for; 0 for all others. Sums to
        ``n_rows`` in every stratum.
    patient : (N,) int64 >= 0.
    n_rows, n_patients : (H,) int64, rows and patients of the frame (N_h, M_h).
    n_decided, n_patients_decided : (H,) int64, those with a decided review (n_h, m_h).
    """

    names: tuple[str, ...]
    merged: Mapping[str, str]
    stratum: Ints
    weight: Floats
    patient: Ints
    n_rows: Ints
    n_patients: Ints
    n_decided: Ints
    n_patients_decided: Ints

    @property
    def unsampled(self) -> Floats:
        """(H,) 1 - f_h with f_h = m_h / M_h; exactly 0 where every row is decided."""
        share = 1 - self.n_patients_decided / self.n_patients
        return np.where(self.n_decided == self.n_rows, 0.0, np.maximum(share, 0.0))


def by_probability(probability: Floats) -> tuple[tuple[str, ...], Ints]:
    """Strata where none are named: rows of equal probability form one.

    Parameters
    ----------
    probability : (N,) in [0, 1]; NaN where unknown.

    Returns
    -------
    Names (1 is :data:`CERTAIN`), and (N,) numbers into them, -1 for NaN and 0.

    >>> names, number = by_probability(np.array([1.0, 0.5, np.nan, 0.5]))
    >>> names, number.tolist()
    (('0.5', 'certain'), [1, 0, -1, 0])
    """
    known = np.greater(probability, 0)
    values, inverse = np.unique(probability[known], return_inverse=True)
    number = np.full(probability.size, -1, dtype=np.int64)
    number[known] = inverse
    return tuple(CERTAIN if value == 1 else f"{value:g}" for value in values), number


def numbered(stratum: pl.Series, probability: Floats) -> tuple[tuple[str, ...], Ints]:
    """Names of the strata in a column in order, and each row's number; -1 where no probability."""
    names = sorted(stratum.drop_nulls().unique())
    place = pl.DataFrame({"name": names, "at": range(len(names))}, schema=_PLACES)
    rows = stratum.cast(pl.String).alias("name").to_frame()
    found = rows.join(place, on="name", how="left", maintain_order="left")["at"].fill_null(-1)
    return tuple(names), np.where(np.greater(probability, 0), found.to_numpy(), -1)


def stratified(
    names: Sequence[str], stratum: Ints, probability: Floats, decided: Bools, patient: Ints
) -> Sample | None:
    """The sample as far as it came back.

    w_i = N_h / n_h, which is 1 / (pi_h r_h) with r_h = n_h / (rows asked) the response where every
    patient has one row. With several the size of the stratum is known, so the ratio N_h / n_h is
    used in place of M_h / m_h: less noise, and a bias of order 1 / m_h (Cochran, section 6.5).

    A stratum in which fewer than two patients are decided (unless that is all of it) is estimated
    together with its nearest one: of the same agreement of label and prediction, never another one;
    nearest first by tier, then by flag, then by name. Inside it rows count by 1 / pi. The certain
    stratum has no neighbour, nor has one that is not named ``tier/agreement/flag``.

    Parameters
    ----------
    names, stratum : names, and (N,) numbers into them; -1 for rows that could not be asked.
    probability : (N,), in (0, 1] where ``stratum`` is not -1.
    decided : (N,) bool, asked and answered.
    patient : (N,) int64 >= 0.

    Returns
    -------
    None where there is no stratum, or one without any decided row is left.
    """
    inside = stratum >= 0
    counts = np.bincount(stratum[inside], minlength=len(names))
    used = np.flatnonzero(counts)
    if not used.size:
        return None
    group_of = _merged(names, used, stratum, decided & inside, patient)
    kept = sorted(set(group_of.values()))
    place = np.full(len(names) + 1, -1, dtype=np.int64)
    for number, target in group_of.items():
        place[number] = kept.index(target)
    merged_stratum = place[stratum]  # -1 looks up the last place, which is -1
    n_rows, n_patients = _counts(merged_stratum, inside, patient, len(kept))
    answered = decided & inside
    n_decided, n_patients_decided = _counts(merged_stratum, answered, patient, len(kept))
    if not n_decided.all():
        return None
    weight = np.zeros(stratum.size)
    weight[answered] = 1 / probability[answered]
    total = np.bincount(merged_stratum[answered], weight[answered], minlength=len(kept))
    weight[answered] *= (n_rows / total)[merged_stratum[answered]]
    return Sample(
        names=tuple(names[number] for number in kept),
        merged={names[a]: names[b] for a, b in sorted(group_of.items()) if a != b},
        stratum=merged_stratum,
        weight=weight,
        patient=patient,
        n_rows=n_rows,
        n_patients=n_patients,
        n_decided=n_decided,
        n_patients_decided=n_patients_decided,
    )


def _counts(stratum: Ints, which: Bools, patient: Ints, n_strata: int) -> tuple[Ints, Ints]:
    """(H,) rows and patients of each stratum among ``which``."""
    key = np.unique(stratum[which] * (int(patient.max(initial=0)) + 1) + patient[which])
    patients = np.bincount(key // (int(patient.max(initial=0)) + 1), minlength=n_strata)
    return np.bincount(stratum[which], minlength=n_strata), patients


def _merged(
    names: Sequence[str], used: Ints, stratum: Ints, decided: Bools, patient: Ints
) -> dict[int, int]:
    """Each used stratum -> the one it is estimated with."""
    members = {int(number): {int(number)} for number in used}
    rows = {number: int((stratum == number).sum()) for number in members}
    done = {number: int((decided & (stratum == number)).sum()) for number in members}
    seen = {number: set(patient[decided & (stratum == number)].tolist()) for number in members}
    stuck: set[int] = set()
    while True:
        thin = [
            number
            for number in members
            if len(seen[number]) < 2 and done[number] < rows[number] and number not in stuck
        ]
        if not thin:
            break
        source = min(thin, key=lambda number: (len(seen[number]), names[number]))
        target = _nearest(source, members, names)
        if target is None:
            stuck.add(source)
            continue
        members[target] |= members.pop(source)
        for table in (rows, done):
            table[target] += table.pop(source)
        seen[target] |= seen.pop(source)
    return {number: target for target, group in members.items() for number in group}


def _nearest(source: int, others: Mapping[int, Any], names: Sequence[str]) -> int | None:
    near = [
        (distance, names[other], other)
        for other in others
        if other != source and (distance := _distance(names[source], names[other])) is not None
    ]
    return min(near)[2] if near else None


def _distance(one: str, other: str) -> int | None:
    """Tiers count double, flags once; None where the two must not be estimated together."""
    a, b = one.split("/"), other.split("/")
    if len(a) != 3 or len(b) != 3 or a[1] != b[1] or not {a[0], b[0]} <= set(TIER_ORDER):
        return None
    return 2 * abs(TIER_ORDER.index(a[0]) - TIER_ORDER.index(b[0])) + (a[2] != b[2])


@dataclass(frozen=True)
class Share:
    """The share of hits in a domain; None is undefined.

    Attributes
    ----------
    n : rows of the domain in the frame.
    n_decided, n_patients, n_hits : its decided rows, their patients, the hits among them.
    estimate : Hajek's ratio, sum w hit / sum w over decided rows.
    se : linearised, by stratum and patient, with the finite population's correction.
    low, high : approximate 95 % interval.
    n_outside : rows of the domain that could not be asked; the estimate takes them to be like the
        others.
    """

    n: int
    n_decided: int
    n_patients: int
    n_hits: int
    estimate: float | None
    se: float | None
    low: float | None
    high: float | None
    n_outside: int

    @property
    def ci95(self) -> list[float] | None:
        """Both ends; None where there is no interval."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def share(sample: Sample, hit: Bools, domain: Bools | None = None) -> Share:
    """The share of hits among the rows of a domain, for all of its rows in the frame.

    The interval is MOVER (Zou and Donner, Stat Med 2008;27:1693): Wilson's interval in each
    stratum, at the number of rows that its patients and the finite population's correction leave,
    and a normal part for how many rows of each stratum the domain has; both with Student's t of
    Satterthwaite's degrees of freedom in place of 1.96. The variance
    sum_h (1 - f_h) m_h / (m_h - 1) sum_p r_hp^2 / (sum w)^2 is that of the linearised ratio; with
    one row a patient and the whole frame as domain it is sum_h (N_h / N)^2 (1 - f_h) s_h^2 / n_h.

    Parameters
    ----------
    hit : (N,) bool; only decided rows are looked at.
    domain : (N,) bool; None: all rows. It must be right for decided rows. Where only a review can
        tell (is the photograph usable?) the others are put in: they are counted, and nothing else.

    Returns
    -------
    Without a figure where no row of the domain is decided, or more than :data:`MOST_OUTSIDE` of
    them could not be asked.

    References
    ----------
    Hajek, in Foundations of Statistical Inference (1971), p. 236; Sarndal, Swensson and Wretman,
    Model Assisted Survey Sampling (1992), sections 5.7 and 10.3.

    >>> names, number = by_probability(np.repeat([0.2, 0.5], [10, 4]))
    >>> decided = np.array([True, True] + [False] * 8 + [True, True, False, False])
    >>> p = np.repeat([0.2, 0.5], [10, 4])
    >>> sample = stratified(names, number, p, decided, np.arange(14))
    >>> share(sample, np.arange(14) == 0).estimate == 5 / 14
    True
    """
    inside = np.ones(sample.weight.size, dtype=bool) if domain is None else domain
    used = inside & (sample.weight > 0)
    n = int(inside.sum())
    n_decided = int(used.sum())
    seen = np.bincount(sample.stratum[used], minlength=len(sample.names)) > 0
    n_outside = int((inside & (sample.stratum < 0)).sum())
    counts = {
        "n": n,
        "n_decided": n_decided,
        "n_patients": int(np.unique(sample.patient[used]).size),
        "n_hits": int((used & hit).sum()),
        "n_outside": n_outside,
    }
    if not n_decided or n_outside > MOST_OUTSIDE * n:
        return Share(estimate=None, se=None, low=None, high=None, **counts)
    total = float(sample.weight[used].sum())
    estimate = float(sample.weight[used & hit].sum()) / total
    open_strata = [
        _Part(sample, h, hit, inside)
        for h in range(len(sample.names))
        if seen[h] and sample.unsampled[h] > 0
    ]
    variances = [part.variance(estimate) for part in open_strata]
    variance = sum(variances)
    t = _student(variances, [part.n_patients for part in open_strata])
    between = sum(part.size_variance(estimate) for part in open_strata)
    down, up = (sum(part.arms(t)[side] ** 2 for part in open_strata) for side in (0, 1))
    se = float(np.sqrt(variance)) / total
    low, high = (
        estimate + sign * float(np.sqrt(arm + t**2 * between)) / total
        for sign, arm in ((-1, down), (1, up))
    )
    return Share(
        estimate=estimate,
        se=None if np.isnan(se) else se,
        low=max(0.0, low),
        high=min(1.0, high),
        **counts,
    )


class _Part:
    """What one stratum adds to a weighted total of hits in a domain."""

    def __init__(self, sample: Sample, h: int, hit: Bools, domain: Bools) -> None:
        rows = np.flatnonzero((sample.stratum == h) & (sample.weight > 0))
        self.weight = sample.weight[rows]
        self.inside = domain[rows].astype(float)
        self.hit = self.inside * hit[rows]
        _, self.patient = np.unique(sample.patient[rows], return_inverse=True)
        self.n_patients = int(self.patient.max()) + 1
        self.unsampled = float(sample.unsampled[h])
        self.size = float(self.weight @ self.inside)
        self.rate = float(self.weight @ self.hit) / self.size

    def variance(self, estimate: float) -> float:
        """Of the linearised total; NaN with one patient."""
        return self._spread(self.hit - estimate * self.inside)

    def size_variance(self, estimate: float) -> float:
        """Of the part that the stratum's size within the domain plays; 0 with one patient."""
        found = self._spread((self.rate - estimate) * self.inside)
        return 0.0 if np.isnan(found) else found

    def arms(self, t: float) -> tuple[float, float]:
        """How far Wilson's interval of the stratum's own rate reaches below and above."""
        sums = np.bincount(self.patient, self.weight * self.inside)
        residual = np.bincount(self.patient, self.weight * (self.hit - self.rate * self.inside))
        effective = effective_rows(
            np.array([self.rate]),
            kish=self.size**2 / float((self.weight**2) @ self.inside),
            by_patient=np.array([(residual**2).sum() / self.size**2]),
            n_patients=int((sums > 0).sum()),
            least=self.size**2 / float((sums**2).sum()),
        )
        low, high = wilson(np.array([self.rate]), effective / self.unsampled, t)
        return self.size * (self.rate - float(low[0])), self.size * (float(high[0]) - self.rate)

    def _spread(self, values: Floats) -> float:
        """(1 - f) m / (m - 1) sum of squared patient sums about the stratum's mean."""
        if self.n_patients < 2:
            return float("nan")
        mean = float(self.weight @ values) / float(self.weight.sum())
        sums = np.bincount(self.patient, self.weight * (values - mean))
        factor = self.n_patients / (self.n_patients - 1)
        return self.unsampled * factor * float((sums**2).sum())


def _student(variances: Sequence[float], n_patients: Sequence[int]) -> float:
    """The 97.5 % point of Student's t with Satterthwaite's degrees of freedom (Cochran, 5.4)."""
    from scipy.special import stdtrit

    pairs = [(v, m) for v, m in zip(variances, n_patients, strict=True) if m > 1 and v > 0]
    if not pairs:
        return Z95
    freedom = sum(v for v, _ in pairs) ** 2 / sum(v**2 / (m - 1) for v, m in pairs)
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def effective_rows(
    rate: Floats, *, kish: float, by_patient: Floats, n_patients: int, least: float
) -> Floats:
    """How many independent rows a clustered, weighted share is worth.

    Parameters
    ----------
    rate : (M,) shares.
    kish : (sum w)^2 / sum w^2 over rows; their number where weights are equal.
    by_patient : (M,) sum of squared patient residuals over the squared total weight.
    n_patients : m, patients among the rows.
    least : the same as ``kish`` over patients: what is left if all rows of a patient agree.

    Returns
    -------
    (M,) ``kish`` over the design effect, which is the variance by patient over that of independent
    rows and at least 1; ``least`` where all or no rows are hits, or there is one patient.
    """
    if n_patients < 2:
        return np.full(rate.size, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = rate * (1 - rate) / max(kish - 1, 1e-9)
        effect = n_patients / (n_patients - 1) * by_patient / independent
        found: Floats = np.where((rate > 0) & (rate < 1), kish / np.maximum(effect, 1.0), least)
    return found
