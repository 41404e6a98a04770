"""MLflow's REST interface as any other program sees it, without MLflow and without a proxy."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

MOST = 50_000  # experiments in one answer; MLflow allows no more
TIMEOUT = 30  # seconds for one answer
OPENER = build_opener(ProxyHandler({}))


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


def version(server: str) -> str:
    """The version of MLflow that a server says it is."""
    return send(server, "version").decode().strip()


def experiments(server: str) -> list[str]:
    """Names of the experiments that a server shows."""
    answer = call(server, "mlflow/experiments/search", {"max_results": MOST})
    return [experiment["name"] for experiment in answer.get("experiments", [])]


def run(server: str, run_id: str) -> dict[str, Any]:
    """The status of a run and its metrics, as a server shows them now."""
    found = call(server, f"mlflow/runs/get?run_id={run_id}")["run"]
    metrics = {metric["key"]: metric["value"] for metric in found["data"].get("metrics", [])}
    return {"status": found["info"]["status"], **metrics}
