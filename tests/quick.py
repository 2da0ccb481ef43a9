"""What libraries do again and again, done once for all tests of a process.

Belongs: results that cannot differ from one time to the next, kept (by patches; see each).
Does not: anything that a test makes a claim about: what is stored, sent, read or committed.
Concept: the libraries' own code runs, the first time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest


class Engines:
    """``create_engine``, once for equal arguments; its connections do not wait for the disk."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(self, url: str, **options: Any) -> Any:
        """The engine of a database."""
        from dagster._core.storage.sql import create_engine
        from sqlalchemy import event

        key = f"{url} {sorted(options.items(), key=str)}"
        if key not in self._made:
            self._made[key] = create_engine(url, **options)
            event.listen(self._made[key], "connect", _unsynced)
        return self._made[key]


def _unsynced(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def events(patch: pytest.MonkeyPatch) -> None:
    """Dagster's SQLite: one engine a database, one reading of the migration scripts.

    A storage makes an engine for each statement, and with it an empty cache of compiled SQL; and it
    reads every migration script for each run, whose events are a database of their own. Both cost
    more processor time than the events. No connection is kept: the engines have no pool, as before.
    And nothing waits for the disk: what is committed is seen, and need not outlive a power cut.
    """
    from alembic.script import ScriptDirectory
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

    for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        patch.setattr(storage, "create_engine", Engines())
    # alembic asks for the scripts of one of three configurations, which Dagster keeps itself
    patch.setattr(ScriptDirectory, "from_config", lru_cache(ScriptDirectory.from_config))


def clients(patch: pytest.MonkeyPatch) -> None:
    """S3 clients: one reading of botocore's descriptions of services and endpoints.

    Each session would parse some megabytes of JSON; within a session botocore shares them, too.
    """
    from botocore import session

    patch.setattr(session, "create_loader", lru_cache(session.create_loader))
