"""Tell what the role `mlflow_client` must know of a server's client, as JSON.

Argument: a JSON object with project (the directory that holds what everybody on the host sources)
and users (logins).

Run by the host's own Python: nothing newer than Python 3.9.
"""

import grp
import json
import os
import pwd
import stat
import sys

asked = json.loads(sys.argv[1])


def exists(user: str) -> bool:
    """Return whether there is such a login."""
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


# As roles/mlflow_server/files/probe.py has it: a probe is one file, and each has its own.
def changed_by(status: os.stat_result) -> str:
    """Return who besides root may put something else in the place of what a directory holds, or ''.

    Debian gives /usr/local to the group staff, whose members are administrators. A user or a group
    without a name is that of another machine, whose file system this is: nobody here.
    """
    try:
        if status.st_uid != 0 and (found := pwd.getpwuid(status.st_uid).pw_name) != "nobody":
            return found
    except KeyError:
        pass
    if status.st_mode & stat.S_ISVTX or stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            return ""
        return "" if group in ("staff", "nogroup") else "the group " + group
    return ""


def trap(path: str) -> tuple:
    """Return the first directory on the way to a path that others than root may change, and who.

    Links are followed as the kernel does: one that root made, in a directory of root's, is as good
    as a directory. Both are '' where there is no such directory.
    """
    here, rest, links = "/", path.split("/"), 0
    while rest:
        try:
            status = os.lstat(here)
            if who := changed_by(status):
                return here, who
            step = os.path.normpath(os.path.join(here, rest.pop(0)))
            entry = os.lstat(step)
        except OSError:
            return "", ""  # what is not there yet, root makes
        if status.st_mode & stat.S_ISVTX and step != here and changed_by(entry):
            return step, changed_by(entry)
        if stat.S_ISLNK(entry.st_mode) and links < 40:
            links, target = links + 1, os.readlink(step)
            here, rest = ("/" if target.startswith("/") else here), target.split("/") + rest
        else:
            here = step
    return "", ""


print(
    json.dumps(
        {
            "strangers": [user for user in asked["users"] if not exists(user)],
            "trap": trap(asked["project"] + "/activate") if os.geteuid() == 0 else ("", ""),
        }
    )
)
