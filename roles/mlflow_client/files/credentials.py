"""Write the ~/.mlflow/credentials of some users, each as that user.

Standard input: a JSON object with credentials (a list of user, username, password, and state
where it is to be absent) and check (look, and change nothing).
Prints what came of it: changed or same. Exit code 1 with a sentence for each that failed.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import json
import os
import pwd
import sys
from pathlib import Path

HEADING = "# Written by Ansible, from mlflow_client_credentials: what is changed here is lost."
SAME, CHANGED, FAILED = range(3)
asked = json.loads(sys.stdin.read())


def content(entry: dict) -> str:
    """Return the file as MLflow reads it, with configparser, to which a % is special."""
    if entry.get("state") == "absent":
        return ""
    lines = [HEADING, "[mlflow]"]
    for key in ("username", "password"):
        lines.append("mlflow_tracking_{} = {}".format(key, entry[key].replace("%", "%%")))
    return "\n".join(lines) + "\n"


def place(home: Path, wanted: str) -> int:
    """Make the file what it should be; '' means none."""
    path = home / ".mlflow/credentials"
    # A pipe there would keep everybody waiting; what is none is replaced.
    found = path.read_text() if path.is_file() else ""
    if found == wanted and (not wanted or path.stat().st_mode & 0o777 == 0o600):
        return SAME
    if asked["check"]:
        return CHANGED
    if not wanted:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        return CHANGED
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_name("credentials.new")
    if fresh.is_symlink() or fresh.exists():
        fresh.unlink()
    with fresh.open("x") as file:
        file.write(wanted)
    fresh.chmod(0o600)
    fresh.replace(path)
    return CHANGED


def as_user(entry: dict) -> int:
    """Do it in a process that has become the user for good; return what came of it."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return FAILED if status & 0xFF else status >> 8
    result = FAILED
    try:
        account = pwd.getpwnam(entry["user"])
        if os.geteuid() == 0:
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        os.umask(0o077)
        result = place(Path(account.pw_dir), content(entry))
    except Exception as error:
        print("{}: {}".format(entry["user"], error), file=sys.stderr, flush=True)
    os._exit(result)


results = [as_user(entry) for entry in asked["credentials"]]
print("changed" if CHANGED in results else "same")
sys.exit(FAILED in results)
