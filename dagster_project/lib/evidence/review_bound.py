"""A certified upper bound on W where labels are reviewed only in part.

Belongs: the bound, split into what given labels show and what only the drawn rows can show.
Does not: the estimate and its interval (``partial_review``), the betting bound itself.
Concept: union bound over two parts (docs/label-noise.md). Rows whose given label contradicts the
prediction count as wrong until a review shows them right; rows whose given label agrees are wrong
at most as often as the drawn controls allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence import betting
from dagster_project.lib.evidence.certificate import Claim, p_values
from dagster_project.lib.evidence.rows import PatientRows

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.evidence.partial_review import ReviewedRows

    Floats = npt.NDArray[np.float64]

UpperBound = Callable[["Floats", float], float]
"""(values in [0, 1] of independent patients in hash order, delta) -> bound on their mean that is
below the true mean with probability at most delta."""

STEPS = 40
"""Halvings of the search for a bound: 1e-12."""


def upper_bound(values: Floats, delta: float) -> float:
    """Clopper-Pearson where every value is 0 or 1, else empirical Bernstein (arXiv 0907.3740).

    >>> round(upper_bound(np.zeros(59), 0.05), 4)
    0.0495
    """
    n = values.size
    if n == 0:
        return 1.0
    if np.isin(values, (0.0, 1.0)).all():
        from scipy.special import betaincinv

        k = int(values.sum())
        return 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - delta))
    if n < 2:
        return 1.0
    log = np.log(2 / delta)
    arm = np.sqrt(2 * values.var(ddof=1) * log / n) + 7 * log / (3 * (n - 1))
    return float(min(1.0, values.mean() + arm))


def certified_upper(
    rows: ReviewedRows,
    threshold: float,
    delta: float,
    *,
    max_images: int,
    bound: UpperBound = upper_bound,
) -> float | None:
    """Upper bound on the true W(``threshold``) that holds with probability 1 - ``delta``.

    U_{delta/2} of P(score >= t, not shown right, and given != predicted or asked with certainty or
    outside the frame) + U_{delta/2} of P(score >= t, given = predicted, wrong) from the drawn rows.
    Drawn rows that nobody decided count as wrong. Where every row at or above t is reviewed, the
    plain count at the whole ``delta``.

    It holds for a threshold fixed before these labels; both parts are monotone in t, so it also
    holds for the loosest t of a sequence from strict to loose, stopped at the first t whose bound
    is over the target.

    Parameters
    ----------
    rows : no patient has more than ``max_images`` images (``reviewed_rows`` can see to it).
    max_images : declared, never read off the rows.
    bound : the bound for independent losses of 0 or 1, one a patient.

    Returns
    -------
    None where the drawn rows are no simple random sample: none, or of unequal probabilities.
    """
    inside = rows.score >= threshold
    if bool(rows.reviewed[inside].all()):
        return by_patient(rows, (inside & rows.wrong).astype(float), delta, max_images, bound)
    drawn = rows.drawn
    if not drawn.any() or np.unique(rows.probability[drawn]).size > 1:
        return None
    seen = inside & (rows.given_wrong | rows.certain | (rows.outside & ~rows.asked))
    not_shown_right = ~rows.reviewed | rows.wrong
    shown = by_patient(rows, (seen & not_shown_right).astype(float), delta / 2, max_images, bound)
    hidden = (inside & ~rows.given_wrong & not_shown_right).astype(float)
    pool = ~rows.certain & ~rows.outside
    kept, share = _one_a_patient(rows)
    return min(1.0, shown + float(pool.mean()) * _of_drawn(hidden[kept], share, delta / 2, bound))


def review_test(
    rows: ReviewedRows, alpha: float, level: float, *, max_images: int
) -> Callable[[float], bool]:
    """Whether the true W(t) is shown to be below ``alpha``, for a sequence of thresholds.

    The decision that :func:`certified_upper` < alpha would give, without searching for the bound:
    U_{level/2} of the hidden part is taken off alpha, and the shown part is tested against what is
    left at level/2. Where every row at or above t is reviewed, the plain count at the whole level.

    Parameters
    ----------
    rows : at most ``max_images`` images a patient.
    alpha : bound on W.
    """
    drawn = rows.drawn
    simple = bool(drawn.any()) and np.unique(rows.probability[drawn]).size == 1
    not_shown_right = ~rows.reviewed | rows.wrong
    pool = float((~rows.certain & ~rows.outside).mean())
    kept, share = _one_a_patient(rows) if simple else (np.zeros(0, dtype=np.int64), 0.0)

    def shown(threshold: float, wrong: npt.NDArray[np.bool_], bar: float, delta: float) -> bool:
        ok = ~wrong
        counted = PatientRows(rows.score, ok, ok, rows.patient, rows.n_patients, known=True)
        claim = Claim("confident_wrong_share", bar)
        at = np.array([threshold])
        return bool(p_values(counted, claim, at, level=delta, max_images=max_images)[0] <= delta)

    def passes(threshold: float) -> bool:
        inside = rows.score >= threshold
        if bool(rows.reviewed[inside].all()):
            return shown(threshold, rows.wrong, alpha, level)
        if not simple:
            return False
        hidden = (inside & ~rows.given_wrong & not_shown_right).astype(float)
        left = alpha - pool * _of_drawn(hidden[kept], share, level / 2, upper_bound)
        seen = rows.given_wrong | rows.certain | (rows.outside & ~rows.asked)
        return left > 0 and shown(threshold, seen & not_shown_right, left, level / 2)

    return passes


def by_patient(
    rows: ReviewedRows, losses: Floats, delta: float, max_images: int, bound: UpperBound
) -> float:
    """Upper bound on the mean of ``losses`` (N,) in [0, 1] over images, by independent patients.

    One image a patient: ``bound`` of the losses. Otherwise the largest alpha that the betting test
    does not refute with Y_p = (sum over the patient's images of (loss - alpha)) / ``max_images`` +
    alpha, which lies in [0, 1] and has a mean of at least alpha if the mean over images is.

    Raises
    ------
    ValueError
        A patient has more than ``max_images`` images.
    """
    total = np.bincount(rows.patient, losses, rows.n_patients).astype(np.float64)
    size = np.bincount(rows.patient, minlength=rows.n_patients)
    if size.max(initial=0) > max_images:
        raise ValueError(f"a patient has {size.max()} images, over the declared {max_images}")
    if rows.n_patients == len(rows):
        return bound(total, delta)
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        alpha = (low + high) / 2
        values = total / max_images + alpha * (1 - size / max_images)
        wealth = betting.log_wealth(np.clip(values, 0, 1)[None, :], alpha, delta=delta)[0]
        if wealth >= np.log(1 / delta):
            high = alpha
        else:
            low = alpha
    return high


def _one_a_patient(rows: ReviewedRows) -> tuple[npt.NDArray[np.int64], float]:
    """The first drawn row of each patient, in hash order, and their share of all drawn rows."""
    drawn = np.flatnonzero(rows.drawn)
    _, first = np.unique(rows.patient[drawn], return_index=True)  # sorts by patient: hash order
    return drawn[first], first.size / drawn.size


def _of_drawn(kept: Floats, share: float, delta: float, bound: UpperBound) -> float:
    """Upper bound on the mean loss over the pool that the drawn rows are a random sample of.

    ``kept``: the losses of one drawn row a patient, which is independent of all others; further
    rows of the same patients are few in a small sample and count as wrong.
    """
    return min(1.0, share * bound(kept, delta) + (1 - share))
