"""MLflow's databases: compare their schema with MLflow's, create, migrate, save, load.

  status          print one JSON line: each database's state
  check           the same as an exit code: 0, or 1 with a sentence (for systemd, before a start)
  create          bring the schema into the databases that are empty, and touch no other
  migrate         bring the schema of the others to what this MLflow needs
  savable         see that `save` has the programs for it, and that they know the database's version
  count           print as JSON how many of each there are that people would miss
  save DIR        copies of one moment into DIR, with manifest.json; the service may be running
  load DIR        replace what the databases hold by what was saved; all of a database, or nothing

A migration happens by `migrate` alone: MLflow would do it silently when it starts on an older
database, and no older MLflow reads the result. Run it with the environment's Python, as the
service's user; `load`, `migrate` while the service is stopped.

The databases' addresses come from the service's settings, or, with --stdin, from a JSON object
{"tracking": URI, "auth": URI or ""} on standard input: addresses hold passwords, so they are never
arguments. The object may have "connections", {"servers", "workers", "pools", "each"}, for `status`
to hold their product against what PostgreSQL accepts; and "artifacts", {"destination", "roots"},
for it to name what the database has in places that the guard would refuse now.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from .. import mlflow_internals as internals
from .. import remedies
from ..settings import databases, read_settings
from . import guard_places

# Which variable names the database, with PostgreSQL.
NAMES = {"tracking": "mlflow_server_database_name", "auth": "mlflow_server_auth_database"}

SQLITE = "sqlite:///"
DRIVER = re.compile(r"\+psycopg2?(?=://)")  # which SQLAlchemy wants in an address, and nobody else

# Empties a PostgreSQL database: MLflow has made functions there too, which no table takes along.
EMPTY_IT = """
SET client_min_messages = warning;
DO $$ DECLARE statement text; BEGIN
  FOR statement IN
    SELECT format('DROP %s IF EXISTS %I CASCADE', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN
                  'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relname)
      FROM pg_class WHERE relnamespace = current_schema()::regnamespace
       AND (relkind IN ('r', 'p', 'v', 'm') OR (relkind = 'S' AND NOT EXISTS (
            SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i'))))
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
     WHERE pronamespace = current_schema()::regnamespace
       AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    UNION ALL
    SELECT format('DROP TYPE IF EXISTS %I CASCADE', typname) FROM pg_type
     WHERE typnamespace = current_schema()::regnamespace AND typtype IN ('e', 'd')
  LOOP EXECUTE statement; END LOOP;
END $$;
"""

MANIFEST = "manifest.json"

# In PostgreSQL, there while a schema is being created: what a creation that was cut off leaves is
# told from a database of somebody else.
UNFINISHED = "mlflow_schema_unfinished"
CREATION_LOCK = 6580136  # of all programs that ask the database for this lock, this is ours

# What PostgreSQL or its driver says when a connection fails, and what to do. The first counts.
REMEDIES = {
    "failed to resolve host|could not translate host name": (
        "the name {host} does not resolve there. Set mlflow_server_database_host to a name that it "
        "knows (getent hosts {host}), or to an address."
    ),
    "Connection refused": (
        "{host} refuses connections on port {port}. Set mlflow_server_database_host and "
        "mlflow_server_database_port to where PostgreSQL listens; or have it started, with "
        "listen_addresses = '*'."
    ),
    "timeout expired|[Tt]imed out|No route to host|Network is unreachable": (
        "{host} does not answer on port {port}. Let firewalls and security groups pass this host, "
        "or set mlflow_server_database_host and mlflow_server_database_port."
    ),
    "on socket .*No such file": (
        "there is no PostgreSQL at the Unix socket {host}/.s.PGSQL.{port}. Start it, or set "
        "mlflow_server_database_host (a host's name, or the socket's directory) and "
        "mlflow_server_database_port."
    ),
    "on socket .*Permission denied": (
        "this user may not enter {host}, the directory of the Unix socket "
        "(mlflow_server_database_host)."
    ),
    "root certificate file .* does not exist|could not read root certificate": (
        "mlflow_server_database_ca is {ca}, and no file there that this user can read holds "
        "certificates in PEM. Set it to one."
    ),
    "weak sslmode": (
        "the driver goes by the system's CAs only with a check of the host's name. Set "
        "mlflow_server_database_sslmode: verify-full, or mlflow_server_database_ca to a PEM file."
    ),
    "certificate verify failed": (
        "its certificate is not signed by a CA of mlflow_server_database_ca ({ca}), or has "
        "expired. Set it to a PEM file with the CA's certificate."
    ),
    "does not match host name|could not get server's host name": (
        "its certificate is not for the name {host}: {said}. Set mlflow_server_database_host to a "
        "name that the certificate has, or have it made for {host}."
    ),
    "server does not support SSL": (
        "it offers no TLS, and mlflow_server_database_sslmode is {sslmode}. Have TLS turned on "
        "there; or, where the network is trusted, set mlflow_server_database_sslmode: disable."
    ),
    "wrong version number|invalid response to SSL negotiation|expected authentication request": (
        "what answers at {host}:{port} is not PostgreSQL, or speaks no TLS 1.2. Set "
        "mlflow_server_database_host and mlflow_server_database_port."
    ),
    "no password supplied": (
        'it wants a password of user "{user}". Set mlflow_server_database_password.'
    ),
    "password authentication failed": (
        'it does not accept this password of user "{user}". Set mlflow_server_database_password or '
        "mlflow_server_database_user."
    ),
    "Peer authentication failed": (
        'the Unix socket admits system user and role of one name, and the role is "{user}". Set '
        "mlflow_server_database_user to the value of mlflow_server_user."
    ),
    r'no pg_hba.conf entry for host "\[local\]"': (
        'on its Unix socket it does not admit user "{user}" to database "{database}". Set {name} '
        "or mlflow_server_database_user; or have the DBA add to pg_hba.conf: "
        'local "{database}" "{user}" peer'
    ),
    "no pg_hba.conf entry.*no encryption": (
        "it does not admit this host, this user or a connection without TLS: {said}. Set "
        "mlflow_server_database_sslmode: verify-full; or have the DBA add a line to pg_hba.conf."
    ),
    "no pg_hba.conf entry|pg_hba.conf rejects": (
        "it does not admit this host and user: {said}. Have the DBA add to pg_hba.conf: "
        'hostssl "{database}" "{user}" <address of this host>/32 scram-sha-256'
    ),
    "is not permitted to log in": (
        'user "{user}" may not log in. Set mlflow_server_database_user, or have the DBA run: '
        'ALTER ROLE "{user}" LOGIN;'
    ),
    'role ".*" does not exist': (
        'it has no user "{user}". Set mlflow_server_database_user, or have the DBA '
        'run: CREATE ROLE "{user}" LOGIN; and set its password with: \\password "{user}"'
    ),
    'database ".*" does not exist': (
        'it has no database "{database}". Set {name}, or have the DBA run: '
        'CREATE DATABASE "{database}" OWNER "{user}" ENCODING \'UTF8\' TEMPLATE template0;'
    ),
    "permission denied for database": (
        'user "{user}" may not connect to database "{database}". Have the DBA run: '
        'GRANT CONNECT ON DATABASE "{database}" TO "{user}";'
    ),
    "too many connections|too many clients|remaining connection slots": (
        "all its connections are in use: {said}. Have the DBA raise the limit; or lower "
        "mlflow_server_workers, mlflow_server_database_pool_size or "
        "mlflow_server_database_max_overflow."
    ),
    "database system is|not yet accepting connections": (
        "{said}. Run the playbook again when it is up."
    ),
    "server closed the connection unexpectedly": (
        "{host}:{port} hangs up. Set mlflow_server_database_host and mlflow_server_database_port; "
        "a proxy or firewall in between may be the cause too."
    ),
}


class Unfit(Exception):
    """A database that answers, and with which MLflow could not work; with the remedy."""


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


def connect(uri: str) -> Any:
    """Return a connection to a PostgreSQL database, with exactly the credentials of its address."""
    import psycopg

    return psycopg.connect(DRIVER.sub("", uri, count=1), connect_timeout=10)


def tables(connection: Any) -> set[str]:
    """Return the names of the tables where MLflow makes its own."""
    names = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return {row[0] for row in connection.execute(names)}


def remedy(kind: str, uri: str, error: str) -> str:
    """Return what to do about a connection that failed: a sentence with the variable to change."""
    parts = urlsplit(uri)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    # The server's own words, without where the driver found it.
    said = error.strip().splitlines()[0].rpartition("FATAL: ")[2].rpartition(" failed: ")[2].strip()
    facts = {
        "host": parts.hostname or options.get("host", ""),
        "port": parts.port or options.get("port", "5432"),
        "user": unquote(parts.username or ""),
        "database": parts.path.lstrip("/"),
        "name": NAMES[kind],
        "ca": options.get("sslrootcert", "system"),
        "sslmode": options.get("sslmode", ""),
        "said": said,
    }
    return (
        remedies.remedy(error, REMEDIES).format(**facts)
        or f"{error} Look at the mlflow_server_database_* variables."
    )


def check_fit(kind: str, uri: str, connection: Any, connections: dict[str, int]) -> None:
    """See that MLflow can work with a PostgreSQL database that answers. Raises Unfit if not."""
    parts = urlsplit(uri)
    user, database = unquote(parts.username or ""), parts.path.lstrip("/")
    if connection.info.server_version < 120000:
        raise Unfit(
            f"it is PostgreSQL {connection.info.server_version // 10000}, and 12 is the oldest "
            "that will do. Set mlflow_server_database_host to a newer one."
        )
    read_only, encoding, schema, may_create = connection.execute("""
        SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
               current_setting('server_encoding'), current_schema(),
               has_schema_privilege(current_schema(), 'CREATE')""").fetchone()
    if read_only:
        raise Unfit(
            "it is read-only, a replica perhaps. Set mlflow_server_database_host to the primary."
        )
    if schema is None or not (tables(connection) or may_create):
        raise Unfit(
            f'user "{user}" may not create tables in database "{database}". Have the DBA run '
            f'ALTER DATABASE "{database}" OWNER TO "{user}"; or, within that database, '
            f'GRANT USAGE, CREATE ON SCHEMA {schema or "public"} TO "{user}";'
        )
    if encoding != "UTF8" and not tables(connection):
        raise Unfit(
            f'database "{database}" has encoding {encoding}, and cannot hold every name. Set '
            f"{NAMES[kind]} to another, for which the DBA runs: "
            f"CREATE DATABASE <name> OWNER \"{user}\" ENCODING 'UTF8' TEMPLATE template0;"
        )
    if connections and kind == "tracking":
        check_connections(connection, **connections)


def check_connections(connection: Any, servers: int, workers: int, pools: int, each: int) -> None:
    """See that PostgreSQL accepts what all servers may open. Raises Unfit if it does not."""
    accepted, of_role, of_database = connection.execute("""
        SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true), '0')::int,
               (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
               (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
        """).fetchone()
    limits = {"max_connections": accepted, "CONNECTION LIMIT of the role": of_role}
    limits["CONNECTION LIMIT of the database"] = of_database
    what, limit = min(
        ((what, limit) for what, limit in limits.items() if limit is not None and limit >= 0),
        key=lambda pair: pair[1],
    )
    needed = servers * workers * pools * each
    if needed <= limit:
        return
    fitting = limit // (servers * workers * pools)
    smaller = (
        f"mlflow_server_database_pool_size and mlflow_server_database_max_overflow to {fitting} "
        "together (each 1 or more)"
        if fitting >= 2
        else f"mlflow_server_workers to {max(limit // (servers * pools * 2), 1)}, with "
        "mlflow_server_database_pool_size: 1 and mlflow_server_database_max_overflow: 1"
    )
    raise Unfit(
        f"it accepts {limit} connections ({what}), and MLflow may open {needed}: {servers} servers "
        f"x {workers} workers x {pools} pools x {each}. Have the DBA raise it; or set {smaller}."
    )


def size(uri: str) -> dict[str, int]:
    """Return a database's size in bytes, and the major version of PostgreSQL, 0 for SQLite."""
    if uri.startswith(SQLITE):
        file = Path(uri[len(SQLITE) :])
        return {"bytes": file.stat().st_size if file.exists() else 0, "server": 0}
    with connect(uri) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return {"bytes": row[0], "server": connection.info.server_version // 10000}


def how_to_read(file: Path) -> str:
    """Return the options with which SQLite reads a database, and leaves nothing beside it.

    One in WAL mode that has no log is open nowhere; merely to read it would begin a log.
    """
    with file.open("rb") as content:
        wal = content.read(20)[18:] == b"\2\2"
    quiet = wal and not file.with_name(file.name + "-wal").exists()
    return "mode=ro&immutable=1" if quiet else "mode=ro"


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
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
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


# copies -------------------------------------------------------------------------------------------


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


def elsewhere(uri: str, destination: str, roots: list[str]) -> list[str]:
    """Return what of a database names places that the guard would refuse now."""
    connection: Any
    if uri.startswith(SQLITE):
        path = Path(uri[len(SQLITE) :])
        connection = sqlite3.connect(f"{path.as_uri()}?{how_to_read(path)}", uri=True)
    else:
        connection = connect(uri)

    def rows(query: str) -> list[tuple[str, str, str]]:
        found = connection.execute(query).fetchall()
        return [(str(a), str(b or ""), str(c or "")) for a, b, c in found]

    with contextlib.closing(connection):
        there = rows(internals.LOCATIONS), rows(internals.SOURCES)
    return guard_places.elsewhere(*there, guard_places.Roots.of(destination, roots))


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


# What a newer pg_restore says to a server that does not know it yet.
UNKNOWN_TO_OLDER = re.compile(r"SET transaction_timeout = 0;\n?$")
# Whoever else is connected would keep the tables: a server that did not stop, or a person.
ALONE = """
SET lock_timeout = '60s';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();
"""


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


def asked(from_stdin: bool) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the databases' addresses by kind, and what else is said, see above.

    Without authentication there is one database.
    """
    given: dict[str, Any] = json.load(sys.stdin) if from_stdin else databases(read_settings())
    options = {name: given.pop(name, {}) for name in ("connections", "artifacts")}
    return {kind: uri for kind, uri in given.items() if uri}, options


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description="MLflow's databases.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("status", "check", "create", "migrate", "savable", "count", "save", "load"):
        action = verbs.add_parser(verb)
        action.add_argument("--stdin", action="store_true", help="read the addresses from stdin")
        if verb in ("save", "load"):
            action.add_argument("directory", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    uris, options = asked(arguments.stdin)
    try:
        return act(arguments, uris, **options)
    except Unusable as error:
        print(error, file=sys.stderr)
    except (OSError, sqlite3.Error) as error:  # of the host; what MLflow raises says where
        print(f"{arguments.verb}: {error}", file=sys.stderr)
    return 1


def act(
    arguments: argparse.Namespace,
    uris: dict[str, str],
    connections: dict[str, int],
    artifacts: dict[str, Any],
) -> int:
    """Do one verb; return the exit code. Raises Unusable."""
    if arguments.verb == "status":
        states = [status(kind, uri, connections) for kind, uri in uris.items()]
        for state in states:
            state |= size(uris[state["kind"]]) if "revision" in state else {}
        answer: dict[str, Any] = {"databases": states}
        if artifacts and states[0]["state"] == "current":
            answer["places"] = elsewhere(uris[states[0]["kind"]], **artifacts)
        print(json.dumps(answer))
    elif arguments.verb == "check":
        reasons = [refusal(status(kind, uri)) for kind, uri in uris.items()]
        if any(reasons):
            print(" ".join(filter(None, reasons)), file=sys.stderr)
            return 1
    elif arguments.verb == "create":
        for kind, uri in uris.items():
            with alone(uri):
                if status(kind, uri)["state"] == "empty":
                    with all_or_nothing(uri):
                        create(kind, uri)
                    print(f"created {kind}")
    elif arguments.verb == "migrate":
        for kind, uri in uris.items():
            if status(kind, uri)["state"] != "current":
                internals.upgrade_schema(kind, uri)
                print(f"migrated {kind}", flush=True)
    elif arguments.verb == "savable":
        for uri in uris.values():
            check_savable(uri)
    elif arguments.verb == "count":
        print(json.dumps({kind: count(kind, uri) for kind, uri in uris.items()}))
    elif arguments.verb == "save":
        print(json.dumps(save(uris, arguments.directory)))
    else:
        load(uris, arguments.directory)
    return 0
