"""The promotion of many local runs to a team's server, client and server on one host."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench._figures import Figure, say
from bench._hosts import fresh_host
from bench._playbooks import HERE

FEW, MANY = 2_000, 10_000  # runs, each with five metrics and five params
HOUR_FOR = 50_000  # runs
LIMIT = 3600 * MANY / HOUR_FOR  # seconds for MANY
GROWTH = 1.3  # how much longer a run of MANY may take than one of FEW


def measure() -> Iterator[Figure]:
    """Yield the seconds of a large store, and how they grow with its size."""
    with fresh_host("scenario2", user="ops") as host:
        host.playbook("playbooks/scenario2.yml")
        host.copy(HERE / "promote-store.py")
        seconds = {}
        for count in (FEW, MANY):
            say(f"promotion of {count} runs")
            host.ssh(f"rm -rf mlruns; python3 promote-store.py mlruns {count}")
            begin = time.monotonic()
            host.playbook("playbooks/promote.yml", "-e", "mlflow_promote_source=/home/ops/mlruns")
            seconds[count] = time.monotonic() - begin
        yield Figure(
            f"promotion of {MANY:,} runs", round(seconds[MANY]), "s", LIMIT, "lower",
            {"seconds": [seconds[MANY]]}, "s",
        )  # fmt: skip
        growth = (seconds[MANY] / MANY) / (seconds[FEW] / FEW)
        yield Figure(
            f"promotion: a run of {MANY:,} as against one of {FEW:,}", round(growth, 2), "times",
            GROWTH, "lower", {str(count): [seconds[count]] for count in seconds}, "s",
        )  # fmt: skip
