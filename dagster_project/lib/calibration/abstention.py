"""Abstention: how well the score ranks right answers above wrong ones, in one number.

Belongs: AURC, E-AURC, AUGRC from counts at distinct scores.
Does not: choosing or bounding a threshold (``tiers``, ``evidence``), calibration.
Concept: answer the most confident rows first. Rows of equal score have no order, so the area is the
mean over all orders of tied rows, in closed form. N = rows, M = distinct scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Areas:
    """Three areas, each better low; all null without rows.

    Attributes
    ----------
    aurc : mean of the selective risk k_i / i over i = 1..N answers, most confident first.
    e_aurc : ``aurc`` less that of a ranking with every right answer before every wrong one; 0 is
        perfect ranking, whatever the accuracy.
    augrc : area under W = k / N against coverage, in [0, 0.5]; not dominated by the few most
        confident rows, as ``aurc`` is.
    """

    aurc: float | None
    e_aurc: float | None
    augrc: float | None


def tied_counts(
    score: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows, and wrong rows, at or above each distinct score, highest first.

    Parameters
    ----------
    score : (N,) finite. correct : (N,) bool.

    Returns
    -------
    (M,) and (M,) int64, never falling; both empty if N = 0.

    >>> tied_counts(np.array([.9, .4, .9]), np.array([True, False, False]))
    (array([2, 3]), array([1, 2]))
    """
    order = np.argsort(score)[::-1]
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], [True] * bool(score.size)))
    wrong = np.cumsum(~correct[order], dtype=np.int64)
    return ends + 1, wrong[ends]


def areas(n: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64]) -> Areas:
    """AURC, E-AURC and AUGRC of cumulated counts.

    Parameters
    ----------
    n, wrong : (M,) rows and wrong rows at or above each distinct score, highest first
        (:func:`tied_counts`, or ``n`` and ``wrong`` of the tiers' curve counts).

    Notes
    -----
    A block of m tied rows after n0 rows with k0 wrong, a share r of them wrong: the expected number
    of wrong ones among its first j is r*j, so its part of the sum of k_i / i is
    r*m + (k0 - r*n0) * (H(n0 + m) - H(n0)) with harmonic numbers H. AUGRC is the trapezoid over the
    blocks, which equals (1 - AUROC) * acc * (1 - acc) + (1 - acc)^2 / 2 with ties as one half.

    References
    ----------
    AURC, E-AURC: Geifman, Uziel, El-Yaniv, arXiv 1805.08206 (the optimum here is exact, not its
    logarithmic limit). AUGRC: Traub et al., arXiv 2407.01032.

    >>> found = areas(np.array([2, 4]), np.array([0, 2]))  # both right ones first
    >>> round(found.aurc, 4), found.e_aurc, found.augrc
    (0.2083, 0.0, 0.125)
    """
    if not n.size:
        return Areas(None, None, None)
    total, errors = int(n[-1]), int(wrong[-1])
    # every right answer, then every wrong one: two blocks, or one where all are alike
    edges = [(total - errors, 0)] * (errors < total) + [(total, errors)] * (errors > 0)
    best = np.array(edges, dtype=np.int64)
    aurc = _aurc(n, wrong)
    before = np.concatenate([[0], wrong[:-1]])
    augrc = float(np.sum(np.diff(n, prepend=0) * (before + wrong)) / (2 * total * total))
    # the optimum is a minimum; a rounding error must not show a ranking better than perfect
    return Areas(aurc, max(0.0, aurc - _aurc(best[:, 0], best[:, 1])), augrc)


def _aurc(n: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64]) -> float:
    from scipy.special import digamma

    size = np.diff(n, prepend=0)
    n0, k0 = n - size, np.concatenate([[0], wrong[:-1]])
    new = np.diff(wrong, prepend=0)
    # digamma(i + 1) is H(i) up to a constant; (k0 - r * n0) as one quotient of whole numbers
    slope = (k0 * size - new * n0) / size
    parts = new + slope * (digamma(n + 1.0) - digamma(n0 + 1.0))
    return float(np.sum(parts) / n[-1])
