"""Normalisation: raw outputs to shares that may be added up, each class with what it weighs.

Belongs: what a class weighs under each normalisation, from probabilities or from logits.
Does not: which classes count (``mask``), tables and their faults (``prepare``).
Concept: a sum of sigmoids is no probability. Weights w >= 0 become shares w / sum(w) over the
classes that count; a mask only changes which count. N = images, K = classes.

======== ============== =====================================================================
name     weight         right when
======== ============== =====================================================================
none     q              the rows sum to 1 already (a softmax's output)
softmax  exp(z)         the head was trained with a softmax; z = logits
odds     q / (1 - q)    sigmoids, exactly one class holds, and they are independent given that
l1       q              sigmoids, nothing assumed; as the mislabel stage reads them
======== ============== =====================================================================

q = sigmoid(z) gives q / (1 - q) = exp(z): of sigmoid outputs ``softmax`` and ``odds`` are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from dagster_project.lib.rollup.config import Normalisation

    Floats = npt.NDArray[np.float64]

ODDS_OF_ONE = {np.dtype(np.float32): 2.0**25, np.dtype(np.float64): 2.0**54}
"""Odds of a stored 1.0: what rounds to 1 is at least 1 - 2**-25 in float32, 1 - 2**-54 in float64.
Above the odds of every number below 1, and finite."""


def weights(probs: npt.NDArray[np.floating[Any]], how: Normalisation) -> Floats:
    """What each class weighs, of probabilities.

    Parameters
    ----------
    probs : any shape, in [0, 1] or NaN; float32 or float64 decide what a stored 1.0 means.

    Returns
    -------
    float64 of the same shape, >= 0 and finite; NaN where ``probs`` is.
    """
    q = probs.astype(np.float64)
    if how in ("none", "l1"):
        return q
    with np.errstate(divide="ignore"):
        odds: Floats = q / (1 - q)
    odds[q == 1] = ODDS_OF_ONE[probs.dtype]
    return odds


def log_weights(logits: npt.NDArray[np.floating[Any]], how: Normalisation) -> Floats:
    """The logarithm of what each class weighs, of logits; finite where they are, at any distance.

    Raises
    ------
    InputError
        ``none``: logits are no probabilities.
    """
    z = logits.astype(np.float64)
    if how == "none":
        raise InputError(
            "normalisation none: logits are no probabilities; choose softmax, odds or l1"
        )
    return -np.logaddexp(0.0, -z) if how == "l1" else z


def ordered_sum(rows: Floats, order: Iterable[int]) -> Floats:
    """(B,) sum of the rows (K, B) listed in ``order``, added one after another in that order.

    Never below one of its terms when none is negative, and the same to the last digit wherever the
    rows stand: callers order by name.
    """
    total = np.zeros(rows.shape[1])
    for k in order:
        total += rows[k]
    return total
