"""A disk in memory: what a program did to a folder, and what a power cut could leave of it.

Belongs: the operations a program can do to files, their effect, the images that may survive.
Does not: finding out what a program did (``record``), judging what is left (``modes``).
Concept: data and names reach a disk apart. The data of a file are safe once that file is fsynced;
a change of names is safe once a folder it touches is fsynced. Until then data may be lost, torn or
read as zeros, and of the changes of each folder any first part may have survived. This is less
than ext4 or xfs promise (they keep one order for all folders) and all that POSIX does.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

PAGE = 4096
ROOT = 0

Kind = Literal["open", "write", "resize", "sync", "mkdir", "remove", "rename", "symlink", "ack"]
Image = dict[str, bytes | str | None]
"""What a folder holds: path -> bytes of a file, target of a symlink (text), None for a folder."""


@dataclass(frozen=True)
class Op:
    """One operation, paths relative to the folder; ``handle`` numbers the opens of a recording."""

    kind: Kind
    path: str = ""
    other: str = ""
    handle: int = -1
    offset: int = 0
    data: bytes = b""
    create: bool = False
    truncate: bool = False

    def __str__(self) -> str:
        size = f" {len(self.data)} bytes at {self.offset}" if self.kind == "write" else ""
        return " ".join(filter(None, [self.kind, self.path, self.other])) + size


@dataclass
class _Node:
    """A file, folder or symlink, whatever its names are. ``unsynced``: (offset, data or size)."""

    kind: Literal["file", "folder", "symlink"]
    target: str = ""
    now: bytes = b""
    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)


_Entry = tuple[int, str]


@dataclass(frozen=True)
class _Change:
    """A change of names that happens whole or not at all; None means the name goes."""

    entries: tuple[tuple[_Entry, int | None], ...]

    @property
    def folders(self) -> set[int]:
        return {folder for (folder, _), _ in self.entries}


@dataclass(frozen=True)
class Survival:
    """How one power cut treats what was not synced: which changes of names, which data."""

    names: str
    data: Literal["synced", "written", "zeroed", "torn", "pages"]
    seed: int


class Disk:
    """The state of a folder after some operations, with what is safe and what is not."""

    def __init__(self, image: Image) -> None:
        self._nodes: list[_Node] = [_Node("folder")]
        self._names: dict[_Entry, int] = {}
        self._handles: dict[int, int] = {}
        self._pending: list[_Change] = []
        self.acked: list[str] = []
        for path, content in sorted(image.items()):
            node = _Node("folder")
            if isinstance(content, bytes):
                node = _Node("file", now=content, synced=content)
            elif isinstance(content, str):
                node = _Node("symlink", target=content)
            self._names[self._entry(path)] = self._add(node)
        self._safe = dict(self._names)

    def apply(self, op: Op) -> None:
        """Do one operation; an impossible one is a KeyError: the recording is not understood."""
        match op.kind:
            case "open":
                self._open(op)
            case "write":
                self._write(op.handle, op.offset, op.data)
            case "resize":
                self._write(op.handle, op.offset, None)
            case "sync":
                self._sync(self._handles[op.handle])
            case "mkdir":
                self._change((self._entry(op.path), self._add(_Node("folder"))))
            case "symlink":
                self._change((self._entry(op.path), self._add(_Node("symlink", op.other))))
            case "remove":
                self._change((self._existing(op.path), None))
            case "rename":
                source = self._existing(op.path)
                self._change((source, None), (self._entry(op.other), self._names[source]))
            case "ack":
                self.acked.append(op.path)

    def image(self) -> Image:
        """What a reader sees now; also what a killed process leaves."""
        return self._image(self._names, {i: node.now for i, node in enumerate(self._nodes)})

    def survivals(self, draws: int, rng: random.Random) -> Iterator[Survival]:
        """Ways a power cut now may go: each first part of the names, each kind of data, chance."""
        every = len(self._pending)
        keeps = sorted({0, *range(max(0, every - 6), every + 1)})
        loose = any(node.unsynced for node in self._nodes)
        for keep in keeps:
            yield Survival(f"first {keep}", "synced", 0)
            if loose:
                yield Survival(f"first {keep}", "written", 0)
                yield Survival(f"first {keep}", "zeroed", 0)
                yield Survival(f"first {keep}", "torn", rng.getrandbits(32))
        for _ in range(draws if loose or self._pending else 0):
            data: Literal["torn", "pages"] = rng.choice(("torn", "pages"))
            yield Survival("each folder for itself", data, rng.getrandbits(32))

    def after_power_cut(self, how: Survival) -> Image:
        """What is found after a power cut now that goes as ``how`` says."""
        rng = random.Random(how.seed)
        names = dict(self._safe)
        for change in self._kept(how, rng):
            _apply(names, change)
        data = {i: _surviving(node, how.data, rng) for i, node in enumerate(self._nodes)}
        return self._image(names, data)

    def _kept(self, how: Survival, rng: random.Random) -> list[_Change]:
        if how.names.startswith("first "):
            return self._pending[: int(how.names.split()[1])]
        lost: set[int] = set()
        kept = []
        for change in self._pending:
            if change.folders & lost or rng.random() < 0.3:
                lost |= change.folders  # later changes of these folders are lost too
            else:
                kept.append(change)
        return kept

    def _open(self, op: Op) -> None:
        entry = self._entry(op.path)
        if entry not in self._names and op.create:
            self._change((entry, self._add(_Node("file"))))
        self._handles[op.handle] = ROOT if op.path == "." else self._names[entry]
        if op.truncate and self._nodes[self._handles[op.handle]].now:
            self._write(op.handle, 0, None)

    def _write(self, handle: int, offset: int, data: bytes | None) -> None:
        node = self._nodes[self._handles[handle]]
        node.now = _written(node.now, offset, data)
        node.unsynced.append((offset, data))

    def _sync(self, number: int) -> None:
        node = self._nodes[number]
        if node.kind != "folder":
            node.synced, node.unsynced = node.now, []
            return
        # a change that touches two folders takes the earlier changes of both with it
        needed, later = {number}, []
        safe = []
        for change in reversed(self._pending):
            if change.folders & needed:
                needed |= change.folders
                safe.append(change)
            else:
                later.append(change)
        for change in reversed(safe):
            _apply(self._safe, change)
        self._pending = later[::-1]

    def _change(self, *entries: tuple[_Entry, int | None]) -> None:
        change = _Change(entries)
        _apply(self._names, change)
        self._pending.append(change)

    def _add(self, node: _Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _entry(self, path: str) -> _Entry:
        *folders, name = PurePosixPath(path).parts or ("",)
        number = ROOT
        for folder in folders:
            number = self._names[number, folder]
        return number, name

    def _existing(self, path: str) -> _Entry:
        entry = self._entry(path)
        self._names[entry]  # a KeyError here, not a silent no-op
        return entry

    def _image(self, names: dict[_Entry, int], data: dict[int, bytes]) -> Image:
        inside: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), number in names.items():
            inside.setdefault(folder, []).append((name, number))
        found: Image = {}
        todo = [("", ROOT)]
        while todo:
            prefix, folder = todo.pop()
            for name, number in inside.get(folder, []):
                node, path = self._nodes[number], prefix + name
                if node.kind == "folder":
                    found[path] = None
                    todo.append((f"{path}/", number))
                else:
                    found[path] = data[number] if node.kind == "file" else node.target
        return found


def read_image(folder: Path) -> Image:
    """What a real folder holds."""
    found: Image = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


def write_image(image: Image, folder: Path) -> None:
    """Make ``folder`` hold exactly ``image``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in sorted(image.items()):
        path = folder / name
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def renumbered(ops: list[Op], first: int) -> list[Op]:
    """``ops`` of a second process, its handles numbered from ``first``."""
    return [replace(op, handle=op.handle + first) if op.handle >= 0 else op for op in ops]


def _apply(names: dict[_Entry, int], change: _Change) -> None:
    for entry, number in change.entries:
        if number is None:
            names.pop(entry, None)
        else:
            names[entry] = number


def _written(content: bytes, offset: int, data: bytes | None) -> bytes:
    if data is None:
        return content[:offset].ljust(offset, b"\0")
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _surviving(node: _Node, how: str, rng: random.Random) -> bytes:
    """Bytes of a file after a power cut; a file that was synced keeps them, as does its size."""
    if not node.unsynced or how == "written":
        return node.now
    content = node.synced
    if how == "zeroed":
        for offset, data in node.unsynced:
            size = offset if data is None else max(len(content), offset + len(data))
            content = _written(content, size, None)
    elif how == "torn":
        done = rng.randrange(len(node.unsynced))
        for offset, data in node.unsynced[:done]:
            content = _written(content, offset, data)
        offset, data = node.unsynced[done]
        content = _written(content, offset, data and data[: rng.randrange(len(data) + 1)])
    elif how == "pages":
        old = content.ljust(len(node.now), b"\0")
        starts = range(0, len(node.now), PAGE)
        content = b"".join(rng.choice((old, node.now))[at : at + PAGE] for at in starts)
    return content
