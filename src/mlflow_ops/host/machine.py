"""How large a host is, and what it is called."""

from __future__ import annotations

import os
import socket
from typing import TypedDict


class Machine(TypedDict):
    """A host.

    Attributes:
        cores: those that a process here may use.
        memory_mb: all of it, in MB.
        names: its own, but localhost.
        addresses: the IPv4 addresses that its name and its default route have.
    """

    cores: int
    memory_mb: int
    names: list[str]
    addresses: list[str]


def addresses() -> list[str]:
    """Return the IPv4 addresses that the host's name and its default route have."""
    try:
        entries = socket.getaddrinfo(socket.gethostname(), 0, socket.AF_INET)
        found = {str(entry[4][0]) for entry in entries}
    except OSError:
        found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be used
            found.add(route.getsockname()[0])
        except OSError:
            pass
    return sorted(found)


def cores() -> int:
    """Return how many processors a process here may use; a Mac tells how many there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def size_and_names() -> Machine:
    """Return how large the host is, and what it is called."""
    return {
        "cores": cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "names": sorted({socket.gethostname(), socket.getfqdn()} - {"localhost"}),
        "addresses": addresses(),
    }
