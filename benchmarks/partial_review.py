"""What partly reviewed labels do to the confident-wrong share, and what the estimator makes of it.

Run ``python benchmarks/partial_review.py [DRAWS]``. A made-up population whose true share is known
exactly; each draw is 15,561 images with noisy labels, the 600 most suspect of which are reviewed
beside 200 random others. Compared: overwriting, the estimator and its interval, the certified
bound. At most 138 of 2,000 bounds may be below the truth at delta 5 %.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from result import report

from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
)
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.review_bound import certified_upper

N, CANDIDATES, CONTROLS = 15_561, 600, 200
COVERED = 0.495
THRESHOLD = 0.815
TRUE_WRONG = COVERED * 0.0604
DELTA = 0.05
AGREES = 0.34
"""Of wrong predictions, the share that the given label repeats."""
NOISE = 0.0443
"""Of right predictions, the share that the given label contradicts."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """``images`` a patient, alike by ``likeness``; ``undecided`` share of reviews."""

    name: str
    images: int = 1
    likeness: float = 0.0
    undecided: float = 0.0
    candidates: int = CANDIDATES
    controls: int = CONTROLS


SETTINGS = (
    Setting("1 image a patient"),
    Setting("3 images a patient", images=3, likeness=0.5),
    Setting("1 image, a tenth undecided", undecided=0.1),
    Setting("1 image, 600 controls", controls=600),
    Setting("1 image, 2,000 controls", controls=2000),
)


def draw(setting: Setting, rng: np.random.Generator, n: int = N) -> ReviewedRows:
    """Images, their given labels, and the packet as its reviews came back."""
    patient = np.arange(n) // setting.images
    quantile, luck, noise = (_alike(setting, patient, rng) for _ in range(3))
    above = quantile <= COVERED
    error = np.where(above, 0.02 + 0.0808 * quantile / COVERED, 0.1008 + quantile - COVERED)
    truly_wrong = luck < error
    given_wrong = np.where(truly_wrong, noise >= AGREES, noise < NOISE)
    # the threshold is the score at the quantile COVERED
    score = np.where(above, 1 - 0.185 * quantile / COVERED, 0.814 - quantile + COVERED)
    suspect = np.argsort(-(given_wrong + score), kind="stable")[: setting.candidates]
    asked = np.zeros(n, dtype=bool)
    asked[suspect] = True
    others = np.flatnonzero(~asked)
    probability = np.where(asked, 1.0, setting.controls / others.size)
    asked[rng.choice(others, setting.controls, replace=False)] = True
    reviewed = asked & (rng.random(n) >= setting.undecided)
    return ReviewedRows(
        score=score,
        given_wrong=given_wrong,
        wrong=np.where(reviewed, truly_wrong, given_wrong),
        reviewed=reviewed,
        asked=asked,
        probability=probability,
        patient=patient,
        n_patients=int(patient[-1]) + 1,
    )


def _alike(setting: Setting, patient: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Uniform numbers; an image has its patient's with probability ``likeness``."""
    own = rng.random(patient.size)
    shared = rng.random(int(patient[-1]) + 1)[patient]
    return np.where(rng.random(patient.size) < setting.likeness, shared, own)


def measure(setting: Setting, draws: int, seed: int, n: int = N) -> Mapping[str, float]:
    """Means, coverage and violations over seeded draws."""
    found = []
    for number in range(draws):
        rows = draw(setting, np.random.default_rng([seed, number]), n)
        curve = estimated_curve(rows)
        at = None if curve is None else at_threshold(curve, THRESHOLD)
        upper = certified_upper(rows, THRESHOLD, DELTA, max_images=setting.images)
        assert at is not None
        assert upper is not None
        true_top1 = 1 - TRUE_WRONG / COVERED
        found.append(
            (
                at["given"],
                at["overwritten"],
                at["estimate"],
                at["se"],
                at["low"] <= TRUE_WRONG <= at["high"],
                at["high"] - at["low"],
                abs(at["estimate"] - TRUE_WRONG) <= Z95 * at["se"],
                at["top1_low"] <= true_top1 <= at["top1_high"],
                upper,
                upper < TRUE_WRONG,
            )
        )
    table = np.array(found, dtype=float)
    names = (
        "given", "overwritten", "estimate", "se", "covered", "width", "wald", "top1_covered",
        "upper",
    )  # fmt: skip
    means = dict(zip(names, table[:, :-1].mean(axis=0).tolist(), strict=True))
    return {**means, "sd": float(table[:, 2].std(ddof=1)), "violations": float(table[:, -1].sum())}


def main() -> None:
    """Print and save one row a setting."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rows = []
    for number, setting in enumerate(SETTINGS):
        m = measure(setting, draws, seed=number)
        rows.append(
            {
                "setting": setting.name,
                "draws": draws,
                "true W": f"{TRUE_WRONG:.2%}",
                "given": f"{m['given']:.2%}",
                "overwritten": f"{m['overwritten']:.2%}",
                "estimator": f"{m['estimate']:.2%}",
                "sd": f"{m['sd']:.2%}",
                "mean se": f"{m['se']:.2%}",
                "interval covers": f"{m['covered']:.1%}",
                "mean width": f"{m['width']:.2%}",
                "est. +- 1.96 se covers": f"{m['wald']:.1%}",
                "top-1 covers": f"{m['top1_covered']:.1%}",
                "mean bound": f"{m['upper']:.2%}",
                "violations": int(m["violations"]),
            }
        )
    report("partial_review", rows)


if __name__ == "__main__":
    main()
