"""Selection: one rule and one target make one threshold.

Belongs: the rules of the policy on the labels that may be used, rounding to the release, what other
rules would have chosen, releasing the certified value where the policy says so.
Does not: the search of one rule (``rules``), certificates (``certification``), intervals.
Concept: candidates are the scores that occur. With n(t) = #{score >= t}, k(t) = wrong ones among
them: R = k/n is not monotone in t, W = k/N is. Shares are compared as float64 quotients. A plug-in
threshold breaks its target in about half of all repetitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.evidence.certificate import Certificate
from dagster_project.lib.evidence.clustered import (
    connected_parts,
    patient_sums,
    threshold_interval,
)
from dagster_project.lib.evidence.partial_review import estimated_curve, given_curve
from dagster_project.lib.evidence.rows import PatientRows, patient_rows
from dagster_project.lib.tiers import rules
from dagster_project.lib.tiers.certification import certified_by, partly_reviewed
from dagster_project.lib.tiers.curve import CurveCounts, curve_counts
from dagster_project.lib.tiers.thresholds import Thresholds, round_up

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.tiers.policy import TierPolicy

DESIGN_TARGETS = {
    "confident": {"coverage": 0.495, "covered_top1": 0.917, "confident_wrong_share": 0.041},
    "refer": {"share": 0.13, "kept_top3": 0.949},
}
"""The original run's operating point in each rule's own terms: targets of the alternatives."""

CI_METHOD = "inversion of a score statistic by patient, approximate"

_RATES = {
    "coverage": ("top1", "n/N"),
    "covered_top1": ("top1", "k/n"),
    "confident_wrong_share": ("top1", "k/N"),
    "share": ("top1", "n/N"),
    "kept_top3": ("top3", "k/n"),
}
"""Rule -> which answers count as right, and the rate of the others that its target bounds."""

_ESTIMATED = {
    "confident_wrong_share": ("estimate", "low", "high"),
    "covered_top1": ("top1", "top1_low", "top1_high"),
}
"""Rule -> columns of ``estimated_curve``: the figure and the ends of its interval."""

_FALLING = {"confident_wrong_share": "lowest", "covered_top1": "highest", "kept_top3": "highest"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Alternative(_Frozen):
    """What another rule would have chosen at its design target; null where it cannot be met."""

    rule: str
    target: float
    fitted: float | None
    released: float | None


class RuleFit(_Frozen):
    """One threshold: the rule, what it found and what is released.

    ``fitted`` is a score that occurs (for ``fixed`` the target), ``released`` the next 3-decimal
    value at or above it. ``at_fitted`` and ``at_released`` are the rule's own statistic there (null
    for ``fixed``, and where no row is left). ``raised_to_refer``: the released value was lifted to
    the refer threshold. ``ci95``: approximate interval of ``fitted``, null when undefined;
    ``ci95_set``: its parts, more than one where it is not connected.
    ``raised_to_certified``: ``certify.enforce`` put the certified threshold in its place.
    ``estimated``: the statistic is the estimate from labels reviewed in part; ``on_given``: it is
    that of the given labels, because no estimate exists and overwriting some would flatter.
    """

    rule: str
    target: float
    fitted: float
    released: float
    at_fitted: float | None
    at_released: float | None
    raised_to_refer: bool
    raised_to_certified: bool = False
    estimated: bool = False
    on_given: bool = False
    ci95: tuple[float, float] | None
    ci95_set: tuple[tuple[float, float], ...] | None
    alternatives: tuple[Alternative, ...]


class ThresholdFit(_Frozen):
    """The fitted thresholds. ``confident``, ``refer``, ``possible_item`` are the released values.

    ``certificate`` is null where the policy bounds nothing that can be certified.

    Plain data: ``model_dump(mode="json")`` and ``ThresholdFit.model_validate`` round-trip.
    """

    confident: float
    refer: float
    possible_item: float
    confident_rule: RuleFit
    refer_rule: RuleFit
    n_rows: int
    n_patients: int
    certificate: Certificate | None

    @property
    def thresholds(self) -> Thresholds:
        """The released values alone."""
        return Thresholds(self.confident, self.refer, self.possible_item)


def fit_thresholds(
    scored: pl.DataFrame,
    policy: TierPolicy,
    *,
    groups: pl.DataFrame | None = None,
    looks: int | None = None,
) -> ThresholdFit:
    """Fit both thresholds of a policy on scored rows.

    Rules (t runs over the scores that occur):

    - ``coverage``: highest t with n/N >= target;
    - ``covered_top1``: lowest t with 1 - k/n >= target (some higher t may miss it);
    - ``confident_wrong_share``: lowest t with k/N <= target;
    - ``share``: highest t with #{score < t}/N <= target;
    - ``kept_top3``: lowest t with top-3 of the rows at or above t >= target;
    - ``fixed``: the target itself.

    Where only a sample of labels was reviewed, with known probabilities (the columns of
    ``review.sample.with_reviews``), ``covered_top1`` and ``confident_wrong_share`` compare the
    estimate for all labels (``evidence.partial_review``), not what overwriting them would give;
    with unknown probabilities they compare the given labels.

    Fitted values are rounded up to three decimals. With ``certify.enforce`` a confident value below
    the certified one is raised to it. If the confident value then lies below the refer value it is
    raised to that: the safe direction, and shown as ``raised_to_refer``.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows``, N >= 1; their order does not matter.
    policy : rules and targets.
    groups : ``image_uuid`` and the columns that ``policy.certify.subgroups`` names, for certifying.
    looks : how often these rows have been looked at, this time included; None: not counted.

    Raises
    ------
    RefusedError
        No score meets a target; the message has the best value that can be reached. Or a
        certificate is enforced and none can be given.
    InputError
        A subgroup column that ``groups`` does not have.
    """
    counts = curve_counts(scored)
    review = partly_reviewed(scored)
    estimate = None if review is None else estimated_curve(review)
    estimated = estimate is not None
    if review is not None and estimate is None:
        estimate = given_curve(review)
    rules = {
        "confident": (policy.confident.rule, policy.confident.target),
        "refer": (policy.refer.rule, policy.refer.target),
    }
    fitted = {side: _fit(side, *rules[side], counts, estimate) for side in rules}
    refer = round_up(fitted["refer"])
    own = round_up(fitted["confident"])
    certificate = certified_by(scored, policy, released=max(own, refer), groups=groups, looks=looks)
    enforced = _enforced(own, certificate) if policy.certify.enforce else own
    released = {"refer": refer, "confident": max(enforced, refer)}
    if released["confident"] != max(own, refer):  # what is said of the released value changes
        certificate = certified_by(
            scored, policy, released=released["confident"], groups=groups, looks=looks
        )
    if policy.certify.enforce and certificate and not certificate.released_is_certified:
        raise RefusedError(
            f"certify.enforce: {released['confident']:.3f}, which the rules and the order of the "
            f"tiers ask for, is not certified (it covers too little, or lies above start "
            f"{certificate.start:.3f}); change the policy before the next labels"
        )
    rows = patient_rows(scored)
    fits = {
        side: RuleFit(
            rule=rule,
            target=target,
            fitted=fitted[side],
            released=released[side],
            at_fitted=_statistic_at(rule, counts, estimate, fitted[side]),
            at_released=_statistic_at(rule, counts, estimate, released[side]),
            estimated=estimated and rule in _ESTIMATED,
            on_given=estimate is not None and not estimated and rule in _ESTIMATED,
            raised_to_refer=side == "confident" and enforced < refer,
            raised_to_certified=side == "confident" and own < enforced,
            **_interval(rows, rule, target, fitted[side], estimate),
            alternatives=_alternatives(side, rule, counts, estimate),
        )
        for side, (rule, target) in rules.items()
    }
    return ThresholdFit(
        confident=released["confident"],
        refer=released["refer"],
        possible_item=policy.possible_item.cut,
        confident_rule=fits["confident"],
        refer_rule=fits["refer"],
        n_rows=counts.total,
        n_patients=rows.n_patients,
        certificate=certificate,
    )


def _enforced(own: float, certificate: Certificate | None) -> float:
    if certificate is None:
        raise RefusedError(
            "certify.enforce: this policy bounds neither the confident-wrong share nor covered "
            "top-1, so nothing can be certified; add one to accept, or set enforce to false"
        )
    if certificate.threshold is None:
        raise RefusedError(f"certify.enforce: not certified: {certificate.reason}")
    return max(own, certificate.threshold)


def _interval(
    rows: PatientRows, rule: str, target: float, fitted: float, estimate: pl.DataFrame | None
) -> dict[str, Any]:
    """``ci95`` (the hull) and ``ci95_set`` (the parts) of a fitted threshold."""
    if rule == "fixed" or rows.n_patients < 2:
        return {"ci95": None, "ci95_set": None}
    if estimate is not None and rule in _ESTIMATED:
        low, high = (estimate[name].to_numpy() for name in _ESTIMATED[rule][1:])
        threshold = estimate["threshold"].to_numpy()
        inside = ((low <= target) & (target <= high)) | (threshold == fitted)
        return _hull(connected_parts(threshold, inside))
    right, rate = _RATES[rule]
    # the targets of these rules are shares of right, kept or referred rows: turn them round
    turned = target if rule in ("coverage", "confident_wrong_share") else 1 - target
    sums = patient_sums(rows, ~(rows.top1 if right == "top1" else rows.top3))
    return _hull(threshold_interval(sums, rate, turned, fitted))


def _hull(parts: list[tuple[float, float]] | None) -> dict[str, Any]:
    if parts is None:
        return {"ci95": None, "ci95_set": None}
    return {"ci95": (parts[0][0], parts[-1][1]), "ci95_set": tuple(parts)}


def _fit(
    side: str, rule: str, target: float, counts: CurveCounts, estimate: pl.DataFrame | None
) -> float:
    if rule == "fixed":
        return target
    found = _choose(rule, target, counts, estimate)
    if found is not None:
        return float(counts.threshold[found])
    values = _statistic(rule, counts, estimate)
    best = np.nanmin(values) if _FALLING[rule] == "lowest" else np.nanmax(values)
    raise RefusedError(
        f"{side}.rule {rule}, target {target}: no threshold meets it on these {counts.total} rows; "
        f"the {_FALLING[rule]} value that can be reached is {best:.4f}. Change the target."
    )


def _statistic(
    rule: str, counts: CurveCounts, estimate: pl.DataFrame | None
) -> npt.NDArray[np.float64]:
    """(M,) what the rule compares with its target, at every distinct score."""
    if estimate is not None and rule in _ESTIMATED:
        return estimate[_ESTIMATED[rule][0]].to_numpy()
    return rules.statistic(rule, counts)


def _choose(
    rule: str, target: float, counts: CurveCounts, estimate: pl.DataFrame | None
) -> int | None:
    """Index of the chosen threshold (highest score first), or None."""
    if estimate is None or rule not in _ESTIMATED:
        return rules.choose(rule, target, counts)
    values = _statistic(rule, counts, estimate)
    meets = values <= target if rule == "confident_wrong_share" else values >= target
    where = np.flatnonzero(meets)  # the estimate is not monotone: the loosest that meets it
    return int(where[-1]) if where.size else None


def _statistic_at(
    rule: str, counts: CurveCounts, estimate: pl.DataFrame | None, threshold: float
) -> float | None:
    """The rule's statistic over rows with score >= threshold; null if it is undefined there."""
    if rule == "fixed":
        return None
    if estimate is None or rule not in _ESTIMATED:
        return rules.statistic_at(rule, counts, threshold)
    inside = counts.inside(threshold)
    if inside == 0:
        return 0.0 if rule == "confident_wrong_share" else None
    return float(_statistic(rule, counts, estimate)[inside - 1])


def _alternatives(
    side: str, chosen: str, counts: CurveCounts, estimate: pl.DataFrame | None
) -> tuple[Alternative, ...]:
    found = []
    for rule, target in DESIGN_TARGETS[side].items():
        if rule == chosen:
            continue
        index = _choose(rule, target, counts, estimate)
        fitted = None if index is None else float(counts.threshold[index])
        released = None if fitted is None else round_up(fitted)
        found.append(Alternative(rule=rule, target=target, fitted=fitted, released=released))
    return tuple(found)
