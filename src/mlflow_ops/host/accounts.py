"""Users and groups of a host."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict


class Account(TypedDict):
    """A user.

    Attributes:
        exists: whether there is one of that name.
        person: whether it is root's, or a login of somebody: no system user.
    """

    exists: bool
    person: bool


def account(name: str) -> Account:
    """Return what a host knows of a user."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return {"exists": False, "person": False}
    return {"exists": True, "person": uid == 0 or uid >= 1000}


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return a group's name, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


@contextmanager
def rights_of(name: str) -> Iterator[None]:
    """Look with a user's rights, if root looks and there is such a user; '' is who looks anyway.

    What a user put somewhere is that user's: a link leads no further than the user comes.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        user = None
    if user is None or user.pw_uid == 0 or os.geteuid() != 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
