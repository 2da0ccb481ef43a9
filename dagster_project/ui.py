"""`make ui`: the guarded Dagster webserver, the daemon, and the report folder, on 127.0.0.1.

Belongs: starting and stopping the three processes a person needs to look at results.
Does not: definitions, production hosting (an SSO proxy in front, ``--read-only`` for viewers).
Concept: the webserver has no authentication and takes any Host and Origin, so any page the user
visits could launch runs through it; a small ASGI guard lets only its own pages in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from dagster_project.settings import DEMO_ROOT, use_settings_of

HOST = "127.0.0.1"
APP_FACTORY = "create_app_from_workspace_process_context"
"""What the webserver's command calls to get its app; a test pins that it still does."""

LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def refusal(scope: Scope) -> str | None:
    """Why a request may not pass, or None.

    Refused: a Host that is not loopback (DNS rebinding), a foreign Origin, cross-site requests
    that could change something, GraphQL by GET (an ``<img>`` can send it), POST that is not JSON.
    """
    headers = {k.decode().lower(): v.decode("latin1") for k, v in scope["headers"]}
    host = headers.get("host", "")
    origin = headers.get("origin")
    method = scope.get("method", "WEBSOCKET")
    graphql = scope["path"].rstrip("/").endswith("/graphql")
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    same_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    reading = method in ("GET", "HEAD") and not graphql
    if name not in LOOPBACK_NAMES:
        return "foreign Host"
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return "foreign Origin"
    if not same_site and not reading:
        return "cross-site request"
    if graphql and method == "GET" and "text/html" not in headers.get("accept", ""):
        return "GraphQL by GET is off"
    if method == "POST" and not headers.get("content-type", "").startswith("application/json"):
        return "POST needs application/json"
    return None


def guard(app: App) -> App:
    """``app`` behind :func:`refusal`."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        why = refusal(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": why.encode()})

    return guarded


def serve_webserver(arguments: list[str]) -> None:
    """Dagster's own webserver command with the guard around its app."""
    from dagster_webserver import cli

    original = getattr(cli, APP_FACTORY)
    setattr(cli, APP_FACTORY, lambda *a, **k: guard(original(*a, **k)))
    cli.cli(arguments, standalone_mode=False)


class _Reports(SimpleHTTPRequestHandler):
    """Static files, loopback names only, no log line for each request."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Serve a file (GET and HEAD) unless the Host is foreign."""
        if self.headers.get("Host", "").rsplit(":", 1)[0] in LOOPBACK_NAMES:
            return super().send_head()
        self.send_error(403, "foreign Host")
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


def serve_reports(folder: Path, port: int) -> ThreadingHTTPServer:
    """Serve ``folder`` in the background; the caller shuts it down."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((HOST, port), partial(_Reports, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.ui", description=__doc__)
    parser.add_argument("--root", type=Path, default=DEMO_ROOT, help="a folder made by the demo")
    parser.add_argument("--port", type=int, default=3000, help="of the Dagster webserver")
    options = parser.parse_args(arguments)
    home = (options.root / "dagster_home").absolute()
    if not (home / "dagster.yaml").is_file():
        print(f"{options.root}: no results here yet; run `make demo` first", file=sys.stderr)
        return 2
    settings = use_settings_of(options.root)
    # where the links in metadata point, whatever the webserver's port is
    report_port = urlsplit(settings.report_url).port or 80
    try:
        reports = serve_reports(settings.report_dir, report_port)
    except OSError as error:
        print(f"port {report_port} ({error.strerror}): set TIER_REFIT_REPORT_URL", file=sys.stderr)
        return 2
    workspace = ["-w", str(home / "workspace.yaml")]
    command = Path(sys.executable).with_name("dagster-daemon")
    daemon = subprocess.Popen([command, "run", *workspace])  # noqa: S603 - our own arguments
    print(f"Dagster UI  http://{HOST}:{options.port}", flush=True)
    print(f"Reports     {settings.report_url}", flush=True)
    try:
        serve_webserver(["-h", HOST, "-p", str(options.port), *workspace])
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)
        reports.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
