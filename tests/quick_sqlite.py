"""Dagster's SQLite storages, without the work that they do again at every event.

Belongs: one SQLAlchemy engine a database, one reading of the migration scripts.
Does not: what is stored, when it is committed, or by which statement: that stays Dagster's.
Concept: a storage makes an engine for each statement, and with it an empty cache of compiled SQL;
and it reads every migration script for each run, whose events are a database of their own. Both cost
more processor time than the events. Connections are not kept: the engines have no pool, as before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import create_engine

STORAGES = (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)


class Engines:
    """``create_engine``, once for equal arguments."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(self, url: str, **options: Any) -> Any:
        """The engine of a database."""
        key = f"{url} {sorted(options.items(), key=str)}"
        if key not in self._made:
            self._made[key] = create_engine(url, **options)
        return self._made[key]


def install(patch: pytest.MonkeyPatch) -> None:
    """Until ``patch`` is undone."""
    for storage in STORAGES:
        patch.setattr(storage, "create_engine", Engines())
    # alembic asks for the scripts of one of three configurations, which Dagster keeps itself
    patch.setattr(ScriptDirectory, "from_config", lru_cache(ScriptDirectory.from_config))
