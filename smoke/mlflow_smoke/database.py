"""MLflow's tables in an SQLite file, read directly while the server goes on writing."""

from __future__ import annotations

import mmap
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

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


def state(database: Path) -> set[str]:
    """What people see of a database: its experiments, runs, models and versions; none deleted."""
    selections = {
        "experiment": "SELECT name FROM experiments WHERE lifecycle_stage = 'active'",
        "run": "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'",
        "model": "SELECT name FROM registered_models",
        "version": "SELECT name || ' ' || version FROM model_versions"
        " WHERE current_stage <> 'Deleted_Internal'",
    }
    return {
        f"{kind} {name}"
        for kind, statement in selections.items()
        for (name,) in query(database, statement)
    }


def pairs(database: Path, table: str, run_id: str) -> dict[str, Any]:
    """The keys and values of a run in one of the tables `params`, `metrics` and `tags`."""
    statement = f"SELECT key, value FROM {table} WHERE run_uuid = ?"  # noqa: S608 (a table of ours)
    return dict(query(database, statement, run_id))


def highest_version(database: Path, model: str) -> int:
    """The highest version that a model ever had, 0 if none: deleted ones are never given again."""
    statement = "SELECT max(version) FROM model_versions WHERE name = ?"
    return query(database, statement, model)[0][0] or 0


def holds(database: Path, content: bytes) -> bool:
    """Whether any of four pieces of some content is in the database or in its write-ahead log."""
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), -(-len(content) // 4))]
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                if any(m.find(piece) != -1 for piece in pieces):
                    return True
    return False
