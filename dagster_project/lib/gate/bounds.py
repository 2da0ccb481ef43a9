"""Bounds on what a gate does, tested along its taus with the tiers' certificate.

Belongs: the rows a bound is tested on, which taus are certified, the bound as a number, and how
many rows would do.
Does not: the tests (``evidence.certificate``, ``evidence.upper_bound``), choosing among what is
certified (``points``).
Concept: fixed sequence (learn-then-test, arXiv 2110.01052, section 4). Accepting too much is tested
from the strictest tau downwards, withholding too much from the loosest upwards; each test at the
whole level, stopping at the first failure. Both need taus fixed without the calibration labels, and
groups that are independent. n = rows of a kind among the calibration rows, P = their groups,
T = taus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagster_project.lib.evidence.certificate import (
    Claim,
    Terms,
    leading,
    p_values,
    patients_needed,
)
from dagster_project.lib.evidence.rows import PatientRows
from dagster_project.lib.evidence.upper_bound import upper_by_patient
from dagster_project.lib.gate.split import mixed

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import Bounded, Certify
    from dagster_project.lib.gate.scores import GateScores

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

BETTING = "betting (WSR) by group"
CLOPPER_PEARSON = "Clopper-Pearson, one row a group"

WITHHELD: tuple[Bounded, ...] = ("fn_in",)
"""Quantities that rise with tau; the others fall."""

KINDS: dict[Bounded, str] = {
    "fp_cens": "censored",
    "fn_in": "in-range",
    "accepted_censored": "",
}
"""Of which rows a quantity is a share; all, where no kind is named."""


@dataclass(frozen=True)
class Bound:
    """One bound of a rule, with the rows it is tested on.

    Attributes
    ----------
    quantity : ``fp_cens``: P(accepted | censored); ``fn_in``: P(bottom | in range);
        ``accepted_censored``: P(accepted and censored).
    target : the share to be shown not to be reached. level : the delta that its tests may spend.
    max_rows : rows a group at most, declared.
    rows : capped calibration rows of the quantity's kind, turned so that the event of a row is
        ``score >= threshold and not top1`` (the tiers' confident and wrong).
    """

    quantity: Bounded
    target: float
    level: float
    max_rows: int
    rows: PatientRows

    @property
    def rising(self) -> bool:
        """Whether the quantity rises with tau, so that the sequence goes upwards."""
        return self.quantity in WITHHELD

    @property
    def groups_will_do(self) -> bool:
        """Rows of unknown group can be tested only as groups of one."""
        return self.rows.known or self.max_rows == 1

    def certified(self, taus: Floats) -> Bools:
        """(T,) whether each of T taus, rising strictly, is certified.

        p <= level for it and for all before it in the sequence, which begins at the last tau
        (at the first, for a quantity that rises). Nothing is certified without a row, or where
        groups are unknown and more than one row a group is allowed.
        """
        passed = 0
        if len(self.rows) and self.groups_will_do:
            p = p_values(
                self.rows,
                Claim("confident_wrong_share", self.target),
                self._thresholds(taus if self.rising else taus[::-1]),
                level=self.level,
                max_images=self.max_rows,
            )
            passed = leading(p, self.level)
        held = np.arange(taus.size) < passed
        return held if self.rising else held[::-1]

    def at(self, tau: float, *, certified: bool) -> dict[str, Any]:
        """What is known of the quantity at one tau; plain JSON, ``tau`` left to the caller.

        ``target``; ``observed``: share of the capped rows with the event; ``upper``: the smallest
        share that the test refutes at ``delta`` (null without rows; at a certified tau not above
        the target); ``n, n_groups, n_dropped``: rows, groups, rows beyond the cap; ``delta``;
        ``method``; ``rows_needed``: of this kind, for 80 % power at this tau and the observed
        share, "never" where that is no smaller than the target, null where certified.
        """
        n = len(self.rows)
        event = self._event(tau)
        upper = None
        if n and self.groups_will_do:
            upper = upper_by_patient(self.rows.patient, event, self.level, max_images=self.max_rows)
            upper = min(upper, self.target) if certified else upper
        return {
            "target": self.target,
            "observed": int(event.sum()) / n if n else None,
            "upper": upper,
            "n": n,
            "n_groups": self.rows.n_patients,
            "n_dropped": self.rows.n_dropped,
            "delta": self.level,
            "method": CLOPPER_PEARSON if self.rows.single else BETTING,
            "rows_needed": None if certified or not self.groups_will_do else self._needed(event),
        }

    def _thresholds(self, taus: Floats) -> Floats:
        """Score < tau is -score >= -(the next float below tau): strictness kept exactly."""
        return -np.nextafter(taus, -np.inf) if self.rising else taus

    def _event(self, tau: float) -> Bools:
        at = self._thresholds(np.array([tau], dtype=np.float64))[0]
        event: Bools = (self.rows.score >= at) & ~self.rows.top1
        return event

    def _needed(self, event: Bools) -> int | Literal["never"] | None:
        if not event.size:
            return None
        above = event - self.target
        excess = np.bincount(self.rows.patient, above, self.rows.n_patients).astype(np.float64)
        terms = Terms(self.level, 1.0, self.max_rows)
        groups = patients_needed(excess, terms, single=self.rows.single)
        if groups == "never":
            return groups
        return math.ceil(groups * event.size / self.rows.n_patients)


def bound(
    scores: GateScores, quantity: Bounded, target: float, *, level: float, terms: Certify
) -> Bound:
    """A bound with its calibration rows.

    Only rows of the quantity's kind are taken; of a group with more of them than
    ``terms.max_rows_per_group`` those whose mixed row number (``split.mixed``) is smallest. A group
    is counted with the rows it has of the kind, one without any not at all. Without groups every
    row is one. A fault is never accepted and always bottom.

    Parameters
    ----------
    target : in [0, 1]. level : in (0, 1).
    """
    rows_of_kind = scores.first.copy()
    if quantity != "accepted_censored":
        rows_of_kind &= scores.in_range if quantity == "fn_in" else ~scores.in_range
    of_kind = np.flatnonzero(rows_of_kind)
    at = _capped(of_kind, scores.group, terms.max_rows_per_group)
    score = scores.score[at].astype(np.float64)
    score[scores.fault[at]] = -np.inf  # never accepted, and below every tau
    if quantity in WITHHELD:
        score = -score
        harmless = np.zeros(at.size, dtype=bool)
    else:
        harmless = scores.in_range[at]
    patient = np.arange(at.size)
    if scores.group is not None:
        patient = np.unique(scores.group[at], return_inverse=True)[1].astype(np.int64)
    rows = PatientRows(
        score=score,
        top1=harmless,
        top3=harmless,
        patient=patient,
        n_patients=int(patient.max(initial=-1)) + 1,
        known=not scores.source.get("rows_without_group"),
        n_dropped=of_kind.size - at.size,
    )
    return Bound(quantity, target, level, terms.max_rows_per_group, rows)


def certified_taus(
    scores: GateScores,
    quantity: Bounded,
    target: float,
    taus: Floats,
    *,
    level: float,
    terms: Certify,
) -> Bools:
    """(T,) at which of T taus, rising strictly, ``quantity`` is shown to be below ``target``.

    All of them hold together with probability at least 1 - ``level``; see :meth:`Bound.certified`.
    """
    return bound(scores, quantity, target, level=level, terms=terms).certified(taus)


def level_of_each(quantities: tuple[Bounded, ...], delta: float) -> float:
    """The delta each bound of one rule may spend: shared between the two sequences, if both occur.

    Bounds along the same sequence need no sharing: a wrong tau needs the first true failure along
    it to be rejected, whichever bound fails there (intersection-union, as in the tiers).

    >>> level_of_each(("fp_cens", "fn_in"), 0.05), level_of_each(("fp_cens",), 0.05)
    (0.025, 0.05)
    """
    return delta / max(1, len({quantity in WITHHELD for quantity in quantities}))


def _capped(at: Ints, group: Ints | None, most: int) -> Ints:
    """The rows ``at`` without what a group has beyond ``most``; in the order of rows."""
    if group is None:
        return at
    order = np.lexsort((mixed(at), group[at]))
    of = group[at][order]
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: of.size])
    place = np.arange(of.size) - np.repeat(starts, np.diff(np.append(starts, of.size)))
    return np.sort(at[order[place < most]])
