"""What a role must know of a host before another version of MLflow, or other data, comes there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import installation
from .host.files import free_mb
from .settings import read_file


def databases(tools: Path, python: Path, user: str, told: dict[str, str]) -> list[dict[str, Any]]:
    """Return the databases' states, as the installed MLflow sees them; [] if it does not answer."""
    command = ["runuser", f"--user={user}", "--", str(python), "-Es", str(tools)]
    try:
        said = subprocess.run(
            [*command, "database", "status"],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
            env={"PATH": os.environ["PATH"], **told},
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return []
    return list(json.loads(said)["databases"])


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


def look(tools: str, state: str, postgresql_bin: str) -> dict[str, Any]:
    """Return what there is; of a host without a server only that, as `installed`.

    Args:
        tools: the directory of the programs, or a link to it.
        state: a directory, which need not exist.
        postgresql_bin: where to look for PostgreSQL's programs first; '' for nowhere.

    Raises NotInstalled, OSError without a server.
    """
    here = installation.read()
    programs, current = Path(tools), Path(here.environment)
    plan = Path(state, "plan.json").exists()
    found: dict[str, Any] = {
        "installation": here.facts(),
        "installed": current.is_symlink() and programs.is_dir(),
        "earlier": plan and (programs.parent / "switch.py").exists(),
    }
    if found["installed"]:
        told = read_file(here.settings)
        found.update(
            serves=os.readlink(current),
            ready=not_ready(programs),
            databases=databases(programs, here.python, here.user, told),
            pending=plan,
            free_mb=free_mb(state),
            postgresql_client=postgresql_client(postgresql_bin),
        )
    return found
