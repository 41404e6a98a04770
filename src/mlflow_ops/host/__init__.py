"""What a role must know of a host before it changes anything: one look, with named facts.

`look` answers a question, a dictionary. Each key asks for something by name, and what nobody asks
for costs nothing. Nothing here changes a host.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import installation, places
from . import accounts, files, machine, mlflow, nginx, ports, units, ways

Facts = dict[str, Any]


class UnknownQuestion(Exception):
    """A look was asked for something that it does not know; the text says what it knows."""


def root_and_systemd() -> Facts:
    """Return who looks, and what runs the host; on a Mac there is no process 1 to read of."""
    try:
        pid1 = Path("/proc/1/comm").read_text().strip()
    except OSError:
        pid1 = ""
    return {
        "root": os.geteuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir(),
        "pid1": pid1,
        "ipv6": Path("/proc/net/if_inet6").exists(),
    }


def installed_here() -> Facts:
    """Return what the record on this host says of its server; nothing without a server.

    Raises OtherRelease where it cannot be read.
    """
    try:
        return installation.read().facts()
    except installation.OtherRelease:
        raise
    except (installation.NotInstalled, PermissionError):
        return {}


def python_modules(names: list[str]) -> dict[str, bool]:
    """Return which Python modules there are, for the Python that looks."""
    return {name: importlib.util.find_spec(name) is not None for name in names}


# What can be asked, and who answers. Each gets what stands under its key, and returns facts.
ANSWERS: dict[str, Callable[[Any], Facts]] = {
    "about": lambda _: {},
    "contents": lambda paths: {"contents": files.contents(paths)},
    "databases": lambda asked: {"databases": {one["path"]: files.database(one) for one in asked}},
    "environments": lambda paths: {
        "mlflow": {path: mlflow.installed(path) for path in paths},
        "unusable": {path: why for path in paths if (why := mlflow.unusable(path))},
    },
    "files": files.in_order,
    "free": lambda paths: {
        "free_mb": {path: files.free_mb(path) for path in paths},
        "in_memory": [path for path in paths if files.in_memory(path)],
    },
    "keeps": lambda asked: {
        "moved": places.moved(places.installed(asked["owner"], asked["file"]), asked["wanted"])
    },
    "machine": lambda asked: dict(machine.size_and_names()) if asked else {},
    "installation": lambda asked: {"installation": installed_here()} if asked else {},
    "keeps_addresses": lambda asked: {"keeps_addresses": not asked or units.keeps_addresses()},
    "nginx": lambda asked: {"nginx": nginx.state()} if asked else {},
    "packages": lambda names: {"missing_packages": machine.missing_packages(names)},
    "pairs": lambda pairs: {
        "pairs": {
            pair["certificate"]: files.pair(pair["certificate"], pair["key"]) for pair in pairs
        }
    },
    "paths": lambda asked: {"paths": files.places(asked)},
    "ports": ports.listeners,
    "python_modules": lambda names: {"python_modules": python_modules(names)},
    "resolve": lambda urls: {"unresolved": machine.unresolved(urls)},
    "texts": lambda paths: {"texts": {path: files.text(path) for path in paths}},
    "tools": lambda current: {"tools": mlflow.tools(Path(current))},
    "units": lambda asked: {"units": units.states(asked)},
    "users": lambda names: {"users": {name: accounts.account(name) for name in names}},
    "ways": lambda asked: {"ways": ways.traps(asked)},
}


def look(question: Mapping[str, Any]) -> Facts:
    """Return what a question asks for, and who looks.

    Raises:
        UnknownQuestion: a key is none of `ANSWERS`.
    """
    if unknown := sorted({*question} - {*ANSWERS}):
        raise UnknownQuestion(
            f"Nobody can answer {', '.join(unknown)}; a question has {', '.join(sorted(ANSWERS))}."
        )
    found = root_and_systemd()
    for name, asked in question.items():
        found.update(ANSWERS[name](asked))
    return found
