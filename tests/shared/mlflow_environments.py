"""Environments with MLflow, as users get them: made from the locks, and kept in .cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from versions import LOCKS, ROOT

ENVIRONMENTS = ROOT / ".cache/mlflow"


def environment(version: str) -> Path:
    """Return the Python of an environment with a version of MLflow, made where there is none."""
    made_from = LOCKS[version].read_text() + sys.version
    name = f"{version}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    folder, complete = ENVIRONMENTS / name, ENVIRONMENTS / name / ".complete"
    uv = str(Path(sys.executable).with_name("uv"))
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several runs of the tests, one makes it
        if not complete.exists():
            for other in ENVIRONMENTS.glob(f"{version}-*"):
                shutil.rmtree(other)
            for arguments in (
                ["venv", f"--python={sys.executable}", str(folder)],
                ["pip", "sync", "--require-hashes", f"--python={folder}", str(LOCKS[version])],
            ):
                subprocess.run(
                    [uv, "--quiet", *arguments],
                    check=True,
                    env={**os.environ, "UV_SYSTEM_CERTS": "true"},
                )
            complete.touch()
    return folder / "bin/python"
