"""The record of what is installed on a host: one file, which the role mlflow_server writes.

Programs and playbooks of operations read it, so that each path is said once, in the inventory of
the scenario. What the server itself is told stands in its own file of settings.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

RECORD = Path("/etc/mlflow/installation.json")


class NotInstalled(Exception):
    """There is no record on this host, or one of another release; the message is a sentence."""


class OtherRelease(NotInstalled):
    """There is a record, and this release cannot read it."""


@dataclass(frozen=True)
class Installation:
    """Where things are.

    Attributes:
        scenario: which playbook has set it up.
        unit: the service.
        user: the user that it runs as.
        environment: the link to the Python environment that it runs in.
        config_dir: the directory of its settings and secrets, which is root's.
        state_dir: the directory that is the service's own.
        artifacts: where artifacts are: a directory, or s3://<bucket>/<prefix>.
        admin_user: the name of MLflow's administrator; '' where there are no users.
        leader: whether it is the first of the servers that share a database, or the only one.
    """

    scenario: str
    unit: str
    user: str
    environment: str
    config_dir: str
    state_dir: str
    artifacts: str
    admin_user: str
    leader: bool

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return Path(self.environment, "bin/python")

    @property
    def settings(self) -> Path:
        """What the server is told, as variables."""
        return Path(self.config_dir, "server.env")

    @property
    def secrets(self) -> Path:
        """Keys that were made on the host, as variables."""
        return Path(self.config_dir, "secrets.env")

    @property
    def admin_password(self) -> Path:
        """The administrator's password."""
        return Path(self.config_dir, "admin_password")

    def facts(self) -> dict[str, Any]:
        """Return all of it, paths as text, as playbooks use it."""
        paths = ("python", "settings", "secrets", "admin_password")
        return {**asdict(self), **{name: str(getattr(self, name)) for name in paths}}


def read(record: Path | None = None) -> Installation:
    """Return what is installed on this host.

    Args:
        record: the file; by default RECORD.

    Raises NotInstalled where there is no such file, OtherRelease where it cannot be read,
    PermissionError where it is not for this user.
    """
    record = record or RECORD
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        return Installation(**{field.name: said[field.name] for field in fields(Installation)})
    except FileNotFoundError as error:
        raise NotInstalled(f"There is no {record}: these playbooks set up no server here.") from (
            error
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OtherRelease(f"{record} is of another release of these playbooks.") from error


def not_here(why: Exception, called: str) -> str:
    """Return what a module says of a host without a record, or with one that it may not read.

    Args:
        why: what read() has raised.
        called: how a playbook is called, with `%s` for its name.
    """
    host = socket.gethostname()
    if isinstance(why, PermissionError):
        return (
            f"This needs root on {host}, where {why.filename} is not for others to read. Set "
            "become: true in the play, or connect as root. Nothing was changed."
        )
    return (
        f"There is no MLflow service of this release on {host}. {why} Run "
        f"{called % 'scenario2'} or {called % 'scenario3'} first, with the mlflow_version that "
        "serves now, if one does. Nothing was changed."
    )
