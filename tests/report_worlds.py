"""A small world of three checkpoints: one better, one that loses a class, on the same photographs.

Belongs: tables and labels that several tests of the scorecard share.
Does not: expected verdicts (each test counts its own).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.lib import tables
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.scorecard.answers import Answers, same_rows
from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints

CLASSES = ("acne", "eczema", "psoriasis")
NAMES = ("baseline", "focal", "collapsed")
N = 600
"""Three photographs a patient; 201 of acne, 201 of eczema, 198 of psoriasis."""

IDS = [f"i{i:03d}" for i in range(N)]
PATIENTS = [f"p{i // 3:03d}" for i in range(N)]
TRUE = np.arange(N) // 3 % 3


def labels() -> pl.DataFrame:
    """True labels."""
    return pl.DataFrame({"image_uuid": IDS, "label": [CLASSES[i] for i in TRUE]})


def mistaken() -> pl.DataFrame:
    """Labels before cleaning: all eczema was called acne, as ``collapsed`` calls it."""
    return labels().with_columns(pl.col("label").replace("eczema", "acne"))


def table(name: str, classes: Sequence[str] = CLASSES) -> ProbabilityTable:
    """What one checkpoint answered; of more classes than three the others are never seen."""
    rng = np.random.default_rng(7)
    right = {"baseline": 0.6, "focal": 0.95, "collapsed": 0.6}[name]
    shown = np.where(rng.random(N) < right, TRUE, (TRUE + 1) % 3)
    if name == "collapsed":
        shown = np.where(shown == 1, 0, shown)
    sure = np.where(shown == TRUE, rng.uniform(0.6, 0.95, N), rng.uniform(0.4, 0.7, N))
    probs = np.full((N, len(classes)), 0.05)
    probs[np.arange(N), shown] = sure
    frame = pl.DataFrame({"image_uuid": IDS, "patient_id": PATIENTS})
    return ProbabilityTable(tuple(classes), frame, {"probs": probs.astype(np.float32)})


def answers(names: Sequence[str] = NAMES, classes: Sequence[str] = CLASSES) -> Answers:
    """All of them on the true labels."""
    return same_rows({name: table(name, classes) for name in names}, labels())


def checkpoints(names: Sequence[str] = NAMES) -> Checkpoints:
    """Each a lever of its own; the first is the baseline."""
    return Checkpoints(
        tuple(
            Checkpoint(name, f"/models/{name}", () if i == 0 else (name,), seed=1, baseline=i == 0)
            for i, name in enumerate(names)
        )
    )


def write_table(path: Path, found: ProbabilityTable, rows: slice = slice(None)) -> Path:
    """Rows of a table as a parquet file."""
    made = pa.table(
        {
            **{name: found.frame[name][rows].to_list() for name in found.frame.columns},
            "probs": pa.array(found.views["probs"][rows].tolist(), pa.list_(pa.float32())),
        }
    )
    pq.write_table(tables.with_metadata(made, {"classes": json.dumps(found.classes)}), path)
    return path
