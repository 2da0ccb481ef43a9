"""A drop to put files into, and a loopback S3 for the same files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import polars as pl
import pytest
import quick

from dagster_project.lib.labels.drop import Drop, read_drop

CLASSES = ("acne", "eczema", "tinea")
IMAGES = pl.Series("image_uuid", ["0012", "12", "a", "b", "c"])
HEADER = "image_uuid,reviewer,label,confidence,comment\n"

Put = Callable[[str, str], Path]
Read = Callable[..., Drop]


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """What a client is made from is read once."""
    with pytest.MonkeyPatch.context() as patch:
        quick.clients(patch)
        yield


@pytest.fixture
def drop_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def put(drop_folder: Path) -> Put:
    """Write a review file: rows only, the usual header is put before them."""

    def write(name: str, rows: str) -> Path:
        path = drop_folder / name
        path.write_text(HEADER + rows, encoding="utf-8")
        return path

    return write


@pytest.fixture
def read(drop_folder: Path) -> Read:
    def run(in_force: pl.DataFrame | None = None, uri: str | None = None) -> Drop:
        return read_drop(
            uri or str(drop_folder), classes=CLASSES, image_uuids=IMAGES, in_force=in_force
        )

    return run


class Bucket:
    """Objects of one bucket, and the faults to answer with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gone_once: set[str] = set()
        self.broken = False
        self.read_only = False
        self.requests: list[str] = []
        self.answers: Literal["s3", "never", "bytewise", "html"] = "s3"


class Server(ThreadingHTTPServer):
    content: Bucket


class Handler(BaseHTTPRequestHandler):
    """List (v2, delimiter), get, put and delete, nothing else."""

    server: Server

    def do_GET(self) -> None:
        content = self.server.content
        url = urlsplit(self.path)
        name, _, key = unquote(url.path).lstrip("/").partition("/")
        if content.answers == "never":
            time.sleep(20)
        elif content.answers == "html":
            self.answer(200, "<html><body>Log in to the network</body></html>")
        elif content.broken:
            self.answer(403, "<Error><Code>AccessDenied</Code></Error>")
        elif name != "labels":
            self.answer(404, "<Error><Code>NoSuchBucket</Code></Error>")
        elif not key:
            self.list_keys(parse_qs(url.query).get("prefix", [""])[0])
        elif key in content.gone_once or key not in content.objects:
            content.gone_once.discard(key)
            self.answer(404, "<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.answer(200, content.objects[key].decode("latin-1"))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "aws-chunked" in (self.headers["Content-Encoding"] or ""):
            size, _, rest = body.partition(b"\r\n")
            body = rest[: int(size.split(b";")[0], 16)]
        self.change(body)

    def do_DELETE(self) -> None:
        self.change(None)

    def change(self, body: bytes | None) -> None:
        content = self.server.content
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        content.requests.append(f"{self.command} {key}")
        if content.read_only:
            self.answer(403, "<Error><Code>AccessDenied</Code></Error>")
            return
        content.objects.pop(key, None)
        if body is not None:
            content.objects[key] = body
        self.answer(200, "")

    def list_keys(self, prefix: str) -> None:
        objects = self.server.content.objects
        entries = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(objects[k])}</Size></Contents>"
            for k in sorted(objects)
            if k.startswith(prefix) and "/" not in k.removeprefix(prefix)
        )
        body = f"<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>{entries}"
        self.answer(200, f"<ListBucketResult>{body}</ListBucketResult>")

    def answer(self, status: int, body: str) -> None:
        data = body.encode("latin-1")
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.server.content.answers != "bytewise":
            self.wfile.write(data)
            return
        with suppress(OSError):
            for byte in data:
                time.sleep(0.05)
                self.wfile.write(bytes([byte]))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket ``labels`` behind a real HTTP server on the loopback."""
    content = Bucket()
    server = Server(("127.0.0.1", 0), Handler)
    server.content = content
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    yield content
    server.shutdown()
    server.server_close()
