"""The UI's guard: its own pages pass, any other page the user visits does not."""

from __future__ import annotations

import asyncio
import http.client
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project import ui

HOST = "127.0.0.1:3000"
JSON = "application/json"


def scope(
    method: str = "GET", path: str = "/", kind: str = "http", **headers: str
) -> dict[str, Any]:
    """A request as ASGI gives it; ``content_type`` stands for ``content-type``."""
    names = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    made: dict[str, Any] = {
        "type": kind,
        "path": path,
        "headers": [(n.encode(), v.encode()) for n, v in names.items()],
    }
    return made | ({"method": method} if kind == "http" else {})


OWN = {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"}
FOREIGN = {"origin": "http://evil.example", "sec_fetch_site": "cross-site"}

PASSES = [
    pytest.param(scope(accept="text/html"), id="the_page"),
    pytest.param(scope(host="localhost:3000"), id="by_name"),
    pytest.param(scope(host="localhost"), id="without_port"),
    pytest.param(scope(host="[::1]:3000"), id="ipv6"),
    pytest.param(scope(host="[::1]"), id="ipv6_without_port"),
    pytest.param(scope(path="/static/main.js", **OWN), id="its_own_script"),
    pytest.param(scope("POST", "/graphql", content_type=JSON, **OWN), id="its_own_query"),
    pytest.param(
        scope("POST", "/graphql", content_type=f"{JSON}; charset=utf-8"), id="a_script_of_yours"
    ),
    pytest.param(scope(path="/graphql", accept="text/html,*/*"), id="the_playground"),
    pytest.param(scope(kind="websocket", path="/graphql", **OWN), id="its_own_websocket"),
    pytest.param(scope("HEAD"), id="head"),
    pytest.param(scope(sec_fetch_site="cross-site"), id="a_link_from_elsewhere_to_the_page"),
]

REFUSED = [
    pytest.param(scope(host="evil.example"), "foreign Host", id="dns_rebinding"),
    pytest.param(scope(host="evil.example:3000"), "foreign Host", id="dns_rebinding_with_port"),
    pytest.param(scope(host="127.0.0.1.evil.example"), "foreign Host", id="lookalike"),
    pytest.param(scope(host="localhost.evil.example:3000"), "foreign Host", id="lookalike_name"),
    pytest.param(scope(host=""), "foreign Host", id="no_host"),
    pytest.param(
        scope("POST", "/graphql", content_type=JSON, origin="http://evil.example"),
        "foreign Origin",
        id="foreign_post",
    ),
    pytest.param(
        scope("POST", "/graphql", content_type=JSON, origin="http://127.0.0.1:8000"),
        "foreign Origin",
        id="another_port_is_another_origin",
    ),
    pytest.param(
        scope("POST", "/graphql", content_type=JSON, origin="null"),
        "foreign Origin",
        id="sandboxed_frame",
    ),
    pytest.param(
        scope(kind="websocket", path="/graphql", **FOREIGN), "foreign Origin", id="websocket"
    ),
    pytest.param(
        scope(kind="websocket", path="/graphql", sec_fetch_site="cross-site"),
        "cross-site request",
        id="websocket_without_origin",
    ),
    pytest.param(
        scope("POST", "/graphql", content_type=JSON, sec_fetch_site="cross-site"),
        "cross-site request",
        id="cross_site_post",
    ),
    pytest.param(
        scope(path="/graphql", sec_fetch_site="cross-site", accept="text/html"),
        "cross-site request",
        id="cross_site_navigation_to_graphql",
    ),
    pytest.param(
        scope(path="/graphql", sec_fetch_site="same-site"), "cross-site request", id="same_site"
    ),
    pytest.param(
        scope(path="/graphql", accept="image/*"), "GraphQL by GET is off", id="graphql_by_img_tag"
    ),
    pytest.param(scope(path="/graphql/", accept="*/*"), "GraphQL by GET is off", id="with_a_slash"),
    pytest.param(
        scope("POST", "/graphql", content_type="application/x-www-form-urlencoded"),
        "POST needs application/json",
        id="form",
    ),
    pytest.param(
        scope("POST", "/report_asset_materialization/x", content_type="text/plain"),
        "POST needs application/json",
        id="forged_materialization",
    ),
    pytest.param(scope("POST", "/graphql"), "POST needs application/json", id="no_content_type"),
]


@pytest.mark.parametrize("request_scope", PASSES)
def test_the_uis_own_calls_pass(request_scope: dict[str, Any]) -> None:
    assert ui.refusal(request_scope) is None


@pytest.mark.parametrize(("request_scope", "why"), REFUSED)
def test_what_another_page_could_send_is_refused(request_scope: dict[str, Any], why: str) -> None:
    assert ui.refusal(request_scope) == why


async def ask_app(app: Any, *arguments: Any) -> None:
    await app(*arguments)


def drive(request_scope: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """What a guarded app answers, and whether the app itself was reached."""
    sent: list[dict[str, Any]] = []
    reached = []

    async def app(inner: Any, receive: Any, send: Any) -> None:
        reached.append(inner)
        await send({"type": "app.answered"})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(ask_app(ui.guard(app), request_scope, receive, send))
    return sent, bool(reached)


def test_a_request_that_may_pass_reaches_the_app() -> None:
    assert drive(scope()) == ([{"type": "app.answered"}], True)


def test_a_refused_request_is_a_403_that_says_why_and_reaches_nothing() -> None:
    (start, body), reached = drive(scope(host="evil.example"))
    assert (start["type"], start["status"]) == ("http.response.start", 403)
    assert body == {"type": "http.response.body", "body": b"foreign Host"}
    assert not reached


def test_a_refused_websocket_is_closed_and_reaches_nothing() -> None:
    sent, reached = drive(scope(kind="websocket", path="/graphql", **FOREIGN))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert not reached


def test_starting_and_stopping_the_app_is_not_guarded() -> None:
    assert drive({"type": "lifespan"}) == ([{"type": "app.answered"}], True)


def test_the_webserver_still_makes_its_app_where_the_guard_is_put(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dagster_webserver import cli

    start = inspect.getsource(cli.host_dagster_ui_with_workspace_process_context)
    assert f"{ui.APP_FACTORY}(" in start

    async def plain(inner: Any, receive: Any, send: Any) -> None:
        raise AssertionError("reached past the guard")

    made: list[Any] = []
    monkeypatch.setattr(cli, ui.APP_FACTORY, lambda *a, **k: plain)
    monkeypatch.setattr(
        cli, "cli", lambda arguments, **options: made.append(getattr(cli, ui.APP_FACTORY)())
    )
    ui.serve_webserver(["-p", "0"])
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(ask_app(made[0], scope(host="evil.example"), None, send))
    assert sent[0]["status"] == 403


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to a served folder with one file in it."""
    server = ui.serve_reports(tmp_path / "report", 0)
    (tmp_path / "report" / "tiers.csv").write_text("n\n1\n")
    (tmp_path / "secret.txt").write_text("not for the browser")
    assert server.server_address[0] == "127.0.0.1"
    yield http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    server.shutdown()
    server.server_close()


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes]:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_report_is_served(reports: http.client.HTTPConnection) -> None:
    assert ask(reports, "/tiers.csv") == (200, b"n\n1\n")
    assert ask(reports, "/tiers.csv", "HEAD") == (200, b"")
    assert ask(reports, "/gone.csv")[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_report_is_not_served_to_a_foreign_host(
    reports: http.client.HTTPConnection, method: str
) -> None:
    status, body = ask(reports, "/tiers.csv", method, Host="evil.example")
    assert status == 403
    assert b"n\n1" not in body


def test_nothing_beside_the_report_folder_is_served(reports: http.client.HTTPConnection) -> None:
    assert ask(reports, "/../secret.txt")[0] == 404


def test_without_results_the_ui_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "make demo" in err
    assert out == ""
