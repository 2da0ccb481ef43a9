from __future__ import annotations

from typing import Any

import pytest
import torch

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import architectures


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
