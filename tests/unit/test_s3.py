"""S3: what a person wrote is taken apart or refused; what a library raises is one line."""

from __future__ import annotations

import errno

import pytest

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
        pytest.param(OSError(errno.ENOSPC, "No space left", "/x"), "No space left", id="disk"),
        pytest.param(OSError("http://u:PW@h"), "OSError", id="os_error_without_number"),
        pytest.param(ValueError("http://u:PW@h\nmore"), "ValueError; check", id="value"),
    ],
)
def test_the_text_of_an_error_is_not_passed_on(error: Exception, message: str) -> None:
    with pytest.raises(InputError, match=f"^here: {message}") as caught, s3.one_line("here"):
        raise error
    assert "PW" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_faults_of_ours_pass_as_they_are() -> None:
    with pytest.raises(KeyError), s3.one_line("here"):
        raise KeyError("ours")
