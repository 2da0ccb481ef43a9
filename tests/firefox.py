"""A real headless Firefox for tests of our own pages, over its Marionette socket.

Belongs: starting it, opening a file, keys, reading the page, a second tab.
Does not: what any page should show; Chromium (``browser``, which can do more).
Concept: Marionette as it is, ``length:[0, id, command, parameters]``, on a loopback port that
Firefox picks itself. No driver program and no library.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("firefox-esr", "firefox")
TIMEOUT_S = 60.0
_KEYS = {"Enter": "\ue007", "Backspace": "\ue003", "Escape": "\ue00c", "ArrowLeft": "\ue012"}


def found() -> str | None:
    """Where a Firefox is, or None: then the test is to be skipped."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """The tab in front."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire, self._rest, self._id = wire, b"", 0
        self._next()  # its greeting
        self.call("WebDriver:NewSession", capabilities={})

    def call(self, command: str, **params: Any) -> Any:
        """One command, and its result."""
        self._id += 1
        message = json.dumps([0, self._id, command, params]).encode()
        self._wire.sendall(b"%d:%b" % (len(message), message))
        _, _, error, result = self._next()
        assert error is None, f"{command}: {error}"
        return result

    def open(self, path: Path) -> None:
        """Show a local file, and wait until it has loaded."""
        self.call("WebDriver:Navigate", url=path.resolve().as_uri())

    def read(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        script = f"return {expression}"
        return self.call("WebDriver:ExecuteScript", script=script, args=[])["value"]

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + TIMEOUT_S
        while not self.read(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.005)

    def text(self, selector: str) -> str:
        """The text of the first element that matches."""
        return str(self.read(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, *keys: str, control: bool = False) -> None:
        """Keys by name or sign, one after another, into whatever has the focus."""
        signs = [_KEYS.get(key, key) for key in keys]
        actions = [{"type": t, "value": sign} for sign in signs for t in ("keyDown", "keyUp")]
        if control:
            held = "\ue009"
            actions = [
                {"type": "keyDown", "value": held},
                *actions,
                {"type": "keyUp", "value": held},
            ]
        pressed = {"type": "key", "id": "keyboard", "actions": actions}
        self.call("WebDriver:PerformActions", actions=[pressed])

    def new_tab(self) -> None:
        """Another tab of the same browser, in front."""
        handle = self.call("WebDriver:NewWindow", type="tab", focus=True)["handle"]
        self.call("WebDriver:SwitchToWindow", handle=handle, focus=True)

    def _next(self) -> list[Any]:
        while b":" not in self._rest:
            self._more()
        length, self._rest = self._rest.split(b":", 1)
        while len(self._rest) < int(length):
            self._more()
        whole, self._rest = self._rest[: int(length)], self._rest[int(length) :]
        message: Any = json.loads(whole)
        return list(message) if isinstance(message, list) else [message]

    def _more(self) -> None:
        piece = self._wire.recv(1 << 16)
        assert piece, "the browser has ended"
        self._rest += piece


@contextmanager
def opened(profile: Path, downloads: Path) -> Iterator[Tab]:
    """Firefox on a profile that may be used again; files are downloaded into a folder unasked."""
    program = found()
    assert program is not None, "no Firefox; ask found() first"
    wanted = {
        "marionette.port": 0,
        "browser.download.folderList": 2,
        "browser.download.dir": str(downloads),
        "browser.shell.checkDefaultBrowser": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "browser.startup.homepage_override.mstone": "ignore",
    }
    profile.mkdir(exist_ok=True)
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in wanted.items()]
    (profile / "user.js").write_text("".join(lines))
    port = profile / "MarionetteActivePort"
    port.unlink(missing_ok=True)
    process = subprocess.Popen(
        [program, "--headless", "--marionette", "--no-remote", "--profile", profile, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + TIMEOUT_S
        while not (port.exists() and port.read_text()):
            assert time.monotonic() < end and process.poll() is None, "Firefox does not start"
            time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", int(port.read_text())), TIMEOUT_S) as wire:
            tab = Tab(wire)
            yield tab
            tab.call("Marionette:Quit", flags=["eAttemptQuit"])
        process.wait(20)
    finally:
        process.kill()
        process.wait()
