"""What a program does to a folder, read from strace.

Belongs: running a command under strace, turning its log into operations.
Does not: what the operations mean for a disk (``disk``), making a call fail (``modes``).
Concept: a call that cannot be followed is an error, and every recording is checked against the
folder that the program left, so that none is half understood.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crash.disk import Disk, Image, Kind, Op, read_image

TIMEOUT_S = 60.0
ACK = b"ACK "
"""What a scenario prints before the name of a thing that it says is safe."""

# call -> operation, and (argument with the folder's descriptor, argument with the path) of each
_NAMES: dict[str, tuple[Kind, tuple[tuple[int | None, int], ...]]] = {
    "mkdir": ("mkdir", ((None, 0),)),
    "mkdirat": ("mkdir", ((0, 1),)),
    "unlink": ("remove", ((None, 0),)),
    "unlinkat": ("remove", ((0, 1),)),
    "rmdir": ("remove", ((None, 0),)),
    "rename": ("rename", ((None, 0), (None, 1))),
    "renameat": ("rename", ((0, 1), (2, 3))),
    "renameat2": ("rename", ((0, 1), (2, 3))),
    "symlink": ("symlink", ((None, 1),)),
    "symlinkat": ("symlink", ((1, 2),)),
}
_DATA = ("write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync")
_DESCRIPTORS = ("openat", "close", "dup", "dup2", "dup3", "fcntl", "lseek")
# calls that no scenario needs yet: argument with the descriptor that is changed, None for a path
_NOT_FOLLOWED: dict[str, int | None] = {
    "writev": 0, "pwritev": 0, "pwritev2": 0, "sendfile": 0, "copy_file_range": 2,
    "open": None, "creat": None, "truncate": None, "link": None, "linkat": None,
}  # fmt: skip
_PROCESSES = ("clone", "clone3", "fork", "vfork")
TRACED = ",".join((*_NAMES, *_DATA, *_DESCRIPTORS, *_NOT_FOLLOWED, *_PROCESSES))

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"^(\d+) +(.*?) ?<unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_ARGUMENT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|([^,"\s]+)')


class NotUnderstoodError(Exception):
    """The program did something to the folder that this module cannot follow."""


class ProgramFailedError(NotUnderstoodError):
    """The program itself failed, so that there is nothing to understand."""


@dataclass(frozen=True)
class Call:
    """One call that touched the folder: the ``nth`` of its name in its thread, from 1."""

    name: str
    nth: int


@dataclass(frozen=True)
class Recording:
    """What one run did to the folder, operation by operation and call by call."""

    before: Image
    ops: list[Op]
    calls: list[Call]


@functools.cache
def why_not() -> str | None:
    """Why strace cannot be used here; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = strace(["true"], Path(os.devnull), ["-e", "trace=openat"])
    if probe.returncode != 0:
        return f"strace may not trace here: {probe.stderr.decode(errors='replace').strip()[:200]}"
    return None


def strace(
    command: Sequence[str], log: Path, options: Sequence[str]
) -> subprocess.CompletedProcess[bytes]:
    """Run ``command`` and its threads under strace, its log in ``log``."""
    return subprocess.run(
        ["strace", "-f", "-qq", "-o", str(log), *options, *command],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def record(command: Sequence[str], folder: Path, log: Path) -> Recording:
    """Run ``command``, which works in ``folder``, and say what it did there."""
    before = read_image(folder)
    done = strace(
        command, log, ["--seccomp-bpf", "-xx", "-s", str(1 << 24), "-e", f"trace={TRACED}"]
    )
    if done.returncode != 0:
        raise ProgramFailedError(f"the program failed: {done.stderr.decode(errors='replace')}")
    reader = _Reader(folder)
    for thread, name, text, result in _calls(log.read_text()):
        reader.call(thread, name, text, result)
    disk, after = Disk(before), read_image(folder)
    for op in reader.ops:
        disk.apply(op)
    if disk.image() != after:
        wrong = sorted({name for name, _ in disk.image().items() ^ after.items()})
        raise NotUnderstoodError(f"the recording does not end in the folder's state: {wrong}")
    return Recording(before, reader.ops, reader.calls)


def _calls(log: str) -> Iterator[tuple[str, str, str, int]]:
    """Thread, name, arguments and result of each call, in the order in which they ended.

    A ``close`` counts where it begins: from then on another thread may be given its number, and be
    heard of first.
    """
    begun: dict[str, str] = {}
    for line in log.splitlines():
        whole = line
        if match := _UNFINISHED.match(line):
            if match[2].startswith("close("):
                yield match[1], "close", match[2].removeprefix("close("), 0
            else:
                begun[match[1]] = match[2]
            continue
        if match := _RESUMED.match(line):
            if match[1] not in begun:  # the end of a close
                continue
            whole = f"{match[1]} {begun.pop(match[1])}{match[2]}"
        if match := _CALL.match(whole):
            yield match[1], match[2], match[3], int(match[4])


@dataclass
class _File:
    """What a descriptor of the traced program stands for; ``handle`` is None outside the folder."""

    path: str
    handle: int | None
    offset: int = 0


class _Reader:
    """Follows descriptors and turns calls into operations on one folder.

    One table of descriptors for all threads. A child process would have its own: refused.
    """

    def __init__(self, folder: Path) -> None:
        self._root = str(folder.resolve())
        self._files: dict[int, _File] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self.ops: list[Op] = []
        self.calls: list[Call] = []

    def call(self, thread: str, name: str, text: str, result: int) -> None:
        self._counts[thread, name] += 1
        if result < 0:
            return
        done = len(self.ops)
        arguments = [other or bytes.fromhex(hexed.replace("\\x", "")).decode("latin-1")
                     for hexed, other in _ARGUMENT.findall(text)]  # fmt: skip
        if name in _NAMES:
            self._names(name, arguments)
        elif name in _DATA:
            self._data(name, arguments, result)
        elif name in _DESCRIPTORS:
            self._descriptor(name, arguments, result)
        else:
            self._refuse(name, text, arguments)
        if any(op.kind != "ack" for op in self.ops[done:]):
            self.calls.append(Call(name, self._counts[thread, name]))

    def _names(self, name: str, arguments: list[str]) -> None:
        kind, where = _NAMES[name]
        paths = [self._path(None if at is None else arguments[at], arguments[to])
                 for at, to in where]  # fmt: skip
        if all(path is None for path in paths):
            return
        path, other = (*paths, arguments[0] if kind == "symlink" else "")[:2]
        if path is None or other is None or "RENAME_EXCHANGE" in arguments:
            raise NotUnderstoodError(f"{name} between the folder and elsewhere: {arguments}")
        self.ops.append(Op(kind, path, other))

    def _data(self, name: str, arguments: list[str], result: int) -> None:
        file = self._files.get(int(arguments[0]))
        data = arguments[1].encode("latin-1")[:result] if "write" in name else b""
        if int(arguments[0]) == 1 and data.startswith(ACK):
            names = data.decode().split(ACK.decode())[1:]
            self.ops += [Op("ack", acked.strip()) for acked in names]
        if file is None or file.handle is None:
            return
        if name in ("fsync", "fdatasync"):
            self.ops.append(Op("sync", file.path, handle=file.handle))
        elif name == "ftruncate":
            self.ops.append(Op("resize", file.path, handle=file.handle, offset=int(arguments[1])))
        elif name == "fallocate":  # grows the file: a write of nothing at its new end
            if arguments[1] != "0":
                raise NotUnderstoodError(f"fallocate with mode {arguments[1]} is not followed")
            self._write(file, b"", int(arguments[2]) + int(arguments[3]))
        else:
            self._write(file, data, int(arguments[3]) if name == "pwrite64" else None)

    def _write(self, file: _File, data: bytes, at: int | None) -> None:
        assert file.handle is not None
        offset = file.offset if at is None else at
        self.ops.append(Op("write", file.path, handle=file.handle, offset=offset, data=data))
        if at is None:
            file.offset += len(data)

    def _descriptor(self, name: str, arguments: list[str], result: int) -> None:
        if name == "openat":
            self._files[result] = self._open(arguments)
            return
        number = int(arguments[0])
        if name == "close":
            self._files.pop(number, None)
        elif number not in self._files:
            return
        elif name == "lseek":
            self._files[number].offset = result
        elif name.startswith("dup") or arguments[1].startswith("F_DUPFD"):
            self._files[result] = self._files[number]

    def _open(self, arguments: list[str]) -> _File:
        path, flags = self._path(arguments[0], arguments[1]), arguments[2].split("|")
        if path is None:
            return _File("", None)
        handle = sum(op.kind == "open" for op in self.ops)
        create, truncate = "O_CREAT" in flags, "O_TRUNC" in flags
        self.ops.append(Op("open", path, handle=handle, create=create, truncate=truncate))
        return _File(path, handle)

    def _path(self, folder: str | None, path: str) -> str | None:
        """``path`` relative to the folder; None if it is elsewhere."""
        if not os.path.isabs(path):  # noqa: PTH117 - text, as the kernel got it
            base = self._files.get(int(folder)) if folder and folder.isdigit() else None
            if base is None or base.handle is None:
                return None
            path = f"{self._root}/{base.path}/{path}"
        path = os.path.normpath(path)
        if path == self._root:
            return "."
        return path[len(self._root) + 1 :] if path.startswith(f"{self._root}/") else None

    def _refuse(self, name: str, text: str, arguments: list[str]) -> None:
        if name in _PROCESSES:
            inside = "CLONE_THREAD" not in text
        elif (at := _NOT_FOLLOWED[name]) is None:
            inside = any(self._path(None, argument) is not None for argument in arguments)
        else:
            file = self._files.get(int(arguments[at]))
            inside = file is not None and file.handle is not None
        if inside:
            raise NotUnderstoodError(f"{name}({text[:80]}): this call is not followed")
