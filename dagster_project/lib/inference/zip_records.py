"""The zip container of a checkpoint: which bytes of the file are which record.

Belongs: opening the file without following anything, and the one zip layout that torch writes.
Does not: what the records mean (``pickle_grammar``, ``safe_checkpoint``).
Concept: a closed grammar. Zip readers disagree where headers disagree (two directories, two sizes,
bytes that belong to nobody), so every byte of the file must be accounted for and every number that
is written twice must be equal: local header, data descriptor and central directory.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from dagster_project.lib.errors import InputError

MAX_RECORDS = 50_000
MAX_DIRECTORY = 16 << 20
CHUNK = 4 << 20
"""Bytes read, checked and forgotten at a time: it fits the processor's cache."""

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_ZIP64, _PADDING = 0x0001, 0x4246
"""Extra fields: 64-bit sizes, and torch's alignment (``FB``)."""
_NAME = re.compile(
    r"([^/\\\x00-\x1f]{1,255})/"
    r"(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id"
    r"|data/(?:0|[1-9][0-9]{0,7}))"
)
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(Exception):
    """Why a checkpoint is not read; the file's name is added where it is known."""


def damaged(reason: str) -> UnreadableError:
    """A file that is not as it was written."""
    return UnreadableError(f"{reason}; the file is damaged or forged: fetch it again")


def foreign(reason: str) -> UnreadableError:
    """A file that is whole, and is no state dict as torch saves one."""
    return UnreadableError(f"{reason}; write it with torch.save(model.state_dict(), path)")


@dataclass(frozen=True)
class Record:
    """A stored member: its bytes are ``[start, start + size)`` of the file."""

    start: int
    size: int
    crc: int


@dataclass(frozen=True)
class _Entry:
    """A line of the central directory."""

    name: bytes
    flags: int
    offset: int
    size: int
    crc: int


@contextmanager
def open_regular(path: Path) -> Iterator[int]:
    """A descriptor of a regular file; it never waits and never follows a link.

    Whoever hashes and whoever reads use this one descriptor, so that both mean the same file.

    Raises
    ------
    InputError
        Missing, unreadable, or not a regular file.
    """
    _require_regular(path, path.lstat().st_mode if path.exists() or path.is_symlink() else None)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path.name}: cannot be opened ({error.strerror})") from None
    try:
        _require_regular(path, os.fstat(handle).st_mode)
        yield handle
    finally:
        os.close(handle)


def _require_regular(path: Path, mode: int | None) -> None:
    if mode is None:
        raise InputError(f"{path}: no such file")
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
        raise InputError(f"{path.name}: is {kind}, a regular file is needed; copy the file there")


def read_records(handle: int) -> dict[str, Record]:
    """The records of the zip file behind ``handle``, by their name without the root folder.

    Raises
    ------
    UnreadableError
        Not a zip file, not torch's layout, or a byte that is not accounted for.
    """
    size = os.fstat(handle).st_size
    _refuse_other_formats(read_exactly(handle, min(size, 512), 0))
    count, start, end = _directory(handle, size)
    entries = _entries(read_exactly(handle, end - start, start), count)
    names = _names(entries)
    ordered = sorted(entries, key=lambda entry: entry.offset)
    bounds = [*(entry.offset for entry in ordered), start]
    if bounds[0] != 0 or any(first >= second for first, second in pairwise(bounds)):
        raise damaged("zip records overlap, or do not begin where the file does")
    return {
        names[entry.name]: _record(handle, entry, following)
        for entry, following in zip(ordered, bounds[1:], strict=True)
    }


def read_exactly(handle: int, size: int, start: int) -> bytes:
    """``size`` bytes from ``start``, or a :class:`UnreadableError`."""
    data = bytearray(size)
    read_into(handle, memoryview(data), start)
    return bytes(data)


def read_into(handle: int, target: memoryview, start: int) -> int:
    """Fill ``target`` with the bytes from ``start`` on, and return their CRC-32."""
    crc = 0
    for first in range(0, len(target), CHUNK):
        part = target[first : first + CHUNK]
        done = 0
        while done < len(part):
            got = os.preadv(handle, [part[done:]], start + first + done)
            if got <= 0:
                raise damaged("the file ends too early")
            done += got
        crc = zlib.crc32(part, crc)
    return crc


def read_record(handle: int, record: Record) -> bytes:
    """The bytes of a small record, its CRC checked."""
    data = bytearray(record.size)
    check_crc(read_into(handle, memoryview(data), record.start), record)
    return bytes(data)


def verify_record(handle: int, record: Record) -> None:
    """Check the CRC of a record that nobody reads, in constant memory."""
    scratch, crc = memoryview(bytearray(min(CHUNK, record.size))), 0
    for first in range(0, record.size, CHUNK):
        part = scratch[: min(CHUNK, record.size - first)]
        read_into(handle, part, record.start + first)
        crc = zlib.crc32(part, crc)
    check_crc(crc, record)


def check_crc(crc: int, record: Record) -> None:
    """Raise unless ``crc`` is the record's."""
    if crc != record.crc:
        raise damaged(
            f"a record of {record.size} bytes has CRC {crc:08x}, the file says {record.crc:08x}"
        )


def _refuse_other_formats(head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        return
    if not head:
        raise damaged("is empty")
    if head[257:262] == b"ustar":
        raise foreign("is torch's legacy tar format")
    if head.startswith(b"\x80"):
        raise foreign("is a bare pickle (torch's legacy format), which is never opened")
    if head[8:9] == b"{":
        raise foreign("looks like safetensors")
    raise damaged("is not a zip file")


def _directory(handle: int, size: int) -> tuple[int, int, int]:
    """Number of records, and the bounds of the central directory."""
    if size < _END.size:
        raise damaged("is cut: too short for a zip file")
    at = size - _END.size
    end = _END.unpack(read_exactly(handle, _END.size, at))
    if end[0] != b"PK\x05\x06" or end[-1] != 0:
        raise damaged("the zip directory is not at its end: cut, or something was appended")
    _, disk, directory_disk, here, count, length, start, _ = end
    stated = (here, count, length, start)
    locator = read_exactly(handle, _LOCATOR.size, at - _LOCATOR.size) if at > _LOCATOR.size else b""
    if locator.startswith(b"PK\x06\x07"):
        at -= _LOCATOR.size + _END64.size
        here, count, length, start = _directory64(handle, locator, at)
        full = (_FULL16, _FULL16, _FULL32, _FULL32)
        wide = (here, count, length, start)
        if any(a not in (min(b, c), b) for a, b, c in zip(stated, wide, full, strict=True)):
            raise damaged("the zip directory's 32-bit and 64-bit ends disagree")
    if disk or directory_disk or here != count or start + length != at:
        raise damaged("the zip directory is not where its end says")
    if not 0 < count <= MAX_RECORDS or length > MAX_DIRECTORY:
        raise foreign(f"has {count} records; 1 to {MAX_RECORDS} are read")
    return count, start, at


def _directory64(handle: int, locator: bytes, at: int) -> tuple[int, int, int, int]:
    _, disk, offset, disks = _LOCATOR.unpack(locator)
    if at < 0 or offset != at or disk or disks > 1:
        raise damaged("the zip64 locator points elsewhere")
    end = _END64.unpack(read_exactly(handle, _END64.size, at))
    if end[0] != b"PK\x06\x06" or end[1] != _END64.size - 12 or end[4] or end[5]:
        raise damaged("the zip64 end of the directory is broken")
    return end[6], end[7], end[8], end[9]


def _entries(directory: bytes, count: int) -> list[_Entry]:
    found: list[_Entry] = []
    at = 0
    while at < len(directory):
        if len(found) == count or len(directory) - at < _CENTRAL.size:
            raise damaged("the zip directory does not hold the number of records that it says")
        fields = _CENTRAL.unpack_from(directory, at)
        n_name, n_extra, n_comment = fields[10:13]
        at += _CENTRAL.size
        name, extra = directory[at : at + n_name], directory[at + n_name : at + n_name + n_extra]
        at += n_name + n_extra
        if n_comment or at > len(directory):
            raise damaged("the zip directory has a comment, or is cut")
        found.append(_entry(name, extra, fields))
    if len(found) != count:
        raise damaged("the zip directory does not hold the number of records that it says")
    return found


def _entry(name: bytes, extra: bytes, fields: tuple[int, ...]) -> _Entry:
    flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
    offset = fields[16]
    if flags & 1:
        raise foreign("a record is encrypted")
    if method != 0:
        raise foreign(
            f"a record is compressed (method {method}); torch stores, it never compresses"
        )
    if flags & ~(_DESCRIPTOR | _UTF8) or fields[13]:
        raise damaged(f"a zip record has the flags {flags:#06x}")
    wide = iter(_extra_fields(extra, (_ZIP64,)).get(_ZIP64, ()))
    size, packed, offset = (
        next(wide, -1) if value == _FULL32 else value for value in (size, packed, offset)
    )
    if next(wide, None) is not None or size < 0 or offset < 0:
        raise damaged("64-bit sizes are missing, or one too many")
    if size != packed:
        raise damaged("a stored zip record has two sizes")
    return _Entry(name, flags, offset, size, crc)


def _extra_fields(extra: bytes, allowed: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Extra fields by id, each once; the 64-bit numbers of those that hold any."""
    found: dict[int, tuple[int, ...]] = {}
    at = 0
    while at < len(extra):
        if len(extra) - at < 4:
            raise damaged("an extra field of a zip record is cut")
        kind, length = struct.unpack_from("<HH", extra, at)
        content = extra[at + 4 : at + 4 + length]
        if kind not in allowed or kind in found or len(content) != length:
            raise damaged(f"a zip record has the extra field {kind:#06x}")
        if kind == _ZIP64 and length % 8:
            raise damaged("64-bit sizes are cut")
        found[kind] = struct.unpack(f"<{length // 8}Q", content) if kind == _ZIP64 else ()
        at += 4 + length
    return found


def _names(entries: list[_Entry]) -> dict[bytes, str]:
    """Full name -> name below the root folder."""
    found: dict[bytes, str] = {}
    roots = set()
    for entry in entries:
        match = _NAME.fullmatch(entry.name.decode("utf-8", "replace"))
        if match is None or match[1] in (".", ".."):
            _refuse_name(entry.name)
        if entry.name in found:
            raise damaged(f"two records are named {match[2]}")
        found[entry.name] = match[2]
        roots.add(match[1])
    if len(roots) > 1:
        raise damaged(f"{len(roots)} root folders in one zip file")
    return found


def _refuse_name(name: bytes) -> NoReturn:
    if b"/code/" in name or name.endswith(b"/constants.pkl"):
        raise foreign("is a TorchScript archive, which holds code")
    shown = repr(name.decode("utf-8", "replace")[:80])
    raise foreign(f"the record {shown} is no part of a state dict")


def _record(handle: int, entry: _Entry, following: int) -> Record:
    """The bytes of a record, once its local header and what follows it agree with ``entry``."""
    room = following - entry.offset
    if room < _LOCAL.size + len(entry.name):
        raise damaged("zip records overlap")
    fields = _LOCAL.unpack(read_exactly(handle, _LOCAL.size, entry.offset))
    signature, _, flags, method, _, _, *numbers, n_name, n_extra = fields
    start = entry.offset + _LOCAL.size + n_name + n_extra
    if start + entry.size > following:
        raise damaged("zip records overlap")
    header = read_exactly(handle, n_name + n_extra, entry.offset + _LOCAL.size)
    same = (b"PK\x03\x04", entry.flags, 0, entry.name)
    if (signature, flags, method, header[:n_name]) != same:
        raise damaged("a local zip header disagrees with the directory")
    wide = _extra_fields(header[n_name:], (_ZIP64, _PADDING)).get(_ZIP64)
    # torch does not know the packed size yet and writes 0; other writers write it
    sizes = [(entry.size, packed) for packed in (0, entry.size)]
    if wide not in (None, *sizes, *((*pair, entry.offset) for pair in sizes), (entry.offset,)):
        raise damaged("the 64-bit sizes of a local zip header disagree with the directory")
    tail = read_exactly(handle, following - start - entry.size, start + entry.size)
    if not _agrees(entry, tuple(numbers), tail, is_wide=wide is not None):
        raise damaged("sizes or CRC around a zip record disagree with the directory")
    return Record(start, entry.size, entry.crc)


def _agrees(entry: _Entry, numbers: tuple[int, ...], tail: bytes, *, is_wide: bool) -> bool:
    """Whether CRC and sizes beside the record are the directory's.

    torch writes zeros before the record and a data descriptor behind it (none if it is empty).
    """
    exact = (entry.crc, entry.size, entry.size)
    if not entry.flags & _DESCRIPTOR:
        wide = (entry.crc, _FULL32, _FULL32)
        return not tail and (numbers == exact or (is_wide and numbers == wide))
    if numbers not in ((0, 0, 0), exact):
        return False
    layout = "<4sIQQ" if is_wide else "<4s3I"
    if not is_wide and entry.size > _FULL32:
        return False
    return tail == struct.pack(layout, b"PK\x07\x08", *exact) or (not tail and entry.size == 0)


def require_constants(handle: int, records: Mapping[str, Record]) -> None:
    """Check the small records that say how the others are written."""
    expected = {
        "version": re.compile(rb"3\n"),
        "byteorder": re.compile(rb"little"),
        ".format_version": re.compile(rb"1"),
        ".storage_alignment": re.compile(rb"[0-9]{1,9}"),
        ".data/serialization_id": re.compile(rb"[0-9]{1,64}"),
    }
    for name in ("version", "data.pkl"):
        if name not in records:
            raise damaged(f"the record {name} is missing")
    for name, pattern in expected.items():
        record = records.get(name)
        if record is None:  # older torch wrote fewer of them
            continue
        if record.size > 64:
            raise damaged(f"the record {name} has {record.size} bytes")
        content = read_record(handle, record)
        if not pattern.fullmatch(content):
            raise foreign(f"the record {name} says {content.decode('ascii', 'replace')!r}")
