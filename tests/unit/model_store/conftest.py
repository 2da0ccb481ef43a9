"""An artifact of plain bytes, and a server that speaks as much S3 as a sync needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

FILES = {
    "best_model.pt": bytes(range(256)) * 40,
    "config.json": b'{"architecture": "x"}',
    "feature_schema.json": b'{"fields": []}',
    "labels.txt": b"a\nb\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A complete artifact without a manifest."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@dataclass
class FakeS3:
    """Objects by ``bucket/key``, what was asked for, and the error to answer with."""

    objects: dict[str, bytes] = field(default_factory=dict)
    gets: list[str] = field(default_factory=list)
    refuse: tuple[int, str] | None = None

    def put(self, folder: Path, prefix: str = "models/v1/") -> None:
        for path in folder.iterdir():
            self.objects[f"bucket/{prefix}{path.name}"] = path.read_bytes()


class Server(ThreadingHTTPServer):
    state: FakeS3


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_xml_error(self, status: int, code: str) -> None:
        xml = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        self.reply(status, xml.encode(), {"Content-Type": "application/xml"})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/")
        if self.server.state.refuse:
            self.send_xml_error(*self.server.state.refuse)
        elif "list-type" in parse_qs(url.query):
            self.send_list(path, parse_qs(url.query).get("prefix", [""])[0])
        elif path in self.server.state.objects:
            self.send_object(path)
        else:
            self.send_xml_error(404, "NoSuchKey")

    do_HEAD = do_GET  # noqa: N815

    def send_list(self, bucket: str, prefix: str) -> None:
        if bucket != "bucket":
            self.send_xml_error(404, "NoSuchBucket")
            return
        keys = [k.removeprefix("bucket/") for k in self.server.state.objects]
        found = [k for k in sorted(keys) if k.startswith(prefix)]
        items = "".join(
            f"<Contents><Key>{k}</Key><Size>{len(self.server.state.objects['bucket/' + k])}</Size>"
            "</Contents>"
            for k in found
            if "/" not in k.removeprefix(prefix)
        )
        xml = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        self.reply(200, xml.encode(), {"Content-Type": "application/xml"})

    def send_object(self, path: str) -> None:
        data, status = self.server.state.objects[path], 200
        headers = {"ETag": '"x"', "Content-Type": "binary/octet-stream"}
        if self.command == "GET":
            self.server.state.gets.append(path)
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            stop = int(last) + 1 if last else len(data)
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
            data, status = data[int(first) : stop], 206
        self.reply(status, data, {**headers, "Content-Length": str(len(data))})

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeS3]:
    server = Server(("127.0.0.1", 0), Handler)
    server.state = FakeS3()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield server.state
    server.shutdown()
    server.server_close()
