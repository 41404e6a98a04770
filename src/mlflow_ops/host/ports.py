"""Who listens on a host's TCP ports."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

NOBODY, OURS, HIDDEN = "", "ours", "a process that this host does not show"
LISTENS = "0A"  # as /proc/net/tcp says it


class _Port(TypedDict):
    port: int


class Port(_Port, total=False):
    """A port, and who may listen there.

    Attributes:
        port: its number.
        ours: systemd units. A socket's counts while it is active: systemd holds its port.
        ours_if: a file; the units are ours only where it is.
    """

    ours: list[str]
    ours_if: str


class Process(NamedTuple):
    """A process that listens.

    Attributes:
        started: when it began, in ticks of the clock since the host's start (proc_pid_stat(5)).
            Numbers begin again at their end, so that a child can have the lower one.
        pid: its number.
        name: its command's.
        groups: its control groups, as /proc has them.
    """

    started: int
    pid: int
    name: str
    groups: str

    def of(self, unit: str) -> bool:
        """Return whether a unit has started it."""
        return re.search(rf"(?m)/{re.escape(unit)}(/|$)", self.groups) is not None


class Socket(NamedTuple):
    """A socket that listens.

    Attributes:
        name: what /proc calls it where a process has it open.
        place: its address, as /proc writes it.
        port: its number.
        user: whose it is.
    """

    name: str
    place: str
    port: int
    user: int

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """Its address; of an IPv4 address that is written as IPv6, the former."""
        words = (self.place[start : start + 8] for start in range(0, len(self.place), 8))
        raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
        address = ipaddress.ip_address(raw)
        return getattr(address, "ipv4_mapped", None) or address


def sockets() -> list[Socket]:
    """Return the sockets that listen on this host."""
    found = []
    for name in ("tcp", "tcp6"):
        table = Path("/proc/self/net", name)  # a kernel without IPv6 has no second one
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            place, _, number = fields[1].partition(":")
            if fields[3] == LISTENS:
                called = f"socket:[{fields[9]}]"
                found.append(Socket(called, place, int(number, 16), int(fields[7])))
    return found


def users(host: str, port: int) -> set[int]:
    """Return the users of what listens at an address of this host, or at all of them."""
    asked = ipaddress.ip_address(host)
    return {
        one.user
        for one in sockets()
        if one.port == port and (one.address == asked or one.address.is_unspecified)
    }


def processes(wanted: set[int]) -> dict[int, list[Process]]:
    """Return who listens on each of some ports, the oldest first; [] where the host hides it."""
    held = {one.name: one.port for one in sockets() if one.port in wanted}
    found: dict[int, dict[int, Process]] = {port: {} for port in held.values()}
    for link in Path("/proc").glob("[0-9]*/fd/*") if held else ():
        try:
            port = held.get(os.readlink(link))
            if port is None:
                continue
            process = link.parent.parent
            # The second field, the name in brackets, may have blanks and brackets of its own.
            started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
            pid, name = int(process.name), (process / "comm").read_text().strip()
            found[port][pid] = Process(started, pid, name, (process / "cgroup").read_text())
        except OSError:  # it ended meanwhile
            continue
    return {port: sorted(known.values()) for port, known in found.items()}


def socket_active(unit: str) -> bool:
    """Return whether systemd listens for a unit."""
    command = ["systemctl", "is-active", "--quiet", "--", unit]
    try:
        return unit.endswith(".socket") and subprocess.call(command) == 0
    except OSError:
        return False


def listener(port: Port, known: Sequence[Process]) -> str:
    """Return who listens on a port: 'ours', or, of a process and its children, the process."""
    ours = port.get("ours", [])
    if "ours_if" in port and not Path(port["ours_if"]).exists():
        ours = []
    others = [process for process in known if not any(process.of(unit) for unit in ours)]
    if others and others[0].pid == 1 and any(socket_active(unit) for unit in ours):
        others = others[1:]
    if others:
        return f"process {others[0].pid} ({others[0].name})"
    return OURS if known else HIDDEN


def listeners(asked: Sequence[Port]) -> dict[str, dict[str, str]]:
    """Return `listeners`, who listens on each port, and `taken`, those of them that are not ours.

    A port is called by its number as text, as JSON wants it. Of nobody, '' is said.
    """
    wanted: list[Port] = [{**port, "port": int(port["port"])} for port in asked]
    found = processes({port["port"] for port in wanted})
    said = {
        str(port["port"]): listener(port, found[port["port"]]) if port["port"] in found else NOBODY
        for port in wanted
    }
    return {
        "listeners": said,
        "taken": {port: who for port, who in said.items() if who not in (NOBODY, OURS)},
    }
