"""The record of what is installed: how it is read, what is said without it, and who goes by it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from records import interpreter, saved, written

from mlflow_ops import installation
from mlflow_ops.installation import NotInstalled

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
NOBODY = 65534

# Nothing is where it is by default.
UNUSUAL: dict[str, Any] = {
    "scenario": "scenario3", "unit": "mlflow.service", "user": "tracker",
    "environment": "/srv/python/now", "config_dir": "/etc/tracker", "state_dir": "/srv/state",
    "artifacts": "/srv/files", "admin_user": "chief", "leader": False,
}  # fmt: skip
FACTS = {
    **UNUSUAL,
    "python": "/srv/python/now/bin/python", "settings": "/etc/tracker/server.env",
    "secrets": "/etc/tracker/secrets.env", "admin_password": "/etc/tracker/admin_password",
}  # fmt: skip


# Reading it ---------------------------------------------------------------------------------------


def test_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the paths that follow from it; what a later release adds is passed over."""
    here = written(monkeypatch, tmp_path, **UNUSUAL, later="x")
    assert here.facts() == FACTS
    assert here.python == Path("/srv/python/now/bin/python")
    assert here.settings == Path("/etc/tracker/server.env")
    other = tmp_path / "other"
    other.mkdir()
    assert installation.read(saved(other)).user == "root"


def test_a_host_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "RECORD", tmp_path / "none.json")
    said = f"There is no {tmp_path}/none.json: these playbooks set up no server here."
    with pytest.raises(NotInstalled, match=f"^{re.escape(said)}$"):
        installation.read()


@pytest.mark.parametrize("name", UNUSUAL)
def test_one_of_another_release(tmp_path: Path, name: str) -> None:
    """It lacks something that this one needs."""
    file = tmp_path / "installation.json"
    file.write_text(json.dumps({key: value for key, value in UNUSUAL.items() if key != name}))
    said = f"{file} is of another release of these playbooks."
    with pytest.raises(NotInstalled, match=f"^{re.escape(said)}$"):
        installation.read(file)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"text"', "\0"])
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    file = tmp_path / "installation.json"
    file.write_text(text)
    with pytest.raises(NotInstalled, match="is of another release"):
        installation.read(file)


def test_one_that_this_user_may_not_read(tmp_path: Path) -> None:
    """Who is told that, and not that there were no server."""
    file = saved(tmp_path)
    tmp_path.chmod(0o700)
    file.chmod(0)
    if root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(PermissionError):
            installation.read(file)
    finally:
        if root:
            os.seteuid(0)


# What modules say ---------------------------------------------------------------------------------

# name: (what is done to the record, whether a server is required, words that are said)
HOSTS: dict[str, tuple[str, bool, list[str]]] = {
    "well": ("", True, []),
    "missing": (
        "missing", True,
        ["There is no MLflow service of this release on ", "these playbooks set up no server here.",
         "Run playbooks/scenario2.yml or playbooks/scenario3.yml first, with the mlflow_version "
         "that serves now, if one does. Nothing was changed."],
    ),
    "of another release": (
        "older", True,
        ["There is no MLflow service of this release on ", "is of another release of these",
         "Run playbooks/scenario2.yml"],
    ),
    "closed": (
        "closed", True,
        ["This needs root on ", "/installation.json is not for others to read.",
         "Set become: true in the play, or connect as root. Nothing was changed."],
    ),
    "nothing needed": ("missing", False, []),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what the module answers on each host, in one run of Ansible, in check mode."""
    folder = tmp_path_factory.mktemp("module")
    hosts = {}
    for name, (what, required, _) in HOSTS.items():
        (folder / name).mkdir()
        record = saved(folder / name, **UNUSUAL)
        if what == "missing":
            record.unlink()
        elif what == "older":
            record.write_text("{}")
        python = Path(interpreter(folder / name, record))
        if what == "closed":  # as it would be for another user, in a directory that is closed
            refuse = f"raise PermissionError(13, 'Permission denied', {str(record)!r})"
            text = python.read_text().replace(
                "arguments =", f"def _closed(*_, **__):\n    {refuse}\n_read = pathlib.Path."
                "read_text\npathlib.Path.read_text = lambda path, *said, **more: (_closed() if "
                f"path.name == 'installation.json' else _read(path, *said, **more))\narguments =",
                1,
            )  # fmt: skip
            python.write_text(text)
        hosts[name] = {
            "ansible_connection": "local", "ansible_python_interpreter": str(python),
            "required": required,
        }  # fmt: skip
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    ask = {
        "ops.mlflow.installation": {
            "required": "{{ required }}", "playbook_called": "playbooks/%s.yml",
        },
        "register": "found", "ignore_errors": True,
    }  # fmt: skip
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ found | to_json }}",
            "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
        },
        "check_mode": False,
    }  # fmt: skip
    play = {"hosts": "all", "gather_facts": False, "tasks": [ask, keep]}
    (folder / "playbook.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [ANSIBLE, "-i", folder / "hosts.yml", folder / "playbook.yml", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in HOSTS}


@pytest.mark.parametrize("host", HOSTS)
def test_what_the_module_answers(host: str, answers: dict[str, dict[str, Any]]) -> None:
    """The record, nothing, or one sentence."""
    _, required, words = HOSTS[host]
    found = answers[host]
    assert found["failed"] == bool(words) and not found["changed"]
    for word in words:
        assert word in found["msg"]
    if not words:
        assert found["installation"] == (FACTS if required else {})


# Who goes by it -----------------------------------------------------------------------------------

# What each role has learnt on a host whose record is UNUSUAL, and what it must be told.
LEARNT: dict[str, dict[str, Any]] = {
    "mlflow_backup": {
        "__mlflow_backup_found": {
            "installation": FACTS, "target": "/srv/sets", "sqlite": ["/srv/state"], "programs": [],
            "postgresql": False, "pg_dump": 0,
        },
    },
    "mlflow_cleaning": {
        "__mlflow_cleaning_found": {"installation": FACTS}, "mlflow_cleaning_older_than": "30d",
    },
    "mlflow_monitoring": {
        "__mlflow_monitoring_looked": {"installation": FACTS},
        "item": {"unit": "prometheus-node-exporter", "port": 9100, "arguments": "", "sandbox": {}},
    },
    "mlflow_switch": {
        "__mlflow_switch_token": "mine",
        "__mlflow_switch_found": {"installation": FACTS, "serves": "/srv/python/3.17.2-aa",
                                  "databases": [], "readable": [], "old": []},
        "mlflow_switch_environment": "/srv/python/3.18.0-bb",
    },
    "mlflow_server": {
        "mlflow_server_environment": UNUSUAL["environment"],
        "mlflow_server_config_dir": UNUSUAL["config_dir"],
        "mlflow_server_state_dir": UNUSUAL["state_dir"], "mlflow_server_user": UNUSUAL["user"],
        "mlflow_server_artifacts_destination": UNUSUAL["artifacts"],
        "mlflow_server_scenario": UNUSUAL["scenario"], "mlflow_server_leader": "another",
        "mlflow_server_auth": True, "mlflow_server_auth_admin_user": UNUSUAL["admin_user"],
        "__mlflow_server_found": {"cores": 2, "memory_mb": 4000, "names": [], "addresses": []},
        "__mlflow_server_schema": {"answer": {"mlflow": "3.17.2", "databases": []}},
        "__mlflow_server_here": {}, "__mlflow_server_at_source": {},
    },
}  # fmt: skip
# What a role tells by a variable rather than by a template.
TOLD = {
    "mlflow_switch": "{{ __mlflow_switch_plan | to_json }}",
    "mlflow_server": "{{ __mlflow_server_record_content }}\n{{ __mlflow_server_ready_command }}",
    "mlflow_backup": "{{ [__mlflow_backup_command, __mlflow_backup_settings_file, "
    "__mlflow_backup_key_file] | to_json }}",
}
USUAL = re.compile(
    r"/etc/mlflow/\w+\.(?:env|ini)|/opt/mlflow/current|/var/lib/mlflow(?![-\w])"
    r"|(?:User|Group|--user|--reuid|--uid)[= ]mlflow(?![-\w])|\bmlflow:mlflow\b"
    r'|"user": "mlflow"'
)
# name: what must be in a file of a role.
MUST: dict[str, list[str]] = {
    "mlflow_backup/mlflow-backup-sandbox@.service": [
        "ExecStart=/srv/python/now/bin/python ", "-/etc/tracker ", "-/srv/state", "-/srv/files",
    ],
    "mlflow_backup/mlflow-backup.service": ["ReadWritePaths=/srv/sets /srv/state\n"],
    "mlflow_backup/told": ["/etc/tracker/backup.env", "/etc/tracker/backup.key"],
    "mlflow_cleaning/mlflow-gc.service": [
        "User=tracker\nGroup=tracker\n", "EnvironmentFile=/etc/tracker/server.env\n",
        "HOME=/srv/state\n", "ExecStart=/srv/python/now/bin/python ",
        "ReadWritePaths=/srv/state /srv/files\n",
    ],
    "mlflow_cleaning/mlflow-gc": [
        "--user=tracker ", "HOME=/srv/state ", "/srv/python/now/bin/python ",
    ],
    "mlflow_monitoring/mlflow-health.service": [
        "User=tracker\nGroup=tracker\n", "EnvironmentFile=/etc/tracker/server.env\n",
    ],
    "mlflow_switch/told": [
        '"user": "tracker"', '"settings": "/etc/tracker/server.env"', '"link": "/srv/python/now"',
        '"unit": "mlflow.service"',
    ],
    "mlflow_server/mlflow.service": [
        "User=tracker\nGroup=tracker\n", "EnvironmentFile=/etc/tracker/server.env\n",
        "HOME=/srv/state ", "/srv/python/now/bin/python ",
        "ReadWritePaths=/srv/state /srv/files\n",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what all templates of these roles say on such a host, by role and name."""
    folder = tmp_path_factory.mktemp("rendered")
    plays = []
    for role, learnt in LEARNT.items():
        place = ROOT / "roles" / role
        (folder / role).mkdir()
        names = [path.stem for path in sorted(place.glob("templates/*.j2"))]
        write = {
            "ansible.builtin.template": {
                "src": f"{place}/templates/{{{{ name }}}}.j2",
                "dest": f"{folder}/{role}/{{{{ name }}}}",
                "mode": "0600",
            },
            "loop": names, "loop_control": {"loop_var": "name"},
        }  # fmt: skip
        tell: dict[str, Any] = {
            "ansible.builtin.copy": {"content": TOLD.get(role, ""), "dest": f"{folder}/{role}/told"}
        }
        files = [f"{place}/{kind}/main.yml" for kind in ("defaults", "vars")]
        given = folder / f"{role}.yml"
        given.write_text(yaml.safe_dump(learnt))
        plays.append({
            "hosts": "localhost", "connection": "local", "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "vars_files": [*files, str(given)], "tasks": [write, tell],
        })  # fmt: skip
    (folder / "playbook.yml").write_text(yaml.safe_dump(plays))
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", folder / "playbook.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        f"{role}/{path.name}": path.read_text()
        for role in LEARNT for path in (folder / role).iterdir()
    }  # fmt: skip


def test_nothing_goes_by_what_is_usual(rendered: dict[str, str]) -> None:
    """A path or a user that a role has of its own would be that of another server."""
    assert {*MUST} <= {*rendered}
    for name, text in rendered.items():
        said = re.sub(r"(?m)^\s*#(?!!).*$", "", text)
        assert not USUAL.search(said), f"{name}: {USUAL.search(said)}"


@pytest.mark.parametrize("name", MUST)
def test_units_and_commands_go_by_the_record(name: str, rendered: dict[str, str]) -> None:
    for word in MUST[name]:
        assert word in rendered[name]


def test_what_the_server_s_role_records_is_read(rendered: dict[str, str], tmp_path: Path) -> None:
    """By the very names that programs look for."""
    file = tmp_path / "installation.json"
    file.write_text(rendered["mlflow_server/told"].partition("#!")[0])
    assert installation.read(file).facts() == FACTS


def test_no_other_unit_knows_a_server() -> None:
    """Units and commands of all other roles, as they stand."""
    for path in ROOT.glob("roles/*/templates/*.j2"):
        assert not USUAL.search(path.read_text()), path
