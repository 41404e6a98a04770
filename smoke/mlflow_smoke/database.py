"""MLflow's tables in an SQLite file, read directly while the server goes on writing."""

from __future__ import annotations

import mmap
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

# For each table, which of its rows people see.
TABLES = {
    "experiments": "lifecycle_stage = 'active'",
    "runs": "lifecycle_stage = 'active'",
    "registered_models": "1",
    "model_versions": "current_stage <> 'Deleted_Internal'",
}
CHUNK = 64  # bytes; long enough not to be found by chance


def query(database: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows that a statement selects.

    Args:
        database: the SQLite file, opened for reading alone.
        statement: SQL, with `?` for each value.
        *values: in the order of the `?`.

    Raises:
        sqlite3.Error: when the file cannot be opened, or is not such a database.
    """
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, values).fetchall()


def counts(database: Path, before: dict[str, list[int]] | None = None) -> dict[str, list[int]]:
    """What people see of a database: how many experiments, runs, models and versions, none deleted.

    Args:
        database: the SQLite file.
        before: what this has returned earlier. Only what was there then counts.

    Returns:
        For each table its last row's number, and how many of the rows people see.
    """
    found = {}
    for table, shown in TABLES.items():
        last = before[table][0] if before else None
        statement = f"SELECT coalesce(max(rowid), 0), coalesce(sum({shown}), 0) FROM {table}"  # noqa: S608 (ours)
        statement += " WHERE rowid <= ?" if before else ""
        found[table] = list(query(database, statement, *([last] if before else []))[0])
    return found


def pairs(database: Path, table: str, run_id: str) -> dict[str, Any]:
    """The keys and values of a run in one of the tables `params`, `metrics` and `tags`."""
    statement = f"SELECT key, value FROM {table} WHERE run_uuid = ?"  # noqa: S608 (a table of ours)
    return dict(query(database, statement, run_id))


def holds(database: Path, content: bytes) -> bool:
    """Whether any of four pieces of some content is in the database or in its write-ahead log."""
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), -(-len(content) // 4))]
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                if any(m.find(piece) != -1 for piece in pieces):
                    return True
    return False
