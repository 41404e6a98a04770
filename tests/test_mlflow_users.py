"""The role mlflow_users: what it asks of a server, and what it refuses before it asks."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from refusals import Refusals, refused

from mlflow_ops import users

ADMIN = ("admin", "the-admins-password")


class Fake(ThreadingHTTPServer):
    """As much of MLflow's users and permissions as the role uses, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.users: dict[str, dict[str, Any]] = {
            "admin": {"password": ADMIN[1], "is_admin": True},
            "old": {"password": "an-old-password", "is_admin": False},
        }
        self.grants: dict[tuple[str, str, str], str] = {}
        self.writes: list[str] = []
        self.limited: set[str] = set()  # those with too many wrong passwords


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Fake
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def say(self, status: int, answer: dict[str, Any]) -> None:
        """Answer with JSON."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do(self) -> None:
        """Do what MLflow would."""
        url = urlsplit(self.path)
        action = url.path.split("/mlflow/", 1)[1]
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length) or b"{}") or dict(parse_qsl(url.query))
        name, _, password = (
            base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")
        )
        users, grants = self.server.users, self.server.grants
        if name in self.server.limited:
            return self.say(429, {})
        if users.get(name, {}).get("password") != password:
            return self.say(401, {})
        if action == "experiments/search":
            return self.say(200, {})
        absent = {"error_code": "RESOURCE_DOES_NOT_EXIST"}
        who = sent.get("username", "")
        if self.command != "GET":
            self.server.writes.append(action)
        match action:
            case "users/get":
                known = who in users
                answer = {"user": {"is_admin": users[who]["is_admin"]}} if known else absent
                return self.say(200 if known else 404, answer)
            case "users/list":
                return self.say(200, {"users": [{"username": user} for user in users]})
            case "users/create":
                users[who] = {"password": sent["password"], "is_admin": False}
            case "users/update-password":
                users[who]["password"] = sent["password"]
            case "users/update-admin":
                users[who]["is_admin"] = sent["is_admin"]
            case "users/delete":
                del users[who]
            case "experiments/get-by-name":
                known = sent["experiment_name"] == "churn"
                answer = {"experiment": {"experiment_id": "7"}} if known else absent
                return self.say(200 if known else 404, answer)
            case "users/permissions/list":
                rows = [
                    {"role_name": "__user_2__", "resource_type": kind, "resource_pattern": id_,
                     "permission": permission}
                    for (user, kind, id_), permission in grants.items() if user == who
                ]  # fmt: skip
                rows.append({"role_name": "team", "resource_type": "experiment",
                             "resource_pattern": "7", "permission": "MANAGE"})  # fmt: skip
                return self.say(200, {"permissions": rows})
            case "users/permissions/grant":
                key = (who, sent["resource_type"], sent["resource_id"])
                if key in grants:  # as MLflow does
                    return self.say(400, {"error_code": "RESOURCE_ALREADY_EXISTS"})
                grants[key] = sent["permission"]
            case "users/permissions/revoke":
                del grants[who, sent["resource_type"], sent["resource_id"]]
            case _:
                return self.say(404, {"message": action})
        return self.say(200, {})

    do_GET = do_POST = do_PATCH = do_DELETE = do


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Run the server that there is not."""
    with Fake() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(fake: Fake, tmp_path: Path, *given: dict[str, Any], **asked: Any) -> users.Outcome:
    """See to users as the role does, and return what became of it."""
    secret = tmp_path / "admin_password"
    secret.write_text(asked.pop("admin_password", ADMIN[1]))
    default = {
        "server": f"http://127.0.0.1:{fake.server_address[1]}", "host": "", "certificate": "",
        "key": "", "ca": "", "admin": ADMIN[0], "admin_password_file": str(secret),
        "passwords": "on_create", "remove_others": False, "check": False,
    }  # fmt: skip
    outcome = users.see_to({**default, "users": given, **asked})
    for password in [ADMIN[1], *(str(user.get("password", "?")) for user in given)]:
        assert password not in repr(outcome)
    return outcome


ADA = {"name": "ada", "password": "adas-first-password"}
OPERATOR = {"name": "op", "password": "operators-password", "admin": True}


def test_users_are_made_once(fake: Fake, tmp_path: Path) -> None:
    """Check mode says it, the first run does it, the second finds nothing to do."""
    said = run(fake, tmp_path, ADA, OPERATOR, check=True)
    assert said.actions and not fake.writes
    assert run(fake, tmp_path, ADA, OPERATOR).actions == said.actions
    assert fake.users["op"]["is_admin"] and not fake.users["ada"]["is_admin"]
    again = run(fake, tmp_path, ADA, OPERATOR)
    assert (again.actions, again.error) == ([], "")


def test_a_persons_own_password_stays(fake: Fake, tmp_path: Path) -> None:
    """Unless all are to be taken back, which is not done to those that are as they should be."""
    run(fake, tmp_path, ADA)
    fake.users["ada"]["password"] = "her-own-choice"  # noqa: S105
    assert not run(fake, tmp_path, ADA).actions
    assert run(fake, tmp_path, ADA, passwords="always").actions == ["ada: the password"]
    assert fake.users["ada"]["password"] == ADA["password"]
    assert not run(fake, tmp_path, ADA, passwords="always").actions


def test_a_password_that_is_not_checked_is_not_taken_for_right(fake: Fake, tmp_path: Path) -> None:
    """Nor for wrong: the playbook is to be run again."""
    run(fake, tmp_path, ADA)
    fake.limited = {"ada"}
    outcome = run(fake, tmp_path, ADA, passwords="always")
    assert not outcome.actions
    assert "too many wrong ones" in outcome.error and "again in a minute" in outcome.error


def test_removal(fake: Fake, tmp_path: Path) -> None:
    """By name, or all others; never the administrator."""
    run(fake, tmp_path, ADA)
    gone = {"name": "ada", "state": "absent"}
    assert run(fake, tmp_path, gone).actions == ["remove ada"]
    assert not run(fake, tmp_path, gone).actions
    assert "old" in fake.users
    run(fake, tmp_path, ADA, remove_others=True)
    assert {*fake.users} == {"admin", "ada"}


def test_permissions(fake: Fake, tmp_path: Path) -> None:
    """Granted, changed and taken back; what a shared role grants is not hers."""

    def wish(permission: str, experiment: str = "churn") -> dict[str, Any]:
        grants = {"experiments": [{"name": experiment, "permission": permission}]}
        return {**ADA, "permissions": grants}

    fake.grants["ada", "experiment", "3"] = "MANAGE"  # she made it
    for permission in "EDIT", "READ", "MANAGE":
        assert run(fake, tmp_path, wish(permission)).actions
        assert fake.grants["ada", "experiment", "7"] == permission
        assert not run(fake, tmp_path, wish(permission)).actions
    assert run(fake, tmp_path, wish("default")).actions
    assert fake.grants == {("ada", "experiment", "3"): "MANAGE"}

    fake.writes.clear()
    refused = run(fake, tmp_path, OPERATOR, wish("EDIT", "nowhere"))
    assert "'nowhere' (ada)" in refused.error
    assert not refused.actions and not fake.writes


def test_a_changed_admin_password_is_said(fake: Fake, tmp_path: Path) -> None:
    """The file and the database differ: a sentence names the file."""
    refused = run(fake, tmp_path, ADA, admin_password="another-password")  # noqa: S106
    assert "admin_password" in refused.error and "changed elsewhere" in refused.error
    assert not fake.writes


def test_no_server(fake: Fake, tmp_path: Path) -> None:
    """A sentence; but in check mode the server may be what the playbook would make."""
    socket = f"unix:{tmp_path}/none.sock"
    assert "mlflow_users_server" in run(fake, tmp_path, ADA, server=socket).error
    checked = run(fake, tmp_path, ADA, server=socket, check=True)
    assert checked.actions and not checked.error


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a short password": (
        {"mlflow_users": [{"name": "ada", "password": "canary-shrt"}]}, ["12", "to: ada."],
    ),
    "no password": ({"mlflow_users": [{"name": "ada"}]}, ["12", "to: ada."]),
    "unchanged": (
        {"mlflow_users": [{"name": "ada", "password": "canary-CHANGE-ME"}]}, ["change-me", "ada"],
    ),
    "a name twice": ({"mlflow_users": [ADA, ADA]}, ["twice", "ada."]),
    "the administrator": (
        {"mlflow_users": [{**ADA, "name": "admin"}]}, ["mlflow_users_admin_user", "leave her out"],
    ),
    "a colon": ({"mlflow_users": [{**ADA, "name": "a:b"}]}, ['"a:b"', "colons"]),
    "passwords in the clear": (
        {"mlflow_users_server": "http://mlflow.example.com"}, ["mlflow_users_server", "https://"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    """Return what each bad input was answered with, by an Ansible that says everything."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    return refused(tmp_path_factory.mktemp("bad"), cases, "mlflow_users", "-vvv")


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, refusals: Refusals) -> None:
    """One error names the variable, what is allowed and the file, and no password."""
    variables, words = BAD_INPUT[case]
    for word in [*words, "group_vars", "Nothing was changed"]:
        assert word in refusals.errors[case]
    said = " ".join(refusals.said.split())
    for user in variables.get("mlflow_users", []):
        assert user.get("password", "?") not in said.replace("(?i)", "")
