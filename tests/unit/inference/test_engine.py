"""The engine's way over the bus, driven without a GPU: the calls are real, the clock is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.lib.inference import checkpoint
from dagster_project.lib.inference.engine import Engine


class Event:
    """A mark on a device's clock that advances by 2 s each time."""

    clock = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        Event.clock += 2.0
        self.at = Event.clock

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other.at - self.at)


def batch(engine: Engine, rows: int) -> tuple[Any, Any, Any]:
    size = engine.model.preprocess.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    production, full = rng.random((2, rows, 11), dtype=np.float32)
    return pixels, production, full


@pytest.fixture
def engine(artifact: Path) -> Engine:
    return Engine(checkpoint.load_model(artifact), tta=True, batch_size=4)


def test_pixels_are_pinned_and_times_are_the_devices_own_on_a_gpu(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = engine.collect(engine.submit(*batch(engine, 6)))
    pinned: list[torch.dtype] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.dtype)
        return tensor

    monkeypatch.setattr(Engine, "_on_gpu", True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    before = engine.times.transfer, engine.times.model
    pieces = engine.submit(*batch(engine, 6))
    assert pinned == 2 * [torch.uint8, torch.float32, torch.float32]  # bytes go over the bus
    assert [len(piece.keep) for piece in pieces] == [3, 3]  # alive until the copy is done
    out = engine.collect(pieces)
    assert engine.times.transfer - before[0] == pytest.approx(4.0)
    assert engine.times.model - before[1] == pytest.approx(4.0)
    for name, values in plain.items():
        assert np.array_equal(out[name], values)


def test_a_batch_larger_than_fits_is_run_in_parts_with_the_same_rows(engine: Engine) -> None:
    whole = Engine(engine.model, tta=True, batch_size=64)
    parts, together = (e.collect(e.submit(*batch(e, 10))) for e in (engine, whole))
    for name, values in together.items():
        assert values.shape == (10, 5)
        assert values.dtype == np.float32
        np.testing.assert_allclose(parts[name], values, atol=1e-6)
