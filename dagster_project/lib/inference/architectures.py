"""The networks an artifact may name.

Belongs: the registry from ``config.json``'s ``architecture`` to a module, and the modules.
Does not: weights (``checkpoint``), pixels (``preprocess``), questionnaires (``questionnaire``).
Concept: the image encoder is the expensive part and sees the image only; the questionnaire enters
in the head. Two encoder passes (image, flipped image) therefore give every view of a row.
B = rows of a batch, D = width of the encoder, F = questionnaire features, K = classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from dagster_project.lib.errors import InputError, some

Pooling = Literal["pooler", "mean"]
POOLINGS: tuple[Pooling, ...] = ("pooler", "mean")
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
)
SMALL_NETWORK = 5_000_000
"""Parameters below which a product is too small to be shared by threads."""
HEADS = ("linear", "mlp")


class SiglipMetadata(nn.Module):
    """A SigLIP vision tower, and a head over its pooled output and the questionnaire.

    The head sees ``concat((pooled - pooled_mean) / pooled_std, features)``; both statistics are
    buffers (0 and 1 until fitted), so that a fitted head is all in the state dict.

    Attributes
    ----------
    vision : ``transformers.SiglipVisionModel``.
    pooling : ``pooler`` (the attention head's output) or ``mean`` (of the last hidden states).
    head : ``nn.Linear`` or a two-layer MLP, (B, D + F) -> (B, K).
    """

    encoder_sees_questionnaire = False
    pooled_mean: torch.Tensor
    pooled_std: torch.Tensor

    def __init__(self, vision: nn.Module, pooling: Pooling, width: int, head: nn.Module) -> None:
        super().__init__()
        self.vision = vision
        self.pooling = pooling
        self.head = head
        self.register_buffer("pooled_mean", torch.zeros(width))
        self.register_buffer("pooled_std", torch.ones(width))

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised pixels -> (B, D) pooled. The expensive pass."""
        output = self.vision(pixel_values=pixel_values)
        if self.pooling == "mean":
            return torch.as_tensor(output.last_hidden_state.mean(dim=1))
        return torch.as_tensor(output.pooler_output)

    def head_logits(self, pooled: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, D) pooled and (B, F) features -> (B, K) logits. Cheap."""
        standardised = (pooled - self.pooled_mean) / self.pooled_std
        joined = torch.cat([standardised, features.to(standardised.dtype)], dim=1)
        return torch.as_tensor(self.head(joined))

    def forward(self, pixel_values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Logits of images with their questionnaires: (B, 3, S, S), (B, F) -> (B, K)."""
        return self.head_logits(self.encode_image(pixel_values), features)


def build(config: Mapping[str, Any], n_features: int, n_classes: int) -> SiglipMetadata:
    """The module that ``config`` (a parsed ``config.json``) describes, with fresh random weights.

    Parameters
    ----------
    config : ``architecture`` and what that architecture reads; ``siglip_metadata`` reads
        ``vision`` (keys of ``SiglipVisionConfig``), ``pooling`` and ``head``
        (``{"type": "linear"}`` or ``{"type": "mlp", "hidden": n}``).
    n_features : F, width of the encoded questionnaire.
    n_classes : K.

    Raises
    ------
    InputError
        Unknown architecture, key, pooling or head; nothing is ever downloaded.
    """
    name = config.get("architecture")
    if name not in ARCHITECTURES:
        raise InputError(
            f'config.json, architecture: unknown name "{name}"; known are {some(ARCHITECTURES, 9)}'
        )
    return ARCHITECTURES[name](config, n_features, n_classes)


@contextmanager
def sized_threads(module: nn.Module) -> Iterator[None]:
    """Run a small network on one thread, a large one on torch's own number of threads.

    On two cores a second thread gave a 0.1 M parameter network nothing (440 rows/s either way, at
    1.5 times the CPU time), and on a busy machine it cost three quarters of the speed (40 against
    156 rows/s): the threads wait for each other at every small product.
    """
    before = torch.get_num_threads()
    if sum(weight.numel() for weight in module.parameters()) < SMALL_NETWORK:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _siglip_metadata(config: Mapping[str, Any], n_features: int, n_classes: int) -> SiglipMetadata:
    from transformers import SiglipVisionModel

    vision = _vision_config(config)
    pooling = config.get("pooling")
    if pooling not in POOLINGS:
        raise InputError(f'config.json, pooling: got "{pooling}"; allowed are {some(POOLINGS)}')
    if pooling == "pooler" and not getattr(vision, "vision_use_head", True):
        raise InputError("config.json, pooling: 'pooler' needs vision_use_head; use 'mean'")
    width = int(vision.hidden_size)
    head = _head(config.get("head"), width + n_features, n_classes)
    return SiglipMetadata(SiglipVisionModel(vision), pooling, width, head)


def _vision_config(config: Mapping[str, Any]) -> Any:
    from transformers import SiglipVisionConfig
    from transformers.activations import ACT2FN

    given = config.get("vision")
    if not isinstance(given, Mapping):
        raise InputError("config.json, vision: expected an object of SiglipVisionConfig keys")
    defaults = SiglipVisionConfig().to_dict()
    unknown = sorted(set(given) - {*defaults, "torch_dtype", "vision_use_head"})
    if unknown:
        raise InputError(f"config.json, vision: unknown keys {some(unknown)}; correct them")
    for key, value in given.items():
        _check_kind(key, value, defaults.get(key))
    vision = SiglipVisionConfig(**given)
    if vision.hidden_act not in ACT2FN or vision.num_channels != 3:
        raise InputError("config.json, vision: hidden_act is unknown, or num_channels is not 3")
    if vision.hidden_size % vision.num_attention_heads:
        raise InputError("config.json, vision: hidden_size must divide by num_attention_heads")
    size = config.get("preprocess", {}).get("size", vision.image_size)
    if size != vision.image_size:
        raise InputError(
            f"config.json: preprocess.size is {size}, vision.image_size {vision.image_size}; "
            "they must be equal"
        )
    return vision


def _check_kind(key: str, value: object, default: object) -> None:
    """Raise unless ``value`` is of the kind of transformers' default, and a size is >= 1."""
    kind = (int, float) if isinstance(default, float) else type(default)
    fits = default is None or isinstance(value, kind)
    if key in SIZES and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        fits = False
    if not fits:
        raise InputError(f"config.json, vision.{key}: got {value!r}; expected one like {default!r}")


def _head(head: object, width: int, n_classes: int) -> nn.Module:
    kind = head.get("type") if isinstance(head, Mapping) else None
    if kind == "linear":
        return nn.Linear(width, n_classes)
    if isinstance(head, Mapping) and kind == "mlp":
        hidden = head.get("hidden")
        if not isinstance(hidden, int) or hidden < 1:
            raise InputError(f"config.json, head.hidden: got {hidden!r}; a whole number >= 1")
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, n_classes))
    raise InputError(f"config.json, head.type: got {kind!r}; allowed are {some(HEADS)}")


ARCHITECTURES: dict[str, Callable[[Mapping[str, Any], int, int], SiglipMetadata]] = {
    "siglip_metadata": _siglip_metadata,
}
"""Registered names; an artifact can name one of these and nothing else."""
