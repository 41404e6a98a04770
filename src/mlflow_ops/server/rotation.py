"""Change secrets of this host's MLflow service, so that it has the old pair or the new, never half.

  look    tell, as JSON, which of the secrets that are asked for have to be left as they are
  begin   write down the old and the new ones, unless a rotation is under way: then it goes on
  change  give the new ones to the service; where it is not ready with them, the old ones again
  back    give it the old ones again
  prove   see that the old ones are refused
  end     forget the old ones

The second argument is the directory of the service's settings. `look` and `begin` read a JSON
object on standard input: secrets (names) and given (the new value by name; others are made).

What is written down is rotation.env. While it is there each start of the service knows both sides
(reconcile.py), whichever of them the database has: so each step may be cut off anywhere, and the
service starts. Servers that share a database share this file, which the first of them makes.

Run as root, by the Python of the service's environment.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import signal
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import installation, program
from ..client import Server
from ..database import WRONG_PASSWORD, connect, refused
from ..host import units
from ..lock import PATIENCE, data_lock
from ..settings import authentication, read_file, rotation, with_password

UNIT = "mlflow.service"
LETTERS = string.ascii_letters + string.digits
S3 = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
KEK_VERSION = "MLFLOW_CRYPTO_KEK_VERSION"


class Refused(Exception):
    """What cannot be, in a sentence for people."""


def made(length: int) -> str:
    """Return a new secret."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


class Service:
    """The settings of the service, and what secrets they hold."""

    def __init__(self, directory: Path) -> None:
        self.env, self.keys = directory / "server.env", directory / "secrets.env"
        self.password, self.record = directory / "admin_password", directory / "rotation.env"
        self.settings = read_file(self.env)
        self.auth = Path(self.settings.get("MLFLOW_AUTH_CONFIG_PATH", ""))
        self.sides: list[dict[str, Any]] = []
        if self.record.exists():
            self.sides = rotation(read_file(self.record))

    def present(self) -> dict[str, Any]:
        """Return its secrets by name; for one that it has not, nothing."""
        database = urlsplit(self.settings["MLFLOW_BACKEND_STORE_URI"]).password
        key = {part: self.settings.get(name, "") for part, name in S3.items()}
        return {
            "database_password": unquote(database or ""),
            "s3_key": key if all(key.values()) and "AWS_SESSION_TOKEN" not in self.settings else {},
            "admin_password": authentication(self.settings).get("admin_password", ""),
            "secret_keys": read_file(self.keys),
        }

    def fresh(self, name: str) -> Any:
        """Return a new value of a secret that is made here."""
        if name == "secret_keys":
            version = int(read_file(self.keys).get(KEK_VERSION, 1)) + 1
            return {
                "MLFLOW_CRYPTO_KEK_PASSPHRASE": made(48),
                KEK_VERSION: str(version),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": made(48),
                "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(
                    secrets.token_bytes(32)
                ).decode(),
            }
        return made(24 if name == "admin_password" else 32)

    def files(self, side: dict[str, Any]) -> dict[Path, str]:
        """Return the content that its files have with these secrets, as the role writes them."""
        texts = {path: path.read_text() for path in (self.env, self.auth) if path.is_file()}

        def say(path: Path, line: str, value: str) -> None:
            texts[path], count = re.subn(rf"(?m)^{line}.*$", lambda _: value, texts[path])
            if count != 1:
                raise Refused(f"{path} has no line {line}; it is not as the role writes it.")

        for part, value in side.get("s3_key", {}).items():
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            say(self.env, f"{S3[part]}=", f'{S3[part]}="{quoted}"')
        if password := side.get("database_password"):
            uri = with_password(self.settings["MLFLOW_BACKEND_STORE_URI"], password)
            name = "MLFLOW_BACKEND_STORE_URI"
            say(self.env, f"{name}=", f'{name}="{uri}"')
            if self.auth in texts:
                uri = with_password(authentication(self.settings)["database_uri"], password)
                say(self.auth, "database_uri = ", f"database_uri = {uri.replace('%', '%%')}")
        if password := side.get("admin_password"):
            texts[self.password] = password
        if keys := side.get("secret_keys"):
            remarks = [line for line in self.keys.read_text().splitlines() if line.startswith("#")]
            lines = [*remarks, *(f"{name}={value}" for name, value in keys.items())]
            texts[self.keys] = "\n".join([*lines, ""])
        return texts


def put(path: Path, text: str, like: Path) -> None:
    """Replace a file's content at once, with owner and mode of one that is there."""
    status, fresh = like.stat(), path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode)
        file.write(text)
        os.fsync(file.fileno())
    fresh.replace(path)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def shown(name: str) -> str:
    """Return a property of the unit."""
    return units.ask(UNIT, name)[name]


def restart() -> None:
    """Restart the service, which ends when it is ready. Raises Refused with its last words."""
    if words := units.start(UNIT, "restart", first="^mlflow-ready:"):
        raise Refused(words)


def left(service: Service, asked: dict[str, Any]) -> dict[str, str]:
    """Return which of the secrets that are asked for stay as they are, and why."""
    if str(service.record) not in shown("EnvironmentFiles"):
        raise Refused(f"{UNIT} is older than this rotation: run the scenario's playbook first.")
    if service.auth.is_file() and re.search(r"(?m)^admin_password = \S", service.auth.read_text()):
        raise Refused(f"{service.auth} has the password still: run the scenario's playbook first.")
    present, given, why = service.present(), asked["given"], {}
    absent = {
        "database_password": "there is none: the operating system vouches for the service's user",
        "s3_key": "there is none that lasts: artifacts are not in S3, or a role has access",
        "admin_password": "there is none: authentication is off",
    }
    for name in asked["secrets"]:
        if not present[name]:
            why[name] = absent[name]
        elif given.get(name) == present[name] and not any(name in side for side in service.sides):
            why[name] = (
                "it comes from the inventory, which still has the old one: change it there first"
            )
    return why


def begin(service: Service, asked: dict[str, Any]) -> dict[str, Any]:
    """Write down what changes; return the names, what is left, and for other hosts what is new."""
    why, present, given = left(service, asked), service.present(), asked["given"]
    old, new = service.sides or ({}, {})
    for name in asked["secrets"]:
        if name in why:
            continue
        if name not in new:
            old[name], new[name] = present[name], given.get(name) or service.fresh(name)
        elif name in given and given[name] != new[name]:
            raise Refused(
                f"A rotation of {name} was cut off, and the inventory has another new one since. "
                "Have it say the one before again, and finish that rotation first."
            )
    record = ""
    if new:
        # In single quotes, within which systemd and shells take all characters as they are.
        text = json.dumps({"old": old, "new": new}).replace("'", "\\u0027")
        record = f"MLFLOW_ROTATION='{text}'\n"
        put(service.record, record, like=service.keys)
    password = new.get("database_password", "")
    return {"rotated": [*new], "left": why, "record": record, "database_password": password}


def give(service: Service, side: int) -> dict[str, Any]:
    """Have the service run with the old secrets (0) or the new (1); return how long it was down."""
    wanted = service.files(service.sides[side])
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    for path in stale:
        put(path, wanted[path], like=path)
    started = int(shown("ExecMainStartTimestamp").strip("@") or 0)
    if shown("ActiveState") == "active" and max(map(written, wanted)) <= started:
        return {"down": 0}
    began = time.monotonic()
    restart()
    return {"down": round(time.monotonic() - began, 1)}


def written(path: Path) -> int:
    """Return when a file was written, in seconds."""
    return int(path.stat().st_mtime)


def change(service: Service) -> dict[str, Any]:
    """Give the new secrets to the service. Raises Refused when it has the old ones again."""
    try:
        return give(service, 1)
    except Refused as refusal:
        try:
            give(service, 0)
        except Refused as again:
            raise Refused(
                f"With the new secrets it does not serve:\n{refusal}\nNor with the old ones, which "
                f"it has again:\n{again}"
            ) from refusal
        raise Refused(
            f"With the new secrets it does not serve:\n{refusal}\nIt has the old ones again."
        ) from refusal


def refuses_database(uri: str) -> bool:
    """Tell whether PostgreSQL refuses the password of an address."""
    import psycopg

    try:
        connect(uri).close()
    except psycopg.OperationalError:
        return refused(uri).startswith(WRONG_PASSWORD)
    return False


def refuses_administrator(service: Service, password: str) -> bool:
    """Tell whether the server refuses the administrator with this password."""
    server, name = Server(service.settings), authentication(service.settings)["admin_username"]
    login = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    connection = server.connection()
    connection.request("GET", f"/api/2.0/mlflow/users/get?username={name}",
                       headers={**server.headers, "Authorization": login})  # fmt: skip
    return bool(connection.getresponse().status == http.client.UNAUTHORIZED)


def prove(service: Service) -> list[str]:
    """Try the old secrets; return what is proved. Raises Refused where one still works."""
    old, proved = service.sides[0], []
    if password := old.get("database_password"):
        uri = with_password(service.settings["MLFLOW_BACKEND_STORE_URI"], password)
        if not refuses_database(uri):
            raise Refused("PostgreSQL does not refuse the old password.")
        proved.append("PostgreSQL refuses the old password")
    if password := old.get("admin_password"):
        if not refuses_administrator(service, password):
            raise Refused("MLflow does not refuse the administrator's old password.")
        proved.append("MLflow refuses the administrator's old password")
    if keys := old.get("secret_keys"):
        stored, by_old = opened(service, keys)
        _, by_new = opened(service, service.sides[1]["secret_keys"])
        if by_old:
            raise Refused(f"The old keys still open {by_old} of {stored} stored credentials.")
        lost = f", and could not open the other {stored - by_new} before" if by_new < stored else ""
        proved.append(
            f"the new keys open {by_new} of {stored} stored credentials, the old none{lost}"
        )
    return proved


def opened(service: Service, keys: dict[str, str]) -> tuple[int, int]:
    """Return how many stored credentials there are, and how many of them these keys open."""
    done = run("runuser", f"--user={shown('User')}", "--",
               *program(sys.executable, "reconcile", "--opened"),
               **{**service.settings, **keys})  # fmt: skip
    if done.returncode:
        raise Refused(f"Stored credentials cannot be looked at: {done.stderr.strip()}")
    stored, by_these = done.stdout.split()
    return int(stored), int(by_these)


def act(verb: str, service: Service) -> Any:
    """Do one verb; return its answer. Raises Refused."""
    if verb == "look":
        return {"left": left(service, json.load(sys.stdin))}
    if verb == "begin":
        return begin(service, json.load(sys.stdin))
    if verb == "change":
        return change(service)
    if verb == "back":
        return give(service, 0)
    if verb == "prove":
        return prove(service)
    service.record.unlink(missing_ok=True)
    return {}


def main() -> int:
    """Do what the first argument says; return the exit code."""
    verb = sys.argv[1]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what was begun is finished, whoever hangs up
    try:
        # Databases and keys do not change while a backup copies them.
        with data_lock(0 if verb in ("look", "begin") else PATIENCE):
            answer = act(verb, Service(Path(installation.read().config_dir)))
    except (Refused, installation.NotInstalled, OSError) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0
