"""Every case in which labels were ever lost, doubled or refitted for ever, by real ticks and runs.

Do not replace the level trigger by an automation condition: labels that land during a refit, and
failed refits, are lost with it (``docs/automation.md``).
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from harness import CLASSES, FIT, MODEL_A, MODEL_B, Harness, briefly, with_checkpoints

from dagster_project.defs import jobs, mislabels, rollup, scorecard
from dagster_project.defs.label_sensor import (
    MAX_ATTEMPTS,
    WANTED_TAG,
    WHY_TAG,
    fitted_basis,
    policy_note,
)
from dagster_project.lib import sums
from dagster_project.lib.tiers import selection
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, policy_sha256, read_policy


def votes(harness: Harness, n: int, label: str = CLASSES[0]) -> list[tuple[str, str, str]]:
    return [(uuid, "ann", label) for uuid in harness.test_images()[:n]]


def skips(harness: Harness, *words: str) -> None:
    reason = harness.tick()
    assert isinstance(reason, str), reason
    for word in words:
        assert word in reason


def test_no_shard_or_some_shards_start_nothing_and_the_last_one_starts_one_run(
    harness: Harness,
) -> None:
    skips(harness, "waiting", "00", "01", "02", "not dumped", "run dump_job")
    harness.dump(keys=["00", "01"])
    skips(harness, "waiting", "02")
    harness.dump(keys=["02"])
    request = harness.request()
    assert "no finished refit" in request.tags[WHY_TAG]
    assert harness.run_request(briefly(request)).success
    skips(harness, "already fitted", "no review yet", f"model {MODEL_A[:12]}", "3 shards")


def test_unchanged_labels_start_nothing(fitted: Harness) -> None:
    for _ in range(3):
        skips(fitted, "already fitted")
    assert fitted.count("tier_thresholds") == 1


def test_a_file_touched_rewritten_with_the_same_bytes_or_taken_away_starts_nothing(
    fitted: Harness,
) -> None:
    path = fitted.drop("ann.csv", votes(fitted, 3))
    fitted.fit()
    os.utime(path, (1, 1))
    skips(fitted, "already fitted")
    fitted.drop("ann.csv", votes(fitted, 3))
    skips(fitted, "already fitted")
    # an emptied drop keeps the version in force
    path.unlink()
    skips(fitted, "already fitted")


def test_new_labels_start_one_refit_of_what_depends_on_labels_and_no_dump(fitted: Harness) -> None:
    dumped = fitted.count("test_probabilities")
    fitted.drop("ann.csv", votes(fitted, 5))
    request = fitted.request()
    assert {k.to_user_string() for k in request.asset_selection or ()} == set(jobs.REFIT)
    result = fitted.run_request(request)
    assert result.success
    assert fitted.count("test_probabilities") == dumped
    assert fitted.count("model_artifact") == 0
    assert fitted.count("tier_thresholds") == 2
    assert fitted.metadata("evaluation_summary")["n_reviewed"] == 5
    skips(fitted, "already fitted", "5 reviews by 1 reader; 1 file")


def test_a_run_request_names_its_assets_and_checks_and_runs_in_one_process(
    fitted: Harness,
) -> None:
    fitted.drop("ann.csv", votes(fitted, 1))
    request = fitted.request()
    assert request.asset_check_keys == jobs.REFIT_CHECKS
    job = fitted.definitions.resolve_job_def(jobs.REFIT_JOB)
    assert job.executor_def.name == dg.in_process_executor.name


def test_an_empty_packet_is_not_a_version(fitted: Harness) -> None:
    fitted.drop("blank.csv", [(uuid, "ann", "") for uuid in fitted.test_images()[:4]])
    skips(fitted, "already fitted")


def test_labels_landing_before_the_snapshot_of_a_running_refit_are_absorbed(
    fitted: Harness,
) -> None:
    fitted.drop("ann.csv", votes(fitted, 2))
    request = fitted.request()
    fitted.drop("bob.csv", [(fitted.test_images()[9], "bob", CLASSES[1])])
    assert fitted.run_request(briefly(request)).success
    skips(fitted, "already fitted")
    assert fitted.metadata("expert_reviews")["reviewers"] == 2


def test_labels_landing_after_the_snapshot_of_a_running_refit_cause_exactly_one_more_run(
    fitted: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They land while the thresholds are being fitted, and the sensor ticks at that moment."""
    fit = selection.fit_thresholds
    said: list[object] = []

    def interrupted(*args: Any, **options: Any) -> selection.ThresholdFit:
        if not said:
            fitted.drop("bob.csv", [(fitted.test_images()[9], "bob", CLASSES[1])])
            said.append(fitted.tick())
        return fit(*args, **options)

    monkeypatch.setattr(selection, "fit_thresholds", interrupted)
    fitted.drop("ann.csv", votes(fitted, 2))
    fitted.fit()
    assert "in progress" in str(said[0])
    assert "3 reviews by 2 readers; 2 files" in str(said[0])
    assert "not lost" in str(said[0])
    assert fitted.metadata("expert_reviews")["reviewers"] == 1
    fitted.fit()
    assert fitted.metadata("expert_reviews")["reviewers"] == 2
    skips(fitted, "already fitted")
    assert fitted.count("tier_thresholds") == 3


@pytest.mark.parametrize("asset", ["tier_thresholds", "test_probabilities"])
def test_a_refit_or_dump_in_progress_is_waited_for(fitted: Harness, asset: str) -> None:
    fitted.drop("ann.csv", votes(fitted, 1))
    job = fitted.definitions.resolve_implicit_global_asset_job_def()
    run = fitted.instance.create_run_for_job(
        job.get_subset(asset_selection={dg.AssetKey(asset)}),
        status=DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(asset)}),
    )
    skips(fitted, "in progress", run.run_id[:8], "(started)")
    fitted.instance.report_run_canceled(run)
    fitted.request()


def test_a_refit_that_fails_is_tried_twice_and_then_stops_until_a_person_or_new_labels(
    ready: Harness,
) -> None:
    break_policy(ready)
    keys = set()
    for _ in range(MAX_ATTEMPTS):
        request = ready.request()
        keys.add(request.run_key)
        assert not ready.run_request(briefly(request)).success
    assert len(keys) == MAX_ATTEMPTS, "equal run keys would be deduplicated and never run"
    newest = ready.instance.get_runs(limit=1)[0]
    skips(ready, "2 refits", "refit_job", newest.run_id[:8], "(failure)", "by hand")
    # new labels start afresh
    mend_policy(ready)
    landed = ready.drop("ann.csv", votes(ready, 1))
    assert f"Attempt 1 of {MAX_ATTEMPTS}" in ready.request().tags[WHY_TAG]
    landed.unlink()
    skips(ready, "2 refits")
    assert ready.run_job(jobs.REFIT_JOB, FIT).success
    skips(ready, "already fitted")


def break_policy(harness: Harness) -> None:
    assert harness.settings.policy is not None
    text = harness.settings.policy.read_text()
    harness.settings.policy.with_suffix(".good").write_text(text)
    harness.settings.policy.write_text("{}")


def mend_policy(harness: Harness) -> None:
    assert harness.settings.policy is not None
    harness.settings.policy.write_text(harness.settings.policy.with_suffix(".good").read_text())


def test_a_changed_policy_is_told_of_by_its_hash_and_starts_nothing_by_itself(
    fitted: Harness,
) -> None:
    skips(fitted, "already fitted", "a changed policy starts none by itself: run refit_job")
    assert fitted.settings.policy is not None
    old = policy_sha256(read_policy(fitted.settings.policy))[:12]
    break_policy(fitted)
    skips(fitted, "already fitted", "the policy file cannot be read", "key confident: missing")
    mend_policy(fitted)
    assert "policy file" not in str(fitted.tick())
    text = fitted.settings.policy.read_text()
    fitted.settings.policy.write_text(text.replace("0.4", "0.5"))
    new = policy_sha256(read_policy(fitted.settings.policy))[:12]
    told = f"policy.json, by which a refit goes, is {new} where policy {old} was fitted"
    for _ in range(2):
        skips(fitted, "already fitted", told, "starts none by itself: run refit_job")
    fitted.drop("ann.csv", votes(fitted, 3))
    assert told in fitted.request().tags[WHY_TAG]
    fitted.fit()
    assert fitted.metadata("tier_thresholds")["policy_sha256"].startswith(new)
    assert "policy file" not in str(fitted.tick())


def test_a_policy_that_was_fitted_by_run_config_is_told_of_as_what_the_next_refit_leaves(
    fitted: Harness,
) -> None:
    config = {"refer": {"rule": "fixed", "target": 0.3}}
    made = fitted.run_job(
        jobs.REFIT_JOB,
        FIT,
        run_config={"ops": {"tier_thresholds": {"config": config}}},
    )
    assert made.success
    by_run_config = fitted.metadata("tier_thresholds")["policy_sha256"][:12]
    told = f"where policy {by_run_config} was fitted"
    skips(fitted, "already fitted", "But the policy file policy.json, by which a refit goes", told)
    no_file = fitted.settings.model_copy(update={"policy": None})
    built_in = (
        f"the built-in policy, by which a refit goes, is {policy_sha256(DEFAULT_POLICY)[:12]}"
    )
    assert policy_note(fitted.instance, no_file) == f"{built_in} {told}"


def test_a_success_that_fitted_something_else_counts_as_a_failed_attempt(
    fitted: Harness,
) -> None:
    """Without this a drop that sensor and snapshot read differently is refitted for ever."""
    fitted.drop("ann.csv", votes(fitted, 2))
    wanted = briefly(fitted.request())
    for _ in range(MAX_ATTEMPTS):
        hidden = Path(fitted.settings.labels_uri) / "ann.csv"
        text = hidden.read_text()
        hidden.unlink()
        assert fitted.run_request(wanted).success
        hidden.write_text(text)
    skips(fitted, "2 refits")


def test_going_back_to_older_labels_refits_each_time(fitted: Harness) -> None:
    """Once more than a wanted state is tried: runs that went through are no failed attempts."""
    for _ in range(MAX_ATTEMPTS):
        for label in CLASSES[:2]:
            fitted.drop("ann.csv", votes(fitted, 3, label))
            fitted.fit("label_history")
    assert fitted.metadata("label_history")["versions"] == 1 + 2 * MAX_ATTEMPTS
    fitted.drop("ann.csv", votes(fitted, 3, CLASSES[0]))
    assert f"Attempt 1 of {MAX_ATTEMPTS}" in fitted.request().tags[WHY_TAG]


def test_a_refused_file_beside_a_good_one_refits_once_and_its_last_content_stays(
    fitted: Harness,
) -> None:
    fitted.drop("ann.csv", votes(fitted, 4))
    fitted.drop("bob.csv", [(fitted.test_images()[9], "bob", CLASSES[1])])
    fitted.fit()
    fitted.drop("ann.csv", [*votes(fitted, 3), (fitted.test_images()[3], "ann", "ecsema")])
    place = "ann.csv row 5, column label: unknown class"
    skips(fitted, "already fitted", "2 files, 1 of them refused", place, "stays in force")
    # alone it starts no run, and its cells are in the report all the same
    report = fitted.settings.report_dir / "label_drop_refusals.csv"
    assert "ecsema" in report.read_text()
    assert "ecsema" not in str(fitted.tick())
    fitted.drop("bob.csv", [(fitted.test_images()[9], "bob", CLASSES[2])])
    status = dg.AssetCheckKey(dg.AssetKey("expert_reviews"), "label_drop_status")
    result = fitted.run_request(briefly(fitted.request(), checks=[status]))
    assert result.success
    assert fitted.metadata("expert_reviews")["images_reviewed"] == 5
    assert fitted.metadata("expert_reviews")["files_refused"] == 1
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "ann.csv row 5, column label: unknown class" in str(check.metadata["refused"].value)
    skips(fitted, "already fitted")


def test_shards_of_different_models_are_said_and_start_nothing(fitted: Harness) -> None:
    fitted.publish_model(MODEL_B)
    fitted.dump(keys=["01"], model=MODEL_B)
    skips(fitted, "different models", "bbbbbbbbbbbb")
    fitted.dump(keys=["00", "02"], model=MODEL_B)
    request = fitted.request()
    assert f"model {MODEL_B[:12]} where {MODEL_A[:12]} was fitted" in request.tags[WHY_TAG]
    assert "labels" not in request.tags[WHY_TAG].split("(")[0]
    assert fitted.run_request(briefly(request)).success
    basis = fitted_basis(fitted.instance)
    assert basis is not None
    assert basis.model_tree_hash == MODEL_B


def test_another_number_of_shards_waits_for_a_whole_new_dump(fitted: Harness) -> None:
    """Two of three old shards carry the keys of the new two: half the rows would fit in silence."""
    fewer = fitted.settings.model_copy(update={"num_shards": 2})
    from dagster_project.definitions import build_definitions

    changed = Harness(fitted.instance, fewer, build_definitions(fewer))
    skips(changed, "waiting", "00", "01", "another dataset or number of shards")
    changed.dump()
    changed.fit()
    assert changed.metadata("scored_test_rows")["n_scored"] == len(changed.test_images())


def test_a_changed_dataset_waits_for_its_shards(fitted: Harness) -> None:
    manifest = fitted.settings.dataset_dir / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("img-000-0.jpg,p000", "img-000-x.jpg,p000"))
    fitted.read_dataset()
    skips(fitted, "waiting")
    fitted.dump()
    fitted.fit()


def test_relabelled_dataset_refits_without_a_new_dump(fitted: Harness) -> None:
    dumped = fitted.count("test_probabilities")
    manifest = fitted.settings.dataset_dir / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(CLASSES[0], CLASSES[3]))
    fitted.read_dataset()
    fitted.fit()
    assert fitted.count("test_probabilities") == dumped


def test_train_side_assets_join_only_when_all_train_shards_are_current(fitted: Harness) -> None:
    fitted.dump("train", keys=["00", "01"])
    fitted.drop("ann.csv", votes(fitted, 1))
    without = fitted.request()
    assert dg.AssetKey("mislabel_candidates") not in (without.asset_selection or ())
    assert "train side is left out" in without.tags[WHY_TAG]
    fitted.dump("train", keys=["02"])
    asked = {key.to_user_string() for key in fitted.request().asset_selection or ()}
    assert asked == {*jobs.REFIT, *jobs.TRAIN_SIDE}, "and no packet, which is frozen under review"
    # in its turn: what looks up what the train side leaves finds what this run made
    result = fitted.fit("prune_list", "mislabel_candidates", "cleaned_manifest")
    assert steps(result)[-3:] == ["mislabel_candidates", "prune_list", "cleaned_manifest"]
    pruned = fitted.stored("prune_list").version
    assert fitted.metadata("cleaned_manifest")["prune_version"] == pruned


def steps(result: dg.ExecuteInProcessResult) -> list[str]:
    """What a run made, in the order in which it did."""
    return [str(e.step_key) for e in result.all_events if e.is_successful_output]


def test_a_drop_that_cannot_be_read_is_a_skip_and_never_an_exception(
    fitted: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.lib.labels import drop

    def fails(*_: object, **__: object) -> None:
        raise drop.DropUnreadable("s3://b/p: timed out")

    monkeypatch.setattr(drop, "read_drop", fails)
    skips(fitted, "cannot be read now", "timed out", "tries again")


def forge(harness: Harness, key: str) -> None:
    """What the webserver's report endpoint does for anyone who reaches it."""
    forged = dg.AssetMaterialization(
        "test_probabilities", partition=key, metadata={"model_tree_hash": MODEL_B}
    )
    harness.instance.report_runless_asset_event(forged)


def test_events_reported_from_outside_are_not_trusted(harness: Harness) -> None:
    for key in ("00", "01", "02"):
        forge(harness, key)
    skips(harness, "waiting", "00", "01", "02")


def test_a_flood_of_events_from_outside_does_not_hide_a_real_one(fitted: Harness) -> None:
    for _ in range(25):
        forge(fitted, "00")
    skips(fitted, "already fitted")


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_refit_that_dies_after_its_fit_is_tried_again(
    fitted: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds without a release are not the end of a refit."""
    fitted.drop("ann.csv", votes(fitted, 3))
    with monkeypatch.context() as patch:
        patch.setattr(sums, "write_folder", full)
        failed = fitted.run_request(fitted.request())
    assert not failed.success
    assert {name for name in jobs.REFIT if name not in steps(failed)} == {"threshold_release"}
    assert fitted.count("tier_thresholds") == 2
    assert f"Attempt 2 of {MAX_ATTEMPTS}" in fitted.request().tags[WHY_TAG]
    fitted.fit("tier_report", "threshold_release", "label_history")
    assert fitted.count("threshold_release") == 2
    skips(fitted, "already fitted")
    # the attempt that died is the same line of the history as the one that went through
    assert fitted.metadata("label_history")["versions"] == 2


def test_a_refit_that_is_stopped_before_all_of_it_is_made_counts_as_a_failed_attempt(
    fitted: Harness,
) -> None:
    fitted.drop("ann.csv", votes(fitted, 3))
    run = fitted.fit().dagster_run
    for end in (fitted.instance.report_run_failed, fitted.instance.report_run_canceled):
        end(run)
        assert f"Attempt 2 of {MAX_ATTEMPTS}" in fitted.request().tags[WHY_TAG]


def test_a_refit_that_dies_when_all_of_it_is_made_has_fitted_and_the_tick_says_so(
    fitted: Harness,
) -> None:
    run = fitted.instance.get_runs(dg.RunsFilter(job_name=jobs.REFIT_JOB), limit=1)[0]
    fitted.instance.report_run_failed(run)
    said = f"The thresholds stand: run {run.run_id[:8]} of refit_job (failure) made every asset"
    skips(fitted, "already fitted", said)


TAXONOMY = """class,family,group,clinically_validated
acne,follicular,inflammatory,no
eczema,scaly,inflammatory,no
psoriasis,scaly,inflammatory,no
tinea,fungal,infectious,no
"""
CHECKPOINT = '[[checkpoint]]\nname = "focal"\nmodel = "focal_model"\nseed = 1\n'


@pytest.fixture
def joined(fitted: Harness) -> Harness:
    """A fitted world in which train side, scorecard and roll-up join the next refit."""
    fitted.dump("train")
    fitted.dump(model=MODEL_B, checkpoint="focal")
    taxonomy = fitted.settings.store.parent / "families.csv"
    taxonomy.write_text(TAXONOMY)
    rolled = fitted.settings.model_copy(update={"taxonomy": taxonomy})
    made = with_checkpoints(Harness(fitted.instance, rolled, fitted.definitions), CHECKPOINT)
    made.drop("ann.csv", votes(made, 3))
    return made


def test_what_joins_a_refit_may_fail_and_the_thresholds_stand(
    joined: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise labels that are released are fitted again, to fail of the same again."""
    made: dict[str, list[str]] = {}
    ticks: list[object] = []

    def fails(*_: object, turn: str) -> None:
        made.setdefault(turn, [name for name in jobs.REFIT if joined.count(name) == 2])
        ticks.append(joined.tick())
        raise OSError(28, "No space left on device")

    request = joined.request()
    asked = {key.to_user_string() for key in request.asset_selection or ()}
    extras = {name for names in jobs.JOINS.values() for name in names}
    assert asked == {*jobs.REFIT, *extras}
    with monkeypatch.context() as patch:
        patch.setattr(mislabels, "whole_dump", partial(fails, turn="train side"))
        patch.setattr(scorecard, "_tables", partial(fails, turn="last"))
        patch.setattr(rollup, "whole_dump", partial(fails, turn="last"))
        result = joined.run_request(request)
    assert not result.success
    assert set(steps(result)) & extras == set()
    # a process that dies in the last turn has made all; what looks at the train side comes after it
    assert set(jobs.REFIT) - set(made["train side"]) == {"cleaned_manifest", "review_findings"}
    assert set(jobs.REFIT) == set(made["last"])
    assert all("in progress" in str(said) for said in ticks), "a run counts once it has ended"

    failed = f"The thresholds stand, but run {result.run_id[:8]} of refit_job (failure)"
    mend = "mend the cause and run mislabel_job and scorecard_job and rollup_job"
    skips(joined, "already fitted", failed, *(repr(name) for name in extras), mend)
    # told of until it is made
    assert joined.run_job(jobs.ROLLUP_JOB).success
    skips(
        joined, "already fitted", failed, "mend the cause and run mislabel_job and scorecard_job."
    )
    assert "rollup" not in str(joined.tick())


def test_no_asset_of_a_refit_depends_on_what_may_join_it(harness: Harness) -> None:
    """It would be skipped with it, and the refit count as one that did not go through."""
    graph = harness.definitions.resolve_asset_graph()

    def ancestors(key: dg.AssetKey) -> set[dg.AssetKey]:
        parents = set(graph.get(key).parent_keys)
        return parents.union(*map(ancestors, parents))

    extras = {dg.AssetKey(name) for names in jobs.JOINS.values() for name in names}
    assert extras <= graph.get_all_asset_keys()
    for name in jobs.REFIT:
        assert not ancestors(dg.AssetKey(name)) & extras, name


def test_a_model_that_is_synced_but_not_dumped_disturbs_nothing(fitted: Harness) -> None:
    """Reviews are judged by the classes of the shards, not by those of the newest artifact."""
    fitted.drop("ann.csv", votes(fitted, 3))
    fitted.fit()
    fitted.publish_model(MODEL_B)
    (fitted.settings.models_dir / MODEL_B / "labels.txt").write_text("other\nclasses\n")
    skips(fitted, "already fitted")


def test_a_snapshot_that_cannot_be_read_is_named_with_its_mend(fitted: Harness) -> None:
    snapshot = fitted.settings.tables_dir / "expert_reviews.parquet"
    snapshot.write_bytes(b"not parquet")
    skips(fitted, "Delete", str(snapshot))


def test_a_refused_file_leaves_no_cell_of_it_in_the_event_log(fitted: Harness) -> None:
    named = "patient-miller"
    fitted.drop("ann.csv", [(named, "dr-nobody", CLASSES[0])])
    fitted.drop("bob.csv", votes(fitted, 1))
    result = fitted.refit()
    events = fitted.instance.all_logs(result.run_id)
    assert not [e for e in events if named in str(e) or "dr-nobody" in str(e)]
    report = fitted.settings.report_dir / "label_drop_refusals.csv"
    assert named in report.read_text()


def test_runs_of_the_sensor_carry_what_they_are_for(fitted: Harness) -> None:
    """A tick that asks for a run shows no words of its own: its log and the run's tag do."""
    basis = fitted_basis(fitted.instance)
    assert basis is not None
    fitted.drop("ann.csv", votes(fitted, 3))
    tags = fitted.request().tags
    assert tags[WANTED_TAG]
    assert f"where {basis.label_version[:12]} was fitted" in tags[WHY_TAG]
    assert "3 reviews by 1 reader; 1 file" in tags[WHY_TAG]
    assert f"Attempt 1 of {MAX_ATTEMPTS}" in tags[WHY_TAG]
