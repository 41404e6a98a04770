"""Serve models of an MLflow registry on this host, each version by a process of its own.

  mlflow-model status   what is served here, for people

What the role does is apply(), for the module mlflow_model.

ROOT/deployments/<name>-<version>-<digest>/   a version as it is to run: deployment.json, model/,
                                              and links: environment, http.sock
ROOT/environments/<digest>/                   packages of models that bring their own
ROOT/serving/<name>                           a link to the deployment that has the traffic

A deployment is never changed: another version, or another setting, is another deployment. It starts
beside the old one, predicts (check.py, in the unit's start), and only then `serving/<name>`,
through which nginx finds the socket, is moved, in one step. The old one is stopped when what it was
asked is answered. A deployment that does not come up is removed, and nobody has seen it. Killed at
any step, the next run finishes or undoes it.

Run by the host's own Python, as root: standard library only, nothing newer than Python 3.9.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import selectors
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..client import only_to_service
from ..host import units
from ..installation import RECORD

ROOT = Path("/var/lib/mlflow-models")
RUNTIME = Path("/run/mlflow-model")
UNITS = Path("/etc/systemd/system")
TIMEOUT = 60.0  # seconds that the tracking server may take to answer
MOST = 1_000_000  # bytes that a command may say, and a model leave for root to read
LONGEST = 4 * 3600.0  # seconds that a command may take, of which fetching a model is the slowest
# What a model may be allowed beyond the unit's sandbox.
ALLOWANCES = {
    "network": "PrivateNetwork=no\nIPAddressDeny=\n"
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n",
    "jit": "MemoryDenyWriteExecute=no\n",
}
# What decides how a deployment runs, of what the role asks.
SETTINGS = (
    "workers", "memory_mb", "allow", "timeout_seconds", "start_seconds", "request", "predictions",
    "environment",
)  # fmt: skip

Asked = dict[str, Any]


class Refused(Exception):
    """It cannot be done; the message is a sentence for people."""


class Unreachable(Refused):
    """The tracking server does not answer at all."""


def run(*command: str | Path, input: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says.

    It may open what somebody else has made, as the models' user. Raises Refused, and ends it, where
    that has no end.
    """
    words = [*map(str, command)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, start_new_session=True, **pipes, **options) as process:
        try:
            stdout, stderr = heard(process, input.encode())
        except Refused as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise Refused(f"{error} {' '.join(words)[:500]}") from None
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def heard(process: subprocess.Popen[bytes], told: bytes) -> tuple[str, str]:
    """Return what a process says until its end. Raises Refused where there is none."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 for the types
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(told)  # so little that nobody need read it first
    said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    deadline = time.monotonic() + LONGEST
    endless = Refused(f"This had no end after {LONGEST:.0f} s, and was ended:")
    with selectors.DefaultSelector() as ready:
        for stream in said:
            ready.register(stream, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select(max(deadline - time.monotonic(), 0)):
                more = os.read(key.fd, 1 << 16)
                said[key.fd] += more
                if not more:
                    ready.unregister(key.fd)
            if max(map(len, said.values())) > MOST:
                raise Refused(f"This said more than {MOST} bytes, and was ended:")
            if time.monotonic() > deadline:
                raise endless
    try:  # one that has closed what it speaks through may go on
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise endless from None
    stdout, stderr = (text.decode(errors="replace") for text in said.values())
    return stdout, stderr


def unit(instance: str) -> str:
    """Return the name of a deployment's unit."""
    return f"mlflow-model@{instance}.service"


def state(instance: str) -> dict[str, str]:
    """Return what systemd says of a deployment's unit."""
    properties = (
        "ActiveState", "UnitFileState", "MainPID", "ActiveEnterTimestamp", "Result",
        "ExecMainStatus",
    )  # fmt: skip
    return units.ask(unit(instance), *properties, times="pretty")


# the registry ------------------------------------------------------------------------------------


class Registry:
    """The tracking server's registry, asked over HTTP."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def get(self, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of an answer. Raises Unreachable."""
        url = urlsplit(self.asked["tracking_uri"])
        headers = {}
        if self.asked["username"]:
            login = f"{self.asked['username']}:{self.asked['password']}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
        try:
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT)
            if url.scheme == "https":
                context = ssl.create_default_context(cafile=self.asked["ca"] or None)
                connection = http.client.HTTPSConnection(
                    url.hostname or "", url.port, timeout=TIMEOUT, context=context
                )
            target = f"{url.path.rstrip('/')}/api/2.0/mlflow/{path}?{urlencode(query)}"
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"The tracking server {self.asked['tracking_uri']} "
                f"(mlflow_model_serving_tracking_uri) does not answer: {error}."
            ) from error
        if answer.status >= http.client.INTERNAL_SERVER_ERROR:  # its proxy, or it itself
            raise Unreachable(
                f"The tracking server {self.asked['tracking_uri']} "
                f"(mlflow_model_serving_tracking_uri) does not work: HTTP {answer.status}."
            )
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, {"message": content.decode(errors="replace")[:200]}

    def version(self) -> dict[str, Any]:
        """Return the model version that is asked for: name, version, run_id, created.

        Raises Refused, with what there is instead.
        """
        name, alias, number = parsed(self.asked["model"])
        if alias:
            status, said = self.get("registered-models/alias", name=name, alias=alias)
        else:
            status, said = self.get("model-versions/get", name=name, version=number)
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            who = self.asked["username"] or "people without a name"
            raise Refused(
                f"The tracking server does not let {who} (mlflow_model_serving_username) read it: "
                f"HTTP {status} {said.get('message', '')}"
            )
        if status != http.client.OK:
            words = said.get("message", f"HTTP {status}").rstrip(".")
            raise Refused(
                f"The registry of {self.asked['tracking_uri']} does not have it: {words}. "
                + self.there_is(name)
            )
        found = said["model_version"]
        if found.get("status", "READY") != "READY":
            raise Refused(
                f"It is version {found['version']}, which is {found['status']}, not READY."
            )
        return {
            "name": name,
            "version": str(found["version"]),
            "run_id": found.get("run_id", ""),
            "created": str(found.get("creation_timestamp", "")),
        }

    def there_is(self, name: str) -> str:
        """Return a sentence that says which versions and aliases a model has."""
        status, said = self.get("registered-models/get", name=name)
        if status != http.client.OK:
            return "There is no registered model of that name."
        model = said.get("registered_model", {})
        aliases = [f"@{entry['alias']}" for entry in model.get("aliases", [])]
        newest = [entry["version"] for entry in model.get("latest_versions", [])]
        known = ", ".join(aliases) or "none"
        return f"Its aliases: {known}; its newest version: {', '.join(newest) or 'none'}."


def parsed(model: str) -> tuple[str, str, str]:
    """Return the name, alias and version in models:/<name>@<alias> or models:/<name>/<version>."""
    found = re.fullmatch(r"models:/([^/:]+?)(?:@([^/:@]+)|/(\d+))", model)
    if not found:
        raise Refused(f"{model} (mlflow_model_serving_model) names no model version.")
    return found[1], found[2] or "", found[3] or ""


# deployments on this host ------------------------------------------------------------------------


class Host:
    """The deployments that are on this host."""

    def __init__(self, root: Path) -> None:
        self.root, self.deployments = root, root / "deployments"
        self.environments, self.links = root / "environments", root / "serving"

    def of(self, name: str) -> list[str]:
        """Return the deployments of a name: those with files, and those that systemd knows."""
        listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend",
                     f"mlflow-model@{name}-*.service").stdout  # fmt: skip
        units = {line.split()[0][len("mlflow-model@") : -len(".service")]
                 for line in listed.splitlines()}  # fmt: skip
        names = units | {path.name for path in self.deployments.glob(f"{name}-*")}
        return sorted(
            each for each in names if re.fullmatch(rf"{re.escape(name)}-\d+-\w{{8}}", each)
        )

    def serving(self, name: str) -> str:
        """Return the deployment that has the traffic, or ''."""
        link = self.links / name
        return link.readlink().name if link.is_symlink() else ""

    def record(self, instance: str) -> dict[str, Any]:
        """Return a deployment's record; nothing where there is no such deployment."""
        file = self.deployments / instance / "deployment.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def drop_in(self, instance: str) -> Path:
        """Return the directory of a unit's own settings."""
        return UNITS / f"{unit(instance)}.d"

    def remove(self, instance: str) -> None:
        """Remove a deployment, whatever of it there is."""
        run("systemctl", "disable", "--quiet", "--now", unit(instance))
        run("systemctl", "reset-failed", unit(instance))
        shutil.rmtree(self.drop_in(instance), ignore_errors=True)
        shutil.rmtree(self.deployments / instance, ignore_errors=True)

    def last_used(self, instance: str) -> float:
        """Return the time until which a deployment had the traffic."""
        file = self.deployments / instance / "deployment.json"
        return file.stat().st_mtime if file.exists() else 0.0

    def tidy(self) -> None:
        """Remove deployments that were not finished, and environments that none leads to."""
        for path in self.deployments.glob(".new-*"):
            shutil.rmtree(path)
        used = {os.path.realpath(link) for link in self.deployments.glob("*/environment")}
        environments = [path for path in self.environments.glob("*") if path.name != ".cache"]
        for path in environments:
            if str(path.resolve()) not in used:
                shutil.rmtree(path)
        if not any(str(path.resolve()) in used for path in environments):
            shutil.rmtree(self.environments / ".cache", ignore_errors=True)  # uv's


class Deployment:
    """One version of a model as it is to run here."""

    def __init__(self, host: Host, asked: Asked, version: dict[str, Any]) -> None:
        self.host, self.asked, self.version = host, asked, version
        self.python, shared = Path(asked["mlflow"], "bin/python"), asked["environment"] == "shared"
        programs = [
            Path(asked["tools"], "mlflow_ops/models", name) for name in ("app.py", "check.py")
        ]
        programs.append(UNITS / "mlflow-model@.service")
        runs = {
            "version": version,
            "settings": {name: asked[name] for name in SETTINGS},
            "python": os.path.realpath(asked["mlflow"] if shared else self.python),
            "programs": [path.read_text(encoding="utf-8") for path in programs if path.exists()],
        }
        digest = hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()[:8]
        self.instance = f"{asked['name']}-{version['version']}-{digest}"
        self.path = host.deployments / self.instance

    def as_user(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as the models' user, who owns nothing but their files."""
        user = ("runuser", f"--user={self.asked['user']}", "--")
        # A cache of root's is none of hers.
        names = {"HOME": "/nonexistent", "UV_CACHE_DIR": str(self.host.environments / ".cache")}
        options.setdefault("env", {**os.environ, **names})
        return run(*user, *command, cwd="/", **options)

    def program(self, python: Path, command: str, directory: Path, **options: Any) -> Any:
        """Run models/files.py."""
        files = (python, "-I", self.asked["tools"], "model-files", command, directory)
        return self.as_user(*files, **options)

    # files, environment

    def prepare(self) -> None:
        """Bring the files and the environment. Raises Refused."""
        fresh = self.host.deployments / f".new-{self.instance}"
        fresh.mkdir(mode=0o755)
        model = fresh / "model"
        model.mkdir(mode=0o700)
        shutil.chown(model, self.asked["user"], self.asked["user"])
        self.bring_files(model)
        environment, python = self.environment(model)
        (fresh / "environment").symlink_to(environment)
        (fresh / "http.sock").symlink_to(f"/run/mlflow-model/{self.instance}/http.sock")
        record = fresh / "deployment.json"
        record.touch(mode=0o640)
        shutil.chown(record, "root", self.asked["user"])
        settings = {name: self.asked[name] for name in SETTINGS}
        content = {"of": self.version, **settings, "other_python": python}
        record.write_text(json.dumps(content, indent=1), encoding="utf-8")
        fresh.rename(self.path)  # last: what was begun and not finished has another name

    def bring_files(self, model: Path) -> None:
        """Fetch the version's files; or take them from a deployment of it that is here."""
        for other in self.host.of(self.asked["name"]):
            if self.host.record(other).get("of") == self.version:
                files = self.host.deployments / other / "model"
                if self.as_user("cp", "-R", "--link", f"{files}/.", model).returncode == 0:
                    return
        told = {name: self.asked[name] for name in ("tracking_uri", "username", "password", "ca")}
        told["model"] = f"models:/{self.version['name']}/{self.version['version']}"
        done = self.program(self.python, "fetch", model, input=json.dumps(told))
        if done.returncode or not (model / "MLmodel").exists():
            raise Refused(
                f"Its files could not be fetched from {told['tracking_uri']}: "
                f"{last_line(done.stderr)}"
            )

    def environment(self, model: Path) -> tuple[Path, str]:
        """Return where the model is to run, and the Python that it was logged with if another.

        Raises Refused if it cannot run there.
        """
        if self.asked["environment"] == "own":
            path = self.own_environment(model)
            remedy = "Log the model again with what it really needs."
        else:
            path = Path(os.path.realpath(self.asked["mlflow"]))
            remedy = (
                "Set mlflow_model_serving_environment: own, which gives it packages of its own; "
                "or log the model again in an environment like the server's."
            )
        done = self.program(path / "bin/python", "needs", model)
        if done.returncode:
            raise Refused(f"{path}/bin/python does not run: {last_line(done.stderr)}")
        needs = json.loads(done.stdout)
        if unmet := needs["unmet"]:
            raise Refused(f"{path} does not have what it requires: {'; '.join(unmet)}. {remedy}")
        return path, needs["python"]

    def own_environment(self, model: Path) -> Path:
        """Return an environment made from the model's requirements, making it where it is not."""
        file = model / "requirements.txt"
        if self.as_user("test", "-f", file).returncode:
            raise Refused(
                "It has no requirements.txt that packages of its own could be made from. Set "
                "mlflow_model_serving_environment: shared."
            )
        # The files are the models' user's, and so is the environment: root opens and makes none.
        uv = self.python.with_name("uv")
        wanted = self.as_user("cat", "--", file).stdout.encode()
        python = os.path.realpath(self.python)
        digest = hashlib.sha256(wanted + python.encode()).hexdigest()[:12]
        path = self.host.environments / digest
        if self.as_user("test", "-f", path / ".complete").returncode == 0:
            return path
        for place in (self.host.environments / ".cache", path):
            place.mkdir(mode=0o755, exist_ok=True)
            shutil.chown(place, self.asked["user"], self.asked["user"])
        installer = {"UV_SYSTEM_CERTS": "true", "UV_PYTHON_DOWNLOADS": "never"}
        installer |= {name: value for name, value in {
            "UV_DEFAULT_INDEX": self.asked["index_url"], "SSL_CERT_FILE": self.asked["ca_bundle"],
            "HTTP_PROXY": self.asked["proxy"], "HTTPS_PROXY": self.asked["proxy"],
            "HOME": "/nonexistent", "UV_CACHE_DIR": str(self.host.environments / ".cache"),
        }.items() if value}  # fmt: skip
        for command in (
            (uv, "venv", "--quiet", "--clear", "--python", python, path),
            # Wheels alone: nothing that a model names is run while it is installed.
            (uv, "pip", "install", "--quiet", "--python", path / "bin/python",
             "--only-binary=:all:", "--compile-bytecode", "--requirement", file),
        ):  # fmt: skip
            done = self.as_user(*command, env={**os.environ, **installer})
            if done.returncode:
                raise Refused(
                    "The packages that it requires cannot be installed: "
                    f"{' '.join(done.stderr.split())[-600:]} The index is "
                    f"mlflow_model_serving_index_url ({self.asked['index_url'] or 'PyPI'})."
                )
        self.as_user("touch", path / ".complete")
        return path

    # the unit

    def start(self) -> None:
        """Start it, which includes that it predicts. Raises Refused with the journal's words."""
        memory = self.asked["memory_mb"]
        lines = [
            "[Service]",
            f"Environment=WEB_CONCURRENCY={self.asked['workers']}",
            f"Environment=MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT={self.asked['timeout_seconds']}",
            f"Environment=UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN={self.asked['timeout_seconds']}",
            f"Environment=MODEL_START_SECONDS={self.asked['start_seconds']}",
            f"TimeoutStartSec={self.asked['start_seconds'] + 30}",
            f"TimeoutStopSec={self.asked['timeout_seconds'] + 5}",
            *([f"MemoryMax={memory}M"] if memory else []),
            *(ALLOWANCES[name] for name in sorted(self.asked["allow"])),
        ]
        drop_in = self.host.drop_in(self.instance)
        drop_in.mkdir(exist_ok=True)
        (drop_in / "deployment.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", unit(self.instance))
        since = f"--since=@{time.time() - 1:.0f}"
        if run("systemctl", "start", unit(self.instance)).returncode:
            said = last_words(self.instance, since)
            run("systemctl", "stop", unit(self.instance))
            if python := self.host.record(self.instance).get("other_python"):
                said += (
                    f"\nIt was logged with Python {python}, which may be why: code that is kept as "
                    "a pickle is for one Python. Log it with this host's, or from code."
                )
            raise Refused(f"{said}\nAll that it said: journalctl -u {unit(self.instance)}")

    def proof(self) -> dict[str, Any]:
        """Return what it was asked when it started, and what it answered."""
        file = RUNTIME / self.instance / "proof.json"
        # The directory was the model's: no link of its making is followed.
        if not file.is_file() or file.is_symlink():
            return {}
        with file.open(encoding="utf-8") as text:
            said = text.read(MOST + 1)
        try:
            return dict(json.loads(said))
        except (ValueError, TypeError, RecursionError):  # cut off, or none
            return {"source": "with a request that is too long to be shown"}


def last_line(text: str) -> str:
    """Return the last line of what a program said."""
    return shown((text.strip().splitlines() or ["it said nothing"])[-1].strip())


def shown(line: str) -> str:
    """Return a line of somebody else's as people are shown it: none is endless or obeyed."""
    return "".join(letter if letter.isprintable() else "?" for letter in line[:500])


def last_words(instance: str, since: str) -> str:
    """Return what a unit said of a start that failed: our own sentence, or else its last lines."""
    journal = ("journalctl", "--no-pager", "--output=cat", since, f"_SYSTEMD_UNIT={unit(instance)}")
    ended = state(instance)
    if ended["Result"] == "oom-kill":
        return "It took more memory than mlflow_model_serving_memory_mb."
    if ended["Result"] in ("signal", "core-dump"):
        return f"It crashed: {signal.Signals(int(ended['ExecMainStatus'])).name}."
    if said := run(*journal, "--priority=err..err", "--lines=1").stdout.strip():
        return shown(said)
    lines = run(*journal, "--lines=8").stdout.strip().splitlines()[-8:] or ["(nothing)"]
    return "\n  ".join(["It does not start. Its last lines:", *map(shown, lines)])


def switch(host: Host, name: str, instance: str) -> None:
    """Give a name's traffic to a deployment, in one step."""
    fresh = host.links / f".{name}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(f"../deployments/{instance}")
    fresh.replace(host.links / name)


def retire(host: Host, instance: str, seconds: int) -> None:
    """Stop a deployment that gets no new requests, once those it has are answered."""
    socket, now = f"/run/mlflow-model/{instance}/http.sock", state(instance)
    deadline = time.monotonic() + seconds
    tables = [Path("/proc", process, "net/unix") for process in ("self", now["MainPID"] or "0")]
    while time.monotonic() < deadline:
        # Its listening socket has the flag 00010000, each connection with the same path none.
        lines = [line.split() for table in tables if table.exists()
                 for line in table.read_text(encoding="utf-8").splitlines()]  # fmt: skip
        if not [line for line in lines if line[-1] == socket and line[3] != "00010000"]:
            break
        time.sleep(0.1)
    run("systemctl", "disable", "--quiet", unit(instance))
    run("systemctl", "stop", unit(instance))
    run("systemctl", "reset-failed", unit(instance))
    with contextlib.suppress(FileNotFoundError):  # the time until which it had the traffic
        os.utime(host.deployments / instance / "deployment.json")


# what is asked -----------------------------------------------------------------------------------


def find_version(host: Host, asked: Asked) -> dict[str, Any]:
    """Return the version that is asked for; one that is on this host needs no registry."""
    try:
        return Registry(asked).version()
    except Unreachable:
        name, _, number = parsed(asked["model"])
        for instance in host.of(asked["name"]):
            of: dict[str, Any] = host.record(instance).get("of", {})
            if number and (of.get("name"), of.get("version")) == (name, number):
                return of
        raise


def tell_the_service_alone() -> None:
    """Have no person's program here told a password: while the server is down, its port is free."""
    if RECORD.parent.is_dir():  # this is the server's host
        only_to_service()


def deploy(host: Host, asked: Asked, answer: dict[str, Any]) -> None:
    """Have a model version served. Raises Refused, with everything as it was."""
    if asked["username"]:
        tell_the_service_alone()
    name, done = asked["name"], answer["actions"]
    version = find_version(host, asked)
    wanted, before = Deployment(host, asked, version), host.serving(name)
    replaced = host.record(before).get("of", {}).get("version", "")
    answer |= {"instance": wanted.instance, "version": version["version"]}
    runs = state(wanted.instance)["ActiveState"] == "active"
    if wanted.instance != before:
        instead = "in place of itself, with other settings"
        if replaced != version["version"]:
            instead = f"in place of version {replaced}" if replaced else "for the first time"
        done.append(f"version {version['version']} is served, {instead}")
    elif not runs:
        done.append(f"version {version['version']} is started, which did not run")
    if asked["check"]:
        return
    if not wanted.python.exists():
        raise Refused(
            f"There is no {wanted.python} (mlflow_model_serving_shared_environment) to fetch it "
            "with: MLflow comes with the scenario's playbook."
        )
    if not wanted.path.exists():
        wanted.prepare()
    if not runs:
        try:
            wanted.start()
        except Refused:
            if wanted.instance != before:  # which has the traffic, such as it is
                host.remove(wanted.instance)
            raise
    answer["proof"] = wanted.proof()
    if state(wanted.instance)["UnitFileState"] != "enabled":
        run("systemctl", "enable", "--quiet", unit(wanted.instance))
    if wanted.instance != before:
        switch(host, name, wanted.instance)
    others = [other for other in host.of(name) if other != wanted.instance]
    for other in others:
        now = state(other)
        if now["ActiveState"] != "inactive" or now["UnitFileState"] == "enabled":
            retire(host, other, asked["timeout_seconds"])
    others.sort(key=host.last_used, reverse=True)
    for other in others[asked["keep"] :]:
        done.append(f"the files of {other} are removed")
        host.remove(other)
    kept = {host.record(other).get("of", {}).get("version") for other in others[: asked["keep"]]}
    answer["kept"] = sorted(kept - {version["version"], None}, key=int)


def withdraw(host: Host, asked: Asked, answer: dict[str, Any]) -> None:
    """Serve a name no longer, and remove its files."""
    deployments = host.of(asked["name"])
    if deployments or host.serving(asked["name"]):
        answer["actions"].append(f"{asked['name']} is served no longer, and its files are removed")
    if asked["check"]:
        return
    (host.links / asked["name"]).unlink(missing_ok=True)
    for instance in deployments:
        if state(instance)["ActiveState"] == "active":
            retire(host, instance, asked["timeout_seconds"])
        host.remove(instance)


@contextlib.contextmanager
def alone(host: Host) -> Iterator[None]:
    """Wait until no other run of this program changes anything, and leave no half-made things."""
    for directory in (host.root, host.deployments, host.environments, host.links):
        directory.mkdir(mode=0o755, exist_ok=True)
    with (host.root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host.tidy()  # what a killed run has left
        try:
            yield
        finally:
            host.tidy()


def apply(asked: Asked) -> dict[str, Any]:
    """Do what is asked for; return what was done."""
    answer: dict[str, Any] = {"actions": [], "error": ""}
    host = Host(Path(asked["root"]))
    os.umask(0o022)  # others pass through these directories; what is closed has a mode that says so
    try:
        with contextlib.nullcontext() if asked["check"] else alone(host):
            (withdraw if asked["state"] == "absent" else deploy)(host, asked, answer)
    except (Refused, OSError) as reason:
        serving = host.serving(asked["name"])
        answer["actions"].clear()
        if asked["dry_run"] and isinstance(reason, Unreachable):
            answer["actions"].append("it is looked up in a registry that cannot be asked yet")
        else:
            answer["error"] = str(reason)
        if serving and state(serving)["ActiveState"] == "active":
            answer["serving"] = host.record(serving).get("of", {})
    return {"changed": bool(answer["actions"]), **answer}


def status(root: Path) -> None:
    """Print what is served here, for people."""
    host = Host(root)
    names = sorted(link.name for link in host.links.glob("*"))
    if not names:
        print(f"No model is served from {root}.")
    for name in names:
        instance = host.serving(name)
        of, now = host.record(instance).get("of", {}), state(instance)
        print(f"{name}: version {of.get('version')} of {of.get('name')}, {now['ActiveState']} "
              f"since {now['ActiveEnterTimestamp']}")  # fmt: skip
        print(f"  journalctl -u {unit(instance)}")
        kept = [other for other in host.of(name) if other != instance]
        if kept:
            print(f"  kept: {', '.join(kept)}")


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["status"])
    parser.add_argument("--root", type=Path, default=ROOT, help="default: %(default)s")
    status(parser.parse_args().root)
