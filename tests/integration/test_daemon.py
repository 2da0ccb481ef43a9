"""Labels land, and a real daemon does the rest: its own processes, queue and sensor ticks.

The unit of trust here is the daemon. That the sensor decides rightly is tested in
``tests/assets/test_label_sensor.py``; this is the test that what it decides also happens. What ran,
how often, and what each tick said is read from the instance.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from harness import CLASSES, Harness, write_dataset

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
from dagster_project.defs.label_sensor import WHY_TAG
from dagster_project.settings import Settings

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 150


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Harness, dict[str, str]]]:
    """A home, a dataset and a complete dump, and the environment that finds them."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, home / name)
    policy = {
        "confident": {"rule": "coverage", "target": 0.4},
        "refer": {"rule": "share", "target": 0.2},
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    variables = {
        "MODEL_URI": str(tmp_path / "model"),
        "DATASET_DIR": str(tmp_path / "dataset"),
        "LABELS_URI": str(tmp_path / "drop"),
        "TIER_REFIT_STORE": str(tmp_path / "store"),
        "NUM_SHARDS": "1",
        "TIER_REFIT_POLICY": str(tmp_path / "policy.json"),
        "TIER_REFIT_MAX_THRESHOLD_CHANGE": "1.0",
        "TIER_REFIT_CONSENSUS_MIN_AGREEING": "1",  # one file of one reader is a change of labels
    }
    (tmp_path / "settings.env").write_text("".join(f"{k}={v}\n" for k, v in variables.items()))
    settings = Settings(_env_file=tmp_path / "settings.env")
    write_dataset(settings.dataset_dir)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        harness = Harness(instance, settings, build_definitions(settings))
        harness.publish_model()
        harness.read_dataset()
        harness.dump("test")
        harness.dump("train")
        yield harness, {**os.environ, "DAGSTER_HOME": str(home)}


@pytest.fixture
def daemon(world: tuple[Harness, dict[str, str]], tmp_path: Path) -> Iterator[Path]:
    """`dagster-daemon run`, and its log."""
    _, environment = world
    log = tmp_path / "daemon.log"
    command = Path(sys.executable).with_name("dagster-daemon")
    workspace = Path(environment["DAGSTER_HOME"]) / "workspace.yaml"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [command, "run", "-w", workspace],
            env=environment,
            cwd=tmp_path,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        yield log
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def refit_by_hand(harness: Harness) -> Iterator[None]:
    """A refit is running; it waits in ``tier_thresholds``, as it would for a second process.

    Its snapshot of the drop is taken by then, whatever the machine's speed. It ends, well, after.
    """
    looks = harness.settings.looks
    looks.parent.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as thread:
        with looks.with_name(f".{looks.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            refit = thread.submit(harness.run_job, jobs.REFIT_JOB, list(jobs.REFIT))
            yield
        assert refit.result().success


@dataclass(frozen=True)
class Witness:
    """What the instance says happened, and patience until it does."""

    harness: Harness
    log: Path

    def refits(self) -> list[dg.DagsterRun]:
        """Runs of the refit job, oldest first."""
        instance = self.harness.instance
        return list(instance.get_runs(dg.RunsFilter(job_name=jobs.REFIT_JOB)))[::-1]

    def materialized(self, run: dg.DagsterRun) -> Counter[str]:
        """How often a run materialized each asset."""
        records = self.harness.instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        return Counter(r.asset_key.to_user_string() for r in records if r.asset_key)

    def ticks(self) -> list[Any]:
        """Ticks of the label sensor, oldest first."""
        for state in self.harness.instance.all_instigator_state():
            if state.instigator_name == "label_sensor":
                found = self.harness.instance.get_ticks(
                    state.instigator_origin_id, state.selector_id
                )
                return list(found)[::-1]
        return []

    def said(self, *words: str) -> bool:
        """Whether a tick said all of these words as its reason to skip."""
        reasons = [str(tick.skip_reason) for tick in self.ticks()]
        return any(all(word in reason for word in words) for reason in reasons)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            last = self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, f"{what} did not happen:\n{last}"
            time.sleep(0.5)

    def wait_for_success(self, n: int) -> None:
        """The first ``n`` refits have succeeded."""

        def done() -> bool:
            statuses = [run.status for run in self.refits()]
            assert dg.DagsterRunStatus.FAILURE not in statuses
            return statuses[:n] == [dg.DagsterRunStatus.SUCCESS] * n

        self.wait(done, f"refit {n}")


def counts(harness: Harness) -> dict[str, int]:
    """How often each asset that is no part of a refit was materialized, by whomever."""
    keys = harness.definitions.resolve_asset_graph().get_all_asset_keys()
    others = {key.to_user_string() for key in keys} - {*jobs.REFIT, *jobs.TRAIN_SIDE}
    return {name: harness.count(name) for name in others}


def test_what_lands_is_refitted_once_by_the_daemon_and_a_bad_file_changes_nothing(
    world: tuple[Harness, dict[str, str]], daemon: Path
) -> None:
    harness, _ = world
    witness = Witness(harness, daemon)
    images, readers, before = harness.test_images(), ("ann", "bob"), counts(harness)
    harness.drop("bad.csv", [(images[0], "eve", "ecsema")])
    with refit_by_hand(harness):
        witness.wait(lambda: harness.count("scored_test_rows") == 1, "the snapshot of the refit")
        harness.drop("ann.csv", [(uuid, who, CLASSES[0]) for uuid in images[:5] for who in readers])
        witness.wait(lambda: witness.said("in progress", "10 reviews"), "a tick during the refit")
    witness.wait_for_success(2)
    harness.drop("worse.csv", [(images[1], "eve", "psoriasys")])
    witness.wait(lambda: witness.said("already fitted", "worse.csv"), "a tick on the bad file")

    first, second = witness.refits()
    assert witness.materialized(first) == Counter(jobs.REFIT)
    assert witness.materialized(second) == Counter([*jobs.REFIT, *jobs.TRAIN_SIDE])
    assert counts(harness) == before, "a dump, a sync or a packet was made again"
    assert harness.metadata("evaluation_summary")["n_reviewed"] == 5
    assert harness.metadata("label_history")["versions"] == 2
    assert harness.metadata("expert_reviews")["files_refused"] == 1
    # every run is asked for by one tick, and every tick that asks for none says why
    asked = [tick for tick in witness.ticks() if tick.run_ids]
    assert [tick.run_ids for tick in asked] == [[second.run_id]]
    why = second.tags[WHY_TAG]
    assert "10 reviews by 2 readers; 2 files, 1 of them refused" in why
    assert "bad.csv row 2, column label: unknown class" in why
    captured = harness.instance.compute_log_manager.get_log_data(asked[0].log_key)
    assert why in (captured.stderr or b"").decode()
    assert all(tick.skip_reason for tick in witness.ticks() if not tick.run_ids)
    assert not [t for t in witness.ticks() if "ecsema" in str(t.skip_reason)]
    # one process a run: the multiprocess executor would start a process for each step
    kinds = {e.dagster_event_type for e in harness.instance.all_logs(second.run_id)}
    assert dg.DagsterEventType.STEP_WORKER_STARTED not in kinds
