"""Debian's programs that tests start. What is missing is installed: no test is left out for it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest
from lab import LabError, apt_install, as_root, run
from versions import ROOT

# Without it, Debian makes a cluster with PostgreSQL, and starts it at every boot.
NO_CLUSTER = "/etc/postgresql-common/createcluster.d/mlflow-tests.conf"
WRITE_IT = 'mkdir -p "${0%/*}" && echo create_main_cluster = false > "$0"'


def see_to(*packages: str) -> None:
    """See to packages: postgresql, systemd (it need not run), and such as have a program's name."""
    lock = ROOT / ".cache/packages.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # of several processes that run tests, one installs
        there = {"postgresql": any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
                 "systemd": shutil.which("systemd-analyze")}  # fmt: skip
        missing = [name for name in packages if not there.get(name, shutil.which(name))]
        if not missing:
            return
        try:
            if "postgresql" in missing:
                run(*as_root(), "sh", "-c", WRITE_IT, NO_CLUSTER)
            try:
                apt_install(*missing)
            finally:
                run(*as_root(), "rm", "--force", NO_CLUSTER)
        except LabError as error:
            words = f"Tests need Debian's {' and '.join(missing)}. {error}"
            raise pytest.fail.Exception(words, pytrace=False) from None
