import argparse
import os
import sqlite3
import time
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from mlflow_smoke import database, filestore
from mlflow_smoke.names import PICTURE
from mlflow_smoke.parts import Known
from mlflow_smoke.report import CheckFailedError, Kind, Report
from mlflow_smoke.scenario2 import compare, look_at_files, look_at_rows

# The columns that the smoke reads, as in MLflow 2.22 and 3.17.
SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER, name TEXT, lifecycle_stage TEXT);
CREATE TABLE runs (
    run_uuid TEXT, name TEXT, experiment_id INTEGER, status TEXT, lifecycle_stage TEXT);
CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE metrics (run_uuid TEXT, key TEXT, value REAL);
CREATE TABLE registered_models (name TEXT);
CREATE TABLE model_versions (name TEXT, version INTEGER, current_stage TEXT);
INSERT INTO experiments VALUES (0, 'Default', 'active'), (8, 'my-experiment-1', 'active'),
    (9, 'old', 'deleted');
INSERT INTO runs VALUES ('cafe', 'a-name', 8, 'FINISHED', 'active'),
    ('dead', 'another', 8, 'FINISHED', 'deleted');
INSERT INTO params VALUES ('cafe', 'C', '0.1'), ('cafe', 'random_state', '42'), ('dead', 'C', '1');
INSERT INTO metrics VALUES ('cafe', 'accuracy', 0.96);
INSERT INTO registered_models VALUES ('iris-classifier');
INSERT INTO model_versions VALUES ('iris-classifier', 1, 'None'),
    ('iris-classifier', 2, 'Deleted_Internal');
"""


def execute(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A server's database with one run and one version."""
    file = tmp_path / "ml flow?.db"  # a name that an SQLite URI must escape
    execute(file, SCHEMA)
    return file


@pytest.fixture
def report() -> Report:
    return Report("scenario2", "http://localhost:5000")


def served(run: Path) -> Path:
    """The same run as a server keeps its artifacts: without the file store's metadata."""
    for path in [*run.parent.rglob("*")]:
        if path.is_file() and "artifacts" not in path.parts[len(run.parent.parts) :]:
            path.unlink()
    for name in ("metrics", "params", "tags"):
        (run / name).rmdir()
    return run


def test_people_may_work_meanwhile(file: Path, tmp_path: Path) -> None:
    """Where it is said; what the smoke itself has left is found all the same."""
    run = tmp_path / "artifacts/8/cafe"
    run.mkdir(parents=True)
    options = argparse.Namespace(database=file, artifacts=tmp_path / "artifacts", keep=False)
    rows = database.counts(file)
    before = {"rows": rows, "files": {}, "at": time.time()}
    said = {**Report("scenario2", "here").document(), "before": before, "began": time.time(),
            "experiment_id": "8", "run_id": "none"}  # fmt: skip
    execute(file, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'cafe'")
    for others_work, run_id, good in ((False, "none", False), (True, "none", True),
                                      (True, "cafe", False)):  # fmt: skip
        options.others_work = others_work
        with nullcontext() if good else pytest.raises(CheckFailedError):
            compare(options, Known([{**said, "run_id": run_id}]), Report("scenario2", "here"))


def test_what_is_deleted_is_not_counted_and_what_is_new_neither(file: Path) -> None:
    before = database.counts(file)
    assert {table: seen for table, (_, seen) in before.items()} == {
        "experiments": 2, "runs": 1, "registered_models": 1, "model_versions": 1}  # fmt: skip
    execute(file, "INSERT INTO runs VALUES ('beef', 'new', 8, 'FINISHED', 'active')")
    assert database.counts(file, before) == before
    execute(file, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'cafe'")
    assert database.counts(file, before)["runs"][1] == 0


def test_files_that_are_lost_or_changed_are_counted(tmp_path: Path) -> None:
    for name in ("0/a", "0/b", "1/c"):
        path = tmp_path / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some")
    moment = time.time() + 0.05
    before = filestore.tally(tmp_path / "artifacts", moment)
    assert before == {"0": [2, 8], "1": [1, 4]}
    time.sleep(0.1)
    (tmp_path / "artifacts/0/new").write_text("new")
    assert filestore.tally(tmp_path / "artifacts", moment) == before
    (tmp_path / "artifacts/0/a").write_text("more")  # the same size
    (tmp_path / "artifacts/1/c").unlink()
    assert filestore.tally(tmp_path / "artifacts", moment) == {"0": [1, 4]}
    assert filestore.tally(tmp_path / "nowhere", moment) == {}


def test_database_is_only_read(file: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.query(file, "DELETE FROM runs")
    with pytest.raises(sqlite3.OperationalError):
        database.query(file.with_name("nowhere.db"), "SELECT 1")
    assert not file.with_name("nowhere.db").exists()


def test_content_is_found_in_database_and_log(file: Path) -> None:
    content = os.urandom(2000)
    assert not database.holds(file, content)
    log = file.with_name(f"{file.name}-wal")
    log.write_bytes(b"..." + content)
    assert database.holds(file, content)
    log.unlink()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE models AS SELECT ? AS content", (content,))
    assert database.holds(file, content)


def test_rows_as_mlflow_leaves_them(file: Path, report: Report) -> None:
    execute(file, "INSERT INTO metrics VALUES ('cafe', 'smoke-b', 0)")  # where B may add it
    look_at_rows(file, "8", "cafe", 0.96, report)
    assert len(report.checks) == 3 and not report.failures


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET status = 'RUNNING'",
        "DELETE FROM runs",
        "UPDATE params SET value = '0.2' WHERE key = 'C'",
        "UPDATE metrics SET value = 0.5",
        "DROP TABLE metrics",
    ],
)
def test_broken_rows_are_seen(file: Path, report: Report, change: str) -> None:
    execute(file, change)
    with pytest.raises(CheckFailedError, match="row"):
        look_at_rows(file, "8", "cafe", 0.96, report)
    assert report.exit_code == Kind.TRACKING.exit_code


def test_files_as_mlflow_leaves_them(run: Path, file: Path, report: Report) -> None:
    look_at_files(served(run), file, report)
    assert len(report.checks) == 4 and not report.failures


def test_metadata_among_artifacts_is_seen(run: Path, file: Path, report: Report) -> None:
    with pytest.raises(CheckFailedError, match="metadata"):
        look_at_files(run, file, report)
    assert "params" in report.failure


def test_artifact_in_the_database_is_seen(run: Path, file: Path, report: Report) -> None:
    content = (served(run) / "artifacts" / PICTURE).read_bytes()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE blobs AS SELECT ? AS content", (content,))
    with pytest.raises(CheckFailedError, match="in the database"):
        look_at_files(run, file, report)
    assert PICTURE in report.failure


def test_artifacts_elsewhere_are_missed(tmp_path: Path, file: Path, report: Report) -> None:
    with pytest.raises(CheckFailedError, match=PICTURE):
        look_at_files(tmp_path / "8" / "cafe", file, report)
    assert report.exit_code == Kind.ARTIFACTS.exit_code
