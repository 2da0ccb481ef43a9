"""What reviews of the deployed model's suspicions do to a comparison with it, by simulation.

Run ``python benchmarks/overwritten_differences.py [DRAWS]``. 6,000 images, three of a patient,
10 classes; both models are right on 70 % and equally good, or the candidate is 2 points better.
8 % of the given labels are wrong; the model in service repeats a third of them. Some 600 images are
reviewed: the 300 surest contradictions of the model in service, all of them asked, and 300 more
over the strata agrees / contradicts. Printed: the mean paired difference in top-1 (candidate
less deployed) by the true labels, given labels, overwritten labels and ``sampled``, how often its
interval holds the truth, and how often a difference is called at 5 % (z by patient) by each.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import polars as pl
from result import report
from scipy.special import ndtri

from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.paired import sign_test
from dagster_project.lib.scorecard.sampled import sampled_differences

DRAWS = 1000
N, IMAGES, K, CERTAIN, MORE = 6000, 3, 10, 300, 300
CLASSES = tuple(f"c{at}" for at in range(K))
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def others(label: Ints, rng: np.random.Generator) -> Ints:
    return (label + rng.integers(1, K, label.size)) % K


def top1(named: Ints, label: Ints, patient: Ints) -> tuple[float, float | None]:
    """Difference, and p by patient."""
    d = (named[1] == label).astype(np.int64) - (named[0] == label)
    sums = np.bincount(patient, weights=d).astype(np.int64)
    return float(d.mean()), sign_test(sums, sums.size).p


def world(gain: float, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """True and given labels, answers of both models, patients, certainty of the first."""
    patient = np.arange(N) // IMAGES
    true = rng.integers(0, K, N)
    hard = 0.7 * rng.standard_normal(N // IMAGES)[patient] + 0.5 * rng.standard_normal(N)
    wrong = rng.random(N) < 0.08
    given = np.where(wrong, others(true, rng), true)
    named = []
    for share in (0.70, 0.70 + gain):
        ease = hard + 0.5 * rng.standard_normal(N)
        right = ease < ndtri(share) * np.sqrt(0.99)
        answer = np.where(right, true, others(true, rng))
        named.append(np.where(wrong & (rng.random(N) < 1 / 3), given, answer))
    sure = -hard + rng.standard_normal(N)
    return true, given, np.array(named), patient, sure


def draw(gain: float, seed: int) -> dict[str, float]:
    """One test split, reviewed in part: differences, and what would be called."""
    rng = np.random.default_rng(seed)
    true, given, named, patient, sure = world(gain, rng)
    contradicts = named[0] != given
    certain = np.argsort(np.where(contradicts, -sure, np.inf), kind="stable")[:CERTAIN]
    stratum = np.where(contradicts, "possible/contradicts/clear", "possible/agrees/clear")
    stratum = stratum.astype(object)
    stratum[certain] = "certain"
    chance, asked = np.ones(N), np.zeros(N, dtype=bool)
    asked[certain] = True
    for name in np.unique(stratum[stratum != "certain"]):
        of = np.unique(patient[stratum == name])
        m = round(MORE / 2 / (np.sum(stratum == name) / of.size))
        drawn = np.isin(patient, rng.choice(of, m, replace=False)) & (stratum == name)
        chance[stratum == name] = m / of.size
        asked |= drawn
    force = np.where(asked, true, given)
    ids = pl.Series("image_uuid", [f"i{at:05d}" for at in range(N)])
    probs = {name: np.eye(K)[named[at]] for at, name in enumerate(("deployed", "candidate"))}
    answers = Answers(CLASSES, ids, patient, N // IMAGES, True, force, probs)
    reviews = pl.DataFrame(
        {"image_uuid": ids, "inclusion_probability": chance, "stratum": stratum, "decided": asked},
        schema_overrides={"stratum": pl.String},
    )
    before = pl.DataFrame({"image_uuid": ids, "label": [CLASSES[at] for at in given]})
    found = sampled_differences(answers, "deployed", before, reviews)
    assert found is not None
    row = found["top1"]["candidate"]
    seen = {
        what: top1(named, label, patient)
        for what, label in (("true", true), ("given", given), ("overwritten", force))
    }
    expected = TRUTH[gain]
    return {
        **{what: 100 * value for what, (value, _) in seen.items()},
        "sampled": 100 * row["estimate"],
        "half width": 50 * (row["high"] - row["low"]),
        "holds": float(row["low"] <= expected <= row["high"]),
        "sampled calls": float(not row["low"] <= 0 <= row["high"]),
        **{f"{what} calls": float((p or 1) < 0.05) for what, (_, p) in seen.items()},
    }


TRUTH: dict[float, float] = {}
"""Of many images, by gain."""


def main(draws: int) -> None:
    """Print and save the table."""
    table = []
    for gain in (0.0, 0.02):
        many = []
        for seed in range(200):
            true, _, named, patient, _ = world(gain, np.random.default_rng([seed, 9]))
            many.append(top1(named, true, patient)[0])
        TRUTH[gain] = float(np.mean(many))
        rows = [draw(gain, seed) for seed in range(draws)]
        means = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
        sd = round(float(np.std([row["sampled"] for row in rows])), 3)
        table.append({"gain": gain, "truth": round(100 * TRUTH[gain], 3), **means, "sd": sd})
    report("overwritten_differences", table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
