"""A blocking check must stop the release, and the release must stop itself without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from harness import CLASSES, Harness, probabilities

from dagster_project.defs import jobs
from dagster_project.defs.parquet_io import table_path
from dagster_project.lib import tables
from dagster_project.lib.stored_table import StoredTable


def run_refit(harness: Harness) -> dg.ExecuteInProcessResult:
    return harness.run_request(
        dg.RunRequest(
            asset_selection=jobs.refit_assets(with_train_side=False),
            asset_check_keys=jobs.REFIT_CHECKS,
        )
    )


def fit_with(harness: Harness, config: Mapping[str, object]) -> dg.ExecuteInProcessResult:
    return harness.run_job(
        jobs.REFIT_JOB,
        list(jobs.REFIT),
        run_config={"ops": {"tier_thresholds": {"config": config}}},
    )


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: bool(e.passed) for e in result.get_asset_check_evaluations()}


def rewrite_shard(harness: Harness, key: str, change: str) -> None:
    """Damage one shard's file behind the event log's back."""
    path = table_path(harness.settings, "test_probabilities", key)
    table = tables.read_arrow(path)
    if change == "gone":
        path.unlink()
    elif change == "row_lost":
        tables.write_arrow(path, table.slice(1))
    elif change == "row_twice":
        other = tables.read_arrow(table_path(harness.settings, "test_probabilities", "00"))
        tables.write_arrow(path, other)
    elif change == "other_model":
        rows = harness.stored("dataset_index").frame.filter(split="test").gather_every(3, int(key))
        tables.write_arrow(path, probabilities(rows, "b" * 64, 3))
    elif change == "rows_failed":
        frame = pl.DataFrame(pl.from_arrow(table))
        bad = pl.int_range(pl.len()) < pl.len() // 2
        failed = frame.with_columns(
            pl.when(~bad).then("probs").alias("probs"),
            pl.when(bad).then(pl.lit("no such file")).alias("error"),
        )
        tables.write_arrow(path, tables.with_metadata(failed.to_arrow(), tables.metadata_of(table)))
    elif change == "outside_range":
        frame = pl.DataFrame(pl.from_arrow(table))
        wrong = frame.with_columns(pl.lit([1.5] * len(CLASSES)).alias("probs"))
        tables.write_arrow(path, tables.with_metadata(wrong.to_arrow(), tables.metadata_of(table)))


@pytest.mark.parametrize(
    "change", ["gone", "row_lost", "row_twice", "other_model", "outside_range", "rows_failed"]
)
def test_an_incomplete_or_mixed_dump_blocks_before_anything_is_scored(
    ready: Harness, change: str
) -> None:
    rewrite_shard(ready, "01", change)
    result = run_refit(ready)
    assert not result.success
    assert verdicts(result)["test_dump_complete"] is False
    assert ready.count("scored_test_rows") == 0


def test_the_limit_on_rows_without_probabilities_is_a_setting(ready: Harness) -> None:
    from dagster_project.definitions import build_definitions

    rewrite_shard(ready, "01", "rows_failed")
    lenient = ready.settings.model_copy(update={"max_error_share": 0.5})
    result = run_refit(Harness(ready.instance, lenient, build_definitions(lenient)))
    assert verdicts(result)["test_dump_complete"] is True
    result = run_refit(ready)
    assert verdicts(result)["test_dump_complete"] is False
    reason = next(
        str(e.description)
        for e in result.get_asset_check_evaluations()
        if e.check_name == "test_dump_complete"
    )
    assert "rows have no probabilities" in reason
    assert "allowed 5.0 %" in reason


def test_scoring_refuses_an_incomplete_dump_even_without_its_check(ready: Harness) -> None:
    """The check binds within its own run only; a person may materialize one asset from the UI."""
    rewrite_shard(ready, "01", "row_lost")
    assets = ["expert_reviews", "cleaned_labels", "scored_test_rows"]
    result = ready.run_job(jobs.REFIT_JOB, assets)
    assert not result.success
    assert ready.count("cleaned_labels") == 1
    assert ready.count("scored_test_rows") == 0


def test_a_label_that_is_no_class_of_the_model_blocks(ready: Harness) -> None:
    manifest = ready.settings.dataset_dir / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",acne,", ",akne,", 1))
    ready.read_dataset()
    ready.dump()
    result = run_refit(ready)
    assert verdicts(result)["labels_known_and_joined"] is False
    assert ready.count("scored_test_rows") == 0


def deployed_far_away(harness: Harness) -> None:
    """Quite other thresholds are in service."""
    values = {"deployed_confident": 0.05, "deployed_refer": 0.01, "deployed_possible_item": 0.25}
    for name, value in (values | {"max_threshold_change": 0.1}).items():
        object.__setattr__(harness.settings, name, value)


def test_a_change_beyond_the_bound_is_fitted_and_shown_but_not_released(ready: Harness) -> None:
    deployed_far_away(ready)
    result = run_refit(ready)
    assert verdicts(result)["change_within_bound"] is False
    assert ready.count("tier_report") == ready.count("evaluation_summary") == 1
    report = json.loads(ready.stored("tier_report").metadata["report"])
    assert report["deployed"]["crossings"]
    assert ready.count("threshold_release") == 0
    assert not ready.settings.releases_dir.exists()


def test_the_release_evaluates_the_gate_itself(ready: Harness) -> None:
    """Materialized alone, in a run without checks, it must still refuse."""
    assert run_refit(ready).success
    released = sorted(p.name for p in ready.settings.releases_dir.iterdir())
    deployed_far_away(ready)
    assert "a threshold moved too far" in refused_release(ready)
    assert sorted(p.name for p in ready.settings.releases_dir.iterdir()) == released


def refused_release(harness: Harness) -> str:
    result = harness.run_job(jobs.REFIT_JOB, ["threshold_release"])
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    return str(failure.step_failure_data)


def test_a_release_of_one_policy_never_carries_the_thresholds_of_another(ready: Harness) -> None:
    """Thresholds fitted alone, from the UI, after the report was made."""
    assert run_refit(ready).success
    config = {"confident": {"rule": "fixed", "target": 0.6}}
    run_config = {"ops": {"tier_thresholds": {"config": config}}}
    assert ready.run_job(jobs.REFIT_JOB, ["tier_thresholds"], run_config=run_config).success
    assert "the report was made at other thresholds" in refused_release(ready)


def test_thresholds_are_not_fitted_on_reviews_that_the_rows_do_not_have(ready: Harness) -> None:
    assert run_refit(ready).success
    ready.drop("ann.csv", [(ready.test_images()[0], "ann", CLASSES[0])])
    assert ready.run_job(jobs.REFIT_JOB, ["expert_reviews"]).success
    result = ready.run_job(jobs.REFIT_JOB, ["tier_thresholds"])
    assert not result.success
    assert ready.count("tier_thresholds") == 1


def test_one_review_of_sixty_images_is_still_called_provisional(ready: Harness) -> None:
    train = ready.stored("dataset_index").frame.filter(split="train")["image_uuid"][0]
    rows = [(train, "ann", CLASSES[0]), (ready.test_images()[0], "ann", "unsure")]
    ready.drop("ann.csv", [*rows, (ready.test_images()[1], "ann", CLASSES[0])])
    assert run_refit(ready).success
    report = json.loads(ready.stored("tier_report").metadata["report"])
    assert report["labels"]["n_reviewed"] == 1, "neither a train image nor an unsure counts"
    assert report["labels"]["provisional"] is True


@pytest.mark.parametrize("split", ["test", "train"])
def test_candidates_are_not_looked_for_in_half_a_dump(fitted: Harness, split: str) -> None:
    fitted.dump("train")
    path = table_path(fitted.settings, f"{split}_probabilities", "01")
    tables.write_arrow(path, tables.read_arrow(path).slice(3))
    result = fitted.run_job("mislabel_job", ["mislabel_candidates"])
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    assert f"{split}_probabilities: 3 of 60 images have no row" in str(failure.step_failure_data)


def test_an_artifact_with_a_flipped_byte_fails_its_check(harness: Harness) -> None:
    source = Path(harness.settings.model_uri)
    source.mkdir()
    for name in ("best_model.pt", "config.json", "feature_schema.json", "labels.txt"):
        (source / name).write_text(f"content of {name}")
    assert verdicts(harness.run_job("model_sync_job")) == {"artifact_complete_and_hashed": True}
    published = harness.settings.models_dir / harness.metadata("model_artifact")["model_tree_hash"]
    weights = published / "best_model.pt"
    weights.write_text(weights.read_text().replace("content", "Content"))
    job = harness.definitions.resolve_job_def("model_sync_job").get_subset(
        asset_check_selection={
            dg.AssetCheckKey(dg.AssetKey("model_artifact"), "artifact_complete_and_hashed")
        }
    )
    again = job.execute_in_process(instance=harness.instance, raise_on_error=False)
    assert verdicts(again) == {"artifact_complete_and_hashed": False}


def test_all_checks_pass_on_a_sound_refit_and_the_release_is_whole(ready: Harness) -> None:
    result = run_refit(ready)
    assert result.success
    passed = {name for name, verdict in verdicts(result).items() if verdict}
    # rounding_kept only warns, and with 60 rows a thousandth is worth a row
    assert passed >= {key.name for key in jobs.REFIT_CHECKS} - {"rounding_kept"}
    release = ready.settings.releases_dir / "latest"
    names = {path.name for path in Path(release).iterdir()}
    assert {"thresholds.json", "thresholds.env", "report.md", "SHA256SUMS", "run.json"} <= names


def test_equal_inputs_give_equal_data_versions_and_the_same_release(fitted: Harness) -> None:
    latest = fitted.settings.releases_dir / "latest"
    release = latest.readlink()
    before = {a: version(fitted, a) for a in jobs.REFIT}
    assert run_refit(fitted).success
    assert {a: version(fitted, a) for a in jobs.REFIT} == before
    assert latest.readlink() == release


def version(harness: Harness, asset: str) -> str:
    event = harness.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {})["dagster/data_version"]


def test_a_preview_of_another_policy_changes_nothing_in_force(fitted: Harness) -> None:
    config = {"confident": {"rule": "coverage", "target": 0.1}}
    result = fitted.run_job(
        "policy_preview_job", run_config={"ops": {"policy_preview": {"config": config}}}
    )
    assert result.success
    preview = fitted.metadata("policy_preview")
    assert (
        preview["confident_threshold"] > fitted.metadata("tier_thresholds")["confident_threshold"]
    )
    assert fitted.count("tier_thresholds") == 1
    assert isinstance(fitted.tick(), str)


def test_run_config_replaces_the_policy_of_a_refit_and_is_recorded(ready: Harness) -> None:
    config = {"refer": {"rule": "fixed", "target": 0.3}}
    result = ready.run_job(
        jobs.REFIT_JOB,
        list(jobs.REFIT),
        run_config={"ops": {"tier_thresholds": {"config": config}}},
    )
    assert result.success
    assert ready.metadata("tier_thresholds")["refer_threshold"] == 0.3
    policy = json.loads(ready.stored("tier_thresholds").metadata["policy"])
    assert policy["refer"] == config["refer"]


def test_a_policy_with_an_unknown_rule_is_refused_before_the_run(ready: Harness) -> None:
    config = {"confident": {"rule": "covrage", "target": 0.5}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="ConfidentRuleName got covrage"):
        fit_with(ready, config)


def test_a_policy_out_of_range_fails_with_its_key(ready: Harness) -> None:
    config = {"certify": {"delta": 1.5}}
    result = fit_with(ready, config)
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    assert "key certify.delta" in str(failure.step_failure_data)


def test_given_keys_win_one_by_one(ready: Harness) -> None:
    config = {"certify": {"enforce": False, "min_coverage": 0.01}}
    assert fit_with(ready, config).success
    policy = json.loads(ready.stored("tier_thresholds").metadata["policy"])
    assert (policy["certify"]["delta"], policy["certify"]["min_coverage"]) == (0.05, 0.01)


def test_one_shard_is_still_a_mapping(harness: Harness) -> None:
    """The base IO manager hands over a bare table when there is only one partition."""
    from dagster_project.definitions import build_definitions

    one = harness.settings.model_copy(update={"num_shards": 1})
    alone = Harness(harness.instance, one, build_definitions(one))
    alone.dump()
    assert run_refit(alone).success
    assert isinstance(alone.stored("scored_test_rows"), StoredTable)
