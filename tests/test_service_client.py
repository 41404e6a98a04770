"""The server of a host, asked as its administrator: whom her password is told."""

import contextlib
import http.client
import http.server
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_ops import client
from mlflow_ops.client import NotReady, Server
from mlflow_ops.host import ports


class Listener(http.server.BaseHTTPRequestHandler):
    """Answers all, and keeps what it was told."""

    heard: list[str]

    def do_GET(self) -> None:
        """Answer with nothing."""
        self.heard.append(self.headers.get("Authorization", ""))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody listens."""
    Listener.heard = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(port: int, tmp_path: Path) -> dict[str, str]:
    """Those of a server with users at that port."""
    ini = tmp_path / "basic_auth.ini"
    ini.write_text("[mlflow]\nadmin_username = admin\nadmin_password =\n")
    (tmp_path / "admin_password").write_text("her password\n")
    return {"MLFLOW_PORT": str(port), "MLFLOW_AUTH_CONFIG_PATH": str(ini)}


def test_the_service_is_told(settings: dict[str, str]) -> None:
    Server(settings).request("Step", "GET", "/")
    assert [words.partition(" ")[0] for words in Listener.heard] == ["Basic"]


@pytest.mark.parametrize("who", ["person", "another service"])
def test_who_took_its_port_is_told_nothing(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """While it is down, its port is anybody's."""
    assert ports.users("127.0.0.1", int(settings["MLFLOW_PORT"])) == {os.geteuid()}
    if who == "person":  # and root asks
        monkeypatch.setattr("mlflow_ops.client.os.geteuid", lambda: 0)
        monkeypatch.setattr(ports, "users", lambda *_: {1000})
    else:  # the service's user asks
        monkeypatch.setattr("mlflow_ops.client.os.geteuid", lambda: 64242)
    with pytest.raises(NotReady, match=r"Step: .* not the service's"):
        Server(settings).request("Step", "GET", "/")
    # The doctor asks in its own words.
    server = Server(settings)
    with pytest.raises(ConnectionError):
        server.connection().request("GET", "/", headers=server.headers)
    assert Listener.heard == []


@pytest.mark.parametrize(("family", "at"), [
    (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"),  # noqa: S104
    (socket.AF_INET6, "::"), (socket.AF_INET6, "::ffff:127.0.0.1"),
])  # fmt: skip
def test_who_listens_where(family: socket.AddressFamily, at: str) -> None:
    with socket.socket(family) as listening:
        try:
            listening.bind((at, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listening.listen()
        port = listening.getsockname()[1]
        here = {"127.0.0.1": at != "::1", "::1": at in ("::1", "::", "0.0.0.0")}  # noqa: S104
        for asked, there in here.items():
            assert ports.users(asked, port) == ({os.geteuid()} if there else set()), asked
        assert ports.users("127.0.0.1", port + 1) == set()


def test_a_client_of_another_kind_tells_no_person(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's, say: a program that root starts has no other connection to this host."""
    monkeypatch.setattr(socket.socket, "connect", socket.socket.connect)  # back again, at the end
    client.only_to_service()
    url = f"http://127.0.0.1:{settings['MLFLOW_PORT']}/"
    own = os.geteuid()
    refused = pytest.raises(http.client.HTTPException, match="not the service's, but of user")
    for user, told in ((999, True), (1000, False), (own, own == 0)):
        monkeypatch.setattr(ports, "users", lambda *_, user=user: {user})
        Listener.heard.clear()
        with contextlib.nullcontext() if told else refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url).close()
        assert bool(Listener.heard) == told, user


def test_who_has_no_password_asks_anybody(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_ops.client.os.geteuid", lambda: 64242)
    Server({"MLFLOW_PORT": settings["MLFLOW_PORT"]}).request("Step", "GET", "/")
    assert Listener.heard == [""]


def test_what_it_answers_is_text_of_one_line(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads it at a terminal."""

    def refuse(handler: Listener) -> None:
        handler.send_response(500)
        handler.end_headers()
        handler.wfile.write("no\x1b]0;title\x07\u009b2J way\r\nat all: ü".encode())

    monkeypatch.setattr(Listener, "do_GET", refuse)
    with pytest.raises(NotReady) as error:
        Server(settings).request("Step", "GET", "/")
    assert str(error.value).endswith(": no?]0;title??2J way at all: ü")
