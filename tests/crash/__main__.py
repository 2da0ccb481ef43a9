"""``PYTHONPATH=tests python -m crash [SCENARIO or BUG ...]``: the long sweep, with its numbers.

Belongs: running every mode over every scenario and every planted fault, and printing a table.
Does not: deciding what is enough (the tests do).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from crash import modes, record
from crash.modes import Found
from crash.planted import PLANTED
from crash.scenarios import SCENARIOS


def runs(name: str) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Label and call of each mode for a scenario, or for a planted fault in its scenario."""
    bug = name if name in PLANTED else ""
    scenario = PLANTED[name].scenario if bug else name
    yield "power cut", lambda: modes.power_cuts(scenario, bug, draws=12, seconds=600)
    yield "kill, power cut", lambda: modes.power_cuts_after_kill(scenario, bug, seconds=600)
    for how in ("KILL", "ENOSPC", "EIO"):
        yield how, lambda how=how: modes.failing_calls(scenario, how, bug)  # type: ignore[misc]


def main(names: list[str]) -> int:
    """Print a line for each mode of each scenario; 1 if the real code has a fault."""
    if reason := record.why_not():
        print(reason)
        return 2
    bad = 0
    for name in names or [*SCENARIOS, *PLANTED]:
        for label, run in runs(name):
            found = run()
            rate = 60 / max(found.seconds, 1e-9)
            print(
                f"{name:24} {label:16} {found.points:5} points {found.points * rate:6.0f}/min "
                f"{found.disks:6} disks {found.disks * rate:6.0f}/min {found.seconds:5.1f} s  "
                f"{found.faults or 'nothing'}",
                flush=True,
            )
            bad += bool(found.faults) and name in SCENARIOS
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
