"""A server that answers as MLflow with basic-auth does, as far as scenario 3 asks it."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mlflow_smoke.names import EXPERIMENT, TAG

ADMINISTRATOR = ("boss", "boss's: pässword")


class Fake:
    """What the server knows; experiments and models with the token that they are tagged with."""

    def __init__(self) -> None:
        self.users = {ADMINISTRATOR[0]: ADMINISTRATOR[1], "ada": "ada's"}
        self.experiments = {"Default": "", "hers": ""}
        self.models = {"hers": ""}
        self.runs = {"hers": ["beef"]}
        self.artifacts = {"hers/beef/a", f"{EXPERIMENT}0/feed/a"}
        self.versions: list[str] = []  # of any model: the run that each comes from
        self.foreign: set[str] = set()  # runs of others
        self.owners = {"hers": "ada"}
        self.hidden: set[str] = set()  # what the administrator alone may read
        self.two = False  # whether it is MLflow 2
        self.address = ""

    def may(self, who: str, path: str, body: dict[str, Any]) -> bool:
        """Whether somebody may do something: the administrator all, others what is theirs."""
        thing = body.get("experiment_id") or body.get("name") or place_of(path).partition("/")[0]
        if "run_id" in body:
            (thing,) = [place for place, runs in self.runs.items() if body["run_id"] in runs]
        anybody = path.endswith(("/create", "/search")) and "users" not in path
        return who == ADMINISTRATOR[0] or anybody or self.owners.get(thing) == who

    def answer(self, who: str, path: str, query: str, body: dict[str, Any]) -> Any:
        """The answer to one request of somebody who may make it, or an HTTP status."""
        hidden = self.hidden if who != ADMINISTRATOR[0] else set()
        token = (body.get("filter") or query).split("'")[-2:-1]
        tag = body.get("tags", [{"key": TAG, "value": ""}])[0]["value"]
        name = body.get("username") or body.get("name") or query
        number: str = body.get("experiment_id", "")
        match path.split("/", 1)[1]:
            case "users/list" if self.two:
                return 404
            case "users/list":
                return {"users": [{"username": user} for user in self.users]}
            case "users/get" if name not in self.users:
                return 404
            case "users/get":
                rows = [{"experiment_id": thing, "name": thing}
                        for thing, who in self.owners.items() if who == name]  # fmt: skip
                return {
                    "user": {"username": name, "is_admin": name == ADMINISTRATOR[0]}
                    | ({"experiment_permissions": rows} if self.two else {})
                }
            case "users/update-password" if name not in self.users:
                return 404
            case "users/update-password":
                self.users[name] = body["password"]
            case "experiments/permissions/delete":
                self.owners.pop(body["experiment_id"])
            case "users/delete" if self.two and name in self.owners.values():
                return 500
            case "users/create":
                self.users[name] = body["password"]
            case "users/delete":
                return {} if self.users.pop(name, None) else 404
            case "experiments/create" | "registered-models/create":
                there = self.experiments if "experiments" in path else self.models
                if name in there:
                    return 400
                there[name] = tag
            case "experiments/search" if "filter" not in body:
                numbers = ["0" if name == "Default" else name for name in self.experiments]
                return {"experiments": [{"experiment_id": number} for number in numbers]}
            case "experiments/search":
                tagged = {name: tag for name, tag in self.experiments.items()
                         if name not in hidden
                         and ([tag] == token or (tag and token == ["%"]))}  # fmt: skip
                return {
                    "experiments": [
                        {"experiment_id": name, "tags": [{"key": TAG, "value": tag}]}
                        for name, tag in tagged.items()
                    ]
                }
            case "registered-models/search" if "tags" not in query:
                return {"registered_models": [{"name": name} for name in self.models]}
            case "registered-models/search":
                found = [name for name, tag in self.models.items() if [tag] == token]
                return {
                    "registered_models": [{"name": name} for name in found if name not in hidden]
                }
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
                # As S3 does, by MLflow before 3.17.
                self.artifacts = {
                    key for key in self.artifacts if not key.startswith(place_of(path))
                }
            case "experiments/update":
                assert token or body["new_name"] != number
            case _:
                return 404
        return {}


def place_of(path: str) -> str:
    """The artifacts that a request is about."""
    return path.partition("/artifacts/")[2]


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
                told = json.loads(body or b"{}")
                if fake.may(name, path, told):
                    found = fake.answer(name, path, query, told)
            status = found if isinstance(found, int) else 200
            text = {400: b"RESOURCE_ALREADY_EXISTS"}.get(status, json.dumps(found).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = handle_request

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield fake
        finally:
            server.shutdown()
