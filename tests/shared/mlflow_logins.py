"""Ask a guarded MLflow with users as clients do, and say how it checked their passwords: JSON.

For an environment's Python, with the package on PYTHONPATH, in an empty directory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEARCH, HEALTH = "/api/2.0/mlflow/experiments/search", "/health"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/a"  # FastAPI's
RIGHT = "right-password-1"
BODY = b'{"max_results": 1}'


def settings(cache_seconds: str) -> None:
    """Set what the service would have in its environment."""
    here = Path.cwd()
    (here / "artifacts").mkdir()
    (here / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{here}/auth.db\n"
        f"admin_username = admin\nadmin_password = {RIGHT}\n"
        f"auth_cache_ttl_seconds = {cache_seconds}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=str(here / "auth.ini"),
        MLFLOW_AUTH_ADMIN_PASSWORD=RIGHT,
        MLFLOW_FLASK_SERVER_SECRET_KEY=RIGHT,
        MLFLOW_GUARD_APPLICATION="mlflow.server.auth:create_app",
        MLFLOW_GUARD_FAILURES="3",
        MLFLOW_LISTEN_SOCKET="/run/mlflow/mlflow.sock",
        MLFLOW_ARTIFACTS_DESTINATION=str(here / "artifacts"),
        _MLFLOW_SERVER_FILE_STORE=f"sqlite:///{here}/mlflow.db",
        _MLFLOW_SERVER_ARTIFACT_ROOT="mlflow-artifacts:/",
        _MLFLOW_SERVER_ARTIFACT_DESTINATION=str(here / "artifacts"),
        _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
        _MLFLOW_SGI_NAME="uvicorn",
    )


@dataclass
class Client:
    """Asks an application in this process."""

    application: Any

    async def ask(
        self, method: str, path: str, login: str = "", address: str = "192.0.2.1"
    ) -> tuple[int, int]:
        """Return the status, and how much of the request's body was read for it."""
        headers = [(b"host", b"localhost"), (b"x-real-ip", address.encode())]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
        if login:
            words = base64.b64encode(login.encode())
            headers.append((b"authorization", b"Basic " + words))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "headers": headers, "client": None, "server": ("localhost", 5000),
        }  # fmt: skip
        status, read = 0, 0
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal read
            if not read:
                read = len(BODY)
                return {"type": "http.request", "body": BODY, "more_body": False}
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                done.set()

        await self.application(scope, receive, send)
        return status, read


async def main() -> dict[str, Any]:
    """Ask, and return what came of it."""
    from mlflow_ops.server import guard

    client = Client(guard.application())
    hashed: list[str] = []
    users = sys.modules["mlflow.server.auth.sqlalchemy_store"]
    check = users.check_password_hash

    def noted(*arguments: str) -> bool:
        """Note in which kind of thread a password is hashed."""
        hashed.append(threading.current_thread().name.rpartition("_")[0])
        return bool(check(*arguments))

    users.check_password_hash = noted  # type: ignore[attr-defined]
    right, wrong = f"admin:{RIGHT}", "admin:wrong"
    said: dict[str, Any] = {}

    async def asked(*request: str) -> tuple[int, int, list[str]]:
        hashed.clear()
        status, read = await client.ask(*request)
        return status, read, [*hashed]

    for name, request in {
        "nobody": ("POST", SEARCH),
        "nobody, FastAPI": ("PUT", ARTIFACT),
        "nobody, health": ("GET", HEALTH),
        "nobody, a page": ("GET", "/version"),
        "wrong": ("POST", SEARCH, wrong),
        "wrong, FastAPI": ("PUT", ARTIFACT, wrong),
        "wrong, health": ("GET", HEALTH, wrong),
        "too often": ("POST", SEARCH, wrong),
        "too often, right": ("POST", SEARCH, right),
        "right, another address": ("POST", SEARCH, right, "192.0.2.2"),
        "right again": ("POST", SEARCH, right),
        "right, FastAPI": ("PUT", ARTIFACT, right),
    }.items():
        said[name] = await asked(*request)
    return said


if __name__ == "__main__":
    settings(sys.argv[1])
    Path("answer.json").write_text(json.dumps(asyncio.run(main())))
