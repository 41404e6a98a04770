"""Tell what the role `nginx` must know of a host before it changes anything, as JSON.

Argument: a JSON object with unit, ports, files (what nginx reads at a start or a reload), and
written (what the role writes, root's with mode 0644).

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])


def version() -> str:
    """Return nginx's version, or '' where it is not installed."""
    try:
        said = subprocess.run(["/usr/sbin/nginx", "-v"], stderr=subprocess.PIPE).stderr.decode()
    except OSError:
        return ""
    return said.strip().rsplit("/", 1)[-1].split()[0]


def listeners(port: int) -> list:
    """Return who listens on a TCP port, without our own unit."""
    sockets = set()
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not sockets:
        return []
    others, known = set(), False
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(str(link)) not in sockets:
                continue
            known = True
            process = link.parent.parent
            groups = (process / "cgroup").read_text().splitlines()
            if not any(re.search(rf"/{re.escape(asked['unit'])}(/|$)", group) for group in groups):
                name = (process / "comm").read_text().strip()
                others.add((int(process.name), name))
        except OSError:  # it ended meanwhile
            continue
    # Of a parent and its children, the parent.
    named = [f"process {pid} ({name})" for pid, name in sorted(others)[:1]]
    return named if known else ["a process that this host does not show"]


def digest(file: str) -> str:
    """Return a file's sha256, or '' where it is absent or not root's with mode 0644."""
    try:
        status = os.stat(file)
        if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (0, 0, 0o644):
            return ""
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def unit_state() -> dict:
    """Return what systemd says of the unit; nothing where there is no systemd."""
    properties = "ActiveState,NeedDaemonReload,StateChangeTimestamp,UnitFileState"
    show = ["systemctl", "show", "--timestamp=unix", f"--property={properties}", asked["unit"]]
    try:
        said = subprocess.check_output(show, universal_newlines=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split("=", 1) for line in said.splitlines())


# A run that was killed has changed files, and not told nginx or systemd.
state = unit_state()
changed = [os.stat(file).st_mtime for file in asked["files"] if os.path.exists(file)]
since = int(state.get("StateChangeTimestamp", "").lstrip("@") or 0)
default = Path("/etc/nginx/sites-enabled/default")
print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": Path("/run/systemd/system").is_dir(),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "ipv6": Path("/proc/net/if_inet6").exists(),
            "version": version(),
            "listeners": {port: found for port in asked["ports"] for found in listeners(port)},
            "default_site": default.is_symlink()
            and os.readlink(str(default)).endswith("sites-available/default"),
            "digests": {file: digest(file) for file in asked["written"]},
            "drop_in_dir": Path(f"/etc/systemd/system/{asked['unit']}.d").is_dir(),
            "serves": state.get("ActiveState") == "active"
            and state.get("UnitFileState") == "enabled",
            "stale_unit": state.get("NeedDaemonReload") == "yes",
            "stale": state.get("ActiveState") == "active" and since < int(max(changed, default=0)),
        }
    )
)
