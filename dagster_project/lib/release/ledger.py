"""``releases.jsonl``: which release was put in service when, and by whom. Lines are only added.

Belongs: one entry a line, reading them, adding one so that it is whole and on the disk.
Does not: who may (``approval``), the pointer ``current`` (``approval``).
Concept: a line is an entry if it is whole. What a killed writer left half-written at the end was
never acknowledged and is none: the next writer removes it. Nothing else is ever changed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dagster_project.lib import files

LEDGER = "releases.jsonl"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes
    ----------
    time : UTC.
    release, previous : names of folders; ``previous`` is None for the first.
    action : ``rollback`` where ``release`` had been in service before, else ``approve``.
    name, user : as in the signature.
    sha256 : of the release's ``SHA256SUMS``.
    """

    time: str
    release: str
    previous: str | None
    action: Literal["approve", "rollback"]
    name: str
    user: str
    sha256: str


def read_ledger(root: Path) -> list[Entry]:
    """The entries, oldest first; empty without a file. A line that is no entry is passed over."""
    path = root / LEDGER
    if not path.is_file():
        return []
    # a last line without its newline counts if it is whole: the next writer only ends it
    lines = path.read_bytes().split(b"\n")
    return [entry for line in lines if (entry := _entry(line)) is not None]


def append_entry(root: Path, entry: Entry) -> None:
    """Add one line and flush it; half a line that a killed writer left at the end goes.

    The caller holds the lock of ``approval``: a second writer's half line is not to be removed.
    """
    line = json.dumps(asdict(entry), sort_keys=True).encode() + b"\n"
    handle = os.open(root / LEDGER, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        last = os.pread(handle, size, 0).rpartition(b"\n")[2]
        if last and _entry(last) is not None:  # all but its newline
            line = b"\n" + line
        elif last:
            os.ftruncate(handle, size - len(last))
            os.lseek(handle, 0, os.SEEK_END)
        while line:  # a full disk may take a part; the rest then fails
            line = line[os.write(handle, line) :]
    finally:
        os.close(handle)
    keep(root)


def keep(root: Path) -> None:
    """Flush the ledger: a line that is read may be a killed writer's, and not on the disk yet."""
    files.fsync(root / LEDGER)
    files.fsync(root)


def _entry(line: bytes) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = [entry.time, entry.release, entry.action, entry.name, entry.user, entry.sha256]
    return entry if all(isinstance(text, str) for text in texts) else None
