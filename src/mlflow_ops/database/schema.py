"""The schema in MLflow's databases: compare it with the installed MLflow's, create it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import mlflow_internals as internals
from . import EMPTY_IT, PATIENT, SQLITE, connect, how_to_read, tables
from .fit import Unfit, check_fit, remedy

# In PostgreSQL, there while a schema is being created: what a creation that was cut off leaves is
# told from a database of somebody else.
UNFINISHED = "mlflow_schema_unfinished"

CREATION_LOCK = 6580136  # of all programs that ask the database for this lock, this is ours


def head(kind: str) -> str:
    """Return the newest revision among the migration scripts.

    Read as text: importing MLflow to ask it takes seconds, and every run of the role asks.
    """
    mlflow = Path(sysconfig.get_path("purelib"), "mlflow")
    scripts = (mlflow / internals.SCHEMAS[kind].scripts).glob("*.py")
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    down = set(re.findall(r"^down_revision\b[^=\n]*= *[\"'](\w+)", text, re.MULTILINE))
    heads = set(re.findall(r"^revision\b[^=\n]*= *[\"'](\w+)", text, re.MULTILINE)) - down
    if len(heads) != 1:
        raise SystemExit(f"The installed MLflow has {len(heads)} newest {kind} schemas, not one.")
    return str(heads.pop())


def tables_and_revision(
    kind: str, uri: str, connections: dict[str, int] | None = None
) -> tuple[int, str]:
    """Return the number of tables in a database, and its revision or ''.

    Of a creation that was cut off, nothing counts. With `connections` (which may be empty) Unfit is
    raised for a database that MLflow could not work with. Raises OSError or the driver's error if
    the database cannot be read.
    """
    connection: Any
    if uri.startswith(SQLITE):
        path = Path(uri[len(SQLITE) :])
        if not path.exists() or path.stat().st_size == 0:
            return 0, ""
        connection = sqlite3.connect(f"{path.as_uri()}?{how_to_read(path)}", uri=True)
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
        there = {row[0] for row in connection.execute(names)}
    else:
        connection = connect(uri)
        if connections is not None:
            check_fit(kind, uri, connection, connections)
        there = tables(connection)
    try:
        if UNFINISHED in there:
            return 0, ""
        for revision in internals.SCHEMAS[kind].revisions:
            if revision.table in there:
                row = connection.execute(revision).fetchone()
                return len(there), row[0] if row else ""
        return len(there), ""
    finally:
        connection.close()


def status(kind: str, uri: str, connections: dict[str, int] | None = None) -> dict[str, Any]:
    """Return a database's state: current, empty, different or unreachable, with the revisions.

    With `connections`, unreachable is also what MLflow could not work with.
    """
    expected = head(kind)
    try:
        count, revision = tables_and_revision(kind, uri, connections)
    except Exception as error:  # two drivers, each with errors of its own
        said = str(error).strip()
        if not uri.startswith(SQLITE) and not isinstance(error, Unfit):
            said = remedy(kind, uri, said)
        return {"kind": kind, "state": "unreachable", "head": expected, "error": said}
    state = "empty" if not count else "current" if revision == expected else "different"
    return {"kind": kind, "state": state, "head": expected, "revision": revision}


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Keep other servers from creating the same schema; and clean up, see UNFINISHED.

    Another server may have found the same database empty: look again within.
    """
    if uri.startswith(SQLITE):
        yield
        return
    with connect(uri) as connection:
        # A lock of the transaction, since a connection pooler may know no other.
        connection.execute(PATIENT)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [CREATION_LOCK])
        yield


@contextlib.contextmanager
def all_or_nothing(uri: str) -> Iterator[None]:
    """Mark a PostgreSQL database while its schema is created; begin with an empty one."""
    if uri.startswith(SQLITE):
        yield
        return
    with connect(uri) as connection:
        if UNFINISHED in tables(connection):
            connection.execute(EMPTY_IT)
        connection.execute(f"CREATE TABLE {UNFINISHED} ()")
    yield
    with connect(uri) as connection:
        connection.execute(f"DROP TABLE {UNFINISHED}")


def create(kind: str, uri: str) -> None:
    """Bring MLflow's schema into an empty database; all of it or nothing."""
    os.umask(0o077)
    building = uri + ".new" if uri.startswith(SQLITE) else uri
    file = Path(building[len(SQLITE) :]) if uri.startswith(SQLITE) else None
    if file:
        file.unlink(missing_ok=True)
        file.touch()  # or say now that there is no room: MLflow would try for two minutes
    try:
        internals.create_schema(kind, building)
        if file:
            # WAL lets people read while a run writes. The file remembers it.
            connection = sqlite3.connect(file)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
            file.rename(uri[len(SQLITE) :])
    except BaseException:
        if file:
            for leftover in file.parent.glob(file.name + "*"):
                leftover.unlink()
        raise


def refusal(database: dict[str, Any]) -> str:
    """Return why the service must not start on a database, or ''.

    One that does not answer is none: the server itself waits for it.
    """
    if database["state"] == "empty":
        return (
            f"The {database['kind']} database is empty or its file is gone. Restore a backup, or "
            "run the playbook again to begin a new one."
        )
    if database["state"] == "different":
        return (
            f"The {database['kind']} database has schema {database['revision'] or 'unknown'}, and "
            f"this MLflow needs {database['head']}. Nothing was migrated; run the upgrade playbook."
        )
    return ""
