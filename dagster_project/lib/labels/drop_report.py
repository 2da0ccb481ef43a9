"""The report beside the drop: which files are refused and why, where those who sent them look.

Belongs: writing, renewing and removing ``refused/refusals.csv`` in a folder or an S3 prefix.
Does not: what is refused (``drop``); logs and metadata, which must not hold what this file does.
Concept: it lies in a folder of its own, which no reading of the drop looks into, so it is never
taken for reviews. It changes only when its content does, and whoever may not write there loses the
report and nothing else.
"""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import files, s3
from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.drop import Drop, refusal_table
from dagster_project.lib.labels.drop_source import ATTEMPTS, CONNECT_S, within

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REPORT = "refused/refusals.csv"
DEADLINE_S = 10.0
"""Beside the 40 s of reading the drop this leaves a sensor tick, of 60 s, time for the rest."""
READ_S = 5.0


def publish_report(uri: str, drop: Drop) -> str | None:
    """Write the faults and warnings of ``drop`` beside its files; remove the report if none.

    Idempotent: an equal report is left alone. Never raises for what the drop's place does
    (read-only, no permission, gone, hanging).

    Parameters
    ----------
    uri : folder or ``s3://bucket/prefix``, as in ``read_drop``. A folder that is not there is not
        made.

    Returns
    -------
    None, or in one line why it could not be written.
    """
    table = refusal_table(drop.refusals, drop.warnings)
    sink = io.BytesIO()
    table.write_csv(sink)
    data = sink.getvalue() if table.height else None
    try:
        within(DEADLINE_S, lambda: _publish(uri, data))
    except TimeoutError:
        return f"{REPORT}: not written within {DEADLINE_S:g} s"
    except InputError as error:
        return f"{REPORT}: {error}"
    except OSError as error:
        return f"{REPORT}: {error.strerror or type(error).__name__}"
    return None


def _publish(uri: str, data: bytes | None) -> None:
    if uri.startswith("s3://"):
        bucket, prefix = s3.split_uri(uri)
        with s3.one_line(f"{s3.shown(uri).rstrip('/')}/{REPORT}"):
            client = s3.client(connect_s=CONNECT_S, read_s=READ_S, attempts=ATTEMPTS)
            _publish_object(client, bucket, prefix + REPORT, data)
    elif Path(uri).is_dir():
        _publish_file(Path(uri) / REPORT, data)


def _publish_file(path: Path, data: bytes | None) -> None:
    found = path.read_bytes() if path.is_file() else None
    if data is not None and data != found:
        files.publish_bytes(path, data)
    elif data is None and found is not None:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: somebody's notes stay
            path.parent.rmdir()


def _publish_object(client: S3Client, bucket: str, key: str, data: bytes | None) -> None:
    try:
        found = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        found = None
    if data is not None and data != found:
        client.put_object(Bucket=bucket, Key=key, Body=data, ContentType="text/csv")
    elif data is None and found is not None:
        client.delete_object(Bucket=bucket, Key=key)
