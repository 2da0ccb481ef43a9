"""Applying a frozen gate: numpy and the standard library, so that a service can copy this one file.

Belongs: the comparison itself, for anything that has ``metadata.json`` as a dictionary.
Does not: choosing tau (``points``), checking a whole bundle (``bundle``), exporting (``exported``).
Concept: no answer is ``fault or score < tau_infer``, strict: a score at tau is answered. Everything
is in the units of the scores; where low ones are accepted (distances), > takes the place of <.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import float_info
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FORMAT = "tier-refit gate"
SCHEMA_VERSION = 1

FINITE, FAULT, SEMANTIC, MIXED = range(4)
"""Codes of ``provenance``: answered; no usable score; beyond tau; flagged, and beyond tau too."""


class Applied(NamedTuple):
    """What a gate says of scores; every array has the shape of the scores.

    Attributes
    ----------
    accepted : bool, an answer is given. bottom_mask : bool, none is.
    gap_mask : bool, one is given, and it lies in the gray zone; nowhere without ``use_gap``.
    provenance : uint8, why: :data:`FINITE`, :data:`FAULT`, :data:`SEMANTIC`, :data:`MIXED`.
    """

    accepted: npt.NDArray[np.bool_]
    bottom_mask: npt.NDArray[np.bool_]
    gap_mask: npt.NDArray[np.bool_]
    provenance: npt.NDArray[np.uint8]


class Gate(NamedTuple):
    """What applying needs of a bundle, checked. ``tau_train`` is None where no gap is used."""

    tau_infer: float
    tau_train: float | None
    low: bool
    gauge: dict[str, str]

    def beyond(self, score: npt.NDArray[np.float64], tau: float) -> npt.NDArray[np.bool_]:
        """Whether a score is on the side of ``tau`` where no answer is given; NaN is not."""
        return np.asarray(score > tau if self.low else score < tau)


def apply_gate(
    scores: npt.ArrayLike,
    bundle: Any,
    *,
    fault: npt.ArrayLike | None = None,
    gauge: Any = None,
) -> Applied:
    """Who gets an answer.

    Parameters
    ----------
    scores : any shape, float16, float32 or float64, in the units of the bundle; widened exactly to
        float64 before they are compared. What is not finite is a fault.
    bundle : ``json.load`` of a ``metadata.json``, or what ``bundle.read_bundle`` returns.
    fault : bool of the same shape, True where something else went wrong; None: nowhere.
    gauge : of these scores (``head, magnitude, normalisation, accept``), if it is known.

    Raises
    ------
    ValueError
        Another gauge than the bundle's; scores or ``fault`` of another type or shape; negative
        scores under the magnitude ``abs``; a bundle without what is needed here.

    >>> made = {"format": FORMAT, "schema_version": 1, "tau_infer": 0.5, "tau_train": 0.8}
    >>> made |= {"use_gap": True, "gauge": {"head": "q", "magnitude": "abs"}}
    >>> made["gauge"] |= {"normalisation": "none", "accept": "high"}
    >>> found = apply_gate([0.4, 0.5, 0.9, float("nan")], made, fault=[True, False, False, False])
    >>> found.bottom_mask.tolist(), found.gap_mask.tolist(), found.provenance.tolist()
    ([True, False, False, True], [False, True, False, False], [3, 0, 0, 1])
    """
    gate = gate_of(bundle)
    _check_gauge(gate.gauge, gauge)
    score = _widened(scores, gate)
    finite = np.asarray(np.isfinite(score))
    faulty = ~finite if fault is None else np.asarray(~finite | _flags(fault, score.shape))
    semantic = np.asarray(finite & gate.beyond(score, gate.tau_infer))
    bottom = np.asarray(faulty | semantic)
    gap = np.zeros(score.shape, dtype=bool)
    if gate.tau_train is not None:
        gap = np.asarray(~bottom & gate.beyond(score, gate.tau_train))
    provenance = np.where(faulty, np.uint8(FAULT), np.uint8(FINITE))
    provenance = np.where(semantic, provenance + np.uint8(SEMANTIC), provenance)
    return Applied(np.asarray(~bottom), bottom, gap, provenance)


def gate_of(bundle: Any) -> Gate:
    """The thresholds of a bundle, checked as far as a comparison needs it; see :func:`apply_gate`.

    Raises
    ------
    ValueError
        The key that is missing or wrong.
    """
    made = bundle if isinstance(bundle, Mapping) else bundle.model_dump(mode="json")
    needed = ("format", "schema_version", "tau_infer", "tau_train", "use_gap", "gauge")
    missing = [key for key in needed if key not in made]
    if missing:
        raise ValueError(f"bundle, key {missing[0]}: missing; pass metadata.json as it was written")
    if (made["format"], made["schema_version"]) != (FORMAT, SCHEMA_VERSION):
        raise ValueError(
            f"bundle: {made['format']!r} version {made['schema_version']!r}; this is for "
            f"{FORMAT!r} version {SCHEMA_VERSION}"
        )
    gauge, use_gap = _plain_gauge(made["gauge"]), made["use_gap"]
    infer, low = _number(made, "tau_infer"), gauge["accept"] == "low"
    if use_gap is False:
        return Gate(infer, None, low, gauge)
    train = _number(made, "tau_train")
    if use_gap is not True or not (train < infer if low else train > infer):
        raise ValueError(
            f"bundle, key use_gap: {use_gap!r} with tau_train {train} and tau_infer {infer}; a gap "
            "needs the stricter tau_train"
        )
    return Gate(infer, train, low, gauge)


def _number(made: Mapping[str, Any], key: str) -> float:
    value = made[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) <= float_info.max):  # of NaN, infinity and huge integers, too
        raise ValueError(f"bundle, key {key}: {value!r}; a finite number is needed")
    return float(value)


def _plain_gauge(gauge: Any) -> dict[str, str]:
    found = dict(gauge) if isinstance(gauge, Mapping) else gauge.model_dump(mode="json")
    found.setdefault("accept", "high")
    if found["accept"] not in ("high", "low"):
        raise ValueError(f"gauge, key accept: {found['accept']!r}; high or low")
    return found


def _check_gauge(own: dict[str, str], given: Any) -> None:
    if given is None:
        return
    other = _plain_gauge(given)
    parts = [key for key in {**own, **other} if own.get(key) != other.get(key)]
    if parts:
        told = "; ".join(f"{key} {own.get(key)!r} and {other.get(key)!r}" for key in parts)
        raise ValueError(
            f"bundle and scores are of different gauges: {told}. Their thresholds say nothing of "
            "each other; freeze a gate for these scores"
        )


def _widened(scores: npt.ArrayLike, gate: Gate) -> npt.NDArray[np.float64]:
    if isinstance(scores, np.ma.MaskedArray):
        raise ValueError("scores are a masked array; pass them filled, and the mask as fault")
    found = np.asarray(scores)
    if found.dtype.kind != "f" or found.dtype.itemsize > 8:
        raise ValueError(f"scores are {found.dtype}; float16, float32 or float64 is needed")
    score: npt.NDArray[np.float64] = found.astype(np.float64)
    if gate.gauge.get("magnitude") == "abs" and (np.isfinite(score) & (score < 0)).any():
        raise ValueError("scores below 0, and the gauge's magnitude is abs; take absolute values")
    return score


def _flags(fault: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    found = np.asarray(fault)
    if found.dtype != np.bool_ or found.shape != shape:
        raise ValueError(
            f"fault is {found.dtype} of shape {found.shape}; bool of shape {shape} is needed"
        )
    return found
