"""Measure this host's part of MLflow once, and write what was found as text for Prometheus.

Where the tracking server runs: whether it answers, its database and artifacts as a
client uses them, step by step, whether the databases' schema is this MLflow's, and what the server
counts itself, where it does. On any host: when certificates end, how full file systems are, and how
the last backup went.

What could not be learnt is left out: while the server is down, nobody knows of its artifacts. A
sentence on what is wrong goes to stderr, for the journal. Exit code 0: it was measured, be it good
or bad.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from . import installation, program
from .client import NotReady, Server
from .server.ready import steps
from .settings import become, read_settings

# What there is, in words for people. All are gauges.
METRICS = {
    "mlflow_up": "Whether the server answers.",
    "mlflow_database_up": "Whether the server, asked for an experiment, finds its database.",
    "mlflow_artifacts_up": "Whether the server took, gave back and deleted an artifact.",
    "mlflow_health_step_seconds": "How long a client waited for each step.",
    "mlflow_info": "The version of the running server, and where it keeps runs and artifacts.",
    "mlflow_schema_current": "Whether a database has the schema that the installed MLflow needs.",
    "mlflow_backup_last_success_timestamp_seconds": "When the last good backup ended; 0: none did.",
    "mlflow_backup_last_attempt_successful": "Whether the last attempt at a backup was a good one.",
    "mlflow_backup_damaged_files": "How many files of sets were found damaged or missing.",
    "mlflow_backup_max_age_seconds": "How old the last good backup may become.",
    "mlflow_certificate_expiry_timestamp_seconds": (
        "When the first of a file's certificates ends; 0 where it cannot be read."
    ),
    "mlflow_certificate_lifetime_seconds": "How long that certificate is good, from first to last.",
    "mlflow_filesystem_size_bytes": "The size of the file system that a directory is on.",
    "mlflow_filesystem_avail_bytes": "What is free of it.",
    "mlflow_filesystem_files": "How many files it can hold; 0 where it has no such limit.",
    "mlflow_filesystem_files_free": "How many more files it can hold.",
    "mlflow_health_last_run_timestamp_seconds": "When all this was measured.",
}

# The last step of each verdict, in order: where one is bad, the next is not known.
VERDICTS = {
    "mlflow_up": "server",
    "mlflow_database_up": "database",
    "mlflow_artifacts_up": "artifact_delete",
}

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
BACKUPS = Path("/var/lib/mlflow-backup/status.json")
PATIENCE = 30  # seconds that a program may take

Samples = Iterable[tuple[str, dict[str, str], float]]


def say(sentence: str) -> None:
    """Tell the journal what is wrong, as a warning."""
    print(f"<4>{sentence}", file=sys.stderr)


def run(*command: str | Path, text: str = "") -> str:
    """Return what a program prints. Raises OSError or subprocess.SubprocessError."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return done.stdout


def places(settings: dict[str, str]) -> dict[str, str]:
    """Return the kinds of the server's database and artifact store."""
    database = urlsplit(settings["MLFLOW_BACKEND_STORE_URI"]).scheme.partition("+")[0]
    artifacts = urlsplit(settings["MLFLOW_ARTIFACTS_DESTINATION"]).scheme or "file"
    return {"database": database, "artifacts": artifacts}


def server() -> Samples:
    """Use the server as a client does, until a step does not succeed."""
    took: dict[str, float] = {}
    try:
        settings = read_settings()
        asked, began = Server(settings), time.monotonic()
        # The one question that needs no user, and so no database.
        asked.request("Server", "GET", "/health")
        took["server"] = time.monotonic() - began
        for step, seconds in steps(asked):
            took[step] = seconds
            if step == "database":
                version = asked.request("Version", "GET", "/version").decode()
                yield "mlflow_info", {"version": version, **places(settings)}, 1
    except (OSError, NotReady) as error:
        say(str(error))
    for step, seconds in took.items():
        yield "mlflow_health_step_seconds", {"step": step}, seconds
    for name, last in VERDICTS.items():
        yield name, {}, last in took
        if last not in took:
            break


def counted() -> str:
    """Return what the server counts itself, as Prometheus reads it, where it does.

    It would tell nobody but its administrator, and a password of hers belongs into no Prometheus.
    """
    settings = read_settings()
    if "MLFLOW_EXPOSE_PROMETHEUS" not in settings:
        return ""
    try:
        return Server(settings).request("Metrics", "GET", "/metrics").decode()
    except NotReady as error:
        say(str(error))
        return ""


def schemas(python: Path) -> Samples:
    """Compare the databases' schema with that of the environment's MLflow."""
    try:
        answer = json.loads(run(*program(python, "database", "status")))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        say(f"Schema: {getattr(error, 'stderr', '') or error}")
        return
    for database in answer["databases"]:
        if database["state"] != "unreachable":
            current = database["state"] == "current"
            yield "mlflow_schema_current", {"database": database["kind"]}, current


def backup(status: Path) -> Samples:
    """Read what the last backup left behind."""
    try:
        last = json.loads(status.read_text(encoding="utf-8"))
        yield "mlflow_backup_last_attempt_successful", {}, not last["error"]
        if last["max_age_hours"]:
            yield "mlflow_backup_max_age_seconds", {}, last["max_age_hours"] * 3600
        yield "mlflow_backup_damaged_files", {}, last.get("damaged", 0)
        success = float(last["last_success"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if not isinstance(error, FileNotFoundError):  # there was none yet
            say(f"Backup: {status} is not what a backup leaves: {error!r}")
        success = 0
    yield "mlflow_backup_last_success_timestamp_seconds", {}, success


def first_end(file: Path) -> tuple[float, float]:
    """Return when the first of a PEM file's certificates ends, and how long it is good in all.

    Raises OSError, ValueError or subprocess.SubprocessError where that cannot be told.
    """
    found = CERTIFICATE.findall(file.read_text(encoding="utf-8"))
    if not found:
        raise ValueError("there is no certificate in it")
    said = [run("openssl", "x509", "-noout", "-enddate", "-startdate", text=pem) for pem in found]
    moments = [
        [ssl.cert_time_to_seconds(line.partition("=")[2]) for line in dates.split("\n") if line]
        for dates in said
    ]
    end, start = min(moments)
    return end, end - start


def certificates(pattern: str) -> Samples:
    """Read when certificates end. A pattern that fits nothing is a file that cannot be read."""
    for file in sorted(Path("/").glob(pattern.lstrip("/"))) or [Path(pattern)]:
        try:
            end, lifetime = first_end(file)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            say(f"Certificate: {file} cannot be read: {error}")
            end = lifetime = 0
        yield "mlflow_certificate_expiry_timestamp_seconds", {"file": str(file)}, end
        yield "mlflow_certificate_lifetime_seconds", {"file": str(file)}, lifetime


def file_systems(directories: list[Path]) -> Samples:
    """Measure the file systems that directories are on, each once."""
    seen = set()
    for directory in directories:
        try:
            device, space = directory.stat().st_dev, os.statvfs(directory)
        except OSError as error:
            say(f"File system: {error}")
            continue
        if device in seen:
            continue
        seen.add(device)
        where = {"directory": str(directory)}
        yield "mlflow_filesystem_size_bytes", where, space.f_blocks * space.f_frsize
        yield "mlflow_filesystem_avail_bytes", where, space.f_bavail * space.f_frsize
        yield "mlflow_filesystem_files", where, space.f_files
        yield "mlflow_filesystem_files_free", where, space.f_favail


def text(samples: Samples) -> str:
    """Return samples as Prometheus reads them, each metric after its help and type."""
    lines: dict[str, list[str]] = {name: [] for name in METRICS}
    for name, labels, value in samples:
        # JSON quotes a string as this format does.
        quoted = [f"{key}={json.dumps(word, ensure_ascii=False)}" for key, word in labels.items()]
        series = f"{name}{{{','.join(quoted)}}}" if quoted else name
        lines[name].append(f"{series} {float(value):.15g}\n")
    return "".join(
        f"# HELP {name} {METRICS[name]}\n# TYPE {name} gauge\n" + "".join(found)
        for name, found in lines.items()
        if found
    )


def measure(asked: argparse.Namespace, here: installation.Installation | None) -> Samples:
    """Measure all that is asked for, and the server, where there is one here."""
    if here:
        yield from server()
        yield from schemas(here.python)
        if here.leader:  # it backs up what all that share the data have
            yield from backup(BACKUPS)
    for pattern in asked.certificate:
        yield from certificates(pattern)
    yield from file_systems(asked.directory)
    yield "mlflow_health_last_run_timestamp_seconds", {}, time.time()


def main() -> None:
    """Measure, and replace the file in one step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--certificate", action="append", default=[], metavar="PATTERN", help="files"
    )
    parser.add_argument("--directory", action="append", default=[], type=Path, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    asked = parser.parse_args()
    # One that came later is not this user's to read: the role's next run measures it too.
    try:
        here = installation.read()
        become(here.user, read_settings())  # having read the administrator's password as root
    except installation.OtherRelease as error:
        sys.exit(str(error))
    except (installation.NotInstalled, PermissionError):
        here = None
    found = [*measure(asked, here)]
    words = text(found)
    if ("mlflow_database_up", {}, True) in found:
        words += counted()
    unfinished = asked.output.with_name(asked.output.name + ".new")
    unfinished.write_text(words, encoding="utf-8")
    unfinished.chmod(0o644)  # the node exporter reads it
    unfinished.replace(asked.output)
