"""The role mlflow_cleaning: ages, whose files are whose, and what it refuses before it changes."""

import argparse
import importlib.util
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_cleaning"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

specification = importlib.util.spec_from_file_location("clean", ROLE / "files/clean.py")
assert specification and specification.loader
clean: Any = importlib.util.module_from_spec(specification)
sys.modules["clean"] = clean  # where its dataclass looks
specification.loader.exec_module(clean)


@pytest.mark.parametrize(
    "text, means",
    [
        ("30d", timedelta(days=30)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("2h30m10s", timedelta(hours=2, minutes=30, seconds=10)),
        ("0s", timedelta()),
    ],
)
def test_ages(text: str, means: timedelta) -> None:
    assert clean.age(text) == means


@pytest.mark.parametrize("text", ["", "30", "d", "30 d", "1h2d", "-1d", "1w"])
def test_what_is_no_age(text: str) -> None:
    """A number without a unit least of all: 0 seconds or 30 years, who knows."""
    with pytest.raises(argparse.ArgumentTypeError, match="it is like 30d"):
        clean.age(text)


def run(place: str) -> Any:
    return clean.Thing("run", "cafe01", "fox", place, 0, 7)


@pytest.mark.parametrize(
    "place, directory",
    [
        ("mlflow-artifacts:/7/cafe01/artifacts", "mlflow-artifacts:/7/cafe01"),
        ("s3://team/old/7/cafe01/artifacts", "s3://team/old/7/cafe01"),
        ("/srv/mlruns/7/cafe01/artifacts", "/srv/mlruns/7/cafe01"),
    ],
)
def test_a_runs_own_directory(place: str, directory: str) -> None:
    assert clean.own_directory(run(place)) == directory


@pytest.mark.parametrize(
    "place",
    [
        "mlflow-artifacts:/7/artifacts",
        "mlflow-artifacts:/7/cafe01",
        "s3://team",
        "mlflow-artifacts:/../cafe01/artifacts",
        "/srv/a/../cafe01/artifacts",
    ],
)
def test_no_other_directory_goes(place: str) -> None:
    """Who makes an experiment says where its files are; others' may be there too."""
    with pytest.raises(clean.Refused, match="not in a directory of its own"):
        clean.own_directory(run(place))


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an age without a unit": (
        {"mlflow_cleaning_older_than": "30"}, ["mlflow_cleaning_older_than", '"30"', "30d"],
    ),
    "an age in weeks": ({"mlflow_cleaning_older_than": "2w"}, ["mlflow_cleaning_older_than"]),
    "a size in words": (
        {"mlflow_cleaning_journal_max_size": "1 GB"}, ["mlflow_cleaning_journal_max_size", "500M"],
    ),
    "a relative directory": (
        {"mlflow_cleaning_directories": ["/srv", "srv"]}, ["mlflow_cleaning_directories"],
    ),
    "no such time": (
        {"mlflow_cleaning_schedule": "at night"}, ["mlflow_cleaning_schedule", "at night"],
    ),
    "no server": (
        {"mlflow_cleaning_library": "/nowhere"}, ["no /nowhere", "playbooks/scenario2.yml"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, tmp_path: Path) -> None:
    """One error names the variable, what is allowed and the file."""
    variables, words = BAD_INPUT[case]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "service_lock.py").touch()
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "mlflow_cleaning_environment": str(tmp_path),
        "mlflow_cleaning_library": str(tmp_path),
        **variables,
    }
    playbook = tmp_path / "playbook.yml"
    task = {"ansible.builtin.import_role": {"name": "mlflow_cleaning", "tasks_from": "preflight"}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    playbook.write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", playbook, "-e", json.dumps(given)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    error = " ".join(done.stdout.rpartition("fatal:")[2].split())
    for word in [*words, "Nothing was changed"]:
        assert word in error
