"""``checkpoints.toml``: which checkpoints are compared, what each changed, and by which rule.

Belongs: reading and checking the file.
Does not: fetching or dumping a checkpoint (``model_store``, ``inference``), judging (``verdict``).
Concept: a checkpoint is a name, a place, the levers that were pulled, and a seed. Checkpoints with
the same levers are runs of one recipe. Adding a line adds a lineage, without code.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.scorecard.rule import Margins, Rule

DEPLOYED = "deployed"
"""The name of the model in service, which is always in the table and needs no entry."""

MAX_BYTES = 1 << 20
MAX_ENTRIES = 100
"""Each is a lineage of its own that is loaded, shown and synced."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_LEVER = re.compile(r"[a-z0-9][a-z0-9_.=+-]{0,59}")
_TOP = ("rule", "checkpoint")
_KEYS = ("name", "model", "changed", "seed", "baseline")


@dataclass(frozen=True)
class Checkpoint:
    """One entry of the file.

    Attributes
    ----------
    name : letters, digits and ``_``, unique; part of asset keys. Never :data:`DEPLOYED`.
    model : ``s3://bucket/prefix/`` or a folder, absolute.
    changed : levers that differ from the baseline's recipe, sorted and unique; empty: the same.
    seed : of the training run; None: not known.
    baseline : what all others are compared with; at most one entry. Without one, the model in
        service is.
    """

    name: str
    model: str
    changed: tuple[str, ...] = ()
    seed: int | None = None
    baseline: bool = False


@dataclass(frozen=True)
class Checkpoints:
    """The whole file; ``entries`` in its order."""

    entries: tuple[Checkpoint, ...] = ()
    rule: Rule = field(default_factory=Rule)

    @property
    def baseline(self) -> str:
        """Name of the configuration that all others are compared with."""
        return next((entry.name for entry in self.entries if entry.baseline), DEPLOYED)

    def recipe_of(self, name: str) -> tuple[str, ...] | None:
        """The levers of a configuration; empty: the baseline's. None: not known.

        Not known is the recipe of the model in service where an entry is the baseline, and that of
        a name without an entry.
        """
        if name == self.baseline:
            return ()
        return next((entry.changed for entry in self.entries if entry.name == name), None)


def read_checkpoints(path: Path) -> Checkpoints:
    """Read ``checkpoints.toml``.

    Parameters
    ----------
    path : TOML in UTF-8, at most 1 MiB: ``[rule]`` with ``[rule.margins]``, both optional, and a
        ``[[checkpoint]]`` for each entry. Folders are relative to the file's own.

    Raises
    ------
    InputError
        No TOML; a key that is not known; a name that is not clean, repeated or ``deployed``; two
        baselines, or one with levers; a model or a run of a recipe that is listed twice; a rule out
        of range. Names the entry, the key, and the mend.
    """
    raw = _parsed(path)
    _known(path.name, raw, _TOP)
    listed = raw.get("checkpoint", [])
    if not isinstance(listed, list):
        raise InputError(
            f"{path.name}, key checkpoint: expected a list of tables; head each entry with "
            "[[checkpoint]]"
        )
    if len(listed) > MAX_ENTRIES:
        raise InputError(
            f"{path.name}: {len(listed)} checkpoints; at most {MAX_ENTRIES}. Retire older ones"
        )
    entries: list[Checkpoint] = []
    for number, given in enumerate(listed, start=1):
        entry = _entry(path, number, given)
        _check_beside(_where(path, number, entry.name), entry, entries)
        entries.append(entry)
    return Checkpoints(tuple(entries), _rule(path, raw.get("rule", {})))


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a list of checkpoints in TOML")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{path.name}: more than {MAX_BYTES} bytes; that is no list of checkpoints"
        )
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not UTF-8; save it as UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list in a list in …
        raise InputError(f"{path.name}: not TOML ({str(error)[:80]})") from None


def _known(where: str, given: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse a key that would be ignored."""
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key[:60], allowed, n=1)
            mend = f"did you mean {near[0]}?" if near else "remove it"
            raise InputError(
                f"{where}: unknown key {key[:60]!r}; known are {', '.join(allowed)}. {mend}"
            )


def _where(path: Path, number: int, name: object = None) -> str:
    shown = f" ({name})" if isinstance(name, str) and _NAME.fullmatch(name) else ""
    return f"{path.name}, checkpoint {number}{shown}"


def _entry(path: Path, number: int, given: object) -> Checkpoint:
    if not isinstance(given, dict):
        raise InputError(
            f"{_where(path, number)}: expected a table; head each entry with [[checkpoint]]"
        )
    where = _where(path, number, given.get("name"))
    _known(where, given, _KEYS)
    baseline = _of_type(where, given, "baseline", bool, "true or false") or False
    entry = Checkpoint(
        name=_name(where, given),
        model=_model(where, given, path.parent),
        changed=_changed(where, given),
        seed=_seed(where, given),
        baseline=baseline,
    )
    if baseline and entry.changed:
        raise InputError(
            f"{where}, key changed: the baseline lists {some(entry.changed)}; levers are what "
            "differs from it, so its own list is empty"
        )
    return entry


def _of_type(where: str, given: Mapping[str, Any], key: str, kind: type, words: str) -> Any:
    """The value of ``key``, None where it is not given; true is no number here."""
    value = given.get(key)
    if value is not None and type(value) is not kind:
        raise InputError(f"{where}, key {key}: got {_shown(value)}; expected {words}")
    return value


def _name(where: str, given: Mapping[str, Any]) -> str:
    name = _of_type(where, given, "name", str, "a text")
    if name is None or not _NAME.fullmatch(name):
        got = "none given" if name is None else f"got {_shown(name)}"
        raise InputError(
            f"{where}, key name: {got}; a small letter, then small letters, digits and _, at most "
            "60 in all: it is part of asset keys and file names"
        )
    if name == DEPLOYED:
        raise InputError(
            f"{where}, key name: {DEPLOYED} is the model in service, which needs no entry; "
            "take another name"
        )
    return str(name)


def _model(where: str, given: Mapping[str, Any], folder: Path) -> str:
    model = _of_type(where, given, "model", str, "a text")
    if not model or not model.isprintable():
        got = "none given" if model is None else f"got {_shown(model)}"
        raise InputError(f"{where}, key model: {got}; give s3://bucket/prefix/ or a folder")
    if "://" not in model:
        return str((folder / model).absolute())
    bucket = model.removeprefix("s3://").partition("/")[0]
    if not model.startswith("s3://") or not bucket:
        raise InputError(
            f"{where}, key model: got {_shown(model)}; give s3://bucket/prefix/ or a folder"
        )
    return str(model)


def _changed(where: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    levers = _of_type(where, given, "changed", list, 'a list of texts, as in ["focal_loss"]') or []
    for lever in levers:
        if not (isinstance(lever, str) and _LEVER.fullmatch(lever)):
            raise InputError(
                f"{where}, key changed: got {_shown(lever)}; a lever is small letters, digits and "
                "_ . = + -, at most 60"
            )
    twice = sorted(lever for lever, count in Counter(levers).items() if count > 1)
    if twice:
        raise InputError(f"{where}, key changed: {some(twice)} more than once; keep one")
    return tuple(sorted(levers))


def _seed(where: str, given: Mapping[str, Any]) -> int | None:
    seed = _of_type(where, given, "seed", int, "a whole number")
    if seed is not None and not 0 <= seed < 1 << 63:
        raise InputError(f"{where}, key seed: got {_shown(seed)}; from 0 to 2^63 - 1")
    return None if seed is None else int(seed)


def _check_beside(where: str, entry: Checkpoint, before: Collection[Checkpoint]) -> None:
    """What an entry may not share with one before it."""
    for other in before:
        if other.name == entry.name:
            raise InputError(f"{where}, key name: an entry before it has that name; take another")
        if _place(other.model) == _place(entry.model):
            raise InputError(
                f"{where}, key model: {_shown(entry.model)} is that of {other.name}; keep one entry"
            )
        if other.baseline and entry.baseline:
            raise InputError(
                f"{where}, key baseline: {other.name} is the baseline already; keep one"
            )
        same_run = entry.seed is not None and other.seed == entry.seed
        if same_run and other.changed == entry.changed:
            raise InputError(
                f"{where}, key seed: {other.name} is a run of the same levers with seed "
                f"{entry.seed}; a repeat has another seed (leave it out where it is not known)"
            )


def _place(model: str) -> str:
    """One spelling of a place: ``s3://b/x`` and ``s3://b/x/`` are one, and so is ``a/../b``."""
    return model.rstrip("/") if "://" in model else os.path.normpath(model)


def _rule(path: Path, given: object) -> Rule:
    where = f"{path.name}, rule"
    if not isinstance(given, dict):
        raise InputError(f"{where}: got {_shown(given)}; head it with [rule]")
    _known(where, given, tuple(Rule.model_fields))
    margins = given.get("margins", {})
    if not isinstance(margins, dict):
        raise InputError(
            f"{where}, key margins: got {_shown(margins)}; head them with [rule.margins]"
        )
    _known(f"{where}.margins", margins, tuple(Margins.model_fields))
    for key, value in [*given.items(), *margins.items()]:
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}, key {key}: got {value}; give a number")
    try:
        return Rule.model_validate(given, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}, key {key}: got {_shown(first['input'])}; {first['msg'].lower()}"
        ) from None


def _shown(value: object) -> str:
    """A value in a message: one line, cut; numbers of any length."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number beyond 64 bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
