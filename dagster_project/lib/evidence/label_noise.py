"""Label noise: what wrong labels can hide, without and with an assumption about them.

Belongs: bounds that assume nothing but a noise rate, the symmetric correction as a scenario, noise
rates seen in reviews.
Does not: estimates of W (``partial_review``), certificates.
Concept: a label that is wrong moves a tier's accuracy by at most its own share, in either
direction. Which direction depends on whether the errors agree with the model, and that no rate
tells. o = observed rate, eta = share of wrong labels, K = classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.partial_review import reviewed_rows, sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster_project.lib.tiers.policy import TierPolicy

TIERS = ("confident", "possible", "refer")


def bounds(observed: float, eta: float) -> tuple[float, float]:
    """Where the true rate can be: [max(0, o - eta), min(1, o + eta)], for any kind of noise.

    >>> [round(value, 3) for value in bounds(0.917, 0.1)]
    [0.817, 1.0]
    """
    if not (0 <= observed <= 1 and 0 <= eta <= 1):
        raise InputError(f"label noise: observed {observed} and eta {eta} must lie in [0, 1]")
    return max(0.0, observed - eta), min(1.0, observed + eta)


def symmetric_accuracy(observed: float, eta: float, n_classes: int) -> float:
    """True top-1 if wrong labels are spread evenly over the other classes, whatever is predicted.

    a = (o - eta / (K - 1)) / (1 - eta K / (K - 1)), from o = a (1 - eta) + (1 - a) eta / (K - 1).
    A scenario: real label errors are confusions, and the model shares many of them.

    Raises
    ------
    InputError
        K < 2, or ``observed`` or ``eta`` outside [0, 1].
    RefusedError
        eta >= (K - 1) / K, where labels say nothing; or a result outside [0, 1].

    >>> round(symmetric_accuracy(0.85, 0.1, 25), 4)
    0.9442
    """
    bounds(observed, eta)
    if n_classes < 2:
        raise InputError(f"label noise: {n_classes} classes; at least two are needed")
    kept = 1 - eta * n_classes / (n_classes - 1)
    if kept <= 0:
        raise RefusedError(
            f"eta {eta} with {n_classes} classes: the labels are no better than a guess"
        )
    found = (observed - eta / (n_classes - 1)) / kept
    if found > 1:
        raise RefusedError(
            f"observed {observed:.4f} is above 1 - eta = {1 - eta:.4f}, which noise that is "
            "independent of the prediction does not allow: here it is not independent, or eta is "
            "smaller"
        )
    if found < 0:
        raise RefusedError(
            f"observed {observed:.4f} is below eta / (K - 1) = {eta / (n_classes - 1):.4f}, which "
            "noise that is independent of the prediction does not allow: here it is not independent"
        )
    return found


def reviewed_noise(scored: pl.DataFrame, tier: pl.Series) -> dict[str, Any] | None:
    """Share of wrong given labels in each tier, from a stratified sample of reviews.

    ``strata.share`` with the tier as domain: a ratio estimate over strata, with an approximate
    interval by stratum and patient.

    Parameters
    ----------
    scored : (N,) rows with review columns; those without a given label do not count.
    tier : (N,) the tier of each row.

    Returns
    -------
    ``tiers``: for each tier ``tier, n, n_reviewed, n_drawn_reviewed, eta, ci95``, null where too
    many of its rows lie where nobody was drawn. None where no inclusion probability is known.
    """
    rows = scored.with_columns(tier.alias("tier")).filter(pl.col("given_label").is_not_null())
    rows = rows.sort("image_uuid")
    arrays = reviewed_rows(rows)
    sample = sample_of(arrays)
    if sample is None:
        return None
    wrong = (rows["given_label"] != rows["label"]).to_numpy()
    names = rows["tier"].to_numpy()
    found = []
    for name in TIERS:
        share = strata.share(sample, wrong, names == name)
        drawn = (names == name) & arrays.drawn & (sample.weight > 0)
        found.append(
            {
                "tier": name,
                "n": share.n,
                "n_reviewed": share.n_decided,
                "n_drawn_reviewed": int(drawn.sum()),
                "eta": share.estimate,
                "ci95": share.ci95,
            }
        )
    return {"tiers": found}


def label_noise_report(
    tier_report: Mapping[str, Any],
    policy: TierPolicy,
    n_classes: int | None,
    *,
    reviewed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What label noise could make of the tiers, as plain JSON.

    Parameters
    ----------
    tier_report : of ``reports.tier_report``.
    policy : its ``label_noise`` are declared rates; a tier without one takes the upper end of its
        reviewed interval.
    n_classes : K; None leaves the scenario out.
    reviewed : of :func:`reviewed_noise`.

    Returns
    -------
    ``assumed`` (declared eta by tier, or null); ``bounds``: for each tier with an eta ``tier,
    statistic ("top1", and "confident_wrong" of all rows), observed, eta, source ("declared" or
    "reviewed"), low, high``; ``scenario`` (symmetric noise of the declared rates: for each tier the
    corrected ``top1`` or null with ``refused``, why; null without declared rates); ``reviewed``.
    """
    declared = None if policy.label_noise is None else policy.label_noise.model_dump(mode="json")
    etas = _etas(declared, reviewed)
    found = []
    for tier, (eta, source) in etas.items():
        part = tier_report["tiers"][tier]
        if part["top1"] is None:
            continue
        low, high = bounds(part["top1"], eta)
        common = {"tier": tier, "eta": eta, "source": source}
        found.append(
            {**common, "statistic": "top1", "observed": part["top1"], "low": low, "high": high}
        )
        if tier == "confident":
            share, wrong = part["share"], tier_report["outcomes"]["confident_wrong"]
            ends = {"low": max(0.0, wrong - eta * share), "high": min(share, wrong + eta * share)}
            found.append({**common, "statistic": "confident_wrong", "observed": wrong, **ends})
    return {
        "assumed": declared,
        "bounds": found,
        "scenario": _scenario(tier_report, declared, n_classes),
        "reviewed": None if reviewed is None else dict(reviewed),
    }


def _etas(
    declared: Mapping[str, float] | None, reviewed: Mapping[str, Any] | None
) -> dict[str, tuple[float, str]]:
    if declared is not None:
        return {tier: (declared[tier], "declared") for tier in TIERS}
    rows = [] if reviewed is None else reviewed["tiers"]
    return {row["tier"]: (row["ci95"][1], "reviewed") for row in rows if row["ci95"] is not None}


def _scenario(
    tier_report: Mapping[str, Any], declared: Mapping[str, float] | None, n_classes: int | None
) -> dict[str, Any] | None:
    if declared is None or n_classes is None:
        return None
    tiers = []
    for tier in TIERS:
        observed = tier_report["tiers"][tier]["top1"]
        top1, refused = None, None
        if observed is not None:
            try:
                top1 = symmetric_accuracy(observed, declared[tier], n_classes)
            except RefusedError as error:
                refused = str(error)
        row = {"tier": tier, "observed": observed, "eta": declared[tier]}
        tiers.append({**row, "top1": top1, "refused": refused})
    return {
        "name": "symmetric noise, independent of the prediction",
        "K": n_classes,
        "tiers": tiers,
    }
