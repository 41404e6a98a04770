"""The switch's way forward and back: which steps, in which order, wherever it is cut off."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from disk import settled

from mlflow_ops import installation, lock, rollout
from mlflow_ops.artifacts import NEW as NEW_ONES
from mlflow_ops.there import ASIDE

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_switch"
OLD, NEW = "2.22.5-aaaa", "3.17.2-bbbb"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's state is below a directory of the test's own."""
    for name in ("STATE", "MARKS"):
        monkeypatch.setattr(rollout, name, tmp_path / name)
        (tmp_path / name).mkdir()
    monkeypatch.setattr(lock, "SWITCH", tmp_path / "STATE")
    monkeypatch.setattr(rollout, "PUT_BACK_PATIENCE", 0)
    monkeypatch.setattr(rollout, "ASK_AGAIN", 0.05)
    monkeypatch.setattr(shutil, "chown", lambda *_: None)
    (tmp_path / "secrets.env").write_text("old")
    (tmp_path / "server.env").write_text('MLFLOW_BACKEND_STORE_URI="sqlite:////x.db"\n')


class Host:
    """A host on which commands only happen in a list, until one of them does not work."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.breaks = ""
        self.did: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.link = tmp_path / "current"
        self.link.symlink_to(OLD)
        self.values: dict[str, Any] = {
            "unit": "mlflow.service", "user": "mlflow", "settings": str(tmp_path / "server.env"),
            "link": str(self.link), "old": OLD, "new": NEW, "change": [["migrate"]],
            "token": "mine", "leader": True, "together": False,
            "artifacts": "", "objects": "", "files": {}, "saved": str(tmp_path / "saved"),
            "keys": str(tmp_path / "secrets.env"), "must_save": ["tracking", "auth"], "unread": [],
            "remove": [],
            "patience": "0.2",  # as --extra-vars says it
            "marks": ["stop", "change"], "path": "",
        }  # fmt: skip
        monkeypatch.setattr(rollout, "command", self.command)

    def command(self, *words: str | Path, **_: Any) -> str:
        said = [str(word) for word in words]
        if said[0] == "runuser":
            environment, verb = Path(said[5]).parents[1].name, said[9]
            what = f"{verb} by {environment}"
        elif said[0] == "systemctl" and said[1] in ("start", "stop"):
            what = f"{said[1]} {self.link.readlink()}"
        else:
            return ""
        self.did.append(what)
        if self.breaks and what == self.breaks:
            self.breaks = ""
            raise rollout.Failed(f"{what} is broken")
        if what.startswith("save"):
            Path(said[10], "manifest.json").write_text(what)
        self.words[what] = said[9:]
        return ""

    def run(self, phase: str = "begun", **state: Any) -> dict[str, Any]:
        """Have the program do what its service does; return how it ended."""
        (rollout.STATE / "plan.json").write_text(json.dumps(self.values))
        begun = {"phase": phase, "saved": self.values["saved"], **state}
        rollout.Switch(rollout.Plan(self.values), begun).run()
        return dict(json.loads((rollout.STATE / "state.json").read_text()))


@pytest.fixture
def host(state: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


FORWARD = [f"stop {OLD}", f"save by {OLD}", f"migrate by {NEW}", f"start {NEW}"]


def test_all_is_well(host: Host) -> None:
    """It ends with the new version, and nothing that says it were on trial."""
    host.values["marks"] = ["stop", "change", "confirm"]
    assert host.run()["phase"] == "confirmed"
    assert host.did == FORWARD
    assert host.link.readlink().name == NEW
    assert not (rollout.STATE / "plan.json").exists()
    assert not host.link.with_name(".on-trial").exists()


BACK = [f"load by {OLD}", f"start {OLD}"]
BREAKS = {
    f"stop {OLD}": [f"stop {OLD}", f"stop {OLD}", f"start {OLD}"],
    f"save by {OLD}": [*FORWARD[:2], f"stop {OLD}", f"start {OLD}"],
    f"migrate by {NEW}": [*FORWARD[:3], f"stop {OLD}", *BACK],
    f"start {NEW}": [*FORWARD, f"stop {NEW}", f"save by {NEW}", *BACK],
}


@pytest.mark.parametrize("step", BREAKS)
def test_a_step_breaks(host: Host, step: str) -> None:
    """What was not begun need not be put back; what was, is, and before the old version starts."""
    host.breaks = step
    ended = host.run()
    assert ended["phase"] == "put back"
    assert f"{step} is broken" in ended["error"]
    assert host.did == BREAKS[step]
    assert host.link.readlink().name == OLD


def test_what_nobody_foresaw_is_put_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it matter what a program says, and in which letters."""
    real = rollout.command

    def strange(*words: str | Path, **options: Any) -> str:
        if "migrate" in words:
            raise KeyError("databases")
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", strange)
    ended = host.run()
    assert (ended["phase"], ended["error"]) == ("put back", "KeyError('databases')")
    assert host.did[-2:] == BACK
    monkeypatch.undo()
    assert rollout.command("printf", "caf\\351") == "caf\ufffd"


def test_nobody_says_that_it_is_well(host: Host) -> None:
    """What was logged on trial is saved before the old data comes back."""
    ended = host.run()
    assert (ended["phase"], ended["failed"]) == ("put back", "serving")
    assert "Nobody said" in ended["error"]
    assert host.did == [*FORWARD, f"stop {NEW}", f"save by {NEW}", *BACK]


@pytest.mark.parametrize("phase", ["changing", "starting", "serving"])
def test_the_host_boots_in_the_middle(host: Host, phase: str) -> None:
    rollout.MARKS.rmdir()  # /run is empty after a boot
    host.link.unlink()
    host.link.symlink_to(OLD if phase == "changing" else NEW)
    Path(host.values["saved"]).mkdir()
    assert host.run(phase)["phase"] == "put back"
    assert host.did[-2:] == BACK
    assert host.link.readlink().name == OLD


def test_the_databases_are_up_later_than_this_host(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut all boot at once. It is not stuck for that."""
    monkeypatch.setattr(rollout, "PUT_BACK_PATIENCE", 5)
    rollout.MARKS.rmdir()
    host.breaks = f"load by {OLD}"
    Path(host.values["saved"]).mkdir()
    assert host.run("changing")["phase"] == "put back"
    assert host.did == [f"stop {OLD}", f"load by {OLD}", *BACK]


def test_what_came_meanwhile_is_kept_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """People reach the new version before it is ready. A second try would have the old data."""
    host.breaks = f"start {NEW}"
    real = host.command

    def does_not_start(*words: str | Path, **options: Any) -> str:
        if words[:2] == ("systemctl", "start") and host.link.readlink().name == OLD:
            raise rollout.Failed("no such luck")
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", does_not_start)
    with pytest.raises(SystemExit, match="no such luck"):
        host.run()
    assert host.did[-2:] == [f"save by {NEW}", f"load by {OLD}"]
    state = json.loads((rollout.STATE / "state.json").read_text())
    assert state["came"]
    monkeypatch.setattr(rollout, "command", real)
    host.did.clear()
    assert host.run(**state)["phase"] == "put back"
    assert host.did == [f"start {OLD}"]  # which may have been served, and written to, in between


def test_a_load_that_was_cut_off_is_not_what_came_meanwhile(host: Host) -> None:
    """It may have brought one of two databases."""
    host.breaks = f"load by {OLD}"
    with pytest.raises(SystemExit, match="is broken"):
        host.run()
    state = json.loads((rollout.STATE / "state.json").read_text())
    assert state["came"]
    host.did.clear()
    assert host.run(**state)["phase"] == "put back"
    assert host.did == [f"stop {NEW}", *BACK]


def test_nothing_is_loaded_over_what_came_and_could_not_be_kept(host: Host) -> None:
    """A full disk, say: it is tried again."""
    host.breaks = f"save by {NEW}"
    with pytest.raises(SystemExit, match="is broken"):
        host.run()
    assert f"load by {OLD}" not in host.did
    state = json.loads((rollout.STATE / "state.json").read_text())
    assert host.run(**state)["phase"] == "put back"
    assert host.did[-4:] == [f"stop {NEW}", f"save by {NEW}", *BACK]


def test_no_service_starts_while_the_data_is_nobody_s(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a boot, when systemd starts both the service and the switch."""
    real, seen = host.command, list[bool]()

    def notes(*words: str | Path, **options: Any) -> str:
        said = real(*words, **options)
        if len(host.did) > len(seen):
            seen.append(bool(rollout.closed()))
        return said

    monkeypatch.setattr(rollout, "command", notes)
    host.run()
    closed = dict(zip(host.did, seen, strict=True))
    assert closed == {what: not what.startswith("start") for what in host.did}
    assert rollout.closed() == ""


def test_who_is_at_work_on_the_data_is_waited_for(host: Host) -> None:
    """A backup, say. Before anything is stopped, and no longer than is said."""
    directory = os.open(Path(host.values["settings"]).parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    ended = host.run()
    assert (ended["phase"], ended["failed"]) == ("put back", "begun")
    assert "A backup" in ended["error"] and host.did == []
    host.values["patience"] = 5
    threading.Timer(0.5, os.close, [directory]).start()
    host.values["marks"] += ["confirm"]
    assert host.run()["phase"] == "confirmed"


def test_nobody_else_works_on_the_data_meanwhile(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor after the host died, until what was begun is put back."""
    settings = Path(host.values["settings"]).parent
    monkeypatch.setattr(installation, "read", lambda: SimpleNamespace(config_dir=settings))
    real, seen = host.command, []

    def looks(*words: str | Path, **options: Any) -> str:
        with pytest.raises(lock.Held) as held, lock.data_lock(0):
            pass
        seen.append(str(held.value))
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", looks)
    host.run()
    assert seen and all("has the data" in words for words in seen)
    with lock.data_lock(0):
        pass
    (rollout.STATE / "plan.json").touch()
    with pytest.raises(lock.Held, match="is not finished"), lock.data_lock(0):
        pass


@pytest.mark.usefixtures("state")
def test_the_words_of_another_run_are_not_heard() -> None:
    """Of one that came in between the look and the start, or after its own was put back."""
    rollout.write(rollout.STATE / "state.json", {"phase": "serving", "token": "mine"})
    rollout.write(rollout.STATE / "plan.json", {"token": "mine"})
    for word in ("abort", "confirm"):
        with pytest.raises(SystemExit, match="Another run"):
            rollout.go(word, "", "another")
    assert not [*rollout.MARKS.iterdir()]
    with pytest.raises(SystemExit, match="Another run"):
        rollout.wait("another")
    rollout.go("confirm", "", "mine")
    assert (rollout.MARKS / "confirm").exists()


@pytest.mark.usefixtures("state")
def test_what_another_has_begun_is_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the middle of its smoke: nobody calls it off."""
    did: list[str] = []
    ended = threading.Event()
    monkeypatch.setattr(subprocess, "call", lambda *_: 3 if ended.is_set() else 0)
    monkeypatch.setattr(rollout, "command", lambda *words: did.append(" ".join(words)))
    rollout.write(rollout.STATE / "state.json", {"phase": "serving", "token": "mine"})
    rollout.write(rollout.STATE / "plan.json", {"token": "mine"})

    def end() -> None:
        rollout.write(rollout.STATE / "state.json", {"phase": "confirmed", "token": "mine"})
        ended.set()

    threading.Timer(0.5, end).start()
    rollout.finish()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["phase"] == "confirmed"
    assert did == [f"systemctl start {rollout.UNIT}"]  # which does nothing where it runs
    assert not [*rollout.MARKS.iterdir()]


def test_the_host_boots_before_anything_was_done(host: Host) -> None:
    """Nobody waits for it any more: it does not begin then."""
    rollout.MARKS.rmdir()
    assert host.run()["phase"] == "put back"
    assert host.did == []


def test_the_way_back_breaks(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart, nothing is forgotten, and the next try begins where it must."""
    host.breaks = f"start {NEW}"
    real = host.command

    def load_fails(*words: str | Path, **options: Any) -> str:
        if "load" in [str(word) for word in words]:
            raise rollout.Failed("no database")
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", load_fails)
    with pytest.raises(SystemExit, match="no database"):
        host.run()
    state = json.loads((rollout.STATE / "state.json").read_text())
    assert state["phase"] == "stuck"
    assert host.link.with_name(".on-trial").exists()
    monkeypatch.setattr(rollout, "command", real)
    assert host.run(**state)["phase"] == "put back"
    assert host.did[-2:] == BACK


def test_a_full_disk_keeps_nobody_from_going_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    host.breaks = f"migrate by {NEW}"
    write = rollout.write
    real = host.command

    def fills_up(*words: str | Path, **options: Any) -> str:
        if "migrate" in [str(word) for word in words]:
            monkeypatch.setattr(rollout, "write", full)
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", fills_up)
    (rollout.STATE / "state.json").write_text("{}")
    host.run()
    monkeypatch.setattr(rollout, "write", write)
    assert host.did[-2:] == BACK
    assert host.link.readlink().name == OLD


def test_other_data(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts and files change with the databases, and come back with them."""
    artifacts, secrets = tmp_path / "artifacts", tmp_path / "secrets.env"
    for place, text in ((artifacts, "old"), (artifacts / ASIDE / NEW_ONES, "new")):
        place.mkdir(parents=True)
        (place / "model").write_text(text)
    secrets.write_text("old")
    (tmp_path / "secrets.new").write_text("new")
    host.values |= {
        "new": OLD, "change": [["load", "/a-set"], ["migrate"]], "artifacts": str(artifacts),
        "files": {str(secrets): str(tmp_path / "secrets.new")},
    }  # fmt: skip
    seen: list[str] = []
    real = host.command

    def looks(*words: str | Path, **options: Any) -> str:
        if words[:2] == ("systemctl", "start"):
            seen.append((artifacts / "model").read_text() + secrets.read_text())
        if "artifacts" in words:  # as whoever runs the test
            subprocess.run(["python3", *words[words.index("-Es") :]], check=True)
            return ""
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", looks)
    ended = host.run()
    assert seen == ["newnew", "oldold"]
    # What people logged on trial is among the new ones: the next restore must not remove them.
    kept = artifacts / ASIDE / f"{Path(host.values['saved']).name}.came-meanwhile"
    assert (kept / "model").read_text() == "new"
    assert not (artifacts / ASIDE / NEW_ONES).exists()
    assert f"its artifacts in {kept}" in ended["outcome"]
    saved = Path(host.values["saved"])
    keys = [(saved / f"{name}.env").read_text() for name in ("secrets", "came-meanwhile")]
    assert keys == ["old", "new"], "what was saved, and what came meanwhile, have each their own"


def test_objects_are_exchanged_and_come_back(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the very steps in which the databases change."""
    host.values["objects"] = "/a-set"
    kept, real = f"{host.values['saved']}/objects", host.command

    def exchanges(*words: str | Path, **options: Any) -> str:
        if "backup-bucket" in words:
            host.did.append(" ".join(map(str, words[words.index("backup-bucket") + 1 :])))
            Path(kept).mkdir(exist_ok=True)
        return real(*words, **options)

    monkeypatch.setattr(rollout, "command", exchanges)
    assert host.run()["phase"] == "put back"
    assert host.did == [
        *FORWARD[:3], f"exchange /a-set {kept}", FORWARD[3], f"stop {NEW}", f"save by {NEW}",
        BACK[0], f"back {kept}", BACK[1],
    ]  # fmt: skip


def test_a_file_s_content_is_taken_from_a_file_of_root_s_alone(host: Host, tmp_path: Path) -> None:
    """Whoever controls the keys' file is root: what came in by a link is not taken."""
    (tmp_path / "secrets.env").write_text("old")
    (tmp_path / "elsewhere").write_text("LD_PRELOAD=/var/lib/mlflow/x.so")
    (tmp_path / "secrets.new").symlink_to(tmp_path / "elsewhere")
    host.values["files"] = {str(tmp_path / "secrets.env"): str(tmp_path / "secrets.new")}
    ended = host.run()
    assert (ended["phase"], ended["failed"]) == ("put back", "changing")
    assert "secrets.new cannot be read" in ended["error"]
    assert (tmp_path / "secrets.env").read_text() == "old"


def test_what_can_be_read_is_saved_or_nothing_changes(host: Host) -> None:
    """A restore's server may not work, and the users' database be gone: the other is saved."""
    host.values |= {"must_save": ["tracking"], "unread": ["auth"], "change": [["load", "/a-set"]]}
    host.breaks = f"save by {OLD}"
    ended = host.run()
    assert (ended["phase"], ended["failed"]) == ("put back", "saving")
    assert ended["outcome"] == "The old version serves the old data again."
    assert host.did == [*FORWARD[:2], f"stop {OLD}", f"start {OLD}"]
    host.did.clear()
    ended = host.run()
    assert host.words[f"load by {OLD}"][2:] == ["--only", "tracking"]
    assert "old data again, but for auth, which could not be read before." in ended["outcome"]


def test_what_could_not_be_read_has_no_way_back(host: Host) -> None:
    """Nobody is asked to load what was not saved, nor told that it was."""
    host.values |= {"must_save": [], "unread": ["tracking"]}
    host.breaks = f"save by {OLD}"
    ended = host.run()
    assert host.did == [*FORWARD, f"stop {NEW}", f"start {OLD}"]
    assert "what was left in the databases" in ended["outcome"] and not ended["kept"]
    host.did.clear()
    ended = host.run()  # it could be read after all
    assert ended["outcome"].startswith("The old version serves the old data again. ")
    assert host.did[-2:] == BACK


def test_what_came_meanwhile_is_kept_or_it_does_not_go_back(host: Host) -> None:
    """And once the old data is back, it is not saved as what came."""
    host.breaks = f"save by {NEW}"
    with pytest.raises(SystemExit, match="save by"):
        host.run()
    state = json.loads((rollout.STATE / "state.json").read_text())
    assert (state["phase"], state["kept"]) == ("stuck", True)
    host.breaks, host.did = f"load by {OLD}", []
    with pytest.raises(SystemExit, match="load by"):
        host.run(**state)
    state = json.loads((rollout.STATE / "state.json").read_text())
    host.did = []
    ended = host.run(**state)
    assert host.did == [f"stop {NEW}", *BACK]
    assert f"is kept in {host.values['saved']}/came-meanwhile." in ended["outcome"]


def test_keys_are_saved_with_what_they_open(host: Host, tmp_path: Path) -> None:
    """They may be rotated before somebody restores it."""
    host.values["marks"] = ["stop", "change", "confirm"]
    host.run()
    assert (tmp_path / "saved/secrets.env").read_text() == "old"


def test_keys_that_a_full_disk_does_not_hold_stay_what_they_were(
    host: Host, tmp_path: Path
) -> None:
    """Half of them is not what the way back brings back."""
    keys, size = tmp_path / "secrets.env", 1 << 14
    keys.write_text("k" * size)
    (tmp_path / "secrets.new").write_text("new")
    host.values["files"] = {str(keys): str(tmp_path / "secrets.new")}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        ended = host.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (ended["phase"], ended["failed"]) == ("put back", "changing")
    assert len(keys.read_text()) == size


def test_what_the_way_back_needs_is_on_the_disk_before_it_is_needed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power may be cut right after a step: the state, and the old keys, are there then."""
    (tmp_path / "secrets.new").write_text("new")
    host.values["files"] = {str(tmp_path / "secrets.env"): str(tmp_path / "secrets.new")}
    seen = settled(monkeypatch)
    host.run()
    changing = [name for name in seen if not name.startswith(("state", "STATE"))]
    assert changing[:4] == ["secrets.env.new", "saved", "secrets.env.new", tmp_path.name]
    assert seen.count("state.json.new") == seen.count("STATE")


@pytest.mark.parametrize("saved", [True, False])
def test_what_is_old_goes_when_there_is_a_newer_way_back(
    host: Host, tmp_path: Path, saved: bool
) -> None:
    (tmp_path / "old/databases").mkdir(parents=True)
    host.values |= {
        "marks": ["stop", "change", "confirm"], "remove": [str(tmp_path / "old")],
        "must_save": ["tracking"] if saved else [],
    }  # fmt: skip
    host.breaks = "" if saved else f"save by {OLD}"
    assert host.run()["phase"] == "confirmed"
    assert (tmp_path / "old").exists() == (not saved)
    # The host died in between, when the word had been given.
    (tmp_path / "old").mkdir(exist_ok=True)
    assert host.run("serving", sure=True)["phase"] == "confirmed"
    assert (tmp_path / "old").exists() == (not saved)


@pytest.mark.usefixtures("state")
def test_waiting_and_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits is told at the next point that needs a word, and not before."""
    (rollout.STATE / "plan.json").write_text(json.dumps({"marks": ["change"]}))
    ended = threading.Event()
    monkeypatch.setattr(subprocess, "call", lambda *_: 3 if ended.is_set() else 0)

    def tell(phase: str) -> None:
        rollout.write(rollout.STATE / "state.json", {"phase": phase})

    tell("stopped")  # which needs no word here
    later = threading.Timer(0.3, tell, ["serving"])
    later.start()
    rollout.wait("")
    assert json.loads(capsys.readouterr().out)["phase"] == "serving"

    def end() -> None:
        tell("confirmed")
        ended.set()

    rollout.go("confirm", "", "")
    (rollout.STATE / "plan.json").unlink()  # it is over, and not yet written down how
    threading.Timer(0.3, end).start()
    rollout.wait("")
    assert json.loads(capsys.readouterr().out)["phase"] == "confirmed"


def said(tmp_path: Path, file: str, name: str, **variables: Any) -> str:
    """Return what a task that stops a playbook says, each run of space as one."""
    tasks = yaml.safe_load((ROOT / file).read_text())
    play = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [f"{ROLE}/{kind}/main.yml" for kind in ("defaults", "vars")],
        "tasks": [task for task in tasks if task["name"] == name],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (tmp_path / "variables.json").write_text(json.dumps(variables))
    command = ["ansible-playbook", "--inventory=localhost,", f"{tmp_path}/playbook.yml"]
    done = subprocess.run(
        [*command, f"--extra-vars=@{tmp_path}/variables.json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return " ".join(done.stdout.replace("\\n", " ").split())


MANIFEST = {
    "host": "team1", "taken": "2026-11-24T02:30:08Z", "mlflow": "3.17.2",
    "databases": {"tracking": {"counts": {"runs": 5}}},
}  # fmt: skip
# What cannot be read, words of the question, and words that must not be there.
UNREAD = {
    "all can be read": ("", ["localhost has (runs 7)"], ["NO WAY BACK"]),
    "one cannot": (
        "auth database: file is not a database",
        ["THERE WILL BE NO WAY BACK to it: auth database: file is not a database",
         "Say -e mlflow_restore_no_way_back=localhost"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
def test_who_restores_is_told_that_there_is_no_way_back(tmp_path: Path, case: str) -> None:
    """And where all can be read, nothing of it: then it is saved, or nothing changes."""
    unread, there, absent = UNREAD[case]
    words = said(
        tmp_path, "playbooks/tasks/restore_plan.yml",
        "Ask for the word, and see that this MLflow can read it", restore_manifest=MANIFEST,
        restore_has={"tracking": {"runs": 7}}, __count={"problem": ""}, mlflow_version="3.17.2",
        mlflow_switch_unread=unread,
    )  # fmt: skip
    assert all(word in words for word in [*there, "Say -e mlflow_restore_confirm"]), words
    assert not any(word in words for word in absent), words
    words = said(
        tmp_path, "playbooks/tasks/restore_plan.yml",
        "Ask for the word, and see that this MLflow can read it", restore_manifest=MANIFEST,
        restore_has={"tracking": {"runs": 7}}, __count={"problem": ""}, mlflow_version="3.17.2",
        mlflow_switch_unread=unread, mlflow_restore_confirm="localhost",
    )  # fmt: skip
    assert ("THERE WILL BE NO WAY BACK" in words) == bool(unread), "one word is not the other"


FOUND = {
    "databases": [{"kind": "tracking", "state": "current", "revision": "a", "bytes": 1},
                  {"kind": "auth", "state": "unreachable", "error": "no such file"}],
    "readable": ["tracking"], "irreplaceable": "", "ready": "", "free_mb": 9999, "old": [],
    "postgresql_client": 15, "serves": OLD,
    "installation": {"unit": "mlflow.service", "user": "mlflow"},
}  # fmt: skip
# What was found otherwise, variables, and what preflight says of it.
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "what cannot be read is not left behind": (
        {}, {}, "The databases of MLflow on localhost cannot be read by mlflow: no such file"),
    "but by a restore": ({}, {"mlflow_switch_from_broken": True}, ""),
    "what could not be loaded again": (
        {"irreplaceable": "others lean on it: view bi.runs"}, {"mlflow_switch_from_broken": True},
        "there would be no way back: others lean on it: view bi.runs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_way_back_is_refused(tmp_path: Path, case: str) -> None:
    found, variables, sentence = REFUSED[case]
    words = said(
        tmp_path, "roles/mlflow_switch/tasks/preflight.yml", "Preflight | Check the host",
        __mlflow_switch_found={**FOUND, **found}, mlflow_switch_environment=f"/opt/mlflow/{NEW}",
        **variables,
    )  # fmt: skip
    assert sentence in words and ("Nothing was changed" in words) == bool(sentence), words


# How it ended, whether this host leads, and what is said: nothing that this host has not seen.
ENDINGS: dict[str, tuple[dict[str, Any], str, list[str], list[str]]] = {
    "put back": (
        {"phase": "put back", "outcome": "The old version serves the old data again."},
        "localhost", ["serves the old data again."], ["came-meanwhile", "says"]),
    "another leads": (
        {"phase": "put back", "outcome": "The old version serves again."},
        "server1", ["serves again. What it serves, server1 says."], ["old data"]),
    "stuck": ({"phase": "stuck", "kept": True, "saved": "/var/x"}, "localhost",
              ["The old data is in /var/x."], []),
    "stuck, and nothing was saved": ({"phase": "stuck", "kept": False, "saved": "/var/x"},
                                     "localhost", ["by itself. When"], ["/var/x"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_what_is_said_was_seen(tmp_path: Path, case: str) -> None:
    answer, leader, there, absent = ENDINGS[case]
    words = said(
        tmp_path, "roles/mlflow_switch/tasks/put_back.yml",
        "Put_back | Say what failed, and what serves now", __mlflow_switch_found=FOUND,
        mlflow_switch_environment=f"/opt/mlflow/{NEW}", mlflow_switch_servers=[leader],
        __mlflow_switch_said={"answer": {"failed": "serving", "error": "No.", **answer}},
    )  # fmt: skip
    assert all(word in words for word in there), words
    assert not any(word in words for word in absent), words


# So many that no order comes out by chance.
NAMES = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"]
IN_ANOTHER_ORDER = f"""
- hosts: mlflow_servers
  order: reverse_inventory
  gather_facts: false
  tasks:
    - ansible.builtin.group_by:
        key: mlflow_switching
- hosts: first
  gather_facts: false
  vars_files: ["{ROOT}/playbooks/vars/operations.yml"]
  tasks:
    - ansible.builtin.assert:
        that: mlflow_switch_servers == {NAMES} and groups['mlflow_switching'] != {NAMES}
"""


def test_who_leads_is_the_same_before_and_after_it_is_known_who_takes_part(tmp_path: Path) -> None:
    """Or a restore is planned on one server, and another leads, which has no plan: none is done."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(IN_ANOTHER_ORDER)
    hosts = tmp_path / "hosts"
    hosts.write_text("\n".join(["[mlflow_servers]", *NAMES]))
    command = ["ansible-playbook", "--forks=1", f"--inventory={hosts}", str(playbook)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
