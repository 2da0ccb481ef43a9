"""The real chain on the small demo world: world, sync, dump, mislabels, fit, reviews, refit.

Everything is real here but the size: torch runs, cleanlab runs, a Dagster instance records. What
was computed again is read from the event log.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import quick

from dagster_project import walkthrough
from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.label_sensor import fitted_basis
from dagster_project.defs.parquet_io import asset_key
from dagster_project.lib import tables
from dagster_project.lib.demo.candidates import CANDIDATES
from dagster_project.lib.demo.population import SMALL
from dagster_project.lib.inference import dump
from dagster_project.lib.sums import verify
from dagster_project.settings import load_settings, use_settings_of
from dagster_project.walkthrough import run_demo

pytestmark = pytest.mark.slow

TOLD = "told.txt"
"""Beside the demo: what it printed."""


@pytest.fixture(scope="module", autouse=True)
def quick_events() -> Iterator[None]:
    """The events are real; only what Dagster does again for each of them is done once."""
    with pytest.MonkeyPatch.context() as patch:
        quick.events(patch)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished demo of the small world, with two shards a split; one for all test processes.

    The environment names a production drop and store, which a demo must never touch.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "chain"
    shared.mkdir(exist_ok=True)
    folder, done = shared / "demo", shared / "done"
    before = dict(os.environ)
    os.environ["NUM_SHARDS"] = "2"
    os.environ["LABELS_URI"] = str(shared / "production_drop")
    os.environ["TIER_REFIT_STORE"] = str(shared / "production_store")
    os.environ.pop("DAGSTER_HOME", None)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second waits for it and finds it made
        if not done.exists():
            with (shared / TOLD).open("w", encoding="utf-8") as told, redirect_stdout(told):
                run_demo(folder, SMALL)
            done.touch()
    use_settings_of(folder)
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def instance(root: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(root / "dagster_home")) as opened:
        yield opened


def materializations(instance: dg.DagsterInstance, asset: str) -> list[dg.EventLogRecord]:
    return list(instance.fetch_materializations(asset_key(asset), limit=100).records)


def test_a_demo_touches_nothing_outside_its_root(root: Path) -> None:
    assert not (root.parent / "production_drop").exists()
    assert not (root.parent / "production_store").exists()


def test_every_shard_was_dumped_once_and_thresholds_were_fitted_twice(
    instance: dg.DagsterInstance,
) -> None:
    for asset in ("test_probabilities", "train_probabilities"):
        keys = [record.partition_key for record in materializations(instance, asset)]
        assert sorted(map(str, keys)) == ["00", "01"]
    assert len(materializations(instance, "model_artifact")) == 1
    assert len(materializations(instance, "review_packet")) == 1
    assert len(materializations(instance, "tier_thresholds")) == 2


def test_every_candidate_was_dumped_once_and_the_scorecard_followed_the_labels(
    instance: dg.DagsterInstance, root: Path
) -> None:
    for recipe in CANDIDATES:
        dumped = materializations(instance, f"{recipe.name}/test_probabilities")
        assert sorted(str(record.partition_key) for record in dumped) == ["00", "01"]
        assert len(materializations(instance, f"{recipe.name}/model_artifact")) == 1
    cards, fits = (
        [record.asset_materialization for record in materializations(instance, asset)]
        for asset in ("checkpoint_scorecard", "tier_thresholds")
    )
    versions = [[m.metadata["label_version"].value for m in made if m] for made in (cards, fits)]
    assert versions[0] == versions[1]
    assert len(set(versions[0])) == 2
    table = pl.read_csv(root / "store/report/scorecard/scorecard.csv")
    assert table["config"].to_list() == ["deployed", *(recipe.name for recipe in CANDIDATES)]
    assert table["verdict"].is_null().to_list() == [True, False, False, False]
    models = [pl.read_parquet(p, columns=["probs"])["probs"] for p in dumps_of_shard(root, "00")]
    assert len({str(model.to_list()) for model in models}) == 4


def dumps_of_shard(root: Path, key: str) -> list[Path]:
    """The test shard of the model in service and of every checkpoint."""
    return sorted((root / "store/tables").rglob(f"test_probabilities/{key}.parquet"))


def test_a_shard_says_how_it_went_and_on_what(instance: dg.DagsterInstance) -> None:
    for record in materializations(instance, "test_probabilities"):
        assert record.asset_materialization is not None
        facts = {k: v.value for k, v in record.asset_materialization.metadata.items()}
        assert facts["rows_computed"] == facts["dagster/partition_row_count"]
        assert float(str(facts["rows_per_second"])) > 0
        assert 0 < float(str(facts["model_share"])) <= 1
        assert float(str(facts["peak_memory_gb"])) > 0.05
        assert facts["dtype"] == "float32"
        assert facts["encoder_passes"] == 2
        assert facts["device_name"]


def test_the_second_fit_stands_on_reviewed_labels(instance: dg.DagsterInstance, root: Path) -> None:
    new, old = materializations(instance, "tier_thresholds")
    versions = [
        str(r.asset_materialization.metadata["label_version"].value)
        for r in (old, new)
        if r.asset_materialization
    ]
    assert versions[0] != versions[1]
    basis = fitted_basis(instance)
    assert basis is not None
    assert basis.label_version == versions[1]
    tags = new.asset_materialization.tags if new.asset_materialization else None
    assert "dagster/input_data_version/expert_reviews" in (tags or {})
    report = json.loads((root / "store/report/tier_reports.json").read_text())
    assert report["labels"]["n_reviewed"] > 0


def test_the_refit_is_compared_with_what_was_deployed_after_the_first_fit(root: Path) -> None:
    report = json.loads((root / "store/report/tier_reports.json").read_text())
    deployed = report["deployed"]["thresholds"]
    assert (
        f"TIER_CONFIDENT_THRESHOLD={deployed['confident']}" in (root / "settings.env").read_text()
    )
    assert len(report["deployed"]["crossings"]) == 6


def test_the_release_verifies_and_names_the_model_that_was_dumped(root: Path) -> None:
    release = root / "store" / "releases" / "latest"
    assert verify(release) == []
    released = json.loads((release / "thresholds.json").read_text())
    shard = tables.read_arrow(root / "store/tables/test_probabilities/00.parquet")
    assert released["model_tree_hash"] == tables.metadata_of(shard)["model_tree_hash"]
    assert released["tta"] is True


def test_a_dump_has_a_row_for_every_image_with_an_error_where_it_cannot_be_read(root: Path) -> None:
    shards = sorted((root / "store/tables").glob("t*_probabilities/*.parquet"))
    dumped = pl.concat([pl.read_parquet(p, columns=["image_uuid", "error"]) for p in shards])
    truth = tables.read_table(root / "truth/truth.parquet", ["image_uuid", "is_unreadable"])
    assert sorted(dumped["image_uuid"]) == sorted(truth["image_uuid"])
    broken = truth.filter("is_unreadable")["image_uuid"].to_list()
    assert sorted(dumped.drop_nulls("error")["image_uuid"]) == sorted(broken)


def test_no_dump_carries_a_label(root: Path) -> None:
    for path in (root / "store/tables").glob("t*_probabilities/*.parquet"):
        assert not {"label", "true_idx"} & set(pl.read_parquet_schema(path))


def test_no_patient_or_image_id_is_in_any_event(instance: dg.DagsterInstance, root: Path) -> None:
    """Event metadata is shown to whoever can open the UI."""
    manifest = tables.read_table(root / "dataset/manifest.csv", ["image_uuid", "patient_id"])
    ids = [*manifest["image_uuid"], *manifest["patient_id"].unique()]
    graph = build_definitions(load_settings()).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        for record in instance.fetch_materializations(key, limit=20).records:
            assert record.asset_materialization is not None
            text = str({k: v.value for k, v in record.asset_materialization.metadata.items()})
            assert not [i for i in ids if i in text], key


def test_every_stage_shows_a_picture_and_its_scalars(instance: dg.DagsterInstance) -> None:
    shown = {
        "test_probabilities": "confidence",
        "mislabel_candidates": "test_montage",
        "coverage_curve": "coverage_curve",
        "tier_thresholds": "tier_thresholds",
        "refer_candidates": "refer_candidates",
        "possible_item_sweep": "possible_item_sweep",
        "tier_report": "confidence_by_tier",
        "evaluation_summary": "tier_thresholds",
    }
    for asset, picture in shown.items():
        event = materializations(instance, asset)[0].asset_materialization
        assert event is not None
        assert "data:image/png;base64" in str(event.metadata[picture].value), asset
        assert "dagster/row_count" in event.metadata, asset
        assert "dagster/column_schema" in event.metadata, asset
        assert "dagster/uri" in event.metadata, asset
    thresholds = materializations(instance, "tier_thresholds")[0].asset_materialization
    assert thresholds is not None
    for name in ("confident_threshold", "refer_threshold", "coverage", "covered_top1"):
        assert isinstance(thresholds.metadata[name].value, float)


def test_the_demo_ends_with_what_came_of_it(root: Path) -> None:
    out = (root.parent / TOLD).read_text(encoding="utf-8")
    assert "22 of 42 assets recomputed, 0 shards dumped again" in out
    assert "taxonomy by_morphology: NOT CLINICALLY VALIDATED" in out
    assert "threshold confident" in out
    told = out.partition("checkpoint, by reviewed labels")[2].splitlines()[1:5]
    assert [line.split()[0] for line in told] == ["deployed", *(r.name for r in CANDIDATES)]
    assert all(line.split()[-1] in ("KEEP", "NEUTRAL", "REJECT") for line in told[1:])
    truth = pl.read_parquet(root / "truth" / "truth.parquet")
    garbage, copies = truth["is_garbage"].sum(), truth["near_duplicate_of"].count()
    assert f"{garbage} of {garbage} garbage images called no skin, and 0 others" in out
    assert f" of {copies} cropped copies found, and 0 other pairs" in out


class AllDumpedError(Exception):
    """Ends a demo where it would start to fit."""


def test_a_second_demo_does_not_hang_on_a_slot_that_a_killed_one_held(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a copy: it makes the instance anew. Fits take no slot, so it ends after the dumps."""
    again = tmp_path / "demo"
    shutil.copytree(root, again, symlinks=True)
    with dg.DagsterInstance.from_config(str(again / "dagster_home")) as instance:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("gpu")
        claim = storage.claim_concurrency_slot("gpu", "a-run-that-was-killed", "step")
        assert claim.is_claimed
    real = walkthrough._run

    def run_until_fit(stage: walkthrough.Stage, job: str, **options: Any) -> str:
        if job == jobs.REFIT_JOB:
            raise AllDumpedError
        return real(stage, job, **options)

    monkeypatch.setattr(walkthrough, "_run", run_until_fit)
    os.environ["NUM_SHARDS"] = "1"
    try:
        with pytest.raises(AllDumpedError):
            run_demo(again, SMALL)
    finally:
        use_settings_of(root)  # a demo leaves its own in the environment
    with dg.DagsterInstance.from_config(str(again / "dagster_home")) as instance:
        for asset in ("train_probabilities", "test_probabilities", "focal/test_probabilities"):
            assert [r.partition_key for r in materializations(instance, asset)] == ["00"]


@pytest.mark.usefixtures("root")
def test_a_checkpoint_with_the_bytes_of_the_deployed_model_is_never_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a copy of the tables; the second entry finds the dump of a model, too."""
    deployed = load_settings()
    tables_dir = tmp_path / "store" / "tables"
    shutil.copytree(deployed.tables_dir / "test_probabilities", tables_dir / "test_probabilities")
    shutil.copy(deployed.tables_dir / "dataset_index.parquet", tables_dir)
    shutil.copytree(deployed.model_uri, tmp_path / "twin")
    shutil.copytree(deployed.model_uri, tmp_path / "second")
    entries = [f'[[checkpoint]]\nname = "{n}"\nmodel = "{n}"\n' for n in ("twin", "second")]
    (tmp_path / "checkpoints.toml").write_text("".join(entries))
    changed = {"store": tmp_path / "store", "checkpoints": tmp_path / "checkpoints.toml"}
    settings = deployed.model_copy(update=changed)
    definitions = build_definitions(settings)
    monkeypatch.setattr(dump, "_engine", lambda *_: pytest.fail("an engine was built"))
    with dg.DagsterInstance.ephemeral() as instance:
        sync = definitions.resolve_job_def("checkpoint_sync_job")
        assert sync.execute_in_process(instance=instance).success
        job = definitions.resolve_job_def("checkpoint_dump_job")
        for key in ("00", "01"):
            result = job.execute_in_process(instance=instance, partition_key=key)
            assert {e.passed for e in result.get_asset_check_evaluations()} == {True}
            for event in result.get_asset_materialization_events():
                facts = {k: v.value for k, v in event.materialization.metadata.items()}
                assert facts["reused_equal_dump"] is True
                assert Path(str(facts["copied_from"])).name == f"{key}.parquet"
    assert len([path for path in settings.models_dir.iterdir() if len(path.name) == 64]) == 1
    assert not (settings.models_dir / "current").exists()
    for name in ("twin", "second"):
        for path in (tables_dir / "test_probabilities").iterdir():
            copy = tables_dir / name / "test_probabilities" / path.name
            assert copy.read_bytes() == path.read_bytes()
