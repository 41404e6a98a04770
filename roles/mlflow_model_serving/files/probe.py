"""Tell what the role `mlflow_model_serving` must know of a host before it changes any, as JSON.

Argument: a JSON object with root, user, port (0: none), locations (a directory that nginx should
include), drop_in (of nginx' unit, where it is ours), files (what nginx reads of ours).

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])


def listener(port: int) -> str:
    """Return who listens on a TCP port: '' for nobody, or for nginx."""
    sockets = set()
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                sockets.add("socket:[" + fields[9] + "]")
    if not sockets:
        return ""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(str(link)) not in sockets:
                continue
            process = link.parent.parent
            name = (process / "comm").read_text().strip()
            return "" if name == "nginx" else f"process {process.name} ({name})"
        except OSError:  # it ended meanwhile
            continue
    return "a process that this host does not show"


def person(user: str) -> bool:
    """Return whether an account is a person's, or root's."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return False
    return uid == 0 or uid >= 1000


def nginx_state() -> dict:
    """Return what systemd says of nginx; nothing where it does not say."""
    properties = "ActiveState,StateChangeTimestamp,UnitFileState"
    show = ["systemctl", "show", "--timestamp=unix", "--property=" + properties, "nginx.service"]
    try:
        said = subprocess.check_output(show, stderr=subprocess.DEVNULL, universal_newlines=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in said.splitlines())


# By a run that was killed: nginx is there, with its welcome page, and the drop-in is ours.
half_installed = os.path.exists(asked["drop_in"]) and os.path.islink(
    "/etc/nginx/sites-enabled/default"
)
nearest = Path(asked["root"])
while not nearest.exists():
    nearest = nearest.parent
include = re.compile(r"(?m)^\s*include\s+" + re.escape(asked["locations"]) + r"/\*\.conf;")
sites = Path("/etc/nginx").glob("conf.d/*.conf")
state = nginx_state()
# A run that was killed has changed files, and not told nginx.
changed = [os.stat(file).st_mtime for file in asked["files"] if os.path.exists(file)]
since = int(state.get("StateChangeTimestamp", "").lstrip("@") or 0)

print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": Path("/run/systemd/system").is_dir(),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "person": person(asked["user"]),
            "free_mb": shutil.disk_usage(str(nearest)).free // 1000000,
            "listener": listener(asked["port"]) if asked["port"] else "",
            "nginx": os.path.exists("/usr/sbin/nginx") and not half_installed,
            "included": any(include.search(site.read_text()) for site in sites),
            "serves": state.get("ActiveState") == "active"
            and state.get("UnitFileState") == "enabled",
            "stale": state.get("ActiveState") == "active" and since < int(max(changed, default=0)),
        }
    )
)
