"""Signatures under a release, and whether a folder is still what was signed.

Belongs: ``approval.json``, reading it and adding to it; the whole check of a release folder.
Does not: who may sign and what follows (``approval``); what was in service when (``ledger``).
Concept: what is signed is the sha256 of ``SHA256SUMS``, hence every hashed byte. The list only ever
grows. A signature is a record, not cryptography: whoever can write the folder can write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dagster_project.lib import files, sums
from dagster_project.lib.errors import InputError
from dagster_project.lib.release.ledger import LEDGER

MEANINGS = ("review", "approval")
CURRENT, LATEST = "current", "latest"
"""Links in a folder of releases: the one in service, and the newest candidate."""


@dataclass(frozen=True)
class Signature:
    """One entry of ``approval.json``.

    Attributes
    ----------
    name : as the person gave it; ``user`` is the operating system's name for who ran the command.
    meaning : ``review`` or ``approval``.
    time : UTC.
    sha256 : of the ``SHA256SUMS`` that was signed.
    author : who ran the refit, as ``run.json`` said when this was signed.
    """

    name: str
    user: str
    meaning: str
    time: str
    sha256: str
    author: str

    def same_as(self, other: Signature) -> bool:
        """Whether this is the same statement by the same person, at whatever time."""
        return (self.name, self.user, self.meaning, self.sha256) == (
            other.name, other.user, other.meaning, other.sha256
        )  # fmt: skip


def content_hash(folder: Path) -> str:
    """Hex sha256 of a release's ``SHA256SUMS``; a missing file is an InputError."""
    if not (folder / sums.SUMS).is_file():
        sums.read_sums(folder)
    return files.sha256_file(folder / sums.SUMS)


def read_signatures(folder: Path) -> list[Signature]:
    """The signatures of a release, oldest first; empty without ``approval.json``.

    Raises
    ------
    InputError
        The file is not a list of signatures.
    """
    path = folder / sums.APPROVAL
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_bytes())
        found = [Signature(**entry) for entry in entries]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a list of signatures ({str(error)[:80]})") from None
    for number, entry in enumerate(found, start=1):
        texts = all(isinstance(value, str) for value in asdict(entry).values())
        if not texts or entry.meaning not in MEANINGS:
            raise InputError(f"{path} entry {number}: not a signature; meanings are {MEANINGS}")
    return found


def add_signature(folder: Path, signature: Signature) -> None:
    """Extend ``approval.json`` by one signature, in one step; the others stay as they are."""
    entries = [asdict(entry) for entry in [*read_signatures(folder), signature]]
    files.write_text(folder / sums.APPROVAL, json.dumps(entries, indent=2, sort_keys=True) + "\n")


def keep_signatures(folder: Path) -> None:
    """Flush ``approval.json``, which somebody may have published and not lived to flush."""
    files.fsync(folder / sums.APPROVAL)
    files.fsync(folder)


def approvals(folder: Path) -> list[Signature]:
    """The signatures that approve exactly the bytes that lie here."""
    here = content_hash(folder)
    return [s for s in read_signatures(folder) if s.meaning == "approval" and s.sha256 == here]


def release_name(folder: Path) -> str:
    """The name that a release has by its content."""
    return content_hash(folder)[: sums.NAME_DIGITS]


def releases_root(folder: Path) -> Path | None:
    """The folder of releases that ``folder`` is a release of; None for the output of a refit.

    A release is named by its content. A folder with another name is one all the same where its
    name looks like a hash, or a ledger or a link to a release lies beside it: it was renamed or
    altered, and :func:`release_problems` says so.
    """
    parent = folder.parent
    links = [parent / link for link in (CURRENT, LATEST)]
    names = [folder.name, *(link.readlink().name for link in links if link.is_symlink())]
    hashlike = any(re.fullmatch(rf"[0-9a-f]{{{sums.NAME_DIGITS}}}", name) for name in names)
    return parent if hashlike or (parent / LEDGER).exists() else None


def release_problems(folder: Path) -> list[str]:
    """Everything wrong with a release folder: its bytes, its name, its signatures.

    Returns
    -------
    One sentence each; empty when ``SHA256SUMS`` holds, a release of a folder of releases is named
    by its content, and every signature in ``approval.json`` is of these very bytes.

    Raises
    ------
    InputError
        ``SHA256SUMS`` is missing or unreadable.
    """
    folder = folder.resolve()
    problems = sums.verify(folder)
    name = release_name(folder)
    if releases_root(folder) is not None and folder.name != name:
        problems.append(f"{folder.name}: the folder is not named by its content, {name}")
    try:
        signatures = read_signatures(folder)
    except InputError as error:
        return [*problems, str(error)]
    here = content_hash(folder)
    return problems + [
        f"{sums.APPROVAL}: {entry.meaning} by {entry.name} is of other bytes"
        for entry in signatures
        if entry.sha256 != here
    ]


def thresholds_of(folder: Path) -> Mapping[str, Any]:
    """The ``thresholds.json`` of a release."""
    return files.read_json(folder / "thresholds.json")
