"""What a role must know of a host before it sets up backups there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .. import installation, settings
from ..host import files, root_and_systemd, ways

SERVER_PROGRAMS = Path("/usr/lib/postgresql")  # where Debian keeps PostgreSQL's, by version


def databases(told: dict[str, str]) -> list[str]:
    """Return the addresses of the service's databases."""
    found = [told.get("MLFLOW_BACKEND_STORE_URI", "")]
    if Path(told.get("MLFLOW_AUTH_CONFIG_PATH", "")).is_file():
        found.append(settings.authentication(told).get("database_uri", ""))
    return [uri for uri in found if uri]


def refused(calendar: str) -> str:
    """Return what systemd says against a calendar expression, or ''."""
    if not calendar or not shutil.which("systemd-analyze"):
        return ""
    done = subprocess.run(
        ["systemd-analyze", "calendar", calendar], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


def look(
    target: str, calendar: str, postgresql_bin: str, verify_calendar: str = ""
) -> dict[str, Any]:
    """Return what there is.

    Args:
        target: a directory for backups; '' for S3.
        calendar: when backups are made, as systemd writes it; '' for never.
        postgresql_bin: a directory with pg_dump; '' for what is on the PATH.
        verify_calendar: when sets are verified, likewise.

    Raises NotInstalled, OSError without a server.
    """
    here = installation.read()
    told = settings.read_file(here.settings)
    uris = databases(told)
    sqlite = [uri[len("sqlite:///") :] for uri in uris if uri.startswith("sqlite:///")]
    artifacts = here.artifacts
    real = os.path.realpath(target) if target else ""
    sources = {os.path.dirname(os.path.realpath(path)) for path in sqlite}
    if artifacts.startswith("/"):
        sources.add(os.path.realpath(artifacts))
    return {
        **root_and_systemd(),
        "installation": here.facts(),
        # Not where a link there leads: it would be opened to the backup.
        "sqlite": sorted({os.path.dirname(path) for path in sqlite}),
        "postgresql": len(sqlite) < len(uris),
        "ways": ways.traps({"target": target}) if target else {},
        "inside": sorted(
            path for path in sources if real and os.path.commonpath([path, real]) == path
        ),
        "target": real,
        "target_kind": files.kind(Path(real)) if real else "none",
        "free_mb": files.free_mb(real) if real else -1,
        "programs": [name for name in ("rclone", "age") if shutil.which(name)],
        "pg_dump": shutil.which("pg_dump", path=postgresql_bin or None) or "",
        "initdb": any(SERVER_PROGRAMS.glob("*/bin/initdb")),
        "calendar": refused(calendar),
        "verify_calendar": refused(verify_calendar),
    }
