"""Tell what the role `seaweedfs` must know of a host before it changes anything, as JSON.

Argument: a JSON object with unit (the service's), gate (the name of the socket unit), units (what
must run, now and at boot), user, data_dir, weed (path of the program), keys and secrets (paths of
files), settings (files that are read at the start), ports (TCP; each is looked at together with
that port plus 10000), and files: how directories and files should be, each with path, owner, group,
mode and, where the content is known, sha256.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import grp
import hashlib
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
import sysconfig
import time
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


def says(verb: str, unit: str) -> bool:
    """Return whether systemd answers a question about a unit with yes."""
    try:
        return subprocess.call(["systemctl", verb, "--quiet", unit], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def active(unit: str) -> bool:
    """Return whether a unit runs."""
    return says("is-active", unit)


def enabled(unit: str) -> bool:
    """Return whether a unit will run after the next boot."""
    return says("is-enabled", unit)


def unfinished(files: list, since: str) -> bool:
    """Return whether the running service has not seen a change of these files.

    So it is when a run was killed between the change and the restart. `since` is the property of
    the unit that tells when it last looked.
    """
    try:
        command = ["systemctl", "show", asked["unit"], "--value", "--property"]
        looked = int(subprocess.check_output([*command, since + "Monotonic"])) / 1e6
    except (OSError, ValueError, subprocess.CalledProcessError):
        return False
    boot = time.time() - time.monotonic()
    times = [os.stat(file).st_mtime for file in files if os.path.exists(file)]
    return active(asked["unit"]) and max(times, default=0) > boot + looked + 1


def listeners(ports: set) -> dict:
    """Return who listens on which of these TCP ports; our own units are nobody."""
    ours = ("/" + asked["unit"], "/" + asked["gate"] + ".service")
    sockets = {}
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == "0A" and port in ports:
                sockets[f"socket:[{fields[9]}]"] = port
    found = {port: "a process that this host does not show" for port in sockets.values()}
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else []:
        try:
            port = sockets.get(os.readlink(str(link)))
            if port is None:
                continue
            process = link.parent.parent
            groups = (process / "cgroup").read_text().splitlines()
            if any(group.endswith(ours) for group in groups):
                found[port] = ""
            elif process.name == "1" and active(asked["gate"] + ".socket"):
                found[port] = ""  # systemd holds it for us
            elif found[port]:
                name = (process / "comm").read_text().strip()
                found[port] = f"process {process.name} ({name})"
        except OSError:  # it ended meanwhile
            continue
    return {str(port): who for port, who in sorted(found.items()) if who}


def pip() -> str:
    """Return the wheel of pip that Debian keeps for Python's venv, or ''. It runs from there."""
    places = [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
    try:
        import ensurepip

        places.append(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))
    except ImportError:
        pass
    wheels = [str(wheel) for place in places if place for wheel in Path(place).glob("pip-*.whl")]
    return min(wheels) if wheels else ""


def free_mb(path: Path) -> int:
    """Return the room, in MB, where a path is or would be made."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(str(path)).free // 1000000


data_dir = Path(asked["data_dir"])
try:
    uid = pwd.getpwnam(asked["user"]).pw_uid
except KeyError:
    uid = -1

print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": Path("/run/systemd/system").is_dir(),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "machine": platform.machine(),
            "listeners": listeners({port + more for port in asked["ports"] for more in (0, 10000)}),
            "free_mb": free_mb(data_dir),
            "account": uid != -1,
            "person": uid == 0 or uid >= 1000,
            "data_owner": owner(data_dir),
            "data": (data_dir / "filer.db").exists(),
            "pip": pip(),
            "openssl": bool(shutil.which("openssl")),
            "weed": os.access(asked["weed"], os.X_OK),
            "has_keys": Path(asked["keys"]).exists(),
            "has_secrets": Path(asked["secrets"]).exists(),
            "unread_settings": unfinished(asked["settings"], "InactiveExitTimestamp"),
            "unread_keys": unfinished([asked["keys"]], "StateChangeTimestamp"),
            "running": active(asked["unit"]),
            "started": all(active(unit) and enabled(unit) for unit in asked["units"]),
            "gate": Path("/etc/systemd/system/" + asked["gate"] + ".socket").exists(),
            "amiss": [file["path"] for file in asked["files"] if not as_wanted(file)],
        }
    )
)
