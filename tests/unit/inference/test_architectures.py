from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import architectures, checkpoint


def test_the_image_passes_the_encoder_once_and_the_head_gives_the_logits(
    config: dict[str, Any],
) -> None:
    module = architectures.build(config, 6, 5).eval()
    pixels, features = torch.randn(3, 3, 32, 32), torch.rand(3, 6)
    pooled = module.encode_image(pixels)
    assert pooled.shape == (3, 32)
    torch.testing.assert_close(module.head_logits(pooled, features), module(pixels, features))
    assert module(pixels, features).shape == (3, 5)


def test_poolings_are_the_attention_head_and_the_mean_of_tokens(config: dict[str, Any]) -> None:
    module = architectures.build(config, 0, 2).eval()
    pixels = torch.randn(2, 3, 32, 32)
    output = module.vision(pixel_values=pixels)
    torch.testing.assert_close(module.encode_image(pixels), output.pooler_output)
    module.pooling = "mean"
    torch.testing.assert_close(module.encode_image(pixels), output.last_hidden_state.mean(1))


def test_standardisation_is_part_of_the_state_dict_and_of_the_logits(
    config: dict[str, Any],
) -> None:
    config["head"] = {"type": "linear"}
    module = architectures.build(config, 1, 2).eval()
    pooled, features = torch.randn(4, 32), torch.rand(4, 1)
    module.pooled_mean.fill_(2.0)
    module.pooled_std.fill_(4.0)
    assert {"pooled_mean", "pooled_std"} <= set(module.state_dict())
    weight, bias = module.head.parameters()
    by_hand = torch.cat([(pooled - 2) / 4, features], 1) @ weight.T + bias
    torch.testing.assert_close(module.head_logits(pooled, features), by_hand)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"architecture": "os.system"}, "known are 'constant', 'siglip_metadata'", id="unknown"
        ),
        pytest.param({"architecture": None}, "unknown name", id="missing architecture"),
        pytest.param({"pooling": "max"}, 'pooling: got "max"', id="pooling"),
        pytest.param({"pooling": None}, "pooling", id="pooling is never guessed"),
        pytest.param({"head": {"type": "forest"}}, "head.type: got 'forest'", id="head"),
        pytest.param({"head": None}, "head.type", id="no head"),
        pytest.param({"head": {"type": "mlp", "hidden": 0}}, "head.hidden: got 0", id="hidden"),
        pytest.param({"vision": None}, "vision: expected an object", id="no vision"),
        pytest.param({"vision": {"hiden_size": 8}}, "unknown keys 'hiden_size'", id="typo"),
        pytest.param({"vision": {"layer_norm_eps": "tiny"}}, "layer_norm_eps: got", id="float"),
        pytest.param({"vision": {"num_hidden_layers": 0}}, "num_hidden_layers: got 0", id="zero"),
        pytest.param(
            {"vision": {"image_size": 32, "hidden_act": "boom"}}, "hidden_act", id="activation"
        ),
        pytest.param({"vision": {"image_size": 64}}, "preprocess.size is 32", id="sizes"),
        pytest.param(
            {"vision": {"image_size": 32, "hidden_size": 33, "num_attention_heads": 2}},
            "divide",
            id="heads",
        ),
        pytest.param(
            {"vision": {"image_size": 32, "hidden_size": "wide"}}, "hidden_size", id="type"
        ),
    ],
)
def test_a_config_that_describes_no_network_is_refused(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        architectures.build({**config, **change}, 4, 3)


def test_pooler_without_its_weights_is_refused(config: dict[str, Any]) -> None:
    config["vision"]["vision_use_head"] = False
    with pytest.raises(InputError, match="use 'mean'"):
        architectures.build(config, 4, 3)
    config["pooling"] = "mean"
    assert not any("vision.head" in k for k in architectures.build(config, 4, 3).state_dict())


def test_a_small_network_runs_on_one_thread_and_a_large_one_as_torch_likes(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = architectures.build(config, 4, 3)
    torch.set_num_threads(2)
    with architectures.sized_threads(module):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(architectures, "SMALL_NETWORK", 10)
    with architectures.sized_threads(module):
        assert torch.get_num_threads() == 2


def test_a_network_built_without_weights_has_real_buffers_and_leaves_others_alone(
    config: dict[str, Any],
) -> None:
    from torch import nn

    with architectures.without_weights():
        module = architectures.build(config, 4, 3)
    assert {weight.device.type for weight in module.parameters()} == {"meta"}
    position_ids = module.vision.embeddings.position_ids
    assert position_ids.tolist() == [list(range(16))]
    assert nn.Linear(2, 2).weight.device.type == "cpu"


def test_attention_is_the_fused_one(config: dict[str, Any]) -> None:
    vision = architectures.build(config, 4, 3).vision
    assert vision.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("num_hidden_layers", 10**9, id="layers"),
        pytest.param("hidden_size", 10**9, id="width"),
        pytest.param("image_size", 10**6, id="image"),
    ],
)
def test_a_config_of_absurd_size_is_refused_before_anything_is_built(
    config: dict[str, Any], key: str, value: int
) -> None:
    config["vision"][key] = value
    with pytest.raises(InputError, match=rf"vision.{key}: got {value}; at most"):
        architectures.build(config, 4, 3)


def test_constant_gives_its_state_dict_whatever_it_sees() -> None:
    module = architectures.build({"architecture": "constant"}, 4, 3).eval()
    module.load_state_dict({"logits": torch.tensor([-1.0, 0.0, 2.0])})
    pixels, features = torch.full((5, 3, 8, 8), torch.nan), torch.rand(5, 4)
    expected = torch.tensor([[-1.0, 0.0, 2.0]] * 5)
    assert torch.equal(module(pixels, features), expected)
    assert torch.equal(module.head_logits(module.encode_image(pixels), features), expected)
    assert module.encoder_sees_questionnaire is False


# architectures that other packages add


class Joint(torch.nn.Module):
    """A network whose encoder needs the questionnaire."""

    encoder_sees_questionnaire = True

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(3 + n_features, n_classes)

    def forward(self, pixel_values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        seen = pixel_values.mean((2, 3))
        joined = torch.cat([seen, features.to(seen.dtype)], 1)
        return torch.as_tensor(self.mix(torch.tanh(joined * joined.sum(1, keepdim=True))))


def build_joint(config: dict[str, Any], n_features: int, n_classes: int) -> torch.nn.Module:
    if config.get("joint") == "bad":
        raise InputError("config.json, joint: got 'bad'")
    return Joint(n_features, n_classes)


def build_broken(*_: object) -> None:
    raise RuntimeError("no\nluck")


def build_incomplete(*_: object) -> torch.nn.Module:
    module = torch.nn.Linear(1, 1)
    setattr(module, "encoder_sees_questionnaire", False)  # noqa: B010 - a Tensor, says its type
    return module


NO_FUNCTION = 3


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that installed packages have these entry points (name, object of this module)."""

    def pretend(*pairs: tuple[str, str]) -> None:
        here = SimpleNamespace(**globals())
        monkeypatch.setitem(sys.modules, "an_installed_package", here)
        points = EntryPoints(
            EntryPoint(name, f"an_installed_package:{value}", architectures.ENTRY_POINTS)
            for name, value in pairs
        )

        def entry_points(*, group: str) -> EntryPoints:
            return points.select(group=group)

        monkeypatch.setattr(architectures, "entry_points", entry_points)

    return pretend


def test_an_installed_package_adds_an_architecture_that_saves_and_loads(
    install: Callable[..., None], config: dict[str, Any], schema: dict[str, Any], tmp_path: Path
) -> None:
    install(("joint", "build_joint"))
    joint = {"architecture": "joint", "preprocess": config["preprocess"]}
    module = architectures.build(joint, 11, 5).eval()
    checkpoint.save_artifact(
        tmp_path / "a", module, config=joint, schema=schema, classes=list("vwxyz")
    )
    loaded = checkpoint.load_model(tmp_path / "a").module
    assert loaded.encoder_sees_questionnaire is True
    pixels, features = torch.randn(2, 3, 32, 32), torch.rand(2, 11)
    assert torch.equal(loaded(pixels, features), module(pixels, features))


@pytest.mark.parametrize(
    ("points", "name", "message"),
    [
        pytest.param([("constant", "build_joint")], "joint", "name of a built-in", id="shadow"),
        pytest.param(
            [("joint", "build_joint"), ("joint", "build_broken")],
            "joint",
            '2 installed packages have an architecture "joint"',
            id="twice",
        ),
        pytest.param([("x", "build_broken")], "x", r"RuntimeError: no luck\); mend", id="raises"),
        pytest.param([("x", "gone")], "x", "AttributeError", id="absent"),
        pytest.param([("x", "NO_FUNCTION")], "x", "TypeError", id="no function"),
        pytest.param([("x", "build_incomplete")], "x", "is no network", id="incomplete"),
        pytest.param([("x", "dict")], "x", "TypeError|AttributeError", id="no module"),
        pytest.param([("x", "build_joint")], "y", "known are 'constant', .*, 'x'", id="unknown"),
        pytest.param(
            [("x", "build_joint")], "an_installed_package:build_joint", "unknown", id="dotted path"
        ),
    ],
)
def test_an_entry_point_that_is_no_architecture_is_one_line(
    install: Callable[..., None], points: list[tuple[str, str]], name: str, message: str
) -> None:
    install(*points)
    with pytest.raises(InputError, match=message) as caught:
        architectures.build({"architecture": name}, 4, 3)
    assert "\n" not in str(caught.value)


def test_what_an_added_architecture_says_of_its_config_is_passed_on(
    install: Callable[..., None],
) -> None:
    install(("joint", "build_joint"))
    with pytest.raises(InputError, match=r"^config.json, joint: got 'bad'$"):
        architectures.build({"architecture": "joint", "joint": "bad"}, 4, 3)
