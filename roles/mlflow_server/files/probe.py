"""Tell what the role `mlflow_server` must know of a host before it changes anything, as JSON.

Argument: a JSON object with unit, leader (given back), tools (a link to the programs), port (0: none), user, state_dir, environment
(a directory, or a link to one), database (path of the SQLite file, '' for none), ways (paths that
root writes, by the variable that names each), and files: how directories and fixed files should be,
each with path, owner, group, mode and, where the content is fixed, sha256; `by` where it lies in a
directory of the service's user. One look here saves a round trip for each, and one for the service
that runs as it should.

Run by the host's own Python, as root: nothing newer than Python 3.9.
"""

import grp
import hashlib
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

asked = json.loads(sys.argv[1])


def name_of(uid: int) -> str:
    """Return the name of a user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner(path: Path) -> str:
    """Return the name of a path's owner, or '' where there is no such path; of a link, its own."""
    try:
        return name_of(path.lstat().st_uid)
    except OSError:
        return ""


def as_wanted(file: dict) -> bool:
    """Return whether a file or directory has the owner, group, mode and content it should."""
    path = Path(file["path"])
    try:
        status = path.lstat() if "by" in file else path.stat()
        return (
            name_of(status.st_uid) == file["owner"]
            and grp.getgrgid(status.st_gid).gr_name == file["group"]
            and status.st_mode & 0o7777 == int(file["mode"], 8)
            and file.get("sha256", "")
            in ("", path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
        )
    except (OSError, KeyError):
        return False


def changed_by(status: os.stat_result) -> str:
    """Return who besides root may put something else in the place of what a directory holds, or ''.

    Debian gives /usr/local to the group staff, whose members are administrators. A user or a group
    without a name is that of another machine, whose file system this is: nobody here.
    """
    try:
        if status.st_uid != 0 and (found := pwd.getpwuid(status.st_uid).pw_name) != "nobody":
            return found
    except KeyError:
        pass
    if status.st_mode & stat.S_ISVTX or stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            return ""
        return "" if group in ("staff", "nogroup") else "the group " + group
    return ""


def trap(path: str) -> tuple:
    """Return the first directory on the way to a path that others than root may change, and who.

    Links are followed as the kernel does: one that root made, in a directory of root's, is as good
    as a directory. Both are '' where there is no such directory.
    """
    here, rest, links = "/", path.split("/"), 0
    while rest:
        try:
            status = os.lstat(here)
            if who := changed_by(status):
                return here, who
            step = os.path.normpath(os.path.join(here, rest.pop(0)))
            entry = os.lstat(step)
        except OSError:
            return "", ""  # what is not there yet, root makes
        if status.st_mode & stat.S_ISVTX and step != here and changed_by(entry):
            return step, changed_by(entry)
        if stat.S_ISLNK(entry.st_mode) and links < 40:
            links, target = links + 1, os.readlink(step)
            here, rest = ("/" if target.startswith("/") else here), target.split("/") + rest
        else:
            here = step
    return "", ""


def way(variable: str, path: str) -> str:
    """Return why root must not write a path, in a sentence that says what to do; '' if it may."""
    place, who = trap(path)
    if not place:
        return ""
    return (
        f"{variable} ({path}) lies in {place} on {socket.gethostname()}, which {who} can change, "
        "and so lead root to any other place. Set it to a path whose directories are root's alone; "
        f"or, if nobody needs that: chown root: {place}; chmod go-w {place}"
    )


def link_below(path: Path) -> dict:
    """Return the first link on the way from the service's directory to a path: path and target."""
    here = state_dir
    for step in path.relative_to(state_dir).parts if state_dir in path.parents else ():
        here /= step
        if here.is_symlink():
            return {"path": str(here), "target": os.readlink(str(here))}
    return {}


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
    """Return what a database file is: absent, empty, sqlite, other, or hidden."""
    try:
        if not path.exists():
            return "absent"
        if not path.is_file():
            return "other"
        with path.open("rb") as file:
            start = file.read(16)
    except PermissionError:
        return "hidden"
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


def earlier_switch(current: Path) -> bool:
    """Return whether an earlier release, with loose programs, has not finished a switch."""
    return Path("/var/lib/mlflow-switch/plan.json").exists() and Path(
        current.parent, "switch.py"
    ).exists()


def old_tools(current: Path) -> bool:
    """Return whether there are programs besides those that a link leads to."""
    there = list(current.parent.iterdir()) if current.parent.is_dir() else []
    return bool({path.name for path in there} - {current.name, current.resolve().name})


def as_service(look: Any, path: Path) -> Any:
    """Look at a path of the service's user with her rights, if root looks and there is such a user.

    What she put there is hers: a link leads no further than she herself comes.
    """
    if uid <= 0 or os.geteuid() != 0:
        return look(path)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        return look(path)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


try:
    account = pwd.getpwnam(asked["user"])
    uid, gid = account.pw_uid, account.pw_gid
except KeyError:
    uid, gid = -1, -1

state_dir, database = Path(asked["state_dir"]), Path(asked["database"])
nearest = state_dir
while not nearest.exists():
    nearest = nearest.parent
(artifacts,) = [file["path"] for file in asked["files"] if "by" in file] or [""]

state = unit_state()
active, started = state.get("ActiveState") == "active", state.get("ExecMainStartTimestamp", "")
files = [path for path in (file["path"] for file in asked["files"]) if os.path.isfile(path)]
times = [os.stat(file).st_mtime for file in files]
for link in (asked["environment"], asked["tools"]):
    if os.path.islink(link):
        times.append(os.lstat(link).st_mtime)
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
            "database": as_service(file_kind, database) if asked["database"] else "none",
            "database_owner": as_service(owner, database) if asked["database"] else "",
            "ways": {name: why for name, path in asked["ways"].items() if (why := way(name, path))},
            "link": as_service(link_below, Path(artifacts)),
            "artifacts_owner": as_service(owner, Path(artifacts)) if artifacts else "",
            "runs": active and state.get("UnitFileState") == "enabled",
            "stale": stale,
            "leader": asked["leader"],
            "tools": os.path.realpath(asked["tools"]) if os.path.isdir(asked["tools"]) else "",
            "earlier_switch": earlier_switch(Path(asked["tools"])),
            "old_tools": old_tools(Path(asked["tools"])),
            "absent": [file["path"] for file in asked["files"] if not os.path.exists(file["path"])],
            "amiss": [file["path"] for file in asked["files"] if not as_wanted(file)],
        }
    )
)
