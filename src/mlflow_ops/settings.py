"""What this host's MLflow service was told."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import pwd
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import installation

# The administrator's password, in a process that read it as root and is the service's user since.
_kept: dict[str, str] = {}


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file that systemd would read as an environment file."""
    return dict(line.split("=", 1) for line in shlex.split(text, comments=True))


def read_settings() -> dict[str, str]:
    """Return the service's settings: those of the environment, or else of the service's file.

    Raises NotInstalled, OSError where there is neither.
    """
    if "MLFLOW_BACKEND_STORE_URI" in os.environ:
        return dict(os.environ)
    return read_file(installation.read().settings)


def read_file(file: Path) -> dict[str, str]:
    """Return the variables of a file. Raises OSError."""
    return parse(file.read_text(encoding="utf-8"))


def authentication(settings: dict[str, str]) -> dict[str, str]:
    """Return MLflow's basic-auth settings, with admin_username, admin_password and database_uri.

    Nothing where authentication is off. The password is in a file of its own, which root alone may
    read; for others it is empty. (A host that was set up before has it in MLflow's file as well.)
    """
    path = settings.get("MLFLOW_AUTH_CONFIG_PATH")
    if not path:
        return {}
    parser = configparser.ConfigParser()
    parser.read(path, encoding="utf-8")
    found = dict(parser["mlflow"])
    if not (password := _kept.get(path, "")):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            file = Path(path).with_name("admin_password")
            password = file.read_text(encoding="utf-8").rstrip("\n")
    return {**found, "admin_password": password or found.get("admin_password", "")}


def become(user: str, settings: dict[str, str]) -> None:
    """Be the service's user from now on, and keep the administrator's password in memory.

    That memory is not for the user's other processes to see: the kernel closes it when a process
    changes its user, until it runs another program. Does nothing where root is not at work.
    """
    if os.geteuid() != 0:
        return
    if password := authentication(settings).get("admin_password"):
        _kept[settings["MLFLOW_AUTH_CONFIG_PATH"]] = password
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def databases(settings: dict[str, str]) -> dict[str, str]:
    """Return the addresses of the databases by kind, `tracking` and, with users, `auth`."""
    found = {"tracking": settings["MLFLOW_BACKEND_STORE_URI"]}
    if auth := authentication(settings):
        found["auth"] = auth["database_uri"]
    return found


def with_password(uri: str, password: str) -> str:
    """Return a database's address with another password, written as the role's templates do."""
    written = quote(password, safe="")
    return re.sub(r"(?<=://)([^:@/]*):[^@]*@", lambda found: f"{found[1]}:{written}@", uri, count=1)


def rotation(settings: dict[str, str]) -> list[dict[str, Any]]:
    """Return the old and the new secrets while they are rotated, each by name; see rotation.py."""
    return list(json.loads(settings.get("MLFLOW_ROTATION", "{}")).values())
