"""What was deleted long ago goes for good, by a timer; and the journal has a limit."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from deletions import check

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12-server"

Run = Callable[..., str]


@pytest.fixture
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root."""

    def run(script: str) -> str:
        return ssh(f"sudo sh -eu <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT\n", user="ops")

    return run


def person(ssh: Run) -> Callable[[str], Any]:
    """Run a program as a data scientist on the host."""
    python = "MLFLOW_TRACKING_URI=http://localhost:5000 /opt/mlflow/current/bin/python"

    def run(program: str) -> Any:
        said = ssh(f"cat > program.py <<'END'\n{program}\nEND\n{python} program.py 2>said.txt "
                   "|| { cat said.txt; exit 1; }; rm program.py said.txt")  # fmt: skip
        return json.loads(said.splitlines()[-1])

    return run


def test_what_was_deleted_long_ago_goes_and_nothing_else(ssh: Run, root: Run, play: Run) -> None:
    play("clean.yml", user="ops", mlflow_cleaning_older_than="30d",
         mlflow_cleaning_journal_max_size="64M", mlflow_cleaning_journal_max_age="9w")  # fmt: skip
    try:
        assert "active" in root("systemctl is-active mlflow-gc.timer")
        assert "max 64.0M" in root("journalctl -u systemd-journald -o cat | tail -1")
        check(person(ssh), root)
    finally:
        play("clean.yml", user="ops")
    assert root("find /etc -name '*mlflow-gc*' -o -path '*journald.conf.d/mlflow*'") == ""
