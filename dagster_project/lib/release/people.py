"""Who did it, when and where: what ``run.json``, signatures and the ledger say of a person.

Belongs: the operating system's name for the user of this process, and the facts of a run.
Does not: whether a person may approve (``approval``).
Concept: identity is the operating system's. It is asked for the user id of the process, not for an
environment variable that anybody can set.
"""

from __future__ import annotations

import os
import pwd
import socket
from datetime import UTC, datetime

from dagster_project.lib.errors import InputError

AUTOMATION = "automation"
"""The author of a run that a sensor or a schedule started."""

MAX_NAME = 200


def os_user() -> str:
    """The login name of this process's real user; ``uid:1234`` for one without an account."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid:{number}"


def run_facts(author: str) -> dict[str, str]:
    """``time`` (UTC), ``host`` and ``user``, for ``run.json``."""
    return {"time": utc(datetime.now(UTC)), "host": socket.gethostname(), "user": author}


def utc(now: datetime) -> str:
    """A moment as text, in UTC, to the second.

    >>> utc(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05+00:00'
    """
    return now.astimezone(UTC).isoformat(timespec="seconds")


def checked_name(name: str) -> str:
    """The name that a person signs with, stripped.

    Raises
    ------
    InputError
        It is empty, longer than :data:`MAX_NAME`, or more than one printable line.
    """
    plain = name.strip()
    if not plain or len(plain) > MAX_NAME or not plain.isprintable():
        raise InputError(
            f"--as {plain[:40]!r}: expected a name of 1 to {MAX_NAME} printable characters"
        )
    return plain
