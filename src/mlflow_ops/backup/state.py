"""What backups leave on this host beside the sets: files for other programs, and room to work in.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import durable, installation
from . import sets
from .sets import Trouble

STATE = Path("/var/lib/mlflow-backup")
RESERVE = 100_000_000  # bytes that stay free on a disk
LIVE_RESERVE = 1_000_000_000, 5_000_000_000  # ... on one with live data: 5 %, in these bounds


def say(words: str) -> None:
    """Tell who runs this, or the journal, how far it is; standard output is for results."""
    print(words, file=sys.stderr, flush=True)


def disk_of(path: Path) -> int:
    """Return the number of the disk on which a path is, or will be."""
    return next(place for place in (path.absolute(), *path.absolute().parents)
                if place.exists()).stat().st_dev  # fmt: skip


def need_room(wanted: Mapping[Path, int]) -> None:
    """Raise Trouble where a disk has no room for so many bytes below each of some directories.

    A database that has no room for its log stops: where it may be, some is left to it.
    """
    live = {disk_of(place) for place in (STATE, Path("/"), Path(installation.read().state_dir))}
    by_disk: dict[int, list[Path]] = {}
    for directory in wanted:
        by_disk.setdefault(disk_of(directory), []).append(directory)
    for number, directories in by_disk.items():
        size = sum(wanted[directory] for directory in directories)
        nearest = next(one for one in (directories[0], *directories[0].parents) if one.exists())
        disk, reserve, (least, most) = shutil.disk_usage(nearest), RESERVE, LIVE_RESERVE
        if number in live:
            reserve = min(max(disk.total // 20, least), most)
        if size and disk.free < size + reserve:
            raise Trouble(
                f"{' and '.join(map(str, directories))}: there are {sets.amount(disk.free)} free, "
                f"and this needs {sets.amount(size)} and leaves {sets.amount(reserve)}. Free some, "
                "or use a larger disk."
            )


@contextlib.contextmanager
def room() -> Iterator[Path]:
    """Make a directory for a while, of root's."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=STATE) as place:
        yield Path(place)


def from_the_future(stamps: Sequence[str]) -> str:
    """Return what there is to say of sets that a wrong clock has named, or a wrong clock sees."""
    return (
        f"By this host's clock ({sets.name(time.time())}) from the future: {', '.join(stamps)}. "
        "Set the clock, if it is wrong now. If it was wrong then, they stay, and are not taken for "
        "the newest; mlflow-backup forget SET has one removed."
    )


# What other programs read -------------------------------------------------------------------------


def put(file: Path, text: str) -> None:
    """Replace a file that others may read: after a power cut it is the old one or the new one."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.chmod(0o644)
    durable.rename(unfinished, file)


def left(name: str) -> dict[str, Any]:
    """Return what a file here says; nothing where there is none, or it is damaged."""
    try:
        found = json.loads((STATE / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        say(f"{STATE / name} is damaged, and written anew.")
        return {}
    return found


def told() -> dict[str, Any]:
    """Return what status.json says."""
    return {"last_success": 0, "set": "", **left("status.json")}


def note(**changes: Any) -> None:
    """Change what status.json says: monitoring and people read it."""
    put(STATE / "status.json", json.dumps({**told(), **changes}) + "\n")


def damaged_files(place: str) -> dict[str, str]:
    """Return the files of a target that were found damaged, and the digest they should have."""
    found = left("damaged.json")
    files = found.get("files") if found.get("target") == place else {}
    return files if isinstance(files, dict) else {}


def note_damaged(place: str, files: Mapping[str, str]) -> None:
    """Remember them, for the next backup and for people."""
    if files or (STATE / "damaged.json").exists():
        put(STATE / "damaged.json", json.dumps({"target": place, "files": files}, indent=1) + "\n")
    note(damaged=len(files))


def status(now: float) -> str:
    """Return a sentence about the last good backup. Raises Trouble where it is too old."""
    found = told()
    limit, last = found.get("max_age_hours", 0), found["last_success"]
    if not last:
        words = "No backup was ever made here."
    elif last > now + sets.AHEAD:
        raise Trouble(
            f"The last good backup, {found['set']}, is from the future: the clock of this host is "
            "wrong now, or was then. Set it; then systemctl start mlflow-backup."
        )
    else:
        words = f"The last good backup is {sets.ago(max(now - last, 0))} old: {found['set']}."
    if found.get("error"):
        words += f" Since then: {found['error']}"
    if found.get("damaged"):
        words += f" Of all sets, {found['damaged']} files are damaged: mlflow-backup verify."
    if limit and now - last > limit * 3600:
        raise Trouble(
            f"{words} It must not be older than {limit} hours (mlflow_backup_max_age_hours): "
            "journalctl -u mlflow-backup; then systemctl start mlflow-backup."
        )
    return words
