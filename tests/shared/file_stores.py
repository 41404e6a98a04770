"""File stores of MLflow as people publish them: each run has one symptom, and nobody's data."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WHEN = 1_700_000_000_000  # ms


@dataclass
class Damaged:
    """A store with all symptoms, and what is to become of each run.

    Attributes:
        runs: ids by symptom.
        carried: runs that a server gets; left: runs that it does not.
        named: what a report has to name, as text in it, of what cannot be read.
        refused: the same, of what a server does not take.
        renamed: names of files on the server, for those that it cannot keep.
    """

    root: Path
    name: str
    runs: dict[str, str] = field(default_factory=dict)
    carried: int = 0
    left: int = 0
    named: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def experiment(self, key: str, name: str) -> None:
        """Write an experiment."""
        folder = self.root / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "meta.yaml").write_text(
            f"artifact_location: file:///home/ada/mlruns/{key}\nexperiment_id: '{key}'\n"
            f"lifecycle_stage: active\nname: {name}\n"
        )

    def run(self, symptom: str, *, experiment: str = "1", uri: str = "", meta: str = "") -> Path:
        """Write a run that has nothing wrong yet."""
        key = self.runs[symptom] = uuid.uuid4().hex
        folder = self.root / experiment / key
        for part in ("metrics", "params", "tags", "artifacts"):
            (folder / part).mkdir(parents=True)
        uri = (uri or "file:///home/ada/mlruns/{}/artifacts").format(f"{experiment}/{key}")
        (folder / "meta.yaml").write_text(
            meta.format(key=key)
            or f"artifact_uri: '{uri}'\nend_time: {WHEN + 1000}\nentry_point_name: ''\n"
            f"experiment_id: '{experiment}'\nlifecycle_stage: active\nrun_id: {key}\n"
            f"run_name: '{symptom}'\nrun_uuid: {key}\nsource_name: ''\nsource_type: 4\n"
            f"source_version: ''\nstart_time: {WHEN}\nstatus: 3\ntags: []\nuser_id: ada\n"
        )
        (folder / "metrics/acc").write_text(f"{WHEN} 0.5 0\n")
        self.carried += 1
        return folder

    def lose(self, file: Path) -> None:
        """Say that a run is left for a file of it."""
        self.carried, self.left = self.carried - 1, self.left + 1
        self.named.append(file.relative_to(self.root).as_posix())


def damaged(above: Path) -> Damaged:
    """Write mlruns, and mlartifacts beside it, with names that no server has seen."""
    store = Damaged(above / "mlruns", f"damaged-{uuid.uuid4().hex[:8]}")
    store.experiment("1", store.name)
    store.experiment("2", store.name)  # two of one name
    store.run("second", experiment="2")

    run = store.run("zero byte")
    (run / "artifacts/model/code/pkg").mkdir(parents=True)
    (run / "artifacts/model/code/pkg/__init__.py").touch()
    for symptom, name, there in (
        ("percent", "accuracy_95%.txt", "accuracy_95%.txt"),
        ("decoded", "cat%step%20%1.png", "cat+step+20+1.png"),
        ("hash", "run #1.png", "run ~1.png"),
        ("question", "why?.txt", "why_.txt"),
    ):
        run = store.run(symptom)
        (run / "artifacts/plots").mkdir()
        (run / "artifacts/plots" / name).write_text(symptom)
        store.renamed[symptom] = f"plots/{there}"
    run = store.run("two names that become one")
    (run / "artifacts/a#").write_text("first")
    (run / "artifacts/a~").write_text("second")

    run = store.run("minus zero")
    (run / "metrics/loss").write_text(f"{WHEN} -0.0 0\n")
    run = store.run("not a number")
    (run / "metrics/loss").write_text(f"{WHEN} nan 0\n{WHEN} inf 1\n{WHEN} -inf 2\n")
    run = store.run("empty metric")
    (run / "metrics/loss").touch()
    store.lose(run / "metrics/loss")
    run = store.run("zeros for text")
    (run / "metrics/loss").write_bytes(bytes(100))
    store.lose(run / "metrics/loss")
    run = store.run("beyond all numbers")
    (run / "metrics/loss").write_text(f"{WHEN} 0.5 {10**20}\n")
    store.lose(run / "metrics/loss")
    run = store.run("zero bytes")  # which PostgreSQL does not keep
    (run / "params/x").write_bytes(bytes(3))
    store.lose(run / "params/x")
    run = store.run("twice")
    shutil.copytree(run, store.root / "2" / run.name)
    store.named.append(f"2/{run.name}: 1/{run.name} has the same id")
    store.left += 1
    run = store.run("child of one that is mended later")
    (run / "tags/mlflow.parentRunId").write_text(store.runs["empty metric"])
    run = store.run("exported from a server")
    (run / "tags/promote.source_run_id").write_text("0" * 32)
    run = store.run("not in UTF-8")
    (run / "artifacts/model").mkdir()
    (run / "artifacts/model/MLmodel").write_bytes("author: grün\n".encode("cp1252"))
    run = store.run("empty meta.yaml")
    (run / "meta.yaml").write_text("")
    store.lose(run / "meta.yaml")
    run = store.run("no meta.yaml")
    (run / "meta.yaml").unlink()
    store.lose(run)
    run = store.run("a copy")
    run.rename(run.with_name(f"{run.name} (1)"))
    store.lose(run.with_name(f"{run.name} (1)") / "meta.yaml")
    run = store.run("its experiment has no meta.yaml", experiment="3")
    store.lose(run)
    store.named.append("3: it has no meta.yaml")

    run = store.run("conflict")
    (run / "metrics/acc (1)").write_text(f"{WHEN} 0.4 0\n")
    run = store.run("long tag")
    (run / "tags/note").write_text("x" * 8001)
    run = store.run("long param")
    (run / "params/list").write_text("x" * 6001)
    run = store.run("long name")
    (run / "params" / ("a" * 200)).mkdir()
    (run / "params" / ("a" * 200) / ("b" * 60)).write_text("x")
    store.refused += [
        "metrics/acc (1)", "tags/note: 8000 of its 8001", "params/list: 6000 of its", "b" * 60,
    ]  # fmt: skip
    run = store.run("many long tags")  # more than one request may hold
    for number in range(99):
        (run / f"tags/tag{number}").write_text("ä" * 7000)

    run = store.run("windows", uri=r"C:\Users\ada\mlruns\{}\artifacts".replace("{}", "1\\{}"))
    text = (run / "meta.yaml").read_text().replace(f"1\\1/{run.name}", f"1\\{run.name}")
    (run / "meta.yaml").write_text(text)
    (run / "artifacts/a.txt").write_text("windows")
    run = store.run("served", uri="mlflow-artifacts:/{}/artifacts")
    (run / "artifacts").rmdir()
    kept = above / "mlartifacts/1" / run.name / "artifacts"
    kept.mkdir(parents=True)
    (kept / "curve.txt").write_text("served")
    run = store.run("elsewhere", uri="s3://bucket/ml/{}/artifacts")
    (run / "artifacts").rmdir()
    store.refused.append(f"{run.name}: they are at s3://bucket/ml/")
    run = store.run("no name")
    (run / "meta.yaml").write_text(
        (run / "meta.yaml").read_text().replace("run_name: 'no name'", "run_name: ''")
    )
    store.run(
        "python 2",
        meta="artifact_uri: !!python/unicode '/home/ada/mlruns/1/{key}/artifacts'\n"
        "end_time: null\nexperiment_id: !!python/unicode '1'\nlifecycle_stage: active\n"
        f"name: python 2\nrun_uuid: {{key}}\nstart_time: {WHEN}\nstatus: 1\ntags: []\n",
    )
    run = store.run("größe")
    (run / "params/größe").write_text("学習率")
    return store


# What a server has of a damaged store, by the old ids.
FOUND = """
import json, mlflow
client = mlflow.MlflowClient()
where = [experiment.experiment_id for experiment in client.search_experiments()]
runs = {run.data.tags["promote.source_run_id"]: run for run in
        client.search_runs(where, "tags.`promote.source_run_id` LIKE '%'", max_results=5000)}
found = {}
for symptom, old in truth.items():
    if run := runs.get(old):
        files = [path for place in ("", "plots", "model/code/pkg")
                 for path in client.list_artifacts(run.info.run_id, place) if not path.is_dir]
        found[symptom] = {
            "id": run.info.run_id, "parent": run.data.tags.get("mlflow.parentRunId"),
            "name": run.info.run_name.strip(), "params": run.data.params,
            "metrics": {key: str(value) for key, value in run.data.metrics.items()},
            "experiment": client.get_experiment(run.info.experiment_id).name,
            "files": {file.path: mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{file.path}")
                      for file in files},
        }
print(json.dumps(found))
"""


def unpacked(above: Path, name: str) -> str:
    """Return a shell script that makes a directory of a home as one of this machine is."""
    packed = subprocess.run(["tar", "-C", above, "-cz", "."], capture_output=True, check=True)
    text = base64.b64encode(packed.stdout).decode()
    return f"mkdir ~/{name}; base64 -d <<'END' | tar -C ~/{name} -xz\n{text}\nEND"


def check(found: dict[str, Any], store: Damaged) -> None:
    """See that a server has what can be carried, as it was."""
    assert len(found) == store.carried
    for symptom, file in store.renamed.items():
        assert found[symptom]["files"] == {file: symptom}
    assert found["zero byte"]["files"] == {"model/code/pkg/__init__.py": ""}
    assert {*found["two names that become one"]["files"].values()} == {"first", "second"}
    assert found["windows"]["files"] == {"a.txt": "windows"}
    assert found["served"]["files"] == {"curve.txt": "served"}
    assert found["minus zero"]["metrics"]["loss"] in ("0.0", "-0.0")
    assert found["no name"]["name"] == ""
    assert found["python 2"]["name"] == "python 2"
    assert found["größe"]["params"] == {"größe": "学習率"}
    assert {found[one]["experiment"] for one in ("second", "windows")} == {
        store.name, f"{store.name} (2)",
    }  # fmt: skip
