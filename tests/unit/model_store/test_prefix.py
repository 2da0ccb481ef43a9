"""What a HEAD says about an object."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_project.lib.model_store.prefix import offered

MD5 = "9e107d9d372bb6826bd81d3542a419d6"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param({"ETag": f'"{MD5}"'}, ("md5", MD5), id="plain"),
        pytest.param(
            {"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, ("md5", MD5), id="sse-s3"
        ),
        pytest.param({"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms"}, None, id="kms"),
        pytest.param({"ETag": f'"{MD5}"', "SSECustomerAlgorithm": "AES256"}, None, id="sse-c"),
        pytest.param({"ETag": f'"{MD5}-3"'}, None, id="in parts"),
        pytest.param(
            {"ETag": f'"{MD5}"', "ChecksumCRC32": "Xg5djw=="}, ("crc32", "5e0e5d8f"), id="crc32"
        ),
        pytest.param(
            {"ETag": f'"{MD5}-3"', "ChecksumCRC32": "0eNitg==-3"}, None, id="checksum of checksums"
        ),
        pytest.param(
            {"ETag": f'"{MD5}-3"', "ChecksumSHA256": "A" * 43 + "="},
            ("sha256", "00" * 32),
            id="sha256",
        ),
    ],
)
def test_only_a_digest_of_all_bytes_is_offered(
    answer: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert offered(answer) == expected
