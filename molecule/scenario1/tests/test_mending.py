"""Runs that only look, that are killed, and that find things broken: all in grace's fresh home."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from versions import DEFAULT, UNGUARDED

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12"

Run = Callable[..., str]
ROOT = Path(__file__).resolve().parents[3]
WITHOUT_SMOKE = ("--skip-tags", "smoke")


@pytest.fixture(scope="module", autouse=True)
def home(ssh: Run) -> Iterator[None]:
    """A home in which nothing was ever installed; what one test leaves, the next goes on from."""
    yield
    ssh("rm -rf ~/.local ~/mlflow ~/.ansible", user="grace")


def works(ssh: Run) -> bool:
    """Whether MLflow can be imported, with what it trains on, where grace has activated it."""
    code = "import mlflow, sklearn, numpy; print(mlflow.__version__)"
    return ssh(f". ~/mlflow/activate && python -c '{code}'", user="grace").strip() == DEFAULT


def test_check_mode_changes_nothing_on_a_clean_host(ssh: Run, play: Run) -> None:
    def snapshot() -> str:
        # Ansible's own temporary directory aside: it holds nothing afterwards.
        return ssh(
            "find ~ -path ~/.ansible -prune -o -path ~ -o -printf '%p %y %m %s %T@ %l\\n' | sort; "
            "find ~/.ansible/tmp -type f 2>/dev/null || true",
            user="grace",
        )

    before = snapshot()
    play("scenario1.yml", "--check", "--diff", user="grace")
    assert snapshot() == before


def test_killed_at_one_task_after_another(
    ssh: Run, play: Run, playbook: Callable[..., list[str]]
) -> None:
    command = playbook("scenario1.yml", *WITHOUT_SMOKE, user="grace")
    for task in (
        "Install | Create the virtual environment",
        "Install | Install the locked packages",
        "Activate | Point `current` to this version",
        "Project | Write the activation, the variables and the notebook kernel",
    ):
        with subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, start_new_session=True,
        ) as running:  # fmt: skip
            assert running.stdout
            said = []
            for line in running.stdout:
                said.append(line)
                if task in line:
                    time.sleep(0.3)  # into the task, not merely up to it
                    os.killpg(running.pid, signal.SIGKILL)
                    break
        assert running.returncode == -signal.SIGKILL, f"{task!r} not reached: {''.join(said)}"
    play("scenario1.yml", *WITHOUT_SMOKE, user="grace")
    assert works(ssh)
    assert "changed=0" in play("scenario1.yml", *WITHOUT_SMOKE, user="grace")


def test_a_broken_installation_is_mended(ssh: Run, play: Run) -> None:
    play("scenario1.yml", *WITHOUT_SMOKE, user="grace")
    packages = "~/.local/share/mlflow/current/lib/python3.*/site-packages"
    for damage in (
        f"rm {packages}/sklearn/base.py",
        f"rm -r {packages}/numpy {packages}/numpy-*.dist-info",
        "cd ~/.local/share/mlflow/current/lib && mv python3.* python3.2",  # a release of the system
    ):
        ssh(damage, user="grace")
        play("scenario1.yml", *WITHOUT_SMOKE, user="grace")
        assert works(ssh)
    assert "changed=0" in play("scenario1.yml", *WITHOUT_SMOKE, user="grace")


def test_sqlite_brings_a_registry(ssh: Run, play: Run) -> None:
    play("scenario1.yml", user="grace", mlflow_local_store="sqlite")
    said = ssh(
        """cd ~/mlflow && . ./activate && python - <<'END'
import mlflow, pathlib
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None): return model_input
with mlflow.start_run():
    info = mlflow.pyfunc.log_model(name="models", python_model=Echo(), pip_requirements=[])
print(mlflow.register_model(info.model_uri, "echo").version, pathlib.Path("mlflow.db").is_file())
END""",
        user="grace",
    )
    assert said.split()[-2:] == ["1", "True"]


def test_mlflow_2_proves_itself_too(ssh: Run, play: Run, home: str) -> None:
    play("reset.yml", user="grace", mlflow_client_reset_confirm="true")  # another store was here
    said = play("scenario1.yml", user="grace", mlflow_version=UNGUARDED)
    assert f"MLflow {UNGUARDED} for grace" in said
    assert "17 checks in" in said
    # The other version is still there, and the one in use is a link away.
    versions = ssh("ls ~/.local/share/mlflow; readlink ~/.local/share/mlflow/current", user="grace")
    assert re.findall(r"(?m)^(\d\S+)-", versions) == [UNGUARDED, DEFAULT, UNGUARDED]
