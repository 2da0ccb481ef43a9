"""A real headless browser for tests of our own pages: Chromium over its debugging pipe.

Belongs: starting it, opening a file, keys, clicks, reading the page, pictures of it.
Does not: what any page should show.
Concept: the DevTools protocol as JSON messages that end in NUL, on file descriptors 3 and 4 of the
browser: no port that another user could reach, and no websocket library.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 60.0
_KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35,
    "PageUp": 33, "PageDown": 34, "Enter": 13, "Tab": 9, "Escape": 27, "Backspace": 8,
}  # fmt: skip
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# the two pipes must be numbers 3 and 4 in the browser; here those are likely to be taken
_WIRE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def found() -> str | None:
    """Where a browser is, or None: then the test is to be skipped."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. ``requests``: every address asked for; ``problems``: errors, refusals, warnings."""

    def __init__(self, pipe: _Pipe, size: tuple[int, int]) -> None:
        self._pipe, self._size = pipe, size
        self._target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = pipe.call("Target.attachToTarget", {"targetId": self._target, "flatten": True})
        self._session = attached["sessionId"]
        pipe.pages[self._session] = self
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(*size)

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its result."""
        return self._pipe.call(method, params, self._session)

    def browser(self, method: str, **params: Any) -> Any:
        """One command to the whole browser."""
        return self._pipe.call(method, params)

    def tab(self) -> Page:
        """Another tab of the same browser; it comes to the front."""
        return Page(self._pipe, self._size)

    def close(self) -> None:
        """Close this tab."""
        self.browser("Target.closeTarget", targetId=self._target)

    def downloads(self, folder: Path) -> None:
        """Let downloads go into a folder, unasked."""
        self.browser("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def open(self, path: Path) -> None:
        """Show a local file, and wait until it has loaded."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def read(self, expression: str) -> Any:
        """The value of a JavaScript expression; an exception in it is an AssertionError here."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + TIMEOUT_S
        while not self.read(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.005)

    def text(self, selector: str) -> str:
        """The text of the first element that matches."""
        return str(self.read(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, key: str, times: int = 1) -> None:
        """A key, as often as given, into whatever has the focus."""
        self._keys([key] * times)

    def type(self, text: str) -> None:
        """One key after another, without waiting between them."""
        self._keys(list(text))

    def _keys(self, keys: Sequence[str]) -> None:
        sent = [
            self._pipe.send("Input.dispatchKeyEvent", params, self._session)
            for key in keys
            for params in _strokes(key)
        ]
        for number in sent:
            self._pipe.answer(number, "Input.dispatchKeyEvent")

    def wheel(self, selector: str, delta: int) -> None:
        """Turn the mouse wheel over the middle of an element."""
        x, y = self._middle(selector, 0.5)
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def focus(self, selector: str) -> None:
        """Put the focus on an element."""
        self.read(f"document.querySelector({json.dumps(selector)}).focus()")

    def click(self, selector: str, across: float = 0.5) -> None:
        """A real mouse click into an element, at a share of its width."""
        x, y = self._middle(selector, across)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _middle(self, selector: str, across: float) -> tuple[float, float]:
        x, y = self.read(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const r = e.getBoundingClientRect();"
            f"return [r.left + r.width * {across}, r.top + r.height / 2]; }})()"
        )
        return x, y

    def resize(self, width: int, height: int) -> None:
        """The window; below 600 pixels it is a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """The page as printed on A4."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(answer["data"]))

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Note an event; ``listeners`` may have a function for it."""
        if method in self.listeners:
            self.listeners[method](params)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])


def _strokes(key: str) -> list[dict[str, Any]]:
    """What the browser is to be told when a key is pressed and let go."""
    code = _KEYS.get(key, ord(key.upper()[0]))
    text = {"Enter": "\r"}.get(key, key)  # with its text, Enter also presses a focused button
    down = {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code}
    up = down | {"type": "keyUp"}
    return [down | ({"text": text} if len(text) == 1 else {}), up]


class _Pipe:
    """Commands out, answers and events in."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._id = write, read, b"", 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}

    def call(self, method: str, params: dict[str, Any], session: str = "") -> Any:
        return self.answer(self.send(method, params, session), method)

    def send(self, method: str, params: dict[str, Any], session: str = "") -> int:
        """The number under which its answer will come."""
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._id

    def answer(self, number: int, method: str) -> Any:
        while number not in self._answers:
            message = self._next()
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].heard(message["method"], message["params"])
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        pieces = [self._rest]
        while b"\0" not in pieces[-1]:
            ready, _, _ = select.select([self._read], [], [], TIMEOUT_S)
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has ended"
            pieces.append(piece)
        whole, self._rest = b"".join(pieces).split(b"\0", 1)
        message: dict[str, Any] = json.loads(whole)
        return message


@contextmanager
def opened(width: int = 1280, height: int = 900, profile: Path | None = None) -> Iterator[Page]:
    """A browser with one empty page; what it kept is gone afterwards, unless in ``profile``."""
    program = found()
    assert program is not None, "no browser; ask found() first"
    # numbers above those that the browser wants for itself
    ours_read, theirs_write = (_high(fd) for fd in os.pipe())
    theirs_read, ours_write = (_high(fd) for fd in os.pipe())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as fresh:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _WIRE, str(theirs_read), str(theirs_write)),
                *(program, *_FLAGS, f"--user-data-dir={profile or fresh}", "about:blank"),
            ],
            pass_fds=(theirs_read, theirs_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_read)
        os.close(theirs_write)
        try:
            pipe = _Pipe(ours_write, ours_read)
            yield Page(pipe, (width, height))
        finally:
            os.close(ours_write)  # without its pipe the browser ends by itself
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_read)


def _high(fd: int) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved
