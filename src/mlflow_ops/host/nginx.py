"""What a host's nginx is: Debian's, with its sites in /etc/nginx."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import TypedDict

PROGRAM = "/usr/sbin/nginx"
SITES = Path("/etc/nginx/conf.d")
WELCOME = Path("/etc/nginx/sites-enabled/default")
AVAILABLE = Path("/etc/nginx/sites-available/default")


class Nginx(TypedDict):
    """What there is of nginx.

    Attributes:
        version: such as 1.26.3; '' where it is not installed.
        welcome_page: whether Debian's page for every name is served.
        own_page: whether somebody has made a site of her own out of it, served or not.
        defaults: the ports of which that site is the default server, where it is served.
        includes: what the sites of conf.d include.
    """

    version: str
    welcome_page: bool
    own_page: bool
    defaults: list[int]
    includes: list[str]


def version(program: str = PROGRAM) -> str:
    """Return nginx's version, or '' where it is not installed."""
    try:
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return ""
    found = re.search(r"nginx/([0-9.]+)", said)
    return found[1] if found else ""


def includes(sites: Path = SITES) -> list[str]:
    """Return what the sites in a directory include, each word as it stands there."""
    lines = re.compile(r"(?m)^\s*include\s+([^;\s]+)\s*;")
    return sorted(
        {word for site in sites.glob("*.conf") for word in lines.findall(site.read_text())}
    )


def packaged(name: str) -> str:
    """Return the MD5 of a file of settings as its package brought it; else ''."""
    command = ["dpkg-query", "--show", "--showformat=${Conffiles}\n", "nginx-common"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    return next((line.split()[1] for line in said.splitlines() if line.split()[:1] == [name]), "")


def edited(page: Path) -> bool:
    """Return whether Debian's page is no more what its package brought."""
    try:
        content = page.read_bytes()
    except OSError:
        return False
    return hashlib.md5(content, usedforsecurity=False).hexdigest() != packaged(str(page))


def welcomes(page: Path) -> bool:
    """Return whether a page is Debian's own: a link to what it makes available."""
    return page.is_symlink() and str(page.readlink()).endswith("sites-available/default")


def defaults(site: Path) -> list[int]:
    """Return the ports of which a site says that it is the default server."""
    try:
        text = re.sub(r"(?m)#.*$", "", site.read_text(errors="replace"))
    except OSError:
        return []
    found = [words.split() for words in re.findall(r"\blisten\s+([^;]+);", text)]
    places = [place for place, *options in found if {"default_server", "default"} & {*options}]
    ports = (re.search(r"(?:^|[^:]:|\]:)(\d+)$", place) for place in places)
    return sorted({int(port[1]) if port else 80 for port in ports})


def state() -> Nginx:
    """Return what there is of nginx."""
    own = edited(AVAILABLE)
    welcome = welcomes(WELCOME) and not own
    return {
        "version": version(),
        "welcome_page": welcome,
        "own_page": own,
        "defaults": [] if welcome else defaults(WELCOME),
        "includes": includes(),
    }
