"""Bytes on disk: atomic publication, hashes, canonical JSON.

Belongs: the one way this package writes a file, and the one way it hashes anything.
Does not: table formats (``tables``), artifacts from S3 (``model_store``).
Concept: temp -> fsync -> rename -> fsync of the folder; a reader sees the old file or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from dagster_project.lib.errors import InputError, some

CHUNK = 1 << 20


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; on success it is ``path``, on failure it is gone.

    Who may read it is for the umask to say, here and in folders.
    """
    with _beside(path, Path.touch) as temp:
        yield temp
        fsync(temp)
        temp.replace(path)
        fsync(path.parent)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Like :func:`publish` for a folder that must appear whole; an existing ``path`` is kept.

    Meant for content-addressed names: whoever comes second finds equal content in place.
    """
    with _beside(path, Path.mkdir) as temp:
        yield temp
        _fsync_tree(temp)
        if not path.exists():
            try:
                temp.rename(path)
            except OSError:
                if not path.exists():
                    raise
        fsync(path.parent)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Like :func:`publish_folder`, but an existing folder ``path`` gives way to the new one.

    A folder cannot be renamed over another: the old one is put aside, the new one moves in, the
    old one is removed. For the moment between two renames a reader finds no ``path``; a process
    killed there leaves the old one for :func:`restore_folder`.
    """
    restore_folder(path)
    with _beside(path, Path.mkdir) as temp:
        yield temp
        _fsync_tree(temp)
        with _swapping(path):
            old = _put_aside(path)
            if old.exists():  # a killed one left it; its renames come first, or ``path`` is ``old``
                fsync(path.parent)
                shutil.rmtree(old, ignore_errors=True)
            try:
                if path.exists():
                    path.rename(old)
                temp.rename(path)
            finally:
                _restore(path)
            fsync(path.parent)
            shutil.rmtree(old, ignore_errors=True)


def restore_folder(path: Path) -> None:
    """Move back what a killed :func:`replace_folder` had put aside, if ``path`` is not there."""
    if _put_aside(path).exists():
        with _swapping(path):
            _restore(path)


def _restore(path: Path) -> None:
    old = _put_aside(path)
    if old.exists() and not path.exists():
        old.rename(path)


@contextmanager
def _swapping(path: Path) -> Iterator[None]:
    """One process at a time: what another has put aside for a moment is not a killed one's."""
    with ExitStack() as stack:
        with suppress(OSError):  # no such folder yet, or a network file system without locks
            folder = os.open(path.parent, os.O_RDONLY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def point(link: Path, target: str) -> None:
    """Flip the relative symlink ``link`` to ``target`` in one step."""
    with _beside(link, Path.mkdir) as temp:  # in a folder, because a symlink cannot be locked
        (temp / link.name).symlink_to(target)
        (temp / link.name).replace(link)
        fsync(link.parent)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, each safe in the one that holds it.

    A file in a folder that is not safe itself is lost with it. That goes for the lowest folder
    found, too: it may have been made by a process that was killed before it could sync.
    """
    missing, found = [], folder
    while not found.exists():
        missing.append(found)
        found = found.parent
    if not found.is_mount():
        with suppress(PermissionError):  # above what is ours, one may be allowed to pass only
            fsync(found.parent)
    for item in reversed(missing):
        item.mkdir(exist_ok=True)
        fsync(item.parent)


@contextmanager
def _beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary file or folder beside ``path``, gone afterwards unless it was renamed.

    It is locked while it is in use. Locks end with their process, so whoever publishes ``path``
    next can tell what killed ones left from what others are writing.
    """
    make_folder(path.parent)
    _remove_leftovers(path)
    temp, lock = _make_locked(path, make)
    try:
        yield temp
    finally:
        os.close(lock)
        _remove(temp)


def _make_locked(path: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    while True:
        # not mkstemp or mkdtemp: what they make is 0600 or 0700 whatever the umask is
        temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        make(temp)
        with suppress(FileNotFoundError):  # taken for a leftover before it was locked: once more
            lock = os.open(temp, os.O_RDONLY)
            if _lock(lock) != "held" and temp.exists():
                return temp, lock
            os.close(lock)


def _remove_leftovers(path: Path) -> None:
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for temp in [item for item in path.parent.iterdir() if ours.fullmatch(item.name)]:
        with suppress(OSError):  # gone meanwhile, or another user's: it is in nobody's way
            lock = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(lock) == "taken":
                    _remove(temp)
            finally:
                os.close(lock)


def _lock(descriptor: int) -> Literal["taken", "held", "impossible"]:
    """Try to lock; some network file systems have no locks, and there nothing is a leftover."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    except OSError:
        return "impossible"
    return "taken"


def _remove(temp: Path) -> None:
    if temp.is_dir():
        shutil.rmtree(temp, ignore_errors=True)
    else:
        temp.unlink(missing_ok=True)


def replaceable(out: Path, ours: Callable[[Path], Collection[str]], maker: str) -> Path:
    """``out`` for :func:`replace_folder`, absolute and with links followed; before any work.

    If a run was killed while it replaced this output, the earlier one is moved back first.

    Parameters
    ----------
    ours : names in the existing folder that ``maker`` wrote, and may replace.
    maker : for the message: ``a refit``.

    Raises
    ------
    InputError
        ``out`` is a file, a folder with anything else in it, or one that cannot be replaced: the
        working folder, or a mount point.
    """
    out = out.resolve()
    with _swapping(out):
        _check_replaceable(out, ours, maker)
    return out


def _check_replaceable(out: Path, ours: Callable[[Path], Collection[str]], maker: str) -> None:
    if Path.cwd().is_relative_to(out) or out.is_mount():
        raise InputError(
            f"{out}: the working folder or a mount point cannot be replaced; "
            "pass --out a folder inside it"
        )
    _restore(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file, a folder is needed; pass another --out")
    foreign = sorted({path.name for path in out.iterdir()} - set(ours(out)))
    if foreign:
        raise InputError(
            f"{out}: holds {some(foreign)}, not written by {maker}; pass another --out folder"
        )


def _put_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _fsync_tree(folder: Path) -> None:
    for item in [*folder.rglob("*"), folder]:
        if not item.is_symlink():  # it is an entry of its folder; its target may be anything
            fsync(item)


def move_folder(source: Path, path: Path) -> None:
    """Flush the folder ``source`` and make it ``path``, on the same disk, in one step."""
    _fsync_tree(source)
    source.rename(path)
    fsync(path.parent)
    fsync(source.parent)


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_bytes(path: Path, data: bytes) -> None:
    """Publish ``data`` as ``path``, its folder included."""
    make_folder(path.parent)
    with publish(path) as temp:
        temp.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Publish ``text`` as UTF-8."""
    with publish(path) as temp:
        temp.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Publish ``value`` as readable JSON: same value, same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; missing, undecodable or not an object is an InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: not JSON ({str(error)[:80]})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path.name}: expected a JSON object, got {type(value).__name__}")
    return value


def canonical_json(value: object) -> str:
    """The one spelling of ``value`` that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """First 16 hex digits of the sha256 of a JSON value: a data version people can read."""
    return sha256_bytes(canonical_json(value).encode())[:16]
