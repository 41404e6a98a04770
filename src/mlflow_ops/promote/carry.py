"""Carry a file store of MLflow (./mlruns) into a tracking server, through the server's own API.

    promote ... --source /home/ada/mlflow/mlruns --tracking-uri http://localhost:5000

Experiments, runs, metrics with every step, params, tags, datasets, artifacts and logged models. The
server gives runs and models new ids; each carries its old one as a tag (`promote.source_run_id`),
by which a second run of this program knows what is there. What was begun and not finished is
finished; what is there is left alone. The source is only read, and no link in it is followed.

`mlflow migrate-filestore`, MLflow's own tool, keeps the ids, but writes into an empty SQLite file
only, which no server may have opened, and moves no artifacts.

Prints one JSON document. Exit codes: 0 all is on the server; 1 it is not, and `failure` says why.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Before MLflow is imported, which reads them then.
os.environ |= {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
from mlflow.artifacts import list_artifacts
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

SOURCE_RUN = "promote.source_run_id"
SOURCE_MODEL = "promote.source_model_id"
SOURCE_EXPERIMENT = "promote.source_experiment_id"
# The counts of a run, written when all of it was read back from the server. Without it: unfinished.
CONTENT = "promote.content"

# What one request may hold (MLflow's own limits).
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100
DEFAULT = "Default"  # every MLflow has this experiment

Point = tuple[str, int, int, str]  # key, timestamp in ms, step, value


class Failure(Exception):
    """It cannot go on; the message is a sentence for people."""


def normal(value: float) -> str:
    """Return a metric's value as text, in which SQL's largest number and infinity are one."""
    if math.isinf(value):
        value = math.copysign(sys.float_info.max, value)
    return repr(float(value))


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut into pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def pages(search: Any, **arguments: Any) -> list[Any]:
    """Return what a search of MLflow's client finds, over all its pages."""
    found, token = [], None
    while True:
        page = search(page_token=token, **arguments)
        found += page
        if not (token := page.token):
            return found


def entries_below(root: Path) -> dict[Path, os.stat_result]:
    """Return all that is in a directory, by its path; nothing where a link is in its place.

    Raises OSError where it cannot be read.
    """

    def stop(error: OSError) -> None:
        raise error

    if root.is_symlink() or not root.is_dir():
        return {}
    found = {}
    for directory, folders, files in os.walk(root, onerror=stop):
        for name in (*folders, *files):
            path = Path(directory, name)
            found[path] = path.lstat()
    return found


def files_below(directory: Path) -> dict[str, int]:
    """Return the files below a directory: path from there, and size in bytes."""
    return {
        path.relative_to(directory).as_posix(): status.st_size
        for path, status in sorted(entries_below(directory).items())
        if stat.S_ISREG(status.st_mode)
    }


@dataclass
class Content:
    """What there is of a run, at one of the two ends."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: set[Point] = field(default_factory=set)
    datasets: set[tuple[str, str]] = field(default_factory=set)
    models: set[str] = field(default_factory=set)  # names
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


class Source:
    """A file store that is only read.

    MLflow's own reader is used, on a directory of links to the experiments: it makes directories
    that it misses, and would make them there. Links of the store, which may lead to what is not the
    store's, and what else is neither file nor directory, are not shown to it.
    """

    def __init__(self, root: Path, view: Path) -> None:
        self.root = root
        self.before = self.fingerprint()
        self.special = {
            path
            for path, status in entries_below(root).items()
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
        }
        # Where one of them is, however deep.
        self.mixed = {parent for path in self.special for parent in path.parents}
        self.folders = sorted(path.parent for path in self.found("*/meta.yaml"))
        (view / ".trash").mkdir()
        for folder in self.folders:
            self._show(folder, view / folder.name)
        self.client = mlflow.MlflowClient(tracking_uri=view.as_uri())
        self.experiments: list[Experiment] = pages(self.client.search_experiments, max_results=1000)
        self.runs: dict[str, list[Run]] = {}
        self.models: dict[str, list[Any]] = {}  # by experiment
        self.left = Counter[str]()
        self._survey()
        # Which metric values were logged for a model as well.
        self.model_metrics = {
            (metric.run_id, metric.key, metric.timestamp, normal(metric.value)): metric
            for models in self.models.values()
            for model in models
            for metric in model.metrics or []
        }

    def _show(self, path: Path, at: Path) -> None:
        if path not in self.mixed:
            at.symlink_to(path)
            return
        at.mkdir()
        for inner in path.iterdir():
            if inner not in self.special:
                self._show(inner, at / inner.name)

    def found(self, pattern: str) -> list[Path]:
        """Return the paths in the store that a pattern fits, but none that a link leads to."""
        return [
            path
            for path in self.root.glob(pattern)
            if self.special.isdisjoint([path, *path.parents])
        ]

    def _survey(self) -> None:
        three = hasattr(self.client, "search_logged_models")
        if not three and self.found("*/models/m-*/meta.yaml"):
            raise Failure(
                f"{self.root} was written by MLflow 3, and this server is MLflow "
                f"{mlflow.__version__}, which has no logged models. Upgrade the server first."
            )
        readable = {experiment.experiment_id for experiment in self.experiments}
        if lost := {folder.name for folder in self.folders} - readable - {"models"}:
            raise Failure(f"MLflow cannot read {self.root / min(lost)}/meta.yaml.")
        for experiment in self.experiments:
            key = experiment.experiment_id
            runs = pages(
                self.client.search_runs, experiment_ids=[key], run_view_type=ViewType.ALL,
                max_results=1000, order_by=["start_time ASC"],
            )  # fmt: skip
            folders = {
                path.parent.name
                for path in self.found(f"{key}/*/meta.yaml")
                if re.fullmatch("[0-9a-f]{32}", path.parent.name)
            }
            # MLflow passes over what it cannot read, with a warning that nobody would see here.
            if lost := folders - {run.info.run_id for run in runs}:
                raise Failure(f"MLflow cannot read the run in {self.root / key / min(lost)}.")
            active = [run for run in runs if run.info.lifecycle_stage == "active"]
            # A parent before its children, whose tags name it.
            active.sort(key=lambda r: (r.info.start_time, "mlflow.parentRunId" in r.data.tags))
            # The one that MLflow makes by itself is nothing until it is used.
            if active or experiment.name != DEFAULT:
                self.runs[key] = active
            self.left["deleted runs"] += len(runs) - len(active)
            self.left["traces"] += len(self.found(f"{key}/traces/*/trace_info.yaml"))
            self.models[key] = self._models(key)
        self.left["deleted experiments"] = len(self.found(".trash/*/meta.yaml"))
        self.left["registered models"] = len(self.found("models/*/meta.yaml"))

    def _models(self, experiment: str) -> list[Any]:
        if not self.found(f"{experiment}/models/m-*"):
            return []
        found = pages(self.client.search_logged_models, experiment_ids=[experiment])
        return [model for model in found if str(model.status) != "PENDING"]

    def artifacts(self, kept_at: str, *parts: str) -> Path:
        """Return the directory of a run's or model's artifacts: `parts` below the store.

        Not as `kept_at` says, which is where it was when it was made: stores are moved about.
        """
        directory = self.root.joinpath(*parts, "artifacts")
        if not kept_at.rstrip("/").endswith("/".join([*parts, "artifacts"])):
            raise Failure(
                f"The artifacts of {parts[-1]} are not in the store, but at {kept_at}. Copy them "
                f"to {directory} and say so in the meta.yaml beside it."
            )
        return directory

    def directories(self, run: Run, models: Iterable[Any]) -> list[tuple[str | None, Path]]:
        """Return where a run's artifacts (None) and its models' (by id) are."""
        key = run.info.experiment_id
        found: list[tuple[str | None, Path]] = [
            (None, self.artifacts(run.info.artifact_uri, key, run.info.run_id))
        ]
        for model in models:
            place = self.artifacts(model.artifact_location, key, "models", model.model_id)
            found.append((model.model_id, place))
        return found

    def content(self, run: Run, models: Iterable[Any]) -> Content:
        """Return what there is of a run."""
        artifacts = {}
        for model, directory in self.directories(run, models):
            for path, size in files_below(directory).items():
                artifacts[f"{model}:{path}" if model else path] = size
        return Content(
            params=dict(run.data.params),
            tags=dict(run.data.tags),
            metrics={point(metric) for metric in self.history(run)},
            datasets=datasets_of(run),
            models={model.name for model in models},
            artifacts=artifacts,
        )

    def history(self, run: Run) -> list[Metric]:
        """Return every value of every metric of a run.

        A line is `timestamp value step [dataset digest]`, in old stores without step. MLflow's own
        reader loses the step of a value that was logged with a dataset.
        """
        directory = self.root / run.info.experiment_id / run.info.run_id / "metrics"
        found = []
        for key in run.data.metrics:
            for line in (directory / key).read_text(encoding="utf-8").splitlines():
                timestamp, value, step = [*line.split(), "0"][:3]
                found.append(Metric(key, float(value), int(timestamp), int(step)))
        return found

    def fingerprint(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change (ns) of every file, to see that none was touched."""
        return {
            str(path): (status.st_size, status.st_mtime_ns)
            for path, status in entries_below(self.root).items()
        }


def point(metric: Metric) -> Point:
    """Return what makes a metric's value one and the same."""
    return metric.key, metric.timestamp, metric.step, normal(metric.value)


def datasets_of(run: Run) -> set[tuple[str, str]]:
    """Return names and digests of a run's datasets."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {(item.dataset.name, item.dataset.digest) for item in inputs}


class Promotion:
    """The carrying of one source into one server."""

    def __init__(self, source: Source, tracking_uri: str, into_existing: bool) -> None:
        self.source = source
        self.server = mlflow.MlflowClient(tracking_uri=tracking_uri)
        self.uri = tracking_uri
        self.into_existing = into_existing
        self.ids: dict[str, str] = {}  # old id: new id, of runs and models
        self.before, self.after = Counter[str](), Counter[str]()
        self.began = False
        self.carried = self.there = 0
        self.experiments = [e for e in source.experiments if e.experiment_id in source.runs]
        self.targets: dict[str, str | None] = {}  # old experiment id: the server's, None: not yet
        self._look()

    def _look(self) -> None:
        """Find what an earlier run has left, and where each experiment goes. Changes nothing."""
        everything = pages(self.server.search_experiments, view_type=ViewType.ALL, max_results=1000)
        self.promoted: dict[str, Run] = {}
        for some in batches([experiment.experiment_id for experiment in everything], 100):
            runs = pages(
                self.server.search_runs, experiment_ids=list(some), max_results=1000,
                run_view_type=ViewType.ALL, filter_string=f"tags.`{SOURCE_RUN}` LIKE '%'",
            )  # fmt: skip
            self.promoted |= {run.data.tags[SOURCE_RUN]: run for run in runs}
        self.ids |= {old: run.info.run_id for old, run in self.promoted.items()}
        named = {experiment.name: experiment for experiment in everything}
        refused = []
        for experiment in self.experiments:
            key = experiment.experiment_id
            earlier = [
                self.promoted[run.info.run_id]
                for run in self.source.runs[key]
                if run.info.run_id in self.promoted
            ]
            namesake = named.get(experiment.name)
            if earlier:  # also where it was given another name since
                self.targets[key] = earlier[0].info.experiment_id
            elif namesake is None:
                self.targets[key] = None
            elif namesake.lifecycle_stage != "active":
                raise Failure(
                    f'The server has a deleted experiment "{experiment.name}". Restore it, or '
                    "remove it for good (mlflow gc), or rename the one in the source."
                )
            elif (
                experiment.name == DEFAULT
                or self.into_existing
                or namesake.tags.get(SOURCE_EXPERIMENT) == key
            ):
                self.targets[key] = namesake.experiment_id
            else:
                refused.append(experiment.name)
        if refused:
            names = ", ".join(f'"{name}"' for name in refused)
            raise Failure(
                f"The server has experiments of these names already, of another origin: {names}. "
                "Rename them, or have the runs added to them: mlflow_promote_into_existing: true."
            )

    def carry(self, *, dry: bool) -> None:
        """Carry everything that is not there yet; when `dry`, only count it."""
        for experiment in self.experiments:
            key = experiment.experiment_id
            models = self.source.models[key]
            if self.targets[key] is None and not dry:
                self.began = True
                self.targets[key] = self.server.create_experiment(
                    experiment.name, tags={**experiment.tags, SOURCE_EXPERIMENT: key}
                )
            self.before["experiments"] += 1
            self.after["experiments"] += self.targets[key] is not None
            for run in self.source.runs[key]:
                own = [model for model in models if model.source_run_id == run.info.run_id]
                self._run(run, own, dry=dry)
            runs = {run.info.run_id for run in self.source.runs[key]}
            orphans = [model for model in models if model.source_run_id not in runs]
            self.source.left["models without their run"] += len(orphans)

    def _run(self, run: Run, models: list[Any], *, dry: bool) -> None:
        content = self.source.content(run, models)
        counts = content.counts() + Counter(runs=1)
        mark = json.dumps(content.counts(), sort_keys=True)
        self.before += counts
        earlier = self.promoted.get(run.info.run_id)
        if earlier and earlier.data.tags.get(CONTENT) == mark:
            self.there += 1
            self.after += counts
        elif not dry:
            self.began = True
            try:
                self._copy(run, models, content)
                there = self._read(run, models, content)
                if lost := content.missing(there):
                    raise Failure(f"after it was sent, {', '.join(lost)} were not on the server")
                self.server.set_tag(self.ids[run.info.run_id], CONTENT, mark)
            except (Failure, MlflowException, OSError) as error:
                raise Failure(f"At run {run.info.run_id} ({run.info.run_name}): {error}") from error
            self.carried += 1
            self.after += there.counts() + Counter(runs=1)

    def _copy(self, run: Run, models: list[Any], content: Content) -> None:
        """Send one run; whatever of it is there from an interrupted attempt stays."""
        old, experiment = run.info.run_id, self.targets[run.info.experiment_id]
        if old not in self.ids:
            created = self.server.create_run(
                experiment, start_time=run.info.start_time, run_name=run.info.run_name,
                tags={SOURCE_RUN: old},
            )  # fmt: skip
            self.ids[old] = created.info.run_id
        new = self.ids[old]
        for model in models:
            self._create_model(model, new, experiment)

        known = self.server.get_run(new)
        self._log_inputs(run, known)
        there = {point(metric) for metric in self._history(known)}
        metrics = {
            point(metric): self._of_model(metric, old)
            for metric in self.source.history(run)
            if point(metric) not in there
        }
        for some in batches(list(metrics.values()), MAX_METRICS):
            self.server.log_batch(new, metrics=some)
        for some in batches([Param(*item) for item in content.params.items()], MAX_PARAMS):
            self.server.log_batch(new, params=some)
        # MLflow's own tags name runs and models: under their new ids.
        content.tags = {
            key: self._renamed(value) if key.startswith("mlflow.") else value
            for key, value in content.tags.items()
        }
        for some in batches([RunTag(*item) for item in content.tags.items()], MAX_TAGS):
            self.server.log_batch(new, tags=some)
        for model, directory in self.source.directories(run, models):
            self._upload(new, self.ids[model] if model else None, directory)
        for model in models:
            self.server.finalize_logged_model(self.ids[model.model_id], str(model.status))
        if run.info.status != "RUNNING":
            self.server.set_terminated(new, run.info.status, run.info.end_time)

    def _create_model(self, model: Any, run_id: str, experiment: str | None) -> None:
        found = pages(
            self.server.search_logged_models, experiment_ids=[experiment],
            filter_string=f"tags.`{SOURCE_MODEL}` = '{model.model_id}'",
        )  # fmt: skip
        made = found[0] if found else self.server.create_logged_model(
            experiment, name=model.name, source_run_id=run_id, params=model.params,
            model_type=model.model_type, tags={**model.tags, SOURCE_MODEL: model.model_id},
        )  # fmt: skip
        self.ids[model.model_id] = made.model_id

    def _log_inputs(self, run: Run, known: Run) -> None:
        """Send datasets and the models that went in and came out, those that are not there."""
        new = known.info.run_id
        have = datasets_of(known)
        inputs = run.inputs.dataset_inputs if run.inputs else []
        if wanted := [i for i in inputs if (i.dataset.name, i.dataset.digest) not in have]:
            self.server.log_inputs(new, datasets=wanted)
        if not getattr(run, "outputs", None) and not getattr(run.inputs, "model_inputs", None):
            return
        from mlflow.entities import LoggedModelInput, LoggedModelOutput  # not in MLflow 2

        used = {item.model_id for item in known.inputs.model_inputs}
        made = {item.model_id for item in known.outputs.model_outputs}
        ins = [
            LoggedModelInput(self.ids[item.model_id])
            for item in run.inputs.model_inputs
            if self.ids.get(item.model_id, "") not in {"", *used}
        ]
        outs = [
            LoggedModelOutput(self.ids[item.model_id], item.step)
            for item in run.outputs.model_outputs
            if self.ids.get(item.model_id, "") not in {"", *made}
        ]
        if ins:
            self.server.log_inputs(new, models=ins)
        if outs:
            self.server.log_outputs(new, outs)

    def _of_model(self, metric: Metric, old_run: str) -> Metric:
        """Return a metric as it is to be sent: with its model, where it was logged for one."""
        key = (old_run, metric.key, metric.timestamp, normal(metric.value))
        twin = self.source.model_metrics.get(key)
        extra = {}
        if twin is not None and twin.model_id in self.ids:
            extra = {
                "model_id": self.ids[twin.model_id],
                "dataset_name": twin.dataset_name,
                "dataset_digest": twin.dataset_digest,
            }
        return Metric(metric.key, metric.value, metric.timestamp, metric.step, **extra)

    def _renamed(self, text: str) -> str:
        """Return text with the ids of the source's runs and models replaced by the server's."""
        return re.sub(
            r"\b(m-)?[0-9a-f]{32}\b", lambda found: self.ids.get(found[0], found[0]), text
        )

    def _upload(self, run: str, model: str | None, directory: Path) -> None:
        files = files_below(directory)
        if not files:
            return

        def send(local: Path, path: str | None = None) -> None:
            if model:
                self.server.log_model_artifacts(model, str(local), path)
            else:
                self.server.log_artifacts(run, str(local), path)

        if directory in self.source.mixed:
            with tempfile.TemporaryDirectory() as temporary:
                for path in files:
                    place = Path(temporary, path)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.symlink_to(directory / path)
                send(Path(temporary))
        else:
            send(directory)
        # A model says in its MLmodel who made it, and MLflow looks there when it loads it.
        for original in (directory / path for path in files if Path(path).name == "MLmodel"):
            with tempfile.TemporaryDirectory() as temporary:
                copy = Path(temporary) / original.name
                text = re.sub(
                    r"(?m)^artifact_path: file:.*$",
                    lambda _: f"artifact_path: {self._location(run, model)}",
                    self._renamed(original.read_text(encoding="utf-8")),
                )
                copy.write_text(text, encoding="utf-8")
                parent = original.parent.relative_to(directory).as_posix()
                send(copy.parent, None if parent == "." else parent)

    def _location(self, run: str, model: str | None) -> str:
        location: str = (
            self.server.get_logged_model(model).artifact_location
            if model
            else self.server.get_run(run).info.artifact_uri
        )
        return location

    def _history(self, run: Run) -> list[Metric]:
        return [
            metric
            for key in run.data.metrics
            for metric in self.server.get_metric_history(run.info.run_id, key)
        ]

    def _read(self, run: Run, models: list[Any], wanted: Content) -> Content:
        """Return what the server has of what was sent; other things there are none of our business.

        An MLmodel was rewritten: its own size counts as the source's.
        """
        new = self.server.get_run(self.ids[run.info.run_id])
        artifacts = self._files(new.info.artifact_uri)
        for model in models:
            location = self._location("", self.ids[model.model_id])
            for path, size in self._files(location).items():
                artifacts[f"{model.model_id}:{path}"] = size
        for path in artifacts.keys() & wanted.artifacts.keys():
            if path.rpartition("/")[2].rpartition(":")[2] == "MLmodel" and artifacts[path]:
                artifacts[path] = wanted.artifacts[path]
        outputs = new.outputs.model_outputs if getattr(new, "outputs", None) else []
        made = {output.model_id for output in outputs}
        return Content(
            params={k: v for k, v in new.data.params.items() if k in wanted.params},
            tags={k: v for k, v in new.data.tags.items() if k in wanted.tags},
            metrics={point(metric) for metric in self._history(new)},
            datasets=datasets_of(new),
            models={model.name for model in models if self.ids[model.model_id] in made},
            artifacts={k: v for k, v in artifacts.items() if k in wanted.artifacts},
        )

    def _files(self, uri: str, path: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        place = f"{uri}/{path}" if path else uri
        for item in list_artifacts(artifact_uri=place, tracking_uri=self.uri):
            name = f"{path}/{item.path.rpartition('/')[2]}".lstrip("/")
            if item.is_dir:
                found |= self._files(uri, name)
            else:
                found[name] = item.file_size
        return found


@contextmanager
def opened(root: Path) -> Iterator[Source]:
    """Open a source to be read. Raises Failure when it is no file store."""
    if not root.is_dir():
        raise Failure(f"There is no directory {root}.")
    if not any(root.glob("*/meta.yaml")):
        words = f"{root} is not a file store of MLflow: no <experiment>/meta.yaml is in it."
        if any(root.glob("mlruns/*/meta.yaml")):
            words += f" Did you mean {root / 'mlruns'}?"
        elif any(root.glob("[0-9]*/*/artifacts")) or any(root.glob("[0-9]*/models/m-*")):
            words += " It looks like the artifacts of a store in SQLite."
        raise Failure(words)
    with tempfile.TemporaryDirectory(prefix="mlflow-promote-") as view:
        source = Source(root, Path(view))
        yield source
        if source.fingerprint() != source.before:
            raise Failure(
                f"Somebody wrote into {root} meanwhile. All that was seen is on the server; when "
                "the training is over, the same command brings the rest."
            )


def table(before: Counter[str], after: Counter[str]) -> list[str]:
    """Return the counts at both ends as lines for people."""
    return [f"{'':<16}{'source':>12}{'server':>12}"] + [
        f"{name:<16}{before[name]:>12}{after[name]:>12}"
        for name in ("experiments", "runs", *Content().counts())
    ]


def promote(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    """Do it, and fill the report in as far as it came. Raises Failure."""
    with opened(arguments.source) as source:
        left = [path.relative_to(source.root).as_posix() for path in sorted(source.special)]
        left += arguments.left_out
        source.left["links, pipes and the like"] = len(left)
        try:
            promotion = Promotion(source, arguments.tracking_uri, arguments.into_existing)
        except MlflowException as error:
            words = f"{arguments.tracking_uri} does not answer as it should: {error}"
            raise Failure(words) from error
        try:
            promotion.carry(dry=arguments.dry_run)
        finally:
            report |= {
                "began": promotion.began,
                "carried": promotion.carried,
                "there": promotion.there,
                "before": promotion.before,
                "after": promotion.after,
                "links": left[:100],
                "left": {name: count for name, count in source.left.items() if count},
                "table": table(promotion.before, promotion.after),
            }


def main() -> int:
    """Read the command line, do it, print the report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the directory mlruns")
    parser.add_argument("--called", default="", help="the directory's name in messages")
    parser.add_argument(
        "--left-out", type=json.loads, default=[], help="what was in its archive: names, as JSON"
    )
    parser.add_argument("--tracking-uri", required=True, help="such as http://localhost:5000")
    parser.add_argument("--username", default="", help="its password is read from standard input")
    parser.add_argument("--ca-bundle", default="", help="for a server with a company's certificate")
    parser.add_argument(
        "--into-existing", action="store_true", help="add to experiments of equal name"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count what would be carried")
    arguments = parser.parse_args()
    if arguments.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = arguments.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = sys.stdin.readline().rstrip("\n")
    if arguments.ca_bundle:
        os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = arguments.ca_bundle
    mlflow.set_tracking_uri(arguments.tracking_uri)
    logging.disable(logging.WARNING)

    report: dict[str, Any] = {"failure": "", "carried": 0, "there": 0}
    try:
        promote(arguments, report)
    except (Failure, MlflowException, OSError) as error:
        words, place = str(error), str(arguments.source)
        report["failure"] = words.replace(place, arguments.called or place)[:2000]
    print(json.dumps(report))
    return 1 if report["failure"] else 0
