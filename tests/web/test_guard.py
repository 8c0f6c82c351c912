"""Requests that must not pass: other names, other sites, no token, slow and large ones."""

import http.client
import re
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.history.rows import mixed_records
from tests.web.conftest import Running

TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def locked(start: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A server that asks for a token."""
    folder = tmp_path_factory.mktemp("records")
    mixed_records(folder)
    return start(folder, token=TOKEN)


def raw(server: Running, data: bytes, wait_s: float = 20.0) -> bytes:
    """What a server sends back for these bytes until it closes the connection or says nothing more."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_s) as client:
        client.sendall(data)
        got = b""
        try:
            while piece := client.recv(65_536):
                got += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return got


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "192.0.2.1", "",
     "127.0.0.1:99999", "127.0.0.1/x", "[::1", "sensor.example.evil.example"],
)  # fmt: skip
def test_another_host_is_refused(server: Running, host: str) -> None:
    assert server.ask("/healthz", Host=host).status == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8090", "sensor.example"]
)
def test_own_names_are_answered(server: Running, host: str) -> None:
    assert server.ask("/healthz", Host=host).status == 200


def test_two_host_headers_or_none_are_refused(server: Running) -> None:
    two = raw(
        server,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    )
    assert two.split()[1] in (b"400", b"421")
    none = raw(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert none.split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://[x"},
     {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_a_post_from_another_site_is_refused(locked: Running, headers: dict[str, str]) -> None:
    answer = locked.ask("/login", "POST", f"token={TOKEN}".encode(), **headers)
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_nothing_is_changed_by_another_site_wherever_it_asks(locked: Running) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
    document = locked.ask("/openapi.json", **allowed).json
    changes = [
        (method.upper(), re.sub(r"\{[^}]*\}", "1", path))
        for path, methods in document["paths"].items()
        for method in methods
        if method not in ("get", "head", "parameters")
    ]
    assert len(changes) > 5
    for method, path in [*changes, ("POST", "/login"), ("POST", "/logout")]:
        for header in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            answer = locked.ask(path, method, b"{}", **allowed, **header)
            assert (answer.status, path) == (403, path)
            assert b"from another site" in answer.body


@pytest.mark.parametrize(
    ("mode", "dest"),
    [("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")],
)
def test_nothing_becomes_a_part_of_another_site(server: Running, mode: str, dest: str) -> None:
    asked = {"Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
    for path in ("/api/overview", "/history", "/metrics"):
        for site in ("cross-site", "same-site"):
            assert server.ask(path, Sec_Fetch_Site=site, **asked).status == 403
        assert server.ask(path, Sec_Fetch_Site="same-origin", **asked).status == 200


def test_a_link_of_another_site_leads_here(server: Running) -> None:
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert server.ask("/history?by=app", Sec_Fetch_Dest="document", **linked).status == 200


def test_pages_run_nothing_from_elsewhere_and_nothing_inline(server: Running) -> None:
    for path in ("/history", "/flow", "/api", "/nothing"):
        answer = server.ask(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = answer.body.decode()
        assert not re.search(
            r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bstyle=|\son\w+=|javascript:", page
        )
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_without_the_token_only_health_assets_and_the_login_are_seen(locked: Running) -> None:
    assert locked.ask("/healthz").status == locked.ask("/static/app.css").status == 200
    assert locked.ask("/login").status == 200
    for path in ("/api/flows", "/api/flows.csv", "/metrics", "/openapi.json"):
        answer = locked.ask(path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    page = locked.ask("/history?app=zoom")
    assert (page.status, page.headers["location"]) == (303, "/login?next=/history%3Fapp%3Dzoom")
    assert b"signal" not in page.body


def test_the_token_opens_everything(locked: Running) -> None:
    assert locked.ask("/api/flows", Authorization=f"Bearer {TOKEN}").json["total"] == 9
    assert locked.ask("/metrics", Authorization=f"bearer {TOKEN}").status == 200
    assert locked.ask("/api/flows", Authorization=f"Basic {TOKEN}").status == 401


def test_a_session_begins_with_the_token_and_ends_with_log_out(locked: Running) -> None:
    answer = locked.ask("/login?next=/history%3Fapp%3Dzoom", "POST", f"token={TOKEN}".encode())
    assert (answer.status, answer.headers["location"]) == (303, "/history?app=zoom")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    own = cookie.split(";")[0]
    assert TOKEN not in cookie
    assert locked.ask("/api/flows", Cookie=own).status == 200
    assert locked.ask("/logout", "POST", Cookie=own).status == 303
    assert locked.ask("/api/flows", Cookie=own).status == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/%0d%0aX:%201"]
)
def test_the_login_leads_only_to_pages_of_this_server(locked: Running, target: str) -> None:
    answer = locked.ask(f"/login?next={target}", "POST", f"token={TOKEN}".encode())
    assert answer.headers["location"] == "/"


def test_wrong_tokens_are_refused_and_soon_not_looked_at(start: Callable[..., Running]) -> None:
    server = start(token=TOKEN)
    statuses = [server.ask("/login", "POST", b"token=wrong").status for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    assert server.ask("/login", "POST", f"token={TOKEN}".encode()).status == 429
    assert server.ask("/api/status", Authorization=f"Bearer {TOKEN}").status == 401
    if sys.platform != "linux":  # where 127.0.0.2 is no address of this machine
        return
    other = http.client.HTTPConnection("127.0.0.1", server.port, 60, ("127.0.0.2", 0))
    other.request("GET", "/api/status", headers={"Authorization": f"Bearer {TOKEN}"})
    assert other.getresponse().status == 200, "others are not locked out"
    other.close()


@pytest.mark.parametrize(
    "path",
    ["/static/../application.py", "/static/%2e%2e/application.py", "/static/..%2fapplication.py",
     "/static/%2e%2e%2f%2e%2e%2fcli/serve.py", "/static//etc/passwd", "/static/../../../../../../etc/passwd",
     "/static/.%00./x", "/static/"],
)  # fmt: skip
def test_no_path_leads_out_of_the_assets(server: Running, path: str) -> None:
    answer = server.ask(path)
    assert answer.status in (400, 404)
    assert b"import" not in answer.body


def test_a_large_body_is_refused_before_it_is_read(locked: Running) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n"
    assert raw(locked, head).split()[1] == b"413"
    body = b"x" * 5000
    chunked = head.replace(b"Content-Length: 99999999", b"Transfer-Encoding: chunked")
    assert raw(locked, chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)).split()[1] == b"413"


def test_a_head_without_end_is_refused(server: Running) -> None:
    assert raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000).split()[1] == b"400"


def test_clients_that_send_or_read_slowly_are_cut_off(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apptell.web.serving import BoundedProtocol

    monkeypatch.setattr(BoundedProtocol, "head_s", 0.3)
    for begin in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(begin)
            assert client.recv(100) == b"", "the server waits for ever"
    is_cut, lost = threading.Event(), BoundedProtocol.connection_lost

    def noted(protocol: BoundedProtocol, error: Exception | None) -> None:
        lost(protocol, error)
        is_cut.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", noted)
    monkeypatch.setattr(BoundedProtocol, "head_s", 30.0)
    monkeypatch.setattr(BoundedProtocol, "read_s", 0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.port))
        ask = b"GET /static/uPlot.iife.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client.sendall(ask * 200)  # 10 MB of answers that nobody reads
        assert is_cut.wait(60), "the server waits for ever"
        got = 0
        try:
            while piece := client.recv(1 << 20):
                got += len(piece)
        except ConnectionResetError:
            pass
        assert got < 200 * 51_000
    assert server.ask("/healthz").status == 200


def test_a_small_body_cannot_drip_for_long(
    locked: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apptell.web import bodies

    monkeypatch.setattr(bodies, "BODY_S", 0.5)
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", locked.port), timeout=30) as client:
        client.sendall(head)
        client.settimeout(0.05)
        got = b""
        for _ in range(600):  # every piece comes in time
            try:
                client.sendall(b"x")
                got = client.recv(1000)
            except TimeoutError:
                continue
            break
    assert got.startswith(b"HTTP/1.1 408 ")


def test_a_token_file_has_to_be_private_and_long(tmp_path: Path) -> None:
    from apptell.errors import UsageError
    from apptell.web.access_token import read_token

    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert read_token(file, "0.0.0.0") == TOKEN
    assert read_token(None, "127.0.0.1") is None
    with pytest.raises(UsageError, match="can be reached by other machines"):
        read_token(None, "0.0.0.0")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="everyone may read the token"):
        read_token(file, "127.0.0.1")
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(UsageError, match="at least 16 characters"):
        read_token(file, "127.0.0.1")
    with pytest.raises(UsageError, match="No such file"):
        read_token(tmp_path / "none", "127.0.0.1")
