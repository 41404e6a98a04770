"""What the doctor finds, and how a check is entered and asks its host."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import units as systemd

if TYPE_CHECKING:
    from .patient import Patient


MANAGED = "Ansible managed"  # at the top of each file that a role writes
TIMEOUT = 10.0  # seconds that a server may take to answer


class Unseen(Exception):
    """Something cannot be looked at; the message says why."""


@dataclass(frozen=True)
class Finding:
    """Something that a person should know."""

    severity: str
    what: str
    means: str
    remedy: str
    check: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at: on which kinds of host, and after which others have found no error."""

    name: str
    kinds: tuple[str, ...]
    after: tuple[str, ...]
    look: Callable[[Patient], Iterator[Finding]]


CHECKS: list[Check] = []
error = functools.partial(Finding, "error")
warning = functools.partial(Finding, "warning")
note = functools.partial(Finding, "note")


def check(name: str, *kinds: str, after: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Enter a function into the list of checks."""

    def enter(look: Callable[[Patient], Iterator[Finding]]) -> Any:
        CHECKS.append(Check(name, kinds, after, look))
        return look

    return enter


def run(
    command: list[str], given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises Unseen where there is none."""
    try:
        return subprocess.run(
            command, input=given, text=True, errors="replace", capture_output=True, check=False,
            timeout=120, cwd="/", env={**os.environ, **environment, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except FileNotFoundError as absent:
        raise Unseen(f"there is no {command[0]} here") from absent


def show(pattern: str) -> list[dict[str, str]]:
    """Return what systemd says of the units that a name, or a pattern, stands for."""
    properties = (
        "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload",
        "DropInPaths", "ReadWritePaths", "ProtectSystem", "ExecMainStartTimestamp",
    )  # fmt: skip
    try:
        return systemd.show([pattern], properties)
    except FileNotFoundError as absent:
        raise Unseen("there is no systemctl here") from absent
    except subprocess.CalledProcessError:
        return []


def names(uid: int, gid: int) -> str:
    """Return owner and group as `chown` takes them."""
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    try:
        return f"{owner}:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"{owner}:{gid}"


def give(path: Path, owner: str, mode: str) -> str:
    """Return the commands by which root gives a path its owner and mode.

    In a directory of somebody else's there may be a link in its place when they are given: chmod
    follows one, and so is left to the owner.
    """
    if path.parent.lstat().st_uid == 0:
        return f"chown {owner} {path}; chmod {mode} {path}"
    return f"chown -h {owner} {path}; runuser -u {owner.split(':')[0]} -- chmod {mode} {path}"


def paths(pattern: str) -> list[Path]:
    """Return what there is of an absolute pattern."""
    return sorted(Path("/").glob(pattern.lstrip("/")))


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["nothing"])[-1]
