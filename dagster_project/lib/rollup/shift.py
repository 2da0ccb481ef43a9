"""One shift of all thresholds, certified on patients B for P(placed and wrong).

Belongs: the grid of shifts, what each does to the rows, the sequence of tests, what is then known.
Does not: the tests themselves (``evidence.certificate``), the shape that is shifted (``shape``).
Concept: t(lambda) = sigmoid(logit(t) + lambda) for every rank. Shifts are tested from strict to
loose, each at delta, up to the first failure (fixed sequence; learn-then-test, arXiv 2110.01052,
section 4), so that a wrong certificate has probability at most delta over the draw of patients B.
That needs B disjoint from the patients that gave the shape, and a grid fixed before either.

In lineage mode W(lambda) = P(placed and wrong) never rises with lambda. For one row: its candidates
are ancestors of one class, so if a coarser one is no ancestor of the truth, no finer one is: the
wrong ranks are the finest ones. Raising lambda raises every threshold, so ranks only stop clearing,
and the finest that clears becomes coarser, or none does. A row that was placed and right, or
unplaced, therefore stays so, and each row's loss falls. Hence every stricter shift is certified
with the one that is. In the other modes the candidates of a row may belong to different lineages
(a wrong group above a right family), W may rise with lambda, and only shifts that were tested are
certified; the sequence is valid there too, for it needs no order of the risks.
N = images, P = patients, R = ranks, G = shifts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagster_project.lib.evidence.certificate import (
    BETTING,
    CLOPPER_PEARSON,
    Terms,
    patients_needed,
    share_p_values,
)
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.shape import SCALE

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.candidates import Candidates
    from dagster_project.lib.rollup.config import FitThresholds

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

STEPS = 100
"""Shifts are k / STEPS."""

LIMIT = 10
"""The strictest shift, and the loosest where no accuracy was asked for."""

_CELLS = 400_000
"""Counts (shift, patient) that are held at a time: what fits a processor's cache."""

SCOPE = (
    "Holds for patients exchangeable with these, whose labels these are.",
    "Certified is only P(placed and wrong) over all images. Accuracies by rank are estimates.",
    "Wrong is what these labels call wrong. Where only some were reviewed, first of all those that "
    "contradict the model, errors that label and model share stay unseen: against the truth "
    "P(placed and wrong) is then larger, and nothing is certified of it.",
    "Target, taxonomy, mask, normalisation and rule must have been fixed before these labels were "
    "seen.",
)


@dataclass(frozen=True)
class Sample:
    """The rows that certify.

    Attributes
    ----------
    candidates : of N images, every one of them; what cannot be placed counts in N too.
    right : (N, R) whether each candidate is right.
    patient : (N,) int64 in 0..P-1, in an order fixed without looking at the labels.
    n_patients : P. known : every image names its patient. n_dropped : left out by the cap.
    """

    candidates: Candidates
    right: Bools
    patient: Ints
    n_patients: int
    known: bool
    n_dropped: int = 0

    def wrong(self, thresholds: Floats) -> tuple[Ints, int]:
        """(P,) images of each patient that are placed and wrong; and how many are placed."""
        rank = self.candidates.rank_said(thresholds)
        placed = rank != UNPLACED
        wrong = placed & ~self.right[np.arange(rank.size), rank]
        return np.bincount(self.patient[wrong], minlength=self.n_patients), int(placed.sum())


def shifts(*, loosest: float = -LIMIT) -> Floats:
    """(G,) the grid, strict to loose: LIMIT, LIMIT - 1/STEPS, ... down to ``loosest``."""
    grid = np.arange(LIMIT * STEPS, -LIMIT * STEPS - 1, -1) / STEPS
    return grid[grid >= loosest]


def shifted(shape: Floats, shift: float | Floats) -> Floats:
    """sigmoid(logit(t) + shift), to six decimals; 0 and 1 stay, and so does NaN.

    What is tested is what is released: the rounded value. Several shifts, (G, 1), give (G, R).

    >>> shifted(np.array([0.5, 1.0, np.nan]), 1.0).tolist()
    [0.731059, 1.0, nan]
    """
    with np.errstate(divide="ignore"):
        moved = 1 / (1 + np.exp(-(np.log(shape) - np.log1p(-shape) + shift)))
    return np.round(moved * SCALE) / SCALE


def certify_shift(
    sample: Sample, shape: Floats, terms: FitThresholds, *, loosest: float, monotone: bool
) -> dict[str, Any]:
    """Test the shifts in order and say which is the loosest that holds.

    Parameters
    ----------
    sample : capped at ``terms.max_images_per_patient`` images a patient.
    shape : (R,) thresholds before the shift; NaN: never said.
    loosest : where the grid ends.
    monotone : whether W never rises with the shift (lineage mode); only said on.

    Returns
    -------
    Plain JSON: ``status`` (``certified`` or ``not_certified``), ``quantity`` (``placed_and_wrong``,
    over all images), ``target``, ``delta``, ``shift`` (null if not certified), ``observed`` and
    ``placed`` (shares of images at the shift, or at ``asked_at`` where nothing is certified),
    ``p``, ``stopped_at`` (first shift that failed; null: none did), ``asked_at`` (the strictest
    shift that places an image), ``reason``, ``rows_needed`` (images for 80 % power at ``asked_at``,
    "never" where the rate seen is no smaller than the target; null if certified), ``method``,
    ``monotone``, ``grid`` (``start, stop, step``), ``n_images``, ``n_patients``, ``n_dropped``,
    ``max_images_per_patient``, ``patients_known``, ``scope``.
    """
    grid = shifts(loosest=loosest)
    images = np.bincount(sample.patient, minlength=sample.n_patients)
    events = _events(sample, shape, grid)
    p = _sequence(events, grid, images, terms)
    passed = int(np.append(np.flatnonzero(p > terms.delta), p.size)[0])
    asked = events.first_placed if events.first_placed < grid.size else None
    at = None if asked is None else max(passed - 1, asked)
    wrong, placed = (None, 0) if at is None else sample.wrong(shifted(shape, float(grid[at])))
    reason = _why_not(sample, passed, asked, grid, terms)
    n = sample.patient.size
    return {
        "status": "certified" if reason is None else "not_certified",
        "quantity": "placed_and_wrong",
        "target": terms.target,
        "delta": terms.delta,
        "shift": float(grid[passed - 1]) if reason is None else None,
        "observed": None if wrong is None else int(wrong.sum()) / n,
        "placed": placed / n if n else None,
        "p": None if at is None or at >= p.size else float(p[at]),
        "stopped_at": float(grid[passed]) if passed < grid.size and n else None,
        "asked_at": None if asked is None else float(grid[asked]),
        "reason": reason,
        "rows_needed": None
        if reason is None or wrong is None or not _patients_will_do(sample, terms)
        else _needed(wrong, images, terms),
        "method": CLOPPER_PEARSON if (images == 1).all() else BETTING,
        "monotone": monotone,
        "grid": {"start": float(grid[0]), "stop": float(grid[-1]), "step": 1 / STEPS},
        "n_images": n,
        "n_patients": sample.n_patients,
        "n_dropped": sample.n_dropped,
        "max_images_per_patient": terms.max_images_per_patient,
        "patients_known": sample.known,
        "scope": list(SCOPE),
    }


@dataclass(frozen=True)
class _Events:
    """When images become placed and wrong, or cease to be, along the grid.

    Attributes
    ----------
    step, patient, change : (E,) number of the shift, patient, +1 or -1; by step.
    first_placed : number of the first shift that places an image; G if none does.
    """

    step: Ints
    patient: Ints
    change: Ints
    first_placed: int


def _events(sample: Sample, shape: Floats, grid: Floats) -> _Events:
    """Each rank is what a row says from its own first step up to that of any finer rank."""
    thresholds = shifted(shape, grid[:, None])
    finer = np.full(sample.patient.size, grid.size)
    parts = []
    for rank in range(shape.size):
        # a score that is NaN sorts last: it is never reached; nor is a threshold that is NaN
        score, falling = sample.candidates.score[:, rank], -thresholds[:, rank]
        first = np.searchsorted(falling, -score) if not np.isnan(shape[rank]) else finer
        first = np.where(np.isnan(score), grid.size, first)
        wrong = (first < finer) & ~sample.right[:, rank]
        parts += [(step[wrong], wrong, sign) for step, sign in ((first, 1), (finer, -1))]
        finer = np.minimum(finer, first)
    step = np.concatenate([steps for steps, _, _ in parts])
    patient = np.concatenate([sample.patient[wrong] for _, wrong, _ in parts])
    change = np.concatenate([np.full(steps.size, sign) for steps, _, sign in parts])
    order = np.argsort(step, kind="stable")
    first_placed = int(finer.min(initial=grid.size))
    return _Events(step[order], patient[order], change[order], first_placed)


def _sequence(
    events: _Events, grid: Floats, images: Ints, terms: FitThresholds
) -> npt.NDArray[np.float64]:
    """Leading p-values: all up to the first above delta, perhaps some more."""
    found: list[Floats] = []
    size = max(1, min(64, _CELLS // max(1, images.size)))
    before = np.zeros(images.size, dtype=np.int64)
    for first in range(0, grid.size, size):
        n = min(size, grid.size - first)
        here = slice(*np.searchsorted(events.step, [first, first + n]))
        cell = (events.step[here] - first) * images.size + events.patient[here]
        moved = np.bincount(cell, weights=events.change[here], minlength=n * images.size)
        wrong = np.cumsum(moved.reshape(n, images.size).astype(np.int64), axis=0) + before
        before = wrong[-1]
        p = share_p_values(
            wrong,
            images,
            terms.target,
            level=terms.delta,
            max_images=terms.max_images_per_patient,
        )
        found.append(p)
        if (p > terms.delta).any():
            break
    return np.concatenate(found)


def _patients_will_do(sample: Sample, terms: FitThresholds) -> bool:
    return sample.known or terms.max_images_per_patient == 1


def _why_not(
    sample: Sample, passed: int, asked: int | None, grid: Floats, terms: FitThresholds
) -> str | None:
    if not _patients_will_do(sample, terms):
        return (
            "patients are not known for every image; if each has one image, say so with "
            "max_images_per_patient 1"
        )
    if not sample.n_patients:
        return "no patient is left to certify on; lower share_a"
    if asked is None:
        return "no image of B is placed at any shift: every rank is disabled, or nothing is decided"
    if passed <= asked:
        return (
            f"the strictest shift that places an image, {grid[asked]:+.2f}, was not reached: the "
            f"test fails at {grid[passed]:+.2f}"
        )
    return None


def _needed(wrong: Ints, images: Ints, terms: FitThresholds) -> int | Literal["never"]:
    testing = Terms(terms.delta, 1.0, terms.max_images_per_patient)
    patients = patients_needed(
        wrong - terms.target * images, testing, single=bool((images == 1).all())
    )
    if patients == "never":
        return patients
    return math.ceil(patients * int(images.sum()) / images.size)
