"""Hand what was fetched for a restore to the service's user, and keep from her what is root's.

Argument: the directory of a set that `mlflow-backup fetch` brought. Her databases go
into `service/` there, which becomes her own; artifacts, where the service keeps them in a
directory, wait in that one until a switch exchanges them (artifacts.py). What is in it is hers to
change: root follows no link there, and so she moves them herself. secrets.env stays root's: who
writes it is root at the service's next start.

Prints a JSON object: directory (`service/`) and artifacts (the directory that there is a new one
of, or ''). Run as root. Nothing but the standard library is used, so that any Python 3.9 or later
runs it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .. import installation, program
from ..artifacts import NEW
from ..there import ASIDE
from .sets import MANIFEST

# A line of secrets.env, as the role and a rotation write it.
LINE = re.compile(
    r"(#(.*[^\\])?|MLFLOW_(CRYPTO_KEK_PASSPHRASE|CRYPTO_KEK_VERSION|FLASK_SERVER_SECRET_KEY|"
    r"WEBHOOK_SECRET_ENCRYPTION_KEY)=[A-Za-z0-9+/=_-]*)?"
)


class Refused(Exception):
    """What cannot be, in a sentence for people."""


def strange(text: str) -> list[str]:
    """Return the names in the lines of a secrets.env that are none of a key."""
    lines = [line for line in text.splitlines() if not LINE.fullmatch(line)]
    return [line.partition("=")[0][:40] for line in lines]


def run(*words: str | Path) -> None:
    """Run a command to its end. Raises Refused with its last words."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Refused(done.stderr.strip() or f"{words[0]} ended with {done.returncode}")


def hand(directory: Path, user: str, destination: str) -> dict[str, str]:
    """Do it. Raises Refused, OSError, KeyError."""
    if names := strange((directory / "secrets.env").read_text()):
        raise Refused(
            f"secrets.env of the set names {', '.join(names)}, which is no key of MLflow's: no "
            "backup made this. Restore another set, and look who can write where the sets are."
        )
    service = directory / "service"
    service.mkdir(mode=0o700)
    shutil.copy(directory / MANIFEST, service)
    saved = json.loads((directory / MANIFEST).read_text())["databases"]
    for copy in saved.values():
        (directory / copy["file"]).rename(service / copy["file"])
    answer = {"directory": str(service), "artifacts": ""}
    if destination.startswith("/"):
        (directory / "artifacts").rename(service / "artifacts")
        answer["artifacts"] = destination
    # Until here nobody but root comes to the directory.
    run("chown", "-hR", f"{user}:", service)
    run("chmod", "-R", "u=rwX,go=", service)
    directory.chmod(0o711)
    if destination.startswith("/"):
        become = ["runuser", f"--user={user}", "--"]
        run(*become, *program(sys.executable, "artifacts", "await", destination))
        waits = Path(destination, ASIDE, NEW)
        # Copied, where the directory is a file system of its own.
        run(*become, "mv", "--no-target-directory", "--", service / "artifacts", waits)
        # On the disk before a switch relies on it: a power cut would leave names without content.
        run(*become, "sync", "--file-system", "--", waits)
    return answer


def main() -> int:
    """Do it; return the exit code."""
    try:
        here = installation.read()
        print(json.dumps(hand(Path(sys.argv[1]), here.user, here.artifacts)))
    except (Refused, installation.NotInstalled, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
