"""Backups where the database, the store and the servers are hosts of their own."""

import re
from typing import Any

from hosts import Lab

LEADER, CLIENT = "server1.example.com", "login.example.com"

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
    settings: dict[str, Any] = {
        "mlflow_backup_target": "/var/backups/mlflow",
        "mlflow_backup_on_calendar": "",
    }
    run_id = lab.python(CLIENT, "ada", TRAIN)
    lab.play("backup.yml", **settings)
    said = lab.play("restore_drill.yml", **settings)
    assert re.search(r"The drill of set \w+ passed", said)
    assert re.search(r"model to-be-backed-up .*; 3 predictions are equal", said)
    assert not lab.root(LEADER, "pgrep -u postgres,mlflow-drill || true")

    lab.python(CLIENT, "ada", FORGET)
    quick = ("--skip-tags", "smoke")
    lab.play("restore.yml", *quick, mlflow_restore_confirm=LEADER, **settings)
    assert lab.python(CLIENT, "ada", SEE) == [run_id, "the first text", 2, False]
