"""What people delete, and what becomes of it: one proof for every database and artifact store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

# A data scientist's: prints the ids of what she made, most of which she has deleted again.
MAKE = """
import json, tempfile, uuid
import mlflow
from mlflow.entities import LoggedModelStatus

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [7.0] * len(model_input)

client = mlflow.MlflowClient()
client.create_registered_model(name := f"deletions-{uuid.uuid4().hex[:8]}")
made = {"name": name}

def experiment(key):
    made[key] = mlflow.set_experiment(f"{name}-{key}").experiment_id

def run(key):
    with mlflow.start_run(run_name=key) as run:
        mlflow.log_metric("accuracy", 1.0)
        mlflow.log_param("key", key)
        mlflow.log_text("content", "notes/note.txt")
    made[key] = run.info.run_id
    return run

def logged(key):
    info = mlflow.pyfunc.log_model(name=key, python_model=Model(), pip_requirements=[])
    made[key] = info.model_id
    return info

experiment("living experiment")
run("living run")
run("old run")
run("young run")
registered = run("registered run") # with the model among its files, as MLflow 2 logs it
with tempfile.TemporaryDirectory() as folder:
    mlflow.pyfunc.save_model(f"{folder}/model", python_model=Model(), pip_requirements=[])
    client.log_artifacts(registered.info.run_id, folder)
client.create_model_version(name, f"{registered.info.artifact_uri}/model", registered.info.run_id)
unregistered = run("unregistered run")
client.create_model_version(name, unregistered.info.artifact_uri, unregistered.info.run_id)
client.delete_model_version(name, "2")
with mlflow.start_run():
    logged("living model")
    logged("old model")
    logged("young model")
    mlflow.register_model(f"models:/{logged('registered model').model_id}", name)
experiment("old experiment")
run("its run")
with mlflow.start_run() as other:
    mlflow.log_text("content", "note.txt")
    logged("its model")
made["its other run"] = other.info.run_id
experiment("half experiment")
run("deleted with it")
run("restored run")
experiment("last experiment") # whose number must not be given again

for key in "old run", "young run", "registered run", "unregistered run":
    client.delete_run(made[key])
for key in "old model", "young model", "registered model":
    client.delete_logged_model(made[key])
for key in "old experiment", "half experiment", "last experiment":
    client.delete_experiment(made[key])
client.restore_run(made["restored run"])
print(json.dumps(made))
"""

# Hers again: what the two registered versions say.
PREDICT = """
import json
import mlflow
print(json.dumps([
    list(mlflow.pyfunc.load_model(f"models:/{name}/{version}").predict([[0.0]]))
    for version in (1, 3)
]))
"""

# Root's, on the server's host: for each id, how many rows have it, and how many files or objects
# bear it in their names; first, as if the deletions of `old` were of 40 days ago.
HOST = """
import json, os, sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, "/usr/local/lib/mlflow/current")
from mlflow_ops.settings import read_settings
asked = json.loads(sys.argv[1])
settings = read_settings()
os.environ.update(settings)
from sqlalchemy import create_engine, text

engine = create_engine(settings["MLFLOW_BACKEND_STORE_URI"])
columns = {
    "runs": ("run_uuid", "deleted_time"),
    "experiments": ("experiment_id", "last_update_time"),
    "logged_models": ("model_id", "last_updated_timestamp_ms"),
}
more = dict.fromkeys(("metrics", "latest_metrics", "params", "tags"), "run_uuid")
rows = {}
with engine.begin() as database:
    for table, (key, moment) in columns.items():
        for id_ in asked["old"]:
            if (table == "experiments") == id_.isdecimal():
                value = {"id": int(id_) if id_.isdecimal() else id_}
                database.execute(text(f"UPDATE {table} SET {moment} = {moment} - 3456000000 "
                                      f"WHERE {key} = :id AND lifecycle_stage = 'deleted'"), value)
    for table, key in [*((table, key) for table, (key, _) in columns.items()), *more.items()]:
        for id_ in asked["ids"]:
            if (table == "experiments") == id_.isdecimal():
                value = {"id": int(id_) if id_.isdecimal() else id_}
                count = text(f"SELECT count(*) FROM {table} WHERE {key} = :id")
                rows[id_] = rows.get(id_, 0) + database.execute(count, value).scalar_one()
place = urlsplit(settings["MLFLOW_ARTIFACTS_DESTINATION"])
if place.scheme == "s3":
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
    client = S3ArtifactRepository(place.geturl())._get_s3_client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=place.netloc)
    files = [item["Key"] for page in pages for item in page.get("Contents", [])]
else:
    files = [str(path) for path in Path(place.path).rglob("*")]
print(json.dumps({
    id_: [rows[id_], 0 if id_.isdecimal() else sum(id_ in path for path in files)]
    for id_ in asked["ids"]
}))
"""

OLD = ["old run", "registered run", "unregistered run", "old model", "registered model",
       "old experiment", "its run", "its other run", "half experiment", "deleted with it",
       "last experiment"]  # fmt: skip
GOES = ["old run", "unregistered run", "old model", "old experiment", "its run", "its other run",
        "its model", "deleted with it"]  # fmt: skip


def check(person: Callable[[str], Any], root: Callable[[str], str]) -> None:
    """See what was deleted 30 days ago go for good, rows and files, and nothing else.

    On a host that was cleaned up with that age.

    Args:
        person: runs a data scientist's program, and returns what its last line holds.
        root: runs a shell script on the server's host, and returns what it prints.
    """

    def look(*old: str) -> dict[str, list[int]]:
        asked = json.dumps({"ids": list(ids.values()), "old": [ids[key] for key in old]})
        said = root(
            "cat > /run/look.py <<'END_OF_PROGRAM'\n" + HOST + "\nEND_OF_PROGRAM\n"
            "cd /; runuser --user=mlflow -- /opt/mlflow/current/bin/python /run/look.py "
            f"'{asked}'; rm /run/look.py"
        )
        found = json.loads(said.splitlines()[-1])
        return {key: found[id_] for key, id_ in ids.items()}

    ids = person(MAKE)
    name = ids.pop("name")
    before = look(*OLD)
    assert all(rows for rows, _ in before.values())
    assert all(files or " experiment" in key for key, (_, files) in before.items())

    # While a backup is made, nothing goes.
    said = root("timeout 20 flock /etc/mlflow timeout 10 mlflow-gc || true")
    assert "Waiting" in said
    assert "gone" not in said
    said = root("mlflow-gc --dry-run")
    assert look() == before
    promised = {key for key, id_ in ids.items() if f"would go: {kind(key)} {id_} " in said}
    assert promised == set(GOES)
    for key in ("registered run", "registered model"):
        version = 1 if key == "registered run" else 3
        assert f"kept: {kind(key)} {ids[key]} ({key})" in said
        assert f"version {version} of {name} comes from it" in said

    root("systemctl start mlflow-gc")  # as the timer does: in its sandbox
    after = look()
    assert {key for key, found in after.items() if found == [0, 0]} == set(GOES)
    assert all(after[key] == before[key] for key in ids if key not in GOES)
    assert person(f"name = '{name}'\n{PREDICT}") == [[7.0], [7.0]]


def kind(key: str) -> str:
    """Return what something that MAKE made is: run, model or experiment."""
    return "run" if key == "deleted with it" else key.split()[-1]
