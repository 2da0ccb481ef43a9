"""What the assets that follow labels alone add to a refit: core seconds at the original run's size.

Run ``python benchmarks/label_versions.py``. 121,514 training and 15,561 test images, 19
questionnaire columns, 2,000 reviewed rows. A refit whose reviews change no training row publishes
no manifest; one whose reviews do writes every file of it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from result import report

from dagster_project.lib.labels import history, manifest
from dagster_project.lib.labels.training_pictures import class_counts_png

TRAIN, TEST, CLASSES, FIELDS, REVIEWED = 121_514, 15_561, 25, 19, 2_000
REPEATS = 3
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def make_world() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A dataset index and cleaned labels."""
    rng, n = np.random.default_rng(0), TRAIN + TEST
    names = np.array([f"class_{i:02d}" for i in range(CLASSES)])
    ids = [rng.bytes(16).hex() for _ in range(n)]
    index = pl.DataFrame(
        {
            "image_uuid": ids,
            "image_path": [f"images/{i}.jpg" for i in ids],
            "patient_id": [f"p{i // 2:06d}" for i in range(n)],
            "split": ["train"] * TRAIN + ["test"] * TEST,
            **{f"q{i:02d}": rng.choice(["yes", "no", "unknown"], n) for i in range(FIELDS)},
        }
    )
    given = names[rng.integers(0, CLASSES, n)]
    reviewed = rng.permutation(n) < REVIEWED
    label = np.where(reviewed & (rng.random(n) < 0.3), names[rng.integers(0, CLASSES, n)], given)
    status = np.where(~reviewed, "given", np.where(label == given, "confirmed", "corrected"))
    cleaned = pl.DataFrame(
        {
            "image_uuid": ids,
            "label": label,
            "given_label": given,
            "status": status,
            "n_votes": np.where(reviewed, 2, 0),
            "source": np.where(reviewed, "consensus", "given"),
        }
    )
    return index, cleaned


def core_seconds(job: Callable[[], object]) -> float:
    job()
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        job()
        spent.append(time.process_time() - start)
    return round(float(np.median(spent)), 3)


def main() -> None:
    """Print and save the core seconds."""
    index, cleaned = make_world()
    rows = manifest.decide_rows(index, cleaned)
    folders, versions = itertools.count(), itertools.count()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def publish(folder: Path) -> None:
            manifest.publish_manifest(folder, index, rows, {})

        def record() -> None:
            made = f"v{next(versions)}"
            version = history.LabelVersion(made, made, "m", 3, 0, REVIEWED, 3)
            at = {"confident": 0.8, "refer": 0.4, "possible_item": 0.25}
            history.record_version(root / "history.jsonl", version, cleaned, at, NOW)

        jobs: dict[str, Callable[[], object]] = {
            "decide every row": lambda: manifest.decide_rows(index, cleaned),
            "manifest, equal to the last": lambda: publish(root / "same"),
            "manifest, new": lambda: publish(root / str(next(folders))),
            "counts and picture": lambda: class_counts_png(manifest.class_counts(rows)),
            "a line of the history": record,
        }
        report("label_versions", [{"part": k, "core_s": core_seconds(v)} for k, v in jobs.items()])


if __name__ == "__main__":
    main()
