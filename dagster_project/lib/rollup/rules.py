"""All rules on the same rows, in one table: the leaf, ours, and other systems'.

Belongs: which rules are compared, and at which threshold or parameter, so that the table is fair.
Does not: the rules (``place``, ``peers``), the figures (``specificity``).
Concept: an accuracy means nothing without what was given up for it. Rules by rank are compared at
the roll-up's own thresholds; rules with one number at the number that makes about as many mistakes,
so that they differ in how much they say. N = images, R = ranks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.rollup.candidates import BY_RANK, RollUp, is_right
from dagster_project.lib.rollup.config import FitThresholds
from dagster_project.lib.rollup.peers import SPECIESNET_THRESHOLD, parameter_of
from dagster_project.lib.rollup.placed import UNPLACED
from dagster_project.lib.rollup.specificity import PARAMETERS, figures_of
from dagster_project.lib.rollup.transitions import leaf_of

if TYPE_CHECKING:
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.truth import Truth

SINGLE = tuple(PARAMETERS)
"""Rules with a single parameter."""


def compared_rules(prepared: Prepared, rollup: RollUp, truth: Truth) -> list[dict[str, Any]]:
    """Every rule on these rows, one line each.

    Parameters
    ----------
    prepared, truth : of the same N labelled images. rollup : the roll-up that is reported on.

    Returns
    -------
    ``rule, at, parameter, own`` (the roll-up as it is) and ``specificity.figures``, in this order:

    - ``leaf``: the top class whatever its score;
    - the rules with a threshold for each rank, at the roll-up's thresholds (``at`` is
      ``thresholds``); left out where it has none;
    - SpeciesNet as published (``at`` is ``published``), then the single-parameter rules at the
      parameter of ``specificity.PARAMETERS`` with the largest P(placed and wrong) on these rows
      that is not above the roll-up's own, of equal ones the smallest parameter (``matched``; left
      out where every one is above). A matched parameter is chosen on the rows it is judged on:
      good for comparing, nothing to deploy.
    """
    placed = rollup.applied(prepared)
    rows = [
        _line("leaf", "always", None, False) | figures_of(leaf_of(placed), truth, rollup.taxonomy)
    ]
    if not np.isnan(rollup.thresholds).all():
        for rule in BY_RANK:
            own = rule == rollup.config.rule
            told = _line(rule, "thresholds", None, own)
            rows.append(told | _figures(_with(rollup, rule, None), prepared, truth))
    if rollup.config.rule not in BY_RANK:
        at = parameter_of(rollup.config.rule, rollup.config.parameter)
        rows.append(
            _line(rollup.config.rule, "given", at, True) | _figures(rollup, prepared, truth)
        )
    published = _with(rollup, "speciesnet", SPECIESNET_THRESHOLD)
    told = _line("speciesnet", "published", SPECIESNET_THRESHOLD, False)
    rows.append(told | _figures(published, prepared, truth))
    bound = _bound(rollup, prepared, truth)
    for rule in SINGLE:
        found = _matched(_with(rollup, rule, None), prepared, truth, bound)
        if found is not None:
            told = _line(rule, "matched", found.config.parameter, False)
            rows.append(told | _figures(found, prepared, truth))
    return rows


def _line(rule: str, at: str, parameter: float | None, own: bool) -> dict[str, Any]:
    return {"rule": rule, "at": at, "parameter": parameter, "own": own}


def _with(rollup: RollUp, rule: str, parameter: float | None) -> RollUp:
    config = rollup.config.model_copy(update={"rule": rule, "parameter": parameter})
    return replace(rollup, config=config)


def _figures(rollup: RollUp, prepared: Prepared, truth: Truth) -> dict[str, Any]:
    return figures_of(rollup.applied(prepared), truth, rollup.taxonomy)


def _wrong(rollup: RollUp, prepared: Prepared, truth: Truth) -> int:
    node = rollup.applied(prepared).node
    return int(((node != UNPLACED) & ~is_right(node, truth.true, rollup.taxonomy)).sum())


def _bound(rollup: RollUp, prepared: Prepared, truth: Truth) -> float:
    """Mistakes of the roll-up; where it places nothing, those that its target allows."""
    fit = rollup.config.thresholds
    if (rollup.applied(prepared).node == UNPLACED).all() and isinstance(fit, FitThresholds):
        return fit.target * len(truth)
    return _wrong(rollup, prepared, truth)


def _matched(rollup: RollUp, prepared: Prepared, truth: Truth, bound: float) -> RollUp | None:
    best: tuple[int, RollUp] | None = None
    for parameter in PARAMETERS[rollup.config.rule]:
        tried = _with(rollup, rollup.config.rule, parameter)
        wrong = _wrong(tried, prepared, truth)
        if wrong <= bound and (best is None or wrong > best[0]):
            best = wrong, tried
    return None if best is None else best[1]
