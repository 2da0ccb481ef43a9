"""A certified upper bound on W where labels are reviewed only in part.

Belongs: the bound from a stratified sample of reviews, and the test that gives the same decision.
Does not: the estimate and its interval (``partial_review``), bounds where every label is known
(``upper_bound``), the betting test (``betting``).
Concept: two steps joined by the union bound (docs/label-noise.md). First, in every cell (a stratum,
and whether the given label agrees) the sampled rows bound how many of all its rows are wrong; then
the rows, with as many wrong ones as that allows, bound W. N = images, P = patients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence.certificate import Claim, p_values
from dagster_project.lib.evidence.rows import PatientRows
from dagster_project.lib.evidence.upper_bound import (
    betting_bound,
    check_size,
    clopper_pearson,
    patient_losses,
    smallest,
    upper_by_patient,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.evidence.partial_review import ReviewedRows

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

FIRST = 0.8
"""The part of delta that the cells share; the rest is for the draw of patients."""
MINOR = 0.001
"""A cell with no more than this share of all rows counts as wrong: it spends none of delta."""


def hypergeometric_upper(k: int, n: int, total: int, delta: float) -> int:
    """Upper bound on the hits among ``total`` rows, of which a random n showed k.

    The largest number that a sample of n shows at most k of with probability above ``delta``;
    exact (Buonaccorsi, JASA 82:1162, 1987). ``total`` where nothing was sampled.

    >>> hypergeometric_upper(0, 100, 1000, 0.05), hypergeometric_upper(3, 10, 10, 0.05)
    (28, 3)
    """
    from scipy.special import gammaln

    seen = np.arange(k + 1)

    def at_most(hits: int) -> float:
        def choose(a: Floats | float, b: Floats | float) -> Floats:
            found: Floats = gammaln(a + 1.0) - gammaln(b + 1.0) - gammaln(a - b + 1.0)
            return found

        x = seen[(seen <= hits) & (n - seen <= total - hits)].astype(np.float64)
        logs = choose(float(hits), x) + choose(float(total - hits), n - x)
        return float(np.exp(logs - choose(float(total), float(n))).sum())

    low, high = k, total - (n - k)
    while low < high:
        middle = (low + high + 1) // 2
        if at_most(middle) > delta:
            low = middle
        else:
            high = middle - 1
    return low


def certified_upper(
    rows: ReviewedRows, threshold: float, delta: float, *, max_images: int
) -> float | None:
    """Upper bound on the true W(``threshold``) that holds with probability 1 - ``delta``.

    The smallest W that :func:`review_test` refutes.

    It holds for a threshold fixed before these labels; and for the loosest t of a sequence fixed in
    order, stopped at the first t whose bound is over the target.

    Parameters
    ----------
    rows : no patient has more than ``max_images`` images (``reviewed_rows`` can see to it).
    max_images : declared, never read off the rows.

    Returns
    -------
    None where rows at or above t are unreviewed and nothing was drawn with a known probability.
    """
    check_size(rows.patient, max_images)
    frame = _Frame(rows)
    if frame.whole(threshold):
        wrong = (rows.score >= threshold) & rows.wrong
        return upper_by_patient(rows.patient, wrong, delta, max_images=max_images)
    if not frame.drawn:
        return None
    rest = delta * (1 - FIRST)
    if frame.single:
        most = frame.most_wrong(threshold, FIRST * delta, hypergeometric_upper)
        return clopper_pearson(most, len(rows), rest)
    losses = frame.losses(threshold, FIRST * delta, max_images)
    needed = np.log(1 / rest)
    return smallest(lambda alpha: _steady_wealth(rows, losses, alpha, rest, max_images) >= needed)


def review_test(
    rows: ReviewedRows, alpha: float, level: float, *, max_images: int
) -> Callable[[float], bool]:
    """Whether the true W(t) is shown to be below ``alpha``, for a sequence of thresholds.

    The decision that :func:`certified_upper` < alpha would give, without searching for the bound.
    Where every row at or above t is reviewed, the plain count at the whole level.

    Parameters
    ----------
    rows : at most ``max_images`` images a patient.
    alpha : bound on W.
    """
    check_size(rows.patient, max_images)
    claim = Claim("confident_wrong_share", alpha)
    ok = ~rows.wrong
    counted = PatientRows(rows.score, ok, ok, rows.patient, rows.n_patients, known=True)
    frame = _Frame(rows)
    rest = level * (1 - FIRST)

    def passes(threshold: float) -> bool:
        if frame.whole(threshold):
            at = np.array([threshold])
            p = p_values(counted, claim, at, level=level, max_images=max_images)
            return bool(p[0] <= level)
        if not frame.drawn:
            return False
        if frame.single:
            # the binomial bound is never below the exact one (Uhlmann, Metrika 11:145, 1966)
            return any(
                clopper_pearson(frame.most_wrong(threshold, FIRST * level, bound), len(rows), rest)
                < alpha
                for bound in (_binomial_upper, hypergeometric_upper)
            )
        losses = frame.losses(threshold, FIRST * level, max_images)
        wealth = _steady_wealth(rows, losses, alpha, rest, max_images)
        return wealth >= float(np.log(1 / rest))

    return passes


def shortage(n_drawn: int) -> str:
    """What keeps a claim on labels reviewed in part from being shown, and what would mend it.

    Parameters
    ----------
    n_drawn : reviewed images that were drawn with a known probability below 1.
    """
    if not n_drawn:
        return (
            "how probably each image was drawn for review is not known, so nothing is known of the "
            "labels that nobody reviewed; review all images in play, or some that a review packet "
            "draws"
        )
    return (
        f"{n_drawn:,} reviewed images that were drawn at random leave much room for wrong labels "
        "that agree with the model; more of them, or all images in play, would settle it"
    )


FiniteBound = Callable[[int, int, int, float], int]
"""(hits, sampled rows, all rows, delta) -> bound on the hits among all rows."""


def _binomial_upper(k: int, n: int, total: int, delta: float) -> int:
    return int(np.ceil(clopper_pearson(k, n, delta) * total))


class _Frame:
    """Rows by cell, sorted so that counting those in play at a threshold is a look-up.

    A cell is a stratum's rows whose given label agrees with the prediction, or those that
    contradict it; it is bounded by itself where it holds more than :data:`MINOR` of all rows and
    was sampled. Rows in no such cell count as wrong unless a review shows the prediction right.
    Which cells there are, and their parts of delta, follow from scores, strata and the draw alone.

    With one row a patient a cell's bound is the exact one of its finite number of rows
    (hypergeometric), and the number of wrong rows among N is binomial: Clopper-Pearson of the
    largest number allowed. With several, it is the betting test's bound on the rate q of the cell
    among images; E loss(q) = W, and the second test must not fall as losses rise, because the bound
    on q is random: see :func:`_steady_wealth`.
    """

    def __init__(self, rows: ReviewedRows) -> None:
        self.rows = rows
        self.single = rows.n_patients == len(rows)
        self.open = ~rows.reviewed | rows.wrong
        self.drawn = bool(rows.drawn.any())
        self.first_unreviewed = float(rows.score[~rows.reviewed].max(initial=-1.0))
        self.open_scores = np.sort(rows.score[self.open])
        self.cells = []
        returned = rows.drawn & rows.returned
        for number in np.unique(rows.stratum[rows.drawn]):
            for side in (False, True):
                here = (rows.stratum == number) & (rows.given_wrong == side) & ~rows.certain
                if (here & returned).any():
                    self.cells.append(_Cell(rows, here, here & returned, self.open))

    def whole(self, threshold: float) -> bool:
        """Every row in play is reviewed."""
        return self.first_unreviewed < threshold

    def parts(self, threshold: float, delta: float) -> list[tuple[_Cell, float]]:
        """The cells that are bounded at ``threshold``, each with its part of ``delta``.

        Parts are as the patients that a sampled one stands for: with few errors a bound reaches
        log(1 / part) times that, and the sum of these is smallest so.
        """
        least = MINOR * len(self.rows)
        used = [
            cell
            for cell in self.cells
            if _above(cell.scores, threshold) > least and _above(cell.drawn, threshold)
        ]
        weights = [_above(x.patients, threshold) / _above(x.drawn, threshold) for x in used]
        return [(x, delta * w / sum(weights)) for x, w in zip(used, weights, strict=True)]

    def most_wrong(self, threshold: float, delta: float, bound: FiniteBound) -> int:
        """How many rows in play can be wrong; one row a patient."""
        total = _above(self.open_scores, threshold)
        for cell, part in self.parts(threshold, delta):
            hits, sampled = _above(cell.hits, threshold), _above(cell.drawn, threshold)
            total += bound(hits, sampled, _above(cell.scores, threshold), part)
            total -= _above(cell.open, threshold)
        return total

    def losses(self, threshold: float, delta: float, max_images: int) -> Floats:
        """(N,) each row's loss, with its cell's bound for every row of a cell."""
        inside = self.rows.score >= threshold
        values = (inside & self.open).astype(float)
        for cell, part in self.parts(threshold, delta):
            sampled = cell.sampled & inside
            patient, loss = self.rows.patient[sampled], self.open[sampled]
            values[cell.here & inside] = betting_bound(patient, loss, part, max_images=max_images)
        return values


class _Cell:
    """Scores of a cell in rising order: of all rows, of their patients, of what was sampled."""

    def __init__(self, rows: ReviewedRows, here: Bools, sampled: Bools, is_open: Bools) -> None:
        self.here, self.sampled = here, sampled
        self.scores = np.sort(rows.score[here])
        self.open = np.sort(rows.score[here & is_open])
        self.hits = np.sort(rows.score[sampled & is_open])
        self.patients = _highest(rows.score[here], rows.patient[here])
        self.drawn = _highest(rows.score[sampled], rows.patient[sampled])


def _highest(score: Floats, patient: Ints) -> Floats:
    """Each patient's highest score, rising."""
    order = np.lexsort((score, patient))
    last = np.append(np.diff(patient[order]) > 0, True)
    return np.sort(score[order][last])


def _above(rising: Floats, threshold: float) -> int:
    return rising.size - int(np.searchsorted(rising, threshold, side="left"))


def _steady_wealth(
    rows: ReviewedRows, losses: Floats, alpha: float, delta: float, max_images: int
) -> float:
    """Log wealth of a bettor against "the mean loss is at least alpha", by patient.

    As ``betting.log_wealth`` with one bet for all patients, fixed by their sizes, delta and alpha:
    then the wealth can only fall where a loss rises. Where a cell's bound is above its true rate
    the losses are all at least those with the true rate, whose wealth is a supermartingale; so a
    bound that depends on the same patients does no harm.
    """
    total, size = patient_losses(rows.patient, losses)
    # a guess of the variance, between a patient's images all alike and all independent; only the
    # width depends on it
    variance = alpha * float((size**2).mean()) / max_images**2 / 2
    bet = min(1.0, float(np.sqrt(2 * np.log(1 / delta) / (size.size * variance))))
    gain = bet * (alpha * size - total) / max_images
    with np.errstate(divide="ignore"):
        return float(np.cumsum(np.log1p(gain)).max(initial=0.0))
