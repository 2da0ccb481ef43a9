"""A scenario as a program: ``play.py NAME FOLDER [BUG]``.

Belongs: doing the work of one scenario, and printing what it acknowledges.
Does not: the work (``scenarios``, ``planted``), watching it (``record``, ``modes``).
Concept: started without site packages where it can be, it is up in 50 ms; the same calls each time.
"""

from __future__ import annotations

import sys
from pathlib import Path


def command(name: str, folder: Path, bug: str = "") -> list[str]:
    """The command that does a scenario's work in ``folder``."""
    from crash.scenarios import SCENARIOS

    options = ["-I", "-B"] if SCENARIOS[name].packages else ["-I", "-B", "-S"]
    return [sys.executable, *options, __file__, name, str(folder), *([bug] if bug else [])]


def main(name: str, folder: str, bug: str = "") -> None:
    """Do the work, with ``bug`` as a program with that fault does it."""
    from crash.planted import PLANTED
    from crash.scenarios import SCENARIOS

    work = PLANTED[bug].work if bug else SCENARIOS[name].work
    work(Path(folder), lambda thing: print(f"ACK {thing}", flush=True))


if __name__ == "__main__":  # python -I knows neither the package nor the tests
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    main(*sys.argv[1:])
