"""Copies of a PostgreSQL database: what is MLflow's, and that its role can load what it saved.

A real cluster, and MLflow's schema as an environment of its own makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import versions
from cluster import OWNER, Cluster, cluster
from disk import settled
from mlflow_environments import environment

from mlflow_ops.database import copies

ROOT = Path(__file__).resolve().parent.parent
LOGGED = "INSERT INTO experiments (experiment_id, name) VALUES (7, 'kept')"


def database(uri: str, *words: str | Path, code: int = 0, path: str = "") -> str:
    """Run the program as the service's user would; return what it says."""
    done = subprocess.run(
        [environment(versions.DEFAULT), "-Es", ROOT / "src", "database", words[0], "--stdin",
         *words[1:]],
        input=json.dumps({"tracking": uri}), capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A cluster with a database in which MLflow has logged something, to make others from."""
    with cluster() as found:
        database(found.create("template"), "create")
        found.sql("template", LOGGED, role=OWNER)
        yield found


@pytest.fixture
def logged(server: Cluster) -> Iterator[Callable[..., str]]:
    """Make a database like it, in which the administrator has done something more."""
    made: list[str] = []

    def make(*statements: str, template: str = "template") -> str:
        made.append(f"test{len(made)}")
        uri = server.create(made[-1], template)
        server.sql(made[-1], *statements)
        return uri

    yield make
    server.sql("postgres", f"ALTER ROLE {OWNER} RESET ALL")
    for name in made:
        server.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def kept(server: Cluster, name: str = "test0") -> str:
    """Return what is logged in a database."""
    return server.sql(name, "SELECT name FROM experiments ORDER BY 1")


# What others have in the database: what they did, and how one sees that it is still there.
OTHERS = {
    "nobody": ([], "SELECT 1"),
    "a trusted extension": (["CREATE EXTENSION pg_trgm"], "SELECT similarity('a', 'a')"),
    "an extension with views": (
        ["CREATE EXTENSION pg_stat_statements"],
        "SELECT count(*) FROM pg_class WHERE relname = 'pg_stat_statements'",
    ),
    "one in a schema of its own": (
        ["CREATE SCHEMA ext", "CREATE EXTENSION pg_stat_statements SCHEMA ext"],
        "SELECT count(*) FROM pg_class WHERE relname = 'pg_stat_statements'",
    ),
    "an index of an extension's": (
        ["CREATE EXTENSION pg_trgm", f"SET ROLE {OWNER}",
         "CREATE INDEX fast ON tags USING gin (value gin_trgm_ops)"],
        "SELECT count(*) FROM pg_class WHERE relname = 'fast'",
    ),
    "a schema": (
        ["CREATE SCHEMA bi AUTHORIZATION grafana", "SET ROLE grafana",
         "CREATE TABLE bi.seen AS SELECT 1 AS it"],
        "SELECT it FROM bi.seen",
    ),
    "a table beside MLflow's": (
        ["CREATE TABLE seen AS SELECT 1 AS it", "CREATE VIEW looked AS SELECT * FROM seen"],
        "SELECT it FROM looked",
    ),
    "a function beside MLflow's": (
        ["CREATE FUNCTION who() RETURNS int LANGUAGE sql AS 'SELECT 1'",
         "CREATE TYPE mood AS ENUM ('good')"],
        "SELECT who()",
    ),
    "a publication": (["CREATE PUBLICATION all_of_it FOR ALL TABLES"],
                      "SELECT count(*) FROM pg_publication"),
}  # fmt: skip


@pytest.mark.parametrize("who", OTHERS)
def test_what_is_saved_can_be_loaded(
    server: Cluster, logged: Callable[..., str], who: str, tmp_path: Path
) -> None:
    """By the same role, in the place of what is there, and into an empty database."""
    statements, there = OTHERS[who]
    uri, empty = logged(*statements), logged(template="template0")
    database(uri, "savable")
    database(uri, "replaceable")
    database(uri, "save", tmp_path)
    server.sql("test0", "INSERT INTO experiments (experiment_id, name) VALUES (8, 'not this')")
    database(uri, "load", tmp_path)
    assert kept(server) == "kept"
    assert server.sql("test0", there) == "1"
    database(empty, "load", tmp_path)
    assert kept(server, "test1") == "kept"
    assert server.sql("test1", "SELECT count(*) FROM pg_class WHERE relname = 'seen'") == "0"
    assert "current" in database(empty, "status")


def test_a_copy_of_all_that_is_in_the_database(
    server: Cluster, logged: Callable[..., str], tmp_path: Path
) -> None:
    """As earlier releases made it: what is MLflow's is loaded from it."""
    uri = logged("CREATE EXTENSION pg_trgm", "CREATE SCHEMA bi AUTHORIZATION grafana")
    database(uri, "save", tmp_path)
    dump = tmp_path / "tracking.dump"
    whole = ["pg_dump", "-Fc", "-U", "postgres", "-h", str(server.place), "-d", "test0"]
    subprocess.run([*whole, f"--file={dump}"], check=True)
    sha256 = subprocess.run(["sha256sum", dump], check=True, capture_output=True, text=True).stdout
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["databases"]["tracking"]["sha256"] = sha256.split()[0]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    database(uri, "load", tmp_path)
    assert kept(server) == "kept"


# What keeps MLflow's tables from being replaced: what was done, and words of the answer.
KEPT_FROM = {
    "a view of others": (
        ["CREATE SCHEMA bi", "CREATE VIEW bi.runs AS SELECT * FROM public.runs"],
        ["bi.runs", "DROP"],
    ),
    "a reference of others": (
        ["CREATE SCHEMA bi",
         "CREATE TABLE bi.notes (run varchar REFERENCES public.runs (run_uuid))"],
        ["bi.notes"],
    ),
    "a table that MLflow uses": (["ALTER TABLE runs OWNER TO grafana",
                                  f"GRANT ALL ON runs TO {OWNER}"],
                                 ["runs", "ALTER TABLE", f'OWNER TO "{OWNER}"']),
    "no right to create": (
        ["ALTER DATABASE test0 OWNER TO grafana", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"],
        [f'GRANT CREATE ON SCHEMA "public" TO "{OWNER}"'],
    ),
    "no scratch place": (
        ["ALTER DATABASE test0 OWNER TO grafana", "GRANT CREATE ON SCHEMA public TO PUBLIC",
         "REVOKE TEMPORARY ON DATABASE test0 FROM PUBLIC"],
        [f'GRANT TEMPORARY ON DATABASE "test0" TO "{OWNER}"'],
    ),
    "an extension's type that is closed": (
        ["CREATE SCHEMA ext", "CREATE EXTENSION pg_trgm SCHEMA ext",
         "CREATE INDEX fast ON tags USING gin (value ext.gin_trgm_ops)"],
        ["ext"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", KEPT_FROM)
def test_what_could_not_be_loaded_is_known_before(
    server: Cluster, logged: Callable[..., str], what: str
) -> None:
    """And to try it leaves nothing behind."""
    statements, words = KEPT_FROM[what]
    uri = logged(*statements)
    everything = "SELECT count(*), max(oid) FROM pg_class"
    before = server.sql("test0", everything)
    said = database(uri, "replaceable", code=1)
    assert all(word in said for word in words), said
    assert server.sql("test0", everything) == before


def test_a_limit_of_the_server_s_ends_no_copy(
    server: Cluster, logged: Callable[..., str], tmp_path: Path
) -> None:
    """A large database takes longer to dump than an idle transaction, or a statement, may last."""
    uri = logged()
    slow = tmp_path / "slow/pg_dump"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nsleep 2.5\nexec /usr/bin/pg_dump "$@"\n')
    slow.chmod(0o755)
    for name in ("idle_in_transaction_session_timeout", "statement_timeout"):
        server.sql("postgres", f"ALTER ROLE {OWNER} SET {name} = '1s'")
    database(uri, "save", tmp_path, path=str(slow.parent))
    database(uri, "load", tmp_path)
    assert kept(server) == "kept"


NEW_DATABASE = """
from mlflow_ops.backup import sandbox
print(*sandbox.new_databases({"tracking": {"kind": "postgresql"}}).values())
"""


def test_a_drill_loads_as_a_role_of_no_rank(
    server: Cluster, logged: Callable[..., str], tmp_path: Path
) -> None:
    """Or it passes with what no server could load."""
    database(logged(), "save", tmp_path)
    its = {"PGHOST": str(server.place), "PGPORT": "5432", "PGUSER": "postgres", "PGPASSWORD": "x"}
    done = subprocess.run(
        [environment(versions.DEFAULT), "-c", NEW_DATABASE], check=True, capture_output=True,
        text=True, env={**os.environ, **its, "PYTHONPATH": f"{ROOT}/src"},
    )  # fmt: skip
    database(done.stdout.strip(), "load", tmp_path)
    assert kept(server, "tracking") == "kept"
    owns = "SELECT rolsuper FROM pg_roles JOIN pg_class ON relowner = pg_roles.oid"
    assert server.sql("tracking", f"{owns} WHERE relname = 'runs'") == "f"


def test_a_load_that_stops_early_changes_nothing(
    server: Cluster, logged: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What psql has heard until then is not all of it: it would be an empty database."""
    uri = logged()
    (tmp_path / "pg_restore").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "pg_restore").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    entries = ["more than a pipe holds"] * 10_000
    with pytest.raises(copies.Unusable, match="pg_restore of copy stopped"):
        copies.run_dump(uri, Path("copy"), entries, "DELETE FROM experiments;")
    assert kept(server) == "kept"


def test_a_copy_is_on_the_disk_before_anybody_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a power cut left its manifest empty, there would be no way back."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as made:
        made.execute("CREATE TABLE runs (run_uuid)")
    monkeypatch.setattr(copies, "tables_and_revision", lambda *_: (["runs"], "abc"))
    monkeypatch.setattr(copies, "version", lambda _: "3")
    copy = tmp_path / "copy"
    copy.mkdir()
    seen = settled(monkeypatch)
    copies.save({"tracking": uri}, copy)
    assert seen == ["tracking.db", "manifest.json.new", "copy"]
    seen.clear()
    copies.load({"tracking": uri}, copy)
    assert seen == ["mlflow.db.new", tmp_path.name]
