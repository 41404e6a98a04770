"""The lock on the service's data: it keeps those apart who copy, clean or replace all of it.

A backup saves the databases first and copies the artifacts afterwards: what a cleaning removed in
between would be missing in it; and what a switch to another version or other data saves, it may
bring back. A shell takes the same lock by `flock DIRECTORY COMMAND`; the directory is that of the
service's settings, /etc/mlflow where no other is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from . import installation

PATIENCE = 6 * 3600  # seconds: longer than a backup takes whose artifacts are not all new
SWITCH = Path("/var/lib/mlflow-switch")  # the state of a switch, see rollout.py


class Held(OSError):
    """Somebody else has it; the message says so."""


@contextlib.contextmanager
def hold(directory: str | Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock; wait, with a word, for who has it.

    Args:
        directory: that of the service's settings.
        patience: seconds to wait.

    Raises:
        Held: somebody else has it for longer than that.
    """
    who = f"A backup, a cleaning, a rotation or a switch has the data (lslocks | grep {directory})."
    deadline, said = time.monotonic() + patience, patience == 0
    place = os.open(directory, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Held(f"{who} Have that end, or wait; then do this again.") from None
                if not said:
                    print(f"{who} Waiting.", flush=True)
                said = True
                time.sleep(0.2)
        yield
    finally:
        os.close(place)


def unfinished() -> bool:
    """Return whether a switch is not finished, though its host may have died with the lock."""
    return (SWITCH / "plan.json").exists()


@contextlib.contextmanager
def data_lock(patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of this host's service, as root or the service's user.

    Args:
        patience: seconds to wait.

    Raises:
        Held: somebody else has it for longer than that; or what a switch left is in no state.
    """
    with hold(installation.read().config_dir, patience):
        if unfinished():
            raise Held(
                "A switch to another version or other data is not finished, and the data is not to "
                "be relied on: systemctl status mlflow-switch. Run this again when it is."
            )
        yield
