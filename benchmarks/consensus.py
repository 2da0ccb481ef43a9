"""Why labels that judge a model must not be made with it: CROWDLAB against two agreeing readers.

Run ``python benchmarks/consensus.py [DRAWS]``. A made-up test set whose truth is known: 15,561
images, 25 classes, of which 49.5 % are answered confidently, 6.9 % of those wrongly. Readers name
76 % (or 90 %) of the images rightly; their mistakes and the model's run along the same look-alikes.
The error of the confident answers is then measured against labels from the same two reviews an
image, made in different ways. Nothing here depends on how the labels in a dataset came about:
without a decision the image has no label.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
from cleanlab.multiannotator import get_label_quality_multiannotator, get_majority_vote_label
from result import report

from dagster_project.lib.labels.consensus import ConsensusPolicy, clean_labels
from dagster_project.lib.progress import bar

N, K, COVERAGE = 15_561, 25, 0.495
RIGHT = (0.76, 0.90)
LOOK_ALIKES = 3
ALIKE_SHARE = 0.85
TRUTH, ALIKE, TEMPERATURE = 4.685, 1.5, 0.65
"""Logits of the truth and of its look-alikes; they make 6.9 % of the confident answers wrong."""

Labels = npt.NDArray[np.int64]


def model(rng: np.random.Generator, truth: Labels) -> npt.NDArray[np.float64]:
    """(N, K) probabilities of a model that takes look-alikes for each other."""
    logits = rng.normal(size=(N, K)) * 1.6
    every = np.arange(N)
    logits[every, truth] += TRUTH
    for step in range(1, LOOK_ALIKES + 1):
        logits[every, (truth + step) % K] += ALIKE
    odds = np.exp(logits / TEMPERATURE)
    found: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return found


def reader(rng: np.random.Generator, truth: Labels, right: float) -> Labels:
    """(N,) what a reader says."""
    alike = (truth + rng.integers(1, LOOK_ALIKES + 1, N)) % K
    other = (truth + rng.integers(1, K, N)) % K
    wrong = np.where(rng.random(N) < ALIKE_SHARE, alike, other)
    return np.where(rng.random(N) < right, truth, wrong)


def crowdlab(votes: npt.NDArray[np.float64], probs: npt.NDArray[np.float64]) -> Labels:
    """(N,) cleanlab's consensus of votes and model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_label_quality_multiannotator(
            votes, probs, return_detailed_quality=False, return_annotator_stats=False, verbose=False
        )
    labels: Labels = found["label_quality"]["consensus_label"].to_numpy()
    return labels


def majority(votes: npt.NDArray[np.float64], probs: npt.NDArray[np.float64] | None) -> Labels:
    """(N,) cleanlab's majority vote, ties to the model's favourite, or without one to the rarer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels: Labels = get_majority_vote_label(votes, probs, verbose=False)
    return labels


def rule(votes: npt.NDArray[np.float64]) -> Labels:
    """(N,) label of `clean_labels`, -1 where undecided."""
    rows = [
        (str(i), str(r), str(int(votes[i, r])))
        for i, r in zip(*np.nonzero(~np.isnan(votes)), strict=True)
    ]
    schema = dict.fromkeys(("image_uuid", "reviewer", "label"), pl.String)
    given = pl.DataFrame({"image_uuid": [str(i) for i in range(N)]}).with_columns(
        label=pl.lit(None, pl.String)
    )
    reviews = pl.DataFrame(rows, schema=schema, orient="row")
    cleaned = clean_labels(given, reviews, ConsensusPolicy())
    return cleaned["label"].cast(pl.Int64).fill_null(-1).to_numpy()


def draw(seed: int, right: float) -> dict[str, tuple[float, float, float]]:
    """By way of labelling: error of confident answers, their undecided share, wrong labels."""
    rng = np.random.default_rng(seed)
    np.random.seed(seed)  # cleanlab's own ties
    truth = rng.integers(0, K, N)
    probs = model(rng, truth)
    said = [reader(rng, truth, right) for _ in range(3)]
    predicted, top = probs.argmax(axis=1), probs.max(axis=1)
    confident = top >= np.quantile(top, 1 - COVERAGE)
    two = np.column_stack(said[:2]).astype(np.float64)
    # a third reader looks where two do not agree, and nowhere else
    third = np.where(said[0] == said[1], np.nan, said[2])
    three = np.column_stack([two, third])
    ways: Mapping[str, Labels] = {
        "truth": truth,
        "CROWDLAB, two readers": crowdlab(two, probs),
        "majority, ties by the model": majority(two, probs),
        "majority, ties to the rarer class": majority(two, None),
        "two agreeing, two readers": rule(two),
        "CROWDLAB, a third where two differ": crowdlab(three, probs),
        "two agreeing, a third where two differ": rule(three),
    }
    return {name: _measured(label, truth, predicted, confident) for name, label in ways.items()}


def _measured(
    label: Labels, truth: Labels, predicted: Labels, confident: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    decided = label >= 0
    counted = confident & decided
    error = float((label != predicted)[counted].mean())
    wrong = float((label != truth)[counted].mean())
    return error, float((~decided)[confident].mean()), wrong


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    found: dict[tuple[float, str], list[tuple[float, float, float]]] = {}
    with bar("consensus", "draw") as show:
        for n, (right, seed) in enumerate((r, s) for r in RIGHT for s in range(draws)):
            for name, one in draw(seed, right).items():
                found.setdefault((right, name), []).append(one)
            show(n + 1, len(RIGHT) * draws)
    rows = []
    for (right, name), values in found.items():
        error, undecided, wrong = np.array(values).T * 100
        rows.append(
            {
                "readers right": f"{right:.0%}",
                "labels": name,
                "confident error, measured %": f"{error.mean():.2f} (sd {error.std():.2f})",
                "undecided %": f"{undecided.mean():.1f}",
                "labels wrong %": f"{wrong.mean():.2f}",
            }
        )
    report("consensus", rows)


if __name__ == "__main__":
    main()
