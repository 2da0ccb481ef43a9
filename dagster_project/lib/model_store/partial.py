"""A half download on disk, which a killed process leaves and the next one completes.

Belongs: room for the files, the journal of finished pieces, what of them can be kept.
Does not: transfer (``parts``), who may write here (``store`` holds the lock).
Concept: a journal that is believed only as far as the disk agrees. A line is appended after its
piece was written, and neither is flushed: whoever resumes computes each piece's CRC anew and keeps
those that match, so that a killed process costs its unfinished pieces, and a power cut those whose
bytes had not reached the disk. The CRC only decides what to fetch again: trust in the whole file
is its sha256.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dagster_project.lib import files

PART = 32 << 20
_FILES = "files"
_JOURNAL = "journal"


@dataclass(frozen=True)
class Piece:
    """Bytes ``start`` to ``stop`` (exclusive) of a file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class Partial:
    """A folder whose files have their full size, and the pieces of them that are good."""

    folder: Path
    kept: frozenset[Piece]

    @property
    def files(self) -> Path:
        """The folder of the files alone; it is what will be published."""
        return self.folder / _FILES


def pieces(sizes: Mapping[str, int]) -> list[Piece]:
    """All files cut into pieces of at most ``PART`` bytes, in order."""
    return [
        Piece(name, start, min(start + PART, size))
        for name, size in sizes.items()
        for start in range(0, size, PART)
    ]


def prepare(folder: Path, sizes: Mapping[str, int]) -> Partial:
    """Make room for files of these sizes in ``folder``, and find what is there already.

    Raises
    ------
    OSError
        ENOSPC, before a byte was transferred.
    """
    target = folder / _FILES
    target.mkdir(parents=True, exist_ok=True)
    _check_room(target, sizes)
    for name, size in sizes.items():
        _allocate(target / name, size)
    wanted = set(pieces(sizes))
    found = {p: crc for p, crc in _journal(folder / _JOURNAL) if p in wanted}
    kept = frozenset(p for p, crc in found.items() if _crc(target / p.file, p) == crc)
    return Partial(folder, kept)


def record_piece(partial: Partial, piece: Piece, crc: int) -> None:
    """Append to the journal that ``piece`` is written and has this CRC-32."""
    line = json.dumps([piece.file, piece.start, piece.stop, crc]) + "\n"
    handle = os.open(partial.folder / _JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _journal(path: Path) -> Iterator[tuple[Piece, int]]:
    """What the journal says; a line that was cut is skipped."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            name, start, stop, crc = json.loads(line)
            yield Piece(name, start, stop), crc
        except (ValueError, TypeError):
            continue


def _check_room(folder: Path, sizes: Mapping[str, int]) -> None:
    missing = sum(max(0, size - _allocated(folder / name)) for name, size in sizes.items())
    free = _free(folder)
    if missing > free:
        reason = f"the disk is full: {missing >> 20} MiB are needed, {free >> 20} MiB are free"
        raise OSError(errno.ENOSPC, reason, str(folder.parent))


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def _allocate(path: Path, size: int) -> None:
    """Reserve the file's blocks, so that no later write can find the disk full."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if size:
            os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
            raise
    finally:
        os.ftruncate(handle, size)
        os.close(handle)


def _crc(path: Path, piece: Piece) -> int:
    crc = 0
    for chunk in read_piece(path, piece):
        crc = zlib.crc32(chunk, crc)
    return crc


def read_piece(path: Path, piece: Piece) -> Iterator[memoryview]:
    """The piece's bytes on disk, in chunks that are valid until the next one is asked for."""
    buffer = memoryview(bytearray(min(files.CHUNK, piece.stop - piece.start)))
    with path.open("rb", buffering=0) as stream:
        stream.seek(piece.start)
        left = piece.stop - piece.start
        while left:
            n = stream.readinto(buffer[: min(left, len(buffer))])
            if not n:
                return
            left -= n
            yield buffer[:n]


def start_writing_out(path: Path, piece: Piece) -> None:
    """Let the kernel write the piece out now, so that the last fsync finds little left to do."""
    with path.open("rb", buffering=0) as stream:
        length = piece.stop - piece.start
        os.posix_fadvise(stream.fileno(), piece.start, length, os.POSIX_FADV_DONTNEED)
