"""Back up a directory of artifacts, of which a set has all: python backup-size.py COUNT DIR.

Prints JSON: for each step its seconds, and the most memory, in bytes, of the program and of what it
has started. Files are links to one, so that a million are made in a minute; nothing here copies
them, since that is done in parts of ten thousand, however many they are.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from mlflow_ops import installation
from mlflow_ops.backup import run, sets, state, stores

COUNT, PLACE = int(sys.argv[1]), Path(sys.argv[2]).resolve()
FIRST = "20260101T000000Z"
EACH = 1000  # files in a directory, of which Linux can have 65,000 links to one


def databases(_: run.Backup, verb: str, *arguments: Path) -> str:
    """Do what `database` does, of one that is a line."""
    if verb == "status":
        return json.dumps({"databases": [{"kind": "tracking", "bytes": 4}]})
    (arguments[0] / "tracking.db").write_text("rows")
    saved = {"file": "tracking.db", "kind": "sqlite", "moment": time.time(), "bytes": 4,
             "sha256": sets.sha256(arguments[0] / "tracking.db"), "counts": {}}  # fmt: skip
    return json.dumps({"mlflow": "3", "host": "h", "databases": {"tracking": saved}})


@contextmanager
def artifacts(backup: run.Backup) -> Iterator[stores.Store]:
    """Show the artifacts, without a mount of their own."""
    yield backup.artifacts_store()


def prepare() -> run.Backup:
    """Make a host, and a target that has a set of all its artifacts."""
    record = {name: "" for name in installation.Installation.__dataclass_fields__}
    record |= {"user": "root", "config_dir": str(PLACE), "artifacts": str(PLACE / "artifacts")}
    (PLACE / "installation.json").write_text(json.dumps(record))
    installation.RECORD, state.STATE = PLACE / "installation.json", PLACE / "state"
    state.LIVE_RESERVE = (0, 0)
    state.STATE.mkdir()
    run.Backup.databases = databases  # type: ignore[method-assign,assignment]
    run.Backup.artifacts = artifacts  # type: ignore[method-assign,assignment]
    (PLACE / "server.env").write_text(f"MLFLOW_ARTIFACTS_DESTINATION={PLACE}/artifacts\n")
    (PLACE / "secrets.env").write_text("# keys\n")
    target = PLACE / "target"
    (target / FIRST).mkdir(parents=True)

    def made() -> Iterator[sets.Artifact]:
        for number in range(COUNT):
            folder = f"{number // (100 * EACH)}/{number // EACH:032x}/artifacts"
            path = f"{folder}/file-{number:08}.json"
            if number % EACH == 0:
                for below in (PLACE / "artifacts", target / FIRST / "artifacts"):
                    (below / folder).mkdir(parents=True)
                (seed := PLACE / f"seed-{number}").write_text("an artifact")
                digest, moment = sets.sha256(seed), seed.stat().st_mtime_ns
                whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 10**9))
                words = f"{whole}.{moment % 10**9:09}Z"
            for below in (PLACE / "artifacts", target / FIRST / "artifacts"):
                os.link(seed, below / path)
            yield sets.Artifact(path, 11, words, digest, FIRST)

    listed = {"file": sets.LIST, "sha256": sets.write_list(target / FIRST / sets.LIST, made())}
    manifest = {
        "set": FIRST, "databases": {"tracking": {"moment": time.time(), "file": "x", "bytes": 0,
        "sha256": "x"}}, "files": [], "list": listed, "based_on": "", "artifacts_in": "sets",
        "artifacts_count": COUNT, "artifacts_bytes": 11 * COUNT,
    }  # fmt: skip
    (target / FIRST / sets.MANIFEST).write_text(sets.written(manifest))
    return run.Backup({"MLFLOW_BACKUP_TARGET": str(target), "MLFLOW_BACKUP_KEEP_SETS": "1"})


def measured(step: Callable[[], Any]) -> dict[str, float]:
    """Return what a step takes, in a process of its own."""
    begun = time.perf_counter()
    if not (child := os.fork()):
        status = 1
        try:
            step()
            most = [resource.getrusage(who).ru_maxrss * 1024
                    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]  # fmt: skip
            (PLACE / "said.json").write_text(json.dumps(most))
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        sys.exit("A step failed: see above.")
    own, others = json.loads((PLACE / "said.json").read_text())
    return {"seconds": time.perf_counter() - begun, "own": own, "others": others}


def main() -> None:
    """Measure a backup of which nothing is new, the removal of the set before it, a look at all."""
    backup = prepare()

    def create() -> None:
        made = backup.create()
        if made["added"] != 4 or made["artifacts_count"] != COUNT:
            sys.exit(f"It copied {made['added']} bytes, of {made['artifacts_count']} artifacts.")

    steps = {"create": create, "list": lambda: [*map(backup.manifest, backup.sets())],
             "prune": backup.prune,
             "verify": lambda: backup.verify(backup.sets(), whole=True)}  # fmt: skip
    print(json.dumps({name: measured(step) for name, step in steps.items()}))


main()
