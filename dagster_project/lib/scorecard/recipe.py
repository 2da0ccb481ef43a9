"""The verdict on a recipe: whether what was changed helps, and not merely the seed it got.

Belongs: runs by recipe, the floor that seeds make, the recipe's word and sentence, winner's curse.
Does not: judging one checkpoint (``verdict``), what to train next (``composition``).
Concept: the seed alone moves a measure (Bouthillier et al., MLSys 2021, arXiv 2103.03098), so a
recipe is the mean of its runs, and a difference of means counts beyond the least significant
difference of the pooled t test. r = runs of a recipe, A the candidate, B the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.scorecard.checkpoints import DEPLOYED, Checkpoint, Checkpoints
from dagster_project.lib.scorecard.comparison import Comparison, Verdict, Word
from dagster_project.lib.scorecard.rule import Rule
from dagster_project.lib.scorecard.verdict import listed, points

CURSE_DRAWS = 20_000
"""Half of them mirrored; error of the expectation below 1 % of a standard error."""

EQUAL = 1e-12
"""Runs that differ by less are copies of each other."""

_UNJUDGED = Verdict("NEUTRAL", "")

SHARED = 0.5
"""Correlation of two differences from one baseline, where all models vary alike."""


@dataclass(frozen=True)
class RecipeVerdict:
    """What the rule says of one recipe against the baseline's.

    Attributes
    ----------
    changed : its levers.
    runs : its checkpoints that were evaluated, by name.
    difference : of mean balanced accuracy, recipe minus baseline's recipe; None without a run.
    floor : what seeds alone make of such a difference, 97.5 % each way; None without a run.
    df : degrees of freedom of the SD between runs that was measured, r_A + r_B - 2; may be 0.
    sd : between runs; the declared one where ``sd_measured`` is False.
    """

    changed: tuple[str, ...]
    runs: tuple[str, ...]
    word: Word
    sentence: str
    difference: float | None
    floor: float | None
    df: int
    sd: float
    sd_measured: bool


def recipes(checkpoints: Checkpoints) -> dict[tuple[str, ...], tuple[Checkpoint, ...]]:
    """Checkpoints by what was changed, fewest levers first, runs by name.

    The model in service is a run of the recipe without a lever when it is the baseline; beside
    another baseline nobody has said what its recipe is, and it is in none.
    """
    entries = list(checkpoints.entries)
    if checkpoints.baseline == DEPLOYED:
        entries.append(Checkpoint(DEPLOYED, model="", baseline=True))
    found: dict[tuple[str, ...], list[Checkpoint]] = {}
    for entry in sorted(entries, key=lambda e: (len(e.changed), e.changed, e.name)):
        found.setdefault(tuple(sorted(entry.changed)), []).append(entry)
    return {changed: tuple(runs) for changed, runs in found.items()}


def baseline_recipe(checkpoints: Checkpoints) -> tuple[str, ...]:
    """Levers of the baseline; none for the model in service."""
    named = (tuple(sorted(e.changed)) for e in checkpoints.entries if e.baseline)
    return next(named, ())


def judge_recipes(
    checkpoints: Checkpoints,
    balanced_accuracy: Mapping[str, float],
    verdicts: Mapping[str, Verdict],
    rule: Rule,
) -> list[RecipeVerdict]:
    """Every recipe but the baseline's, fewest levers first.

    floor = t_{.975,df} s sqrt(1/r_A + 1/r_B), df = r_A + r_B - 2, s pooled over the runs of these
    two. Checkpoints of one recipe with the same known seed are one run (their mean): a copy is no
    repeat. s is measured with at least two runs on either side, ``rule.min_df`` degrees of freedom
    and runs that differ at all; else s = ``rule.single_run_sd``, 1.96 stands for t, the floor is
    shown and the word is NEUTRAL.

    With s measured: **REJECT** when at least half of the runs were rejected; **KEEP** when the
    difference is above the floor, more than half of the runs were kept and none was rejected (a
    recipe is at most the median of its runs); else **NEUTRAL**.

    Parameters
    ----------
    balanced_accuracy : by configuration, on the same rows; without a value (or NaN) it is no run.
    verdicts : by configuration; a run without one counts as NEUTRAL.
    """
    groups = recipes(checkpoints)
    against = _Runs.of(groups.pop(baseline_recipe(checkpoints), ()), balanced_accuracy)
    found = []
    for changed, entries in groups.items():
        ours = _Runs.of(entries, balanced_accuracy)
        said = [verdicts.get(name, _UNJUDGED) for name in ours.names]
        found.append(_judged(changed, ours, against, said, rule))
    return found


@dataclass(frozen=True)
class _Runs:
    """Names of evaluated checkpoints and the values of their independent runs."""

    names: tuple[str, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, entries: Sequence[Checkpoint], values: Mapping[str, float]) -> _Runs:
        by_seed: dict[object, list[float]] = {}
        names = []
        for entry in entries:
            value = values.get(entry.name)
            if value is not None and math.isfinite(value):
                names.append(entry.name)
                # a seed that is not known is taken for one of its own
                run = entry.name if entry.seed is None else entry.seed
                by_seed.setdefault(run, []).append(float(value))
        return cls(tuple(names), tuple(fmean(same) for same in by_seed.values()))


def run_floor(
    ours: Sequence[float], theirs: Sequence[float], rule: Rule
) -> tuple[float, float, bool]:
    """Floor of a difference of two means of runs, the SD in it, and whether that was measured.

    Parameters
    ----------
    ours, theirs : (r_A,) and (r_B,) values, at least one each; their order does not matter.

    >>> floor, sd, measured = run_floor([0.70], [0.68], Rule())
    >>> round(floor, 4), sd, measured
    (0.0166, 0.006, False)
    >>> floor, sd, measured = run_floor([0.70, 0.71, 0.72], [0.66, 0.67, 0.68], Rule())
    >>> round(floor, 4), round(sd, 4), measured
    (0.0227, 0.01, True)
    """
    from scipy.special import stdtrit

    df = len(ours) + len(theirs) - 2
    spread = math.sqrt(1 / len(ours) + 1 / len(theirs))
    if min(len(ours), len(theirs)) >= 2 and df >= rule.min_df:
        sd = math.sqrt((_squares(ours) + _squares(theirs)) / df)
        if sd > EQUAL:
            return float(stdtrit(df, 0.975)) * sd * spread, sd, True
    return Z95 * rule.single_run_sd * spread, rule.single_run_sd, False


def _squares(values: Sequence[float]) -> float:
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _judged(
    changed: tuple[str, ...],
    ours: _Runs,
    against: _Runs,
    verdicts: Sequence[Verdict],
    rule: Rule,
) -> RecipeVerdict:
    name = " + ".join(changed) or "no lever"
    r_a, r_b = len(ours.values), len(against.values)
    df = max(r_a + r_b - 2, 0)
    if not r_a or not r_b:
        said = f"{name}: no checkpoint of {'it' if not r_a else 'the baseline'} was evaluated."
        rest = (said, None, None, df, rule.single_run_sd, False)
        return RecipeVerdict(changed, ours.names, "NEUTRAL", *rest)
    difference = fmean(ours.values) - fmean(against.values)
    floor, sd, measured = run_floor(ours.values, against.values, rule)
    above = round(difference, 12) > floor
    word = _word(above, [verdict.word for verdict in verdicts]) if measured else "NEUTRAL"
    source = f"measured, {df} degrees of freedom" if measured else "declared, not measured"
    why = _why(word, verdicts, difference, floor) if measured else _too_few(verdicts, rule)
    said = (
        f"{name}: balanced accuracy {points(difference)} over {r_a} against {r_b} "
        f"run{'s' if r_b > 1 else ''}, where seeds alone make ± {100 * floor:.1f} "
        f"(SD {100 * sd:.1f}, {source}); {why}."
    )
    return RecipeVerdict(changed, ours.names, word, said, difference, floor, df, sd, measured)


def _word(above: bool, words: Sequence[Word]) -> Word:
    """At most the median of the runs' words; one rejected run is one too many for KEEP."""
    if 2 * words.count("REJECT") >= len(words):
        return "REJECT"
    if above and 2 * words.count("KEEP") > len(words) and "REJECT" not in words:
        return "KEEP"
    return "NEUTRAL"


def _lost(verdicts: Sequence[Verdict]) -> str:
    rejected = [verdict for verdict in verdicts if verdict.word == "REJECT"]
    classes = sorted({name for verdict in rejected for name in verdict.fallen})
    return f"{len(rejected)} of {len(verdicts)} runs rejected for {listed(classes)}"


def _too_few(verdicts: Sequence[Verdict], rule: Rule) -> str:
    each = max(2, math.ceil((rule.min_df + 2) / 2))
    rejected = any(verdict.word == "REJECT" for verdict in verdicts)
    also = f"; {_lost(verdicts)}" if rejected else ""
    return f"too few seeds to tell a recipe from luck, {each} runs of either would do{also}"


def _why(word: Word, verdicts: Sequence[Verdict], difference: float, floor: float) -> str:
    words = [verdict.word for verdict in verdicts]
    kept = words.count("KEEP")
    if word == "REJECT":
        return f"{_lost(verdicts)}: the recipe does that, not the seed"
    if word == "KEEP":
        return f"beyond what seeds make, {kept} of {len(words)} runs kept and none rejected"
    if "REJECT" in words:
        return f"{_lost(verdicts)}, so it can go wrong"
    if abs(difference) <= floor:
        return "within what seeds make"
    if difference < 0:
        return "lower beyond what seeds make, though no class was lost"
    return f"beyond what seeds make, but only {kept} of {len(words)} runs kept"


def winners_curse(
    comparisons: Mapping[str, Comparison], *, draws: int = CURSE_DRAWS, seed: int = SEED
) -> dict[str, Any]:
    """By how much the best of m candidates beats the baseline by chance alone.

    E max_i d_i of normals with mean 0, the standard errors of the candidates' balanced accuracies
    (width of the interval / 3.92) and correlation 1/2, which differences from one baseline have
    when all models vary alike (Dunnett, JASA 50:1096, 1955). Independent differences would give up
    to sqrt(2) times as much. From test rows only: that the best seed was picked comes on top.

    Parameters
    ----------
    comparisons : candidates; those without an interval do not count. Their order does not matter.

    Returns
    -------
    ``n_candidates, best`` (name; the first by name among equals), ``best_difference,
    expected_by_chance`` (0.0 for one candidate, null for none) and ``sentence``.
    """
    found = {}
    for name, comparison in sorted(comparisons.items()):
        d = comparison.differences["balanced_accuracy"]
        if d.estimate is not None and d.low is not None and d.high is not None:
            found[name] = (d.estimate, (d.high - d.low) / (2 * Z95))
    best, difference, chance = None, None, None
    said = "No candidate has an interval: what the best owes to chance is unknown."
    if found:
        best = max(found, key=lambda name: found[name][0])
        difference = found[best][0]
        chance = _expected_max(sorted(error for _, error in found.values()), draws, seed)
        said = f"With one candidate, {best} ({points(difference)}), nothing was picked."
        if len(found) > 1:
            said = (
                f"The best of {len(found)} candidates, {best} ({points(difference)}), would be "
                f"expected at {points(chance)} by chance alone, were none better than the baseline."
            )
    return {
        "n_candidates": len(found),
        "best": best,
        "best_difference": difference,
        "expected_by_chance": chance,
        "sentence": said,
    }


def _expected_max(errors: Sequence[float], draws: int, seed: int) -> float:
    """E max of normals with these standard errors and correlation :data:`SHARED`."""
    if len(errors) == 1:
        return 0.0
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((max(draws // 2, 1), len(errors) + 1))
    drawn = np.concatenate([half, -half])  # mirrored: the shared part cancels
    values = math.sqrt(1 - SHARED) * drawn[:, 1:] + math.sqrt(SHARED) * drawn[:, :1]
    return round(float((values * np.asarray(errors)).max(axis=1).mean()), 9)
