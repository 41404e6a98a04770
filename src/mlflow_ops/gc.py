"""Remove for good what people have deleted, once that is long enough ago.

What `mlflow gc --older-than` does, by MLflow's own functions, with these differences:

- Files are removed in the artifact store itself, not by asking the server, so that it does not
  matter whether that listens on TCP, with TLS, or on a Unix socket, and as whom one would ask.
- A run or model that a version of a registered model comes from stays until that version is
  deleted. `mlflow gc` removes the version's files.
- With an old deleted experiment go its models and traces, which `mlflow gc` leaves behind as files
  that nothing leads to. The experiment itself goes last, when nothing of it had to stay. So do the
  rows that tie runs to models and datasets.
- What cannot be removed is said, and does not keep the rest from going.

Files go before rows: what was interrupted is finished by the next time. Run it with the
environment's Python, as the service's user (`mlflow-gc` does); no matter whether the service runs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from . import mlflow_internals as internals
from .database.schema import refusal, status
from .lock import Held, data_lock
from .settings import read_settings

SOME = 1000  # of what is old, that are looked at together
# A run's, or the end of a model's, anywhere in an address.
ID = re.compile("(?=([0-9a-f]{32}))")

# A part of what MLflow takes.
AGE = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Refused(Exception):
    """It cannot be done; the message is a sentence for people."""


@dataclass(frozen=True)
class Thing:
    """What somebody has deleted.

    Attributes:
        kind: run, model or experiment.
        id: MLflow's.
        name: what people call it.
        place: where its files are, as MLflow says it.
        deleted: when, in milliseconds.
        experiment: the one that it belongs to, or is.
    """

    kind: str
    id: str
    name: str | None
    place: str
    deleted: int
    experiment: int

    def __str__(self) -> str:
        day = datetime.fromtimestamp(self.deleted / 1000, timezone.utc)
        where = "" if self.kind == "experiment" else f" of experiment {self.experiment}"
        return f"{self.kind} {self.id} ({self.name}){where}, deleted {day:%Y-%m-%d %H:%M} UTC"


def age(text: str) -> timedelta:
    """Return the time that `30d` or `1d12h` means. Raises ArgumentTypeError."""
    found = AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f'"{text}" is no age; it is like 30d, or 1d12h30m.')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def own_directory(thing: Thing) -> str:
    """Return the directory that is one run's or model's alone: what bears its id.

    Raises Refused where there is none: who makes an experiment says where its files go.
    """
    before, found, _ = thing.place.rpartition(f"/{thing.id}/")
    if not found or ".." in urlsplit(thing.place).path.split("/"):
        raise Refused(f"its files are not in a directory of its own: {thing.place}")
    return f"{before}/{thing.id}"


class Versions:
    """What the versions of registered models come from: read once for many things."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        self.places: dict[str, str] = {}
        self.words: dict[str, str] = {}
        for name, version, run, *places in rows:
            words = f"version {version} of {name}"
            self.words[run] = words
            for place in places:
                self.places[place] = words
                self.words |= dict.fromkeys([*re.split("[/:]", place), *ID.findall(place)], words)
        self.words.pop("", None)

    def of(self, thing: Thing) -> str:
        """Return the version that comes from a thing, or ''."""
        if thing.kind == "experiment":
            inside = f"{thing.place}/"
            return next((words for place, words in self.places.items() if inside in place), "")
        return self.words.get(thing.id) or self.words.get(thing.id.removeprefix("m-"), "")


class Cleaner:
    """The databases and the artifact store of this host's service."""

    def __init__(self, settings: dict[str, str], older_than: timedelta) -> None:
        uri = settings["MLFLOW_BACKEND_STORE_URI"]
        found = status("tracking", uri)
        if found["state"] != "current":  # MLflow would make or migrate it
            raise Refused(refusal(found) or f"The tracking database: {found['error']}")
        # MLflow, which takes seconds to import, reads the environment.
        self.artifacts_at = internals.ARTIFACT_REPOSITORY.get()
        self.artifacts = self.artifacts_at(settings["MLFLOW_ARTIFACTS_DESTINATION"])
        self.store = internals.STORE.get()(uri, settings["MLFLOW_ARTIFACTS_DESTINATION"])
        self.registry = internals.ENGINE.get()(settings.get("MLFLOW_REGISTRY_STORE_URI") or uri)
        self.before = int((time.time() - older_than.total_seconds()) * 1000)
        self.mark: list[Any] = []
        self.known = Versions([])

    def rows(self, query: str, **values: Any) -> list[Any]:
        """Return what the tracking database answers."""
        from sqlalchemy import text

        with self.store.engine.connect() as connection:
            return [*connection.execute(text(query), {"before": self.before, **values})]

    def has(self, query: internals.Statement) -> bool:
        """Return whether this MLflow has the table that a query is about."""
        from sqlalchemy import inspect

        return bool(inspect(self.store.engine).has_table(query.table))

    def old(self, kind: str) -> Iterator[list[Thing]]:
        """Yield what was deleted long enough ago, some at a time."""
        query = internals.OLD[kind].all
        if not self.has(query):
            return  # MLflow 2 has no models
        after: Any = -1 if kind == "experiment" else ""
        while some := self.rows(query, after=after, some=SOME):
            yield [Thing(kind, str(row[0]), *row[1:]) for row in some]
            after = some[-1][0]

    def still(self, thing: Thing) -> bool:
        """Return whether a thing is still deleted, and that long ago."""
        key = thing.experiment if thing.kind == "experiment" else thing.id
        return bool(self.rows(internals.OLD[thing.kind].one, id=key))

    def registered(self, query: str) -> list[Any]:
        """Return what the registry's database answers."""
        from sqlalchemy import text

        with self.registry.connect() as connection:
            return [*map(tuple, connection.execute(text(query)))]

    def versions(self) -> Versions:
        """Return what versions of registered models come from, now; read where it has changed."""
        mark = self.registered(internals.VERSIONS_MARK)
        if mark != self.mark:
            self.mark, self.known = mark, Versions(self.registered(internals.VERSIONS_FROM))
        return self.known

    def remove_files(self, directory: str) -> None:
        """Remove a directory in the artifact store. Raises the store's errors, or Refused."""
        parts = urlsplit(directory)
        if parts.scheme == "mlflow-artifacts":  # as the server resolves it
            store, path = self.artifacts, parts.path.lstrip("/")
        else:
            store, path = self.artifacts_at(directory), None
        store.delete_artifacts(path)
        if store.list_artifacts(path):  # S3 says yes even to keys that it does not delete
            raise Refused(f"the artifact store keeps {directory}; may its key delete objects?")

    def remove(self, thing: Thing) -> None:
        """Remove one thing, files first. Raises Refused, or the store's or database's error."""
        if thing.kind == "experiment":
            # Where it has the place that MLflow gives, its traces are there alone.
            if thing.place.endswith(f"/{thing.id}"):
                self.remove_files(f"{thing.place}/traces")
        else:
            self.remove_files(own_directory(thing))
        internals.hard_delete(self.store, thing.kind, thing.id)
        self.unlink(thing)

    def unlink(self, thing: Thing) -> None:
        """Remove what ties a run to its models and datasets, which MLflow leaves behind."""
        from sqlalchemy import text

        if thing.kind != "experiment":
            with self.store.engine.begin() as connection:
                connection.execute(text(internals.LINKS_REMOVED), {"id": thing.id})

    def clean(self, dry_run: bool) -> int:
        """Go through all that is old, and say what happens; return how much could not go."""
        counted: Counter[str] = Counter()
        occupied: set[int] = set()  # experiments of what stays
        for kind in internals.OLD:
            for things in self.old(kind):
                for thing in things:
                    occupies = thing.experiment in occupied
                    said = self.one(thing, dry_run, occupies, self.versions().of(thing))
                    counted[said] += 1
                    if said in ("kept", "failed"):
                        occupied.add(thing.experiment)
        words = ", ".join(f"{number} {what}" for what, number in counted.items())
        print(f"{words or 'Nothing is that old'}.", flush=True)
        return counted["failed"]

    def one(self, thing: Thing, dry_run: bool, occupied: bool, version: str) -> str:
        """Remove one thing if it may go; say, and return, what happened to it.

        Args:
            thing: what somebody has deleted.
            dry_run: say only what would happen.
            occupied: something in its experiment stays.
            version: that comes from it, if one does.
        """
        if version:
            said, why = "kept", f"{version} comes from it"
        elif thing.kind == "experiment" and occupied:
            said, why = "kept", "something in it stays"
        elif dry_run:
            said, why = "would go", ""
        elif not self.still(thing):
            said, why = "kept", "it was restored just now"
        else:
            said, why = "gone", ""
            try:
                self.remove(thing)
            except Exception as error:  # of two databases, and of any artifact store
                said, why = "failed", " ".join(str(error).split())[:300]
        print(f"{said}: {thing}{': ' if why else ''}{why}", flush=True)
        return said


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="mlflow-gc",
        description="Remove for good the runs, models and experiments that were deleted "
        "that long ago, with their files.",
    )
    parser.add_argument("--older-than", type=age, required=True, metavar="AGE", help="like 30d")
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, say what would go")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    try:
        settings = read_settings()
        os.environ.update(settings)
        with contextlib.nullcontext() if arguments.dry_run else data_lock():
            failed = Cleaner(settings, arguments.older_than).clean(arguments.dry_run)
    except PermissionError as error:
        print(f"mlflow-gc: {error.filename}: {error.strerror}. Use sudo.", file=sys.stderr)
        return 1
    except (Refused, Held) as error:
        print(f"mlflow-gc: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0
