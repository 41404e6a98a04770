"""Copies of MLflow's databases: save them as they are at one moment, and load them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from .. import mlflow_internals as internals
from . import DRIVER, EMPTY_IT, SQLITE, connect, tables
from .schema import tables_and_revision

MANIFEST = "manifest.json"

# What a newer pg_restore says to a server that does not know it yet.
UNKNOWN_TO_OLDER = re.compile(r"SET transaction_timeout = 0;\n?$")

# Whoever else is connected would keep the tables: a server that did not stop, or a person.
ALONE = """
SET lock_timeout = '60s';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();
"""


class Unusable(Exception):
    """A copy, or a database, with which nothing was done; the message says why."""


def sha256(file: Path) -> str:
    """Return a file's digest, in hexadecimal."""
    with file.open("rb") as content:
        digest = hashlib.sha256()
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def counts(kind: str, connection: Any, there: set[str]) -> dict[str, int]:
    """Return the number of rows in each table that counts."""
    return {
        table: connection.execute(query).fetchone()[0]
        for table, query in internals.COUNTED[kind].items()
        if table in there
    }


def count(kind: str, uri: str) -> dict[str, int]:
    """Return the number of rows in each table of a database that counts."""
    if not uri.startswith(SQLITE):
        with connect(uri) as connection:
            return counts(kind, connection, tables(connection))
    reading = sqlite3.connect(f"{Path(uri[len(SQLITE) :]).as_uri()}?mode=ro", uri=True)
    with contextlib.closing(reading):
        names = reading.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return counts(kind, reading, {row[0] for row in names})


def program(name: str, uri: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start one of PostgreSQL's own programs on a database; its password goes by environment.

    Raises Unusable where the program is missing.
    """
    parts = urlsplit(DRIVER.sub("", uri, count=1))
    place = parts.netloc.rpartition("@")[2]
    address = urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{place}"))
    environment = {**os.environ, "PGPASSWORD": unquote(parts.password or ""), "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.Popen(
            [name, *arguments, f"--dbname={address}"],
            env=environment, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unusable(f"{name} is missing here. Debian: apt install postgresql-client") from error


def finished(process: subprocess.Popen[str]) -> None:
    """Wait for a program. Raises Unusable with its last words when it failed."""
    _, words = process.communicate()
    if process.returncode:
        last = "\n".join((words or "").strip().splitlines()[-5:])
        name = process.args[0] if isinstance(process.args, list) else process.args
        raise Unusable(f"{name!s} failed: {last}")


def save_sqlite(kind: str, uri: str, file: Path) -> tuple[float, dict[str, int]]:
    """Copy an SQLite database as it is at one moment; return the moment and the copy's counts."""
    source = sqlite3.connect(f"{Path(uri[len(SQLITE) :]).as_uri()}?mode=ro", uri=True)
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    source.execute("BEGIN")
    source.execute(names).fetchall()  # from here on it sees nothing newer
    moment = time.time()
    copy = sqlite3.connect(file)
    source.backup(copy)
    source.close()
    found = counts(kind, copy, {row[0] for row in copy.execute(names)})
    copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    copy.close()
    return moment, found


def save_postgresql(kind: str, uri: str, file: Path) -> tuple[float, dict[str, int]]:
    """Dump a PostgreSQL database as it is at one moment; return the moment and its counts."""
    with connect(uri) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone()
        moment = time.time()
        finished(
            program("pg_dump", uri, "--format=custom", "--no-owner", "--no-privileges",
                    f"--snapshot={snapshot}", f"--file={file}")
        )  # fmt: skip
        return moment, counts(kind, connection, tables(connection))


def check_savable(uri: str) -> None:
    """See that a database could be saved: pg_dump refuses a server that is newer than itself.

    Raises Unusable with its words.
    """
    if not uri.startswith(SQLITE):
        finished(
            program("pg_dump", uri, "--schema-only", f"--table={internals.REVISION_TABLES}",
                    stdout=subprocess.DEVNULL)
        )  # fmt: skip


def save(uris: dict[str, str], directory: Path) -> dict[str, Any]:
    """Copy the databases into a directory; return the manifest that is written beside them.

    Raises Unusable where one cannot be copied, or OSError.
    """
    os.umask(0o077)
    saved: dict[str, Any] = {}
    for kind, uri in uris.items():
        sqlite = uri.startswith(SQLITE)
        file = directory / f"{kind}.{'db' if sqlite else 'dump'}"
        _, revision = tables_and_revision(kind, uri)
        if not revision:
            raise Unusable(
                f"The {kind} database has no schema of MLflow's: there is nothing to save."
            )
        moment, found = (save_sqlite if sqlite else save_postgresql)(kind, uri, file)
        with file.open("rb") as written:
            os.fsync(written.fileno())
        saved[kind] = {
            "file": file.name,
            "kind": "sqlite" if sqlite else "postgresql",
            "revision": revision,
            "moment": moment,
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
            "counts": found,
        }
    manifest = {
        "format": 1,
        "mlflow": version("mlflow"),
        "host": socket.gethostname(),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "databases": saved,
    }
    unfinished = directory / f"{MANIFEST}.new"
    unfinished.write_text(json.dumps(manifest, indent=2) + "\n")
    unfinished.rename(directory / MANIFEST)  # last: without it, nothing was saved
    return manifest


def check_copy(uris: dict[str, str], directory: Path) -> dict[str, Any]:
    """Return the databases of a manifest, of which each file is whole and of the right kind.

    Raises Unusable, naming the file.
    """
    try:
        found: dict[str, Any] = json.loads((directory / MANIFEST).read_text())["databases"]
    except (OSError, ValueError, KeyError) as error:
        raise Unusable(f"{directory / MANIFEST} is missing or damaged: {error}") from error
    for kind, uri in uris.items():
        if kind not in found:
            raise Unusable(f"{directory} has no {kind} database, and this server has one.")
        copy, file = found[kind], directory / found[kind]["file"]
        if not file.is_file() or sha256(file) != copy["sha256"]:
            raise Unusable(f"{file} is missing or damaged: it is not what its manifest says.")
        if (copy["kind"] == "sqlite") != uri.startswith(SQLITE):
            raise Unusable(f"{file} is of {copy['kind']}, and this server has another database.")
    return found


def load_sqlite(uri: str, copy: Path) -> None:
    """Put a copy in the place of an SQLite database."""
    file = Path(uri[len(SQLITE) :])
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    source, target = sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True), sqlite3.connect(fresh)
    source.backup(target)
    source.close()
    (said,) = target.execute("PRAGMA integrity_check").fetchone()
    target.execute("PRAGMA journal_mode = WAL")
    target.close()
    if said != "ok":
        fresh.unlink()
        raise Unusable(f"{copy} is damaged: {said}")
    # The log of the database that goes must not meet the one that comes.
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    fresh.rename(file)


def load_postgresql(uri: str, copy: Path) -> None:
    """Replace what a PostgreSQL database holds, in one transaction: all of it, or nothing."""
    psql = program("psql", uri, "--no-psqlrc", "--quiet", "--output=/dev/null", "--file=-",
                   "--single-transaction", "--set=ON_ERROR_STOP=1",
                   stdin=subprocess.PIPE)  # fmt: skip
    restore = subprocess.Popen(
        ["pg_restore", "--no-owner", "--no-privileges", "--file=-", str(copy)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert psql.stdin and restore.stdout  # noqa: S101 they are pipes
    try:
        psql.stdin.write(ALONE + EMPTY_IT)
        for line in restore.stdout:
            if not UNKNOWN_TO_OLDER.match(line):
                psql.stdin.write(line)
        finished(restore)
    except BrokenPipeError:  # psql stopped, and says why
        restore.kill()
    except Unusable:
        psql.kill()  # so that it does not commit
        psql.wait()
        raise
    finished(psql)


def load(uris: dict[str, str], directory: Path) -> None:
    """Replace what the databases hold by the copies.

    Raises Unusable before anything is replaced; or, with that database as it was, when one cannot.
    """
    found = check_copy(uris, directory)
    os.umask(0o077)
    for kind, uri in uris.items():
        copy = directory / found[kind]["file"]
        if uri.startswith(SQLITE):
            load_sqlite(uri, copy)
        else:
            load_postgresql(uri, copy)
        print(f"loaded {kind}: {found[kind]['counts']}", flush=True)
