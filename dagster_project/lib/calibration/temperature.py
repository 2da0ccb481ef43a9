"""Temperature: one number that makes sigmoid outputs less (T > 1) or more (T < 1) extreme.

Belongs: fitting T by likelihood, its interval by patient, what it does to a threshold.
Does not: changing what is served, softmax temperature (that one re-ranks; a sigmoid's does not).
Concept: p becomes sigmoid(logit(p) / T), which keeps the order of all outputs: tiers made of
tempered scores at tempered thresholds are the tiers from before. N = images, K = classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

CLIP = 2.0**-24
"""Fits take outputs into [CLIP, 1 - CLIP]: the largest float32 below 1 is 1 - CLIP, so a stored 1.0
says "at least that" and not infinity."""

MAX_STEPS = 200


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature, or why there is none.

    Attributes
    ----------
    temperature : T > 0; null with a ``reason``.
    ci95 : approximate interval by patient; null with fewer than two patients or without T.
    nll_before, nll_after : mean negative log-likelihood a forecast (natural logarithm) at T = 1 and
        at the fitted T, of the clipped outputs; after <= before. Before is null only without rows,
        after also without T.
    n_clipped : outputs that were moved into [CLIP, 1 - CLIP].
    reason : null when there is a T.
    """

    temperature: float | None
    ci95: tuple[float, float] | None
    nll_before: float | None
    nll_after: float | None
    n_clipped: int
    reason: str | None = None


def fit_temperature(
    score: npt.NDArray[np.floating[Any]],
    correct: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.int64],
) -> TemperatureFit:
    """T for the top probability as a forecast of "the top class is right".

    Minimises the mean of log(1 + exp(x/T)) - y x/T with x = logit(score), which is convex in 1/T:
    Newton's steps inside a bracket, halved where they would leave it. Interval: the sandwich
    variance of 1/T over patients, Student's t on log T (95 %, approximate).

    The tops of K sigmoids need not be calibrated by the T of all outputs
    (:func:`fit_temperature_all`), nor the other way round: this one is about the tiers.

    Parameters
    ----------
    score : (N,) in [0, 1], finite; 0 and 1 are clipped and counted.
    correct : (N,) bool. patient : (N,) whole numbers >= 0.

    Returns
    -------
    Null with a reason if all rows are right, all wrong, or of one score; and if no finite T > 0 is
    best: 0.5 separates right from wrong (T = 0), or 0.5 for every row is as likely (T = inf).
    """
    return _fit(score.astype(np.float64), correct, patient)


def fit_temperature_all(
    probs: npt.NDArray[np.floating[Any]],
    true: npt.NDArray[np.integer[Any]],
    patient: npt.NDArray[np.int64],
) -> TemperatureFit:
    """T over all K sigmoid outputs against the one-hot truth, the loss sigmoids are trained on.

    As :func:`fit_temperature`, with N * K forecasts; the NLL is the mean over them. K outputs of an
    image, like the images of a patient, are one unit in the interval.

    Parameters
    ----------
    probs : (N, K) in [0, 1], finite. true : (N,) in 0..K-1. patient : (N,).
    """
    n, k = probs.shape
    if n < 2:
        return _without(probs.astype(np.float64).ravel(), _one_hot(true, k), _few(n))
    flat = probs.astype(np.float64).ravel()
    return _fit(flat, _one_hot(true, k), patient)


def map_threshold(threshold: float, temperature: float) -> float:
    """The threshold that keeps every row in its tier once scores are tempered.

    sigmoid(logit(t) / T); never falling in t; 0, 0.5 and 1 stay where they are.

    >>> round(map_threshold(0.8, 2.0), 4), map_threshold(0.0, 2.0), map_threshold(1.0, 2.0)
    (0.6667, 0.0, 1.0)
    """
    return float(temper(np.array([threshold]), temperature)[0])


def temper(p: npt.NDArray[np.floating[Any]], temperature: float) -> npt.NDArray[np.float64]:
    """sigmoid(logit(p) / T), element by element; not clipped, so that 0 and 1 are fixed points.

    Order is kept. Scores that differ stay different in float64 while |logit(p)| / T < 30; beyond, a
    sigmoid has no more digits and they meet at 1.

    Parameters
    ----------
    p : any shape, in [0, 1]. temperature : > 0.
    """
    from scipy.special import expit, logit

    tempered: npt.NDArray[np.float64] = expit(logit(p.astype(np.float64)) / temperature)
    return tempered


def _fit(p: Floats, event: npt.NDArray[np.bool_], patient: Ints) -> TemperatureFit:
    """Over one or more forecasts an image, those of an image side by side."""
    reason = _degenerate(p, event)
    if reason is not None:
        return _without(p, event, reason)
    from scipy.special import expit

    x, n_clipped = _logits(p)
    y, square = event.astype(np.float64), x * x

    def slope(inverse: float) -> tuple[float, float]:
        """First and second derivative of the summed NLL at 1/T."""
        q = expit(inverse * x)
        # sums and not dot products: those run on several threads, in an order of their own
        return float(np.sum((q - y) * x)), float(np.sum(q * (1 - q) * square))

    # convex in 1/T: a finite best 1/T > 0 needs a falling start and a row on the wrong side
    if slope(0.0)[0] >= 0:
        return _without(p, event, "no finite T is best: 0.5 for every row is as likely")
    if not ((x > 0) & ~event).any() and not ((x < 0) & event).any():
        return _without(p, event, "0.5 separates right from wrong; the best T is 0")
    inverse = _root(slope)
    return TemperatureFit(
        temperature=1 / inverse,
        ci95=_interval(inverse, (expit(inverse * x) - y) * x, slope(inverse)[1], patient),
        nll_before=_nll(x, event, 1.0),
        nll_after=_nll(x, event, inverse),
        n_clipped=n_clipped,
    )


def _degenerate(p: Floats, event: npt.NDArray[np.bool_]) -> str | None:
    if p.size < 2:
        return _few(p.size)
    if event.all():
        return "all rows are right"
    if not event.any():
        return "all rows are wrong"
    if p.min() == p.max():
        return "all scores are equal"
    return None


def _few(n: int) -> str:
    return "one row" if n else "no rows"


def _without(p: Floats, event: npt.NDArray[np.bool_], reason: str) -> TemperatureFit:
    x, n_clipped = _logits(p)
    return TemperatureFit(
        temperature=None,
        ci95=None,
        nll_before=_nll(x, event, 1.0) if p.size else None,
        nll_after=None,
        n_clipped=n_clipped,
        reason=reason,
    )


def _root(slope: Callable[[float], tuple[float, float]]) -> float:
    """The zero of a rising function that is negative at 0, to a relative 1e-12."""
    low, high = 0.0, 1.0
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    at = (low + high) / 2
    for _ in range(MAX_STEPS):
        first, second = slope(at)
        if first == 0:
            return at
        low, high = (at, high) if first < 0 else (low, at)
        new = at - first / second if second > 0 else math.inf
        if not low < new < high:
            new = (low + high) / 2
        if abs(new - at) <= 1e-12 * at:
            return new
        at = new
    return at


def _interval(
    inverse: float, scores: Floats, curvature: float, patient: Ints
) -> tuple[float, float] | None:
    """``scores``: derivative of each forecast's NLL at 1/T; their sums by patient are the meat."""
    from scipy.special import stdtrit

    _, number = np.unique(patient, return_inverse=True)
    sums = np.bincount(number, weights=scores.reshape(patient.size, -1).sum(axis=1))
    if sums.size < 2 or curvature <= 0:
        return None
    meat = sums.size / (sums.size - 1) * float(np.sum(sums**2))
    # d log T = -d(1/T) * T
    width = float(stdtrit(sums.size - 1, 0.975)) * math.sqrt(meat) / curvature / inverse
    if width > 700:  # exp would overflow: nothing is known about T
        return None
    return math.exp(-width) / inverse, math.exp(width) / inverse


def _logits(p: Floats) -> tuple[Floats, int]:
    from scipy.special import logit

    clipped = np.clip(p, CLIP, 1 - CLIP)
    return logit(clipped), int(np.count_nonzero(clipped != p))


def _nll(x: Floats, event: npt.NDArray[np.bool_], inverse: float) -> float:
    # -log sigmoid of the signed logit, without overflow
    return float(np.mean(np.logaddexp(0.0, np.where(event, -inverse, inverse) * x)))


def _one_hot(true: npt.NDArray[np.integer[Any]], k: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (true[:, None] == np.arange(k)).ravel()
    return found
