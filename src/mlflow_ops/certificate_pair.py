"""Have units take new files, such as a key and its certificate, or else the old ones again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

NO_SUCH_UNIT = 5  # as systemctl ends


class NotTaken(Exception):
    """A unit did not take the new files; the text is what it said, and what is in use now."""


def take(reload: Sequence[str], restart: Sequence[str]) -> str:
    """Have the units that run take the files; return what they say where they do not."""
    for verb, units in (("reload-or-restart", reload), ("restart", restart)):
        command = ["systemctl", f"try-{verb}", "--", *units]
        if not units:
            continue
        if verb == "restart":  # which is no crash: see units.start
            forget = ["systemctl", "reset-failed", "--", *units]
            subprocess.run(forget, capture_output=True, check=False)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, NO_SUCH_UNIT):
            return done.stderr.strip() or f"{command} ended with {done.returncode}"
    return ""


def beside(file: Path, ending: str) -> Path:
    """Return a file's path with another ending after its own."""
    return file.with_name(file.name + ending)


def swap(files: Sequence[Path], ending: str, reload: Sequence[str], restart: Sequence[str]) -> None:
    """Put the files that wait beside others in their place, all or none, and have them taken.

    Args:
        files: what is replaced; none, and units take what is there.
        ending: of the names of those that wait.
        reload: units that can read their certificate anew while they run.
        restart: units that cannot.

    Raises:
        NotTaken: a unit did not take them; the old ones are in their place again.
        OSError: a file could not be replaced.
    """
    there = [file for file in files if file.exists()]
    for file in there:
        beside(file, ".old").unlink(missing_ok=True)
        os.link(file, beside(file, ".old"))
    for file in files:
        beside(file, ending).replace(file)
    words = take(reload, restart)
    for file in there:
        if words:
            beside(file, ".old").replace(file)
        else:
            beside(file, ".old").unlink()
    if words:
        again = (take(reload, restart) or "The old one is in use again.") if there else ""
        raise NotTaken(f"The new certificate was not taken: {words}\n{again}".strip())
