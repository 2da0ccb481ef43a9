"""The four views of a row, from two passes of the image encoder.

Belongs: which views there are, and computing them for one batch.
Does not: reading images, devices, files of any kind (``engine``, ``dump``).
Concept: the questionnaire is shaped twice (``production``: the fields that the app does not
collect are unknown; ``full``: as the dataset has it) and the image is seen twice (as it is;
flipped left to right). TTA is the mean of the two *sigmoids*. The head is cheap, the encoder is
not: each image goes through it once per orientation. An encoder that wants the questionnaire has
to see each image once per orientation *and* shaping. What the encoder makes of the unflipped image
is its embedding, for whoever compares images.
B = rows, D = width of the encoder, K = classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.lib.embedding_table import EMBEDDING
from dagster_project.lib.probability_table import VIEWS

if TYPE_CHECKING:
    import torch

    from dagster_project.lib.inference.architectures import Network

DEPLOYED, PRODUCTION_PLAIN, FULL_TTA, FULL_PLAIN = VIEWS


def view_names(*, tta: bool) -> tuple[str, ...]:
    """The columns of a dump: four views, or without TTA the plain ones (two of them equal)."""
    return VIEWS if tta else (DEPLOYED, PRODUCTION_PLAIN, FULL_PLAIN)


def encoder_passes(module: Network, *, tta: bool) -> int:
    """How often the encoder sees each image."""
    return (2 if tta else 1) * (2 if module.encoder_sees_questionnaire else 1)


def compute_views(
    module: Network,
    pixels: torch.Tensor,
    production: torch.Tensor,
    full: torch.Tensor,
    *,
    tta: bool,
    embeddings: bool = False,
) -> dict[str, torch.Tensor]:
    """Sigmoid outputs of every view.

    Parameters
    ----------
    pixels : (B, 3, S, S) normalised, on the module's device and in its dtype.
    production, full : (B, F) the two shapings of the questionnaire.
    tta : also encode the flipped images.
    embeddings : also return ``EMBEDDING``; the encoder must see the image only.

    Returns
    -------
    ``{view: (B, K) float32 in [0, 1]}`` for :func:`view_names`, on the module's device; the sigmoid
    and the mean are taken in float32 whatever the dtype. ``EMBEDDING`` is (B, D) float16, and
    infinite where the value is too large for it.
    """
    (production_plain, full_plain), pooled = _both(module, pixels, production, full)
    out = {DEPLOYED: production_plain, PRODUCTION_PLAIN: production_plain, FULL_PLAIN: full_plain}
    if tta:
        (production_flipped, full_flipped), _ = _both(module, pixels.flip(-1), production, full)
        out[DEPLOYED] = (production_plain + production_flipped) / 2
        out[FULL_TTA] = (full_plain + full_flipped) / 2
    found = {name: out[name] for name in view_names(tta=tta)}
    if embeddings and pooled is not None:
        found[EMBEDDING] = pooled.half()
    return found


def _both(
    module: Network, pixels: torch.Tensor, production: torch.Tensor, full: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
    """Sigmoids of one orientation under the two shapings, and what the encoder made of it."""
    production, full = production.to(pixels.dtype), full.to(pixels.dtype)
    pooled = None
    if module.encoder_sees_questionnaire:
        logits = [module(pixels, features) for features in (production, full)]
    else:
        pooled = module.encode_image(pixels)
        logits = [module.head_logits(pooled, features) for features in (production, full)]
    first, second = (value.float().sigmoid() for value in logits)
    return (first, second), pooled
