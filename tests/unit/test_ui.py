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


PACKET = "packets/0123456789abcdef"
PAGE = f"/{PACKET}/hand_out/reader_a/index.html"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report folder with one file in it, and a packet with its key beside it."""
    tmp_path = tmp_path_factory.mktemp("store")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "tiers.csv").write_text("n\n1\n")
    (tmp_path / "secret.txt").write_text("not for the browser")
    handed = tmp_path / PACKET / "hand_out" / "reader_a"
    handed.mkdir(parents=True)
    (handed / "index.html").write_text("the page")
    (handed / "packet.js").write_text("the rows")
    for name in ("key.parquet", "frame.parquet", "summary.json", "hand_out_not"):
        (tmp_path / PACKET / name).write_text("which row is which")
    (handed / "link.parquet").symlink_to(tmp_path / PACKET / "key.parquet")
    (tmp_path / "packets" / "away").symlink_to(tmp_path)
    (tmp_path / "hand_out").mkdir()
    (tmp_path / "hand_out" / "x.txt").write_text("which row is which")
    return tmp_path


@pytest.fixture(scope="module")
def reports(served: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to both."""
    server = ui.serve_reports(served / "report", 0, served / "packets")
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


def test_what_a_packet_hands_out_is_served(reports: http.client.HTTPConnection) -> None:
    assert ask(reports, PAGE) == (200, b"the page")
    assert ask(reports, f"/{PACKET}/hand_out/reader_a/packet.js") == (200, b"the rows")


@pytest.mark.parametrize(
    "path",
    [
        *(f"/{PACKET}/{name}" for name in ("key.parquet", "frame.parquet", "summary.json")),
        f"/{PACKET}/hand_out/../key.parquet",
        f"/{PACKET}/hand_out/%2e%2e/key.parquet",
        f"/{PACKET}/hand_out/..%2fkey.parquet",
        f"/{PACKET}/hand_out/reader_a/link.parquet",
        f"/{PACKET}/hand_out/reader_a/../../key.parquet",
        f"//{PACKET}//key.parquet",
        f"/tiers.csv/../{PACKET}/key.parquet",
        "/packets/away/hand_out/x.txt",
        "/packets/../packets/../hand_out/x.txt",
        *("/packets", "/packets/", f"/{PACKET}", f"/{PACKET}/", f"/{PACKET}/hand_out"),
        *(f"/{PACKET}/hand_out/", f"/{PACKET}/hand_out/reader_a", f"/{PACKET}/hand_out/reader_a/"),
    ],
)
def test_neither_the_key_nor_a_list_of_a_packet_is_served(
    reports: http.client.HTTPConnection, path: str
) -> None:
    status, body = ask(reports, path)
    assert status == 404
    assert b"which row" not in body
    assert b"key" not in body


def test_packets_are_not_served_where_photographs_stay_out_of_the_ui(served: Path) -> None:
    parts = PAGE.split("/")[2:]
    assert ui.hand_out_file(served / "packets", parts) is not None
    assert ui.hand_out_file(None, parts) is None


FOLLOWED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}


@pytest.mark.parametrize("path", [PAGE, "/tiers.csv"])
def test_another_page_can_link_to_a_file_and_not_embed_it(
    reports: http.client.HTTPConnection, path: str
) -> None:
    assert ask(reports, path, **FOLLOWED)[0] == 200
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"}
    assert ask(reports, path, **own)[0] == 200
    for site in ("cross-site", "same-site"):
        fetched = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        status, body = ask(reports, path, **fetched)
        assert (status, b"the page" in body) == (403, False)


def test_the_links_of_a_packet_are_addresses_that_are_served(
    reports: http.client.HTTPConnection, served: Path
) -> None:
    from dagster_project.defs import show
    from dagster_project.settings import Settings

    settings = Settings(store=served, report_url="")
    links = show.packet_links(served / PACKET, settings)
    assert links["packet (folder)"].value == str(served / PACKET)
    address = str(links["page of reader_a (link)"].value)
    assert ask(reports, address) == (200, b"the page")
    hidden = settings.model_copy(update={"photos_in_ui": False})
    assert set(show.packet_links(served / PACKET, hidden)) == {"packet (folder)"}


def test_without_results_the_ui_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "make demo" in err
    assert out == ""
