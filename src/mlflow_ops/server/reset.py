"""Say what was logged on this host's server, or forget it: reset look|forget.

`look` prints one JSON object: "holds", in words, and "empty". `forget` makes the tracking database
anew, takes the users' grants on what is gone, and empties the place of the artifacts; users, their
passwords and all settings stay. Again, if it was cut off. Run it with the environment's Python, as
the service's user, beside the service's programs; `forget` while the service is stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import mlflow_internals as internals
from ..artifacts import Content
from ..database import EMPTY_IT, SQLITE, connect, tables
from ..database.schema import UNFINISHED, all_or_nothing, create
from ..lock import Held, data_lock
from ..settings import databases, read_settings
from ..there import below


class Directory:
    """Artifacts in a directory of this host."""

    def __init__(self, place: str) -> None:
        self.place = Path(place)

    def sizes(self) -> Iterator[int]:
        """Yield the size of each file."""
        for path in below(self.place, ""):
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size

    def empty(self) -> None:
        """Remove all artifacts, not the directory."""
        for path in Content(self.place).here():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class Bucket:
    """Artifacts below a prefix of a bucket."""

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        prefix = parts.path.strip("/")
        self.client = internals.s3_client(internals.S3_REPOSITORY.get()(place))
        self.where = {"Bucket": parts.netloc}
        if owner := os.environ.get("MLFLOW_S3_EXPECTED_BUCKET_OWNER"):
            self.where["ExpectedBucketOwner"] = owner
        # With the slash: a neighbour whose name begins alike is somebody else's.
        self.prefix = f"{prefix}/" if prefix else ""

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the objects, a thousand at a time."""
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(**self.where, Prefix=self.prefix):
            yield page.get("Contents", [])

    def sizes(self) -> Iterator[int]:
        """Yield the size of each object."""
        for page in self.pages():
            for item in page:
                yield item["Size"]

    def empty(self) -> None:
        """Delete the objects. Raises SystemExit for one that the store keeps."""
        for page in self.pages():
            if not page:
                continue
            keys = {"Objects": [{"Key": item["Key"]} for item in page], "Quiet": True}
            said = self.client.delete_objects(**self.where, Delete=keys)
            for error in said.get("Errors", []):
                raise SystemExit(f"The store keeps {error['Key']}: {error.get('Message')}")


def all_tables(connection: Any) -> set[str]:
    """Return the names of a database's tables."""
    if not isinstance(connection, sqlite3.Connection):
        return tables(connection)
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return {row[0] for row in connection.execute(names)}


def logged(uri: str) -> dict[str, int]:
    """Return how much of each kind there is, where there is some."""
    path = Path(uri[len(SQLITE) :]) if uri.startswith(SQLITE) else None
    if path and not path.exists():
        return {"unfinished database": 1}
    opened = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) if path else connect(uri)
    with contextlib.closing(opened) as connection:
        there = all_tables(connection)
        if UNFINISHED in there or internals.LOGGED["experiments"].table not in there:
            return {"unfinished database": 1}
        found = {
            name: connection.execute(query).fetchone()[0]
            for name, query in internals.LOGGED.items()
            if query.table in there
        }
    return {name: count for name, count in found.items() if count}


def anew(uri: str) -> None:
    """Make the tracking database anew. Cut off, it leaves one on which no service starts."""
    if uri.startswith(SQLITE):
        file = Path(uri[len(SQLITE) :])
        for end in ("", "-wal", "-shm"):
            file.with_name(file.name + end).unlink(missing_ok=True)
    else:
        with connect(uri) as connection:
            connection.execute(EMPTY_IT)
    with all_or_nothing(uri):
        create("tracking", uri)


def forget_grants(uri: str) -> None:
    """Take the users' grants on what is gone: an experiment's number is given again."""
    sqlite = uri.startswith(SQLITE)
    with contextlib.closing(sqlite3.connect(uri[len(SQLITE) :]) if sqlite else connect(uri)) as it:
        for table in all_tables(it):
            if forgetting := internals.forgetting(table):
                it.execute(forgetting)
        it.commit()


def size(number: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def main() -> None:
    """Do what the argument says."""
    settings = read_settings()
    os.environ.update(settings)
    place = settings["MLFLOW_ARTIFACTS_DESTINATION"]
    artifacts = (Bucket if place.startswith("s3://") else Directory)(place)
    if sys.argv[1:] == ["forget"]:
        uris = databases(settings)
        try:
            with data_lock():
                if "auth" in uris:
                    forget_grants(uris["auth"])
                anew(uris["tracking"])
                artifacts.empty()
        except Held as error:
            sys.exit(str(error))
        return
    counts = logged(settings["MLFLOW_BACKEND_STORE_URI"])
    sizes = list(artifacts.sizes())
    if sizes:
        counts[f"files ({size(sum(sizes))}) in {place}"] = len(sizes)
    holds = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(json.dumps({"holds": holds, "empty": not counts}))
