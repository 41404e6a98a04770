"""An inventory that leads away from the data of a host: what is said, and when nothing is."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster import OWNER, cluster
from mlflow_environments import environment
from records import interpreter, written
from refusals import refused
from versions import DEFAULT

from mlflow_ops import host, installation, lock, places

ROOT = Path(__file__).resolve().parent.parent
HOST = socket.gethostname()


def filled(file: Path, runs: int) -> None:
    """Make a database as MLflow has it, with an experiment of its own and some runs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE experiments (experiment_id, name)")
        database.execute("CREATE TABLE runs (run_uuid, start_time)")
        database.execute("CREATE TABLE trace_info (request_id)")
        database.execute("INSERT INTO experiments VALUES (0, 'Default')")
        database.executemany("INSERT INTO runs VALUES (?, ?)", [(f"r{n}", n) for n in range(runs)])
        database.commit()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a server that has three runs and two files, in the folder `old`."""
    written(monkeypatch, tmp_path, config_dir=str(tmp_path / "etc"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/secrets.env").touch()
    tell(tmp_path, f"sqlite:///{tmp_path}/old/mlflow.db", f"{tmp_path}/old/artifacts")
    filled(tmp_path / "old/mlflow.db", 3)
    for name in ("artifacts/1/a", "artifacts/1/b", "artifacts/lost+found/c"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).touch()
    return tmp_path


def tell(folder: Path, tracking: str, artifacts: str, **more: str) -> None:
    """Write what the server is told."""
    said = {"MLFLOW_BACKEND_STORE_URI": tracking, "MLFLOW_ARTIFACTS_DESTINATION": artifacts, **more}
    lines = "".join(f'{name}="{value}"\n' for name, value in said.items())
    (folder / "etc/server.env").write_text(lines)


def asked(folder: Path, new: str = "new", **wanted: str) -> places.Asked:
    """Ask what the role does, of another folder or of single places."""
    there = {
        "tracking": f"sqlite:///{folder}/{new}/mlflow.db", "artifacts": f"{folder}/{new}/artifacts",
        "auth": "", "keys": f"{folder}/etc",
    }  # fmt: skip
    return places.Asked(
        owner="server", file=f"{folder}/etc/server.env", wanted={**there, **wanted}, settings={},
        user="", python=sys.executable, variable="mlflow_server_move_confirm", word="team1",
        given="", called="playbooks/%s.yml", playbook="scenario2",
    )  # fmt: skip


def test_nothing_is_said_where_nothing_was_changed(server: Path) -> None:
    """Nor of another way to the same place; and to look costs no start of a program."""
    assert places.refusal(asked(server, "old")) == ""
    (server / "link").symlink_to("old")
    assert places.refusal(asked(server, "link")) == ""
    question = {"owner": "server", "file": "/-", "wanted": asked(server, "old").wanted}
    assert host.look({"keeps": question})["moved"] == {}
    question["wanted"] = asked(server).wanted
    moved = host.look({"keeps": question})["moved"]
    assert moved["artifacts"] == {
        "old": f"{server}/old/artifacts",
        "new": f"{server}/new/artifacts",
    }
    (server / "installation.json").unlink()
    assert host.look({"keeps": question})["moved"] == {}  # a new host


def test_what_would_be_out_of_sight_is_said_with_both_ways(server: Path) -> None:
    """Both places, what is in them, and the commands; with the word there is nothing to say."""
    said = places.refusal(asked(server))
    assert f"sqlite:///{server}/old/mlflow.db (runs 3)" in said
    assert f"sqlite:///{server}/new/mlflow.db (not there)" in said
    assert f"artifacts: {server}/old/artifacts (files 2)" in said  # not the file system's own
    assert "by mlflow_server_state_dir, mlflow_server_database_path" in said
    assert "-e mlflow_server_move_confirm=team1" in said
    assert "keys" not in said
    assert places.refusal(replace(asked(server), given="team2")) == said
    assert places.refusal(replace(asked(server), given="team1")) == ""


def commands(said: str) -> list[str]:
    """Return the commands by which the data is taken along, but for root's."""
    part = said.partition("To take the data along:\n")[2].partition("  To begin afresh")[0]
    lines = [line.strip() for line in part.splitlines()]
    return [line for line in lines if not line.startswith(("systemctl", "playbooks/"))]


def test_the_commands_take_it_along_and_the_next_run_sees_it(server: Path) -> None:
    """With a log of the database that was not written back yet."""
    writing = sqlite3.connect(server / "old/mlflow.db")
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute("INSERT INTO runs VALUES ('late', 9)")
    writing.commit()
    wanted = asked(server, keys=f"{server}/etc2")
    said = places.refusal(wanted)
    assert "runs 4" in said
    assert f"the service's keys: {server}/etc (files 1)" in said
    for command in commands(said):
        subprocess.run(["sh", "-euc", command], check=True)
    assert places.refusal(wanted) == ""
    (server / "new/artifacts/1/a").unlink()
    said = places.refusal(wanted)
    assert f"{server}/new/artifacts (files 1)" in said
    assert "runs" not in said.partition("artifacts:")[0]
    writing.close()


def test_another_database_with_as_many_runs_is_another(server: Path) -> None:
    """As many are not the same."""
    filled(server / "new/mlflow.db", 5)
    shutil.copytree(server / "old/artifacts", server / "new/artifacts")
    assert places.refusal(asked(server)) == ""  # r0 to r2 are among them
    with sqlite3.connect(server / "new/mlflow.db") as database:
        database.execute("UPDATE runs SET run_uuid = 'x' || run_uuid")
    assert "(runs 5)" in places.refusal(asked(server))


def test_what_is_empty_may_be_left(server: Path) -> None:
    """Default is MLflow's own; a trace is somebody's; and what is gone, on both sides, is odd."""
    (server / "old/mlflow.db").unlink()
    filled(server / "old/mlflow.db", 0)
    shutil.rmtree(server / "old/artifacts")
    (server / "old/artifacts").mkdir()
    assert places.refusal(asked(server)) == ""
    with sqlite3.connect(server / "old/mlflow.db") as database:
        database.execute("INSERT INTO trace_info VALUES ('t')")
    assert "(trace info 1)" in places.refusal(asked(server))
    (server / "old/mlflow.db").unlink()  # a disk that is not mounted?
    assert "mlflow.db (not there)" in places.refusal(asked(server))
    filled(server / "new/mlflow.db", 1)  # it was moved
    assert places.refusal(asked(server)) == ""


def test_scenario_3_on_a_host_of_scenario_2(server: Path) -> None:
    """Nothing takes one to the other, and PostgreSQL is not even there yet."""
    wanted = asked(
        server,
        tracking="postgresql+psycopg://mlflow@/mlflow?host=/nowhere&port=5432",
        artifacts="s3://mlflow/artifacts at http://127.0.0.1:1",
    )
    said = places.refusal(replace(wanted, playbook="scenario3"))
    assert "(runs 3)" in said
    assert "postgresql:///mlflow?host=/nowhere&port=5432" in said
    assert "mlflow_server_database_host" in said and "mlflow_bucket_prefix" in said
    assert "give scenario3 a host of its own" in said
    assert "(files 2)" in said


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("postgresql+psycopg://m:a@/mlflow?host=%2Fvar%2Frun%2Fpostgresql&port=5432",
         "postgresql+psycopg2://m:b@localhost:5432/mlflow?sslmode=verify-full", True),
        ("postgresql://m@db.invalid/mlflow", "postgresql://n:x@db.invalid:5432/mlflow", True),
        ("postgresql://m@db.invalid/mlflow", "postgresql://m@db.invalid/mlflow2", False),
        ("postgresql://m@db.invalid/mlflow", "postgresql://m@other.invalid/mlflow", False),
        ("postgresql://m@db.invalid/mlflow", "postgresql://m@db.invalid:5433/mlflow", False),
        ("s3://b/p at http://127.0.0.1:8333", f"s3://b/p/ at https://{HOST}:8333", True),
        ("s3://b/p", "s3://b/q", False),
        ("s3://b/p", "s3://c/p", False),
        ("s3://b/p at https://s3.invalid", "s3://b/p at https://s3.invalid:443", True),
        ("s3://b/p at https://s3.invalid", "s3://b/p", False),
        ("/srv/a", "/srv/a/", True),
        ("/srv/a", "s3://srv/a", False),
        ("sqlite:////srv/a", "/srv/a", False),
        ("file:///srv/a%20b", "/srv/a b", True),
    ],
)  # fmt: skip
def test_which_addresses_are_of_one_place(one: str, other: str, equal: bool) -> None:
    """A server that others now reach by its name is the one that it was."""
    named = f"Does this machine know its name? Debian has a line `127.0.1.1 {HOST}` in /etc/hosts."
    assert (places.key(one) == places.key(other)) is equal, named


def test_passwords_are_in_nothing_that_is_said(server: Path) -> None:
    """Neither of the old place, nor of the new."""
    tell(server, "postgresql+psycopg://m:hunter2@127.0.0.1:1/mlflow", f"{server}/old/artifacts")
    said = places.refusal(
        asked(server, "old", tracking="postgresql+psycopg://m:hunter3@db.invalid/mlflow")
    )
    assert "postgresql://127.0.0.1:1/mlflow (cannot be looked at: " in said
    assert "hunter" not in said
    assert "playbooks/backup.yml" in said
    assert "playbooks/restore.yml" in said


def test_postgresql_is_looked_into_too(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment's Python: whoever copied the database is let go on."""
    python = environment(DEFAULT)
    written(monkeypatch, server, config_dir=f"{server}/etc", environment=str(python.parent.parent))
    with cluster() as databases:
        for name in ("old", "new"):
            databases.create(name)
            databases.sql(
                name, "CREATE TABLE experiments (e int)", "INSERT INTO experiments VALUES (0)",
                "CREATE TABLE runs (run_uuid text, start_time int)", role=OWNER,
            )  # fmt: skip
        databases.sql("old", "INSERT INTO runs VALUES ('a', 1), ('b', 2)")
        tell(server, databases.uri("old"), f"{server}/old/artifacts")
        wanted = asked(server, "old", tracking=databases.uri("new"))
        said = places.refusal(wanted)
        assert f"postgresql:///old?host={databases.place} (runs 2)" in said
        assert "(empty)" in said
        databases.sql("new", "INSERT INTO runs VALUES ('a', 1), ('b', 2), ('c', 3)")
        assert places.refusal(wanted) == ""
        databases.sql("new", "DELETE FROM runs WHERE run_uuid = 'a'")
        assert "(runs 2)" in places.refusal(wanted)


def test_a_project_that_gets_another_store(tmp_path: Path) -> None:
    """MLflow's own command takes files to SQLite."""
    for name in ("1/a", "1/b", "0"):
        (tmp_path / "mlruns" / name).mkdir(parents=True)
        (tmp_path / "mlruns" / name / "meta.yaml").touch()
    (tmp_path / "mlflow.env").write_text(f"A=b\nMLFLOW_TRACKING_URI=file://{tmp_path}/mlruns\n")
    wanted = replace(
        asked(tmp_path), owner="project", file=f"{tmp_path}/mlflow.env", playbook="scenario1",
        wanted={"local": f"sqlite:///{tmp_path}/mlflow.db"},
    )  # fmt: skip
    said = places.refusal(wanted)
    assert f"file://{tmp_path}/mlruns (runs 2)" in said
    assert (
        f"mlflow migrate-filestore --source {tmp_path} --target sqlite:///{tmp_path}/mlflow.db"
        in said
    )
    filled(tmp_path / "mlflow.db", 0)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("INSERT INTO runs VALUES ('a', 1), ('b', 2)")
    assert places.refusal(wanted) == ""
    assert places.refusal(replace(wanted, wanted={"local": f"file://{tmp_path}/mlruns"})) == ""


def test_a_store_and_backups_that_go_elsewhere(tmp_path: Path) -> None:
    """Objects are counted by the volumes they are in, backups by their manifests."""
    unit = tmp_path / "seaweedfs.service"
    unit.write_text(f"[Service]\nExecStart=/opt/weed server \\\n  -dir={tmp_path}/old -x\n")
    (tmp_path / "old/20261124T000000Z").mkdir(parents=True)
    for name in ("mlflow_1.dat", "filer.db", "20261124T000000Z/manifest.json"):
        (tmp_path / "old" / name).touch()
    wanted = replace(
        asked(tmp_path), owner="store", file=str(unit), wanted={"objects": f"{tmp_path}/new"},
        variable="seaweedfs_move_confirm",
    )  # fmt: skip
    said = places.refusal(wanted)
    assert f"objects: {tmp_path}/old (volumes 1)" in said
    assert "systemctl stop seaweedfs" in said
    (tmp_path / "backup.env").write_text(f'MLFLOW_BACKUP_TARGET="{tmp_path}/old"\n')
    wanted = replace(
        wanted, owner="backup", file=f"{tmp_path}/backup.env", wanted={"sets": f"{tmp_path}/new"}
    )
    said = places.refusal(wanted)
    assert f"backups: {tmp_path}/old (sets 1)" in said
    for command in commands(said):
        subprocess.run(["sh", "-euc", command], check=True)
    assert places.refusal(wanted) == ""


def test_while_a_switch_is_not_finished_nothing_is_taken_along(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data may lie aside: what would be counted, and copied, is not all of it."""
    monkeypatch.setattr(lock, "SWITCH", tmp_path)
    assert "(runs 3)" in places.refusal(asked(server))
    (tmp_path / "plan.json").touch()
    said = places.refusal(asked(server))
    assert "systemctl start mlflow-switch" in said
    assert "cp -a" not in said


def test_a_host_without_a_record_goes_by_its_settings(server: Path) -> None:
    """As releases before the record have it."""
    installation.RECORD.unlink()
    assert "(runs 3)" in places.refusal(asked(server))


def test_whose_artifacts_are_gone(server: Path) -> None:
    """Of what must have some: models, and runs with a tag that says so."""
    with sqlite3.connect(server / "old/mlflow.db") as database:
        database.execute("ALTER TABLE runs ADD COLUMN artifact_uri")
        database.execute("ALTER TABLE runs ADD COLUMN lifecycle_stage DEFAULT 'active'")
        database.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid")
        database.execute("CREATE TABLE tags (run_uuid, key)")
        database.execute("INSERT INTO tags VALUES ('r1', 'mlflow.log-model.history')")
        database.execute("INSERT INTO tags VALUES ('r2', 'mlflow.loggedArtifacts')")
    (server / "old/artifacts/1/r2").mkdir()
    (server / "old/artifacts/1/r2/table.json").touch()

    def found(place: str = "old") -> tuple[int, list[str]]:
        told = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{server}/old/mlflow.db",
                "MLFLOW_ARTIFACTS_DESTINATION": f"{server}/{place}/artifacts"}  # fmt: skip
        return places.bare_of_files(told, sys.executable, "")

    assert found() == (2, ["r1"])
    with sqlite3.connect(server / "old/mlflow.db") as database:
        database.execute("DROP TABLE IF EXISTS experiments")
        database.execute("CREATE TABLE experiments (experiment_id, lifecycle_stage)")
        database.execute("INSERT INTO experiments VALUES (1, 'active'), (2, 'deleted')")
        database.execute("CREATE TABLE logged_models (model_id, artifact_location, experiment_id, "
                         "status, lifecycle_stage, creation_timestamp_ms)")  # fmt: skip
        for name, place, experiment in (
            ("m-1", "mlflow-artifacts:/1/models/m-1", 1),
            ("m-2", "s3://elsewhere/1", 1),
            ("m-3", "mlflow-artifacts:/2/models/m-3", 2),
        ):
            row = (name, place, experiment, 2, "active", 1)
            database.execute("INSERT INTO logged_models VALUES (?, ?, ?, ?, ?, ?)", row)
    assert found() == (2, ["m-1"])  # MLflow 3 says of all models that a run had them
    (server / "new/artifacts").mkdir(parents=True)
    assert found("new") == (2, ["m-1", "r2"])
    with pytest.raises(places.Unknown, match="not there"):
        found("never")


def test_the_role_stops_before_anything_changes(server: Path) -> None:
    """By the inventory's variables, on a host with such a record."""
    python = interpreter(server, server / "installation.json")
    common = {
        "ansible_python_interpreter": python, "mlflow_server_environment": "/opt/mlflow/current",
        "mlflow_server_config_dir": f"{server}/etc", "mlflow_server_user": "mlflow",
        "mlflow_server_scenario": "scenario2", "playbook_called": "playbooks/%s.yml",
    }  # fmt: skip
    cases: dict[str, dict[str, Any]] = {
        "moved": {"mlflow_server_state_dir": f"{server}/new"},
        "bucket": {
            "mlflow_server_state_dir": f"{server}/old",
            "mlflow_server_artifacts_destination": "s3://mlflow/runs",
            "mlflow_server_s3_endpoint_url": "http://127.0.0.1:1",
        },
        "meant": {
            "mlflow_server_state_dir": f"{server}/new", "mlflow_server_move_confirm": "meant",
        },
    }  # fmt: skip
    # This machine is none for a server, which is said too.
    found = refused(server, cases, "mlflow_server", **common).errors
    assert f"sqlite:///{server}/old/mlflow.db (runs 3)" in found["moved"]
    assert "-e mlflow_server_move_confirm=moved" in found["moved"]
    assert f"{server}/old/artifacts (files 2)" in found["bucket"]
    assert "s3://mlflow/runs at http://127.0.0.1:1" in found["bucket"]
    assert "runs 3" not in found["bucket"]
    assert "out of sight" not in found["meant"]
