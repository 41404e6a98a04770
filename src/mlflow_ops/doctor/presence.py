"""Whether MLflow is there at all."""

from __future__ import annotations

import configparser
import os
import pwd
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .. import local_store
from ..host import mlflow
from .patient import CREDENTIALS, SQLITE, Patient, version_of
from .report import Finding, Unseen, check, error, last_line, names, paths, run


@check("installation", "server")
def installation(p: Patient) -> Iterator[Finding]:
    """Whether MLflow was set up here, and wholly."""
    settings = Path(p["settings"])
    parts = [settings, Path("/etc/systemd/system", p["unit"]), Path(p.python)]
    absent = [str(path) for path in parts if not path.exists()]
    if len(absent) < len(parts):
        try:
            pwd.getpwnam(p["user"])
        except KeyError:
            absent.append(f"the system user {p['user']}")
    if absent == [str(path) for path in parts]:
        yield error(
            f"MLflow was never set up here: there is neither {' nor '.join(absent)}.",
            "Nothing can work yet.",
            p.again,
        )
    elif absent:
        yield error(
            f"MLflow is half installed: {' and '.join(absent)} "
            f"{'are' if len(absent) > 1 else 'is'} missing.",
            "A run of the playbook was cut off, or somebody removed something.",
            f"{p.again}. It goes on where it was, and leaves data alone.",
        )
    elif why := mlflow.unusable(p["environment"]):
        yield error(
            f"{why}.",
            "The service does not start again; while it runs, some of it fails.",
            f"{p.again} makes the environment anew.",
        )
    else:
        try:
            uri = p.settings.get("MLFLOW_BACKEND_STORE_URI")
        except ValueError as wrong:
            yield error(
                f"{settings} cannot be read: {wrong}. It was changed by hand.",
                "The service does not start with it.",
                f"{p.again} writes it anew.",
            )
            return
        if not uri:
            yield error(
                f"{settings} does not say which database there is (MLFLOW_BACKEND_STORE_URI).",
                "The service would begin an empty database of its own.",
                f"{p.again} writes it anew.",
            )


@check("activation", "client", "local")
def activation(p: Patient) -> Iterator[Finding]:
    """Whether the project's variables and the environment are there."""
    file = Path(p["project"], "mlflow.env")
    if p["project"] and not file.is_file():
        yield error(
            f"There is no {file}: MLflow was not set up here.",
            "A program does not know the server, and logs into ./mlruns or mlflow.db.",
            p.again,
        )
        return
    if "MLFLOW_TRACKING_URI" not in p.activation:
        yield error(
            f"{file} does not say MLFLOW_TRACKING_URI.",
            "A program does not know where to log to.",
            f"{p.again} writes it anew.",
        )
    try:
        p.login  # noqa: B018 read once, for what it raises
    except configparser.Error as wrong:
        yield error(
            f"{CREDENTIALS} cannot be read ({type(wrong).__name__}).",
            "MLflow's client stops with an error, whatever it is asked.",
            "Write it anew: [mlflow], then mlflow_tracking_username = ... and "
            "mlflow_tracking_password = ..., in which a % is doubled",
        )
    if p["environment"]:
        try:
            done = run([p.python, "-I", "-c", ""])
            said = last_line(done.stderr) if done.returncode else mlflow.unusable(p["environment"])
        except Unseen as absent:
            said = str(absent)
        if said or not version_of(p["environment"]):
            yield error(
                f"The environment {p['environment']} does not run: {said or 'it has no MLflow'}.",
                "Neither `python train.py` nor a notebook can start.",
                f"{p.again} makes it anew.",
            )


@check("store", "local", after=("activation",))
def store(p: Patient) -> Iterator[Finding]:
    """Whether runs can be written, and MLflow is told that files are meant."""
    uri, file = p.activation["MLFLOW_TRACKING_URI"], Path(p["project"], "mlflow.env")
    if uri.startswith("file:") and p.activation.get("MLFLOW_ALLOW_FILE_STORE") != "true":
        yield error(
            f"{file} does not say MLFLOW_ALLOW_FILE_STORE=true.",
            "MLflow 3 refuses to log into files: it says that they are in maintenance mode.",
            f"{p.again} writes it anew.",
        )
    place = Path(unquote(urlsplit(uri).path if uri.startswith("file:") else uri[len(SQLITE) :]))
    for path in [place, *paths(f"{place}/*"), place.parent]:
        if path.exists() and not os.access(path, os.W_OK):
            owner = names(path.stat().st_uid, path.stat().st_gid)
            yield error(
                f"{path} belongs to {owner}, and cannot be written by "
                f"{pwd.getpwuid(os.geteuid()).pw_name}.",
                "Runs cannot be logged.",
                f"sudo chown -R {pwd.getpwuid(os.geteuid()).pw_name} {shlex.quote(str(path))}",
            )
            return


@check("experiments", "local", after=("store",))
def experiments(p: Patient) -> Iterator[Finding]:
    """Whether artifacts can be logged to each experiment."""
    try:
        found = local_store.unreachable(p.activation["MLFLOW_TRACKING_URI"])
    except sqlite3.Error as broken:
        raise Unseen(f"the database cannot be read ({broken})") from broken
    if found:
        yield error(
            f"{', '.join(found[:5])}{' and others' if len(found) > 5 else ''}: only a server could "
            "keep the artifacts of "
            f"{'this experiment' if len(found) == 1 else 'these experiments'} "
            "(mlflow-artifacts:), and there is none. An `mlflow ui` that hands artifacts on made "
            f"{'it' if len(found) == 1 else 'them'}.",
            "Metrics are logged to it; an artifact or a model raises MlflowException.",
            f"{p.again} gives it a place in the project, and keeps all that is there.",
        )
