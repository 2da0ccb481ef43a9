"""Crash tests trace real processes; where that is impossible they are skipped, with the reason."""

from __future__ import annotations

import pytest
from crash import record


@pytest.fixture
def traced() -> None:
    """Skip the test where strace cannot be used."""
    if reason := record.why_not():
        pytest.skip(reason)
