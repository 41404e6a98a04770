"""The environment in which the smoke runs: a project's own, taken as a person takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# Says which Python a shell has after `source activate`, and every variable that it exports.
PROBE = "import json, os, sys; print(json.dumps([sys.prefix, dict(os.environ)]))"


def activate(project: Path) -> Path:
    """Sources `activate` of a project in a real sh and takes over what it exports.

    Args:
        project: the project directory.

    Returns:
        The environment whose `python` a person gets there, symlinks resolved.

    Raises:
        FileNotFoundError: when there is no such project.
        RuntimeError: when the shell or that `python` fails; with what they said.
    """
    if not (project / "activate").is_file():
        raise FileNotFoundError(f"no file {project / 'activate'}")
    # Output of activate itself may come first, and -I keeps the project's own modules out.
    shell = subprocess.run(
        ["/bin/sh", "-c", '. "$1" && exec python -I -c "$2"', "sh", project / "activate", PROBE],
        cwd=project,
        capture_output=True,
        text=True,
    )
    if shell.returncode != 0:
        said = shell.stderr.strip().splitlines() or [f"exit code {shell.returncode}"]
        raise RuntimeError(said[-1])
    prefix, variables = json.loads(shell.stdout.splitlines()[-1])
    os.environ.clear()
    os.environ.update(variables)
    return Path(prefix).resolve()


def interpreter() -> Path:
    """The environment that runs this program, symlinks resolved."""
    return Path(sys.prefix).resolve()
