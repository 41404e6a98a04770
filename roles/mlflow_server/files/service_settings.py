"""What this host's MLflow service was told, for the programs beside this file.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

ENV_FILE = Path("/etc/mlflow/server.env")


def parse(text: str) -> dict[str, str]:
    """Return the variables of a file that systemd would read as an environment file."""
    return dict(line.split("=", 1) for line in shlex.split(text, comments=True))


def read_settings(env_file: Path = ENV_FILE) -> dict[str, str]:
    """Return the service's settings: those of the environment, or else of the service's file.

    Raises OSError where there is neither.
    """
    if "MLFLOW_BACKEND_STORE_URI" in os.environ:
        return dict(os.environ)
    return parse(env_file.read_text(encoding="utf-8"))


def authentication(settings: dict[str, str]) -> dict[str, str]:
    """Return MLflow's basic-auth settings, with admin_username, admin_password and database_uri.

    Nothing where authentication is off.
    """
    path = settings.get("MLFLOW_AUTH_CONFIG_PATH")
    if not path:
        return {}
    parser = configparser.ConfigParser()
    parser.read(path, encoding="utf-8")
    return dict(parser["mlflow"])


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
