"""S3: what a person wrote is taken apart or refused; what a library raises is one line."""

from __future__ import annotations

import errno

import pytest
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError

from dagster_project.lib import s3
from dagster_project.lib.errors import InputError


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        pytest.param("s3://b", ("b", ""), id="bucket"),
        pytest.param("s3://b/", ("b", ""), id="bucket_slash"),
        pytest.param("s3://b/x/y", ("b", "x/y/"), id="prefix"),
        pytest.param("s3://b/x//", ("b", "x/"), id="slashes"),
    ],
)
def test_a_prefix_is_empty_or_ends_with_one_slash(uri: str, expected: tuple[str, str]) -> None:
    assert s3.split_uri(uri) == expected


def test_an_at_sign_in_a_key_is_no_password() -> None:
    assert s3.shown("s3://bucket/a@b/c") == "s3://bucket/a@b/c"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(OSError(errno.EACCES, "Permission denied", "/x"), "Permission", id="errno"),
        pytest.param(OSError("http://u:PW@h"), "OSError", id="os_error_without_number"),
        pytest.param(ValueError("http://u:PW@h\nmore"), "ValueError; check", id="value"),
    ],
)
def test_the_text_of_an_error_is_not_passed_on(error: Exception, message: str) -> None:
    with pytest.raises(InputError, match=f"^here: {message}") as caught, s3.one_line("here"):
        raise error
    assert "PW" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_no_answer_of_s3() -> None:
    with pytest.raises(OSError, match="No space left"), s3.one_line("here"):
        raise OSError(errno.ENOSPC, "No space left", "/x")


def client_error(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(client_error(503, "SlowDown"), True, id="throttled"),
        pytest.param(client_error(500, "InternalError"), True, id="internal"),
        pytest.param(client_error(403, "AccessDenied"), False, id="denied"),
        pytest.param(client_error(412, "PreconditionFailed"), False, id="changed"),
        pytest.param(IncompleteReadError(actual_bytes=1, expected_bytes=2), True, id="short"),
        pytest.param(ReadTimeoutError(endpoint_url="x"), True, id="stalled"),
        pytest.param(ConnectionResetError(), True, id="reset"),
        pytest.param(OSError(errno.ENOSPC, "full"), False, id="disk"),
        pytest.param(InputError("no"), False, id="ours"),
    ],
)
def test_only_what_may_pass_is_asked_for_again(error: Exception, expected: bool) -> None:
    assert s3.transient(error) is expected
    calls: list[int] = []
    slept: list[float] = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        s3.again(call, slept.append)
    assert len(calls) == (s3.ATTEMPTS if expected else 1)
    assert all(0 < wait <= 8 for wait in slept)


def test_faults_of_ours_pass_as_they_are() -> None:
    with pytest.raises(KeyError), s3.one_line("here"):
        raise KeyError("ours")
