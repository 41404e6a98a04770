"""Tell whether the MLflow server of this host really works: database, artifacts, authentication.

MLflow's own /health says OK while its database is down. This asks for an experiment, then puts,
gets and deletes an artifact, as a client does. Exit code 0: ready. 1: not, and one sentence on
stderr says why. Used by the systemd unit (so that `systemctl start` means ready) and by people:
`sudo mlflow-ready`.

A start that somebody asked for fails without artifacts: an upgrade or a new key may be to blame.
When systemd starts the service again by itself it is the store that is away, and the service goes
on without: ended for that, over and over, it would take no metrics either.

Settings come from the environment, as the service has them, or else from its environment file.
Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from .. import installation
from ..client import NotReady, Server
from ..host.units import ask, main_process_ended
from ..installation import NotInstalled
from ..settings import become, read_settings


def steps(server: Server) -> Iterator[tuple[str, float]]:
    """Go through database and artifacts once; yield each step that succeeded, with its seconds.

    Raises NotReady at the first that does not.
    """
    database = server.settings["MLFLOW_BACKEND_STORE_URI"]
    if database.startswith("sqlite:///"):
        # Open connections go on working on a file that was removed: look for its name.
        file = Path(database[len("sqlite:///") :])
        if not file.exists():
            raise NotReady(f"Database: the file {file} is gone.")
    query = json.dumps({"max_results": 1}).encode()
    began = time.monotonic()
    server.request("Database", "POST", "/api/2.0/mlflow/experiments/search", query)
    yield "database", time.monotonic() - began

    name, content = f"readiness-{uuid.uuid4().hex}", os.urandom(64)
    directory = f"/api/2.0/mlflow-artifacts/artifacts/{name}"
    began = time.monotonic()
    server.request("Put an artifact", "PUT", f"{directory}/probe", content)
    yield "artifact_put", time.monotonic() - began
    try:
        began = time.monotonic()
        if server.request("Get an artifact", "GET", f"{directory}/probe") != content:
            raise NotReady("Get an artifact: it is not what was put.")
        yield "artifact_get", time.monotonic() - began
    finally:
        began = time.monotonic()
        server.request("Delete an artifact", "DELETE", directory)
    yield "artifact_delete", time.monotonic() - began


def check(server: Server) -> None:
    """Go through database and artifacts once. Raises NotReady."""
    for _ in steps(server):
        pass


def started_again() -> bool:
    """Tell whether systemd started the service by itself, and nobody asked for it."""
    return ask(installation.read().unit, "NRestarts")["NRestarts"] not in ("", "0")


def main() -> int:
    """Check until ready or the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description="Tell whether the MLflow server really works.")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="go on trying that long"
    )
    parser.add_argument(
        "--artifacts-wait", type=float, default=-1, metavar="SECONDS",
        help="do without artifacts after so long, where systemd has started the service again",
    )  # fmt: skip
    parser.add_argument(
        "--user", default="", help="after reading the administrator's password as root, be this one"
    )
    arguments = parser.parse_args()
    deadline, reason = time.monotonic() + arguments.wait, "It had no time to look."

    def stopped(*_: object) -> None:
        """Say why it is not ready yet, when systemd has no more patience than that."""
        raise SystemExit(f"mlflow-ready: {reason}")

    signal.signal(signal.SIGTERM, stopped)
    without = 0.0  # the time from which on it does without artifacts
    while True:
        reached = ""
        try:
            settings = read_settings()
            if arguments.user:
                become(arguments.user, settings)
            server = Server(settings)
            for step, _ in steps(server):
                reached = step
        except NotInstalled as error:
            print(f"mlflow-ready: {error}", file=sys.stderr)
            return 1
        except OSError as error:  # of the settings: the server's own come as NotReady
            print(f"mlflow-ready: {error.filename}: {error.strerror}. Use sudo?", file=sys.stderr)
            return 1
        except NotReady as error:
            reason = str(error)
            if reached and arguments.artifacts_wait >= 0 and started_again():
                without = without or time.monotonic() + arguments.artifacts_wait
                if time.monotonic() >= without:
                    print(f"<4>mlflow-ready: MLflow serves, and has no artifacts: {reason}")
                    return 0
            if time.monotonic() >= deadline or main_process_ended():
                stopped()
            time.sleep(0.2)
        else:
            print(f"MLflow at {server.address} is ready: database and artifacts answer.")
            return 0
