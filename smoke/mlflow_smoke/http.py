"""MLflow's REST interface as any other program sees it, without MLflow and without a proxy."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

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
    request = Request(  # noqa: S310 (the address is http or https by its use)
        f"{server}/api/2.0/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method or ("GET" if body is None else "POST"),
    )
    with OPENER.open(request, timeout=TIMEOUT) as answer:
        return json.loads(answer.read() or b"{}")


def experiments(server: str) -> list[str]:
    """Names of the experiments that a server shows."""
    answer = call(server, "mlflow/experiments/search", {"max_results": 1000})
    return [experiment["name"] for experiment in answer.get("experiments", [])]
