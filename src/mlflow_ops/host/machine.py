"""How large a host is, and what it is called."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from typing import TypedDict
from urllib.parse import urlsplit
from urllib.request import (  # type: ignore[attr-defined]
    getproxies_environment,
    proxy_bypass_environment,
)


class Machine(TypedDict):
    """A host.

    Attributes:
        cores: those that a process here may use.
        memory_mb: all of it, in MB.
        names: its own, but localhost.
        addresses: those that its name and its default routes have.
    """

    cores: int
    memory_mb: int
    names: list[str]
    addresses: list[str]


# To connect a UDP socket sends nothing: it asks which address of the host would be used.
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def addresses() -> list[str]:
    """Return the addresses that the host's name and its default routes have, but loopback's."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), 0)}
    except OSError:
        found = set()
    for family, there in ELSEWHERE.items():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as route:
            route.connect((there, 9))
            found.add(str(route.getsockname()[0]))
    return sorted(address for address in found if "%" not in address and address != "::1")


def unresolved(urls: list[str]) -> list[str]:
    """Return the hosts of addresses that this one cannot resolve, and no proxy of its would."""
    found, proxies = [], getproxies_environment()
    for url in urls:
        place = urlsplit(url)
        name = place.hostname or ""
        if proxies.get(place.scheme) and not proxy_bypass_environment(name, proxies):
            continue
        try:
            socket.getaddrinfo(name, None)
        except (OSError, UnicodeError):
            found.append(name)
    return found


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


def missing_packages(names: list[str]) -> list[str]:
    """Return which of Debian's packages are not installed."""
    if not names or not shutil.which("dpkg-query"):
        return names
    form = "--showformat=${db:Status-Status} ${Package}\n"
    command = ["dpkg-query", "--show", form, "--", *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    there = {line.partition(" ")[2] for line in said.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in there]
