"""MLflow's REST interface as any other program sees it, without MLflow.

The functions ask a server on this machine, without a proxy; the class `Server` asks one anywhere.
"""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

MOST = 50_000  # experiments in one answer; MLflow allows no more
TIMEOUT = 30  # seconds for one answer
OPENER = build_opener(ProxyHandler({}))
FORBIDDEN, NOT_FOUND = 403, 404

__all__ = ["HTTPError", "quote"]


def call(server: str, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
    """Sends one request and decodes its answer.

    Args:
        server: address of the server, `http://localhost:5000`.
        path: after `/api/2.0/`.
        body: sent as JSON, with POST unless `method` says otherwise; a GET without it.
        method: the HTTP method.

    Raises:
        OSError: when nothing answers, or with an HTTP error (`urllib.error.HTTPError`).
    """
    data = None if body is None else json.dumps(body).encode()
    answer = send(server, f"api/2.0/{path}", data, method or ("POST" if data else "GET"))
    return json.loads(answer or b"{}")


def send(server: str, path: str, data: bytes | None = None, method: str = "GET") -> bytes:
    """Sends one request; `call` says how."""
    request = Request(  # noqa: S310 (the address is http or https by its use)
        f"{server}/{path}", data, {"Content-Type": "application/json"}, method=method
    )
    with OPENER.open(request, timeout=TIMEOUT) as answer:
        content: bytes = answer.read()
    return content


def experiments(server: str) -> list[str]:
    """Names of the experiments that a server shows."""
    answer = call(server, "mlflow/experiments/search", {"max_results": MOST})
    return [experiment["name"] for experiment in answer.get("experiments", [])]


@dataclass(frozen=True)
class Server:
    """A server as one user reaches it: with her password, what she trusts, and her proxy."""

    address: str
    username: str
    password: str
    ca: str  # a file of certificates; empty means the machine's own

    def call(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
        """Sends one request and decodes its answer; the function of this name says how."""
        data = None if body is None else json.dumps(body).encode()
        answer = self.send(f"api/2.0/{path}", data, method or ("POST" if data else "GET"))
        return json.loads(answer or b"{}")

    def status(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> int:
        """Sends one request and says how it was answered: the HTTP status."""
        return self.ask(path, body, method)[0]

    def ask(
        self, path: str, body: dict[str, Any] | None = None, method: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Sends one request and returns its HTTP status, and the JSON object in it, if any."""
        try:
            answer = self.call(path, body, method)
        except HTTPError as error:
            return error.code, {}
        except ValueError:  # a file, say
            answer = None
        return 200, answer if isinstance(answer, dict) else {}

    def run(self, run_id: str) -> dict[str, Any]:
        """The status of a run and its metrics, as this user sees them now."""
        found = self.call(f"mlflow/runs/get?run_id={run_id}")["run"]
        metrics = {metric["key"]: metric["value"] for metric in found["data"].get("metrics", [])}
        return {"status": found["info"]["status"], **metrics}

    def send(self, path: str, data: bytes | None = None, method: str = "GET") -> bytes:
        """Sends one request and returns its answer.

        Raises:
            OSError: when nothing answers, or with an HTTP error (`urllib.error.HTTPError`).
        """
        headers = {"Content-Type": "application/json"}
        if self.username:
            login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        request = Request(  # noqa: S310 (the address is http or https by its use)
            f"{self.address}/{path}", data, headers, method=method
        )
        with self.opener.open(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
        return content

    @cached_property
    def opener(self) -> OpenerDirector:
        """What opens connections; proxies are those of the environment."""
        return build_opener(
            HTTPSHandler(context=ssl.create_default_context(cafile=self.ca or None))
        )

    @property
    def port(self) -> int | None:
        """The port that the address names, if it does."""
        return urlsplit(self.address).port

    def redirect(self) -> str:
        """What port 80 of this server does."""
        name = urlsplit(self.address).hostname or ""
        connection = HTTPConnection(name, 80, timeout=TIMEOUT)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            place = answer.getheader("Location", "")
        finally:
            connection.close()
        leads = answer.status in (301, 307, 308) and place.startswith(f"https://{name}")
        return "leads to https" if leads else f"{answer.status} {place}"
