"""From MLflow 2 to 3, and within 3: nothing is lost, and what fails leaves all as it was.

The tests of a host build on one another: what fails comes first, since then nothing has changed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import versions
from exposure import exposed
from guarded import neighbour, routes
from hosts import ROOT, Lab, ended

OLD, MIDDLE, NEW = versions.UNGUARDED, versions.GUARDED[-1], versions.DEFAULT
SQLITE, POSTGRESQL = "team.example.com", "mlflow.example.com"
SPARE = "spare.example.com"
HOSTS = [SQLITE, POSTGRESQL]
PEOPLE = {
    SQLITE: ("grace", "export MLFLOW_TRACKING_URI=http://localhost:5000"),
    POSTGRESQL: ("ada", ". /opt/mlflow/client/activate"),
}


def snapshot(lab: Lab, host: str) -> dict[str, Any]:
    """Return all that a host's server tells of what was logged, files included."""
    return dict(json.loads(lab.program(host, "snapshot", "sudo python3")))


def predictions(lab: Lab, host: str) -> str:
    """Return what a registered model predicts for the one who has logged it."""
    return as_person(lab, host, "predict").splitlines()[-1]


def as_person(lab: Lab, host: str, program: str) -> str:
    """Run a data scientist's program by the environment that is in use."""
    person, find_server = PEOPLE[host]
    return lab.program(host, program, f"{find_server}; /opt/mlflow/current/bin/python", person)


def serves(lab: Lab, host: str) -> str:
    """Return the version of MLflow that answers, and see that its database and artifacts do."""
    ask = "import sys; sys.path.insert(0, '/usr/local/lib/mlflow/current')\n"
    ask += "sys.dont_write_bytecode = True; from mlflow_ops.client import Server\n"
    ask += "from mlflow_ops.settings import read_settings\n"
    ask += "print(Server(read_settings()).request('version', 'GET', '/version').decode())"
    return lab.root(host, f'mlflow-ready >/dev/null; python3 -c "{ask}"').strip()


# What others have in MLflow's database, as monitoring and people who search do.
OTHERS = """
runuser -u postgres -- psql --quiet mlflow \\
  -c 'CREATE EXTENSION IF NOT EXISTS pg_trgm; CREATE EXTENSION IF NOT EXISTS pg_stat_statements' \\
  -c 'CREATE SCHEMA IF NOT EXISTS bi; CREATE TABLE IF NOT EXISTS bi.seen ()' \\
  -c 'CREATE INDEX IF NOT EXISTS fast ON tags USING gin (value gin_trgm_ops)'
"""


@pytest.fixture(scope="module")
def before(lab: Lab) -> Callable[[str], dict[str, Any]]:
    """What a host's server tells before any upgrade; a data scientist has logged it."""
    known: dict[str, dict[str, Any]] = {}

    def of(host: str) -> dict[str, Any]:
        if host not in known:
            assert OLD in lab.ssh(host, "readlink /opt/mlflow/current")
            if "iris-classifier" not in lab.program(host, "snapshot", "sudo python3"):
                as_person(lab, host, "populate")
            if host == POSTGRESQL:
                lab.root(host, OTHERS)
            known[host] = snapshot(lab, host)
            assert len(known[host]["runs"]) == 5
            assert len(known[host]["models"]["iris-classifier"]["versions"]) == 4
        return known[host]

    return of


@pytest.fixture
def unharmed(lab: Lab, before: Callable[..., Any], request: pytest.FixtureRequest) -> Iterator[str]:
    """The host; after the test the old version serves the old data, and nothing else is left."""
    host: str = request.param
    known = before(host)
    yield host
    assert serves(lab, host) == OLD
    assert snapshot(lab, host) == known
    said = lab.root(
        host, "readlink /opt/mlflow/current; ls -A /opt/mlflow; ls /var/lib/mlflow-switch || true"
    )
    assert said.startswith(f"{OLD}-")
    assert ".on-trial" not in said
    assert "plan.json" not in said


each_host = pytest.mark.parametrize("unharmed", HOSTS, indirect=True)


def upgrade(
    lab: Lab, host: str, *arguments: str, code: int = 2, smoke: bool = False, to: str = NEW,
    **extra: Any,
) -> str:  # fmt: skip
    """Run the upgrade on one host, and return what it says, each run of space as one."""
    rest = () if smoke else ("--skip-tags", "smoke")
    said = lab.play(
        "upgrade.yml", "--limit", host, *rest, *arguments, code=code, mlflow_version=to, **extra
    )
    return " ".join(said.split())


UNGUARDED: dict[str, Any] = {"mlflow_version": OLD, "mlflow_server_accept_unguarded": False}


@pytest.mark.parametrize("host", [SPARE])
def test_an_unguarded_version_is_not_installed(lab: Lab, host: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"scenario2": {"hosts": {host: lab.hosts[host]}}}))
    said = ended(lab.command("scenario2.yml", inventory=inventory, **UNGUARDED), 2)
    said = " ".join(said.split())
    for word in ("whoever reaches the port reads any file", "mlflow_server_accept_unguarded: true"):
        assert word in said
    assert "Nothing was changed" in said
    lab.root(host, "test ! -e /opt/mlflow && test ! -e /etc/mlflow")


@pytest.mark.parametrize("host", [SQLITE])
def test_an_unguarded_version_goes_on_serving(lab: Lab, host: str) -> None:
    """Where it is; and who runs the playbook is told what to do."""
    arguments = ("--limit", host, "--skip-tags", "smoke")
    said = " ".join(lab.play("scenario2.yml", *arguments, **UNGUARDED).split())
    assert "goes on serving it. Upgrade: set mlflow_version to 3 or later" in said
    assert "changed=0" in said


@each_host
def test_the_package_install_fails(lab: Lab, unharmed: str, tmp_path: Path) -> None:
    started = lab.root(unharmed, "systemctl show --property InvocationID mlflow")
    said = upgrade(lab, unharmed, mlflow_wheelhouse=str(tmp_path))
    assert "The unfinished environment was removed" in said
    assert lab.root(unharmed, "systemctl show --property InvocationID mlflow") == started


# Migrations make this table, and stop where it is there already: others have run by then.
IN_THE_WAY = {
    SQLITE: (
        'runuser -u mlflow -- /opt/mlflow/current/bin/python -c "import sqlite3; '
        "sqlite3.connect('/var/lib/mlflow/mlflow.db').execute('{0} TABLE logged_models{1}')\""
    ),
    POSTGRESQL: "runuser -u mlflow -- psql -q -c '{0} TABLE logged_models{1}'",
}
FULL = "install -d -m 711 {0}; mount -t tmpfs -o nr_inodes=5,mode=711 tmpfs {0}"
NO_DUMP = "chmod a-x /usr/bin/pg_dump /usr/lib/postgresql/*/bin/pg_dump"


@each_host
def test_the_backup_fails(lab: Lab, unharmed: str) -> None:
    state = "/var/lib/mlflow-switch"
    try:
        lab.root(unharmed, FULL.format(state) if unharmed == SQLITE else NO_DUMP)
        said = upgrade(lab, unharmed)
    finally:
        lab.root(unharmed, f"umount {state}" if unharmed == SQLITE else NO_DUMP.replace("-x", "+x"))
    assert "failed while the databases were saved" in said
    assert "The old version serves the old data again" in said


@each_host
def test_a_migration_stops_half_way(lab: Lab, unharmed: str) -> None:
    in_the_way = IN_THE_WAY[unharmed]
    lab.root(unharmed, in_the_way.format("CREATE", " (id INTEGER)"))
    try:
        said = upgrade(lab, unharmed)
    finally:
        lab.root(unharmed, in_the_way.format("DROP", ""))
    assert "failed while the databases were changed" in said
    assert "logged_models" in said  # what is in the way is named
    assert "The old version serves the old data again" in said


# In the new environment alone: what it does to the server's process, and what is then said.
BROKEN = {
    "start": ("sys.exit('broken on purpose')", "broken on purpose"),
    "readiness": (
        "os.environ.update(MLFLOW_ARTIFACTS_DESTINATION='/proc/x')",
        "started: mlflow-ready: Put an artifact",
    ),
}
# Readiness would wait two minutes and a half for artifacts to come. It is told to stop once they
# are all that is missing, as systemd tells it when it has no more patience. (Who watches is ahead
# of readiness itself, which is given the time to come to the same.)
IMPATIENT = """systemd-run --quiet --collect --unit=impatient sh -c '
    until readlink /opt/mlflow/current | grep -q ^{0} && mlflow-ready 2>&1 | grep -q "Put an"
    do sleep 1; done
    sleep 10; systemctl kill --kill-whom=control mlflow'"""


@pytest.mark.parametrize("what", BROKEN)
@each_host
def test_the_new_version_does_not_come_up(lab: Lab, unharmed: str, what: str) -> None:
    statement, word = BROKEN[what]
    packages = lab.root(unharmed, f"echo /opt/mlflow/{NEW}-*/lib/python3*/site-packages").strip()
    line = f"import os, sys; 'serve' in sys.orig_argv and {statement}"
    lab.root(unharmed, f'echo "{line}" > {packages}/broken.pth; {IMPATIENT.format(NEW)}')
    try:
        said = upgrade(lab, unharmed)
    finally:
        lab.root(unharmed, f"rm {packages}/broken.pth; systemctl stop impatient || true")
    assert "failed while the new version started" in said
    assert word in said
    assert "The old version serves the old data again" in said


# The smoke's part `look` of scenario 3, which comes after all that is logged, reads them there.
NOWHERE = ["--settings", "/nowhere"]


@each_host
def test_the_smoke_fails(lab: Lab, unharmed: str) -> None:
    """What was logged while the new version was on trial is not lost, either."""
    arguments = ["--tracking-uri", "http://localhost:5000", "--artifacts", "/", "--database", "/"]
    wrong: dict[str, dict[str, Any]] = {
        SQLITE: {"smoke_arguments": arguments},
        POSTGRESQL: {"smoke_arguments": NOWHERE},
    }
    said = upgrade(lab, unharmed, smoke=True, **wrong[unharmed])
    assert "failed while the new version was on trial" in said
    kept = re.search(r"kept in (/var/lib/mlflow-switch/\S+)[.] ", said)
    assert kept
    manifest = json.loads(lab.root(unharmed, f"cat {kept[1]}/manifest.json"))
    assert manifest["mlflow"] == NEW


def phase(lab: Lab, host: str) -> str:
    said = lab.root(host, "cat /var/lib/mlflow-switch/state.json 2>/dev/null || true")
    return str(json.loads(said or "{}").get("phase", ""))


def begun(lab: Lab, host: str) -> None:
    """Wait until a switch has begun: its plan is there as long as it lasts."""
    deadline = time.monotonic() + 240
    while "plan.json" not in lab.root(host, "ls /var/lib/mlflow-switch"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def until(lab: Lab, host: str, wanted: set[str], seconds: float = 240) -> str:
    deadline = time.monotonic() + seconds
    while (seen := phase(lab, host)) not in wanted:
        assert time.monotonic() < deadline, f"{host} is {seen}, not {wanted}"
        time.sleep(0.5)
    return seen


def killed_at(lab: Lab, host: str, wanted: set[str]) -> None:
    """Run the upgrade, and kill the controller with all its children at a phase."""
    arguments = ["--limit", host, "--skip-tags", "smoke"]
    command = lab.command("upgrade.yml", *arguments, mlflow_version=NEW, mlflow_switch_patience=10)
    playbook = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        begun(lab, host)
        until(lab, host, wanted)
    finally:
        os.killpg(playbook.pid, signal.SIGKILL)
        playbook.wait()


@each_host
def test_the_controller_is_killed(lab: Lab, unharmed: str) -> None:
    """The host goes on by itself, hears nothing, and puts everything back."""
    killed_at(lab, unharmed, {"changing", "changed", "starting"})
    until(lab, unharmed, {"put back"})


@each_host
def test_the_program_is_killed(lab: Lab, unharmed: str) -> None:
    """Nobody is left who waits: it begins again, and puts everything back."""
    killed_at(lab, unharmed, {"changing"})
    lab.root(unharmed, "systemctl kill --signal=KILL mlflow-switch")
    until(lab, unharmed, {"put back"})
    said = lab.root(unharmed, "cat /var/lib/mlflow-switch/state.json")
    assert "stopped in the middle" in said


@each_host
def test_the_host_dies(lab: Lab, unharmed: str) -> None:
    """At its next boot it puts back what was cut off."""
    killed_at(lab, unharmed, {"changing"})
    restart: list[str | Path] = [sys.executable, ROOT / "molecule/lab/lab.py", "restart"]
    subprocess.run([*restart, lab.name, unharmed], check=True, capture_output=True)
    time.sleep(5)
    until(lab, unharmed, {"put back"})


@pytest.mark.parametrize("host", [POSTGRESQL])
def test_an_upgrade_within_3(lab: Lab, before: Callable[..., Any], host: str) -> None:
    """To an older 3 first; from there, with what only 3 logs, to the new one and back again."""
    known = before(host)
    said = upgrade(lab, host, code=0, to=MIDDLE)
    assert f"MLflow {MIDDLE} instead of {OLD} on {host}" in said
    assert serves(lab, host) == MIDDLE
    assert snapshot(lab, host) == known
    gains = neighbour(lab, host, host)
    assert (gains["gained"], gains["refused"]) == ([], [])
    assert gains["denied by"] == "NO_PERMISSIONS"
    held = routes(lab, host)
    assert (held["unknown"], held["gone"]) == ([], [])
    threes = as_person(lab, host, "threes").splitlines()[-1]
    known.update(snapshot(lab, host))  # with what has come to it
    said = upgrade(lab, host, smoke=True, smoke_arguments=NOWHERE)
    assert "failed while the new version was on trial" in said
    assert serves(lab, host) == MIDDLE
    assert snapshot(lab, host) == known
    assert as_person(lab, host, "threes").splitlines()[-1] == threes
    known["threes"] = threes


@pytest.mark.parametrize("host", HOSTS)
def test_an_upgrade_keeps_everything(lab: Lab, before: Callable[..., Any], host: str) -> None:
    """By the scenario's own playbook, with another version in the inventory."""
    playbook = {SQLITE: "scenario2.yml", POSTGRESQL: "scenario3.yml"}[host]
    known, predicted = {**before(host)}, predictions(lab, host)
    threes = known.pop("threes", "")  # of the one that comes from an older 3
    said = " ".join(lab.play(playbook, "--limit", host, mlflow_version=NEW).split())
    assert f"MLflow {NEW} instead of {MIDDLE if threes else OLD} on {host}" in said
    assert re.search(r"did not serve for [0-9.]+ s", said)
    assert serves(lab, host) == NEW
    units = "mlflow.service", "mlflow-switch.service"
    assert exposed(lambda script: lab.root(host, script), *units) == {}
    after = snapshot(lab, host)
    for kind in ("experiments", "runs"):  # the smoke has deleted its own, as people delete
        more = {key: after[kind].pop(key) for key in {*after[kind]} - {*known[kind]}}
        assert {one["lifecycle_stage"] for one in more.values()} <= {"deleted"}
    assert after == known
    assert predictions(lab, host) == predicted
    assert not threes or as_person(lab, host, "threes").splitlines()[-1] == threes
    assert "changed=0" in lab.play(
        playbook, "--limit", host, "--skip-tags", "smoke", mlflow_version=NEW
    )


@pytest.mark.parametrize("host", HOSTS)
def test_a_downgrade_is_refused(lab: Lab, host: str) -> None:
    playbook = {SQLITE: "scenario2.yml", POSTGRESQL: "scenario3.yml"}[host]
    said = " ".join(lab.play(playbook, "--limit", host, code=2, mlflow_version=OLD).split())
    assert f"would be a downgrade of {host} from MLflow {NEW} to {OLD}" in said
    word = "-e mlflow_server_accept_unguarded=true"  # restore.yml wants it, too
    assert f"playbooks/restore.yml -e mlflow_version={OLD} {word} -e mlflow_backup_set=" in said
    assert "Nothing was changed" in said
    assert serves(lab, host) == NEW


@pytest.mark.parametrize("host", HOSTS)
def test_a_restore_brings_no_unguarded_version(lab: Lab, host: str) -> None:
    saved = lab.root(host, "ls -d /var/lib/mlflow-switch/*/ | tail -1").strip()
    before = lab.root(host, "ls -A /opt/mlflow")
    asked = {"mlflow_restore_saved": saved, "mlflow_restore_confirm": host, **UNGUARDED}
    said = " ".join(lab.play("restore.yml", "--limit", host, code=2, **asked).split())
    who = {SQLITE: "whoever reaches the port", POSTGRESQL: "every user"}[host]
    for word in (f"{who} reads any file", "mlflow_server_accept_unguarded: true"):
        assert word in said
    assert "Nothing was changed" in said and "changed=0" in said
    assert lab.root(host, "ls -A /opt/mlflow") == before
    assert serves(lab, host) == NEW


@pytest.mark.parametrize("host", [SQLITE])
def test_what_an_upgrade_saved_comes_back_with_its_keys(
    lab: Lab, before: Callable[..., Any], host: str
) -> None:
    """They were changed since. And what is older than a month goes, after it was named."""
    state, keys = "/var/lib/mlflow-switch", "/etc/mlflow/secrets.env"
    saved = lab.root(host, f"ls -d {state}/*/ | tail -1").strip()
    known = lab.root(host, f"sha256sum < {keys}")
    lab.root(host, f"sed -i 's/^MLFLOW_FLASK_.*=/&x/' {keys}; mkdir {state}/20200101T000000Z-{OLD}")
    assert lab.root(host, f"sha256sum < {keys}") != known
    said = lab.play(
        "restore.yml", "--limit", host, "--skip-tags", "smoke", mlflow_version=NEW,
        mlflow_restore_saved=saved, mlflow_restore_confirm=host,
    )  # fmt: skip
    assert f"{state}/20200101T000000Z-{OLD}" in said
    assert lab.root(host, f"ls {state}; sha256sum < {keys}").endswith(known)
    assert "20200101" not in lab.root(host, f"ls {state}")
    assert snapshot(lab, host) == before(host)
