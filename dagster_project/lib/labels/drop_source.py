"""Where review files lie: a folder or an S3 prefix, read into memory as (name, bytes).

Belongs: listing, size cap, time limit, a second try when files change under the reader.
Does not: what the bytes mean (``drop``), the S3 client and its errors (``lib.s3``).
Concept: either one consistent reading of all files, or :class:`DropUnreadable`; never longer than
:data:`DEADLINE_S`, whatever hangs (name server, credentials, mount, a server that sends a byte now
and then).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from dagster_project.lib import s3
from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")

MAX_FILE_BYTES = 8 << 20
"""A review file has a few hundred rows; at ~80 bytes each this is a hundred thousand."""
MAX_DROP_BYTES = 16 << 20
"""All files together, which are in memory at once; more is a folder of something else."""
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")
DEADLINE_S = 40.0
"""For the whole drop: a sensor tick is given 60 s, and other things happen in it."""
CONNECT_S = 5.0
READ_S = 10.0
ATTEMPTS = 2
_TRIES = 3


class DropUnreadable(InputError):  # noqa: N818 - a state of the drop, not a fault in it
    """The drop cannot be read at this moment; a sensor skips and asks again later."""


class _ChangedError(Exception):
    """A listed file was gone or different when it was read."""


@dataclass(frozen=True)
class DropFile:
    """One review file; ``data`` is None where the file is over :data:`MAX_FILE_BYTES`."""

    name: str
    data: bytes | None


def read_files(uri: str) -> list[DropFile]:
    """All ``*.csv`` directly under ``uri``, by name; hidden and ``*.tmp`` files are left out.

    Capitals do not matter: a spreadsheet may write ``*.CSV``. Workbooks are listed too, to be
    refused by name: whoever sent one would otherwise never hear of it.

    Raises
    ------
    DropUnreadable
        No access, not a folder, files that keep changing, no answer in time. One line, without
        the credentials that a URL may hold.
    """
    try:
        return within(DEADLINE_S, lambda: _read_consistently(uri))
    except TimeoutError:
        raise DropUnreadable(f"{s3.shown(uri)}: not read within {DEADLINE_S:g} s") from None
    except InputError as error:
        raise DropUnreadable(str(error)) from None


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, or TimeoutError; a hung one is left to its own end."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    # a daemon, unlike the threads of an executor, does not keep a process from ending
    Thread(target=run, name="label-drop", daemon=True).start()
    return outcome.result(timeout=seconds)


def _read_consistently(uri: str) -> list[DropFile]:
    for _ in range(_TRIES):
        try:
            return _read_once(uri)
        except _ChangedError:
            continue
    raise DropUnreadable(
        f"{s3.shown(uri)}: files changed while they were read, {_TRIES} times; try again"
    )


def _read_once(uri: str) -> list[DropFile]:
    if "://" not in uri:
        return _read_folder(Path(uri))
    if not uri.startswith("s3://"):
        raise DropUnreadable(f"{s3.shown(uri)}: expected a folder or s3://bucket/prefix")
    return _read_s3(uri)


def _check_total(sizes: Iterable[int], uri: str) -> None:
    total = sum(size for size in sizes if size <= MAX_FILE_BYTES)
    if total > MAX_DROP_BYTES:
        raise DropUnreadable(
            f"{s3.shown(uri)}: {total >> 20} MiB of review files, over {MAX_DROP_BYTES >> 20} MiB; "
            "move what has been accepted long ago into one file"
        )


def _wanted(name: str) -> bool:
    return name.lower().endswith((".csv", *WORKBOOKS)) and not name.startswith((".", "~$"))


def _read_folder(folder: Path) -> list[DropFile]:
    try:
        paths = sorted(p for p in folder.iterdir() if _wanted(p.name) and p.is_file())
        _check_total((_size(p) for p in paths), str(folder))
        return [DropFile(_text(p.name), _read_stable(p)) for p in paths]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DropUnreadable(f"{folder}: {reason}") from None


def _text(name: str) -> str:
    """A file name without the surrogates that stand for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise _ChangedError from None


def _read_stable(path: Path) -> bytes | None:
    try:
        before = path.stat()
        if before.st_size > MAX_FILE_BYTES:
            return None
        data = path.read_bytes()
        after = path.stat()
    except FileNotFoundError:
        raise _ChangedError from None
    if (before.st_mtime_ns, before.st_ino) != (after.st_mtime_ns, after.st_ino):
        raise _ChangedError
    return data


def _read_s3(uri: str) -> list[DropFile]:
    bucket, prefix = s3.split_uri(uri)
    with s3.one_line(s3.shown(uri)):
        client = s3.client(connect_s=CONNECT_S, read_s=READ_S, attempts=ATTEMPTS)
        listed = s3.list_sizes(client, bucket, prefix)
        sizes = {name: listed[name] for name in sorted(listed) if _wanted(name)}
        _check_total(sizes.values(), uri)
        return [
            DropFile(name, None if size > MAX_FILE_BYTES else _get(client, bucket, prefix + name))
            for name, size in sizes.items()
        ]


def _get(client: S3Client, bucket: str, key: str) -> bytes:
    try:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        raise _ChangedError from None
