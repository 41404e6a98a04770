"""Scenario 3: a server for several data scientists, with PostgreSQL, S3, TLS and passwords.

Its proofs are made on several hosts, so it comes in parts, each a process of its own. A part reads
the reports of those before it, one JSON document a line, and hands them on with its own:

  begin  as the administrator, on a client: two temporary users, A and B
  log    as A, on one client: trains, logs, registers, loads
  see    as B, on each client: may do with all that what the default permission says, and no more
  look   on a tracking server: rows in PostgreSQL, objects in the bucket, no file on disk
  end    as the administrator, on the client of begin: removes what there is, merges the reports
  look   on a tracking server again: takes away for good what was removed

Where one host is all of that: begin | log | see | sudo -u mlflow look | end | sudo -u mlflow look.
log and see load a model, which is a program: they refuse to be root. The administrator's name and
password are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
{"administrator": [name, password]} on a line of standard input. What goes from begin to end holds
the passwords of A and B.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mlflow_smoke import parts, residence
from mlflow_smoke.names import METRIC, OF_B, PARAMS
from mlflow_smoke.parts import Known
from mlflow_smoke.report import Kind, Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this scenario needs to know to its command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", choices=parts.PARTS, help="see above")
    parser.add_argument(
        "--project",
        type=lambda text: Path(text).expanduser().resolve(),
        metavar="DIR",
        help="a directory with `activate` in it; otherwise the environment is taken as it is",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("/etc/mlflow/server.env"),
        metavar="FILE",
        help="look: the tracking server's environment file (%(default)s)",
    )
    parser.add_argument(
        "--default-permission",
        choices=parts.MAY,
        default="READ",
        help="begin: the server's; what B may do with what A made follows from it (%(default)s)",
    )
    parser.add_argument(
        "--disk",
        type=Path,
        action="append",
        metavar="DIR",
        help="look: a directory that must hold no artifact; may be given again",
    )


def subject(options: argparse.Namespace) -> str:
    """What the report is about, as far as it is known before the environment is."""
    return str(options.part)


def prove(options: argparse.Namespace, report: Report) -> None:
    """Makes the proofs of one part.

    Raises:
        CheckFailedError: at the first check that fails.
    """
    parts.prove(options, report, look)


def look(options: argparse.Namespace, known: Known, report: Report) -> None:
    """Looks for A's work where it must be, past MLflow, and where it must not."""
    facts = known.facts
    report.subject = str(options.settings)
    account = f"Run this part as the account that may read {options.settings}, mlflow's."
    parts.no_root(report, account)
    if "ended" in facts:
        report.subject = known.reports[-1]["subject"]
        parts.conclude(known, report)
        parts.forget(options, known, report)
        return
    run_id, accuracy = facts["run_id"], facts["accuracy"]

    with report.check(
        "the server's settings",
        Kind.ENVIRONMENT,
        "PostgreSQL and S3",
        f"{account} On a tracking server, that is.",
    ) as check:
        settings = residence.settings(options.settings)
        check.seen = residence.kind(settings)

    again = f"Is {options.settings} that of the server behind {known.reports[-1]['subject']}?"
    with report.check("row in runs", Kind.TRACKING, "there", again) as check:
        database = residence.Database(settings)
        found = database.query(
            "SELECT experiments.name, status, runs.lifecycle_stage FROM runs JOIN experiments"
            " USING (experiment_id) WHERE run_uuid = %s",
            run_id,
        )
        same = found == [(facts["experiment"], "FINISHED", "active")]
        check.seen = "there" if same else found or "none"

    params = {name: str(value) for name, value in PARAMS.items()}
    with report.check("rows in params", Kind.TRACKING, params, again) as check:
        check.seen = dict(
            database.query("SELECT key, value FROM params WHERE run_uuid = %s", run_id)
        )

    with report.check("rows in metrics", Kind.TRACKING, {METRIC: accuracy}, again) as check:
        check.seen = dict(
            database.query(
                "SELECT key, value FROM metrics WHERE run_uuid = %s AND key <> %s", run_id, OF_B
            )
        )

    with report.check("row in model_versions", Kind.REGISTRY, "READY", again) as check:
        found = database.query(
            "SELECT run_id, status FROM model_versions WHERE name = %s AND version = %s",
            facts["model"],
            facts["model_version"],
        )
        check.seen = "READY" if found == [(run_id, "READY")] else found or "none"
    database.close()

    files = {name: tuple(about) for name, about in facts["files"].items()}
    with report.check("objects in the bucket", Kind.ARTIFACTS, sorted(files), again) as check:
        objects = residence.objects(settings, facts["experiment_id"])
        check.seen = sorted(name for name, about in files.items() if about in objects)

    places = options.disk or [Path("/var/lib/mlflow"), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    with report.check(
        "artifacts on the server's disk",
        Kind.ARTIFACTS,
        "none",
        "They belong in the bucket alone: see MLFLOW_ARTIFACTS_DESTINATION.",
    ) as check:
        check.seen = residence.on_disk(places, {*files.values()}, run_id)[:3] or "none"
