"""Renew the certificates of the private CA's own host, whose end is near; a timer runs it.

No other host can ask for one: those are renewed by the playbook renew, and alarms go off in time.
Keys stay. Each certificate that is renewed here has a file of its own beside the CA, which says
where it is and which units use it:

  {"certificate": "/etc/ssl/mlflow/mlflow.pem", "days": 397, "renew_days": 75,
   "reload": ["nginx.service"], "restart": []}
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .certificate_pair import NotTaken, beside, swap
from .health import first_end

# Signed as a run of the playbook has it signed: the names and the use are those that it has.
CONFIGURATION = """
[ca]
default_ca = own
[own]
database = {room}/index
serial = {room}/serial
new_certs_dir = {room}
default_md = sha256
policy = any
preserve = yes
copy_extensions = copy
x509_extensions = own_extensions
[any]
commonName = optional
[own_extensions]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
DAY = 86400


class Unsigned(Exception):
    """A certificate was not renewed; the text says which, and why."""


def openssl(*arguments: str | Path) -> None:
    """Run openssl. Raises Unsigned with its last words."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"openssl ended with {done.returncode}"]
        raise Unsigned(words[-1])


def sign(authority: Path, certificate: Path, days: int) -> Path:
    """Have a certificate signed anew, for the same key and names; return the file beside it.

    Args:
        authority: the directory of the CA.
        certificate: a PEM file, whose key lies beside it.
        days: for how long.

    Raises:
        Unsigned: it is not this CA's, or its key is another.
    """
    # Nothing is signed for who has it from another: a CA that makes way, a team's own.
    openssl("verify", "-no_check_time", "-CAfile", authority / "ca.pem", certificate)
    # Clocks differ.
    start, end = (
        time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + more * DAY)) for more in (-1, days)
    )
    new = beside(certificate, ".new")
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        (room / "index").touch()
        (room / "configuration").write_text(CONFIGURATION.format(room=room))
        openssl(
            "x509", "-x509toreq", "-in", certificate, "-signkey", certificate.with_suffix(".key"),
            "-copy_extensions", "copy", "-out", room / "request",
        )  # fmt: skip
        openssl(
            "ca", "-config", room / "configuration", "-batch", "-notext", "-rand_serial",
            "-in", room / "request", "-cert", authority / "ca.pem",
            "-keyfile", authority / "ca.key", "-startdate", start, "-enddate", end, "-out", new,
        )  # fmt: skip
    # What a CA may not sign for, nobody would believe.
    openssl("verify", "-CAfile", authority / "ca.pem", new)
    new.chmod(0o644)
    return new


def renew(authority: Path, asked: dict[str, Any]) -> bool:
    """Renew one certificate, where it is time; return whether it was.

    Raises:
        Unsigned, NotTaken, OSError, ValueError: it was not; the old one is in use.
    """
    certificate = Path(asked["certificate"])
    if first_end(certificate)[0] - time.time() >= asked["renew_days"] * DAY:
        return False
    try:
        sign(authority, certificate, asked["days"])
        swap([certificate], ".new", asked["reload"], asked["restart"])
    finally:
        beside(certificate, ".new").unlink(missing_ok=True)
    return True


def main() -> int:
    """Renew those that are due; return 1 where one was not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("authority", type=Path, help="the directory of the private CA")
    authority = parser.parse_args().authority
    if (authority / "trusted.pem").exists():
        print("The private CA makes way for another: the playbook rotate renews all.")
        return 0
    failed = 0
    for file in sorted(authority.glob("renewed/*.json")):
        try:
            asked = json.loads(file.read_text(encoding="utf-8"))
            if renew(authority, asked):
                print(f"Renewed {asked['certificate']} for {asked['days']} days.")
        except (Unsigned, NotTaken, OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"{file.stem} was not renewed: {error} Run the playbook renew.", file=sys.stderr)
            failed = 1
    return failed
