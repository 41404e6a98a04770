"""Read a file store of MLflow (./mlruns) as people publish it: moved, copied, or damaged in parts.

MLflow's own reader is not used. It reads all runs for each page of a search, follows links, passes
over what it cannot read without a word, and stops at what one file makes impossible. The layout of
MLflow 1 to 3 (file_store.py of mlflow/store/tracking and of mlflow/store/model_registry):

    <experiment>/meta.yaml, tags/
    <experiment>/<run>/meta.yaml, params/, metrics/, tags/, inputs/, outputs/, artifacts/
    <experiment>/datasets/<id>/meta.yaml
    <experiment>/models/<model>/meta.yaml, params/, metrics/, tags/, artifacts/
    <experiment>/traces/<trace>/
    models/<registered model>/meta.yaml, tags/, aliases/, version-<number>/
    .trash/<deleted experiment>/

The store is only read, and no link in it is followed.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import yaml

from .. import mlflow_internals as internals

META = "meta.yaml"
DEFAULT = "Default"  # every MLflow has this experiment
ARTIFACTS = "mlartifacts"  # where `mlflow server` keeps them, beside mlruns
# What file managers, git and notebooks leave in any directory.
FOREIGN = re.compile(
    r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini|\.git(keep|ignore)?|\.ipynb_checkpoints"
)
NOT_RUNS = {"tags", "datasets", "models", "traces", "assessments"}  # beside runs
PARTS = {"params", "metrics", "tags", "inputs", "outputs", "artifacts"}  # of a run
RUN_ID = re.compile("[0-9a-f]{32}")
STATUSES = ("", "RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")  # by MLflow's number
MODEL_STATUSES = ("UNSPECIFIED", "PENDING", "READY", "FAILED")
LARGEST = 2**63 - 1  # of a number in a database
PASSED_OVER = {"deleted runs", "deleted experiments", "deleted models", "deleted model versions",
               "unfinished models",
               "runs without artifacts", "links to what is not carried"}  # fmt: skip
NAMED = 100  # of what is left, so many are told by name

Point = tuple[str, int, int, str]  # key, timestamp in ms, step, value


class Damaged(Exception):
    """A file cannot be read. Arguments: its path, and why."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


class Left:
    """What of a store is not carried: how many of each kind, and the first of them by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()
        self.named: list[str] = []
        self.renames: list[str] = []  # what has another name on the server
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def add(self, kind: str, path: Path | str, why: str = "", *, count: int = 1) -> None:
        """Count one; what is left on purpose (PASSED_OVER) is not told by name."""
        place = str(path)
        if isinstance(path, Path) and path.is_relative_to(self.root):
            place = path.relative_to(self.root).as_posix()
        with self._lock:
            if (kind, place) in self._known:
                return
            self._known.add((kind, place))
            self.counts[kind] += count
            if kind not in PASSED_OVER and len(self.named) < NAMED:
                self.named.append(f"{place}: {why}" if why else place)

    def renamed(self, path: Path, name: str) -> None:
        """Tell that something has another name on the server."""
        with self._lock:
            if len(self.renames) < NAMED:
                place = path.relative_to(self.root) if path.is_relative_to(self.root) else path
                self.renames.append(f"{place}: {name}")

    @contextmanager
    def damage(self, kind: str, path: Path) -> Iterator[None]:
        """Have what cannot be read cost what it is of, and no more."""
        try:
            yield
        except Damaged as error:
            self.add(kind, error.path, error.why)
        except OSError as error:
            self.add(kind, Path(error.filename or path), error.strerror or str(error))

    @property
    def lost(self) -> int:
        """How many are left that nobody has deleted."""
        return sum(count for kind, count in self.counts.items() if kind not in PASSED_OVER)


class Value(NamedTuple):
    """One value of a metric; time in ms."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass
class Experiment:
    """An experiment, and the runs of it that can be read and are not deleted, by their ids."""

    key: str
    name: str
    folder: Path
    tags: dict[str, str]
    runs: list[Head] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)


@dataclass
class Head:
    """What orders the runs of a store; times in ms, 0 where there is none."""

    key: str
    experiment: str
    folder: Path
    name: str
    user: str
    status: str
    start: int
    end: int
    artifact_uri: str
    after: set[str] = field(default_factory=set)  # runs and models that its tags and inputs name


@dataclass
class Model:
    """A logged model, as MLflow 3 writes them."""

    key: str
    experiment: str
    folder: Path
    name: str
    kind: str
    run: str  # '' where it was made outside of a run
    status: str
    location: str


@dataclass
class Input:
    """A dataset that a run was given."""

    dataset: dict[str, str]
    tags: dict[str, str]


@dataclass
class Body:
    """All that a run holds but its artifacts."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Value]
    inputs: list[Input]
    used: list[str]  # models, by their ids
    made: list[tuple[str, int]]  # models, and at which step


@dataclass
class Version:
    """A version of a registered model."""

    number: int
    folder: Path
    source: str
    run: str
    model: str
    stage: str
    description: str
    link: str
    created: str
    tags: dict[str, str]


@dataclass
class Registered:
    """A registered model, with its versions in their order."""

    name: str
    folder: Path
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[Version] = field(default_factory=list)


def normal(value: float) -> str:
    """Return a metric's value as text: SQL has a largest number for infinity, and no -0."""
    if math.isinf(value):
        value = math.copysign(sys.float_info.max, value)
    return repr(float(value) + 0.0)


def text_of(path: Path) -> str:
    """Return a file's text. Raises Damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise Damaged(path, "it is no text in UTF-8") from None
    except OSError as error:
        raise Damaged(path, error.strerror or str(error)) from error
    if "\0" in text:  # a disk that lost its power; PostgreSQL keeps none
        raise Damaged(path, "there are zero bytes in it")
    return text


def meta_of(path: Path) -> dict[str, Any]:
    """Return what a meta.yaml says, each value as text, '' for null. Raises Damaged.

    Tags such as Python 2's `!!python/unicode` make no difference, and build nothing.
    """
    text = text_of(path)
    if not text.strip():
        raise Damaged(path, "it is empty")
    try:
        found = yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Damaged(path, "it is no YAML") from None
    if not isinstance(found, dict):
        raise Damaged(path, "it is no meta.yaml of MLflow's")
    return {key: "" if value in ("null", "~") else value for key, value in found.items()}


def number(meta: dict[str, Any], key: str) -> int:
    """Return a whole number of a meta.yaml, 0 where there is none that a database could keep."""
    try:
        found = int(float(meta.get(key) or 0))
    except (TypeError, ValueError, OverflowError):
        return 0
    return found if abs(found) <= LARGEST else 0


def named(names: tuple[str, ...], value: str) -> str:
    """Return a status by its name, which may be written as its number or with a prefix."""
    if value.isdecimal() and int(value) < len(names):
        return names[int(value)]
    return next((name for name in names if name and value.endswith(name)), "")


def forward(uri: str) -> str:
    r"""Return an address with slashes alone: `C:\a\b` is written on Windows."""
    return uri.replace("\\", "/").rstrip("/")


def is_local(uri: str) -> bool:
    """Return whether an address is a path, on whatever system."""
    scheme = urlsplit(forward(uri)).scheme
    return scheme in ("", "file") or len(scheme) == 1  # C:


class Store:
    """A file store that is only read.

    Attributes:
        left: what is not carried, as far as it was found.
        artifacts: where the artifacts are that a server kept, or None.
        all_artifacts: whether somebody said so: a run that has none there has none.
        experiments: with the runs and logged models that can be read.
        registered: the registry.
    """

    def __init__(
        self, root: Path, left: Left, artifacts: Path | None = None,
        *, all_artifacts: bool = False, name: str = "",
    ) -> None:  # fmt: skip
        self.root, self.left = root, left
        self.artifacts, self.all_artifacts = artifacts, all_artifacts
        self.names = {"mlruns", root.name, name}  # what its directory was called
        self.experiments: list[Experiment] = []
        self.registered: list[Registered] = []
        self._datasets: dict[Path, dict[str, str]] = {}
        self.before = self.stamps()
        self._seen: dict[str, Path] = {}  # runs and models, by their ids
        folders, files = self.entries(root)
        for file in files:
            self.left.add("unknown files", file, "MLflow has no file of this name there")
        for folder in folders:
            if folder.name == ".trash":
                for deleted in self.entries(folder)[0]:
                    self.left.add("deleted experiments", deleted)
                continue
            with self.left.damage("experiments", folder):
                if folder.name == "models" and not (folder / META).exists():
                    self._registry(folder)
                else:
                    self._experiment(folder)

    # directories

    def entries(self, directory: Path) -> tuple[list[Path], list[Path]]:
        """Return the folders and the files in a directory, none that a link leads to.

        What is neither is counted. Raises Damaged where it cannot be read.
        """
        folders, files = [], []
        if directory.is_symlink():
            self._special(directory)
            return [], []
        try:
            with os.scandir(directory) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(directory / entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(directory / entry.name)
                    elif not FOREIGN.fullmatch(entry.name):
                        self._special(directory / entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except OSError as error:
            raise Damaged(directory, error.strerror or str(error)) from error
        kept = [[p for p in paths if not FOREIGN.fullmatch(p.name)] for paths in (folders, files)]
        return sorted(kept[0]), sorted(kept[1])

    def _special(self, path: Path) -> None:
        self.left.add("links, pipes and the like", path, "it is no file; put one in its place")

    def files(self, directory: Path) -> dict[str, int]:
        """Return the files below a directory: path from there, size in bytes. Raises Damaged."""
        found: dict[str, int] = {}
        if directory.is_symlink():
            self._special(directory)
            return found
        todo = [directory]
        while todo:
            here = todo.pop()
            try:
                with os.scandir(here) as entries:
                    for entry in entries:
                        path = here / entry.name
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(path)
                        elif entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            found[path.relative_to(directory).as_posix()] = size
                        else:
                            self._special(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise Damaged(here, error.strerror or str(error)) from error
        return dict(sorted(found.items()))

    def stamps(self) -> dict[str, int]:
        """Return what changes when somebody writes, for each folder of an experiment or so."""
        found: dict[str, int] = {}
        for directory, folders, files in os.walk(self.root):
            place = os.path.relpath(directory, self.root)
            key = "/".join(Path(place).parts[:2])
            stamp = found.get(key, 0)
            for name in (*folders, *files):
                try:
                    status = os.lstat(f"{directory}/{name}")
                except OSError:
                    continue
                size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
                # The sum does not depend on the order.
                stamp += hash((place, name, size, status.st_mtime_ns if size else 0))
            found[key] = stamp
        return found

    # experiments and runs

    def _experiment(self, folder: Path) -> None:
        folders, files = self.entries(folder)
        if not (folder / META).is_file() or (folder / META).is_symlink():
            inner = [one for one in folders if RUN_ID.fullmatch(one.name) or (one / META).exists()]
            if inner or folder.name.isdecimal():
                self.left.add("experiments", folder, "it has no meta.yaml")
                for run in inner:
                    self.left.add("runs", run, "its experiment has no meta.yaml")
            elif folders or files:
                self.left.add("unknown files", folder, "it is no experiment of MLflow's")
            return
        runs = [one for one in folders if one.name not in NOT_RUNS]
        try:
            meta = meta_of(folder / META)
            if (key := meta.get("experiment_id", folder.name)) != folder.name:
                raise Damaged(folder / META, f"it is of experiment {key}: was it copied?")
            if not (name := str(meta.get("name", ""))):
                raise Damaged(folder / META, "it has no name")
            tags = self.texts(folder / "tags")
        except Damaged as error:
            self.left.add("experiments", error.path, error.why)
            for run in runs:
                self.left.add("runs", run, "its experiment is left")
            return
        if meta.get("lifecycle_stage") == "deleted":
            self.left.add("deleted experiments", folder)
            return
        experiment = Experiment(folder.name, name, folder, tags)
        for run in runs:
            with self.left.damage("runs", run):
                if (head := self._head(run, folder.name)) and self._first(run):
                    experiment.runs.append(head)
        for model in self.entries(folder / "models")[0]:
            with self.left.damage("models", model):
                if (found := self._model(model, folder.name)) and self._first(model):
                    experiment.models.append(found)
        for trace in self.entries(folder / "traces")[0]:
            self.left.add("traces", trace, "traces are not carried")
        for file in files:
            if file.name != META:
                self.left.add("unknown files", file, "MLflow has no file of this name there")
        # The one that MLflow makes by itself is nothing until it is used.
        if experiment.runs or experiment.models or name != DEFAULT:
            self.experiments.append(experiment)

    def _first(self, folder: Path) -> bool:
        """Return True; raise Damaged where another experiment has a run or model of this id."""
        other = self._seen.setdefault(folder.name, folder)
        if other != folder:
            place = other.relative_to(self.root)
            raise Damaged(folder, f"{place} has the same id: which of the two is it?")
        return True

    def _head(self, folder: Path, experiment: str) -> Head | None:
        if not (folder / META).exists():
            if not any((folder / part).exists() for part in PARTS):
                if any(self.entries(folder)):
                    self.left.add("unknown files", folder, "it is no run of MLflow's")
                return None
            raise Damaged(folder, "it has no meta.yaml")
        meta = meta_of(folder / META)
        if (key := meta.get("run_id") or meta.get("run_uuid")) != folder.name:
            raise Damaged(folder / META, f"it is of run {key}: was it copied?")
        if meta.get("lifecycle_stage") == "deleted":
            self.left.add("deleted runs", folder)
            return None
        tags = folder / "tags"
        head = Head(
            folder.name, experiment, folder,
            name=str(meta.get("run_name") or meta.get("name") or ""),
            user=str(meta.get("user_id") or ""),
            status=named(STATUSES, str(meta.get("status", ""))) or "FINISHED",
            start=number(meta, "start_time"), end=number(meta, "end_time"),
            artifact_uri=str(meta.get("artifact_uri") or ""),
        )  # fmt: skip
        if not head.name and (tags / "mlflow.runName").is_file():
            head.name = text_of(tags / "mlflow.runName")
        if (parent := tags / "mlflow.parentRunId").is_file():
            head.after.add(text_of(parent).strip())
        if (folder / "inputs").is_dir():
            head.after |= {*self._links(folder)[1]}
        return head

    def _model(self, folder: Path, experiment: str) -> Model | None:
        meta = meta_of(folder / META)
        if (key := meta.get("model_id")) != folder.name:
            raise Damaged(folder / META, f"it is of model {key}: was it copied?")
        status = named(MODEL_STATUSES, str(meta.get("status", "")))
        if meta.get("lifecycle_stage") == "deleted":
            self.left.add("deleted models", folder)
        elif status == "PENDING":
            self.left.add("unfinished models", folder)
        else:
            return Model(
                folder.name, experiment, folder, str(meta.get("name") or ""),
                str(meta.get("model_type") or ""), str(meta.get("source_run_id") or ""),
                status or "READY", str(meta.get("artifact_location") or ""),
            )  # fmt: skip
        return None

    # what is in a run or model

    def keyed(self, directory: Path) -> Iterator[tuple[str, Path]]:
        """Yield keys and files of a directory of params, metrics or tags. Raises Damaged."""
        todo = [directory]
        while todo:
            here = todo.pop()
            folders, files = self.entries(here)
            todo += folders
            for file in files:
                yield file.relative_to(directory).as_posix(), file

    def texts(self, directory: Path) -> dict[str, str]:
        """Return keys and values of a directory of params or tags. Raises Damaged."""
        return {key: text_of(file) for key, file in self.keyed(directory)}

    def values(self, directory: Path) -> Iterator[tuple[Path, Value, list[str]]]:
        """Yield each value of each metric, with its file, and what else its line holds.

        A line is `timestamp value step [dataset digest]` in a run, in old stores without step;
        `timestamp value step run [dataset digest]` in a logged model. Raises Damaged.
        """
        for key, file in self.keyed(directory):
            lines = text_of(file).splitlines()
            if not lines:
                raise Damaged(file, "it is empty")
            for line in lines:
                words = line.split()
                try:
                    timestamp, value, step, *rest = words + ["0"] * (len(words) == 2)  # old ones
                    found = Value(key, float(value), int(timestamp), int(step))
                    if max(abs(found.timestamp), abs(found.step)) > LARGEST:
                        raise ValueError
                    yield file, found, rest
                except ValueError:
                    raise Damaged(file, f"this is no value of a metric: {line[:80]!r}") from None

    def _links(self, folder: Path) -> tuple[list[Input], list[str]]:
        """Return the datasets and the models that a run was given. Raises Damaged."""
        inputs, used = [], []
        for one in self.entries(folder / "inputs")[0]:
            meta = meta_of(one / META)
            key = str(meta.get("source_id") or "")
            if str(meta.get("source_type", "")).startswith("MODEL"):
                used.append(key)
                continue
            dataset = folder.parent / "datasets" / Path(key).name
            if dataset not in self._datasets:
                found = meta_of(dataset / META)
                if not found.get("name") or not found.get("digest"):
                    raise Damaged(dataset / META, "it has no name, or no digest")
                self._datasets[dataset] = found
            tags = meta.get("tags") or {}
            inputs.append(Input(self._datasets[dataset], tags if isinstance(tags, dict) else {}))
        return inputs, used

    def body(self, head: Head) -> Body:
        """Return what there is of a run, but its artifacts. Raises Damaged."""
        folder = head.folder
        inputs, used = self._links(folder)
        made = []
        for one in self.entries(folder / "outputs")[0]:
            meta = meta_of(one / META)
            made.append((str(meta.get("destination_id") or one.name), number(meta, "step")))
        for file in self.entries(folder)[1]:
            if file.name != META:
                self.left.add("unknown files", file, "MLflow has no file of this name there")
        return Body(
            params=self.texts(folder / "params"), tags=self.texts(folder / "tags"),
            metrics=[value for _, value, _ in self.values(folder / "metrics")],
            inputs=inputs, used=used, made=made,
        )  # fmt: skip

    def place(self, folder: Path, uri: str) -> Path | None:
        """Return where the artifacts of a run or model are that were logged at `uri`.

        Stores are moved about: what was in the run's own folder is there still, whatever was above
        it. What a server kept is below `artifacts`, by the end of its address. None: not here.
        """
        own = folder / "artifacts"
        path = unquote(urlsplit(uri).path) if not is_local(uri) else uri
        parts = [part for part in forward(path).split("/") if part not in ("", "..")]
        ours = [*own.relative_to(self.root).parts]
        if is_local(uri) and parts[-2:] == ours[-2:]:
            above = parts[-len(ours) - 1] if len(parts) > len(ours) else "mlruns"
            if own.is_dir() or above in self.names:  # git keeps no empty directory
                return own
        if self.artifacts is not None:
            for length in range(min(len(parts), 5), 1, -1):
                there = self.artifacts.joinpath(*parts[-length:])
                if there.is_dir():
                    return there
        if own.is_dir() and any(own.iterdir()):  # somebody brought them
            return own
        # A server makes a directory with the first artifact.
        if self.artifacts and (self.all_artifacts or urlsplit(uri).scheme == "mlflow-artifacts"):
            return self.artifacts.joinpath(*ours)
        return None

    # the registry

    def _registry(self, folder: Path) -> None:
        for one in self.entries(folder)[0]:
            with self.left.damage("registered models", one):
                self.registered.append(self._registered(one))

    def _registered(self, folder: Path) -> Registered:
        meta = meta_of(folder / META)
        tags = self.texts(folder / "tags")
        if tags.get(internals.PROMPT_TAG.value) == "true":
            raise Damaged(folder, "prompts are not carried")
        aliases = {}
        for name, file in self.keyed(folder / "aliases"):
            if not (text := text_of(file).strip()).isdecimal():
                raise Damaged(file, "it names no version")
            aliases[name] = int(text)
        model = Registered(
            str(meta.get("name") or folder.name), folder, str(meta.get("description") or ""),
            tags, aliases,
        )  # fmt: skip
        for version in self.entries(folder)[0]:
            if version.name.startswith("version-"):
                with self.left.damage("model versions", version):
                    if (found := self._version(version)).stage == "Deleted_Internal":
                        self.left.add("deleted model versions", version)
                    else:
                        model.versions.append(found)
        model.versions.sort(key=lambda version: version.number)
        return model

    def _version(self, folder: Path) -> Version:
        meta = meta_of(folder / META)
        if f"version-{number(meta, 'version')}" != folder.name:
            raise Damaged(folder / META, f"it is of version {meta.get('version')}: was it copied?")
        words = {
            key: str(meta.get(key) or "")
            for key in ("source", "run_id", "model_id", "current_stage", "description", "run_link",
                        "creation_timestamp")
        }  # fmt: skip
        return Version(
            number(meta, "version"), folder, words["source"], words["run_id"], words["model_id"],
            words["current_stage"], words["description"], words["run_link"],
            words["creation_timestamp"], self.texts(folder / "tags"),
        )  # fmt: skip
