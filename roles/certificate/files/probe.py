"""Tell what the role `certificate` must know of a host before it changes anything, as JSON.

Argument: a JSON object with authority (the private CA's directory, '' where it is on another host)
and, unless only that is asked, pem, key, ca (files), names (DNS names and addresses), units (that
use the certificate) and files: how directory and files should be, each with path and mode. One
look here saves a round trip for each, and is all that a second run needs.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import importlib.util
import ipaddress
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])


def text(path: str) -> str:
    """Return what a file says, without space at its ends, or '' where there is none."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def pair(pem: str, key: str) -> bool:
    """Return whether certificate and key can be read and belong together."""
    try:
        # An empty password, since otherwise a terminal would be asked for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem, key, password=bytes)
    except (OSError, ValueError):
        return False
    return True


def subject(name: str) -> str:
    """Return a name as certificates say it."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name.lower()}"


def as_wanted(file: dict) -> bool:
    """Return whether a file or directory is root's and has its mode."""
    try:
        status = os.stat(file["path"])
    except OSError:
        return False
    return (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, int(file["mode"], 8))


def stale(unit: str, since: float) -> bool:
    """Return whether a unit runs, and neither began nor was reloaded since a moment."""
    show = ["systemctl", "show", "--timestamp=unix", "--property=ActiveState,StateChangeTimestamp"]
    try:
        said = subprocess.check_output([*show, unit], universal_newlines=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    state = dict(line.split("=", 1) for line in said.splitlines())
    return state["ActiveState"] == "active" and int(state["StateChangeTimestamp"][1:]) < int(since)


answer = {
    "root": os.geteuid() == 0,
    "cryptography": importlib.util.find_spec("cryptography") is not None,
}
if asked["authority"]:
    ca, ca_key = (f"{asked['authority']}/ca.{end}" for end in ("pem", "key"))
    answer["authority"] = text(ca) if pair(ca, ca_key) else ""
    # While one CA makes way for another, both are trusted.
    answer["trusted"] = text(f"{asked['authority']}/trusted.pem") or answer["authority"]
if "pem" in asked:
    pem = text(asked["pem"])
    # A run that was killed after it replaced a file has not reloaded what uses it. And the CA's is
    # one file for all certificates of a host.
    written = max(
        (os.stat(file).st_mtime for file in (asked["pem"], asked["ca"]) if os.path.exists(file)),
        default=0,
    )
    answer.update(
        names=sorted({subject(name) for name in asked["names"]}),
        pem=pem,
        pair=pair(asked["pem"], asked["key"]),
        ca=text(asked["ca"]),
        amiss=[file["path"] for file in asked["files"] if not as_wanted(file)],
        stale=[unit for unit in asked["units"] if stale(unit, written)] if pem else [],
    )
print(json.dumps(answer))
