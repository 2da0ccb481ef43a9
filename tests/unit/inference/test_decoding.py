from __future__ import annotations

import os
import threading
from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import decoding, dump, preprocess
from dagster_project.lib.inference.preprocess import DecodeError


@pytest.fixture
def plan(artifact: Path, dataset: tuple[Path, pl.DataFrame]) -> dump.DumpPlan:
    return dump.plan_dump(
        model_dir=artifact,
        tree_hash=model_store.read_artifact(artifact).tree_hash,
        dataset_dir=dataset[0],
        rows=dataset[1],
        shard=0,
        n_shards=1,
    )


def test_pictures_come_in_the_plans_order_whatever_finishes_first(
    plan: dump.DumpPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = preprocess.decode
    wait = threading.Event()

    def slow_first(data: bytes, *, upright: bool) -> preprocess.Pixels:
        if data == (plan.dataset_dir / plan.rows["image_path"][0]).read_bytes():
            wait.wait(0.2)
        return plain(data, upright=upright)

    monkeypatch.setattr(preprocess, "decode", slow_first)
    with decoding.read_ahead(plan, [(0, 3), (3, 5)], 4) as images:
        found = [image for batch in images for image in batch]
    assert isinstance(found[3], DecodeError)
    for row, image in enumerate(found):
        if row != 3:
            data = (plan.dataset_dir / plan.rows["image_path"][row]).read_bytes()
            expected = preprocess.resize(plain(data), plan.spec.preprocess)
            assert not isinstance(image, DecodeError)
            assert (image == expected).all()


def test_nothing_is_read_further_ahead_than_two_spans(
    plan: dump.DumpPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    plain = preprocess.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(preprocess, "read_bytes", counted)
    spans = [(i, i + 1) for i in range(14)]
    with decoding.read_ahead(plan, spans, 1) as images:
        for done, _ in enumerate(images, start=1):
            assert len(read) <= done + 2
    assert len(read) == 14


def test_leaving_early_ends_the_threads(plan: dump.DumpPlan) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        decoding.read_ahead(plan, [(0, 4), (4, 8)], 2) as images,
    ):
        next(images)
        raise KeyboardInterrupt
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_a_picture_that_vanishes_or_appears_after_the_plan_stops_the_dump(
    plan: dump.DumpPlan,
) -> None:
    (plan.dataset_dir / plan.rows["image_path"][1]).unlink()
    with (
        pytest.raises(InputError, match="vanished during the dump"),
        decoding.read_ahead(plan, [(0, 4)], 2) as images,
    ):
        next(images)


def test_a_gpu_gets_a_decoder_a_core_and_a_cpu_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert (decoding.n_decoders("cuda"), decoding.n_decoders("cpu")) == (7, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(99)), raising=False)
    assert decoding.n_decoders("cuda") == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert decoding.n_decoders("cuda") == 1
