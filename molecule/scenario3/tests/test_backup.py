"""Backups of PostgreSQL and S3 in another bucket, encrypted: the identity alone opens them."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Lab

SERVER = "mlflow.example.com"
ROOT = Path(__file__).resolve().parents[3]
PYTHON = "/opt/mlflow/current/bin/python"

TRAIN = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
mlflow.set_experiment("to-be-backed-up")
with mlflow.start_run() as run:
    mlflow.log_text("the first text", "notes.txt")
    mlflow.sklearn.log_model(
        LogisticRegression(max_iter=200).fit(X, y), name="models", input_example=X[:3],
        registered_model_name="to-be-backed-up", pip_requirements=[],
    )
print(f"{run.info.experiment_id}/{run.info.run_id}/artifacts/notes.txt")
"""

# The store as its administrator sees it; `b` is the bucket of backups, `m` MLflow's.
STORE = f"""{PYTHON} - <<'END'
import boto3, json
[key] = [identity["credentials"][0] for identity
         in json.load(open("/etc/seaweedfs/s3.json"))["identities"] if identity["name"] == "admin"]
s3 = boto3.resource("s3", endpoint_url="http://127.0.0.1:8333", region_name="us-east-1",
                    aws_access_key_id=key["accessKey"], aws_secret_access_key=key["secretKey"])
b, m = s3.Bucket("backups"), s3.Bucket("mlflow")
%s
END
"""

# What everything is put back to.
REMOVE = """
cd /etc/systemd/system; systemctl disable --quiet --now mlflow-backup*.timer
rm -rf /var/lib/mlflow-backup /var/backups/mlflow /etc/mlflow/backup.* /root/fetched /root/identity
rm -f /etc/systemd/system/mlflow-backup* /usr/local/sbin/mlflow-backup /root/backup.key
systemctl daemon-reload
userdel mlflow-drill
"""


def store(lab: Lab, program: str) -> str:
    """Run a program with the store's buckets, and return what it prints."""
    return lab.root(SERVER, STORE % program).strip()


@pytest.fixture(scope="module")
def settings(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables of encrypted backups in a bucket, and an identity on this side."""
    lab.root(SERVER, "apt-get -q update; apt-get -q -y --no-install-recommends install age")
    identity = tmp_path_factory.mktemp("age") / "identity.txt"
    identity.write_text(lab.root(SERVER, "age-keygen 2>/dev/null"))
    recipient = re.search(r"age1\w+", identity.read_text())
    assert recipient
    key = json.loads(store(lab, "b in s3.buckets.all() or b.create()\nprint(json.dumps(key))"))
    return {
        "mlflow_backup_target": "s3://backups/team",
        "mlflow_backup_s3_endpoint_url": "http://127.0.0.1:8333",
        "mlflow_backup_s3_region": "us-east-1",
        "mlflow_backup_s3_access_key": key["accessKey"],
        "mlflow_backup_s3_secret_key": key["secretKey"],
        "mlflow_backup_recipient": recipient[0],
        "identity": str(identity),
    }


@pytest.fixture(scope="module")
def notes(lab: Lab) -> str:
    """The path of an artifact; a model is registered too."""
    password = lab.variables["mlflow_server_auth_admin_password"]
    said = lab.root(
        SERVER,
        "export MLFLOW_TRACKING_URI=https://mlflow.example.com MLFLOW_TRACKING_USERNAME=admin "
        "MLFLOW_DISABLE_TELEMETRY=true "  # and root's home as it was
        f"MLFLOW_TRACKING_PASSWORD={password} REQUESTS_CA_BUNDLE=/etc/ssl/mlflow/ca.pem\n"
        f"{PYTHON} - <<'END'\n{TRAIN}\nEND",
    )
    return next(line for line in said.splitlines() if line.endswith("notes.txt"))


@pytest.fixture(scope="module", autouse=True)
def backups(lab: Lab, settings: dict[str, Any], notes: str) -> Iterator[str]:
    """What the playbook said that set them up and took the first."""
    yield lab.play("backup.yml", **settings)
    store(lab, "b.object_versions.delete(); b.objects.delete(); b.delete()")
    lab.root(SERVER, REMOVE)


def databases(manifest: dict[str, Any]) -> int:
    """Return the size of a set's databases."""
    return sum(one["bytes"] for one in manifest["databases"].values())


def test_nothing_can_be_read_in_the_bucket(lab: Lab, backups: str) -> None:
    assert "Backed up:" in backups
    said = store(
        lab,
        "for o in b.objects.all():\n    print(o.key, o.get()['Body'].read(6) == b'RCLONE')",
    )
    seen = dict(line.rsplit(" ", 1) for line in said.splitlines())
    plain = {name for name, encrypted in seen.items() if encrypted == "False"}
    assert plain == {"team/key.age", "team/key.json"}
    assert len(seen) > 10


def test_the_next_copies_nothing_again(lab: Lab, backups: str) -> None:
    lab.root(SERVER, "sleep 2; systemctl start mlflow-backup")
    first, second = json.loads(lab.root(SERVER, "mlflow-backup list --json"))[-2:]
    assert first["added"] > second["added"] == databases(second)
    assert set(second["databases"]) == {"tracking", "auth"}
    assert lab.root(SERVER, "mlflow-backup verify").count("is whole") >= 2  # else it fails


def fetch(lab: Lab, tmp_path: Path, code: int, **variables: Any) -> str:
    """Fetch the newest set as a playbook that restores would, and return what Ansible said."""
    role = {"name": "mlflow_backup", "tasks_from": "fetch"}
    play = {
        "hosts": SERVER, "become": True, "gather_facts": False,
        "vars_files": [str(ROOT / "playbooks/vars/operations.yml")],
        "tasks": [
            {"ansible.builtin.include_role": role},
            {"ansible.builtin.debug": {"var": "mlflow_backup_fetched"}},
        ],
    }  # fmt: skip
    playbook = tmp_path / "fetch.yml"
    playbook.write_text(yaml.safe_dump([play]))
    variables["mlflow_backup_fetch_directory"] = "/root/fetched"
    return lab.play(str(playbook), code=code, **variables)


def test_restored_elsewhere_with_the_identity_alone(
    lab: Lab, settings: dict[str, Any], notes: str, backups: str, tmp_path: Path
) -> None:
    """Without the key that the host made, as on another host; and nothing stays there.

    By its mark alone, which the first backup named, it is told from a stranger's.
    """
    key = re.search(r"\bkey  +([0-9a-f]{32}): keep it as mlflow_backup_key", backups)
    assert key
    lab.root(SERVER, "mv /etc/mlflow/backup.key /root")
    try:
        said = " ".join(fetch(lab, tmp_path, 2, **settings).split())
        assert "this host has no key for it. Set mlflow_backup_identity" in said
        identity = settings["identity"]
        given = {**settings, "mlflow_backup_identity": identity}
        said = " ".join(fetch(lab, tmp_path, 2, **given).split())
        assert f"has the key {key[1]}, and this host does not know it. Whoever can write" in said
        said = fetch(lab, tmp_path, 0, **given, mlflow_backup_key=key[1])
        assert "directory: /root/fetched" in said
        secret = Path(identity).read_text().splitlines()[-1]
        assert secret not in said
        assert lab.root(SERVER, "ls /etc/mlflow/backup.key 2>/dev/null || true") == ""
        assert lab.root(SERVER, f"grep -rl {secret} /etc /root /var/lib /run /tmp || true") == ""
    finally:
        lab.root(SERVER, "mv /root/backup.key /etc/mlflow")
    assert lab.root(SERVER, f"cat /root/fetched/artifacts/{notes}") == "the first text"
    assert lab.root(SERVER, "head -c 5 /root/fetched/tracking.dump") == "PGDMP"

    # Back into the bucket goes what is not there. What is not as it was is noted: it is the
    # switch's to exchange. What is newer stays.
    here, newer = f"m.Object('artifacts/{notes}')", f"m.Object('artifacts/newer-{time.time_ns()}')"
    read = f"{newer}.load()\nprint({here}.get()['Body'].read().decode())"
    store(lab, f"{here}.put(Body=b'another text!!')\n{newer}.put(Body=b'')")
    said = lab.root(SERVER, "mlflow-backup artifacts /root/fetched; cat /root/fetched/exchange*")
    assert said.startswith("Put 0 of ")
    assert {"path": notes, "over": True} in map(json.loads, said.splitlines()[1:])
    assert store(lab, f"{read}\n{here}.delete()") == "another text!!"
    assert lab.root(SERVER, "mlflow-backup artifacts /root/fetched").startswith("Put 1 of ")
    assert store(lab, f"{read}\n{newer}.delete()") == "the first text"
    lab.root(SERVER, "rm -r /root/fetched")


def test_versions_instead_of_copies(lab: Lab, notes: str) -> None:
    """Nothing is copied, and what was overwritten or deleted since comes back all the same."""
    use = (
        "echo MLFLOW_BACKUP_TARGET=/var/backups/mlflow > /root/versions\n"
        "echo MLFLOW_BACKUP_ARTIFACTS=versioning >> /root/versions\n"
        'b() { mlflow-backup --settings - "$@" < /root/versions; }\n'
    )
    lab.root(SERVER, f"{use} b prepare; b create")
    [manifest] = json.loads(lab.root(SERVER, f"{use} b list --json"))
    assert manifest["artifacts_count"] > 5
    assert manifest["added"] == databases(manifest)
    store(lab, f"m.Object('artifacts/{notes}').delete()")
    said = lab.root(SERVER, f"{use} b verify; b fetch newest /root/fetched > /dev/null; "
                            f"b artifacts /root/fetched; cat /root/fetched/artifacts/{notes}; "
                            "rm -r /root/fetched /root/versions /var/backups/mlflow")  # fmt: skip
    assert "is whole" in said and "Put 1 of " in said
    assert said.endswith("the first text")


def test_a_drill_restores_postgresql(lab: Lab, settings: dict[str, Any]) -> None:
    lab.root(SERVER, "systemctl start mlflow-backup")
    said = " ".join(lab.play("restore_drill.yml", **settings).split())
    for words in ("passed", "auth database users", "serves the restored data",
                  "the same files as the running service's; 3 predictions are equal"):  # fmt: skip
        assert words in said
    assert lab.root(SERVER, "ls /var/lib/mlflow-backup").split() == [
        "drill.json", "lock", "status.json",
    ]  # fmt: skip
    assert lab.root(SERVER, "pgrep -u mlflow-drill || true") == ""
