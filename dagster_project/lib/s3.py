"""S3: a client with bounded waiting, a listing, and errors of one line without secrets.

Belongs: what every reader of S3 needs (``model_store``, ``labels.drop_source``): asking, asking
again, and saying why the answer is no.
Does not: what is fetched, what it means, transfer in parts (``model_store.parts``).
Concept: boto3's usual credentials chain and endpoint settings. Its messages may hold URLs with
credentials, so the kind of an error is passed on and its text is not.
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")

ATTEMPTS = 5
"""How often one thing is asked for, in vain, before that is the answer."""
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 8.0
NOT_S3 = "the answer is not one of S3; check AWS_ENDPOINT_URL"
_DENIED = ("AccessDenied", "403")
_HINTS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "that is no name of a bucket",
    "NoSuchKey": "the object is gone",
    "404": "the object is gone",
    "403": "access denied; check the credentials and the bucket's policy",
    "AccessDenied": "access denied; check the credentials and the bucket's policy",
    "InvalidAccessKeyId": "the access key is not known; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret is wrong; check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "ExpiredToken": "the session token has expired; renew it",
    "InvalidToken": "the session token is not valid; renew it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; check AWS_DEFAULT_REGION",
    "PermanentRedirect": "the bucket is in another region; check AWS_DEFAULT_REGION",
    "301": "the bucket is in another region; check AWS_DEFAULT_REGION",
    "SlowDown": "S3 is overloaded (SlowDown); try again later",
}


class UnreachableError(InputError):
    """No server answered: no route, no such name, nobody listening, or silence."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``; the prefix is empty or ends with a slash.

    >>> split_uri("s3://bucket/models/v1"), split_uri("s3://bucket")
    (('bucket', 'models/v1/'), ('bucket', ''))
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{uri}: no bucket; expected s3://bucket/prefix/")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""


def shown(uri: str) -> str:
    """``uri`` for a message: without the user and password that it may hold.

    >>> shown("https://user:secret@host/bucket")
    'https://host/bucket'
    """
    return re.sub(r"://[^/@]*@", "://", uri)


def client(
    *, connect_s: float, read_s: float, attempts: int, connections: int = 10, ranged: bool = False
) -> S3Client:
    """A client that waits ``connect_s`` for a connection and ``read_s`` for the next bytes.

    A request is sent at most ``attempts`` times. ``ranged`` is for who reads objects in parts and
    checks the whole: some servers send the whole object's checksum with a part, which cannot match.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_s,
        read_timeout=read_s,
        retries={"total_max_attempts": attempts},
        max_pool_connections=connections,
        response_checksum_validation="when_required" if ranged else None,
    )
    return boto3.Session().client("s3", config=config)


def list_sizes(s3: S3Client, bucket: str, prefix: str) -> dict[str, int]:
    """Name -> bytes of the objects directly under ``prefix``; names are without it."""
    from botocore.parsers import ResponseParserError

    sizes = {}
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter="/"
    )
    for page in pages:
        if "IsTruncated" not in page:  # a login page, say, which botocore reads as an empty list
            raise ResponseParserError("no listing")
        for item in page.get("Contents", []):
            name = item["Key"].removeprefix(prefix)
            if name:
                sizes[name] = item["Size"]
    return sizes


def waits() -> Iterator[float]:
    """Seconds to wait before asking again: exponential, with jitter, ``ATTEMPTS - 1`` of them."""
    for n in range(ATTEMPTS - 1):
        yield min(_FIRST_WAIT_S * 2**n, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311


def transient(error: BaseException) -> bool:
    """Whether asking again may help: no answer, half an answer, or "not now"."""
    from botocore.exceptions import (
        ClientError,
        HTTPClientError,
        IncompleteReadError,
        ResponseStreamingError,
    )
    from urllib3.exceptions import HTTPError

    if isinstance(error, ClientError):
        slow = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "429")
        return status(error) >= 500 or _code(error) in slow
    broken = (HTTPClientError, IncompleteReadError, ResponseStreamingError, HTTPError)
    return isinstance(error, (*broken, ConnectionError, TimeoutError))


def again(call: Callable[[], T], sleep: Callable[[float], object]) -> T:
    """``call()``, and again after a wait for as long as that may help."""
    for wait in waits():
        try:
            return call()
        except Exception as error:
            if not transient(error):
                raise
        sleep(wait)
    return call()


def status(error: Exception) -> int:
    """The HTTP status of a ``ClientError``; 0 if it has none."""
    response = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", "unknown"))


def why_not(s3: S3Client, bucket: str, key: str, where: str, head: Exception) -> None:
    """Raise what lies behind a HEAD that failed; return if there is simply no such object.

    The answer to a HEAD has no body, hence no code: 403 may be a wrong secret, an unknown key, a
    wrong clock, a denied object, or, for who may not list, an absent one. A listing of one key
    has a body.
    """
    from botocore.exceptions import ClientError

    refused = status(head)
    if refused >= 500 or refused == 301:
        with one_line(where):
            raise head
    try:
        listed = _is_listed(s3, bucket, key, where)
    except ClientError as error:
        if _code(error) in _DENIED:
            _refuse(
                where,
                "access denied, and whether it is there cannot be told; check the credentials, "
                "and grant s3:GetObject, and s3:ListBucket on the bucket",
            )
        with one_line(where):
            raise
    if listed and refused == 403:
        _refuse(where, "access denied: it may be listed but not read; grant s3:GetObject")
    if refused != 403:
        _refuse(where, f"S3 answered {refused}; check AWS_ENDPOINT_URL and region")


def check_bucket(s3: S3Client, bucket: str, prefix: str, where: str) -> None:
    """Raise if the bucket is not there, or this is no S3; who may not list cannot know."""
    from botocore.exceptions import ClientError

    try:
        _is_listed(s3, bucket, prefix, where)
    except ClientError as error:
        if _code(error) not in _DENIED:
            with one_line(where):
                raise


def _is_listed(s3: S3Client, bucket: str, key: str, where: str) -> bool:
    """Whether a listing names exactly ``key``; a ``ClientError`` passes as it is."""
    from botocore.exceptions import ClientError

    with one_line(where, but=ClientError):
        page = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    if "IsTruncated" not in page:
        _refuse(where, NOT_S3)
    return any(item.get("Key") == key for item in page.get("Contents", []))


@contextmanager
def one_line(where: str, *, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Turn whatever the body's S3 calls raise into an :class:`InputError` of one line.

    Parameters
    ----------
    where : what was wanted, for the message; :func:`shown` if it comes from a person.
    but : passes as it is.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except but:
        raise
    except ClientError as error:
        _refuse(where, _HINTS.get(_code(error), f"S3 answered {_code(error)}"))
    except NoCredentialsError:
        _refuse(where, "no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret")
    except ResponseParserError:
        _refuse(where, NOT_S3)
    except (BotoCoreError, Boto3Error, HTTPError, ValueError) as error:
        reason = f"{type(error).__name__}; check the network, AWS_ENDPOINT_URL and profile"
        if _is_unreachable(error):
            raise UnreachableError(f"{where}: {reason}") from None
        _refuse(where, reason)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # this machine's disk, and no fault of S3
            raise
        _refuse(where, error.strerror or type(error).__name__)


def _is_unreachable(error: Exception) -> bool:
    from botocore import exceptions as boto

    return isinstance(
        error,
        boto.EndpointConnectionError
        | boto.ConnectTimeoutError
        | boto.ReadTimeoutError
        | boto.ConnectionClosedError
        | boto.ProxyConnectionError,
    )


def _refuse(where: str, reason: str) -> NoReturn:
    raise InputError(f"{where}: {reason}") from None
