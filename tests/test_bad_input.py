"""A bad value is answered with one clear error, and nothing is changed.

These are the values that are refused before a host is asked; what a host refuses - a full disk, a
directory of somebody else - is tested on real hosts, in molecule/.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = "roles/mlflow/files/locks/mlflow-3.17.2.txt"

# name: (variables, words that the one error must have)
CASES = {
    "wrong type": (
        ["mlflow_compile_bytecode=perhaps"],
        ["mlflow_compile_bytecode", "bool", "perhaps"],
    ),
    "wrong choice": (
        ["mlflow_local_store=postgresql"],
        ["mlflow_client_store", "files", "sqlite", "postgresql"],
    ),
    "unknown version": (
        ["mlflow_version=9.9.9"],
        ["no lock for MLflow 9.9.9", "2.22.5, 3.15.2, 3.17.2", "mlflow_lock", "group_vars"],
    ),
    "a lock of another version": (
        ["mlflow_version=3.16.0", f"mlflow_lock={ROOT / LOCK}"],
        ["not one for MLflow 3.16.0", "mlflow_lock", "--hash", "group_vars"],
    ),
    "relative root": (
        ["mlflow_root=mlflow"],
        ["mlflow_root", "absolute", '"mlflow"', "group_vars"],
    ),
    "home as a tilde": (["mlflow_root=~/mlflow"], ["mlflow_root", "absolute"]),
    "relative project": (
        ["mlflow_client_project=competition"],
        ["mlflow_client_project", "absolute", '"competition"', "group_vars"],
    ),
    "no such wheelhouse": (
        ["mlflow_wheelhouse=/nowhere"],
        ["mlflow_wheelhouse", "/nowhere", "make wheelhouse", "group_vars"],
    ),
    "no such Python": (
        ["mlflow_python=/usr/bin/python9"],
        ["mlflow_python", "/usr/bin/python9", "apt install python3", "group_vars"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case: str, tmp_path: Path) -> None:
    """One error names what is wrong and what to do; neither root nor project comes to be."""
    variables, words = CASES[case]
    root, project = tmp_path / "root", tmp_path / "project"
    command = ["ansible-playbook", "playbooks/scenario1.yml"]
    for variable in [f"mlflow_root={root}", f"mlflow_client_project={project}", *variables]:
        command += ["-e", variable]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert result.returncode == 2, result.stdout
    # Folded text breaks lines where it likes.
    said = " ".join(result.stdout.split())
    for word in words:
        assert word in said
    assert said.count("fatal:") == 1
    assert "changed=0" in said
    assert not root.exists()
    assert not project.exists()
