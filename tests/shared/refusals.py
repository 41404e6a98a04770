"""Bad input, and what it is answered with: a host for each case, one run of Ansible for all."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


@dataclass(frozen=True)
class Refusals:
    """What a run said, and of it what each case was answered with, in one line.

    Attributes:
        said: everything.
        errors: the one error of each case, by name.
    """

    said: str
    errors: dict[str, str]


def refused(
    folder: Path,
    cases: Mapping[str, Mapping[str, Any]],
    play: str | Path,
    *arguments: str,
    group: str = "all",
    **common: Any,
) -> Refusals:
    """See that each case is answered with one error, and that nothing was changed.

    Args:
        folder: where the inventory comes to be.
        cases: the variables of each, by name.
        play: a role, whose `preflight` is asked, or a playbook's path.
        *arguments: of ansible-playbook.
        group: the inventory's, with the variables that inventories/<group> has.
        **common: variables of all cases.
    """
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: {**local, **common, **variables} for name, variables in cases.items()}
    inventory = folder / "hosts.yml"
    inventory.write_text(yaml.safe_dump({group: {"hosts": hosts}}))
    if (shipped := ROOT / "inventories" / group / "group_vars").exists():
        (folder / "group_vars").symlink_to(shipped)
    if isinstance(play, str):
        task = {"ansible.builtin.import_role": {"name": play, "tasks_from": "preflight"}}
        play = folder / "playbook.yml"
        play.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = subprocess.run(
        [ANSIBLE, "-i", inventory, play, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    output, _, recap = done.stdout.partition("PLAY RECAP")
    found = {}
    for name in cases:
        parts = re.split(rf"^fatal: \[{re.escape(name)}\]", output, flags=re.MULTILINE)[1:]
        assert len(parts) == 1, done.stdout
        # Folded text breaks lines where it likes. What follows is the next host's, or task's.
        text = re.split(r"^(?:fatal: |TASK |\[ERROR\])", parts[0], flags=re.MULTILINE)[0]
        found[name] = " ".join(text.split())
        counts = next(line for line in recap.splitlines() if line.startswith(f"{name} "))
        assert " changed=0 " in counts and " failed=1 " in counts, counts
    return Refusals(done.stdout + done.stderr, found)
