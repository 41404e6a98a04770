"""The program as it is called: in a process of its own, with a Python that has no MLflow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow_smoke.report import Kind

SMOKE = Path(__file__).parents[1]


def call(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_smoke", *arguments],
        env={**os.environ, "PYTHONPATH": str(SMOKE)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def report(stdout: str) -> dict[str, Any]:
    """The one JSON document, on one line."""
    (line,) = stdout.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that activates this Python."""
    (tmp_path / "activate").write_text(f"echo hello\nexport PATH='{sys.prefix}/bin':\"$PATH\"\n")
    return tmp_path


def test_help_lists_every_exit_code() -> None:
    code, stdout, _ = call("--help")
    assert code == 0
    for kind in Kind:
        assert f"{kind.exit_code:<4} {kind.meaning}" in stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["scenario1"],
        ["scenario3"],
        ["scenario3", "dance"],
        ["scenario9"],
        [
            "scenario2",
            "log",
            "--tracking-uri",
            "localhost:5000",
            "--database",
            "x",
            "--artifacts",
            "y",
        ],
    ],
)
def test_wrong_command_line(arguments: list[str]) -> None:
    code, stdout, stderr = call(*arguments)
    assert code == 2 and not stdout and "usage:" in stderr


def test_no_such_project(tmp_path: Path) -> None:
    code, stdout, stderr = call("scenario1", "--project", tmp_path / "nowhere")
    assert code == report(stdout)["exit_code"] == Kind.ENVIRONMENT.exit_code
    assert "nowhere/activate" in stderr and "Traceback" not in stderr


def test_activation_that_fails(project: Path) -> None:
    (project / "activate").write_text("echo it is broken >&2; exit 7\n")
    code, stdout, _ = call("scenario1", "--project", project)
    assert code == Kind.ENVIRONMENT.exit_code
    assert "it is broken" in report(stdout)["failure"]


def test_environment_without_mlflow(project: Path) -> None:
    code, stdout, stderr = call("scenario1", "--project", project, "--without-ui")
    checks = {check["name"]: check for check in report(stdout)["checks"]}
    assert code == Kind.ENVIRONMENT.exit_code
    assert checks["python after `source activate`"]["passed"]
    assert "No module named 'mlflow'" in checks["import mlflow"]["seen"]
    assert checks["what was here before"]["passed"]
    assert stderr.count("FAIL") == 1 and sorted(project.iterdir()) == [project / "activate"]


def test_packed_program_has_the_same_exit_codes(tmp_path: Path) -> None:
    packed = subprocess.run(
        [sys.executable, SMOKE / "pack.py"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run([sys.executable, packed, "scenario1", "--project", tmp_path])
    assert done.returncode == Kind.ENVIRONMENT.exit_code
