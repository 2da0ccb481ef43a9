"""Listing a drop: only finished CSV files, consistently, or a plain refusal to read."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from dagster_project.lib.labels import drop_source
from dagster_project.lib.labels.drop_source import DropUnreadable, read_files

from .conftest import Bucket


def test_only_finished_csv_files_and_workbooks_directly_in_the_folder_count(tmp_path: Path) -> None:
    for name in ("b.CSV", "a.csv", "w.xlsx", ".hidden.csv", "~$w.xlsx", "c.csv.tmp", "notes.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.csv").write_text("x")
    assert [(f.name, f.data) for f in read_files(str(tmp_path))] == [
        ("a.csv", b"a.csv"),
        ("b.CSV", b"b.CSV"),
        ("w.xlsx", b"w.xlsx"),
    ]


def test_a_file_over_the_cap_is_seen_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_source, "MAX_FILE_BYTES", 10)
    (tmp_path / "fits.csv").write_bytes(b"x" * 10)
    (tmp_path / "over.csv").write_bytes(b"x" * 11)
    assert [f.data is None for f in read_files(str(tmp_path))] == [False, True]


def test_more_than_fits_into_memory_is_not_read_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    monkeypatch.setattr(drop_source, "MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(drop_source, "MAX_DROP_BYTES", 1 << 20)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"x" * (1 << 20))
        bucket.objects[f"in/{name}"] = b"x" * (1 << 20)
    for uri in (str(tmp_path), "s3://labels/in"):
        with pytest.raises(DropUnreadable, match="2 MiB of review files, over 1 MiB"):
            read_files(uri)


def test_a_file_that_vanishes_after_listing_is_as_if_never_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays.csv").write_text("x")
    gone = tmp_path / "gone.csv"
    gone.write_text("x")
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == gone:
            gone.unlink(missing_ok=True)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert [f.name for f in read_files(str(tmp_path))] == ["stays.csv"]


def test_a_file_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old")
    original = Path.read_bytes
    replaced: list[bool] = []

    def read_bytes(at: Path) -> bytes:
        data = original(at)
        if not replaced:
            replaced.append(True)
            other = tmp_path / "new"
            other.write_text("new")
            other.replace(path)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert read_files(str(tmp_path))[0].data == b"new"


def test_files_that_never_stand_still_are_unreadable_not_an_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("x")
    original = Path.read_bytes
    clock = iter(range(1, 100))

    def read_bytes(at: Path) -> bytes:
        os.utime(at, (0, next(clock)))
        return original(at)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DropUnreadable, match="changed while they were read"):
        read_files(str(tmp_path))


def test_a_file_in_place_of_the_folder_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "drop"
    path.write_text("x")
    with pytest.raises(DropUnreadable, match="Not a directory"):
        read_files(str(path))


def test_another_scheme_is_not_taken_for_a_missing_folder() -> None:
    with pytest.raises(DropUnreadable, match="expected a folder or s3://"):
        read_files("gs://bucket/in")


@pytest.mark.parametrize(
    "uri", [pytest.param("x" * 300, id="too_long"), pytest.param("a\0b", id="nul")]
)
def test_a_path_that_cannot_be_is_unreadable(uri: str) -> None:
    with pytest.raises(DropUnreadable) as caught:
        read_files(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("call", ["stat", "iterdir", "read_bytes"])
def test_a_mount_that_fails_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    (tmp_path / "r.csv").write_text("x")

    def fail(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, fail)
        with pytest.raises(DropUnreadable, match=os.strerror(number)):
            read_files(str(tmp_path))


def test_a_file_name_that_is_no_text_becomes_one(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).write_text("x")
    assert [f.name for f in read_files(str(tmp_path))] == ["caf\N{REPLACEMENT CHARACTER}.csv"]


def test_a_mount_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.csv").write_text("x")
    monkeypatch.setattr(drop_source, "DEADLINE_S", 0.2)
    monkeypatch.setattr(Path, "read_bytes", lambda path: time.sleep(5))
    start = time.monotonic()
    with pytest.raises(DropUnreadable, match=r"not read within 0\.2 s"):
        read_files(str(tmp_path))
    assert time.monotonic() - start < 3


def test_the_worst_case_leaves_a_tick_time() -> None:
    assert drop_source.ATTEMPTS * (drop_source.CONNECT_S + drop_source.READ_S) < 40
    assert drop_source.DEADLINE_S <= 40


def test_a_server_that_never_answers_is_given_up_by_request(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.answers = "never"
    monkeypatch.setattr(drop_source, "READ_S", 0.2)
    start = time.monotonic()
    with pytest.raises(DropUnreadable, match="s3://labels/in: ReadTimeoutError; check the network"):
        read_files("s3://labels/in")
    assert time.monotonic() - start < 10


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_by_the_deadline(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.objects["in/1.csv"] = b"x"
    bucket.answers = "bytewise"
    monkeypatch.setattr(drop_source, "DEADLINE_S", 1.5)
    start = time.monotonic()
    with pytest.raises(DropUnreadable, match=r"s3://labels/in: not read within 1\.5 s"):
        read_files("s3://labels/in")
    assert time.monotonic() - start < 6


def test_a_page_that_is_not_of_s3_is_unreadable_and_no_empty_drop(bucket: Bucket) -> None:
    bucket.answers = "html"
    with pytest.raises(DropUnreadable, match="s3://labels/in: "):
        read_files("s3://labels/in")
    bucket.answers = "s3"
    assert read_files("s3://labels/in") == []


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("nonsense", id="no_url"),
        pytest.param("http://user:SECRETPW@127.0.0.1:1/", id="refused"),
        pytest.param("http://user:SECRETPW@[bad/", id="no_host"),
    ],
)
def test_a_wrong_endpoint_is_unreadable_and_its_password_is_not_shown(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(DropUnreadable, match=r"s3://labels/in: .*AWS_ENDPOINT_URL") as caught:
        read_files("s3://labels/in")
    assert "SECRETPW" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["https://user:SECRETPW@host/b", "s3://user:SECRETPW@bucket/p"])
def test_a_password_in_the_place_of_the_drop_is_not_shown(bucket: Bucket, uri: str) -> None:
    with pytest.raises(DropUnreadable) as caught:
        read_files(uri)
    assert "SECRETPW" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://", "s3:///in"])
def test_no_bucket_is_unreadable(uri: str) -> None:
    with pytest.raises(DropUnreadable, match="no bucket"):
        read_files(uri)


def test_an_unknown_profile_is_unreadable(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")
    with pytest.raises(DropUnreadable, match="ProfileNotFound; check"):
        read_files("s3://labels/in")


def test_objects_over_the_cap_are_seen_and_not_fetched(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_source, "MAX_FILE_BYTES", 10)
    bucket.objects |= {"in/fits.csv": b"x" * 10, "in/over.csv": b"x" * 11, "in/n.txt": b"x"}
    found = [(f.name, f.data) for f in read_files("s3://labels/in")]
    assert found == [("fits.csv", b"x" * 10), ("over.csv", None)]
