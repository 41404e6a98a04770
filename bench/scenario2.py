"""Scenario 2: from a bare host to a proved server, and that server against MLflow's defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from bench._figures import Figure, in_turn, ratio, say, timed
from bench._hosts import Host, fresh_host
from bench._playbooks import HERE, bring_scripts, bring_smoke, idle_memory, second_run

PLAYBOOK = "playbooks/scenario2.yml"
OURS, STOCK = 5000, 5001  # TCP ports; scenario2-stock.sh has the second, too


def measure() -> Iterator[Figure]:
    """Yield the figures of the whole way, of a second run, of memory and of an answer's time."""
    yield from whole_way()
    with fresh_host("scenario2", user="ops") as host:
        host.playbook(PLAYBOOK)
        yield second_run(host, "scenario2", limit=4)
        bring_scripts(host)
        host.ssh("sudo sh scenario2-stock.sh")
        yield idle_memory(host, "scenario2", "ada", limit=0.3)
        yield search(host)


def whole_way() -> Iterator[Figure]:
    """Compare the playbook with scripts by hand, from a bare host to the smoke passed."""

    def on_new_host(install: Callable[[Host], str]) -> float:
        with fresh_host("scenario2", user="ops") as host:
            bring_scripts(host)
            bring_smoke(host)
            return timed(lambda: install(host))

    def by_hand(script: str) -> Callable[[Host], str]:
        command = f"sudo sh {script} /opt/mlflow && sudo sh scenario2-service.sh"
        return lambda host: host.ssh(command)

    samples = in_turn(
        3,
        {
            "playbook": lambda: on_new_host(lambda host: host.playbook(PLAYBOOK)),
            "uv script": lambda: on_new_host(by_hand("scenario1-uv.sh")),
            "pip script": lambda: on_new_host(by_hand("scenario1-pip.sh")),
        },
    )
    yield ratio("scenario2: bare to proved / uv script", samples, ("playbook", "uv script"), 1.5)
    yield ratio("scenario2: bare to proved / pip script", samples, ("playbook", "pip script"), 0.4)


def search(host: Host) -> Figure:
    """Compare the times of `experiments/search`, one client, with those of `mlflow server`."""
    host.copy(HERE / "scenario2-search.py")
    say("experiments/search on both servers")
    times = json.loads(host.ssh(f"python3 scenario2-search.py {OURS} {STOCK}"))
    samples = {"service": times[str(OURS)], "mlflow server": times[str(STOCK)]}
    name = "scenario2: experiments/search / mlflow server"
    return ratio(name, samples, ("service", "mlflow server"), 0.1, "ms")
