"""The roll-up's assets: what labels make again, what is only ever added, and what holds a refit."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import dagster as dg
import polars as pl
import pytest
from harness import CLASSES, MODEL_B, Harness

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.label_sensor import WHY_TAG
from dagster_project.defs.probabilities import shard_keys
from dagster_project.defs.rollup_config import (
    MaskedConfig,
    RollupRuleConfig,
    masked_config,
    rule_config,
)
from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.looks import read_looks
from dagster_project.lib.rollup import fit, shape
from dagster_project.lib.rollup.config import FitThresholds, RollupConfig
from dagster_project.lib.stored_table import StoredTable
from dagster_project.lib.tables import read_metadata

TAXONOMY = """class,family,group,clinically_validated
acne,follicular,inflammatory,no
eczema,scaly,inflammatory,no
psoriasis,scaly,inflammatory,no
tinea,fungal,infectious,no
"""
GIVEN = {"thresholds": {"class": 0.7, "family": 0.6, "group": 0.5}}
ALL = (jobs.MASKED, *jobs.ROLLUP)
LABELS = ("expert_reviews", "cleaned_labels", "scored_test_rows", "tier_thresholds")
"""What of a refit the roll-up stands on; the rest costs seconds and is tested elsewhere."""


def with_rollup(made: Harness, config: dict[str, Any] | None = None) -> Harness:
    """The same world with a taxonomy and a configuration."""
    folder = made.settings.store.parent
    (folder / "looks.csv").write_text(TAXONOMY)
    (folder / "rollup.json").write_text(json.dumps(GIVEN if config is None else config))
    settings = made.settings.model_copy(
        update={"taxonomy": folder / "looks.csv", "rollup": folder / "rollup.json"}
    )
    return Harness(made.instance, settings, build_definitions(settings))


def run(harness: Harness, **ops: dict[str, Any]) -> dg.ExecuteInProcessResult:
    """The job, with run config by asset."""
    config = {"ops": {name: {"config": value} for name, value in ops.items()}}
    return harness.run_job("rollup_job", run_config=config)


def why_failed(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    return str(error.cause or error)


def land(harness: Harness, n: int = 3) -> dg.RunRequest:
    """Reviews land, and the sensor asks for a refit."""
    rows = [(uuid, "ann", CLASSES[0]) for uuid in harness.test_images()[:n]]
    harness.drop("ann.csv", rows)
    return harness.request()


def chosen(request: dg.RunRequest) -> set[str]:
    names = {key.to_user_string() for key in request.asset_selection or ()}
    return names & set(ALL)


def records(harness: Harness) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in harness.settings.predictions_dir.iterdir()}


def version(harness: Harness, asset: str) -> str:
    event = harness.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {})["dagster/data_version"]


def test_labels_make_only_what_depends_on_them_again(fitted: Harness) -> None:
    made = with_rollup(fitted)
    result = run(made)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    assert "nothing is certified" in str(check.description)
    before = {asset: version(made, asset) for asset in ALL}
    kept = records(made)
    assert len(kept) == 1
    request = land(made)
    assert "the roll-up joins in" in request.tags[WHY_TAG]
    assert chosen(request) == set(jobs.ROLLUP)
    assert set(jobs.ROLLUP_CHECKS) <= set(request.asset_check_keys or ())
    assert {dg.AssetKey(name) for name in LABELS} <= set(request.asset_selection or ())
    made.dump(keys=shard_keys(made.settings)[:1])
    assert chosen(made.request()) == set(ALL)  # the same model, maybe in another dtype
    assert made.run_job("refit_job", [*LABELS, *jobs.ROLLUP]).success
    after = {asset: version(made, asset) for asset in ALL}
    changed = {asset for asset in ALL if before[asset] != after[asset]}
    assert changed == {"rollup_evaluation"}  # thresholds were given
    assert made.count(jobs.MASKED) == 1
    assert not made.settings.rollup_looks.exists()  # nothing is certified
    assert records(made) == kept
    assert made.metadata("rolled_up_predictions")["record_is_new"] is False
    what_is_shown_are_aggregates(made)


def what_is_shown_are_aggregates(made: Harness) -> None:
    shown = made.metadata("rollup_evaluation")
    assert shown["taxonomy"] == "looks: NOT CLINICALLY VALIDATED"
    assert {"placed_and_wrong", "specificity", "transitions", "rules", "by_rank"} <= set(shown)
    assert sorted(p.name for p in (made.settings.report_dir / "rollup").iterdir()) == [
        "accuracy_specificity.png",
        "rollup_report.json",
        "rollup_report.md",
        "taxonomy_tree.png",
    ]
    ids = made.test_images()
    for asset in ALL:
        told = str(made.metadata(asset))
        assert not [uuid for uuid in ids if uuid in told]
    rows = made.stored("rolled_up_predictions").frame
    assert rows.height == 3 * len(ids)
    assert sorted(rows.filter("terminal")["image_uuid"].to_list()) == sorted(ids)
    report = json.loads(made.stored("rollup_evaluation").metadata["report"])
    assert report["labels"] == "cleaned"
    assert report["evaluation"]["outcome_mix"] is not None


def test_another_configuration_stands_beside_the_first_and_another_dump_is_masked_anew(
    fitted: Harness,
) -> None:
    made = with_rollup(fitted)
    assert chosen(land(made)) == set(ALL)  # never masked
    assert run(made).success
    kept = records(made)
    mask = {"mask": {"exclude": ["tinea"]}, "normalisation": "odds"}
    strict = {"fit": {"target": 0.001}, "rule": "distribution"}
    result = run(made, masked_predictions=mask, rollup_thresholds=strict)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "Not certified" in str(check.description)
    after = records(made)
    assert {name: after[name] for name in kept} == kept
    [new] = set(after) - set(kept)
    told = json.loads(read_metadata(made.settings.predictions_dir / new)["config"])
    assert told["mask"]["exclude"] == ["tinea"]
    assert (told["normalisation"], told["rule"]) == ("odds", "distribution")
    assert told["thresholds"]["target"] == 0.001
    # a refit goes by the file: rows masked by run config are masked again
    assert chosen(made.request()) == set(ALL)
    made.dump(model=MODEL_B)
    assert "are of another dump: run rollup_job" in why_failed(
        made.run_job("rollup_job", list(jobs.ROLLUP))
    )
    assert chosen(made.request()) == set(ALL)


def test_fitted_thresholds_follow_labels_and_so_does_the_record(
    fitted: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # this world has thirty patients
    monkeypatch.setattr(fit, "fit_shape", partial(shape.fit_shape, least_patients=2))
    terms = {"target": 0.95, "accuracy": {"class": 0.3}, "delta": 0.4, "max_images_per_patient": 2}
    made = with_rollup(fitted, {"thresholds": terms})
    looks, of_tiers = made.settings.rollup_looks, read_looks(made.settings.looks)
    assert run(made).success
    assert run(made).success  # a retry is no further look, and none of the tiers'
    assert made.metadata("rollup_thresholds")["looks"] == len(read_looks(looks)) == 1
    assert read_looks(made.settings.looks) == of_tiers
    before = {asset: version(made, asset) for asset in ALL}
    land(made, n=25)
    assert made.run_job("refit_job", [*LABELS, *jobs.ROLLUP]).success
    changed = {asset for asset in ALL if before[asset] != version(made, asset)}
    assert changed == set(jobs.ROLLUP)
    assert len(records(made)) == 2
    shown = made.metadata("rollup_thresholds")
    assert (shown["looks"], shown["reviewed_in_part"]) == (2, True)
    assert "Look 2 at these rows" in shown["certificate"]
    assert made.metadata("rollup_evaluation")["reviewed_in_part"]
    told = json.loads(made.stored("rollup_evaluation").metadata["report"])["reviewed"]
    assert told["in_part"]
    assert 0 < shown["n_reviewed"] < told["n_reviewed"] < told["n"]  # of B, and of all


def test_a_fault_in_the_files_holds_no_refit(fitted: Harness) -> None:
    made = with_rollup(fitted, {"thresholds": {"famly": 0.5}})
    request = land(made)
    assert 'the roll-up is left out (thresholds: no rank "famly"' in request.tags[WHY_TAG]
    assert not chosen(request)
    assert not set(jobs.ROLLUP_CHECKS) & set(request.asset_check_keys or ())
    assert made.settings.rollup is not None
    made.settings.rollup.write_text(json.dumps({**GIVEN, "normalisation": "none"}))
    request = made.request()
    assert "the roll-up is left out (normalisation none is refused" in request.tags[WHY_TAG]
    assert not chosen(request)
    assert made.settings.taxonomy is not None
    made.settings.taxonomy.write_text("class,family\nacne,a\n")
    request = made.request()
    assert "the roll-up is left out (looks.csv: 3 classes have no row" in request.tags[WHY_TAG]
    assert not chosen(request)


def test_without_a_taxonomy_the_assets_say_what_is_missing_and_ticks_say_nothing(
    fitted: Harness,
) -> None:
    assert "set TIER_REFIT_TAXONOMY" in why_failed(run(fitted))
    request = land(fitted)
    assert "roll-up" not in request.tags[WHY_TAG]
    assert not chosen(request)
    assert request.asset_check_keys == jobs.REFIT_CHECKS


def test_keys_of_the_launchpad_lie_over_those_of_the_file(harness: Harness) -> None:
    settings = with_rollup(harness, {"thresholds": {"target": 0.2}, "rule": "antenna"}).settings
    mask: dict[str, Any] = {"normalisation": "odds"}
    masked = masked_config(MaskedConfig(**mask), settings)
    assert (masked.normalisation, masked.rule) == ("odds", "antenna")
    rows = StoredTable.of(pl.DataFrame(), {"config": masked.model_dump_json()})

    def rule(**keys: Any) -> RollupConfig:
        return rule_config(RollupRuleConfig(**keys), rows, settings)

    fitted = FitThresholds(target=0.2, delta=0.1)
    assert rule(fit={"delta": 0.1}) == masked.model_copy(update={"thresholds": fitted})
    assert rule(thresholds={"family": 0.5}).thresholds == {"family": 0.5}
    lineage: dict[str, Any] = {"rule": "lineage"}
    of_file = with_rollup(harness, {"rule": "darts", "parameter": 5.0}).settings
    other = rule_config(RollupRuleConfig(**lineage), rows, of_file)
    assert (other.rule, other.parameter) == ("lineage", None)
    darts: dict[str, Any] = {"rule": "darts", "parameter": 1.0}
    assert rule(**darts).thresholds == FitThresholds()  # the file's are of the file's rule
    with pytest.raises(InputError, match="give thresholds or fit, not both"):
        rule(thresholds={"class": 0.5}, fit={})
    with pytest.raises(InputError, match=r"run config: key thresholds\.target: got 2"):
        rule(fit={"target": 2.0})
