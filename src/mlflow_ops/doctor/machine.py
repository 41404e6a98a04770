"""What every host needs: room, and the right time."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .. import INSTALLED
from .patient import SQLITE, Patient
from .report import Finding, Unseen, check, run, warning
from .tls import skew

LEAST_MB = 300  # free, below which MLflow does not work
UNKEPT = 5  # what the kernel answers while nobody keeps its clock


@check("disk", "host", "client", "local")
def disk(p: Patient) -> Iterator[Finding]:
    """Whether there is room, and room for more files."""
    least = {path: int(mb) for path, mb in p["disks"].items()}
    for name in [*p.directories, "/tmp", "/var/log", "/"]:  # noqa: S108 looked at, not used
        least.setdefault(name, LEAST_MB)
    seen: set[int] = set()
    for name in sorted(least, key=lambda path: -least[path]):
        path = Path(name)
        while not path.exists():
            path = path.parent
        if path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        room = os.statvfs(path)
        free = room.f_bavail * room.f_frsize // 1_000_000
        inodes = room.f_favail / room.f_files if room.f_files else 1
        means = "Runs, models or the log of the database cannot be written, now or soon."
        if free < max(least[name], p["free_mb"]):
            yield Finding(
                "error" if free < max(least[name], LEAST_MB) else "warning",
                f"The disk of {name} has {free} MB left.", means,
                f"df -h {path}; du -xsh {path}/* | sort -h: free some, or make it larger",
            )  # fmt: skip
        if inodes < 0.05:
            yield Finding(
                "error" if inodes < 0.01 else "warning",
                f"The disk of {name} has {room.f_favail} inodes left ({inodes:.1%}): room for so "
                "many files, however small.", means,
                f"df -i {path}; du -x --inodes {path} | sort -n | tail: remove some, or make it "
                "anew with more",
            )  # fmt: skip


@check("clock", "host", "client", after=("answer",))
def clock(p: Patient) -> Iterator[Finding]:
    """Whether this host's clock is right, as far as others and the kernel can tell."""
    if "server" in p.kinds:
        p.skews.update(database_clock(p))
    for whose, seconds in p.skews.items():
        yield from skew(seconds, whose)
    kernels_own = sys.platform == "linux" and not in_container()
    if not (kernels_own or p.skews):
        raise Unseen("a container has its host's clock, and here is no other to compare it with")
    if kernels_own and ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == UNKEPT:
        yield warning(
            "Nobody keeps this host's clock: it is not synchronised.",
            "It will drift from the clocks of other hosts.",
            "timedatectl set-ntp true (Debian: apt install systemd-timesyncd)",
        )


def in_container() -> bool:
    """Tell whether this is a container, whose clock is another host's affair."""
    return run(["systemd-detect-virt", "--quiet", "--container"]).returncode == 0


def database_clock(p: Patient) -> dict[str, float]:
    """Return how far a PostgreSQL on another host is ahead; nothing where there is none."""
    try:
        uri = p.databases["tracking"]
    except (Unseen, OSError, ValueError, KeyError):
        return {}  # said by another check
    if uri.startswith(SQLITE) or "host" in parse_qs(urlsplit(uri).query):
        return {}
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from mlflow_ops import database; print(database.connect("
        "sys.stdin.read()).execute('SELECT extract(epoch FROM clock_timestamp())').fetchone()[0])"
    )
    before = time.time()
    done = p.as_service([p.python, "-I", "-c", program, str(INSTALLED)], uri)
    middle = (before + time.time()) / 2
    return {} if done.returncode else {"the database's": float(done.stdout) - middle}
