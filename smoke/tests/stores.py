"""File stores made by hand, as MLflow 2.x and 3.x leave them."""

import os
from pathlib import Path

from mlflow_smoke.names import METRIC, PARAMS, PICTURE, PNG, TAG

TOKEN = "0123456789abcdef"  # noqa: S105 (marks a run, opens nothing)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_experiment(root: Path, number: str, name: str) -> Path:
    folder = root / number
    lines = [
        f"artifact_location: {folder.as_uri()}",
        f"experiment_id: '{number}'",
        "lifecycle_stage: active",
        f"name: {name}",
    ]
    write(folder / "meta.yaml", "\n".join(lines))
    return folder


def make_run(experiment: Path, run_id: str, token: str, major: int) -> Path:
    run = experiment / run_id
    write(run / "meta.yaml", f"run_id: {run_id}\nstatus: 3\n")
    write(run / "metrics" / METRIC, "1795384313533 0.1 0\n1795384313534 0.96 0\n")
    for name, value in PARAMS.items():
        write(run / "params" / name, str(value))
    write(run / "tags" / TAG, token)
    write(run / "artifacts" / PICTURE, PNG + os.urandom(200))
    if major == 2:
        model = run / "artifacts" / "models"
    else:
        model = experiment / "models" / f"m-{run_id}" / "artifacts"
        write(model.parent / "meta.yaml", f"name: models\nsource_run_id: {run_id}\n")
    write(model / "MLmodel", f"run_id: {run_id}\n")
    write(model / "model.pkl", os.urandom(200))
    return run
