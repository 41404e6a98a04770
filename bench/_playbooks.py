"""What the scenarios' measurements have in common: playbooks, locks and the smoke."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import yaml

from bench._figures import Figure, in_turn, ratio, timed
from bench._hosts import ROOT, BenchError, Host, run

HERE = Path(__file__).parent
ROLE = ROOT / "roles" / "mlflow"
STORE = ROOT / "roles" / "seaweedfs"
WITHOUT_SMOKE = ("--skip-tags", "smoke")


def default_version() -> str:
    """Return the version of MLflow that the playbooks install."""
    return str(yaml.safe_load((ROLE / "defaults/main.yml").read_text())["mlflow_version"])


def bring_scripts(host: Host) -> None:
    """Copy the scripts by hand onto a host, and the roles' locks, which they install by."""
    for script in sorted(HERE.glob("scenario*-*.sh")):
        host.copy(script)
    host.copy(ROLE / "files" / "uv.txt")
    host.copy(STORE / "files" / "seaweedfs.txt")
    host.copy(ROLE / "files" / "locks" / f"mlflow-{default_version()}.txt", "lock.txt")


def bring_smoke(host: Host) -> None:
    """Copy the smoke onto a host as smoke.pyz, in the one file that its role transfers, too."""
    host.copy(Path(run(sys.executable, ROOT / "smoke" / "pack.py").strip()), "smoke.pyz")


def second_run(host: Host, scenario: str, limit: float, *arguments: str) -> Figure:
    """Compare a playbook that has nothing to do with Ansible's own plain look at a host.

    Args:
        host: the one to look at, where the playbook has run before, as on all of its inventory.
        scenario: the playbook's and the figure's.
        limit: the largest ratio that is good enough.
        *arguments: the playbook's.

    Raises:
        BenchError: when the playbook changes something.
    """

    def again() -> str:
        said = host.playbook(f"playbooks/{scenario}.yml", *WITHOUT_SMOKE, *arguments)
        hosts = re.findall(r" : ok=.* changed=([0-9]+) .* failed=([0-9]+) ", said)
        if not hosts or set(hosts) != {("0", "0")}:
            raise BenchError(f"The second run changed something:\n{said}")
        return said

    ways = {
        "second run": lambda: timed(again),
        "setup": lambda: timed(lambda: host.module("ansible.builtin.setup")),
    }
    samples = in_turn(7, ways)
    return ratio(f"{scenario}: second run / setup", samples, ("second run", "setup"), limit)


def idle_memory(host: Host, scenario: str, stock_user: str, limit: float) -> Figure:
    """Compare the resident memory of the service, at rest, with that of `mlflow server`.

    Args:
        host: where both run.
        scenario: the figure's.
        stock_user: whose processes are `mlflow server`, and nothing else.
        limit: the largest ratio that is good enough.
    """

    def at_rest(user: str) -> float:
        """Resident MB of a user's processes, as soon as they have stopped growing."""
        seen = [0.0]
        for _ in range(24):
            pages = host.ssh(f"ps -o rss= -u {user}").split()
            seen.append(sum(map(int, pages)) / 1000)
            if seen[-1] and abs(seen[-1] - seen[-2]) < 0.01 * seen[-1]:
                return seen[-1]
            time.sleep(5)
        raise BenchError(f"The processes of {user} do not come to rest: {seen[1:]} MB")

    ways = {"service": lambda: at_rest("mlflow"), "mlflow server": lambda: at_rest(stock_user)}
    samples = in_turn(3, ways)
    name = f"{scenario}: idle memory / mlflow server"
    return ratio(name, samples, ("service", "mlflow server"), limit, "MB")
