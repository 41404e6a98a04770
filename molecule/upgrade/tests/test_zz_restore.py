"""What was lost comes back from the backup alone, on another host or on one that lost all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hosts import Lab, ended
from versions import DEFAULT

SQLITE, POSTGRESQL, SPARE = "team.example.com", "mlflow.example.com", "spare.example.com"
NEW = {"mlflow_version": DEFAULT}
TARGET = "/srv/backups"
BACKUP = {"mlflow_backup_target": TARGET, "mlflow_backup_on_calendar": ""}


def snapshot(lab: Lab, host: str) -> dict[str, Any]:
    return dict(json.loads(lab.program(host, "snapshot", "sudo python3")))


def played(lab: Lab, name: str, host: str, *arguments: str, code: int = 0, **extra: Any) -> str:
    moved = {"mlflow_backup_move_confirm": host}  # from that of another test
    said = lab.play(name, "--limit", host, *arguments, code=code, **NEW, **BACKUP, **moved, **extra)
    return " ".join(said.split())


# By name, so that the tests of a host follow one another.
on_sqlite = pytest.mark.parametrize("host", [SQLITE])
on_postgresql = pytest.mark.parametrize("host", [POSTGRESQL])


@on_sqlite
def test_a_damaged_backup_is_refused(lab: Lab, host: str) -> None:
    """It is named, and the server and its data are as they were."""
    played(lab, "backup.yml", host)
    known = snapshot(lab, host)
    damaged = f"$(ls -d {TARGET}/2*Z/artifacts | head -1)"
    lab.root(
        host,
        f"cp -a {TARGET} {TARGET}.good; "
        f"find {damaged} -type f -size +0 | head -1 | while read file; do echo x >> $file; done",
    )
    said = played(lab, "restore.yml", host, code=2, mlflow_restore_confirm=host)
    lab.root(host, f"rm -r {TARGET}; mv {TARGET}.good {TARGET}")
    assert "is damaged: of" in said
    assert "/artifacts/" in said
    assert "The service and its data are as they were" in said
    assert snapshot(lab, host) == known


@on_sqlite
def test_nothing_is_overwritten_without_a_word(lab: Lab, host: str) -> None:
    lab.root(host, "rm -rf /var/lib/mlflow-backup/fetched*")
    said = played(lab, "restore.yml", host, code=2)
    assert f"Say -e mlflow_restore_confirm={host} to have it so" in said
    assert "experiments " in said
    assert "as they were" in said
    # Nothing was brought before the question.
    assert lab.root(host, "ls -d /var/lib/mlflow-backup/fetched* || true") == ""


@pytest.fixture
def spare(lab: Lab, tmp_path: Path) -> Path:
    """An inventory in which the empty host is a server of scenario 2, with its variables."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"scenario2": {"hosts": {SPARE: lab.hosts[SPARE]}}}))
    return inventory


# The artifacts are on a disk of their own, with what its file system keeps there. And the service
# leads to root's directory from where a restore places new artifacts.
CANARY = """
cd /var/lib/mlflow; umask 077; systemctl stop mlflow
hers=uid=$(id -u mlflow),gid=$(id -g mlflow)
mount -t tmpfs -o mode=0750,$hers none artifacts_local; mkdir artifacts_local/lost+found
systemctl start mlflow
install -d -m 0700 /root/canary; date > /root/canary/f; cd artifacts_local
runuser -u mlflow -- sh -c 'mkdir .mlflow-aside; ln -s /root/canary .mlflow-aside/new'
"""


@on_sqlite
def test_another_host_takes_over(lab: Lab, host: str, spare: Path, tmp_path: Path) -> None:
    """From the directory of backups, and nothing else of the host that is gone."""
    known = snapshot(lab, host)
    lab.root(host, f"tar -C / -cf /srv/backups.tar {TARGET[1:]}; chmod 644 /srv/backups.tar")
    lab.copy(host, "/srv/backups.tar", tmp_path / "backups.tar")
    lab.root(host, "rm /srv/backups.tar; systemctl stop mlflow; rm -rf /var/lib/mlflow /etc/mlflow")
    for name, arguments in {
        "scenario2.yml": ["--skip-tags", "smoke"],
        "restore.yml": ["--extra-vars", json.dumps(BACKUP)],  # it is empty: no word is needed
    }.items():
        if name == "restore.yml":
            lab.send(SPARE, tmp_path / "backups.tar", "backups.tar")
            lab.root(SPARE, f"tar -C / -xf ~ops/backups.tar; {CANARY}")
        ended(lab.command(name, *arguments, inventory=spare, **NEW), 0)
    after = snapshot(lab, SPARE)
    for kind in ("experiments", "runs"):  # of the smoke
        for key in {*after[kind]} - {*known[kind]}:
            assert after[kind].pop(key)["lifecycle_stage"] == "deleted"
    assert after == known
    canary = lab.root(SPARE, "stat -c '%n %U %G %a' /root/canary /root/canary/*")
    assert canary.splitlines() == ["/root/canary root root 700", "/root/canary/f root root 600"]
    # What root keeps beside the databases is its own.
    kept = lab.root(SPARE, "stat -c '%U %a' /var/lib/mlflow-switch/2*/ /var/lib/mlflow-switch/2*/*")
    assert kept.splitlines() == ["root 711", "mlflow 700", "root 600"]
    shutil.rmtree(tmp_path)


# What a fire leaves of the data, of who may read it, and of the keys to it.
LOSE = """
systemctl stop mlflow
rm -rf /etc/mlflow /var/lib/mlflow
runuser -u postgres -- psql -q -c 'DROP DATABASE mlflow' -c 'DROP DATABASE mlflow_auth'
systemctl stop seaweedfs
rm -rf /var/lib/seaweedfs /etc/seaweedfs
"""


@on_postgresql
def test_a_server_that_lost_everything(lab: Lab, host: str) -> None:
    """PostgreSQL, S3, users and keys: users have the passwords of the backup."""
    played(lab, "backup.yml", host)
    known = snapshot(lab, host)
    lab.root(host, LOSE)
    played(lab, "scenario3.yml", host, "--skip-tags", "smoke")
    assert len(snapshot(lab, host)["runs"]) == 0
    said = played(lab, "restore.yml", host, mlflow_restore_confirm=host)
    assert f"{host} has what {host} had" in said
    after = snapshot(lab, host)
    for kind in ("experiments", "runs"):  # of the smoke
        for key in {*after[kind]} - {*known[kind]}:
            assert after[kind].pop(key)["lifecycle_stage"] == "deleted"
    assert after == known
    command = ". /opt/mlflow/client/activate; /opt/mlflow/current/bin/python"
    assert json.loads(lab.program(host, "predict", command, "ada").splitlines()[-1])
