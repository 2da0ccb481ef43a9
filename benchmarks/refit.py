"""What a whole refit costs beyond imports: core seconds at the original run's size.

Run ``python benchmarks/refit.py``. 15,561 x 25 from parquet, two images a patient: certificates,
inversion intervals, 2,000 bootstraps, every table, picture and page, written to disk. The issue's
bound is 3 s of core time. Parts are timed by running them again, one at a time.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from result import report

from dagster_project import cli
from dagster_project.lib.probability_table import read_probabilities
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, full_report
from dagster_project.lib.tiers.policy import DEFAULT_POLICY
from dagster_project.lib.tiers.scored_rows import labels_in, score_rows
from dagster_project.lib.tiers.selection import fit_thresholds

ROWS, CLASSES, IMAGES = 15_561, 25, 2
REPEATS = 5


def write_probabilities(path: Path) -> None:
    """Probabilities whose curve lies near the original one, labels and patients included."""
    rng = np.random.default_rng(0)
    best = np.where(rng.random(ROWS) < 0.5, rng.beta(14, 1.2, ROWS), rng.beta(3.2, 2.4, ROWS))
    probs = 0.3 * best[:, None] * rng.random((ROWS, CLASSES))
    top = rng.integers(0, CLASSES, ROWS)
    probs[np.arange(ROWS), top] = best
    right = rng.random(ROWS) < 0.28 + 0.69 * best
    truth = np.where(right, top, rng.integers(0, CLASSES, ROWS))
    names = [f"class_{i:02d}" for i in range(CLASSES)]
    pl.DataFrame(
        {
            "image_uuid": [f"image_{i:06d}" for i in range(ROWS)],
            "patient_id": [f"patient_{i // IMAGES:06d}" for i in range(ROWS)],
            "label": [names[i] for i in truth],
            **{f"prob_{name}": probs[:, i].astype(np.float32) for i, name in enumerate(names)},
        }
    ).write_parquet(path)


def core_seconds(job: Callable[[], object]) -> float:
    job()  # imports, and what is loaded on first use
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        job()
        spent.append(time.process_time() - start)
    return float(np.median(spent))


def main() -> None:
    """Print and save the core seconds."""
    with tempfile.TemporaryDirectory() as folder:
        probs, out = Path(folder) / "p.parquet", Path(folder) / "out"
        write_probabilities(probs)

        def whole() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main(["refit", "--probs", str(probs), "--out", str(out)]) == 0

        table = read_probabilities([probs])
        scored = score_rows(table, labels_in(table))
        fit = fit_thresholds(scored, DEFAULT_POLICY)
        context = Context(LabelsInfo("v", provisional=True, n_reviewed=0))
        jobs: dict[str, Callable[[], object]] = {
            "whole refit": whole,
            "read and score": lambda: score_rows(read_probabilities([probs]), labels_in(table)),
            "fit, intervals, certificate": lambda: fit_thresholds(scored, DEFAULT_POLICY),
            "report": lambda: full_report(scored, fit, DEFAULT_POLICY, context),
        }
        report(
            "refit",
            [{"part": name, "core_s": round(core_seconds(job), 3)} for name, job in jobs.items()],
        )


if __name__ == "__main__":
    main()
