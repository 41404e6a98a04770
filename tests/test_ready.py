"""Readiness: what a start wants of the server, and what one that nobody asked for does without."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from records import written

from mlflow_ops.client import NotReady
from mlflow_ops.server import ready


class Server:
    """As much of a server as works.

    Attributes:
        works: the beginnings of the steps that succeed.
    """

    works: tuple[str, ...] = ("Database", "Put", "Get", "Delete")
    address = "here"
    content = b""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def request(self, step: str, method: str, path: str, body: bytes = b"") -> bytes:
        """Answer."""
        if not step.startswith(self.works):
            raise NotReady(f"{step}: no answer.")
        Server.content = body or self.content
        return self.content


@pytest.mark.parametrize(
    ("works", "restarts", "options", "code", "word"),
    [
        (Server.works, "0", ["--artifacts-wait", "0"], 0, "is ready"),
        (("Database",), "0", ["--artifacts-wait", "0"], 1, "Put an artifact: no answer."),
        (("Database",), "1", ["--artifacts-wait", "0"], 0, "has no artifacts: Put an artifact"),
        (("Database",), "1", ["--artifacts-wait", "9"], 1, "Put an artifact: no answer."),
        (("Database",), "1", [], 1, "Put an artifact: no answer."),  # a person asks
        ((), "1", ["--artifacts-wait", "0"], 1, "Database: no answer."),
    ],
)
def test_only_who_is_started_again_does_without_artifacts(
    works: tuple[str, ...], restarts: str, options: list[str], code: int, word: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A start that was asked for may be an upgrade's, or a new key's, and is told."""
    written(monkeypatch, tmp_path)

    def asked(unit: str, *properties: str) -> dict[str, Any]:
        return {"NRestarts": restarts}

    monkeypatch.setattr(ready, "ask", asked)
    monkeypatch.setattr(ready, "Server", Server)
    monkeypatch.setattr(Server, "works", works or ("nothing",))
    monkeypatch.setattr(ready, "read_settings", lambda: {"MLFLOW_BACKEND_STORE_URI": "postgresql:"})
    monkeypatch.setattr(sys, "argv", ["ready", *options])
    try:
        ended, said = ready.main(), capsys.readouterr().out
    except SystemExit as end:
        ended, said = 1, str(end)
    assert ended == code
    assert word in said
