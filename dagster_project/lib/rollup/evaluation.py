"""The offline evaluation: what a roll-up does to labelled images, in one plain JSON.

Belongs: putting the parts together; by rank, lineage against distribution, effects of the mask.
Does not: the parts themselves (``transitions``, ``specificity``, ``confusion``, ``outcome_mix``,
``sensitivity``, ``groups``), fitting, writing, drawing.
Concept: paired, before and after from the same stored probabilities, against labels that no mask
and no roll-up has touched (``truth``). Rates carry 95 % intervals by patient, each for itself
alone; nothing here is a certificate. N = images, R = ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.division import in_first
from dagster_project.lib.rollup.candidates import RollUp, is_right
from dagster_project.lib.rollup.config import FitThresholds
from dagster_project.lib.rollup.confusion import captured
from dagster_project.lib.rollup.fit import against_aim, aims_of
from dagster_project.lib.rollup.groups import by_group, by_node, confidence_bins
from dagster_project.lib.rollup.outcome_mix import outcome_mix
from dagster_project.lib.rollup.placed import REASONS, UNPLACED
from dagster_project.lib.rollup.rates import mean, rate
from dagster_project.lib.rollup.sensitivity import sensitivity
from dagster_project.lib.rollup.specificity import curve, figures_of
from dagster_project.lib.rollup.transitions import leaf_of, transitions
from dagster_project.lib.scorecard.paired import sign_test
from dagster_project.lib.tiers.assign import TIERS

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.placed import Placed
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Truth

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

SIDES = ("A: gave the shape", "B: certified the shift")


def evaluate(
    prepared: Prepared,
    placed: Placed,
    truth: Truth,
    rollup: RollUp,
    *,
    before: Placed | None = None,
    taxonomies: Mapping[str, Taxonomy] | None = None,
) -> dict[str, Any]:
    """Judge placed rows against labels.

    Parameters
    ----------
    prepared, placed, truth : of the same N images in the same order, N >= 1. Labels are taken as
        given: they must come from no process that a mask, a roll-up or this model had a part in.
    rollup : what placed the rows.
    before : what was said before, under the same taxonomy; None: the leaf of ``placed``. With a
        mask give ``leaf_of`` of rows prepared without it, or the mask's effect is not seen.
    taxonomies : by name, over the same classes, for ``confusion``; None: the roll-up's own.

    Returns
    -------
    ``n, n_patients, patients_known, rule, parameter, normalisation, ranks``, ``thresholds`` by
    rank.
    ``before, after`` : ``specificity.figures``. ``reasons`` : images by ``placed.REASONS``.
    ``by_rank`` : for each rank ``rank, threshold, n, share, accuracy, mean_score, aim, aim_met``
    (the fit's aim; ``fit.against_aim`` of the 95 % interval). ``by_node`` : ``groups.by_node``.
    ``transitions`` : ``kinds, tests``. ``lineage_vs_distribution`` : :func:`lineage_against`.
    ``curve`` : ``specificity.curve``. ``confusion`` : ``confusion.captured`` for the errors of
    ``before`` where it says a class, else of the leaf.
    ``by_class, by_confidence`` (of the leaf's score), ``by_tier`` (null without tiers), ``by_side``
    (of a fit: A gave the shape and flatters it; null with given thresholds) : ``groups.by_group``.
    ``label_noise`` : ``sensitivity.sensitivity``. ``mask`` : :func:`mask_effects`, null without.
    ``outcome_mix`` : ``outcome_mix.outcome_mix``, null without tiers.

    Raises
    ------
    InputError
        Different numbers of rows, or none.
    """
    if not len(placed.node) == len(truth) == len(prepared.decided) or not len(truth):
        raise InputError(
            f"{len(placed.node)} placed rows, {len(truth)} labels; give the same images in the "
            "same order"
        )
    taxonomy, config = rollup.taxonomy, rollup.config
    was = leaf_of(placed) if before is None else before
    thresholds = [None if np.isnan(t) else float(t) for t in rollup.thresholds]
    found = transitions(was, placed, truth, taxonomy)
    return {
        "n": len(truth),
        "n_patients": truth.n_patients,
        "patients_known": truth.known,
        "rule": config.rule,
        "parameter": config.parameter,
        "normalisation": config.normalisation,
        "ranks": list(taxonomy.ranks),
        "thresholds": dict(zip(taxonomy.ranks, thresholds, strict=True)),
        "before": figures_of(was, truth, taxonomy),
        "after": figures_of(placed, truth, taxonomy),
        "reasons": {name: int((placed.reason == at).sum()) for at, name in enumerate(REASONS)},
        "by_rank": by_rank(placed, truth, rollup),
        "by_node": by_node(placed, truth, taxonomy),
        "transitions": found,
        "lineage_vs_distribution": lineage_against(prepared, placed, truth, rollup),
        "curve": curve(prepared, rollup, truth),
        "confusion": captured(
            truth.true,
            np.where(was.rank == 0, was.node, placed.leaf_top),
            truth.patient,
            taxonomies or {"taxonomy": taxonomy},
        ),
        **_parts(was, placed, truth, rollup),
        "label_noise": _noise(placed, truth, rollup, found),
        "mask": None if prepared.allowed.all() else mask_effects(prepared, was, placed, truth),
        "outcome_mix": outcome_mix(placed, truth, taxonomy),
    }


def by_rank(placed: Placed, truth: Truth, rollup: RollUp) -> list[dict[str, Any]]:
    """What is said at each rank, finest first; see :func:`evaluate`."""
    taxonomy, fit = rollup.taxonomy, rollup.config.thresholds
    none: list[float | None] = [None] * len(taxonomy.ranks)
    aims = aims_of(fit, taxonomy.ranks) if isinstance(fit, FitThresholds) else none
    right = is_right(placed.node, truth.true, taxonomy)
    rows = []
    for rank, name in enumerate(taxonomy.ranks):
        here = placed.rank == rank
        accuracy = rate(right, truth.patient, here)
        low, high = accuracy["ci95"] or (None, None)
        threshold = rollup.thresholds[rank]
        rows.append(
            {
                "rank": name,
                "threshold": None if np.isnan(threshold) else float(threshold),
                "n": int(here.sum()),
                "share": rate(here, truth.patient),
                "accuracy": accuracy,
                "mean_score": _mean_score(placed, here),
                "aim": aims[rank],
                "aim_met": against_aim(aims[rank], low, high),
            }
        )
    return rows


def _mean_score(placed: Placed, here: Bools) -> float | None:
    n = int(here.sum())
    return math.fsum(placed.score[here].tolist()) / n if n else None  # the same in any order


def lineage_against(
    prepared: Prepared, placed: Placed, truth: Truth, rollup: RollUp
) -> dict[str, Any]:
    """The leaf's own ancestors against the best node of each rank, at the same thresholds.

    Returns
    -------
    ``free`` : the rule that is free to leave the lineage (``distribution`` beside ``lineage``, else
    the roll-up's own). ``off_lineage`` : share of its placed rows that do. ``there`` : on these,
    accuracy of what it says (``free``) and of the leaf's own ancestor at the same rank
    (``own_ancestor``). ``differ`` : share of all rows that end differently; on these ``right`` and
    ``wrong`` of each (``lineage``, ``free``), and ``z, p, method`` of the difference in right
    answers, free less lineage (``scorecard.paired.sign_test``).
    """
    taxonomy, free, line = rollup.taxonomy, placed, placed.lineage_node
    name = rollup.config.rule
    if name == "lineage":
        name = "distribution"
        other = rollup.config.model_copy(update={"rule": name})
        free = RollUp(taxonomy, other, rollup.thresholds).applied(prepared)
        line = placed.node
    patient = truth.patient
    right = {
        "lineage": is_right(line, truth.true, taxonomy),
        "free": is_right(free.node, truth.true, taxonomy),
    }
    differ = line != free.node
    own = taxonomy.ancestors[free.leaf_top, free.rank]
    said = {"lineage": line != UNPLACED, "free": free.node != UNPLACED}
    change = right["free"].astype(np.int64) - right["lineage"]
    by_patient = np.bincount(patient[differ], weights=change[differ]).astype(np.int64)
    test = sign_test(by_patient, int(np.unique(patient[differ]).size))
    return {
        "free": name,
        "off_lineage": rate(free.off_lineage, patient, said["free"]),
        "there": {
            "free": rate(right["free"], patient, free.off_lineage),
            "own_ancestor": rate(is_right(own, truth.true, taxonomy), patient, free.off_lineage),
        },
        "differ": rate(differ, patient),
        "right": {side: rate(hits, patient, differ) for side, hits in right.items()},
        "wrong": {side: rate(said[side] & ~right[side], patient, differ) for side in said},
        "z": test.z,
        "p": test.p,
        "method": test.method,
    }


def mask_effects(
    prepared: Prepared, before: Placed, placed: Placed, truth: Truth
) -> dict[str, Any]:
    """What leaving classes out does to the leaf, before any roll-up.

    Returns
    -------
    ``n_classes, n_allowed``; over all images ``truth_excluded`` (the true class may not be said: at
    best an ancestor of it can), ``corrected`` (the leaf was wrong and is right), ``regressed``
    (right, and wrong), ``regressed_though_allowed`` (of these with an allowed truth: 0 unless
    ``before`` is another model), ``not_decided`` (too little kept mass); ``kept_mass`` (mean over
    images with probabilities).
    """
    was = (before.rank == 0) & (before.node == truth.true)
    now = placed.leaf_top == truth.true
    answered = (before.node != UNPLACED) & (placed.leaf_top != UNPLACED)
    known = ~np.isnan(prepared.kept_mass)
    small = placed.reason == REASONS.index("kept_mass_too_small")
    lost = answered & was & ~now
    allowed = prepared.allowed[truth.true]
    return {
        "n_classes": int(prepared.allowed.size),
        "n_allowed": int(prepared.allowed.sum()),
        "truth_excluded": rate(~allowed, truth.patient),
        "corrected": rate(answered & ~was & now, truth.patient),
        "regressed": rate(lost, truth.patient),
        "regressed_though_allowed": rate(lost & allowed, truth.patient),
        "not_decided": rate(small, truth.patient),
        "kept_mass": mean(prepared.kept_mass[known], truth.patient[known], within=(0, 1)),
    }


def _parts(before: Placed, placed: Placed, truth: Truth, rollup: RollUp) -> dict[str, Any]:
    taxonomy, fit = rollup.taxonomy, rollup.config.thresholds

    def part(names: list[str], group: Ints) -> list[dict[str, Any]]:
        return by_group(names, group, (before, placed), truth, taxonomy)

    sides = None
    if isinstance(fit, FitThresholds):
        in_b = ~in_first(truth.keys["patient"], fit.share_a)
        sides = part(list(SIDES), in_b.astype(np.int64))
    return {
        "by_class": part(list(taxonomy.classes), truth.true),
        "by_confidence": part(*confidence_bins(placed.leaf_score)),
        "by_tier": None if truth.tiers is None else part(list(TIERS), truth.tiers.tier),
        "by_side": sides,
    }


def _noise(placed: Placed, truth: Truth, rollup: RollUp, found: dict[str, Any]) -> dict[str, Any]:
    right = is_right(placed.node, truth.true, rollup.taxonomy)
    said = placed.node != UNPLACED
    n, fit = len(truth), rollup.config.thresholds
    counts = {
        "wrong": (int((said & ~right).sum()), n),
        "accuracy": (int(right.sum()), int(said.sum())),
    }
    for rank, name in enumerate(rollup.taxonomy.ranks):
        here = placed.rank == rank
        counts[f"accuracy, {name}"] = (int((right & here).sum()), int(here.sum()))
    for row in found["kinds"]:
        if row["kind"] in ("fixed", "introduced", "specificity_lost"):
            counts[row["kind"]] = (row["share"]["n"], n)
    target = fit.target if isinstance(fit, FitThresholds) else None
    return sensitivity(counts, n, target=target)
