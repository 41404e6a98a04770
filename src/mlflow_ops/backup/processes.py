"""Programs that are started, and are ended where they hang: a lock is held meanwhile.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
from pathlib import Path

from .sets import Trouble

IDLE = 3600  # seconds in which a program that hangs does nothing


def bounded(*command: str, patience: float = IDLE) -> str:
    """Run a command; return what it says where it fails. Raises Trouble where it has no end."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=patience
        )
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"{' '.join(command)} did not end.") from error
    return (done.stderr.strip() or f"{command[0]} failed") if done.returncode else ""


def ended(
    process: subprocess.Popen[str], stdin: str | None, name: str
) -> subprocess.CompletedProcess[str]:
    """Return what a program said when it has ended, which leads a session of its own.

    Raises Trouble, and ends it with all that it has started, where they do nothing any more.
    """
    before = worked()
    try:
        while True:
            try:
                stdout, stderr = process.communicate(stdin, timeout=IDLE)
                return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
            except subprocess.TimeoutExpired as error:
                if (now := worked()) < before + 1:
                    raise Trouble(
                        f"{name} has done nothing for {IDLE / 60:.0f} minutes. Does the database "
                        "answer, and does somebody lock its tables?"
                    ) from error
                stdin, before = None, now
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def worked() -> float:
    """Return how many seconds of a processor this unit has used; no end of them if nobody knows.

    The processes of another user a unit does not see, but their cgroup.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        used = Path("/sys/fs/cgroup", group, "cpu.stat").read_text().split()
        return int(used[used.index("usage_usec") + 1]) / 1e6
    return math.inf
