"""What is looked for before backups are set up on a host, or another version comes there."""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records import written

from mlflow_ops import rollout_look
from mlflow_ops.backup import look as backup_look
from mlflow_ops.installation import NotInstalled
from mlflow_ops.there import ASIDE

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A host with a server: a function that says what the server is told."""

    def write(**settings: str) -> None:
        written(monkeypatch, tmp_path, artifacts=settings.get("MLFLOW_ARTIFACTS_DESTINATION", ""))
        lines = "".join(f'{k}="{v}"\n' for k, v in settings.items())
        (tmp_path / "server.env").write_text("# Ansible's\n" + lines)

    return write


Told = Callable[..., None]


def backup(target: str = "", **more: str) -> dict[str, Any]:
    """Look at a host."""
    return backup_look.look(**{"target": target, "calendar": "", "postgresql_bin": "", **more})


def test_what_is_to_be_backed_up(tmp_path: Path, told: Told) -> None:
    """Both databases, of which one is the users', and the artifacts."""
    auth = tmp_path / "basic_auth.ini"
    auth.write_text("[mlflow]\ndatabase_uri = sqlite:////srv/users/auth.db\nadmin_username = a\n")
    told(
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path}/data/mlflow.db",
        MLFLOW_ARTIFACTS_DESTINATION=f"{tmp_path}/artifacts",
        MLFLOW_AUTH_CONFIG_PATH=str(auth),
    )
    found = backup()
    assert found["sqlite"] == ["/srv/users", f"{tmp_path}/data"]
    assert found["installation"]["user"] == "root"
    assert not found["postgresql"]
    assert (found["target"], found["target_kind"], found["free_mb"]) == ("", "none", -1)
    told(MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://mlflow@/mlflow")
    found = backup()
    assert (found["sqlite"], found["postgresql"]) == ([], True)
    (tmp_path / "installation.json").unlink()
    with pytest.raises(NotInstalled, match=f"There is no {tmp_path}/installation.json"):
        backup()


def test_a_target_within_what_is_backed_up_is_seen(tmp_path: Path, told: Told) -> None:
    """Through links too."""
    for name in ("data", "artifacts", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("artifacts")
    (tmp_path / "file").touch()
    told(
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path}/data/mlflow.db",
        MLFLOW_ARTIFACTS_DESTINATION=f"{tmp_path}/artifacts",
    )
    expected = {
        "data/sets": ([f"{tmp_path}/data"], "absent"),
        "link/sets": ([f"{tmp_path}/artifacts"], "absent"),
        "elsewhere": ([], "directory"),
        "file": ([], "file"),
    }
    for target, (inside, kind) in expected.items():
        found = backup(f"{tmp_path}/{target}")
        assert (found["inside"], found["target_kind"]) == (inside, kind)
        assert found["free_mb"] > 0
    assert backup(f"{tmp_path}/link/x")["target"] == f"{tmp_path}/artifacts/x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
def test_a_target_that_another_could_lead_elsewhere_is_named(tmp_path: Path, told: Told) -> None:
    """As root writes there."""
    told()
    (tmp_path / "hers").mkdir()
    os.chown(tmp_path / "hers", 1, 1)
    found = backup(f"{tmp_path}/hers/sets")
    assert found["ways"]["target"]["place"] == f"{tmp_path}/hers"
    assert backup(f"{tmp_path}/sets")["ways"] == {}


def test_a_calendar_is_read_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose words are the answer; without systemd there is none."""
    program = tmp_path / "systemd-analyze"
    program.write_text(
        '#!/bin/sh\n[ "$2" = hourly ] || { echo "Failed to parse $2" >&2; exit 1; }\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert backup_look.refused("hourly") == backup_look.refused("") == ""
    assert backup_look.refused("at noon") == "Failed to parse at noon"


@pytest.fixture
def rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told) -> dict[str, Any]:
    """What is asked about a host with a server, whose programs say what a test has them say."""
    environment = tmp_path / "mlflow/3.17.2-1a2b3c"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    (tmp_path / "mlflow/current").symlink_to(environment.name)
    tools = tmp_path / "tools/current"
    tools.mkdir(parents=True)
    (tools / "__main__.py").write_text(
        "import json, os, sys\n"
        "if sys.argv[1] == 'ready':\n"
        "    print(os.environ.get('NOT_READY', 'It is ready.'))\n"
        "    sys.exit('NOT_READY' in os.environ)\n"
        "if 'replaceable' in sys.argv: sys.exit('in the way: ' + sys.argv[4])\n"
        "print(json.dumps({'databases': [\n"
        "    {'kind': 'auth', 'state': 'unreachable'},\n"
        "    {'kind': 'tracking', 'revision': 'a', 'uri': os.environ['MLFLOW_BACKEND_STORE_URI']}\n"
        "]}))\n"
    )
    runuser = tmp_path / "bin/runuser"
    runuser.parent.mkdir()
    runuser.write_text('#!/bin/sh\n[ "$1" = --user=mlflow ] && shift 2 && exec "$@"\n')
    runuser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{runuser.parent}:{os.environ['PATH']}")
    told(MLFLOW_BACKEND_STORE_URI="sqlite:////srv/mlflow.db")
    written(monkeypatch, tmp_path, user="mlflow", environment=str(tmp_path / "mlflow/current"))
    return {"tools": str(tools), "state": str(tmp_path / "state"), "postgresql_bin": "",
            "keep_days": 30}  # fmt: skip


def test_what_serves_now(
    rollout: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which version, and its databases, as it sees them."""
    found = rollout_look.look(**rollout)
    assert (found["installed"], found["earlier"], found["pending"]) == (True, False, False)
    assert found["serves"] == "3.17.2-1a2b3c"
    assert [one.get("uri") for one in found["databases"]] == [None, "sqlite:////srv/mlflow.db"]
    assert (found["readable"], found["irreplaceable"]) == (["tracking"], "in the way: tracking")
    assert found["ready"] == "" and found["free_mb"] > 0
    monkeypatch.setenv("NOT_READY", "The database does not answer.")
    assert rollout_look.look(**rollout)["ready"] == "The database does not answer."
    (tmp_path / "bin/runuser").write_text("#!/bin/sh\nexit 1\n")
    assert rollout_look.look(**rollout)["databases"] == []


def test_what_nobody_needs_any_more(
    rollout: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older than a month, and of no version that serves, a model runs in, or what was saved has."""
    artifacts = tmp_path / "artifacts"
    written(
        monkeypatch, tmp_path, environment=str(tmp_path / "mlflow/current"),
        artifacts=str(artifacts),
    )  # fmt: skip
    long_ago, lately = "20200101T000000Z", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for moment in (long_ago, lately):
        (tmp_path / f"state/{moment}-2.22.5/databases").mkdir(parents=True)
        (artifacts / ASIDE / f"{moment}-2.22.5").mkdir(parents=True)
    for name in ("3.17.2-1a2b3c", "2.22.5-aa", "3.14.0-aa", "3.15.0-aa", "3.16.0-aa"):
        place = tmp_path / "mlflow" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / ".complete").touch()
        if name != "3.16.0-aa":
            os.utime(place / ".complete", (0, 0))
    model = tmp_path / "deployments/iris"
    model.mkdir(parents=True)
    (model / "environment").symlink_to(tmp_path / "mlflow/3.15.0-aa")
    monkeypatch.setattr(rollout_look, "MODELS", tmp_path / "deployments")
    gone = f"{long_ago}-2.22.5"
    old = [f"state/{gone}", f"artifacts/{ASIDE}/{gone}", "mlflow/3.14.0-aa"]
    assert rollout_look.look(**rollout)["old"] == [str(tmp_path / name) for name in old]
    assert rollout_look.look(**{**rollout, "keep_days": 0})["old"] == []
    monkeypatch.setattr(rollout_look, "in_use", lambda path: path.name == "3.14.0-aa")
    assert str(tmp_path / "mlflow/3.14.0-aa") not in rollout_look.look(**rollout)["old"]


def test_what_is_not_finished(rollout: dict[str, Any], tmp_path: Path) -> None:
    """By these programs, or by those of an earlier release."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/plan.json").write_text(json.dumps({}))
    found = rollout_look.look(**rollout)
    assert (found["pending"], found["earlier"]) == (True, False)
    (tmp_path / "tools/switch.py").touch()
    assert rollout_look.look(**rollout)["earlier"]


def test_without_a_server_there_is_nothing_more(rollout: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mlflow/current").unlink()
    found = rollout_look.look(**rollout)
    assert {*found} == {"installation", "installed", "earlier"} and not found["installed"]


def test_which_client_of_postgresql_there_is(rollout: dict[str, Any], tmp_path: Path) -> None:
    """That of the directory that is named, and none without the other program."""
    assert rollout_look.postgresql_client(str(tmp_path / "pg")) in range(0, 100)
    for name in ("pg_dump", "psql"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.9 (Debian 15.9-1)'\n")
        program.chmod(0o755)
    assert rollout_look.postgresql_client("") == 15
    (tmp_path / "pg").mkdir()
    newer = tmp_path / "pg/pg_dump"
    newer.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.2'\n")
    newer.chmod(0o755)
    assert rollout_look.postgresql_client(str(tmp_path / "pg")) == 17


def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    """One within another before it; and what a link leads to stays, as does the link."""
    spec = importlib.util.spec_from_file_location(
        "empty_directories", ROOT / "plugins/modules/empty_directories.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "outer/inner").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    names = ["outer/inner", "outer", "full", "link", "gone"]
    paths = [tmp_path / name for name in names]
    for check in (True, False):
        assert module.remove(paths, check) == [str(paths[0]), str(paths[1])]
        assert (tmp_path / "outer").exists() == check
    assert (tmp_path / "full/file").exists() and (tmp_path / "link").is_dir()
