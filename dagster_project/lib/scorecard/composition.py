"""Composition: which levers were pulled alone, which together, and what to train next.

Belongs: the list of what was tried, the additive guess for what was not, its order.
Does not: judging what was tried (``verdict``, ``recipe``).
Concept: a one-factor-at-a-time table says nothing of interactions; the sum of single differences is
a guess, good enough to order experiments that all cost one training. A lever = an entry of
``changed``; single = a recipe with one lever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints
from dagster_project.lib.scorecard.comparison import Comparison, Verdict
from dagster_project.lib.scorecard.recipe import baseline_recipe, recipes
from dagster_project.lib.scorecard.verdict import listed, points

LARGEST = 3
"""Levers of a proposed combination: a sum of more single differences is no guess any more."""

SHOWN = 20
"""Untried recipes that are listed; all are counted."""

Levers = tuple[str, ...]


@dataclass(frozen=True)
class _Tried:
    """One recipe that was evaluated."""

    changed: Levers
    runs: Levers
    difference: float
    rejected: bool


def composition(
    checkpoints: Checkpoints,
    comparisons: Mapping[str, Comparison],
    verdicts: Mapping[str, Verdict],
) -> dict[str, Any]:
    """What was tried alone and together, and the untried recipes in the order of their promise.

    A recipe's difference is the mean of its runs' differences in balanced accuracy, less the mean
    of the baseline's own runs. ``expected`` of a combination is the sum of its levers' differences,
    measured alone. It is null, and the recipe comes last, where a lever was never tried alone, or
    where a part of it was REJECTED in any run: no gain is expected of what loses a class. Levers
    tried in combinations only are proposed alone first, since nothing else can tell their effect.

    Parameters
    ----------
    checkpoints : all; those without a comparison are not tried yet.
    comparisons : by configuration, against the baseline.
    verdicts : by configuration.

    Returns
    -------
    ``levers``: for each ``lever, difference`` (alone; null where it was not), ``rejected``.
    ``tried``: for each recipe ``changed, runs, difference, additive, deviation`` (difference less
    the sum of its levers; null for a single and where a single is missing), ``rejected``.
    ``untried``: at most :data:`SHOWN` of ``changed, expected, noise`` (95 % half-width of that sum
    from seeds), ``worth`` (more is expected than of anything tried), ``why``. ``n_untried``: how
    many combinations of two to :data:`LARGEST` levers, and single levers, were not tried.
    ``sentences``.
    """
    tried = _tried(checkpoints, comparisons, verdicts)
    base = baseline_recipe(checkpoints)
    levers = sorted({lever for entry in checkpoints.entries for lever in entry.changed} - {*base})
    alone = {lever: tried.get((lever,)) for lever in levers}
    best = max((t for t in tried.values() if not t.rejected), key=_promise, default=None)
    untried = [
        _untried(changed, alone, tried, best, checkpoints)
        for changed in _recipes_of(levers)
        if changed not in tried
    ]
    untried.sort(key=_order)
    rows = [_row(recipe, alone) for recipe in tried.values()]
    return {
        "levers": [_lever(lever, single) for lever, single in alone.items()],
        "tried": rows,
        "untried": untried[:SHOWN],
        "n_untried": len(untried),
        "sentences": _sentences(rows, untried, alone),
    }


def _tried(
    checkpoints: Checkpoints,
    comparisons: Mapping[str, Comparison],
    verdicts: Mapping[str, Verdict],
) -> dict[Levers, _Tried]:
    """Every evaluated recipe but the baseline's."""
    groups = recipes(checkpoints)
    own = _differences(groups.pop(baseline_recipe(checkpoints), ()), comparisons)
    # the baseline differs from itself by nothing, its repeats by what seeds make
    zero = fmean([0.0, *own.values()])
    found = {}
    for changed, runs in groups.items():
        measured = _differences(runs, comparisons)
        if measured:
            rejected = any(n in verdicts and verdicts[n].word == "REJECT" for n in measured)
            mean = fmean(measured.values()) - zero
            found[changed] = _Tried(changed, tuple(measured), mean, rejected)
    return found


def _differences(
    runs: Sequence[Checkpoint], comparisons: Mapping[str, Comparison]
) -> dict[str, float]:
    found = {}
    for run in runs:
        if run.name in comparisons:
            estimate = comparisons[run.name].differences["balanced_accuracy"].estimate
            if estimate is not None:
                found[run.name] = estimate
    return found


def _recipes_of(levers: Sequence[str]) -> list[Levers]:
    return [c for size in range(1, LARGEST + 1) for c in combinations(levers, size)]


def _promise(recipe: _Tried) -> tuple[float, Levers]:
    return recipe.difference, recipe.changed


def _lever(lever: str, single: _Tried | None) -> dict[str, Any]:
    if single is None:
        return {"lever": lever, "difference": None, "rejected": False}
    return {"lever": lever, "difference": single.difference, "rejected": single.rejected}


def _row(recipe: _Tried, alone: Mapping[str, _Tried | None]) -> dict[str, Any]:
    singles = [alone.get(lever) for lever in recipe.changed]
    known = [single.difference for single in singles if single is not None]
    additive = math.fsum(known) if len(known) == len(singles) > 1 else None
    return {
        "changed": list(recipe.changed),
        "runs": list(recipe.runs),
        "difference": recipe.difference,
        "additive": additive,
        "deviation": None if additive is None else recipe.difference - additive,
        "rejected": recipe.rejected,
    }


def _untried(
    changed: Levers,
    alone: Mapping[str, _Tried | None],
    tried: Mapping[Levers, _Tried],
    best: _Tried | None,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "changed": list(changed),
        "expected": None,
        "noise": None,
        "worth": False,
    }
    groups = recipes(checkpoints)
    if changed in groups:
        return {**row, "why": f"{listed([e.name for e in groups[changed]])} not evaluated yet"}
    lost = [t for t in tried.values() if t.rejected and set(t.changed) <= set(changed)]
    if lost:
        return {**row, "why": f"contains {_name(lost[0].changed)}, which was rejected"}
    if len(changed) == 1:
        return {**row, "worth": True, "why": "only tried together with others: its effect unknown"}
    singles = [single for lever in changed if (single := alone[lever]) is not None]
    if len(singles) < len(changed):
        missing = [lever for lever in changed if alone[lever] is None]
        return {**row, "why": f"{listed(missing)} was never tried alone"}
    expected = math.fsum(single.difference for single in singles)
    row["expected"], row["noise"] = expected, _noise(singles, checkpoints)
    row["worth"] = expected > 0 and (best is None or expected > best.difference)
    parts = listed([f"{_name(s.changed)} {points(s.difference)}" for s in singles])
    over = "nothing" if best is None else f"{_name(best.changed)} {points(best.difference)}"
    say = "the sum is above" if row["worth"] else "the sum is not above"
    return {**row, "why": f"{parts}, alone; {say} the best tried ({over})"}


def _noise(singles: Sequence[_Tried], checkpoints: Checkpoints) -> float:
    """95 % half-width of the sum from seeds, at the declared SD: the baseline's run is in each."""
    shared = len(recipes(checkpoints)[baseline_recipe(checkpoints)])
    runs = math.fsum(1 / len(single.runs) for single in singles)
    return Z95 * checkpoints.rule.single_run_sd * math.sqrt(runs + len(singles) ** 2 / shared)


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, float, int, list[str]]:
    """Unknown single levers first, then by what is expected; what has no guess comes last."""
    single = len(row["changed"]) == 1 and row["worth"]
    expected = row["expected"]
    promise = 0.0 if expected is None else -round(expected, 12)
    return not single, expected is None, promise, len(row["changed"]), row["changed"]


def _name(changed: Sequence[str]) -> str:
    return " + ".join(changed)


def _sentences(
    tried: Sequence[Mapping[str, Any]],
    untried: Sequence[Mapping[str, Any]],
    alone: Mapping[str, _Tried | None],
) -> list[str]:
    singles = [lever for lever, single in alone.items() if single is not None]
    together = [_name(row["changed"]) for row in tried if len(row["changed"]) > 1]
    said = [
        f"Tried alone: {listed(singles, len(singles)) or 'nothing'}; "
        f"together: {listed(together) or 'nothing'}."
    ]
    apart = [row["deviation"] for row in tried if row["deviation"] is not None]
    if apart:
        said.append(
            f"The {len(apart)} tried combination{'s' if len(apart) > 1 else ''} came out "
            f"{points(fmean(apart))} from the sum of the levers on average, "
            f"{100 * max(abs(value) for value in apart):.1f} at most."
        )
    worth = [row for row in untried if row["worth"]]
    if worth:
        said.append(f"Next, one training each: {listed([_proposed(row) for row in worth])}.")
        if any(row["expected"] is not None for row in worth):
            said.append(
                "An expected gain is the sum of what the levers did alone, a guess that no "
                "interaction was measured for, and the ± is what seeds make of it."
            )
    elif alone:
        said.append("No untried combination is expected to beat the best that was tried.")
    lost = [lever for lever, single in alone.items() if single is not None and single.rejected]
    if lost:
        said.append(f"Not proposed: anything with {listed(lost)}, which lost a class.")
    return said


def _proposed(row: Mapping[str, Any]) -> str:
    if row["expected"] is None:
        return f"{_name(row['changed'])} alone (effect unknown)"
    return (
        f"{_name(row['changed'])} ({points(row['expected'])} expected, ± {100 * row['noise']:.1f})"
    )
