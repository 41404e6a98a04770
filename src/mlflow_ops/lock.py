"""The lock on the service's data, which keeps those apart who copy, clean or replace all of it.

A backup saves the databases first and copies the artifacts afterwards: what a cleaning removed in
between would be missing in it. A shell takes the same lock by `flock DIRECTORY
COMMAND`; the directory is that of the service's settings, /etc/mlflow where no other is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from . import installation


@contextlib.contextmanager
def data_lock() -> Iterator[None]:
    """Hold the lock; wait, with a word, for who has it. Root and the service's user may take it."""
    settings = installation.read().config_dir
    directory = os.open(settings, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for who else holds the data (lslocks | grep {settings}).")
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
