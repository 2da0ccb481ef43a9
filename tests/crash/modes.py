"""Ways to crash a scenario, and what is wrong afterwards.

Belongs: power cuts rebuilt from a recording, calls that kill or fail, power cuts after a restart.
Does not: the model of a disk (``disk``), strace's log (``record``), the scenarios.
Concept: after each crash a reader looks first, then the work is done again; both must be content.
A kill keeps all that was written, so that it cannot show a missing fsync: a power cut can.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import TypeVar

from crash import play, record
from crash.disk import Disk, Image, Op, read_image, renumbered, write_image
from crash.record import ACK, Call, Recording
from crash.scenarios import SCENARIOS

T = TypeVar("T")
MEMORY = Path("/dev/shm")  # noqa: S108 - rebuilt disks are in memory where that can be had
CREATES = ("openat", "write", "pwrite64", "mkdir", "symlink", "rename", "fsync", "ftruncate")


@dataclass
class Found:
    """What a mode did and found: points of the program, disks judged, the first of each fault."""

    points: int = 0
    disks: int = 0
    seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, faults: Sequence[str], where: str) -> None:
        """Count a disk and keep the first place of each fault."""
        self.disks += 1
        for fault in faults:
            self.faults.setdefault(fault, where)


class Judge:
    """Looks at what is left of one scenario, as a reader and by doing the work again."""

    def __init__(self, name: str, folder: Path) -> None:
        self._scenario = SCENARIOS[name]
        self._folder = folder
        self._seen: set[int] = set()
        self.restore_start()
        self._scenario.work(folder, lambda _: None)
        self._want = read_image(folder)

    def restore_start(self) -> None:
        """Make the folder what it is before the work."""
        write_image({}, self._folder)
        self._scenario.prepare(self._folder)

    def is_new(self, image: Image, acked: Sequence[str]) -> bool:
        """Whether this state was not judged before."""
        key = hash((frozenset(image.items()), tuple(acked)))
        new = key not in self._seen
        self._seen.add(key)
        return new

    def faults_of(self, image: Image, acked: Sequence[str]) -> list[str]:
        """What is wrong with a rebuilt state."""
        write_image(image, self._folder)
        return self.faults_here(acked)

    def faults_here(self, acked: Sequence[str]) -> list[str]:
        """What is wrong with the folder as it is; the work has been done again afterwards."""
        faults = self._scenario.faults(self._folder, acked)
        try:
            self._scenario.work(self._folder, lambda _: None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work cannot be resumed
            return [*faults, f"cannot be resumed: {type(error).__name__}"]
        if read_image(self._folder) != self._want:
            faults.append("other content after a second run")
        return faults


def power_cuts(name: str, bug: str = "", *, draws: int = 4, seconds: float = 60) -> Found:
    """A power cut after each operation of one run, in every way that ``Disk.survivals`` has."""
    with _room() as (folder, log):
        judge = Judge(name, folder)
        recording = _record(name, bug, judge, folder, log)
        return _cut(judge, Disk(recording.before), recording.ops, draws=draws, seconds=seconds)


def power_cuts_after_kill(
    name: str, bug: str = "", *, kills: int = 1000, after: str = "", seconds: float = 60
) -> Found:
    """The work killed, done again, and then a power cut, which takes what neither has synced.

    Parameters
    ----------
    kills : kill after so many operations at most, from the first to the last.
    after : kill after operations of this kind only.
    """
    with _room() as (folder, log):
        judge = Judge(name, folder)
        first = _record(name, bug, judge, folder, log)
        kinds = {after} if after else {op.kind for op in first.ops} - {"open", "ack"}
        changes = [at for at, op in enumerate(first.ops, 1) if op.kind in kinds]
        total, start = Found(), time.monotonic()
        for at in _spread(changes, kills):
            disk = Disk(first.before)
            for op in first.ops[:at]:
                disk.apply(op)
            write_image(disk.image(), folder)
            where = f"killed after {first.ops[at - 1]}"
            try:
                again = record.record(play.command(name, folder, bug), folder, log)
            except record.ProgramFailedError:
                total.add(["cannot be resumed"], where)
                continue
            ops = renumbered(again.ops, len(first.ops))
            rest = seconds - (time.monotonic() - start)
            found = _cut(judge, disk, ops, draws=1, seconds=rest)
            total.points += found.points
            total.disks += found.disks
            for fault, then in found.faults.items():
                total.faults.setdefault(fault, f"{where}; {then}")
        total.seconds = time.monotonic() - start
    return total


def failing_calls(name: str, how: str, bug: str = "", *, most: int = 1000, only: str = "") -> Found:
    """One run for each call that touched the folder: that call kills, or fails with an errno.

    Parameters
    ----------
    how : ``KILL``, or an errno: ``EIO`` once, ``ENOSPC`` (calls that take space) from then on.
    most : take so many calls at most, from the first to the last.
    only : take calls of this name only.
    """
    found, start = Found(), time.monotonic()
    with _room() as (folder, log):
        judge = Judge(name, folder)
        calls = _record(name, bug, judge, folder, log).calls
        if how == "ENOSPC":
            calls = [call for call in calls if call.name in CREATES]
        for call in _spread([call for call in calls if only in ("", call.name)], most):
            judge.restore_start()
            acked = _run_with(call, how, play.command(name, folder, bug), folder, log)
            if acked is not None:
                found.points += 1
                found.add(judge.faults_here(acked), f"{how} at {call.name} {call.nth}")
    found.seconds = time.monotonic() - start
    return found


def _run_with(
    call: Call, how: str, command: Sequence[str], folder: Path, log: Path
) -> list[str] | None:
    """What a run acknowledged that had ``call`` fail; None if it failed outside the folder."""
    # a full disk stays full, but descriptors are opened for reading too
    when = f"{call.nth}+" if how == "ENOSPC" and call.name != "openat" else f"{call.nth}"
    what = "signal=KILL" if how == "KILL" else f"error={how}"
    options = ["-y", "-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={when}"]
    if how != "KILL":  # with it strace 6.1 delivers no signal, and says nothing
        options.append("--seccomp-bpf")
    done = record.strace(command, log, options)
    marks = (" = ?", "<unfinished ...>") if how == "KILL" else (" (INJECTED)",)
    hit = [line for line in log.read_text(errors="replace").splitlines() if line.endswith(marks)]
    # calls of other threads can be "unfinished", too; the one that kills is the last
    hit = [line for line in hit if " resumed>" not in line][-1 if how == "KILL" else 0 :][:1]
    if (how == "KILL" and done.returncode != -SIGKILL) or not hit or str(folder) not in hit[0]:
        return None
    return [line.removeprefix(ACK).decode() for line in done.stdout.splitlines()]


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of ``items``, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(at * (len(items) - 1) / (most - 1))] for at in range(most)]


def _record(name: str, bug: str, judge: Judge, folder: Path, log: Path) -> Recording:
    judge.restore_start()
    return record.record(play.command(name, folder, bug), folder, log)


def _cut(judge: Judge, disk: Disk, ops: list[Op], *, draws: int, seconds: float) -> Found:
    """Apply ``ops`` one by one, and judge what a power cut may leave after each."""
    rng = random.Random(2)
    found, start = Found(), time.monotonic()
    for number, op in enumerate([None, *ops]):
        if op is not None:
            disk.apply(op)
        if time.monotonic() - start > seconds:
            break
        found.points += 1
        for how in disk.survivals(draws, rng):
            image = disk.after_power_cut(how)
            if judge.is_new(image, disk.acked):
                where = f"after {number}/{len(ops)} ({op}), names: {how.names}, data: {how.data}"
                found.add(judge.faults_of(image, disk.acked), where)
    found.seconds = time.monotonic() - start
    return found


@contextmanager
def _room() -> Iterator[tuple[Path, Path]]:
    """A folder to crash in and a file for logs, gone afterwards."""
    room = Path(tempfile.mkdtemp(prefix="crash-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield (room / "disk").resolve(), room / "log"
    finally:
        shutil.rmtree(room, ignore_errors=True)
