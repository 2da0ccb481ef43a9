"""The test of the crash tests: every fault planted on purpose is found, by the mode that can."""

from __future__ import annotations

import pytest
from crash import modes
from crash.planted import PLANTED

pytestmark = pytest.mark.usefixtures("traced")

# fault -> what is said of it, and where the kill must fall
# a killed process shows these too; for all others its page cache hides the fault
SEEN_BY_KILL = {
    "in_place": ("published but not whole", "write"),
    "acknowledged_early": ("an older one is in force", "fsync"),
    "remove_then_rename": ("lost", "rename"),
    "unlink_then_link": ("dangles or is gone", "symlink"),
    "noted_before_written": ("noted but not on the disk", "pwrite64"),
    "in_service_before_recorded": ("in service and not on record", "write"),
}
# these need a process killed before, whose work was not synced
AFTER_KILL = {
    "no_fsync_of_found_folders": ("acknowledged but lost", "mkdir"),
    "old_removed_unsynced": ("published but not whole", "rename"),
    "record_found_unsynced": ("in service and not on record", "write"),
}
SEEN_BY_POWER_CUT = {bug: said for bug, (said, _) in SEEN_BY_KILL.items()} | {
    "no_fsync": "published but not whole",
    "no_fsync_in_folder": "published but not whole",
    "no_fsync_of_folder": "an older one is in force",
    "no_fsync_of_link": "published but not whole",
    "no_fsync_of_new_folders": "acknowledged but lost",
}


def test_every_planted_fault_is_looked_for() -> None:
    assert SEEN_BY_POWER_CUT.keys() | AFTER_KILL.keys() == PLANTED.keys()


@pytest.mark.parametrize("bug", SEEN_BY_POWER_CUT)
def test_power_cuts_find(bug: str) -> None:
    found = modes.power_cuts(PLANTED[bug].scenario, bug, seconds=20)
    assert any(SEEN_BY_POWER_CUT[bug] in fault for fault in found.faults)


@pytest.mark.parametrize("bug", AFTER_KILL)
def test_power_cuts_after_a_kill_find_what_one_run_does_not_show(bug: str) -> None:
    scenario, (said, kind) = PLANTED[bug].scenario, AFTER_KILL[bug]
    assert modes.power_cuts(scenario, bug, seconds=20).faults == {}
    found = modes.power_cuts_after_kill(scenario, bug, after=kind, seconds=20)
    assert any(said in fault for fault in found.faults)


def test_a_second_run_that_fails_is_a_fault_of_the_first() -> None:
    found = modes.power_cuts_after_kill("file", "in_place", after="write", kills=3, seconds=20)
    assert "cannot be resumed" in found.faults


@pytest.mark.parametrize("bug", SEEN_BY_KILL)
def test_calls_that_kill_find(bug: str) -> None:
    said, call = SEEN_BY_KILL[bug]
    found = modes.failing_calls(PLANTED[bug].scenario, "KILL", bug, only=call)
    assert any(said in fault for fault in found.faults)


def test_calls_that_kill_do_not_show_a_missing_fsync() -> None:
    # why there is more here than kill -9
    found = modes.failing_calls("file", "KILL", "no_fsync", most=6)
    assert found.points == 6
    assert found.faults == {}
