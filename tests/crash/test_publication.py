"""Publication survives: power cuts, kills, full and failing disks, and the program started again.

The numbers demanded are part of each claim: a crash test that crashes nothing passes always.
"""

from __future__ import annotations

import pytest
from crash import modes
from crash.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("traced")

SECONDS = 20.0
CALLS = 8
"""Runs for each way to fail; ``python -m crash`` does all calls (CONTRIBUTING.md)."""

# operations at which the power is cut, and different disks that are judged: at least
POINTS = {
    "file": (25, 40),
    "new_folders": (50, 60),
    "store": (35, 60),
    "rival": (50, 80),
    "replace": (60, 120),
    "journal": (35, 40),
    "ledger": (35, 30),
    "segments": (90, 100),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_power_cut_loses_or_tears_what_was_published(name: str) -> None:
    found = modes.power_cuts(name, seconds=SECONDS)
    assert found.faults == {}
    points, disks = POINTS[name]
    assert found.points >= points
    assert found.disks >= disks


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not SCENARIOS[name].packages])
def test_no_power_cut_after_a_kill_and_a_second_run_does(name: str) -> None:
    found = modes.power_cuts_after_kill(name, kills=5, seconds=SECONDS)
    assert found.faults == {}
    assert found.points >= 100
    assert found.disks >= 60


@pytest.mark.parametrize("how", ["KILL", "ENOSPC", "EIO"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_call_that_kills_or_fails_does(name: str, how: str) -> None:
    most = 3 if SCENARIOS[name].packages else CALLS
    found = modes.failing_calls(name, how, most=most)
    assert found.faults == {}
    assert found.points == most
