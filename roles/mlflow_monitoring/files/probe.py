"""Tell what the role `mlflow_monitoring` must know of a host before it changes anything, as JSON.

Argument: a JSON object with user, textfile_dir,
allow (whether others may ask the exporters), timer, and exporters, each with its unit and port.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

asked = json.loads(sys.argv[1])
UNITS = Path("/etc/systemd/system")
DROP_IN = ".d/mlflow.conf"

# In a unit that nobody may reach, not even itself.
REACH = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), 1)
"""


def account(user: str) -> bool:
    """Return whether there is a user of that name."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def state(unit: str) -> dict:
    """Return what systemd says of a unit; nothing where there is no systemd."""
    properties = "ActiveState,ActiveEnterTimestampMonotonic,NeedDaemonReload,UnitFileState"
    try:
        said = subprocess.check_output(
            ["systemctl", "show", "--property", properties, unit], universal_newlines=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split("=", 1) for line in said.splitlines())


def in_order(unit: str) -> bool:
    """Return whether a unit runs, now and at boot, and has read its files since they changed."""
    said = state(unit)
    if said.get("ActiveState") != "active" or said.get("UnitFileState") != "enabled":
        return False
    started = time.time() - time.monotonic() + int(said["ActiveEnterTimestampMonotonic"]) / 1e6
    files = [UNITS / unit, UNITS / unit.replace(".timer", ".service"), UNITS / (unit + DROP_IN)]
    changed = max((file.stat().st_mtime for file in files if file.exists()), default=0)
    return said["NeedDaemonReload"] == "no" and changed < started + 1


def listener(port: int, unit: str) -> str:
    """Return who listens on a TCP port; '' for nobody, or for a unit that the role has set up."""
    sockets = set()
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                sockets.add("socket:[" + fields[9] + "]")
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else []:
        try:
            if os.readlink(str(link)) not in sockets:
                continue
            process = link.parent.parent
            groups = (process / "cgroup").read_text().splitlines()
            ours = (UNITS / (unit + DROP_IN)).exists()
            if ours and any(group.endswith("/" + unit) for group in groups):
                return ""
            return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # it ended meanwhile
            continue
    return "a process that this host does not show" if sockets else ""


def keeps_addresses() -> bool:
    """Return whether systemd really keeps addresses from a unit. Where it cannot, it goes on."""
    alone = ["systemd-run", "--quiet", "--wait", "--collect", "--property=IPAddressDeny=any"]
    try:
        return subprocess.call([*alone, "/usr/bin/python3", "-I", "-c", REACH]) != 0
    except OSError:
        return False


exporters = [(exporter["unit"] + ".service", exporter["port"]) for exporter in asked["exporters"]]
listeners = {port: listener(port, unit) for unit, port in exporters}
units = [asked["timer"], *(unit for unit, _ in exporters)]
packages = [exporter["unit"] for exporter in asked["exporters"]]
print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": Path("/run/systemd/system").is_dir(),
            "pid1": Path("/proc/1/comm").read_text().strip(),
            "account": account(asked["user"]),
            "textfile_dir": Path(asked["textfile_dir"]).is_dir(),
            "listeners": {port: who for port, who in listeners.items() if who},
            "keeps_addresses": not asked["allow"] or keeps_addresses(),
            "missing": [name for name in packages if not Path("/usr/bin", name).exists()],
            "in_order": [unit for unit in units if in_order(unit)],
        }
    )
)
