"""A bad value is answered with one clear error, and nothing is changed.

These are the values that are refused before a host is asked; what a host refuses - a full disk, a
directory of somebody else - is tested on real hosts, in molecule/.
"""

from pathlib import Path

import pytest
from refusals import refused
from versions import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
LOCK = "roles/mlflow/files/locks/mlflow-3.17.2.txt"

# name: (variables, words that the one error must have)
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "wrong type": (
        {"mlflow_compile_bytecode": "perhaps"},
        ["mlflow_compile_bytecode", "bool", "perhaps"],
    ),
    "wrong choice": (
        {"mlflow_local_store": "postgresql"},
        ["mlflow_client_store", "files", "sqlite", "postgresql"],
    ),
    "unknown version": (
        {"mlflow_version": "9.9.9"},
        ["no lock for MLflow 9.9.9", ", ".join(reversed(SHIPPED)), "mlflow_lock", "group_vars"],
    ),
    "a lock of another version": (
        {"mlflow_version": "3.16.0", "mlflow_lock": str(ROOT / LOCK)},
        ["not one for MLflow 3.16.0", "mlflow_lock", "--hash", "group_vars"],
    ),
    "relative root": (
        {"mlflow_root": "mlflow"},
        ["mlflow_root", "absolute", '"mlflow"', "group_vars"],
    ),
    "home as a tilde": ({"mlflow_root": "~/mlflow"}, ["mlflow_root", "absolute"]),
    "relative project": (
        {"mlflow_client_project": "competition"},
        ["mlflow_client_project", "absolute", '"competition"', "group_vars"],
    ),
    "no such wheelhouse": (
        {"mlflow_wheelhouse": "/nowhere"},
        ["mlflow_wheelhouse", "/nowhere", "make wheelhouse", "group_vars"],
    ),
    "no such Python": (
        {"mlflow_python": "/usr/bin/python9"},
        ["mlflow_python", "/usr/bin/python9", "apt install python3", "group_vars"],
    ),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return where each case has root and project, and what it was answered with."""
    folder = tmp_path_factory.mktemp("bad")
    cases = {
        case: {
            "mlflow_root": f"{folder}/{case}/root",
            "mlflow_client_project": f"{folder}/{case}/project",
            **variables,
        }
        for case, (variables, _) in CASES.items()
    }
    playbook = ROOT / "playbooks/scenario1.yml"
    return folder, refused(folder, cases, playbook, group="scenario1").errors


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case: str, ran: tuple[Path, dict[str, str]]) -> None:
    """One error names what is wrong and what to do; neither root nor project comes to be."""
    folder, errors = ran
    for word in CASES[case][1]:
        assert word in errors[case]
    assert not (folder / case).exists()
