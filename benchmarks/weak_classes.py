"""Weak classes: does the reading blame the right one, and does the interval of F1 cover it.

Run ``python benchmarks/weak_classes.py`` (2 minutes). Reading: worlds of twelve classes in which
two were given a quarter of wrong labels, two are hard for the model, and two are what the hard ones
are taken for; everything else has 5 % of wrong labels. Beside it what the issue rate alone would
say of the weak ones (its lower end above the overall rate). Coverage: patients of one to four
images, of whom some are hard throughout.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from result import report

from dagster_project.lib.mislabels.candidates import find_candidates
from dagster_project.lib.mislabels.weak_classes import weak_classes
from dagster_project.lib.probability_table import ProbabilityTable

K, ROWS, WORLDS, DRAWS = 12, 6000, 40, 500
KINDS = {0: "wrong labels", 1: "wrong labels", 2: "hard", 3: "hard", 6: "taken for", 7: "taken for"}
NAMES = tuple(f"class {k:02d}" for k in range(K))

Ints = npt.NDArray[np.int64]


def world(seed: int) -> tuple[ProbabilityTable, pl.DataFrame]:
    """Probabilities, and labels as somebody gave them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, ROWS)
    hard = np.isin(truth, (2, 3))
    logits = rng.normal(0, 1, (ROWS, K))
    logits[np.arange(ROWS), truth] += np.where(hard, 2.2, 5.0)
    logits[hard, truth[hard] + 4] += 2.2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = truth.copy()
    flip = (rng.random(ROWS) < 0.05) & (truth > 1)
    given[flip] = rng.integers(0, K, flip.sum())
    for label in (0, 1):
        others = np.flatnonzero((given > 1) & (truth > 1))
        given[rng.choice(others, (truth == label).sum() // 4, replace=False)] = label
    frame = pl.DataFrame(
        {
            "image_uuid": [f"i{n:05d}" for n in range(ROWS)],
            "patient_id": [f"p{n // 2:05d}" for n in range(ROWS)],
        }
    )
    labels = frame.select("image_uuid", label=pl.Series(NAMES).gather(given))
    return ProbabilityTable(NAMES, frame, {"probs": probs}), labels


def readings() -> list[dict[str, Any]]:
    """How often a class of each kind is read as what, and what the issue rate alone would say."""
    read: dict[str, Counter[str]] = {}
    alone: dict[str, Counter[str]] = {}
    for seed in range(WORLDS):
        found = find_candidates(*world(seed), in_sample=False)
        overall = float(found.summary["issue_rate"] or 0)
        for at, row in enumerate(weak_classes(found.rows, found.rows, NAMES).iter_rows(named=True)):
            kind = KINDS.get(at, "sound")
            read.setdefault(kind, Counter())[row["reading"]] += 1
            weak = row["reading"] in ("labels first", "model first")
            blamed = weak and row["issue_rate_low"] > overall
            alone.setdefault(kind, Counter())["labels" if blamed else "other"] += 1
    return [
        {
            "kind": kind,
            **{name: counts[name] for name in ("labels first", "model first", "sound", "too few")},
            "issue rate alone blames labels": alone[kind]["labels"],
        }
        for kind, counts in sorted(read.items())
    ]


def judged(n_patients: int, rng: np.random.Generator) -> pl.DataFrame:
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 5, n_patients))
    main = rng.integers(0, 4, n_patients)[patient]
    given = np.where(rng.random(patient.size) < 0.85, main, rng.integers(0, 4, patient.size))
    hard = (rng.random(n_patients) < 0.3)[patient]
    right = rng.random(patient.size) < np.where(hard, 0.35, 0.92)
    predicted = np.where(right, given, (given + rng.integers(1, 4, patient.size)) % 4)
    names = pl.Series(NAMES)
    return pl.DataFrame(
        {
            "image_uuid": [f"i{n}" for n in range(patient.size)],
            "patient_id": [f"p{n}" for n in patient],
            "given_label": names.gather(given),
            "predicted_label": names.gather(predicted),
            "flagged": np.zeros(patient.size, dtype=bool),
        }
    )


def coverage() -> list[dict[str, Any]]:
    """Share of draws whose 95 % interval holds F1 of all patients there are."""
    rng = np.random.default_rng(0)
    everyone = judged(200_000, rng)
    true = weak_classes(everyone, everyone, NAMES[:4])["f1"].to_numpy()
    found = []
    for n_patients in (40, 120, 400):
        held = []
        for _ in range(DRAWS):
            rows = judged(n_patients, rng)
            by_image = rows.with_columns(patient_id=pl.lit(None, pl.String))
            for kind, drawn in (("by patient", rows), ("by image", by_image)):
                table = weak_classes(drawn, drawn, NAMES[:4])
                low, high = (table[name].to_numpy() for name in ("f1_low", "f1_high"))
                held.append((kind, float(((low <= true) & (true <= high)).mean())))
        share = {
            k: np.mean([h for kind, h in held if kind == k]) for k in ("by patient", "by image")
        }
        found.append({"patients": n_patients, **{k: round(float(v), 3) for k, v in share.items()}})
    return found


def main() -> None:
    """Print and save both."""
    report("weak_classes", readings())
    report("weak_classes_coverage", coverage())


if __name__ == "__main__":
    main()
