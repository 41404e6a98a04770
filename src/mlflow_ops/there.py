"""Say what is in a place where data is kept, as one JSON line; see places.py.

It runs by itself, by a Python that has the drivers and as who may read the place, so that it takes
no other file of ours. The question is in the variable PLACE: addresses hold passwords.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

SOME = 20  # of the newest things, or of the first files: the other place should have them, too
# At the top of a directory of artifacts, and no artifacts: what a restore has put aside, and what a
# file system keeps there.
ASIDE = ".mlflow-aside"
NO_ARTIFACTS = (ASIDE, "lost+found")


def database(asked: dict[str, Any]) -> dict[str, Any]:
    """Return how many rows the tables have, and the newest runs."""
    connection: Any
    address, mark = asked["address"], "?"
    if address.startswith("sqlite:"):
        file = Path(address[len("sqlite:///") :])
        if not file.exists():
            return {"absent": True}
        # Without a log nobody writes it, and to read it would begin one.
        how = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "immutable=1"
        connection = sqlite3.connect(f"{file.as_uri()}?{how}", uri=True)
        tables = "SELECT name FROM sqlite_master"
    else:
        import psycopg  # type: ignore[import-not-found,unused-ignore]

        plain = address.replace("+psycopg2:", ":").replace("+psycopg:", ":")
        connection, mark = psycopg.connect(plain, connect_timeout=10), "%s"
        tables = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"

    one = connection.execute
    names = {row[0] for row in one(tables).fetchall()}
    if "having_files" in asked:
        statements = asked["having_files"]["newer" if "logged_models" in names else "older"]
        return {"named": [[*row] for statement in statements for row in one(statement).fetchall()]}
    counts = {
        name: one(statement).fetchone()[0]
        for name, (table, statement) in asked["counted"].items()
        if table in names
    }
    newest, has = asked["runs"]
    if "runs" not in counts:
        return {"counts": counts, "some": [], "lacks": len(asked["some"])}
    return {
        "counts": counts,
        "some": [row[0] for row in one(newest).fetchall()][:SOME],
        "lacks": sum(not one(has.replace("?", mark), [run]).fetchone() for run in asked["some"]),
    }


def tally(name: str, names: Iterator[str], some: list[str]) -> dict[str, Any]:
    """Return how many names there are, the first of them, and how many of some are missing.

    Of millions, none is kept.
    """
    count, first, missing = 0, list[str](), {*some}
    for one in names:
        count += 1
        missing.discard(one)
        if len(first) < SOME:
            first.append(one)
    return {"counts": {name: count}, "some": first, "lacks": len(missing)}


def below(place: Path, pattern: str) -> Iterator[Path]:
    """Yield the files of a directory; by a pattern, or all of them that are artifacts."""
    if pattern:
        yield from place.glob(pattern)
        return
    for top, directories, files in os.walk(place):
        if Path(top) == place:
            directories[:] = [name for name in directories if name not in NO_ARTIFACTS]
        yield from (Path(top, file) for file in files)


def directory(asked: dict[str, Any]) -> dict[str, Any]:
    """Return how many files a directory has, and some of them."""
    place = Path(unquote(urlsplit(asked["address"]).path))
    if not place.is_dir():
        return {"absent": True}
    if "bare" in asked:
        return {"bare": [one for one in asked["bare"] if not any(below(place / one, ""))]}
    name, pattern = asked["files"]
    # A run is known by its own name, in whatever store it is.
    names = (
        file.parent.name if name == "runs" else str(file.relative_to(place))
        for file in below(place, pattern)
    )
    return tally(name, names, asked["some"])


def bucket(asked: dict[str, Any]) -> dict[str, Any]:
    """Return how many objects a bucket has below a prefix, and some of them."""
    import boto3  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import botocore.config  # type: ignore[import-not-found,import-untyped,unused-ignore]

    style, has = os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"), os.environ.get
    client = boto3.client(
        "s3",
        endpoint_url=has("MLFLOW_S3_ENDPOINT_URL"),
        config=botocore.config.Config(
            connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2},
            s3={"addressing_style": style} if style else {},
        ),
    )  # fmt: skip
    parts = urlsplit(asked["address"].partition(" ")[0])
    prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
    if "bare" in asked:
        first = {"Bucket": parts.netloc, "MaxKeys": 1}
        return {
            "bare": [
                one
                for one in asked["bare"]
                if not client.list_objects_v2(**first, Prefix=f"{prefix}{one}/")["KeyCount"]
            ]
        }
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix)
    keys = (one["Key"][len(prefix) :] for page in pages for one in page.get("Contents", []))
    name, pattern = asked["files"]
    found = (key for key in keys if PurePath(key).match(pattern or "*"))
    return tally(name, found, asked["some"])


def main() -> None:
    """Look, and print what there is; or why that cannot be told."""
    asked: dict[str, Any] = json.loads(os.environ["PLACE"])
    kinds = {"sqlite": database, "postgresql": database, "s3": bucket}
    kind = asked["address"].partition(":")[0].partition("+")[0]
    try:
        found = kinds.get(kind, directory)(asked)
    except Exception as error:  # of three libraries
        words = str(error).strip().splitlines()
        found = {"why": words[-1] if words else type(error).__name__}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
