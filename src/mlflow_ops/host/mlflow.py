"""What of MLflow a host has already, without starting MLflow."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TypedDict

PLAN = Path("/var/lib/mlflow-switch/plan.json")  # there while a switch is not finished


class Tools(TypedDict):
    """The programs that this repository installs on hosts.

    Attributes:
        directory: of those in use; '' where there are none.
        others: whether there are programs besides them.
        earlier_switch: whether an earlier release, with loose programs, has not finished a switch.
    """

    directory: str
    others: bool
    earlier_switch: bool


def installed(environment: str) -> str:
    """Return the version of the MLflow in a Python environment; '' for none."""
    found = Path(environment).glob("lib/python3*/site-packages/mlflow-[0-9]*.dist-info")
    return next((info.name.split("-")[1].replace(".dist", "") for info in found), "")


def packages(environment: str | Path) -> Path:
    """Return where an environment's Python looks for packages.

    They may lie elsewhere: it is the host's Python, which a new release of the system replaces.

    Raises OSError where it does not run.
    """
    tell = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run(
        [f"{environment}/bin/python", "-BI", "-c", tell],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise OSError(words[-1] if words else f"it ended with {done.returncode}")
    return Path(done.stdout.strip())


def unusable(environment: str | Path) -> str:
    """Return why an environment's Python cannot use the MLflow in it; '' where it can, or is none.

    Args:
        environment: its directory.
    """
    if not installed(str(environment)):
        return ""
    try:
        place = packages(environment)
    except OSError as error:
        return f"{environment}/bin/python does not run: {error}"
    if any(place.glob("mlflow-[0-9]*.dist-info")):
        return ""
    return f"{environment}/bin/python is {place.parent.name} now, and its packages are not for that"


def tools(current: Path, plan: Path = PLAN) -> Tools:
    """Return what there is of the programs.

    Args:
        current: the link to those in use.
        plan: what a switch keeps while it is not finished.
    """
    there = list(current.parent.iterdir()) if current.parent.is_dir() else []
    return {
        "directory": str(current.resolve()) if current.is_dir() else "",
        "others": bool({path.name for path in there} - {current.name, current.resolve().name}),
        "earlier_switch": plan.exists() and (current.parent / "switch.py").exists(),
    }
