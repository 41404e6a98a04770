"""Print all that a tracking server tells of what was logged, as JSON: the same before and after.

Run on the server's host as root, by its own Python; the server's programs ask as the administrator.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

sys.path.insert(0, "/usr/local/lib/mlflow/current")
sys.dont_write_bytecode = True
from mlflow_ops.client import Server  # noqa: E402 of the host
from mlflow_ops.settings import read_settings  # noqa: E402

server = Server(read_settings())
API = "/api/2.0/mlflow"


def post(path: str, /, **body: Any) -> dict[str, Any]:
    said = server.request(path, "POST", f"{API}/{path}", json.dumps(body).encode())
    return dict(json.loads(said))


def get(path: str, /, **query: Any) -> dict[str, Any]:
    return dict(json.loads(server.request(path, "GET", f"{API}/{path}?{urlencode(query)}")))


def chosen(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row.get(name) for name in names}


def pairs(rows: list[dict[str, Any]]) -> list[list[str]]:
    return sorted([row["key"], str(row["value"])] for row in rows)


def files(run: str, path: str = "") -> Iterator[str]:
    for file in get("artifacts/list", run_id=run, path=path).get("files", []):
        if file["is_dir"]:
            yield from files(run, file["path"])
        else:
            yield file["path"]


def artifacts(info: dict[str, Any]) -> dict[str, str]:
    """The digest of each artifact of a run, fetched through the server."""
    root = info["artifact_uri"].partition("mlflow-artifacts:")[2].lstrip("/")
    place = f"{API.removesuffix('/mlflow')}/mlflow-artifacts/artifacts"
    return {
        path: hashlib.sha256(
            server.request(path, "GET", f"{place}/{quote(f'{root}/{path}')}")
        ).hexdigest()
        for path in files(info["run_id"])
    }


def history(run: str, key: str) -> list[list[Any]]:
    found = get("metrics/get-history", run_id=run, metric_key=key)["metrics"]
    return sorted([metric["step"], metric["value"], metric["timestamp"]] for metric in found)


def run_of(run: dict[str, Any]) -> dict[str, Any]:
    info, data = run["info"], run["data"]
    names = ["experiment_id", "run_name", "status", "start_time", "end_time", "lifecycle_stage"]
    return {
        **chosen(info, *names, "artifact_uri", "user_id"),
        "params": pairs(data.get("params", [])),
        "tags": pairs(data.get("tags", [])),
        "metrics": {
            metric["key"]: history(info["run_id"], metric["key"])
            for metric in data.get("metrics", [])
        },
        "artifacts": artifacts(info) if info["lifecycle_stage"] == "active" else {},
    }


def model_of(model: dict[str, Any]) -> dict[str, Any]:
    found = get("model-versions/search", filter=f"name='{model['name']}'")
    return {
        "tags": pairs(model.get("tags", [])),
        "aliases": model.get("aliases"),
        "versions": {
            version["version"]: chosen(version, "run_id", "source", "status", "current_stage")
            for version in found.get("model_versions", [])
        },
    }


experiments = post("experiments/search", max_results=1000, view_type="ALL")["experiments"]
ids = [experiment["experiment_id"] for experiment in experiments]
runs = post("runs/search", experiment_ids=ids, run_view_type="ALL", max_results=1000)
models = get("registered-models/search", max_results=100).get("registered_models", [])
seen = {
    "experiments": {
        one["experiment_id"]: {
            **chosen(one, "name", "artifact_location", "lifecycle_stage"),
            "tags": pairs(one.get("tags", [])),
        }
        for one in experiments
    },
    "runs": {run["info"]["run_id"]: run_of(run) for run in runs.get("runs", [])},
    "models": {model["name"]: model_of(model) for model in models},
}
print(json.dumps(seen, sort_keys=True))
