"""What is sent of a run: as much of it as the server takes, under names that it keeps.

What it does not take is counted and named (store.Left).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from .. import mlflow_internals as internals
from .store import Body, Head, Model, Point, Store, Value, normal

OWN = "promote."  # how the tags begin that tell what came from where

# What one request may hold: MLflow's own limits, and of its 1 MB what JSON's marks leave.
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_ENTITIES, MAX_BYTES = 1000, 100, 100, 1000, 800_000


def kept_name(path: str) -> str:
    """Return the name under which the server keeps a file.

    MLflow decodes names again and again and refuses `#` (validate_path_is_safe), and its clients
    cut a name at `?`. Its own `log_image` write `+` and `~` now, where it had `%` and `#`.
    """
    path = path.encode("utf-8", "replace").decode()  # of a name that is no text: mojibake
    path = path.replace("%", "+") if unquote(path) != path else path
    path = re.sub(r"(?i)^file:", "file_", path.replace("#", "~"))
    return re.sub(r"[?\\\x00-\x1f\x7f]", "_", path)


def shortened(key: str, text: str, most: int) -> str:
    """Return a value as long as the server takes it: of a list of MLflow's the newest entries."""
    if len(text) > most and key == "mlflow.log-model.history":
        with suppress(ValueError, TypeError):
            entries = json.loads(text)
            while len(text) > most and entries:
                text = json.dumps(entries := entries[1:])
    return text[:most]


def batched(entities: Iterable[Metric | Param | RunTag]) -> Iterator[dict[str, list[Any]]]:
    """Yield arguments of log_batch, each of them no more than one request may hold."""
    kinds = {Metric: ("metrics", MAX_METRICS), Param: ("params", MAX_PARAMS),
             RunTag: ("tags", MAX_TAGS)}  # fmt: skip
    batch: dict[str, list[Any]] = defaultdict(list)
    size = 0
    for entity in entities:
        kind, most = kinds[type(entity)]
        weight = len(json.dumps([entity.key, str(entity.value)])) + 80
        full = len(batch[kind]) == most or sum(map(len, batch.values())) == MAX_ENTITIES
        if full or size + weight > MAX_BYTES:
            yield dict(batch)
            batch, size = defaultdict(list), 0
        batch[kind].append(entity)
        size += weight
    if any(batch.values()):
        yield dict(batch)


@dataclass
class Content:
    """What there is of a run or model, at one of the two ends."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: set[Point] = field(default_factory=set)
    datasets: set[tuple[str, str]] = field(default_factory=set)
    models: set[str] = field(default_factory=set)  # by their ids in the source
    artifacts: dict[str, int] = field(default_factory=dict)  # the models' included; bytes

    def counts(self) -> Counter[str]:
        """Return how many of each, for people and for the mark of a finished run."""
        return Counter(
            {
                "params": len(self.params),
                "tags": len(self.tags),
                "metric values": len(self.metrics),
                "datasets": len(self.datasets),
                "models": len(self.models),
                "artifacts": len(self.artifacts),
                "artifact bytes": sum(self.artifacts.values()),
            }
        )

    def digest(self) -> str:
        """Return what changes when any of it does: what is equal in number may be other."""
        parts = [sorted(map(repr, part.items() if isinstance(part, dict) else part))
                 for part in (self.params, self.tags, self.metrics, self.datasets, self.models,
                              self.artifacts)]  # fmt: skip
        return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]

    def missing(self, there: Content) -> list[str]:
        """Return what of this is not in `there`, or is different in it."""
        pairs = {
            "params": (self.params.items(), there.params.items()),
            "tags": (self.tags.items(), there.tags.items()),
            "metric values": (self.metrics, there.metrics),
            "datasets": (self.datasets, there.datasets),
            "models": (self.models, there.models),
            "artifacts": (self.artifacts.items(), there.artifacts.items()),
        }
        lost = {name: set(mine) - set(theirs) for name, (mine, theirs) in pairs.items()}
        return [f"{len(items)} {name}" for name, items in lost.items() if items]


@dataclass
class Parcel:
    """A run with its logged models, as it is to be sent.

    Attributes:
        files: by the id of the model, '' for the run: name on the server, and the file.
        twins: of values that were logged for a model as well: the model, and its dataset.
        content: what the server has to have in the end.
        mark: what a run that is whole is marked with.
    """

    head: Head
    body: Body
    models: list[Model]
    files: dict[str, dict[str, Path]]
    twins: dict[tuple[str, int, str], tuple[str, list[str]]]
    content: Content
    mark: str = ""


def point(metric: Metric | Value) -> Point:
    """Return what makes a metric's value one and the same."""
    return metric.key, metric.timestamp, metric.step, normal(metric.value)


def sizes(files: dict[str, dict[str, Path]]) -> dict[str, int]:
    """Return the bytes of files by their names, those of a model with its id before."""
    return {
        f"{model}:{name}" if model else name: file.lstat().st_size
        for model, inner in files.items() for name, file in inner.items()
    }  # fmt: skip


class Packer:
    """Makes parcels: what of a store the server takes, and what not is counted.

    Attributes:
        twins: by run, of values that were logged for a model as well: the model, and its dataset.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.left = store, store.left
        self.twins: dict[str, dict[tuple[str, int, str], tuple[str, list[str]]]]
        self.twins = defaultdict(dict)

    def pack(self, head: Head, models: list[Model]) -> Parcel:
        """Return a run with its models. Raises Damaged, OSError."""
        body = self.store.body(head)
        body.params = self.fitting(
            body.params, head.folder / "params", internals.LONGEST_PARAM.get()
        )
        body.tags = self.fitting(body.tags, head.folder / "tags", internals.LONGEST_TAG.get())
        body.tags.pop("mlflow.runName", None)  # it is the run's name
        valid = {key for key in {value.key for value in body.metrics}
                 if self._valid(key, head.folder / "metrics" / key)}  # fmt: skip
        body.metrics = [value for value in body.metrics if value.key in valid]
        files = {"": self._files(head.folder, head.artifact_uri, self._says_model(body))}
        files |= {model.key: self.files_of(model) for model in models}
        content = Content(
            params={**body.params}, tags={**body.tags},
            metrics={point(value) for value in body.metrics},
            datasets={(one.dataset["name"], one.dataset["digest"]) for one in body.inputs},
            models={model.key for model in models}, artifacts=sizes(files),
        )  # fmt: skip
        return Parcel(head, body, models, files, self.twins.get(head.key, {}), content)

    def files_of(self, model: Model) -> dict[str, Path]:
        """Return a logged model's files. Raises Damaged, OSError."""
        return self._files(model.folder, model.location, expected=True)

    def _says_model(self, body: Body) -> bool:
        return "mlflow.log-model.history" in body.tags and not body.made

    def _valid(self, key: str, file: Path) -> bool:
        try:
            if len(key) > internals.LONGEST_KEY.get():
                raise MlflowException(key)
            internals.CHECK_NAME.get()(key)
        except MlflowException:
            self.left.add("names that MLflow refuses", file, "no param, metric or tag may have it")
            return False
        return True

    def fitting(self, texts: dict[str, str], directory: Path, most: int) -> dict[str, str]:
        """Return params or tags as far as the server takes them."""
        kept = {}
        for key, text in texts.items():
            if key.startswith(OWN) or not self._valid(key, directory / key):
                continue  # ours are of another server, from which this was exported
            kept[key] = shortened(key, text, most)
            if kept[key] != text:
                self.left.add(
                    "parts of long values",
                    directory / key,
                    f"{len(kept[key])} of its {len(text)} characters are carried",
                )
        return kept

    def _files(self, folder: Path, uri: str, expected: bool) -> dict[str, Path]:
        """Return a run's or model's files by the names that they get, no two of them equal."""
        place = self.store.place(folder, uri)
        if place is None:
            self.left.add("artifacts that are elsewhere", folder, f"they are at {uri}")
            return {}
        files: dict[str, Path] = {}
        if not place.is_symlink():
            # What keeps its name comes first, so that nothing takes it.
            for name in sorted(self.store.files(place), key=lambda name: kept_name(name) != name):
                kept = wanted = kept_name(name)
                count = 1
                while kept in files:
                    count += 1
                    path = PurePosixPath(wanted)
                    kept = str(path.with_name(f"{path.stem}~{count}{path.suffix}"))
                if not os.access(place / name, os.R_OK):
                    self.left.add("files that cannot be read", place / name, "its owner may not")
                    continue
                if kept != name:
                    self.store.left.renamed(place / name, kept)
                files[kept] = place / name
        if not files and (expected or place != folder / "artifacts"):
            kind = "artifacts that are not there" if expected else "runs without artifacts"
            self.left.add(kind, folder, f"{place} holds none")
        return files
