"""Where review files lie: a folder or an S3 prefix, read into memory as (name, bytes).

Belongs: listing, size cap, a second try when files change under the reader.
Does not: what the bytes mean (``drop``).
Concept: either one consistent reading of all files, or :class:`DropUnreadable`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MAX_FILE_BYTES = 8 << 20
"""A review file has a few hundred rows; at ~80 bytes each this is a hundred thousand."""
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

    Raises
    ------
    DropUnreadable
        No access, not a folder, or files that keep changing.
    """
    read = _reader(uri)
    for _ in range(_TRIES):
        try:
            return read()
        except _ChangedError:
            continue
    raise DropUnreadable(f"{uri}: files changed while they were read, {_TRIES} times; try again")


def _reader(uri: str) -> Callable[[], list[DropFile]]:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return lambda: _read_folder(Path(uri))
    if scheme != "s3":
        raise DropUnreadable(f"{uri}: expected a folder or s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    return lambda: _read_s3(uri, bucket, prefix.rstrip("/") + "/" if prefix else "")


def _wanted(name: str) -> bool:
    return name.endswith(".csv") and not name.startswith(".")


def _read_folder(folder: Path) -> list[DropFile]:
    if not folder.exists():
        return []
    try:
        paths = sorted(p for p in folder.iterdir() if _wanted(p.name) and p.is_file())
        return [DropFile(p.name, _read_stable(p)) for p in paths]
    except OSError as error:
        raise DropUnreadable(f"{folder}: {error.strerror or error}") from None


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


def _read_s3(uri: str, bucket: str, prefix: str) -> list[DropFile]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client: S3Client = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, Delimiter="/"
        )
        listed = [
            (item["Key"].removeprefix(prefix), item["Size"])
            for page in pages
            for item in page.get("Contents", [])
        ]
        return [
            DropFile(name, _get(client, bucket, prefix + name) if size <= MAX_FILE_BYTES else None)
            for name, size in sorted(listed)
            if _wanted(name)
        ]
    except (BotoCoreError, ClientError, OSError) as error:
        raise DropUnreadable(f"{uri}: {error}") from None


def _get(client: S3Client, bucket: str, key: str) -> bytes:
    try:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        raise _ChangedError from None
