"""`make ui`: the guarded Dagster webserver, the daemon, reports and packets, on 127.0.0.1.

Belongs: starting and stopping the three processes a person needs to look at results.
Does not: definitions, production hosting (an SSO proxy in front, ``--read-only`` for viewers).
Concept: the webserver has no authentication and takes any Host and Origin, so any page the user
visits could launch runs through it; a small ASGI guard lets only its own pages in. Of a packet only
what is handed out is served, never the key that lies beside it.
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

from dagster_project.settings import DEMO_ROOT, HAND_OUT, PACKETS, use_settings_of

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


def embedded(site: str | None, mode: str | None) -> bool:
    """Whether a request is another page's way of using a file: as an image or a script in it.

    A person who follows a link navigates; our own pages are of the same origin.

    Parameters
    ----------
    site, mode : the headers ``Sec-Fetch-Site`` and ``Sec-Fetch-Mode``; None where not sent.
    """
    return site not in (None, "same-origin", "none") and mode != "navigate"


class _Reports(SimpleHTTPRequestHandler):
    """Static files, loopback names only, no log line for each request.

    The report folder is the root. ``/packets/<packet>/hand_out/...`` are files of the packets.
    """

    def __init__(self, *args: Any, packets: Path | None = None, **options: Any) -> None:
        self.packets = packets
        super().__init__(*args, **options)

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Serve a file (GET and HEAD) unless the Host is foreign or another page embeds it."""
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in LOOPBACK_NAMES:
            self.send_error(403, "foreign Host")
        elif embedded(self.headers.get("Sec-Fetch-Site"), self.headers.get("Sec-Fetch-Mode")):
            self.send_error(403, "not for another page")
        else:
            return super().send_head()
        return None

    def translate_path(self, path: str) -> str:
        """The file of an address; what must not be served has an empty name, which is no file."""
        plain = Path(super().translate_path(path))  # in the report folder, whatever dots it holds
        inside = plain.relative_to(self.directory).parts
        if inside[:1] != (PACKETS,):
            return super().translate_path(path)
        found = hand_out_file(self.packets, inside[1:])
        return "" if found is None else str(found)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


def hand_out_file(packets: Path | None, parts: Sequence[str]) -> Path | None:
    """``<packet>/hand_out/...`` if it lies there really; None for anything else, the key above all.

    Parameters
    ----------
    packets : the folder of all packets; None serves none.
    parts : of the address, behind ``/packets/``.
    """
    if packets is None or len(parts) < 3 or parts[1] != HAND_OUT:
        return None
    root = (packets / parts[0] / HAND_OUT).resolve()
    found = (packets / Path(*parts)).resolve()
    safe = root.parent.parent == packets.resolve() and found.is_relative_to(root)
    return found if safe and found.is_file() else None


def serve_reports(folder: Path, port: int, packets: Path | None = None) -> ThreadingHTTPServer:
    """Serve ``folder``, and what packets hand out, in the background; the caller shuts it down."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = partial(_Reports, directory=str(folder.absolute()), packets=packets)
    server = ThreadingHTTPServer((HOST, port), handler)
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
        packets = settings.packets_dir if settings.photos_in_ui else None
        reports = serve_reports(settings.report_dir, report_port, packets)
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
