"""What partly reviewed labels do to the confident-wrong share, and what the estimators make of it.

Run ``python benchmarks/partial_review.py [DRAWS [SETTING...]]``. A made-up population whose true
share is known exactly; each draw is 15,561 images with noisy labels, some 800 of which are
reviewed: the most suspect ones beside a simple random sample of the others, a simple random sample
alone, or a stratified one. Compared: overwriting, the estimator and its interval, the certified
bound, the noise rate, the recall of the flags. At most 138 of 2,000 bounds may be below the truth
at delta 5 %.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from result import report

from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.partial_review import (
    ReviewedRows,
    at_threshold,
    estimated_curve,
    sample_of,
)
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.review_bound import certified_upper
from dagster_project.lib.progress import bar
from dagster_project.lib.review.findings import recall

N, CANDIDATES, CONTROLS = 15_561, 600, 200
COVERED, KEPT = 0.495, 0.87
THRESHOLD = 0.815
TRUE_WRONG = COVERED * 0.0604
DELTA = 0.05
AGREES = 0.34
"""Of wrong predictions, the share that the given label repeats."""
NOISE = 0.0443
"""Of right predictions, the share that the given label contradicts."""
FLAGGED = 0.7, 0.3, 0.01
"""Share flagged of wrong labels that contradict, of right ones that do, and of those that agree."""
USELESS = 0.4, 0.04
"""Of photographs, the share that cannot be used where flagged, and elsewhere."""
CONFIDENT_AGREES = 0.5
"""The part of a stratified draw that goes where only reviews can find an error."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """``images`` a patient, alike by ``likeness``; ``undecided`` share of returned reviews.

    ``returned``: share of the presentations that are back. ``by_strata``: tier x agrees x flagged.
    ``useless``: some photographs cannot be used, and reviewers say so.
    """

    name: str
    images: int = 1
    likeness: float = 0.0
    undecided: float = 0.0
    candidates: int = CANDIDATES
    controls: int = CONTROLS
    returned: float = 1.0
    by_strata: bool = False
    useless: bool = False


SETTINGS = (
    Setting("1 image a patient"),
    Setting("3 images a patient", images=3, likeness=0.5),
    Setting("1 image, a tenth undecided", undecided=0.1),
    Setting("1 image, 600 controls", controls=600),
    Setting("1 image, 2,000 controls", controls=2000),
    Setting("simple random, 800", candidates=0, controls=800),
    Setting("simple random, 800, 3 images", images=3, likeness=0.5, candidates=0, controls=800),
    Setting("strata, 200 certain", candidates=200, controls=600, by_strata=True),
    Setting(
        "strata, 200 certain, 3 images",
        images=3, likeness=0.5, candidates=200, controls=600, by_strata=True,
    ),
    Setting(
        "strata, half returned", candidates=200, controls=600, returned=0.5, by_strata=True
    ),
    Setting(
        "strata, a tenth undecided", candidates=200, controls=600, undecided=0.1, by_strata=True
    ),
    Setting("strata, none certain", candidates=0, controls=800, by_strata=True),
    Setting("strata, 2,400", candidates=200, controls=2200, by_strata=True),
    Setting(
        "strata, useless photographs", candidates=200, controls=600, by_strata=True, useless=True
    ),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """One draw of images: the truth, the labels, who was asked and what came back.

    ``wrong``: the prediction is not the truth. ``usable``: the photograph shows something.
    """

    rows: ReviewedRows
    wrong: Bools
    label_wrong: Bools
    flagged: Bools
    usable: Bools


def draw(setting: Setting, rng: np.random.Generator, n: int = N) -> ReviewedRows:
    """Images, their given labels, and the packet as its reviews came back."""
    return world(setting, rng, n).rows


def world(setting: Setting, rng: np.random.Generator, n: int = N) -> World:
    """The same with what only the maker of the world knows."""
    patient = np.arange(n) // setting.images
    quantile, luck, noise = (_alike(setting, patient, rng) for _ in range(3))
    above = quantile <= COVERED
    error = np.where(above, 0.02 + 0.0808 * quantile / COVERED, 0.1008 + quantile - COVERED)
    truly_wrong = luck < error
    given_wrong = np.where(truly_wrong, noise >= AGREES, noise < NOISE)
    # the threshold is the score at the quantile COVERED
    score = np.where(above, 1 - 0.185 * quantile / COVERED, 0.814 - quantile + COVERED)
    label_wrong = truly_wrong != given_wrong
    share = np.where(given_wrong, np.where(label_wrong, FLAGGED[0], FLAGGED[1]), FLAGGED[2])
    flagged = rng.random(n) < share
    suspect = np.argsort(-(given_wrong + score), kind="stable")[: setting.candidates]
    certain = np.zeros(n, dtype=bool)
    certain[suspect] = True
    names = _names(above, quantile, given_wrong, flagged, certain, setting)
    kinds, stratum = np.unique(names, return_inverse=True)
    asked, probability = _drawn(kinds, stratum, patient, setting, rng)
    order = rng.permutation(np.flatnonzero(asked))
    returned = np.zeros(n, dtype=bool)
    returned[order[: round(setting.returned * order.size)]] = True
    reviewed = returned & (rng.random(n) >= setting.undecided)
    rows = ReviewedRows(
        score=score,
        given_wrong=given_wrong,
        wrong=np.where(reviewed, truly_wrong, given_wrong),
        reviewed=reviewed,
        asked=asked,
        returned=returned,
        probability=probability,
        strata=tuple(kinds.tolist()),
        stratum=stratum.astype(np.int64),
        patient=patient,
        n_patients=int(patient[-1]) + 1,
    )
    usable = np.ones(n, dtype=bool)
    if setting.useless:
        usable = rng.random(n) >= np.where(flagged, *USELESS)
    return World(rows, truly_wrong, label_wrong, flagged, usable)


def without_useless(made: World) -> ReviewedRows:
    """The rows that an evaluation sees: what reviewers found useless is not there."""
    rows = made.rows
    kept = made.usable | ~(rows.reviewed & rows.asked)
    _, patient = np.unique(rows.patient[kept], return_inverse=True)
    return ReviewedRows(
        score=rows.score[kept],
        given_wrong=rows.given_wrong[kept],
        wrong=rows.wrong[kept],
        reviewed=rows.reviewed[kept],
        asked=rows.asked[kept],
        returned=rows.returned[kept],
        probability=rows.probability[kept],
        strata=rows.strata,
        stratum=rows.stratum[kept],
        patient=patient,
        n_patients=int(patient.max()) + 1,
    )


@cache
def true_wrong(setting: Setting) -> float:
    """The true W, of usable images."""
    if not setting.useless:
        return TRUE_WRONG
    made = world(setting, np.random.default_rng(1), 4_000_000)
    above = made.rows.score >= THRESHOLD
    return float((made.wrong & above & made.usable).sum() / made.usable.sum())


def _names(
    above: Bools,
    quantile: Floats,
    given_wrong: Bools,
    flagged: Bools,
    certain: Bools,
    setting: Setting,
) -> npt.NDArray[np.str_]:
    """Each row's stratum."""
    if not setting.by_strata:
        return np.where(certain, strata.CERTAIN, "rest")
    tier = np.where(above, "confident", np.where(quantile <= KEPT, "possible", "refer"))
    agrees = np.where(given_wrong, "/differs/", "/agrees/")
    names = np.char.add(np.char.add(tier, agrees), np.where(flagged, "flagged", "unflagged"))
    return np.where(certain, strata.CERTAIN, names)


def _drawn(
    kinds: npt.NDArray[np.str_],
    stratum: Ints,
    patient: Ints,
    setting: Setting,
    rng: np.random.Generator,
) -> tuple[Bools, Floats]:
    """Who is asked: all certain rows, and a simple random sample of patients in every stratum."""
    asked = np.zeros(stratum.size, dtype=bool)
    probability = np.zeros(stratum.size)
    rows = {kind: np.flatnonzero(stratum == h) for h, kind in enumerate(kinds)}
    wanted = {kind: float(setting.controls) for kind in kinds if kind == "rest"}
    if setting.by_strata:
        big = "confident/agrees/unflagged"
        others = [kind for kind in kinds if kind not in (big, strata.CERTAIN)]
        root = {kind: rows[kind].size ** 0.5 for kind in others}
        left = setting.controls * (1 - CONFIDENT_AGREES) / sum(root.values())
        wanted = {kind: left * root[kind] for kind in others}
        wanted[big] = setting.controls * CONFIDENT_AGREES
    for kind in kinds:
        here = rows[kind]
        who = np.unique(patient[here])
        n = who.size
        if kind != strata.CERTAIN:
            n = min(who.size, max(2, round(wanted[kind] * who.size / here.size)))
        chosen = np.isin(patient[here], rng.choice(who, n, replace=False))
        asked[here[chosen]] = True
        probability[here] = n / who.size
    return asked, probability


def _alike(setting: Setting, patient: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Uniform numbers; an image has its patient's with probability ``likeness``."""
    own = rng.random(patient.size)
    shared = rng.random(int(patient[-1]) + 1)[patient]
    return np.where(rng.random(patient.size) < setting.likeness, shared, own)


def measure(setting: Setting, draws: int, seed: int, n: int = N) -> Mapping[str, float]:
    """Means, coverage and violations over seeded draws."""
    found = []
    with bar(setting.name, "draw") as progress:
        for number in range(draws):
            found.append(_measured(setting, np.random.default_rng([seed, number]), n))
            progress(number + 1, draws)
    table = {key: np.array([row[key] for row in found], dtype=float) for key in found[0]}
    means = {key: float(values.mean()) for key, values in table.items()}
    spread = float(table["estimate"].std(ddof=1))
    return {**means, "sd": spread, "violations": float(table["violated"].sum())}


def _measured(setting: Setting, rng: np.random.Generator, n: int) -> dict[str, float]:
    made = world(setting, rng, n)
    rows = without_useless(made)
    truth = true_wrong(setting)
    curve = estimated_curve(rows)
    upper = certified_upper(rows, THRESHOLD, DELTA, max_images=setting.images)
    assert curve is not None
    assert upper is not None
    at = at_threshold(curve, THRESHOLD)
    assert at is not None
    above = made.rows.score >= THRESHOLD
    true_top1 = 1 - TRUE_WRONG / COVERED
    if setting.useless:
        true_top1 = 1 - truth / float(above[made.usable].mean())
    return {
        "given": at["given"],
        "overwritten": at["overwritten"],
        "estimate": at["estimate"],
        "se": at["se"],
        "covered": at["low"] <= truth <= at["high"],
        "width": at["high"] - at["low"],
        "wald": abs(at["estimate"] - truth) <= Z95 * at["se"],
        "top1_covered": at["top1_low"] <= true_top1 <= at["top1_high"],
        "upper": upper,
        "violated": upper < truth,
        **shares(made, rng),
    }


def shares(made: World, rng: np.random.Generator) -> dict[str, float]:
    """Noise rate, recall, errors that agree with confidence, and the rate of a class of an eighth.

    The class is a random eighth of the images: a domain that cuts every stratum.
    """
    rows, sample = made.rows, sample_of(made.rows)
    assert sample is not None
    # what is known of usability is what the answers say
    usable = made.usable | ~(rows.reviewed & rows.asked)
    seen = rows.reviewed & made.label_wrong & made.usable
    wrong = made.label_wrong & made.usable
    everyone = np.ones(len(rows), dtype=bool)
    domains = {
        "noise": everyone,
        "hidden": ~rows.given_wrong & (rows.score >= THRESHOLD),
        "class": rng.random(len(rows)) < 1 / 8,
    }
    found: dict[str, float] = {}
    for name, domain in domains.items():
        share = strata.share(sample, seen, domain & usable)
        low, high = share.ci95 or (0.0, 1.0)
        truth = float(wrong[domain & made.usable].mean())
        found[f"{name}_bias"] = (share.estimate or 0.0) - truth
        found[f"{name}_covered"] = low <= truth <= high
        found[f"{name}_width"] = high - low
        reach = Z95 * (share.se or 0.0)
        found[f"{name}_wald"] = abs((share.estimate or 0.0) - truth) <= reach
    flags = recall(*(strata.share(sample, seen, x) for x in (made.flagged, ~made.flagged)))
    low, high = flags["ci95"] or (0.0, 1.0)
    truth = float(made.flagged[wrong].mean())
    return {
        **found,
        "recall_bias": (flags["estimate"] or 0.0) - truth,
        "recall_covered": low <= truth <= high,
        "recall_width": high - low,
    }


def main() -> None:
    """Print and save one row a setting."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    wanted = {int(number) for number in sys.argv[2:]} or set(range(len(SETTINGS)))
    rows = []
    for number in sorted(wanted):
        setting = SETTINGS[number]
        m = measure(setting, draws, seed=number)
        rows.append(
            {
                "setting": setting.name,
                "draws": draws,
                "true W": f"{true_wrong(setting):.2%}",
                "given": f"{m['given']:.2%}",
                "overwritten": f"{m['overwritten']:.2%}",
                "estimator": f"{m['estimate']:.3%}",
                "sd": f"{m['sd']:.3%}",
                "mean se": f"{m['se']:.3%}",
                "interval covers": f"{m['covered']:.1%}",
                "mean width": f"{m['width']:.2%}",
                "est. +- 1.96 se covers": f"{m['wald']:.1%}",
                "top-1 covers": f"{m['top1_covered']:.1%}",
                "mean bound": f"{m['upper']:.2%}",
                "violations": int(m["violations"]),
                **{
                    f"{name} {what}": f"{m[f'{name}_{key}']:.{digits}%}"
                    for name in ("noise", "hidden", "class", "recall")
                    for what, key, digits in (
                        ("bias", "bias", 2),
                        ("covers", "covered", 1),
                        ("width", "width", 1),
                    )
                },
                **{
                    f"{name} +- 1.96 se covers": f"{m[f'{name}_wald']:.1%}"
                    for name in ("noise", "hidden", "class")
                },
            }
        )
    report("partial_review", rows)


if __name__ == "__main__":
    main()
