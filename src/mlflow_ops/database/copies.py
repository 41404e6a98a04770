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
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from .. import durable
from .. import mlflow_internals as internals
from . import DRIVER, EMPTY_IT, PATIENT, SQLITE, connect, ours, tables
from .schema import tables_and_revision

MANIFEST = "manifest.json"

# What a newer pg_restore says to a server that does not know it yet; PATIENT has seen to it.
UNKNOWN_TO_OLDER = re.compile(r"SET transaction_timeout = 0;\n?$")

# Whoever else is connected would keep the tables: a server that did not stop, or a person.
ALONE = """
SET lock_timeout = '60s';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();
"""

IN_SCHEMA = "relnamespace = current_schema()::regnamespace"

# Tables and the like of others that lie where MLflow's are, and whether MLflow could write there.
OF_OTHERS = f"""
SELECT relname, has_table_privilege(oid, 'INSERT') FROM pg_class
 WHERE {IN_SCHEMA} AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND NOT pg_has_role(relowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_depend
       WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
"""  # noqa: S608 no input

# Extensions that MLflow's tables need: somebody has made an index with one, say.
NEEDED = f"""
SELECT DISTINCT extname FROM pg_depend uses
  JOIN pg_class ON uses.classid = 'pg_class'::regclass AND uses.objid = pg_class.oid
  JOIN pg_depend brought ON brought.classid = uses.refclassid AND brought.objid = uses.refobjid
   AND brought.deptype = 'e'
  JOIN pg_extension ON brought.refobjid = pg_extension.oid
 WHERE {IN_SCHEMA} AND {ours("pg_class", "relowner")}
"""  # noqa: S608 no input

# What of others would go with MLflow's tables, if these were replaced.
LEANING = f"""
WITH mine AS (SELECT oid FROM pg_class WHERE {IN_SCHEMA} AND {ours("pg_class", "relowner")})
SELECT DISTINCT format('view %s', ev_class::regclass) FROM pg_depend
  JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
 WHERE refclassid = 'pg_class'::regclass AND refobjid IN (SELECT oid FROM mine)
   AND ev_class NOT IN (SELECT oid FROM mine)
 UNION
SELECT format('constraint %s of table %s', conname, conrelid::regclass) FROM pg_constraint
 WHERE contype = 'f' AND confrelid IN (SELECT oid FROM mine)
   AND conrelid NOT IN (SELECT oid FROM mine)
"""  # noqa: S608 no input


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


def quoted(name: str) -> str:
    """Return a name as SQL and pg_dump's patterns have it."""
    return '"' + name.replace('"', '""') + '"'


def what_is_ours(connection: Any) -> list[str]:
    """Return the options by which pg_dump takes what is MLflow's, and nothing of others.

    Raises Unusable for a table that MLflow uses and its role does not own.
    """
    (schema, user), others = (
        connection.execute("SELECT current_schema(), current_user").fetchone(),
        connection.execute(OF_OTHERS).fetchall(),
    )
    if used := sorted(name for name, writable in others if writable):
        raise Unusable(
            f'user "{user}" may write to {", ".join(used)} of schema {schema}, and does not own '
            f"it: it could not be loaded again. Where that is MLflow's, have the DBA run: ALTER "
            f"TABLE {quoted(schema)}.{quoted(used[0])} OWNER TO {quoted(user)}; otherwise: REVOKE "
            f"INSERT ON {quoted(schema)}.{quoted(used[0])} FROM {quoted(user)};"
        )
    return [
        f"--schema={quoted(schema)}",
        *(f"--exclude-table={quoted(schema)}.{quoted(name)}" for name, _ in others),
        *(f"--extension={quoted(name)}" for (name,) in connection.execute(NEEDED)),
    ]


def save_postgresql(kind: str, uri: str, file: Path) -> tuple[float, dict[str, int]]:
    """Dump a PostgreSQL database as it is at one moment; return the moment and its counts."""
    with connect(uri) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(PATIENT)
        (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone()
        moment, found = time.time(), counts(kind, connection, tables(connection))
        finished(
            program("pg_dump", uri, *what_is_ours(connection), "--format=custom",
                    f"--snapshot={snapshot}", f"--file={file}")
        )  # fmt: skip
        return moment, found


def check_savable(uri: str, file: Path | None = None) -> None:
    """See that a database could be saved: pg_dump refuses a server that is newer than itself.

    Args:
        uri: the database.
        file: where its schema, without what is in it, is left as a copy.

    Raises Unusable with its words.
    """
    if not uri.startswith(SQLITE):
        with connect(uri) as connection:
            options = what_is_ours(connection)
        options += [f"--file={file}"] if file else []
        finished(
            program("pg_dump", uri, "--schema-only", "--format=custom", *options,
                    stdout=subprocess.DEVNULL)
        )  # fmt: skip


def check_replaceable(uri: str) -> None:
    """See that what is saved of a database could be loaded there again, in its own place.

    What no catalog tells is tried: its schema is loaded, by the same role, among the tables that
    end with a connection. Raises Unusable with what has to be done.
    """
    if uri.startswith(SQLITE):
        return
    with tempfile.TemporaryDirectory() as place:
        check_savable(uri, copy := Path(place, "schema.dump"))
        with connect(uri) as connection:
            found = connection.execute("""
                SELECT current_user, current_schema(), current_database(),
                       has_schema_privilege(current_schema(), 'CREATE'),
                       has_database_privilege(current_database(), 'TEMPORARY')""").fetchone()
            user, schema, name = map(quoted, found[:3])
            leaning = [row[0] for row in connection.execute(LEANING)]
        rights = {f"CREATE ON SCHEMA {schema}": found[3], f"TEMPORARY ON DATABASE {name}": found[4]}
        for right in (right for right, given in rights.items() if not given):
            raise Unusable(
                f"user {user} lacks a right that it takes to load again what is saved of database "
                f"{name}. Have the DBA run: GRANT {right} TO {user};"
            )
        if leaning:
            raise Unusable(
                f"others in database {name} lean on MLflow's tables, and would be gone when these "
                f"are loaded again: {', '.join(leaning)}. Have the DBA keep the definitions "
                "(pg_get_viewdef, pg_get_constraintdef), DROP them, and make them again afterwards."
            )
        try_postgresql(uri, copy)


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
        durable.settle(file)
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
    durable.rename(unfinished, directory / MANIFEST)  # last: without it, nothing was saved
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
    durable.rename(fresh, file)  # who loads it writes down on another disk that it was


def listed(copy: Path) -> tuple[str, list[str], list[str]]:
    """Return in which schema of a dump MLflow's tables are, the names there, and what to load.

    That is, as lines of its list, what belongs there to the tables' owners, and extensions: a copy
    that an earlier release made has all that is in the database. Raises Unusable.
    """
    done = subprocess.run(
        ["pg_restore", "--list", str(copy)], capture_output=True, text=True, check=False
    )
    # What it is, its schema (- is none), its name, its owner.
    entry = r"(?m)^\d+; \d+ \d+ "
    revision = re.search(entry + rf"TABLE (.+) {internals.REVISION_TABLES} ", done.stdout)
    if done.returncode or not revision:
        raise Unusable(f"{copy} has no tables of MLflow's. {done.stderr.strip()}")
    schema = re.escape(revision[1])
    owners = "|".join(map(re.escape, re.findall(rf"{entry}TABLE {schema} \S+ (.+)", done.stdout)))
    kinds = "TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|FUNCTION|TYPE|DOMAIN"
    names = re.findall(rf"{entry}(?:{kinds}) {schema} ([^ (]+)", done.stdout)
    mine = rf"(?!PUBLICATION)[A-Z ]+ {schema} .+ (?:{owners})"
    return revision[1], names, re.findall(rf"{entry}(?:{mine}|EXTENSION - .+)$", done.stdout)


def run_dump(
    uri: str, copy: Path, entries: list[str], before: str, change: Callable[[str], str] = str,
    after: str = "COMMIT;",
) -> None:  # fmt: skip
    """Run statements and, among them, what a dump consists of; in one transaction.

    psql would commit by itself when nothing more comes, also where that is since who writes to it
    was killed: here only the last statement ends the transaction.

    Args:
        uri: the database.
        copy: the dump.
        entries: the lines of its list that count.
        before: what is run first.
        change: what becomes of each line of the dump.
        after: what is run last.

    Raises Unusable, with all as it was.
    """
    psql = program("psql", uri, "--no-psqlrc", "--quiet", "--output=/dev/null", "--file=-",
                   "--set=ON_ERROR_STOP=1", stdin=subprocess.PIPE)  # fmt: skip
    restore = subprocess.Popen(
        ["pg_restore", "--no-owner", "--no-privileges", "--use-list=/dev/stdin", "--file=-",
         str(copy)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert psql.stdin and restore.stdin and restore.stdout  # noqa: S101 they are pipes
    try:
        psql.stdin.write(f"BEGIN; {PATIENT}; {before}")
        with restore.stdin as lines:
            lines.write("\n".join(entries))
        for line in restore.stdout:
            if not UNKNOWN_TO_OLDER.match(line):
                psql.stdin.write(change(line))
        restore.stdin = None  # which is closed
        finished(restore)
        psql.stdin.write(after)
    except BrokenPipeError as error:  # one of them stopped: psql says why, if it was psql
        restore.kill()
        restore.stdin = None  # which is closed
        restore.communicate()
        finished(psql)
        raise Unusable(f"pg_restore of {copy} stopped.") from error
    except Unusable:
        psql.kill()  # so that it does not commit
        psql.wait()
        raise
    finished(psql)


def try_postgresql(uri: str, copy: Path) -> None:
    """Load the tables of a dump among those that end with a connection. Raises Unusable."""
    schema, names, entries = listed(copy)
    any_name = "|".join(map(re.escape, names))
    # What an extension brought stays where it is.
    place = re.compile(rf'(?<![\w."])"?{re.escape(schema)}"?\.(?="?(?:{any_name})\b)')
    run_dump(uri, copy, entries, "", lambda line: place.sub("pg_temp.", line), "ROLLBACK;")


def load_postgresql(uri: str, copy: Path) -> None:
    """Replace what a PostgreSQL database holds, in one transaction: all of it, or nothing."""
    schema, _, entries = listed(copy)
    name = "'" + schema.replace("'", "''") + "'"
    elsewhere = f"""
DO $$ BEGIN IF current_schema() <> {name} THEN
  RAISE 'the copy is of schema %, and here is schema %', {name}, current_schema();
END IF; END $$;
"""
    run_dump(uri, copy, entries, elsewhere + ALONE + EMPTY_IT)


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
