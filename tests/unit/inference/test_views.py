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
        assert np.abs(got[tta] - got[plain]).max() > 1e-4


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
    assert np.array_equal(plain["probs"], plain["probs_production_plain"])
    assert len(passes) == 3


def test_outputs_are_float32_whatever_the_dtype_of_the_network(inputs: Any) -> None:
    module, pixels, production, full = inputs
    exact = views.compute_views(module, pixels, production, full, tta=True)
    half = views.compute_views(module.bfloat16(), pixels.bfloat16(), production, full, tta=True)
    for name in exact:
        assert half[name].dtype == np.float32
        assert 0 < np.abs(half[name] - exact[name]).max() < 0.1
