"""Rotation: what is refused before anything changes, and that no step leaves half of a pair."""

import fcntl
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from records import written

from mlflow_ops import certificate_pair, lock
from mlflow_ops.client import Server
from mlflow_ops.server import reconcile, rotation
from mlflow_ops.settings import authentication

ROOT = Path(__file__).resolve().parent.parent
ROLES = ROOT / "roles"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

# What people may choose: characters that URLs, configparser, environment files and shells mind.
OLD, NEW = "o/ld:p@ss%w\"o'rd\\", "n/ew:p@ss%w\"o'rd\\ 100%"


# What is asked -----------------------------------------------------------------------------------

# name: (scenario, variables, words of the one error)
ASKED: dict[str, tuple[int, dict[str, str], list[str]]] = {
    "nothing": (3, {}, ["admin_password", "secret_keys", "user_passwords", "all of these but ca"]),
    "a word that there is not": (3, {"rotate": "tyres,s3_key"}, ["no tyres", "database_password"]),
    "passwords of nobody": (3, {"rotate": "user_passwords"}, ["rotate_users", "ada, grace"]),
    "a password of a stranger": (
        3,
        {"rotate": "user_passwords", "rotate_users": "ada,mallory"},
        ["rotate_users names mallory", "ada, grace"],
    ),
    "a certificate of the team's own": (
        3,
        {"rotate": "certificate", "mlflow_tls_certificate": "PEM", "mlflow_tls_key": "PEM"},
        ["your own", "playbooks/scenario3.yml"],
    ),
    "what scenario 2 has not": (2, {"rotate": "ca"}, ["ca", "only scenario 3"]),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    """One error, with the words that there are, before any host is reached."""
    scenario, variables, words = ASKED[case]
    groups = ["mlflow_database", "mlflow_store", "mlflow_servers", "mlflow_gateway"]
    hosts = {"hosts": {"mlflow.example.com": None}}
    group = {"children": {name: hosts for name in [*groups, "mlflow_clients"]}}
    inventory = {f"scenario{scenario}": group if scenario == 3 else hosts}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").symlink_to(ROOT / f"inventories/scenario{scenario}/group_vars")
    done = subprocess.run(
        [ANSIBLE, "-i", tmp_path / "hosts.yml", "playbooks/rotate.yml",
         "-e", json.dumps({"vault_mlflow_users": {"ada": "a", "grace": "g"}, **variables})],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    assert done.returncode == 2 and said.count("fatal:") == 1, said
    for word in [*words, "Nothing was changed"]:
        assert word in said
    assert "UNREACHABLE" not in said


# The service's files -----------------------------------------------------------------------------

Write = Callable[[str, dict[str, str]], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the service's files as the role does, with a password and the keys of a store."""

    def run(password: str, keys: dict[str, str]) -> None:
        templates = [
            {"template": {"src": f"{ROLES}/mlflow_server/templates/{name}.j2",
                          "dest": f"{tmp_path}/{name}", "mode": "0640"}}
            for name in ("server.env", "basic_auth.ini")
        ]  # fmt: skip
        play = {
            "hosts": "localhost", "connection": "local", "gather_facts": False,
            "vars_files": [
                f"{ROLES}/mlflow_server/{kind}/main.yml" for kind in ("defaults", "vars")
            ],
            "tasks": templates,
        }  # fmt: skip
        variables = {
            "ansible_python_interpreter": sys.executable,
            "mlflow_server_environment": "/opt/mlflow/current",
            "__mlflow_server_found": {
                "cores": 1, "memory_mb": 1000, "names": [], "addresses": []
            },
            "mlflow_server_config_dir": str(tmp_path),
            "mlflow_server_auth": True,
            "mlflow_server_database_kind": "postgresql",
            "mlflow_server_database_host": "db.example.com",
            "mlflow_server_artifacts_destination": "s3://mlflow/artifacts",
            "mlflow_server_database_password": password,
            "mlflow_server_s3_access_key": keys["access_key"],
            "mlflow_server_s3_secret_key": keys["secret_key"],
        }  # fmt: skip
        (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play]))
        (tmp_path / "variables.json").write_text(json.dumps(variables))
        done = subprocess.run(
            [ANSIBLE, "-i", "localhost,", tmp_path / "playbook.yml",
             "-e", f"@{tmp_path}/variables.json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (tmp_path / "admin_password").write_text(password)

    return run


@pytest.fixture
def service(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Give the service of these files anew, as each step of a rotation sees it."""
    write(OLD, {"access_key": "OLD", "secret_key": OLD})
    keys = "MLFLOW_CRYPTO_KEK_PASSPHRASE=old\nMLFLOW_FLASK_SERVER_SECRET_KEY=old\n"
    (tmp_path / "secrets.env").write_text(f"# Made once.\n{keys}")
    (tmp_path / "secrets.env").chmod(0o600)
    monkeypatch.setattr(rotation, "shown", lambda name: f"{tmp_path}/rotation.env (optional)")
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)
    return lambda: rotation.Service(tmp_path)


NAMES = ["database_password", "s3_key", "admin_password", "secret_keys"]
GIVEN = {
    "database_password": NEW,
    "admin_password": NEW,
    "s3_key": {"access_key": "NEW", "secret_key": NEW},
}


def content(directory: Path) -> dict[str, str]:
    """Return the service's files."""
    names = ("server.env", "basic_auth.ini", "admin_password", "secrets.env")
    return {name: (directory / name).read_text() for name in names}


def test_files_are_as_the_role_would_write_them(
    service: Callable[[], Any], write: Write, tmp_path: Path
) -> None:
    """With any password, so that the scenario's playbook changes nothing; and back again."""
    before = content(tmp_path)
    assert rotation.begin(service(), {"secrets": NAMES, "given": GIVEN})["rotated"] == NAMES
    assert stat.S_IMODE((tmp_path / "rotation.env").stat().st_mode) == 0o600
    for path, text in service().files(service().sides[1]).items():
        rotation.put(path, text, like=path)
    new = content(tmp_path)
    write(NEW, GIVEN["s3_key"])  # type: ignore[arg-type]
    assert new == content(tmp_path)
    assert "MLFLOW_CRYPTO_KEK_VERSION=2" in new["secrets.env"] and "old" not in new["secrets.env"]
    for path, text in service().files(service().sides[0]).items():
        rotation.put(path, text, like=path)
    assert content(tmp_path) == before


def test_what_was_cut_off_goes_on(service: Callable[[], Any]) -> None:
    """The same new secrets, and another word beside; never a third value for one of them."""
    first = rotation.begin(service(), {"secrets": ["admin_password"], "given": {}})
    made = service().sides[1]["admin_password"]
    again = rotation.begin(service(), {"secrets": ["admin_password", "secret_keys"], "given": {}})
    assert first["rotated"] == ["admin_password"] and again["rotated"] == NAMES[2:]
    assert service().sides[1]["admin_password"] == made and len(made) == 24
    with pytest.raises(rotation.Refused, match="cut off"):
        rotation.begin(service(), {"secrets": NAMES[2:3], "given": {"admin_password": NEW}})


def test_what_cannot_be_rotated_is_left_with_a_reason(
    service: Callable[[], Any], tmp_path: Path
) -> None:
    """A secret that the inventory sets and did not change; one that there is not."""
    env = tmp_path / "server.env"
    env.write_text(env.read_text().replace(rotation.S3["secret_key"], "OTHER"))
    asked = {"secrets": NAMES[:3], "given": {"admin_password": OLD}}
    why = rotation.left(service(), asked)
    assert "change it there first" in why["admin_password"] and "not in S3" in why["s3_key"]
    assert rotation.begin(service(), asked)["rotated"] == ["database_password"]


def test_a_unit_that_knows_no_rotation(
    service: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that was set up before is answered with what to do."""
    monkeypatch.setattr(rotation, "shown", lambda name: "/etc/mlflow/server.env")
    with pytest.raises(rotation.Refused, match="playbook first"):
        rotation.begin(service(), {"secrets": NAMES, "given": {}})


def test_where_the_service_reads_the_administrators_password_still(
    service: Callable[[], Any], tmp_path: Path
) -> None:
    """A host that only its programs were brought to: she would have two passwords."""
    ini = tmp_path / "basic_auth.ini"
    ini.write_text(ini.read_text().replace("admin_password =", f"admin_password = {OLD}"))
    with pytest.raises(rotation.Refused, match="playbook first"):
        rotation.begin(service(), {"secrets": NAMES, "given": {}})


def test_the_administrators_password_is_a_file_of_its_own(
    service: Callable[[], Any], tmp_path: Path
) -> None:
    """Which counts; without it there is none, or that of a host that was set up before."""
    settings, file = service().settings, tmp_path / "admin_password"
    asked = authentication(settings)
    assert (asked["admin_password"], asked["admin_username"]) == (OLD, "admin")
    file.unlink()
    assert authentication(settings)["admin_password"] == ""
    assert "Authorization" not in Server(settings).headers


@pytest.mark.parametrize("verb", ["look", "begin"])
def test_while_a_backup_is_made(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said at once, and nothing is begun."""
    written(monkeypatch, tmp_path)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    monkeypatch.setattr(sys, "argv", ["mlflow-rotation", verb])
    assert rotation.main() == 1
    assert "has the data (lslocks" in capsys.readouterr().err
    os.close(holder)
    with lock.data_lock(0):
        pass


def test_webhooks_follow_their_key(tmp_path: Path) -> None:
    """To the new key and back to the old; what neither opens stays as it was."""
    old, new, lost = (Fernet.generate_key().decode() for _ in range(3))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE webhooks (webhook_id, secret)")
        rows = [
            ("a", Fernet(old).encrypt(b"canary")),
            ("b", Fernet(lost).encrypt(b"gone")),
            ("c", None),
        ]
        database.executemany(
            "INSERT INTO webhooks VALUES (?, ?)",
            [(name, row and row.decode()) for name, row in rows],
        )
    database.close()
    sides = [{reconcile.WEBHOOKS: key} for key in (old, new)]
    assert reconcile.opened(uri, sides[0]) == (2, 1)
    for here, there in ((1, 0), (0, 1)):
        reconcile.follow_keys(uri, sides[here], sides)
        assert reconcile.opened(uri, sides[here]) == (2, 1)
        assert reconcile.opened(uri, sides[there]) == (2, 0)


# Certificates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False])
def test_a_pair_is_swapped_whole(
    taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and certificate both, and both again where what uses them does not take them."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho 'nginx refuses it' >&2; exit {int(not taken)}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    files = [tmp_path / "mlflow.key", tmp_path / "mlflow.pem"]
    for file in files:
        file.write_text("old")
        file.with_name(f"{file.name}.new").write_text("new")
    refused = pytest.raises(certificate_pair.NotTaken, match="nginx refuses it")
    with nullcontext() if taken else refused:
        certificate_pair.swap(files, ".new", ["nginx.service"], [])
    assert [file.read_text() for file in files] == ["new" if taken else "old"] * 2
    assert {*tmp_path.iterdir()} == {systemctl, *files}
