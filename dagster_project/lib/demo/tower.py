"""The frozen image encoder of the demo model: a SigLIP vision tower with weights made by rule.

Belongs: the tower's configuration and its weights.
Does not: the head (``model``), how the shipped part was trained (``pretraining``).
Concept: a SigLIP of a few seconds cannot be trained from scratch, and a random one sees too little
(top-1 0.3). So its parts are set to what a trained one tends to learn: the patch embedding is a
cosine transform of brightness and two colour differences, the uniform attention subtracts the
image's mean from each patch (what differs from the surrounding skin), the layer's MLP is a sparse
random dictionary whose activations the attention pooling averages. Only the MLP behind the pooling
is trained, on other drawings than the world's (``pretrained.npz``, 33 kB). All of it is an
ordinary state dict of ``SiglipVisionModel``. D = 128 channels: cosine transform (``WAVES``), mean
colour (3), dictionary (``WORDS``), two constants.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_project.lib.demo.seeds import stream

SIZE, PATCH, WIDTH, WORDS = 96, 8, 128, 100
BRIGHT, COLOUR = 13, 5
WAVES = BRIGHT + 2 * COLOUR
CONCEPTS = 25
"""Outputs of the trained MLP, one a class of its own training; added to the first channels."""
SEED = 3
"""Of the dictionary; part of the pretrained file, therefore not the world's."""
_CONSTANT = 60.0
PRETRAINED = Path(__file__).with_name("pretrained.npz")

VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": WORDS,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": PATCH,
}


def set_rules(vision: Any) -> None:
    """Set every weight of a ``SiglipVisionModel`` that no training touches; all others become 0."""
    import torch

    with torch.no_grad():
        for weight in vision.parameters():
            weight.zero_()
        embedding = vision.embeddings.patch_embedding
        embedding.weight[:WAVES] = torch.from_numpy(_cosine_filters())
        # two large constants keep layer normalisation nearly linear: amplitude is what matters
        embedding.bias[-2:] = torch.tensor([_CONSTANT, -_CONSTANT])
        layer = vision.encoder.layers[0]
        for norm in (layer.layer_norm1, layer.layer_norm2, vision.post_layernorm):
            norm.weight.fill_(_CONSTANT * math.sqrt(2 / WIDTH))
        _set_attention(layer.self_attn)
        dictionary, offsets = _dictionary()
        layer.mlp.fc1.weight[:, : WAVES + 3] = torch.from_numpy(dictionary)
        layer.mlp.fc1.bias.copy_(torch.from_numpy(offsets))
        layer.mlp.fc2.weight[WAVES + 3 : WAVES + 3 + WORDS] = torch.eye(WORDS)
        pooling = vision.head
        pooling.attention.in_proj_weight[2 * WIDTH :] = torch.eye(WIDTH)
        pooling.attention.out_proj.weight.copy_(torch.eye(WIDTH))
        pooling.layernorm.weight.fill_(1.0)


def _set_attention(attention: Any) -> None:
    """Query and key 0 attend everywhere alike: subtract the mean patch, and write its colour."""
    import torch

    attention.v_proj.weight.copy_(torch.eye(WIDTH))
    out = torch.zeros(WIDTH, WIDTH)
    out[range(WAVES), range(WAVES)] = -1.0
    for channel, source in enumerate((0, BRIGHT, BRIGHT + COLOUR)):
        out[WAVES + channel, source] = 1.0
    attention.out_proj.weight.copy_(out)


def load_pretrained(vision: Any, parts: dict[str, npt.NDArray[Any]]) -> None:
    """Set the scales and the pooling MLP from ``pretrained.npz`` (see ``pretraining``)."""
    import torch

    values = {name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()}
    with torch.no_grad():
        vision.embeddings.patch_embedding.weight[:WAVES] /= values["wave_scale"][
            :, None, None, None
        ]
        attention = vision.head.attention
        attention.out_proj.weight.copy_(torch.diag(1 / values["pooled_scale"]))
        attention.out_proj.bias.copy_(-values["pooled_mean"] / values["pooled_scale"])
        vision.head.mlp.fc1.weight.copy_(values["fc1_weight"])
        vision.head.mlp.fc1.bias.copy_(values["fc1_bias"])
        vision.head.mlp.fc2.weight[:CONCEPTS] = values["fc2_weight"]
        vision.head.mlp.fc2.bias[:CONCEPTS] = values["fc2_bias"]


def read_pretrained() -> dict[str, npt.NDArray[Any]]:
    """The shipped arrays."""
    with np.load(PRETRAINED) as file:
        return {name: file[name] for name in file.files}


def _cosine_filters() -> npt.NDArray[np.float32]:
    """(WAVES, 3, PATCH, PATCH) lowest cosine waves of brightness, red-green and blue-yellow."""
    k = np.arange(PATCH)
    waves = np.cos(np.pi * (k[None, :] + 0.5) * k[:, None] / PATCH)
    order = sorted(np.ndindex(PATCH, PATCH), key=lambda uv: (sum(uv), uv[0]))
    mixes = ((1, 1, 1), (1, -1, 0), (1, 1, -2))
    filters = [
        np.multiply.outer(np.array(mix) / PATCH, np.outer(waves[u], waves[v]))
        for mix, n in zip(mixes, (BRIGHT, COLOUR, COLOUR), strict=True)
        for u, v in order[:n]
    ]
    return np.asarray(filters, dtype=np.float32)


def _dictionary() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(WORDS, WAVES + 3) sparse random directions and (WORDS,) offsets."""
    rng = stream(SEED, "dictionary")
    shape = (WORDS, WAVES + 3)
    directions = rng.normal(0, 4 / np.sqrt(0.15 * shape[1]), shape) * (rng.random(shape) < 0.15)
    return directions.astype(np.float32), rng.normal(0, 1, WORDS).astype(np.float32)
