"""A directory of somebody who is not trusted, so that no link in it leads anywhere.

Root looks at it in a mount namespace of its own, in which the kernel follows no link below it. No
check beforehand can do that: whoever owns the directory may make a link after the check.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

# Of the kernel's headers; the numbers of the system calls are the same on all its architectures.
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE, MS_SLAVE = 1 << 14, 1 << 18, 1 << 19
MNT_DETACH = 2
AT_EMPTY_PATH, AT_RECURSIVE, OPEN_TREE_CLONE = 0x1000, 0x8000, 1
MOVE_MOUNT_F_EMPTY_PATH = 4
RDONLY, NOSUID, NODEV, NOEXEC, NOSYMFOLLOW = 1, 2, 4, 8, 0x200000
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
AT_FDCWD = -100
HOPS = 40  # links on one path, as many as the kernel follows


class Refused(Exception):
    """A directory is not looked at; the message is a sentence for people."""


class MountAttributes(ctypes.Structure):
    """What mount_setattr(2) is told."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def root_alone(path: Path) -> bool:
    """Return whether all directories above a path are root's, through whatever links."""
    ways = {*path.parents, *(path.parent.resolve() / path.name).parents}
    return all(place.lstat().st_uid in (0, os.geteuid()) for place in ways)


def opened(path: Path) -> int:
    """Open a directory, as a place only (O_PATH).

    A link on the way is followed when root made it, or the owner of what it leads to: nobody gets
    others to look at what is not hers. Raises Refused, OSError.
    """
    links: dict[int, str] = {}  # the owners of links, and one of each
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    todo = [part for part in reversed(path.parts) if part != "/"]
    hops = 0
    while todo:
        part = todo.pop()
        entry = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
        status = os.fstat(entry)
        if not stat.S_ISLNK(status.st_mode):
            os.close(here)
            here = entry
            continue
        target = Path(os.readlink("", dir_fd=entry))
        os.close(entry)
        links.setdefault(status.st_uid, part)
        if (hops := hops + 1) > HOPS:
            raise Refused(f"{path} leads through too many links.")
        if target.is_absolute():
            os.close(here)
            here = os.open("/", os.O_PATH | os.O_DIRECTORY)
        todo += [part for part in reversed(target.parts) if part != "/"]
    status = os.fstat(here)
    if not stat.S_ISDIR(status.st_mode):
        os.close(here)
        raise NotADirectoryError(f"{path} is no directory.")
    if strangers := links.keys() - {0, status.st_uid}:
        uid = min(strangers)
        os.close(here)
        raise Refused(
            f"{path} is not looked at: {links[uid]} in it is a link of user {uid} to what belongs "
            f"to user {status.st_uid}. Name the directory itself, or let root make the link."
        )
    return here


def call(name: str, *arguments: int | bytes | ctypes.Structure | None) -> int:
    """Call a function of the C library, whose result is negative on failure. Raises OSError."""
    values = [
        ctypes.c_long(one) if isinstance(one, int)
        else ctypes.byref(one) if isinstance(one, ctypes.Structure) else one
        for one in arguments
    ]  # fmt: skip
    library = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(library, name)(*values)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def enter() -> None:
    """Give this process a mount namespace of its own, which sees what the host mounts later.

    Programs that it starts cannot mount there. Raises OSError.
    """
    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    call("prctl", PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)


def mount(directory: int, at: Path, *, trusted: bool = False) -> None:
    """Mount an opened directory at another, both of this process' namespace, links not followed.

    With all that is mounted below it; for reading alone. One that is trusted may be written, and
    its links are followed. Raises OSError.
    """
    flags = AT_EMPTY_PATH | AT_RECURSIVE
    tree = call("syscall", OPEN_TREE, directory, b"", flags | OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        wanted = NOSUID | NODEV | NOEXEC | (0 if trusted else NOSYMFOLLOW | RDONLY)
        told = MountAttributes(wanted, 0, MS_PRIVATE, 0)
        call("syscall", MOUNT_SETATTR, tree, b"", flags, told, ctypes.sizeof(told))
        place = os.fsencode(at)
        call("syscall", MOVE_MOUNT, tree, b"", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


@contextlib.contextmanager
def without_links(directory: Path, at: Path) -> Iterator[Path]:
    """Show a directory at another, which root alone can change, for as long as it is needed.

    Raises Refused, OSError.
    """
    enter()
    descriptor = opened(directory)  # of the namespace, in which alone it can be mounted
    try:
        mount(descriptor, at)
    finally:
        os.close(descriptor)
    try:
        yield at
    finally:
        call("umount2", os.fsencode(at), MNT_DETACH)
