"""Scenario 3: from a bare host to a team's server, and that server against MLflow's defaults."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from urllib.parse import quote, unquote

import yaml

from bench._figures import Figure, in_turn, ratio, say, timed
from bench._hosts import ROOT, Host, fresh_host, fresh_hosts
from bench._playbooks import HERE, bring_scripts, bring_smoke, idle_memory, second_run

PLAYBOOK = "playbooks/scenario3.yml"
SECRETS = ROOT / "molecule" / "scenario3" / "vars/vault.yml"  # a team has them in its vault
VARIABLES = f"--extra-vars=@{SECRETS}"
BY_HAND = "sudo sh scenario1-uv.sh /opt/mlflow && sudo sh scenario3-service.sh"

SERVER = "scenario3,mlflow_database,mlflow_store,mlflow_servers,mlflow_gateway"
CLIENT = "scenario3,mlflow_clients"
NAME = "bench"
CA = "/etc/ssl/mlflow/ca.pem"
STOCK = "http://admin:of-the-administrator@localhost:5001"  # scenario3-stock.sh has all that, too


def measure() -> Iterator[Figure]:
    """Yield the figures of the whole way, of a second run, of memory, answers and artifacts."""
    yield whole_way()
    hosts = {NAME: SERVER, "client1": CLIENT, "client2": CLIENT}
    with fresh_hosts("scenario3", hosts, user="ops") as (server, *_):
        server.playbook(PLAYBOOK, VARIABLES)
        yield second_run(server, "scenario3", 12, VARIABLES)
        bring_scripts(server)
        server.ssh("sudo sh scenario3-stock.sh")
        yield idle_memory(server, "scenario3", "stock", limit=0.3)
        yield from load(server)
        yield artifact(server)


def whole_way() -> Figure:
    """Compare the playbook with a script by hand, from a bare host to the smoke passed."""

    def playbook() -> float:
        with fresh_host("scenario3", user="ops", groups=f"{SERVER},{CLIENT}") as host:
            return timed(lambda: host.playbook(PLAYBOOK, VARIABLES))

    def by_hand() -> float:
        with fresh_host("scenario3", user="ops", groups="scenario3") as host:
            bring_scripts(host)
            bring_smoke(host)
            return timed(lambda: host.ssh(BY_HAND))

    samples = in_turn(3, {"playbook": playbook, "uv script": by_hand})
    return ratio("scenario3: bare to proved / uv script", samples, ("playbook", "uv script"), 1.5)


def load(host: Host) -> Iterator[Figure]:
    """Compare, on the server's host, a data scientist's requests with those to `mlflow server`."""
    host.copy(HERE / "scenario3-load.py")
    names = ("service", "mlflow server")
    urls = (f"https://{login()}@{NAME}", STOCK)
    pairs = shlex.join(f"{name}={url}" for name, url in zip(names, urls, strict=True))

    def under(what: str) -> dict[str, list[float]]:
        say(f"{what} on both servers")
        command = f"BENCH_CA={CA} python3 scenario3-load.py {what} {pairs}"
        samples: dict[str, list[float]] = json.loads(host.ssh(command))
        return samples

    searches = "scenario3: experiments/search / mlflow server"
    yield ratio(searches, under("search"), names, 0.15, "ms")
    runs = "scenario3: runs of 8 clients / mlflow server"
    yield ratio(runs, under("runs"), names, 8, "runs/s", better="higher")


def artifact(host: Host) -> Figure:
    """Compare 1 GiB up and down through the server with boto3 straight to its store."""
    host.copy(HERE / "scenario3-artifact.py")
    say("1 GiB up and down, both ways")
    username, password = map(unquote, login().split(":"))
    settings = {
        "MLFLOW_TRACKING_URI": f"https://{NAME}",
        "MLFLOW_TRACKING_USERNAME": username,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": CA,
    }
    command = ["sudo", *(f"{name}={value}" for name, value in settings.items())]
    command += ["/opt/mlflow/current/bin/python", "scenario3-artifact.py"]
    said = host.ssh(shlex.join(command))
    samples = json.loads(said.splitlines()[-1])
    return ratio("scenario3: 1 GiB, proxied / boto3", samples, ("mlflow", "boto3"), 2)


def login() -> str:
    """Return the name and the password of a data scientist, as an address has them."""
    secrets = yaml.safe_load(SECRETS.read_text())
    return f"ada:{quote(secrets['vault_mlflow_users']['ada'], safe='')}"
