"""Fixtures: a world without a dump, with all test shards dumped, and fitted once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import quick
from harness import Harness, with_checkpoints, write_dataset
from PIL import Image

from dagster_project.definitions import build_definitions
from dagster_project.lib import pictures
from dagster_project.settings import Settings


@pytest.fixture(scope="session")
def shelf() -> Iterator[Path]:
    """A folder for this process, in memory where there is /dev/shm: SQLite syncs at every event."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made inside
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="tier-refit-") as made:
        yield Path(made)


@pytest.fixture
def folder(shelf: Path) -> Iterator[Path]:
    """The test's own folder: empty at first, and at the same path for every test of a process.

    The same path, because a world that was made once is put back by copying it (:func:`world`),
    and its settings and events name the folder.
    """
    place = shelf / "world"
    place.mkdir()
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session", autouse=True)
def quick_events() -> Iterator[None]:
    """The events are real; only what Dagster does again for each of them is done once."""
    with pytest.MonkeyPatch.context() as patch:
        quick.events(patch)
        yield


class Blank:
    """Takes whatever is drawn on it: a figure, its axes, and what those give."""

    def __getattr__(self, name: str) -> Blank:
        if name.startswith("__"):  # no array, no number: NumPy asks
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Blank:
        return self

    def get_ylim(self) -> tuple[float, float]:
        return 0.0, 1.0

    def get_legend_handles_labels(self) -> tuple[list[Blank], list[str]]:
        return [], []

    def subplots(self, rows: int = 1, columns: int = 1, *, squeeze: bool = True, **_: Any) -> Any:
        axes = np.full((rows, columns), self, dtype=object)
        return axes.squeeze()[()] if squeeze else axes


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn and looked at in the tests of lib; here they only cost time.

    What a picture counts is still counted here, and is given to a canvas that draws nothing.
    """
    monkeypatch.setattr(pictures, "new_figure", lambda *_, **__: Blank())
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


def _begin(made: Harness) -> None:
    made.publish_model()
    made.read_dataset()


def _find(made: Harness) -> None:
    (made.settings.dataset_dir / "images").mkdir()
    for shade, path in enumerate(made.stored("dataset_index").frame["image_path"]):
        Image.new("RGB", (16, 16), (shade % 256, 90, 60)).save(made.settings.dataset_dir / path)
    made.dump("train")
    assert made.run_job("mislabel_job", ["mislabel_candidates"]).success


STEPS: dict[str, Callable[[Harness], object]] = {
    "harness": _begin,
    "ready": Harness.dump,
    "fitted": Harness.refit,
    "found": _find,
}
"""What each fixture adds to the one before it."""


def opened(home: Path) -> dg.DagsterInstance:
    """The instance of a folder; as in ``dagster.yaml``, nobody is told what runs."""
    return dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}})


@contextmanager
def world(stage: str, shelf: Path, settings: Settings) -> Iterator[Harness]:
    """The world after ``stage``: made by real runs the first time, a copy of that afterwards."""
    folder, kept = settings.store.parent, shelf / stage
    if kept.is_dir():
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
    else:
        _make(stage, shelf, settings)
        shutil.copytree(folder, kept, symlinks=True)
    with opened(folder / "home") as instance:
        yield Harness(instance, settings, build_definitions(settings))


def _make(stage: str, shelf: Path, settings: Settings) -> None:
    before = list(STEPS)[: list(STEPS).index(stage)]
    if before:
        with world(before[-1], shelf, settings) as made:
            STEPS[stage](made)
        return
    write_dataset(settings.dataset_dir)
    (settings.store.parent / "home").mkdir()
    with opened(settings.store.parent / "home") as instance:
        STEPS[stage](Harness(instance, settings, build_definitions(settings)))


@pytest.fixture
def harness(shelf: Path, settings: Settings) -> Iterator[Harness]:
    """A world with a model and a dataset, and no dump yet."""
    with world("harness", shelf, settings) as made:
        yield made


@pytest.fixture
def ready(shelf: Path, settings: Settings) -> Iterator[Harness]:
    """All test shards dumped with model A."""
    with world("ready", shelf, settings) as made:
        yield made


@pytest.fixture
def fitted(shelf: Path, settings: Settings) -> Iterator[Harness]:
    """Fitted once, on the given labels."""
    with world("fitted", shelf, settings) as made:
        yield made


@pytest.fixture
def found(shelf: Path, settings: Settings) -> Iterator[Harness]:
    """Photographs are there, both splits are dumped, candidates are found."""
    with world("found", shelf, settings) as made:
        yield made


@pytest.fixture
def listed(harness: Harness) -> Harness:
    """A world with two checkpoints on the list, and no dump yet."""
    return with_checkpoints(harness)
