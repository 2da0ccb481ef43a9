"""The code location loads, imports nothing heavy, and has exactly these assets, checks and jobs.

The snapshot is here on purpose: asset keys and job names are contracts with people's bookmarks,
schedules and alerts. Change it in the same commit that changes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from harness import Harness

from dagster_project.defs import jobs
from dagster_project.settings import Settings

LINEAGE = {
    "model_artifact": set(),
    "dataset_index": set(),
    "given_labels": set(),
    "expert_reviews": {"dataset_index"},
    "cleaned_labels": {"given_labels", "expert_reviews", "dataset_index"},
    "next_reviews": {"test_probabilities", "cleaned_labels", "expert_reviews", "dataset_index"},
    "test_probabilities": {"model_artifact", "dataset_index"},
    "train_probabilities": {"model_artifact", "dataset_index"},
    "mislabel_candidates": {
        "test_probabilities",
        "train_probabilities",
        "cleaned_labels",
        "dataset_index",
    },
    "image_fingerprints": {"dataset_index"},
    "image_issues": {
        "image_fingerprints",
        "dataset_index",
        "test_probabilities",
        "train_probabilities",
    },
    "issue_kinds": {"image_issues", "mislabel_candidates", "cleaned_labels", "dataset_index"},
    "review_packet": {
        "mislabel_candidates",
        "tier_thresholds",
        "expert_reviews",
        "dataset_index",
        "image_issues",
    },
    "prune_list": {"mislabel_candidates", "cleaned_labels", "dataset_index", "image_issues"},
    "scored_test_rows": {"test_probabilities", "cleaned_labels", "dataset_index"},
    "coverage_curve": {"scored_test_rows"},
    "tier_thresholds": {"scored_test_rows", "expert_reviews"},
    "refer_candidates": {"scored_test_rows", "tier_thresholds"},
    "possible_item_sweep": {"scored_test_rows", "tier_thresholds"},
    "tier_report": {"scored_test_rows", "tier_thresholds"},
    "threshold_release": {"scored_test_rows", "tier_thresholds", "tier_report"},
    "approved_release": {"threshold_release"},
    "evaluation_summary": {"scored_test_rows", "tier_thresholds"},
    "review_findings": {
        "cleaned_labels",
        "expert_reviews",
        "scored_test_rows",
        "tier_thresholds",
    },
    "policy_preview": {"scored_test_rows"},
    "cleaned_manifest": {"dataset_index", "cleaned_labels"},
    "label_history": {"expert_reviews", "cleaned_labels", "tier_thresholds"},
    "masked_predictions": {"test_probabilities", "dataset_index"},
    "rollup_thresholds": {
        "test_probabilities",
        "dataset_index",
        "masked_predictions",
        "scored_test_rows",
    },
    "rolled_up_predictions": {
        "test_probabilities",
        "dataset_index",
        "masked_predictions",
        "rollup_thresholds",
    },
    "rollup_evaluation": {
        "test_probabilities",
        "dataset_index",
        "rollup_thresholds",
        "rolled_up_predictions",
        "scored_test_rows",
        "tier_thresholds",
    },
    "gate_scores": set(),
    "gate_sweep": {"gate_scores"},
    "gate_operating_points": {"gate_scores", "gate_sweep"},
    "gate_bundle": {"gate_scores", "gate_operating_points"},
    "gate_monitoring": {"gate_scores", "gate_bundle"},
    "tta_gain": {"test_probabilities", "cleaned_labels", "dataset_index"},
    "temperature": {"test_probabilities", "cleaned_labels", "dataset_index"},
    "checkpoint_scorecard": {
        "test_probabilities",
        "cleaned_labels",
        "given_labels",
        "dataset_index",
        "tta_gain",
    },
}
CHECKS = {
    ("model_artifact", "artifact_complete_and_hashed", True),
    ("test_probabilities", "test_dump_complete", True),
    ("train_probabilities", "train_dump_complete", True),
    ("expert_reviews", "label_drop_status", False),
    ("cleaned_labels", "labels_known_and_joined", True),
    ("scored_test_rows", "every_image_accounted_for", True),
    ("tier_thresholds", "thresholds_ordered", True),
    ("tier_report", "change_within_bound", True),
    ("tier_report", "tiers_sum_to_n", True),
    ("tier_report", "rounding_kept", False),
    ("checkpoint_scorecard", "checkpoint_verdicts", False),
    ("rollup_evaluation", "rollup_certified", False),
    ("gate_operating_points", "point_to_freeze_backed", True),
    ("gate_operating_points", "chosen_on_scores_in_place", True),
    ("gate_operating_points", "scores_identified", False),
    ("gate_monitoring", "sweep_still_holds", False),
}
JOBS = {
    "model_sync_job",
    "dataset_job",
    "dump_job",
    "image_issues_job",
    "refit_job",
    "mislabel_job",
    "policy_preview_job",
    "scorecard_job",
    "rollup_job",
    "gate_job",
    "gate_monitoring_job",
}
LISTED = ("focal", "again")
"""Checkpoints of ``listed``."""
LISTED_JOBS = {"checkpoint_sync_job", "checkpoint_dump_job"}
HEAVY = (
    *("torch", "transformers", "cleanlab", "sklearn", "matplotlib", "boto3"),
    *("polars", "pyarrow", "numpy", "upath"),
)


def test_the_lineage_is_the_documented_one(harness: Harness) -> None:
    graph = harness.definitions.resolve_asset_graph()
    found = {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == LINEAGE


def test_an_entry_of_the_list_adds_its_lineage_beside_the_deployed_one(listed: Harness) -> None:
    graph = listed.definitions.resolve_asset_graph()
    found = {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    wanted = {asset: set(parents) for asset, parents in LINEAGE.items()}
    for name in LISTED:
        dump = f"{name}/test_probabilities"
        wanted |= {
            f"{name}/model_artifact": set(),
            dump: {f"{name}/model_artifact", "dataset_index"},
        }
        for asset in ("tta_gain", "temperature", "checkpoint_scorecard"):
            wanted[asset].add(dump)
        node = graph.get(dg.AssetKey([name, "test_probabilities"]))
        assert node.partitions_def is not None
        assert node.partitions_def.get_partition_keys() == ["00", "01", "02"]
        assert node.pools == {"gpu"}
    assert found == wanted
    checks = {
        (key.asset_key.to_user_string(), key.name, graph.get(key).blocking)
        for key in graph.asset_check_keys
    }
    assert checks == CHECKS | {
        entry
        for name in LISTED
        for entry in (
            (f"{name}/model_artifact", "artifact_complete_and_hashed", True),
            (f"{name}/test_probabilities", "test_dump_complete", True),
        )
    }
    names = listed.definitions.get_repository_def().job_names
    assert {name for name in names if not name.startswith("__")} == JOBS | LISTED_JOBS


def test_checks_and_which_of_them_block(harness: Harness) -> None:
    graph = harness.definitions.resolve_asset_graph()
    found = {
        (key.asset_key.to_user_string(), key.name, graph.get(key).blocking)
        for key in graph.asset_check_keys
    }
    assert found == CHECKS


def test_jobs_sensors_and_schedule(harness: Harness) -> None:
    repository = harness.definitions.get_repository_def()
    names = {name for name in repository.job_names if not name.startswith("__")}
    assert names == JOBS
    schedule = harness.definitions.resolve_schedule_def("weekly_refit")
    for name in ("label_sensor", "approval_sensor", "gate_scores_sensor"):
        sensor = harness.definitions.resolve_sensor_def(name)
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


def test_every_asset_is_described_owned_grouped_and_versioned(listed: Harness) -> None:
    for spec in listed.definitions.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.group_name not in (None, "default"), spec.key
        assert spec.code_version, spec.key


def test_dumps_are_partitioned_by_shard_and_take_the_gpu_pool(
    harness: Harness, settings: Settings
) -> None:
    graph = harness.definitions.resolve_asset_graph()
    for asset in ("test_probabilities", "train_probabilities"):
        node = graph.get(dg.AssetKey(asset))
        assert node.partitions_def is not None
        assert node.partitions_def.get_partition_keys() == ["00", "01", "02"]
        assert node.pools == {"gpu"}


def test_partitioned_and_unpartitioned_assets_never_share_a_job(listed: Harness) -> None:
    graph = listed.definitions.resolve_asset_graph()
    for name in JOBS | LISTED_JOBS:
        keys = listed.definitions.resolve_job_def(name).asset_layer.executable_asset_keys
        kinds = {graph.get(key).is_partitioned for key in keys}
        assert len(kinds) == 1, name


def test_a_refit_never_touches_a_dump_or_a_packet_under_review() -> None:
    chosen = {key.to_user_string() for key in jobs.refit_assets(True, True)}
    assert not chosen & {"test_probabilities", "train_probabilities", "review_packet"}
    assert not chosen & {"model_artifact", "dataset_index", "given_labels"}
    assert not chosen & {"image_fingerprints", "image_issues"}
    assert not [asset for asset in chosen if "/" in asset]


def test_loading_the_definitions_imports_nothing_heavy(tmp_path: Path) -> None:
    """What it costs against `import dagster` is measured in benchmarks/load_definitions.py."""
    listed = tmp_path / "checkpoints.toml"
    listed.write_text('[[checkpoint]]\nname = "focal"\nmodel = "s3://bucket/focal/"\n')
    code = "import sys, dagster_project.definitions; print(*sys.modules)"
    env = {**os.environ, "TIER_REFIT_CHECKPOINTS": str(listed)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert not set(done.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_the_wheel_carries_the_instance_files_of_the_root(name: str) -> None:
    from importlib.resources import files

    root = Path(__file__).parents[2] / name
    assert files("dagster_project").joinpath(name).read_text() == root.read_text()
