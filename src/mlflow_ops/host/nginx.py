"""What a host's nginx is: Debian's, with its sites in /etc/nginx."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TypedDict

PROGRAM = "/usr/sbin/nginx"
SITES = Path("/etc/nginx/conf.d")
WELCOME = Path("/etc/nginx/sites-enabled/default")


class Nginx(TypedDict):
    """What there is of nginx.

    Attributes:
        version: such as 1.26.3; '' where it is not installed.
        welcome_page: whether Debian's page for every name is served.
        includes: what the sites of conf.d include.
    """

    version: str
    welcome_page: bool
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


def welcomes(page: Path = WELCOME) -> bool:
    """Return whether a page is Debian's own: a link to what it makes available."""
    return page.is_symlink() and str(page.readlink()).endswith("sites-available/default")


def state() -> Nginx:
    """Return what there is of nginx."""
    return {"version": version(), "welcome_page": welcomes(), "includes": includes()}
