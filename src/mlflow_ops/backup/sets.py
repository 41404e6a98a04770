"""Backup sets: what a manifest says, which files a new set needs, which sets have had their time.

A set is a directory named after its moment. Its manifest says what is in the databases' copies. A
list beside it names, a line each, every artifact that there was and the set in which its file lies:
a set holds only those that no earlier one has. So no set is ever changed, and a file goes when no
list names it any more. (Sets of releases before have that list in the manifest.)

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import calendar
import gzip
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

MANIFEST = "manifest.json"
LIST = "artifacts.jsonl.gz"
NAME = re.compile(r"\d{8}T\d{6}Z")
AHEAD = 600  # seconds by which a clock may differ from the one that named a set
DAY = 86400


class Trouble(Exception):
    """What is wrong and what to do about it: a sentence for people."""


@dataclass(frozen=True)
class Artifact:
    """A file of the artifacts.

    Attributes:
        path: below the artifacts' root.
        size: in bytes.
        modified: when, as the source says; or with versions of a bucket, the version's name.
        sha256: of the content; of a version the bucket's own mark.
        set: the set in which its file lies; '' for a version, which stays in the bucket.
    """

    path: str
    size: int
    modified: str
    sha256: str = ""
    set: str = ""

    @property
    def file(self) -> str:
        """Where its file is, below the target."""
        return f"{self.set}/artifacts/{self.path}"


def stays_below(path: str) -> bool:
    """Return whether a path, which anybody may have made up, is one of a file below a directory."""
    return not {"", ".", ".."} & {*path.split("/")}


def name(moment: float) -> str:
    """Return the name of a set that begins now."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


def seconds(stamp: str) -> float:
    """Return the moment in a set's name."""
    return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))


def digest(manifest: Mapping[str, Any]) -> str:
    """Return the digest of all but the digest."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def written(manifest: Mapping[str, Any]) -> str:
    """Return the text of a manifest, with a digest by which damage is found."""
    return json.dumps({**manifest, "digest": digest(manifest)}, indent=1) + "\n"


def read(stamp: str | None, text: str) -> dict[str, Any]:
    """Return a manifest. Raises Trouble where it is damaged.

    Args:
        stamp: the set in which it lies; None for one that was fetched.
        text: of the manifest.
    """
    try:
        manifest: dict[str, Any] = json.loads(text)
        if manifest["digest"] != digest(manifest):
            raise ValueError("it is not what was written")
        # An older set's would pass itself off as newer.
        if stamp not in (None, manifest["set"]):
            raise ValueError(f"it is that of set {manifest['set']}")
        for file in own_files(manifest):  # a fetch writes them, as root
            if not stays_below(file):
                raise ValueError(f"it names a file {file}")
        return manifest
    except (ValueError, KeyError, TypeError) as error:
        what = f"Set {stamp}" if stamp else "What was fetched"
        raise Trouble(f"{what} is damaged: {MANIFEST}: {error}.") from error


def write_list(file: Path, artifacts: Iterable[Artifact]) -> str:
    """Write the list of a set's artifacts; return its SHA-256."""
    with gzip.open(file, "wt", encoding="utf-8", compresslevel=3) as text:
        for artifact in artifacts:
            text.write(json.dumps(asdict(artifact), ensure_ascii=False) + "\n")
    return sha256(file)


def listed(manifest: Mapping[str, Any], file: Path) -> Iterator[Artifact]:
    """Yield a set's artifacts. Raises Trouble where the list is damaged: before the first of them.

    Args:
        manifest: of the set.
        file: its list; there is none where the manifest has the artifacts itself.
    """
    said = manifest.get("list")
    try:
        if said and sha256(file) != said["sha256"]:
            raise ValueError("it is not what was written")
        with gzip.open(file, "rt", encoding="utf-8") if said else nullcontext() as lines:
            for entry in map(json.loads, lines) if lines else manifest["artifacts"]:
                artifact = Artifact(**entry)
                artifact.path.encode()
                if artifact.set and not NAME.fullmatch(artifact.set):
                    raise ValueError(f"it names a set {artifact.set}")
                # A fetch writes them, as root.
                for path in (artifact.path, *([artifact.file] if artifact.set else [])):
                    if not stays_below(path):
                        raise ValueError(f"it names a file {path}")
                yield artifact
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        where = LIST if said else MANIFEST
        raise Trouble(f"Set {manifest['set']} is damaged: {where}: {error}.") from error


def sha256(file: Path) -> str:
    """Return a file's digest, in hexadecimal."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def own_files(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of a set that are not artifacts, below the target, with their SHA-256."""
    own = [*manifest["databases"].values(), *manifest["files"], *manifest.get("authority", [])]
    own += [manifest["list"]] if "list" in manifest else []
    return {f"{manifest['set']}/{entry['file']}": entry["sha256"] for entry in own}


def present(stamps: Iterable[str], now: float) -> list[str]:
    """Return the sets that are not from the future: a clock was wrong then, or is now."""
    return [stamp for stamp in stamps if seconds(stamp) <= now + AHEAD]


def expired(stamps: Iterable[str], now: float, days: int, least: int) -> list[str]:
    """Return the sets that are older than so many days, but never of the newest `least`.

    Where sets came regularly, a gap far longer than all others says more of the clock than of time:
    it makes the sets before it no older than a usual one does.
    """
    newest_first = sorted(present(stamps, now), reverse=True)
    moments = [now, *map(seconds, newest_first)]
    gaps = [later - earlier for later, earlier in pairwise(moments)]
    usual = median(gaps[1:] or [0])
    old, age = [], 0.0
    for number, (stamp, gap) in enumerate(zip(newest_first, gaps, strict=True)):
        age += usual if gap > max(days * DAY, 10 * usual) and len(gaps) > 2 else gap
        if number >= max(least, 1) and age > days * DAY:
            old.append(stamp)
    return sorted(old)


def amount(count: float) -> str:
    """Return a number of bytes for people."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    return (
        f"{count:.1f} {units[0]}"
        if count < 10 and units[0] != "bytes"
        else f"{count:.0f} {units[0]}"
    )


def ago(span: float) -> str:
    """Return a span of seconds for people."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if span >= 2 * length or (unit == "minute" and span >= length):
            count = int(span // length)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{int(span)} s"


def counted(databases: Mapping[str, Any]) -> str:
    """Return what the databases hold, for people."""
    found = {
        table: count
        for entry in databases.values()
        for table, count in entry["counts"].items()
        if table in ("experiments", "runs", "registered_models", "model_versions", "users")
    }
    return ", ".join(f"{table.replace('_', ' ')} {count}" for table, count in found.items())
