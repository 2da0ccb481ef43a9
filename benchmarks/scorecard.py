"""What the scorecard's core costs: core seconds at the original run's size.

Run ``python benchmarks/scorecard.py``. A baseline and 10 checkpoints, 15,561 x 25, two images a
patient: every measure with both operating points, every paired difference, 1,000 paired patient
bootstraps. The issue's bound is 10 s of core time. Beside it the practice it replaces: a loop that
copies the rows of each resample and measures them again. And whether one and many threads give the
same bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from result import report

from dagster_project.lib.scorecard.answers import Answers
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.scorecard.outcomes import averages, outcomes
from dagster_project.lib.scorecard.paired import compare
from dagster_project.lib.tiers.policy import DEFAULT_POLICY
from dagster_project.lib.tiers.thresholds import Thresholds

ROWS, CLASSES, IMAGES, CHECKPOINTS, DRAWS = 15_561, 25, 2, 10, 1000
REPEATS = 5
LOOPED = 10
"""Draws of the loop; it is quoted for ``DRAWS``."""

DEPLOYED = Thresholds(0.815, 0.444, 0.25)


def world(rows: int = ROWS) -> Answers:
    """A baseline and its variants, which agree with it on most images; classes of falling size."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, CLASSES + 1) ** 1.2
    true = rng.choice(CLASSES, size=rows, p=share / share.sum())
    shared = 1.2 * rng.normal(size=(rows, CLASSES)) + 3.2 * np.eye(CLASSES)[true] - 2.5
    probs = {}
    for name in ["deployed", *(f"checkpoint_{at:02d}" for at in range(CHECKPOINTS))]:
        logits = shared + 0.5 * rng.normal(size=shared.shape)
        probs[name] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    patient = np.arange(rows) // IMAGES
    return Answers(
        classes=tuple(f"class_{at:02d}" for at in range(CLASSES)),
        image_uuid=pl.Series("image_uuid", [f"image_{at:06d}" for at in range(rows)]),
        patient=patient,
        n_patients=int(patient.max()) + 1,
        patients_known=True,
        true=true,
        probs=probs,
    )


def loop(answers: Answers, draws: int) -> None:
    """The same bootstrap by copying rows: all configurations measured again in every resample."""
    rng = np.random.default_rng(0)
    rows = np.split(np.arange(len(answers)), np.flatnonzero(np.diff(answers.patient)) + 1)
    for _ in range(draws):
        at = np.concatenate([rows[p] for p in rng.integers(len(rows), size=len(rows))])
        for probs in answers.probs.values():
            averages(outcomes(probs[at], answers.true[at]), answers.true[at], CLASSES)


def core_seconds(job: Callable[[], object], repeats: int = REPEATS) -> float:
    job()  # imports, and what is loaded on first use
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        spent.append(time.process_time() - start)
    return float(np.median(spent))


def digest(threads: int) -> str:
    """Of the whole comparison, in a process with so many threads."""
    limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    found = subprocess.run(  # noqa: S603
        [sys.executable, __file__, "digest"],
        env={**os.environ, **limits},
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


def main() -> None:
    """Print and save the core seconds; exit 1 beyond the bound, or if threads show."""
    answers = world()
    if sys.argv[1:] == ["digest"]:
        print(hashlib.sha256(repr(compare(answers, "deployed", draws=DRAWS)).encode()).hexdigest())
        return
    jobs: dict[str, Callable[[], object]] = {
        "compare": lambda: compare(answers, "deployed", draws=DRAWS),
        "  of it without the bootstrap": lambda: compare(answers, "deployed", draws=0),
        "measures": lambda: [
            measures(answers, name, thresholds=DEPLOYED, policy=DEFAULT_POLICY)
            for name in answers.probs
        ],
        "  of it without refitting": lambda: [
            measures(answers, name, thresholds=DEPLOYED) for name in answers.probs
        ],
    }
    spent = {name: core_seconds(job) for name, job in jobs.items()}
    whole = spent["compare"] + spent["measures"]
    looped = core_seconds(lambda: loop(answers, LOOPED), 1) * DRAWS / LOOPED
    same = digest(1) == digest(os.cpu_count() or 2)
    spent |= {"both": whole, f"loop over copied rows ({LOOPED} draws, scaled)": looped}
    report("scorecard", [{"part": part, "core_s": round(s, 2)} for part, s in spent.items()])
    print(f"same bytes on one and on many threads: {same}")
    sys.exit(int(whole > 10 or not same))


if __name__ == "__main__":
    main()
