"""From raw outputs to shares that can be added up: mask and normalisation in one pass.

Belongs: (N, K) outputs in, (N, K) shares out, with what was lost on the way and who is decided.
Does not: reading tables (``probability_table``), trees (``taxonomy``), placing (``place``).
Concept: the kept classes are shifted by their own maximum, so that no distance to an excluded class
makes them vanish; what the mask took away is recorded beside them. N = images, K = classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.mask import allowed_classes
from dagster_project.lib.rollup.normalise import log_weights, ordered_sum, weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.config import Normalisation, RollupConfig

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Raw = npt.NDArray[np.floating[Any]]

SUM_TOLERANCE = 1e-6
"""How far from 1 a row may sum under normalisation ``none``."""

BLOCK = 8192
"""Rows at a time: what a block needs stays in a core's cache. Changes no digit."""


@dataclass(frozen=True)
class Prepared:
    """Rows after mask and normalisation, N of them.

    Attributes
    ----------
    values : (N, K) float64 shares; excluded classes are exactly 0. A row sums to 1; to its kept
        mass without ``reweight``; under ``none`` to what it summed to. NaN where nothing can be
        shared out: no probabilities, or zeros only.
    raw_max : (N,) float64 largest raw output of an allowed class, as given; NaN without.
    kept_mass : (N,) float64 share of the normalised mass on allowed classes, in [0, 1]; NaN without
        probabilities and where all of them are 0.
    decided : (N,) bool: has shares, and kept_mass >= ``min_kept_mass``.
    allowed : (K,) bool, what the mask keeps.
    classes : (K,) names, in the order of ``values``.
    """

    values: Floats
    raw_max: Floats
    kept_mass: Floats
    decided: Bools
    allowed: Bools
    classes: tuple[str, ...]


def prepare(
    probs: Raw, classes: Sequence[str], config: RollupConfig, *, from_logits: bool = False
) -> Prepared:
    """Apply the configuration's mask and normalisation.

    Parameters
    ----------
    probs : (N, K) float32 or float64: probabilities in [0, 1] that need not sum to 1, or logits.
        A row of NaN has none.
    classes : (K,) names in output order.
    from_logits : ``probs`` are logits: finite numbers, however far apart.

    Raises
    ------
    InputError
        The mask (``mask.allowed_classes``); another width than K; a value that is no probability
        or no finite logit; ``none`` for rows that do not sum to 1; ``softmax`` for rows that are
        a softmax's output already.
    """
    if probs.ndim != 2 or probs.shape[1] != len(classes):
        raise InputError(f"probabilities of shape {probs.shape} for {len(classes)} classes")
    recipe = _Recipe(
        config.normalisation,
        allowed_classes(config.mask, classes),
        config.mask is None or config.mask.reweight,
        tuple(int(k) for k in np.argsort(np.asarray(classes))),
        from_logits,
    )
    n = len(probs)
    values = np.empty(probs.shape)
    raw_max, kept_mass, sums = np.empty(n), np.empty(n), np.empty(n)
    for rows in blocks(n):
        raw = np.ascontiguousarray(probs[rows].T)
        _check_values(raw, rows.start, from_logits)
        raw_max[rows] = raw[recipe.allowed].max(axis=0)
        if recipe.how in ("none", "softmax") and not from_logits:
            sums[rows] = raw.sum(axis=0, dtype=np.float64)
        shares, kept_mass[rows] = _shares(raw, recipe)
        values[rows] = shares.T
    if not from_logits:
        _check_sums(sums, recipe.how)
    least = 0.0 if config.mask is None else config.mask.min_kept_mass
    decided = (kept_mass >= least) & ~np.isnan(values[:, 0])
    return Prepared(values, raw_max, kept_mass, decided, recipe.allowed, tuple(classes))


def blocks(n: int) -> Iterator[slice]:
    """Slices of at most :data:`BLOCK` rows."""
    return (slice(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK))


@dataclass(frozen=True)
class _Recipe:
    how: Normalisation
    allowed: Bools
    reweight: bool
    by_name: tuple[int, ...]
    from_logits: bool


def _shares(raw: Raw, recipe: _Recipe) -> tuple[Floats, Floats]:
    """(K, B) shares and (B,) kept mass."""
    allowed = recipe.allowed
    kept = [k for k in recipe.by_name if allowed[k]]
    with np.errstate(invalid="ignore", divide="ignore"):
        if recipe.from_logits:
            heights = log_weights(raw, recipe.how)
            weight = np.exp(heights - heights.max(axis=0))
        else:
            weight = weights(raw, recipe.how)
        total, mass = ordered_sum(weight, recipe.by_name), ordered_sum(weight, kept)
        kept_mass = mass / total
        if recipe.from_logits and recipe.reweight:
            weight[allowed] = np.exp(heights[allowed] - heights[allowed].max(axis=0))
            mass = ordered_sum(weight, kept)
        weight[~allowed] = 0.0
        if recipe.how != "none":
            weight /= mass if recipe.reweight else total
        elif recipe.reweight:
            less = mass != total  # elsewhere nothing was taken away, and not a digit may change
            weight[:, less] = weight[:, less] / mass[less] * total[less]
    weight[:, ~(mass > 0)] = np.nan  # nothing to share out
    return weight, kept_mass


def _check_values(raw: Raw, first: int, from_logits: bool) -> None:
    low, high = raw.min(axis=0), raw.max(axis=0)
    fine = np.isfinite(low) & np.isfinite(high) if from_logits else (low >= 0) & (high <= 1)
    for row in np.flatnonzero(~fine):
        found = raw[:, row]
        if np.isnan(found).all():
            continue
        bad = found[~np.isfinite(found) if from_logits else ~((found >= 0) & (found <= 1))][0]
        allowed = "a finite logit" if from_logits else "a probability in [0, 1]"
        raise InputError(
            f"probabilities row {first + row + 1}: {bad} is not {allowed}; "
            "mend the row, or leave all its values empty"
        )


def _check_sums(sums: Floats, how: Normalisation) -> None:
    """Of the rows that have probabilities, what they must sum to, or must not."""
    if how not in ("none", "softmax"):
        return
    off = np.abs(sums - 1) > SUM_TOLERANCE  # False where NaN
    if how == "none" and off.any():
        row = int(np.argmax(off))
        raise InputError(
            f"probabilities row {row + 1}: they sum to {sums[row]:.6g}, not to 1 "
            f"({int(off.sum())} such rows); sums of them are no probabilities: choose "
            "normalisation odds or l1"
        )
    if how == "softmax" and not off.any() and not np.isnan(sums).all():
        raise InputError(
            "normalisation softmax: the rows sum to 1 already, as a softmax's output does; choose "
            "none, or odds if they are sigmoid outputs"
        )
