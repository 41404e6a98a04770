"""Bring the users and permissions of an MLflow server to what is asked.

All is looked at, and refused where it cannot be, before the first change. Nothing that is said or
returned holds a password.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from . import client

TIMEOUT = 60.0  # seconds; each password costs the server a slow hash
API = "/api/2.0/mlflow"
API3 = "/api/3.0/mlflow"
KINDS = {"experiments": "experiment", "models": "registered_model"}


class Refused(Exception):
    """The wish cannot be fulfilled; the message is a sentence for people."""


class Unreachable(Refused):
    """The server does not answer at all."""


def connection(asked: dict[str, Any]) -> http.client.HTTPConnection:
    """Return a connection to the server, which connects at its first request."""
    if asked["server"].startswith("unix:"):
        return client.UnixConnection(asked["server"][len("unix:") :], TIMEOUT)
    url = urlsplit(asked["server"])
    name = url.hostname or ""
    if url.scheme == "http":
        return client.PlainConnection(name, url.port, timeout=TIMEOUT)
    context = ssl.create_default_context(cafile=asked["ca"] or None)
    if asked["certificate"]:
        context.load_cert_chain(asked["certificate"], asked["key"])
    return http.client.HTTPSConnection(name, url.port, timeout=TIMEOUT, context=context)


class Server:
    """The server's API, asked as the administrator."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked, self.at = asked, asked["server"]
        unix = self.at.startswith("unix:")
        self.host = asked["host"] or ("localhost" if unix else urlsplit(self.at).netloc)
        try:
            password = Path(asked["admin_password_file"]).read_text(encoding="utf-8")
            self.admin = (asked["admin"], password.rstrip("\n"))
        except OSError as error:
            raise Unreachable(
                f"The administrator's password, {asked['admin_password_file']} "
                f"(mlflow_users_admin_password_file), cannot be read: {error.strerror}."
            ) from error
        try:
            self.connection = connection(asked)
        except OSError as error:
            raise Unreachable(f"mlflow_users_tls_*: the files cannot be used: {error}.") from error

    def send(
        self, method: str, path: str, body: dict[str, Any], login: tuple[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Send one request as somebody; return the status, and the answer if it is JSON."""
        query = "?" + urlencode(body) if method == "GET" and body else ""
        headers = {
            "Host": self.host,
            "Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode(),
            "Content-Type": "application/json",
        }
        content = b"" if method == "GET" else json.dumps(body).encode()
        try:
            self.connection.request(method, path + query, content, headers)
            answer = self.connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Unreachable(
                f"The server at {self.at} (mlflow_users_server) does not answer: {error}. "
                "Does it run? systemctl status mlflow"
            ) from error
        try:
            words = json.loads(said or b"{}")
        except ValueError:
            words = {"message": " ".join(said.decode(errors="replace").split())[:200]}
        return answer.status, words if isinstance(words, dict) else {}

    def call(
        self, method: str, path: str, absent: bool = False, **body: Any
    ) -> dict[str, Any] | None:
        """Return the answer to the administrator, or with `absent` None for what does not exist."""
        status, words = self.send(method, path, body, self.admin)
        if status == http.client.OK:
            return words
        if absent and words.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return None
        if status == http.client.UNAUTHORIZED:
            raise Refused(
                f"The server refuses the password of {self.admin[0]} that is in "
                f"{self.asked['admin_password_file']}; it was changed elsewhere. Write the present "
                "one into that file, or where the inventory sets it, and run the playbook again."
            )
        if status == http.client.FORBIDDEN and "Host" in words.get("message", ""):
            raise Refused(
                f"The server does not allow the name {self.host}: "
                "set mlflow_users_host to one that it does."
            )
        if status == http.client.FORBIDDEN:
            raise Refused(f"{self.admin[0]} (mlflow_users_admin_user) is no administrator there.")
        if status == http.client.NOT_FOUND and "error_code" not in words:
            raise Refused(
                f"The server at {self.at} has no {path}. Users need authentication to be on, and "
                "permissions and mlflow_users_remove_others need MLflow 3."
            )
        raise Refused(f"{method} {path}: HTTP {status} from {self.at}: {words.get('message', '')}")

    def user(self, name: str) -> dict[str, Any] | None:
        """Return a user, or None."""
        answer = self.call("GET", f"{API}/users/get", absent=True, username=name)
        return answer["user"] if answer else None

    def accepts(self, name: str, password: str) -> bool:
        """Tell whether a user may log in with a password."""
        status, _ = self.send(
            "POST", f"{API}/experiments/search", {"max_results": 1}, (name, password)
        )
        if status == http.client.TOO_MANY_REQUESTS:
            raise Refused(
                f"The server does not check the password of {name} now: it has had too many wrong "
                "ones from here in the last minute. Run the playbook again in a minute."
            )
        return status != http.client.UNAUTHORIZED

    def resource(self, kind: str, name: str) -> str:
        """Return what a permission calls an experiment or model, or '' if there is none."""
        if kind == "models":
            answer = self.call("GET", f"{API}/registered-models/get", absent=True, name=name)
            return name if answer else ""
        answer = self.call(
            "GET", f"{API}/experiments/get-by-name", absent=True, experiment_name=name
        )
        return str(answer["experiment"]["experiment_id"]) if answer else ""

    def granted(self, name: str) -> dict[tuple[str, str], str]:
        """Return what a user herself was granted; roles that she shares are none of it."""
        answer = self.call("GET", f"{API3}/users/permissions/list", username=name) or {}
        return {
            (row["resource_type"], row["resource_pattern"]): row["permission"]
            for row in answer["permissions"]
            if row["role_name"].startswith("__user_")
        }


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        actions: what was done, or would be, in words.
        error: a sentence, or ''.
    """

    actions: list[str] = field(default_factory=list)
    error: str = ""


class Plan:
    """What there is to do, in words and as requests, in order."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, list[tuple[str, str, dict[str, Any]]]]] = []

    def add(self, words: str, *requests: tuple[str, str, dict[str, Any]]) -> None:
        """Add a step: what it does, and the requests that do it."""
        self.steps.append((words, list(requests)))


def plan_permissions(server: Server, plan: Plan, user: dict[str, Any], exists: bool) -> list[str]:
    """Add what a user's permissions lack; return the names of what does not exist."""
    name, missing = user["name"], []
    wanted = user.get("permissions") or {}
    granted = server.granted(name) if exists and any(wanted.values()) else {}
    for kind, resource_type in KINDS.items():
        for wish in wanted.get(kind) or []:
            resource = server.resource(kind, wish["name"])
            if not resource:
                missing.append(f"{kind[:-1]} {wish['name']!r} ({name})")
                continue
            has, wants = granted.get((resource_type, resource), "default"), wish["permission"]
            if has == wants:
                continue
            target = {"username": name, "resource_type": resource_type, "resource_id": resource}
            path, requests = f"{API3}/users/permissions", []
            if has != "default":  # a grant is made, never changed
                requests.append(("POST", f"{path}/revoke", target))
            if wants != "default":
                requests.append(("POST", f"{path}/grant", {**target, "permission": wants}))
            plan.add(f"{name}: {wants} on {kind[:-1]} {wish['name']!r}, was {has}", *requests)
    return missing


def make_plan(server: Server, asked: dict[str, Any]) -> Plan:
    """Look at all there is, and return what differs from what is asked. Raises Refused."""
    plan, missing = Plan(), list[str]()
    server.call("GET", f"{API}/users/get", username=asked["admin"])
    for user in asked["users"]:
        name, there = user["name"], server.user(user["name"])
        if user.get("state", "present") == "absent":
            if there:
                plan.add(f"remove {name}", ("DELETE", f"{API}/users/delete", {"username": name}))
            continue
        login = {"username": name, "password": str(user["password"])}
        if not there:
            plan.add(f"make {name}", ("POST", f"{API}/users/create", login))
        elif asked["passwords"] == "always" and not server.accepts(name, login["password"]):
            plan.add(f"{name}: the password", ("PATCH", f"{API}/users/update-password", login))
        admin = bool(user.get("admin", False))
        if admin != bool(there and there["is_admin"]):
            plan.add(
                f"{name}: {'' if admin else 'no '}administrator",
                ("PATCH", f"{API}/users/update-admin", {"username": name, "is_admin": admin}),
            )
        missing += plan_permissions(server, plan, user, there is not None)
    if missing:
        raise Refused(
            f"mlflow_users gives permissions on what does not exist: {', '.join(missing)}. Make it "
            "first, which any user may, or leave the permission out until then."
        )
    if asked["remove_others"]:
        keep = {asked["admin"], *(user["name"] for user in asked["users"])}
        everybody = (server.call("GET", f"{API}/users/list") or {})["users"]
        for name in sorted({user["username"] for user in everybody} - keep):
            plan.add(f"remove {name}", ("DELETE", f"{API}/users/delete", {"username": name}))
    return plan


def see_to(asked: dict[str, Any]) -> Outcome:
    """Compare, and change what differs.

    Args:
        asked: `server` (unix:<socket>, http:// or https://), `host` (the Host header, '' for the
            server's), `certificate`, `key` and `ca` (files, or ''), `admin` and
            `admin_password_file`, `users` (as the role mlflow_users has them), `passwords`
            (on_create, always), `remove_others`, and `check` (change nothing).
    """
    outcome = Outcome()
    try:
        server = Server(asked)
        with contextlib.closing(server.connection):
            for words, requests in make_plan(server, asked).steps:
                for method, path, body in requests if not asked["check"] else []:
                    server.call(method, path, **body)
                outcome.actions.append(words)
    except Unreachable as reason:
        if asked["check"]:  # the server may be what this very playbook would make
            names = [user["name"] for user in asked["users"] if user.get("state") != "absent"]
            outcome.actions = [
                f"make {name}, if the server that is not there yet has none" for name in names
            ]
        else:
            outcome.error = str(reason)
    except Refused as reason:
        outcome.error = str(reason)
    return outcome
