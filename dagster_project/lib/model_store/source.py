"""Where an artifact comes from: a folder, or a prefix in S3.

Belongs: listing and fetching files, and saying in one line why that failed.
Does not: trusting what was fetched (``artifact``), publishing it (``store``).
Concept: both kinds are a mapping from file name to size and one function that fetches a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dagster_project.lib import files
from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Fetch = Callable[[str, Path, Callable[[int], None]], None]
"""(file name, where to write it, called with the bytes that came since the last call)."""

S3_PART = 32 << 20
S3_THREADS = 10
S3_IO_CHUNK = 1 << 20
_HINTS = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "the object is gone",
    "404": "the object is gone",
    "403": "access denied; check the credentials and the bucket's policy",
    "AccessDenied": "access denied; check the credentials and the bucket's policy",
    "InvalidAccessKeyId": "the access key is not known; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret is wrong; check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "ExpiredToken": "the session token has expired; renew it",
}


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
        raise InputError(f"{model_uri}: expected s3://bucket/prefix/ or a folder")
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
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{uri}: no bucket; expected s3://bucket/prefix/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
    with _one_line(uri):
        client = _client()
        sizes = _list(client, bucket, prefix)
    if not sizes:
        raise InputError(f"{uri}: nothing there; check bucket and prefix")

    def fetch(name: str, dest: Path, on_bytes: Callable[[int], None]) -> None:
        from boto3.s3.transfer import TransferConfig

        transfer = TransferConfig(
            multipart_threshold=S3_PART,
            multipart_chunksize=S3_PART,
            max_concurrency=S3_THREADS,
            io_chunksize=S3_IO_CHUNK,
            preferred_transfer_client="classic",
        )
        with _one_line(f"{uri}, {name}"):
            client.download_file(
                bucket, prefix + name, str(dest), Callback=on_bytes, Config=transfer
            )

    return Source(uri, sizes, fetch)


def _client() -> S3Client:
    """boto3's usual credentials chain and endpoint settings, with bounded waiting."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 4})
    return boto3.Session().client("s3", config=config)


def _list(client: S3Client, bucket: str, prefix: str) -> dict[str, int]:
    sizes = {}
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter="/"
    )
    for page in pages:
        for item in page.get("Contents", []):
            name = item["Key"].removeprefix(prefix)
            if name:
                sizes[name] = item["Size"]
    return sizes


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Turn what boto3 raises into one line that holds no secret."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        _refuse(where, _HINTS.get(code, f"S3 answered {code}"))
    except NoCredentialsError:
        _refuse(where, "no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret")
    except (BotoCoreError, Boto3Error, ValueError) as error:
        # Only the kind: messages may hold URLs with credentials.
        _refuse(where, f"{type(error).__name__}; check the network, AWS_ENDPOINT_URL and profile")


def _refuse(where: str, reason: str) -> NoReturn:
    raise InputError(f"{where}: {reason}") from None
