"""What computed a release: the code, its commit, and the library versions.

Belongs: the software bill of materials that ``metadata.json`` carries, and how two of them differ.
Does not: who ran it and where (``run.json``), what it was made from (``inputs``).
Concept: unknown is null. Only the package's own checkout counts: a repository that merely holds the
virtual environment says nothing about this code.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "tier-refit"
ALWAYS = ("matplotlib", "numpy", "polars", "pyarrow", "pydantic")
"""Named even where the package's own list cannot be read: the numbers and pictures hang on them."""

_ROOT = Path(__file__).parents[2]
_SECONDS = 10


def environment() -> dict[str, Any]:
    """The code and the libraries of this process, for ``metadata.json``.

    Returns
    -------
    ``code``: ``version``, ``commit`` (hex, of the checkout the package lies in) and ``dirty``
    (whether the package differs from it), null where unknown; ``packages``: ``python`` and each
    declared dependency with its installed version, null where it is not installed.
    """
    commit, dirty = _checkout(_ROOT)
    code = {"version": _version(PACKAGE), "commit": commit, "dirty": dirty}
    packages = {"python": platform.python_version(), **{name: _version(name) for name in _names()}}
    return {"code": code, "packages": packages}


def environment_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One phrase for each version that differs: ``numpy 2.4.0 then, 2.4.1 now``.

    >>> environment_changes({"packages": {"numpy": "1"}}, {"packages": {"numpy": "2"}})
    ['numpy 1 then, 2 now']
    """
    old, new = _flat(then), _flat(now)
    return [
        f"{name} {_words(old.get(name))} then, {_words(new.get(name))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    code = {f"code {key}": entry for key, entry in (value.get("code") or {}).items()}
    return {**code, **(value.get("packages") or {})}


def _words(value: object) -> str:
    return "unknown" if value is None else str(value)


@cache  # the code that runs is the code that was imported, whatever is committed meanwhile
def _checkout(root: Path) -> tuple[str | None, bool | None]:
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "dagster_project")
    return commit, None if commit is None or changed is None else bool(changed)


def _git(root: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    # a hook's GIT_DIR would point at another repository
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [program, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
            env=clean,
        )
    except (OSError, subprocess.SubprocessError):  # not our repository, or none that git accepts
        return None
    return done.stdout.strip()


@cache
def _names() -> tuple[str, ...]:
    """The declared dependencies, extras left out, by their plain names."""
    try:
        declared = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        declared = []
    plain = [line for line in declared if "extra ==" not in line]
    found = {match.group() for line in plain if (match := re.match(r"[\w.-]+", line))}
    return tuple(sorted(found | set(ALWAYS)))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
