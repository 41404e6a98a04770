"""Move this host's MLflow to another version, or to other data, with a way back.

  start     begin what the plan on standard input says (JSON, see Plan), in mlflow-switch.service
  go MARK   pass a point at which it waits: change, start, confirm; or: abort
  wait      until it waits at a point, or has ended; print its state (JSON)
  run       what the service does, and what it does at boot when the host died meanwhile: put back

It runs on the host, away from whoever began it: when that connection breaks, it goes on. The
steps: stop the service; save its databases; change them; point `current` to the environment; start
and see that it is ready; wait for the word that all is well. Whatever fails, and when no word comes
within the plan's patience, everything is put back: the old version serves the old data.

Each phase is written down before it begins, so that at any time it is known what to put back.
Nothing but the standard library is used; Python 3.9 or later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import program
from .host import units
from .settings import read_file
from .view import root_alone

STATE = Path("/var/lib/mlflow-switch")  # plan.json, state.json, and what was saved
MARKS = Path("/run/mlflow-switch")
UNIT = "mlflow-switch.service"

# In order; what comes after one was not begun while it lasts.
PHASES = ["begun", "stopping", "stopped", "saving", "changing", "changed", "starting", "serving"]
ENDED = ["confirmed", "put back", "stuck"]
PATIENCE = 1800  # seconds that the controller waits for a point
PUT_BACK_PATIENCE = 600  # seconds that the old version may take to start: another server may have
# to put the database back first


class Failed(Exception):
    """A step did not work; the message says why."""


class Plan:
    """What is to be done.

    Attributes:
        unit: the service.
        user: whom it runs as.
        settings: its environment file.
        link: `current`, which leads to an environment.
        old, new: the environments' names beside the link; the same where only data changes.
        leader: whether this host changes the databases; of several servers, one does.
        change: what happens to them, in order: verbs of `database`, with their arguments.
        artifacts: a directory whose content is replaced by that of `<directory>.new`, or ''.
        files: for each file the one whose content it gets, both where root alone writes.
        saved: a directory to be made: what is saved is below it.
        must_save: whether it ends where they cannot be saved; else there is no way back for them.
        patience: seconds to wait at each point for a word.
        marks: points that need no word.
        path: a directory of PostgreSQL's programs, before those of the host; or ''.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.unit: str = values["unit"]
        self.user: str = values["user"]
        self.settings = Path(values["settings"])
        self.link = Path(values["link"])
        self.old: str = values["old"]
        self.new: str = values["new"]
        self.leader: bool = values["leader"]
        self.change: list[list[str]] = values["change"]
        self.artifacts: str = values["artifacts"]
        self.files: dict[str, str] = values["files"]
        self.saved = Path(values["saved"])
        self.must_save: bool = values["must_save"]
        self.patience: float = values["patience"]
        self.marks: list[str] = values["marks"]
        self.path = os.pathsep.join(filter(None, [values["path"], os.environ["PATH"]]))

    @property
    def trial(self) -> Path:
        """A file that is there while it is not sure that `current` stays where it is."""
        return self.link.with_name(".on-trial")

    @property
    def databases(self) -> Path:
        """Where the databases are saved: the service's user's own, below what is root's."""
        return self.saved / "databases"

    @property
    def old_artifacts(self) -> Path:
        """Where artifacts that are replaced go: beside them, since a directory is renamed."""
        return Path(f"{self.artifacts}.before-{self.saved.name}")


def write(file: Path, values: dict[str, Any]) -> None:
    """Write JSON so that it is there whole, or not at all, whatever happens to the host."""
    fresh = file.with_name(file.name + ".new")
    with fresh.open("w") as content:
        json.dump(values, content)
        content.flush()
        os.fsync(content.fileno())
    fresh.rename(file)


def read(file: Path) -> dict[str, Any]:
    """Return what a JSON file says, nothing where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return dict(json.loads(file.read_text()))
    return {}


def put(file: Path, source: Path) -> None:
    """Give a file another one's content, all of it or nothing; owner and mode stay."""
    fresh, status = file.with_name(file.name + ".new"), file.stat()
    fresh.unlink(missing_ok=True)
    made = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as new, open_own(source) as content:
        os.fchown(made, status.st_uid, status.st_gid)
        os.fchmod(made, stat.S_IMODE(status.st_mode))
        shutil.copyfileobj(content, new)
        new.flush()
        os.fsync(made)
    fresh.rename(file)


def open_own(path: Path) -> BinaryIO:
    """Open a file of root's. Raises Failed for a link, or a file of somebody else's."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}.") from error
    status = os.fstat(file.fileno())
    if status.st_uid not in (0, os.geteuid()) or not stat.S_ISREG(status.st_mode):
        file.close()
        raise Failed(f"{path} is no file of root's.")
    return file


def command(*words: str | Path, **options: Any) -> str:
    """Run a command to its end and return what it says. Raises Failed with its last words."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    print(done.stdout, end="", flush=True)  # into the journal
    if done.returncode:
        raise Failed("\n".join(done.stdout.strip().splitlines()[-8:]))
    return str(done.stdout)


class Switch:
    """A plan, and how far it has come."""

    def __init__(self, plan: Plan, state: dict[str, Any]) -> None:
        self.plan, self.state = plan, state

    def enter(self, phase: str, **more: Any) -> None:
        """Write down what begins now. Raises OSError where that cannot be, but on the way back."""
        self.state |= {"phase": phase, **more}
        print(f"--- {phase}", flush=True)
        try:
            write(STATE / "state.json", self.state)
        except OSError:
            if "last" not in self.state:
                raise  # a full disk must keep nobody from going back

    def reached(self, phase: str) -> bool:
        """Whether a phase was begun, before things went wrong."""
        return PHASES.index(self.state["last"]) >= PHASES.index(phase)

    def database(self, environment: str, *words: str) -> None:
        """Have a version of MLflow do something with the databases, as the service's user."""
        python = self.plan.link.with_name(environment) / "bin/python"
        as_user = ["runuser", f"--user={self.plan.user}", "--", "env", "--chdir=/"]
        home = {"HOME": "/nonexistent", "PATH": self.plan.path, "PYTHONDONTWRITEBYTECODE": "1"}
        command(
            *as_user, *program(python, "database", *words),
            env={**home, **read_file(self.plan.settings)},
        )  # fmt: skip

    def await_word(self, mark: str) -> None:
        """Wait at a point. Raises Failed when the word is another one, or none comes."""
        began, file = time.monotonic(), MARKS / mark
        while not (file.exists() or mark in self.plan.marks):
            if (MARKS / "abort").exists():
                raise Failed((MARKS / "abort").read_text())
            if time.monotonic() - began > self.plan.patience:
                raise Failed(f"Nobody said within {self.plan.patience:.0f} s that it may go on.")
            time.sleep(0.1)

    def systemctl(self, verb: str) -> None:
        """Start or stop the service. Raises Failed with what it said."""
        command("systemctl", "reset-failed", self.plan.unit)
        try:
            command("systemctl", verb, self.plan.unit)
        except Failed as error:
            start = units.ask(self.plan.unit, "InvocationID")["InvocationID"]
            read = "journalctl --quiet --no-pager --output=cat"
            read += f" _SYSTEMD_INVOCATION_ID={start}"
            # What readiness missed comes first: a server says much after it.
            both = f"{read} --lines=1 --grep=^mlflow-ready:; {read} --lines=30"
            raise Failed(command("sh", "-c", both).strip() or str(error)) from error

    def point(self, environment: str) -> None:
        """Let `current` lead to an environment."""
        fresh = self.plan.link.with_name(".current.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(environment)
        fresh.rename(self.plan.link)

    def replace_files(self) -> None:
        """Give files their new content, and keep the old."""
        for number, (file, source) in enumerate(self.plan.files.items()):
            shutil.copy2(file, self.plan.saved / f"file-{number}")
            put(Path(file), Path(source))

    def replace_artifacts(self) -> None:
        """Put other artifacts in the place of those that are there."""
        self.move(Path(self.plan.artifacts), self.plan.old_artifacts)
        self.move(Path(self.plan.artifacts + ".new"), Path(self.plan.artifacts))

    def move(self, source: Path, target: Path) -> None:
        """Rename a directory of artifacts. Where that is the service's user's, she does it."""
        if root_alone(source):
            source.rename(target)
        else:
            become = ["runuser", f"--user={self.plan.user}", "--"]
            command(*become, "mv", "--no-target-directory", "--", source, target, cwd="/")

    def go_forward(self) -> None:
        """Do all steps. Raises Failed at the first that does not work."""
        plan = self.plan
        plan.trial.touch()
        self.enter("stopping", stopped_at=time.time())
        self.systemctl("stop")
        self.enter("stopped")
        self.await_word("change")
        if plan.leader:
            self.enter("saving")
            self.save(plan.old, plan.databases, must=plan.must_save)
            self.enter("changing")
            self.replace_files()
            for words in plan.change:
                self.database(plan.new, *words)
            if plan.artifacts:
                self.replace_artifacts()
        self.enter("changed")
        self.await_word("start")
        self.enter("starting")
        self.point(plan.new)
        self.systemctl("start")
        self.enter("serving", outage=round(time.time() - self.state["stopped_at"], 1))
        self.await_word("confirm")

    def go_back(self, why: str) -> None:
        """Put everything back as it was. Raises Failed where that does not work."""
        plan = self.plan
        # `last`: how far it had come, whatever happens to the way back.
        self.state.setdefault("last", self.state["phase"])
        self.enter("putting back", failed=self.state["last"], error=why.strip())
        if not self.reached("stopping"):
            return
        self.systemctl("stop")
        if self.reached("changing") and plan.leader:
            if self.reached("serving"):  # what the new version wrote is not in the old data
                self.save(plan.new, plan.saved / "came-meanwhile")
            if plan.must_save or (plan.databases / "manifest.json").exists():
                self.database(plan.old, "load", str(plan.databases))
            for number, file in enumerate(plan.files):
                if (kept := plan.saved / f"file-{number}").exists():
                    put(Path(file), kept)
            if plan.artifacts and plan.old_artifacts.exists():
                if Path(plan.artifacts).exists():
                    self.move(Path(plan.artifacts), Path(plan.artifacts + ".new"))
                self.move(plan.old_artifacts, Path(plan.artifacts))
        self.point(plan.old)
        deadline = time.monotonic() + PUT_BACK_PATIENCE
        while True:
            try:
                self.systemctl("start")
                break
            except Failed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(3)

    def save(self, environment: str, directory: Path, must: bool = False) -> None:
        """Copy the databases into a directory of their own. Raises Failed where it must be.

        The directory is the service's user's; the one above, where other files are kept, is root's.
        """
        directory.parent.mkdir(exist_ok=True)
        directory.parent.chmod(0o711)
        directory.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(directory, self.plan.user)
        try:
            self.database(environment, "save", str(directory))
        except Failed as error:
            if must:
                raise
            print(f"The databases could not be saved: {error}", flush=True)

    def end(self, phase: str) -> None:
        """Write down how it ended. Without its plan it is over, whatever comes of the rest."""
        if phase != "stuck":
            self.plan.trial.unlink(missing_ok=True)
            (STATE / "plan.json").unlink()
        self.enter(phase, ended_at=time.time())

    def run(self) -> None:
        """Go forward; or, where that does not work or was cut off, back."""
        why = self.state.get("error") or "The host, or the switch itself, stopped in the middle."
        if self.state["phase"] == "begun" and MARKS.exists():  # not after a boot
            try:
                self.go_forward()
            except (Failed, OSError) as error:
                why = str(error)
            else:
                self.end("confirmed")
                return
        try:
            self.go_back(why)
        except (Failed, OSError) as error:
            self.end("stuck")
            raise SystemExit(f"It could not be put back: {error}") from error
        self.end("put back")


def start() -> None:
    """Begin what the plan on standard input says."""
    values = json.load(sys.stdin)
    if (STATE / "plan.json").exists():
        raise SystemExit(f"Another switch is not finished: systemctl status {UNIT}")
    STATE.mkdir(exist_ok=True)
    STATE.chmod(0o711)  # whatever the host's umask is: the service's user saves below it
    shutil.rmtree(MARKS, ignore_errors=True)
    MARKS.mkdir(mode=0o700)
    write(STATE / "state.json", {"phase": "begun", "saved": values["saved"]})
    write(STATE / "plan.json", values)
    command("systemctl", "start", UNIT)


POINTS = {"stopped": "change", "changed": "start", "serving": "confirm"}


def wait(timeout: float) -> None:
    """Wait until the switch waits for a word or has ended, and print its state."""
    deadline, running = time.monotonic() + timeout, True
    while time.monotonic() < deadline:
        state, plan = read(STATE / "state.json"), read(STATE / "plan.json")
        phase = state.get("phase", "none")
        point = POINTS.get(phase, "")
        given = point in plan.get("marks", []) or any(
            (MARKS / mark).exists() for mark in (point, "abort")
        )
        # Not when the plan is gone: how it ended is written down after that.
        if phase == "stuck" or (point and not given) or not running:
            break
        time.sleep(0.1)
        running = subprocess.call(["systemctl", "is-active", "--quiet", UNIT]) == 0
    print(json.dumps(state))


def go(mark: str, words: str) -> None:
    """Give the word at a point."""
    MARKS.mkdir(mode=0o700, exist_ok=True)
    (MARKS / f".{mark}").write_text(words)
    (MARKS / f".{mark}").rename(MARKS / mark)


def leave(*_: object) -> NoReturn:
    """End at once, at the host's shutdown: what is unfinished is put back at its next boot."""
    os._exit(0)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description="Switch MLflow to another version or other data.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    begin = verbs.add_parser("start")
    verbs.add_parser("run")
    verb = verbs.add_parser("wait")
    verb.add_argument("--timeout", type=float, default=PATIENCE, metavar="SECONDS")
    verb = verbs.add_parser("go")
    verb.add_argument("mark", choices=["change", "start", "confirm", "abort"])
    verb.add_argument("words", nargs="?", default="It was called off.")
    for one in (begin, verb):
        one.add_argument("--wait", action="store_true", help="and then wait, as `wait` does")
    asked = parser.parse_args()
    if asked.verb == "start":
        start()
        if asked.wait:
            wait(PATIENCE)
    elif asked.verb == "wait":
        wait(asked.timeout)
    elif asked.verb == "go":
        go(asked.mark, asked.words)
        if asked.wait:
            wait(PATIENCE)
    else:
        signal.signal(signal.SIGTERM, leave)
        # Without its state, nobody knows how far it came: all of it is put back.
        state = read(STATE / "state.json") or {"phase": "serving", "saved": ""}
        Switch(Plan(read(STATE / "plan.json")), state).run()
