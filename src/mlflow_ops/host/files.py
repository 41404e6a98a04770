"""Files of a host: whether they are as they should be, and what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from .accounts import group_name, rights_of, user_name


class _Path(TypedDict):
    path: str


class Wanted(_Path, total=False):
    """A file or a directory, and how it should be. What is not said may be anything.

    Attributes:
        path: absolute.
        owner: a user's name.
        group: a group's name.
        mode: octal, such as "0644".
        sha256: of its content; "" is any.
        digest: whether to tell the sha256 of what is there; "" of one that is not as it should be.
        by: a user with whose rights to look, and not through a link: others may have put one there.
    """

    owner: str
    group: str
    mode: str
    sha256: str
    digest: bool
    by: str


def sha256(path: Path) -> str:
    """Return the digest of a file's content, or '' of what is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_by(user: str, path: Path) -> bytes:
    """Return what is in a file that a user may have put there, with that user's rights alone.

    A link in its place is not followed, and a pipe not waited for. Raises OSError.
    """
    with rights_of(user):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "It is no regular file", str(path))
        return file.read()


def as_wanted(file: Wanted) -> bool:
    """Return whether a file or directory has the owner, group, mode and content it should."""
    path = Path(file["path"])
    try:
        with rights_of(file.get("by", "")):
            status = path.lstat() if file.get("by") else path.stat()
            content = file.get("sha256", "")
            return (
                file.get("owner", "") in ("", user_name(status.st_uid))
                and file.get("group", "") in ("", group_name(status.st_gid))
                and ("mode" not in file or stat.S_IMODE(status.st_mode) == int(file["mode"], 8))
                and (not content or content == sha256(path))
            )
    except OSError:
        return False


def in_order(wanted: Sequence[Wanted]) -> dict[str, Any]:
    """Return which files are absent, which of all are not as they should be, and asked digests."""
    amiss = [file["path"] for file in wanted if not as_wanted(file)]
    return {
        "absent": [file["path"] for file in wanted if not os.path.exists(file["path"])],
        "amiss": amiss,
        "digests": {
            file["path"]: "" if file["path"] in amiss else sha256(Path(file["path"]))
            for file in wanted
            if file.get("digest")
        },
    }


class Place(_Path, total=False):
    """A path, and how to look at it.

    Attributes:
        path: absolute.
        by: a user with whose rights to look, whose it may be.
        below: a directory. The first link on the way from there to the path is told.
    """

    by: str
    below: str


class Link(TypedDict, total=False):
    """A link: its own path, and where it leads."""

    path: str
    target: str


class Kind(TypedDict):
    """What is at a path.

    Attributes:
        kind: through a link: absent, directory, file, other; hidden from who looks.
        link: where the link that it is leads; '' for none.
        owner: of the link, if it is one; '' where nothing is to be seen.
        led: the first link on the way; {} for none.
    """

    kind: str
    link: str
    owner: str
    led: Link


def kind(path: Path) -> str:
    """Return what kind a path is of, through a link."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "hidden"
    except OSError:
        return "absent"
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def first_link(path: Path, below: Path) -> Link:
    """Return the first link on the way from a directory to a path below it."""
    here = below
    for step in path.relative_to(below).parts if below in path.parents else ():
        here /= step
        if here.is_symlink():
            return {"path": str(here), "target": os.readlink(here)}
    return {}


def place(asked: Place) -> Kind:
    """Return what is at a path."""
    path = Path(asked["path"])
    with rights_of(asked.get("by", "")):
        try:
            status = path.lstat()
        except OSError:
            owner, link = "", ""
        else:
            owner = user_name(status.st_uid)
            link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        led = first_link(path, Path(asked["below"])) if asked.get("below") else Link()
        return {"kind": kind(path), "link": link, "owner": owner, "led": led}


def places(asked: Sequence[str | Place]) -> dict[str, Kind]:
    """Return what is at each of some paths, by path."""
    every: list[Place] = [{"path": one} if isinstance(one, str) else one for one in asked]
    return {one["path"]: place(one) for one in every}


def database(asked: Place) -> str:
    """Return what a database's file is: absent, empty, sqlite, other, or hidden from who looks."""
    path = Path(asked["path"])
    with rights_of(asked.get("by", "")):
        found = kind(path)
        if found != "file":
            return found if found in ("absent", "hidden") else "other"
        try:
            with path.open("rb") as file:
                start = file.read(16)
        except PermissionError:
            return "hidden"
    return "empty" if not start else "sqlite" if start == b"SQLite format 3\0" else "other"


def contents(paths: Sequence[str]) -> dict[str, str]:
    """Return what is in those of some files that are there, to the letter."""
    there = [path for path in paths if os.path.isfile(path)]
    return {path: Path(path).read_bytes().decode(errors="replace") for path in there}


def text(path: str) -> str:
    """Return what a file says, without space at its ends, or '' where there is none."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def pair(certificate: str, key: str) -> bool:
    """Return whether certificate and key can be read and belong together."""
    try:
        # An empty password, since otherwise a terminal would be asked for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=bytes)
    except (OSError, ValueError):
        return False
    return True


def nearest_parent(path: str) -> Path:
    """Return a path, or the nearest directory above it that there is."""
    nearest = Path(path)
    while not nearest.exists():
        nearest = nearest.parent
    return nearest


def in_memory(path: str, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether a path is, or would be, in a file system that is memory.

    Args:
        path: absolute.
        mounts: what the kernel says of file systems; a Mac says nothing.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    real = Path(os.path.realpath(path))
    of = {line.split()[1]: line.split()[2] for line in lines}  # the last one at a place counts
    at = next((str(one) for one in (real, *real.parents) if str(one) in of), "")
    return of.get(at) in ("tmpfs", "ramfs")


def free_mb(path: str) -> int:
    """Return the room, in MB, where a path is or would be made."""
    return shutil.disk_usage(nearest_parent(path)).free // 1_000_000
