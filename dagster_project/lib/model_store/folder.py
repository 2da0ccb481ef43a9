"""A folder as a source: its files are hashed where they are and copied by reading them once.

Belongs: opening only what is a regular file, hashing, copying.
Does not: which files (``artifact``), publication (``store``).
Concept: a name in someone else's folder may be a pipe or a device, which would block or never end:
it is opened without waiting, and looked at through the descriptor that is then read. A link to a
regular file is followed, as model caches are made of them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from dagster_project.lib import files
from dagster_project.lib.errors import InputError


def names_in(folder: Path) -> list[str]:
    """All names in a source folder, whatever they are."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a model artifact")
    try:
        return sorted(path.name for path in folder.iterdir())
    except PermissionError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None


def texts_of(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of those of ``names`` that are there: a manifest, a signature."""
    found = {}
    for name in set(names_in(folder)).intersection(names):
        with _regular(folder / name) as stream:
            found[name] = stream.read()
    return found


def hash_files(folder: Path, names: list[str]) -> dict[str, str]:
    """``{file: sha256}`` as the files are now."""
    found = {}
    for name in names:
        with _regular(folder / name) as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def sizes_of(folder: Path, names: list[str]) -> dict[str, int]:
    """``{file: bytes}``."""
    return {name: (folder / name).stat().st_size for name in names}


def copy_file(source: Path, dest: Path, on_bytes: Callable[[int], None]) -> str:
    """Copy one file over ``dest``, which has its size; the sha256 of what was copied."""
    digest = hashlib.sha256()
    with _regular(source) as stream, dest.open("r+b") as sink:
        while chunk := stream.read(files.CHUNK):
            sink.write(chunk)
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


@contextmanager
def _regular(path: Path) -> Iterator[BufferedReader]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path}: not a regular file; put the file itself there")
    with os.fdopen(handle, "rb") as stream:
        yield stream
