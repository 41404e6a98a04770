"""Run `mlflow server` without the process that MLflow leaves idle in front of it.

`mlflow server` loads all of MLflow (240 MB resident), computes the web server's command and
environment, starts it as a child and then only waits. Here MLflow computes the same, and this
process then *becomes* the web server. What is replaced is the one function through which every
MLflow from 2.22 to 3.17 starts its child; and with MLflow 3 the web server runs guard.py, which has
MLflow's application inside. All else, and every decision, stays MLflow's own.

Arguments are those of `mlflow server`; settings come from its environment variables, and some of
our own: MLFLOW_LISTEN_SOCKET, the path of a Unix socket to listen on instead of TCP; and
MLFLOW_LISTEN_TLS_CERTIFICATE, _KEY and _CLIENT_CA, for TLS that only holders of a certificate of
that CA get past.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import ROOT
from ..mlflow_internals import COMMAND_LINE, START_CHILD, VERSION

# Seconds that requests under way may still take when the service is told to stop.
GRACE = 5
# Seconds that a request may take before gunicorn, by MLflow's default 30, ends its worker: several
# gigabytes to a slow store take minutes. nginx and clients are as patient.
LONGEST = 600
# Seconds that a worker may be silent before uvicorn takes another.
SILENCE = 30

# What else `localhost` is where the server listens here. Seconds that another may have it: a
# connection that was closed keeps an address for sixty.
TWINS = {"127.0.0.1": "::1", "0.0.0.0": "::"}  # noqa: S104 what is held is shut
PATIENCE = 65.0

# What the web server runs, and where it finds that.
GUARD = "mlflow_ops.server.guard:application"


def patient() -> list[str]:
    """Return the option by which uvicorn gives a worker time to start, where it has it (0.37).

    Otherwise it ends one that is silent for 5 s, and on a busy host MLflow is not imported by then:
    worker after worker is ended, and the server never becomes ready.
    """
    with contextlib.suppress(PackageNotFoundError):
        if tuple(map(int, version("uvicorn").split(".")[:2])) >= (0, 37):
            return ["--timeout-worker-healthcheck", str(SILENCE)]
    return []


def everywhere(settings: Mapping[str, str]) -> socket.socket | None:
    """Bind the port for IPv4 and IPv6 alike, which is what `::` says here; nothing for others.

    uvicorn would do so with several workers, and with one take IPv6 alone; and a kernel without
    IPv6 would have neither.
    """
    if settings.get("MLFLOW_HOST") != "::" or settings.get("MLFLOW_LISTEN_SOCKET"):
        return None
    both, port = socket.has_dualstack_ipv6(), int(settings.get("MLFLOW_PORT", "5000"))
    place = socket.socket(socket.AF_INET6 if both else socket.AF_INET)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if both:
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        place.bind(("::" if both else "", port))
    except OSError as error:
        raise SystemExit(f"mlflow-serve: Port {port} cannot be had: {error.strerror}.") from error
    place.set_inheritable(True)
    return place


def adapted(
    command: list[str], settings: Mapping[str, str], place: socket.socket | None = None
) -> list[str]:
    """Return the web server's command with the guard, a bounded stop, and the listener that is set.

    MLflow 3 runs uvicorn, MLflow 2 gunicorn, which has no guard; the application is the last
    argument of both.

    Args:
        command: what MLflow would run.
        settings: its own and ours.
        place: what is bound already; the web server listens there.
    """
    *options, application = command
    path = settings.get("MLFLOW_LISTEN_SOCKET", "")
    if "gunicorn" in options:
        options += ["--graceful-timeout", str(GRACE), "--timeout", str(LONGEST)]
        if path or place:
            listener = f"fd://{place.fileno()}" if place else f"unix:{path}"
            options[options.index("-b") + 1] = listener
    else:
        application = GUARD
        options += ["--app-dir", str(ROOT), "--timeout-graceful-shutdown", str(GRACE)]
        options += patient()
        if "--factory" not in options:
            options.append("--factory")
        if path:
            options += ["--uds", path]
        if place:
            options += ["--fd", str(place.fileno())]
    if certificate := settings.get("MLFLOW_LISTEN_TLS_CERTIFICATE"):
        for name, value in {
            "certfile": certificate,
            "keyfile": settings["MLFLOW_LISTEN_TLS_KEY"],
            "ca-certs": settings["MLFLOW_LISTEN_TLS_CLIENT_CA"],
            "cert-reqs": str(int(ssl.CERT_REQUIRED)),
        }.items():
            options += [f"--{name}" if "gunicorn" in options else f"--ssl-{name}", value]
    return [*options, application]


def held(settings: Mapping[str, str], patience: float = PATIENCE) -> socket.socket | None:
    """Hold the address that `localhost` means besides the server's own, for this process to keep.

    Clients try it first. Bound and not listening, it refuses them, and they go on to the server;
    left free, it would be anybody's on this host to be taken for the server.
    """
    twin = TWINS.get(settings.get("MLFLOW_HOST", "127.0.0.1"))
    if not twin or settings.get("MLFLOW_LISTEN_SOCKET"):
        return None
    port, deadline = int(settings.get("MLFLOW_PORT", "5000")), time.monotonic() + patience
    while True:
        try:
            holding = socket.socket(socket.AF_INET6)
        except OSError:
            return None  # a kernel without IPv6
        try:
            holding.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holding.bind((twin, port))
        except OSError as error:
            holding.close()
            if error.errno != errno.EADDRINUSE:
                return None  # a host without such an address
        else:
            holding.set_inheritable(True)
            return holding
        if time.monotonic() > deadline:
            raise SystemExit(
                f"mlflow-serve: Somebody else has port {port} of {twin}, and would be taken for "
                f"this server by whoever asks localhost: ss -ltnp 'sport = {port}' says who."
            )
        time.sleep(0.5)


def main() -> None:
    """Hand over to MLflow's own command line."""
    twin = held(os.environ)  # for as long as this process lives, whatever it becomes
    place = everywhere(os.environ)
    start_child = START_CHILD.get()
    # With job execution the waiting process is of use: it owns the job runner.
    keep_parent = os.environ.get("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true") != "false"

    def start(command: list[str], *, extra_env: dict[str, str], **options: Any) -> Any:
        if "uvicorn" not in command and not VERSION.get().startswith("2."):
            raise SystemExit("mlflow-serve: the guard needs uvicorn; unset MLFLOW_GUNICORN_OPTS.")
        extra_env = {**extra_env, "MLFLOW_GUARD_APPLICATION": command[-1]}
        command = adapted(command, os.environ, place)
        if keep_parent:
            if place:
                options["pass_fds"] = [place.fileno()]
            return start_child(command, extra_env=extra_env, **options)
        os.execve(command[0], command, {**os.environ, **extra_env})  # noqa: S606 no shell is wanted

    START_CHILD.replace(start)
    COMMAND_LINE.get()(["server", *sys.argv[1:]])
    del twin
