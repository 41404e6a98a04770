"""The part of a drill that uses what was backed up: cut off from network, service and secrets.

  restore    the databases of ../set into new ones, MLflow on them; counts, and the models' files
  predict    load each model twice, from backup/<number> and ../service/<number>, and compare

Each writes its findings to <verb>.json in the present directory. A model is a program that somebody
uploaded: that is why none is loaded outside of this.

Run with MLflow's Python, by mlflow-backup-sandbox@.service.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import program
from ..client import NotReady, Server
from ..database import SQLITE, copies
from ..database.schema import status
from ..server import ready
from . import drill_models

SET = Path("../set").resolve()
PATIENCE = 180  # seconds until MLflow serves
SETTINGS = {
    "MLFLOW_HOST": "127.0.0.1",
    "MLFLOW_PORT": "5000",
    "MLFLOW_WORKERS": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


class Failed(Exception):
    """What did not work: a sentence for people."""


# restore ------------------------------------------------------------------------------------------


def in_cluster() -> None:
    """Become the same program within a PostgreSQL cluster that ends with it."""
    there = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = [program.parts[4] for program in there]
    if not versions or not Path("/usr/bin/pg_virtualenv").exists():
        raise Failed(
            "PostgreSQL, in which a drill restores the databases, is not installed here: "
            "the playbook restore_drill does it."
        )
    newest = max(versions, key=int)
    again = program(sys.executable, "backup-sandbox", *sys.argv[1:])
    command = ["pg_virtualenv", "-t", "-v", newest, *again]
    os.execvp(command[0], command)  # noqa: S606 no shell is wanted


def new_databases(saved: dict[str, Any]) -> dict[str, str]:
    """Return the addresses of new databases, by kind."""
    uris = {}
    for kind, copy in saved.items():
        if copy["kind"] == "sqlite":
            uris[kind] = f"{SQLITE}{Path.cwd()}/{kind}.db"
        else:
            subprocess.run(["createdb", f"--owner={owner()}", kind], check=True)
            place = f"host={os.environ['PGHOST']}&port={os.environ['PGPORT']}"
            driver = "psycopg2" if version("mlflow").startswith("2.") else "psycopg"
            password = os.environ["PGPASSWORD"]
            uris[kind] = f"postgresql+{driver}://{owner()}:{password}@/{kind}?{place}"
    return uris


@functools.cache
def owner() -> str:
    """Make a role that may do no more than a server's own, and return its name.

    What a superuser can load, that one perhaps cannot.
    """
    made = f"CREATE ROLE drilled LOGIN PASSWORD '{os.environ['PGPASSWORD']}'"  # of random letters
    subprocess.run(["psql", "--quiet", "--dbname=postgres"], input=made, text=True, check=True)
    return "drilled"


@contextlib.contextmanager
def served(tracking: str) -> Iterator[Server]:
    """Run MLflow on a database and the set's artifacts until it has been used. Raises Failed."""
    settings = {
        **SETTINGS,
        "MLFLOW_BACKEND_STORE_URI": tracking,
        "MLFLOW_ARTIFACTS_DESTINATION": str(SET / "artifacts"),
    }
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(
            program(sys.executable, "serve"),
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        server = Server(settings)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                ready.check(server)
                break
            except NotReady as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    last = Path("server.log").read_text(errors="replace").strip()[-800:]
                    raise Failed(f"MLflow does not serve on it: {error}\n{last}") from error
                time.sleep(0.3)
        server.timeout = 600
        yield server
    finally:
        process.terminate()
        process.wait(30)


def restore() -> dict[str, Any]:
    """Restore the databases and serve them; return counts and models. Raises Failed."""
    manifest = json.loads((SET / copies.MANIFEST).read_text())
    saved = manifest["databases"]
    if any(copy["kind"] == "postgresql" for copy in saved.values()) and "PGHOST" not in os.environ:
        in_cluster()
    uris = new_databases(saved)
    try:
        copies.load(uris, SET)
    except copies.Unusable as error:
        raise Failed(str(error)) from error
    for kind, uri in uris.items():
        if (state := status(kind, uri))["state"] != "current":
            raise Failed(
                f"The set was made by MLflow {manifest['mlflow']}, this host has "
                f"{version('mlflow')}, and a drill migrates nothing ({kind}: {state['state']}). "
                "Take a backup first: systemctl start mlflow-backup."
            )
    found: dict[str, Any] = {
        "mlflow": version("mlflow"),
        "counts": {kind: copies.count(kind, uri) for kind, uri in uris.items()},
        "models": [],
    }
    with served(uris["tracking"]) as server:
        for number, model in enumerate(drill_models.newest(server, drill_models.CANDIDATES)):
            try:
                drill_models.bring(server, **model, directory=Path("backup", str(number)))
            except NotReady as error:
                model["error"] = str(error)
            found["models"].append(model)
    return found


# predict ------------------------------------------------------------------------------------------


def example(directory: Path, model: Any) -> Any:
    """Return something that a model can predict on; None where nothing is known of its input."""
    import numpy
    import pandas

    metadata = model.metadata
    if metadata.saved_input_example_info:
        return metadata.load_input_example(str(directory))
    if (schema := metadata.get_input_schema()) is not None:
        if schema.is_tensor_spec():
            [spec] = schema.inputs
            shape = [3 if size < 0 else size for size in spec.shape]
            return numpy.linspace(0, 1, int(numpy.prod(shape))).reshape(shape).astype(spec.type)
        numbers = {"integer", "long", "float", "double"}
        if all(spec.type.name in numbers for spec in schema.inputs):
            columns = {
                spec.name or place: numpy.arange(1, 4).astype(spec.type.to_pandas())
                for place, spec in enumerate(schema.inputs)
            }
            return pandas.DataFrame(columns)
        return None
    with contextlib.suppress(Exception):
        features = model.get_raw_model().n_features_in_  # scikit-learn's and those like it
        return numpy.linspace(0, 1, 3 * features).reshape(3, features)
    return None


def equal(one: Any, other: Any) -> bool:
    """Return whether two predictions are the same."""
    import numpy
    import pandas

    if isinstance(one, pandas.DataFrame | pandas.Series):
        return bool(one.equals(other))
    try:
        return bool(numpy.array_equal(numpy.asarray(one), numpy.asarray(other), equal_nan=True))
    except (TypeError, ValueError):
        return repr(one) == repr(other)


def words(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def compare(number: str) -> dict[str, Any]:
    """Load a model from the backup and from the service; return what each does."""
    import mlflow.pyfunc

    found: dict[str, Any] = {}
    loaded: dict[str, Any] = {}
    places = {"backup": Path("backup", number), "service": Path("../service", number)}
    for side, place in places.items():
        if place.is_dir():
            try:
                loaded[side] = mlflow.pyfunc.load_model(str(place))
            except BaseException as error:  # whatever a model does
                found[f"{side}_error"] = words(error)
    if "backup" not in loaded:
        return found
    try:
        data = example(places["backup"], loaded["backup"])
        if data is None:
            return {**found, "input": "unknown"}
        said = loaded["backup"].predict(data)
        again = loaded["backup"].predict(data)
        found["predictions"] = len(said) if hasattr(said, "__len__") else 1
        found["settled"] = equal(said, again)
        if "service" in loaded:
            found["same"] = equal(said, loaded["service"].predict(data))
    except BaseException as error:
        found["predict_error"] = words(error)
    return found


def predict() -> dict[str, Any]:
    """Compare models until one could be."""
    found: dict[str, Any] = {}
    for number in sorted((place.name for place in Path("backup").iterdir()), key=int):
        found[number] = compare(number)
        if "predictions" in found[number]:
            break
    return found


def main() -> None:
    """Do what the argument says, and write what was found."""
    verb = sys.argv[1]
    try:
        found = {"restore": restore, "predict": predict}[verb]()
    except (Failed, NotReady) as error:
        found = {"error": str(error)}
    Path(f"{verb}.json").write_text(json.dumps(found))
