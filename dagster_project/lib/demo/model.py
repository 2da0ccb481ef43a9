"""The demo's model artifacts: the frozen tower, and heads fitted on the training labels.

Belongs: fitting a head by a recipe and saving its artifact.
Does not: the tower's weights (``tower``), which recipes there are (``candidates``), inference
(``lib/inference``, which is used here as is).
Concept: as deployed: image encoder frozen, a linear sigmoid head over its pooled output and the
questionnaire, binary cross-entropy on the **given** labels, noise included; it stops where held-out
patients say so. Images are encoded once for all recipes.
N = training images, D = pooled width, F = questionnaire features, K = classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import dataset
from dagster_project.lib.demo import tower
from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.demo.questionnaire import schema
from dagster_project.lib.demo.seeds import subseed
from dagster_project.lib.progress import silent

if TYPE_CHECKING:
    import torch

    from dagster_project.lib.demo.candidates import Recipe
    from dagster_project.lib.inference.architectures import SiglipMetadata
    from dagster_project.lib.inference.preprocess import Preprocess
    from dagster_project.lib.progress import OnProgress

CONFIG: dict[str, Any] = {
    "architecture": "siglip_metadata",
    "vision": tower.VISION,
    "pooling": "pooler",
    "head": {"type": "linear"},
    "preprocess": {
        "size": tower.SIZE,
        "resize": "squash",
        "resample": "bilinear",
        "antialias": True,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}
RAW_SHRINK = 20.0
"""Pooled channels without a trained concept are this much smaller before the head: a prior."""
MAX_EPOCHS, PATIENCE, BATCH = 120, 20, 256
WEIGHT_DECAY, RATE = 0.02, 1e-3


@dataclass(frozen=True)
class _Training:
    """Encoded training rows, with both shapings of the questionnaire."""

    pooled: torch.Tensor
    full: torch.Tensor
    production: torch.Tensor
    target: torch.Tensor
    held_out: torch.Tensor


def fit_models(
    dataset_dir: Path,
    folders: Mapping[Recipe, Path],
    *,
    seed: int,
    on_progress: OnProgress = silent,
) -> None:
    """Fit a head by each recipe on the train split of ``dataset_dir``; write the artifacts.

    Images that do not open are left out; ``on_progress`` counts images encoded. Every head starts
    from the same random state, so none depends on which others are fitted. Equal dataset and seed
    give equal weights on one kind of machine, whatever its number of cores.
    """
    import torch

    from dagster_project.lib.inference import architectures, checkpoint, preprocess, questionnaire

    fields = questionnaire.parse_schema(schema())
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(subseed(seed, "head"))
        module = architectures.build(CONFIG, questionnaire.n_features(fields), len(CLASSES))
        tower.set_rules(module.vision)
        tower.load_pretrained(module.vision, tower.read_pretrained())
        module.eval().requires_grad_(False)
        index = dataset.split_rows(dataset.dataset_index(dataset_dir), "train")
        labels = dataset.given_labels(dataset_dir)
        rows = index.join(labels, on="image_uuid", how="left", maintain_order="left")
        pictures = [dataset_dir / path for path in rows["image_path"]]
        pixels = preprocess.parse_preprocess(CONFIG)
        training = _encoded(module, rows, pictures, pixels, on_progress=on_progress)
        start = torch.get_rng_state()
        for recipe, folder in folders.items():
            torch.set_rng_state(start)
            _fit_head(module, training, recipe)
            checkpoint.save_artifact(
                folder, module, config=CONFIG, schema=schema(), classes=CLASSES
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order on any number of cores; and so small a network gains nothing from two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _encoded(
    module: SiglipMetadata,
    rows: pl.DataFrame,
    pictures: list[Path],
    recipe: Preprocess,
    *,
    on_progress: OnProgress,
) -> _Training:
    import torch

    from dagster_project.lib.inference import preprocess, questionnaire

    pixels, kept = [], []
    for number, path in enumerate(pictures):
        try:
            pixels.append(preprocess.resize(preprocess.decode(path), recipe))
        except preprocess.DecodeError:
            continue
        kept.append(number)
    rows = rows[kept]
    pooled = []
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(np.stack(pixels)), 64):
            pooled.append(module.encode_image(preprocess.normalise(batch, recipe)))
            on_progress(sum(len(part) for part in pooled), len(pictures))
    on_progress(len(pictures), len(pictures))
    fields = questionnaire.parse_schema(schema())
    hidden = questionnaire.production_null_fields(fields)
    patients = rows["patient_id"].unique().sort().to_list()
    return _Training(
        torch.cat(pooled).clone(),  # inference tensors cannot be used in training
        torch.from_numpy(questionnaire.encode(fields, rows)),
        torch.from_numpy(questionnaire.encode(fields, rows, null_fields=hidden)),
        torch.tensor([CLASSES.index(label) for label in rows["label"]]),
        torch.from_numpy(rows["patient_id"].is_in(patients[::6]).to_numpy()),
    )


def _fit_head(module: SiglipMetadata, rows: _Training, recipe: Recipe) -> None:
    """Standardise, then descend until held-out patients stop gaining; keep their best epoch."""
    import torch
    from torch.nn import functional

    shrink = torch.ones(tower.WIDTH)
    shrink[tower.CONCEPTS :] = RAW_SHRINK
    module.pooled_mean.copy_(rows.pooled.mean(0))
    module.pooled_std.copy_((rows.pooled.std(0) + 1e-3) * shrink)
    _start_from_concepts(module)
    module.head.requires_grad_(True)
    optimiser = torch.optim.AdamW(module.head.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    target = functional.one_hot(rows.target, len(CLASSES)).float()
    fitted, held_out = (~rows.held_out).nonzero()[:, 0], rows.held_out.nonzero()[:, 0]
    weight = _row_weights(rows, recipe)
    best, best_state, waited = float("inf"), module.head.state_dict(), 0
    for _ in range(MAX_EPOCHS):
        for batch in torch.split(_epoch(fitted, weight, recipe), BATCH):
            loss = _loss(_varied_logits(module, rows, batch), target[batch], recipe)
            optimiser.zero_grad()
            torch.autograd.backward(loss * len(CLASSES))
            optimiser.step()
        with torch.no_grad():
            logits = module.head_logits(rows.pooled[held_out], rows.production[held_out])
            now = float(_loss(logits, target[held_out], recipe, weight[held_out, None]))
        waited += 1
        if now < best:
            best, waited = now, 0
            best_state = {k: v.clone() for k, v in module.head.state_dict().items()}
        if waited > PATIENCE:
            break
    module.head.load_state_dict(best_state)
    module.head.requires_grad_(False)


def _row_weights(rows: _Training, recipe: Recipe) -> torch.Tensor:
    """(N,) 1, or the inverse of how many fitted rows have the row's class."""
    import torch

    if not recipe.class_balanced:
        return torch.ones(len(rows.target))
    counts = torch.bincount(rows.target[~rows.held_out], minlength=len(CLASSES))
    return (1 / counts.clamp(min=1))[rows.target]


def _epoch(fitted: torch.Tensor, weight: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """The rows of one epoch: each once, or as many drawn by ``weight`` with replacement."""
    import torch

    if recipe.class_balanced:
        return fitted[torch.multinomial(weight[fitted], len(fitted), replacement=True)]
    return fitted[torch.randperm(len(fitted))]


def _loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    recipe: Recipe,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean binary cross-entropy of (B, K) logits as the recipe wants it; ``weight`` is (B, 1)."""
    from torch.nn import functional

    wanted = target * (1 - recipe.smoothing) + recipe.smoothing / len(CLASSES)
    if not recipe.gamma:
        return functional.binary_cross_entropy_with_logits(logits, wanted, weight=weight)
    each = functional.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="none")
    return ((logits.sigmoid() - wanted).abs() ** recipe.gamma * each).mean()


def _start_from_concepts(module: SiglipMetadata) -> None:
    """A head that answers what the tower's concepts say: where the descent begins.

    The rare classes have some ten patients each; from zero they would be learnt from those alone.
    """
    import torch

    classes = range(len(CLASSES))
    weight = torch.zeros_like(module.head.weight)  # type: ignore[arg-type]
    weight[classes, classes] = module.pooled_std[: tower.CONCEPTS]
    module.head.load_state_dict(
        {"weight": weight, "bias": module.pooled_mean[: tower.CONCEPTS].clone()}
    )


def _varied_logits(module: SiglipMetadata, rows: _Training, batch: torch.Tensor) -> torch.Tensor:
    """Logits of each row in one of the two shapings of its questionnaire, at random."""
    import torch

    production = torch.rand(len(batch), 1) < 0.5
    answers = torch.where(production, rows.production[batch], rows.full[batch])
    return module.head_logits(rows.pooled[batch], answers)
