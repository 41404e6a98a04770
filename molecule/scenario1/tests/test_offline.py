"""A host without any network takes its packages from a wheel directory on the controller."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LAB = [sys.executable, str(ROOT / "molecule/lab/lab.py")]


@pytest.fixture
def inventory() -> Iterator[str]:
    """The inventory of one fresh host that reaches nothing."""
    up = [*LAB, "up", "offline", "island:debian12:scenario1", "--network-none"]
    yield subprocess.run(up, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    subprocess.run([*LAB, "down", "offline"], check=True)


def test_a_wheelhouse_is_enough(inventory: str) -> None:
    subprocess.run(["make", "wheelhouse"], cwd=ROOT, check=True)
    host = ["island", "--inventory", inventory]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    ping = ["ansible", *host, "-m", "ansible.builtin.command", "-a"]
    # It is an island: not even a name resolves.
    index = subprocess.run(
        [*ping, "getent hosts example.org"], cwd=ROOT, env=environment, check=False
    )
    assert index.returncode != 0
    done = subprocess.run(
        ["ansible-playbook", "playbooks/scenario1.yml", "--limit", "island",
         "--inventory", "inventories/scenario1", "--inventory", inventory,
         "--extra-vars", f"mlflow_wheelhouse={ROOT}/wheelhouse"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
