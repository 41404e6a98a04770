#!/usr/bin/env python3
"""Tell whether the MLflow server of this host really works: database, artifacts, authentication.

MLflow's own /health says OK while its database is down. This asks for an experiment, then puts,
gets and deletes an artifact, as a client does. Exit code 0: ready. 1: not, and one sentence on
stderr says why. Used by the systemd unit (so that `systemctl start` means ready) and by people:
`sudo mlflow-ready`.

Settings come from the environment, as the service has them, or else from its environment file.
Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import http.client
import json
import os
import shlex
import socket
import ssl
import sys
import time
import uuid
from pathlib import Path

ENV_FILE = "/etc/mlflow/server.env"
TIMEOUT = 10.0  # seconds that one request may take


class NotReady(Exception):
    """The server is not ready; the message is a sentence for people."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of a TCP port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.path)


class TLSConnection(http.client.HTTPSConnection):
    """Mutual TLS: the server's own certificate is shown to it, and its name is checked."""

    def __init__(self, host: str, port: int, settings: dict[str, str]) -> None:
        context = ssl.create_default_context(cafile=settings["MLFLOW_LISTEN_TLS_CLIENT_CA"])
        # No more is asked of a team's CA than the server asks: Python 3.13 adds what old ones lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.load_cert_chain(
            settings["MLFLOW_LISTEN_TLS_CERTIFICATE"], settings["MLFLOW_LISTEN_TLS_KEY"]
        )
        super().__init__(host, port, timeout=TIMEOUT, context=context)
        self.context, self.name = context, settings["MLFLOW_LISTEN_TLS_NAME"]

    def connect(self) -> None:
        """Connect to where the server listens, whatever its name is."""
        plain = socket.create_connection((self.host, self.port), TIMEOUT)
        self.sock = self.context.wrap_socket(plain, server_hostname=self.name)


class Server:
    """The server that a service environment describes."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.unix = settings.get("MLFLOW_LISTEN_SOCKET", "")
        self.port = int(settings.get("MLFLOW_PORT", "5000"))
        host = settings.get("MLFLOW_HOST", "127.0.0.1")
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 asked, not bound
        self.database = settings.get("MLFLOW_BACKEND_STORE_URI", "")
        self.headers = {"Host": f"localhost:{self.port}"}
        if auth := settings.get("MLFLOW_AUTH_CONFIG_PATH"):
            self.headers["Authorization"] = "Basic " + administrator(Path(auth))

    @property
    def address(self) -> str:
        """Where the server listens, for people."""
        return self.unix or f"{self.host}:{self.port}"

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of the server's kind. Raises OSError for unusable TLS files."""
        if self.unix:
            return UnixConnection(self.unix)
        if self.settings.get("MLFLOW_LISTEN_TLS_CERTIFICATE"):
            return TLSConnection(self.host, self.port, self.settings)
        return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)

    def request(self, step: str, method: str, path: str, body: bytes = b"") -> bytes:
        """Send one request and return the body of its answer.

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
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"{step}: no answer from {self.address}: {error}.") from error
        finally:
            connection.close()
        if answer.status == http.client.UNAUTHORIZED:
            raise NotReady(
                f"{step}: the server refuses the administrator's password that its "
                "configuration holds; was it changed elsewhere?"
            )
        if answer.status >= http.client.MULTIPLE_CHOICES:
            words = " ".join(content.decode(errors="replace").split())[:300]
            raise NotReady(f"{step}: HTTP {answer.status} from {self.address}: {words}")
        return content

    def check(self) -> None:
        """Go through database and artifacts once. Raises NotReady."""
        if self.database.startswith("sqlite:///"):
            # Open connections go on working on a file that was removed: look for its name.
            file = Path(self.database[len("sqlite:///") :])
            if not file.exists():
                raise NotReady(f"Database: the file {file} is gone.")
        query = json.dumps({"max_results": 1}).encode()
        self.request("Database", "POST", "/api/2.0/mlflow/experiments/search", query)

        name, content = f"readiness-{uuid.uuid4().hex}", os.urandom(64)
        directory = f"/api/2.0/mlflow-artifacts/artifacts/{name}"
        self.request("Put an artifact", "PUT", f"{directory}/probe", content)
        try:
            if self.request("Get an artifact", "GET", f"{directory}/probe") != content:
                raise NotReady("Get an artifact: it is not what was put.")
        finally:
            self.request("Delete an artifact", "DELETE", directory)


def administrator(auth_config: Path) -> str:
    """Return the administrator's credentials from MLflow's basic-auth file, for a header."""
    parser = configparser.ConfigParser()
    parser.read(auth_config)
    section = parser["mlflow"]
    return base64.b64encode(
        f"{section['admin_username']}:{section['admin_password']}".encode()
    ).decode()


def read_settings(env_file: Path) -> dict[str, str]:
    """Return the service's settings: the environment's, or those of the file. Raises NotReady."""
    if "MLFLOW_BACKEND_STORE_URI" in os.environ:
        return dict(os.environ)
    try:
        lines = shlex.split(env_file.read_text(encoding="utf-8"), comments=True)
    except OSError as error:
        raise NotReady(f"Cannot read {env_file}: {error.strerror}. Use sudo?") from error
    return dict(line.split("=", 1) for line in lines)


def server_ended() -> bool:
    """Tell whether the service's main process, which systemd names at a start, is gone already."""
    try:
        os.kill(int(os.environ.get("MAINPID", "0")), 0)
    except ProcessLookupError:
        return True
    return False


def main() -> int:
    """Check until ready or the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description="Tell whether the MLflow server really works.")
    parser.add_argument(
        "--env-file", type=Path, default=Path(ENV_FILE), help="default: %(default)s"
    )
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="go on trying that long"
    )
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.wait
    while True:
        try:
            server = Server(read_settings(arguments.env_file))
            server.check()
        except NotReady as error:
            if time.monotonic() >= deadline or server_ended():
                print(f"mlflow-ready: {error}", file=sys.stderr)
                return 1
            time.sleep(0.2)
        else:
            print(f"MLflow at {server.address} is ready: database and artifacts answer.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
