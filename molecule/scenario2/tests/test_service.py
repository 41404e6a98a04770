"""The service as the playbook leaves it: closed, hardened, and back by itself."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exposure import exposed, surprises

# The other Debian runs the same service in the scenario `upgrade`.
HOSTS = "debian12-server"

Run = Callable[..., str]
ROOT = Path(__file__).resolve().parents[3]
SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.fixture
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root."""

    def run(script: str) -> str:
        return ssh(f"sudo sh -eu <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT\n", user="ops")

    return run


@pytest.fixture
def restored(root: Run) -> Iterator[None]:
    """Leave the service running, whatever a test does to it."""
    yield
    root("systemctl reset-failed mlflow; systemctl start mlflow")


def started(root: Run) -> str:
    """Return the identity of the service's present start."""
    return root("systemctl show --property InvocationID --value mlflow").strip()


def until_ready(root: Run) -> None:
    root(
        "for i in $(seq 60); do systemctl is-active -q mlflow && break; sleep 1; done; mlflow-ready"
    )


def test_exposure(root: Run) -> None:
    assert exposed(root, "mlflow.service") == {}


def test_nothing_else_listens(root: Run) -> None:
    """A new socket fails until it is in docs/security.yml, with who may use it."""
    assert surprises("scenario2", root) == []


def test_listens_on_loopback_only(root: Run) -> None:
    lines = root("ss -Hltn 'sport = :5000'").splitlines()
    assert lines
    assert all(line.split()[3] == "127.0.0.1:5000" for line in lines)


def test_modes(root: Run) -> None:
    said = root(
        "stat -c '%a %U:%G %n' /etc/mlflow /etc/mlflow/* /var/lib/mlflow /var/lib/mlflow/mlflow.db"
    )
    modes = {line.split()[2]: line.split()[:2] for line in said.splitlines()}
    assert modes == {
        "/etc/mlflow": ["750", "root:mlflow"],
        "/etc/mlflow/installation.json": ["644", "root:root"],
        "/etc/mlflow/secrets.env": ["600", "root:root"],
        "/etc/mlflow/server.env": ["640", "root:mlflow"],
        "/var/lib/mlflow": ["750", "mlflow:mlflow"],
        "/var/lib/mlflow/mlflow.db": ["600", "mlflow:mlflow"],
    }


def test_secrets_are_nowhere_else(root: Run) -> None:
    values = [line.split("=", 1)[1] for line in root("grep = /etc/mlflow/secrets.env").splitlines()]
    assert len(values) == 3
    seen = root(
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; systemctl cat mlflow; systemctl show mlflow; "
        "journalctl --no-pager -o cat; find /etc /run /usr/local /opt/mlflow -maxdepth 3 -type f "
        "-perm -o=r -size -100k -exec cat {} + | tr -cd '[:print:]\\n'"
    )
    assert "mlflow" in seen
    assert not [value for value in values if value in seen]


def test_wal_and_schema(root: Run) -> None:
    assert root("head -c 20 /var/lib/mlflow/mlflow.db | od -An -tu1 -j18 -N2").split() == ["2", "2"]
    assert root("systemctl show mlflow -p ExecStartPre").count(" reconcile ") == 1


def test_uvloop_and_httptools_are_used(root: Run) -> None:
    maps = root(
        "for pid in $(cat /sys/fs/cgroup/system.slice/mlflow.service/cgroup.procs "
        "/sys/fs/cgroup/systemd/system.slice/mlflow.service/cgroup.procs 2>/dev/null "
        "|| pgrep -u mlflow); do cat /proc/$pid/maps; done"
    )
    assert "/uvloop/" in maps
    assert "/httptools/" in maps


def test_idle_memory(root: Run) -> None:
    """A worker has 260 MB, and there is no idle `mlflow server` in front of it."""
    rss = [int(line) for line in root("ps -u mlflow -o rss=").split()]
    assert sum(rss) / 1024 < 700
    assert " serve" not in root("ps -u mlflow -o args=")


@pytest.mark.parametrize(
    "name, status",
    [
        ("localhost:5000", "200"),
        ("LocalHost:5000", "200"),
        ("127.0.0.1", "200"),
        ("localhost:8080", "200"),  # the near end of an SSH tunnel
        ("evil.example", "403"),
        ("evil.example:5000", "403"),
    ],
)
def test_host_header(ssh: Run, name: str, status: str) -> None:
    command = (
        f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: {name}' -d '{{\"max_results\": 1}}'"
    )
    said = ssh(f"{command} -H 'Content-Type: application/json' http://127.0.0.1:5000{SEARCH}")
    assert said == status


def test_back_after_a_crash(root: Run, restored: None) -> None:
    before = started(root)
    root("kill -9 $(systemctl show --property MainPID --value mlflow)")
    time.sleep(3)
    until_ready(root)
    assert started(root) != before


def test_stop_is_quick_and_complete(root: Run, restored: None) -> None:
    began = time.monotonic()
    root("systemctl stop mlflow")
    assert time.monotonic() - began < 10
    assert root("pgrep -u mlflow || echo none").strip() == "none"
    assert root("systemctl show --property Result --value mlflow").strip() == "success"


def test_ready_turns_red_without_its_database(root: Run) -> None:
    # With its log: a server that opens a database without one, or a log without one, may lose data.
    root("cd /var/lib/mlflow; install -d away; mv mlflow.db* away")
    try:
        said = root("mlflow-ready 2>&1 && echo READY || true")
    finally:
        root("systemctl stop mlflow; cd /var/lib/mlflow; rm -f mlflow.db*; mv away/* .; rmdir away")
        root("systemctl start mlflow")
    assert "mlflow.db is gone" in said
    assert "READY" not in said
    root("mlflow-ready")


def test_ready_leaves_nothing(root: Run) -> None:
    root("mlflow-ready")
    assert "readiness" not in root("ls -A /var/lib/mlflow/artifacts_local")


# Reads the revision in the database, or sets it to the argument.
REVISION = """/opt/mlflow/current/bin/python - %s <<'END_OF_PYTHON'
import sqlite3, sys
database = sqlite3.connect("/var/lib/mlflow/mlflow.db")
if sys.argv[1:]:
    database.execute("UPDATE alembic_version SET version_num = ?", sys.argv[1:])
    database.commit()
print(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])
END_OF_PYTHON
"""


def test_another_schema_is_never_migrated(root: Run, restored: None) -> None:
    """A database of another MLflow: no start, no migration, and a sentence that says so."""
    known = root(REVISION % "").strip()
    root("systemctl stop mlflow\n" + REVISION % "cafe00000000")
    try:
        said = root(
            "systemctl start mlflow 2>&1 && echo STARTED; systemctl stop mlflow; "
            "journalctl -u mlflow -n 20 --no-pager -o cat"
        )
        assert root(REVISION % "").strip() == "cafe00000000"
    finally:
        root(REVISION % known)
    assert "STARTED" not in said
    assert "has schema cafe00000000" in said
    assert "Nothing was migrated" in said


def test_start_at_boot(root: Run, variables: dict[str, str]) -> None:
    lab = ROOT / "molecule/lab/lab.py"
    subprocess.run([sys.executable, lab, "restart", "scenario2", variables["name"]], check=True)
    closed = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((variables["ansible_host"], 22), timeout=5):
                break
        except OSError:
            assert time.monotonic() < closed, "no sshd after the boot"
            time.sleep(0.5)
    until_ready(root)


def test_second_run_restarts_nothing_and_a_changed_variable_once(root: Run, play: Run) -> None:
    before = started(root)
    assert "changed=0" in play("scenario2.yml", "--skip-tags", "smoke", user="ops")
    assert started(root) == before

    since = root("date +%s").strip()
    play("scenario2.yml", "--skip-tags", "smoke", user="ops",
         mlflow_server_port="5010")  # fmt: skip
    said = root(f"journalctl -u mlflow --no-pager -o cat --since=@{since}")
    assert said.count("Started mlflow.service") == 1

    # Somebody tries much: that is no crash. (systemd refuses more than five starts.)
    root("for i in 1 2 3 4 5; do systemctl restart mlflow || true; done")
    play("scenario2.yml", "--skip-tags", "smoke", user="ops")
    until_ready(root)


# By systemd, before anything of ours runs.
REFUSE = """
mkdir /run/systemd/system/mlflow.service.d
printf '[Unit]\\nAssertPathExists=/nowhere\\n' > /run/systemd/system/mlflow.service.d/no.conf
"""


def test_a_start_that_systemd_refuses_is_said_in_its_words(
    root: Run, refused: Run, play: Run
) -> None:
    """The journal has the words of a good start."""
    root(REFUSE)
    try:
        said = refused("scenario2.yml", "--skip-tags", "smoke", user="ops",
                       mlflow_server_port="5010")  # fmt: skip
    finally:
        root("rm -r /run/systemd/system/mlflow.service.d; systemctl daemon-reload")
    assert "Assertion failed" in said and "is ready" not in said
    play("scenario2.yml", "--skip-tags", "smoke", user="ops")
