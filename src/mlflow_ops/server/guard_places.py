"""Where artifacts may be: places in a file system or in a bucket, and what lies within what.

MLflow opens whatever address stands in a model version's `source` or an experiment's
`artifact_location`, with the service's rights. Here such an address becomes a Place, or is refused
because it could mean something else to whoever opens it. Nothing but the standard library is used,
and nothing but `real` looks at a disk.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile

from ..there import ASIDE, NO_ARTIFACTS

# How MLflow 3 writes the server's own artifact root.
PROXIED = "mlflow-artifacts"

# An address with one of these is read differently by different programs.
DOUBTFUL = re.compile(r"[\x00-\x20\x7f%?#\\@]")
ADDRESS = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?P<rest>.*)", re.DOTALL)
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*")
DIGITS = re.compile(r"\d+")
# Where MLflow, from 3.18 on, keeps what people upload to its registry of skills.
SKILLS = "skills"


class Refused(ValueError):
    """An address that is not accepted; its text says why, as the end of a sentence."""


@dataclass(frozen=True, order=True)
class Place:
    """A directory or file, or everything below a key in a bucket.

    Attributes:
        bucket: the bucket's name; empty for this host's file system.
        parts: the names from the root on.
    """

    bucket: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return (f"s3://{self.bucket}/" if self.bucket else "/") + "/".join(self.parts)

    def within(self, other: Place) -> bool:
        """Tell whether this is the other place, or lies below it."""
        return self.bucket == other.bucket and self.parts[: len(other.parts)] == other.parts

    def below(self, *names: str) -> Place:
        """Return a place within this one."""
        return Place(self.bucket, self.parts + names)

    def really_within(self, other: Place) -> bool:
        """Tell whether this lies within the other place, and what its links lead to as well."""
        return self.within(other) and self.real().within(other.real())

    def real(self) -> Place:
        """Return the place that this one's links lead to."""
        if self.bucket:
            return self
        return Place("", names(os.path.realpath(str(self))))


def names(path: str) -> tuple[str, ...]:
    """Return the names in a path that an administrator or the system wrote."""
    return tuple(name for name in path.split("/") if name not in ("", "."))


def is_put_aside(path: str) -> bool:
    """Tell whether a path is of what a restore has replaced, where nobody has rights any more."""
    return names(path)[:1] == (ASIDE,)


def checked(path: str) -> tuple[str, ...]:
    """Return the names in a path that anybody may have written. Raises Refused."""
    found = tuple(path.strip("/").split("/")) if path.strip("/") else ()
    if any(name in ("", ".", "..") for name in found):
        raise Refused('an address has no "//", "." or ".." in it')
    return found


def is_name(text: str) -> bool:
    """Tell whether a text is one name in a path, to whoever reads it."""
    return text not in ("", ".", "..") and "/" not in text and not DOUBTFUL.search(text)


def root(address: str) -> Place:
    """Return the place of a root that the administrator wrote: a directory, or s3://bucket/prefix.

    Raises Refused.
    """
    if address.startswith("s3://"):
        bucket, _, prefix = address[len("s3://") :].partition("/")
        if not BUCKET.fullmatch(bucket):
            raise Refused(f'"{bucket}" is no bucket')
        return Place(bucket, names(prefix))
    path = address[len("file://") :] if address.startswith("file:///") else address
    if not path.startswith("/") or ".." in path.split("/"):
        raise Refused("it is an absolute path or s3://<bucket>/<prefix>")
    return Place("", names(path))


def parsed(address: str, destination: Place) -> Place:
    """Return the place that an address means on a server with this artifact root. Raises Refused.

    What is accepted is a path, file:, s3: and MLflow's own mlflow-artifacts: without a host.
    """
    if DOUBTFUL.search(address):
        raise Refused("an address has no spaces and none of % ? # @ \\ in it")
    written = ADDRESS.match(address)
    scheme, rest = written.groups() if written else ("", "")
    scheme = (scheme or "").lower()
    if scheme == "s3":
        bucket, _, key = rest.removeprefix("//").partition("/")
        if not rest.startswith("//") or not BUCKET.fullmatch(bucket):
            raise Refused("it names no bucket")
        return Place(bucket, checked_once(f"/{key}"))
    if scheme not in ("", "file", PROXIED):
        raise Refused(f"{scheme}: addresses are not opened")
    if scheme == "file" and rest.startswith("///"):
        rest = rest[2:]
    if rest.startswith("//"):
        raise Refused("it names another host")
    if not rest.startswith("/"):
        raise Refused("it is not absolute")
    # One leading and one trailing slash at most: what is left of more is an empty name.
    inner = checked_once(rest)
    return destination.below(*inner) if scheme == PROXIED else Place("", inner)


def checked_once(path: str) -> tuple[str, ...]:
    """Return the names in an absolute path. Raises Refused."""
    inner = path[1:].removesuffix("/")
    if inner.startswith("/") or inner.endswith("/"):
        raise Refused('an address has no "//", "." or ".." in it')
    return checked(inner)


@dataclass(frozen=True)
class Roots:
    """Where artifacts may be.

    Attributes:
        destination: the installation's own artifact root.
        admitted: what the administrator lists besides.
    """

    destination: Place
    admitted: tuple[Place, ...]

    @classmethod
    def of(cls, destination: str, admitted: Iterable[str]) -> Roots:
        """Return the roots by their addresses. Raises Refused."""
        return cls(root(destination), tuple(root(address) for address in admitted))

    def place(self, address: str) -> Place:
        """Return the place of an address that lies within a root. Raises Refused."""
        place = parsed(address, self.destination)
        if any(place.really_within(allowed) for allowed in (self.destination, *self.admitted)):
            return place
        raise Refused("it lies outside of this server's artifacts")

    def led_to(self, place: Place) -> Place:
        """Return where the links of a place lead, by the name that its root has.

        The root may itself be a link, or lie behind one.
        """
        real = place.real()
        for allowed in (self.destination, *self.admitted):
            if real.within(behind := allowed.real()):
                return allowed.below(*real.parts[len(behind.parts) :])
        return real

    def is_admitted(self, place: Place) -> bool:
        """Tell whether a place lies where the administrator lets everybody read."""
        return any(
            place.really_within(allowed)
            for allowed in self.admitted
            # A root that holds the server's own would open every experiment.
            if not self.destination.within(allowed)
        )

    def new_location(self, address: str) -> Place:
        """Return the place of a new experiment. Raises Refused."""
        place = self.place(address)
        if self.destination.within(place) or place in self.admitted:
            raise Refused("it is a root of artifacts; name a directory below it")
        inner = place.parts[len(self.destination.parts) :]
        if place.within(self.destination) and DIGITS.fullmatch(inner[0]):
            raise Refused(
                "directories whose name is a number are for experiments that MLflow places"
            )
        if place.within(self.destination) and inner[0] in NO_ARTIFACTS:
            raise Refused(f'"{inner[0]}" is no place for artifacts')
        # In any case of letters, as MLflow reads it.
        if place.within(self.destination) and inner[0].lower() == SKILLS:
            raise Refused(f'"{SKILLS}" is where MLflow keeps its registry of skills')
        return place


class Occupied:
    """Which experiments lie around a place, and which within it."""

    def __init__(self, experiments: Iterable[tuple[str, Place]]) -> None:
        self._at: dict[Place, list[str]] = {}
        for experiment_id, place in experiments:
            self._at.setdefault(place, []).append(experiment_id)
        self._sorted = sorted(self._at)

    def around(self, place: Place) -> dict[str, Place]:
        """Return the experiments that hold a place, each with its location."""
        outer = (Place(place.bucket, place.parts[:end]) for end in range(len(place.parts) + 1))
        return {number: other for other in outer for number in self._at.get(other, ())}

    def within(self, place: Place) -> dict[str, Place]:
        """Return the experiments that a place holds, each with its location."""
        after = islice(self._sorted, bisect_left(self._sorted, place), None)
        inner = takewhile(lambda other: other.within(place), after)
        return {number: other for other in inner for number in self._at[other]}

    def overlapping(self, place: Place) -> dict[str, Place]:
        """Return both."""
        return self.around(place) | self.within(place)


def elsewhere(
    experiments: Iterable[tuple[str, str, str]],
    versions: Iterable[tuple[str, str, str]],
    roots: Roots,
) -> list[str]:
    """Return which places no new experiment or model version could name: how many, and the first.

    Args:
        experiments: numbers, names and locations.
        versions: names, sources, and the number of the experiment that has the version's run.
        roots: where artifacts may be.
    """
    outer: list[str] = []
    shared: list[str] = []
    sources: list[str] = []
    foreign: list[str] = []
    placed: dict[str, tuple[Place, str, str]] = {}
    for number, name, at in experiments:
        try:
            if place := place_of(at, roots):
                placed[number] = place, at, name
        except Refused:
            outer.append(f"{name} ({at})")
    occupied = Occupied((number, place) for number, (place, *_) in placed.items())
    for number, (place, at, name) in placed.items():
        if place == roots.destination.below(number):
            continue  # where MLflow puts it: nobody chose
        try:
            alone = len(occupied.overlapping(roots.new_location(at))) == 1
        except Refused:
            alone = False
        if not alone:
            shared.append(f"{name} ({at})")
    for name, at, number in versions:
        try:
            around = occupied.around(place) if (place := place_of(at, roots)) else {}
        except Refused:
            sources.append(f"{name} ({at})")
            continue
        if around and number not in around:
            foreign.append(f"{name} ({at})")
    far = "are outside of mlflow_server_artifacts_destination"
    found = {
        f"experiments {far}": outer,
        f"model versions {far}": sources,
        "experiments share a directory with another": shared,
        "model versions come from the directory of an experiment and name no run of it": foreign,
    }
    said = (
        f"{len(all_of_them)} {what}: {', '.join(all_of_them[:3])}{', ...' * (len(all_of_them) > 3)}"
        for what, all_of_them in found.items()
        if all_of_them
    )
    # Anybody named them: without what a terminal obeys, and without lines of their own.
    return ["".join(letter if letter.isprintable() else "?" for letter in text) for text in said]


# What stands there for a prompt, whose text is in the database.
PROMPTS = frozenset({"dummy-source", "prompt-template"})
LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")


def referred(source: str) -> tuple[str, str]:
    """Return what a version's source leads to where it is no address, and the name of that.

    The first is `run`, `logged model`, `model` (a registered one), or empty. Raises Refused.
    """
    scheme, colon, rest = source.partition(":/")
    if not colon or scheme not in ("runs", "models"):
        return "", ""
    if rest.startswith("/") or re.search(r"[\x00-\x1f\x7f?#\\]", rest):
        raise Refused("it names another server, or can be read in more than one way")
    inner = checked(rest)
    if scheme == "runs":
        if not inner or DOUBTFUL.search(rest):
            raise Refused("it names no run")
        return "run", inner[0]
    if len(inner) == 2 and not LOGGED_MODEL.fullmatch(inner[0]):
        return "model", inner[0]
    if len(inner) == 1 and "@" in inner[0]:
        return "model", inner[0].rpartition("@")[0]
    if not inner:
        raise Refused("it names no model")
    return "logged model", inner[0]


def place_of(address: str, roots: Roots) -> Place | None:
    """Return the place that an address in the database has; None for none. Raises Refused."""
    if address and address not in PROMPTS and not referred(address)[0]:
        return roots.place(address)
    return None


def of_settings(settings: Mapping[str, str]) -> Roots:
    """Return the roots that the service's settings name. Raises Refused."""
    return Roots.of(
        settings["MLFLOW_ARTIFACTS_DESTINATION"],
        json.loads(settings.get("MLFLOW_GUARD_ARTIFACT_ROOTS") or "[]"),
    )
