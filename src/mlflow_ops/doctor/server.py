"""A tracking server: its data, its answers, its versions, and what it needs in time."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from .. import client, places
from ..artifacts import Content
from ..host.accounts import rights_of
from ..server import ready
from .patient import SEARCH, SQLITE, Patient, version_of
from .report import Finding, Unseen, check, error, give, last_line, names, note, paths, run, warning
from .tls import days, ends_soon


@check("database", "server", after=("installation",))
def database(p: Patient) -> Iterator[Finding]:
    """Whether the databases answer, have this MLflow's schema, and bear all connections."""
    for kind, uri in p.databases.items():
        for end in ("", "-wal", "-shm") if uri.startswith(SQLITE) else ():
            path = Path(uri[len(SQLITE) :] + end)
            entry = path.lstat() if path.exists() or path.is_symlink() else None
            if entry and (owner := names(entry.st_uid, entry.st_gid).split(":")[0]) != p["user"]:
                yield error(
                    f"{path} belongs to {owner}, and the service runs as {p['user']}.",
                    f"The {kind} database cannot be written: nothing can be logged.",
                    f"chown -h {p['user']}: {path}",
                )
                return

    def number(name: str, otherwise: int) -> int:
        """Return a setting; MLflow takes 0 for its own default, too."""
        return int(p.settings.get(name, "0")) or otherwise

    connections = {
        "servers": p["servers"],
        "workers": number("MLFLOW_WORKERS", 4),
        "pools": len(p.databases) + 1,  # one for runs, one for models, one for users
        "each": number("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", 5)
        + number("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", 10),
    }
    asked: dict[str, Any] = {**p.databases, "connections": connections}
    asked["artifacts"] = {
        "destination": p.settings["MLFLOW_ARTIFACTS_DESTINATION"],
        "roots": json.loads(p.settings.get("MLFLOW_GUARD_ARTIFACT_ROOTS") or "[]"),
    }
    done = p.as_service(p.program("database", "status", "--stdin"), json.dumps(asked))
    if done.returncode:
        yield error(
            f"{p.python} does not run for {p['user']}: {last_line(done.stderr)}",
            "The service cannot start, and its database could not be looked at.",
            f"{p.again} makes the environment anew.",
        )
        return
    answer = json.loads(done.stdout)
    for said in answer.get("places", []):
        yield note(
            f"{said}.",
            "They go on as they were; new ones are refused such a place, for whoever names one may "
            "be after what others keep there.",
            "Ask whoever made them whether that is meant. mlflow_server_artifact_roots in "
            f"{p.variables} opens places outside.",
        )
    for state in answer["databases"]:
        kind = state["kind"]
        if state["state"] == "unreachable":
            yield error(
                f"MLflow cannot work with its {kind} database: {state['error']}",
                "Nothing can be logged or read; or not any more when many ask at once.",
                f"The variables are in {p.variables}. Then: {p.again}",
            )
        elif state["state"] == "empty":
            yield error(
                f"The {kind} database is empty, or its file is gone.",
                "Runs and models are not there, and the service does not start.",
                f"Restore a backup: {p.play('restore')}; or begin a new one: {p.again}",
            )
        elif state["state"] == "different":
            yield error(
                f"The {kind} database has schema {state['revision'] or 'unknown'}, and MLflow "
                f"{version_of(p['environment'])} needs {state['head']}.",
                "The service does not start again; while it runs, some of it fails.",
                f"{p.play('upgrade')}, which takes a backup first; or set "
                f"mlflow_version in {p.variables} back to what made the database",
            )


@check("artifacts", "server", after=("installation",))
def artifacts(p: Patient) -> Iterator[Finding]:
    """Whether the server can write artifacts where it keeps them."""
    destination = p.settings.get("MLFLOW_ARTIFACTS_DESTINATION", "")
    means = "Models and pictures cannot be logged; runs and metrics go on."
    if destination.startswith("s3:"):
        yield from bucket(p, destination, means)
        return
    path, user = Path(re.sub("^file:/+", "/", destination)), p["user"]
    where = f"mlflow_server_artifacts_destination in {p.variables}"
    if path.is_symlink() and path.lstat().st_uid != 0:
        return  # said by the file modes
    if not path.is_dir():
        yield error(
            f"The server keeps artifacts in {path}, which is no directory here.",
            "Those that were logged are not there, and none can be logged.",
            f"Mount it or bring it back from a backup; or look at {where}, then {p.again}",
        )
        return
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield error(
            f"The server keeps artifacts in {path}, which is mounted read-only.", means,
            f"findmnt --target {path} says from where; mount -o remount,rw, or look at {where}",
        )  # fmt: skip
        return
    for directory in [*reversed(path.parents), path]:
        wish = ["-x", str(directory)] + (["-a", "-w", str(directory)] if directory == path else [])
        if p.as_service(["test", *wish]).returncode:
            status = directory.stat()
            owner = names(status.st_uid, status.st_gid)
            yield error(
                f"The server keeps artifacts in {path}, and {user}, as whom it runs, cannot "
                f"{'write' if directory == path else 'enter'} {directory}: it belongs to {owner}, "
                f"mode {status.st_mode & 0o7777:04o}.",
                means,
                give(path, f"{user}:", "0750") if directory == path
                else f"chmod o+x {directory}; or set another {where}",
            )  # fmt: skip
            return
    with rights_of(user):  # who could put a link in the directory's place
        entries = [(inside, inside.lstat()) for inside in Content(path).here()]
    for inside, status in entries:
        owner = names(status.st_uid, status.st_gid).split(":")[0]
        if owner != user:
            yield error(
                f"{inside} belongs to {owner}, and the server runs as {user}.",
                f"What belongs there cannot be logged: somebody ran MLflow as {owner}, perhaps.",
                f"chown -hR {user}: {path}",
            )
            return
    allowed = p.unit.get("ReadWritePaths", "").split()
    if p.unit.get("ProtectSystem") == "strict" and not any(
        Path(word.lstrip("+-")) in (path, *path.parents) for word in allowed
    ):
        yield error(
            f"The server keeps artifacts in {path}, and its unit lets it write only "
            f"{' and '.join(allowed) or 'nothing'}.",
            means,
            f"Set {where}, not in {p['settings']}; then {p.again} opens the unit to it",
        )


def bucket(p: Patient, destination: str, means: str) -> Iterator[Finding]:
    """Use the bucket once with the service's own key; the role of the bucket has the words."""
    name, _, prefix = destination[len("s3://") :].partition("/")
    has = p.settings.get
    asked = {
        "touch": True, "create": False, "variables": p["s3_variables"],
        "name": name, "prefix": prefix.strip("/"),
        "endpoint_url": has("MLFLOW_S3_ENDPOINT_URL", ""),
        "region": has("AWS_DEFAULT_REGION", ""),
        "addressing_style": has("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", ""),
        "ca_bundle": has("AWS_CA_BUNDLE", ""),
        "checksums": has("AWS_REQUEST_CHECKSUM_CALCULATION", ""),
        "access_key": has("AWS_ACCESS_KEY_ID", ""),
        "secret_key": has("AWS_SECRET_ACCESS_KEY", ""),
        "session_token": has("AWS_SESSION_TOKEN", ""),
        "admin_access_key": "", "admin_secret_key": "",
    }  # fmt: skip
    done = p.as_service(p.program("s3"), json.dumps(asked))
    if done.returncode:
        yield error(
            f"{p.python} cannot ask S3: {last_line(done.stderr)}", means,
            f"{p.again} makes the environment anew.",
        )  # fmt: skip
        return
    answer = json.loads(done.stdout)
    if date := answer.get("date"):
        p.skews["the store's"] = parsedate_to_datetime(date).timestamp() - time.time()
    if answer["error"]:
        yield error(
            answer["error"],
            means,
            f"The variables are in {p.variables}. Then: {p.again}",
        )


@check("artifacts of the newest", "server", after=("database", "artifacts"))
def newest(p: Patient) -> Iterator[Finding]:
    """Whether what was logged last is where the server looks for it."""
    destination = p.settings["MLFLOW_ARTIFACTS_DESTINATION"]
    try:
        number, bare = places.bare_of_files(p.settings, p.python, p["user"])
    except places.Unknown as why:
        raise Unseen(str(why)) from why
    if bare:
        yield error(
            f"Of {number} of the newest runs and models these have no file in {destination}: "
            f"{', '.join(bare[:5])}{' ...' if bare[5:] else ''}.",
            "Who opens them gets an error: the files are elsewhere, or somebody removed them.",
            "Was a directory, a bucket, its prefix or a mount changed? Set it back, and "
            f"{p.again}; or bring the files: {p.play('restore')}",
        )


@check("readiness", "server", after=("services", "database", "artifacts"))
def readiness(p: Patient) -> Iterator[Finding]:
    """Whether the server serves: database, and an artifact put, got and deleted."""
    try:
        ready.check(client.Server(p.settings))
    except client.NotReady as refused:
        yield error(
            f"The server runs, and does not work. {refused}",
            "Whoever uses it is answered so.",
            f"journalctl -u {p['unit']} has its words. Was {p['settings']} changed? Then {p.again}",
        )


@check("names", "server", after=("readiness",))
def allowed_names(p: Patient) -> Iterator[Finding]:
    """Whether the server answers to the names by which it is called."""
    # Behind a proxy the names come without a port.
    behind = {"MLFLOW_LISTEN_SOCKET", "MLFLOW_LISTEN_TLS_CERTIFICATE"} & set(p.settings)
    end = "" if behind else f":{p.settings.get('MLFLOW_PORT', '5000')}"
    for name in dict.fromkeys([f"localhost{end}", *(f"{name}{end}" for name in p["names"])]):
        status, words = p.request(SEARCH + "?max_results=1", name)
        if status == 403 and "Invalid Host" in words:
            plain = name[: -len(end)] if end else name
            yield error(
                f"The server refuses the name {name} (403 Invalid Host header).",
                f"Browsers and clients that use http(s)://{name} are turned away.",
                f"Add {plain} to {p['names_variable']} in {p.variables}; then {p.again}",
            )


@check("version", "server", after=("installation",))
def version(p: Patient) -> Iterator[Finding]:
    """Whether the version is the one that the inventory asks for."""
    there = version_of(p["environment"])
    if p["version"] and there != p["version"]:
        yield warning(
            f"{p.variables} says mlflow_version {p['version']}, and here is {there or 'none'}.",
            "The next run of the playbook upgrades it, and interrupts the service for that.",
            f"{p.play('upgrade')}, when people can spare it; or set mlflow_version back",
        )


@check("guarded version", "server", after=("installation",))
def guarded_version(p: Patient) -> Iterator[Finding]:
    """Whether what keeps one user from another's files and artifacts is in this MLflow at all."""
    there = version_of(p["environment"])
    if there and int(there.split(".")[0]) < 3:
        yield warning(
            f"MLflow {there} has holes that no release mends.",
            "Every user - without users, whoever reaches the port - reads any file that the "
            "service can read, and overwrites and deletes anybody's artifacts.",
            f"Set mlflow_version to 3 or later in {p.variables}; then {p.play('upgrade')}",
        )


@check("running version", "server", after=("readiness",))
def running_version(p: Patient) -> Iterator[Finding]:
    """Whether the server that runs is the one that is installed."""
    there = version_of(p["environment"])
    status, runs = p.request("/version")
    if status == 200 and runs.strip() != there:
        yield warning(
            f"The server that runs is MLflow {runs.strip()}, and {p['environment']} leads to "
            f"{there or 'none'}.",
            "The next start, at a boot say, brings the other version.",
            f"systemctl restart {p['unit']}",
        )


@check("certificates", "host")
def certificates(p: Patient) -> Iterator[Finding]:
    """Whether certificates are good for a while yet, and their keys private."""
    for pattern in p["certificates"]:
        for path in paths(pattern):
            said = run(["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", str(path)])
            if said.returncode:
                yield error(
                    f"{path} is no certificate: {last_line(said.stderr)}.",
                    "What uses it does not start again.",
                    f"{p.again} makes it anew; one of the team's own is in mlflow_tls_certificate.",
                )
                continue
            start, end = (
                ssl.cert_time_to_seconds(line.partition("=")[2])
                for line in said.stdout.strip().splitlines()
            )
            left = end - time.time()
            if ends_soon(left, end - start, p["certificate_days"]):
                what = f"has {days(left)} left" if left > 0 else "has expired"
                yield Finding(
                    "warning" if left > 0 else "error",
                    f"The certificate {path} {what}.",
                    "Then whoever checks it refuses the server: every client, or its own parts.",
                    f"{p.play('renew')} renews what the private CA signs; the team's own is "
                    f"mlflow_tls_certificate in {p.variables}.",
                )
            key = Path(path).with_suffix(".key")
            if key.exists() and key.stat().st_mode & 0o077:
                yield error(
                    f"{key} has mode {key.stat().st_mode & 0o7777:04o}.",
                    "Others on this host can read it, and pass themselves off as this server.",
                    f"chmod 0600 {key}; then have a new pair made",
                )


@check("backup", "server")
def backup(p: Patient) -> Iterator[Finding]:
    """Whether the last good backup is recent."""
    if not p["backup_status"]:
        raise Unseen("another host takes the backup")
    file, backs_up = Path(p["backup_status"]), p.play("backup")
    if not file.exists():
        yield note("No backup has been set up here.", "What is lost is lost.", backs_up)
        return
    try:
        last = {**json.loads(file.read_text(encoding="utf-8"))}
    except (ValueError, TypeError):
        last = {
            "error": f"{file} is damaged, as after a power cut; the next backup writes it anew."
        }
    age = (time.time() - (last.get("last_success") or 0)) / 3600
    limit = last.get("max_age_hours") or float("inf")  # 0: it may be as old as it likes
    words = f" The last attempt failed: {last['error']}" if last.get("error") else ""
    if not last.get("last_success"):
        yield error(f"No backup has ever succeeded.{words}", "What is lost is lost.", backs_up)
    elif age < -1:
        yield error(
            f"The last good backup is from the future, by {-age:.0f} hours.{words}",
            "The clock was wrong then, or is wrong now: nobody knows how old it is.",
            f"timedatectl; then {backs_up}",
        )
    elif age > limit:
        yield error(
            f"The last good backup is {age:.0f} hours old, and should be no older than {limit}."
            + words,
            "What was logged since would be lost.",
            f"{backs_up}; systemctl list-timers says when it is due",
        )
    elif last.get("damaged"):
        yield warning(
            f"Of the backups {last['damaged']} files are damaged or missing.{words}",
            "What only they have cannot be restored.",
            f"{backs_up}, which copies them anew; then mlflow-backup verify names the rest",
        )
    elif words:
        yield warning(
            f"The last good backup is {age:.0f} hours old.{words}",
            "If it stays so, the backup grows too old.",
            backs_up,
        )
