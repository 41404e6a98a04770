"""What the scenarios' measurements have in common: playbooks, locks and the smoke."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

from bench._figures import Figure, in_turn, ratio, timed
from bench._hosts import ROOT, BenchError, Host, run

HERE = Path(__file__).parent
ROLE = ROOT / "roles" / "mlflow"
WITHOUT_SMOKE = ("--skip-tags", "smoke")


def bring_scripts(host: Host) -> None:
    """Copy the scripts by hand onto a host, and the role's locks, which they install by."""
    version = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())["mlflow_version"]
    for script in sorted(HERE.glob("scenario*-*.sh")):
        host.copy(script)
    host.copy(ROLE / "files" / "uv.txt")
    host.copy(ROLE / "files" / "locks" / f"mlflow-{version}.txt", "lock.txt")


def bring_smoke(host: Host) -> None:
    """Copy the smoke onto a host as smoke.pyz, in the one file that its role transfers, too."""
    host.copy(Path(run(sys.executable, ROOT / "smoke" / "pack.py").strip()), "smoke.pyz")


def second_run(host: Host, scenario: str, limit: float) -> Figure:
    """Compare a playbook that has nothing to do with Ansible's own plain look at a host.

    Args:
        host: where the playbook has run before.
        scenario: the playbook's and the figure's.
        limit: the largest ratio that is good enough.

    Raises:
        BenchError: when the playbook changes something.
    """

    def again() -> str:
        said = host.playbook(f"playbooks/{scenario}.yml", *WITHOUT_SMOKE)
        if not re.search(r"changed=0 .*failed=0", said):
            raise BenchError(f"The second run changed something:\n{said}")
        return said

    ways = {
        "second run": lambda: timed(again),
        "setup": lambda: timed(lambda: host.module("ansible.builtin.setup")),
    }
    samples = in_turn(7, ways)
    return ratio(f"{scenario}: second run / setup", samples, ("second run", "setup"), limit)
