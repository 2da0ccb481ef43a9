from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint


def weights(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "best_model.pt", weights_only=True)
    assert isinstance(state, dict)
    return state


def replace_weights(folder: Path, state: Any) -> None:
    torch.save(state, folder / "best_model.pt")


def test_a_saved_artifact_is_complete_verified_and_gives_the_same_network(
    tmp_path: Path, save: Callable[[Path], Any]
) -> None:
    module = save(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "best_model.pt",
        "config.json",
        "feature_schema.json",
        "golden.json",
        "labels.txt",
        "manifest.json",
    ]
    model_store.read_artifact(tmp_path / "a")
    loaded = checkpoint.load_model(tmp_path / "a")
    assert not loaded.module.training
    assert not any(p.requires_grad for p in loaded.module.parameters())
    pixels, features = torch.randn(2, 3, 32, 32), torch.rand(2, 11)
    torch.testing.assert_close(loaded.module(pixels, features), module(pixels, features))


def test_equal_networks_give_equal_bytes_and_overwriting_is_whole(
    tmp_path: Path, save: Callable[[Path], Any]
) -> None:
    for name in ("a", "b", "b"):
        save(tmp_path / name)
    hashes = [model_store.read_artifact(tmp_path / name).tree_hash for name in ("a", "b")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "ema"])
def test_a_state_dict_one_level_down_loads(artifact: Path, wrapper: str) -> None:
    replace_weights(artifact, {wrapper: weights(artifact), "epoch": 3})
    assert checkpoint.load_model(artifact).classes[0] == "acne"


def test_keys_of_transformers_4_and_of_data_parallel_load_identically(artifact: Path) -> None:
    new = checkpoint.load_model(artifact).module.state_dict()
    old = {
        "module." + k.replace("vision.", "vision.vision_model.", 1): v
        for k, v in weights(artifact).items()
    }
    assert any("vision.vision_model.encoder" in k for k in old)
    replace_weights(artifact, old)
    loaded = checkpoint.load_model(artifact).module.state_dict()
    assert all(torch.equal(loaded[k], new[k]) for k in new)


def _without(state: dict[str, Any]) -> dict[str, Any]:
    del state["vision.post_layernorm.bias"]
    return state


def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    return {k.replace("encoder", "coder"): v for k, v in state.items()}


def _reshaped(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"pooled_mean": torch.zeros(31)}


def _nan(state: dict[str, Any]) -> dict[str, Any]:
    state["pooled_std"][3] = torch.nan
    return state


def _integers(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"pooled_mean": torch.zeros(32, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_without, r"1 of \d+ keys missing \('vision.post_lay", id="missing"),
        pytest.param(_renamed, r"32 of \d+ keys missing .* 32 unexpected", id="renamed"),
        pytest.param(lambda s: s | {"extra": torch.ones(1)}, "1 unexpected .*'extra'", id="extra"),
        pytest.param(_reshaped, r"pooled_mean \(31,\) not \(32,\)", id="shape"),
        pytest.param(_nan, "NaN or infinity: 'pooled_std'", id="nan"),
        pytest.param(_integers, "not dense floats: 'pooled_mean'", id="integers"),
        pytest.param(
            lambda s: s | {"module.pooled_mean": s["pooled_mean"]}, "two keys", id="twice"
        ),
        pytest.param(lambda s: {"model": s, "ema": s}, "'model', 'ema' are both", id="ambiguous"),
        pytest.param(lambda s: s | {"epoch": 3}, "'epoch' is not a plain tensor", id="number"),
        pytest.param(lambda _: {}, "expected a state dict", id="empty"),
        pytest.param(lambda _: [1], "expected a state dict, got list", id="list"),
    ],
)
def test_a_state_dict_that_is_not_exactly_the_networks_is_refused(
    artifact: Path, damage: Callable[[dict[str, Any]], Any], message: str
) -> None:
    replace_weights(artifact, damage(weights(artifact)))
    with pytest.raises(InputError, match=message):
        checkpoint.load_model(artifact)


class Payload:
    """What an attacker would pickle: it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_executes_is_refused_and_executes_nothing(
    artifact: Path, tmp_path: Path
) -> None:
    replace_weights(artifact, {"model": Payload(tmp_path / "executed")})
    with pytest.raises(InputError, match=r"best_model.pt: not a loadable state dict"):
        checkpoint.load_model(artifact)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("length", [0, 10, 3000])
def test_a_cut_checkpoint_is_refused(artifact: Path, length: int) -> None:
    path = artifact / "best_model.pt"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="not a loadable state dict"):
        checkpoint.load_model(artifact)


@pytest.mark.parametrize("name", ["best_model.pt", "config.json", "feature_schema.json"])
def test_a_missing_file_is_named(artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    with pytest.raises(InputError, match=name):
        checkpoint.load_model(artifact)


def test_a_class_too_many_in_labels_is_found_by_shape(artifact: Path) -> None:
    with (artifact / "labels.txt").open("a") as labels:
        labels.write("wart\n")
    with pytest.raises(InputError, match="another shape"):
        checkpoint.load_model(artifact)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        pytest.param("preprocess", "resample", "bilinear", id="resample"),
        pytest.param("preprocess", "mean", [0.485, 0.456, 0.406], id="mean"),
        pytest.param(None, "pooling", "mean", id="pooling"),
    ],
)
def test_golden_cases_find_a_config_that_is_not_the_one_shipped(
    artifact: Path, section: str | None, key: str, value: Any
) -> None:
    config = json.loads((artifact / "config.json").read_text())
    (config[section] if section else config)[key] = value
    (artifact / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"golden.json case 1: probabilities differ by"):
        checkpoint.load_model(artifact)


def test_golden_cases_find_weights_of_the_same_shape(artifact: Path) -> None:
    state = weights(artifact)
    state["vision.embeddings.position_embedding.weight"] *= -1
    replace_weights(artifact, state)
    with pytest.raises(InputError, match="probabilities differ by"):
        checkpoint.load_model(artifact)


def test_a_golden_file_of_another_form_is_refused_and_an_absent_one_is_not_needed(
    artifact: Path,
) -> None:
    (artifact / "golden.json").write_text('{"cases": []}')
    with pytest.raises(InputError, match=r"golden.json: not of the documented form"):
        checkpoint.load_model(artifact)
    (artifact / "golden.json").unlink()
    checkpoint.load_model(artifact)
