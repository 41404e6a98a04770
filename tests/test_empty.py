"""What counts as empty: in a restore's question, in manifests, and to a reset."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest
from mlflow_environments import environment
from versions import DEFAULT, UNGUARDED

from mlflow_ops import mlflow_internals as internals
from mlflow_ops.database import copies
from mlflow_ops.server import reset

ROOT = Path(__file__).resolve().parent.parent
MAKE = """
import sys
from mlflow_ops.mlflow_internals import create_schema
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
uri, folder = sys.argv[1:]
create_schema("tracking", uri)
SqlAlchemyStore(uri, folder)  # as a server, which makes Default
"""
TABLES = ["trace_info", "registered_models"]
NEWER = ["evaluation_datasets", "scorers", "endpoints", "secrets", "webhooks", "mcp_servers"]


@pytest.fixture(scope="module")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database on which a server has started, and nobody worked."""
    folder = tmp_path_factory.mktemp("fresh")
    file = folder / "mlflow.db"
    python: list[str | Path] = [environment(request.param), "-c", MAKE]
    command = [*python, f"sqlite:///{file}", folder]
    subprocess.run(command, cwd=ROOT / "src", check=True, capture_output=True)
    return file


@pytest.mark.parametrize(
    ("fresh", "table"),
    [*((UNGUARDED, table) for table in TABLES), *((DEFAULT, table) for table in TABLES + NEWER)],
    indirect=["fresh"],
)
def test_a_server_that_has_only_that_is_not_empty(fresh: Path, tmp_path: Path, table: str) -> None:
    """What a server makes by itself is nobody's."""
    file = tmp_path / "mlflow.db"
    file.write_bytes(fresh.read_bytes())
    uri = f"sqlite:///{file}"
    assert internals.of_people(copies.count("tracking", uri)) == {}
    assert reset.logged(uri) == {}
    with sqlite3.connect(file) as database:
        columns = database.execute(f"PRAGMA table_info({table})").fetchall()
        needed = [column[1] for column in columns if column[3] or column[5]]
        marks = ", ".join("?" * len(needed))
        statement = f"INSERT INTO {table} ({', '.join(needed)}) VALUES ({marks})"  # noqa: S608
        database.execute(statement, [1] * len(needed))
    assert internals.of_people(copies.count("tracking", uri)) == {table: 1}
    assert [*reset.logged(uri).values()] == [1]


def test_users_count(tmp_path: Path) -> None:
    """But for the administrator, whom MLflow makes."""
    file = tmp_path / "auth.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE users (name)")
        database.execute("INSERT INTO users VALUES ('admin')")
        assert internals.of_people(copies.count("auth", f"sqlite:///{file}")) == {}
        database.execute("INSERT INTO users VALUES ('ada')")
        database.commit()
    assert internals.of_people(copies.count("auth", f"sqlite:///{file}")) == {"users": 1}


def test_the_program_says_what_people_made(tmp_path: Path) -> None:
    """As the playbook that restores asks it."""
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as database:
        for table, rows in (("experiments", 3), ("webhooks", 1), ("runs", 0)):
            database.execute(f"CREATE TABLE {table} (x)")
            database.executemany(f"INSERT INTO {table} VALUES (?)", [(1,)] * rows)  # noqa: S608
    asked = json.dumps({"tracking": f"sqlite:///{file}", "auth": ""})
    done = subprocess.run(
        [environment(DEFAULT), "-Es", ROOT / "src", "database", "count", "--stdin"],
        input=asked, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"tracking": {"experiments": 2, "webhooks": 1}}
