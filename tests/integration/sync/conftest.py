"""An artifact on a real S3 server, reached through a proxy that counts and can do harm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import quick
import seaweed

from dagster_project.lib import model_store, s3
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import partial

FILES = {
    "best_model.pt": bytes(range(256)) * 40,
    "config.json": b'{"architecture": "x"}',
    "feature_schema.json": b'{"fields": []}',
    "labels.txt": b"a\nb\n",
}
_prefixes = itertools.count()


@dataclass
class Bucket:
    """A prefix of its own for each test."""

    proxy: seaweed.Proxy
    prefix: str

    @property
    def uri(self) -> str:
        return f"s3://{seaweed.BUCKET}/{self.prefix}"

    def put(self, name: str, data: bytes, **options: Any) -> None:
        client = seaweed.client(self.proxy.upstream)
        client.put_object(Bucket=seaweed.BUCKET, Key=self.prefix + name, Body=data, **options)

    def put_plainly(self, name: str, data: bytes) -> None:
        """Without a checksum: all that S3 then has is the MD5 in the ETag."""
        client = seaweed.client(self.proxy.upstream, request_checksum_calculation="when_required")
        client.put_object(Bucket=seaweed.BUCKET, Key=self.prefix + name, Body=data)

    def put_folder(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.put(path.name, path.read_bytes())

    def delete(self, name: str) -> None:
        client = seaweed.client(self.proxy.upstream)
        client.delete_object(Bucket=seaweed.BUCKET, Key=self.prefix + name)


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """What a client is made from is read once."""
    with pytest.MonkeyPatch.context() as patch:
        quick.clients(patch)
        yield


@pytest.fixture(scope="session")
def seaweed_port() -> Iterator[int]:
    with seaweed.seaweed() as port:
        yield port


@pytest.fixture
def bucket(seaweed_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty prefix; this process's environment points at the proxy before it."""
    with seaweed.proxy(seaweed_port) as proxy:
        for name, value in seaweed.environment(proxy.port).items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield Bucket(proxy, f"models/v{next(_prefixes)}/")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A complete artifact in a folder."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(params=[True, False], ids=["manifest", "no manifest"])
def stored(bucket: Bucket, source: Path, request: pytest.FixtureRequest) -> Bucket:
    """The artifact in the bucket, with and without a manifest."""
    if request.param:
        art.write_manifest(source)
    bucket.put_folder(source)
    return bucket


@pytest.fixture
def bare(bucket: Bucket, source: Path) -> Bucket:
    """The artifact in the bucket without a manifest, where that makes no difference."""
    bucket.put_folder(source)
    return bucket


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten parts where the real size would make one, and short waits."""
    monkeypatch.setattr(partial, "PART", 1024)
    monkeypatch.setattr(s3, "_FIRST_WAIT_S", 0.01)


@pytest.fixture
def sync(tmp_path: Path) -> Callable[..., model_store.Synced]:
    """Sync a bucket to ``tmp_path / "m"``."""

    def run(bucket: Bucket, **options: object) -> model_store.Synced:
        return model_store.sync(bucket.uri, tmp_path / "m", **options)  # type: ignore[arg-type]

    return run
