"""What a score is: recorded, compared, never mixed.

Belongs: whether two gauges are the same, what changed since a sweep, taus in a person's own units.
Does not: how a score is made; reading files (``scores``).
Concept: a sweep belongs to one head, one magnitude convention and one normalisation: |Q| can be
rescaled without changing what a model says, and every tau with it. In this room scores are oriented
so that a high one is accepted; :func:`shown` is the one way back to the units of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from dagster_project.lib.config_file import faults
from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Gauge, Identity

if TYPE_CHECKING:
    from dagster_project.lib.gate.config import GateConfig

DOCS = "docs/gate.md#gauge"
_MOST = 2_000
"""Characters of a gauge or an identity in a file."""


def sign_of(gauge: Gauge) -> int:
    """1 where high scores are accepted, -1 where low ones are: scores in here are times this."""
    return 1 if gauge.accept == "high" else -1


def shown(tau: float, gauge: Gauge) -> float:
    """A tau of this room in the units of the file.

    >>> shown(-4.0, Gauge(head="h", magnitude="distance", normalisation="none", accept="low"))
    4.0
    """
    return sign_of(gauge) * tau + 0.0  # never -0.0


def differences(a: Gauge, b: Gauge) -> list[str]:
    """One phrase for each part in which two gauges differ.

    >>> one = Gauge(head="q", magnitude="abs", normalisation="none")
    >>> differences(one, one.model_copy(update={"normalisation": "layer"}))
    ['normalisation "none" and "layer"']
    """
    return [
        f'{part} "{getattr(a, part)}" and "{getattr(b, part)}"'
        for part in Gauge.model_fields
        if getattr(a, part) != getattr(b, part)
    ]


def check_same(a: Gauge, b: Gauge, *, what: str) -> None:
    """Raise unless two gauges are one; ``what`` names both sides, in their order.

    Raises
    ------
    InputError
        What differs, and the mend.
    """
    found = differences(a, b)
    if found:
        raise InputError(
            f"{what}: {'; '.join(found)}: thresholds and rates of one gauge say nothing of "
            "another. Sweep again, or, if these are the same scores under another name, say so "
            f"with relabel ({DOCS})"
        )


def check_recorded(recorded: Gauge | None, config: GateConfig, *, name: str) -> None:
    """Raise unless the gauge that a file records is the configured one, or declared to be.

    Parameters
    ----------
    recorded : None: the file says nothing, and the configuration counts.
    name : of the file, for messages.

    Raises
    ------
    InputError
        They differ and ``relabel`` does not name the recorded one.
    """
    declared = None if config.relabel is None else config.relabel.recorded
    if recorded is not None and recorded != declared:
        check_same(recorded, config.gauge, what=f"{name} and the configuration")


def joined(recorded: Identity | None, stated: Identity, *, name: str) -> Identity:
    """What file and configuration say of the model together; they may not contradict each other.

    Raises
    ------
    InputError
        Both state a part, and differently.
    """
    if recorded is None:
        return stated
    parts = {}
    for part in Identity.model_fields:
        old, new = getattr(recorded, part), getattr(stated, part)
        if None not in (old, new) and old != new:
            raise InputError(
                f'{name}: its metadata says identity.{part} "{old}", the configuration "{new}"; '
                "sweep the scores of the model that is meant"
            )
        parts[part] = new if old is None else old
    return Identity(**parts)


def reasons_to_rerun(recorded: tuple[Gauge, Identity], now: tuple[Gauge, Identity]) -> list[str]:
    """Why a sweep no longer holds, from what was recorded then and is now; empty: no reason seen.

    A part that was not stated on both sides cannot be compared: see :func:`unstated`.

    >>> gauge = Gauge(head="q", magnitude="abs", normalisation="none")
    >>> then, now = Identity(preprocessing="v1"), Identity(preprocessing="v2")
    >>> reasons_to_rerun((gauge, then), (gauge, now))
    ['preprocessing was "v1", is "v2"']
    """
    return [
        f'{part.replace("_", " ")} was "{old}", is "{new}"'
        for before, after in zip(recorded, now, strict=True)
        for part in type(before).model_fields
        if (old := getattr(before, part)) != (new := getattr(after, part))
        and None not in (old, new)
    ]


def unstated(identity: Identity) -> list[str]:
    """The parts that nobody stated: a change there cannot be seen.

    >>> unstated(Identity(model_family="a", preprocessing="b", dataset="c"))
    ['model tree hash']
    """
    return [
        part.replace("_", " ") for part in Identity.model_fields if getattr(identity, part) is None
    ]


def recorded_in(metadata: Mapping[str, str], *, name: str) -> tuple[Gauge | None, Identity | None]:
    """``gauge`` and ``identity`` of a file's key-value metadata, JSON; None where it has none.

    Raises
    ------
    InputError
        One of them is there and no gauge or identity.
    """
    return (
        _parsed(Gauge, metadata.get("gauge"), f"{name}, metadata gauge"),
        _parsed(Identity, metadata.get("identity"), f"{name}, metadata identity"),
    )


def _parsed(kind: type[Any], text: str | None, what: str) -> Any:
    if text is None:
        return None
    if len(text) > _MOST:
        raise InputError(f"{what}: {len(text)} characters, allowed are {_MOST}; see {DOCS}")
    try:
        value: BaseModel = kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{what}: {faults(error, 'it', (kind,))}") from None
    return value
