"""Sync from a real S3 server: what is transferred, what is trusted, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
import seaweed

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art

Sync = Callable[..., model_store.Synced]


def flip(path: Path) -> None:
    """Flip one bit, and leave the file looking as it did (but for its ctime)."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_artifact_in_s3_is_the_artifact_of_the_folder(
    stored: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    stored.put("older/best_model.pt", b"not this one")
    counts: list[tuple[int, int]] = []
    found = sync(stored, on_progress=lambda *c: counts.append(c))
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
    assert found.path == model_store.current(tmp_path / "m")
    assert {p.name: p.read_bytes() for p in found.path.iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    total = found.files["bytes"].sum()
    assert counts[-1] == (total, total)
    assert (found.bytes_fetched, found.offline) == (total, False)
    assert all(r.if_match for r in stored.proxy.requests if r.method == "GET")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(
        [".sync", "current", found.tree_hash]
    )


def test_a_prefix_without_its_slash_and_a_name_for_the_host_work_too(
    bare: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sync(bare)
    bare.prefix = bare.prefix.rstrip("/")
    assert sync(bare).tree_hash == first.tree_hash
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{bare.proxy.port}")
    assert sync(bare).tree_hash == first.tree_hash


def test_an_unchanged_artifact_costs_heads_and_nothing_else(stored: Any, sync: Sync) -> None:
    first = sync(stored)
    stored.proxy.clear()
    second = sync(stored)
    assert {r.method for r in stored.proxy.requests} == {"HEAD"}
    assert stored.proxy.count("GET", "best_model.pt") == stored.proxy.body_bytes == 0
    assert (second.tree_hash, second.path, second.bytes_fetched) == (first.tree_hash, first.path, 0)
    assert second.files.equals(first.files)


def test_with_fast_an_unchanged_artifact_is_not_hashed(
    stored: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sync(stored)

    def hashed(folder: Path) -> None:
        raise AssertionError(f"{folder} was hashed")

    with monkeypatch.context() as patch:
        patch.setattr(art, "read_artifact", hashed)
        second = sync(stored, fast=True)
    assert (second.tree_hash, second.path) == (first.tree_hash, first.path)
    assert second.files.equals(first.files)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "hashed"])
def test_a_flipped_bit_on_disk_is_found_and_only_then_fetched_again(
    stored: Any, sync: Sync, fast: bool
) -> None:
    first = sync(stored)
    good = (first.path / "best_model.pt").read_bytes()
    flip(first.path / "best_model.pt")
    again = sync(stored, fast=fast)
    assert again.path == first.path
    assert again.bytes_fetched > 0
    assert (first.path / "best_model.pt").read_bytes() == good
    assert sync(stored, fast=True).bytes_fetched == 0


def test_a_replaced_checkpoint_of_the_same_size_is_fetched(stored: Any, sync: Sync) -> None:
    if (manifest := sync(stored).path / "manifest.json").exists():
        listed = json.loads(manifest.read_text())
    new = (sync(stored).path / "best_model.pt").read_bytes()[::-1]
    first = sync(stored)
    stored.put("best_model.pt", new)
    if manifest.exists():
        listed["files"]["best_model.pt"]["sha256"] = hashlib.sha256(new).hexdigest()
        stored.put("manifest.json", json.dumps(listed).encode())
    second = sync(stored)
    assert second.tree_hash != first.tree_hash
    assert (second.path / "best_model.pt").read_bytes() == new
    assert (second.path / "config.json").read_bytes() == (first.path / "config.json").read_bytes()


def test_going_back_to_a_published_artifact_brings_it_into_force_again(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    art.write_manifest(source)
    bucket.put_folder(source)
    first = sync(bucket)
    (source / "best_model.pt").write_bytes(b"another")
    art.write_manifest(source)
    bucket.put_folder(source)
    second = sync(bucket)
    for path in first.path.iterdir():
        bucket.put(path.name, path.read_bytes())
    assert sync(bucket).tree_hash == first.tree_hash != second.tree_hash
    assert model_store.current(tmp_path / "m") == first.path


def test_weights_replaced_under_a_manifest_that_was_left_behind_are_refused(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    """Same size, other bytes: the old artifact is here and fits the manifest, and hides nothing."""
    art.write_manifest(source)
    bucket.put_folder(source)
    first = sync(bucket)
    old = (source / "best_model.pt").read_bytes()
    bucket.put("best_model.pt", old[::-1])
    digests = [hashlib.sha256(data).hexdigest() for data in (old[::-1], old)]
    for _ in range(2):
        with pytest.raises(
            InputError, match=rf"best_model.pt: sha256 is {digests[0]}, .*{digests[1]}"
        ):
            sync(bucket)
    assert model_store.current(tmp_path / "m") == first.path
    bucket.put("best_model.pt", old)
    assert sync(bucket).tree_hash == first.tree_hash


def test_a_half_download_of_a_version_that_is_gone_gives_its_room_back(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path, small_parts: None
) -> None:
    bucket.put_folder(source)

    def killed(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(bucket, on_progress=killed)
    partials = tmp_path / "m" / ".sync" / "partial"
    [half] = [path for folder in partials.iterdir() for path in folder.iterdir()]
    bucket.put("best_model.pt", b"new" * 4000)

    there: list[bool] = []

    def look(done: int, total: int, note: str = "") -> None:
        there.append(half.exists())

    sync(bucket, on_progress=look)
    assert set(there) == {False}


def test_a_golden_file_or_a_manifest_that_appears_later_is_noticed(
    bucket: Any, source: Path, sync: Sync
) -> None:
    bucket.put_folder(source)
    first = sync(bucket)
    bucket.put("golden.json", b"{}")
    second = sync(bucket)
    assert second.tree_hash != first.tree_hash
    assert "golden.json" in second.files["file"]
    listed = {n: {"sha256": s} for n, s in first.files.select("file", "sha256").iter_rows()}
    bucket.put("manifest.json", json.dumps({"files": listed}).encode())
    third = sync(bucket)  # the manifest does not list the golden file: it is no part of it
    assert third.tree_hash == first.tree_hash
    bucket.proxy.clear()
    assert sync(bucket).tree_hash == first.tree_hash
    assert bucket.proxy.body_bytes == 0


def test_files_that_only_the_manifest_lists_are_fetched(
    bucket: Any, source: Path, sync: Sync
) -> None:
    data = b"t" * 100
    art.write_manifest(source)
    listed = json.loads((source / "manifest.json").read_text())
    listed["files"]["tokenizer.bin"] = {"sha256": hashlib.sha256(data).hexdigest()}
    bucket.put_folder(source)
    bucket.put("manifest.json", json.dumps(listed).encode())
    with pytest.raises(InputError, match=r"'tokenizer.bin' is missing"):
        sync(bucket)
    bucket.put("tokenizer.bin", data)
    assert (sync(bucket).path / "tokenizer.bin").read_bytes() == data
    bucket.proxy.clear()
    assert sync(bucket).bytes_fetched == bucket.proxy.body_bytes == 0


def test_an_object_that_is_not_the_manifests_is_refused_with_both_hashes(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    art.write_manifest(source)
    bucket.put_folder(source)
    wanted = hashlib.sha256((source / "best_model.pt").read_bytes()).hexdigest()
    other = (source / "best_model.pt").read_bytes()[:-1]
    bucket.put("best_model.pt", other)
    found = hashlib.sha256(other).hexdigest()
    with pytest.raises(InputError, match=f"best_model.pt: sha256 is {found}, expected {wanted}"):
        sync(bucket)
    assert [p.name for p in (tmp_path / "m").iterdir()] == [".sync"]


def test_other_bytes_in_a_recorded_version_are_refused_with_both_hashes(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    first = sync(bucket)
    [record] = (tmp_path / "m" / ".sync" / "sources").iterdir()
    raw = json.loads(record.read_text())
    real = raw["files"]["config.json"]["sha256"]
    raw["files"]["config.json"]["sha256"] = "0" * 64
    record.write_text(json.dumps(raw))
    flip(first.path / "labels.txt")
    with pytest.raises(InputError, match=f"config.json: sha256 is {real}, expected {'0' * 64}"):
        sync(bucket)


def test_a_record_that_cannot_be_read_is_refused_by_name(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    sync(bucket)
    [record] = (tmp_path / "m" / ".sync" / "sources").iterdir()
    record.write_text('{"files": {"config.json": 3}}')
    with pytest.raises(InputError, match="remove it to trust the source anew"):
        sync(bucket)


def test_a_hostile_manifest_writes_nothing_outside(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    for text, message in [
        (b"[" * 100_000, "not JSON"),
        (b"3", "expected a JSON object"),
        (json.dumps({"files": {"../x": {"sha256": "0" * 64}}}).encode(), "not a plain file name"),
    ]:
        bucket.put("manifest.json", text)
        with pytest.raises(InputError, match=message):
            sync(bucket)
    assert [p.name for p in (tmp_path / "m").iterdir()] == [".sync"]


def test_an_incomplete_artifact_a_wrong_prefix_and_a_wrong_bucket_are_named(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    bucket.put_folder(source)
    bucket.delete("labels.txt")
    with pytest.raises(InputError, match=r"'labels.txt' is missing"):
        sync(bucket)
    with pytest.raises(InputError, match="s3://bucket/other/: nothing there"):
        model_store.sync("s3://bucket/other/", tmp_path / "m")
    with pytest.raises(InputError, match="s3://elsewhere/x: there is no such bucket"):
        model_store.sync("s3://elsewhere/x", tmp_path / "m")


def test_a_reader_who_may_not_list_can_sync(
    stored: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.READER[1])
    assert sync(stored).bytes_fetched > 0


@pytest.mark.parametrize(
    ("key", "secret", "message"),
    [
        pytest.param(seaweed.ACCESS_KEY, "a-wrong-secret", "the secret is wrong", id="secret"),
        pytest.param("AKIDUNKNOWN", seaweed.SECRET, "access key is not known", id="key"),
        pytest.param(*seaweed.STRANGER, "access denied.*grant s3:GetObject", id="denied"),
        pytest.param("", "", "no credentials", id="none"),
    ],
)
def test_wrong_credentials_are_one_line_without_a_secret(
    bare: Any,
    sync: Sync,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    secret: str,
    message: str,
) -> None:
    first = sync(bare)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with pytest.raises(InputError, match=message) as caught:
        sync(bare)
    assert "\n" not in str(caught.value)
    assert not any(s and s in str(caught.value) for s in (key, secret))
    assert str(caught.value).startswith(bare.uri)
    assert first.path.exists()


def test_a_wrong_clock_is_one_line(bare: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    late = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=2)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: late)
    with pytest.raises(InputError, match="clock is wrong"):
        sync(bare)


def test_a_profile_names_the_credentials(
    bare: Any, sync: Sync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    shared = tmp_path / "credentials"
    shared.write_text(
        f"[lab]\naws_access_key_id={seaweed.ACCESS_KEY}\naws_secret_access_key={seaweed.SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert sync(bare).bytes_fetched > 0
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InputError, match="profile"):
        sync(bare)


def test_a_versioned_bucket_records_versions(
    bucket: Any, source: Path, sync: Sync, tmp_path: Path
) -> None:
    client = seaweed.client(bucket.proxy.upstream)
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for path in source.iterdir():
        client.put_object(Bucket="versioned", Key=f"m/{path.name}", Body=path.read_bytes())
    found = model_store.sync("s3://versioned/m/", tmp_path / "m")
    [record] = (tmp_path / "m" / ".sync" / "sources").iterdir()
    seen = json.loads(record.read_text())["files"]
    assert all(entry["version_id"] for entry in seen.values())
    assert model_store.sync("s3://versioned/m/", tmp_path / "m").bytes_fetched == 0
    assert found.tree_hash == model_store.read_artifact(source).tree_hash
