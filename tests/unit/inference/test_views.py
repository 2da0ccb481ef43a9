from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.lib.inference import architectures, views


@pytest.fixture
def inputs(config: dict[str, Any]) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    module = architectures.build(config, 4, 3).eval().requires_grad_(requires_grad=False)
    for weight in module.head.parameters():
        weight.normal_(0, 1)
    return module, torch.randn(6, 3, 32, 32), torch.rand(6, 4), torch.rand(6, 4)


def test_tta_is_the_mean_of_the_sigmoids_of_image_and_flip(inputs: Any) -> None:
    module, pixels, production, full = inputs
    got = views.compute_views(module, pixels, production, full, tta=True)
    flipped = torch.from_numpy(pixels.numpy()[..., ::-1].copy())
    for features, plain, tta in (
        (production, "probs_production_plain", "probs"),
        (full, "probs_full_plain", "probs_full_tta"),
    ):
        upright = 1 / (1 + np.exp(-module(pixels, features).numpy()))
        mirrored = 1 / (1 + np.exp(-module(flipped, features).numpy()))
        np.testing.assert_allclose(got[plain], upright, atol=1e-6)
        np.testing.assert_allclose(got[tta], (upright + mirrored) / 2, atol=1e-6)
        assert (got[tta] - got[plain]).abs().max() > 1e-4


def test_four_views_cost_two_encoder_passes_and_two_views_cost_one(inputs: Any) -> None:
    module, pixels, production, full = inputs
    passes = []
    module.vision.register_forward_hook(lambda *_: passes.append(1))
    assert tuple(views.compute_views(module, pixels, production, full, tta=True)) == (
        "probs",
        "probs_production_plain",
        "probs_full_tta",
        "probs_full_plain",
    )
    assert len(passes) == 2
    plain = views.compute_views(module, pixels, production, full, tta=False)
    assert tuple(plain) == ("probs", "probs_production_plain", "probs_full_plain")
    assert torch.equal(plain["probs"], plain["probs_production_plain"])
    assert len(passes) == 3


def test_outputs_are_float32_whatever_the_dtype_of_the_network(inputs: Any) -> None:
    module, pixels, production, full = inputs
    exact = views.compute_views(module, pixels, production, full, tta=True)
    half = views.compute_views(module.bfloat16(), pixels.bfloat16(), production, full, tta=True)
    for name in exact:
        assert half[name].dtype == torch.float32
        assert 0 < (half[name] - exact[name]).abs().max() < 0.1


class Joint(torch.nn.Module):
    """A network whose encoder sees the answers too: nothing can be shared between shapings."""

    encoder_sees_questionnaire = True

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)
        self.passes = 0

    def forward(self, pixel_values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        left = pixel_values[..., 0].mean(dim=(1, 2))
        return torch.as_tensor(self.linear(torch.stack([left, left * features[:, 0]], dim=1)))


@pytest.mark.parametrize(("tta", "passes"), [(True, 4), (False, 2)])
def test_an_encoder_that_sees_the_answers_runs_once_a_shaping_and_orientation(
    inputs: Any, tta: bool, passes: int
) -> None:
    _, pixels, production, full = inputs
    module: Any = Joint().requires_grad_(requires_grad=False)
    got = views.compute_views(module, pixels, production, full, tta=tta)
    assert (module.passes, views.encoder_passes(module, tta=tta)) == (passes, passes)
    by_hand = module(pixels, production).sigmoid()
    if tta:
        by_hand = (by_hand + module(pixels.flip(-1), production).sigmoid()) / 2
    torch.testing.assert_close(got["probs"], by_hand)
    torch.testing.assert_close(got["probs_full_plain"], module(pixels, full).sigmoid())
