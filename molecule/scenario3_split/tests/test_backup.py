"""Backups where the database, the store and the servers are hosts of their own; and of the CA."""

import re
from typing import Any

from hosts import Lab

LEADER, GATEWAY, CLIENT = "server1.example.com", "mlflow.example.com", "login.example.com"
SETTINGS: dict[str, Any] = {
    "mlflow_backup_target": "/var/backups/mlflow",
    "mlflow_backup_on_calendar": "",
}
CA, ALIAS = "/etc/ssl/mlflow-ca", "models.example.org"

TRAIN = """
import json
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
mlflow.set_experiment("to-be-backed-up")
with mlflow.start_run() as run:
    mlflow.log_text("the first text", "notes.txt")
    mlflow.sklearn.log_model(
        LogisticRegression(max_iter=200).fit(X, y), name="model", input_example=X[:3],
        registered_model_name="to-be-backed-up", pip_requirements=[],
    )
print(json.dumps(run.info.run_id))
"""

# What is done after the backup, and is gone with it.
FORGET = """
import json
import mlflow
mlflow.set_experiment("after-the-backup")
mlflow.MlflowClient().delete_registered_model("to-be-backed-up")
print(json.dumps(None))
"""

SEE = """
import json
import mlflow
import numpy as np
client = mlflow.MlflowClient()
experiments = [one.name for one in client.search_experiments()]
version, *_ = client.search_model_versions("name = 'to-be-backed-up'")
model = mlflow.sklearn.load_model(f"models:/to-be-backed-up/{version.version}")
text = mlflow.artifacts.load_text(f"runs:/{version.run_id}/notes.txt")
print(json.dumps([version.run_id, text, len(model.predict(np.ones((2, 4)))),
                  "after-the-backup" in experiments]))
"""


def test_a_backup_is_drilled_and_restored(lab: Lab) -> None:
    """The drill has a PostgreSQL of its own here; a restore changes what both servers serve."""
    run_id = lab.python(CLIENT, "ada", TRAIN)
    lab.play("backup.yml", **SETTINGS)
    said = lab.play("restore_drill.yml", **SETTINGS)
    assert re.search(r"The drill of set \w+ passed", said)
    assert re.search(r"model to-be-backed-up .*; 3 predictions are equal", said)
    assert not lab.root(LEADER, "pgrep -u postgres,mlflow-drill || true")

    lab.python(CLIENT, "ada", FORGET)
    quick = ("--skip-tags", "smoke")
    lab.play("restore.yml", *quick, mlflow_restore_confirm=LEADER, **SETTINGS)
    assert lab.python(CLIENT, "ada", SEE) == [run_id, "the first text", 2, False]


# What whoever has the CA's key can do with it.
FORGE = f"""
cd /run; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \\
  -keyout forged.key -subj /CN=forged -addext subjectAltName={{}} -out forged.csr 2> /dev/null
openssl x509 -req -in forged.csr -copy_extensions copy -CA {CA}/ca.pem -CAkey {CA}/ca.key \\
  -out forged.pem 2> /dev/null
openssl verify -CAfile {CA}/ca.pem forged.pem 2>&1 || true; rm forged.*
"""

# The gateway's certificate, by what Ada's programs trust, for one of its names.
TRUSTED = (
    f"echo | openssl s_client -connect {GATEWAY}:443 -servername {GATEWAY} -verify_hostname {{}} "
    "-CAfile /opt/mlflow/client/ca-bundle.pem -verify_return_error > /dev/null 2>&1 && echo yes"
)


def test_the_ca_comes_back_and_signs_for_a_new_name(lab: Lab) -> None:
    """Under a client that logs; who trusts the CA of before goes on doing so."""
    for name in ("DNS:www.example.org", "IP:192.0.2.7"):
        assert "subtree violation" in lab.root(GATEWAY, FORGE.format(name))
    assert "forged.pem: OK" in lab.root(GATEWAY, FORGE.format(f"DNS:{GATEWAY}"))

    key = lab.root(GATEWAY, f"sha256sum < {CA}/ca.key")
    # What somebody's browser trusts from now on.
    lab.root(CLIENT, "cp /opt/mlflow/client/ca-bundle.pem /root/browser.pem")
    with lab.logging(CLIENT) as numbers:
        lab.root(GATEWAY, f"mv {CA} /root/lost")
        said = " ".join(lab.play("renew.yml", code=2).split())
        assert f"There is no private CA in {CA} on {GATEWAY}" in said
        assert "playbooks/restore_ca.yml" in said
        lab.root(GATEWAY, f"test ! -e {CA}")

        said = lab.play("restore_ca.yml", **SETTINGS, mlflow_public_aliases=[ALIAS])
        assert f"renewed     mlflow on {GATEWAY};" in said
        assert lab.root(CLIENT, TRUSTED.format(ALIAS)).strip() == "yes"
        lab.play("renew.yml")
    logged, whole = numbers
    assert logged == whole > 10
    assert lab.root(GATEWAY, f"sha256sum < {CA}/ca.key; stat -c %a {CA} {CA}/ca.key").split() == [
        *key.split(), "700", "600",
    ]  # fmt: skip
    old = TRUSTED.format(GATEWAY).replace("/opt/mlflow/client/ca-bundle.pem", "/root/browser.pem")
    assert lab.root(CLIENT, f"{old}; rm /root/browser.pem").strip() == "yes"
    assert lab.root(LEADER, f"stat -c %U%a {CA}/ca.key").strip() == "root600"
    lab.root(GATEWAY, "rm -r /root/lost")
