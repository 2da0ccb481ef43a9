"""Sums over reviewed rows as they enter one by one: what the estimate leaves open at every score.

Belongs: the design variance, the interval's arms and the draw of patients, for all thresholds in
one sort.
Does not: what the figures are called and who asks for them (``partial_review``), weights
(``strata``).
Concept: linearisation. The patient sums of u_i = g_i + dbar_h + w_i (d_i - dbar_h) carry the draw
of patients and that of the reviews; every term is a running sum over rows. N = rows, P = patients,
H = strata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.proportion import wilson

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.evidence.partial_review import ReviewedRows

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Design:
    """Of the running number of errors, what the draw of the reviews leaves open; (N,) each.

    ``variance``: as published; ``plain``: without the m / (m - 1) of small samples; ``down`` and
    ``up``: squared arms of the interval.
    """

    variance: Floats
    plain: Floats
    down: Floats
    up: Floats


class Running:
    """Sums over rows as they enter one by one, highest score first."""

    def __init__(self, rows: ReviewedRows, sample: strata.Sample) -> None:
        order = np.argsort(-rows.score, kind="stable")
        self.sample = sample
        self.score = rows.score[order]
        self.patient = rows.patient[order]
        self.patients = _Patients(self.patient)
        self.n_patients = rows.n_patients
        self.given = rows.given_wrong[order].astype(float)
        self.wrong = rows.wrong[order].astype(float)
        self.stratum, self.weight = sample.stratum[order], sample.weight[order]
        self.correction = self.weight * (self.wrong - self.given)
        self.n = np.arange(1, self.score.size + 1)
        self.full = np.cumsum(~rows.reviewed[order]) == 0
        self.counted = self.given + self.correction
        self.errors = np.where(self.full, np.cumsum(self.wrong), np.cumsum(self.counted))
        inside = self.stratum >= 0
        cell = self.stratum[inside] * self.n_patients + self.patient[inside]
        n_strata = len(sample.names)
        left = np.bincount(cell, 1 - self.weight[inside], n_strata * self.n_patients)
        self.left = left.reshape(n_strata, self.n_patients)
        """(H, P) rows of each stratum and patient less what its decided ones stand for."""

    def design(self) -> Design:
        """Variance and interval arms, stratum by stratum; nothing where every row is reviewed."""
        zeros = np.zeros(self.score.size)
        variance, plain, down, up = zeros, zeros, zeros, zeros
        for h, unsampled in enumerate(self.sample.unsampled.tolist()):
            if not unsampled:
                continue
            here = self.stratum == h
            spread = unsampled * self._spread(np.where(here, self.correction, 0.0), here)
            m = int(self.sample.n_patients_decided[h])
            plain = plain + spread
            variance = variance + spread * (m / (m - 1) if m > 1 else np.nan)
            # errors are gained where the given label agrees, and lost where it does not
            for sign, side in ((1, 0), (-1, 1)):
                could = here & (self.given == side)
                if could.any():
                    below, above = self._arms(h, here, could, sign)
                    down = down + (below if sign > 0 else above) ** 2
                    up = up + (above if sign > 0 else below) ** 2
        return Design(*(np.where(self.full, 0.0, x) for x in (variance, plain, down, up)))

    def _arms(self, h: int, here: Bools, could: Bools, sign: int) -> tuple[Floats, Floats]:
        """How far Wilson's interval of the corrections of one sign reaches below and above."""
        part = np.where(here, np.maximum(sign * self.correction, 0.0), 0.0)
        size, weight = float(self.sample.n_rows[h]), self.weight[here]
        by_patient = np.bincount(self.patient[here], weight, self.n_patients)
        total = np.cumsum(part)
        effective = strata.effective_rows(
            np.minimum(total / size, 1.0),
            kish=size**2 / float((weight**2).sum()),
            by_patient=self._spread(part, here) / size**2,
            n_patients=int(self.sample.n_patients_decided[h]),
            least=size**2 / float((by_patient**2).sum()),
        )
        low, high = wilson(
            np.minimum(total / size, 1.0), effective / float(self.sample.unsampled[h])
        )
        above = np.minimum(high * size, np.cumsum(could)) - total
        return total - low * size, np.maximum(above, 0)

    def _spread(self, part: Floats, here: Bools) -> Floats:
        """(N,) sum over a stratum's patients of (their part - its mean x their weight)^2."""
        size = float(self.weight[here].sum())
        by_patient = np.bincount(self.patient[here], self.weight[here], self.n_patients)
        at = np.flatnonzero(part)
        squares = np.zeros(part.size)
        squares[at] = np.diff(_Patients(self.patient[at]).products(part[at], part[at]), prepend=0)
        mean = np.cumsum(part) / size
        cross = np.cumsum(part * by_patient[self.patient])
        spread = np.cumsum(squares) - 2 * mean * cross + mean**2 * float((by_patient**2).sum())
        return np.maximum(spread, 0)  # exact zeros come out as rounding of either sign

    def draw(self, design: Design, *, ratio: bool) -> Floats:
        """(N,) variance of the number of errors by the draw of patients, NaN for one patient.

        The linearised patient sums of u_i = g_i + dbar_h + w_i (d_i - dbar_h), about their share of
        all N rows or, with ``ratio``, of the rows so far, hold both draws; that of the reviews is
        taken off.
        """
        if self.n_patients < 2:
            return np.full(self.score.size, np.nan)
        plain = self._squares(np.where(self.full, self.wrong, self.counted), ratio=ratio)
        both = np.where(self.full, plain, plain + self._of_means(ratio=ratio))
        factor = self.n_patients / (self.n_patients - 1)
        return factor * np.maximum(both - design.plain, 0)

    def _squares(self, values: Floats, *, ratio: bool) -> Floats:
        """(N,) sum over patients of (their sum so far - mean x their rows)^2."""
        ones = np.ones(values.size)
        total = np.cumsum(values)
        if ratio:
            mean = total / self.n
            cross = self.patients.products(values, ones)
            squares = self.patients.products(ones, ones)
        else:
            size = np.bincount(self.patient, minlength=self.n_patients).astype(float)
            mean = total / values.size
            cross = np.cumsum(values * size[self.patient])
            squares = np.full(values.size, float((size**2).sum()))
        found: Floats = (
            self.patients.products(values, values) - 2 * mean * cross + mean**2 * squares
        )
        return found

    def _of_means(self, *, ratio: bool) -> Floats:
        """(N,) what the strata's means dbar_h (1 - w_i) add to the patients' sums of squares."""
        mean = np.cumsum(self.counted) / (self.n if ratio else self.n.size)
        size = np.bincount(self.patient, minlength=self.n_patients)
        means = [
            np.cumsum(np.where(self.stratum == h, self.correction, 0.0)) / n_rows
            for h, n_rows in enumerate(self.sample.n_rows.tolist())
        ]
        found = np.zeros(self.n.size)
        for h, left in enumerate(self.left):
            if not means[h].any():
                continue
            own = left[self.patient]
            rows = np.cumsum(own) if ratio else float((left * size).sum())
            found += 2 * means[h] * (np.cumsum(self.counted * own) - mean * rows)
            for k in range(h + 1):
                product = float((left * self.left[k]).sum())
                if product:
                    found += (1 + (k < h)) * means[h] * means[k] * product
        return found


class _Patients:
    """Sums by patient of rows that enter one by one, in the order of ``patient`` (N,)."""

    def __init__(self, patient: Ints) -> None:
        self.order = np.argsort(patient, kind="stable")
        ordered = patient[self.order]
        starts = np.append(np.ones(min(1, patient.size), dtype=bool), np.diff(ordered) > 0)
        self.first = np.flatnonzero(starts)[np.cumsum(starts) - 1]
        self.single = bool(starts.all())

    def products(self, x: Floats, y: Floats) -> Floats:
        """(N,) running sum over patients of X_p Y_p, where X_p and Y_p are sums so far."""
        steps = x * y
        if not self.single:
            before_x = self._before(x)
            before_y = before_x if y is x else self._before(y)
            steps = steps + before_x * y + x * before_y
        return np.cumsum(steps)

    def _before(self, x: Floats) -> Floats:
        """(N,) sum of the same patient's earlier rows."""
        ordered = x[self.order]
        sums = np.cumsum(ordered) - ordered
        found = np.empty(x.size)
        found[self.order] = sums - sums[self.first]
        return found
