"""What a role must know of a host before another version of MLflow, or other data, comes there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import installation
from .host import mlflow
from .host.files import free_mb
from .rollout import MEANWHILE
from .settings import read_file
from .there import ASIDE

# Of each served model a link leads to what it runs in.
MODELS = Path("/var/lib/mlflow-models/deployments")


class Databases:
    """The databases, as the installed MLflow sees them.

    Args:
        tools: the directory of the programs.
        here: what is installed.
        path: a directory of PostgreSQL's programs, before those of the host; or ''.
    """

    def __init__(self, tools: Path, here: installation.Installation, path: str) -> None:
        runuser = ["runuser", f"--user={here.user}", "--"]
        self.command = [*runuser, str(here.python), "-Es", str(tools), "database"]
        path = os.pathsep.join(filter(None, [path, os.environ["PATH"]]))
        self.environment = {"PATH": path, **read_file(here.settings)}

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program. Raises OSError."""
        return subprocess.run(
            [*self.command, *words], cwd="/", env=self.environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def status(self) -> list[dict[str, Any]]:
        """Return their states; [] if it does not answer."""
        with contextlib.suppress(OSError):
            if not (done := self.ask("status")).returncode:
                return list(json.loads(done.stdout)["databases"])
        return []

    def irreplaceable(self, kinds: list[str]) -> str:
        """Return why what is saved of these could not be loaded again; or ''. Raises OSError."""
        done = self.ask("replaceable", "--only", ",".join(kinds))
        return "\n".join(done.stderr.strip().splitlines()[-5:]) if done.returncode else ""


def postgresql_client(directory: str) -> int:
    """Return the major version of pg_dump, 0 where there is none.

    Args:
        directory: where to look first; '' for nowhere.
    """
    found = shutil.which("pg_dump", path=os.pathsep.join([directory, os.environ["PATH"]]))
    if not found or not shutil.which("psql"):
        return 0
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\) (\d+)", said)
    return int(version[1]) if version else 0


def not_ready(tools: Path) -> str:
    """Return why the service is not ready, or ''."""
    done = subprocess.run(
        [sys.executable, "-BEs", str(tools), "ready"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode else ""


def old(state: Path, here: installation.Installation, days: int) -> list[str]:
    """Return what earlier switches have left and nobody needs once there is a newer way back.

    Databases that were saved, artifacts that were replaced, environments that serve no more.

    Args:
        state: where the databases are saved.
        here: what is installed.
        days: how long each of them is kept; 0 is for ever.
    """
    if not days:
        return []
    before = time.time() - days * 24 * 3600
    limit = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(before))
    saved = sorted(state.glob("2*T*Z-*"))
    gone = [path for path in saved if path.name < limit]
    aside = Path(here.artifacts, ASIDE)
    names = [name for path in gone for name in (path.name, f"{path.name}.{MEANWHILE}")]
    replaced = [aside / name for name in names]
    current = Path(here.environment)
    # What was saved and stays can be served by the version that it is of; so can a model.
    needed = {current.resolve(), *(link.resolve() for link in MODELS.glob("*/environment"))}
    versions = {path.name.partition("-")[2] for path in saved if path not in gone}
    environments = [
        path.parent
        for path in current.parent.glob("[0-9]*-*/.complete")
        if path.stat().st_mtime < before
        and path.parent.resolve() not in needed
        and path.parent.name.rpartition("-")[0] not in versions
        and not in_use(path.parent)
    ]
    found = [*gone, *(path for path in replaced if os.path.lexists(path)), *sorted(environments)]
    return [str(path) for path in found]


def in_use(path: Path) -> bool:
    """Return whether a process has loaded something below a directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if f"{path}/" in (process / "maps").read_text(errors="replace"):
                return True
    return False


def look(tools: str, state: str, postgresql_bin: str, keep_days: int) -> dict[str, Any]:
    """Return what there is; of a host without a server only that, as `installed`.

    Args:
        tools: the directory of the programs, or a link to it.
        state: a directory, which need not exist.
        postgresql_bin: where to look for PostgreSQL's programs first; '' for nowhere.
        keep_days: how long what earlier ones have left is kept; 0 is for ever.

    Raises NotInstalled, OSError without a server.
    """
    here = installation.read()
    programs, current = Path(tools), Path(here.environment)
    plan = Path(state, "plan.json")
    found: dict[str, Any] = {
        "installation": here.facts(),
        "installed": current.is_symlink() and programs.is_dir(),
        "earlier": mlflow.tools(programs, plan)["earlier_switch"],
    }
    if found["installed"]:
        databases = Databases(programs, here, postgresql_bin)
        states, client = databases.status(), postgresql_client(postgresql_bin)
        readable = [one["kind"] for one in states if one.get("revision")]
        newest = max((one.get("server", 0) for one in states), default=0)
        found.update(
            serves=os.readlink(current),
            ready=not_ready(programs),
            databases=states,
            readable=readable,
            # What has no client yet, or one that is too old, is for the role to see to first.
            irreplaceable=databases.irreplaceable(readable)
            if client >= newest and readable
            else "",
            pending=plan.exists(),
            free_mb=free_mb(state),
            postgresql_client=client,
            old=old(Path(state), here, keep_days),
        )
    return found
