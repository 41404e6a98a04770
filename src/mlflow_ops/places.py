"""Whether an inventory leads away from where an installation keeps its data.

A variable that says where the data is may be changed on a host that has data. Whoever sets that
host up would begin anew in the new place, and all that was logged is out of sight. So each role
that owns a place compares it with what is installed: `moved` is quick, and says which places
differ; `refusal` looks into both, and says what is left behind, and what to do. Nothing is wrong
where nothing would be left: the old place is empty, or the new one has all that it has.

A place is an address: sqlite:///<file>, postgresql://<host>:<port>/<name>, s3://<bucket>/<prefix>
(with ` at <endpoint>` where it is not Amazon's), or a directory.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pwd
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import installation, lock, mlflow_internals, there
from .backup.stores import OUR_S3, SERVICE_S3
from .settings import authentication, read_file

UNITS = Path("/etc/systemd/system")
Places = dict[str, str]

# By place: what people call it, its variables, what its files are and how they are found.
KINDS = {
    "tracking": ("runs and models", "mlflow_server_state_dir, mlflow_server_database_path", ()),
    "auth": ("users", "mlflow_server_state_dir, mlflow_server_auth_database", ()),
    "artifacts": (
        "artifacts", "mlflow_server_state_dir, mlflow_server_artifacts_destination", ("files", ""),
    ),
    "keys": ("the service's keys", "mlflow_server_config_dir", ("files", "secrets.env")),
    "objects": ("objects", "seaweedfs_data_dir", ("volumes", "*.dat")),
    "sets": ("backups", "mlflow_backup_target", ("sets", "*/manifest.json")),
    "local": ("runs", "mlflow_local_store", ("runs", "[0-9]*/*/meta.yaml")),
}  # fmt: skip
# And those that lead to a place of another kind, by that of the address.
VARIABLES = {
    "postgresql": "mlflow_server_database_host, mlflow_server_database_port, "
    "mlflow_server_database_name, mlflow_server_auth_database; in scenario 3 group mlflow_database",
    "s3": "mlflow_bucket, mlflow_bucket_prefix, mlflow_server_s3_endpoint_url; group mlflow_store",
}


# What is installed -------------------------------------------------------------------------------


def settings_of(file: str) -> Path:
    """Return the file of the server's settings: the record says which, or else it is this one."""
    try:
        return installation.read().settings
    except installation.NotInstalled:
        return Path(file)


def of_server(file: str) -> Places:
    """Return where this host's server keeps its data."""
    settings = settings_of(file)
    told = read_file(settings)
    found = {"tracking": told["MLFLOW_BACKEND_STORE_URI"], "keys": str(settings.parent)}
    if uri := authentication(told).get("database_uri"):
        found["auth"] = uri
    destination, endpoint = told["MLFLOW_ARTIFACTS_DESTINATION"], told.get("MLFLOW_S3_ENDPOINT_URL")
    found["artifacts"] = f"{destination} at {endpoint}" if endpoint else destination
    return found


def of_store(file: str) -> Places:
    """Return where this host's SeaweedFS keeps its objects, by its unit."""
    said = re.search(r" -dir=(\S+)", Path(file).read_text(encoding="utf-8"))
    return {"objects": said[1]} if said else {}


def of_backup(file: str) -> Places:
    """Return where this host's backups go."""
    told = read_file(Path(file))
    place, endpoint = told["MLFLOW_BACKUP_TARGET"], told.get("MLFLOW_BACKUP_S3_ENDPOINT_URL")
    return {"sets": f"{place} at {endpoint}" if endpoint else place}


def of_project(file: str) -> Places:
    """Return where a data scientist's project keeps its runs."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    return {"local": told["MLFLOW_TRACKING_URI"]}


OWNERS = {"server": of_server, "store": of_store, "backup": of_backup, "project": of_project}


def installed(owner: str, file: str) -> Places:
    """Return the addresses of what is installed, with their logins; nothing where nothing is.

    Args:
        owner: whose data it is, of OWNERS.
        file: that says it.
    """
    try:
        return OWNERS[owner](file)
    except (OSError, KeyError, ValueError):  # nothing, or nothing whole: nobody serves from there
        return {}


# Which differ ------------------------------------------------------------------------------------


def bare(address: str) -> str:
    """Return an address without login and driver, for people."""
    return re.sub(r"^postgresql\+\w+:", "postgresql:", re.sub(r"(?<=://)[^@/]*@", "", address))


def here(host: str) -> str:
    """Return '' for a name or an address of this very host, which has several; else the host."""
    if not host or host.startswith("/"):
        return ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return host
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as tried:
            try:
                tried.bind((address[0], 0))
            except OSError:
                return host
    return ""


def key(address: str) -> tuple[Any, ...]:
    """Return what two addresses of one place have in common."""
    address, _, endpoint = bare(address).partition(" at ")
    parts = urlsplit(address)
    if parts.scheme == "postgresql":
        more = {name: values[0] for name, values in parse_qs(parts.query).items()}
        port = parts.port or int(more.get("port", 5432))
        return "postgresql", here(parts.hostname or more.get("host", "")), port, parts.path
    if parts.scheme == "s3":
        store = urlsplit(endpoint)
        opened = store.port or {"http": 80, "https": 443}.get(store.scheme)
        where = here(store.hostname) if store.hostname else "amazon"
        return "s3", parts.netloc, parts.path.strip("/"), where, opened
    if path := path_of(address):
        return parts.scheme == "sqlite", os.path.realpath(path)
    return parts.scheme, parts.netloc, parts.path


def path_of(address: str) -> str:
    """Return the path that a file's or a directory's address is of; '' for one elsewhere."""
    if address.startswith("sqlite:"):
        return address[len("sqlite:///") :]
    if address.startswith("file:"):
        return unquote(urlsplit(address).path)
    return address if address.startswith("/") else ""


def moved(before: Places, wanted: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return which places differ, each with `old` and `new`, for people."""
    return {
        name: {"old": bare(old), "new": bare(wanted[name])}
        for name, old in before.items()
        if wanted.get(name) and key(old) != key(wanted[name])
    }


# What is there -----------------------------------------------------------------------------------


@dataclass
class Held:
    """What a place has.

    Attributes:
        counts: how many of each kind.
        some: names of some of it.
        lacks: how many of another place's `some` it has not.
        absent: whether it is not there at all.
        why: a sentence where that cannot be told.
    """

    counts: dict[str, int] = field(default_factory=dict)
    some: list[str] = field(default_factory=list)
    lacks: int = 0
    absent: bool = False
    why: str = ""

    def __str__(self) -> str:
        """Return it as people say it."""
        if self.why:
            return f"cannot be looked at: {self.why}"
        if self.absent:
            return "not there"
        made = mlflow_internals.of_people(self.counts)
        said = (f"{name.replace('_', ' ')} {count}" for name, count in made.items())
        return ", ".join(said) or "empty"

    @property
    def has(self) -> bool:
        """Whether there is something that somebody would miss."""
        return bool(mlflow_internals.of_people(self.counts))

    def covers(self, old: Held) -> bool:
        """Whether it has all that the old place has; both were looked into."""
        whole = all(self.counts.get(name, 0) >= count for name, count in old.counts.items())
        return not (self.why or self.absent or self.lacks) and whole


@dataclass(frozen=True)
class Asked:
    """What a role says of itself.

    Attributes:
        owner: whose data it is, of OWNERS.
        file: that says what is installed.
        wanted: the places that the inventory names, with logins.
        settings: variables for S3, by the names that boto3 knows.
        user: who may read the places; '' is who looks.
        python: one that has MLflow's drivers.
        variable: with which the word is said.
        word: what it must be.
        given: what it is.
        called: how a playbook is called, with `%s` for its name.
        playbook: the one that sets this up.
    """

    owner: str
    file: str
    wanted: dict[str, str]
    settings: dict[str, str]
    user: str
    python: str
    variable: str
    word: str
    given: str
    called: str
    playbook: str


def held(name: str, address: str, asked: Asked, settings: dict[str, str], some: list[str]) -> Held:
    """Return what is in a place.

    Args:
        name: the place's, of KINDS.
        address: with its login.
        asked: by whom it is read, and how.
        settings: of the service there, for S3.
        some: names, of which is told how many are not there.
    """
    counted = mlflow_internals.COUNTED["auth" if name == "auth" else "tracking"]
    if name == "sets":
        settings = {
            SERVICE_S3[key]: settings[one] for key, one in OUR_S3.items() if one in settings
        }
    question = {
        "address": address,
        "files": KINDS[name][2],
        "counted": {what: (statement.table, statement) for what, statement in counted.items()},
        "runs": [mlflow_internals.NEWEST_RUNS, mlflow_internals.HAS_RUN],
        "some": some,
    }
    try:
        return Held(**ask(question, asked.python, asked.user, settings))
    except Unknown as error:
        return Held(why=str(error))


class Unknown(Exception):
    """A place could not be looked into."""


def ask(
    question: dict[str, Any], python: str, user: str, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return what there.py says of a place.

    Args:
        question: its `address`, and what is asked.
        python: one that has MLflow's drivers.
        user: who may read it; '' is who looks.
        settings: of the service, for S3.

    Raises Unknown where it does not run.
    """
    options: dict[str, Any] = {}
    if os.geteuid() == 0 and user:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            return {"absent": True}
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    aws = {key: value for key, value in settings.items() if re.match("AWS_|MLFLOW_(S3|BOTO)", key)}
    drivers = question["address"].startswith(("postgresql", "s3:"))
    try:
        done = subprocess.run(
            [python if drivers else sys.executable, "-BI", "-"],
            input=inspect.getsource(there), capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PLACE": json.dumps(question), **aws},
            timeout=1800, **options,  # for millions of objects
        )  # fmt: skip
        return dict(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Unknown(f"{python}: {error}") from error


def bare_of_files(settings: dict[str, str], python: str, user: str) -> tuple[int, list[str]]:
    """Return of how many of the newest runs and models there must be artifacts, and whose are not.

    Args:
        settings: the service's.
        python: its own.
        user: its own.

    Raises Unknown where that cannot be looked at.
    """
    newer, older = (mlflow_internals.HAVING_FILES[new] for new in (True, False))
    question: dict[str, Any] = {"having_files": {"newer": newer, "older": older}}
    question["address"] = settings["MLFLOW_BACKEND_STORE_URI"]
    named = ask(question, python, user, settings)
    destination = settings["MLFLOW_ARTIFACTS_DESTINATION"]
    # What is elsewhere was put there by somebody who named that place.
    where = {
        urlsplit(address).path.strip("/"): name
        for name, address in named.get("named", [])
        if address.startswith("mlflow-artifacts:")
    }
    found = ask({"address": destination, "bare": [*where]}, python, user, settings)
    for said in (named, found):
        if why := said.get("why") or ("it is not there" if said.get("absent") else ""):
            raise Unknown(why)
    return len(where), [where[path] for path in found["bare"]]


# What is said -------------------------------------------------------------------------------------


def along(asked: Asked, places: dict[str, dict[str, str]]) -> list[str]:
    """Return what to do to take the data along: commands, or why there is none."""
    pairs = [(path_of(one["old"]), path_of(one["new"])) for one in places.values()]
    kinds = {
        (one["old"].partition(":")[0], one["new"].partition(":")[0]) for one in places.values()
    }
    if asked.owner == "project":
        if kinds == {("file", "sqlite")}:
            (old, new), quoted = pairs[0], shlex.quote
            return [
                f"mlflow migrate-filestore --source {quoted(str(Path(old).parent))} --target "
                f"{quoted(f'sqlite:///{new}')}   in the project, after: source activate",
                f"{asked.called % asked.playbook} again, which sees that all is there",
            ]
        return ["MLflow has no command for that way. Go on with what there is, in the old place."]
    if ("sqlite", "postgresql") in kinds or ("postgresql", "sqlite") in kinds:
        return [
            "Nothing here takes SQLite to PostgreSQL or back: leave this host what it has, and "
            f"give {asked.playbook} a host of its own."
        ]
    if all(old and new for old, new in pairs):
        unit = {"server": "mlflow", "store": "seaweedfs"}.get(asked.owner)
        commands = [f"systemctl stop {unit}"] if unit else []
        owner = f"-o {asked.user} -g {asked.user} " if asked.user else ""
        for name, (old, new) in zip(places, pairs, strict=True):
            if name in ("tracking", "auth"):
                commands += [
                    f"install -d {owner}-m 0750 {Path(new).parent}",
                    f'for end in "" -wal; do if [ -e {old}$end ]; then cp -a {old}$end {new}$end; '
                    "fi; done",
                ]
            else:
                hers = owner if name != "keys" else ""
                commands += [f"install -d {hers}-m 0750 {new}", f"cp -a {old}/. {new}"]
        again = f"{asked.called % asked.playbook} again, which sees that all is there"
        return [*dict.fromkeys(commands), again]
    if asked.owner == "backup":
        return ["copy all that is in the old place (cp -a, rclone sync), and run this again"]
    return [
        f"{asked.called % 'backup'}   and nobody logs anything from then on",
        f"{asked.called % asked.playbook} -e {asked.variable}={asked.word}",
        f"{asked.called % 'restore'}",
    ]


def refusal(asked: Asked) -> str:
    """Return why this host must not be set up as the inventory says; '' where nothing is lost."""
    before = installed(asked.owner, asked.file)
    places = moved(before, asked.wanted)
    if not places or asked.given == asked.word:
        return ""
    if asked.owner == "server" and lock.unfinished():
        return (
            "A switch to another version or other data is not finished on this host, so that its "
            "data may lie aside. Have it ended first: systemctl start mlflow-switch; what it waits "
            "for says journalctl -u mlflow-switch."
        )
    files = {"server": settings_of(asked.file), "backup": Path(asked.file)}
    told = read_file(files[asked.owner]) if asked.owner in files else {}
    # A key of S3 that is made on the host is not known yet.
    fresh = told | {name: str(value) for name, value in asked.settings.items() if value}
    with contextlib.suppress(installation.NotInstalled):
        if asked.owner == "server":
            now = installation.read()
            asked = replace(asked, user=now.user, python=str(now.python))
    lost: dict[str, dict[str, str]] = {}
    lines: list[str] = []
    for name, place in places.items():
        old = held(name, before[name], asked, told, [])
        new = held(name, asked.wanted[name], asked, fresh, old.some)
        # A disk that is not mounted? What people delete by themselves is their own.
        odd = old.absent and not new.has and asked.owner in ("server", "store")
        if not (old.why or old.has or odd) or new.covers(old):
            continue
        lost[name] = place
        what, variables, _ = KINDS[name]
        if name != "sets":
            variables = VARIABLES.get(place["new"].partition(":")[0], variables)
        lines += [
            f"  {what}: {place['old']} ({old})",
            f"    would be {place['new']} ({new}), by {variables}",
        ]
    if not lost:
        return ""
    return "\n".join([
        "The data of this host is not where the inventory leads, and would be out of sight:",
        *lines,
        "  To go on as it was, set the variables back. To take the data along:",
        *(f"    {line}" for line in along(asked, lost)),
        f"  To begin afresh, and leave it where it is: -e {asked.variable}={asked.word}",
    ])  # fmt: skip
