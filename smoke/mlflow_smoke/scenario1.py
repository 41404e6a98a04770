"""Scenario 1: local files, no tracking server, no model registry."""

from __future__ import annotations

import argparse
import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_smoke import environment, filestore, interruption
from mlflow_smoke.names import (
    EXPERIMENT,
    METRIC,
    MODEL,
    PARAMS,
    PICTURE,
    PNG,
    REGISTERED_MODEL,
    SAME,
    TAG,
)
from mlflow_smoke.report import Kind, Report
from mlflow_smoke.ui import UserInterface


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this scenario needs to know to its command line."""
    parser.add_argument(
        "--project",
        type=lambda text: Path(text).expanduser().resolve(),
        required=True,
        metavar="DIR",
        help="the project directory, with `activate` in it",
    )
    parser.add_argument(
        "--without-ui", action="store_true", help="leave out the check of `mlflow ui`, the slow one"
    )


def subject(options: argparse.Namespace) -> str:
    """What the report is about."""
    return str(options.project)


def prove(options: argparse.Namespace, report: Report) -> None:
    """Runs all checks, and removes what they made unless told to keep it.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    project: Path = options.project
    root = project / "mlruns"
    activation = project / "activate"

    with report.check(
        "python after `source activate`",
        Kind.ENVIRONMENT,
        str(environment.interpreter()),
        f"Run the smoke with the environment that {activation} activates, or set that up anew.",
    ) as check:
        check.seen = str(environment.activate(project))

    os.chdir(project)
    before = filestore.snapshot(root)
    token = uuid.uuid4().hex
    try:
        use(root, token, report, with_ui=not options.without_ui)
    finally:
        interruption.ignore()
        with report.check(
            "what was here before",
            Kind.CLEANUP,
            "unchanged",
            "If something else was at work in this project meanwhile, run the smoke again.",
        ) as check:
            if not options.keep:
                filestore.remove(root, token, before)
            changes = filestore.differences(before, filestore.snapshot(root))
            check.seen = changes[:3] or "unchanged"


def use(root: Path, token: str, report: Report, with_ui: bool) -> None:
    """Trains, logs and loads, and looks at the files that this leaves.

    Args:
        root: the store, `mlruns` in the project.
        token: marks what the smoke makes.
        report: takes the checks.
        with_ui: whether to look at `mlflow ui`, too.
    """
    again = f"Set the project up anew, and see what {root.parent / 'activate'} exports."
    there = root.exists()

    with report.check("import mlflow", Kind.ENVIRONMENT, "done", again) as check:
        import mlflow

        from mlflow_smoke import training

        report.version = mlflow.__version__
        check.seen = "done"

    with report.check("tracking URI", Kind.TRACKING, root.as_uri(), again) as check:
        check.seen = mlflow.get_tracking_uri()

    before_use = "there before use (yours), and after" if there else "made by the first use"
    with report.check("directory mlruns", Kind.TRACKING, before_use, again) as check:
        untouched = root.exists() == there
        mlflow.set_experiment(EXPERIMENT)
        check.seen = before_use if untouched and root.is_dir() else "made too early, or not at all"

    # A new store begins with Default; in one of yours it may be long gone.
    wanted = [EXPERIMENT] if there else ["Default", EXPERIMENT]
    with report.check("experiments", Kind.TRACKING, wanted, again) as check:
        names = {experiment.name for experiment in mlflow.search_experiments()}
        check.seen = sorted(names & {*wanted})

    with ExitStack() as stack:
        if with_ui:  # started here, as they take their time
            elsewhere = Path(stack.enter_context(TemporaryDirectory(prefix="mlflow-smoke-")))
            views = [stack.enter_context(UserInterface(path)) for path in (root.parent, elsewhere)]

        with report.check("run", Kind.TRACKING, "FINISHED", again) as check:
            trained = training.train(EXPERIMENT, token)
            stored = mlflow.get_run(trained.run_id)
            check.seen = stored.info.status
        report.facts |= {"run_id": trained.run_id, "accuracy": trained.accuracy}

        run = root / trained.experiment_id / trained.run_id
        look_at_files(run, token, trained.accuracy, report)

        with report.check(f"runs:/<run_id>/{MODEL}", Kind.MODEL, SAME, again) as check:
            check.seen = training.predicts_the_same(f"runs:/{trained.run_id}/{MODEL}", trained)

        with report.check(
            f"registering {REGISTERED_MODEL}",
            Kind.REGISTRY,
            "MlflowException",
            "Scenario 1 has no registry: export MLFLOW_REGISTRY_URI=none:// in "
            f"{root.parent / 'activate'}, or move on to scenario 2.",
        ) as check:
            check.seen = register(trained.run_id)

        if not with_ui:
            report.left_out.append("mlflow ui: left out (--without-ui)")
            return
        shown = {True: f"shows {EXPERIMENT}", False: f"does not show {EXPERIMENT}"}
        for place, view, expected in zip(("here", "elsewhere"), views, (True, False), strict=True):
            with report.check(f"mlflow ui {place}", Kind.UI, shown[expected], again) as check:
                check.seen = shown[EXPERIMENT in view.experiments()]


def look_at_files(run: Path, token: str, accuracy: float, report: Report) -> None:
    """Reads back as files what was logged, from the directory of a run."""
    again = f"Look into {run.parent}, or set MLFLOW_TRACKING_URI to a directory that is yours."
    experiment = run.parent
    described = {
        "artifact_location": experiment.as_uri(),
        "experiment_id": experiment.name,
        "lifecycle_stage": "active",
        "name": EXPERIMENT,
    }
    with report.check("experiment's meta.yaml", Kind.TRACKING, described, again) as check:
        meta = filestore.meta(experiment)
        check.seen = {key: meta.get(key) for key in described}
        place = str(check.seen["artifact_location"])
        if place.startswith("/"):  # so `mlflow ui` writes it
            check.seen["artifact_location"] = Path(place).as_uri()

    params = {name: str(value) for name, value in PARAMS.items()}
    with report.check("files in params/", Kind.TRACKING, params, again) as check:
        check.seen = filestore.values(run / "params")

    with report.check("files in metrics/", Kind.TRACKING, {METRIC: str(accuracy)}, again) as check:
        check.seen = filestore.values(run / "metrics")

    with report.check("files in tags/", Kind.TRACKING, {TAG: token}, again) as check:
        check.seen = {TAG: filestore.values(run / "tags").get(TAG)}

    with report.check(f"artifact {PICTURE}", Kind.ARTIFACTS, "a PNG picture", again) as check:
        content = (run / "artifacts" / PICTURE).read_bytes()
        check.seen = "a PNG picture" if content.startswith(PNG) else "no PNG picture"

    whole = "MLmodel and its model file"
    with report.check(f"model {MODEL}", Kind.ARTIFACTS, whole, again) as check:
        filestore.model_file(filestore.model_folder(run))
        check.seen = whole


def register(run_id: str) -> str:
    """Tries to register the model of a run, and says what came of it; undoes it if it went well."""
    import mlflow

    client = mlflow.MlflowClient()
    try:
        version = mlflow.register_model(f"runs:/{run_id}/{MODEL}", REGISTERED_MODEL)
    except mlflow.MlflowException:
        return "MlflowException"
    client.delete_model_version(REGISTERED_MODEL, version.version)
    if not client.search_model_versions(f"name = '{REGISTERED_MODEL}'"):
        client.delete_registered_model(REGISTERED_MODEL)
    return f"version {version.version} of {REGISTERED_MODEL}"
