"""Print as JSON what listens on this host, and the unit whose it is. systemd's own is left out."""

import json
import re
import subprocess
from pathlib import Path

ITS_OWN = re.compile(r"/run/(systemd|dbus|user|udev|initctl|ssh-unix-local)\b")
ENGINES = "127.0.0.11"  # the container engine's resolver, which no process of the host's holds
ITS_UNITS = re.compile(r"$|(systemd|dbus|user|session|init)\b")


def unit(line: str) -> str:
    """Return the unit of the process that listens; '' for what systemd itself holds."""
    pids = [int(pid) for pid in re.findall(r"pid=(\d+)", line)]
    groups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in pids if pid != 1]
    names = [re.findall(r"[^/\n]+\.(?:service|scope)", group) for group in groups]
    return next((name[-1] for name in names if name), "") if 1 not in pids else ""


def held() -> dict[str, str]:
    """Return the sockets that systemd listens on for units, by address."""
    said = subprocess.check_output(
        ["systemctl", "list-sockets", "--no-legend", "--plain", "--full"], text=True
    )
    return {line.split()[0]: line.split()[1] for line in said.splitlines() if line.split()}


def plain(address: str) -> str:
    """Return an address and its port, with one name for all that are the host's, or the world's."""
    host, _, port = address.rpartition(":")
    host = host.partition("%")[0].strip("[]")
    if host in ("*", "0.0.0.0", "::"):  # noqa: S104
        host = "any"
    elif host == "::1" or host.startswith("127."):
        host = "loopback"
    return f"{host}:{port}"


found = set()
systemds = held()
for line in subprocess.check_output(["ss", "-Hlntup"], text=True).splitlines():
    protocol, address = line.split()[0], line.split()[4]
    if address.startswith(f"{ENGINES}:"):
        continue
    whose = unit(line) or next(
        (name for socket, name in systemds.items() if plain(socket) == plain(address)), ""
    )
    found.add((f"{protocol} {plain(address)}", whose))
for line in subprocess.check_output(["ss", "-Hlnpx"], text=True).splitlines():
    path = line.split()[4].removeprefix("/var") if "/var/run/" in line else line.split()[4]
    if not ITS_OWN.match(path) and not (path[0] == "@" and ITS_UNITS.match(unit(line))):
        found.add((f"unix {path}", unit(line) or systemds.get(path, "")))
print(json.dumps([{"socket": socket, "unit": whose} for socket, whose in sorted(found)]))
