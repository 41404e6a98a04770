"""Compare the schema of MLflow's databases with what the installed MLflow expects; create it.

  status   print one JSON line: the environment, and each database's state
  check    the same as an exit code: 0, or 1 with one sentence (systemd runs it before a start)
  create   bring the schema into the databases that are empty, and touch no other

A migration never happens here: MLflow would do it silently when it starts on an older database,
and no older MLflow reads the result. Run it with the environment's Python, as the service's user.

The databases' addresses come from the service's environment (MLFLOW_BACKEND_STORE_URI, and the
file at MLFLOW_AUTH_CONFIG_PATH), or, with --stdin, from a JSON object {"tracking": URI, "auth":
URI or ""} on standard input: addresses hold passwords, so they are never arguments. The object may
have "connections", {"servers", "workers", "pools", "each"}, for `status` to hold their product
against what PostgreSQL accepts.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import json
import os
import re
import sqlite3
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Where each schema's migration scripts are in the mlflow package, and which tables may hold its
# revision. The second of `auth` is that of MLflow before 3.6.
SCRIPTS = {"tracking": "store/db_migrations/versions", "auth": "server/auth/db/migrations/versions"}
TABLES = {"tracking": ["alembic_version"], "auth": ["alembic_version_auth", "alembic_version"]}

# ... and which variable names the database, with PostgreSQL.
NAMES = {"tracking": "mlflow_server_database_name", "auth": "mlflow_server_auth_database"}

SQLITE = "sqlite:///"

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
    scripts = Path(sysconfig.get_path("purelib"), "mlflow", SCRIPTS[kind]).glob("*.py")
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    down = set(re.findall(r"^down_revision\b[^=\n]*= *[\"'](\w+)", text, re.MULTILINE))
    heads = set(re.findall(r"^revision\b[^=\n]*= *[\"'](\w+)", text, re.MULTILINE)) - down
    if len(heads) != 1:
        raise SystemExit(f"The installed MLflow has {len(heads)} newest {kind} schemas, not one.")
    return str(heads.pop())


def connect(uri: str) -> Any:
    """Return a connection to a PostgreSQL database, with exactly the credentials of its address."""
    import psycopg

    return psycopg.connect(uri.replace("+psycopg", "", 1), connect_timeout=10)


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
    for pattern, text in REMEDIES.items():
        if re.search(pattern, error):
            return text.format(**facts)
    return f"{error} Look at the mlflow_server_database_* variables."


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
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
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
        for table in TABLES[kind]:
            if table in there:
                row = connection.execute(f"SELECT version_num FROM {table}").fetchone()  # noqa: S608
                return len(there), row[0] if row else ""
        return len(there), ""
    finally:
        connection.close()


def status(kind: str, uri: str, connections: dict[str, int] | None = None) -> dict[str, str]:
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
        if UNFINISHED in (there := tables(connection)):
            for table in there:
                connection.execute(f'DROP TABLE "{table}" CASCADE')
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
    try:
        if kind == "tracking":
            # What `mlflow db upgrade` does with an empty database in MLflow 3; in 2 it cannot.
            from mlflow.store.db import utils

            engine = utils.create_sqlalchemy_engine_with_retry(building)
            utils._initialize_tables(engine)
            engine.dispose()
        else:
            from mlflow.server.auth.db.cli import upgrade

            upgrade.callback(url=building, revision="head")
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


def refusal(database: dict[str, str]) -> str:
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


def asked(from_stdin: bool) -> tuple[dict[str, str], dict[str, int]]:
    """Return the databases' addresses by kind, and the connections, see above.

    Without authentication there is one database.
    """
    given: dict[str, Any]
    if from_stdin:
        given = json.load(sys.stdin)
    else:
        given = {"tracking": os.environ["MLFLOW_BACKEND_STORE_URI"]}
        if auth := os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
            parser = configparser.ConfigParser()
            parser.read(auth)
            given["auth"] = parser["mlflow"]["database_uri"]
    connections = given.pop("connections", {})
    return {kind: uri for kind, uri in given.items() if uri}, connections


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description="MLflow's database schema: compare and create.")
    parser.add_argument("action", choices=["status", "check", "create"])
    parser.add_argument("--stdin", action="store_true", help="read the addresses from stdin")
    arguments = parser.parse_args()

    databases, connections = asked(arguments.stdin)
    if arguments.action == "status":
        states = [status(kind, uri, connections) for kind, uri in databases.items()]
        print(json.dumps({"environment": os.path.realpath(sys.prefix), "databases": states}))
        return 0
    if arguments.action == "create":
        for kind, uri in databases.items():
            with alone(uri):
                if status(kind, uri)["state"] == "empty":
                    with all_or_nothing(uri):
                        create(kind, uri)
                    print(f"created {kind}")
        return 0
    reasons = [refusal(status(kind, uri)) for kind, uri in databases.items()]
    if any(reasons):
        print(" ".join(filter(None, reasons)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
