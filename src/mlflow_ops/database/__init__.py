"""MLflow's databases: connect to them, and look into them."""

from __future__ import annotations

import os
import re
import select
import time
from pathlib import Path
from typing import Any

SQLITE = "sqlite:///"

PATIENCE = 10  # seconds that a server may take to answer

DRIVER = re.compile(r"\+psycopg2?(?=://)")  # which SQLAlchemy wants in an address, and nobody else

# No limit of the server's ends what takes as long as the data is large, within a transaction.
PATIENT = """
SELECT set_config(name, '0', true) FROM pg_settings
 WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""


def ours(catalog: str, owner: str) -> str:
    """Return the condition by which SQL tells what is MLflow's in a schema.

    What an extension has brought is not, nor what belongs to another role.

    Args:
        catalog: the catalog that is asked.
        owner: its column of that meaning.
    """
    return (
        f"pg_has_role({catalog}.{owner}, 'USAGE') AND NOT EXISTS (SELECT FROM pg_depend of"
        f" WHERE of.classid = '{catalog}'::regclass AND of.objid = {catalog}.oid"
        " AND of.deptype = 'e')"
    )


# Removes from a PostgreSQL database all that is MLflow's: functions, too, which go with no table.
EMPTY_IT = f"""
SET client_min_messages = warning;
DO $$ DECLARE statement text; BEGIN
  FOR statement IN
    SELECT format('DROP %s IF EXISTS %I CASCADE', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN
                  'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relname)
      FROM pg_class WHERE relnamespace = current_schema()::regnamespace
       AND (relkind IN ('r', 'p', 'v', 'm') OR (relkind = 'S' AND NOT EXISTS (
            SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i'))))
       AND {ours("pg_class", "relowner")}
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
     WHERE pronamespace = current_schema()::regnamespace AND {ours("pg_proc", "proowner")}
    UNION ALL
    SELECT format('DROP TYPE IF EXISTS %I CASCADE', typname) FROM pg_type
     WHERE typnamespace = current_schema()::regnamespace AND typtype IN ('e', 'd')
       AND {ours("pg_type", "typowner")}
  LOOP EXECUTE statement; END LOOP;
END $$;
"""  # noqa: S608 no input


def connect(uri: str) -> Any:
    """Return a connection to a PostgreSQL database, with exactly the credentials of its address."""
    import psycopg

    # One that says nothing while something else works on a snapshot of its is not taken for dead.
    return psycopg.connect(
        DRIVER.sub("", uri, count=1), connect_timeout=PATIENCE, keepalives_idle=60
    )


WRONG_PASSWORD = "28P01"  # noqa: S105 a code

# In a trace of libpq: the code, and the routine of the server that gave it. The words come between.
REFUSED = re.compile(r'\tErrorResponse\t .*? C "(\w{5})".* R "(\w+)"')


def refused(uri: str) -> str:
    """Return by which SQLSTATE a server refuses a connection, and its routine; else ''.

    Its words are in whatever language it speaks. libpq keeps the code of a connection that fails to
    itself, but writes what it hears into a trace, which stays in memory here.
    """
    from psycopg import pq

    trace = os.memfd_create("trace")
    connection = pq.PGconn.connect_start(DRIVER.sub("", uri, count=1).encode())
    try:
        connection.trace(os.dup(trace))
        deadline, over = time.monotonic() + PATIENCE, (pq.PollingStatus.OK, pq.PollingStatus.FAILED)
        while (state := connection.connect_poll()) not in over and time.monotonic() < deadline:
            reads = state == pq.PollingStatus.READING
            reading, writing = [connection.socket] * reads, [connection.socket] * (not reads)
            select.select(reading, writing, [], PATIENCE)
    finally:
        connection.untrace()  # which writes the rest of it
        connection.finish()
        with os.fdopen(trace, errors="replace") as heard:
            heard.seek(0)
            said = REFUSED.findall(heard.read())
    return " ".join(said[-1]) if said else ""


def tables(connection: Any) -> set[str]:
    """Return the names of the tables where MLflow makes its own."""
    names = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return {row[0] for row in connection.execute(names)}


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
