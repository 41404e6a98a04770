"""Scenario 3: a server for several data scientists, with PostgreSQL, S3, TLS and passwords.

Its proofs are made on several hosts, so it comes in parts, each a process of its own. A part reads
the reports of those before it, one JSON document a line, and hands them on with its own:

  begin  as the administrator, on a client: two temporary users, A and B
  log    as A, on one client: trains, logs, registers, loads
  see    as B, on each client: sees and loads all that, and may change none of it
  look   as root, on a tracking server: rows in PostgreSQL, objects in the bucket, no file on disk
  end    as the administrator, on the client of begin: removes what there is, merges the reports

Where one host is all of that: begin | log | see | sudo look | end. The administrator's name and
password are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or {"administrator": [name,
password]} on a line of standard input. What goes from begin to end holds the passwords of A and B.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow_smoke import environment, http, interruption, residence
from mlflow_smoke.names import (
    EXPERIMENT,
    METRIC,
    MODEL,
    PARAMS,
    PICTURE,
    REGISTERED_MODEL,
    SAME,
    TAG,
)
from mlflow_smoke.report import CheckFailedError, Kind, Report

PARTS = ("begin", "log", "see", "look", "end")
ABANDONED = 3600  # seconds after which a smoke that has not removed its users never will
USER = "smoke-{letter}-{token}"
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this scenario needs to know to its command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", choices=PARTS, help="see above")
    parser.add_argument(
        "--project",
        type=lambda text: Path(text).expanduser().resolve(),
        metavar="DIR",
        help="a directory with `activate` in it; otherwise the environment is taken as it is",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("/etc/mlflow/server.env"),
        metavar="FILE",
        help="look: the tracking server's environment file (%(default)s)",
    )
    parser.add_argument(
        "--user",
        default="mlflow",
        help="look: the account that PostgreSQL knows the server by (%(default)s)",
    )
    parser.add_argument(
        "--disk",
        type=Path,
        action="append",
        metavar="DIR",
        help="look: a directory that must hold no artifact; may be given again",
    )


def subject(options: argparse.Namespace) -> str:
    """What the report is about, as far as it is known before the environment is."""
    return str(options.part)


def prove(options: argparse.Namespace, report: Report) -> None:
    """Makes the proofs of one part.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    known = Known.read()
    failed = next((document for document in known.reports if not document["passed"]), None)
    if options.part == "end":
        end(options, known, report)
        return
    report.aftermath = "; its part `end` removes what it had made"
    report.handed_on = [json.dumps(document) for document in known.reports]
    if failed:
        report.exit_code = failed["exit_code"]
        report.left_out.append(f"{options.part}: left out, as {failed['subject']} has failed")
    elif options.part == "look":
        look(options, known, report)
    else:
        {"begin": begin, "log": log, "see": see}[options.part](options, known, report)


@dataclass
class Known:
    """What a part is told: the reports of those before it, and who administers."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    lost: list[dict[str, str]] = field(default_factory=list)
    administrator: tuple[str, str] = ("", "")

    @classmethod
    def read(cls) -> Known:
        """Reads standard input, where it is no terminal, and the environment."""
        known = cls(administrator=(os.getenv(VARIABLES[0], ""), os.getenv(VARIABLES[1], "")))
        for line in [] if sys.stdin is None or sys.stdin.isatty() else sys.stdin:
            document = json.loads(line) if line.strip() else {}
            if "administrator" in document:
                known.administrator = document["administrator"]
            elif "lost" in document:
                known.lost.append(document)
            elif document:
                known.reports.append(document)
        return known

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the parts have found out and made so far."""
        return {key: value for document in self.reports for key, value in document.items()}


def enter(
    options: argparse.Namespace, report: Report, login: tuple[str, str], host: str = ""
) -> http.Server:
    """Takes over a project's environment, as somebody; returns the server that it leads to.

    Args:
        options: the command line.
        report: takes the checks.
        login: name and password.
        host: begins the checks' names, where several hosts do the same.
    """
    if options.project:
        activation = options.project / "activate"
        with report.check(
            f"{host}python after `source activate`",
            Kind.ENVIRONMENT,
            str(environment.interpreter()),
            f"Run the smoke with the environment that {activation} activates, or set that up anew.",
        ) as check:
            check.seen = str(environment.activate(options.project))
    os.environ |= dict(zip(VARIABLES, login, strict=True))
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    with report.check(
        f"{host}MLFLOW_TRACKING_URI",
        Kind.ENVIRONMENT,
        "https",
        "Activate an environment that leads to the server: see --project.",
    ) as check:
        address = os.getenv("MLFLOW_TRACKING_URI", "").rstrip("/")
        # Beside it, there is nothing that one could listen to.
        local = address.startswith(("http://localhost", "http://127.0.0.1"))
        check.seen = "https" if local or address.startswith("https://") else address
    report.subject = address
    return http.Server(address, *login, os.getenv("MLFLOW_TRACKING_SERVER_CERT_PATH", ""))


# begin -------------------------------------------------------------------------------------------


def begin(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Makes the users A and B, and removes those of smokes that never came to their end."""
    report.facts["began"] = time.time()
    server = enter(options, report, known.administrator)
    name = known.administrator[0]

    with report.check(
        "the administrator",
        Kind.ENVIRONMENT,
        "administers",
        f"Does {server.address} answer, and is this still the password of {name or 'somebody'}?",
    ) as check:
        found = server.call(f"mlflow/users/get?username={http.quote(name)}")
        check.seen = "administers" if found["user"]["is_admin"] else "is none"

    for token in abandoned(server):
        remove(server, token)

    # Its time comes first, so that one can tell how old a user is.
    token = f"{int(time.time()):08x}{secrets.token_hex(6)}"
    users = {letter: [USER.format(letter=letter, token=token), secrets.token_urlsafe(24)]
             for letter in "ab"}  # fmt: skip
    report.facts |= {"token": token, "users": users}
    with report.check(
        "two users, A and B", Kind.TRACKING, "made", "See the server's log."
    ) as check:
        for user, password in users.values():
            server.call("mlflow/users/create", {"username": user, "password": password})
        check.seen = "made"


def abandoned(server: http.Server) -> set[str]:
    """The tokens of smokes whose users are still there, and too old to be at work."""
    try:
        found = server.call("mlflow/users/list")["users"]
    except http.HTTPError as error:
        if error.code == http.NOT_FOUND:  # MLflow 2 shows no list
            return set()
        raise
    words = [user["username"].split("-") for user in found]
    tokens = {word[2] for word in words if word[0] == "smoke" and len(word) == 3}
    return {token for token in tokens if time.time() - made(token) > ABANDONED}


def made(token: str) -> float:
    """When a token was made; far in the future for what is none."""
    try:
        return int(token[:8], 16) if len(token) == 20 else float("inf")
    except ValueError:
        return float("inf")


# log ---------------------------------------------------------------------------------------------


def log(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Does what data scientist A does, with what her environment gives her."""
    token = known.facts["token"]
    server = enter(options, report, known.facts["users"]["a"])
    report.checks.clear()  # `begin` has shown them
    again = "See the server's log: journalctl -u mlflow."

    with report.check(
        "the server's version",
        Kind.ENVIRONMENT,
        "the client's",
        "Install the server's version of MLflow on the client, or the other way round.",
    ) as check:
        import mlflow

        from mlflow_smoke import training

        report.version = mlflow.__version__
        there = server.send("version").decode().strip()
        check.seen = "the client's" if there == report.version else there

    # Experiments and models belong to who makes them: where these are a person's, A has her own.
    with report.check("A makes an experiment", Kind.TRACKING, "made", again) as check:
        experiment = make(server, "experiments", EXPERIMENT, f"smoke-{token}", token)
        check.seen = "made"
    if experiment != EXPERIMENT:
        report.left_out.append(f"{EXPERIMENT}: somebody's already, so the smoke used {experiment}")

    with report.check("A logs a run", Kind.TRACKING, "FINISHED", again) as check:
        trained = training.train(experiment, token)
        run_id = trained.run_id
        check.seen = mlflow.get_run(run_id).info.status
    report.facts |= {
        "experiment": experiment,
        "experiment_id": trained.experiment_id,
        "run_id": run_id,
        "accuracy": trained.accuracy,
        "predictions": [int(prediction) for prediction in trained.predictions],
    }

    with report.check("A registers the model", Kind.REGISTRY, "READY", again) as check:
        name = f"{REGISTERED_MODEL}-smoke-{token}"
        model = make(server, "registered-models", REGISTERED_MODEL, name, token)
        registered = mlflow.register_model(f"runs:/{run_id}/{MODEL}", model)
        check.seen = registered.status
    report.facts |= {"model": model, "model_version": int(registered.version)}
    if model != REGISTERED_MODEL:
        report.left_out.append(f"{REGISTERED_MODEL}: somebody's already, so the smoke used {model}")

    uri = f"models:/{model}/{registered.version}"
    with report.check(f"A loads {uri.replace(token, '...')}", Kind.MODEL, SAME, again) as check:
        check.seen, files = load(uri, trained.predictions)
    with report.check(f"A's picture {PICTURE}", Kind.ARTIFACTS, "there", again) as check:
        report.facts["files"] = files | download(f"runs:/{run_id}/{PICTURE}")
        check.seen = "there"


def make(server: http.Server, kind: str, name: str, other: str, token: str) -> str:
    """Makes an experiment or a registered model that is the smoke's; returns its name.

    Args:
        server: the server, as who it is to belong to.
        kind: `experiments` or `registered-models`.
        name: the name that it should have.
        other: the name that it gets where there is one of that name.
        token: what it is tagged with, so that it is known for the smoke's.
    """
    for attempt in (name, other):
        try:
            body = {"name": attempt, "tags": [{"key": TAG, "value": token}]}
            server.call(f"mlflow/{kind}/create", body)
            return attempt
        except http.HTTPError as error:
            if attempt == other or b"RESOURCE_ALREADY_EXISTS" not in error.read():
                raise
    raise AssertionError("not reached")


def load(uri: str, predictions: Any) -> tuple[str, dict[str, Any]]:
    """Loads a model by its address; says how it predicts, and what its files are."""
    import mlflow
    import numpy as np
    from sklearn.datasets import load_iris

    features, _ = load_iris(return_X_y=True)
    with TemporaryDirectory(prefix="mlflow-smoke-") as folder:
        copy = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
        same = int((mlflow.sklearn.load_model(copy).predict(features) == predictions).sum())
        files = {name: path for name in ("model.pkl", "model.skops")
                 if (path := Path(copy, name)).is_file()}  # fmt: skip
        described = {name: describe(path.read_bytes()) for name, path in files.items()}
    return f"{same} of {len(np.asarray(predictions))} predictions the same", described


def download(uri: str) -> dict[str, Any]:
    """Downloads one artifact; returns its name with what it is."""
    import mlflow

    with TemporaryDirectory(prefix="mlflow-smoke-") as folder:
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        return {path.name: describe(path.read_bytes())}


def describe(content: bytes) -> list[Any]:
    """A file's size and digest."""
    return [len(content), hashlib.sha256(content).hexdigest()]


# see ---------------------------------------------------------------------------------------------


def see(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Does what data scientist B does with A's work, and tries what she must not."""
    facts = known.facts
    host = socket.gethostname().partition(".")[0]
    server = enter(options, report, facts["users"]["b"], f"{host}: ")
    run_id, model, version = facts["run_id"], facts["model"], str(facts["model_version"])
    again = "See the server's log: journalctl -u mlflow."

    with report.check(f"{host}: B sees A's run", Kind.TRACKING, whole(facts), again) as check:
        import mlflow

        report.version = mlflow.__version__
        run = mlflow.get_run(run_id)
        check.seen = {"status": run.info.status, **run.data.params, **run.data.metrics}

    with report.check(f"{host}: {PICTURE}", Kind.ARTIFACTS, "as A logged it", again) as check:
        same = download(f"runs:/{run_id}/{PICTURE}") == {PICTURE: facts["files"][PICTURE]}
        check.seen = "as A logged it" if same else "another"

    uri = f"models:/{model}/{version}"
    shown = uri.replace(facts["token"], "...")
    with report.check(f"{host}: B loads {shown}", Kind.MODEL, SAME, again) as check:
        check.seen, _ = load(uri, facts["predictions"])

    mine = "Is default_permission READ, in basic_auth.ini? Others' work must be safe from B."
    refused(
        report,
        f"{host}: B changes A's work",
        403,
        mine,
        {
            "log a metric": server.status(
                "mlflow/runs/log-metric",
                {"run_id": run_id, "key": METRIC, "value": 0, "timestamp": 1, "step": 1},
            ),
            "delete the run": server.status("mlflow/runs/delete", {"run_id": run_id}),
            "log into the experiment": server.status(
                "mlflow/runs/create", {"experiment_id": facts["experiment_id"]}
            ),
            "write an artifact": server.status(
                f"mlflow-artifacts/artifacts/{facts['experiment_id']}/{run_id}/artifacts/{PICTURE}",
                {},
                "PUT",
            ),
            "tag the version": server.status(
                "mlflow/model-versions/set-tag",
                {"name": model, "version": version, "key": TAG, "value": "b"},
            ),
            "delete the version": server.status(
                "mlflow/model-versions/delete", {"name": model, "version": version}, "DELETE"
            ),
            "make a user": server.status(
                "mlflow/users/create", {"username": "smoke-c", "password": secrets.token_hex(8)}
            ),
        },
    )
    shut = "Is the server started with --app-name basic-auth? Nobody may be let in unnamed."
    paths = (f"mlflow/runs/get?run_id={run_id}", "mlflow/experiments/search?max_results=1",
             f"mlflow-artifacts/artifacts/{facts['experiment_id']}/{run_id}/artifacts/{PICTURE}",
             "mlflow/users/list")  # fmt: skip
    for who, login in (("nobody", ("", "")), ("a wrong password", (server.username, "wrong"))):
        stranger = http.Server(server.address, *login, server.ca)
        asked = {f"GET {path.partition('?')[0]}": stranger.status(path) for path in paths}
        refused(report, f"{host}: {who}", 401, shut, asked)

    with report.check(f"{host}: A's run after that", Kind.TRACKING, whole(facts), mine) as check:
        run = mlflow.get_run(run_id)
        check.seen = {"status": run.info.status, **run.data.params, **run.data.metrics}

    if server.address.startswith("https://") and not server.port:
        plain = server.address.replace("https://", "http://")
        with report.check(
            f"{host}: {plain}", Kind.TRACKING, "leads to https", "Port 80 must redirect."
        ) as check:
            check.seen = server.redirect()
    else:
        report.left_out.append("http: only a server at port 443 is asked whether 80 leads to it")


def whole(facts: dict[str, Any]) -> dict[str, Any]:
    """What a client must see of A's run."""
    params = {name: str(value) for name, value in PARAMS.items()}
    return {"status": "FINISHED", **params, METRIC: facts["accuracy"]}


def refused(report: Report, name: str, code: int, advice: str, answers: dict[str, int]) -> None:
    """Checks that each attempt was answered with one HTTP status."""
    wrong = [f"{what}: {status}" for what, status in answers.items() if status != code]
    with report.check(name, Kind.PERMISSIONS, f"{code}, {len(answers)} times", advice) as check:
        check.seen = wrong or f"{code}, {len(answers)} times"


# look --------------------------------------------------------------------------------------------


def look(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Looks for A's work where it must be, past MLflow, and where it must not."""
    facts = known.facts
    report.subject = str(options.settings)
    run_id, accuracy = facts["run_id"], facts["accuracy"]

    with report.check(
        "the server's settings",
        Kind.ENVIRONMENT,
        "PostgreSQL and S3",
        f"Run this part as root on a tracking server. See {options.settings}.",
    ) as check:
        settings = residence.settings(options.settings)
        check.seen = residence.kind(settings)

    again = f"Is {options.settings} that of the server behind {known.reports[-1]['subject']}?"
    with report.check("row in runs", Kind.TRACKING, "there", again) as check:
        database = residence.Database(settings, options.user)
        found = database.query(
            "SELECT experiments.name, status, runs.lifecycle_stage FROM runs JOIN experiments"
            " USING (experiment_id) WHERE run_uuid = %s",
            run_id,
        )
        same = found == [(facts["experiment"], "FINISHED", "active")]
        check.seen = "there" if same else found or "none"

    params = {name: str(value) for name, value in PARAMS.items()}
    with report.check("rows in params", Kind.TRACKING, params, again) as check:
        check.seen = dict(
            database.query("SELECT key, value FROM params WHERE run_uuid = %s", run_id)
        )

    with report.check("rows in metrics", Kind.TRACKING, {METRIC: accuracy}, again) as check:
        check.seen = dict(
            database.query("SELECT key, value FROM metrics WHERE run_uuid = %s", run_id)
        )

    with report.check("row in model_versions", Kind.REGISTRY, "READY", again) as check:
        found = database.query(
            "SELECT run_id, status FROM model_versions WHERE name = %s AND version = %s",
            facts["model"],
            facts["model_version"],
        )
        check.seen = "READY" if found == [(run_id, "READY")] else found or "none"
    database.close()

    files = {name: tuple(about) for name, about in facts["files"].items()}
    with report.check("objects in the bucket", Kind.ARTIFACTS, sorted(files), again) as check:
        objects = residence.objects(settings, facts["experiment_id"])
        check.seen = sorted(name for name, about in files.items() if about in objects)

    places = options.disk or [Path("/var/lib/mlflow"), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    with report.check(
        "artifacts on the server's disk",
        Kind.ARTIFACTS,
        "none",
        "They belong in the bucket alone: see MLFLOW_ARTIFACTS_DESTINATION.",
    ) as check:
        check.seen = residence.on_disk(places, {*files.values()}, run_id)[:3] or "none"


# end ---------------------------------------------------------------------------------------------


def end(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Removes what the parts have made, and makes one report of theirs."""
    facts = known.facts
    for document in known.reports:
        report.take(document)
        report.subject = known.reports[0]["subject"]
    for lost in known.lost:
        with (
            suppress(CheckFailedError),  # it is no reason to leave anything
            report.check(lost["lost"], Kind.ENVIRONMENT, "done", lost["advice"]) as check,
        ):
            check.seen = " ".join(lost["said"].split()) or "no word"
    if "began" in facts:
        report.started -= max(0.0, time.time() - facts["began"])
    for fact in ("users", "predictions", "files"):
        report.facts.pop(fact, None)
    if "token" not in facts:
        return
    token = facts["token"]
    interruption.ignore()
    before = len(report.checks)
    server = enter(options, report, known.administrator)
    del report.checks[before:]  # `begin` has shown them
    what = "the two users" if options.keep else "what the smoke made"
    with report.check(
        what, Kind.CLEANUP, "removed", f"Delete what is named {token}, or tagged {TAG}."
    ) as check:
        remove(server, token, keep=options.keep)
        check.seen = left(server, token, keep=options.keep) or "removed"


def remove(server: http.Server, token: str, keep: bool = False) -> None:
    """Removes a smoke's experiment, model and users, and no others: a tag marks them as its own.

    MLflow only marks experiments and runs as deleted; `mlflow gc` removes such rows for good.

    Args:
        server: the server, as its administrator.
        token: what is tagged, and named, with it goes.
        keep: only the users go.
    """
    # MLflow 2 refuses to delete a user who has permissions left.
    owner = {"username": USER.format(letter="a", token=token)}
    for model in models(server, token):
        delete(server, "registered-models/permissions", {"name": model, **owner})
    for number in experiments(server, token):
        delete(server, "experiments/permissions", {"experiment_id": number, **owner})
    for model in [] if keep else models(server, token):
        delete(server, "registered-models", {"name": model})
    for number in [] if keep else experiments(server, token):
        body = {"experiment_ids": [number], "max_results": 1000}
        for run in server.call("mlflow/runs/search", body).get("runs", []):
            server.call("mlflow/runs/delete", {"run_id": run["info"]["run_id"]})
        server.call(f"mlflow-artifacts/artifacts/{number}", method="DELETE")
        # A deleted experiment keeps its name, which would then be refused to everybody.
        name = f"{EXPERIMENT} of smoke {token}"
        server.call("mlflow/experiments/update", {"experiment_id": number, "new_name": name})
        server.call("mlflow/experiments/delete", {"experiment_id": number})
    for letter in "ab":
        delete(server, "users", {"username": USER.format(letter=letter, token=token)})


def delete(server: http.Server, kind: str, body: dict[str, str]) -> None:
    """Deletes something that may be gone; `left` says whether it is.

    MLflow 2 deletes somebody else's model, and then answers that she had no permission to lose.
    """
    try:
        server.call(f"mlflow/{kind}/delete", body, "DELETE")
    except http.HTTPError as error:
        if error.code != http.NOT_FOUND:
            raise


def left(server: http.Server, token: str, keep: bool = False) -> list[str]:
    """What there still is of a smoke."""
    found = [] if keep else [*models(server, token), *experiments(server, token)]
    for letter in "ab":
        user = USER.format(letter=letter, token=token)
        if server.status(f"mlflow/users/get?username={user}") != http.NOT_FOUND:
            found.append(user)
    return found


def models(server: http.Server, token: str) -> list[str]:
    """Names of the registered models that a smoke has made."""
    query = http.quote(f"tags.{TAG} = '{token}'")
    answer = server.call(f"mlflow/registered-models/search?filter={query}")
    return [model["name"] for model in answer.get("registered_models", [])]


def experiments(server: http.Server, token: str) -> list[str]:
    """Numbers of the experiments that a smoke has made."""
    body = {"max_results": 100, "filter": f"tags.{TAG} = '{token}'"}
    answer = server.call("mlflow/experiments/search", body)
    return [experiment["experiment_id"] for experiment in answer.get("experiments", [])]
