"""Serve models of an MLflow registry on this host, each version by a process of its own.

  mlflow-model status   what is served here, for people

What the role does is apply(), for the module mlflow_model.

ROOT/deployments/<name>-<version>-<digest>/   a version as it is to run: deployment.json, model/,
                                              and a link: environment
ROOT/environments/<digest>/                   packages of a model that brings its own
ROOT/serving/<name>                           a link to what the deployment with the traffic has in
                                              RUNTIME: its socket

A model is code of somebody else. Each deployment runs as a user of its own, whom systemd makes for
it, and whatever is done with its files before (files.py) is a step in the same sandbox, as another
such user, who sees nothing of other models. What is finished is root's, in directories of root's:
what a unit does not name, nobody there reads.

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
import pwd
import re
import selectors
import shutil
import signal
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from ..client import only_to_service
from ..host import units
from ..installation import RECORD
from .files import INDEX

ROOT = Path("/var/lib/mlflow-models")
RUNTIME = Path("/run/mlflow-model")
UNITS = Path("/etc/systemd/system")
FINISHED = "[!.]*"  # what was begun and not finished has a name with a dot
STEP = "mlflow-model-step.service"  # what is done with a model's files; one at a time, by the lock
PACKAGES_MB = 2000  # what packages of a model's own may take
# What app.py says of a model that does not start, whichever Python it was logged with.
EXPLAINED = ("nothing is known to ask it", "mlflow_model_serving_system_packages")
MENTIONED = 5  # requirements in one sentence
TIMEOUT = 60.0  # seconds that the tracking server may take to answer
DEEPEST = 100  # directories within one another that a model may have
MOST = 1_000_000  # bytes that a command may say, and a model leave for root to read
LONGEST = 4 * 3600.0  # seconds that a command may take, of which fetching a model is the slowest
# What a model may be allowed beyond the unit's sandbox.
ALLOWANCES = {
    "network": "PrivateNetwork=no\nIPAddressDeny=\n"
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n",
    "jit": "MemoryDenyWriteExecute=no\n",
}
# Of the environment that Ansible gives this, what leads to an index or a store.
WAYS = re.compile(r"(?i)(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|UV_\w+")
# What decides how a deployment runs, of what the role asks.
SETTINGS = (
    "workers", "memory_mb", "allow", "timeout_seconds", "start_seconds", "request", "predictions",
    "proof", "environment",
)  # fmt: skip

Asked = dict[str, Any]


class Refused(Exception):
    """It cannot be done; the message is a sentence for people."""


class Unreachable(Refused):
    """The tracking server does not answer at all."""


def run(
    *command: str | Path, input: str = "", called: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says.

    It may open what somebody else has made, in a sandbox. Raises Refused, and ends it, where that
    has no end; for people it is called so then.
    """
    words = [*map(str, command)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, start_new_session=True, **pipes, **options) as process:
        try:
            stdout, stderr = heard(process, input.encode())
        except Refused as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise Refused(f"{error} {called or ' '.join(words)[:500]}") from None
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


def user(instance: str, step: str = "") -> str:
    """Return the name of the user of a deployment, or of a step before it, whom systemd makes."""
    digest = hashlib.sha256(f"{instance} {step}".encode()).hexdigest()[:12]
    return f"mlflow-model-{digest}"


def taken(tree: Path, group: int | None = None) -> None:
    """Give root a tree that somebody else has made, and let nobody else change it.

    Where his group is named, nothing but his: he may have linked to what is not. What a link leads
    to is left alone. Raises Refused.
    """
    if tree.is_symlink() or not tree.is_dir():
        raise Refused(f"Instead of a directory there is something else: {tree.name}.")
    for directory, directories, files, descriptor in os.fwalk(tree):
        if directory.count("/") > str(tree).count("/") + DEEPEST:
            raise Refused(f"Its files lie in more than {DEEPEST} directories, one in another.")
        for name in (".", *directories, *files):
            how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            try:
                opened = os.open(name, how, dir_fd=descriptor)
            except OSError:  # a link, or a socket
                if group is None:
                    os.chown(name, 0, 0, dir_fd=descriptor, follow_symlinks=False)
                continue
            found = os.fstat(opened)
            if group in (None, found.st_gid):
                runs = stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_IXUSR
                os.fchown(opened, 0, 0)
                os.fchmod(opened, 0o755 if runs else 0o644)
            os.close(opened)


def make(directory: Path, mode: int) -> Path:
    """Make a directory with a mode, whatever the host's umask is, and return it."""
    directory.mkdir(exist_ok=True)
    directory.chmod(mode)
    return directory


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

    def registered(self, name: str) -> str:
        """Return when a registered model was made, by which it is known under another name."""
        _, said = self.get("registered-models/get", name=name)
        return str(said.get("registered_model", {}).get("creation_timestamp", ""))

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

    def identity(self, instance: str) -> list[str]:
        """Return a unit's own settings for who it is, and which packages it sees."""
        environment = (self.deployments / instance / "environment").readlink()
        own = environment.parent == self.environments
        return [
            f"User={user(instance)}",
            *([f"BindReadOnlyPaths={environment}"] if own else []),
        ]

    def set(self, instance: str, name: str, lines: list[str]) -> None:
        """Write some of a unit's own settings."""
        drop_in = make(self.drop_in(instance), 0o755)
        (drop_in / name).write_text("\n".join(["[Service]", *lines]) + "\n", encoding="utf-8")

    def take_over(self) -> None:
        """Give root what was the one user's whom all models had once; they go on as their own."""
        for record in self.deployments.glob(f"{FINISHED}/deployment.json"):
            if not (group := record.stat().st_gid):
                continue
            path, instance = record.parent, record.parent.name
            environment = (path / "environment").readlink()
            if environment.parent == self.environments:
                taken(environment, group)
            taken(path / "model", group)
            self.set(instance, "user.conf", self.identity(instance))
            if self.serving(name := instance.rsplit("-", 2)[0]) == instance:
                switch(self, name, instance)
            record.chmod(0o644)
            os.chown(record, 0, 0)  # last: by this it is known
            run("systemctl", "daemon-reload")

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
        run("systemctl", "stop", STEP)
        used = {os.path.realpath(link) for link in self.deployments.glob(f"{FINISHED}/environment")}
        left = [
            *self.deployments.glob(".new-*"),
            *(path for path in self.environments.glob("*") if str(path.resolve()) not in used),
        ]
        if left:  # however deep somebody has made it
            run("rm", "-rf", "--one-file-system", "--", *left)
        for once in pwd.getpwall():  # whom all models had; refused while one runs as him
            if (once.pw_gecos, once.pw_dir) == ("MLflow models", str(self.root)):
                run("userdel", once.pw_name)


class Deployment:
    """One version of a model as it is to run here."""

    def __init__(
        self, host: Host, asked: Asked, version: dict[str, Any], registered: str = ""
    ) -> None:
        self.host, self.asked, self.version = host, asked, version
        self.registered = registered  # when its registered model was made; a rename leaves that
        self.python, shared = Path(asked["mlflow"], "bin/python"), asked["environment"] != "own"
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

    def step(
        self, *command: str | Path, told: Any = None, network: bool = False, paths: list[str]
    ) -> subprocess.CompletedProcess[str]:
        """Do something with a model's files, in the sandbox that it will run in, and to the end.

        Args:
            command: what; as a user of no rank, of whom nothing is left.
            told: what it reads, as JSON.
            network: whether it has one. Nothing that a model has brought is run by such a step.
            paths: what it sees of the models' directory, as settings of a unit.
        """
        lines = [line for line in self.asked["sandbox"].splitlines() if line and line[0] != "#"]
        lines += [
            "DynamicUser=yes", f"User={user(self.instance, 'step')}",
            "UMask=0000",  # for the next step; nobody else comes there
            "WorkingDirectory=/tmp", "Environment=HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true",
            f"TemporaryFileSystem={self.host.root}:ro", *paths, "KillSignal=SIGKILL",
            f"RuntimeMaxSec={LONGEST:.0f}",
        ]  # fmt: skip
        # In users of one's own, all others are one: whose a port is (client.py) would be unknown.
        lines += (
            ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "PrivateUsers=no"]
            if network
            else ["PrivateNetwork=yes", "IPAddressDeny=any"]
        )
        sandbox = ("systemd-run", "--pipe", "--wait", "--collect", "--quiet",
                   "--service-type=exec", f"--unit={STEP}",
                   *(f"--property={line}" for line in lines))  # fmt: skip
        called = " ".join(map(str, command))
        return run(*sandbox, *command, input=json.dumps(told), called=called, cwd="/")

    def program(self, verb: str, *arguments: str | Path, **options: Any) -> Any:
        """Run files.py, by a Python that no model has brought."""
        files = (self.python, "-I", self.asked["tools"], "model-files", verb, *arguments)
        return self.step(*files, **options)

    # files, environment

    def prepare(self) -> None:
        """Bring the files and the environment. Raises Refused."""
        fresh = make(self.host.deployments / f".new-{self.instance}", 0o755)
        model = fresh / "model"
        self.bring_files(model)
        environment, python, packages = self.environment(model)
        (fresh / "environment").symlink_to(environment)
        record = fresh / "deployment.json"
        settings = {name: self.asked[name] for name in SETTINGS}
        content = {"of": self.version, **settings, "other_python": python, "packages": packages,
                   "registered": self.registered, "sandboxed": True}  # fmt: skip
        record.write_text(json.dumps(content, indent=1), encoding="utf-8")
        record.chmod(0o644)
        fresh.rename(self.path)  # last: what was begun and not finished has another name

    def bring_files(self, model: Path) -> None:
        """Fetch the version's files; or take them from a deployment of it that is here."""
        for other in self.host.of(self.asked["name"]):
            record = self.host.record(other)
            # Of one that was brought outside of a sandbox, other models could write the files.
            if record.get("of") == self.version and record.get("sandboxed"):
                files = self.host.deployments / other / "model"
                shutil.copytree(files, model, symlinks=True, copy_function=os.link)
                return
        told = {name: self.asked[name] for name in ("tracking_uri", "username", "password", "ca")}
        told |= {"model": f"models:/{self.version['name']}/{self.version['version']}"}
        told |= {"settings": ways()}
        make(model, 0o777)  # below what root alone can enter: whoever it is bound for
        done = self.program("fetch", model, told=told, network=True, paths=[f"BindPaths={model}"])
        taken(model)
        if done.returncode or not (model / "MLmodel").exists():
            raise Refused(
                f"Its files could not be fetched from {told['tracking_uri']}: "
                f"{last_line(done.stderr)}"
            )

    def asks(self, verb: str, model: Path, *arguments: Path) -> Any:
        """Return what files.py finds out about a model. Raises Refused."""
        seen = [f"BindReadOnlyPaths={path}" for path in (model, *arguments)]
        done = self.program(verb, model, *arguments, paths=seen)
        try:
            return json.loads(done.stdout)
        except (ValueError, RecursionError):
            raise Refused(
                f"What it requires cannot be read by {self.python}: {last_line(done.stderr)}"
            ) from None

    def environment(self, model: Path) -> tuple[Path, str, str]:
        """Return where the model is to run, the Python that it was logged with, and why there.

        That Python is '' where it is the same; why is in words. Raises Refused if it cannot run.
        """
        how, why = self.asked["environment"], ""
        if how != "own":
            path = Path(os.path.realpath(self.asked["mlflow"]))
            needs = self.asks("needs", model)
            if not needs["unmet"]:
                return path, needs["python"], f"those of {path}"
            lacks = f"{path} does not have what it requires: {listed(needs['unmet'])}."
            if how == "shared":
                raise Refused(
                    f"{lacks} Set mlflow_model_serving_environment: auto, which gives it packages "
                    "of its own; or log the model again in an environment like the server's."
                )
            why = f" {lacks}"
        try:
            path = self.own_environment(model)
        except Refused as error:
            raise Refused(f"{error}{why}") from None
        needs = self.asks("needs", model, path)
        if needs["unmet"]:
            raise Refused(
                f"{path} does not have what it requires: {listed(needs['unmet'])}. Log the model "
                "again with what it really needs."
            )
        return path, needs["python"], f"its own.{why}".rstrip(".")

    def own_environment(self, model: Path) -> Path:
        """Return an environment made from the model's requirements, making it where it is not.

        No other model's, whatever they say: they may name what lies among the model's files.
        """
        if (wanted := self.asks("wants", model)) is None:
            raise Refused(
                "It has no requirements.txt that packages of its own could be made from. Set "
                "mlflow_model_serving_environment: shared."
            )
        python = os.path.realpath(self.python)
        of = json.dumps([self.asked["name"], self.version["name"], wanted, python])
        path = self.host.environments / hashlib.sha256(of.encode()).hexdigest()[:12]
        if path.exists():
            return path
        free = shutil.disk_usage(self.host.root).free // 1_000_000
        if free < PACKAGES_MB:
            raise Refused(
                f"It wants packages of its own, and {self.host.root} (mlflow_model_serving_root) "
                f"has {free} MB free; {PACKAGES_MB} are needed."
            )
        # Where its place will be, since an environment knows where it is.
        fresh = make(self.host.environments / f".new-{path.name}", 0o777)
        seen = [f"BindReadOnlyPaths={model}", f"BindPaths={fresh}:{self.host.environments}"]
        own = {"UV_DEFAULT_INDEX": self.asked["index_url"],
               "SSL_CERT_FILE": self.asked["ca_bundle"],
               "HTTP_PROXY": self.asked["proxy"], "HTTPS_PROXY": self.asked["proxy"]}  # fmt: skip
        told = {
            "uv": str(self.python.with_name("uv")),
            "python": python,
            "environment": str(path),
            "settings": ways() | {name: value for name, value in own.items() if value},
        }
        done = self.program("install", model, told=told, network=True, paths=seen)
        if done.returncode:
            raise Refused(
                "The packages that it requires cannot be installed: "
                f"{shown(' '.join(done.stderr.split())[-500:])} The index is "
                f"mlflow_model_serving_index_url ({self.asked['index_url'] or 'PyPI'})."
                + self.indexes(wanted)
                + self.another_python(model)
            )
        # A model can write none, and would compile all of it at each start.
        self.step(self.python, "-I", "-m", "compileall", "-q", "-j0", path / "lib", paths=seen)
        taken(fresh / path.name)
        (fresh / path.name).rename(path)
        return path

    def indexes(self, wanted: list[str]) -> str:
        """Return a sentence about the indexes that a model's requirements name, or ''."""
        found = (address for text in wanted for address in INDEX.findall(text))
        named = {shown(re.sub("//[^/@]*@", "//", address)) for address in found}
        if not named:
            return ""
        return (
            f" Its requirements.txt names {', '.join(sorted(named))} besides, which this host must "
            "reach as well; or log it again with pip_requirements=[...] without that."
        )

    def another_python(self, model: Path) -> str:
        """Return a sentence about a model that was logged with another Python, or ''."""
        if not (python := self.asks("needs", model)["python"]):
            return ""
        return (
            f" It was logged with Python {python}, which may have packages that this host's has "
            "not: log it again with versions that are there for both."
        )

    # the unit

    def start(self) -> None:
        """Start it, which includes that it predicts. Raises Refused with the journal's words."""
        memory = self.asked["memory_mb"]
        lines = [
            *self.host.identity(self.instance),
            f"Environment=WEB_CONCURRENCY={self.asked['workers']}",
            f"Environment=MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT={self.asked['timeout_seconds']}",
            f"Environment=UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN={self.asked['timeout_seconds']}",
            f"Environment=MODEL_START_SECONDS={self.asked['start_seconds']}",
            f"TimeoutStartSec={self.asked['start_seconds'] + 30}",
            f"TimeoutStopSec={self.asked['timeout_seconds'] + 5}",
            *([f"MemoryMax={memory}M"] if memory else []),
            *(ALLOWANCES[name] for name in sorted(self.asked["allow"])),
        ]
        self.host.set(self.instance, "deployment.conf", lines)
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", unit(self.instance))
        since = f"--since=@{time.time() - 1:.0f}"
        if run("systemctl", "start", unit(self.instance)).returncode:
            said = last_words(self.instance, since)
            run("systemctl", "stop", unit(self.instance))
            python = self.host.record(self.instance).get("other_python")
            if python and not any(words in said for words in EXPLAINED):
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
            found = dict(json.loads(said))
            return found | {
                name: shown(str(found[name])) for name in ("source", "unproved") if name in found
            }
        except (ValueError, TypeError, RecursionError):  # cut off, or none
            return {"source": "with a request that is too long to be shown"}


def ways() -> dict[str, str]:
    """Return which way this host's own environment leads to an index or a store."""
    return {name: value for name, value in os.environ.items() if WAYS.fullmatch(name)}


def listed(unmet: list[str]) -> str:
    """Return requirements that are not met in a sentence that has an end."""
    words = [shown(text) for text in unmet[:MENTIONED]]
    more = len(unmet) - MENTIONED
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")


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
    fresh.symlink_to(f"/run/mlflow-model/{instance}")
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


def find_version(host: Host, asked: Asked) -> tuple[dict[str, Any], str]:
    """Return the version that is asked for, and when its registered model was made.

    One that is on this host needs no registry.
    """
    registry = Registry(asked)
    try:
        version = registry.version()
        return version, registry.registered(version["name"])
    except Unreachable:
        name, _, number = parsed(asked["model"])
        for instance in host.of(asked["name"]):
            record = host.record(instance)
            of: dict[str, Any] = record.get("of", {})
            if number and (of.get("name"), of.get("version")) == (name, number):
                return of, record.get("registered", "")
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
    version, registered = find_version(host, asked)
    wanted, before = Deployment(host, asked, version, registered), host.serving(name)
    replaced = host.record(before).get("of", {}).get("version", "")
    answer |= {"instance": wanted.instance, "version": version["version"]}
    answer["registered"] = registered
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
    answer["packages"] = host.record(wanted.instance).get("packages", "")
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
    for directory in (host.root, host.links):  # nginx comes by them
        make(directory, 0o755)
    with (host.root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host.take_over()  # with its way for nginx, before the old one is closed
        for directory in (host.deployments, host.environments):
            make(directory, 0o700)
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
