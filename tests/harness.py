"""A small dataset, stand-in dumps and one real Dagster instance, without torch or images.

The dumps are stand-ins so that a sensor case costs tenths of a second; everything after them (label
assets, fit, checks, release, sensor) is the real thing. The real dump is driven end to end in
``tests/integration``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa

from dagster_project import walkthrough
from dagster_project.definitions import build_definitions
from dagster_project.defs.parquet_io import ParquetIOManager, asset_key, read_stored
from dagster_project.defs.probabilities import DUMPS, shard_keys
from dagster_project.lib import files, tables
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

CLASSES = ("acne", "eczema", "psoriasis", "tinea")
N_PATIENTS = 60
MODEL_A, MODEL_B = "a" * 64, "b" * 64


def write_dataset(folder: Path) -> None:
    """Two images a patient; even patients are test."""
    rng = np.random.default_rng(1)
    rows, splits = [], []
    for patient in range(N_PATIENTS):
        splits.append((f"p{patient:03d}", "test" if patient % 2 == 0 else "train"))
        for shot in range(2):
            uuid = f"img-{patient:03d}-{shot}"
            label = CLASSES[rng.integers(len(CLASSES))]
            rows.append((uuid, f"images/{uuid}.jpg", f"p{patient:03d}", label, "yes"))
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / "manifest.csv", ("image_uuid", "image_path", "patient_id", "label", "itch"), rows
    )
    _write(folder / "splits.csv", ("patient_id", "split"), splits)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


@dataclass
class Harness:
    """What a person and the daemon would do, one method each."""

    instance: dg.DagsterInstance
    settings: Settings
    definitions: dg.Definitions

    @property
    def stage(self) -> walkthrough.Stage:
        """What the walk-through drives, too."""
        return walkthrough.Stage(self.definitions, self.instance, self.settings)

    def publish_model(self, tree_hash: str = MODEL_A) -> None:
        """A published artifact, as far as the stages after the dump can see it."""
        folder = self.settings.models_dir / tree_hash
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
        files.point(self.settings.models_dir / "current", tree_hash)

    def read_dataset(self) -> None:
        """Run the dataset job."""
        assert self.run_job("dataset_job").success

    def dump(
        self,
        split: str = "test",
        keys: Sequence[str] | None = None,
        model: str = MODEL_A,
        n_shards: int | None = None,
        checkpoint: str | None = None,
        unscored: int = 0,
    ) -> None:
        """Materialize shards of a split with made-up probabilities, by runs of a stand-in asset.

        ``checkpoint`` is one of the list; without, it is the model in service. ``unscored``: what
        each shard says of images without probabilities.
        """
        settings = self.settings.model_copy(
            update={"num_shards": n_shards or self.settings.num_shards}
        )
        asset = _stand_in(split, settings, model, checkpoint, unscored)
        for key in keys if keys is not None else shard_keys(settings):
            dg.materialize(
                [asset, *_sources()],
                selection=[asset],
                partition_key=key,
                instance=self.instance,
                resources={"io_manager": ParquetIOManager(settings.tables_dir)},
            )

    def drop(self, name: str, rows: Sequence[tuple[str, str, str]]) -> Path:
        """Put a review file of (image, reviewer, label) into the drop."""
        folder = Path(self.settings.labels_uri)
        folder.mkdir(exist_ok=True)
        _write(folder / name, ("image_uuid", "reviewer", "label"), rows)
        return folder / name

    def tick(self) -> dg.RunRequest | str:
        """One evaluation of the label sensor: a run request or the reason to skip."""
        return walkthrough.tick(self.stage)

    def request(self) -> dg.RunRequest:
        """A tick that must ask for a run."""
        request = self.tick()
        assert isinstance(request, dg.RunRequest), request
        return request

    def run_request(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Execute a run request as the daemon would."""
        return walkthrough.run_request(self.stage, request)

    def refit(self) -> dg.ExecuteInProcessResult:
        """Tick, and run what it asks for."""
        return _went_through(self.run_request(self.request()))

    def fit(self, *also: str) -> dg.ExecuteInProcessResult:
        """Tick, and run of what it asks for what a later tick reads, and ``also``.

        A quarter of the time of :meth:`refit`: for tests of what starts a run, not of what it does.
        """
        return _went_through(self.run_request(briefly(self.request(), *also)))

    def run_job(
        self, name: str, assets: Sequence[str] | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or some assets of it, in this process."""
        job = self.definitions.resolve_job_def(name)
        if assets is not None:
            job = job.get_subset(asset_selection={asset_key(a) for a in assets})
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **options)

    def count(self, asset: str) -> int:
        """Materializations of an asset, all partitions together."""
        return len(self.instance.fetch_materializations(asset_key(asset), limit=1000).records)

    def metadata(self, asset: str) -> dict[str, Any]:
        """Metadata values of the newest materialization."""
        event = self.instance.get_latest_materialization_event(asset_key(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {k: v.value for k, v in event.asset_materialization.metadata.items()}

    def stored(self, asset: str) -> StoredTable:
        """An asset's table."""
        return read_stored(self.settings, asset)

    def test_images(self) -> list[str]:
        """Ids of the test split."""
        return self.stored("dataset_index").frame.filter(split="test")["image_uuid"].to_list()


FIT = ("expert_reviews", "cleaned_labels", "scored_test_rows", "tier_thresholds")
"""Of a refit, from the snapshot of the drop to the fit that is compared with it."""


def briefly(
    request: dg.RunRequest, *also: str, checks: Sequence[dg.AssetCheckKey] = ()
) -> dg.RunRequest:
    """The same request for the fit alone, and ``also``; of its checks, ``checks``."""
    wanted = {asset_key(name) for name in (*FIT, *also)}
    assert wanted <= set(request.asset_selection or ()), "more than was asked for"
    assert set(checks) <= set(request.asset_check_keys or ()), "more than was asked for"
    return request.with_replaced_attrs(
        asset_selection=sorted(wanted), asset_check_keys=list(checks)
    )


def _went_through(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    failed = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    assert result.success, failed
    return result


CHECKPOINTS = """
[[checkpoint]]
name = "focal"
model = "focal_model"
changed = ["focal_loss"]
seed = 1

[[checkpoint]]
name = "again"
model = "again_model"
seed = 2
"""


def with_checkpoints(made: Harness, text: str = CHECKPOINTS) -> Harness:
    """The same world with a list of checkpoints."""
    path = made.settings.store.parent / "checkpoints.toml"
    path.write_text(text)
    settings = made.settings.model_copy(update={"checkpoints": path})
    return Harness(made.instance, settings, build_definitions(settings))


def _sources() -> list[dg.AssetSpec]:
    return [dg.AssetSpec("model_artifact"), dg.AssetSpec("dataset_index")]


def _stand_in(
    split: str, settings: Settings, model: str, checkpoint: str | None, unscored: int
) -> dg.AssetsDefinition:
    """An asset with the key, partitions, table and metadata of the real dump."""

    def compute(context: dg.AssetExecutionContext) -> dg.MaterializeResult[StoredTable]:
        index = StoredTable(tables.read_arrow(settings.tables_dir / "dataset_index.parquet"))
        rows = index.frame.filter(split=split).gather_every(
            settings.num_shards, int(context.partition_key)
        )
        return dg.MaterializeResult(
            value=StoredTable(probabilities(rows, model, settings.num_shards, checkpoint or "")),
            data_version=dg.DataVersion(f"{model}-{split}-{context.partition_key}"),
            metadata={
                "model_tree_hash": model,
                "dataset_version": index.version,
                "n_shards": settings.num_shards,
                "rows_without_probabilities": unscored,
            },
        )

    compute.__annotations__["context"] = dg.AssetExecutionContext
    return dg.asset(
        key=[*([checkpoint] if checkpoint else []), DUMPS[split]],
        partitions_def=dg.StaticPartitionsDefinition(shard_keys(settings)),
        deps=["model_artifact", "dataset_index"],
    )(compute)


def probabilities(rows: pl.DataFrame, model: str, n_shards: int, checkpoint: str = "") -> pa.Table:
    """Probabilities that depend on image id and checkpoint alone, in the contract's shape."""
    values = []
    for uuid in rows["image_uuid"]:
        rng = np.random.default_rng(list(f"{uuid}{checkpoint}".encode()))
        row = rng.uniform(0.02, 0.3, len(CLASSES))
        row[rng.integers(len(CLASSES))] = rng.uniform(0.3, 0.99)
        values.append(row.astype(np.float32))
    table = pa.table(
        {
            "image_uuid": rows["image_uuid"].to_list(),
            "patient_id": rows["patient_id"].to_list(),
            "probs": pa.array([v.tolist() for v in values], pa.list_(pa.float32(), len(CLASSES))),
            "probs_production_plain": pa.array(
                [v.tolist()[::-1] for v in values], pa.list_(pa.float32(), len(CLASSES))
            ),
            "error": pa.nulls(rows.height, pa.string()),
        }
    )
    metadata = {
        "classes": json.dumps(CLASSES),
        "model_tree_hash": model,
        "n_shards": str(n_shards),
        "tta": "true",
        "dtype": "float32",
    }
    return tables.with_metadata(table, metadata)
