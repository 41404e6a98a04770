"""The tables of docs/security.md: each line has a test, and each test that it names is there."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import exposure
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLES: dict[str, Any] = yaml.safe_load((ROOT / "docs/security.yml").read_text())
NAMED = {
    *(row["test"] for row in TABLES["sockets"]),
    *TABLES["routes"].values(),
    *(unit["test"] for unit in TABLES["units"].values()),
}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_each_test_that_is_named_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("unit", TABLES["units"])
def test_each_unit_is_measured_by_the_test_that_says_so(unit: str) -> None:
    file, _, function = TABLES["units"][unit]["test"].partition("::")
    text = (ROOT / file).read_text()
    stem = unit.partition(".")[0].partition("@")[0]
    # mlflow-backup's are put together; a model's has its own name, and the test its own limit.
    words = (stem, stem.removeprefix("mlflow-backup"), "systemd-analyze security")
    [body] = [
        ast.unparse(node)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert any(word in body for word in words if word), body


def test_a_family_of_routes_without_a_test_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `make docs`, and by the test that the documents are current."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    generate = importlib.import_module("generate")
    families = {**generate.families(), "A new one": ["member"]}
    monkeypatch.setattr(generate, "families", lambda: families)
    with pytest.raises(ValueError, match=r"differ: A new one\."):
        generate.security()


# What listens on a host of scenario 2, in the words of ss; and a line more.
LISTENS = [
    {"socket": "tcp any:22", "unit": "ssh.service"},
    {"socket": "tcp loopback:5000", "unit": "mlflow.service"},
]
NEW = {"socket": "tcp any:8080", "unit": "mlflow.service"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (LISTENS, []),
        ([*LISTENS, NEW], ["tcp any:8080 of mlflow.service listens, and is not in the table"]),
        (
            LISTENS[:1],
            ["tcp loopback:5000 of mlflow.service is in the table, and does not listen"],
        ),
        (
            [LISTENS[0], {**LISTENS[1], "unit": "other.service"}],
            [
                "tcp loopback:5000 of other.service listens, and is not in the table",
                "tcp loopback:5000 of mlflow.service is in the table, and does not listen",
            ],
        ),
    ],
)
def test_what_is_not_in_the_table_is_told(found: list[dict[str, str]], said: list[str]) -> None:
    assert exposure.surprises("scenario2", lambda _: json.dumps(found)) == said


@pytest.mark.parametrize(("level", "told"), [("1.2", {}), ("1.3", {"mlflow.service": 1.3})])
def test_a_unit_that_is_too_open_is_told(level: str, told: dict[str, float]) -> None:
    words = f"→ Overall exposure level for mlflow.service: {level} OK 🙂"
    assert exposure.exposed(lambda _: words, "mlflow.service") == told


def test_a_socket_is_told_with_its_unit(tmp_path: Path) -> None:
    """As `ss` and systemd say it, on this machine's own processes."""
    program = tmp_path / "ss"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        "-Hlntup) cat <<'END'\n"
        'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("systemd",pid=1,fd=3))\n'
        'tcp LISTEN 0 128 [::1]:5000 [::]:* users:(("x",pid=1,fd=3))\n'
        "tcp LISTEN 0 128 *:9100 *:*\nEND\n;;\n"
        "*) echo 'u_str LISTEN 0 1 /run/systemd/x 1 * 0'; echo 'u_str LISTEN 0 1 /run/y 1 * 0'\n"
        "esac\n"
    )
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho '[::]:22 ssh.socket ssh.service'\n")
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=exposure.SOCKETS, capture_output=True, text=True,
        check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        {"socket": "tcp any:22", "unit": "ssh.socket"},
        {"socket": "tcp any:9100", "unit": ""},
        {"socket": "tcp loopback:5000", "unit": ""},
        {"socket": "unix /run/y", "unit": ""},
    ]
