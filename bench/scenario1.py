"""Scenario 1: what Ansible and the smoke cost on top of the work itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench._figures import Figure, in_turn, ratio, timed
from bench._hosts import BenchError, Host, fresh_host
from bench._playbooks import HERE, WITHOUT_SMOKE, bring_scripts, bring_smoke, second_run

MLFLOW = "~/.local/share/mlflow/current"
# The packages, installers aside, and how many of their modules are compiled.
STATE = f"""
cd {MLFLOW}/lib/python3*/site-packages
ls -d *.dist-info | grep -Ev '^(pip|setuptools|uv)-'
find . -name '*.pyc' | grep -Ev '^./(pip|setuptools|pkg_resources|_distutils_hack|uv)/' | wc -l
"""


def measure() -> Iterator[Figure]:
    """Yield the figures of the installation, of a second run, and of the smoke."""
    yield from installation()
    with fresh_host("scenario1") as host:
        host.playbook("playbooks/scenario1.yml", *WITHOUT_SMOKE)
        yield second_run(host, "scenario1", limit=4)
        yield smoke(host)


def installation() -> Iterator[Figure]:
    """The role against scripts by hand: a new host each time, all packages over the network."""
    states = set()

    def on_new_host(install: Callable[[Host], str]) -> float:
        with fresh_host("scenario1") as host:
            bring_scripts(host)
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


def smoke(host: Host) -> Figure:
    """The smoke, `mlflow ui` left out, against a plain file with the same calls to MLflow."""
    bring_smoke(host)
    host.copy(HERE / "scenario1-bare.py")
    commands = {
        "smoke": f"{MLFLOW}/bin/python smoke.pyz scenario1 --project ~/mlflow --without-ui",
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
    return ratio("scenario1: smoke / bare file", in_turn(7, ways), ("smoke", "bare file"), 1.3)
