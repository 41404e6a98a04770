"""A drill: restore the newest backup beside the running service, use it, compare, report.

Run by mlflow-backup-drill.service, which removes everything again, whatever happens here. People
say `mlflow-backup drill`. Whatever a backup or a model could do is done in
mlflow-backup-sandbox@.service, without network, the service's data and its secrets.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..client import NotReady, Server, one_line
from ..settings import read_settings
from . import drill_models, sets
from .processes import bounded
from .run import Backup, own_settings, target_lock
from .sets import Trouble
from .state import STATE, put, say

DIRECTORY = STATE / "drill"
WORK = DIRECTORY / "work"
REPORT = STATE / "drill.json"
USER = "mlflow-drill"
UNIT = "mlflow-backup-drill.service"
MOST = 10_000_000  # bytes of what a sandbox leaves behind; a model may leave any number
LONGEST = 86400 + 600  # seconds: systemd ends the units before
WORDS = 2000  # letters in a line of the report


class Drill:
    """What is found, line by line; the drill passed unless one of the lines is bad."""

    def __init__(self) -> None:
        self.began = time.time()
        self.lines: list[dict[str, Any]] = []
        self.set = ""

    def line(self, what: str, found: str, good: bool = True) -> None:
        """Note a finding. Names of models, and what a sandbox says, are anybody's text."""
        what, found = one_line(what[:WORDS]), one_line(found[:WORDS])
        self.lines.append({"what": what, "found": found, "good": good})
        say(f"{what}: {found}")

    def report(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "time": int(time.time()),
            "seconds": round(time.time() - self.began),
            "set": self.set,
            "passed": bool(self.lines) and all(line["good"] for line in self.lines),
            "lines": self.lines,
        }

    def run(self) -> None:
        """Go through it. Raises Trouble, OSError where it cannot go on."""
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        DIRECTORY.mkdir()
        DIRECTORY.chmod(0o711)
        manifest = self.fetch()
        account = pwd.getpwnam(USER)
        (DIRECTORY / "set/secrets.env").unlink()
        WORK.mkdir()
        # The directory itself stays root's: what root makes in it later is where it should be.
        for name in ("set", "work"):
            give(DIRECTORY / name, account)
        restored = sandbox("restore")
        for kind, copy in manifest["databases"].items():
            self.compare_counts(kind, copy["counts"], restored["counts"].get(kind, {}))
        self.line("server", f"MLflow {restored['mlflow']} serves the restored data")
        self.models(restored["models"][: drill_models.CANDIDATES], account)

    def fetch(self) -> dict[str, Any]:
        """Bring the newest set, verified."""
        backup = Backup(own_settings())
        with target_lock(fcntl.LOCK_SH):
            backup.target.open()
            self.set = backup.named("newest")
            manifest = backup.fetch(self.set, DIRECTORY / "set", beside=True)
        age = sets.ago(time.time() - manifest["databases"]["tracking"]["moment"])
        size = sets.amount(manifest["artifacts_bytes"])
        self.line(
            "set",
            f"{self.set}, {age} old: databases and "
            f"{manifest['artifacts_count']} artifacts ({size}), each as its manifest says",
        )
        return manifest

    def compare_counts(
        self, kind: str, wanted: Mapping[str, int], found: Mapping[str, int]
    ) -> None:
        """Note what a database holds, and what it should."""
        bad = [
            f"{table} {found.get(table, 'missing')} instead of {count}"
            for table, count in wanted.items()
            if found.get(table) != count
        ]
        some = {table.replace("_", " "): count for table, count in wanted.items() if count}
        good = ", ".join(f"{name} {count}" for name, count in some.items()) or "empty"
        self.line(f"{kind} database", ", ".join(bad) or good, not bad)

    def models(self, models: Sequence[Mapping[str, str]], account: pwd.struct_passwd) -> None:
        """Compare models with those of the running service."""
        if not models:
            self.line("models", "none is registered: no prediction was compared")
            return
        service = Server(read_settings())
        service.timeout = 600
        gone: set[str] = set()
        (DIRECTORY / "service").mkdir()
        for number, model in enumerate(models):
            if "error" in model:
                continue
            try:
                place = DIRECTORY / "service" / str(number)
                drill_models.bring(service, model["name"], model["version"], place)
            except NotReady as error:
                shutil.rmtree(place, ignore_errors=True)
                if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                    raise Trouble(f"The running service: {error}") from error
                gone.add(str(number))
        give(DIRECTORY / "service", account)
        predicted = sandbox("predict")
        for number, model in enumerate(models):
            if "error" in model:
                words, good = model["error"], False
            else:
                different = [] if str(number) in gone else differing(str(number))
                words, good = verdict(different, str(number) in gone, predicted.get(str(number)))
            self.line(f"model {model['name']} {model['version']}", words, good)
        if not any("predictions" in found for found in predicted.values()):
            self.line("models", "no prediction was compared: see above")


def differing(number: str) -> list[str]:
    """Return the files of a model that are not the same in the backup and at the service."""
    sides = []
    for place in (DIRECTORY / "work/backup" / number, DIRECTORY / "service" / number):
        script = 'cd "$1"; find . -type f -print0 | xargs -0r sha256sum -z'
        lines = as_drill("sh", "-euc", script, "sh", str(place)).split(b"\0")
        pairs = (os.fsdecode(line).split("  ./", 1) for line in lines if line)
        sides.append({name: sha256 for sha256, name in pairs})
    names = sides[0].keys() | sides[1].keys()
    return sorted(name for name in names if sides[0].get(name) != sides[1].get(name))


def verdict(
    different: Sequence[str], gone: bool, found: Mapping[str, Any] | None
) -> tuple[str, bool]:
    """Return what is to be said about a model, and whether it is as it should be."""
    if different:
        return (
            f"differs from the running service's: {', '.join(different[:3])}"
            f"{' ...' if different[3:] else ''}",
            False,
        )
    files = (
        "is gone from the running service" if gone else "the same files as the running service's"
    )
    if found is None:
        return files, True
    if "backup_error" in found:
        if gone or "service_error" in found:
            return f"{files}; cannot be loaded here ({found['backup_error']})", True
        return f"cannot be loaded from the backup: {found['backup_error']}", False
    if "predict_error" in found:
        return f"{files}; loads, and does not predict here ({found['predict_error']})", True
    if "input" in found:
        return f"{files}; loads; it has neither an example nor a signature to predict on", True
    if gone:
        return f"{files}; the backup's loads and predicts", True
    if found["same"]:
        return f"{files}; {found['predictions']} predictions are equal", True
    if not found["settled"]:
        return f"{files}; predicts something else each time", True
    return f"{files}, and predicts something else", False


def give(directory: Path, account: pwd.struct_passwd) -> None:
    """Make a user the owner of a directory and of all that is in it."""
    for root, _, files in os.walk(directory):
        for path in (root, *(os.path.join(root, file) for file in files)):  # noqa: PTH118 thousands
            os.lchown(path, account.pw_uid, account.pw_gid)


def as_drill(*command: str) -> bytes:
    """Run a command as the user of drills, and return what it prints.

    What is in her directories models may have written: root opens none of it, nor does it wait or
    listen for ever. Raises Trouble.
    """
    account = pwd.getpwnam(USER)
    listen = ("sh", "-c", '"$@" | head -c "$0"', str(MOST + 1))
    try:
        said = subprocess.run(
            (*listen, *command), user=account.pw_uid, group=account.pw_gid, extra_groups=[],
            cwd="/", env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=3600, check=False,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"{' '.join(command)} did not end.") from error
    if len(said) > MOST:
        raise Trouble(f"{' '.join(command)}: more than {MOST} bytes, as no drill leaves.")
    return said


def sandbox(verb: str) -> dict[str, Any]:
    """Have the sandbox do something; return what it found. Raises Trouble."""
    unit = f"mlflow-backup-sandbox@{verb}.service"
    done = subprocess.run(["systemctl", "start", unit], capture_output=True, check=False,
                          timeout=LONGEST)  # fmt: skip
    try:
        found: dict[str, Any] = json.loads(as_drill("cat", str(WORK / f"{verb}.json")))
    except (OSError, ValueError, RecursionError) as error:
        raise Trouble(f"{unit} failed: journalctl -u {unit}") from error
    if done.returncode:
        raise Trouble(f"{unit} did not end well: journalctl -u {unit}")
    if "error" in found:
        raise Trouble(found["error"])
    return found


def table(report: Mapping[str, Any]) -> str:
    """Return a report for people."""
    width = max([len(line["what"]) for line in report["lines"]] + [7])
    rows = []
    for line in report["lines"]:
        mark = "" if line["good"] else "NOT AS IT SHOULD BE: "
        rows.append(f"  {line['what']:{width}}  {mark}{line['found']}")
    outcome = "passed" if report["passed"] else "FAILED"
    head = f"The drill of set {report['set'] or '(none)'} {outcome}, after {report['seconds']} s."
    return "\n".join([head, *rows, f"  {'removed':{width}}  all of it again"])


def start() -> int:
    """Have systemd run a drill, and print its report; return the exit code. Raises Trouble."""
    before = REPORT.stat().st_mtime_ns if REPORT.is_file() else 0
    bounded("systemctl", "start", UNIT, patience=LONGEST)
    if not REPORT.is_file() or REPORT.stat().st_mtime_ns == before:
        raise Trouble(f"The drill did not end: journalctl -u {UNIT}")
    report = json.loads(REPORT.read_text())
    print(table(report))
    return 0 if report["passed"] else 1


def main() -> int:
    """Run a drill, and leave its report; return the exit code."""
    os.umask(0o077)
    drill = Drill()
    try:
        drill.run()
    except (Trouble, NotReady, OSError) as error:
        drill.line("stopped", str(error), good=False)
    except (AttributeError, KeyError, TypeError) as error:
        drill.line("stopped", f"what a sandbox left makes no sense: {error!r}", good=False)
    report = drill.report()
    put(REPORT, json.dumps(report) + "\n")
    return 0 if report["passed"] else 1
