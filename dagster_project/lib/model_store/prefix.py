"""A prefix in S3: which of an artifact's objects are there, and in which version.

Belongs: HEADs, what they say about an object, the text of a manifest or signature.
Does not: the S3 client and its errors (``lib.s3``), transfer (``parts``), trust (``artifact``).
Concept: an object is its ETag, VersionId and size. Equal ones mean equal bytes (a promise of S3,
checked by ``store`` against the recorded sha256 whenever the bytes do come); nothing is listed,
so that a reader needs no more than ``s3:GetObject`` where all files are there.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_project.lib import s3
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store.artifact import GOLDEN, MANIFEST, REQUIRED

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECT_S = 10.0
READ_S = 30.0
"""Silence for so long is a stall: the request is given up and sent again."""
THREADS = 10
_TEXT_LIMIT = 16 << 20
_SHA256_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}=")
_CRC32_BASE64 = re.compile(r"[A-Za-z0-9+/]{6}==")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Prefix:
    """Where an artifact lies; ``shown`` is for messages, ``identity`` tells it from all others."""

    client: S3Client
    bucket: str
    key: str
    shown: str
    identity: str


@dataclass(frozen=True)
class Head:
    """One object as S3 describes it; ``offers`` is (algorithm, hex digest) of all its bytes."""

    etag: str
    version_id: str | None
    bytes: int
    offers: tuple[str, str] | None = field(default=None, compare=False)


def open_prefix(uri: str) -> Prefix:
    """``s3://bucket/prefix/`` with a client for it; nothing is sent."""
    bucket, key = s3.split_uri(uri)
    shown = s3.shown(uri)
    with s3.one_line(shown):
        client = s3.client(
            connect_s=CONNECT_S, read_s=READ_S, attempts=1, connections=THREADS, ranged=True
        )
    endpoint = s3.shown(client.meta.endpoint_url)
    return Prefix(client, bucket, key, shown, f"{endpoint} s3://{bucket}/{key}")


def heads(at: Prefix, extra: Iterable[str] = ()) -> dict[str, Head]:
    """The artifact's objects that are there, of all names it may have and of ``extra``.

    Raises
    ------
    InputError
        Refused; or it cannot be told whether an optional file (a manifest, say) is there.
    UnreachableError
        Nobody answered the first of them.
    """
    found = {}
    for name in dict.fromkeys([*REQUIRED, MANIFEST, GOLDEN, *extra]):
        head = _head(at, name)
        if head:
            found[name] = head
    if not found:
        s3.check_bucket(at.client, at.bucket, at.key, at.shown)
        raise InputError(f"{at.shown}: nothing there; check bucket and prefix")
    return found


def _head(at: Prefix, name: str) -> Head | None:
    from botocore.exceptions import ClientError

    key, where = at.key + name, f"{at.shown}, {name}"
    try:
        with s3.one_line(where, but=ClientError):
            answer = s3.again(
                lambda: at.client.head_object(Bucket=at.bucket, Key=key, ChecksumMode="ENABLED"),
                time.sleep,
            )
    except ClientError as error:
        if s3.status(error) != 404:  # 404 is only said to those who may list: it is not there
            s3.why_not(at.client, at.bucket, key, where, error)
        return None
    if not answer.get("ETag"):  # a web server that answers 200 to anything
        raise InputError(f"{where}: {s3.NOT_S3}")
    return Head(
        etag=answer["ETag"],
        version_id=answer.get("VersionId"),
        bytes=answer["ContentLength"],
        offers=offered(answer),
    )


def offered(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """The best digest of the whole object in a HEAD's answer.

    A checksum of checksums (``…-3``) is of no use without the sizes of the uploader's parts. The
    ETag is an MD5 only without KMS or the customer's own key, and of an object put in one piece.
    """
    sha256, crc32 = answer.get("ChecksumSHA256", ""), answer.get("ChecksumCRC32", "")
    if _SHA256_BASE64.fullmatch(sha256):
        return "sha256", base64.b64decode(sha256).hex()
    if _CRC32_BASE64.fullmatch(crc32):
        return "crc32", base64.b64decode(crc32).hex()
    plain = answer.get("ServerSideEncryption") in (None, "AES256")
    etag = answer["ETag"].strip('"')
    if plain and not answer.get("SSECustomerAlgorithm") and _MD5.fullmatch(etag):
        return "md5", etag
    return None


def text_of(at: Prefix, name: str, head: Head) -> bytes:
    """A small file (manifest, signature), of exactly the version that ``head`` describes."""
    where = f"{at.shown}, {name}"
    if head.bytes > _TEXT_LIMIT:
        raise InputError(f"{where}: {head.bytes} bytes; at most {_TEXT_LIMIT} are read")

    def get() -> bytes:
        answer = at.client.get_object(Bucket=at.bucket, Key=at.key + name, IfMatch=head.etag)
        return answer["Body"].read(_TEXT_LIMIT + 1)

    with one_version(where):
        body = s3.again(get, time.sleep)
    if len(body) != head.bytes:
        raise changed(where)
    return body


@contextmanager
def one_version(where: str) -> Iterator[None]:
    """Turn whatever a GET with ``IfMatch`` raises into one line; no match means a change."""
    from botocore.exceptions import ClientError

    with s3.one_line(where):
        try:
            yield
        except ClientError as error:
            if s3.status(error) in (404, 412):
                raise changed(where) from None
            raise


def changed(where: str) -> InputError:
    """The error for an object that is another one than a moment ago."""
    return InputError(f"{where}: changed while it was read; run it again")
