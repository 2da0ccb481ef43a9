"""Approval: a person signs a release, and an approved one becomes the one in service.

Belongs: who may sign what, and the three steps of putting a release in service.
Does not: the signature's file (``signatures``), the ledger's (``ledger``), reading what is in
service (``in_service``).
Concept: signature, then ledger, then pointer. Each step says what the next one will do, so that a
process killed between two of them leaves a decision on record that is not yet carried out, never
one carried out that is not on record. The ledger's last line is what was decided; the next approval
carries it out or replaces it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from dagster_project.lib import files, sums
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.release import ledger
from dagster_project.lib.release.people import checked_name, utc
from dagster_project.lib.release.signatures import (
    CURRENT,
    MEANINGS,
    Signature,
    add_signature,
    content_hash,
    keep_signatures,
    read_signatures,
    release_problems,
    releases_root,
)

DEPLOYABLE = ("thresholds.json", "metadata.json")


@dataclass(frozen=True)
class Approved:
    """What :func:`approve` did.

    Attributes
    ----------
    signature : the one on record: the earlier one where the same person had signed the same.
    signed : whether it is new.
    action : ``approve`` or ``rollback`` where the ledger got a line; else None.
    in_service : whether this release is what ``current`` points to now.
    previous : what was in service before, if ``action``.
    """

    signature: Signature
    signed: bool
    action: Literal["approve", "rollback"] | None = None
    in_service: bool = False
    previous: str | None = None


def approve(folder: Path, *, name: str, meaning: str, user: str, now: datetime) -> Approved:
    """Sign a release; with the meaning ``approval`` put it in service.

    Signing the same again changes nothing, so that a command that was killed can be repeated. A
    release that was in service before can be approved again: a rollback, one more line in
    ``releases.jsonl``. The output of ``refit --out`` has no place among releases: it is signed and
    nothing is moved.

    Parameters
    ----------
    folder : a release, or a link to one.
    name : of the person, as it shall be recorded.
    meaning : ``review`` or ``approval``.
    user : the operating system's name for who is running this; must not be the release's author.
    now : the time of signing.

    Raises
    ------
    InputError
        No release, an unusable name or meaning, or a folder that cannot be written or locked.
    RefusedError
        It is not what was released, was blocked, has no author on record, or ``user`` is it.
    """
    if meaning not in MEANINGS:
        raise InputError(f"--meaning {meaning!r}: allowed are {' and '.join(MEANINGS)}")
    name, folder = checked_name(name), folder.resolve()
    content_hash(folder)  # says so if this is no release, before anything is locked
    root = releases_root(folder)
    with _alone(folder, root):
        author = _may_sign(folder, root, user)
        wanted = Signature(name, user, meaning, utc(now), content_hash(folder), author)
        known = next((s for s in read_signatures(folder) if s.same_as(wanted)), None)
        if known is None:
            add_signature(folder, wanted)
        else:  # a killed process may have left it unsynced
            keep_signatures(folder)
        signed = Approved(known or wanted, signed=known is None)
        if root is None or meaning != "approval":
            return signed
        return _put_in_service(root, folder, signed, utc(now))


def pointed(root: Path) -> str | None:
    """The name of the release that ``current`` points to; None without the link."""
    link = root / CURRENT
    return link.readlink().name if link.is_symlink() else None


def _may_sign(folder: Path, root: Path | None, user: str) -> str:
    """The author of a release that ``user`` may sign."""
    problems = release_problems(folder)
    if problems:
        raise RefusedError(f"{folder}: not signed: {'; '.join(problems)}")
    missing = sorted(set(DEPLOYABLE) - sums.read_sums(folder).keys())
    if missing:
        raise RefusedError(
            f"{folder}: not signed: this release was blocked, it has no {missing[0]}; "
            "see why in its refit and make another"
        )
    if root is not None and (root / CURRENT).exists() and not (root / CURRENT).is_symlink():
        raise InputError(f"{root / CURRENT}: is no link; move it away")
    path = folder / sums.RUN
    author = files.read_json(path).get("user") if path.is_file() else None
    if not isinstance(author, str) or not author:
        raise RefusedError(
            f"{folder}: not signed: {sums.RUN} names no author (key user), so that nobody can be "
            "shown to be another; release it again with this version"
        )
    if author == user:
        raise RefusedError(
            f"{folder}: not signed: user {user} ran this refit and cannot sign it too; "
            "let somebody else, under an account of their own"
        )
    return author


def _put_in_service(root: Path, folder: Path, signed: Approved, time: str) -> Approved:
    entries = ledger.read_ledger(root)
    before = entries[-1].release if entries else pointed(root)
    action: Literal["approve", "rollback"] | None = None
    if not entries or before != folder.name:
        known = any(entry.release == folder.name for entry in entries)
        action = "rollback" if known else "approve"
        by = signed.signature
        ledger.append_entry(
            root,
            ledger.Entry(time, folder.name, before, action, by.name, by.user, by.sha256),
        )
    else:
        ledger.keep(root)
    if pointed(root) != folder.name:
        files.point(root / CURRENT, folder.name)
    return Approved(signed.signature, signed.signed, action, True, before if action else None)


@contextmanager
def _alone(folder: Path, root: Path | None) -> Iterator[None]:
    """One at a time: among releases the ledger is locked, else the folder; a kill unlocks it."""
    path = folder if root is None else root / ledger.LEDGER
    flags = os.O_RDONLY if root is None else os.O_RDWR | os.O_CREAT
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened for writing ({error.strerror}); approve as a user who may"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be locked here ({error.strerror}); keep releases on a disk "
                "with locks"
            ) from None
        try:
            yield
        except PermissionError as error:
            raise InputError(
                f"{error.filename}: {error.strerror}; approve as a user who may write there"
            ) from None
    finally:
        os.close(handle)
