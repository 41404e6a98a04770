"""Which directories on the way to a path others than root may change.

Whoever may put a link of theirs on the way leads root, who writes there, to any other place.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from collections.abc import Mapping
from typing import NamedTuple

LINKS = 40  # that the kernel follows


class Trap(NamedTuple):
    """A directory that others than root may change, and who may; both '' for none."""

    place: str
    by: str


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
        return "" if group in ("staff", "nogroup") else f"the group {group}"
    return ""


def trap(path: str) -> Trap:
    """Return the first directory on the way to a path that others than root may change, and who.

    Links are followed as the kernel does: one that root made, in a directory of root's, is as good
    as a directory. The path itself may be anybody's.
    """
    here, rest, links = "/", path.split("/"), 0
    while rest:
        try:
            status = os.lstat(here)
            if who := changed_by(status):
                return Trap(here, who)
            step = os.path.normpath(os.path.join(here, rest.pop(0)))
            entry = os.lstat(step)
        except OSError:
            return Trap("", "")  # what is not there yet, root makes
        if status.st_mode & stat.S_ISVTX and step != here and changed_by(entry):
            return Trap(step, changed_by(entry))
        if stat.S_ISLNK(entry.st_mode) and links < LINKS:
            links, target = links + 1, os.readlink(step)
            here, rest = ("/" if target.startswith("/") else here), target.split("/") + rest
        else:
            here = step
    return Trap("", "")


def traps(ways: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return which paths root must not write, by the variable that names each: place, by and why.

    Why is a sentence that says what to do. A path that root may write is not among them.
    """
    found = {}
    for variable, path in ways.items():
        place, who = trap(path)
        if place:
            why = (
                f"{variable} ({path}) lies in {place} on {socket.gethostname()}, which {who} can "
                "change, and so lead root to any other place. Set it to a path whose directories "
                "are root's alone; or, if nobody needs that: "
                f"chown root: {place}; chmod go-w {place}"
            )
            found[variable] = {"place": place, "by": who, "why": why}
    return found
