"""What a smoke has made goes for good, and what is anybody else's stays: on real databases.

An SQLite file, and a cluster of PostgreSQL's; MLflow's rows are made by its own client.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import OWNER, Cluster, cluster
from mlflow_environments import environment
from versions import DEFAULT, ROOT, UNGUARDED

# What `end` of a smoke leaves; `what` is what others have done meanwhile.
PROGRAM = """
import json, logging, os, sys, time
from pathlib import Path
logging.disable(logging.WARNING)
from mlflow import MlflowClient
from mlflow_ops.forget import forget

def case(what, uri, place):
    os.environ |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_ARTIFACTS_DESTINATION": place}
    client, now, tag = MlflowClient(uri), int(time.time()), "mlflow_smoke"
    began = now - 90000 if what == "an old one" else now
    token = f"{began:08x}0123456789ab"

    def run(number, tags):
        made = client.create_run(number, tags=tags).info
        file = Path(place, made.artifact_uri.removeprefix("mlflow-artifacts:/"), "a.txt")
        file.parent.mkdir(parents=True)
        file.write_text("a")
        client.log_metric(made.run_id, "accuracy", 0.9)
        client.log_param(made.run_id, "C", 0.1)
        return made.run_id

    def experiment(name, number):
        return client.create_experiment(name, artifact_location=f"mlflow-artifacts:/{number}")

    number = experiment("my-experiment-1", 1)
    client.set_experiment_tag(number, tag, token)
    mine = run(number, {tag: token})
    if hasattr(client, "create_logged_model"):
        from mlflow.entities import LoggedModelOutput

        model = client.create_logged_model(number, source_run_id=mine).model_id
        client.log_outputs(mine, [LoggedModelOutput(model, 0)])
    if what == "a run":
        run(number, {})
    if what == "a run in Default":
        client.create_run("0")
    if what == "an experiment":
        experiment("hers", 2)
    if what in ("a model", "a version"):
        client.create_registered_model("hers")
    if what == "a version":
        client.create_model_version("hers", f"mlflow-artifacts:/1/{mine}/artifacts", mine)
    for each in client.search_runs([number]):
        client.delete_run(each.info.run_id)
    name = f"my-experiment-1 of smoke {token}"
    client.rename_experiment(number, name)
    if what != "it is not deleted":
        client.delete_experiment(number)
    said = forget(token, name, tag)
    left = sorted(each.experiment_id for each in client.search_experiments(view_type=3))
    files = len([*Path(place).rglob("*")])
    return {"number": number, "said": said, "left": left, "files": files,
            "next": experiment("next", 9)}

print(json.dumps([case(*each) for each in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A cluster with an empty database of each version's, to make others from."""
    with cluster() as found:
        for version in (DEFAULT, UNGUARDED):
            name = f"empty{version.partition('.')[0]}"
            schema(found.create(name), version)
        yield found


def schema(uri: str, version: str) -> None:
    """Make MLflow's tables in an empty database, as the server's role does."""
    subprocess.run(
        [environment(version), "-Es", ROOT / "src", "database", "create", "--stdin"],
        input=json.dumps({"tracking": driven(uri, version)}), text=True, check=True,
        capture_output=True,
    )  # fmt: skip


def driven(uri: str, version: str) -> str:
    """Return a database's address with the driver that a version works with."""
    return uri.replace("+psycopg:", "+psycopg2:") if version == UNGUARDED else uri


def after(folder: Path, version: str, cases: dict[str, str]) -> list[dict[str, Any]]:
    """Return what there is once a smoke's things are gone: for each database, what others did."""
    told = []
    for number, (uri, what) in enumerate(cases.items()):
        place = folder / f"artifacts{number}"
        place.mkdir()
        told.append([what, uri, str(place)])
    mine = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "MLFLOW"))}  # fmt: skip
    done = subprocess.run(
        [environment(version), "-W", "ignore", "-c", PROGRAM, json.dumps(told)],
        env={**mine, "PYTHONPATH": f"{ROOT}/src"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


GONE = {"number": "1", "said": "", "left": ["0"], "files": 0, "next": "1"}


@pytest.mark.parametrize("version", [DEFAULT, UNGUARDED])
def test_numbers_begin_at_1_again(tmp_path: Path, server: Cluster, version: str) -> None:
    """In each database, with each MLflow; nothing of it is left."""
    name = f"gone{version.partition('.')[0]}"
    file = f"sqlite:///{tmp_path}/mlflow.db"
    schema(file, version)
    uri = driven(server.create(name, f"empty{version.partition('.')[0]}"), version)
    assert after(tmp_path, version, {file: "nothing", uri: "nothing"}) == [GONE, GONE]
    left = "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM metrics)"
    left += " + (SELECT count(*) FROM experiment_tags) + (SELECT count(*) FROM inputs)"
    assert server.sql(name, left) == "0"


# What others do: why it stays, what is left, and the next number.
OTHERS = {
    "a run": ("somebody has put something into experiment 1", ["0", "1"], "2"),
    "a version": ("version 1 of hers comes from experiment 1", ["0", "1"], "2"),
    "an old one": ("experiment 1 was not made while this smoke ran", ["0", "1"], "2"),
    "it is not deleted": ("", ["0", "1"], "2"),
    "a run in Default": ("", ["0"], "2"),
    "an experiment": ("", ["0", "2"], "3"),
    "a model": ("", ["0"], "2"),
}


def test_what_others_have_stays_and_no_number_is_given_twice(
    tmp_path: Path, server: Cluster
) -> None:
    """PostgreSQL's numbers are set back while nobody has anything, and at no other time."""
    empty = f"empty{DEFAULT.partition('.')[0]}"
    cases = {server.create(f"others{n}", empty): what for n, what in enumerate(OTHERS)}
    for what, found in zip(OTHERS, after(tmp_path, DEFAULT, cases), strict=True):
        assert (found["said"], found["left"], found["next"]) == OTHERS[what], what
        assert bool(found["files"]) == ("1" in found["left"]), what


def test_who_makes_an_experiment_just_then_is_waited_for(server: Cluster) -> None:
    """Her number is hers, though nobody sees it yet."""
    name = "just_then"
    uri = server.create(name, f"empty{DEFAULT.partition('.')[0]}")
    insert = "INSERT INTO experiments (name, workspace) VALUES ('hers', 'default')"
    program = "import sys; from mlflow_ops.forget import set_back; set_back(sys.argv[1])"
    with subprocess.Popen(
        ["psql", "-XqAt", "-h", server.place, "-U", OWNER, "-d", name, "-c",
         f"BEGIN; {insert}; SELECT pg_sleep(4); COMMIT"],
        stdout=subprocess.DEVNULL,
    ):  # fmt: skip
        time.sleep(1)
        subprocess.run(
            [environment(DEFAULT), "-c", program, uri], check=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/src"},
        )  # fmt: skip
        assert server.sql(name, "SELECT max(experiment_id) FROM experiments") == "1"
    server.sql(name, insert.replace("'hers'", "'next'"), role=OWNER)
    assert server.sql(name, "SELECT max(experiment_id) FROM experiments") == "2"
