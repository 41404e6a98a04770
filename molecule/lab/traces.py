"""What is on a host that was not there before: compared with a fresh one of the same image."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from hosts import over_ssh

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, str(ROOT / "molecule/lab/lab.py")]

# Files, users, groups and units. Not what Debian keeps of its own doings, or people of theirs.
LIST = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
  -o -path /var/tmp -o -path /home -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
  -o -path /var/lib/dpkg -o -path /var/lib/systemd/timers \) -prune -o -print
find /var/lib/systemd/timers /var/log /run /tmp /var/tmp -name '*mlflow*'
getent passwd | sed 's/:.*//; s/^/user /'
getent group | sed 's/:.*//; s/^/group /'
systemctl list-unit-files --no-legend --no-pager | sed 's/ .*//; s/^/unit /'
"""
# Packages that only the first has: Debian's, and there for others to use.
PACKAGED = "dpkg-query --show --showformat '${Package}\\n'"
# What these make when they are installed, and Debian leaves when they are removed.
MADE = re.compile(
    r"/etc/(default/locale|locale.gen|networks)|/etc/ssl/.*(ssl-cert-snakeoil.*|/[0-9a-f]{8}\.0)"
    r"|.*/__pycache__.*|(user|group) (postgres|prometheus)|group ssl-cert"
    r"|unit logrotate.*|.*/logrotate.timer.*"
    r"|/var/lib/ucf/.*|/var/lib/systemd/deb-systemd-helper-enabled/.*"
)


@functools.cache
def fresh(image: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what is on a fresh host of an image, and its packages: the same for each."""
    name = f"fresh-{uuid.uuid4().hex[:6]}"  # of several that may be compared just now
    subprocess.run([*LAB, "up", name, f"fresh:{image}", "--user", "ops"], check=True)
    try:
        inventory = json.loads((ROOT / ".lab" / name / "hosts.yml").read_text())
        settings = next(hosts for group in inventory.values() for hosts in group["hosts"].values())
        there, packages = (
            frozenset(over_ssh(settings, f"sudo sh -c '{script}'", "ops").splitlines())
            for script in (LIST.replace("'", "'\\''"), PACKAGED.replace("'", "'\\''"))
        )
    finally:
        subprocess.run([*LAB, "down", name], check=True)
    return there, packages


def traces(root: Callable[[str], str], image: str) -> set[str]:
    """Return what a host has that a fresh one of that image has not, but for Debian's packages.

    Args:
        root: runs a shell script on the host as root, and returns what it prints.
        image: debian12 or debian13.
    """
    there, packages = fresh(image)
    added = {*root(PACKAGED).splitlines()} - packages
    files = root(f"dpkg --listfiles {' '.join(added)}").splitlines() if added else []
    packaged = {*files, *(f"/usr{file}" for file in files)}  # /lib is /usr/lib
    found = {*root(LIST).splitlines()} - there - packaged
    return {trace for trace in found if not MADE.fullmatch(trace)}
