"""The real shapes: a tower as large as MedSigLIP's at 448 loads from disk and runs on a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from dagster_project.lib.inference import architectures, checkpoint

PARAMETERS = 428_000_000
MORE_MEMORY = 5 << 30
RUN = 3
"""Layers that are run: all 27 are loaded and compared, and are of the same shapes."""
CONFIG: dict[str, Any] = {
    "architecture": "siglip_metadata",
    "vision": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 448,
        "patch_size": 14,
    },
    "pooling": "pooler",
    "head": {"type": "linear"},
    "preprocess": {
        "size": 448,
        "resize": "squash",
        "resample": "bicubic",
        "antialias": True,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}
SCHEMA = {"version": "1", "fields": [{"name": "cough", "type": "boolean"}]}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An artifact that lacks its weights; what is written there is removed, passed or not."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "feature_schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(25)))
    yield tmp_path
    (tmp_path / "best_model.pt").unlink(missing_ok=True)


def random_state() -> dict[str, torch.Tensor]:
    """Weights of the right shapes in bfloat16: half the disk, and the cast is tried too."""
    with architectures.without_weights():
        wanted = architectures.build(CONFIG, 3, 25).state_dict()
    generator = torch.Generator().manual_seed(5)
    state = {
        key: torch.empty(value.shape, dtype=torch.bfloat16).uniform_(
            -0.03, 0.03, generator=generator
        )
        for key, value in wanted.items()
    }
    state["pooled_std"] = torch.ones(1152, dtype=torch.bfloat16)
    return state


def memory(what: str) -> int:
    """Bytes of this process: resident now (``VmRSS``), or at its peak (``VmHWM``)."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) << 10


@pytest.mark.slow
def test_a_tower_of_medsiglips_size_loads_with_old_and_new_keys_and_runs(folder: Path) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    state = random_state()
    assert sum(prod(value.shape) for value in state.values()) > PARAMETERS
    old = {key.replace("vision.", "vision.vision_model.", 1): value for key, value in state.items()}
    torch.save(old, folder / "best_model.pt")
    module = checkpoint.load_model(folder).module
    layers = module.vision.encoder.layers
    assert len({tuple((k, v.shape) for k, v in layer.named_parameters()) for layer in layers}) == 1
    del layers[RUN:]
    with torch.inference_mode():
        logits = module(torch.rand(1, 3, 448, 448), torch.zeros(1, 3))
    assert logits.shape == (1, 25)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    del module
    torch.save({"model": state, "epoch": 1}, folder / "best_model.pt")
    loaded = checkpoint.load_model(folder, dtype="bfloat16").module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert memory("VmHWM") - before < MORE_MEMORY
