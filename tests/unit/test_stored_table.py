"""Stored tables: rows and metadata travel together; the version is of the rows alone."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.stored_table import Metadata, StoredTable

FRAME = pl.DataFrame({"image_uuid": ["a", "b"], "n": [1, None]})


def test_rows_and_metadata_come_back() -> None:
    table = StoredTable.of(FRAME, {"label_version": "v1"})
    assert table.frame.equals(FRAME)
    assert table.metadata == {"label_version": "v1"}
    assert len(table) == 2


def test_without_metadata_there_is_none() -> None:
    assert StoredTable.of(FRAME).metadata == {}


def test_a_key_that_an_older_table_lacks_names_table_key_and_mend() -> None:
    older = StoredTable(StoredTable.of(FRAME, {"version": "v1"}).arrow, "expert_reviews")
    with pytest.raises(InputError) as told:
        older.metadata["files_refused"]
    assert str(told.value) == (
        'expert_reviews: the stored table says no "files_refused" (another version of this package '
        "wrote it); materialize expert_reviews again"
    )
    # who can do without asks for it
    assert older.metadata.get("warnings", "[]") == "[]"
    assert ("version" in older.metadata, "warnings" in older.metadata) == (True, False)
    with pytest.raises(InputError, match=r"^test_probabilities: .*; run dump_job$"):
        Metadata({}, "test_probabilities", "run dump_job")["tta"]


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
