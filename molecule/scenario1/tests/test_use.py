"""What ada does with it: train, look, ask for what scenario 1 does not have."""

import json
from collections.abc import Callable, Iterator

import pytest

Run = Callable[..., str]

TRAIN = """
import mlflow
from sklearn.linear_model import LogisticRegression

mlflow.set_experiment("penguins")
with mlflow.start_run() as run:
    mlflow.log_param("C", 0.1)
    mlflow.log_metric("accuracy", 0.9)
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    mlflow.sklearn.log_model(model, name="models", pip_requirements=["scikit-learn"])
print(run.info.run_id)
"""


@pytest.fixture
def project(ssh: Run) -> Iterator[str]:
    """A project directory with a train.py, and without what it logged when the test is over."""
    ssh(f"cat > ~/mlflow/train.py <<'END'\n{TRAIN}\nEND")
    yield "/home/ada/mlflow"
    ssh("rm -rf ~/mlflow/mlruns ~/mlflow/train.py")


def test_training_logs_into_mlruns(ssh: Run, project: str) -> None:
    run_id = ssh(f"cd {project} && . ./activate && python train.py").split()[-1]
    [run] = ssh(f"ls -d {project}/mlruns/*/{run_id}").split()
    for part in ("metrics/accuracy", "params/C", "tags/mlflow.user", "artifacts"):
        ssh(f"test -e {run}/{part}")
    experiment = run.rpartition("/")[0]
    keys = {line.partition(":")[0] for line in ssh(f"cat {experiment}/meta.yaml").splitlines()}
    assert keys >= {"artifact_location", "experiment_id", "lifecycle_stage", "name"}
    predictions = ssh(f"""cd / && . {project}/activate && python - <<'END'
import mlflow
print(mlflow.sklearn.load_model("runs:/{run_id}/models").predict([[0.0], [1.0]]).tolist())
END""")
    assert predictions.strip() == "[0, 1]"


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish", "tcsh"])
def test_any_shell_activates_and_deactivates(ssh: Run, shell: str) -> None:
    file = {"fish": "activate.fish", "tcsh": "activate.csh"}.get(shell, "activate")
    activate = f"{'.' if shell == 'sh' else 'source'} ~/mlflow/{file}"
    script = ["env", activate, "echo ---", "env", "echo ---", "which python mlflow"]
    script += ["deactivate", "echo ---", "env", ""]
    parts = ssh("\n".join(script), shell=shell).split("---\n")
    before, active, programs, after = (
        {line for line in part.splitlines() if not line.startswith("_=")} for part in parts
    )
    here = "/home/ada/.local/share/mlflow/current/bin"
    assert programs == {f"{here}/python", f"{here}/mlflow"}
    assert "MLFLOW_TRACKING_URI=file:///home/ada/mlflow/mlruns" in active
    assert "MLFLOW_REGISTRY_URI=none://" in active
    assert after == before


def test_a_notebook_logs_to_the_same_place(ssh: Run, project: str) -> None:
    listed = json.loads(ssh(f". {project}/activate && jupyter-kernelspec list --json"))
    assert "mlflow" in listed["kernelspecs"]
    # A kernel as a notebook server starts it: no activation, and a directory of its own.
    said = ssh(
        """mkdir -p ~/mlflow/notebooks && cd ~/mlflow/notebooks
        ~/.local/share/mlflow/current/bin/python - <<'END'
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="mlflow")
code = "import mlflow, shutil; print(mlflow.get_tracking_uri(), shutil.which('mlflow'))"
client.execute_interactive(code, timeout=120)
manager.shutdown_kernel()
END
        cd && rmdir ~/mlflow/notebooks"""
    )
    assert said.split() == [
        "file:///home/ada/mlflow/mlruns",
        "/home/ada/.local/share/mlflow/current/bin/mlflow",
    ]


def test_the_ui_shows_the_directory_it_is_started_in(ssh: Run, project: str) -> None:
    ssh(f"cd {project} && . ./activate && python train.py")

    def experiments(directory: str, port: int) -> set[str]:
        answer = ssh(f"""cd {directory} && . {project}/activate
            url=http://localhost:{port} log=$(mktemp)
            mlflow ui --port {port} > "$log" 2>&1 & ui=$!
            for _ in $(seq 120); do curl -sf $url/health >/dev/null && break; sleep 0.5; done
            curl -sf "$url/api/2.0/mlflow/experiments/search?max_results=99" || cat "$log"
            kill $ui; wait $ui 2>/dev/null; rm "$log" """)
        return {experiment["name"] for experiment in json.loads(answer).get("experiments", [])}

    assert experiments(project, 5000) == {"Default", "penguins"}
    ssh("mkdir -p ~/elsewhere")
    assert "penguins" not in experiments("/home/ada/elsewhere", 5001)
    ssh("rm -r ~/elsewhere")


def test_the_registry_refuses(ssh: Run, project: str) -> None:
    said = ssh(
        f"""cd {project} && . ./activate && run=$(python train.py) && python - "$run" <<'END'
import sys, mlflow
try:
    mlflow.register_model(f"runs:/{{sys.argv[1]}}/models", "penguins")
except mlflow.exceptions.MlflowException as error:
    print(type(error).__name__, error)
END"""
    )
    assert said.startswith("MlflowException Model Registry features are not supported")
    ssh(f"test ! -e {project}/mlruns/models")
