"""Promote a local store with the rights of who wrote it, and none of root's (carry.py).

    promote [--archive FILE] [--artifacts DIR] [--artifacts-archive FILE] [--password-file FILE]
            [--progress FILE] --source DIR DIRECTORY [ARGUMENT]...

Root starts it, since root alone may choose the user: the owner of the directory; or, for what came
in an archive from another machine, a user who owns nothing. No link in the store is followed, not
even one that is put there meanwhile (view.py). The password that carry.py reads is safe from
that user: a process that became hers without starting a program anew is closed to her debuggers.

Prints what carry.py prints: one JSON document. How far it is comes into the file of --progress.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import io
import json
import os
import pwd
import shutil
import stat
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

from .. import view
from ..client import only_to_service
from ..view import enter, mount, opened

ARTIFACTS = "mlartifacts"  # as `mlflow server` calls it

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
NOBODY = "nobody"
LOCK = Path("/root")  # a directory that root alone opens: a lock on it leaves no file behind
RESERVE = 100_000_000  # bytes that stay free on the disk, which an archive of some could fill
# Where the program finds it all: mounted there, for this process to see.
ROOM = Path("/tmp")  # noqa: S108 not the host's


def refuse(words: str) -> NoReturn:
    """End with a report that says why, in the form of carry.py's."""
    print(json.dumps({"failure": words, "carried": 0, "there": 0}))
    sys.exit(1)


def alone(directory: Path = LOCK) -> int:
    """Return a lock that is held until this process ends: two would carry each run twice."""
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        refuse("Another promotion is at work on this host. When it has ended: the same again.")
    return lock


def become(account: pwd.struct_passwd, groups: list[int]) -> None:
    """Become a user for good, with no way to start a program: it would tell her all it was told."""
    os.setgroups(groups)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    def stay_alone(event: str, _: tuple[Any, ...]) -> None:
        if event in ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"):
            raise PermissionError(f"{event}: no program is started with what this one knows.")

    sys.addaudithook(stay_alone)


def linked(directory: Path, name: str) -> bool:
    """Return whether a second name of a file is one of what was unpacked already."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and (directory / path).is_file()


def unpack(archive: BinaryIO, directory: Path) -> list[str]:
    """Unpack the files of a tar.gz into a new directory; return the names of what is left out.

    Links and devices, since what they mean on another machine nobody knows, and names that lead
    elsewhere. Second names of one file become files of their own. (Debian 12's tarfile has no
    filters yet.) Raises OSError, TarError, EOFError, before the disk is full.
    """
    left = []
    with tarfile.open(fileobj=archive, mode="r|gz") as packed:
        for member in packed:
            name = PurePosixPath(member.name)
            place = directory / name
            if name.is_absolute() or ".." in name.parts:
                left.append(member.name)
            elif member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.islnk() and linked(directory, member.linkname) and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(directory / member.linkname, place)
            elif not member.isreg() or place.exists():
                left.append(name.as_posix())
            elif member.size > (free := shutil.disk_usage(directory).free - RESERVE):
                raise OSError(f"{member.name!r} has {member.size} bytes, and {free} are free.")
            elif content := packed.extractfile(member):
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as copy:
                    shutil.copyfileobj(content, copy)
    return left


def owned(path: Path) -> tuple[int, int]:
    """Open a directory, and return whose it is, by the user's number. Raises Refused, OSError."""
    try:
        descriptor = opened(path)
    except (FileNotFoundError, NotADirectoryError):
        refuse(f"There is no directory {path}.")
    return descriptor, os.fstat(descriptor).st_uid


def owner_of(options: argparse.Namespace, uid: int) -> pwd.struct_passwd:
    """Return the owner of the store, who is not root."""
    if uid == 0:
        refuse(
            f"{options.source} belongs to root. It is read with its owner's rights, and root's are "
            "too many: a link in it could lead anywhere. Give it to whose runs they are: chown -R "
            f"<user>: {options.source}"
        )
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        refuse(f"{options.source} belongs to user {uid}, whom this host does not know.")


def artifacts_of(options: argparse.Namespace, uid: int) -> Path | None:
    """Return where a local server kept artifacts: as it was named, or beside the store."""
    beside: Path = options.source.parent / ARTIFACTS
    named: Path | None = options.artifacts
    with contextlib.suppress(OSError):
        status = beside.lstat()
        if not named and stat.S_ISDIR(status.st_mode) and status.st_uid == uid:
            return beside  # somebody else's would be none of this store
    return named


def prepare(options: argparse.Namespace) -> tuple[pwd.struct_passwd, list[str]]:
    """Make a /tmp for this process alone, with the store in it.

    Return whose the store is, and what carry.py is to be told of it. Raises Refused, OSError.
    """
    enter()
    inside = options.directory / "inside"
    for directory in (inside, *(inside / name for name in ("store", "artifacts", "temporary"))):
        directory.mkdir()
        directory.chmod(0o755)
    mount(opened(inside), ROOM, trusted=True)
    told = ["--source", str(ROOM / "store"), "--called", str(options.source)]
    theirs = [ROOM / "temporary"]
    if options.archive:
        account = pwd.getpwnam(NOBODY)
        theirs += [ROOM / "store", ROOM / "artifacts"]
        artifacts = options.artifacts_archive
    else:
        descriptor, uid = owned(options.source)
        account = owner_of(options, uid)
        mount(descriptor, ROOM / "store")
        if artifacts := artifacts_of(options, uid):
            descriptor, theirs_too = owned(artifacts)
            if theirs_too != uid:
                refuse(
                    f"{artifacts} belongs to user {theirs_too}, and {options.source} to user "
                    f"{uid}. Both are read with the rights of one: chown -R {account.pw_name}: "
                    f"{artifacts}"
                )
            mount(descriptor, ROOM / "artifacts")
    if artifacts:
        told += ["--artifacts", str(ROOM / "artifacts")]
    if options.artifacts:
        told += ["--all-artifacts"]
    for directory in theirs:
        os.chown(directory, account.pw_uid, account.pw_gid)
    return account, told


def main() -> int:
    """Read the command line, give root's rights up, and carry; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the directory mlruns")
    parser.add_argument("--archive", type=Path, help="a tar.gz of it, from elsewhere")
    parser.add_argument("--artifacts", type=Path, help="default: mlartifacts beside the source")
    parser.add_argument("--artifacts-archive", type=Path, help="a tar.gz of that")
    parser.add_argument("--progress", type=Path, help="a file to be made, for how far it is")
    parser.add_argument("--password-file", type=Path, help="instead of standard input; root's")
    parser.add_argument("directory", type=Path, help="an empty one, which root alone may enter")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    os.umask(0o077)
    os.chdir("/")
    alone()
    try:
        if options.password_file:
            sys.stdin = io.StringIO(options.password_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        refuse(f"{options.password_file}, the password of who logs in, is not on this host.")
    try:
        archives = [
            (path.open("rb"), ROOM / name)
            for path, name in ((options.archive, "store"), (options.artifacts_archive, "artifacts"))
            if path
        ]
        progress = options.progress.open("w", encoding="utf-8") if options.progress else None
        account, told = prepare(options)
    except (view.Refused, OSError) as error:
        refuse(str(error))
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    os.environ.clear()
    os.environ.update(
        {**kept, "PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        TMPDIR=str(ROOM / "temporary"),
    )
    if "--username" in options.arguments:
        only_to_service()
    become(account, groups)
    try:
        left = [name for archive, place in archives for name in unpack(archive, place)]
    except (OSError, EOFError, tarfile.TarError) as error:
        refuse(f"The archive of {options.source} cannot be unpacked: {error}")
    from . import carry  # and MLflow, with no more rights than she has

    sys.argv[1:] = [*told, "--left-out", json.dumps(left), *options.arguments]
    return carry.main(progress)
