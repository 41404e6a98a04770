"""Starting afresh, and the end. The last of a host's tests: afterwards there is nothing to test."""

import json
from collections.abc import Callable

import pytest
from traces import traces

# Which has had all that there is: backups, monitoring, a served model.
HOSTS = "debian13-server"

Run = Callable[..., str]

# Logs a run with a file, or, with its number, reads it.
PROGRAM = """
import json, sys
import mlflow
if not sys.argv[1:]:
    with mlflow.start_run() as run:
        mlflow.log_metric("accuracy", 0.5)
        mlflow.log_text("content", "note.txt")
    print(json.dumps(run.info.run_id))
else:
    run = mlflow.get_run(sys.argv[1])
    note = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt")
    print(json.dumps([run.data.metrics, note]))
"""

SEARCH = """-d '{"experiment_ids": ["0"]}' http://localhost:5000/api/2.0/mlflow/runs/search"""


@pytest.fixture
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root."""

    def run(script: str) -> str:
        return ssh(f"sudo sh -eu <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT\n", user="ops")

    return run


def python(ssh: Run, *arguments: str) -> object:
    """Run the program as a data scientist on the host, and return what it prints."""
    python = "MLFLOW_TRACKING_URI=http://localhost:5000 /opt/mlflow/current/bin/python"
    said = ssh(f"{python} - {' '.join(arguments)} 2>/dev/null <<'END'\n{PROGRAM}\nEND\n")
    return json.loads(said.splitlines()[-1])


def test_what_was_logged_outlives_the_installation(ssh: Run, root: Run, play: Run) -> None:
    run_id = str(python(ssh))
    root("cp -al /opt/mlflow /root/kept")  # so that it need not be installed again
    play("uninstall.yml", user="ops")
    gone = (
        "find /etc/systemd /usr/local/*bin /usr/local/lib /opt -iname '*mlflow*'; pgrep -u mlflow"
    )
    assert root(f"{gone} || true") == ""
    assert "changed=0" in play("uninstall.yml", user="ops")

    root("mv /root/kept /opt/mlflow")
    play("scenario2.yml", "--skip-tags", "smoke", user="ops")
    assert python(ssh, run_id) == [{"accuracy": 0.5}, "content"]


def test_reset_waits_for_the_name(
    ssh: Run, root: Run, play: Run, refused: Run, variables: dict[str, str]
) -> None:
    look = "find /var/lib/mlflow/artifacts_local -type f | sort; ls -i /var/lib/mlflow/mlflow.db"
    before = root(look)
    error = refused("reset.yml", user="ops")
    for words in (" runs", " files", "artifacts_local", "Nothing was changed",
                  f"mlflow_server_reset_confirm={variables['name']}"):  # fmt: skip
        assert words in error
    assert root(look) == before

    play("reset.yml", user="ops", mlflow_server_reset_confirm=variables["name"])
    assert root("find /var/lib/mlflow/artifacts_local -mindepth 1") == ""
    assert "runs" not in ssh(f"curl -s -H 'Content-Type: application/json' {SEARCH}")
    assert "is ready" in root("mlflow-ready")
    assert "changed=0" in play("reset.yml", user="ops")


def test_with_its_name_no_trace_is_left(
    root: Run, play: Run, refused: Run, variables: dict[str, str]
) -> None:
    error = refused("uninstall.yml", user="ops", mlflow_uninstall_data="yes")
    assert f"this installation is called {variables['name']}" in error
    for changed in (True, False):
        said = play("uninstall.yml", user="ops", mlflow_uninstall_data=variables["name"])
        assert ("changed=0" in said) != changed
    assert traces(root, variables["name"].partition("-")[0]) == set()
