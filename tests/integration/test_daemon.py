"""Labels land, and a real daemon does the rest: its own processes, queue and sensor ticks.

The unit of trust here is the daemon. That the sensor decides rightly is tested in
``tests/assets/test_label_sensor.py``; this is the test that what it decides also happens.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from harness import CLASSES, Harness, write_dataset

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs
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
        "NUM_SHARDS": "2",
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
        harness.dump()
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


def wait_until(condition: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen:\n{log.read_text()[-4000:]}"
        time.sleep(0.5)


def test_labels_that_land_are_refitted_by_the_daemon_and_nothing_is_dumped_again(
    world: tuple[Harness, dict[str, str]], daemon: Path
) -> None:
    harness, _ = world
    dumped = harness.count("test_probabilities")
    wait_until(lambda: harness.count("evaluation_summary") == 1, "the first fit", daemon)
    images = harness.test_images()
    harness.drop("ann.csv", [(uuid, "ann", CLASSES[0]) for uuid in images[:5]])
    wait_until(lambda: harness.count("evaluation_summary") == 2, "the refit", daemon)

    def idle() -> bool:
        active = harness.instance.get_runs(dg.RunsFilter(job_name=jobs.REFIT_JOB))
        return all(run.status == dg.DagsterRunStatus.SUCCESS for run in active)

    wait_until(idle, "the end of the runs", daemon)
    assert "already fitted" in str(harness.tick())
    assert harness.metadata("evaluation_summary")["n_reviewed"] == 5
    assert harness.count("test_probabilities") == dumped
    assert harness.count("tier_thresholds") == 2
    newest = harness.instance.get_runs(dg.RunsFilter(job_name=jobs.REFIT_JOB))[0]
    selected = {key.to_user_string() for key in newest.asset_selection or ()}
    assert selected == set(jobs.REFIT)
    # one process a run: the multiprocess executor would start a process for each step
    kinds = {e.dagster_event_type for e in harness.instance.all_logs(newest.run_id)}
    assert dg.DagsterEventType.STEP_WORKER_STARTED not in kinds
