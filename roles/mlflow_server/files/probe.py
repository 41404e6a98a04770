"""Tell what the role `mlflow_server` must know of a host before it changes anything, as JSON.

Argument: a JSON object with unit, leader (given back), port (0: none), user, state_dir, environment
(a directory, or a link to one), database (path of the SQLite file, '' for none), and files: how
directories and fixed files should be, each with path, owner, group, mode and, where the content is
fixed, sha256. One look here saves a round trip for each, and one for the service that runs as it
should.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import grp
import hashlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])


def owner(path: Path) -> str:
    """Return the name of a path's owner, or '' where there is no such path."""
    try:
        uid = path.stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def as_wanted(file: dict) -> bool:
    """Return whether a file or directory has the owner, group, mode and content it should."""
    path = Path(file["path"])
    try:
        status = path.stat()
        return (
            owner(path) == file["owner"]
            and grp.getgrgid(status.st_gid).gr_name == file["group"]
            and status.st_mode & 0o7777 == int(file["mode"], 8)
            and file.get("sha256", "")
            in ("", path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
        )
    except (OSError, KeyError):
        return False


def listener(port: int) -> str:
    """Return who listens on a TCP port: '' for nobody, or for our own unit."""
    sockets = set()
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not sockets:
        return ""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(str(link)) not in sockets:
                continue
            process = link.parent.parent
            groups = (process / "cgroup").read_text().splitlines()
            if any(group.endswith("/" + asked["unit"]) for group in groups):
                return ""
            return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # it ended meanwhile
            continue
    return "a process that this host does not show"


def unit_state() -> dict:
    """Return what systemd says of the unit; nothing where it does not say."""
    properties = "ActiveState,ExecMainStartTimestamp,NeedDaemonReload,UnitFileState"
    show = ["systemctl", "show", "--timestamp=unix", "--property=" + properties, asked["unit"]]
    try:
        said = subprocess.check_output(
            show, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in said.splitlines())


def file_kind(path: Path) -> str:
    """Return what a database file is: absent, empty, sqlite or other."""
    if not path.exists():
        return "absent"
    if not path.is_file():
        return "other"
    with path.open("rb") as file:
        start = file.read(16)
    return "empty" if not start else "sqlite" if start == b"SQLite format 3\0" else "other"


def installed() -> str:
    """Return the version of the MLflow in the environment, without starting it; '' for none."""
    found = Path(asked["environment"]).glob("lib/python3*/site-packages/mlflow-[0-9]*.dist-info")
    return next((info.name.split("-")[1].replace(".dist", "") for info in found), "")


def addresses() -> list:
    """Return this host's IPv4 addresses that its name and its default route have."""
    try:
        found = {
            entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), 0, socket.AF_INET)
        }
    except OSError:
        found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be used
            found.add(route.getsockname()[0])
        except OSError:
            pass
    return sorted(found)


state_dir, database = Path(asked["state_dir"]), Path(asked["database"])
nearest = state_dir
while not nearest.exists():
    nearest = nearest.parent

try:
    uid = pwd.getpwnam(asked["user"]).pw_uid
except KeyError:
    uid = -1

state = unit_state()
active, started = state.get("ActiveState") == "active", state.get("ExecMainStartTimestamp", "")
files = [path for path in (file["path"] for file in asked["files"]) if os.path.isfile(path)]
times = [os.stat(file).st_mtime for file in files]
if os.path.islink(asked["environment"]):
    times.append(os.lstat(asked["environment"]).st_mtime)
changed = max(map(int, times), default=0)
# Files were changed, and the service has not read them; or it is not up, and may never be.
unread = state.get("NeedDaemonReload") == "yes" or changed > int(started.strip("@") or 0)
stale = (active and unread) or state.get("ActiveState") == "activating"

print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": Path("/run/systemd/system").is_dir(),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1000000,
            "names": sorted({socket.gethostname(), socket.getfqdn()} - {"localhost"}),
            "addresses": addresses(),
            "listener": listener(asked["port"]) if asked["port"] else "",
            "free_mb": shutil.disk_usage(str(nearest)).free // 1000000,
            "account": uid != -1,
            "person": uid == 0 or uid >= 1000,
            "state_owner": owner(state_dir),
            "mlflow": installed(),
            "database": file_kind(database) if asked["database"] else "none",
            "database_owner": owner(database) if asked["database"] else "",
            "runs": active and state.get("UnitFileState") == "enabled",
            "stale": stale,
            "leader": asked["leader"],
            "absent": [file["path"] for file in asked["files"] if not os.path.exists(file["path"])],
            "amiss": [file["path"] for file in asked["files"] if not as_wanted(file)],
        }
    )
)
