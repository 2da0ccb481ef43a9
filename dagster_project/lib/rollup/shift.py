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
    REVIEWED,
    Terms,
    leading,
    patients_needed,
    share_p_values,
)
from dagster_project.lib.evidence.review_bound import shortage
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.reviewed import estimate, leading_passes
from dagster_project.lib.rollup.shape import SCALE

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.candidates import Candidates
    from dagster_project.lib.rollup.config import FitThresholds
    from dagster_project.lib.rollup.truth import Review

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

STEPS = 100
"""Shifts are k / STEPS."""

STEPS_IN_PART = 20
"""The same where labels were reviewed in part: each test there takes hundreds of times as long."""

LIMIT = 10
"""The strictest shift, and the loosest where no accuracy was asked for."""

_CELLS = 400_000
"""Counts (shift, patient) that are held at a time: what fits a processor's cache."""

SCOPE = (
    "Holds for patients exchangeable with these, whose labels these are.",
    "Certified is only P(placed and wrong) over all images. Accuracies by rank are estimates.",
    "Target, taxonomy, mask, normalisation and rule must have been fixed before these labels were "
    "seen.",
    "A certificate of the tiers on the same images is another one: both together guarantee only "
    "the sum of their deltas.",
)

WRONG = {
    "unknown": "Wrong is what these labels call wrong; whether they were reviewed is not known "
    "here. Where only some were, first of all those that contradict the model, errors that label "
    "and model share stay unseen: against the truth P(placed and wrong) is then larger, and "
    "nothing is certified of it.",
    "none": "Wrong is what the labels as given call wrong: none of them was reviewed.",
    "in part": "Wrong is what reviewers would call wrong if they saw every image: of labels that "
    "nobody reviewed only that is used which reviews drawn at random say of them.",
    "all": "Wrong is what reviewers call wrong: every label was reviewed.",
}
"""By what is known of reviews."""


@dataclass(frozen=True)
class Sample:
    """The rows that certify.

    Attributes
    ----------
    candidates : of N images, every one of them; what cannot be placed counts in N too.
    right : (N, R) whether each candidate is right.
    patient : (N,) int64 in 0..P-1, in an order fixed without looking at the labels.
    n_patients : P. known : every image names its patient. n_dropped : left out by the cap.
    review : of these images; None: not known which were reviewed, labels count as they are.
    given_right : (N, R) as ``right``, by the labels as given; with a review only.
    in_part : labels were reviewed in part: ``right`` alone is then nothing to certify by.
    """

    candidates: Candidates
    right: Bools
    patient: Ints
    n_patients: int
    known: bool
    n_dropped: int = 0
    review: Review | None = None
    given_right: Bools | None = None
    in_part: bool = False

    @property
    def reviews(self) -> str:
        """What is known of reviews: a key of :data:`WRONG`."""
        if self.review is None:
            return "unknown"
        return "in part" if self.in_part else "all" if self.review.n_reviewed else "none"

    def wrong(self, thresholds: Floats) -> tuple[Ints, int]:
        """(P,) images of each patient that are placed and wrong; and how many are placed."""
        rank = self.candidates.rank_said(thresholds)
        placed = rank != UNPLACED
        wrong = placed & ~self.right[np.arange(rank.size), rank]
        return np.bincount(self.patient[wrong], minlength=self.n_patients), int(placed.sum())


def shifts(*, loosest: float = -LIMIT, steps: int = STEPS) -> Floats:
    """(G,) the grid, strict to loose: LIMIT, LIMIT - 1/steps, ... down to ``loosest``."""
    grid = np.arange(LIMIT * steps, -LIMIT * steps - 1, -1) / steps
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
    sample: Sample,
    shape: Floats,
    terms: FitThresholds,
    *,
    loosest: float,
    monotone: bool,
    looks: int | None = None,
) -> dict[str, Any]:
    """Test the shifts in order and say which is the loosest that holds.

    Where labels were reviewed in part W is bounded from the sample of reviews (``reviewed``), on a
    grid of STEPS_IN_PART: valid like any other that is fixed beforehand.

    Parameters
    ----------
    sample : capped at ``terms.max_images_per_patient`` images a patient.
    shape : (R,) thresholds before the shift; NaN: never said.
    loosest : where the grid ends.
    monotone : whether W never rises with the shift (lineage mode); only said on.
    looks : how often such rows have been looked at, this time included; None: not counted.

    Returns
    -------
    Plain JSON: ``status`` (``certified`` or ``not_certified``), ``quantity`` (``placed_and_wrong``,
    over all images), ``target``, ``delta``, ``shift`` (null if not certified), ``observed`` and
    ``placed`` (shares of images at the shift, or at ``asked_at`` where nothing is certified; with
    labels reviewed in part ``observed`` is the estimate for all labels, null where none exists),
    ``p`` (null there), ``stopped_at`` (first shift that failed; null: none did), ``asked_at`` (the
    strictest shift that places an image), ``reason``, ``rows_needed`` (images for 80 % power at
    ``asked_at``, "never" where the rate seen is no smaller than the target; null if certified or
    reviewed in part), ``method``, ``reviewed_in_part``, ``n_reviewed`` (null: not known),
    ``review_note`` (what of the reviews limits the bound; null unless in part), ``monotone``,
    ``grid`` (``start, stop, step``), ``n_images``, ``n_patients``, ``n_dropped``,
    ``max_images_per_patient``, ``patients_known``, ``looks``, ``scope``.
    """
    steps = STEPS_IN_PART if sample.in_part else STEPS
    grid = shifts(loosest=loosest, steps=steps)
    found = _tested(sample, shape, grid, terms)
    passed, at, n = found.passed, found.at, sample.patient.size
    reason = _why_not(sample, found, grid, terms)
    thresholds = None if at is None else shifted(shape, float(grid[at]))
    return {
        "status": "certified" if reason is None else "not_certified",
        "quantity": "placed_and_wrong",
        "target": terms.target,
        "delta": terms.delta,
        "shift": float(grid[passed - 1]) if reason is None else None,
        **_seen(sample, thresholds, terms, certified=reason is None),
        "p": found.p,
        "stopped_at": float(grid[passed]) if passed < grid.size and n else None,
        "asked_at": None if found.asked is None else float(grid[found.asked]),
        "reason": reason,
        "method": _method(sample),
        "reviewed_in_part": sample.in_part,
        "n_reviewed": None if sample.review is None else sample.review.n_reviewed,
        "review_note": _review_note(sample),
        "monotone": monotone,
        "grid": {"start": float(grid[0]), "stop": float(grid[-1]), "step": 1 / steps},
        "n_images": n,
        "n_patients": sample.n_patients,
        "n_dropped": sample.n_dropped,
        "max_images_per_patient": terms.max_images_per_patient,
        "patients_known": sample.known,
        "looks": looks,
        "scope": [SCOPE[0], SCOPE[1], WRONG[sample.reviews], *SCOPE[2:]],
    }


@dataclass(frozen=True)
class _Tested:
    """How far the sequence came.

    Attributes
    ----------
    passed : how many shifts passed, from the strictest. asked : number of the first that places an
    image; None if none does. at : number of the shift that figures are of. p : there, if known.
    """

    passed: int
    asked: int | None
    at: int | None
    p: float | None


def _tested(sample: Sample, shape: Floats, grid: Floats, terms: FitThresholds) -> _Tested:
    events = _events(sample, shape, grid)
    if sample.in_part:
        p = np.empty(0)
        passed = leading_passes(sample, shifted(shape, grid[:, None]), terms)
    else:
        p = _sequence(events, grid, _images(sample), terms)
        passed = leading(p, terms.delta)
    asked = events.first_placed if events.first_placed < grid.size else None
    at = None if asked is None else max(passed - 1, asked)
    return _Tested(passed, asked, at, None if at is None or at >= p.size else float(p[at]))


def _seen(
    sample: Sample, thresholds: Floats | None, terms: FitThresholds, *, certified: bool
) -> dict[str, Any]:
    """``observed``, ``placed`` and ``rows_needed``."""
    n = sample.patient.size
    if thresholds is None:
        return {"observed": None, "placed": 0.0 if n else None, "rows_needed": None}
    wrong, placed = sample.wrong(thresholds)
    if sample.in_part:
        seen, needed = estimate(sample, thresholds), None
    else:
        seen = int(wrong.sum()) / n
        possible = not certified and _patients_will_do(sample, terms)
        needed = _needed(wrong, _images(sample), terms) if possible else None
    return {"observed": seen, "placed": placed / n, "rows_needed": needed}


def _images(sample: Sample) -> Ints:
    return np.bincount(sample.patient, minlength=sample.n_patients)


def _method(sample: Sample) -> str:
    if sample.in_part:
        return REVIEWED
    return CLOPPER_PEARSON if sample.patient.size == sample.n_patients else BETTING


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


def _why_not(sample: Sample, found: _Tested, grid: Floats, terms: FitThresholds) -> str | None:
    if not _patients_will_do(sample, terms):
        return (
            "patients are not known for every image; if each has one image, say so with "
            "max_images_per_patient 1"
        )
    if not sample.n_patients:
        return "no patient is left to certify on; lower share_a"
    if found.asked is None:
        return "no image of B is placed at any shift: every rank is disabled, or nothing is decided"
    if found.passed <= found.asked:
        note = _review_note(sample)
        more = "" if note is None else f"; {note}"
        return (
            f"the strictest shift that places an image, {grid[found.asked]:+.2f}, was not reached: "
            f"the test fails at {grid[found.passed]:+.2f}{more}"
        )
    return None


def _review_note(sample: Sample) -> str | None:
    if sample.review is None or not sample.in_part:
        return None
    return shortage(sample.review.n_drawn)


def _needed(wrong: Ints, images: Ints, terms: FitThresholds) -> int | Literal["never"]:
    testing = Terms(terms.delta, 1.0, terms.max_images_per_patient)
    patients = patients_needed(
        wrong - terms.target * images, testing, single=bool((images == 1).all())
    )
    if patients == "never":
        return patients
    return math.ceil(patients * int(images.sum()) / images.size)
