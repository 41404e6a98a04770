"""Carry a file store of MLflow (./mlruns) into a tracking server, through the server's own API.

    promote ... --source /home/ada/mlflow/mlruns --tracking-uri http://localhost:5000

Experiments, runs, metrics with every step, params, tags, datasets, artifacts, logged models and
registered models. The server gives runs and models new ids; each carries its old one as a tag
(`promote.source_run_id`), by which a second run of this program knows what is there. What was begun
and not finished is finished; what is there is left alone.

One rule for what is damaged: what can be carried is; what cannot is left, counted, and named with
its file. When that file is mended, the same command brings the rest.

`mlflow migrate-filestore`, MLflow's own tool, keeps the ids, but writes into an empty SQLite file
only, which no server may have opened, and moves no artifacts.

Prints one JSON document. Exit codes: 0 all is on the server; 1 it is not, and `failure` says why.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

# Before MLflow is imported, which reads them then.
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)  # fmt: skip
from mlflow.exceptions import MlflowException

from .. import mlflow_internals as internals
from .pack import Content, Packer, Parcel, batched, kept_name, point
from .store import (
    ARTIFACTS,
    DEFAULT,
    META,
    Body,
    Damaged,
    Experiment,
    Head,
    Left,
    Model,
    Registered,
    Store,
    Value,
    Version,
    normal,
)  # fmt: skip

SOURCE_RUN = "promote.source_run_id"
SOURCE_MODEL = "promote.source_model_id"
SOURCE_EXPERIMENT = "promote.source_experiment_id"
SOURCE_REGISTERED = "promote.source_registered_model"
SOURCE_VERSION = "promote.source_version"
FILLER = "promote.filler"  # a version that holds a number only, and is removed at once
# The counts of a run, written with the last of it, and taken back when it is not all there.
CONTENT = "promote.content"

# A server makes a name up for a run that has none. Spaces are the nearest to none; of these, which
# do not break, MLflow's pages make a link that has a width, and can be clicked.
NO_NAME = "\u00a0" * 8

THREADS = 4  # more wait for the server
TOGETHER = 100  # runs that are read back in one request
EVERY = 10.0  # seconds between two lines of progress
# HTTP: what is refused, of which some has nothing to do with what was sent.
BAD, FORBIDDEN, FAULTY, NOT_OF_THIS_RUN = 400, 403, 500, {401, 407, 408, 429}


class Failure(Exception):
    """It cannot go on; the message is a sentence for people."""


def pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """Yield what a search of MLflow's client finds, over all its pages."""
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        if not (token := page.token):
            return


def status_of(error: Exception) -> int:
    """Return the HTTP status that an error of MLflow's client tells of, 0 where there was none."""
    if isinstance(error, MlflowException):
        # What never reached the server is an internal error by its name, and 500 by its status.
        return int(error.get_http_status_code())
    answer = getattr(error, "response", None)
    return int(getattr(answer, "status_code", 0) or 0)


def datasets_of(run: Run) -> set[tuple[str, str]]:
    """Return names and digests of a run's datasets."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {(item.dataset.name, item.dataset.digest) for item in inputs}


def name_of(head: Head | None, models: list[Model]) -> str:
    """Return what people look for in the source."""
    return f"run {head.key} ({head.name})" if head else f"model {models[0].key}"


class Promotion:
    """The carrying of one source into one server.

    Attributes:
        before, after: counts at both ends.
        carried, there: runs that were sent now, and that were there.
    """

    def __init__(self, store: Store, tracking_uri: str, into_existing: bool) -> None:
        self.store, self.left = store, store.left
        self.packer = Packer(store)
        self.server = mlflow.MlflowClient(tracking_uri=tracking_uri)
        self.into_existing = into_existing
        self.ids: dict[str, str] = {}  # old id: new id, of runs and models
        self.places: dict[str, str] = {}  # new id: where its artifacts go
        self.marks: dict[str, tuple[str, bool]] = {}  # of a run: its CONTENT, whether it is ended
        self.before, self.after = Counter[str](), Counter[str]()
        self.began = False
        self.carried = self.there = self.done = 0
        self.total = sum(len(experiment.runs) for experiment in store.experiments)
        self.targets: dict[str, str | None] = {}  # old experiment id: the server's, None: not yet
        self.closed: set[str] = set()  # old ids of experiments into which nothing may be written
        self.models: dict[str, list[Model]] = defaultdict(list)  # by the run that made them
        self._lock = threading.Lock()
        self._look()

    # before anything is changed

    def _look(self) -> None:
        """Find what an earlier run has left, and where each experiment goes. Changes nothing."""
        if not hasattr(self.server, "search_logged_models") and any(
            experiment.models for experiment in self.store.experiments
        ):
            raise Failure(
                f"{self.store.root} was written by MLflow 3, and this server is MLflow "
                f"{mlflow.__version__}, which has no logged models. Upgrade the server first."
            )
        everything = [*pages(self.server.search_experiments, view_type=ViewType.ALL,
                             max_results=1000)]  # fmt: skip
        homes: dict[str, str] = {}  # old id of a run: the experiment on the server
        keys = [experiment.experiment_id for experiment in everything]
        for start in range(0, len(keys), 100):
            for run in pages(
                self.server.search_runs, experiment_ids=keys[start : start + 100],
                run_view_type=ViewType.ALL, max_results=1000,
                filter_string=f"tags.`{SOURCE_RUN}` LIKE '%'",
            ):  # fmt: skip
                old = run.data.tags[SOURCE_RUN]
                self.ids[old], homes[old] = run.info.run_id, run.info.experiment_id
                self.marks[old] = run.data.tags.get(CONTENT, ""), run.info.status != "RUNNING"
        self._unique_names()
        self._aim({experiment.name: experiment for experiment in everything}, homes)
        self._models()

    def _models(self) -> None:
        """Find which run made each model, which measured it, and which models others name."""
        heads = {head.key: head for one in self.store.experiments for head in one.runs}
        for experiment in self.store.experiments:
            for model in experiment.models:
                self.models[model.run].append(model)
                try:
                    for _, value, (run, *dataset) in self.store.values(model.folder / "metrics"):
                        of = value.key, value.timestamp, normal(value.value)
                        self.packer.twins[run][of] = model.key, dataset
                        if run in heads and run != model.run:
                            heads[run].after.add(model.key)
                except Damaged as error:
                    self.left.add("metrics of models", error.path, error.why)
        self.needed = {name for head in heads.values() for name in head.after}
        for registered in self.store.registered:
            self.needed |= {self._model_of(version) for version in registered.versions}

    def _unique_names(self) -> None:
        """Give experiments of one name two: a server has no two of one."""
        taken: set[str] = set()
        for experiment in self.store.experiments:
            if experiment.name in taken:
                name = f"{experiment.name} ({experiment.key})"
                self.left.renamed(experiment.folder, name)
                experiment.name = name
            taken.add(experiment.name)

    def _aim(self, named: dict[str, Any], homes: dict[str, str]) -> None:
        refused = []
        for experiment in self.store.experiments:
            key = experiment.key
            earlier = [homes[run.key] for run in experiment.runs if run.key in homes]
            namesake = named.get(experiment.name)
            if earlier:  # also where it was given another name since
                self.targets[key] = earlier[0]
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
                refused.append(f'experiment "{experiment.name}"')
        self.registry: dict[str, Any] = {}
        for model in self.store.registered:
            there = self._registered(model.name)
            if there and not self.into_existing and SOURCE_REGISTERED not in there.tags:
                refused.append(f'registered model "{model.name}"')
            self.registry[model.name] = there
        if refused:
            raise Failure(
                f"The server has others' things of these names already: {', '.join(refused)}. "
                "Rename them, or have the runs and versions added to them: "
                "mlflow_promote_into_existing: true."
            )

    def _registered(self, name: str) -> Any:
        try:
            return self.server.get_registered_model(name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
                return None
            if status_of(error) in (403, 404):
                return None
            raise

    # runs

    def carry(self, *, dry: bool) -> None:
        """Carry everything that is not there yet; when `dry`, only count it."""
        for experiment in self.store.experiments:
            self._experiment(experiment, dry=dry)
        heads = [head for experiment in self.store.experiments for head in experiment.runs]
        for some in self._in_order(heads):
            self._all([(head, self.models.get(head.key, [])) for head in some], dry=dry)
        alone: list[tuple[Head | None, list[Model]]] = [
            (None, [model]) for model in self.models.get("", [])
        ]
        self._all(alone, dry=dry)
        known = {head.key for head in heads} | {""}
        for run, models in self.models.items():
            if run not in known:
                for model in models:
                    self.left.add("models", model.folder, f"its run {run} is not carried")
        for registered in self.store.registered:
            self._register(registered, dry=dry)

    def _experiment(self, experiment: Experiment, *, dry: bool) -> None:
        key = experiment.key
        if self.targets[key] is None and not dry:
            self.began = True
            most = internals.LONGEST_EXPERIMENT_TAG.get()
            tags = self.packer.fitting(experiment.tags, experiment.folder / "tags", most)
            try:
                self.targets[key] = self.server.create_experiment(
                    experiment.name, tags={**tags, SOURCE_EXPERIMENT: key}
                )
            except MlflowException as error:
                self._refused("experiments", experiment.folder, error)
                self.closed.add(key)
        self.before["experiments"] += 1
        self.after["experiments"] += self.targets[key] is not None

    def _in_order(self, heads: list[Head]) -> Iterator[list[Head]]:
        """Yield runs in groups: what a run names is in a group before its own, or in none."""
        maker = {model.key: run for run, models in self.models.items() for model in models}
        todo = {head.key: head for head in sorted(heads, key=lambda head: head.start)}
        waits = {
            key: {one for one in (maker.get(name, name) for name in head.after)
                  if one in todo and one != key}
            for key, head in todo.items()
        }  # fmt: skip
        while todo:
            ready = [head for key, head in todo.items() if not waits[key] & todo.keys()]
            ready = ready or [*todo.values()]  # runs that name each other
            yield ready
            for head in ready:
                del todo[head.key]

    def _all(self, heads: list[tuple[Head | None, list[Model]]], *, dry: bool) -> None:
        """Carry runs of which none names another."""
        failures: list[Failure] = []

        def one(asked: tuple[Head | None, list[Model]]) -> Parcel | None:
            if failures:
                return None
            try:
                return self._one(*asked, dry=dry)
            except (Failure, MlflowException, OSError) as error:
                failures.append(Failure(f"At {name_of(*asked)}: {error}"))
                return None

        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(heads), TOGETHER):
                sent = pool.map(one, heads[start : start + TOGETHER])
                self._read_back([parcel for parcel in sent if parcel])
                if failures:
                    raise failures[0]

    def _one(self, head: Head | None, models: list[Model], *, dry: bool) -> Parcel | None:
        """Send one run; what cannot be read, or what the server refuses, is left."""
        folder = head.folder if head else models[0].folder
        kind = "runs" if head else "models"
        experiment = head.experiment if head else models[0].experiment
        self._count(done=bool(head))
        if experiment in self.closed:
            self.left.add(kind, folder, "its experiment is not this user's to write into")
            return None
        try:
            parcel = self.packer.pack(head, models)
        except Damaged as error:
            self.left.add(kind, error.path, error.why)
            return None
        counts = parcel.content.counts() + Counter(runs=bool(head))
        self._count(before=counts)
        mark = json.dumps(parcel.content.counts(), sort_keys=True)
        if head:
            there, ended = self.marks.get(head.key, ("", False))
            if there == mark and (ended or head.status == "RUNNING"):
                self._count(there=1, after=counts)
                self._know(head, models)
                return None
        if dry:
            return None
        self.began = True
        try:
            self._send(parcel, mark)
        except Damaged as error:
            self.left.add(kind, error.path, error.why)
            return None
        except (MlflowException, OSError) as error:
            self._refused(kind, folder, error)
            if status_of(error) == FORBIDDEN and head and head.key not in self.ids:
                self.closed.add(experiment)
            return None
        return parcel

    def _count(self, **more: Any) -> None:
        """Add to counts, of which several threads have some to add."""
        with self._lock:
            for name, count in more.items():
                setattr(self, name, getattr(self, name) + count)

    def _refused(self, kind: str, folder: Path, error: Exception) -> None:
        """Count what the server refuses; raise again what is no refusal, such as a full disk."""
        status = status_of(error)
        if not BAD <= status < FAULTY or status in NOT_OF_THIS_RUN:
            raise error
        words = " ".join(str(error).split())[:300]
        self.left.add(kind, folder, f"the server refuses it: {words}")

    def _know(self, head: Head, models: list[Model]) -> None:
        """Find the new ids of the models of a run that was there, where others name them."""
        for model in models:
            if model.key in self.needed and (found := self._find_model(model, head.experiment)):
                self.ids[model.key] = found.model_id

    def _send(self, parcel: Parcel, mark: str) -> None:
        """Send one run; whatever of it is there from an interrupted attempt stays."""
        head, body = parcel.head, parcel.body
        experiment = self.targets[head.experiment if head else parcel.models[0].experiment]
        known = None
        if head and head.key in self.ids:
            known = self.server.get_run(self.ids[head.key])
            self.places[known.info.run_id] = known.info.artifact_uri
        elif head:
            self._create_run(head, body, experiment)
        new = self.ids[head.key] if head else ""
        for model in parcel.models:
            self._create_model(model, new, experiment)
        if head:
            self._log_inputs(body, new, known)
        for model_key, files in parcel.files.items():
            if files:
                self._upload(self.places[self.ids[model_key] if model_key else new], files)
        for model in parcel.models:
            self.server.finalize_logged_model(self.ids[model.key], model.status)
        if not head:
            return
        there = {point(metric) for metric in self._history(known, set())} if known else set()
        self._rename_tags(parcel)
        values = {point(value): value for value in body.metrics}
        entities: list[Metric | Param | RunTag] = [
            self._metric(value, parcel) for key, value in values.items() if key not in there
        ]
        entities += [Param(*item) for item in body.params.items()]
        entities += [RunTag(*item) for item in body.tags.items()]
        for batch in batched([*entities, RunTag(CONTENT, mark)]):
            self.server.log_batch(new, **batch)
        if head.status != "RUNNING":
            self.server.set_terminated(new, head.status, head.end or head.start)

    def _create_run(self, head: Head, body: Body, experiment: str | None) -> None:
        tags = {SOURCE_RUN: head.key}
        if user := body.tags.get("mlflow.user") or head.user:
            tags["mlflow.user"] = user
        created = self.server.create_run(
            experiment, start_time=head.start, run_name=head.name or NO_NAME, tags=tags
        )
        self.ids[head.key] = created.info.run_id
        self.places[created.info.run_id] = created.info.artifact_uri
        if not head.name:
            self.server.delete_tag(created.info.run_id, "mlflow.runName")

    def _find_model(self, model: Model, experiment: str) -> Any:
        found = self.server.search_logged_models(
            experiment_ids=[self.targets[experiment]],
            filter_string=f"tags.`{SOURCE_MODEL}` = '{model.key}'",
        )
        return found[0] if found else None

    def _create_model(self, model: Model, run: str, experiment: str | None) -> None:
        made = self._find_model(model, model.experiment)
        if not made:
            made = self.server.create_logged_model(
                experiment, name=model.name, source_run_id=run or None,
                params=self._texts(model, "params", internals.LONGEST_PARAM.get()),
                model_type=model.kind or None,
                tags={**self._texts(model, "tags", internals.LONGEST_TAG.get()),
                      SOURCE_MODEL: model.key},
            )  # fmt: skip
        self.ids[model.key] = made.model_id
        self.places[made.model_id] = made.artifact_location

    def _texts(self, model: Model, part: str, most: int) -> dict[str, str]:
        directory = model.folder / part
        return self.packer.fitting(self.store.texts(directory), directory, most)

    def _log_inputs(self, body: Body, new: str, known: Run | None) -> None:
        """Send datasets and the models that went in and came out, those that are not there."""
        have = datasets_of(known) if known else set()
        wanted = [
            DatasetInput(
                Dataset(**{key: one.dataset.get(key, "") for key in
                           ("name", "digest", "source_type", "source", "schema", "profile")}),
                [InputTag(*item) for item in one.tags.items()],
            )
            for one in body.inputs if (one.dataset["name"], one.dataset["digest"]) not in have
        ]  # fmt: skip
        if wanted:
            self.server.log_inputs(new, datasets=wanted)
        if not body.used and not body.made:
            return
        from mlflow.entities import LoggedModelInput, LoggedModelOutput  # not in MLflow 2

        used = {one.model_id for one in known.inputs.model_inputs} if known else set()
        made = {one.model_id for one in known.outputs.model_outputs} if known else set()
        ins = [LoggedModelInput(self.ids[key]) for key in body.used
               if self.ids.get(key, "") not in {"", *used}]  # fmt: skip
        outs = [LoggedModelOutput(self.ids[key], step) for key, step in body.made
                if self.ids.get(key, "") not in {"", *made}]  # fmt: skip
        if ins:
            self.server.log_inputs(new, models=ins)
        if outs:
            self.server.log_outputs(new, outs)

    def _metric(self, value: Value, parcel: Parcel) -> Metric:
        """Return a metric as it is to be sent: with its model, where it was logged for one."""
        model, dataset = parcel.twins.get(
            (value.key, value.timestamp, normal(value.value)), ("", [])
        )
        extra = {"model_id": self.ids[model]} if model in self.ids else {}
        if extra and len(dataset) == 2:
            extra |= {"dataset_name": dataset[0], "dataset_digest": dataset[1]}
        return Metric(value.key, value.value, value.timestamp, value.step, **extra)

    def _rename_tags(self, parcel: Parcel) -> None:
        """Have MLflow's own tags, which name runs and models, name them by their new ids."""
        for key, text in parcel.body.tags.items():
            if key.startswith("mlflow."):
                parcel.body.tags[key] = self._renamed(text)

    def _renamed(self, text: str) -> str:
        return re.sub(
            r"\b(m-)?[0-9a-f]{32}\b", lambda found: self.ids.get(found[0], found[0]), text
        )

    # artifacts

    def _upload(self, uri: str, files: dict[str, Path]) -> None:
        repository = internals.ARTIFACT_REPOSITORY.get()(uri)
        with tempfile.TemporaryDirectory() as temporary:
            for name, file in files.items():
                folder = str(PurePosixPath(name).parent)
                local = file
                if file.name == "MLmodel":
                    local = Path(temporary, "MLmodel")
                    local.write_text(self._of_here(file, uri), encoding="utf-8")
                elif file.name != PurePosixPath(name).name:
                    local = Path(temporary, PurePosixPath(name).name)
                    local.unlink(missing_ok=True)
                    local.symlink_to(file)
                repository.log_artifact(str(local), None if folder == "." else folder)

    def _of_here(self, file: Path, uri: str) -> str:
        """Return an MLmodel that names the server's run: MLflow looks there when it loads it."""
        return re.sub(
            r"(?m)^artifact_path: (file:|mlflow-artifacts:|/|[A-Za-z]:[\\/]).*$",
            lambda _: f"artifact_path: {uri}", self._renamed(file.read_text(encoding="utf-8")),
        )  # fmt: skip

    def _listed(self, uri: str) -> dict[str, int]:
        repository = internals.ARTIFACT_REPOSITORY.get()(uri)
        found: dict[str, int] = {}
        todo = [""]
        while todo:
            here = todo.pop()
            for item in repository.list_artifacts(here or None):
                if item.is_dir:
                    todo.append(item.path)
                else:
                    found[item.path] = item.file_size or 0
        return found

    # what is there

    def _history(self, run: Run, single: set[str]) -> Iterator[Metric]:
        """Yield every value of a run's metrics; of `single` the last is all."""
        for last in run.data.to_proto().metrics:  # with their times and steps
            if last.key in single:
                yield last
            else:
                yield from self.server.get_metric_history(run.info.run_id, last.key)

    def _read_back(self, parcels: list[Parcel]) -> None:
        """Compare what was sent with what the server has. Raises Failure, the mark taken back."""
        ids = [self.ids[parcel.head.key] for parcel in parcels if parcel.head]
        runs: dict[str, Run] = {}
        if ids:
            homes = {self.targets[parcel.head.experiment] for parcel in parcels if parcel.head}
            words = ", ".join(f"'{key}'" for key in ids)
            for run in pages(
                self.server.search_runs, experiment_ids=[*homes], run_view_type=ViewType.ALL,
                filter_string=f"attributes.run_id IN ({words})",
            ):  # fmt: skip
                runs[run.info.run_id] = run
        for parcel in parcels:
            run = runs.get(self.ids[parcel.head.key]) if parcel.head else None
            found = self._found(parcel, run)
            if lost := parcel.content.missing(found):
                if parcel.head:
                    self.server.set_tag(self.ids[parcel.head.key], CONTENT, "")
                raise Failure(
                    f"At {name_of(parcel.head, parcel.models)}: after it was sent, "
                    f"{', '.join(lost)} were not on the server"
                )
            ours = bool(parcel.head)
            self._count(carried=ours, after=found.counts() + Counter(runs=ours))

    def _found(self, parcel: Parcel, run: Run | None) -> Content:
        """Return what the server has of what was sent; other things there are none of our business.

        An MLmodel was rewritten: its own size counts as the source's.
        """
        wanted, models = parcel.content, parcel.models
        artifacts: dict[str, int] = {}
        for key, files in parcel.files.items():
            if files:
                uri = self.places[self.ids[key or parcel.head.key]]  # type: ignore[union-attr]
                for path, size in self._listed(uri).items():
                    artifacts[f"{key}:{path}" if key else path] = size
        for path in artifacts.keys() & wanted.artifacts.keys():
            if path.rpartition("/")[2].rpartition(":")[2] == "MLmodel" and artifacts[path]:
                artifacts[path] = wanted.artifacts[path]
        found = Content(
            artifacts={name: size for name, size in artifacts.items() if name in wanted.artifacts},
            models={model.key for model in models},
        )
        if run is None:
            return found
        many = Counter(key for key, *_ in wanted.metrics)
        single = {key for key, count in many.items() if count == 1}
        outputs = run.outputs.model_outputs if getattr(run, "outputs", None) else []
        made = {output.model_id for output in outputs}
        named = {key for key, _ in parcel.body.made}
        found.params = {k: v for k, v in run.data.params.items() if k in wanted.params}
        found.tags = {k: v for k, v in run.data.tags.items() if k in wanted.tags}
        found.metrics = {point(metric) for metric in self._history(run, single)} & wanted.metrics
        found.datasets = datasets_of(run) & wanted.datasets
        found.models = {model.key for model in models
                        if self.ids[model.key] in made or model.key not in named}  # fmt: skip
        return found

    # the registry

    def _model_of(self, version: Version) -> str:
        """Return the old id of the logged model that a version is, '' where it is a run's."""
        named = re.search(r"\bm-[0-9a-f]{32}\b", version.model or version.source)
        return named[0] if named else ""

    def _source(self, version: Version) -> tuple[str, str, str]:
        """Return source, run and logged model of a version, on the server; '' for what is not."""
        if model := self.ids.get(self._model_of(version), ""):
            return f"models:/{model}", self.ids.get(version.run, ""), model
        found = re.search(r"\b([0-9a-f]{32})[\\/](?:artifacts[\\/])?(.+)$", version.source)
        if not found or not (run := self.ids.get(found[1], "")):
            return "", "", ""
        if run not in self.places:
            self.places[run] = self.server.get_run(run).info.artifact_uri
        path = kept_name(found[2].replace("\\", "/"))
        return f"{self.places[run]}/{path}", run, ""

    def _register(self, model: Registered, *, dry: bool) -> None:
        """Carry a registered model: its versions under their numbers, where it is new here."""
        self.before["registered models"] += 1
        self.before["model versions"] += len(model.versions)
        there = self.registry[model.name]
        if dry:
            self.after["registered models"] += there is not None
            return
        try:
            if there is None:
                self.began = True
                there = self.server.create_registered_model(
                    model.name, tags={**model.tags, SOURCE_REGISTERED: model.name},
                    description=model.description,
                )  # fmt: skip
            self.after["registered models"] += 1
            ours = SOURCE_REGISTERED in there.tags
            have = self._versions(model.name)
            for version in model.versions:
                origin = f"{version.number} {version.created}"
                if origin not in have:
                    self._version(model, version, origin, ours=ours)
                else:
                    self.after["model versions"] += 1
        except MlflowException as error:
            self._refused("registered models", model.folder, error)

    def _versions(self, name: str) -> set[str]:
        """Return the origins of the versions that are here; what an interrupted run left goes."""
        found = set()
        for version in [
            *pages(
                self.server.search_model_versions,
                filter_string="name = '{}'".format(name.replace("'", "\\'")),
            )
        ]:
            if FILLER in version.tags:
                self.server.delete_model_version(name, version.version)
            elif SOURCE_VERSION in version.tags:
                found.add(version.tags[SOURCE_VERSION])
        return found

    def _version(self, model: Registered, version: Version, origin: str, *, ours: bool) -> None:
        source, run, logged = self._source(version)
        if not source:
            self.left.add("model versions", version.folder,
                          f"what it is of is not carried: {version.source}")  # fmt: skip
            return
        self.began = True
        extra = {"model_id": logged} if logged else {}
        while True:
            made = self.server.create_model_version(
                model.name, source, run_id=run or None, tags={FILLER: "true"},
                run_link=version.link or None, description=version.description or None, **extra,
            )  # fmt: skip
            if not ours or int(made.version) >= version.number:
                break
            self.server.delete_model_version(model.name, made.version)  # one that was deleted there
        number = made.version
        for key, text in {**version.tags, SOURCE_VERSION: origin}.items():
            self.server.set_model_version_tag(model.name, number, key, text)
        if version.stage not in ("", "None"):
            self.server.transition_model_version_stage(model.name, number, version.stage)
        for alias in [name for name, of in model.aliases.items() if of == version.number]:
            self.server.set_registered_model_alias(model.name, alias, number)
        self.server.delete_model_version_tag(model.name, number, FILLER)
        if int(number) != version.number:
            self.left.renamed(version.folder, f"version {number} of {model.name}")
        self.after["model versions"] += 1


@contextmanager
def opened(arguments: argparse.Namespace, left: Left) -> Iterator[Store]:
    """Open a source to be read. Raises Failure when it is no file store."""
    root, artifacts = arguments.source, arguments.artifacts
    if not root.is_dir():
        raise Failure(f"There is no directory {root}.")
    if not any(root.glob(f"*/{META}")) and not any(root.glob(f"*/*/{META}")):
        words = f"{root} is not a file store of MLflow: no <experiment>/{META} is in it."
        if any(root.glob(f"mlruns/*/{META}")):
            words += f" Did you mean {root / 'mlruns'}?"
        elif any(root.glob("[0-9]*/*/artifacts")) or any(root.glob("[0-9]*/models/m-*")):
            words += " It looks like the artifacts of a store in SQLite."
        raise Failure(words)
    try:
        store = Store(
            root, left, artifacts, all_artifacts=arguments.all_artifacts,
            name=Path(arguments.called).name,
        )  # fmt: skip
    except Damaged as error:
        raise Failure(f"{error.path} cannot be read: {error.why}.") from error
    yield store
    if store.stamps() != store.before:
        raise Failure(
            f"Somebody wrote into {root} meanwhile. All that was seen is on the server; when "
            "the training is over, the same command brings the rest."
        )


def table(before: Counter[str], after: Counter[str]) -> list[str]:
    """Return the counts at both ends as lines for people."""
    rows = ("experiments", "runs", *Content().counts(), "registered models", "model versions")
    return [f"{'':<18}{'source':>12}{'server':>12}"] + [
        f"{name:<18}{before[name]:>12}{after[name]:>12}" for name in rows
    ]


@contextmanager
def told(promotion: Promotion, progress: TextIO | None) -> Iterator[None]:
    """Write how far it is, a line every ten seconds."""
    over, begin = threading.Event(), time.monotonic()

    def tell() -> None:
        while progress and not over.wait(EVERY):
            speed = promotion.done / (time.monotonic() - begin)
            progress.write(
                f"{promotion.done:,} of {promotion.total:,} runs are looked at ({speed:,.0f} a "
                f"second), {promotion.carried:,} are carried\n"
            )
            progress.flush()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def promote(arguments: argparse.Namespace, report: dict[str, Any], progress: TextIO | None) -> None:
    """Do it, and fill the report in as far as it came. Raises Failure."""
    left = Left(arguments.source)
    for name in arguments.left_out:
        left.add("links, pipes and the like", name, "it is no file; put one in its place")
    with opened(arguments, left) as store:
        for experiment in store.experiments:
            if experiment.name == DEFAULT:
                experiment.name = arguments.default_experiment
        try:
            promotion = Promotion(store, arguments.tracking_uri, arguments.into_existing)
        except MlflowException as error:
            words = f"{arguments.tracking_uri} does not answer as it should: {error}"
            raise Failure(words) from error
        try:
            with told(promotion, progress):
                promotion.carry(dry=arguments.dry_run)
        finally:
            report |= {
                "began": promotion.began,
                "carried": promotion.carried,
                "there": promotion.there,
                "before": promotion.before,
                "after": promotion.after,
                "lost": left.lost,
                "named": left.named,
                "renames": left.renames,
                "left": {kind: count for kind, count in sorted(left.counts.items())},
                "table": table(promotion.before, promotion.after),
            }


def main(progress: TextIO | None = None) -> int:
    """Read the command line, do it, print the report; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the directory mlruns")
    parser.add_argument("--called", default="", help="the directory's name in messages")
    parser.add_argument(
        "--artifacts", type=Path, help=f"where a server kept artifacts; its {ARTIFACTS}"
    )
    parser.add_argument(
        "--all-artifacts", action="store_true", help="a run that has none there has none"
    )
    parser.add_argument(
        "--left-out", type=json.loads, default=[], help="what was in its archive: names, as JSON"
    )
    parser.add_argument("--tracking-uri", required=True, help="such as http://localhost:5000")
    parser.add_argument("--username", default="", help="its password is read from standard input")
    parser.add_argument("--ca-bundle", default="", help="for a server with a company's certificate")
    parser.add_argument(
        "--into-existing", action="store_true", help="add to experiments and models of equal name"
    )
    parser.add_argument(
        "--default-experiment", default=DEFAULT, help="what takes the runs of the local Default"
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
    warnings.simplefilter("ignore")  # of MLflow's to programmers, such as that stages will go

    report: dict[str, Any] = {"failure": "", "carried": 0, "there": 0, "lost": 0}
    try:
        promote(arguments, report, progress)
    except (Failure, MlflowException, OSError) as error:
        words, place = str(error), str(arguments.source)
        report["failure"] = words.replace(place, arguments.called or place)[:2000]
    print(json.dumps(report))
    return 1 if report["failure"] or report["lost"] else 0
