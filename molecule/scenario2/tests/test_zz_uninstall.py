"""Starting afresh, and the end. The last of a host's tests: afterwards there is nothing to test."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import ROOT, ended
from traces import traces
from versions import GUARDED

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

# The first release, whose hosts this one takes over.
FIRST = "1740e46"

# Nobody but root comes there. The service leads to it from its own directory, in which it also has
# what Python would take for modules.
LINK = "cd /var/lib/mlflow; mv artifacts_local .kept; ln -s /root/canary artifacts_local"
CANARY = f"""
install -d -m 0700 /root/canary
date > /root/canary/file
chmod 0640 /root/canary/file
runuser -u mlflow -- sh -euc '{LINK}
for name in json sqlite3 uvicorn; do echo "raise SystemExit(1)" > $name.py; done'
"""
# All that the service and a person have is such a link, and the service is down: whoever opens its
# files next is one of ours.
EVERYTHING = """
systemctl stop mlflow
runuser -u mlflow -- sh -euc 'cd /var/lib/mlflow; mkdir .all
for name in *; do mv $name .all; ln -s /root/canary $name; done
ln -sfn /root/canary/file mlflow.db'
"""
BACK = """
runuser -u mlflow -- sh -euc 'cd /var/lib/mlflow; rm *; mv .all/* .; rmdir .all'
systemctl reset-failed mlflow
systemctl start mlflow
"""
PERSONS = "mkdir led && ln -s /root/canary led/mlruns && ln -s /root/canary .mlflow"
# What each playbook answers then; an empty text where it only installs what runs with the service's
# own rights, later.
ANSWERS = {
    "scenario2.yml": "leads through the link /var/lib/mlflow/artifacts_local -> /root/canary",
    "doctor.yml": "services, file modes, database, connection",
    "smoke.yml": "expected readable; seen: OperationalError: unable to open database file",
    "upgrade.yml": "only what works is switched",
    "backup.yml": "artifacts_local in it is a link of user",
    "restore_drill.yml": "has no backups of its own yet",
    "restore.yml": "There is no backup in",
    "rotate.yml": "the database must answer: [Errno 13] Permission denied",
    "reset.yml": "Permission denied: '/var/lib/mlflow/mlflow.db'",
    "promote.yml": "mlruns in it is a link of user",
    "deploy_model.yml": "does not answer",
    "clean.yml": "",
    "monitoring.yml": "",
}
EXTRA = {
    "upgrade.yml": {"mlflow_version": GUARDED[-1]},
    "restore.yml": {"mlflow_restore_confirm": HOSTS},
    "rotate.yml": {"rotate": "secret_keys"},
    "reset.yml": {"mlflow_server_reset_confirm": HOSTS},
    "promote.yml": {"mlflow_promote_source": "/home/ada/led/mlruns"},
    "deploy_model.yml": {"mlflow_model_serving_model": "models:/served-iris@champion"},
}
LOOK = "stat -c '%n %U %G %a %Z' /root/canary /root/canary/*; cat /root/canary/*"

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


def test_what_was_logged_outlives_the_installation(
    ssh: Run, root: Run, play: Run, playbook: Callable[..., list[str]], tmp_path: Path
) -> None:
    run_id = str(python(ssh))
    root("cp -al /opt/mlflow /root/kept")  # so that it need not be installed again
    play("uninstall.yml", user="ops")
    gone = (
        "find /etc/systemd /usr/local/*bin /usr/local/lib /opt -iname '*mlflow*'; pgrep -u mlflow"
    )
    assert root(f"{gone} || true") == ""
    assert "changed=0" in play("uninstall.yml", user="ops")

    # By the first release, and then taken over by this one: one run, one restart.
    root("mv /root/kept /opt/mlflow")
    archive = subprocess.run(
        ["git", "archive", FIRST], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-C", tmp_path, "-x"], input=archive.stdout, check=True)
    command = playbook("scenario2.yml", "--skip-tags", "smoke", user="ops")
    command[1] = f"{tmp_path}/playbooks/scenario2.yml"
    ended(["env", f"--chdir={tmp_path}", *command], 0)
    assert python(ssh, run_id) == [{"accuracy": 0.5}, "content"]
    later_id = str(python(ssh))
    since = root("sleep 1; date +%s").strip()
    assert "changed=0" not in play("scenario2.yml", "--skip-tags", "smoke", user="ops")
    said = root(f"journalctl -u mlflow --no-pager -o cat --since=@{since}")
    assert said.count("Started mlflow.service") == 1
    for each in (run_id, later_id):
        assert python(ssh, each) == [{"accuracy": 0.5}, "content"]
    assert "changed=0" in play("scenario2.yml", "--skip-tags", "smoke", user="ops")


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


def test_no_link_leads_root_astray(
    ssh: Run, root: Run, play: Run, refused: Run, playbook: Callable[..., list[str]]
) -> None:
    """What the service and a person may write leads to a directory of root's, or to a module."""
    root(CANARY)
    before = root(LOOK)
    ssh("echo 'raise SystemExit(\"taken\")' > json.py", user="ops")
    try:
        error = refused("scenario2.yml", "--skip-tags", "smoke", user="ops")
        assert "leads through the link /var/lib/mlflow/artifacts_local -> /root/canary" in error
        assert "set mlflow_server_artifacts_destination" in error
        assert "Nothing was changed" in error
        said = " ".join(ended(playbook("doctor.yml", user="ops"), 2).split())
        assert "artifacts_local is a link to /root/canary, which mlflow made" in said
        root("cd /var/lib/mlflow; rm artifacts_local; mv .kept artifacts_local")
        root("systemctl restart mlflow; mlflow-ready")
        assert "changed=0" in play("scenario2.yml", "--skip-tags", "smoke", user="ops")
    finally:
        ssh("rm json.py", user="ops")
    assert root(LOOK) == before


def test_no_playbook_is_led_astray(ssh: Run, root: Run, playbook: Callable[..., list[str]]) -> None:
    """Each ends with a sentence, and what the links lead to is as it was."""
    before = root(EVERYTHING + LOOK)
    ssh(PERSONS)
    try:
        for name, answer in ANSWERS.items():
            code = 2 if answer else 0
            said = ended(playbook(name, user="ops", **EXTRA.get(name, {})), code)
            assert "Traceback" not in said, said
            assert answer in " ".join(said.split()), said
        root("for unit in mlflow-gc mlflow-health; do systemctl start $unit || true; done")
    finally:
        ssh("rm -r led .mlflow")
        after = root(LOOK)
        root(BACK)
    assert after == before


def test_with_its_name_no_trace_is_left(
    root: Run, play: Run, refused: Run, variables: dict[str, str]
) -> None:
    error = refused("uninstall.yml", user="ops", mlflow_uninstall_data="yes")
    assert f"this installation is called {variables['name']}" in error
    before = root(f"runuser -u mlflow -- sh -euc '{LINK}'; {LOOK}")
    sets = "/var/backups/mlflow"
    root(f"mkdir -p {sets}/20260101T000000Z/artifacts; touch {sets}/key.json {sets}/of-somebody")
    for changed in (True, False):
        said = play("uninstall.yml", user="ops", mlflow_uninstall_data=variables["name"])
        assert ("changed=0" in said) != changed
    assert root(f"{LOOK}; rm -r /root/canary") == before
    assert root(f"ls {sets}; rm -r {sets}") == "of-somebody\n"
    assert traces(root, variables["name"].partition("-")[0]) == set()
