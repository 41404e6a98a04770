"""Where the tracking server of this host has its things: the record that its installation wrote."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, fields
from pathlib import Path

RECORD = Path("/etc/mlflow/installation.json")


class NotInstalledError(Exception):
    """There is no record here, or one of another release; the message is a sentence for people."""


@dataclass(frozen=True)
class Installation:
    """What the smoke takes of it.

    Attributes:
        unit: the service.
        user: the account that it runs as.
        environment: the link to the Python environment that it runs in.
        config_dir: the directory of its settings and secrets, which is root's.
        state_dir: the directory that is the service's own.
        admin_user: the name of MLflow's administrator; '' where there are no users.
    """

    unit: str
    user: str
    environment: str
    config_dir: str
    state_dir: str
    admin_user: str

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return f"{self.environment}/bin/python"

    @property
    def settings(self) -> Path:
        """Its environment file."""
        return Path(self.config_dir, "server.env")

    @property
    def password(self) -> Path:
        """The file that holds the administrator's password, and nothing else."""
        return Path(self.config_dir, "admin_password")


def read(record: Path = RECORD) -> Installation:
    """What is installed on this host.

    Args:
        record: the file that says so.

    Raises:
        NotInstalledError: where there is none, or where it says something else.
    """
    host = socket.gethostname()
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        return Installation(**{field.name: said[field.name] for field in fields(Installation)})
    except FileNotFoundError as error:
        raise NotInstalledError(
            f"There is no {record} on {host}: no MLflow server of this release is there. "
            "Run the playbook scenario2 or scenario3 first."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotInstalledError(
            f"{record} on {host} is of another release. Run the playbook scenario2 or scenario3."
        ) from error
