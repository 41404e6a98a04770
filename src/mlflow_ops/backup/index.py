"""A set's artifacts and a target's files, by the million: tables on the disk, not in memory.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

# ruff: noqa: S608 names of tables, and conditions that are written here or in run.py

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from .sets import Artifact

BATCH = 10_000  # of them, at which a program that is started for many works on at once

# `now`, `before`: artifacts. `there`: files with their size, `wanted`: with their digest.
TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;
CREATE TABLE now (path TEXT PRIMARY KEY, size INT, modified TEXT, sha256 TEXT, "set" TEXT)
  WITHOUT ROWID;
CREATE TABLE before (path TEXT PRIMARY KEY, size INT, modified TEXT, sha256 TEXT, "set" TEXT)
  WITHOUT ROWID;
CREATE TABLE there (path TEXT PRIMARY KEY, size INT) WITHOUT ROWID;
CREATE TABLE wanted (path TEXT PRIMARY KEY, sha256 TEXT) WITHOUT ROWID;
"""

# Of what there is now, that whose file the target has.
TAKE_OVER = """
UPDATE now SET sha256 = before.sha256, "set" = before."set" FROM before
 WHERE now.path = before.path AND now.size = before.size AND now.modified = before.modified
   AND (before.modified < :settled OR before.modified NOT LIKE '%.000000000Z')
   AND EXISTS (SELECT 1 FROM there WHERE there.size = before.size
                AND there.path = before."set" || '/artifacts/' || before.path)
"""
FRESH = "\"set\" = ''"  # in none yet
ABSENT = "path NOT IN (SELECT path FROM now)"
# Of both tables, what the other has otherwise.
OTHER = (
    "path IN (SELECT path FROM now JOIN before USING (path)"
    " WHERE (now.size, now.modified) <> (before.size, before.modified))"
)

Item = TypeVar("Item")


def parts(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """Yield some at a time."""
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield some


class Index:
    """The tables, in a file that goes with its directory."""

    def __init__(self, room: Path) -> None:
        (room / "index.db").unlink(missing_ok=True)
        self.db = sqlite3.connect(room / "index.db", isolation_level=None)
        self.db.executescript(TABLES)

    def fill(self, table: str, rows: Iterable[Artifact]) -> None:
        """Fill a table of artifacts anew."""
        self.db.execute(f"DELETE FROM {table}")
        found = ((one.path, one.size, one.modified, one.sha256, one.set) for one in rows)
        self.many(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)", found)

    def files(self, rows: Iterable[Artifact]) -> None:
        """Say anew which files there are."""
        self.db.execute("DELETE FROM there")
        found = ((one.path, one.size) for one in rows)
        self.many("INSERT OR REPLACE INTO there VALUES (?, ?)", found)

    def many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Do something with many rows, in one transaction."""
        self.db.execute("BEGIN")
        try:
            self.db.executemany(statement, rows)
        finally:
            self.db.execute("COMMIT")

    def artifacts(self, table: str = "now", where: str = "1") -> Iterator[Artifact]:
        """Yield a table's artifacts, by their path. Nothing may be changed meanwhile."""
        for row in self.db.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY path"):
            yield Artifact(*row)

    def paths(self, table: str = "now", where: str = "1") -> Iterator[list[str]]:
        """Yield a table's paths in order, some at a time; what was yielded may be changed."""
        query = f"SELECT path FROM {table} WHERE path > ? AND {where} ORDER BY path LIMIT {BATCH}"
        last = ""
        while some := [row[0] for row in self.db.execute(query, [last])]:
            yield some
            last = some[-1]

    def total(self, table: str = "now", where: str = "1") -> tuple[int, int]:
        """Return how many there are, and their bytes."""
        query = f"SELECT count(*), coalesce(sum(size), 0) FROM {table} WHERE {where}"
        count, size = self.db.execute(query).fetchone()
        return int(count), int(size)

    def sets(self) -> list[str]:
        """Return in which sets the files of `now` lie."""
        found = self.db.execute('SELECT DISTINCT "set" FROM now ORDER BY "set"')
        return [row[0] for row in found if row[0]]

    def sha256(self, path: str, table: str = "now") -> str:
        """Return the digest in a row."""
        found = self.db.execute(f"SELECT sha256 FROM {table} WHERE path = ?", [path]).fetchone()
        return str(found[0])

    def drop(self, table: str, paths: Iterable[str]) -> None:
        """Remove rows by their path."""
        self.many(f"DELETE FROM {table} WHERE path = ?", ((path,) for path in paths))
