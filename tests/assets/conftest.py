"""Fixtures: a world without a dump, with all test shards dumped, and fitted once."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from harness import Harness, write_dataset

from dagster_project.definitions import build_definitions
from dagster_project.lib import pictures
from dagster_project.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The test's own folder, in memory where there is /dev/shm: SQLite syncs at every event."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made inside
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="tier-refit-") as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn and looked at in the tests of lib; here they only cost time."""
    monkeypatch.setattr(pictures, "png", lambda *_, **__: b"not drawn")


@pytest.fixture
def settings(folder: Path) -> Settings:
    """Everything under the test's own folder; three shards; no bound on change."""
    policy = {
        "confident": {"rule": "coverage", "target": 0.4},
        "refer": {"rule": "share", "target": 0.2},
    }
    (folder / "policy.json").write_text(json.dumps(policy))
    return Settings(
        model_uri=str(folder / "model"),
        dataset_dir=folder / "dataset",
        labels_uri=str(folder / "drop"),
        store=folder / "store",
        num_shards=3,
        max_threshold_change=1.0,
        policy=folder / "policy.json",
        consensus_min_agreeing=1,  # one reader's file is a change of labels
    )


@pytest.fixture
def harness(folder: Path, settings: Settings) -> Iterator[Harness]:
    """A world with a model and a dataset, and no dump yet."""
    write_dataset(settings.dataset_dir)
    (folder / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(folder / "home")) as instance:
        made = Harness(instance, settings, build_definitions(settings))
        made.publish_model()
        made.read_dataset()
        yield made


@pytest.fixture
def ready(harness: Harness) -> Harness:
    """All test shards dumped with model A."""
    harness.dump()
    return harness


@pytest.fixture
def fitted(ready: Harness) -> Harness:
    """Fitted once, on the given labels."""
    ready.refit()
    return ready
