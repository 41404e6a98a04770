"""Move this host's MLflow to another version, or to other data, with a way back.

  start     begin what the plan on standard input says (JSON, see Plan), in mlflow-switch.service
  go MARK   pass a point at which it waits: stop, change, confirm; or: abort
  wait      until it waits at a point, or has ended; print its state (JSON)
  finish    have what another run has begun end: wait for it; where nothing runs it, put it back
  run       what the service does, and what it does at boot when the host died meanwhile: put back

It runs on the host, away from whoever began it: when that connection breaks, it goes on. The
steps: stop the service; save its databases; change them; point `current` to the environment; start
and see that it is ready; wait for the word that all is well. Whatever fails, and when no word comes
within the plan's patience, everything is put back: the old version serves the old data.

Of several servers that share their databases one leads, and does that. The others stop, and serve
nothing until the leader has ended, however long it takes: it says in the database how (servers.py).
Then they serve what it serves.

Each phase is written down before it begins, so that at any time it is known what to put back, and
whether the service may start (`closed`). From its first step to its last nobody else copies, cleans
or rotates what it changes (lock.py).
Nothing but the standard library is used; Python 3.9 or later.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import durable, lock, program
from .host import units
from .settings import read_file
from .there import ASIDE
from .view import root_alone

STATE = lock.SWITCH  # plan.json, state.json, and what was saved
MARKS = Path("/run/mlflow-switch")
MANIFEST = "manifest.json"  # of what was saved: without it, nothing was
UNIT = "mlflow-switch.service"

# In order; what comes after one was not begun while it lasts.
PHASES = [
    "begun", "ready", "stopping", "stopped", "saving", "changing", "changed", "starting", "serving",
]  # fmt: skip
PUT_BACK_PATIENCE = 600  # seconds that the old version, and after a boot its data, may take
ASK_AGAIN = 2  # seconds between two tries, and two questions for what the leader says

UNTOUCHED = "The old version serves as before: nothing was changed."

MEANWHILE = "came-meanwhile"  # what was logged on trial, where it was put back
CLOSED = "closed"  # a file of the state, while no service may start: the data is nobody's to write


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
        token: says which run of a playbook has begun it; of all servers that take part, the same.
        leader: whether this host changes the databases; of several servers, one does.
        together: whether there are several.
        change: what happens to them, in order: verbs of `database`, with their arguments.
        artifacts: a directory that gets the content which waits in it (artifacts.py), or ''.
        objects: a fetched set, of which bucket.py exchanges artifacts in S3; or ''.
        files: for each file the one whose content it gets, both where root alone writes.
        keys: the file whose content opens what is stored encrypted; it is saved with the databases.
        saved: a directory to be made: what is saved is below it.
        must_save: the databases that could be read: it ends where one of them cannot be saved.
        unread: those that could not. There is no way back for them, unless they can be saved.
        remove: what earlier ones have saved, and environments, that nobody needs any more when this
            one is confirmed.
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
        self.token: str = values["token"]
        self.leader: bool = values["leader"]
        self.together: bool = values["together"]
        self.change: list[list[str]] = values["change"]
        self.artifacts: str = values["artifacts"]
        self.objects: str = values["objects"]
        self.files: dict[str, str] = values["files"]
        self.saved = Path(values["saved"])
        self.keys: str = values["keys"]
        self.must_save: list[str] = values["must_save"]
        self.unread: list[str] = values["unread"]
        self.remove: list[str] = values["remove"]
        self.patience = float(values["patience"])  # text, where the command line says it
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
    def old_objects(self) -> Path:
        """Where objects that are replaced go."""
        return self.saved / "objects"

    @property
    def old_artifacts(self) -> Path:
        """Where artifacts that are replaced go."""
        return Path(self.artifacts, ASIDE, self.saved.name)

    @property
    def artifacts_meanwhile(self) -> Path:
        """Where those go, on the way back, among which are what people logged on trial."""
        return self.old_artifacts.with_name(f"{self.saved.name}.{MEANWHILE}")


def write(file: Path, values: dict[str, Any]) -> None:
    """Write JSON so that it is there whole, or not at all, whatever happens to the host."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(json.dumps(values))
    durable.rename(fresh, file)


def read(file: Path) -> dict[str, Any]:
    """Return what a JSON file says, nothing where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return dict(json.loads(file.read_text()))
    return {}


def put(file: Path, source: Path, like: Path) -> None:
    """Give a file another one's content, all of it or nothing.

    Args:
        file: it may not be there yet.
        source: has the content; a file of root's.
        like: has the owner and the mode that it gets.
    """
    fresh, status = file.with_name(file.name + ".new"), like.stat()
    fresh.unlink(missing_ok=True)
    made = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as new, open_own(source) as content:
        os.fchown(made, status.st_uid, status.st_gid)
        os.fchmod(made, stat.S_IMODE(status.st_mode))
        shutil.copyfileobj(content, new)
    durable.rename(fresh, file)


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


def command(*words: str | Path, quiet: bool = False, **options: Any) -> str:
    """Run a command to its end and return what it says. Raises Failed with its last words."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        check=False, **options,
    )  # fmt: skip
    if not quiet:
        print(done.stdout, end="", flush=True)  # into the journal
    if done.returncode:
        raise Failed("\n".join(done.stdout.strip().splitlines()[-8:]))
    return str(done.stdout)


def repeated(step: Callable[[], object], patience: float) -> None:
    """Do a step again until it works, for so many seconds. Raises Failed where it never does."""
    deadline = time.monotonic() + patience
    while True:
        try:
            step()
            return
        except Failed:
            if time.monotonic() >= deadline:
                raise
            time.sleep(ASK_AGAIN)


def only(kinds: Sequence[str]) -> list[str]:
    """Return the arguments by which `database` works on these alone; on all, where it is none."""
    return ["--only", ",".join(kinds)] if kinds else []


class Switch:
    """A plan, and how far it has come."""

    def __init__(self, plan: Plan, state: dict[str, Any]) -> None:
        self.plan, self.state = plan, state

    def enter(self, phase: str, **more: Any) -> None:
        """Write down what begins now. Raises OSError where that cannot be, but on the way back."""
        print(f"--- {phase}", flush=True)
        fresh = {**self.state, "phase": phase, **more}
        try:
            write(STATE / "state.json", fresh)
        except OSError:
            if not {"last", "sure"} & {*self.state}:
                raise  # a full disk must keep nobody from going back, or from the end
        self.state = fresh

    def reached(self, phase: str) -> bool:
        """Whether a phase was begun, before things went wrong."""
        return PHASES.index(self.state["last"]) >= PHASES.index(phase)

    def database(self, environment: str, *words: str, quiet: bool = False) -> str:
        """Have a version of MLflow do something with the databases, as the service's user."""
        python = self.plan.link.with_name(environment) / "bin/python"
        as_user = ["runuser", f"--user={self.plan.user}", "--", "env", "--chdir=/"]
        home = {"HOME": "/nonexistent", "PATH": self.plan.path, "PYTHONDONTWRITEBYTECODE": "1"}
        return command(
            *as_user, *program(python, "database", *words), quiet=quiet,
            env={**home, **read_file(self.plan.settings)},
        )  # fmt: skip

    def tell(self, word: str, patience: float = 0) -> None:
        """Let the servers that follow know where this one is, which leads. Raises Failed.

        Args:
            word: begun, confirmed or put back.
            patience: seconds that the database may be silent, as after a boot.
        """
        if self.plan.together:
            said = "tell", self.plan.token, word
            repeated(lambda: self.database(self.plan.new, *said), patience)

    def told(self) -> str:
        """Return where the leader is; '' while it has not begun, or the database is silent."""
        with contextlib.suppress(Failed):
            return self.database(self.plan.new, "told", self.plan.token, quiet=True).strip()
        return ""

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
        before = units.ask(self.plan.unit, "InvocationID")
        if verb == "start":
            (STATE / CLOSED).unlink(missing_ok=True)
        try:
            command("systemctl", verb, self.plan.unit)
        except Failed as error:
            # What readiness missed comes first: a server says much after it.
            words = units.last_words(self.plan.unit, before, str(error), first="^mlflow-ready:")
            raise Failed(words) from error

    def point(self, environment: str) -> None:
        """Let `current` lead to an environment."""
        fresh = self.plan.link.with_name(".current.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(environment)
        fresh.rename(self.plan.link)

    def replace_files(self) -> None:
        """Give files their new content, and keep the old; the keys in any case."""
        for kept in map(Path, {self.plan.keys, *self.plan.files}):
            if kept.exists():  # a server that is broken may lack it
                # Whole, or not there: the way back takes what is there for the old content.
                put(self.plan.saved / kept.name, kept.resolve(), like=kept)
        for file, source in self.plan.files.items():
            put(Path(file), Path(source), like=Path(file))

    def artifacts(self, verb: str) -> None:
        """Exchange the content of the directory of artifacts, or undo that. Raises Failed."""
        plan = self.plan
        python = plan.link.with_name(plan.new) / "bin/python"
        names = [plan.saved.name]
        if verb == "back" and self.reached("starting"):  # people may have logged there meanwhile
            names.append(self.plan.artifacts_meanwhile.name)
        words = program(python, "artifacts", verb, plan.artifacts, *names)
        command("runuser", f"--user={plan.user}", "--", *words, cwd="/")

    def bucket(self, *words: str | Path) -> None:
        """Do something with the artifacts in S3. Raises Failed."""
        python = self.plan.link.with_name(self.plan.new) / "bin/python"
        command(*program(python, "backup-bucket", *words))

    def go_forward(self) -> None:
        """Do all steps. Raises Failed at the first that does not work."""
        plan = self.plan
        plan.trial.touch()
        self.enter("ready")
        self.await_word("stop")
        self.tell("begun")  # from here on the others wait for how it ends
        self.stop()
        self.await_word("change")
        self.enter("saving")
        must = bool(plan.must_save)
        self.enter("changing", kept=self.save(plan.old, plan.databases, must, plan.must_save))
        self.replace_files()
        for words in plan.change:
            self.database(plan.new, *words)
        if plan.artifacts:
            self.artifacts("exchange")
        if plan.objects:
            self.bucket("exchange", plan.objects, plan.old_objects)
        self.enter("changed", artifacts=str(plan.old_artifacts) if plan.artifacts else "")
        self.enter("starting")
        self.point(plan.new)
        self.systemctl("start")
        self.enter("serving", outage=round(time.time() - self.state["stopped_at"], 1))
        self.await_word("confirm")
        self.enter("serving", sure=True)

    def stop(self) -> None:
        """Stop the service, and let nobody start it, nor the next boot. Raises Failed, OSError."""
        self.enter("stopping", stopped_at=time.time())
        (STATE / CLOSED).touch()
        self.systemctl("stop")
        self.enter("stopped")

    def confirm(self) -> None:
        """Let all know that it is for good. There is no way back from here, and none is tried."""
        self.tell("confirmed", math.inf)
        self.end("confirmed")
        self.tidy()

    def await_leader(self) -> None:
        """Wait until the leader has begun. Raises Failed where it does not, or has ended again."""
        deadline = time.monotonic() + self.plan.patience
        while (word := self.told()) != "begun":
            if word or (MARKS / "abort").exists() or time.monotonic() > deadline:
                raise Failed("The server that leads has not begun, or has given up.")
            time.sleep(ASK_AGAIN)

    def follow(self) -> str:
        """Serve nothing until the leader has ended, then what it serves; return how it ended.

        Raises Failed where that does not start.
        """
        plan = self.plan
        if self.state["phase"] in ("ready", "stopping"):
            self.stop()
        self.state.setdefault("last", "stopped")
        while (word := self.told()) not in ("confirmed", "put back"):
            time.sleep(ASK_AGAIN)
        if word == "put back":
            self.enter("starting", failed="stopped", error="The server that leads has put it back.")
            self.start_old()
            return word
        self.enter("starting")
        self.point(plan.new)
        try:
            self.systemctl("start")
        except Failed as error:
            # The databases are the new version's for good: what does not work is this host.
            self.state["error"] = str(error)
        self.state["outage"] = round(time.time() - self.state.get("stopped_at", time.time()), 1)
        return word

    def go_back(self, why: str) -> None:
        """Put everything back as it was. Raises Failed where that does not work."""
        plan = self.plan
        # `last`: how far it had come, whatever happens to the way back.
        self.state.setdefault("last", self.state["phase"])
        self.enter("putting back", failed=self.state["last"], error=why.strip())
        begun = self.reached("stopping")
        if begun and not self.state.get("back"):
            with contextlib.suppress(OSError):  # of a full disk
                (STATE / CLOSED).touch()
            self.systemctl("stop")
            # After a power cut this host may be up before that of the databases, or the store's.
            repeated(self.put_back, 0 if MARKS.exists() else PUT_BACK_PATIENCE)
            self.point(plan.old)
        # From here on the old data is served, and never replaced again.
        self.enter("putting back", back=True)
        self.tell("put back", PUT_BACK_PATIENCE)
        if begun:
            self.start_old()

    def put_back(self) -> None:
        """Bring back what was changed. Raises Failed where that does not work."""
        plan = self.plan
        if self.reached("changing"):
            if plan.must_save or (plan.databases / MANIFEST).exists():
                # What the new version wrote is not in the old data: people reach it as soon as it
                # listens, before it is known to be ready.
                if self.reached("starting") and "came" not in self.state:
                    self.save(plan.new, plan.saved / MEANWHILE, must=True)
                    keys = Path(plan.keys)
                    if keys.exists():  # a restore has brought others than the old ones
                        put(plan.saved / f"{MEANWHILE}.env", keys.resolve(), like=keys)
                    self.enter("putting back", came=True)  # never again: it would be the old data
                self.database(plan.old, "load", str(plan.databases), *only(plan.must_save))
                self.state["loaded"] = True
            for file in plan.files:
                if (kept := plan.saved / Path(file).name).exists():
                    put(Path(file), kept, like=kept)
            if plan.artifacts:
                self.artifacts("back")
            if plan.old_objects.exists():
                self.bucket("back", plan.old_objects)

    def start_old(self) -> None:
        """Start the old version. Raises Failed where it does not come up for long."""
        repeated(lambda: self.systemctl("start"), PUT_BACK_PATIENCE)

    def save(
        self, environment: str, directory: Path, must: bool, kinds: Sequence[str] = ()
    ) -> bool:
        """Copy the databases into a directory of their own, and return whether that worked.

        The directory is the service's user's; the one above, where other files are kept, is root's.

        Args:
            environment: whose MLflow does it.
            directory: where they go.
            must: whether Failed is raised where it does not work.
            kinds: which of them; all, where none is named.
        """
        directory.parent.mkdir(exist_ok=True)
        directory.parent.chmod(0o711)
        directory.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(directory, self.plan.user)
        try:
            self.database(environment, "save", str(directory), *only(kinds))
        except Failed as error:
            if must:
                raise
            print(f"The databases could not be saved: {error}", flush=True)
            return False
        return True

    def outcome(self) -> str:
        """Return what the old version serves now that it is back, as far as this host knows."""
        plan = self.plan
        if not self.reached("stopping"):
            return UNTOUCHED
        words = "The old version serves the old data again"
        if self.reached("changing"):
            if "loaded" not in self.state:
                return (
                    "The old version serves again, on what was left in the databases: what they "
                    "had before could not be read, and there is no way back to it."
                )
            if plan.must_save and plan.unread:
                words += f", but for {' and '.join(plan.unread)}, which could not be read before"
        if "came" in self.state:
            words += ". What was logged while the new one was on trial is kept in "
            words += f"{plan.saved / MEANWHILE}"
            if plan.artifacts:
                words += f", its artifacts in {plan.artifacts_meanwhile}"
        return f"{words}."

    def tidy(self) -> None:
        """Remove what nobody needs any more: there is a newer way back."""
        if self.plan.leader and not (self.plan.databases / MANIFEST).exists():
            return
        for path in map(Path, self.plan.remove):
            try:
                if root_alone(path):
                    shutil.rmtree(path)
                else:
                    become = ["runuser", f"--user={self.plan.user}", "--"]
                    command(*become, "rm", "-rf", "--", path, cwd="/")
            except (Failed, OSError) as error:
                print(f"{path} stays: {error}", flush=True)

    def end(self, phase: str) -> None:
        """Write down how it ended. Without its plan it is over, whatever comes of the rest."""
        if phase != "stuck":
            self.plan.trial.unlink(missing_ok=True)
            (STATE / "plan.json").unlink()
        self.enter(phase, ended_at=time.time())

    def call_off(self, why: str) -> None:
        """End before anything was done."""
        self.state |= {"failed": "begun", "error": why, "outcome": UNTOUCHED}
        self.end("put back")

    def run(self) -> None:
        """Do it while nobody else is at work on the data; they wait as long as it takes."""
        begins = self.state["phase"] == "begun" and MARKS.exists()  # not after a boot
        patience = self.plan.patience if begins else math.inf
        try:
            with lock.hold(self.plan.settings.parent, patience):
                if self.plan.leader:
                    self.lead(begins)
                else:
                    self.go_along(begins)
        except lock.Held as error:
            self.call_off(str(error))

    def go_along(self, begins: bool) -> None:
        """Do what a server does that does not lead."""
        try:
            if begins:
                self.plan.trial.touch()
                self.enter("ready")
                self.await_word("stop")
                self.await_leader()
            elif self.state["phase"] in ("begun", "ready", "putting back"):
                raise Failed("The host, or the switch itself, stopped before it began.")
        except (Failed, OSError) as error:
            self.call_off(str(error))
            return
        try:
            word = self.follow()
            self.end(word)
        except (Failed, OSError) as error:
            self.state["error"] = str(error)
            self.end("stuck")
            raise SystemExit(f"It does not serve again: {error}") from error
        if word == "confirmed":
            self.tidy()

    def lead(self, begins: bool) -> None:
        """Go forward; or, where that does not work or was cut off, back."""
        why = self.state.get("error") or "The host, or the switch itself, stopped in the middle."
        if begins:
            try:
                self.go_forward()
            except (Failed, OSError) as error:
                why = str(error)
            except Exception as error:  # whatever nobody foresaw: nobody else would put it back
                why = repr(error)
        if self.state.get("sure"):
            self.confirm()
            return
        try:
            self.go_back(why)
        except (Failed, OSError) as error:
            self.end("stuck")
            raise SystemExit(f"It could not be put back: {error}") from error
        self.state["outcome"] = self.outcome()
        self.end("put back")


def closed() -> str:
    """Return why no service may start on this host now, or ''. A switch has the data."""
    if not (lock.unfinished() and (STATE / CLOSED).exists()):
        return ""
    return (
        "A switch to another version or other data is not finished, and starts the service itself. "
        f"Where it does not run any more: systemctl start {UNIT}"
    )


def start() -> None:
    """Begin what the plan on standard input says."""
    values = json.load(sys.stdin)
    STATE.mkdir(exist_ok=True)
    STATE.chmod(0o711)  # whatever the host's umask is: the service's user saves below it
    fcntl.flock(os.open(STATE, os.O_RDONLY), fcntl.LOCK_EX)  # two may ask at once
    if (STATE / "plan.json").exists():
        raise SystemExit(OTHER)
    shutil.rmtree(MARKS, ignore_errors=True)
    MARKS.mkdir(mode=0o700)
    (STATE / CLOSED).unlink(missing_ok=True)
    begun = {"phase": "begun", "saved": values["saved"], "token": values["token"]}
    write(STATE / "state.json", begun)
    write(STATE / "plan.json", values)
    command("systemctl", "start", UNIT)


OTHER = f"Another run has begun a switch here, and this one has not: systemctl status {UNIT}"
POINTS = {"ready": "stop", "stopped": "change", "serving": "confirm"}
POINTS_OF_FOLLOWERS = {"ready": "stop", "stopped": "confirm"}


def state_of(token: str) -> dict[str, Any]:
    """Return the state. Raises SystemExit where a token is named, and it is not of that run."""
    state = read(STATE / "state.json")
    if token and state.get("token") != token:
        raise SystemExit(OTHER)
    return state


def wait(token: str, to_the_end: bool = False) -> None:
    """Wait until the switch waits for a word or has ended, and print its state."""
    running = True
    while True:
        state, plan = state_of(token), read(STATE / "plan.json")
        phase = state.get("phase", "none")
        points = POINTS if plan.get("leader", True) else POINTS_OF_FOLLOWERS
        point = "" if to_the_end else points.get(phase, "")
        given = point in plan.get("marks", []) or any(
            (MARKS / mark).exists() for mark in (point, "abort")
        )
        # Not when the plan is gone: how it ended is written down after that.
        if phase == "stuck" or (point and not given) or not running:
            break
        time.sleep(0.1)
        running = subprocess.call(["systemctl", "is-active", "--quiet", UNIT]) == 0
    print(json.dumps(state))


def finish() -> None:
    """Wait for what another run has begun; where nothing runs it any more, have it put back."""
    if lock.unfinished():
        command("systemctl", "start", UNIT)  # which does nothing where it runs
    wait("", to_the_end=True)


def go(mark: str, words: str, token: str) -> None:
    """Give the word at a point, of the run that has begun it. Raises SystemExit for another's."""
    state_of(token)
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
    verbs.add_parser("finish")
    waiting = verbs.add_parser("wait")
    verb = verbs.add_parser("go")
    verb.add_argument("mark", choices=["stop", "change", "confirm", "abort"])
    verb.add_argument("words", nargs="?", default="It was called off.")
    for one in (waiting, verb):
        one.add_argument("--token", default="", help="of the plan: another run's is left alone")
    for one in (begin, verb):
        one.add_argument("--wait", action="store_true", help="and then wait, as `wait` does")
    asked = parser.parse_args()
    if asked.verb == "start":
        start()
        if asked.wait:
            wait("")
    elif asked.verb == "wait":
        wait(asked.token)
    elif asked.verb == "finish":
        finish()
    elif asked.verb == "go":
        go(asked.mark, asked.words, asked.token)
        if asked.wait:
            wait(asked.token)
    else:
        signal.signal(signal.SIGTERM, leave)
        # Without its state, nobody knows how far it came: all of it is put back.
        state = read(STATE / "state.json") or {"phase": "serving", "saved": ""}
        Switch(Plan(read(STATE / "plan.json")), state).run()
