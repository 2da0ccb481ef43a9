"""Where an artifact comes from: a folder, or a prefix in S3.

Belongs: listing and fetching files.
Does not: the S3 client and its errors (``lib.s3``), trusting what was fetched (``artifact``),
publishing it (``store``).
Concept: both kinds are a mapping from file name to size and one function that fetches a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dagster_project.lib import files, s3
from dagster_project.lib.errors import InputError

Fetch = Callable[[str, Path, Callable[[int], None]], None]
"""(file name, where to write it, called with the bytes that came since the last call)."""

S3_PART = 32 << 20
S3_THREADS = 10
S3_IO_CHUNK = 1 << 20
_CONNECT_S = 10.0
_READ_S = 60.0
_ATTEMPTS = 4


@dataclass(frozen=True)
class Source:
    """Files of one artifact, somewhere."""

    uri: str
    sizes: Mapping[str, int]
    fetch: Fetch


def open_source(model_uri: str) -> Source:
    """The files at ``model_uri``: ``s3://bucket/prefix/`` or a folder."""
    if model_uri.startswith("s3://"):
        return _s3(model_uri)
    if "://" in model_uri:
        raise InputError(f"{s3.shown(model_uri)}: expected s3://bucket/prefix/ or a folder")
    return _folder(Path(model_uri))


def _folder(folder: Path) -> Source:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a model artifact")
    sizes = {p.name: p.stat().st_size for p in sorted(folder.iterdir()) if p.is_file()}

    def fetch(name: str, dest: Path, on_bytes: Callable[[int], None]) -> None:
        with (folder / name).open("rb") as source, dest.open("wb") as sink:
            while chunk := source.read(files.CHUNK):
                sink.write(chunk)
                on_bytes(len(chunk))
        shutil.copymode(folder / name, dest)

    return Source(str(folder), sizes, fetch)


def _s3(uri: str) -> Source:
    bucket, prefix = s3.split_uri(uri)
    where = s3.shown(uri)
    with s3.one_line(where):
        client = s3.client(connect_s=_CONNECT_S, read_s=_READ_S, attempts=_ATTEMPTS)
        sizes = s3.list_sizes(client, bucket, prefix)
    if not sizes:
        raise InputError(f"{where}: nothing there; check bucket and prefix")

    def fetch(name: str, dest: Path, on_bytes: Callable[[int], None]) -> None:
        from boto3.s3.transfer import TransferConfig

        transfer = TransferConfig(
            multipart_threshold=S3_PART,
            multipart_chunksize=S3_PART,
            max_concurrency=S3_THREADS,
            io_chunksize=S3_IO_CHUNK,
            preferred_transfer_client="classic",
        )
        with s3.one_line(f"{where}, {name}"):
            client.download_file(
                bucket, prefix + name, str(dest), Callback=on_bytes, Config=transfer
            )

    return Source(uri, sizes, fetch)
