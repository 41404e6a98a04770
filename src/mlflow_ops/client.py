"""The MLflow server of this host, asked as its administrator over whatever it listens on.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import os
import shutil
import socket
import ssl
from typing import Any, BinaryIO

from .host import ports
from .settings import authentication

FIRST_PERSON = 1000  # the service's user is a system user: the role refuses others


class NotReady(Exception):
    """The server is not ready; the message is a sentence for people."""


def to_service(connection: socket.socket, asking: int) -> None:
    """Refuse a connection to who took the service's port: while it was down, that was anybody's.

    The service is of the user who asks; or, where root asks, of no person. Raises ConnectionError.
    """
    host, port = connection.getpeername()[:2]
    users = ports.users(host, port)
    if not users or any(user != asking and (asking or user >= FIRST_PERSON) for user in users):
        raise ConnectionError(
            f"it is not the service's, but of user {', '.join(map(str, users)) or '(gone)'}, "
            "who is told no password"
        )


def only_to_service() -> None:
    """Have this process connect to no person's program on this host: for those whom root starts.

    MLflow's client, too, tells a password to whoever has the port.
    """
    connect = socket.socket.connect

    def connected(self: socket.socket, address: Any) -> None:
        connect(self, address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM:
            there = self.getpeername()[0]
            if there == self.getsockname()[0] or ipaddress.ip_address(there).is_loopback:
                try:
                    to_service(self, asking=0)
                except ConnectionError as error:
                    self.close()
                    # For an OSError, `localhost` would be tried at its next address, and that told.
                    raise http.client.HTTPException(str(error)) from error

    socket.socket.connect = connected  # type: ignore[assignment,method-assign]


def one_line(text: str) -> str:
    """Return somebody else's text without what a terminal obeys."""
    words = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of a TCP port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class PlainConnection(http.client.HTTPConnection):
    """HTTP that a password is told over: to the service, and to nobody who took its port."""

    def connect(self) -> None:
        """Connect, and look whom to."""
        super().connect()
        try:
            to_service(self.sock, os.geteuid())
        except ConnectionError:
            self.close()
            raise


class TLSConnection(http.client.HTTPSConnection):
    """Mutual TLS: this host's certificate is shown to the server, whose name is checked."""

    def __init__(self, host: str, port: int, settings: dict[str, str], timeout: float) -> None:
        context = ssl.create_default_context(cafile=settings["MLFLOW_LISTEN_TLS_CLIENT_CA"])
        # No more is asked of a team's CA than the server asks: Python 3.13 adds what old ones lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # A team's own certificate may have both uses.
        own = "_CLIENT" if settings.get("MLFLOW_LISTEN_TLS_CLIENT_CERTIFICATE") else ""
        context.load_cert_chain(
            settings[f"MLFLOW_LISTEN_TLS{own}_CERTIFICATE"], settings[f"MLFLOW_LISTEN_TLS{own}_KEY"]
        )
        super().__init__(host, port, timeout=timeout, context=context)
        self.context, self.name = context, settings["MLFLOW_LISTEN_TLS_NAME"]

    def connect(self) -> None:
        """Connect to where the server listens, whatever its name is."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.context.wrap_socket(plain, server_hostname=self.name)


class Server:
    """The server that a service environment describes.

    Attributes:
        timeout: seconds that one request may take.
    """

    timeout = 10.0

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.unix = settings.get("MLFLOW_LISTEN_SOCKET", "")
        self.port = int(settings.get("MLFLOW_PORT", "5000"))
        host = settings.get("MLFLOW_HOST", "127.0.0.1")
        # `::` is every address of both kinds (serve.py), and IPv4's loopback every host has.
        self.host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 asked, not bound
        self.headers = {"Host": f"localhost:{self.port}"}
        auth = authentication(settings)
        if auth.get("admin_password"):
            login = f"{auth['admin_username']}:{auth['admin_password']}".encode()
            self.headers["Authorization"] = "Basic " + base64.b64encode(login).decode()

    @property
    def address(self) -> str:
        """Where the server listens, for people."""
        return self.unix or f"{self.host}:{self.port}"

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of the server's kind. Raises OSError for unusable TLS files."""
        if self.unix:
            return UnixConnection(self.unix, self.timeout)
        if self.settings.get("MLFLOW_LISTEN_TLS_CERTIFICATE"):
            return TLSConnection(self.host, self.port, self.settings, self.timeout)
        kind = PlainConnection if "Authorization" in self.headers else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=self.timeout)

    def request(
        self, step: str, method: str, path: str, body: bytes = b"", into: BinaryIO | None = None
    ) -> bytes:
        """Send one request and return the body of its answer, or write it into a file.

        Raises NotReady, beginning with `step`, for anything but success.
        """
        try:
            connection = self.connection()
        except OSError as error:
            raise NotReady(
                f"The certificate, its key or the clients' CA: {error}. "
                "Does mlflow.service run? Its key is there while it does."
            ) from error
        kind = "application/json" if body.startswith(b"{") else "application/octet-stream"
        try:
            connection.request(method, path, body, {**self.headers, "Content-Type": kind})
            answer = connection.getresponse()
            if into and answer.status < http.client.MULTIPLE_CHOICES:
                shutil.copyfileobj(answer, into)
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"{step}: no answer from {self.address}: {error}.") from error
        finally:
            connection.close()
        if answer.status == http.client.UNAUTHORIZED and "Authorization" not in self.headers:
            raise NotReady(
                f"{step}: the server wants the administrator's password, which root alone may "
                "read. Use sudo."
            )
        if answer.status == http.client.UNAUTHORIZED:
            raise NotReady(
                f"{step}: the server refuses the administrator's password that its "
                "configuration holds; was it changed elsewhere?"
            )
        if answer.status >= http.client.MULTIPLE_CHOICES:
            words = one_line(content.decode(errors="replace"))[:300]
            raise NotReady(f"{step}: HTTP {answer.status} from {self.address}: {words}")
        return content
