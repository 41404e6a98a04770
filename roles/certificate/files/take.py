"""Have units take new files, or else the old ones again.

Argument: a JSON object with files, ending (of those that wait beside them to take their place),
reload and restart (units that know how to read their certificate anew, and that do not). All of it
happens here, so that whoever asked for it may go away meanwhile. Exit code 1 with what was said
where a unit did not take the new files; then the old ones are in use again.

Run by the host's own Python, as root: nothing newer than Python 3.10.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])
signal.signal(signal.SIGHUP, signal.SIG_IGN)


def take() -> str:
    """Have the units that run take the files; return what they say where they do not."""
    for verb, units in (("reload-or-restart", asked["reload"]), ("restart", asked["restart"])):
        command = ["systemctl", f"try-{verb}", "--", *units]
        done = units and subprocess.run(command, capture_output=True, text=True, check=False)
        if done and done.returncode not in (0, 5):  # 5: there is no such unit yet
            return done.stderr.strip() or f"{command} ended with {done.returncode}"
    return ""


def beside(file: Path, ending: str) -> Path:
    """Return a file's path with another ending after its own."""
    return file.with_name(file.name + ending)


files = [Path(file) for file in asked["files"]]
there = [file for file in files if file.exists()]
for file in there:
    beside(file, ".old").unlink(missing_ok=True)
    beside(file, ".old").hardlink_to(file)
for file in files:
    beside(file, asked["ending"]).replace(file)
words = take()
for file in there:
    if words:
        beside(file, ".old").replace(file)
    else:
        beside(file, ".old").unlink()
if words:
    again = (take() or "The old one is in use again.") if there else ""
    sys.exit(f"The new certificate was not taken: {words}\n{again}".strip())
