"""What the guard is asked on hosts of any version that is shipped."""

from __future__ import annotations

import json
import shlex
from typing import Any

from hosts import Lab

TOOLS = "/usr/local/lib/mlflow/current"


def neighbour(lab: Lab, server: str, client: str, *, gateway: bool = False) -> dict[str, Any]:
    """Have grace try, on a client, what she gains over ada at a server; return what it was."""
    words = {
        **({"GATEWAY": "on"} if gateway else {}),
        "OWNER": f"ada:{lab.variables['vault_mlflow_users']['ada']}",
        "NEIGHBOUR": f"grace:{lab.variables['vault_mlflow_users']['grace']}",
        "ARTIFACTS": lab.root(
            server,
            "sed -n 's/^MLFLOW_ARTIFACTS_DESTINATION=\"\\(.*\\)\"$/\\1/p' /etc/mlflow/server.env",
        ).strip(),
    }
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in words.items())
    command = f". /opt/mlflow/client/activate; export {exported}; python3"
    arguments = f'https://{server} "$REQUESTS_CA_BUNDLE"'
    answer = lab.program(client, "neighbour", command, "grace", arguments=arguments)
    return dict(json.loads(answer.splitlines()[-1]))


def routes(lab: Lab, server: str) -> dict[str, Any]:
    """Hold the routes of the application that a server has against the guard's table."""
    command = (
        "home=$(mktemp -d) && trap 'cd /; sudo rm -r $home' EXIT && cd $home && "
        "sudo chown nobody . && "
        f"sudo -u nobody env HOME=$home PYTHONPATH={TOOLS} /opt/mlflow/current/bin/python"
    )
    return dict(json.loads(lab.program(server, "routes", command).splitlines()[-1]))
