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
from collections.abc import Callable, Iterator
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
import requests
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
from .pack import Content, Packer, Parcel, batched, kept_name, point, sizes
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
    forward,
    normal,
)  # fmt: skip

SOURCE_RUN = "promote.source_run_id"
SOURCE_MODEL = "promote.source_model_id"
SOURCE_EXPERIMENT = "promote.source_experiment_id"
SOURCE_REGISTERED = "promote.source_registered_model"
SOURCE_VERSION = "promote.source_version"
FILLER = "promote.filler"  # a version that holds a number only, and is removed at once
# The counts and a digest of a run, written when all of it was read back. Without it: unfinished.
CONTENT = "promote.content"

# A server makes a name up for a run that has none. Spaces are the nearest to none; of these, which
# do not break, MLflow's pages make a link that has a width, and can be clicked.
NO_NAME = "\u00a0" * 8
NAMES = re.compile(r"\b(m-)?[0-9a-f]{32}\b")  # ids of runs and models
MLMODEL = re.compile(r"(^|[:/])MLmodel$")

THREADS = 4  # more wait for the server
TOGETHER = 100  # runs that are read back in one request
EVERY = 10.0  # seconds between two lines of progress
# HTTP: what is refused, of which some has nothing to do with what was sent.
BAD, FORBIDDEN, FAULTY, NOT_OF_THIS = 400, 403, 500, {401, 407, 408, 429}
MOST_FAILURES = 10  # in a row, of a server that answers and can keep nothing
MOST_FILLERS = 1000  # versions that were deleted, made so that the next has its number


class Failure(Exception):
    """It cannot go on; the message is a sentence for people."""


class Refusal(Exception):
    """One thing does not come; the message says why."""


class Missing(Exception):
    """What was sent is not on the server; the message says what."""


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
        self.carried = self.there = self.done = self.failures = 0
        self.total = sum(len(experiment.runs) for experiment in store.experiments)
        self.targets: dict[str, str | None] = {}  # old experiment id: the server's, None: not yet
        self.closed: set[str] = set()  # old ids of experiments into which nothing may be written
        self.made: dict[tuple[str, int], tuple[str, str, str]] = {}  # versions: their sources
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
        names = {experiment.name for experiment in self.store.experiments}
        for experiment in self.store.experiments:
            if experiment.name in taken:
                name = f"{experiment.name} ({experiment.key})"
                while name in names | taken:
                    name += "'"
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

    # what goes wrong

    @contextmanager
    def _at_its_cost(self, kind: str, folder: Path) -> Iterator[None]:
        """Have what is wrong with one thing cost that thing alone. Raises Failure where all is."""
        try:
            with self.left.damage(kind, folder):
                try:
                    yield
                except requests.RequestException as error:  # which is an OSError, as files' are
                    raise self._judged(error) from error
                except (MlflowException, Missing, ValueError) as error:
                    raise self._judged(error) from error
            return
        except Refusal as error:
            self.left.add(kind, folder, str(error))

    def _judged(self, error: Exception) -> Exception:
        """Return a Refusal, or a Failure where it is not this thing's fault, but the server's."""
        words = " ".join(str(error).split())[:300]
        status = status_of(error)
        if isinstance(error, (Missing, ValueError)):  # ValueError: of MLflow's messages
            return Refusal(words)
        if BAD <= status < FAULTY and status not in NOT_OF_THIS:
            self.failures = 0
            return Refusal(f"the server refuses it: {words}")
        with self._lock:
            self.failures += 1
        if status in NOT_OF_THIS or self.failures >= MOST_FAILURES or not self._answers():
            return Failure(words)
        return Refusal(f"the server fails with it: {words}")

    def _answers(self) -> bool:
        try:
            self.server.search_experiments(max_results=1)
        except MlflowException:
            return False
        return True

    # runs

    def carry(self, *, dry: bool) -> None:
        """Carry everything that is not there yet; when `dry`, only count it."""
        for experiment in self.store.experiments:
            self._experiment(experiment, dry=dry)
        heads = [head for experiment in self.store.experiments for head in experiment.runs]
        with ThreadPoolExecutor(THREADS) as pool:
            for some in self._in_order(heads):
                for start in range(0, len(some), TOGETHER):
                    self._group(pool, some[start : start + TOGETHER], dry=dry)
        known = {head.key for head in heads}
        for run, models in self.models.items():
            for model in models:
                with self._at_its_cost("models", model.folder):
                    if not run:
                        self._model_alone(model, dry=dry)
                    elif run not in known:
                        raise Damaged(model.folder, f"its run {run} is not carried")
        for registered in self.store.registered:
            with self._at_its_cost("registered models", registered.folder):
                self._register(registered, dry=dry)

    def _experiment(self, experiment: Experiment, *, dry: bool) -> None:
        key = experiment.key
        if self.targets[key] is None and not dry:
            self.began = True
            self.closed.add(key)
            with self._at_its_cost("experiments", experiment.folder):
                tags = self.packer.fitting(
                    experiment.tags, experiment.folder / "tags",
                    internals.LONGEST_EXPERIMENT_TAG.get(),
                )  # fmt: skip
                self.targets[key] = self.server.create_experiment(
                    experiment.name, tags={**tags, SOURCE_EXPERIMENT: key}
                )
                self.closed.remove(key)
        self.before["experiments"] += 1
        self.after["experiments"] += self.targets[key] is not None

    def _in_order(self, heads: list[Head]) -> Iterator[list[Head]]:
        """Yield runs in groups: what a run names is in a group before its own, or in none."""
        maker = {model.key: run for run, models in self.models.items() for model in models}
        todo = {head.key: head for head in sorted(heads, key=lambda head: head.start)}
        waits: dict[str, set[str]] = {}
        followers: dict[str, list[str]] = defaultdict(list)
        for key, head in todo.items():
            waits[key] = {maker.get(name, name) for name in head.after} & todo.keys() - {key}
            for other in waits[key]:
                followers[other].append(key)
        ready = [key for key in todo if not waits[key]]
        while todo:
            ready = ready or [*todo]  # runs that name each other
            yield [todo.pop(key) for key in ready]
            after: list[str] = []
            for key in ready:
                for follower in followers[key]:
                    waits[follower].discard(key)
                    if not waits[follower] and follower in todo and follower not in after:
                        after.append(follower)
            ready = after

    def _group(self, pool: ThreadPoolExecutor, heads: list[Head], *, dry: bool) -> None:
        """Carry runs of which none names another, and compare them in the end."""
        failures: list[Failure] = []

        def at_its_cost(head: Head, action: Callable[[], Parcel | None]) -> Parcel | None:
            if not failures:
                try:
                    with self._at_its_cost("runs", head.folder):
                        return action()
                except Failure as error:
                    place = head.folder.relative_to(self.store.root)
                    failures.append(Failure(f"At run {place} ({head.name}): {error}"))
            return None

        sent = pool.map(lambda head: at_its_cost(head, lambda: self._one(head, dry=dry)), heads)
        parcels = [parcel for parcel in sent if parcel]
        runs = self._runs([self.ids[parcel.head.key] for parcel in parcels], parcels)
        for _ in pool.map(
            lambda parcel: at_its_cost(parcel.head, lambda: self._compare(parcel, runs)), parcels
        ):
            pass
        if failures:
            raise failures[0]

    def _one(self, head: Head, *, dry: bool) -> Parcel | None:
        """Send one run; return it to be compared, or None where it is there."""
        self._count(done=1)
        if head.experiment in self.closed:
            raise Damaged(head.folder, "its experiment is not this user's to write into")
        parcel = self.packer.pack(head, self.models.get(head.key, []))
        counts = parcel.content.counts()
        self._count(before=counts + Counter(runs=1))
        resolved = {name for name in head.after if name in self.ids}
        for name in head.after - resolved:
            self.left.add("links to what is not carried", f"{head.key} {name}")
        mark = {**counts, "digest": parcel.content.digest(), "links": len(resolved)}
        parcel.mark = json.dumps(mark, sort_keys=True)
        there, ended = self.marks.get(head.key, ("", False))
        if there == parcel.mark and (ended or head.status == "RUNNING"):
            self._count(there=1, after=counts + Counter(runs=1))
            self._know(parcel)
            return None
        if dry:
            return None
        self.began = True
        try:
            self._send(parcel)
        except MlflowException as error:
            if status_of(error) == FORBIDDEN and head.key not in self.ids:
                self.closed.add(head.experiment)
            raise
        self.failures = 0
        return parcel

    def _count(self, **more: Any) -> None:
        """Add to counts, of which several threads have some to add."""
        with self._lock:
            for name, count in more.items():
                setattr(self, name, getattr(self, name) + count)

    def _know(self, parcel: Parcel) -> None:
        """Find the new ids of the models of a run that was there, where others name them."""
        for model in parcel.models:
            if model.key in self.needed and (found := self._find_model(model)):
                self.ids[model.key] = found.model_id

    def _send(self, parcel: Parcel) -> None:
        """Send one run; whatever of it is there stays as it is."""
        head, body = parcel.head, parcel.body
        known = None
        if head.key in self.ids:
            known = self.server.get_run(self.ids[head.key])
            self.places[known.info.run_id] = known.info.artifact_uri
        else:
            self._create_run(head, body)
        new = self.ids[head.key]
        for model in parcel.models:
            self._create_model(model, new)
        self._log_inputs(body, new, known)
        for model_key, files in parcel.files.items():
            if files:
                self._upload(self.places[self.ids[model_key] if model_key else new], files)
        for model in parcel.models:
            self.server.finalize_logged_model(self.ids[model.key], model.status)
        self._rename_tags(parcel)
        there = set()
        if known:
            there = {point(metric) for metric in self._history(known, set())}
            self._leave_others(parcel, known)
        values = {point(value): value for value in body.metrics}
        entities: list[Metric | Param | RunTag] = [
            self._metric(value, parcel) for key, value in values.items() if key not in there
        ]
        entities += [Param(*item) for item in body.params.items()]
        entities += [RunTag(*item) for item in body.tags.items()]
        for batch in batched(entities):
            self.server.log_batch(new, **batch)
        if head.status != "RUNNING":
            self.server.set_terminated(new, head.status, head.end or head.start)

    def _rename_tags(self, parcel: Parcel) -> None:
        """Have MLflow's own tags, which name runs and models, name them by their new ids."""
        tags, wanted = parcel.body.tags, parcel.content.tags
        for key, text in tags.items():
            if key.startswith("mlflow."):
                tags[key] = wanted[key] = self._renamed(text)

    def _leave_others(self, parcel: Parcel, known: Run) -> None:
        """Leave params and tags that the server has otherwise: somebody may have changed them.

        But for tags that name runs and models, whose ids may have come meanwhile.
        """
        for part, mine, theirs in (
            ("params", parcel.body.params, known.data.params),
            ("tags", parcel.body.tags, known.data.tags),
        ):
            wanted = getattr(parcel.content, part)
            for key in [key for key in mine if key in theirs]:
                text = mine.pop(key)
                if theirs[key] == text:
                    continue
                if NAMES.search(theirs[key]) and key.startswith("mlflow."):
                    mine[key] = text
                    continue
                del wanted[key]
                self.left.add(
                    "values that the server has otherwise", parcel.head.folder / part / key,
                    "the server's stays",
                )  # fmt: skip

    def _create_run(self, head: Head, body: Body) -> None:
        tags = {SOURCE_RUN: head.key}
        if user := body.tags.get("mlflow.user") or head.user:
            tags["mlflow.user"] = user
        created = self.server.create_run(
            self.targets[head.experiment], start_time=head.start,
            run_name=head.name[: internals.LONGEST_KEY.get()] or NO_NAME, tags=tags,
        )  # fmt: skip
        self.ids[head.key] = created.info.run_id
        self.places[created.info.run_id] = created.info.artifact_uri
        if not head.name:
            self.server.delete_tag(created.info.run_id, "mlflow.runName")

    def _find_model(self, model: Model) -> Any:
        found = self.server.search_logged_models(
            experiment_ids=[self.targets[model.experiment]],
            filter_string=f"tags.`{SOURCE_MODEL}` = '{model.key}'",
        )
        return found[0] if found else None

    def _create_model(self, model: Model, run: str) -> Any:
        made = self._find_model(model)
        if not made:
            made = self.server.create_logged_model(
                self.targets[model.experiment], name=model.name, source_run_id=run or None,
                params=self._texts(model, "params", internals.LONGEST_PARAM.get()),
                model_type=model.kind or None,
                tags={**self._texts(model, "tags", internals.LONGEST_TAG.get()),
                      SOURCE_MODEL: model.key},
            )  # fmt: skip
        self.ids[model.key] = made.model_id
        self.places[made.model_id] = made.artifact_location
        return made

    def _texts(self, model: Model, part: str, most: int) -> dict[str, str]:
        directory = model.folder / part
        return self.packer.fitting(self.store.texts(directory), directory, most)

    def _model_alone(self, model: Model, *, dry: bool) -> None:
        """Send a model that was made outside of a run."""
        files = {model.key: self.packer.files_of(model)}
        content = Content(models={model.key}, artifacts=sizes(files))
        self._count(before=content.counts())
        if model.experiment in self.closed:
            raise Damaged(model.folder, "its experiment is not this user's to write into")
        mark = json.dumps({**content.counts(), "digest": content.digest()}, sort_keys=True)
        if dry:
            return
        made = self._create_model(model, "")
        if made.tags.get(CONTENT) != mark:
            self.began = True
            self._upload(made.artifact_location, files[model.key])
            self.server.finalize_logged_model(made.model_id, model.status)
            found = Content(models={model.key}, artifacts=self._artifacts(files, content))
            if lost := content.missing(found):
                raise Missing(f"after it was sent, {', '.join(lost)} were not on the server")
            self.server.set_logged_model_tags(made.model_id, {CONTENT: mark})
        self._count(after=content.counts())

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

    def _renamed(self, text: str) -> str:
        return NAMES.sub(lambda found: self.ids.get(found[0], found[0]), text)

    # artifacts

    def _repository(self, uri: str) -> Any:
        """Return what reads and writes artifacts. Raises Failure for a place that is not theirs."""
        if os.environ.get("MLFLOW_TRACKING_USERNAME") and not uri.startswith("mlflow-artifacts:/"):
            raise Failure(f"The server keeps artifacts at {uri}: no password is told to others.")
        if uri.startswith("mlflow-artifacts://"):
            raise Failure(f"The server keeps artifacts at {uri}, which is another server.")
        return internals.ARTIFACT_REPOSITORY.get()(uri)

    def _upload(self, uri: str, files: dict[str, Path]) -> None:
        repository = self._repository(uri)
        with tempfile.TemporaryDirectory() as temporary:
            for name, file in files.items():
                folder = str(PurePosixPath(name).parent)
                local = file
                if file.name == "MLmodel":
                    local = Path(temporary, "MLmodel")
                    local.write_bytes(self._of_here(file, uri))
                elif file.name != PurePosixPath(name).name:
                    local = Path(temporary, PurePosixPath(name).name)
                    local.unlink(missing_ok=True)
                    local.symlink_to(file)
                repository.log_artifact(str(local), None if folder == "." else folder)

    def _of_here(self, file: Path, uri: str) -> bytes:
        """Return an MLmodel that names the server's run: MLflow looks there when it loads it."""
        text = self._renamed(file.read_text(encoding="utf-8", errors="surrogateescape"))
        place = r"(?m)^artifact_path: (file:|mlflow-artifacts:|/|[A-Za-z]:[\\/]).*$"
        text = re.sub(place, lambda _: f"artifact_path: {uri}", text)
        return text.encode("utf-8", errors="surrogateescape")

    def _listed(self, uri: str) -> dict[str, int]:
        repository = self._repository(uri)
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

    def _runs(self, ids: list[str], parcels: list[Parcel]) -> dict[str, Run]:
        """Return what the server has of runs, in few requests."""
        if not ids:
            return {}
        words = ", ".join(f"'{key}'" for key in ids)
        found = pages(
            self.server.search_runs, run_view_type=ViewType.ALL,
            experiment_ids=[*{self.targets[parcel.head.experiment] for parcel in parcels}],
            filter_string=f"attributes.run_id IN ({words})",
        )  # fmt: skip
        return {run.info.run_id: run for run in found}

    def _compare(self, parcel: Parcel, runs: dict[str, Run]) -> None:
        """Compare what was sent with what the server has; mark the run. Raises Missing."""
        new = self.ids[parcel.head.key]
        found = self._found(parcel, runs[new]) if new in runs else Content()
        if lost := parcel.content.missing(found):
            raise Missing(f"after it was sent, {', '.join(lost)} were not on the server")
        self.server.set_tag(new, CONTENT, parcel.mark)
        self._count(carried=1, after=found.counts() + Counter(runs=1))

    def _artifacts(self, files: dict[str, dict[str, Path]], wanted: Content) -> dict[str, int]:
        """Return the sizes of what was sent; an MLmodel was rewritten, and counts as the source's.

        Other things there are none of our business.
        """
        found: dict[str, int] = {}
        for key, inner in files.items():
            if inner:
                for path, size in self._listed(self.places[self.ids[key]]).items():
                    found[f"{key}:{path}"] = size
        return {
            name: wanted.artifacts[name] if size and MLMODEL.search(name) else size
            for name, size in found.items() if name in wanted.artifacts
        }  # fmt: skip

    def _found(self, parcel: Parcel, run: Run) -> Content:
        """Return what the server has of what was sent."""
        wanted, key = parcel.content, parcel.head.key
        own = Content(artifacts={f"{key}:{name}": size for name, size in wanted.artifacts.items()
                                 if name in parcel.files[""]})  # fmt: skip
        artifacts = {
            name.partition(":")[2]: size
            for name, size in self._artifacts({key: parcel.files[""]}, own).items()
        }
        theirs = {model: files for model, files in parcel.files.items() if model}
        artifacts |= self._artifacts(theirs, wanted)
        many = Counter(metric for metric, *_ in wanted.metrics)
        single = {metric for metric, count in many.items() if count == 1}
        outputs = run.outputs.model_outputs if getattr(run, "outputs", None) else []
        made = {output.model_id for output in outputs}
        named = {model for model, _ in parcel.body.made}
        return Content(
            params={k: v for k, v in run.data.params.items() if k in wanted.params},
            tags={k: v for k, v in run.data.tags.items() if k in wanted.tags},
            metrics={point(metric) for metric in self._history(run, single)} & wanted.metrics,
            datasets=datasets_of(run) & wanted.datasets,
            models={model.key for model in parcel.models
                    if self.ids[model.key] in made or model.key not in named},
            artifacts=artifacts,
        )  # fmt: skip

    # the registry

    def _model_of(self, version: Version) -> str:
        """Return the old id of the logged model that a version is, '' where it is a run's."""
        named = re.search(r"\bm-[0-9a-f]{32}\b", version.model or version.source)
        return named[0] if named else ""

    def _source(self, version: Version) -> tuple[str, str, str]:
        """Return source, run and logged model of a version, on the server; '' for what is not."""
        if model := self.ids.get(self._model_of(version), ""):
            return f"models:/{model}", self.ids.get(version.run, ""), model
        if copied := re.fullmatch(r"models:/(.+)/(\d+)", version.source):
            return self.made.get((copied[1], int(copied[2])), ("", "", ""))
        run = self.ids.get(version.run, "")
        found = re.search(rf"{re.escape(version.run)}/artifacts(/.+)?$", forward(version.source))
        if not version.run or not run or not found:
            return "", "", ""
        if run not in self.places:
            self.places[run] = self.server.get_run(run).info.artifact_uri
        return self.places[run] + kept_name(found[1] or ""), run, ""

    def _register(self, model: Registered, *, dry: bool) -> None:
        """Carry a registered model: its versions under their numbers, where it is new here."""
        self.before["registered models"] += 1
        self.before["model versions"] += len(model.versions)
        there = self.registry[model.name]
        if dry:
            self.after["registered models"] += there is not None
            return
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
            with self._at_its_cost("model versions", version.folder):
                source = self._source(version)
                if not source[0]:
                    place = f"what it is of is not carried: {version.source}"
                    raise Damaged(version.folder, place)
                self.made[model.name, version.number] = source
                if origin not in have:
                    self._version(model, version, source, ours=ours)
                self.after["model versions"] += 1

    def _versions(self, name: str) -> set[str]:
        """Return the origins of the versions that are here; what an interrupted run left goes."""
        query = "name = '{}'".format(name.replace("'", "\\'"))
        there = [*pages(self.server.search_model_versions, filter_string=query)]  # before any goes
        found = set()
        for version in there:
            if FILLER in version.tags:
                self.server.delete_model_version(name, version.version)
            elif SOURCE_VERSION in version.tags:
                found.add(version.tags[SOURCE_VERSION])
        return found

    def _version(
        self, model: Registered, version: Version, source: tuple[str, str, str], *, ours: bool
    ) -> None:
        self.began = True
        place, run, logged = source
        extra = {"model_id": logged} if logged else {}
        origin = f"{version.number} {version.created}"
        tags = {**version.tags, SOURCE_VERSION: origin, FILLER: "true"}
        while True:
            made = self.server.create_model_version(
                model.name, place, run_id=run or None, tags=tags, run_link=version.link or None,
                description=version.description or None, **extra,
            )  # fmt: skip
            missing = version.number - int(made.version)
            if not ours or missing <= 0 or missing > MOST_FILLERS:
                break
            self.server.delete_model_version(model.name, made.version)  # one that was deleted there
        number = made.version
        if version.stage not in ("", "None"):
            self.server.transition_model_version_stage(model.name, number, version.stage)
        for alias in [name for name, of in model.aliases.items() if of == version.number]:
            self.server.set_registered_model_alias(model.name, alias, number)
        self.server.delete_model_version_tag(model.name, number, FILLER)
        if int(number) != version.number:
            self.left.renamed(version.folder, f"version {number} of {model.name}")


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
    for line in arguments.packing_said.splitlines():
        left.add("files that cannot be read", line.removeprefix("tar: "))
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
                "before": {"runs": 0, **promotion.before},
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
    parser.add_argument("--packing-said", default="", help="what tar said of files: lines")
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
