"""The betting test: how strongly rows speak against "the mean loss is at least alpha".

Belongs: the wealth of a bettor who bets against that claim, patient by patient.
Does not: which thresholds are tested and in which order (``certificate``).
Concept: testing by betting (Waudby-Smith and Ramdas, JRSS-B 86(1), 2024, section 4; as the bound
"WSR" in Bates et al., arXiv 2101.02703, proposition 5). While the claim is true the wealth is a
supermartingale from 1, so by Ville's inequality it ever reaches 1/p with probability at most p.
P = patients, G = claims tested side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def log_wealth(
    losses: npt.NDArray[np.float64], alpha: float, *, delta: float
) -> npt.NDArray[np.float64]:
    """Natural log of the largest wealth reached against "E Y >= alpha".

    The bet on patient i is lambda_i = min(1, sqrt(2 log(1/delta) / (P v_{i-1}))), where v_{i-1} is
    the running variance of the patients before i (started at mean 1/2, variance 1/4): it never
    looks at patient i or later, and is at most 1, so that no loss in [0, 1] can make the wealth
    negative. The bets do not depend on alpha, so the wealth never falls as alpha rises.

    Parameters
    ----------
    losses : (G, P) in [0, 1], patients in an order that was fixed without looking at them.
    alpha : in [0, 1].
    delta : level the bets are tuned to; the result is valid at every level.

    Returns
    -------
    (G,) at least 0; p = exp(-value) is a p-value of "E Y >= alpha". 0 if P = 0 or alpha = 0.

    >>> none_wrong, all_wrong = np.zeros((1, 100)), np.ones((1, 100))
    >>> log_wealth(none_wrong, 0.05, delta=0.05).round(2), log_wealth(all_wrong, 0.05, delta=0.05)
    (array([4.81]), array([0.]))
    """
    n_patients = losses.shape[1]
    if n_patients == 0:
        return np.zeros(len(losses))
    number = np.arange(1, n_patients + 1, dtype=np.float64)
    # both running moments start from one made-up patient, so that the first bet is defined
    mean = np.cumsum(losses, axis=1)
    mean += 0.5
    mean /= number + 1
    spread = np.subtract(losses, mean, out=mean)
    np.square(spread, out=spread)
    variance = np.cumsum(spread, axis=1, out=spread)
    variance += 0.25
    variance /= number + 1
    bets = np.empty_like(variance)
    bets[:, 0] = 0.25
    bets[:, 1:] = variance[:, :-1]
    bets *= n_patients / (2 * np.log(1 / delta))
    np.sqrt(bets, out=bets)
    np.maximum(bets, 1.0, out=bets)
    gains = np.subtract(alpha, losses, out=variance)
    gains /= bets
    # a bet that is lost whole is ruin: log(0) is -inf, and stays it
    with np.errstate(divide="ignore"):
        np.log1p(gains, out=gains)
    wealth = np.cumsum(gains, axis=1, out=gains)
    largest: npt.NDArray[np.float64] = np.maximum(wealth.max(axis=1), 0.0)
    return largest


def upper_bound(losses: npt.NDArray[np.float64], *, delta: float) -> float:
    """The largest mean that the losses do not speak against at level ``delta``.

    Parameters
    ----------
    losses : (P,) in [0, 1], in an order fixed without looking at them.

    Returns
    -------
    In [0, 1]: the smallest a such that "E Y >= a" is rejected, to 2^-20 and rounded up; 1 if none
    is. Valid because the wealth is monotone in a.
    """
    low, high = 0.0, 1.0
    needed = np.log(1 / delta)
    if log_wealth(losses[None, :], 1.0, delta=delta)[0] < needed:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if log_wealth(losses[None, :], middle, delta=delta)[0] >= needed:
            high = middle
        else:
            low = middle
    return high
