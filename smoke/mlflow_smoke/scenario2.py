"""Scenario 2: a tracking server with an SQLite database, local artifacts and a model registry."""

from __future__ import annotations

import argparse
import os
import uuid
from pathlib import Path
from typing import Any

from mlflow_smoke import database, filestore, http, interruption
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this scenario needs to know to its command line."""
    parser.add_argument(
        "--tracking-uri",
        type=url,
        required=True,
        metavar="URL",
        help="the server, as its users write it: http://localhost:5000",
    )
    for name, text in {
        "database": "the server's SQLite file, which this program must be able to read",
        "artifacts": "the directory in which the server keeps artifacts, readable too",
    }.items():
        parser.add_argument(
            f"--{name}",
            type=lambda text: Path(text).resolve(),
            required=True,
            metavar="PATH",
            help=text,
        )


def url(text: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        argparse.ArgumentTypeError: when it is none.
    """
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text.rstrip("/")


def subject(options: argparse.Namespace) -> str:
    """What the report is about."""
    return str(options.tracking_uri)


def prove(options: argparse.Namespace, report: Report) -> None:
    """Runs all checks, and removes what they made unless told to keep it.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    server: str = options.tracking_uri
    file: Path = options.database
    # As a data scientist does: one variable, and no other that could lead elsewhere.
    os.environ["MLFLOW_TRACKING_URI"] = server
    os.environ.pop("MLFLOW_REGISTRY_URI", None)

    with report.check(
        "import mlflow",
        Kind.ENVIRONMENT,
        "done",
        "Run the smoke with the Python of an environment that has MLflow.",
    ) as check:
        import mlflow

        report.version = mlflow.__version__
        check.seen = "done"

    with report.check(
        "the server's version",
        Kind.ENVIRONMENT,
        mlflow.__version__,
        "See `systemctl status mlflow`, and run the smoke with the environment of the server.",
    ) as check:
        check.seen = http.version(server)

    with report.check(
        "database and artifacts",
        Kind.ENVIRONMENT,
        "readable",
        "Run the smoke as root or as the server's user; see --database and --artifacts.",
    ) as check:
        before = database.state(file)
        files = filestore.snapshot(options.artifacts)
        # The directory may not be there before its first use.
        refused = options.artifacts.exists() and not os.access(options.artifacts, os.R_OK | os.X_OK)
        check.seen = "artifacts are refused" if refused else "readable"

    token = uuid.uuid4().hex
    try:
        use(server, file, options.artifacts, token, report)
    finally:
        interruption.ignore()
        with report.check(
            "what was here before",
            Kind.CLEANUP,
            "unchanged",
            "If somebody else was at work on this server meanwhile, run the smoke again.",
        ) as check:
            left: list[str] = []
            if not options.keep:
                left = [
                    f"left: {path}" for path in remove(server, token, before, options.artifacts)
                ]
            missing = [f"missing: {name}" for name in sorted(before - database.state(file))]
            changes = filestore.differences(files, filestore.snapshot(options.artifacts))
            check.seen = [*left, *missing, *changes][:3] or "unchanged"


def use(server: str, file: Path, artifacts: Path, token: str, report: Report) -> None:
    """Trains, logs, registers and loads, and looks for it all in database and artifacts.

    Args:
        server: address of the tracking server.
        file: its database.
        artifacts: its directory of artifacts.
        token: marks what the smoke makes.
        report: takes the checks.
    """
    import mlflow

    from mlflow_smoke import training

    again = "See the server's log: journalctl -u mlflow."

    with report.check("tracking, registry URI", Kind.TRACKING, [server, server], again) as check:
        check.seen = [mlflow.get_tracking_uri(), mlflow.get_registry_uri()]

    with report.check("experiments", Kind.TRACKING, ["Default", EXPERIMENT], again) as check:
        mlflow.set_experiment(EXPERIMENT)
        check.seen = sorted({"Default", EXPERIMENT} & set(http.experiments(server)))

    midway: dict[str, Any] = {}
    with report.check("run", Kind.TRACKING, "FINISHED", again) as check:
        trained = training.train(
            EXPERIMENT, token, during=lambda run_id: midway.update(http.run(server, run_id))
        )
        run_id = trained.run_id
        check.seen = mlflow.get_run(run_id).info.status
    report.facts |= {"run_id": run_id, "accuracy": trained.accuracy}

    expected = {"status": "RUNNING", METRIC: trained.accuracy}
    with report.check("another client, mid-run", Kind.TRACKING, expected, again) as check:
        check.seen = midway

    look_at_rows(file, trained.experiment_id, run_id, trained.accuracy, report)
    look_at_files(artifacts / trained.experiment_id / run_id, file, report)

    with report.check(f"runs:/<run_id>/{MODEL}", Kind.MODEL, SAME, again) as check:
        check.seen = training.predicts_the_same(f"runs:/{run_id}/{MODEL}", trained)

    version = database.highest_version(file, REGISTERED_MODEL) + 1
    with report.check(
        f"registering {REGISTERED_MODEL}", Kind.REGISTRY, f"version {version}", again
    ) as check:
        registered = mlflow.register_model(f"runs:/{run_id}/{MODEL}", REGISTERED_MODEL)
        check.seen = f"version {registered.version}"
    report.facts |= {"model_version": version}

    with report.check("row in model_versions", Kind.REGISTRY, [(run_id, "READY")], again) as check:
        check.seen = database.query(
            file,
            "SELECT run_id, status FROM model_versions WHERE name = ? AND version = ?",
            REGISTERED_MODEL,
            version,
        )

    uri = f"models:/{REGISTERED_MODEL}/{version}"
    with report.check(uri, Kind.MODEL, SAME, again) as check:
        check.seen = training.predicts_the_same(uri, trained)


def look_at_rows(
    file: Path, experiment_id: str, run_id: str, accuracy: float, report: Report
) -> None:
    """Reads back from the database what was logged."""
    again = f"Is {file} the server's database (MLFLOW_BACKEND_STORE_URI)?"

    expected = [(EXPERIMENT, "FINISHED", "active")]
    with report.check("row in runs", Kind.TRACKING, expected, again) as check:
        check.seen = database.query(
            file,
            "SELECT experiments.name, status, runs.lifecycle_stage FROM runs JOIN experiments"
            " USING (experiment_id) WHERE run_uuid = ? AND experiment_id = ?",
            run_id,
            experiment_id,
        )

    params = {name: str(value) for name, value in PARAMS.items()}
    with report.check("rows in params", Kind.TRACKING, params, again) as check:
        check.seen = database.pairs(file, "params", run_id)

    with report.check("rows in metrics", Kind.TRACKING, {METRIC: accuracy}, again) as check:
        check.seen = database.pairs(file, "metrics", run_id)


def look_at_files(run: Path, file: Path, report: Report) -> None:
    """Looks for a run's artifacts in its directory, and nowhere else."""
    again = f"Is {run.parents[1]} the server's directory (MLFLOW_ARTIFACTS_DESTINATION)?"

    with report.check(f"artifact {PICTURE}", Kind.ARTIFACTS, "a PNG picture", again) as check:
        picture = (run / "artifacts" / PICTURE).read_bytes()
        check.seen = "a PNG picture" if picture.startswith(PNG) else "no PNG picture"

    whole = "MLmodel and its model file"
    with report.check(f"model {MODEL}", Kind.ARTIFACTS, whole, again) as check:
        folder = filestore.model_folder(run)
        model = filestore.model_file(folder)
        check.seen = whole

    with report.check(
        "metadata among artifacts",
        Kind.ARTIFACTS,
        "none",
        "Does another MLflow use this directory as its file store?",
    ) as check:
        # What a file store would keep beside `artifacts`: meta.yaml, metrics, params, tags.
        beside = {run, folder.parent} if folder.parent.name != "artifacts" else {run}
        names = [path.name for owner in beside for path in owner.iterdir()]
        check.seen = sorted(set(names) - {"artifacts"}) or "none"

    with report.check(
        "artifacts in the database", Kind.ARTIFACTS, "none", "Please report this."
    ) as check:
        contents = {PICTURE: picture, model.name: model.read_bytes()}
        found = [name for name, content in contents.items() if database.holds(file, content)]
        check.seen = found or "none"


def remove(server: str, token: str, before: set[str], artifacts: Path) -> list[Path]:
    """Removes what a smoke made on a server, by the server's own means.

    MLflow only marks runs and experiments as deleted; `mlflow gc` removes such rows for good.

    Args:
        server: address of the tracking server.
        token: what the run is tagged with.
        before: the database's state as the smoke found it.
        artifacts: the server's directory of artifacts.

    Returns:
        Directories of artifacts that are still there.
    """
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    number = experiment.experiment_id
    gone: list[str] = []
    for run in client.search_runs([number], f"tags.{TAG} = '{token}'"):
        run_id = run.info.run_id
        for version in client.search_model_versions(f"run_id = '{run_id}'"):
            client.delete_model_version(version.name, version.version)
        if hasattr(client, "search_logged_models"):  # MLflow 3
            for model in client.search_logged_models([number], f"source_run_id = '{run_id}'"):
                client.delete_logged_model(model.model_id)
                gone.append(f"{number}/models/{model.model_id}")
        client.delete_run(run_id)
        gone.append(f"{number}/{run_id}")
    if f"model {REGISTERED_MODEL}" not in before:
        ours = client.search_registered_models(f"name = '{REGISTERED_MODEL}'")
        if ours and not client.search_model_versions(f"name = '{REGISTERED_MODEL}'"):
            client.delete_registered_model(REGISTERED_MODEL)
    if f"experiment {EXPERIMENT}" not in before and not client.search_runs([number]):
        # A deleted experiment keeps its name, which would then be refused to everybody.
        client.rename_experiment(number, f"{EXPERIMENT} of smoke {token}")
        client.delete_experiment(number)
        gone.append(number)
    for path in gone:
        http.call(server, f"mlflow-artifacts/artifacts/{path}", method="DELETE")
    return [artifacts / path for path in gone if (artifacts / path).exists()]
