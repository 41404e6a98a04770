"""Scenario 2: a tracking server with an SQLite database, local artifacts and a model registry.

The proofs are made by several accounts, so it comes in parts, each a process of its own. A part
reads the reports of those before it, one JSON document a line, and hands them on with its own:

  look   as the server's account: notes what there is
  begin  as anybody; where the server has users, as its administrator: two temporary ones, A and B
  log    as anybody, or as A: trains, logs, registers, loads
  see    as B, where there are users: may do with all that what the default permission says
  look   as the server's account: rows in SQLite, files in the directory of artifacts
  end    as begin: removes what there is, merges the reports
  look   as the server's account: takes away for good what was removed; what was there before is
         unchanged

log and see load a model, which is a program: they refuse to be root. As root, the packed program
does all of that with `apart scenario2 ...`, each part as the account that it needs.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_smoke import database, filestore, parts
from mlflow_smoke.names import EXPERIMENT, METRIC, MODEL, OF_B, PARAMS, PICTURE, PNG
from mlflow_smoke.parts import Known
from mlflow_smoke.report import CheckFailedError, Kind, Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this scenario needs to know to its command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", choices=parts.PARTS, help="see above")
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
    parser.add_argument(
        "--others-work",
        action="store_true",
        help="do not mind what of others changes meanwhile",
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
    """Makes the proofs of one part.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    parts.prove(options, report, look)


def look(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Looks at the server's database and directory: before all, after it, and at the end."""
    account = "Run this part as the account that may read them, mlflow's."
    parts.no_root(report, account)
    if not known.reports:
        note(options, report, account)
    elif "ended" in known.facts:
        compare(options, known, report)
    else:
        find(options, known.facts, report)


def note(options: argparse.Namespace, report: Report, account: str) -> None:
    """Notes what there is before the smoke has made anything."""
    report.facts["began"] = time.time()
    with report.check(
        "database and artifacts",
        Kind.ENVIRONMENT,
        "readable",
        f"{account} See --database and --artifacts.",
    ) as check:
        rows = database.counts(options.database)
        now = time.time()
        files = filestore.tally(options.artifacts, now)
        report.facts["before"] = {"rows": rows, "files": files, "at": now}
        # The directory may not be there before its first use.
        refused = options.artifacts.exists() and not os.access(options.artifacts, os.R_OK | os.X_OK)
        check.seen = "artifacts are refused" if refused else "readable"


def find(options: argparse.Namespace, facts: dict[str, Any], report: Report) -> None:
    """Looks for what was logged, in database and directory."""
    run_id, number = facts["run_id"], facts["experiment_id"]
    with report.check(
        "ids of what was logged", Kind.TRACKING, "such as MLflow's", parts.AGAIN
    ) as check:
        # Paths are made of them, and whoever says them may have loaded anything.
        good = re.fullmatch("[0-9a-f]{32}", run_id) and re.fullmatch("[0-9]+", number)
        check.seen = "such as MLflow's" if good else [run_id, number]
    report.checks.pop()  # of no interest, where it is so
    file: Path = options.database
    look_at_rows(file, number, run_id, facts["accuracy"], report, facts["experiment"])
    look_at_files(options.artifacts / number / run_id, file, report)
    with report.check(
        "row in model_versions", Kind.REGISTRY, [(run_id, "READY")], parts.AGAIN
    ) as check:
        check.seen = database.query(
            file,
            "SELECT run_id, status FROM model_versions WHERE name = ? AND version = ?",
            facts["model"],
            facts["model_version"],
        )


def compare(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Looks whether what was there before still is, and nothing of the smoke's is left."""
    facts = known.facts
    before = facts["before"]
    parts.conclude(known, report)
    with suppress(CheckFailedError):  # and look at the rest all the same
        parts.forget(options, known, report)
    if options.others_work:
        what, good, advice = "what the smoke made", "gone", parts.AGAIN
    else:
        what, good = "what was here before", "unchanged"
        advice = "If somebody else was at work on this server meanwhile, run the smoke again."
    with report.check(what, Kind.CLEANUP, good, advice) as check:
        rows = database.counts(options.database, before["rows"])
        files = filestore.tally(options.artifacts, before["at"])
        changes = [
            f"{name}: {there[1]}, now {rows[name][1]}"
            for name, there in before["rows"].items()
            if there[1] != rows[name][1]
        ] + [
            f"{name}: {there[0]} files of {there[1]} bytes, now {files.get(name, [0, 0])}"
            for name, there in before["files"].items()
            if there != files.get(name)
        ]
        run = (
            options.artifacts / str(facts.get("experiment_id", "")) / str(facts.get("run_id", "-"))
        )
        left = [f"left: {run}"] if not options.keep and run.exists() else []
        check.seen = [*left, *([] if options.others_work else changes)][:3] or good


def look_at_rows(
    file: Path,
    experiment_id: str,
    run_id: str,
    accuracy: float,
    report: Report,
    experiment: str = EXPERIMENT,
) -> None:
    """Reads back from the database what was logged."""
    again = f"Is {file} the server's database (MLFLOW_BACKEND_STORE_URI)?"

    expected = [(experiment, "FINISHED", "active")]
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
        seen = database.pairs(file, "metrics", run_id)
        check.seen = {key: value for key, value in seen.items() if key != OF_B}


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
