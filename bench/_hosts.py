"""Fresh hosts of the lab, and commands on them over one kept SSH connection."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "molecule" / "lab" / "lab.py"
TOOLS = Path(sys.executable).parent
SETTLE = 10  # seconds
TIMEOUT = 1200  # seconds for one command; the slowest, pip, takes about one or two minutes


class BenchError(Exception):
    """A command of a measurement failed: there is nothing to measure."""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Return a command's standard output.

    Raises:
        BenchError: with its last words, when it fails or takes too long.
    """
    spoken = shlex.join(map(str, command))
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{spoken}: no end after {TIMEOUT} s") from error
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()[-30:]
        raise BenchError("\n".join([f"{spoken} failed:", *words]))
    return done.stdout


@dataclass(frozen=True)
class Host:
    """A host, reached by people and by Ansible over the same kept connection.

    Attributes:
        name: in the inventory.
        inventory: Ansible's.
        control: the directory of the connection's socket.
    """

    name: str
    inventory: Path
    control: Path

    @property
    def _options(self) -> list[str]:
        """What ssh and scp need besides the address."""
        settings = self._settings
        return [
            f"-i{settings['ansible_ssh_private_key_file']}",
            *shlex.split(settings["ansible_ssh_common_args"]),
            *("-oControlMaster=auto", "-oControlPersist=60s", f"-oControlPath={self.control}/%C"),
        ]

    @property
    def _settings(self) -> dict[str, str]:
        """The host's own variables, from the inventory that the lab has written as JSON."""
        groups = json.loads(self.inventory.read_text()).values()
        found: dict[str, str] = next(
            g["hosts"][self.name] for g in groups if self.name in g["hosts"]
        )
        return found

    @property
    def _address(self) -> str:
        settings = self._settings
        return f"{settings['ansible_user']}@{settings['ansible_host']}"

    def ssh(self, command: str) -> str:
        """Return the output of a shell command on the host."""
        return run("ssh", *self._options, self._address, command)

    def copy(self, source: Path, name: str = "") -> None:
        """Copy a file or a directory into the user's home directory, by another name if given."""
        run("scp", "-qr", *self._options, source, f"{self._address}:{name}")

    def disconnect(self) -> None:
        """Close the connection, which outlives its commands for a minute."""
        run("ssh", *self._options, "-Oexit", self._address)

    def playbook(self, playbook: str, *arguments: str) -> str:
        """Run a playbook, a path in the repository, on all hosts; return what it printed."""
        return self._ansible("ansible-playbook", playbook, *arguments)

    def module(self, module: str, *arguments: str) -> str:
        """Run one module on the host; return what it printed."""
        return self._ansible("ansible", self.name, "-m", module, *arguments)

    def _ansible(self, program: str, *arguments: str) -> str:
        settings = {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.control), "ANSIBLE_NOCOLOR": "1"}
        return run(TOOLS / program, "-i", self.inventory, *arguments, environment=settings)


@contextmanager
def fresh_hosts(
    scenario: str, hosts: Mapping[str, str], user: str = "ada"
) -> Iterator[tuple[Host, ...]]:
    """Start Debian 12 hosts on which nothing was ever installed or cached; remove them at the end.

    They have the variables that are shipped for the scenario, and are connected.

    Args:
        scenario: `scenario1`, say.
        hosts: for each name its groups, separated by commas.
        user: whom to connect as.

    Raises:
        BenchError: when one does not come up.
    """
    lab = f"bench-{scenario}"
    with TemporaryDirectory(prefix="bench-") as control:  # short, as the path of a socket must be
        try:
            wanted = [f"{name}:debian12:{groups}" for name, groups in hosts.items()]
            inventory = Path(run(sys.executable, LAB, "up", lab, *wanted, "--user", user).strip())
            variables = inventory.parent / "group_vars"
            variables.symlink_to(ROOT / "inventories" / scenario / "group_vars")
            fresh = tuple(Host(name, inventory, Path(control)) for name in hosts)
            for host in fresh:
                host.ssh("true")
            # The last hosts' files are still being removed: that is not these ones' to pay for.
            os.sync()
            time.sleep(SETTLE)
            yield fresh
            for host in fresh:
                host.disconnect()
        finally:
            run(sys.executable, LAB, "down", lab)


@contextmanager
def fresh_host(scenario: str, user: str = "ada", groups: str = "") -> Iterator[Host]:
    """Start one such host, in the scenario's group unless others are named."""
    with fresh_hosts(scenario, {"bench": groups or scenario}, user) as (host,):
        yield host
