"""Backup sets: what a manifest says, which files a new set needs, which sets have had their time.

A set is a directory named after its moment. Its manifest lists the databases' copies and every
artifact that there was, each with the set in which its file lies: a set holds only those that no
earlier one has. So no set is ever changed, and a file goes when no manifest names it any more.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

MANIFEST = "manifest.json"
NAME = re.compile(r"\d{8}T\d{6}Z")


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


def written(manifest: dict[str, Any], artifacts: Iterable[Artifact]) -> str:
    """Return the text of a manifest with its artifacts, and a digest by which damage is found."""
    whole = {**manifest, "artifacts": [asdict(artifact) for artifact in artifacts]}
    return json.dumps({**whole, "digest": digest(whole)}, indent=1) + "\n"


def read(stamp: str | None, text: str) -> tuple[dict[str, Any], list[Artifact]]:
    """Return a manifest without its artifacts, and them. Raises Trouble where it is damaged.

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
        artifacts = [Artifact(**entry) for entry in manifest.pop("artifacts")]
        paths = [*files(manifest, artifacts), *(artifact.path for artifact in artifacts)]
        for file in paths:  # a fetch writes them, as root
            if not stays_below(file):
                raise ValueError(f"it names a file {file}")
        return manifest, artifacts
    except (ValueError, KeyError, TypeError) as error:
        what = f"Set {stamp}" if stamp else "What was fetched"
        raise Trouble(f"{what} is damaged: {MANIFEST}: {error}.") from error


def to_copy(
    now: Iterable[Artifact], before: Iterable[Artifact], moment: float, there: Mapping[str, int]
) -> tuple[list[Artifact], list[Artifact]]:
    """Split what there is now into artifacts whose file the target has, and those to copy.

    Args:
        now: the artifacts, as their source lists them.
        before: those of the last set.
        moment: that set's, in seconds.
        there: the target's files and their sizes; one that is missing is copied again.
    """
    # S3 knows whole seconds: an object of the very second may have been written once more in it.
    settled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment - 2))
    known = {
        (artifact.path, artifact.size, artifact.modified): artifact
        for artifact in before
        if there.get(artifact.file) == artifact.size
        and (artifact.modified < settled or not artifact.modified.endswith(".000000000Z"))
    }
    kept: list[Artifact] = []
    fresh: list[Artifact] = []
    for artifact in now:
        earlier = known.get((artifact.path, artifact.size, artifact.modified))
        (fresh if earlier is None else kept).append(earlier or artifact)
    return kept, fresh


def copied(
    fresh: Iterable[Artifact], stamp: str, hashes: Mapping[str, str], sizes: Mapping[str, int]
) -> tuple[list[Artifact], list[Artifact]]:
    """Split what was to be copied into artifacts that now lie in a set, and those that do not.

    Args:
        fresh: the artifacts, as their source listed them.
        stamp: the set.
        hashes: the digests of the copies, by path.
        sizes: their sizes; a file may have been written anew after it was listed.
    """
    done, missing = [], []
    for artifact in fresh:
        if (path := artifact.path) in hashes and path in sizes:
            done.append(replace(artifact, set=stamp, sha256=hashes[path], size=sizes[path]))
        else:
            missing.append(artifact)
    return done, missing


def files(manifest: Mapping[str, Any], artifacts: Iterable[Artifact]) -> dict[str, str]:
    """Return the files below the target that a set needs, with their SHA-256."""
    stamp = manifest["set"]
    own = [*manifest["databases"].values(), *manifest["files"], *manifest.get("authority", [])]
    return {
        **{f"{stamp}/{entry['file']}": entry["sha256"] for entry in own},
        **{artifact.file: artifact.sha256 for artifact in artifacts if artifact.set},
    }


def expired(stamps: Iterable[str], now: float, days: int, least: int) -> list[str]:
    """Return the sets that are older than so many days, but never of the newest `least`."""
    newest_first = sorted(stamps, reverse=True)
    return sorted(
        stamp for stamp in newest_first[max(least, 1) :] if seconds(stamp) < now - days * 86400
    )


def unneeded(there: Iterable[str], kept: Iterable[str], needed: set[str]) -> list[str]:
    """Return the files of sets that are not kept (expired ones, unfinished ones) and not needed."""
    keep = set(kept)
    found = []
    for path in there:
        stamp = path.partition("/")[0]
        if NAME.fullmatch(stamp) and stamp not in keep and path not in needed:
            found.append(path)
    return found


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
