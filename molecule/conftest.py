"""What the tests of all Molecule scenarios share.

They run under `molecule verify`, and as plainly as `pytest molecule/scenario1/tests`. Where hosts
are alike, each test runs on every one of them; where they work together (`lab`), a test names those
that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import Lab, ended, over_ssh, with_group_vars
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]


def scenario(path: Path) -> str:
    """Return the scenario that a file below molecule/ belongs to."""
    return path.relative_to(ROOT / "molecule").parts[0]


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tell testinfra, unless the command line does, which hosts a module's tests are for.

    All of the scenario's, or the one that the module names in HOSTS.
    """
    inventory = ROOT / ".lab" / scenario(metafunc.definition.path) / "hosts.yml"
    wanted = getattr(metafunc.module, "HOSTS", "all")
    hosts = [f"ansible://{wanted}?ansible_inventory={inventory}"]
    metafunc.module.testinfra_hosts = hosts


# In these the hosts of a scenario work together, as one installation.
TOGETHER = {"scenario3", "scenario3_split"}


class HostByHost(LoadScopeScheduling):  # type: ignore[misc]
    """Several hosts at once, and on each, or on those that work together, one test at a time."""

    def _split_scope(self, nodeid: str) -> str:
        path = ROOT / nodeid.partition("::")[0]
        if not path.is_relative_to(ROOT / "molecule"):
            return str(path)
        if scenario(path) in TOGETHER:
            return scenario(path)
        hosts = [name for group in groups(path).values() for name in group["hosts"]]
        here = [name for name in hosts if name in nodeid.partition("[")[2]]
        return f"{scenario(path)} {max(here, key=len)}" if here else nodeid


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that works on hosts and whose name says nothing of which.

    It would run beside the tests of those hosts, and break them or be broken.
    """
    for item in items:
        path, name = Path(item.path), item.name.partition("[")[2]
        if not path.is_relative_to(ROOT / "molecule") or scenario(path) in TOGETHER:
            continue
        known = {host for group in groups(path).values() for host in group["hosts"]}
        works = known and "lab" in getattr(item, "fixturenames", ())
        if works and not any(host in name for host in known):
            raise pytest.UsageError(f"{item.nodeid}: parametrize it with the host it works on.")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> HostByHost:
    """Say how tests are spread where there are several workers (--numprocesses)."""
    return HostByHost(config, log)


def groups(path: Path) -> dict[str, Any]:
    """Return the lab's inventory for a file below molecule/; nothing where there is no lab."""
    inventory = ROOT / ".lab" / scenario(path) / "hosts.yml"
    return dict(json.loads(inventory.read_text())) if inventory.is_file() else {}


@pytest.fixture(scope="module")
def variables(host: Any, request: pytest.FixtureRequest) -> dict[str, str]:
    """The host's connection variables, and its name, from the lab's inventory."""
    inventory = ROOT / ".lab" / scenario(request.path) / "hosts.yml"
    name = host.backend.host
    found: dict[str, str] = next(
        group["hosts"][name] for group in groups(request.path).values() if name in group["hosts"]
    )
    return {**found, "name": name, "inventory": str(inventory)}


@pytest.fixture(scope="module")
def ssh(variables: dict[str, str]) -> Callable[..., str]:
    """Run a shell script on the host as a person would, and return what it prints."""
    return lambda script, user="ada", shell="sh": over_ssh(variables, script, user, shell)


@pytest.fixture(scope="module")
def playbook(variables: dict[str, str], request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """The command that runs a shipped playbook on this host alone, with the shipped variables."""
    inventory = with_group_vars(Path(variables["inventory"]), scenario(request.path))

    def command(name: str, *arguments: str, user: str = "ada", **extra: str) -> list[str]:
        extra["ansible_user"] = user
        return [
            "ansible-playbook", str(ROOT / "playbooks" / name), *arguments,
            "--inventory", str(inventory), "--limit", variables["name"],
            "--extra-vars", json.dumps(extra),
        ]  # fmt: skip

    return command


@pytest.fixture(scope="module")
def play(playbook: Callable[..., list[str]]) -> Callable[..., str]:
    """Run a shipped playbook on this host, see it succeed, and return its output."""
    return lambda name, *arguments, **extra: ended(playbook(name, *arguments, **extra), 0)


@pytest.fixture(scope="module")
def refused(playbook: Callable[..., list[str]]) -> Callable[..., str]:
    """Run a shipped playbook on this host, see it fail, and return its error in one line."""

    def run(name: str, *arguments: str, **extra: str) -> str:
        output = ended(playbook(name, *arguments, **extra), 2)
        # Folded text breaks lines where it likes. The last error is the one for people.
        return " ".join(output.rpartition("fatal:")[2].split())

    return run


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The hosts of a scenario in which they work together."""
    found = Lab(scenario(request.path))
    if not found.inventory.is_file():
        pytest.fail(f"There are no hosts: molecule/run.py --keep {found.name}", pytrace=False)
    return found
