"""Stored tables: rows and metadata travel together; the version is of the rows alone."""

from __future__ import annotations

import subprocess
import sys

import polars as pl

from dagster_project.lib.stored_table import StoredTable

FRAME = pl.DataFrame({"image_uuid": ["a", "b"], "n": [1, None]})


def test_rows_and_metadata_come_back() -> None:
    table = StoredTable.of(FRAME, {"label_version": "v1"})
    assert table.frame.equals(FRAME)
    assert table.metadata == {"label_version": "v1"}
    assert len(table) == 2


def test_without_metadata_there_is_none() -> None:
    assert StoredTable.of(FRAME).metadata == {}


def test_the_version_sees_the_rows_and_not_the_metadata() -> None:
    table = StoredTable.of(FRAME, {"run": "1"})
    assert table.version == StoredTable.of(FRAME, {"run": "2"}).version
    assert table.version != StoredTable.of(FRAME.reverse()).version


def test_importing_it_loads_no_table_library() -> None:
    # Dagster needs the type when it loads the definitions
    code = (
        "import sys, dagster_project.lib.stored_table as m\n"
        "print([n for n in ('polars', 'pyarrow', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
