"""Write the ~/.mlflow/credentials of users, each as that user.

Root must not follow what users may have made of their own directories.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

HEADING = "# Written by Ansible, from mlflow_client_credentials: what is changed here is lost."
SAME, CHANGED, FAILED = range(3)  # how a process of a user ends


class Result(NamedTuple):
    """What came of it.

    Attributes:
        changed: whether a file was changed, or would be.
        errors: a sentence for each user whose file could not be written.
    """

    changed: bool
    errors: list[str]


def content(entry: Mapping[str, str]) -> str:
    """Return the file as MLflow reads it, with configparser, to which a % is special."""
    if entry.get("state") == "absent":
        return ""
    lines = [HEADING, "[mlflow]"]
    for key in ("username", "password"):
        lines.append(f"mlflow_tracking_{key} = {entry[key].replace('%', '%%')}")
    return "\n".join(lines) + "\n"


def place(home: Path, wanted: str, check: bool) -> int:
    """Make the file in a home what it should be, '' for none; return SAME or CHANGED."""
    path = home / ".mlflow/credentials"
    # A pipe there would keep everybody waiting; what is none is replaced.
    found = path.read_text() if path.is_file() else ""
    if found == wanted and (not wanted or path.stat().st_mode & 0o777 == 0o600):
        return SAME
    if check:
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


def as_user(entry: Mapping[str, str], check: bool) -> tuple[int, str]:
    """Do it in a process that has become the user for good; return what came of it, and why."""
    why, tell = os.pipe()
    child = os.fork()
    if not child:
        result = FAILED
        try:
            account = pwd.getpwnam(entry["user"])
            if os.geteuid() == 0:
                os.initgroups(account.pw_name, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            os.umask(0o077)
            result = place(Path(account.pw_dir), content(entry), check)
        except Exception as error:
            os.write(tell, f"{entry['user']}: {error}"[:4000].encode())
        finally:
            os._exit(result)
    os.close(tell)
    with os.fdopen(why, "rb") as words:
        said = words.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    if status & 0xFF:  # a signal ended it
        return FAILED, f"{entry['user']}: the process that wrote it was ended."
    return status >> 8, said


def write(credentials: Iterable[Mapping[str, str]], check: bool = False) -> Result:
    """Give users their credentials, or take them.

    Args:
        credentials: of each the user, a login, with username and password; or state, absent.
            A login that does not exist has none to take.
        check: whether to look, and change nothing.
    """
    results = [as_user(entry, check) for entry in credentials if not gone(entry)]
    return Result(
        any(result == CHANGED for result, _ in results),
        [why for result, why in results if result == FAILED],
    )


def gone(entry: Mapping[str, str]) -> bool:
    """Return whether an entry is of a login that neither exists nor should have credentials."""
    try:
        return entry.get("state") == "absent" and not pwd.getpwnam(entry["user"])
    except KeyError:
        return True
