"""What networks, servers and disks do in mid-transfer, and what comes of it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seaweed import Fault, Request

from dagster_project.lib import files, model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import partial, prefix, record

Sync = Callable[..., model_store.Synced]
BIG = "best_model.pt"
pytestmark = pytest.mark.usefixtures("small_parts")


def on_parts(fault: Fault, *, times: int = 10**9) -> Callable[[Request], Fault | None]:
    """Do this to the first so many GETs of the checkpoint."""
    left = [times]
    lock = threading.Lock()

    def rule(request: Request) -> Fault | None:
        with lock:
            if request.method != "GET" or request.name != BIG or not left[0]:
                return None
            left[0] -= 1
            return fault

    return rule


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(cut=300), id="cut"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(status=503), id="throttled"),
        pytest.param(Fault(status=500), id="internal"),
        pytest.param(Fault(hold=threading.Event()), id="stalled"),
    ],
)
def test_a_passing_fault_costs_another_request(
    bare: Any, source: Path, sync: Sync, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "READ_S", 0.3)
    bare.proxy.fault = on_parts(fault, times=4)
    found = sync(bare)
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    assert (found.path / BIG).read_bytes() == (source / BIG).read_bytes()
    assert bare.proxy.count("GET", BIG) == 10 + 4


def test_a_cut_body_goes_on_from_where_it_was_cut(
    bucket: Any, source: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 100)
    bucket.put_folder(source)
    bucket.proxy.fault = on_parts(Fault(cut=300), times=1)
    sync(bucket)
    assert [r.first % 1024 for r in bucket.proxy.requests if r.first and r.first % 1024] == [300]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(Fault(status=503), "overloaded", id="throttled"),
        pytest.param(Fault(drop=True), "check the network", id="dropped"),
        pytest.param(Fault(cut=0), "check the network", id="cut"),
        pytest.param(Fault(whole=True), "does not serve ranges", id="range ignored"),
        pytest.param(
            Fault(headers=(("content-range", "bytes 0-1/9"),)), "serve ranges", id="other range"
        ),
        pytest.param(Fault(shorten=5), "does not serve ranges", id="short, and says so"),
        pytest.param(Fault(headers=(("etag", '"other"'),)), "changed while", id="other object"),
        pytest.param(
            Fault(headers=(("x-amz-version-id", "v9"),)), "changed while", id="other version"
        ),
        pytest.param(Fault(status=412), "changed while", id="replaced"),
        pytest.param(Fault(status=403), "access denied", id="denied meanwhile"),
        pytest.param(Fault(status=400), "token has expired", id="expired meanwhile"),
    ],
)
def test_a_lasting_fault_is_one_line_and_publishes_nothing(
    bare: Any, sync: Sync, tmp_path: Path, fault: Fault, message: str
) -> None:
    bare.proxy.fault = on_parts(fault)
    with pytest.raises(InputError, match=message) as caught:
        sync(bare)
    assert str(caught.value).startswith(f"{bare.uri}, {BIG}: ")
    assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "m").iterdir()] == [".sync"]
    bare.proxy.clear()
    assert sync(bare).bytes_fetched > 0  # nothing that was refused stands in the way


def _with_sha256(bucket: Any, name: str, data: bytes) -> None:
    bucket.put(name, data, ChecksumAlgorithm="SHA256")


@pytest.mark.parametrize(
    ("put", "message"),
    [
        pytest.param(lambda b, n, d: b.put(n, d), "crc32 is .*, S3 says", id="crc32"),
        pytest.param(lambda b, n, d: b.put_plainly(n, d), "md5 is .*, S3 says", id="md5"),
        pytest.param(_with_sha256, "sha256 is .*, S3 says", id="sha256"),
        pytest.param(None, "sha256 is .*, expected", id="manifest"),
    ],
)
def test_a_bit_flipped_on_the_way_is_refused_and_does_not_stay(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path, put: Any, message: str
) -> None:
    if put is None:
        art.write_manifest(source)
    bucket.put_folder(source)
    if put is not None:
        put(bucket, BIG, (source / BIG).read_bytes())
    bucket.proxy.fault = on_parts(Fault(flip=True), times=1)
    with pytest.raises(InputError, match=f"{BIG}: {message}"):
        sync(bucket)
    assert [p.name for p in (tmp_path / "m").iterdir()] == [".sync"]
    bucket.proxy.clear()
    found = sync(bucket)
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    assert found.bytes_fetched == found.files["bytes"].sum()


@pytest.mark.parametrize("name", [BIG, "config.json"])
def test_an_object_replaced_between_parts_is_not_mixed(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path, name: str
) -> None:
    bucket.put_folder(source)
    new = (source / name).read_bytes()[::-1]
    replaced = threading.Event()

    def replace_in_the_middle(request: Request) -> None:
        if request.first == 5 * 1024 and not replaced.is_set():
            bucket.put(name, new)
            replaced.set()

    bucket.proxy.fault = replace_in_the_middle
    with pytest.raises(InputError, match="changed while it was read; run it again"):
        sync(bucket)
    assert not (tmp_path / "m" / "current").exists()
    found = sync(bucket)
    assert (found.path / name).read_bytes() == new
    assert not (tmp_path / "m" / ".sync" / "partial").is_dir() or not list(
        (tmp_path / "m" / ".sync" / "partial").iterdir()
    )


def journal_of(dest: Path, lines: int) -> Path:
    """The journal of the one half download, once it has so many lines."""
    for _ in range(500):
        found = list((dest / ".sync" / "partial").glob("*/*/journal"))
        if found and len(found[0].read_bytes().splitlines()) >= lines:
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f"no journal of {lines} lines")


def deny_late_parts(dest: Path) -> Callable[[Request], Fault | None]:
    """Refuse the last four parts of the checkpoint, once others have been written."""

    def rule(request: Request) -> Fault | None:
        if (request.first or 0) < 6 * 1024:
            return None
        journal_of(dest, 3)
        return Fault(status=403)

    return rule


def test_what_came_before_a_fault_is_kept(
    stored: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    stored.proxy.fault = deny_late_parts(tmp_path / "m")
    with pytest.raises(InputError, match="access denied"):
        sync(stored)
    stored.proxy.clear()
    notes: list[str] = []
    found = sync(stored, on_note=notes.append)
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    missing = found.bytes_fetched
    assert notes == [f"going on with a download that was cut: {missing} bytes are missing"]
    assert 4 * 1024 - 1000 < missing < found.files["bytes"].sum()


def test_a_kept_part_whose_bytes_were_lost_is_fetched_again(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    bucket.proxy.fault = deny_late_parts(tmp_path / "m")
    with pytest.raises(InputError):
        sync(bucket)
    journal = journal_of(tmp_path / "m", 3)
    lines = journal.read_bytes().splitlines(keepends=True)
    with (journal.parent / "files" / BIG).open("r+b") as stream:  # as after a power cut
        stream.write(bytes(6 * 1024))
    journal.write_bytes(b"".join(lines) + lines[0][: len(lines[0]) // 2])
    bucket.proxy.clear()
    assert sync(bucket).tree_hash == model_store.read_artifact(source).tree_hash


def test_whether_a_manifest_is_there_must_be_told(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)

    def deny(request: Request) -> Fault | None:
        hidden = request.name == "manifest.json" or "list-type" in request.path
        return Fault(status=403) if hidden else None

    bucket.proxy.fault = deny
    with pytest.raises(InputError, match=r"manifest.json: access denied.*s3:ListBucket"):
        sync(bucket)


def test_a_web_server_is_no_s3(bare: Any, sync: Sync) -> None:
    bare.proxy.fault = lambda _: Fault(headers=(("etag", ""),))
    with pytest.raises(InputError, match="not one of S3; check AWS_ENDPOINT_URL"):
        sync(bare)


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("http://127.0.0.1:9", id="nobody listens"),
        pytest.param("http://user:hidden@127.0.0.1:9", id="password in the endpoint"),
        pytest.param("http://no-such-host.invalid", id="no such name"),
    ],
)
def test_without_a_network_the_error_is_one_line(
    bucket: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match="check the network") as caught:
        sync(bucket)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True), id="no answer"),
        pytest.param(None, id="nobody listens"),
    ],
)
def test_offline_what_was_synced_from_there_is_used_and_it_is_said(
    stored: Any, source: Path, sync: Sync, tmp_path: Path, fault: Fault | None
) -> None:
    first = sync(stored)
    other = tmp_path / "other"
    other.mkdir()
    for path in source.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "manifest.json").unlink(missing_ok=True)
    (other / "labels.txt").write_text("c\nd\n")
    model_store.sync(str(other), tmp_path / "m")
    take_down(stored, fault)
    notes: list[str] = []
    found = sync(stored, on_note=notes.append, fast=True)
    assert (found.offline, found.bytes_fetched, found.path) == (True, 0, first.path)
    assert model_store.current(tmp_path / "m") == first.path
    assert len(notes) == 1
    assert "offline, using what was synced from there before" in notes[0]


def take_down(bucket: Any, fault: Fault | None) -> None:
    """Let the server be silent; the endpoint stays the same, as a record is of one endpoint."""
    if fault is None:
        bucket.proxy.close()
    bucket.proxy.fault = lambda _: fault


def test_offline_nothing_else_will_do(
    stored: Any, sync: Sync, tmp_path: Path, source: Path
) -> None:
    model_store.sync(str(source), tmp_path / "m")
    take_down(stored, Fault(drop=True))
    with pytest.raises(InputError, match="check the network"):  # current is from elsewhere
        sync(stored)
    stored.proxy.clear()
    first = sync(stored)
    (first.path / "labels.txt").write_bytes(b"x\ny\n")
    take_down(stored, Fault(drop=True))
    with pytest.raises(InputError, match="check the network"):  # altered
        sync(stored, fast=True)


@pytest.mark.parametrize("status", [403, 400, 503])
def test_a_refusal_is_not_offline(bare: Any, sync: Sync, status: int) -> None:
    sync(bare)
    take_down(bare, Fault(status=status))
    with pytest.raises(InputError):
        sync(bare)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(os, "posix_fallocate", id="making room"),
        pytest.param(os, "pwrite", id="writing a part"),
        pytest.param(partial, "record_piece", id="the journal"),
        pytest.param(record, "write_record", id="the record"),
        pytest.param(files, "move_folder", id="publishing"),
        pytest.param(files, "point", id="the link"),
    ],
)
def test_a_full_disk_at_any_step_leaves_the_old_artifact_in_force(
    stored: Any,
    source: Path,
    sync: Sync,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
) -> None:
    first = sync(stored)
    (source / BIG).write_bytes(os.urandom(5000))
    if (source / "manifest.json").exists():
        art.write_manifest(source)
    stored.put_folder(source)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _full)
        with pytest.raises(OSError, match="No space left"):
            sync(stored)
    assert model_store.current(tmp_path / "m") == first.path
    assert model_store.read_artifact(first.path).tree_hash == first.tree_hash
    second = sync(stored)
    assert (second.path / BIG).read_bytes() == (source / BIG).read_bytes()
    assert model_store.current(tmp_path / "m") == second.path


def test_too_little_room_is_found_before_a_byte_is_moved(
    bucket: Any, source: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(source)
    monkeypatch.setattr(partial, "_free", lambda _: 4000)
    with pytest.raises(OSError, match="the disk is full: 0 MiB are needed") as caught:
        sync(bucket)
    assert caught.value.errno == errno.ENOSPC
    assert bucket.proxy.count("GET", BIG) == 0
