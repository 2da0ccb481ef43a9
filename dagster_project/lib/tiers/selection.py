"""Selection: one rule and one target make one threshold.

Belongs: the rules of the policy, rounding to the release, what other rules would have chosen, and
an approximate interval.
Does not: certify anything; a plug-in threshold breaks its target in about half of all repetitions.
Concept: candidates are the scores that occur. With n(t) = #{score >= t}, k(t) = wrong ones among
them: R = k/n is not monotone in t, W = k/N is. Shares are compared as float64 quotients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from dagster_project.lib.errors import RefusedError
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

BOOTSTRAPS = 1000
SEED = 20260101
CI_METHOD = "patient bootstrap, percentile, approximate"

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
    the refer threshold. ``ci95``: approximate interval of ``fitted``, null when undefined.
    """

    rule: str
    target: float
    fitted: float
    released: float
    at_fitted: float | None
    at_released: float | None
    raised_to_refer: bool
    ci95: tuple[float, float] | None
    alternatives: tuple[Alternative, ...]


class ThresholdFit(_Frozen):
    """The fitted thresholds. ``confident``, ``refer``, ``possible_item`` are the released values.

    Plain data: ``model_dump(mode="json")`` and ``ThresholdFit.model_validate`` round-trip.
    """

    confident: float
    refer: float
    possible_item: float
    confident_rule: RuleFit
    refer_rule: RuleFit
    n_rows: int
    n_patients: int

    @property
    def thresholds(self) -> Thresholds:
        """The released values alone."""
        return Thresholds(self.confident, self.refer, self.possible_item)


def fit_thresholds(
    scored: pl.DataFrame, policy: TierPolicy, *, bootstraps: int = BOOTSTRAPS, seed: int = SEED
) -> ThresholdFit:
    """Fit both thresholds of a policy on scored rows.

    Rules (t runs over the scores that occur):

    - ``coverage``: highest t with n/N >= target;
    - ``covered_top1``: lowest t with 1 - k/n >= target (some higher t may miss it);
    - ``confident_wrong_share``: lowest t with k/N <= target;
    - ``share``: highest t with #{score < t}/N <= target;
    - ``kept_top3``: lowest t with top-3 of the rows at or above t >= target;
    - ``fixed``: the target itself.

    Fitted values are rounded up to three decimals. If the confident value then lies below the
    refer value it is raised to it: the safe direction, and shown as ``raised_to_refer``.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows``, N >= 1; their order does not matter.
    policy : rules and targets.
    bootstraps, seed : of the interval; 0 bootstraps give no interval.

    Raises
    ------
    RefusedError
        No score meets a target; the message has the best value that can be reached.
    """
    counts = curve_counts(scored)
    rules = {
        "confident": (policy.confident.rule, policy.confident.target),
        "refer": (policy.refer.rule, policy.refer.target),
    }
    fitted = {side: _fit(side, *rules[side], counts) for side in rules}
    intervals, n_patients = _intervals(scored, list(rules.values()), bootstraps, seed)
    refer = round_up(fitted["refer"])
    own = round_up(fitted["confident"])
    released = {"refer": refer, "confident": max(own, refer)}
    fits = {
        side: RuleFit(
            rule=rule,
            target=target,
            fitted=fitted[side],
            released=released[side],
            at_fitted=_statistic_at(rule, counts, fitted[side]),
            at_released=_statistic_at(rule, counts, released[side]),
            raised_to_refer=side == "confident" and own < refer,
            ci95=interval,
            alternatives=_alternatives(side, rule, counts),
        )
        for (side, (rule, target)), interval in zip(rules.items(), intervals, strict=True)
    }
    return ThresholdFit(
        confident=released["confident"],
        refer=released["refer"],
        possible_item=policy.possible_item.cut,
        confident_rule=fits["confident"],
        refer_rule=fits["refer"],
        n_rows=counts.total,
        n_patients=n_patients,
    )


def _fit(side: str, rule: str, target: float, counts: CurveCounts) -> float:
    if rule == "fixed":
        return target
    found = _choose(rule, target, counts)
    if found is not None:
        return float(counts.threshold[found])
    values = _statistic(rule, counts)
    best = values.min() if _FALLING[rule] == "lowest" else values.max()
    raise RefusedError(
        f"{side}.rule {rule}, target {target}: no threshold meets it on these {counts.total} rows; "
        f"the {_FALLING[rule]} value that can be reached is {best:.4f}. Change the target."
    )


def _statistic(rule: str, counts: CurveCounts) -> npt.NDArray[np.float64]:
    """(M,) what the rule compares with its target, NaN where no row is left."""
    with np.errstate(invalid="ignore"):
        values: npt.NDArray[np.float64] = {
            "coverage": lambda: counts.n / counts.total,
            "covered_top1": lambda: counts.top1 / counts.n,
            "confident_wrong_share": lambda: counts.wrong / counts.total,
            "share": lambda: (counts.total - counts.n) / counts.total,
            "kept_top3": lambda: counts.top3 / counts.n,
        }[rule]()
    return values


def _choose(
    rule: str, target: float, counts: CurveCounts, present: npt.NDArray[np.bool_] | None = None
) -> int | None:
    """Index of the chosen threshold (highest score first), or None; only where ``present``."""
    values = _statistic(rule, counts)
    meets = values <= target if rule in ("confident_wrong_share", "share") else values >= target
    if present is not None:
        meets &= present
    # coverage and share want the highest threshold, the others the lowest
    where = np.flatnonzero(meets)
    if not where.size:
        return None
    return int(where[0] if rule in ("coverage", "share") else where[-1])


def _statistic_at(rule: str, counts: CurveCounts, threshold: float) -> float | None:
    """The rule's statistic over rows with score >= threshold; null if it is undefined there."""
    if rule == "fixed":
        return None
    inside = int(np.searchsorted(-counts.threshold, -threshold, side="right"))
    if inside == 0:
        return {"coverage": 0.0, "confident_wrong_share": 0.0, "share": 1.0}.get(rule)
    return float(_statistic(rule, counts)[inside - 1])


def _alternatives(side: str, chosen: str, counts: CurveCounts) -> tuple[Alternative, ...]:
    found = []
    for rule, target in DESIGN_TARGETS[side].items():
        if rule == chosen:
            continue
        index = _choose(rule, target, counts)
        fitted = None if index is None else float(counts.threshold[index])
        released = None if fitted is None else round_up(fitted)
        found.append(Alternative(rule=rule, target=target, fitted=fitted, released=released))
    return tuple(found)


def _intervals(
    scored: pl.DataFrame, rules: list[tuple[str, float]], bootstraps: int, seed: int
) -> tuple[list[tuple[float, float] | None], int]:
    """Percentile intervals of the fitted values over resampled patients, and their number.

    A row without a patient is a patient of its own. A resample that cannot meet the target counts
    as a threshold above every score; an interval that ends there is undefined.
    """
    rows = scored.select(
        pl.col("score").cast(pl.Float64),
        "top1",
        "top3",
        pl.when(pl.col("patient_id").is_null())
        .then("image:" + pl.col("image_uuid"))
        .otherwise("patient:" + pl.col("patient_id"))
        .rank("dense")
        .alias("patient"),
    ).sort("score", descending=True)
    patient = rows["patient"].to_numpy().astype(np.int64) - 1
    n_patients = int(patient.max()) + 1
    if n_patients < 2 or bootstraps == 0:
        return [None for _ in rules], n_patients
    score = rows["score"].to_numpy()
    ends = np.append(np.flatnonzero(score[1:] != score[:-1]), score.size - 1)
    top1, top3 = rows["top1"].to_numpy(), rows["top3"].to_numpy()
    draws = np.full((bootstraps, len(rules)), np.inf)
    rng = np.random.default_rng(seed)
    for draw in draws:
        times = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)[patient]
        n = np.cumsum(times)[ends]
        resampled = CurveCounts(
            score[ends], n, np.cumsum(times * top1)[ends], np.cumsum(times * top3)[ends]
        )
        present = np.diff(n, prepend=0) > 0
        for column, (rule, target) in enumerate(rules):
            index = None if rule == "fixed" else _choose(rule, target, resampled, present)
            if index is not None:
                draw[column] = score[ends[index]]
    return [_percentiles(draws[:, column]) for column in range(len(rules))], n_patients


def _percentiles(values: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    return (float(low), float(high)) if np.isfinite(high) else None
