"""A PostgreSQL cluster of the tests' own, from Debian's package, which ends with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from debian import see_to

OWNER = "mlflow"  # as on a server: no superuser, and may make neither databases nor roles


class Cluster:
    """Databases at a Unix socket, where everybody is believed to be who she says."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def sql(self, database: str, *statements: str, role: str = "postgres") -> str:
        """Run statements; return what they answer."""
        words = [word for statement in statements for word in ("-c", statement)]
        return subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.place, "-U", role,
             "-d", database, *words],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database of the owner's; return its address."""
        self.sql("postgres", f"CREATE DATABASE {database} OWNER {OWNER} TEMPLATE {template}")
        return self.uri(database)

    def uri(self, database: str, role: str = OWNER) -> str:
        """Return a database's address."""
        return f"postgresql+psycopg://{role}@/{database}?host={self.place}"


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run one."""
    see_to("postgresql")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: one.parts[4])
    programs = found[-1].parent
    place = Path(tempfile.mkdtemp(prefix="mlflow-cluster-"))
    become: dict[str, Any] = {}
    if os.geteuid() == 0:  # as whom it refuses to run
        shutil.chown(place, "postgres", "postgres")
        become = {"user": "postgres", "group": "postgres", "extra_groups": []}
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **become}
    data, options = f"{place}/data", f"-c listen_addresses='' -k {place} -F"
    try:
        initdb = [f"{programs}/initdb", "--auth=trust", "--username=postgres", "--no-sync"]
        subprocess.run([*initdb, "--encoding=UTF8", "--locale=C.UTF-8", data], **quiet)
        control = [f"{programs}/pg_ctl", f"--pgdata={data}", "--wait", f"--log={place}/log"]
        subprocess.run([*control, "start", "-o", options], **quiet)
        try:
            running = Cluster(place)
            running.sql("postgres", f"CREATE ROLE {OWNER} LOGIN", "CREATE ROLE grafana LOGIN")
            yield running
        finally:
            subprocess.run([*control, "stop", "--mode=immediate"], **quiet)
    finally:
        shutil.rmtree(place)
