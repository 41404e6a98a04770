"""What is the same in scenarios 2 and 3: several people at one server, and the one report.

The proofs are made by several people, on several hosts, so they come in parts, each a process of
its own: `begin`, `log`, `see`, `look`, `end`. A part reads the reports of those before it, one JSON
document a line, and hands them on with its own. What a part says may be untrue: those that load a
model run somebody's program. So what decides whom `end` removes comes from `begin` alone.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow_smoke import environment, http, interruption
from mlflow_smoke.names import (
    EXPERIMENT,
    GONE,
    METRIC,
    MODEL,
    OF_B,
    PARAMS,
    PICTURE,
    REGISTERED_MODEL,
    SAME,
    TAG,
)
from mlflow_smoke.report import NO_REPORT, CheckFailedError, Kind, Report

PARTS = ("begin", "log", "see", "look", "end")
ABANDONED = 3600  # seconds after which a smoke that has not removed its users never will
USER = "smoke-{letter}-{token}"
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
TOOLS = Path("/usr/local/lib/mlflow/current")  # the server's programs, on its own host
AGAIN = "See the server's log: journalctl -u mlflow."
# What `begin` says, or who looked before it; nobody after them changes it.
FIRST = ("token", "users", "began", "before", "default_permission", "tokens", "alone")
# What one may do with what others made, by the server's default permission.
MAY = {
    "NO_PERMISSIONS": frozenset[str](),
    "READ": frozenset({"read"}),
    "USE": frozenset({"read"}),
    "EDIT": frozenset({"read", "change"}),
    "MANAGE": frozenset({"read", "change", "delete"}),
}


@dataclass
class Known:
    """What a part is told: the reports of those before it, and who administers."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    lost: list[dict[str, str]] = field(default_factory=list)
    administrator: tuple[str, str] = ("", "")
    permission: str = ""

    @classmethod
    def read(cls) -> Known:
        """Reads standard input, where it is no terminal, and the environment."""
        known = cls(administrator=(os.getenv(VARIABLES[0], ""), os.getenv(VARIABLES[1], "")))
        for line in [] if sys.stdin is None or sys.stdin.isatty() else sys.stdin:
            try:
                document = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                document = NO_REPORT
            if "scenario" in document:  # first: whoever made it may have written the rest as well
                known.reports.append(document)
            elif "administrator" in document:
                known.administrator = document["administrator"]
                known.permission = document.get("default_permission", "")
            elif "environment" in document:
                os.environ |= document["environment"]
            elif "lost" in document:
                known.lost.append(document)
        return known

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the parts have found out and made so far."""
        found: dict[str, Any] = {}
        for document in self.reports:
            found |= {key: value for key, value in document.items()
                      if key not in FIRST or key not in found}  # fmt: skip
        return found


Part = Callable[[argparse.Namespace, Known, Report], None]


def begun(options: argparse.Namespace, report: Report) -> Known | None:
    """Reads what a part is told; nothing where one before it has failed, so that it has no work."""
    known = Known.read()
    if options.part == "end" or "ended" in known.facts:
        return known
    failed = next((document for document in known.reports if not document["passed"]), None)
    report.aftermath = "; its part `end` removes what it had made"
    report.handed_on = [json.dumps(document) for document in known.reports]
    if failed:
        report.exit_code = failed["exit_code"]
        report.left_out.append(f"{options.part}: left out, as {failed['subject']} has failed")
        return None
    return known


def prove(options: argparse.Namespace, report: Report, look: Part) -> None:
    """Makes the proofs of one part; `look` differs between the scenarios.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    if known := begun(options, report):
        part: dict[str, Part] = {"begin": begin, "log": log, "see": see, "look": look, "end": end}
        part[options.part](options, known, report)


def no_root(report: Report, advice: str) -> None:
    """Refuses to go on as root."""
    if os.geteuid() == 0:
        with report.check("who runs this part", Kind.ENVIRONMENT, "not root", advice) as check:
            check.seen = "root"


def enter(
    options: argparse.Namespace, report: Report, login: Sequence[str], host: str = ""
) -> http.Server:
    """Takes over a project's environment, as somebody; returns the server that it leads to.

    Args:
        options: the command line.
        report: takes the checks.
        login: name and password.
        host: begins the checks' names, where several hosts do the same.
    """
    if getattr(options, "project", None):
        activation = options.project / "activate"
        with report.check(
            f"{host}python after `source activate`",
            Kind.ENVIRONMENT,
            str(environment.interpreter()),
            f"Run the smoke with the environment that {activation} activates, or set that up anew.",
        ) as check:
            check.seen = str(environment.activate(options.project))
    for variable, value in zip(VARIABLES, login, strict=True):
        os.environ.pop(variable, None)
        os.environ |= {variable: value} if value else {}
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    if options.scenario == "scenario2":
        os.environ["MLFLOW_TRACKING_URI"] = report.subject = options.tracking_uri
        if login[0] and TOOLS.is_dir():
            with report.check(
                f"{host}whom the login is told",
                Kind.ENVIRONMENT,
                "the server alone",
                "The server's programs are older than this smoke. Run the playbook scenario2.",
            ) as check:
                sys.path.append(str(TOOLS))
                from mlflow_ops.client import only_to_service

                only_to_service()
                check.seen = "the server alone"
        return http.Server(options.tracking_uri, login[0], login[1], "")
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
    return http.Server(
        address, login[0], login[1], os.getenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    )


# begin -------------------------------------------------------------------------------------------


def begin(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Makes the users A and B, and removes those of smokes that never came to their end.

    A server of scenario 2 may have no users: then there is nobody to be made.
    """
    report.facts["began"] = time.time()
    # Its time comes first, so that one can tell how old a user is.
    token = f"{int(time.time()):08x}{secrets.token_hex(6)}"
    permission = known.permission or getattr(options, "default_permission", "READ")
    report.facts |= {"default_permission": permission, "tokens": [token]}
    server = enter(options, report, known.administrator)
    name = known.administrator[0]
    if options.scenario == "scenario2" and not name:
        report.facts |= {"token": token, "users": {}, "alone": alone(server)}
        return

    with report.check(
        "default_permission", Kind.ENVIRONMENT, "known", f"The smoke knows {', '.join(MAY)}."
    ) as check:
        check.seen = "known" if permission in MAY else permission
    report.checks.pop()  # of no interest, where it is so

    with report.check(
        "the administrator",
        Kind.ENVIRONMENT,
        "administers",
        f"Does {server.address} answer, and is this still the password of {name or 'somebody'}?",
    ) as check:
        found = server.call(f"mlflow/users/get?username={http.quote(name)}")
        check.seen = "administers" if found["user"]["is_admin"] else "is none"

    for old in abandoned(server):
        remove(server, old)
        report.facts["tokens"].append(old)

    users = {letter: [USER.format(letter=letter, token=token), secrets.token_urlsafe(24)]
             for letter in "ab"}  # fmt: skip
    report.facts |= {"token": token, "users": users, "alone": alone(server)}
    with report.check("two users, A and B", Kind.TRACKING, "made", AGAIN) as check:
        for user, password in users.values():
            server.call("mlflow/users/create", {"username": user, "password": password})
        check.seen = "made"


def alone(server: http.Server) -> bool:
    """Whether there is nothing of anybody's on a server: what is deleted counts as well.

    Args:
        server: the server, as who sees all of it.
    """
    every = {"max_results": 2, "view_type": "ALL"}
    numbers = server.call("mlflow/experiments/search", every).get("experiments", [])
    in_default = {"experiment_ids": ["0"], "max_results": 1, "run_view_type": "ALL"}
    return not (
        [each for each in numbers if each["experiment_id"] != "0"]
        or server.call("mlflow/runs/search", in_default).get("runs")
        or server.call("mlflow/registered-models/search?max_results=1").get("registered_models")
    )


def abandoned(server: http.Server) -> set[str]:
    """The tokens of smokes whose users are still there, and too old to be at work.

    MLflow 2 shows no list of users. There, it is those that have come to make an experiment.
    """
    status, found = server.ask("mlflow/users/list")
    if status == http.NOT_FOUND:
        body = {"max_results": 1000, "filter": f"tags.{TAG} LIKE '%'"}
        answer = server.call("mlflow/experiments/search", body)
        tags = [tag for each in answer.get("experiments", []) for tag in each["tags"]]
        tokens = {tag["value"] for tag in tags if tag["key"] == TAG}
    else:
        words = [user["username"].split("-") for user in found["users"]]
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
    token, users = known.facts["token"], known.facts["users"]
    server = enter(options, report, users["a"] if users else ("", ""))
    report.checks.clear()  # `begin` has shown them
    no_root(report, "A model is a program. Load it as somebody of no rank: see --help.")

    with report.check(
        "import mlflow",
        Kind.ENVIRONMENT,
        "done",
        "Run the smoke with the Python of an environment that has MLflow.",
    ) as check:
        import mlflow

        from mlflow_smoke import training

        report.version = mlflow.__version__
        check.seen = "done"

    with report.check(
        "the server's version",
        Kind.ENVIRONMENT,
        "the client's",
        "See `systemctl status mlflow`. Server and client must have the same version of MLflow.",
    ) as check:
        there = server.send("version").decode().strip()
        check.seen = "the client's" if there == report.version else there

    leads = [server.address] * 2
    with report.check("tracking, registry URI", Kind.TRACKING, leads, AGAIN) as check:
        check.seen = [mlflow.get_tracking_uri(), mlflow.get_registry_uri()]

    # The names that people know are for whoever comes first; the smoke has its own where somebody
    # has come. Where nobody has, it uses them, and takes them away for good.
    experiment, model = f"smoke-{token}", f"{REGISTERED_MODEL}-smoke-{token}"
    first = [EXPERIMENT] * known.facts.get("alone", False)
    with report.check("A makes an experiment", Kind.TRACKING, "made", AGAIN) as check:
        experiment = make(server, "experiments", [*first, experiment], token)
        check.seen = "made"
    if experiment != EXPERIMENT:
        report.left_out.append(f"{EXPERIMENT}: people work here, so the smoke used {experiment}")

    midway: dict[str, Any] = {}
    with report.check("A logs a run", Kind.TRACKING, "FINISHED", AGAIN) as check:
        trained = training.train(
            experiment, token, during=lambda run_id: midway.update(server.run(run_id))
        )
        run_id = trained.run_id
        check.seen = mlflow.get_run(run_id).info.status
    report.facts |= {
        "experiment": experiment,
        "experiment_id": trained.experiment_id,
        "run_id": run_id,
        "accuracy": trained.accuracy,
        "predictions": [int(prediction) for prediction in trained.predictions],
    }

    expected = {"status": "RUNNING", METRIC: trained.accuracy}
    with report.check("another client, mid-run", Kind.TRACKING, expected, AGAIN) as check:
        check.seen = midway

    # From S3 behind the server, MLflow 3's client takes minutes to find that a model is not below
    # its run: the server answers 500 where there is no object, and the client asks again and again.
    if options.scenario == "scenario2":
        with report.check(f"A loads runs:/.../{MODEL}", Kind.MODEL, SAME, AGAIN) as check:
            check.seen, _ = load(f"runs:/{run_id}/{MODEL}", trained.predictions)

    with report.check("A registers the model", Kind.REGISTRY, "READY", AGAIN) as check:
        first = [REGISTERED_MODEL] * known.facts.get("alone", False)
        model = make(server, "registered-models", [*first, model], token)
        registered = mlflow.register_model(f"runs:/{run_id}/{MODEL}", model)
        check.seen = registered.status
    report.facts |= {"model": model, "model_version": int(registered.version)}
    if model != REGISTERED_MODEL:
        report.left_out.append(f"{REGISTERED_MODEL}: people work here, so the smoke used {model}")

    uri = f"models:/{model}/{registered.version}"
    with report.check(f"A loads {uri.replace(token, '...')}", Kind.MODEL, SAME, AGAIN) as check:
        check.seen, files = load(uri, trained.predictions)
    with report.check(f"A's picture {PICTURE}", Kind.ARTIFACTS, "there", AGAIN) as check:
        report.facts["files"] = files | download(f"runs:/{run_id}/{PICTURE}")
        check.seen = "there"


def make(server: http.Server, kind: str, names: Sequence[str], token: str) -> str:
    """Makes an experiment or a registered model that is the smoke's; returns its name.

    Args:
        server: the server, as who it is to belong to.
        kind: `experiments` or `registered-models`.
        names: the names that it may have; it gets the first that is free.
        token: what it is tagged with, so that it is known for the smoke's.
    """
    for attempt in names:
        try:
            body = {"name": attempt, "tags": [{"key": TAG, "value": token}]}
            server.call(f"mlflow/{kind}/create", body)
            return attempt
        except http.HTTPError as error:
            if attempt == names[-1] or b"RESOURCE_ALREADY_EXISTS" not in error.read():
                raise
    raise AssertionError("not reached")


def load(uri: str, predictions: Any) -> tuple[str, dict[str, Any]]:
    """Loads a model by its address; says how it predicts, and what its files are."""
    import mlflow
    import numpy as np
    from sklearn.datasets import load_iris

    from mlflow_smoke.training import loaded

    features, _ = load_iris(return_X_y=True)
    with TemporaryDirectory(prefix="mlflow-smoke-") as folder:
        copy = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
        same = int((loaded(copy).predict(features) == predictions).sum())
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
    """Does what data scientist B may do with A's work, and tries what she must not."""
    facts = known.facts
    host = socket.gethostname().partition(".")[0]
    server = enter(options, report, facts["users"]["b"], f"{host}: ")
    no_root(report, "A model is a program. Load it as somebody of no rank: see --help.")
    permission = facts["default_permission"]
    may = MAY[permission]
    asked = f"The server's default_permission, in basic_auth.ini, is {permission}. See its log."

    if "read" in may:
        sees(report, facts, host)
    attempts(report, server, facts, host, asked)
    strangers(report, server, facts, host)
    if "read" in may:
        seen_after(report, facts, host, asked)

    if server.address.startswith("https://") and not server.port:
        plain = server.address.replace("https://", "http://")
        with report.check(
            f"{host}: {plain}", Kind.TRACKING, "leads to https", "Port 80 must redirect."
        ) as check:
            check.seen = server.redirect()
    elif options.scenario == "scenario3":
        report.left_out.append("http: only a server at port 443 is asked whether 80 leads to it")


def sees(report: Report, facts: dict[str, Any], host: str) -> None:
    """Reads back what A has logged, as B."""
    with report.check(f"{host}: B sees A's run", Kind.TRACKING, whole(facts), AGAIN) as check:
        import mlflow

        report.version = mlflow.__version__
        check.seen = of_a(mlflow.get_run(facts["run_id"]))

    with report.check(f"{host}: {PICTURE}", Kind.ARTIFACTS, "as A logged it", AGAIN) as check:
        same = download(f"runs:/{facts['run_id']}/{PICTURE}") == {PICTURE: facts["files"][PICTURE]}
        check.seen = "as A logged it" if same else "another"

    uri = f"models:/{facts['model']}/{facts['model_version']}"
    shown = uri.replace(facts["token"], "...")
    with report.check(f"{host}: B loads {shown}", Kind.MODEL, SAME, AGAIN) as check:
        check.seen, _ = load(uri, facts["predictions"])


def seen_after(report: Report, facts: dict[str, Any], host: str, advice: str) -> None:
    """Looks whether A's run is what it was, after all that B has tried."""
    import mlflow

    with report.check(f"{host}: A's run after that", Kind.TRACKING, whole(facts), advice) as check:
        check.seen = of_a(mlflow.get_run(facts["run_id"]))


def attempts(
    report: Report, server: http.Server, facts: dict[str, Any], host: str, advice: str
) -> None:
    """Tries with A's work all that there is, and checks that B may do what she may, and no more.

    What she may change she adds to, so that A's own work stays what it was; what she may delete is
    what she has added. So others can prove the same at the same time.
    """
    may = MAY[facts["default_permission"]]
    run_id, number, model = facts["run_id"], facts["experiment_id"], facts["model"]
    version = str(facts["model_version"])
    tags = [{"key": TAG, "value": facts["token"]}]
    place = f"mlflow-artifacts/artifacts/{number}/{run_id}/artifacts"
    query = f"name={http.quote(model)}&version={version}"
    changes = "change" in may
    allowed: dict[str, int] = {}
    refusals: dict[str, int] = {}

    def attempt(right: str, name: str, path: str, body: Any = None, method: str = "") -> Any:
        """Tries something that one needs a right for; returns what the server answers."""
        status, answer = server.ask(path, body, method)
        (allowed if right in may else refusals)[name] = status
        return answer

    attempt("read", "read the run", f"mlflow/runs/get?run_id={run_id}")
    attempt("read", "read the experiment", f"mlflow/experiments/get?experiment_id={number}")
    attempt("read", "read an artifact", f"{place}/{PICTURE}")
    attempt("read", "read the version", f"mlflow/model-versions/get?{query}")
    attempt("change", "log a metric", "mlflow/runs/log-metric",
            {"run_id": run_id, "key": OF_B if changes else METRIC, "value": 0, "timestamp": 1,
             "step": 1})  # fmt: skip
    own = attempt("change", "log into the experiment", "mlflow/runs/create",
                  {"experiment_id": number, "tags": tags})  # fmt: skip
    attempt("change", "write an artifact", f"{place}/{OF_B if changes else PICTURE}", {}, "PUT")
    attempt("change", "tag the version", "mlflow/model-versions/set-tag",
            {"name": model, "version": version, "key": OF_B, "value": "b"})  # fmt: skip
    made = {}
    if changes:  # a version of her own, which she may delete, or may not
        source = {"name": model, "source": f"runs:/{run_id}/{MODEL}", "run_id": run_id}
        made = attempt("change", "add a version", "mlflow/model-versions/create", source)
    run_of_b = own.get("run", {}).get("info", {}).get("run_id", run_id)
    version_of_b = made.get("model_version", {}).get("version", version)
    attempt("delete", "delete a run", "mlflow/runs/delete",
            {"run_id": run_of_b if "delete" in may else run_id})  # fmt: skip
    attempt("delete", "delete a version", "mlflow/model-versions/delete",
            {"name": model, "version": version_of_b if "delete" in may else version},
            "DELETE")  # fmt: skip
    attempt("administer", "make a user", "mlflow/users/create",
            {"username": "smoke-c", "password": secrets.token_hex(8)})  # fmt: skip

    if allowed:
        answered(report, f"{host}: B may, with A's work", 200, advice, allowed)
    answered(report, f"{host}: B may not, with A's work", 403, advice, refusals)
    if "read" not in may:
        with report.check(
            f"{host}: A's work in a search of B's", Kind.PERMISSIONS, "none", advice
        ) as check:
            seen = [name for kind, query in (("experiments", experiments), ("models", models))
                    for name in query(server, facts["token"])]  # fmt: skip
            check.seen = seen or "none"


def strangers(report: Report, server: http.Server, facts: dict[str, Any], host: str) -> None:
    """Checks that nobody gets in without a password, or with a wrong one."""
    shut = "Is the server started with --app-name basic-auth? Nobody may be let in unnamed."
    picture = f"{facts['experiment_id']}/{facts['run_id']}/artifacts/{PICTURE}"
    paths = (f"mlflow/runs/get?run_id={facts['run_id']}",
             "mlflow/experiments/search?max_results=1",
             f"mlflow-artifacts/artifacts/{picture}", "mlflow/users/list")  # fmt: skip
    for who, login in (("nobody", ("", "")), ("a wrong password", (server.username, "wrong"))):
        stranger = http.Server(server.address, *login, server.ca)
        asked = {f"GET {path.partition('?')[0]}": stranger.status(path) for path in paths}
        answered(report, f"{host}: {who}", 401, shut, asked)


def whole(facts: dict[str, Any]) -> dict[str, Any]:
    """What everybody must see of A's run who may see it."""
    params = {name: str(value) for name, value in PARAMS.items()}
    return {"status": "FINISHED", **params, METRIC: facts["accuracy"]}


def of_a(run: Any) -> dict[str, Any]:
    """What there is of A's run, without what B may have added."""
    metrics = {key: value for key, value in run.data.metrics.items() if key != OF_B}
    return {"status": run.info.status, **run.data.params, **metrics}


def answered(report: Report, name: str, code: int, advice: str, answers: dict[str, int]) -> None:
    """Checks that each attempt was answered with one HTTP status."""
    wrong = [f"{what}: {status}" for what, status in answers.items() if status != code]
    with report.check(name, Kind.PERMISSIONS, f"{code}, {len(answers)} times", advice) as check:
        check.seen = wrong or f"{code}, {len(answers)} times"


# end ---------------------------------------------------------------------------------------------


def end(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Removes what the parts have made, and makes one report of theirs."""
    facts = known.facts
    for document in known.reports:
        try:
            report.take(document)
            report.subject = document["subject"] if "began" in document else report.subject
        except Exception:  # whatever somebody in a model could think of
            known.lost.append(NO_REPORT)
    for lost in known.lost:
        with (
            suppress(CheckFailedError),  # it is no reason to leave anything
            report.check(lost["lost"], Kind.ENVIRONMENT, "done", lost["advice"]) as check,
        ):
            check.seen = " ".join(lost["said"].split()) or "no word"
    if "began" in facts:
        report.started -= max(0.0, time.time() - facts["began"])
    for fact in ("users", "predictions", "files", "default_permission"):
        report.facts.pop(fact, None)
    kept = ("token", "tokens", "before")
    report.facts |= {key: value for key, value in facts.items() if key in kept}
    report.facts.pop("alone", None)
    report.facts["ended"] = True  # for `look`, which has the last word
    if "token" not in facts:
        return
    token = facts["token"]
    interruption.ignore()
    before = len(report.checks)
    server = enter(options, report, known.administrator)
    del report.checks[before:]  # `begin` has shown them
    if options.keep and not facts["users"]:
        return
    what = "the two users" if options.keep else "what the smoke made"
    with report.check(
        what, Kind.CLEANUP, "removed", f"Delete what is named {token}, or tagged {TAG}."
    ) as check:
        theirs = remove(server, token, keep=options.keep)
        found = left(server, token, keep=options.keep)
        check.seen = [thing for thing in found if thing not in theirs] or "removed"
    report.left_out += [
        f"{thing}: tagged as the smoke's, and not A's to remove" for thing in theirs
    ]


def conclude(known: Known, report: Report) -> None:
    """Takes over all that the parts have said, for the last word."""
    for document in known.reports:
        report.take(document)
    report.handed_on = []
    if "began" in known.facts:
        report.started -= max(0.0, time.time() - known.facts["began"])
    for fact in ("before", "ended", "token", "tokens"):
        report.facts.pop(fact, None)
    interruption.ignore()


def forget(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Takes away for good what `end` has removed, which MLflow has only marked as deleted.

    It is done by the server's own programs, with the rights of its account. So the first experiment
    that a person makes on a new server has number 1.
    """
    tokens = known.facts.get("tokens", [])
    if not tokens or (options.keep and len(tokens) == 1):
        return
    sys.path.append(str(TOOLS))
    try:
        from mlflow_ops.forget import forget as forgotten
    except ImportError:
        report.left_out.append(
            f"rows of deleted things: they stay, as {TOOLS} is of another release, or not there"
        )
        return
    with report.check("rows of deleted things", Kind.CLEANUP, "gone for good", AGAIN) as check:
        said = [
            forgotten(token, GONE.format(token=token), TAG)
            for token in tokens
            if not (options.keep and token == known.facts.get("token"))
        ]
        check.seen = "gone for good"
    report.left_out += [f"rows of deleted things: {words}" for words in said if words]


def remove(server: http.Server, token: str, keep: bool = False) -> list[str]:
    """Removes a smoke's experiment, model and users, and no others.

    A tag marks them as its own, which others' things may bear as well: whoever may change one may
    tag it. So it is A who removes them, where there are users, and none but her own. MLflow only
    marks experiments and runs as deleted; `forget` removes such rows for good. What others have
    put into them meanwhile stays, and with it the experiment or the model.

    Args:
        server: the server, as its administrator, or as anybody where there are no users.
        token: what is tagged, and named, with it goes.
        keep: only the users go.

    Returns:
        What bears the tag and is somebody else's.
    """
    theirs = []
    if not keep and (maker := as_a(server, token) if server.username else server):
        numbers = experiments(maker, token)
        ours = {run["info"]["run_id"] for number in numbers for run in runs(maker, number)
                if tagged(run.get("data", {}), token)}  # fmt: skip
        steps = [(name, partial(remove_model, maker, name, ours)) for name in models(maker, token)]
        steps += [(number, partial(remove_experiment, maker, number, ours, token))
                  for number in numbers]  # fmt: skip
        seen = {thing for thing, _ in steps}  # by A; what she may not read is not hers
        tagged_so = [*models(server, token), *experiments(server, token)]
        theirs = [thing for thing in tagged_so if thing not in seen]
        for thing, step in steps:
            try:
                step()
            except http.HTTPError as error:
                if error.code != http.FORBIDDEN:
                    raise
                theirs.append(thing)
    for letter in "ab" if server.username else "":
        remove_user(server, USER.format(letter=letter, token=token))
    return theirs


def as_a(server: http.Server, token: str) -> http.Server | None:
    """The server as user A of a smoke, who gets a new password; nothing where she is gone."""
    name, password = USER.format(letter="a", token=token), secrets.token_urlsafe(24)
    body = {"username": name, "password": password}
    try:
        server.call("mlflow/users/update-password", body, "PATCH")
    except http.HTTPError as error:
        if error.code == http.NOT_FOUND:
            return None
        raise
    return replace(server, username=name, password=password)


def remove_user(server: http.Server, name: str) -> None:
    """Removes a user; MLflow 2 refuses where she has permissions left, and shows them with her."""
    status, found = server.ask(f"mlflow/users/get?username={name}")
    user = found["user"] if status != http.NOT_FOUND else {}
    for kind, key in (("registered_model", "name"), ("experiment", "experiment_id")):
        for row in user.get(f"{kind}_permissions", []):
            body = {key: row[key], "username": name}
            delete(server, f"{kind.replace('_', '-')}s/permissions", body)
    delete(server, "users", {"username": name})


def remove_model(server: http.Server, name: str, ours: set[str]) -> None:
    """Removes a registered model; of one that others have registered a version of, ours alone."""
    query = http.quote(f"name = '{name}'")
    answer = server.call(f"mlflow/model-versions/search?filter={query}")
    versions = answer.get("model_versions", [])
    mine = [version["version"] for version in versions if version.get("run_id") in ours]
    if len(mine) == len(versions):
        delete(server, "registered-models", {"name": name})
        return
    for version in mine:
        delete(server, "model-versions", {"name": name, "version": version})
    body = {"name": name, "key": TAG, "value": "left to others"}
    server.call("mlflow/registered-models/set-tag", body)


def remove_experiment(server: http.Server, number: str, ours: set[str], token: str) -> None:
    """Removes an experiment; of one that others have logged into, our runs alone."""
    there = {run["info"]["run_id"] for run in runs(server, number)}
    # Never the experiment's own directory: from S3, MLflow before 3.17 deletes whatever begins so,
    # and that of experiment 1 is the beginning of 10's. (And MLflow 2 lets A delete none.)
    for run_id in ours & there:
        server.call(f"mlflow-artifacts/artifacts/{number}/{run_id}", method="DELETE")
        server.call("mlflow/runs/delete", {"run_id": run_id})
    if there - ours:
        tag = {"experiment_id": number, "key": TAG, "value": "left to others"}
        server.call("mlflow/experiments/set-experiment-tag", tag)
        return
    server.call(f"mlflow-artifacts/artifacts/{number}/models", method="DELETE")
    name = GONE.format(token=token)
    server.call("mlflow/experiments/update", {"experiment_id": number, "new_name": name})
    server.call("mlflow/experiments/delete", {"experiment_id": number})


def tagged(thing: dict[str, Any], token: str) -> bool:
    """Whether a run is tagged as a smoke's."""
    return {"key": TAG, "value": token} in thing.get("tags", [])


def delete(server: http.Server, kind: str, body: dict[str, str]) -> None:
    """Deletes something that may be gone; `left` says whether it is."""
    try:
        server.call(f"mlflow/{kind}/delete", body, "DELETE")
    except http.HTTPError as error:
        if error.code != http.NOT_FOUND:
            raise


def left(server: http.Server, token: str, keep: bool = False) -> list[str]:
    """What there still is of a smoke."""
    found = [] if keep else [*models(server, token), *experiments(server, token)]
    for letter in "ab" if server.username else "":
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


def runs(server: http.Server, number: str) -> list[dict[str, Any]]:
    """The runs of an experiment."""
    body = {"experiment_ids": [number], "max_results": 1000}
    found: list[dict[str, Any]] = server.call("mlflow/runs/search", body).get("runs", [])
    return found
