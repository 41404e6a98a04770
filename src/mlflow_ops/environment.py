"""What there is of an environment that the role mlflow installs, and of what it is made with."""

from __future__ import annotations

import csv
import getpass
import inspect
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from . import any_python
from .host.files import free_mb, nearest_parent
from .host.mlflow import unusable


class NoAnswer(Exception):
    """A Python does not run; the text is what was said instead."""


def ask(python: str) -> dict[str, Any]:
    """Return what a Python, a path or a name on PATH, says of itself: `python` and `pip`.

    Raises:
        NoAnswer: it does not run.
    """
    try:
        done = subprocess.run(
            [python, "-I", "-"],
            input=inspect.getsource(any_python), capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        raise NoAnswer(str(error)) from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise NoAnswer(done.stderr.strip() or f"it ended with {done.returncode}") from None


def project(distribution: str) -> str:
    """Return a distribution's normalised project name: `Flask_WTF-1.3.0.dist-info` is flask-wtf."""
    return re.sub(r"[-_.]+", "-", distribution.split("-")[0]).lower()


def first_damage(environment: Path, names: list[str]) -> str:
    """Return the first thing that was installed and is not as it was, or ''.

    A package that someone added or replaced by pip is no damage: its own record is compared.

    Args:
        environment: its directory.
        names: the projects that were installed, normalised.
    """
    if why := unusable(environment):
        return why
    infos = list(environment.glob("lib/python*/site-packages/*.dist-info"))
    missing = {*names} - {project(info.name) for info in infos}
    if missing:
        return f"package {min(missing)}"
    for info in infos:
        with (info / "RECORD").open(newline="", encoding="utf-8") as record:
            for path, _, size in csv.reader(record):
                file = os.path.join(str(info.parent), path)
                # Compiled files have no size in a record: they come and go.
                if size and not (os.path.isfile(file) and os.path.getsize(file) == int(size)):
                    return file
    return ""


def look(python: str, root: str, name: str) -> dict[str, Any]:
    """Return what a role must know before it installs an environment.

    Args:
        python: what the environment is to be made with.
        root: the directory of environments, an absolute path.
        name: the environment's, below it.

    Raises:
        NoAnswer: that Python does not run.
    """
    said = ask(python)
    environment, current = Path(root, name), Path(root, "current")
    # Written last by the installation, so that an interrupted one has none, or an empty one.
    manifest = environment / ".complete"
    installed = manifest.read_text().split() if manifest.is_file() else []
    names = [project(line.split("==")[0].replace("-", "_")) for line in installed]
    try:
        damage = first_damage(environment, names)
    except OSError as error:
        damage = str(error.filename)
    nearest = nearest_parent(root)
    return {
        **said,
        "user": getpass.getuser(),
        "nearest": str(nearest),
        "writable": nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
        "free_mb": free_mb(root),
        "complete": bool(installed) and not damage,
        "damage": damage,
        "current": os.readlink(current) if current.is_symlink() else "",
        # It may yet move back: see role mlflow_switch.
        "trial": Path(root, ".on-trial").exists(),
    }
