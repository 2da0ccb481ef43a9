from typing import Any

import numpy as np
import torch

from dagster_project.lib.demo import tower


def test_the_attention_of_the_tower_subtracts_the_mean_patch() -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    vision: Any = SiglipVisionModel(SiglipVisionConfig(**tower.VISION))
    tower.set_rules(vision)
    flat = torch.full((1, 3, tower.SIZE, tower.SIZE), 0.3)
    with torch.inference_mode():
        embedded = vision.embeddings(flat)
        layer = vision.encoder.layers[0]
        after_all = embedded + layer.self_attn(layer.layer_norm1(embedded))[0]
    before, after = (float(x[..., : tower.WAVES].abs().max()) for x in (embedded, after_all))
    assert before > 1
    assert after < 0.02 * before
    assert float(after_all[..., tower.WAVES].abs().max()) > 1


def test_the_shipped_part_is_small_finite_and_fits_the_tower() -> None:
    parts = tower.read_pretrained()
    assert tower.PRETRAINED.stat().st_size < 64_000
    assert all(np.isfinite(part).all() for part in parts.values())
    assert {name: part.shape for name, part in parts.items()} == {
        "wave_scale": (tower.WAVES,),
        "pooled_mean": (tower.WIDTH,),
        "pooled_scale": (tower.WIDTH,),
        "fc1_weight": (tower.WORDS, tower.WIDTH),
        "fc1_bias": (tower.WORDS,),
        "fc2_weight": (tower.CONCEPTS, tower.WORDS),
        "fc2_bias": (tower.CONCEPTS,),
    }
