"""Hosts that an earlier release has set up are taken over by one run, and nothing of it is left.

Before all others of its hosts: until here they have programs without a package, no record of
what is installed, and units that name both.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hosts import ROOT, Lab, ended
from versions import UNGUARDED

SQLITE, POSTGRESQL = "team.example.com", "mlflow.example.com"
SCENARIOS = {SQLITE: "scenario2.yml", POSTGRESQL: "scenario3.yml"}
USE = {
    SQLITE: ("grace", "export MLFLOW_TRACKING_URI=http://localhost:5000"),
    POSTGRESQL: ("ada", ". /opt/mlflow/client/activate"),
}
BACKUP: dict[str, Any] = {
    "mlflow_backup_target": "/srv/earlier",
    "mlflow_backup_on_calendar": "daily",
}
GC = {"mlflow_cleaning_older_than": "30d"}
OPERATIONS: dict[str, dict[str, Any]] = {
    "backup.yml": BACKUP, "clean.yml": GC, "monitoring.yml": {},
}  # fmt: skip

# Units and commands that name a program by its file, as earlier releases did; and what such are.
LEFT = r"""
cd /etc/systemd/system
grep -lE '/usr/local/lib/mlflow(-model)?/[a-z_]+[.]py' *.service /usr/local/sbin/* || true
find /usr/local/sbin -name 'mlflow-*' -type l
ls -d /usr/local/lib/mlflow/*.py /usr/local/lib/mlflow/guard_routes.txt 2>/dev/null || true
"""


def played(lab: Lab, name: str, host: str, code: int = 0, **extra: Any) -> str:
    said = lab.play(
        name, "--limit", host, "--skip-tags", "smoke", code=code, mlflow_version=UNGUARDED, **extra
    )
    return " ".join(said.split())


def by_earlier(lab: Lab, name: str, host: str, **extra: Any) -> None:
    """Run a playbook of the earlier release, with its roles."""
    command = lab.command(name, "--limit", host, mlflow_version=UNGUARDED, **extra)
    earlier = str(ROOT / ".lab/earlier")
    ended(["env", f"ANSIBLE_ROLES_PATH={earlier}/roles",
           *(word.replace(str(ROOT / "playbooks"), f"{earlier}/playbooks") for word in command)],
          0)  # fmt: skip


def starts(lab: Lab, host: str) -> int:
    """Return how often the service was started since the host booted."""
    said = lab.root(host, "journalctl -b -u mlflow -o cat | grep -c '^Started mlflow' || true")
    return int(said)


each_host = pytest.mark.parametrize("host", SCENARIOS)


@each_host
def test_what_an_earlier_release_has_made_is_there(lab: Lab, host: str) -> None:
    """Somebody has logged, and it is backed up, cleaned and watched; for the tests below."""
    person, find_server = USE[host]
    lab.program(host, "populate", f"{find_server}; /opt/mlflow/current/bin/python", person)
    for name, extra in OPERATIONS.items() if host == SQLITE else ():
        by_earlier(lab, name, host, **extra)
    assert "serve.py" in lab.root(host, "cat /etc/systemd/system/mlflow.service")
    lab.root(
        host, "test ! -e /etc/mlflow/installation.json; test -e /usr/local/lib/mlflow/guard.py"
    )


@pytest.mark.parametrize("host", [SQLITE])
def test_a_switch_that_it_has_not_finished_is_its_own(lab: Lab, host: str) -> None:
    """Only its own programs know how far it came."""
    lab.root(host, "mkdir -p /var/lib/mlflow-switch; echo {} > /var/lib/mlflow-switch/plan.json; "
                   "touch /usr/local/lib/mlflow/switch.py")  # fmt: skip
    try:
        said = played(lab, "scenario2.yml", host, code=2)
        assert "which an earlier release of these playbooks began, is not finished on" in said
        assert "systemctl start mlflow-switch.service" in said and "Nothing was changed" in said
        said = played(lab, "backup.yml", host, code=2, **BACKUP)
        assert "no MLflow service of this release" in said and "scenario2.yml" in said
    finally:
        lab.root(host, "rm /var/lib/mlflow-switch/plan.json /usr/local/lib/mlflow/switch.py")


@each_host
def test_one_run_takes_it_over(lab: Lab, host: str) -> None:
    """The service starts once, with all that was logged; the next run changes nothing."""
    before = starts(lab, host)
    played(lab, SCENARIOS[host], host)
    assert starts(lab, host) == before + 1
    found = json.loads(lab.program(host, "snapshot", "sudo python3"))
    assert len(found["runs"]) == 5
    assert len(found["models"]["iris-classifier"]["versions"]) == 4
    person, find_server = USE[host]
    python = f"{find_server}; /opt/mlflow/current/bin/python"
    assert json.loads(lab.program(host, "predict", python, person).splitlines()[-1])
    record = json.loads(lab.root(host, "cat /etc/mlflow/installation.json"))
    assert record["scenario"] == SCENARIOS[host].removesuffix(".yml")
    assert "changed=0" in played(lab, SCENARIOS[host], host)
    assert starts(lab, host) == before + 1


@pytest.mark.parametrize("host", [SQLITE])
def test_operations_are_taken_over(lab: Lab, host: str) -> None:
    """Each has one timer, and works; of the earlier programs nothing is left."""
    [old] = lab.root(host, "ls /srv/earlier | grep Z$").split()
    for name, extra in OPERATIONS.items():
        played(lab, name, host, **extra)
    assert lab.root(host, LEFT) == ""
    timers = lab.root(host, "systemctl list-timers --all --plain --no-legend 'mlflow*'")
    assert timers.count("mlflow-backup.timer") == timers.count("mlflow-gc.timer") == 1
    sets = lab.root(host, "ls /srv/earlier | grep Z$").split()
    assert sets[0] == old and len(sets) == 2
    lab.root(host, "mlflow-backup verify; mlflow-gc --dry-run; systemctl start mlflow-health")
    # What the earlier one backed up, restored by this one.
    said = played(
        lab, "restore.yml", host, mlflow_backup_set=old, mlflow_restore_confirm=host, **BACKUP
    )
    assert f"{host} has what {host} had" in said
    found = json.loads(lab.program(host, "snapshot", "sudo python3"))
    assert len(found["runs"]) == 5


@pytest.mark.parametrize("host", [POSTGRESQL])
def test_nothing_of_the_earlier_release_is_left(lab: Lab, host: str) -> None:
    assert lab.root(host, LEFT) == ""
