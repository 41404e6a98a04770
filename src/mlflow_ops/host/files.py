"""Files of a host: whether they are as they should be, and what is in them."""

from __future__ import annotations

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


def kind(path: str) -> dict[str, str]:
    """Return what is at a path: `kind`, through a link, and `link`, where that leads, else ''.

    The kind is absent, directory, file or other.
    """
    found = Path(path)
    return {
        "kind": (
            "directory" if found.is_dir() else
            "file" if found.is_file() else
            "other" if found.exists() else "absent"
        ),
        "link": os.readlink(path) if found.is_symlink() else "",
    }  # fmt: skip


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


def free_mb(path: str) -> int:
    """Return the room, in MB, where a path is or would be made."""
    return shutil.disk_usage(nearest_parent(path)).free // 1_000_000
