"""Several servers that share a database: nothing serves until the one that leads has ended.

Each is a process of its own, as on a host of its own, and they meet in a real PostgreSQL. What they
do to their hosts is only noted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import versions
from cluster import OWNER, Cluster, cluster
from mlflow_environments import environment

ROOT = Path(__file__).resolve().parent.parent
OLD, NEW = "2.22.5-aaaa", "3.17.2-bbbb"
PATIENCE = 6  # seconds; what the leader does takes longer

SERVER = """
import subprocess, sys, time
from pathlib import Path
from mlflow_ops import lock, rollout

place, log, slow, breaks = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
rollout.STATE = lock.SWITCH = place / "state"
rollout.MARKS = place / "marks"
rollout.ASK_AGAIN, rollout.PUT_BACK_PATIENCE = 0.1, 0
rollout.shutil.chown = lambda *_: None
real = rollout.command

def command(*words, **options):
    said = [str(word) for word in words]
    if said[0] == "runuser":
        verb, by = said[9], Path(said[5]).parents[1].name
        if verb in ("tell", "told"):
            return real(*said[5:], **options)
        if (verb, by) == ("save", (place / "current").readlink().name):
            time.sleep(slow)
        what = f"{verb} by {by}"
    elif said[0] == "systemctl" and said[1] in ("start", "stop"):
        what = f"{said[1]} {(place / 'current').readlink()}"
    else:
        return ""
    with log.open("a") as text:
        text.write(f"{place.name}: {what}\\n")
    if what == breaks:
        raise rollout.Failed(f"{what} is broken")
    return ""

rollout.command = command
sys.argv = ["rollout", "run"]
rollout.main()
"""


class Server:
    """One of them."""

    def __init__(self, place: Path, uri: str, leads: bool) -> None:
        self.place, self.log = place, place.parent / "log"
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("state", "marks"):
            (place / name).mkdir(parents=True)
        for name in (OLD, NEW):
            (place / name).symlink_to(environment(versions.DEFAULT).parents[1])
        (place / "current").symlink_to(OLD)
        (place / "server.env").write_text(f'MLFLOW_BACKEND_STORE_URI="{uri}"\n')
        plan: dict[str, Any] = {
            "unit": "mlflow.service", "user": "mlflow", "settings": str(place / "server.env"),
            "link": str(place / "current"), "old": OLD, "new": NEW, "change": [["migrate"]],
            "token": "mine", "leader": leads, "together": True,
            "artifacts": "", "objects": "", "files": {},
            "saved": str(place / "saved"), "patience": PATIENCE, "marks": [],
            "keys": str(place / "secrets.env"), "must_save": ["tracking"], "unread": [],
            "remove": [],
            "path": "",
        }  # fmt: skip
        (place / "state/plan.json").write_text(json.dumps(plan))
        begun = {"phase": "begun", "saved": plan["saved"], "token": "mine"}
        (place / "state/state.json").write_text(json.dumps(begun))

    def run(self, slow: float = 0, breaks: str = "") -> None:
        """Have its service do its work, as after a boot."""
        command = [sys.executable, "-c", SERVER, *map(str, (self.place, self.log, slow)), breaks]
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
        )

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.place / "state/state.json").read_text()))

    def until(self, *phases: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until it has come so far; return its state."""
        deadline = time.monotonic() + seconds
        while (state := self.state())["phase"] not in phases:
            assert time.monotonic() < deadline, f"{self.place.name} is {state}, not {phases}"
            time.sleep(0.05)
        return state

    def hear(self, word: str) -> None:
        (self.place / "marks" / word).touch()

    def dies(self) -> None:
        """Its host does, and comes again: of the words that were said nothing is left."""
        assert self.process
        self.process.kill()
        self.process.wait()
        for word in (self.place / "marks").iterdir():
            word.unlink()
        (self.place / "marks").rmdir()


@pytest.fixture(scope="module")
def database() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


Pair = tuple[Server, Server]


@pytest.fixture
def pair(database: Cluster, tmp_path: Path) -> Iterator[Pair]:
    """Two servers, of which the first leads."""
    uri = database.create("shared")
    servers = tuple(Server(tmp_path / name, uri, name == "leads") for name in ("leads", "follows"))
    yield servers  # type: ignore[misc]
    for server in servers:
        if server.process:
            server.process.kill()
            server.process.wait()
    database.sql("postgres", "DROP DATABASE shared WITH (FORCE)")


@pytest.fixture
def did(tmp_path: Path) -> Callable[[], list[str]]:
    """What they have done to their hosts, in order."""
    return lambda: (tmp_path / "log").read_text().splitlines()


def to_the_trial(leads: Server, follows: Server, slow: float = PATIENCE + 2, **breaks: str) -> None:
    """Bring both to where the leader serves the new version, as the playbook does."""
    follows.run()
    leads.run(slow, **breaks)
    for server in (leads, follows):
        server.until("ready")
    for server in (follows, leads):
        server.hear("stop")
    for server in (leads, follows):
        server.until("stopped")
    leads.hear("change")


FOLLOWED = ["follows: stop " + OLD, "follows: start " + NEW]


def test_who_follows_waits_as_long_as_the_leader_works(
    pair: Pair, did: Callable[[], list[str]]
) -> None:
    """Whatever its patience is; and it serves once the leader has the new version for good."""
    leads, follows = pair
    to_the_trial(leads, follows)
    leads.until("serving")
    assert follows.state()["phase"] == "stopped"
    assert [line for line in did() if line.startswith("follows")] == FOLLOWED[:1]
    leads.hear("confirm")
    assert leads.until("confirmed") and follows.until("confirmed")
    assert did()[-1] == FOLLOWED[1]
    assert (follows.place / "current").readlink().name == NEW


def test_who_follows_goes_back_once_the_old_data_is_back(
    pair: Pair, did: Callable[[], list[str]]
) -> None:
    """The controller is gone: nobody says a word, and no server serves while it is loaded."""
    leads, follows = pair
    to_the_trial(leads, follows)
    assert leads.until("put back")["came"]
    assert follows.until("put back")
    lines = did()
    assert lines.index("follows: start " + OLD) > lines.index("leads: load by " + OLD)
    assert "follows: start " + NEW not in lines
    assert (follows.place / "current").readlink().name == OLD


def test_who_follows_learns_how_it_ended_when_its_host_was_away(
    pair: Pair, did: Callable[[], list[str]]
) -> None:
    """It boots while the leader works, and serves nothing then, nor before it has asked."""
    leads, follows = pair
    to_the_trial(leads, follows, slow=1)
    follows.dies()
    leads.until("serving")
    follows.run()
    leads.hear("confirm")
    leads.until("confirmed")
    follows.until("confirmed")
    assert [line for line in did() if line.startswith("follows")] == FOLLOWED


def test_the_leader_s_host_dies(pair: Pair, did: Callable[[], list[str]]) -> None:
    """The others wait until it is back, and has put all back."""
    leads, follows = pair
    to_the_trial(leads, follows, slow=0)
    leads.until("serving")
    leads.dies()
    time.sleep(PATIENCE)
    assert follows.state()["phase"] == "stopped"
    leads.run()
    leads.until("put back")
    follows.until("put back")
    assert did()[-1] == "follows: start " + OLD


def test_the_leader_s_host_dies_when_it_was_said_that_all_is_well(
    pair: Pair, did: Callable[[], list[str]]
) -> None:
    """Others may have heard it: there is no way back from there."""
    leads, follows = pair
    to_the_trial(leads, follows, slow=0)
    state = leads.until("serving")
    leads.dies()
    (leads.place / "state/state.json").write_text(json.dumps({**state, "sure": True}))
    leads.run()
    leads.until("confirmed")
    follows.until("confirmed")
    assert not [line for line in did() if "load" in line or "start " + OLD in line]


def test_a_follower_that_does_not_start_says_why(pair: Pair) -> None:
    """The databases are the new version's by then, for the others too."""
    leads, follows = pair
    follows.run(breaks="start " + NEW)
    leads.run()
    for server in pair:
        server.until("ready")
        server.hear("stop")
    for server in pair:
        server.until("stopped")
    leads.hear("change")
    leads.until("serving")
    leads.hear("confirm")
    assert "is broken" in follows.until("confirmed")["error"]


def test_nobody_leads(pair: Pair, did: Callable[[], list[str]]) -> None:
    """Then nothing is stopped."""
    _, follows = pair
    (follows.place.parent / "log").touch()
    follows.run()
    follows.until("ready")
    follows.hear("stop")
    assert "has not begun" in follows.until("put back")["error"]
    assert did() == []


def test_what_is_loaded_takes_the_leader_s_word_along(
    pair: Pair, database: Cluster, did: Callable[[], list[str]]
) -> None:
    """As a restore does: it is said again at the end, and who waits goes on waiting till then."""
    leads, follows = pair
    to_the_trial(leads, follows, slow=2)
    leads.until("saving")
    database.sql("shared", "DROP TABLE mlflow_switch", role=OWNER)
    leads.until("serving")
    assert follows.state()["phase"] == "stopped"
    leads.hear("confirm")
    follows.until("confirmed")
    assert did()[-1] == FOLLOWED[1]


# The programs of a host, for the role: those above; systemd's part is to start another process.
PROGRAMS = """
import os

def systemd(*words, **options):
    if words[:2] != ("systemctl", "start") or words[2] != rollout.UNIT:
        return command(*words, **options)
    running = subprocess.Popen(
        [sys.executable, str(place / "programs"), "rollout", "run"], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    (place / "pid").write_text(str(running.pid))

def is_active(*_):
    state = Path("/proc", (place / "pid").read_text(), "stat")
    return 0 if state.exists() and ") Z" not in state.read_text() else 3

rollout.command, rollout.subprocess.call = systemd, is_active
sys.argv = asked
rollout.main()
"""

# One after the other, and the one that leads last: they wait for one another all the same.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars: &vars
    mlflow_switch_servers: [leads, follows]
    mlflow_switch_environment: "{{ place }}/%(new)s"
  tasks:
    - ansible.builtin.set_fact:
        __mlflow_switch_found:
          serves: %(old)s
          databases: [{kind: tracking}]
          readable: [tracking]
          old: []
          installation: {unit: mlflow.service, user: mlflow, settings: "{{ place }}/server.env",
                         secrets: "{{ place }}/secrets.env", environment: "{{ place }}/current"}
    - ansible.builtin.include_role: {name: mlflow_switch, tasks_from: switch}
- hosts: all
  gather_facts: false
  vars: *vars
  tasks:
    - ansible.builtin.include_role: {name: mlflow_switch, tasks_from: confirm}
"""


@pytest.mark.parametrize("objection", ["", "It is too new."])
def test_the_role_leads_them_through(
    pair: Pair, did: Callable[[], list[str]], tmp_path: Path, objection: str
) -> None:
    """To the end, or back, and says how that was."""
    for server in pair:
        (server.place / "state/plan.json").unlink()
        (server.place / "programs").mkdir()
        before = f"import sys\nsys.path.insert(0, {str(ROOT / 'src')!r})\nasked = sys.argv[1:]\n"
        before += f"sys.argv = ['', {str(server.place)!r}, {str(server.log)!r}, '0', '']\n"
        work = SERVER.rpartition('sys.argv = ["rollout", "run"]')[0]
        (server.place / "programs/__main__.py").write_text(before + work + PROGRAMS)
    (tmp_path / "playbook.yml").write_text(PLAYBOOK % {"old": OLD, "new": NEW})
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {one.place.name: {**here, "place": str(one.place)} for one in pair[::-1]}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    extra = {
        "__mlflow_switch_tools": "{{ place }}/programs", "__mlflow_switch_state_dir": "{{ place }}",
        "mlflow_switch_objection": objection,
    }  # fmt: skip
    done = subprocess.run(
        ["ansible-playbook", "--forks=1", "--inventory", tmp_path / "hosts.yml",
         tmp_path / "playbook.yml", "--extra-vars", json.dumps(extra)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    phases = [server.state()["phase"] for server in pair]
    if not objection:
        assert done.returncode == 0, done.stdout
        assert phases == ["confirmed", "confirmed"]
        assert did()[-2:] == ["leads: start " + NEW, "follows: start " + NEW]
        return
    assert done.returncode == 2, done.stdout
    assert phases == ["put back", "put back"]
    said = " ".join(done.stdout.split())
    assert "on trial: It is too new. The old version serves the old data again." in said
    assert "The server that leads has put it back. The old version serves" in said
    assert [line for line in did() if line.startswith("follows")] == [
        "follows: stop " + OLD, "follows: start " + OLD,
    ]  # fmt: skip
