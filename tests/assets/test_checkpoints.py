"""Checkpoints beside the model in service: their lineage, when they are compared, what they move.

The dumps are stand-ins; that equal bytes are never dumped twice is driven with the real dump in
``tests/integration/test_chain.py``.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
from frozen_packet import frame_of, write_packet
from harness import CLASSES, MODEL_A, MODEL_B, Harness, with_checkpoints

from dagster_project.defs import jobs
from dagster_project.defs.label_sensor import WHY_TAG
from dagster_project.defs.parquet_io import table_path
from dagster_project.lib import model_store, tables
from dagster_project.lib.errors import InputError

FOCAL, AGAIN = "focal/test_probabilities", "again/test_probabilities"
SCORECARD = {dg.AssetKey(name) for name in jobs.SCORECARD}


def land(harness: Harness, n: int = 3) -> dg.RunRequest:
    """Reviews land, and the sensor asks for a refit."""
    rows = [(uuid, "ann", CLASSES[0]) for uuid in harness.test_images()[:n]]
    harness.drop("ann.csv", rows)
    return harness.request()


def chosen(request: dg.RunRequest) -> set[dg.AssetKey]:
    return set(request.asset_selection or ())


@pytest.fixture
def compared(fitted: Harness) -> Harness:
    """Fitted once, with two checkpoints listed and dumped."""
    made = with_checkpoints(fitted)
    made.dump(model=MODEL_B, checkpoint="focal")
    made.dump(model=MODEL_A, checkpoint="again")
    return made


def test_a_fault_in_the_list_is_told_when_the_definitions_load(harness: Harness) -> None:
    with pytest.raises(InputError, match=r"checkpoints.toml, checkpoint 1 \(focal\), key model"):
        with_checkpoints(harness, '[[checkpoint]]\nname = "focal"\n')
    with pytest.raises(InputError, match="'test_probabilities' is the folder of an asset"):
        with_checkpoints(harness, '[[checkpoint]]\nname = "test_probabilities"\nmodel = "m"\n')


def test_checkpoints_are_synced_by_content_and_the_model_in_service_stays(
    listed: Harness,
) -> None:
    """Twice the same bytes are one folder; what `current` names is what serves."""
    folder = listed.settings.store.parent
    for name, weights in (("model", "a"), ("focal_model", "b"), ("again_model", "a")):
        (folder / name).mkdir()
        for file in ("best_model.pt", "config.json", "feature_schema.json", "labels.txt"):
            (folder / name / file).write_text(f"{weights} of {file}")
    assert listed.run_job("model_sync_job").success
    in_service = model_store.current(listed.settings.models_dir)
    assert listed.run_job("checkpoint_sync_job").success
    assert model_store.current(listed.settings.models_dir) == in_service
    found = {
        name: listed.metadata(f"{name}/model_artifact")["model_tree_hash"]
        for name in ("focal", "again")
    }
    assert found["again"] == in_service.name != found["focal"]
    assert model_store.published(listed.settings.models_dir, found["focal"]).is_dir()
    assert table_path(listed.settings, "focal/model_artifact").is_file()
    spec = listed.definitions.resolve_asset_graph().get(dg.AssetKey(["focal", "model_artifact"]))
    assert (spec.metadata["changed"], spec.metadata["seed"]) == ("focal_loss", 1)
    assert spec.metadata["model"] == str(folder / "focal_model")
    # altered afterwards: its check says so, and the other one's does not
    published = model_store.published(listed.settings.models_dir, found["focal"])
    (published / "best_model.pt").write_text("altered")
    keys = {
        name: dg.AssetCheckKey(
            dg.AssetKey([name, "model_artifact"]), "artifact_complete_and_hashed"
        )
        for name in ("focal", "again")
    }
    job = listed.definitions.resolve_job_def("checkpoint_sync_job")
    job = job.get_subset(asset_check_selection=set(keys.values()))
    again = job.execute_in_process(instance=listed.instance, raise_on_error=False)
    passed = {e.asset_key.path[0]: e.passed for e in again.get_asset_check_evaluations()}
    assert passed == {"focal": False, "again": True}


def test_a_checkpoint_that_was_not_dumped_is_named_with_what_to_materialize(
    fitted: Harness,
) -> None:
    result = with_checkpoints(fitted).run_job("scorecard_job", assets=["temperature"])
    (failed,) = [e for e in result.all_events if e.is_step_failure]
    assert failed.step_failure_data.error is not None
    told = failed.step_failure_data.error.to_string()
    assert any(f"materialize {asset} first" in told for asset in (FOCAL, AGAIN)), told


def test_without_a_checkpoint_ticks_say_nothing_of_a_scorecard(fitted: Harness) -> None:
    for made in (fitted, with_checkpoints(fitted, "[rule]\nrecall_drop = 0.2\n")):
        request = land(made, n=2 if made is fitted else 3)
        assert "scorecard" not in request.tags[WHY_TAG]
        assert not chosen(request) & SCORECARD
        assert request.asset_check_keys == jobs.REFIT_CHECKS


def test_labels_refit_without_the_scorecard_until_every_checkpoint_is_dumped(
    fitted: Harness,
) -> None:
    made = with_checkpoints(fitted)
    made.dump(checkpoint="again", keys=["00", "02"])
    why = land(made).tags[WHY_TAG]
    assert f"the scorecard of checkpoints is left out (waiting for {FOCAL} shards" in why
    assert "run checkpoint_dump_job for them; and 1 more checkpoint)" in why
    made.dump(checkpoint="focal")
    request = made.request()
    assert f"left out (waiting for {AGAIN} shards: '01' not dumped yet" in request.tags[WHY_TAG]
    assert not chosen(request) & SCORECARD
    made.dump(checkpoint="again", keys=["01"])
    job = made.definitions.resolve_job_def(jobs.CHECKPOINT_DUMP_JOB)
    made.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    request = made.request()  # a dump of checkpoints in progress is not waited for
    assert "the scorecard of checkpoints joins in" in request.tags[WHY_TAG]
    assert chosen(request) >= SCORECARD
    assert set(jobs.SCORECARD_CHECKS) <= set(request.asset_check_keys or ())


def test_a_checkpoint_that_cannot_be_compared_stays_out_of_the_refit(compared: Harness) -> None:
    """In the run it would fail, and the tick tell of a refit that lacks its scorecard."""
    assert chosen(land(compared)) >= SCORECARD
    shard = table_path(compared.settings, FOCAL, "00")
    whole = shard.read_bytes()

    def left_out() -> str:
        request = compared.request()
        assert not chosen(request) & SCORECARD
        return request.tags[WHY_TAG]

    tables.write_arrow(
        shard, tables.with_metadata(tables.read_arrow(shard), {"classes": json.dumps("abcd")})
    )
    assert f"{FOCAL} has other classes than test_probabilities: take focal off" in left_out()
    shard.write_bytes(b"no parquet")
    assert "not a readable parquet file" in left_out()
    shard.write_bytes(whole)
    compared.dump(model=MODEL_B, checkpoint="focal", keys=["01"], unscored=2)
    says = f"{FOCAL} has 2 images without probabilities where test_probabilities has 0"
    assert says in left_out()
    compared.dump(model=MODEL_A, checkpoint="focal", keys=["01"])
    assert f"{FOCAL} shards are of different models" in left_out()
    compared.dump(model=MODEL_B, checkpoint="focal", keys=["01"], n_shards=2)
    assert "'01' dumped from another dataset or number of shards" in left_out()
    assert compared.settings.checkpoints is not None
    compared.settings.checkpoints.write_text("[[checkpoint")
    assert "checkpoints.toml: not TOML" in left_out()


def verdicts(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [found] = [
        e for e in result.get_asset_check_evaluations() if e.check_name == "checkpoint_verdicts"
    ]
    assert found.severity == dg.AssetCheckSeverity.WARN
    return found


def card_of(harness: Harness) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(harness.stored("checkpoint_scorecard").metadata["card"])
    return card


def versions(harness: Harness) -> list[str]:
    events = [
        harness.instance.get_latest_materialization_event(dg.AssetKey(name))
        for name in jobs.SCORECARD
    ]
    made = [event.asset_materialization for event in events if event]
    return [(event.tags or {})["dagster/data_version"] for event in made if event]


def agree(harness: Harness, from_score: float = 0.4) -> dg.RunRequest:
    """A reader lands what the model in service says, or else the next class where it is unsure."""
    rows = []
    for key in ("00", "01", "02"):
        shard = tables.read_arrow(table_path(harness.settings, "test_probabilities", key))
        for uuid, row in zip(*(shard[c].to_pylist() for c in ("image_uuid", "probs")), strict=True):
            top = row.index(max(row)) + (max(row) < from_score)
            rows.append((uuid, "ann", CLASSES[top % len(CLASSES)]))
    harness.drop("ann.csv", rows)
    return harness.request()


def ask_half(harness: Harness) -> int:
    """A packet that drew every second test image; how many that is."""
    images = sorted(harness.test_images())
    how = {"stratum": "possible/agrees/unflagged", "inclusion_probability": 0.5}
    asked = [(uuid, uuid, "drawn") for uuid in images[::2]]
    frame = frame_of([{"image_uuid": uuid, **how} for uuid in images])
    write_packet(harness.settings.packets_dir / "beef", frame, asked)
    return len(asked)


def test_labels_that_land_make_the_scorecard_again_and_no_shard(compared: Harness) -> None:
    """The checkpoints answer at random here: rejected, and the refit goes through all the same."""
    dumped = {asset: compared.count(asset) for asset in (FOCAL, AGAIN, "test_probabilities")}
    drawn = ask_half(compared)
    result = compared.run_request(agree(compared))
    assert result.success
    assert {asset: compared.count(asset) for asset in dumped} == dumped
    assert {compared.count(name) for name in jobs.SCORECARD} == {1}
    assert isinstance(compared.tick(), str), "fitted: nothing more is asked for"
    shown, card = compared.metadata("checkpoint_scorecard"), card_of(compared)
    rows = {row["config"]: row for row in card["configs"]}
    assert list(rows) == ["deployed", "focal", "again"]
    assert shown["baseline"] == card["baseline"] == "deployed"
    for name, row in rows.items():
        assert shown[f"balanced_accuracy_{name}"] == row["balanced_accuracy"]
        assert shown[f"top1_{name}"] == row["top1"]
    assert card["labels"]["n_changed"] > 0
    assert card["given"]["n"] == card["n"] == 60
    sampled = card["sampled"]
    assert (sampled["n"], sampled["n_outside"], sampled["n_decided"]) == (60, 0, drawn)
    assert set(sampled["top1"]) == {"focal", "again"}
    check = verdicts(result)
    assert not check.passed
    assert check.metadata["focal"].value == f"REJECT: {rows['focal']['sentence']}"
    assert str(check.description).startswith("rejected: focal, again; against deployed")
    temperature, gain = compared.metadata("temperature"), compared.metadata("tta_gain")
    assert temperature["temperature_deployed"] == rows["deployed"]["temperature"]
    gained = card["tta"]["comparison"]["differences"]["top1"]["estimate"]
    assert gain["tta_gain_top1_deployed"] == gained > 0
    folder = compared.settings.report_dir / "scorecard"
    assert {"scorecard.csv", "per_class.csv", "scorecard.md", "scorecard.json"} < {
        path.name for path in folder.iterdir()
    }
    index = compared.stored("dataset_index").frame
    ids = {*index["image_uuid"], *index["patient_id"]}
    for name in jobs.SCORECARD:
        text = str(compared.metadata(name))
        assert not [i for i in ids if i in text], name
    before = versions(compared)
    assert compared.run_job("scorecard_job").success
    assert versions(compared) == before, "equal inputs"
    compared.dump(model=MODEL_A, checkpoint="focal")
    assert not compared.run_job("scorecard_job", ["checkpoint_scorecard"]).success, "older gain"


def test_without_a_checkpoint_the_card_says_that_nothing_is_compared(fitted: Harness) -> None:
    result = fitted.run_job("scorecard_job")
    assert result.success
    assert verdicts(result).passed
    shown = fitted.metadata("checkpoint_scorecard")
    assert "nothing is compared" in shown["verdicts"]
    assert shown["top1_deployed"] == fitted.metadata("evaluation_summary")["top1"]
