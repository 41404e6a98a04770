"""The registered models of an MLflow server, and their files, as its API gives them.

No model is loaded here. The running service and the one of a drill are asked in the same way.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..client import NotReady, Server

CANDIDATES = 5  # models that a drill tries
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def newest(server: Server, most: int) -> list[dict[str, str]]:
    """Return the newest version of each registered model, the newest of all first."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        query = urlencode({"max_results": 100, "page_token": token})
        answer = json.loads(
            server.request("Models", "GET", f"{API}/registered-models/search?{query}")
        )
        for model in answer.get("registered_models", []):
            if versions := model.get("latest_versions"):
                found.append(max(versions, key=lambda version: int(version["version"])))
        if not (token := answer.get("next_page_token", "")):
            break
    found.sort(key=lambda version: version["creation_timestamp"], reverse=True)
    return [{"name": one["name"], "version": one["version"]} for one in found[:most]]


def bring(server: Server, name: str, version: str, directory: Path) -> None:
    """Bring a version's files into a directory. Raises NotReady."""
    query = urlencode({"name": name, "version": version})
    answer = server.request("Model", "GET", f"{API}/model-versions/get-download-uri?{query}")
    place = urlsplit(json.loads(answer)["artifact_uri"])
    if place.scheme != "mlflow-artifacts":
        raise NotReady(f"Its files are at {place.geturl()}, not with the server.")
    directory.mkdir(parents=True)
    bring_files(server, place.path.strip("/"), directory)


def bring_files(server: Server, path: str, directory: Path) -> None:
    """Bring all files below a path of the artifacts."""
    query = urlencode({"path": path})
    listed = json.loads(server.request("Files", "GET", f"{ARTIFACTS}?{query}"))
    for entry in listed.get("files", []):
        name = Path(entry["path"]).name
        if name in ("", ".."):
            raise NotReady(f"The server names a file {entry['path']!r}.")
        if entry["is_dir"]:
            (directory / name).mkdir()
            bring_files(server, f"{path}/{name}", directory / name)
        else:
            with (directory / name).open("wb") as file:
                server.request("File", "GET", f"{ARTIFACTS}/{quote(f'{path}/{name}')}", into=file)
