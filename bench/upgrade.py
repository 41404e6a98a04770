"""An upgrade: how long nobody is served, against the bare commands that it cannot do without."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench._figures import Figure, in_turn, ratio
from bench._hosts import Host, fresh_host
from bench._playbooks import HERE, WITHOUT_SMOKE, default_version
from bench.scenario3 import CLIENT, SERVER, VARIABLES

FROM = "2.22.5"
OLD = f'--extra-vars={{"mlflow_version": "{FROM}", "mlflow_server_accept_unguarded": true}}'


def measure() -> Iterator[Figure]:
    """Yield the outage for a server with SQLite, and for one with two databases in PostgreSQL."""
    with fresh_host("scenario2", user="ops") as host:
        yield outage(host, "scenario2", "SQLite")
    with fresh_host("scenario3", user="ops", groups=f"{SERVER},{CLIENT}") as host:
        yield outage(host, "scenario3", "PostgreSQL", VARIABLES)


def outage(host: Host, scenario: str, database: str, *variables: str) -> Figure:
    """Compare the outage of upgrade.yml with stop, migrate and start, typed as a script.

    Args:
        host: a fresh one.
        scenario: whose playbook makes the server.
        database: the figure's name.
        *variables: the playbook's.
    """
    host.playbook(f"playbooks/{scenario}.yml", OLD, *WITHOUT_SMOKE, *variables)
    host.copy(HERE / "upgrade-bare.sh")

    def by_playbook() -> float:
        said = host.playbook("playbooks/upgrade.yml", *WITHOUT_SMOKE, *variables)
        seconds = re.search(r"did not serve for ([0-9.]+) s", said)
        assert seconds, said  # noqa: S101
        host.ssh(f"sudo sh upgrade-bare.sh back {FROM}")
        return float(seconds[1])

    def by_hand() -> float:
        said = host.ssh(f"sudo sh upgrade-bare.sh forward {FROM} {default_version()}")
        host.ssh(f"sudo sh upgrade-bare.sh back {FROM}")
        return float(said.splitlines()[-1])

    samples = in_turn(3, {"playbook": by_playbook, "bare commands": by_hand})
    name = f"upgrade: outage with {database} / stop, migrate, start"
    return ratio(name, samples, ("playbook", "bare commands"), 1.5)
