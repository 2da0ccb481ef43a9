"""How ``pretrained.npz`` was made: the trained part of the demo's frozen image encoder.

Run by hand when ``drawing``, ``looks`` or ``tower`` change what an image or a feature is::

    python -m dagster_project.lib.demo.pretraining

Belongs: fitting the MLP behind the pooling on drawings that no world contains.
Does not: anything that building a world calls.
Concept: as with the deployed model, the encoder has seen far more pictures than the head, from
elsewhere, and is frozen when the head is fitted. N = drawings, D = width, K = classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dagster_project.lib import files
from dagster_project.lib.demo import tower
from dagster_project.lib.demo.classes import CLASSES, frequencies, look_alikes
from dagster_project.lib.demo.drawing import SHAPES, draw, jpeg
from dagster_project.lib.demo.looks import LOOKS, mixed, varied
from dagster_project.lib.demo.model import CONFIG
from dagster_project.lib.demo.seeds import stream, subseed
from dagster_project.lib.inference import preprocess
from dagster_project.lib.progress import bar

if TYPE_CHECKING:
    import torch

SEED = 7
"""Not that of any world."""
DRAWINGS, EPOCHS, BATCH, RATE = 40_000, 60, 256, 6e-3


def main() -> None:
    """Draw, encode, train, and write the file beside this module."""
    import torch

    with bar("drawing", "image") as on_progress:
        drawn = []
        for number in range(DRAWINGS):
            drawn.append(_drawing(number))
            on_progress(number + 1, DRAWINGS)
    pixels = torch.from_numpy(np.stack([p for p, _ in drawn]))
    target = torch.from_numpy(np.stack([t for _, t in drawn]))
    parts = {name: value.astype(np.float16) for name, value in _train(pixels, target).items()}
    with files.publish(tower.PRETRAINED) as temp, temp.open("wb") as sink:
        np.savez(sink, **parts)  # type: ignore[arg-type]


def _drawing(number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """One drawing and its (K,) soft label: the shares of the class and of its look-alike."""
    rng = stream(SEED, "pretraining", number)
    chance = np.sqrt(frequencies())
    name = CLASSES[int(rng.choice(len(CLASSES), p=chance / chance.sum()))]
    twins = look_alikes(name)
    twin = twins[int(rng.integers(len(twins)))]
    share = float(np.clip(rng.beta(0.8, 2.2) * 0.5, 0, 0.5))
    look = varied(mixed(LOOKS[name], LOOKS[twin], share, rng), 0.2, rng)
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    picture = draw(look, rng.beta(1.3, 1.7) * 5, shape, rng)
    target = np.zeros(len(CLASSES), dtype=np.float32)
    target[CLASSES.index(name)] += 1 - share
    target[CLASSES.index(twin)] += share
    recipe = preprocess.parse_preprocess(CONFIG)
    return preprocess.resize(preprocess.decode(jpeg(picture, rng)), recipe), target


def _train(pixels: torch.Tensor, target: torch.Tensor) -> dict[str, npt.NDArray[Any]]:
    """Scales by counting, then the MLP by gradient descent on the soft labels."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    vision: Any = SiglipVisionModel(SiglipVisionConfig(**tower.VISION))
    vision.eval()
    tower.set_rules(vision)
    with torch.inference_mode():
        waves = vision.embeddings(_normal(pixels[:500]))[:, :, : tower.WAVES]
        scale = (waves - waves.mean(1, keepdim=True)).pow(2).mean((0, 1)).sqrt()
        vision.embeddings.patch_embedding.weight[: tower.WAVES] /= scale[:, None, None, None]
        pooled = torch.cat(
            [vision(pixel_values=_normal(p)).pooler_output for p in torch.split(pixels, 128)]
        )
    mean, deviation = pooled.mean(0), pooled.std(0) + 1e-2
    standard = ((pooled - mean) / deviation).clone()
    first, second = _fit(standard, target)
    return {
        "wave_scale": scale.numpy(),
        "pooled_mean": mean.numpy(),
        "pooled_scale": deviation.numpy(),
        "fc1_weight": first.weight.detach().numpy(),
        "fc1_bias": first.bias.detach().numpy(),
        "fc2_weight": second.weight.detach().numpy(),
        "fc2_bias": second.bias.detach().numpy(),
    }


def _normal(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().permute(0, 3, 1, 2) / 127.5 - 1


def _fit(pooled: torch.Tensor, target: torch.Tensor) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(subseed(SEED, "torch"))
    first, second = nn.Linear(tower.WIDTH, tower.WORDS), nn.Linear(tower.WORDS, tower.CONCEPTS)
    net = nn.ModuleList([first, second])
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    normal = functional.layer_norm(pooled, (tower.WIDTH,))
    keep = len(normal) * 19 // 20
    for epoch in range(EPOCHS):
        optimiser.param_groups[0]["lr"] = RATE * (1 - epoch / EPOCHS)
        for rows in torch.split(torch.randperm(keep), BATCH):
            hidden = functional.gelu(first(normal[rows]), approximate="tanh")
            concepts = pooled[rows, : tower.CONCEPTS] + second(functional.dropout(hidden, 0.1))
            # sigmoid, as in the head: a softmax would leave the concepts' common level undefined
            loss = functional.binary_cross_entropy_with_logits(concepts, target[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss * len(CLASSES))
            optimiser.step()
    with torch.inference_mode():
        hidden = functional.gelu(first(normal[keep:]), approximate="tanh")
        guess = (pooled[keep:, : tower.CONCEPTS] + second(hidden)).argmax(1)
    right = float((guess == target[keep:].argmax(1)).float().mean())
    print(f"held-out drawings named correctly: {right:.3f} of {len(guess)}")
    return first, second


if __name__ == "__main__":
    main()
