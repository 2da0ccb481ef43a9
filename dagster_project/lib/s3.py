"""S3: a client with bounded waiting, a listing, and errors of one line without secrets.

Belongs: what every reader of S3 needs (``model_store.source``, ``labels.drop_source``).
Does not: what is fetched, what it means, trying again beyond one request.
Concept: boto3's usual credentials chain and endpoint settings. Its messages may hold URLs with
credentials, so the kind of an error is passed on and its text is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

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


def client(*, connect_s: float, read_s: float, attempts: int) -> S3Client:
    """A client that waits ``connect_s`` for a connection and ``read_s`` for the next bytes.

    A request is sent at most ``attempts`` times.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_s,
        read_timeout=read_s,
        retries={"total_max_attempts": attempts},
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


@contextmanager
def one_line(where: str) -> Iterator[None]:
    """Turn whatever the body's S3 calls raise into an :class:`InputError` of one line.

    Parameters
    ----------
    where : what was wanted, for the message; :func:`shown` if it comes from a person.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        _refuse(where, _HINTS.get(code, f"S3 answered {code}"))
    except NoCredentialsError:
        _refuse(where, "no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret")
    except ResponseParserError:
        _refuse(where, "the answer is not one of S3; check AWS_ENDPOINT_URL")
    except (BotoCoreError, Boto3Error, HTTPError, ValueError) as error:
        _refuse(where, f"{type(error).__name__}; check the network, AWS_ENDPOINT_URL and profile")
    except OSError as error:
        _refuse(where, error.strerror or type(error).__name__)


def _refuse(where: str, reason: str) -> NoReturn:
    raise InputError(f"{where}: {reason}") from None
