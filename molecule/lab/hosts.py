"""The hosts of a lab as tests see them: people's shells, and playbooks that are run on them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def document(name: str) -> str:
    """Return the first Python program in one of the documents, as a person finds it."""
    found = re.search(r"(?s)```python\n(.*?)```", (ROOT / "docs" / name).read_text())
    assert found
    return found[1]


def over_ssh(settings: dict[str, str], script: str, user: str, shell: str = "sh") -> str:
    """Run a shell script on a host as a person would, and return what it prints."""
    options = [*settings["ansible_ssh_common_args"].split(), "-F", "none", "-l", user]
    options += ["-i", settings["ansible_ssh_private_key_file"], settings["ansible_host"]]
    done = subprocess.run(
        ["ssh", *options, shell],
        input=script,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{script}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def scp(settings: dict[str, str], *words: str) -> None:
    """Copy a file to or from a host, by `scp` as its administrator."""
    options = [*settings["ansible_ssh_common_args"].split(), "-F", "none", "-q"]
    options += ["-i", settings["ansible_ssh_private_key_file"]]
    subprocess.run(["scp", *options, *words], check=True, timeout=300)


def ended(command: list[str], code: int) -> str:
    """Run a playbook's command to its end, see its exit code, and return its output."""
    done = subprocess.run(
        command,
        cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != code:
        pytest.fail(done.stdout + done.stderr)
    return done.stdout


def with_group_vars(inventory: Path, scenario: str) -> Path:
    """Return an inventory that has the scenario's variables beside it, as a team has them."""
    own = ROOT / "molecule" / scenario / "group_vars"
    with contextlib.suppress(FileExistsError):
        inventory.with_name("group_vars").symlink_to(
            own if own.exists() else ROOT / "inventories" / scenario / "group_vars"
        )
    return inventory


@dataclass(frozen=True)
class Lab:
    """The hosts of a scenario in which they work together; a test names those it is about.

    Attributes:
        name: the scenario's.
    """

    name: str

    @property
    def inventory(self) -> Path:
        """The lab's own inventory."""
        return ROOT / ".lab" / self.name / "hosts.yml"

    @property
    def hosts(self) -> dict[str, dict[str, str]]:
        """The connection variables of each host."""
        return {
            name: settings
            for group in json.loads(self.inventory.read_text()).values()
            for name, settings in group["hosts"].items()
        }

    def address(self, host: str) -> str:
        """The host's address."""
        return self.hosts[host]["ansible_host"]

    def ssh(self, host: str, script: str, user: str = "ada") -> str:
        """Run a shell script on a host as a person would, and return what it prints."""
        return over_ssh(self.hosts[host], script, user)

    def root(self, host: str, script: str) -> str:
        """Run a shell script on a host as root, to its first failure."""
        return self.ssh(
            host, f"sudo sh -eu <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT\n", user="ops"
        )

    def copy(self, host: str, file: str, to: Path) -> None:
        """Copy a file of a host, which everybody may read, to this machine."""
        scp(self.hosts[host], f"ops@[{self.address(host)}]:{file}", str(to))

    def send(self, host: str, file: Path, to: str) -> None:
        """Copy a file of this machine to a host."""
        scp(self.hosts[host], str(file), f"ops@[{self.address(host)}]:{to}")

    def python(self, host: str, user: str, program: str, *arguments: str, before: str = "") -> Any:
        """Run a person's Python program in a shell that she has activated.

        Args:
            host: where.
            user: who she is.
            program: its text, which prints JSON in its last line.
            *arguments: the program's.
            before: what she types first.

        Returns:
            What the JSON says.
        """
        script = f"{before}\n. /opt/mlflow/client/activate\ncat > program.py <<'END_OF_PROGRAM'\n"
        script += f"{program}\nEND_OF_PROGRAM\npython program.py {' '.join(arguments)}\n"
        return json.loads(self.ssh(host, script, user).splitlines()[-1])

    @contextlib.contextmanager
    def logging(self, host: str, user: str = "ada") -> Iterator[list[int]]:
        """Have a person log runs meanwhile; yield how many, and how many are whole, in the end."""
        program, numbers = (HERE / "programs/log.py").read_text(), list[int]()
        with ThreadPoolExecutor() as pool:
            running = pool.submit(self.python, host, user, program, before="rm -f stop")
            try:
                yield numbers
            finally:
                self.ssh(host, "touch stop", user)
            numbers += running.result()

    def program(
        self, host: str, name: str, command: str, user: str = "ops", *, arguments: str = ""
    ) -> str:
        """Return what a program of programs/ prints, run by a command on a host as a person."""
        text = (HERE / "programs" / f"{name}.py").read_text()
        command = f"{command} - {arguments}"
        return self.ssh(host, f"{command} <<'END_OF_PROGRAM'\n{text}\nEND_OF_PROGRAM", user)

    def open_ports(self, *hosts: str, seen_from: str) -> dict[str, list[int]]:
        """Return the TCP ports of each host, of all there are, that answer another host."""
        said = self.program(seen_from, "ports", "python3", "grace", arguments=" ".join(hosts))
        return dict(json.loads(said))

    @property
    def _vault(self) -> Path:
        """The file with what a team would have in its vault."""
        return ROOT / "molecule" / self.name / "vars/vault.yml"

    @property
    def variables(self) -> dict[str, Any]:
        """What a team would have in its vault."""
        return dict(yaml.safe_load(self._vault.read_text()))

    def command(
        self, name: str, *arguments: str, inventory: Path | None = None, **extra: Any
    ) -> list[str]:
        """Return the command that runs a shipped playbook with the shipped variables.

        Args:
            name: the playbook's.
            *arguments: further ones.
            inventory: one instead of the lab's own.
            **extra: variables.
        """
        inventory = with_group_vars(inventory or self.inventory, self.name)
        return [
            "ansible-playbook", str(ROOT / "playbooks" / name), "--inventory", str(inventory),
            "--extra-vars", f"@{self._vault}", "--extra-vars", json.dumps(extra), *arguments,
        ]  # fmt: skip

    def play(self, name: str, *arguments: str, code: int = 0, **extra: Any) -> str:
        """Run such a playbook, see its exit code (2 where it must fail), return its output."""
        return ended(self.command(name, *arguments, **extra), code)
