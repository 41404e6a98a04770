"""Take away for good what a smoke has made and deleted, and have numbers begin at 1 again.

MLflow only marks an experiment as deleted, and gives its number to no other. On a server on which
nobody has anything yet, the first experiment that a person makes is to have number 1, as courses
and notebooks write it. So what a smoke has made there goes with all its rows and files, by
MLflow's own functions, as in gc.py. SQLite then gives the number again by itself; PostgreSQL's
sequence is set back while there is nothing of anybody's, with the table locked against writers.

The lock on the service's data is not taken: a smoke is part of an upgrade, which holds it, and what
it makes is in nobody's backup. Run by the smoke, with the environment's Python, as the service's
user, who is also the database's; no matter whether the service runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
from datetime import timedelta
from pathlib import Path

from . import mlflow_internals as internals
from .database import SQLITE, connect
from .gc import Cleaner, Thing
from .settings import read_settings

PATIENCE = "20s"  # for the lock of a table, which whoever makes an experiment has for a moment
AROUND = 900  # seconds that the clock of a smoke's client may be wrong by
LONGEST = 3 * 3600  # seconds that a smoke can take, each part of it as long as it may


def forget(token: str, name: str, tag: str) -> str:
    """Take away for good what one smoke has made; return why something stays, or ''.

    Args:
        token: what the smoke's things are tagged with; its time comes first, as eight digits.
        name: what the smoke has called its experiment when it deleted it.
        tag: the tag's key.

    Raises:
        Exception: of MLflow's, of the database or of the artifact store.
    """
    # What MLflow tells of its migrations is nobody's business here.
    logging.disable(logging.INFO)
    settings = read_settings()
    os.environ.update(settings)
    cleaner = Cleaner(settings, timedelta(0))
    began = int(token[:8], 16)
    said = ""
    for row in cleaner.rows(internals.SMOKED["experiment"], name=name, tag=tag, token=token):
        experiment = Thing("experiment", str(row[0]), *row[1:])
        # That it was made by that smoke its time says: name and tag are anybody's to give.
        if not began - AROUND <= experiment.deleted / 1000 <= began + LONGEST + AROUND:
            said = f"experiment {experiment.id} was not made while this smoke ran"
        else:
            said = said or take(cleaner, experiment, tag, token)
    set_back(settings["MLFLOW_BACKEND_STORE_URI"])
    return said


def take(cleaner: Cleaner, experiment: Thing, tag: str, token: str) -> str:
    """Take away one experiment and all that is in it; return why it stays, or ''.

    Args:
        cleaner: the service's databases and artifacts.
        experiment: it, as MLflow marked it deleted.
        tag: the key of the smoke's tag.
        token: its value.
    """
    within = {"id": experiment.experiment}
    kinds = ["run", *["model"] * cleaner.has(internals.SMOKED["model"])]
    things = [
        Thing(kind, str(row[0]), *row[1:])
        for kind in kinds
        for row in cleaner.rows(internals.SMOKED[kind], **within)
    ]
    for query in internals.NOT_SMOKED:
        if cleaner.has(query) and cleaner.rows(query, tag=tag, token=token, **within):
            return f"somebody has put something into experiment {experiment.id}"
    for thing in (*things, experiment):
        if version := cleaner.versions().of(thing):
            return f"{version} comes from experiment {experiment.id}"
    for thing in (*things, experiment):
        cleaner.remove(thing)
    place = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    if place.startswith("/"):  # directories that are empty now
        for inner in ("models", "traces", ""):
            with contextlib.suppress(OSError):
                Path(place, experiment.id, inner).rmdir()
    return ""


def set_back(uri: str) -> None:
    """Have the next experiment get number 1 where there is none, nor anything of anybody's.

    SQLite numbers by what there is, and needs nothing. Raises the database's errors.
    """
    if uri.startswith(SQLITE):
        return
    with connect(uri) as connection:
        connection.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
        # Whoever makes an experiment has made it by then, or waits, and takes her number later.
        connection.execute(internals.LOCK_EXPERIMENTS)
        counts = [connection.execute(query).fetchone()[0] for query in internals.OF_ANYBODY]
        if not any(counts):
            connection.execute(internals.NUMBER_ONE)
