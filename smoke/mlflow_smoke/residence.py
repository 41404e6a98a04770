"""Where a server's data lives: its PostgreSQL database and its bucket, looked at past MLflow."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

About = tuple[int, str]  # a file's size and digest

DATABASE = "MLFLOW_BACKEND_STORE_URI"
BUCKET = "MLFLOW_ARTIFACTS_DESTINATION"


def settings(file: Path) -> dict[str, str]:
    """What the server's environment file says."""
    return dict(line.split("=", 1) for line in shlex.split(file.read_text(), comments=True))


def kind(found: dict[str, str]) -> str:
    """What keeps the server's data, in words."""
    database = found.get(DATABASE, "nothing").partition("+")[0].partition(":")[0]
    artifacts = found.get(BUCKET, "nothing").partition(":")[0]
    names = {"postgresql": "PostgreSQL", "s3": "S3"}
    return f"{names.get(database, database)} and {names.get(artifacts, artifacts)}"


class Database:
    """The server's database, reached as the server reaches it."""

    def __init__(self, found: dict[str, str]) -> None:
        """Connects.

        Args:
            found: the server's settings. On a Unix socket PostgreSQL takes the account's word.
        """
        import psycopg

        # PostgreSQL's library looks there for files, and stops where it may not.
        os.environ["HOME"] = "/nonexistent"
        self.connection: Any = psycopg.connect(
            re.sub(r"\+psycopg2?(?=://)", "", found[DATABASE], count=1), autocommit=True
        )

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement selects; it has `%s` for each value."""
        rows: list[tuple[Any, ...]] = self.connection.execute(statement, values).fetchall()
        return rows

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()


def objects(found: dict[str, str], experiment_id: str) -> set[About]:
    """What the bucket holds of an experiment: size and digest of each object.

    Args:
        found: the server's settings, keys and endpoint among them.
        experiment_id: the experiment.
    """
    import boto3
    from botocore.config import Config

    os.environ |= {name: value for name, value in found.items() if name.startswith("AWS_")}
    style = found.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE") or "auto"
    client = boto3.client(
        "s3",
        endpoint_url=found.get("MLFLOW_S3_ENDPOINT_URL") or None,
        config=Config(s3={"addressing_style": style}),
    )
    bucket, _, prefix = found[BUCKET].removeprefix("s3://").partition("/")
    path = "/".join(part for part in (prefix.strip("/"), experiment_id, "") if part) + "/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=path)
    seen = set()
    for page in pages:
        for item in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            seen.add((item["Size"], hashlib.sha256(body).hexdigest()))
    return seen


def on_disk(folders: list[Path], files: set[About], run_id: str) -> list[str]:
    """Files below some directories that are one of some files, or whose path names a run."""
    sizes = {size for size, _ in files}
    found = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place, name)
                try:
                    same = path.is_file() and path.stat().st_size in sizes and digest(path) in files
                except OSError:  # gone meanwhile
                    continue
                if same or run_id in str(path):
                    found.append(str(path))
    return found


def digest(path: Path) -> About:
    """A file's size and digest."""
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()
