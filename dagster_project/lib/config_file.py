"""Configuration that people write: JSON in, a frozen checked value out, every fault named.

Belongs: reading the file, and one line for all that is wrong with it.
Does not: what a configuration may say (the models: ``tiers.policy``, ``rollup.config``).
Concept: a key that is unknown, repeated, missing or out of range is refused, never ignored.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import canonical_json, sha256_bytes

Config = TypeVar("Config", bound=BaseModel)


def read_config_json(path: Path, what: str, see: str) -> object:
    """What is in a JSON file, unchecked.

    Parameters
    ----------
    what : of the file, for messages. see : where its format is told.

    Raises
    ------
    InputError
        Missing, not JSON, a key twice.
    """
    tables.existing(path, what)
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_without_repeats)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: not JSON ({error}); see {see}") from None


def checked(
    kind: type[Config],
    value: object,
    *,
    name: str,
    parts: Sequence[type[BaseModel]],
    see: str,
    hidden: Collection[str] = (),
) -> Config:
    """A configuration that is already an object, as one of ``kind``.

    Parameters
    ----------
    name : of the configuration, for messages. see : where its format is told.
    parts, hidden : as :func:`faults`.

    Raises
    ------
    InputError
        A key unknown or out of range, text for a number; every fault is named, on one line.
    """
    try:
        text = canonical_json(value)  # strict JSON: a list is a tuple, but "0.5" is no number
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        told = faults(error, "the configuration", parts, hidden=hidden)
        raise InputError(f"{name}: {told}") from None
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error}); see {see}") from None


def config_sha256(config: BaseModel) -> str:
    """Names a configuration; keys left at their defaults count as written out."""
    return sha256_bytes(canonical_json(config.model_dump(mode="json")).encode())


def faults(
    error: ValidationError,
    whole: str,
    parts: Sequence[type[BaseModel]],
    *,
    hidden: Collection[str] = (),
) -> str:
    """All that is wrong, on one line: key, what was found, what is allowed.

    Parameters
    ----------
    whole : what the value is called. parts : the models whose keys are known.
    hidden : names in pydantic's places that are no keys (tags of a union).
    """
    known = sorted({name for part in parts for name in part.model_fields})
    return "; ".join(_fault(detail, whole, known, hidden) for detail in error.errors())


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"key {key} appears twice; keep one")
        found[key] = value
    return found


def _fault(detail: ErrorDetails, whole: str, known: list[str], hidden: Collection[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"] if part not in hidden) or whole
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        return f"key {key}: unknown" + (f", nearest {near[0]}" if near else "; remove it")
    if detail["type"] == "missing":
        return f"key {key}: missing"
    allowed = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if isinstance(detail["input"], dict | BaseModel):
        return f"key {key}: {allowed}"
    return f"key {key}: got {detail['input']!r}, allowed: {allowed}"
