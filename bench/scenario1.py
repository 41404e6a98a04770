"""Scenario 1: what Ansible and the smoke cost on top of the work itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from bench._figures import Figure, in_turn, ratio, timed
from bench._hosts import ROOT, BenchError, Host, fresh_host

HERE = Path(__file__).parent
ROLE = ROOT / "roles" / "mlflow"
PLAYBOOK = "playbooks/scenario1.yml"
WITHOUT_SMOKE = ("--skip-tags", "smoke")
MLFLOW = "~/.local/share/mlflow/current"
# The packages, installers aside, and how many of their modules are compiled.
STATE = f"""
cd {MLFLOW}/lib/python3*/site-packages
ls -d *.dist-info | grep -Ev '^(pip|setuptools|uv)-'
find . -name '*.pyc' -not -path './pip/*' -not -path './setuptools/*' -not -path './uv/*' | wc -l
"""


def measure() -> Iterator[Figure]:
    """Yield the figures of the installation, of a second run, and of the smoke."""
    yield from installation()
    with fresh_host("scenario1") as host:
        host.playbook(PLAYBOOK, *WITHOUT_SMOKE)
        yield second_run(host)
        yield smoke(host)


def installation() -> Iterator[Figure]:
    """The role against scripts by hand: a new host each time, all packages over the network."""
    version = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())["mlflow_version"]
    states = set()

    def on_new_host(install: Callable[[Host], str]) -> float:
        with fresh_host("scenario1") as host:
            host.copy(HERE / "scenario1-uv.sh")
            host.copy(HERE / "scenario1-pip.sh")
            host.copy(ROLE / "files" / "uv.txt")
            host.copy(ROLE / "files" / "locks" / f"mlflow-{version}.txt", "lock.txt")
            seconds = timed(lambda: install(host))
            states.add(host.ssh(STATE))
        if len(states) > 1:
            raise BenchError(
                "The role and the scripts do not reach the same state:\n" + "\n".join(states)
            )
        return seconds

    samples = in_turn(
        3,
        {
            "role": lambda: on_new_host(lambda host: host.playbook("bench/scenario1-role.yml")),
            "uv script": lambda: on_new_host(lambda host: host.ssh("sh scenario1-uv.sh")),
            "pip script": lambda: on_new_host(lambda host: host.ssh("sh scenario1-pip.sh")),
        },
    )
    yield ratio("scenario1: role install / uv script", samples, ("role", "uv script"), 1.5)
    yield ratio("scenario1: role install / pip script", samples, ("role", "pip script"), 0.35)


def second_run(host: Host) -> Figure:
    """The playbook with nothing to do against Ansible's own smallest look at a host."""

    def again() -> float:
        seconds = timed(lambda: said.append(host.playbook(PLAYBOOK, *WITHOUT_SMOKE)))
        if not re.search(r"changed=0 .*failed=0", said[-1]):
            raise BenchError(f"The second run changed something:\n{said[-1]}")
        return seconds

    said: list[str] = []
    ways = {
        "second run": again,
        "setup": lambda: timed(lambda: host.module("ansible.builtin.setup")),
    }
    return ratio("scenario1: second run / setup", in_turn(5, ways), ("second run", "setup"), 4)


def smoke(host: Host) -> Figure:
    """The smoke, `mlflow ui` left out, against a plain file with the same calls to MLflow."""
    host.copy(ROOT / "smoke" / "mlflow_smoke")
    host.copy(HERE / "scenario1-bare.py")
    commands = {
        "smoke": f"{MLFLOW}/bin/python -m mlflow_smoke scenario1 --project ~/mlflow --without-ui",
        "bare file": ". ~/mlflow/activate && python scenario1-bare.py",
    }

    def on_new_store(command: str) -> float:
        host.ssh("rm -rf ~/mlflow/mlruns")
        return timed(lambda: host.ssh(command))

    for command in commands.values():  # the first call compiles modules
        on_new_store(command)
    ways = {
        name: lambda command=command: on_new_store(command) for name, command in commands.items()
    }
    return ratio("scenario1: smoke / bare file", in_turn(5, ways), ("smoke", "bare file"), 1.3)
