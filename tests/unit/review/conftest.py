"""Folders in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is /dev/shm: a packet is hundreds of files, each flushed."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made inside
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="tier-refit-") as made:
        yield Path(made)
