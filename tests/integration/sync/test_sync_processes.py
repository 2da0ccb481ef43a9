"""Real `tier-refit sync` processes: killed, two at once, on a full disk, and what they print."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import seaweed
from seaweed import Fault, Request

from dagster_project.lib import model_store
from dagster_project.lib.model_store import partial

BIG = "best_model.pt"


def start(bucket: Any, dest: Path, **environment: str) -> subprocess.Popen[str]:
    """``tier-refit sync`` of the bucket to ``dest``."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "dagster_project.cli", "sync", bucket.uri, str(dest)],
        env={**own, **seaweed.environment(bucket.proxy.port), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def journal_lines(dest: Path) -> int:
    found = list((dest / ".sync" / "partial").glob("*/*/journal"))
    return len(found[0].read_bytes().splitlines()) if found else 0


def put_big(bucket: Any, source: Path, parts: int) -> int:
    """A checkpoint of so many parts, the last one short; its size."""
    size = (parts - 1) * partial.PART + 1000
    (source / BIG).write_bytes(random.Random(parts).randbytes(size))
    bucket.put_folder(source)
    return size


def test_a_sync_killed_in_mid_transfer_goes_on_with_the_missing_parts_only(
    bucket: Any, source: Path, tmp_path: Path
) -> None:
    size, dest = put_big(bucket, source, 4), tmp_path / "m"
    held = threading.Event()

    def hold_the_third_part(request: Request) -> Fault | None:
        return Fault(hold=held) if request.first == 2 * partial.PART else None

    bucket.proxy.fault = hold_the_third_part
    process = start(bucket, dest)
    others = len(list(source.iterdir())) - 1
    deadline = time.monotonic() + 30
    while journal_lines(dest) < 3 + others and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (dest / "current").exists()
    held.set()
    time.sleep(0.2)

    bucket.proxy.clear()
    code, out, err = finish(start(bucket, dest))
    assert code == 0, err
    assert f"a download that was cut: {partial.PART} bytes are missing" in err
    assert bucket.proxy.body_bytes == partial.PART
    published = Path(out.splitlines()[-1])
    assert published.name == model_store.read_artifact(source).tree_hash
    assert (published / BIG).stat().st_size == size
    assert model_store.read_artifact(published).tree_hash == published.name
    assert list((dest / ".sync" / "partial").iterdir()) == []


def test_of_two_syncs_at_once_one_waits_and_nothing_comes_twice(
    bucket: Any, source: Path, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    held = threading.Event()
    bucket.proxy.fault = lambda r: Fault(hold=held) if r.method == "GET" else None
    processes = [start(bucket, tmp_path / "m") for _ in range(2)]
    waits: list[str] = []

    def first_line(process: subprocess.Popen[str]) -> None:
        assert process.stderr
        waits.append(process.stderr.readline())
        held.set()

    readers = [threading.Thread(target=first_line, args=(p,), daemon=True) for p in processes]
    for reader in readers:
        reader.start()
    ended = [finish_after(p, r) for p, r in zip(processes, readers, strict=True)]
    assert [code for code, _ in ended] == [0, 0]
    assert len({out.splitlines()[-1] for _, out in ended}) == 1
    assert sum("another sync is writing" in line for line in waits) == 1
    assert bucket.proxy.count("GET", BIG) == 1
    assert bucket.proxy.body_bytes == sum(p.stat().st_size for p in source.iterdir())


def finish_after(process: subprocess.Popen[str], reader: threading.Thread) -> tuple[int, str]:
    reader.join(60)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out


def test_the_lock_of_a_killed_sync_is_free_at_once(
    bucket: Any, source: Path, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    held = threading.Event()
    bucket.proxy.fault = lambda r: Fault(hold=held) if r.method == "GET" else None
    process = start(bucket, tmp_path / "m")
    while not bucket.proxy.count("GET"):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    bucket.proxy.clear()
    code, _, err = finish(start(bucket, tmp_path / "m"))
    held.set()
    assert code == 0
    assert "another sync" not in err


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, where this user may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount; the injected ENOSPC says the same")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_one_line_and_the_old_artifact_stays(
    bucket: Any, source: Path, tiny_disk: Path
) -> None:
    bucket.put_folder(source)
    code, out, _ = finish(start(bucket, tiny_disk))
    assert code == 0
    old = Path(out.splitlines()[-1])
    (source / BIG).write_bytes(bytes(6 << 20))
    bucket.put_folder(source)
    code, out, err = finish(start(bucket, tiny_disk))
    assert (code, out) == (1, "")
    assert err.startswith("tier-refit: ")
    assert "the disk is full: 6 MiB are needed" in err
    assert len(err.splitlines()) == 1
    assert model_store.current(tiny_disk) == old
    assert model_store.read_artifact(old).tree_hash == old.name


@pytest.mark.parametrize(
    ("environment", "exit_code"),
    [
        pytest.param({}, 0, id="all well"),
        pytest.param({"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, 2, id="wrong secret"),
        pytest.param({"AWS_ACCESS_KEY_ID": "AKIDUNKNOWN"}, 2, id="unknown key"),
        pytest.param({"AWS_SESSION_TOKEN": "a-session-token"}, None, id="token"),
        pytest.param({"AWS_ENDPOINT_URL": "http://u:a-wrong-secret@127.0.0.1:9"}, 2, id="endpoint"),
        pytest.param({"AWS_ENDPOINT_URL": "not a url"}, 2, id="no endpoint"),
        pytest.param({"AWS_PROFILE": "nobody"}, 2, id="no profile"),
    ],
)
def test_nothing_printed_holds_a_secret_or_a_traceback(
    bucket: Any,
    source: Path,
    tmp_path: Path,
    environment: dict[str, str],
    exit_code: int | None,
) -> None:
    bucket.put_folder(source)
    code, out, err = finish(start(bucket, tmp_path / "m", **environment))
    assert code == exit_code or (exit_code is None and code in (0, 2))
    secrets = (seaweed.SECRET, "a-wrong-secret", "AKID", "a-session-token", "X-Amz-", "Traceback")
    assert [s for s in secrets if s in out + err] == []
    assert code == 0 or len(err.splitlines()) == 1
