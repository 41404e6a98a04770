"""A server that answers as MLflow with basic-auth does, as far as scenario 3 asks it."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlflow_smoke.names import TAG

ADMINISTRATOR = ("boss", "boss's: pässword")


class Fake:
    """What the server knows; experiments and models with the token that they are tagged with."""

    def __init__(self) -> None:
        self.users = {ADMINISTRATOR[0]: ADMINISTRATOR[1], "ada": "ada's"}
        self.experiments = {"Default": "", "hers": ""}
        self.models = {"hers": ""}
        self.runs = {"hers": ["beef"]}
        self.artifacts = {"hers"}
        self.versions: list[str] = []  # of any model: the run that each comes from
        self.foreign: set[str] = set()  # runs of others
        self.address = ""

    def answer(self, path: str, query: str, body: dict[str, Any]) -> Any:
        """The answer to one request of the administrator, or an HTTP status."""
        token = (body.get("filter") or query).split("'")[-2:-1]
        tag = body.get("tags", [{"key": TAG, "value": ""}])[0]["value"]
        name = body.get("username") or body.get("name") or query
        number = body.get("experiment_id") or path.rpartition("/")[2]
        match path.split("/", 1)[1]:
            case "users/list":
                return {"users": [{"username": user} for user in self.users]}
            case "users/get" if name not in self.users:
                return 404
            case "users/get":
                return {"user": {"username": name, "is_admin": name == ADMINISTRATOR[0]}}
            case "users/create":
                self.users[name] = body["password"]
            case "users/delete":
                return {} if self.users.pop(name, None) else 404
            case "experiments/create" | "registered-models/create":
                there = self.experiments if "experiments" in path else self.models
                if name in there:
                    return 400
                there[name] = tag
            case "experiments/search":
                found = [name for name, tag in self.experiments.items() if [tag] == token]
                return {"experiments": [{"experiment_id": name} for name in found]}
            case "registered-models/search":
                found = [name for name, tag in self.models.items() if [tag] == token]
                return {"registered_models": [{"name": name} for name in found]}
            case "registered-models/delete":
                del self.models[name]
            case "runs/search":
                runs = self.runs.get(body["experiment_ids"][0], [])
                tags = [{"key": TAG, "value": self.experiments.get(body["experiment_ids"][0])}]
                return {
                    "runs": [
                        {
                            "info": {"run_id": run},
                            "data": {} if run in self.foreign else {"tags": tags},
                        }
                        for run in runs
                    ]
                }
            case "model-versions/search":
                return {
                    "model_versions": [{"version": "1", "run_id": run} for run in self.versions]
                }
            case "experiments/set-experiment-tag":
                self.experiments[number] = body["value"]
            case "registered-models/set-tag":
                self.models[body["name"]] = body["value"]
            case "model-versions/delete":
                self.versions = self.versions[1:]
            case "runs/delete":
                self.runs = {
                    place: [run for run in runs if run != body["run_id"]]
                    for place, runs in self.runs.items()
                }
            case "experiments/delete":
                assert not self.runs.get(number)
                del self.experiments[number]
            case place if place.startswith("artifacts/"):
                self.artifacts -= {number}
            case "experiments/update":
                assert token or body["new_name"] != number
            case _:
                return 404
        return {}


@contextmanager
def serve(fake: Fake) -> Iterator[Fake]:
    """Serves it on a free port, behind passwords."""

    class Handler(BaseHTTPRequestHandler):
        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            login = self.headers.get("Authorization", "").removeprefix("Basic ")
            name, _, password = base64.b64decode(login).decode().partition(":")
            parts = urlsplit(self.path)
            found: Any = 401
            if name and fake.users.get(name) == password:
                query = [*parse_qs(parts.query).values(), [""]][0][0]
                path = parts.path.removeprefix("/api/2.0/")
                found = 403
                if name == ADMINISTRATOR[0] or (path.endswith("/create") and "users" not in path):
                    found = fake.answer(path, query, json.loads(body or b"{}"))
            status = found if isinstance(found, int) else 200
            text = {400: b"RESOURCE_ALREADY_EXISTS"}.get(status, json.dumps(found).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PUT = handle_request

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield fake
        finally:
            server.shutdown()
