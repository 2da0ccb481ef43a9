"""The three numbers in service, and the grid they are released on.

Belongs: the value class, rounding towards safety, reading what is deployed now.
Does not: choosing thresholds (``selection``), judging them (``release.conditions``).
Concept: a threshold is a float64 k/1000; a stored float32 probability is widened to float64, which
is exact, and compared with it. Nothing is ever rounded before a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dagster_project.lib import files
from dagster_project.lib.errors import InputError

GRID = 1000
"""Released thresholds are k / GRID: three decimals."""

ENV_NAMES = {
    "confident": "TIER_CONFIDENT_THRESHOLD",
    "refer": "TIER_REFER_THRESHOLD",
    "possible_item": "POSSIBLE_ITEM_THRESHOLD",
}


@dataclass(frozen=True)
class Thresholds:
    """Confident if score >= ``confident``; refer if score < ``refer``; items > ``possible_item``.

    Not validated here: a proposal may be wrong, and ``release.conditions`` must be able to say so.
    """

    confident: float
    refer: float
    possible_item: float

    def as_dict(self) -> dict[str, float]:
        """The contract's ``thresholds`` object."""
        return {name: float(getattr(self, name)) for name in ENV_NAMES}


def round_up(value: float) -> float:
    """The smallest grid value that is not below ``value`` (in [0, 1]).

    Up is the safe side of both thresholds: fewer answers stand as confident, more are referred.

    >>> round_up(0.81401), round_up(0.815), round_up(0.0)
    (0.815, 0.815, 0.0)
    """
    step = max(0, math.floor(value * GRID) - 1)
    while step / GRID < value:  # division is correctly rounded, value * GRID is not
        step += 1
    return step / GRID


def known_or_none(
    confident: float | None, refer: float | None, possible_item: float | None
) -> Thresholds | None:
    """Deployed thresholds from three settings; none set is None, some set is an error.

    Raises
    ------
    InputError
        Only some are given, one is outside [0, 1], or refer > confident.
    """
    given = {"confident": confident, "refer": refer, "possible_item": possible_item}
    if all(value is None for value in given.values()):
        return None
    return _checked("deployed thresholds", given)


def read_deployed(path: Path) -> Thresholds:
    """What is in service, as the ``thresholds.json`` of its release says.

    Raises
    ------
    InputError
        The file is missing or malformed, or as :func:`known_or_none`.
    """
    value = files.read_json(path)
    return _checked(path.name, {key: value.get(key) for key in ENV_NAMES})


def _checked(name: str, given: Mapping[str, object]) -> Thresholds:
    missing = [key for key, value in given.items() if value is None]
    if missing:
        raise InputError(f"{name}: {', '.join(missing)} is missing; give all three or none")
    values: dict[str, float] = {}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{name}, {key}: got {value!r}, allowed: a number in [0, 1]")
        values[key] = float(value)
    found = Thresholds(**values)
    if found.refer > found.confident:
        raise InputError(
            f"{name}: refer {found.refer} is above confident {found.confident}; correct them"
        )
    return found
