"""The scorecard: everything that is known of some checkpoints on the same rows, as one plain value.

Belongs: calling this room's statistics in order, on the labels in force and on the given ones.
Does not: any statistic but the reach of chance, wording (``words``), drawing (``pictures``), files
(``publish``).
Concept: the card holds aggregates only and is JSON through and through, so that a notebook, the
command line and an asset read the same one. M configurations, N images, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.scorecard.answers import copies, relabelled
from dagster_project.lib.scorecard.checkpoints import DEPLOYED
from dagster_project.lib.scorecard.composition import composition
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.scorecard.noise import LIMITS, noise_flips
from dagster_project.lib.scorecard.paired import compare
from dagster_project.lib.scorecard.recipe import RecipeVerdict, judge_recipes, winners_curse
from dagster_project.lib.scorecard.resampled import DRAWS
from dagster_project.lib.scorecard.rule import Rule, rule_sha256
from dagster_project.lib.scorecard.sampled import sampled_differences
from dagster_project.lib.scorecard.verdict import judge
from dagster_project.lib.tiers.scored_rows import rank_of_truth

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from dagster_project.lib.scorecard.answers import Answers
    from dagster_project.lib.scorecard.checkpoints import Checkpoints
    from dagster_project.lib.scorecard.comparison import Comparison, Verdict
    from dagster_project.lib.scorecard.noise import Noise
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.thresholds import Thresholds


@dataclass(frozen=True)
class ScorecardInputs:
    """What a scorecard is made of.

    Attributes
    ----------
    answers : M configurations against the labels in force.
    checkpoints : what each one changed, the baseline, and the rule.
    given : ``image_uuid, label``, the labels before cleaning, where cleaned ones are in force.
    thresholds : in service; None: nothing is said of them.
    policy : by which thresholds are fitted again for each configuration; None: they are not.
    tta : result of ``tta.tta_gain`` for the baseline; None: not asked.
    noise : which labels may be wrong, and how often; None: not estimated.
    reviews : the sample of reviews behind cleaned labels, as ``sampled.sampled_differences`` takes
        it; used with ``given``. None: not known.
    levers_known : False where nobody said what was changed: each configuration is then a recipe
        of its own, and no combination is proposed.
    """

    answers: Answers
    checkpoints: Checkpoints
    given: pl.DataFrame | None = None
    thresholds: Thresholds | None = None
    policy: TierPolicy | None = None
    tta: Mapping[str, Any] | None = None
    noise: Noise | None = None
    reviews: pl.DataFrame | None = None
    levers_known: bool = True


@dataclass(frozen=True)
class _Judged:
    """All configurations on one set of labels."""

    copies: dict[str, str]
    measures: dict[str, dict[str, Any]]
    comparisons: dict[str, Comparison]
    verdicts: dict[str, Verdict]
    chance: dict[str, list[float | None]]

    @property
    def tried(self) -> dict[str, Comparison]:
        """What was tried: a copy of another configuration is no second try."""
        return {name: row for name, row in self.comparisons.items() if name not in self.copies}


def make_scorecard(
    inputs: ScorecardInputs,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    on_progress: OnProgress = silent,
) -> dict[str, Any]:
    """Everything as plain JSON: measures, paired differences, verdicts, recipes, label noise.

    Parameters
    ----------
    draws, seed : of the patient bootstrap (``paired.compare``).
    on_progress : called with steps: one a configuration and set of labels, and one each for
        comparing and for label noise.

    Returns
    -------
    ``baseline``; ``rule`` and ``rule_sha256``; ``classes``; ``n``, ``n_patients``,
    ``patients_known``, ``n_without_label``, ``n_without_probs``; ``labels`` (``source``:
    ``cleaned`` where ``given`` is there, else ``unstated``; ``n_changed``, images whose label in
    force is not the given one, null without); ``levers_known``; ``bootstrap`` (``draws``,
    ``seed``); ``configs``, in order: the measures, ``verdict``, ``sentence``,
    ``unclear``, ``fallen`` (null for the baseline), ``changed``, ``seed``, ``recipe``;
    ``comparisons``: configuration -> ``differences``, ``per_class`` (with ``chance``:
    :func:`chance_reach`), ``between_runs`` (:func:`between_runs`); ``recipes``; ``copies``
    (``answers.copies``: they count neither as a run of a recipe nor as a try);
    ``winners_curse``; ``composition`` (null unless ``levers_known``); ``noise`` (``source``,
    ``rate``, ``n``, ``limits``, ``flips``) or null; ``given`` (``n``, ``n_patients``, ``configs``,
    ``comparisons``, ``differs``) or null; ``sampled`` (``sampled.sampled_differences``) or null;
    ``tta`` or null. What is undefined is null.

    Raises
    ------
    InputError
        The configurations and the entries of the checkpoints are not the same.
    """
    check_names(inputs.answers.probs, inputs.checkpoints)
    sides = 1 if inputs.given is None else 2
    steps = _Steps(
        on_progress, sides * (len(inputs.answers.probs) + 1) + (inputs.noise is not None)
    )
    compared = {"draws": draws, "seed": seed}
    found = _judged(inputs.answers, inputs, compared, steps)
    recipes = _recipes(inputs, found)
    card = {
        **_based_on(inputs),
        "bootstrap": compared,
        "configs": _configs(inputs, found, recipes),
        "comparisons": _comparisons(found, inputs.checkpoints.rule, recipes),
        "recipes": [asdict(recipe) for recipe in recipes],
        "copies": found.copies,
        "winners_curse": winners_curse(found.tried) if found.comparisons else None,
        "composition": composition(inputs.checkpoints, found.tried, found.verdicts)
        if inputs.levers_known and found.comparisons
        else None,
        "noise": _noise(inputs, found, steps),
        "given": _given(inputs, found, compared, steps),
        "sampled": _sampled(inputs),
        "tta": inputs.tta,
    }
    plain: dict[str, Any] = json.loads(json.dumps(card, allow_nan=False))
    return plain


def check_names(names: Collection[str], checkpoints: Checkpoints) -> None:
    """Raise unless each configuration is an entry, the baseline or in service, and the reverse."""
    needed = {entry.name for entry in checkpoints.entries} | {checkpoints.baseline}
    unknown = [name for name in names if name not in {*needed, DEPLOYED}]
    if unknown:
        raise InputError(
            f"scorecard: {some(unknown)} is no entry of the checkpoints ({some(sorted(needed))}); "
            "add it, or leave it out"
        )
    missing = sorted(needed - set(names))
    if missing:
        raise InputError(
            f"scorecard: no probabilities of {some(missing)}; pass them, or take the entry out "
            "before you look"
        )


def chance_reach(answers: Answers, baseline: str, config: str) -> list[float | None]:
    """By how much each recall could differ by chance where no patient is served better or worse.

    Returns
    -------
    (K,) 1.96 * sqrt(sum over patients of d_pc^2) / n_c, with d_pc the difference in right answers
    over patient p's images of class c, and n_c the images of the class; in [0, inf), None without
    an image. A difference beyond it has a two-sided p below .05 before any adjustment.
    """
    right = [_right(answers, name).astype(np.int64) for name in (config, baseline)]
    n_classes = len(answers.classes)
    cell, place = np.unique(answers.patient * n_classes + answers.true, return_inverse=True)
    d = np.bincount(place, weights=right[0] - right[1], minlength=cell.size)
    squares = np.bincount(cell % n_classes, weights=d * d, minlength=n_classes)
    n = np.bincount(answers.true, minlength=n_classes)
    return [
        Z95 * float(np.sqrt(square)) / int(size) if size else None
        for square, size in zip(squares, n, strict=True)
    ]


def between_runs(rule: Rule, recipe: RecipeVerdict | None) -> float:
    """By how much the balanced accuracies of two runs of one recipe differ, 95 % of the time.

    sqrt(2) * s times 1.96, or t_{.975,df} where s was measured between the runs of ``recipe`` and
    the baseline's; else s is the rule's. For one run against one: the floor of a recipe is that of
    two means (``recipe.run_floor``).

    >>> round(between_runs(Rule(), None), 4)
    0.0166
    """
    from scipy.special import stdtrit

    if recipe is None or not recipe.sd_measured:
        return Z95 * rule.single_run_sd * math.sqrt(2)
    return float(stdtrit(recipe.df, 0.975)) * recipe.sd * math.sqrt(2)


def _right(answers: Answers, name: str) -> npt.NDArray[np.bool_]:
    """(N,) the truth alone is largest."""
    right: npt.NDArray[np.bool_] = rank_of_truth(answers.probs[name], answers.true) == 0
    return right


class _Steps:
    """Counts finished steps for a progress callback."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._show, self._total, self._done = on_progress, total, 0

    def next(self, note: str) -> None:
        self._done += 1
        self._show(self._done, self._total, note)


def _judged(
    answers: Answers, inputs: ScorecardInputs, compared: Mapping[str, int], steps: _Steps
) -> _Judged:
    baseline, rule = inputs.checkpoints.baseline, inputs.checkpoints.rule
    measured = {}
    for name in answers.probs:
        measured[name] = measures(answers, name, thresholds=inputs.thresholds, policy=inputs.policy)
        steps.next(f"measured {name}")
    comparisons = compare(answers, baseline, **compared)
    steps.next("compared")
    return _Judged(
        copies=copies(answers, baseline),
        measures=measured,
        comparisons=comparisons,
        verdicts={name: judge(found, rule) for name, found in comparisons.items()},
        chance={name: chance_reach(answers, baseline, name) for name in comparisons},
    )


def _based_on(inputs: ScorecardInputs) -> dict[str, Any]:
    answers, rule = inputs.answers, inputs.checkpoints.rule
    return {
        "baseline": inputs.checkpoints.baseline,
        "rule": rule.model_dump(mode="json"),
        "rule_sha256": rule_sha256(rule),
        "levers_known": inputs.levers_known,
        "classes": list(answers.classes),
        "n": len(answers),
        "n_patients": answers.n_patients,
        "patients_known": answers.patients_known,
        "n_without_label": answers.n_without_label,
        "n_without_probs": answers.n_without_probs,
        "labels": _labels(inputs),
    }


def _labels(inputs: ScorecardInputs) -> dict[str, Any]:
    if inputs.given is None:
        return {"source": "unstated", "n_changed": None}
    answers = inputs.answers
    force = answers.image_uuid.to_frame().with_columns(
        in_force=np.array(answers.classes, dtype=object)[answers.true]
    )
    both = force.join(inputs.given.select("image_uuid", "label"), on="image_uuid", how="inner")
    changed = both.filter(both["label"].is_not_null() & (both["label"] != both["in_force"]))
    return {"source": "cleaned", "n_changed": changed.height}


def _configs(
    inputs: ScorecardInputs, found: _Judged, recipes: list[RecipeVerdict]
) -> list[dict[str, Any]]:
    entries = {entry.name: entry for entry in inputs.checkpoints.entries}
    rows = []
    for name, measured in found.measures.items():
        entry, verdict = entries.get(name), found.verdicts.get(name)
        recipe = next((recipe.word for recipe in recipes if name in recipe.runs), None)
        rows.append(
            {
                **measured,
                **_spoken(verdict),
                "changed": list(entry.changed) if entry and inputs.levers_known else None,
                "seed": entry.seed if entry else None,
                "recipe": recipe if verdict else None,
            }
        )
    return rows


def _spoken(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"verdict": None, "sentence": None, "unclear": None, "fallen": None}
    told = asdict(verdict)
    return {"verdict": told.pop("word"), **told}


def _comparisons(found: _Judged, rule: Rule, recipes: Sequence[RecipeVerdict]) -> dict[str, Any]:
    made = {}
    for name, comparison in found.comparisons.items():
        rows = [
            {**asdict(row), "chance": reach}
            for row, reach in zip(comparison.per_class, found.chance[name], strict=True)
        ]
        differences = {key: asdict(value) for key, value in comparison.differences.items()}
        recipe = next((recipe for recipe in recipes if name in recipe.runs), None)
        made[name] = {
            "differences": differences,
            "per_class": rows,
            "between_runs": between_runs(rule, recipe),
        }
    return made


def _recipes(inputs: ScorecardInputs, found: _Judged) -> list[RecipeVerdict]:
    balanced = {
        name: row["balanced_accuracy"]
        for name, row in found.measures.items()
        if name not in found.copies
    }
    return judge_recipes(inputs.checkpoints, balanced, found.verdicts, inputs.checkpoints.rule)


def _noise(inputs: ScorecardInputs, found: _Judged, steps: _Steps) -> dict[str, Any] | None:
    if inputs.noise is None or not found.comparisons:
        return None
    checkpoints = inputs.checkpoints
    flips = noise_flips(
        inputs.answers,
        checkpoints.baseline,
        found.verdicts,
        found.comparisons,
        checkpoints.rule,
        inputs.noise,
    )
    steps.next("label noise")
    noise = inputs.noise
    told = {"source": noise.source, "rate": noise.rate, "n": noise.n, "limits": LIMITS}
    return {**told, "flips": flips}


def _sampled(inputs: ScorecardInputs) -> dict[str, Any] | None:
    if inputs.given is None or inputs.reviews is None:
        return None
    return sampled_differences(
        inputs.answers, inputs.checkpoints.baseline, inputs.given, inputs.reviews
    )


def _given(
    inputs: ScorecardInputs, found: _Judged, compared: Mapping[str, int], steps: _Steps
) -> dict[str, Any] | None:
    """The same table on the labels before cleaning."""
    if inputs.given is None:
        return None
    answers = relabelled(inputs.answers, inputs.given)
    other = _judged(answers, inputs, compared, steps)
    return {
        "n": len(answers),
        "n_patients": answers.n_patients,
        "configs": [
            {**row, **_spoken(other.verdicts.get(name))} for name, row in other.measures.items()
        ],
        "comparisons": _comparisons(other, inputs.checkpoints.rule, _recipes(inputs, other)),
        "differs": [
            {"config": name, "in_force": verdict.word, "given": other.verdicts[name].word}
            for name, verdict in found.verdicts.items()
            if verdict.word != other.verdicts[name].word
        ],
    }
