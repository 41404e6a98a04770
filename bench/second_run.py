"""A run that has nothing to do, against the same of the release before programs had a package."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench._figures import Figure, in_turn, ratio, timed
from bench._hosts import LAB, ROOT, Host, fresh_hosts, run
from bench._playbooks import WITHOUT_SMOKE

EARLIER = ROOT / ".lab/earlier/playbooks"  # lab.py earlier
PLAYBOOKS = {"now": "playbooks", "before": str(EARLIER)}


def measure() -> Iterator[Figure]:
    """Yield the figure of scenario 2: a host of each release, looked at in turn."""
    run(sys.executable, LAB, "earlier")
    with fresh_hosts("scenario2", dict.fromkeys(PLAYBOOKS, "scenario2"), user="ops") as hosts:

        def again(host: Host) -> str:
            playbook = f"{PLAYBOOKS[host.name]}/scenario2.yml"
            return host.playbook(playbook, "--limit", host.name, *WITHOUT_SMOKE)

        for host in hosts:
            again(host)
        ways = {host.name: lambda host=host: timed(lambda: again(host)) for host in hosts}
        samples = in_turn(7, ways)
    yield ratio("scenario2: second run / the earlier release's", samples, ("now", "before"), 1.15)
