"""Wait until SeaweedFS serves objects, and see that it flushes them to the disk.

Its own /readyz says OK before its master knows the volumes, and then no object can be read.
By default SeaweedFS acknowledges an object before it is on the disk. That it must not is said in
its own database, through its shell: while it runs, and it is looked at on each start.
Exit code 0: ready. 1: not, and one sentence on stderr says why. Run by the systemd unit, in the
directory of the settings, as the service's user.
"""

from __future__ import annotations

import argparse
import http.client
import re
import ssl
import subprocess
import sys
import time

from .host.units import main_process_ended

FLUSHED = re.compile(r'"locationPrefix":\s*"/buckets/"[^}]*"fsync":\s*true')
# How many volumes there are and may be; a new store has none yet.
ROOM = re.compile(r"Topology .*\(volume:\d+/\d+")


class NotReady(Exception):
    """It is not ready; the message is a sentence for people."""


def answers(address: str, port: int, tls: bool) -> None:
    """See that S3 says it is ready. Raises NotReady."""
    if tls:
        context = ssl._create_unverified_context()  # noqa: S323 our own process: no name to check
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address, port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"no answer from port {port}: {error}.") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise NotReady(f"port {port} answers HTTP {answer.status}.")


def shell(command: list[str], words: str) -> str:
    """Say something to SeaweedFS' shell and return its answer. Raises NotReady."""
    try:
        done = subprocess.run(
            command, input=words + "\n", capture_output=True, text=True, check=False, timeout=30
        )
    except subprocess.TimeoutExpired as error:
        raise NotReady(f"its shell does not answer to `{words}`.") from error
    return done.stdout + done.stderr


def flushes(command: list[str]) -> None:
    """See that objects are flushed to the disk before they are acknowledged. Raises NotReady."""
    if FLUSHED.search(shell(command, "fs.configure")):
        return
    shell(command, "fs.configure -locationPrefix=/buckets/ -fsync -apply")
    said = shell(command, "fs.configure")
    if not FLUSHED.search(said):
        raise NotReady(f"it cannot be told to flush objects to the disk: {said.strip()[-300:]}")


def has_volumes(command: list[str]) -> None:
    """See that the master knows the volumes, so that objects can be read. Raises NotReady."""
    if not ROOM.search(shell(command, "volume.list")):
        raise NotReady("its volumes are not there yet.")


def main() -> int:
    """Check until ready or the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description="Wait until SeaweedFS is ready.")
    parser.add_argument("--weed", required=True, help="the program")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="of S3")
    parser.add_argument("--tls", action="store_true", help="S3 speaks TLS")
    parser.add_argument("--master", required=True, help="address and port")
    parser.add_argument("--filer", required=True, help="address and port")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS")
    asked = parser.parse_args()
    deadline = time.monotonic() + asked.wait
    while True:
        try:
            answers(asked.address, asked.port, asked.tls)
            command = [asked.weed, "shell", f"-master={asked.master}", f"-filer={asked.filer}"]
            has_volumes(command)
            flushes(command)
        except NotReady as error:
            if time.monotonic() >= deadline or main_process_ended():
                print(f"seaweedfs-ready: {error}", file=sys.stderr)
                return 1
            time.sleep(0.2)
        else:
            return 0
