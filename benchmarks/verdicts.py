"""How often the rule says KEEP and REJECT when it should not, and when it should, by simulation.

Run ``python benchmarks/verdicts.py [DRAWS]``. Each draw is a new test split of 15,561 images, three
of a patient, in 25 long-tailed classes, answered by a baseline and nine candidates whose true
recalls are known: the same ones; 2 and 4 points more in every class; one class collapsing from
.718 to .237, the largest, a middling or the rarest, while every other gains 2 points; and 10 points
off that class, just the margin, while every other gains 4. One image in seven is right for one
model and wrong for another of equal recall; patients share their fate. Two tails: Zipf (rarest
class 54 patients) and a steep one (rarest 14). One comparison a draw is judged at several margins.
Then: how many patients a class needs, what the best of ten equals looks like, and how fast noise
redraws labels.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
from result import report
from scipy.special import expit, ndtri

from dagster_project.lib.scorecard import noise
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.paired import compare
from dagster_project.lib.scorecard.recipe import winners_curse
from dagster_project.lib.scorecard.rule import Margins, Rule
from dagster_project.lib.scorecard.verdict import judge, lower_recall

DRAWS = 600
BOOTSTRAP = 1000
PATIENTS, IMAGES, K = 5187, 3, 25
BEFORE, AFTER = 0.718, 0.237
LARGEST, MIDDLE, RAREST = 0, 12, 24
MARGINS = (0.10, 0.15, 0.20)
CLASSES = tuple(f"class_{k:02d}" for k in range(K))
Floats = npt.NDArray[np.float64]

TAILS = {
    "zipf": 1 / np.arange(1, K + 1),
    "steep": np.geomspace(1, 1 / 60, K),
}


def recalls() -> dict[str, Floats]:
    """True recall of each class, by configuration."""
    base = 0.55 + 0.3 * np.random.default_rng(7).random(K)
    base[[LARGEST, MIDDLE, RAREST]] = BEFORE
    found = {"base": base, "same": base, "gain 2": base + 0.02, "gain 4": base + 0.04}
    for name, at in (("largest", LARGEST), ("middle", MIDDLE), ("rarest", RAREST)):
        worse = base + 0.02
        worse[at] = AFTER
        found[f"collapse {name}"] = worse
        lost = base + 0.04
        lost[at] = BEFORE - 0.10
        found[f"10 points off the {name}"] = lost
    return found


def world(
    tail: Floats, rng: np.random.Generator, by_config: Mapping[str, Floats] | None = None
) -> Answers:
    """One test split, answered by every configuration with its true recalls."""
    truth = recalls() if by_config is None else by_config
    sizes = np.maximum(np.rint(PATIENTS * tail / tail.sum()), 1).astype(int)
    sizes[LARGEST] += PATIENTS - sizes.sum()
    of_patient = np.repeat(np.arange(K), sizes)
    patient = np.repeat(np.arange(PATIENTS), IMAGES)
    true = of_patient[patient]
    shared = _latent(patient, rng, 0.35, 0.50)
    probs = {name: _answers(true, patient, shared, r, rng) for name, r in truth.items()}
    ids = pl.Series("image_uuid", [f"u{at:05d}" for at in range(true.size)])
    return Answers(CLASSES, ids, patient, PATIENTS, True, true, probs)


def _latent(
    patient: npt.NDArray[np.int64], rng: np.random.Generator, between: float, within: float
) -> Floats:
    found: Floats = np.sqrt(between) * rng.standard_normal(PATIENTS)[patient] + np.sqrt(
        within
    ) * rng.standard_normal(patient.size)
    return found


def _answers(
    true: npt.NDArray[np.int64],
    patient: npt.NDArray[np.int64],
    shared: Floats,
    recall: Floats,
    rng: np.random.Generator,
) -> Floats:
    """(N, K) probabilities of a model with these recalls; surer where it is easier."""
    ease = ndtri(recall)[true] - shared - _latent(patient, rng, 0.07, 0.08)
    right = ease > 0
    other = (true + rng.integers(1, K, true.size)) % K
    top = np.where(right, true, other)
    probs: Floats = rng.uniform(0.0, 0.03, (true.size, K))
    probs[np.arange(true.size), true] = expit(0.8 * ease - 1.5)
    probs[np.arange(true.size), top] = expit(0.3 + 1.2 * np.abs(ease))
    return probs


def simulate(tail: str, draws: int) -> list[dict[str, object]]:
    """Words by candidate and margin, in per cent of the draws, and what classes of a size need."""
    rules = {margin: Rule(margins=Margins(recall=margin)) for margin in MARGINS}
    said: dict[tuple[str, float], Counter[str]] = {}
    unclear: Counter[tuple[str, float]] = Counter()
    for draw in range(draws):
        answers = world(TAILS[tail], np.random.default_rng([draw, len(tail)]))
        for config, found in compare(answers, "base", draws=BOOTSTRAP).items():
            for margin, rule in rules.items():
                verdict = judge(found, rule)
                said.setdefault((config, margin), Counter())[verdict.word] += 1
                unclear[config, margin] += len(verdict.unclear)
    return [
        {
            "tail": tail,
            "candidate": config,
            "recall margin": margin,
            **{
                word: f"{100 * words[word] / draws:.1f} %" for word in ("KEEP", "NEUTRAL", "REJECT")
            },
            "classes unclear": f"{unclear[config, margin] / draws:.1f}",
        }
        for (config, margin), words in said.items()
    ]


def cleared(draws: int) -> list[dict[str, object]]:
    """How often the recall of a class with so many patients is within each margin (gain 2)."""
    counts: dict[int, Counter[float]] = {}
    for draw in range(draws):
        answers = world(TAILS["steep"], np.random.default_rng([draw, 9]))
        for each in compare(answers, "base", draws=BOOTSTRAP)["gain 2"].per_class:
            lower = lower_recall(each)
            found = counts.setdefault(each.n_patients, Counter())
            found.update(m for m in MARGINS if lower is not None and lower > -m)
    return [
        {"patients": n, **{str(m): f"{100 * found[m] / draws:.0f} %" for m in MARGINS}}
        for n, found in sorted(counts.items())
    ]


def curse(draws: int) -> dict[str, object]:
    """Ten candidates that are the baseline's equals: the best of them, any KEEP, any REJECT."""
    base = recalls()["base"]
    truth = {"base": base, **{f"same {n}": base for n in range(10)}}
    best, expected, kept, rejected = [], [], 0, 0
    for draw in range(draws):
        answers = world(TAILS["zipf"], np.random.default_rng([draw, 11]), truth)
        compared = compare(answers, "base", draws=BOOTSTRAP)
        found = winners_curse(compared)
        best.append(found["best_difference"])
        expected.append(found["expected_by_chance"])
        words = {judge(c, Rule()).word for c in compared.values()}
        kept, rejected = kept + ("KEEP" in words), rejected + ("REJECT" in words)
    error = float(np.std(best) / np.sqrt(draws))
    return {
        "best of ten, points": f"{100 * np.mean(best):.2f} (± {100 * 1.96 * error:.2f})",
        "winners_curse says": f"{100 * np.mean(expected):.2f}",
        "any KEEP": f"{100 * kept / draws:.1f} %",
        "any REJECT": f"{100 * rejected / draws:.1f} %",
    }


def flips(eta: float) -> dict[str, object]:
    """Time and outcome of redrawing labels 200 times for ten candidates."""
    answers = world(TAILS["zipf"], np.random.default_rng(1))
    again = {"again": answers.probs["gain 2"]}
    answers = replace(answers, probs={**answers.probs, **again})
    compared = compare(answers, "base", draws=BOOTSTRAP)
    verdicts = {name: judge(found, Rule()) for name, found in compared.items()}
    matrix = np.full((K, K), eta / (K - 1)) + np.eye(K) * (1 - eta - eta / (K - 1))
    nobody = pl.Series("image_uuid", [], dtype=pl.String)
    noisy = noise.Noise(CLASSES, matrix, eta, len(answers), "declared", nobody)
    start = time.process_time()
    rows = noise.noise_flips(answers, "base", verdicts, compared, Rule(), noisy)
    seconds = time.process_time() - start
    words = {str(r["config"]): f"{r['word']} {r['share_other']:.2f}" for r in rows}
    return {"eta": eta, "candidates": len(rows), "core seconds": f"{seconds:.2f}", **words}


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS
    rows = [row for tail in TAILS for row in simulate(tail, draws)]
    report("verdicts", rows)
    report("verdicts_patients", cleared(draws // 2))
    report("verdicts_curse", [curse(draws // 2)])
    report("verdicts_noise", [flips(eta) for eta in (0.07, 0.16)])


if __name__ == "__main__":
    main()
