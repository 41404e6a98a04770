"""The lock on the service's data, which keeps those apart who copy, clean or replace all of it.

A backup saves the databases first and copies the artifacts afterwards: what a cleaning removed in
between would be missing in it. A shell takes the same lock by `flock DIRECTORY
COMMAND`; the directory is that of the service's settings, /etc/mlflow where no other is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from . import installation

PATIENCE = 6 * 3600  # seconds: longer than a backup takes whose artifacts are not all new


@contextlib.contextmanager
def data_lock() -> Iterator[None]:
    """Hold the lock; wait, with a word, for who has it. Root and the service's user may take it.

    Raises TimeoutError where nobody gives it up.
    """
    settings = installation.read().config_dir
    directory = os.open(settings, os.O_RDONLY)
    try:
        if not taken(directory):
            print(f"Waiting for who else holds the data (lslocks | grep {settings}).", flush=True)
            deadline = time.monotonic() + PATIENCE
            while not taken(directory):
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"Somebody has held the data for {PATIENCE // 3600} hours: lslocks | grep "
                        f"{settings} says who. Have that end; then do this again."
                    ) from None
                time.sleep(1)
        yield
    finally:
        os.close(directory)


def taken(directory: int) -> bool:
    """Return whether the lock was free, and is ours now."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
