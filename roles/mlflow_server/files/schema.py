"""Compare the schema of MLflow's databases with what the installed MLflow expects; create it.

  status   print one JSON line: the environment, and each database's state
  check    the same as an exit code: 0, or 1 with one sentence (systemd runs it before a start)
  create   bring the schema into the databases that are empty, and touch no other

A migration never happens here: MLflow would do it silently when it starts on an older database,
and no older MLflow reads the result. Run it with the environment's Python, as the service's user.

The databases' addresses come from the service's environment (MLFLOW_BACKEND_STORE_URI, and the
file at MLFLOW_AUTH_CONFIG_PATH), or, with --stdin, from a JSON object {"tracking": URI, "auth":
URI or ""} on standard input: addresses hold passwords, so they are never arguments.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import sqlite3
import sys
import sysconfig
from pathlib import Path

# Where each schema's migration scripts are in the mlflow package, and which tables may hold its
# revision. The second of `auth` is that of MLflow before 3.6.
SCRIPTS = {"tracking": "store/db_migrations/versions", "auth": "server/auth/db/migrations/versions"}
TABLES = {"tracking": ["alembic_version"], "auth": ["alembic_version_auth", "alembic_version"]}

SQLITE = "sqlite:///"


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


def tables_and_revision(kind: str, uri: str) -> tuple[int, str]:
    """Return the number of tables in a database, and its revision or ''.

    Raises OSError or the driver's error if the database cannot be read.
    """
    if uri.startswith(SQLITE):
        path = Path(uri[len(SQLITE) :])
        if not path.exists() or path.stat().st_size == 0:
            return 0, ""
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        import psycopg

        connection = psycopg.connect(uri.replace("+psycopg", "", 1), connect_timeout=10)
        names = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    try:
        tables = {row[0] for row in connection.execute(names).fetchall()}
        for table in TABLES[kind]:
            if table in tables:
                row = connection.execute(f"SELECT version_num FROM {table}").fetchone()  # noqa: S608
                return len(tables), row[0] if row else ""
        return len(tables), ""
    finally:
        connection.close()


def status(kind: str, uri: str) -> dict[str, str]:
    """Return a database's state: current, empty, different or unreachable, with the revisions."""
    expected = head(kind)
    try:
        tables, revision = tables_and_revision(kind, uri)
    except Exception as error:  # two drivers, each with errors of its own
        return {"kind": kind, "state": "unreachable", "head": expected, "error": str(error).strip()}
    state = "empty" if not tables else "current" if revision == expected else "different"
    return {"kind": kind, "state": state, "head": expected, "revision": revision}


def create(kind: str, uri: str) -> None:
    """Bring MLflow's schema into an empty database; all of it or, with SQLite, nothing."""
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


def addresses(from_stdin: bool) -> dict[str, str]:
    """Return the databases' addresses by kind; without authentication there is one."""
    if from_stdin:
        given = json.load(sys.stdin)
    else:
        given = {"tracking": os.environ["MLFLOW_BACKEND_STORE_URI"]}
        if auth := os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
            parser = configparser.ConfigParser()
            parser.read(auth)
            given["auth"] = parser["mlflow"]["database_uri"]
    return {kind: uri for kind, uri in given.items() if uri}


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description="MLflow's database schema: compare and create.")
    parser.add_argument("action", choices=["status", "check", "create"])
    parser.add_argument("--stdin", action="store_true", help="read the addresses from stdin")
    arguments = parser.parse_args()

    databases = addresses(arguments.stdin)
    states = [status(kind, uri) for kind, uri in databases.items()]
    if arguments.action == "status":
        print(json.dumps({"environment": os.path.realpath(sys.prefix), "databases": states}))
    elif arguments.action == "create":
        for state in states:
            if state["state"] == "empty":
                create(state["kind"], databases[state["kind"]])
    elif reasons := [reason for reason in map(refusal, states) if reason]:
        print(" ".join(reasons), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
