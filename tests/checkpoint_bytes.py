"""The bytes of a checkpoint, made by hand: a zip file and a pickle, every number open to forgery.

The network is ``a`` of (2, 3) and ``b`` of (4,).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

A, B = np.arange(6, dtype="<f4").tobytes(), np.arange(10, 14, dtype="<f4").tobytes()


class Net(nn.Module):
    """What all files here are weights of."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.arange(6.0).reshape(2, 3))
        self.b = nn.Parameter(torch.arange(10.0, 14.0))


def saved(value: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    sink = io.BytesIO()
    torch.save(value, sink, **options)
    return sink.getvalue()


# A zip file as torch writes it, with every number open to forgery.


@dataclass(frozen=True)
class Member:
    """A record; what is None is what torch would write."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0x0808
    local_name: str | None = None
    local_flags: int | None = None
    local_sizes: tuple[int, int, int] = (0, 0, 0)
    crc: int | None = None
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    is_wide: bool = False
    has_wide_offset: bool = False
    extra: bytes = b"FB\x03\x00ZZZ"
    central_extra: bytes = b""
    comment: bytes = b""
    before: bytes = b""
    has_descriptor: bool = True


@dataclass(frozen=True)
class End:
    """The end of a zip file; ``count`` and ``start`` are added to the true ones."""

    count: int = 0
    count64: int = 0
    start: int = 0
    comment: bytes = b""
    after: bytes = b""
    has_zip64: bool = True
    disk: int = 0


def pack(members: Sequence[Member], end: End = End()) -> bytes:
    body, directory = bytearray(), bytearray()
    for member in members:
        body += member.before
        offset = len(body) if member.offset is None else member.offset
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        size = len(member.data) if member.size is None else member.size
        packed = size if member.packed_size is None else member.packed_size
        local = (member.local_name or member.name).encode()
        local_flags = member.flags if member.local_flags is None else member.local_flags
        extra = member.extra
        if member.is_wide:
            extra = struct.pack("<HHQQ", 1, 16, size, 0) + extra  # torch: not packed yet
        elif member.has_wide_offset:
            extra = struct.pack("<HHQ", 1, 8, offset) + extra
        body += struct.pack("<4s5H", b"PK\x03\x04", 0, local_flags, member.method, 0, 0)
        body += struct.pack("<3I2H", *member.local_sizes, len(local), len(extra))
        body += local + extra + member.data
        if member.has_descriptor and size:
            is_long = member.is_wide or member.has_wide_offset
            layout = "<4sIQQ" if is_long else "<4s3I"
            body += struct.pack(layout, b"PK\x07\x08", crc, packed, size & 0xFFFFFFFF)
        name = member.name.encode()
        wide = (0xFFFFFFFF,) * 2 if member.is_wide else (packed, size)
        central = member.central_extra
        if member.is_wide:
            central = struct.pack("<HHQQ", 1, 16, size, packed) + central
        elif member.has_wide_offset:
            central = struct.pack("<HHQ", 1, 8, offset) + central
        directory += struct.pack(
            "<4s6HI", b"PK\x01\x02", 0, 0, member.flags, member.method, 0, 0, crc
        )
        lengths = (len(name), len(central), len(member.comment))
        shown = 0xFFFFFFFF if member.has_wide_offset else offset
        directory += struct.pack("<2I5H2I", *wide, *lengths, 0, 0, 0, shown)
        directory += name + central + member.comment
    return bytes(body + directory) + _end(len(members), len(body), len(directory), end)


def _end(count: int, start: int, length: int, end: End) -> bytes:
    shown, wide = count + end.count, count + end.count64
    out = b""
    if end.has_zip64:
        numbers = (wide, wide, length, start + end.start)
        out += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 0, 0, 0, 0, *numbers)
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + length, 1)
    numbers32 = (end.disk, 0, shown, shown, length, start + end.start, len(end.comment))
    return out + struct.pack("<4s4H2IH", b"PK\x05\x06", *numbers32) + end.comment + end.after


def members_of(data: bytes, **changes: bytes | None) -> list[Member]:
    """The records of a file by torch; a change replaces one's bytes, None leaves it out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    wanted: dict[str, bytes | None] = {**found, **changes}
    return [Member(f"archive/{name}", value) for name, value in wanted.items() if value is not None]


def altered(name: str, **changes: Any) -> bytes:
    """A good file of which one record's headers are altered."""
    return pack(
        [
            replace(member, **changes) if member.name == f"archive/{name}" else member
            for member in members_of(GOOD)
        ]
    )


# Pickles, opcode by opcode.


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def dict_of(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + tuple_of(*arguments) + b"R"


ORDERED = call("collections", "OrderedDict")


def storage(key: str, numel: int, kind: str = "FloatStorage", location: str = "cpu") -> bytes:
    kinds = name("torch", kind)
    return tuple_of(text("storage"), kinds, text(key), text(location), number(numel)) + b"Q"


def tensor(
    data: bytes,
    shape: Sequence[int],
    stride: Sequence[int],
    *,
    offset: int = 0,
    hooks: bytes = ORDERED,
    more: bytes = b"",
) -> bytes:
    sizes = [tuple_of(*(number(n) for n in numbers)) for numbers in (shape, stride)]
    arguments = (data, number(offset), *sizes, b"\x89", hooks, more)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


TENSOR_A = tensor(storage("0", 6), (2, 3), (3, 1))
TENSOR_B = tensor(storage("1", 4), (4,), (1,))
STATE = dict_of(a=TENSOR_A, b=TENSOR_B)
GOOD = saved({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(10.0, 14.0)})


def with_pickle(
    body: bytes, *, start: bytes = b"\x80\x02", records: Mapping[str, bytes | None] | None = None
) -> bytes:
    """A good file with another pickle (and records, where given)."""
    return pack(members_of(GOOD, **{"data.pkl": start + body + b".", **(records or {})}))


def pickled(body: bytes, **records: bytes | None) -> bytes:
    """Another pickle, and of the two records those that it names; ``data_0=`` replaces one."""
    named = {f"data/{key}": None for key in "01" if text(key) not in body}
    changes = {key.replace("_", "/"): value for key, value in records.items()}
    return with_pickle(body, records={**named, **changes})
