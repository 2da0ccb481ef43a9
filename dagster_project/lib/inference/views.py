"""The four views of a row, from two passes of the image encoder.

Belongs: which views there are, and computing them for one batch.
Does not: reading images, files of any kind (``dump``).
Concept: the questionnaire is shaped twice (``production``: the fields that the app does not
collect are unknown; ``full``: as the dataset has it) and the image is seen twice (as it is;
flipped left to right). TTA is the mean of the two *sigmoids*. The head is cheap, the encoder is
not: each image goes through it once per orientation.
B = rows, K = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dagster_project.lib.probability_table import VIEWS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from dagster_project.lib.inference.architectures import SiglipMetadata

DEPLOYED, PRODUCTION_PLAIN, FULL_TTA, FULL_PLAIN = VIEWS


def view_names(*, tta: bool) -> tuple[str, ...]:
    """The columns of a dump: four views, or without TTA the plain ones (two of them equal)."""
    return VIEWS if tta else (DEPLOYED, PRODUCTION_PLAIN, FULL_PLAIN)


def compute_views(
    module: SiglipMetadata,
    pixels: torch.Tensor,
    production: torch.Tensor,
    full: torch.Tensor,
    *,
    tta: bool,
) -> Mapping[str, npt.NDArray[np.float32]]:
    """Sigmoid outputs of every view.

    Parameters
    ----------
    pixels : (B, 3, S, S) normalised, on the module's device and in its dtype.
    production, full : (B, F) the two shapings of the questionnaire.
    tta : also encode the flipped images.

    Returns
    -------
    ``{view: (B, K) float32 in [0, 1]}`` for :func:`view_names`; the sigmoid and the mean are taken
    in float32 whatever the dtype.
    """
    import torch

    def sigmoids(pooled: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(module.head_logits(pooled, features).float())

    upright = module.encode_image(pixels)
    production_plain, full_plain = sigmoids(upright, production), sigmoids(upright, full)
    out = {PRODUCTION_PLAIN: production_plain, FULL_PLAIN: full_plain, DEPLOYED: production_plain}
    if tta:
        flipped = module.encode_image(pixels.flip(-1))
        out[DEPLOYED] = (production_plain + sigmoids(flipped, production)) / 2
        out[FULL_TTA] = (full_plain + sigmoids(flipped, full)) / 2
    return {name: out[name].cpu().numpy() for name in view_names(tta=tta)}
