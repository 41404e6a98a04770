"""Every path that can be chosen is an unusual one, at once: what is installed, runs and goes.

So is the host: hardened (lab/harden.sh), and one of its administrators has to say her password, at
a terminal, and has Ansible's own files elsewhere.

First of this scenario's files: the empty host is used before others restore something there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import versions
from hosts import Lab, ended

SPARE = "spare.example.com"
PATHS = {
    "mlflow_root": "/srv/odd/environments",
    "mlflow_server_user": "tracker",
    "mlflow_server_state_dir": "/srv/odd/state",
    "mlflow_server_config_dir": "/srv/odd/settings",
    "mlflow_server_database_path": "/srv/odd/state/runs.sqlite",
    "mlflow_server_artifacts_destination": "/srv/odd/files",
    "mlflow_backup_target": "/srv/odd/sets",
    "mlflow_backup_fetch_directory": "/srv/odd/fetched",
    "mlflow_model_serving_root": "/srv/odd/models",
    "mlflow_monitoring_textfile_dir": "/srv/odd/metrics",
}
# Without pipelining each task takes longer: hers are few.
OLGA: dict[str, Any] = {
    "ansible_user": "olga",
    "ansible_become_password": "ein Passwort",
    "ansible_pipelining": False,  # which has no terminal
    "ansible_remote_tmp": "/srv/ansible",
}
# What each is where nobody chooses; and what may be there all the same.
USUAL = "/opt/mlflow /var/lib/mlflow /var/backups/mlflow /var/lib/mlflow-models /etc/mlflow"
MAY = {"/etc/mlflow/installation.json"}


@pytest.mark.parametrize("host", [SPARE])
def test_every_path_is_chosen(lab: Lab, host: str, tmp_path: Path) -> None:
    """Installed, upgraded, backed up, drilled, cleaned, watched, looked at, restored, removed."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"scenario2": {"hosts": {host: lab.hosts[host]}}}))

    def play(name: str, *arguments: str, version: str = versions.DEFAULT, **extra: Any) -> str:
        known = {**PATHS, "mlflow_server_auth": True, "mlflow_version": version}
        command = lab.command(name, *arguments, inventory=inventory, **known, **extra)
        return " ".join(ended(command, 0).split())

    lab.root(host, "install -d -m 755 /srv/odd /srv/odd/metrics")
    lab.root(host, f"install -d -o olga -m 700 {OLGA['ansible_remote_tmp']}")
    play("scenario2.yml", version=versions.GUARDED[-1], smoke_keep=True)
    assert lab.root(host, f"find {USUAL} -type f 2>/dev/null || true").split() == [*MAY]
    play("backup.yml", **OLGA)
    play("upgrade.yml", "--skip-tags", "smoke")
    assert "changed=0" in play("scenario2.yml")
    play("clean.yml", mlflow_cleaning_older_than="30d")
    play("monitoring.yml", mlflow_monitoring_node_exporter=False)
    assert "all well" in play("doctor.yml", **OLGA)
    play("rotate.yml", rotate="admin_password")
    play("backup.yml")
    assert "passed" in play("restore_drill.yml")
    assert f"{host} has what" in play("restore.yml", mlflow_restore_confirm=host)
    served = "models:/iris-classifier/1"
    assert "it answers over HTTP" in play("deploy_model.yml", mlflow_model_serving_model=served)
    assert lab.root(host, f"find {USUAL} -type f 2>/dev/null || true").split() == [*MAY]
    said = lab.root(
        host, "mlflow-ready; mlflow-backup list; mlflow-gc --dry-run; mlflow-model status"
    )
    assert "is ready" in said and "iris-classifier: version 1" in said
    play("uninstall.yml", mlflow_uninstall_data=host)
    assert lab.root(host, f"find {USUAL} /srv/odd -type f 2>/dev/null || true").split() == []
    lab.root(host, "! getent passwd tracker; test ! -e /usr/local/lib/mlflow; rm -rf /srv/odd")
