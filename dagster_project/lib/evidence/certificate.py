"""The certificate: the loosest releasable threshold whose declared bounds are shown to hold.

Belongs: claims, p-values along the grid, the fixed sequence, subgroups, rows needed.
Does not: the betting test itself (``betting``), what a policy declares (``tiers.policy``).
Concept: thresholds are tested from strict to loose, each at delta, stopping at the first failure:
a wrong certificate needs the first true claim of failure to be rejected, which happens with
probability at most delta (fixed sequence; learn-then-test, arXiv 2110.01052, section 4). Several
claims at one threshold are certified together at the same delta, because all must be rejected
(intersection-union). W = P(score >= t, wrong), R = P(wrong | score >= t), both over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from dagster_project.lib.evidence import betting

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.evidence.rows import PatientRows

STEPS = 1000
"""The releasable grid is k / STEPS, k from 1."""

BETTING = "betting (WSR) by patient"
CLOPPER_PEARSON = "Clopper-Pearson, one image a patient"
REVIEWED = "bounds from labels reviewed in part, by patient"

_ALL = ("", "")
"""The part that is every row, beside the subgroups."""

_Z80 = 0.8416212335729143
_BLOCK = 400_000
"""Losses held at a time: what fits a processor's cache."""

SCOPE = (
    "Holds for patients exchangeable with these: same kind of people, cameras and labelling.",
    "Certified are only the claims listed. Refer share, kept top-3, the mix of outcomes and the "
    "highlighted items are estimates.",
    "Target, model and policy must have been fixed before these labels were seen.",
)


@dataclass(frozen=True)
class Claim:
    """A bound to be shown: confident-wrong share at most, or covered top-1 at least, ``target``."""

    quantity: Literal["confident_wrong_share", "covered_top1"]
    target: float

    @property
    def alpha(self) -> float:
        """The bound as a share of wrong answers."""
        return self.target if self.quantity == "confident_wrong_share" else 1 - self.target


@dataclass(frozen=True)
class Terms:
    """On which terms claims are tested; declared before the labels (``tiers.policy.Certify``)."""

    delta: float
    start: float
    max_images: int
    min_coverage: float = 0.0
    models: int = 1

    @property
    def level(self) -> float:
        """The delta that each test may spend: shared among the models that are compared."""
        return self.delta / self.models


@dataclass(frozen=True)
class ReviewedInPart:
    """How W is tested where only a sample of labels was reviewed (``review_bound``).

    ``passes(t)``: the bound on W at t is below its target at the whole level; ``observed(t)``: the
    estimate of W; ``note``: what limits the bound, for the reason of a refusal.
    """

    passes: Callable[[float], bool]
    observed: Callable[[float], float | None]
    note: str


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClaimResult(_Frozen):
    """One claim at the certified threshold; ``observed`` null where nothing is covered.

    ``alone``: the loosest threshold that this claim alone would certify at delta / number of
    claims, for whoever quotes thresholds separately; null with one claim.
    """

    quantity: str
    target: float
    observed: float | None
    holds: bool
    alone: float | None = None


class GroupResult(_Frozen):
    """One claim in one subgroup at the released threshold.

    ``p``: p-value of the claim's failure there, adjusted for the sequence; ``holds``: after Holm
    over all rows of this kind.
    """

    column: str
    group: str
    quantity: str
    target: float
    n_images: int
    n_patients: int
    observed: float | None
    p: float
    holds: bool


class Certificate(_Frozen):
    """What could be certified, on which terms. Plain data; see docs/evidence.md."""

    status: Literal["certified", "not_certified"]
    threshold: float | None
    released_is_certified: bool
    claims: tuple[ClaimResult, ...]
    coverage: float | None
    reason: str | None
    rows_needed: int | Literal["never"] | None
    rows_needed_at: float | None
    delta: float
    models: int
    method: str
    reviewed_in_part: bool = False
    estimand: Literal["images"] = "images"
    start: float
    min_coverage: float
    max_images_per_patient: int
    n_images: int
    n_patients: int
    n_dropped: int
    patients_known: bool
    subgroups: tuple[GroupResult, ...] = ()
    looks: int | None = None
    scope: tuple[str, ...] = SCOPE


def grid_from(start: float) -> npt.NDArray[np.float64]:
    """(G,) the releasable thresholds that are not above ``start``, strict to loose."""
    steps = np.arange(STEPS, 0, -1) / STEPS
    return steps[steps <= start]


def p_values(
    rows: PatientRows,
    claim: Claim,
    thresholds: npt.NDArray[np.float64],
    *,
    level: float,
    max_images: int,
) -> npt.NDArray[np.float64]:
    """p-value of "the claim fails at t", for thresholds from strict to loose.

    With one image a patient: P(Binomial(n, alpha) <= k), over all rows for W, over the covered ones
    for R (given their number). Otherwise the betting test on Y_i = D_i / M + alpha, with D_i the
    sum over patient i of 1{score >= t} wrong - alpha (W) or 1{score >= t} (wrong - alpha) (R) and M
    the declared cap: E Y < alpha exactly when the claim holds over images.

    Parameters
    ----------
    rows : capped at ``max_images`` a patient.
    thresholds : (G,) falling; score >= t is compared as serving does.
    level : what p will be compared with; computing stops soon after the first p above it.

    Returns
    -------
    (H,) the leading H <= G p-values: all up to the first above ``level``, perhaps some more.
    """
    entry = np.searchsorted(-thresholds, -rows.score, side="left")
    if rows.single:
        return _binomial(entry, ~rows.top1, claim, thresholds.size)
    kept = entry < thresholds.size
    order = np.argsort(entry[kept], kind="stable")
    step, patient = entry[kept][order], rows.patient[kept][order]
    wrong = ~rows.top1[kept][order]
    images = np.bincount(rows.patient, minlength=rows.n_patients).astype(np.float64)
    size = max(1, min(64, _BLOCK // max(1, rows.n_patients)))
    covered = np.zeros(rows.n_patients)
    errors = np.zeros(rows.n_patients)
    found: list[npt.NDArray[np.float64]] = []
    for first in range(0, thresholds.size, size):
        last = min(first + size, thresholds.size)
        here = slice(*np.searchsorted(step, [first, last]))
        shape = (last - first, rows.n_patients)
        cell = (step[here] - first) * rows.n_patients + patient[here]
        k = _accumulated(cell, wrong[here], shape, errors)
        errors = k[-1].copy()
        if claim.quantity == "covered_top1":
            n = _accumulated(cell, np.ones(cell.size), shape, covered)
            covered = n[-1].copy()
            k -= claim.alpha * n
        else:
            k -= claim.alpha * images
        found.append(_betting(k, claim.alpha, level=level, max_images=max_images))
        if (found[-1] > level).any():
            break
    return np.concatenate(found) if found else np.zeros(0)


def share_p_values(
    events: npt.NDArray[np.integer[Any]],
    images: npt.NDArray[np.integer[Any]],
    alpha: float,
    *,
    level: float,
    max_images: int,
) -> npt.NDArray[np.float64]:
    """p-value of "at least ``alpha`` of images have the event", for events counted side by side.

    The test that :func:`p_values` makes of W, for whatever is not a score against a threshold.

    Parameters
    ----------
    events : (G, P) how many images of each patient have it, patients in hash order.
    images : (P,) how many images each patient has, from 1 to ``max_images``.

    Returns
    -------
    (G,) in [0, 1]: exact binomial where every patient has one image, else by betting. 1 if P = 0.
    """
    if not images.size:
        return np.ones(len(events))
    if (images == 1).all():
        from scipy import special

        p: npt.NDArray[np.float64] = special.bdtr(events.sum(axis=1), images.size, alpha)
        return p
    return _betting(events - alpha * images, alpha, level=level, max_images=max_images)


def _betting(
    excess: npt.NDArray[np.float64], alpha: float, *, level: float, max_images: int
) -> npt.NDArray[np.float64]:
    """(G,) p-values of "the mean excess over alpha, (G, P) by patient, is at least 0"."""
    losses = np.clip(excess / max_images + alpha, 0.0, 1.0)
    p: npt.NDArray[np.float64] = np.exp(-betting.log_wealth(losses, alpha, delta=level))
    return p


def _accumulated(
    cell: npt.NDArray[np.int64],
    weight: npt.NDArray[np.generic],
    shape: tuple[int, int],
    before: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    # without rows bincount forgets the type of its weights
    added = np.bincount(cell, weights=weight, minlength=shape[0] * shape[1]).astype(np.float64)
    added = added.reshape(shape)
    added[0] += before
    total: npt.NDArray[np.float64] = np.cumsum(added, axis=0)
    return total


def _binomial(
    entry: npt.NDArray[np.int64], wrong: npt.NDArray[np.bool_], claim: Claim, n_thresholds: int
) -> npt.NDArray[np.float64]:
    from scipy import special

    k = np.cumsum(np.bincount(entry[wrong], minlength=n_thresholds + 1))[:n_thresholds]
    if claim.quantity == "confident_wrong_share":
        n = np.full(n_thresholds, entry.size)
    else:
        n = np.cumsum(np.bincount(entry, minlength=n_thresholds + 1))[:n_thresholds]
    with np.errstate(invalid="ignore"):
        p: npt.NDArray[np.float64] = special.bdtr(k, n, claim.alpha)
    return np.where(n > 0, p, 1.0)


def certify(
    rows: PatientRows,
    claims: Sequence[Claim],
    terms: Terms,
    *,
    released: float,
    groups: Mapping[tuple[str, str], PatientRows] | None = None,
    looks: int | None = None,
) -> Certificate:
    """Test the claims along the grid and say what holds.

    Parameters
    ----------
    rows : capped at ``terms.max_images`` a patient.
    claims : one or two, of different quantities.
    released : the plug-in threshold; whether the certificate covers it is said.
    groups : (column, group) -> the group's rows. Where given, a threshold is certified only if
        every claim holds in every group too; all at one delta.
    looks : how often these rows have been looked at, this time included; None: not counted.

    Returns
    -------
    ``threshold``: the loosest certified one; every stricter one down from ``start`` is certified
    too. It covers at least one image and ``terms.min_coverage``, else nothing is certified.
    ``rows_needed``: images for 80 % power at the rate that is observed at ``rows_needed_at``, in
    every group. Where patients are not known nothing is certified unless ``terms.max_images`` is 1.
    """
    thresholds = grid_from(terms.start)
    parts = {_ALL: rows, **(groups or {})}
    p = {
        (part, claim): p_values(
            parts[part], claim, thresholds, level=terms.level, max_images=terms.max_images
        )
        for part in parts
        for claim in claims
    }
    (failed, _), values = min(p.items(), key=lambda item: leading(item[1], terms.level))
    passed = leading(values, terms.level)
    found = _found(rows, claims, terms, passed, released)
    if found.reason is not None and failed != _ALL:
        found = replace(
            found, reason=f"{found.reason}; {_failing_group(parts, failed, claims, terms)}"
        )
    at = found.threshold if found.certified else None
    if at is None:
        at = _where_asked(rows, thresholds, terms, released)
    needed_at = None if found.covers_released else (released if found.certified else at)
    if found.beyond:  # never tested: no number of images would help
        needed_at = None
    return Certificate(
        **_common(rows, terms, found, looks),
        claims=tuple(
            ClaimResult(
                quantity=claim.quantity,
                target=claim.target,
                observed=_observed(rows, claim, at),
                holds=found.certified,
                alone=_alone(p[_ALL, claim], thresholds, terms.level, len(claims)),
            )
            for claim in claims
        ),
        rows_needed=None
        if needed_at is None
        else most(
            [
                rows_needed(part, claim, terms, threshold=needed_at, among=len(rows))
                for part in parts.values()
                for claim in claims
            ]
        ),
        rows_needed_at=needed_at,
        method=CLOPPER_PEARSON if all(part.single for part in parts.values()) else BETTING,
        subgroups=_which_hold(parts, claims, p, thresholds, terms, released),
    )


def certify_reviewed(
    rows: PatientRows,
    claims: Sequence[Claim],
    terms: Terms,
    review: ReviewedInPart,
    *,
    released: float,
    looks: int | None = None,
) -> Certificate:
    """:func:`certify` where labels were reviewed in part: W by its bound, nothing else.

    How many rows would do is not known then.
    """
    thresholds = grid_from(terms.start)
    passed = 0
    while passed < thresholds.size and review.passes(float(thresholds[passed])):
        passed += 1
    found = _found(rows, claims, terms, passed, released)
    if found.reason is not None:
        found = replace(found, reason=f"{found.reason}; {review.note}")
    at = found.threshold if found.certified else None
    return Certificate(
        **_common(rows, terms, found, looks),
        claims=tuple(
            ClaimResult(
                quantity=claim.quantity,
                target=claim.target,
                observed=None
                if claim.quantity == "covered_top1"
                else review.observed(released if at is None else at),
                holds=found.certified,
            )
            for claim in claims
        ),
        rows_needed=None,
        rows_needed_at=None,
        method=REVIEWED,
        reviewed_in_part=True,
    )


@dataclass(frozen=True)
class _Found:
    """Where the sequence ended; ``threshold`` and ``coverage`` count only if ``certified``."""

    threshold: float | None
    coverage: float | None
    reason: str | None
    covers_released: bool
    beyond: bool

    @property
    def certified(self) -> bool:
        return self.reason is None


def _found(
    rows: PatientRows, claims: Sequence[Claim], terms: Terms, passed: int, released: float
) -> _Found:
    thresholds = grid_from(terms.start)
    threshold = float(thresholds[passed - 1]) if passed else None
    coverage = None if threshold is None else float((rows.score >= threshold).mean())
    reason = _why_not(rows, thresholds, threshold, coverage, terms)
    # above the start only W, which is monotone, is known to hold
    beyond = passed > 0 and released > thresholds[0]
    beyond = beyond and any(claim.quantity == "covered_top1" for claim in claims)
    inside = reason is None and threshold is not None and released >= threshold
    n = int((rows.score >= released).sum())
    enough = n > 0 and n >= terms.min_coverage * len(rows)
    return _Found(threshold, coverage, reason, inside and enough and not beyond, beyond)


def _common(rows: PatientRows, terms: Terms, found: _Found, looks: int | None) -> dict[str, Any]:
    thresholds = grid_from(terms.start)
    return {
        "status": "certified" if found.certified else "not_certified",
        "threshold": found.threshold if found.certified else None,
        "released_is_certified": found.covers_released,
        "coverage": found.coverage if found.certified else None,
        "reason": found.reason,
        "delta": terms.delta,
        "models": terms.models,
        "start": float(thresholds[0]) if thresholds.size else terms.start,
        "min_coverage": terms.min_coverage,
        "max_images_per_patient": terms.max_images,
        "n_images": len(rows),
        "n_patients": rows.n_patients,
        "n_dropped": rows.n_dropped,
        "patients_known": rows.known,
        "looks": looks,
    }


def rows_needed(
    rows: PatientRows, claim: Claim, terms: Terms, *, threshold: float, among: int | None = None
) -> int | Literal["never"]:
    """Images needed to certify ``claim`` at ``threshold`` with 80 % power, at the observed rate.

    ``among``: images of the whole, where ``rows`` are a subgroup; the answer is of the whole then.

    From the normal approximation of the test at this one threshold; the sequence before it must
    pass too. "never": the observed rate is at or above the bound.
    """
    covered = rows.score >= threshold
    weight = covered if claim.quantity == "covered_top1" else np.ones(len(rows), dtype=bool)
    excess = covered * ~rows.top1 - claim.alpha * weight
    by_patient = np.bincount(rows.patient, weights=excess, minlength=rows.n_patients)
    patients = patients_needed(by_patient.astype(np.float64), terms, single=rows.single)
    if patients == "never":
        return patients
    return math.ceil(patients * (among or len(rows)) / rows.n_patients)


def patients_needed(
    excess: npt.NDArray[np.float64], terms: Terms, *, single: bool
) -> float | Literal["never"]:
    """Patients needed for 80 % power, as :func:`rows_needed`, from (P,) each one's excess.

    ``single``: every patient has one image. "never" also where there is no patient.
    """
    margin = -float(excess.mean()) if excess.size else 0.0
    if margin <= 0:
        return "never"
    spread = float((excess**2).mean()) - margin**2
    # without any error the spread says nothing: each patient then multiplies the wealth by this
    best = margin / (1 if single else terms.max_images)
    return max(
        spread * _standard_errors(terms.level, binomial=single) ** 2 / margin**2,
        math.log(1 / terms.level) / math.log1p(best),
    )


def _failing_group(
    parts: Mapping[tuple[str, str], PatientRows],
    failed: tuple[str, str],
    claims: Sequence[Claim],
    terms: Terms,
) -> str:
    """Which group stops the sequence, and whether it could have passed at all."""
    part = parts[failed]
    alpha = min(claim.alpha for claim in claims)
    least = math.log(1 / terms.level) / -math.log1p(-alpha) if 0 < alpha < 1 else math.inf
    small = ", too few to certify even without an error" if part.n_patients < least else ""
    return (
        f"it fails in {failed[0]} = {failed[1]} ({len(part):,} images of {part.n_patients:,} "
        f"patients{small})"
    )


def _standard_errors(level: float, *, binomial: bool) -> float:
    """How many standard errors the margin must measure for 80 % power.

    A binomial test needs z_{1-level} + z_{.8}. The log wealth of a bettor with the right bet
    c / (sigma sqrt(n)), c^2 = 2 log(1/level), is close to a Brownian motion with drift c x - c^2/2
    and deviation c that must once reach c^2/2 (first-passage probability: Karatzas and Shreve,
    Brownian Motion and Stochastic Calculus, section 3.5.C); solved for x by bisection.
    """
    from scipy import special

    if binomial:
        return float(special.ndtri(1 - level)) + _Z80
    c = math.sqrt(2 * math.log(1 / level))
    bar = c * c / 2
    low, high = 0.0, c + 2
    for _ in range(50):
        middle = (low + high) / 2
        drift = c * middle - bar
        reached = float(special.ndtr((drift - bar) / c))
        reached += math.exp(2 * drift * bar / c**2) * float(special.ndtr(-(drift + bar) / c))
        low, high = (middle, high) if reached < 0.8 else (low, middle)
    return high


def most(needed: Sequence[int | Literal["never"]]) -> int | Literal["never"]:
    """The largest of several numbers of rows, "never" above all."""
    numbers = [value for value in needed if value != "never"]
    return "never" if len(numbers) < len(needed) else max(numbers)


def holm(p: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects (Scand. J. Stat. 6 (1979) 65).

    >>> holm([0.01, 0.04, 0.02], 0.05), holm([0.03, 0.03], 0.05)
    ([True, True, True], [False, False])
    """
    rejected = [False] * len(p)
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] > level / (len(p) - place):
            break
        rejected[index] = True
    return rejected


def leading(p: npt.NDArray[np.float64], level: float) -> int:
    """How many tests of a fixed sequence pass, up to the first that does not.

    >>> leading(np.array([0.01, 0.2, 0.01]), 0.05)
    1
    """
    failed = np.flatnonzero(p > level)
    return int(failed[0]) if failed.size else int(p.size)


def _alone(
    p: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64], level: float, n_claims: int
) -> float | None:
    passed = leading(p, level / n_claims)
    return float(thresholds[passed - 1]) if passed and n_claims > 1 else None


def _why_not(
    rows: PatientRows,
    thresholds: npt.NDArray[np.float64],
    found: float | None,
    coverage: float | None,
    terms: Terms,
) -> str | None:
    if not rows.known and terms.max_images > 1:
        return (
            "patients are not known for every image; if each has one image, say so with "
            "max_images_per_patient 1"
        )
    if thresholds.size == 0:
        return f"no releasable threshold is at or below start {terms.start:g}"
    if found is None or coverage is None:
        n = int((rows.score >= thresholds[0]).sum())
        return (
            f"the first threshold tested, {thresholds[0]:.3f}, fails: it covers {n:,} of "
            f"{len(rows):,} images"
        )
    if coverage == 0:
        return f"only thresholds that cover no image pass (down to {found:.3f})"
    if coverage < terms.min_coverage:
        return (
            f"down to {found:.3f} the claims hold, but it covers {100 * coverage:.1f} %, below the "
            f"policy's minimum of {100 * terms.min_coverage:.1f} %"
        )
    return None


def _where_asked(
    rows: PatientRows, thresholds: npt.NDArray[np.float64], terms: Terms, released: float
) -> float:
    """The strictest threshold that could have been enough: with the least coverage, or the start.

    Not below the released one, which nobody asks to go beyond.
    """
    least = max(terms.min_coverage * len(rows), 1.0)
    enough = [t for t in thresholds.tolist() if t >= released and (rows.score >= t).sum() >= least]
    return enough[0] if enough else released


def _observed(rows: PatientRows, claim: Claim, threshold: float | None) -> float | None:
    if threshold is None:
        return None
    covered = rows.score >= threshold
    right = int((covered & rows.top1).sum())
    n = int(covered.sum())
    if claim.quantity == "confident_wrong_share":
        return (n - right) / len(rows)
    return right / n if n else None


def _which_hold(
    parts: Mapping[tuple[str, str], PatientRows],
    claims: Sequence[Claim],
    p: Mapping[tuple[tuple[str, str], Claim], npt.NDArray[np.float64]],
    thresholds: npt.NDArray[np.float64],
    terms: Terms,
    released: float,
) -> tuple[GroupResult, ...]:
    """Which groups hold at the released threshold, named one by one: Holm.

    The largest p from the start down to the released threshold is valid at a threshold chosen on
    these rows: it can be small only if the group's first failing threshold was wrongly passed.
    """
    named = [(part, claim) for part in parts if part != _ALL for claim in claims]
    reached = int((thresholds >= released).sum())
    adjusted = [float(p[key][:reached].max(initial=0.0)) if reached else 1.0 for key in named]
    return tuple(
        GroupResult(
            column=column,
            group=group,
            quantity=claim.quantity,
            target=claim.target,
            n_images=len(parts[column, group]),
            n_patients=parts[column, group].n_patients,
            observed=_observed(parts[column, group], claim, released),
            p=value,
            holds=held,
        )
        for ((column, group), claim), value, held in zip(
            named, adjusted, holm(adjusted, terms.level), strict=True
        )
    )
