"""What B may do with A's work follows from the default permission, and from nothing else."""

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import ADMINISTRATOR, Fake, serve
from mlflow_smoke import http, parts
from mlflow_smoke.names import OF_B
from mlflow_smoke.report import CheckFailedError, Kind, Report

from mlflow_ops.host import ports

SOURCE = Path(__file__).resolve().parents[2] / "src"

# MLflow's own table, as its documentation has it: what each value lets one do with others' work.
RIGHTS = {
    "NO_PERMISSIONS": "",
    "READ": "read",
    "USE": "read",
    "EDIT": "read change",
    "MANAGE": "read change delete",
}
NEEDED = {
    "runs/get": "read", "experiments/get": "read", "model-versions/get": "read",
    "artifacts GET": "read", "artifacts PUT": "change", "runs/log-metric": "change",
    "runs/create": "change", "model-versions/set-tag": "change", "model-versions/create": "change",
    "runs/delete": "delete", "model-versions/delete": "delete", "users/create": "administer",
}  # fmt: skip
FACTS = {"token": "0123", "run_id": "cafe", "experiment_id": "7", "model": "m", "model_version": 1}


class Server(http.Server):
    """A server with one default permission, or with a hole in it."""

    permission = ""
    hole = ""

    def ask(
        self, path: str, body: dict[str, Any] | None = None, method: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Answer one request of B's."""
        what = path.partition("?")[0].removeprefix("mlflow/")
        if what.startswith("mlflow-artifacts"):
            what = f"artifacts {method or 'GET'}"
        right = NEEDED[what]
        if right not in RIGHTS[self.permission].split() and what != self.hole:
            return 403, {}
        answers: dict[str, dict[str, Any]] = {
            "runs/create": {"run": {"info": {"run_id": "beef"}}},
            "model-versions/get": {"model_version": {"name": "m", "source": "s", "run_id": "cafe"}},
            "model-versions/create": {"model_version": {"version": "2"}},
        }
        return 200, answers.get(what, {})

    def call(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
        """Answer a search: there is something to be found by those who may read."""
        kind = "experiments" if "experiments" in path else "registered_models"
        found = [{"experiment_id": "7", "name": "m"}] if "read" in RIGHTS[self.permission] else []
        return {kind: found}


def tried(there: str, told: str, hole: str = "") -> Report:
    """Let B try everything on a server with one permission, told of another."""
    server = Server("http://localhost", "smoke-b", "", "")
    object.__setattr__(server, "permission", there)
    object.__setattr__(server, "hole", hole)
    report = Report("scenario3", "here")
    parts.attempts(report, server, {**FACTS, "default_permission": told}, "host", "Look there.")
    return report


@pytest.mark.parametrize("there", RIGHTS)
@pytest.mark.parametrize("told", RIGHTS)
def test_each_value_is_proved_and_no_other_passes_for_it(there: str, told: str) -> None:
    if RIGHTS[there] == RIGHTS[told]:
        assert not tried(there, told).failures
        return
    with pytest.raises(CheckFailedError):
        tried(there, told)


@pytest.mark.parametrize("hole", NEEDED)
@pytest.mark.parametrize("there", RIGHTS)
def test_a_single_hole_is_seen(there: str, hole: str) -> None:
    if NEEDED[hole] in RIGHTS[there].split() or hole == "model-versions/create":
        return
    with pytest.raises(CheckFailedError):
        tried(there, there, hole)


def test_a_login_is_told_to_the_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is down, any account of its host may listen there instead."""
    monkeypatch.setattr(parts, "TOOLS", SOURCE)
    monkeypatch.setattr(socket.socket, "connect", socket.socket.connect)  # back again, at the end
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(ports, "users", lambda *_: {1000})
    with serve(Fake()) as fake:
        report = Report("scenario2", "here")
        options = argparse.Namespace(scenario="scenario2", part="begin", tracking_uri=fake.address)
        with pytest.raises(CheckFailedError):
            parts.begin(options, parts.Known(administrator=ADMINISTRATOR), report)
    assert "not the service's, but of user 1000, who is told no password" in report.failure


def test_every_documented_value_is_known() -> None:
    assert set(parts.MAY) == set(RIGHTS)
    assert OF_B not in FACTS.values()
    assert Kind.PERMISSIONS.exit_code == 10
