"""The networks an artifact may name.

Belongs: the registry from ``config.json``'s ``architecture`` to a module, and the modules.
Does not: weights (``checkpoint``), pixels (``preprocess``), questionnaires (``questionnaire``).
Concept: the image encoder is the expensive part and sees the image only; the questionnaire enters
in the head. Two encoder passes (image, flipped image) therefore give every view of a row. A network
whose encoder needs the questionnaire says so, and pays more passes.
B = rows of a batch, D = width of the encoder, F = questionnaire features, K = classes.

An installed package adds an architecture as an entry point of the group
``tier_refit.architectures``: a name, and a function ``(config, n_features, n_classes) -> module``
whose module is a :class:`Network`. An artifact names an architecture and never code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol

import torch
from torch import nn

from dagster_project.lib.errors import InputError, some

ENTRY_POINTS = "tier_refit.architectures"
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
LARGEST = {"num_hidden_layers": 512, "image_size": 4096}
"""Above these a config describes no network that could be loaded; other sizes: ``_LARGEST``."""
_LARGEST = 65_536
_LARGEST_WEIGHT = 1 << 28
"""Elements of one weight: ten times the largest of MedSigLIP, and a gigabyte."""


class Network(Protocol):
    """What a dump needs of a module (an ``nn.Module`` in evaluation mode).

    Attributes
    ----------
    encoder_sees_questionnaire : False where the image is encoded on its own; then a dump calls
        ``encode_image`` once an image and ``head_logits`` once a shaping of the answers. True where
        it is not; then a dump calls the module itself, and the other two need not be there.

    Every floating-point weight is in the state dict; whatever else the module keeps is made by its
    constructor as a non-persistent buffer.
    """

    encoder_sees_questionnaire: bool

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised pixels -> (B, D)."""
        ...

    def head_logits(self, pooled: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, D) and (B, F) -> (B, K) logits."""
        ...

    def __call__(self, pixel_values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) and (B, F) -> (B, K) logits."""
        ...


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


class Constant(nn.Module):
    """The same logits for every row: its state dict is ``logits``, (K,). For tests.

    The artifact's probabilities are then ``sigmoid(logits)`` whatever picture and answers are.
    ``config.json`` needs ``architecture`` and ``preprocess`` only.
    """

    encoder_sees_questionnaire = False

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_classes))

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, 1) zeros."""
        return self.logits.new_zeros((len(pixel_values), 1))

    def head_logits(self, pooled: torch.Tensor, features: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """(B, K) rows of ``logits``."""
        return self.logits.expand(len(pooled), -1)

    def forward(self, pixel_values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, K) rows of ``logits``."""
        return self.head_logits(self.encode_image(pixel_values), features)


def build(config: Mapping[str, Any], n_features: int, n_classes: int) -> Any:
    """The module that ``config`` (a parsed ``config.json``) describes, with fresh random weights.

    Parameters
    ----------
    config : ``architecture`` and what that architecture reads; ``siglip_metadata`` reads
        ``vision`` (keys of ``SiglipVisionConfig``), ``pooling`` and ``head``
        (``{"type": "linear"}`` or ``{"type": "mlp", "hidden": n}``); ``constant`` reads nothing.
    n_features : F, width of the encoded questionnaire.
    n_classes : K.

    Returns
    -------
    An ``nn.Module`` that is a :class:`Network` (Python's types cannot say both).

    Raises
    ------
    InputError
        Unknown architecture, key, pooling or head; an entry point that is broken, ambiguous or has
        a built-in name. Nothing is ever downloaded.
    """
    name = str(config.get("architecture"))[:80]
    added = _added(name)
    if added is not None:
        return _build_added(added, config, n_features, n_classes)
    if name not in ARCHITECTURES:
        known = sorted({*ARCHITECTURES, *entry_points(group=ENTRY_POINTS).names})
        raise InputError(
            f'config.json, architecture: unknown name "{name}"; known are {some(known, 9)}'
        )
    return ARCHITECTURES[name](config, n_features, n_classes)


def _added(name: object) -> EntryPoint | None:
    """The entry point of this name; one that could be meant for something else is refused."""
    found = entry_points(group=ENTRY_POINTS)
    shadowing = sorted(point for point in found.names if point in ARCHITECTURES)
    if shadowing:
        raise InputError(
            f"entry point {some(shadowing)} of {ENTRY_POINTS} has the name of a built-in "
            "architecture; rename it, or uninstall its package"
        )
    points = [point for point in found if point.name == name]
    if len(points) > 1:
        raise InputError(
            f'{len(points)} installed packages have an architecture "{name}"; keep one of them'
        )
    return points[0] if points else None


def _build_added(
    point: EntryPoint, config: Mapping[str, Any], n_features: int, n_classes: int
) -> nn.Module:
    where = f'architecture "{point.name}" (entry point {point.value})'
    try:
        module = point.load()(config, n_features, n_classes)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises is its fault
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{where} cannot be built ({reason}); mend its package") from None
    joint = getattr(module, "encoder_sees_questionnaire", None)
    needed = () if joint is True else ("encode_image", "head_logits")
    lacking = [method for method in needed if not callable(getattr(module, method, None))]
    if not isinstance(module, nn.Module) or not isinstance(joint, bool) or lacking:
        raise InputError(
            f"{where} is no network: it needs an nn.Module with encoder_sees_questionnaire (a bool)"
            " and, where that is False, encode_image and head_logits"
        )
    return module


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules built inside have parameters without memory (meta tensors), and real buffers.

    Weights are assigned later, so memory holds them once. Buffers stay real because those that no
    state dict has (position ids) would never be filled. Other threads build as ever.
    """
    from torch.nn.modules import module as hooks

    here = threading.get_ident()

    def emptied(_: nn.Module, __: str, parameter: nn.Parameter | None) -> Any:
        if parameter is None or threading.get_ident() != here:
            return None
        return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    handle = hooks.register_module_parameter_registration_hook(emptied)
    try:
        yield
    finally:
        handle.remove()


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
    # by name: left open, transformers may settle for its slow attention without a word
    vision._attn_implementation = "sdpa"
    return SiglipMetadata(SiglipVisionModel(vision), pooling, width, head)


def _constant(config: Mapping[str, Any], n_features: int, n_classes: int) -> Constant:  # noqa: ARG001
    return Constant(n_classes)


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
    try:
        vision: Any = SiglipVisionConfig(**given)
    except Exception as error:  # noqa: BLE001 - whatever transformers' own validation raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"config.json, vision: transformers refuses it ({reason})") from None
    widest = max(vision.hidden_size, vision.intermediate_size, 3 * vision.patch_size**2)
    tokens = (vision.image_size // vision.patch_size) ** 2
    _check_weight("vision", vision.hidden_size, max(widest, tokens))
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
    most = LARGEST.get(key, _LARGEST)
    if key in SIZES and isinstance(value, int) and value > most:
        raise InputError(f"config.json, vision.{key}: got {value}; at most {most}")


def _check_weight(where: str, rows: int, columns: int) -> None:
    """Refuse a weight that nobody has memory for before any is asked for."""
    if rows * columns > _LARGEST_WEIGHT:
        raise InputError(
            f"config.json, {where}: describes a weight of {rows} x {columns}; at most "
            f"{_LARGEST_WEIGHT} elements"
        )


def _head(head: object, width: int, n_classes: int) -> nn.Module:
    kind = head.get("type") if isinstance(head, Mapping) else None
    if kind == "linear":
        return nn.Linear(width, n_classes)
    if isinstance(head, Mapping) and kind == "mlp":
        hidden = head.get("hidden")
        if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
            raise InputError(f"config.json, head.hidden: got {hidden!r}; a whole number >= 1")
        _check_weight("head.hidden", hidden, max(width, n_classes))
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, n_classes))
    raise InputError(f"config.json, head.type: got {kind!r}; allowed are {some(HEADS)}")


ARCHITECTURES: dict[str, Callable[[Mapping[str, Any], int, int], nn.Module]] = {
    "constant": _constant,
    "siglip_metadata": _siglip_metadata,
}
"""Built-in names; an artifact can name one of these or an entry point, and nothing else."""
