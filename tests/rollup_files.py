"""A small table with everything that can happen to a row; for tests of files and commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rollup_worlds import TAXONOMY, World

from dagster_project.lib import tables
from dagster_project.lib.probability_table import ProbabilityTable, from_arrow
from dagster_project.lib.rollup.config import parse_config
from dagster_project.lib.rollup.report import Labelled, RollupInputs, labelled_rows
from dagster_project.lib.rollup.taxonomy import Taxonomy
from dagster_project.lib.tiers.scored_rows import score_rows
from dagster_project.lib.tiers.thresholds import Thresholds

N_PATIENTS = 120
MODEL = "c" * 64
GIVEN = {"thresholds": {"class": 0.8, "family": 0.7, "group": 0.6}}
FITTED = {"thresholds": {"target": 0.3, "accuracy": {"class": 0.7, "family": 0.7, "group": 0.7}}}
TIERS = Thresholds(0.8, 0.4, 0.25)


def arrow(n_patients: int = N_PATIENTS, model: str | None = MODEL) -> tuple[pa.Table, pl.DataFrame]:
    """Two images a patient, ids not in order, one image that could not be read; and the labels."""
    shares, rows = World(images=2).draw(np.random.default_rng(7), n_patients)
    values: list[Any] = (0.9 * shares).astype(np.float32).tolist()  # sigmoids need not sum to 1
    values[3] = None
    table = pa.table(
        {
            "image_uuid": rows["image_uuid"].to_list()[::-1],
            "patient_id": rows["patient_id"].to_list()[::-1],
            "probs": pa.array(values[::-1], pa.list_(pa.float32())),
            "error": [None if row else "unreadable" for row in values[::-1]],
        }
    )
    metadata = {"classes": json.dumps(TAXONOMY.classes)}
    metadata |= {} if model is None else {"model_tree_hash": model}
    return tables.with_metadata(table, metadata), rows.select("image_uuid", "label")


def table(n_patients: int = N_PATIENTS, model: str | None = MODEL) -> ProbabilityTable:
    return from_arrow({"all": arrow(n_patients, model)[0]})


def inputs(
    config: dict[str, Any],
    *,
    taxonomy: Taxonomy = TAXONOMY,
    labels: bool = True,
    tiers: Thresholds | None = TIERS,
    model: str | None = MODEL,
) -> RollupInputs:
    read = table(model=model)
    found: Labelled | None = None
    if labels:
        found = labelled_rows(read, score_rows(read, arrow()[1]), tiers)
    return RollupInputs(read, taxonomy, "looks", parse_config(config), found)


def write_files(folder: Path) -> None:
    """probs.parquet, its halves, labels.csv, looks.csv, causes.csv, given.json, fitted.json."""
    found, labels = arrow()
    pq.write_table(found, folder / "probs.parquet")
    pq.write_table(found.slice(0, 100), folder / "p0.parquet")
    pq.write_table(found.slice(100), folder / "p1.parquet")
    labels.write_csv(folder / "labels.csv")
    tree = pl.DataFrame(TAXONOMY.lineages, schema=list(TAXONOMY.ranks), orient="row")
    tree.with_columns(clinically_validated=pl.lit("no")).write_csv(folder / "looks.csv")
    tree.drop("group").write_csv(folder / "causes.csv")
    (folder / "given.json").write_text(json.dumps(GIVEN))
    (folder / "fitted.json").write_text(json.dumps(FITTED))
