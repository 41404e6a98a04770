"""What of MLflow a host has already, without starting any of it."""

from __future__ import annotations

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
