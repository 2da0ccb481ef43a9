"""Whether a paired difference keeps its promises: false alarms of the test, coverage of intervals.

Run ``python benchmarks/paired_differences.py [DRAWS]`` (about three minutes for 2,000). Three
images a patient that share their fate, as photographs of one person do.

1. One difference: two checkpoints that are equally good. McNemar's test by images beside z by
   patient, at 5 % and at the 0.2 % that Holm asks of the first of 25 classes.
2. A whole comparison of equally good checkpoints over 25 classes: how often is any class called?
3. Intervals: a checkpoint that is truly different, its true differences known from 200,000
   patients. How often do the percentile intervals hold them, and how often is the truth below?
4. Why calibration is not decided on the ECE: its bootstrap where the truth is known to be 0.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from result import report

from dagster_project.lib.calibration.reliability import calibration_error, reliability
from dagster_project.lib.progress import bar
from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.comparison import MEASURES
from dagster_project.lib.scorecard.outcomes import averages, class_counts, outcomes
from dagster_project.lib.scorecard.paired import compare, sign_test

DRAWS = 2000
IMAGES = 3
SHARED = 0.6
"""Chance that an image shares the fate of its patient's first one."""

PATIENTS = (5, 10, 20, 29, 30, 50, 100, 1000)
LEVELS = (0.05, 0.002)
TRUTH_PATIENTS = 200_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def steps(title: str, total: int) -> Iterator[int]:
    """0..total - 1, with progress."""
    with bar(title, "draw") as tell:
        for at in range(total):
            yield at
            tell(at + 1, total)


def one_difference(draws: int) -> list[dict[str, Any]]:
    """How often each test calls equally good checkpoints different."""
    rows = []
    for patients in PATIENTS:
        for changed in (0.1, 0.4):
            rng = np.random.default_rng([1, patients, int(10 * changed)])
            called: dict[tuple[str, float], int] = defaultdict(int)
            for _ in range(5 * draws):
                own = rng.choice([-1, 0, 1], (patients, IMAGES),
                                 p=[changed / 2, 1 - changed, changed / 2])  # fmt: skip
                d = np.where(rng.random(own.shape) < SHARED, own[:, :1], own)
                moved = int((d != 0).sum())
                by_images = math.erfc(abs(int(d.sum())) / math.sqrt(2 * max(moved, 1)))
                tests = {
                    "McNemar by images": by_images,
                    "ours by patient": sign_test(d.sum(axis=1), patients).p or 1.0,
                    "z by patient, always normal": sign_test(d.sum(axis=1), 1000).p or 1.0,
                }
                for name, p in tests.items():
                    for level in LEVELS:
                        called[name, level] += p < level
            rows.append(
                {
                    "patients": patients,
                    "images that change": changed,
                    **{
                        f"{name}, {level:g}": round(called[name, level] / (5 * draws), 4)
                        for name in tests
                        for level in LEVELS
                    },
                }
            )
    return rows


def sample(rng: np.random.Generator, patients: int, k: int, gain: float) -> Answers:
    """A new sample: classes of falling size, one a patient; old and new checkpoint.

    The new one is ``gain`` better in the larger half of the classes and as much worse in the rest;
    with 0 both are the same but for noise of their own.
    """
    share = 1 / np.arange(1, k + 1) ** 1.5
    true = np.repeat(rng.choice(k, size=patients, p=share / share.sum()), IMAGES)
    n = true.size
    patient = np.repeat(np.arange(patients), IMAGES)
    first = np.repeat(np.arange(0, n, IMAGES), IMAGES)
    same = rng.random(n) < SHARED
    hit = np.eye(k)[true]
    hard = 1.3 * rng.normal(size=(n, k))
    probs = {}
    for name, better in (("old", 0.0), ("new", gain)):
        logits = hard + 0.6 * rng.normal(size=(n, k)) - 2.0
        logits += hit * (2.6 + np.where(true < k // 2, better, -better))[:, None]
        logits = np.where(same[:, None], logits[first], logits)
        probs[name] = 1 / (1 + np.exp(-logits))
    return Answers(
        classes=tuple(f"class_{at:02d}" for at in range(k)),
        image_uuid=pl.Series("image_uuid", np.arange(n)).cast(pl.String),
        patient=patient,
        n_patients=patients,
        patients_known=True,
        true=true,
        probs=probs,
    )


def whole_comparison(draws: int) -> list[dict[str, Any]]:
    """How often any of 25 classes is called, and top-1, where nothing is different."""
    rows = []
    for patients in (300, 1000, 5000):
        rng = np.random.default_rng([2, patients])
        any_class = top1 = 0
        for _ in steps(f"{patients} patients, no difference", draws // 2):
            found = compare(sample(rng, patients, 25, 0.0), "old", draws=0)["new"]
            any_class += any((c.p_holm or 1) < 0.05 for c in found.per_class)
            top1 += (found.differences["top1"].p or 1) < 0.05
        rows.append(
            {
                "patients": patients,
                "draws": draws // 2,
                "any class, Holm p < .05": round(any_class / (draws // 2), 4),
                "top-1, p < .05": round(top1 / (draws // 2), 4),
            }
        )
    return rows


def coverage(draws: int) -> list[dict[str, Any]]:
    """How often 95 % intervals hold the truth; recalls by how many patients the class has."""
    k, gain = 10, 0.35
    whole = sample(np.random.default_rng(3), TRUTH_PATIENTS, k, gain)
    scored = {name: outcomes(probs, whole.true) for name, probs in whole.probs.items()}
    old, new = (averages(scored[name], whole.true, k) for name in ("old", "new"))
    true = {name: new[name] - old[name] for name in MEASURES}
    recalls = [class_counts(scored[name], whole.true, k).recall for name in ("old", "new")]
    del whole, scored
    tally: dict[tuple[str, str], list[tuple[bool, bool, bool, float]]] = defaultdict(list)
    for patients in (300, 1000):
        rng = np.random.default_rng([4, patients])
        for _ in steps(f"{patients} patients, intervals", draws // 2):
            found = compare(sample(rng, patients, k, gain), "old", draws=500)["new"]
            for name in MEASURES:
                d = found.differences[name]
                note(tally[f"{patients} patients", name], true[name], d.low, d.high)
            for c, truth in zip(found.per_class, recalls[1] - recalls[0], strict=True):
                d = c.difference
                note(tally["recall", size(c.n_patients)], float(truth), d.low, d.high)
    return [summary(*key, values) for key, values in tally.items()]


def size(patients: int) -> str:
    """The bin of a class's number of patients."""
    for low, high in ((0, 3), (4, 5), (6, 9), (10, 19), (20, 29), (30, 59), (60, 119)):
        if patients <= high:
            return f"{low:3d} to {high} patients"
    return "120 patients and more"


def note(
    tally: list[tuple[bool, bool, bool, float]],
    truth: float,
    low: float | None,
    high: float | None,
) -> None:
    """Add whether there is an interval, the truth lies below it, above it, and its width."""
    if low is None or high is None:
        tally.append((False, False, False, 0.0))
    else:
        tally.append((True, truth < low, truth > high, high - low))


def summary(what: str, of: str, values: list[tuple[bool, bool, bool, float]]) -> dict[str, Any]:
    """One row: shares among those that have an interval."""
    given = [v for v in values if v[0]]
    n = max(len(given), 1)
    return {
        "what": what,
        "of": of,
        "intervals": len(given),
        "none": round(1 - len(given) / len(values), 3),
        "holds": round(sum(not (v[1] or v[2]) for v in given) / n, 3),
        "truth below": round(sum(v[1] for v in given) / n, 3),
        "width 0": round(sum(v[3] == 0 for v in given) / n, 3),
    }


def ece_bootstrap(draws: int) -> list[dict[str, Any]]:
    """Percentile intervals of the ECE, and of Brier, of a perfectly calibrated score."""
    rows = []
    for n in (300, 3000):
        rng = np.random.default_rng([5, n])
        worlds, above, brier, estimates = max(1, draws // 20), 0, 0, []
        for _ in steps(f"{n} images, ECE", worlds):
            score = rng.beta(3, 1.5, n)
            right = rng.random(n) < score
            whole = ece(score, right)
            copies = rng.integers(n, size=(200, n))
            low = np.sort([ece(score[at], right[at]) for at in copies])[4]
            losses = (score - right) ** 2
            ends = np.sort(losses[copies].mean(axis=1))[[4, -5]]
            above += low > whole
            brier += ends[0] <= TRUE_BRIER <= ends[1]
            estimates.append(whole)
        rows.append(
            {
                "images": n,
                "worlds": worlds,
                "mean ECE (truth 0)": round(float(np.mean(estimates)), 4),
                "lower end above the estimate": round(above / worlds, 3),
                "Brier interval holds": round(brier / worlds, 3),
            }
        )
    return rows


TRUE_BRIER = 3 / 4.5 - (3 / 4.5 * 4 / 5.5)
"""E p(1 - p) of a Beta(3, 1.5)."""


def ece(score: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Equal-mass ECE, every image its own patient."""
    found = calibration_error(reliability(score, right, np.arange(score.size))).ece
    assert found is not None
    return found


def main() -> None:
    """Print and save the tables."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS
    report("paired_differences_one", one_difference(draws))
    report("paired_differences_whole", whole_comparison(draws))
    report("paired_differences_intervals", sorted(
        coverage(draws), key=lambda row: (row["what"], row["of"])
    ))  # fmt: skip
    report("paired_differences_ece", ece_bootstrap(draws))


if __name__ == "__main__":
    main()
