"""Tell what the role `mlflow_server` must know of a host before it changes anything, as JSON.

Arguments: the unit, the TCP port (0: none), the service's user, the state directory, the path of
the SQLite file ('': none), the administrator's password file. Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import glob
import json
import os
import pwd
import shutil
import socket
import sys
from pathlib import Path

unit, port, user, state_dir, database, admin = sys.argv[1:7]


def owner(path):
    """Return the name of a path's owner, or '' where there is no such path."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def listener(port):
    """Return who listens on a TCP port as "pid (name)", or '' for nobody, or for our own unit."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add("socket:[%s]" % fields[9])
    if not inodes:
        return ""
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) in inodes:
                process = Path(link).parent.parent
                ours = any(
                    line.endswith("/" + unit)
                    for line in (process / "cgroup").read_text().splitlines()
                )
                name = (process / "comm").read_text().strip()
                return "" if ours else "process %s (%s)" % (process.name, name)
        except OSError:  # it ended meanwhile
            continue
    return "a process that this host does not show"


def file_kind(path):
    """Return what a database file is: absent, empty, sqlite or other."""
    if not os.path.exists(path):
        return "absent"
    if not os.path.isfile(path):
        return "other"
    with open(path, "rb") as file:
        start = file.read(16)
    return "empty" if not start else "sqlite" if start == b"SQLite format 3\0" else "other"


def addresses():
    """Return this host's addresses as other hosts of its network may use them."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; asks which address would be used
            found.append((0, 0, 0, "", probe.getsockname()))
        except OSError:
            pass
    return sorted({entry[4][0] for entry in found})


nearest = state_dir
while not os.path.exists(nearest):
    nearest = os.path.dirname(nearest)

try:
    account = pwd.getpwnam(user).pw_uid
except KeyError:
    account = None

print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": os.path.isdir("/run/systemd/system"),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1000000,
            "names": sorted({socket.gethostname(), socket.getfqdn()} - {"localhost"}),
            "addresses": addresses(),
            "listener": listener(int(port)) if int(port) else "",
            "free_mb": shutil.disk_usage(nearest).free // 1000000,
            "installed": account is not None and os.path.exists("/usr/local/sbin/mlflow-schema"),
            "auth_installed": os.path.exists(admin),
            "login_account": account is not None and account >= 1000,
            "state_owner": owner(state_dir),
            "database": file_kind(database) if database else "none",
            "database_owner": owner(database) if database else "",
        }
    )
)
