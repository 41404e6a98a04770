"""Look at a host or a client of MLflow, and say in plain words what is wrong and what to do.

It changes nothing and leaves nothing: it reads and asks, and puts one small artifact that it
deletes again, as `mlflow-ready` does.

examine() takes kind (`host`: a host of services, seen by root; `client`: what
leads to a server, seen by who uses it; `local`: a project without one) and the role's variables,
each without the role's name. It returns looked (names of what was looked at), unseen (what could
not be, by the reason) and findings, each with check, severity (error, warning or note), what is
wrong, what it means, and the remedy.

To read it, begin at the end: each check is a function that yields what it finds.
Run by the host's own Python, or a client's: nothing newer than Python 3.9.
"""

from __future__ import annotations

import base64
import configparser
import ctypes
import functools
import grp
import hashlib
import json
import os
import pwd
import re
import shlex
import socket
import ssl
import stat
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import INSTALLED, client, installed
from . import installation as record
from .host import units as systemd
from .server import ready
from .settings import databases, read_file

SQLITE = "sqlite:///"
SEARCH = "/api/2.0/mlflow/experiments/search"
ONE = b'{"max_results": 1}'
CREDENTIALS = Path.home() / ".mlflow/credentials"
MANAGED = "Ansible managed"  # at the top of each file that a role writes
TIMEOUT = 10.0  # seconds that a server may take to answer
LEAST_MB = 300  # free, below which MLflow does not work
SKEW = {"warning": 30, "error": 300}  # seconds; S3 refuses requests from 900 on
UNKEPT = 5  # what the kernel answers while nobody keeps its clock


class Unseen(Exception):
    """Something cannot be looked at; the message says why."""


@dataclass(frozen=True)
class Finding:
    """Something that a person should know."""

    severity: str
    what: str
    means: str
    remedy: str
    check: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at: on which kinds of host, and after which others have found no error."""

    name: str
    kinds: tuple[str, ...]
    after: tuple[str, ...]
    look: Callable[[Patient], Iterator[Finding]]


CHECKS: list[Check] = []
error = functools.partial(Finding, "error")
warning = functools.partial(Finding, "warning")
note = functools.partial(Finding, "note")


def check(name: str, *kinds: str, after: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Enter a function into the list of checks."""

    def enter(look: Callable[[Patient], Iterator[Finding]]) -> Any:
        CHECKS.append(Check(name, kinds, after, look))
        return look

    return enter


def run(
    command: list[str], given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises Unseen where there is none."""
    try:
        return subprocess.run(
            command, input=given, text=True, errors="replace", capture_output=True, check=False,
            timeout=120, cwd="/", env={**os.environ, **environment, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except FileNotFoundError as absent:
        raise Unseen(f"there is no {command[0]} here") from absent


def show(pattern: str) -> list[dict[str, str]]:
    """Return what systemd says of the units that a name, or a pattern, stands for."""
    properties = (
        "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload",
        "DropInPaths", "ReadWritePaths", "ProtectSystem", "ExecMainStartTimestamp",
    )  # fmt: skip
    try:
        return systemd.show([pattern], properties)
    except FileNotFoundError as absent:
        raise Unseen("there is no systemctl here") from absent
    except subprocess.CalledProcessError:
        return []


def names(uid: int, gid: int) -> str:
    """Return owner and group as `chown` takes them."""
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    try:
        return f"{owner}:{grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"{owner}:{gid}"


def give(path: Path, owner: str, mode: str) -> str:
    """Return the commands by which root gives a path its owner and mode.

    In a directory of somebody else's there may be a link in its place when they are given: chmod
    follows one, and so is left to the owner.
    """
    if path.parent.lstat().st_uid == 0:
        return f"chown {owner} {path}; chmod {mode} {path}"
    return f"chown -h {owner} {path}; runuser -u {owner.split(':')[0]} -- chmod {mode} {path}"


def paths(pattern: str) -> list[Path]:
    """Return what there is of an absolute pattern."""
    return sorted(Path("/").glob(pattern.lstrip("/")))


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["nothing"])[-1]


def version_of(environment: str) -> str:
    """Return the version of the MLflow in an environment, without starting it; '' for none."""
    for name in ("mlflow", "mlflow_skinny") if environment else ():
        for found in paths(f"{environment}/lib/python3*/site-packages/{name}-[0-9]*.dist-info"):
            return found.name.split("-")[1].replace(".dist", "")
    return ""


class Patient:
    """What is looked at: what the role said of it, and what several checks ask it."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.skews: dict[str, float] = {}  # clocks that were seen, and seconds that they are ahead

    def __getitem__(self, name: str) -> Any:
        return self.asked[name]

    @property
    def kinds(self) -> set[str]:
        """What kind of host it is; `server` is a host of services that has a tracking server."""
        return {self["kind"]} | ({"server"} if self["settings"] else set())

    def play(self, playbook: str) -> str:
        """Return the command that runs a playbook with this host's inventory."""
        return f"ansible-playbook -i {self['inventory']} {self['playbook_called'] % playbook}"

    @property
    def variables(self) -> str:
        """Where the inventory's variables are."""
        return f"{self['inventory']}/group_vars"

    @property
    def again(self) -> str:
        """The command that sets this host up."""
        return self.play(self["playbook"])

    @property
    def directories(self) -> list[str]:
        """The directories where MLflow writes."""
        if "server" not in self.kinds:
            return [str(Path.home()), *filter(None, [self["project"]])]
        try:
            places = [*self.databases.values(), self.settings["MLFLOW_ARTIFACTS_DESTINATION"]]
        except (Unseen, OSError, ValueError, KeyError):
            return []  # said by the installation
        databases = [
            str(Path(uri[len(SQLITE) :]).parent) for uri in places if uri.startswith(SQLITE)
        ]
        return [*databases, *(place for place in places if place.startswith("/"))]

    # A tracking server's host ---------------------------------------------------------------------

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        """The service's settings."""
        found = read_file(Path(self["settings"]))
        return dict(found)

    @functools.cached_property
    def databases(self) -> dict[str, str]:
        """The addresses of the service's databases."""
        return dict(databases(self.settings))

    @functools.cached_property
    def unit(self) -> dict[str, str]:
        """What systemd says of the service."""
        return show(self["unit"])[0]

    @property
    def python(self) -> str:
        """The environment's Python."""
        return f"{self['environment']}/bin/python"

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs a program of this host's, with MLflow. Raises Unseen."""
        if not INSTALLED.exists():
            raise Unseen(f"there is no {INSTALLED}; {self.again} brings it")
        return [self.python, "-Es", str(INSTALLED), name, *arguments]

    def as_service(self, command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program as the service's user, to see what she sees."""
        home = pwd.getpwnam(self["user"]).pw_dir
        become = ["runuser", f"--user={self['user']}", "--"]
        return run([*become, *command], given, HOME=home, PYTHONDONTWRITEBYTECODE="1")

    def request(self, path: str, host: str = "") -> tuple[int, str]:
        """Ask this host's server as its administrator, by some name; return status and answer."""
        server = client.Server(self.settings)
        connection = server.connection()
        try:
            connection.request("GET", path, headers={**server.headers, "Host": host or "localhost"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    # What leads to a server -----------------------------------------------------------------------

    @functools.cached_property
    def activation(self) -> dict[str, str]:
        """The variables of the project's activation; those of this shell where there is none."""
        if not self["project"]:
            return {**os.environ, "MLFLOW_TRACKING_URI": self["tracking_uri"]}
        lines = Path(self["project"], "mlflow.env").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("=", 1) for line in lines if "=" in line and line[0] != "#"]
        return {**os.environ, **{name: value for name, value in pairs}}

    @property
    def uri(self) -> str:
        """The server's address."""
        return self.activation["MLFLOW_TRACKING_URI"].rstrip("/")

    @property
    def host(self) -> str:
        """The server's name."""
        return urlsplit(self.uri).hostname or ""

    @property
    def port(self) -> int:
        """The server's port."""
        return urlsplit(self.uri).port or (443 if self.tls else 80)

    @property
    def tls(self) -> bool:
        """Whether the server is reached over TLS."""
        return self.uri.startswith("https:")

    @functools.cached_property
    def proxy(self) -> str:
        """The proxy that MLflow's client sends requests for the server to, or ''; no password."""
        if urllib.request.proxy_bypass(self.host):
            return ""
        given = urllib.request.getproxies().get(urlsplit(self.uri).scheme, "")
        return re.sub("//.*@", "//", given)

    def need_no_proxy(self) -> None:
        """Raise Unseen where requests go through a proxy, which sees to their way."""
        if self.proxy:
            raise Unseen(f"requests go through the proxy {self.proxy}")

    def bundle(self, *variables: str) -> tuple[str, str]:
        """Return the file of CAs that MLflow's client goes by, and the variable that names it."""
        for name in (*variables, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if self.activation.get(name):
                return self.activation[name], name
        own = paths(f"{self['environment'] or '/-'}/lib/python3*/site-packages/certifi/cacert.pem")
        return (str(own[0]) if own else ""), ""

    @property
    def server_bundle(self) -> tuple[str, str]:
        """The file of CAs for the server itself."""
        return self.bundle("MLFLOW_TRACKING_SERVER_CERT_PATH")

    @functools.cached_property
    def login(self) -> dict[str, str]:
        """The header with this person's credentials, where she has some.

        Raises configparser.Error, whose words may hold the password.
        """
        name, password = (
            self.activation.get(f"MLFLOW_TRACKING_{word}", "") for word in ("USERNAME", "PASSWORD")
        )
        if not (name and password):
            parser = configparser.ConfigParser()
            parser.read(CREDENTIALS, encoding="utf-8")
            name = parser.get("mlflow", "mlflow_tracking_username", fallback="")
            password = parser.get("mlflow", "mlflow_tracking_password", fallback="")
        if token := self.activation.get("MLFLOW_TRACKING_TOKEN"):
            return {"Authorization": f"Bearer {token}"}
        words = base64.b64encode(f"{name}:{password}".encode()).decode()
        return {"Authorization": f"Basic {words}"} if name and password else {}

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], str]:
        """Ask the server as MLflow's client would; return status, headers and answer.

        Raises OSError where none comes.
        """
        handlers: list[Any] = [Stay()]
        if self.tls:
            handlers.append(urllib.request.HTTPSHandler(context=trust(self.server_bundle[0])))
        request = urllib.request.Request(self.uri + path, body, dict(self.login))  # noqa: S310
        request.add_header("Content-Type", "application/json")
        try:
            answer = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, headers, answer.read(100_000).decode(errors="replace").strip()

    @functools.cached_property
    def searched(self) -> tuple[int, dict[str, str], str]:
        """What the server says to a search, which wants an allowed name and credentials."""
        return self.ask(SEARCH, ONE)


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, since MLflow's client does not carry a login along either."""

    def redirect_request(self, *_: Any) -> None:
        """Say no."""


def trust(bundle: str) -> ssl.SSLContext:
    """Return whom to trust, as MLflow's clients do: Python 3.13 would be stricter."""
    context = ssl.create_default_context(cafile=bundle or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def reach(host: str, port: int) -> None:
    """Connect to a port and hang up. Raises OSError; of several addresses, that which says most."""
    refusals: list[OSError] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as plain:
                plain.settimeout(TIMEOUT)
                plain.connect(address)
                return
        except OSError as refused:
            refusals.append(refused)
    raise max(refusals, key=lambda refused: isinstance(refused, ConnectionRefusedError))


def handshake(host: str, port: int, bundle: str) -> float:
    """Shake hands with a server; return the seconds for which its certificate is good.

    Raises OSError, of which ssl.SSLError is one.
    """
    context = trust(bundle)
    with socket.create_connection((host, port), TIMEOUT) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            last_day = str((secure.getpeercert() or {})["notAfter"])
    return ssl.cert_time_to_seconds(last_day) - time.time()


def days(seconds: float) -> str:
    """Return a time in days, for people."""
    number = int(seconds // 86400)
    return "1 day" if number == 1 else f"{number} days"


def distrust(
    address: str, host: str, refused: OSError, bundle: tuple[str, str], variable: str, again: str
) -> Finding:
    """Return what a refused handshake means, and which variable or command mends it."""
    file, named_by = bundle
    means = "MLflow's client refuses the server, and nothing can be logged or read."
    if isinstance(refused, ssl.SSLCertVerificationError):
        said = refused.verify_message.rstrip(".")
        if refused.verify_code in (62, 64):  # OpenSSL: another host's name, another address
            return error(
                f"The certificate of {address} is not for the name {host}: {said}.", means,
                f"Use a name that it has; or have it made for {host} ({variable}), then {again}.",
            )  # fmt: skip
        if refused.verify_code == 10:
            return error(
                f"The certificate of {address} has expired.", means,
                f"{again} makes a new one; one of the team's own is in mlflow_tls_certificate.",
            )  # fmt: skip
        if refused.verify_code == 9:
            return error(
                f"The certificate of {address} is not valid yet.", means,
                "Look at the clocks of both hosts: date -u",
            )  # fmt: skip
        trusted = f"{file}, which {named_by} names" if named_by else file or "this host's own store"
        return error(
            f"The CA of {address} is not trusted here ({said}): it is not in {trusted}.", means,
            f"{again} writes the CA's certificate there, and mlflow_client_ca says which; "
            "outside of the activation: export REQUESTS_CA_BUNDLE=<a PEM file that has it>",
        )  # fmt: skip
    if isinstance(refused, ssl.SSLError) and not isinstance(refused, ssl.SSLEOFError):
        return error(
            f"What answers at {address} speaks no TLS ({refused}).", means,
            f"Look at {variable}: is it http://, or another port?",
        )  # fmt: skip
    return error(
        f"{address} hangs up, or is silent, where TLS should begin: {refused}.", means,
        "What is behind that port may be down: the playbook doctor looks at its host as well",
    )  # fmt: skip


def skew(seconds: float, whose: str) -> Iterator[Finding]:
    """Tell whether this host's clock and another differ too much."""
    for severity in "error", "warning":
        if abs(seconds) > SKEW[severity]:
            yield Finding(
                severity,
                f"This host's clock and {whose} differ by {abs(seconds):.0f} s "
                f"(this one is {'behind' if seconds > 0 else 'ahead'}; it says "
                f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC).",
                "Runs get wrong times; S3 refuses requests that are 15 minutes off, and "
                "certificates may seem not to be valid yet, or any more.",
                "On the host that is wrong: timedatectl set-ntp true (Debian: apt install "
                "systemd-timesyncd)",
            )
            return


# Whether MLflow is there -----------------------------------------------------------------------


@check("installation", "server")
def installation(p: Patient) -> Iterator[Finding]:
    """Whether MLflow was set up here, and wholly."""
    settings = Path(p["settings"])
    parts = [settings, Path("/etc/systemd/system", p["unit"]), Path(p.python)]
    absent = [str(path) for path in parts if not path.exists()]
    if len(absent) < len(parts):
        try:
            pwd.getpwnam(p["user"])
        except KeyError:
            absent.append(f"the system user {p['user']}")
    if absent == [str(path) for path in parts]:
        yield error(
            f"MLflow was never set up here: there is neither {' nor '.join(absent)}.",
            "Nothing can work yet.",
            p.again,
        )
    elif absent:
        yield error(
            f"MLflow is half installed: {' and '.join(absent)} "
            f"{'are' if len(absent) > 1 else 'is'} missing.",
            "A run of the playbook was cut off, or somebody removed something.",
            f"{p.again}. It goes on where it was, and leaves data alone.",
        )
    else:
        try:
            uri = p.settings.get("MLFLOW_BACKEND_STORE_URI")
        except ValueError as wrong:
            yield error(
                f"{settings} cannot be read: {wrong}. It was changed by hand.",
                "The service does not start with it.",
                f"{p.again} writes it anew.",
            )
            return
        if not uri:
            yield error(
                f"{settings} does not say which database there is (MLFLOW_BACKEND_STORE_URI).",
                "The service would begin an empty database of its own.",
                f"{p.again} writes it anew.",
            )


@check("activation", "client", "local")
def activation(p: Patient) -> Iterator[Finding]:
    """Whether the project's variables and the environment are there."""
    file = Path(p["project"], "mlflow.env")
    if p["project"] and not file.is_file():
        yield error(
            f"There is no {file}: MLflow was not set up here.",
            "A program does not know the server, and logs into ./mlruns or mlflow.db.",
            p.again,
        )
        return
    if "MLFLOW_TRACKING_URI" not in p.activation:
        yield error(
            f"{file} does not say MLFLOW_TRACKING_URI.",
            "A program does not know where to log to.",
            f"{p.again} writes it anew.",
        )
    try:
        p.login  # noqa: B018 read once, for what it raises
    except configparser.Error as wrong:
        yield error(
            f"{CREDENTIALS} cannot be read ({type(wrong).__name__}).",
            "MLflow's client stops with an error, whatever it is asked.",
            "Write it anew: [mlflow], then mlflow_tracking_username = ... and "
            "mlflow_tracking_password = ..., in which a % is doubled",
        )
    if p["environment"]:
        try:
            done = run([p.python, "-I", "-c", ""])
            said = last_line(done.stderr) if done.returncode else ""
        except Unseen as absent:
            said = str(absent)
        if said or not version_of(p["environment"]):
            yield error(
                f"The environment {p['environment']} does not run: {said or 'it has no MLflow'}.",
                "Neither `python train.py` nor a notebook can start.",
                f"{p.again} makes it anew.",
            )


@check("store", "local", after=("activation",))
def store(p: Patient) -> Iterator[Finding]:
    """Whether runs can be written, and MLflow is told that files are meant."""
    uri, file = p.activation["MLFLOW_TRACKING_URI"], Path(p["project"], "mlflow.env")
    if uri.startswith("file:") and p.activation.get("MLFLOW_ALLOW_FILE_STORE") != "true":
        yield error(
            f"{file} does not say MLFLOW_ALLOW_FILE_STORE=true.",
            "MLflow 3 refuses to log into files: it says that they are in maintenance mode.",
            f"{p.again} writes it anew.",
        )
    place = Path(unquote(urlsplit(uri).path if uri.startswith("file:") else uri[len(SQLITE) :]))
    for path in [place, *paths(f"{place}/*"), place.parent]:
        if path.exists() and not os.access(path, os.W_OK):
            owner = names(path.stat().st_uid, path.stat().st_gid)
            yield error(
                f"{path} belongs to {owner}, and cannot be written by "
                f"{pwd.getpwuid(os.geteuid()).pw_name}.",
                "Runs cannot be logged.",
                f"sudo chown -R {pwd.getpwuid(os.geteuid()).pw_name} {shlex.quote(str(path))}",
            )
            return


# A host of services ----------------------------------------------------------------------------


@check("services", "host", after=("installation",))
def services(p: Patient) -> Iterator[Finding]:
    """Whether each service runs, and will after a boot."""
    for pattern in ([p["unit"]] if "server" in p.kinds else []) + p["units"]:
        states = show(pattern)
        if not states:  # a pattern stands for units that are loaded, and a stopped one is not
            yield error(
                f"No {pattern} runs here.",
                "What needs it does not work.",
                f"systemctl restart {pattern.partition('@')[0]}; or, if it was never there: "
                f"{p.again}",
            )
        elif states[0]["LoadState"] == "not-found":
            yield error(f"There is no {pattern} here.", "What needs it does not work.", p.again)
        for state in states:
            name, means = state["Id"], "Whoever uses it gets no answer."
            if state["LoadState"] == "masked":
                yield error(f"{name} is masked.", means, f"systemctl unmask --now {name}")
            elif state["LoadState"] == "loaded" and state["ActiveState"] != "active":
                words = run(["journalctl", "--no-pager", "--output=cat", "--lines=3",
                             f"--unit={name}"]).stdout.split("\n")  # fmt: skip
                yield error(
                    f"{name} does not run; it is {state['ActiveState']} ({state['SubState']}). "
                    f"Its last words: {' / '.join(filter(None, words)) or 'none'}",
                    means,
                    f"journalctl -fu {name} shows it start, or fail again and again"
                    if state["ActiveState"] == "activating"
                    else f"systemctl reset-failed {name}; systemctl start {name}",
                )
            elif state["LoadState"] == "loaded" and state["UnitFileState"] == "disabled":
                yield warning(
                    f"{name} runs, and is disabled.",
                    "It will not be there after a boot.",
                    f"systemctl enable {name}",
                )


@check("units", "host", after=("installation",))
def units(p: Patient) -> Iterator[Finding]:
    """Whether the units are those that the playbook wrote, and are what runs."""
    wanted = {file["path"]: file.get("sha256") for file in p["files"]}
    for path, digest in wanted.items():
        if digest and path.startswith("/etc/systemd/") and Path(path).exists():
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
                yield warning(
                    f"{path} is not what the playbook writes: it was changed by hand, or the "
                    "inventory was since.",
                    "The service is another than the inventory says, until the playbook takes it "
                    "back.",
                    f"{p.again} --check --diff shows what differs. What should stay goes into "
                    f"{p.variables}.",
                )
    for pattern in ([p["unit"]] if "server" in p.kinds else []) + p["units"]:
        for state in show(pattern):
            name, read = state["Id"], state.get("DropInPaths", "").split()
            # systemd may not know of a first one yet; /usr is the distribution's, and what a role
            # of some other playbook has added says so.
            there = [str(path) for path in paths(f"/etc/systemd/system/{name}.d/*.conf")]
            by_hand = [
                path
                for path in dict.fromkeys([*read, *there])
                if not path.startswith(("/usr/", "/lib/"))
                and Path(path).parent.name == f"{name}.d"
                and path not in wanted
                and MANAGED not in Path(path).read_text(errors="replace")
            ]
            if by_hand:
                yield warning(
                    f"{name} was changed by hand: {', '.join(by_hand)}.",
                    "The service is another than the inventory says, and no playbook takes this "
                    "back.",
                    f"systemctl cat {name} shows it. To undo it: rm {' '.join(by_hand)}; systemctl "
                    f"daemon-reload; systemctl restart {name}",
                )
            if state.get("NeedDaemonReload") == "yes" or set(there) - set(read):
                yield warning(
                    f"{name} was changed, and systemd has not read it since.",
                    "What runs is the old one; the change comes at some later start.",
                    f"systemctl daemon-reload; systemctl restart {name}",
                )


@check("settings", "server", after=("installation", "services"))
def settings_read(p: Patient) -> Iterator[Finding]:
    """Whether the service has read its files since they were changed."""
    started = int(p.unit["ExecMainStartTimestamp"].lstrip("@") or 0)
    own = [str(Path(p["settings"]).parent), f"/etc/systemd/system/{p['unit']}"]
    files = [
        Path(file["path"]) for file in p["files"]
        if file["path"].startswith(tuple(own)) and file["path"] != str(record.RECORD)
    ]  # fmt: skip
    newer = [str(path) for path in files if path.is_file() and path.stat().st_mtime > started + 1]
    for link in (Path(p["environment"]), INSTALLED):
        if link.is_symlink() and link.lstat().st_mtime > started + 1:
            newer.append(str(link))
    if newer:
        yield warning(
            f"{p['unit']} was started before {' and '.join(newer)} changed.",
            "It works with what was there before.",
            f"systemctl restart {p['unit']}",
        )


def strange(path: str | Path, p: Patient) -> Finding:
    """Return what is said of a program of somebody else's."""
    return warning(
        f"{path} is not what these playbooks install: it was changed by hand, or "
        "comes from another release of them.",
        "It may do something else than the documents say.",
        f"{p.again} installs it anew.",
    )


@check("file modes", "host", after=("installation",))
def file_modes(p: Patient) -> Iterator[Finding]:
    """Whether files have the owner, group, mode and content that the playbook gave them."""
    for wanted in p["files"]:
        path = wanted["path"]
        try:
            entry, status = Path(path).lstat(), Path(path).stat()
            if stat.S_ISLNK(entry.st_mode) and entry.st_uid != 0:
                yield error(
                    f"{path} is a link to {Path(path).readlink()}, which "
                    f"{names(entry.st_uid, entry.st_gid).split(':')[0]} made.",
                    "Nothing may be done through it: it may lead anywhere.",
                    f"rm {path}; {p.again}",
                )
                continue
        except FileNotFoundError:
            yield error(f"{path} is missing.", "What needs it does not work.", p.again)
            continue
        owner, mode = names(status.st_uid, status.st_gid), status.st_mode & 0o7777
        should, bits = f"{wanted['owner']}:{wanted['group']}", int(wanted["mode"], 8)
        if (owner, mode) != (should, bits):
            leaks = mode & ~bits & 0o077
            yield error(
                f"{path} is {owner} {mode:04o}, and should be {should} {bits:04o}.",
                "Others on this host can read or change it, and what it holds is no secret any "
                "more." if leaks else "The service may not be able to use it.",
                give(Path(path), should, f"{bits:04o}")
                + ("; then think of changing what it holds" if leaks and path.endswith(
                    (".env", ".ini", "password", ".key")) else ""),
            )  # fmt: skip
        content = wanted.get("sha256")
        if content and not path.startswith("/etc/systemd/"):
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != content:
                yield strange(path, p)
    there = INSTALLED.resolve()
    if INSTALLED.exists() and (str(there) != p["tools"] or installed.digest(there) != there.name):
        yield strange(INSTALLED, p)


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
    for inside in path.iterdir():
        owner = names(inside.lstat().st_uid, inside.lstat().st_gid).split(":")[0]
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
            said = run(["openssl", "x509", "-noout", "-enddate", "-in", str(path)])
            if said.returncode:
                yield error(
                    f"{path} is no certificate: {last_line(said.stderr)}.",
                    "What uses it does not start again.",
                    f"{p.again} makes it anew; one of the team's own is in mlflow_tls_certificate.",
                )
                continue
            left = ssl.cert_time_to_seconds(said.stdout.strip().partition("=")[2]) - time.time()
            if left < p["certificate_days"] * 86400:
                what = f"has {days(left)} left" if left > 0 else "has expired"
                yield Finding(
                    "warning" if left > 0 else "error",
                    f"The certificate {path} {what}.",
                    "Then whoever checks it refuses the server: every client, or its own parts.",
                    f"{p.again} renews what the private CA signs; the team's own is "
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
    last = json.loads(file.read_text(encoding="utf-8"))
    age, limit = (time.time() - (last.get("last_success") or 0)) / 3600, last["max_age_hours"]
    limit = limit or float("inf")  # 0: it may be as old as it likes
    words = f" The last attempt failed: {last['error']}" if last.get("error") else ""
    if not last.get("last_success"):
        yield error(f"No backup has ever succeeded.{words}", "What is lost is lost.", backs_up)
    elif age > limit:
        yield error(
            f"The last good backup is {age:.0f} hours old, and should be no older than {limit}."
            + words,
            "What was logged since would be lost.",
            f"{backs_up}; systemctl list-timers says when it is due",
        )
    elif words:
        yield warning(
            f"The last good backup is {age:.0f} hours old.{words}",
            "If it stays so, the backup grows too old.",
            backs_up,
        )


# What leads to a server ------------------------------------------------------------------------


@check("proxy", "client", after=("activation",))
def proxy(p: Patient) -> Iterator[Finding]:
    """Whether a proxy of this environment takes the requests, and brings them there."""
    if not p.proxy:
        return
    try:
        status, _, words = p.ask("/health")
        said = "" if status == 200 else f"HTTP {status} {words[:80]}"
    except OSError as refused:
        said = str(getattr(refused, "reason", refused))
    if said:
        yield error(
            f"Requests for {p.host} go to the proxy {p.proxy}, which this environment names "
            f"(HTTP_PROXY, HTTPS_PROXY), and do not arrive: {said}.",
            "MLflow's client gets no answer, or the proxy's.",
            f"Add {p.host} to NO_PROXY (and no_proxy), where the proxy is set: /etc/environment, "
            "~/.profile",
        )


@check("name", "client", after=("activation",))
def name_resolves(p: Patient) -> Iterator[Finding]:
    """Whether the server's name leads to an address."""
    p.need_no_proxy()
    try:
        socket.getaddrinfo(p.host, p.port)
    except OSError as unknown:
        yield error(
            f"The name {p.host} does not resolve here: {unknown.strerror or unknown}.",
            "No program finds the server.",
            f"getent hosts {p.host}; have it entered into the DNS, or into /etc/hosts. "
            f"Another name: {p['names_variable']} in {p.variables}",
        )


@check("connection", "client", after=("name",))
def connection(p: Patient) -> Iterator[Finding]:
    """Whether somebody listens there."""
    p.need_no_proxy()
    try:
        reach(p.host, p.port)
    except OSError as refused:
        listens = isinstance(refused, ConnectionRefusedError)
        yield error(
            f"{p.host}, port {p.port}, "
            f"{'refuses connections' if listens else f'cannot be reached: {refused}'}.",
            "The server's host is up and nobody listens." if listens
            else "A firewall or a security group is in between, or the host is down.",
            f"On the server's host: systemctl status nginx mlflow; then {p.play('doctor')}"
            if listens else f"Let this host pass to port {p.port} there: nc -vz {p.host} {p.port}",
        )  # fmt: skip


@check("certificate", "client", after=("connection",))
def certificate(p: Patient) -> Iterator[Finding]:
    """Whether the server's certificate is trusted here, is for its name, and lasts."""
    p.need_no_proxy()
    if not p.tls:
        return
    file, variable = p.server_bundle
    if file and not os.access(file, os.R_OK):
        yield error(
            f"{variable or 'The environment'} names {file}, which cannot be read here.",
            "MLflow's client trusts nobody, and stops with an error.",
            f"{p.again} writes it anew.",
        )
        return
    try:
        left = handshake(p.host, p.port, file)
    except OSError as refused:
        yield distrust(p.uri, p.host, refused, p.server_bundle, p["names_variable"], p.again)
        return
    if p.activation.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        yield warning(
            "MLFLOW_TRACKING_INSECURE_TLS is set: certificates are not checked.",
            "Anybody in between can read passwords and change models.",
            "Take it out of the environment.",
        )
    if left < p["certificate_days"] * 86400:
        yield warning(
            f"The certificate of {p.uri} has {days(left)} left.",
            "Then every client refuses the server.",
            f"{p.again} renews one of the private CA; the team's own is mlflow_tls_certificate in "
            f"{p.variables}.",
        )


@check("answer", "client", after=("proxy", "connection", "certificate"))
def answer(p: Patient) -> Iterator[Finding]:
    """Whether what answers is MLflow."""
    try:
        status, headers, words = p.ask("/health")
    except OSError as silent:
        yield error(
            f"{p.uri} does not answer: {getattr(silent, 'reason', silent)}.",
            "The server hangs, or something in between swallows what it says.",
            "On the server's host: sudo mlflow-ready; journalctl -u mlflow",
        )
        return
    if "date" in headers:
        p.skews["the server's"] = parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    if status in (502, 503, 504):
        yield error(
            f"nginx answers at {p.uri}, and MLflow behind it does not (HTTP {status}).",
            "The tracking server is down, or is being started.",
            "On the tracking server's host: systemctl status mlflow. If it runs, "
            "/var/log/nginx/error.log says why nginx does not get there",
        )
    elif (status, words) != (200, "OK"):
        yield error(
            f"What answers at {p.uri} is not MLflow: HTTP {status} {' '.join(words.split())[:80]}",
            "Another program or a portal has this address, or MLflow is below another path.",
            f"Look at {p['names_variable']} in {p.variables}, and at the port.",
        )


@check("host header", "client", after=("answer",))
def host_header(p: Patient) -> Iterator[Finding]:
    """Whether the server lets itself be called by this name."""
    status, _, words = p.searched
    if status == 403 and "Invalid Host" in words:
        yield error(
            f"The server refuses the name {urlsplit(p.uri).netloc} (403 Invalid Host header).",
            "MLflow answers only to names that it knows, and nothing can be logged or read.",
            f"Add {p.host} to {p['names_variable']} in {p.variables}; then {p.again}",
        )


@check("credentials", "client", after=("host header",))
def credentials(p: Patient) -> Iterator[Finding]:
    """Whether the server accepts this person's name and password, and nobody else has them."""
    who = pwd.getpwuid(os.geteuid()).pw_name
    file = CREDENTIALS
    if file.exists() and file.stat().st_mode & 0o077:
        yield error(
            f"{file} has mode {file.stat().st_mode & 0o7777:04o}.",
            "Others on this host can read the password.",
            f"chmod 0600 {file}; then change the password",
        )
    if p.searched[0] == 401 and p.login:
        yield error(
            f"The server refuses the name and password of {who} (401).",
            "The password was changed, or the user removed.",
            f"Look at {file}, or MLFLOW_TRACKING_USERNAME and _PASSWORD; the administrator gives a "
            f"new one: mlflow_users in {p.variables}",
        )
    elif p.searched[0] == 401:
        yield note(
            f"{who} has no name and password for the server here.",
            "Whoever types them needs none; nothing behind them could be looked at.",
            "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..., or mlflow_client_"
            f"credentials in {p.variables}",
        )
    elif p.searched[0] >= 400:
        yield error(
            f"{p.uri} answers a search with HTTP {p.searched[0]}: {p.searched[2][:200]}",
            "The server is there, and does not work: its database, perhaps.",
            f"On the server's host: sudo mlflow-ready; then {p.play('doctor')}",
        )


@check("client version", "client", after=("answer",))
def client_version(p: Patient) -> Iterator[Finding]:
    """Whether client and server are of one version."""
    here = version_of(p["environment"])
    if not here:
        raise Unseen("there is no environment of these playbooks here")
    status, _, there = p.ask("/version")
    if status != 200 or not re.match(r"\d+\.\d+", there):
        raise Unseen("without a name and password the server does not tell its version")
    if here != there:
        newer = [int(word) for word in re.findall(r"\d+", here)[:2]] > [
            int(word) for word in re.findall(r"\d+", there)[:2]
        ]
        yield Finding(
            "error" if newer and here.split(".")[0] != there.split(".")[0] else "warning",
            f"This client is MLflow {here}, and the server is {there}.",
            "The client may ask for what the server does not know, such as logged models."
            if newer else "What is new in the server is not there for this client.",
            f"Set mlflow_version to {there} for this host in {p.variables}; then {p.again}",
        )  # fmt: skip


@check("presigned artifacts", "client", after=("answer",))
def presigned(p: Patient) -> Iterator[Finding]:
    """Whether this client reaches the store, if the server sends it there."""
    status, _, words = p.ask("/api/3.0/mlflow/server-info")
    if status in (401, 403):
        raise Unseen("without a name and password the server does not say how artifacts go")
    try:
        sends = bool(json.loads(words).get("multipart_downloads_enabled"))
    except ValueError:
        sends = False  # an MLflow 2, which sends nobody
    if not sends:
        return
    if not p["store"]:
        raise Unseen("the inventory does not say where the store is, to which the server sends")
    url = urlsplit(p["store"])
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    means = "Metrics are logged; loading a model or a picture hangs or fails."
    access = f"mlflow_artifact_access in {p.variables}"
    if host in ("localhost", "127.0.0.1", "::1") and p.host not in (
        "localhost",
        "127.0.0.1",
        "::1",
    ):
        yield error(
            f"The server sends clients to {p['store']} for artifacts, which is every host itself.",
            means,
            f"Set {access} to proxied, then {p.again}; or give the store a name: "
            "mlflow_server_s3_endpoint_url",
        )
        return
    bundle = p.bundle()
    try:
        if url.scheme == "https":
            handshake(host, port, bundle[0])
        else:
            reach(host, port)
    except ssl.SSLError as refused:
        yield distrust(p["store"], host, refused, bundle, "mlflow_server_s3_endpoint_url", p.again)
    except OSError as refused:
        yield error(
            f"The server sends clients to {p['store']} for artifacts, which this host does not "
            f"reach: {refused}.",
            means,
            f"Let this host pass to {host}, port {port}; or set {access} to proxied, and {p.again}",
        )


# Every host ------------------------------------------------------------------------------------


@check("disk", "host", "client", "local")
def disk(p: Patient) -> Iterator[Finding]:
    """Whether there is room, and room for more files."""
    least = {path: int(mb) for path, mb in p["disks"].items()}
    for name in [*p.directories, "/tmp", "/var/log", "/"]:  # noqa: S108 looked at, not used
        least.setdefault(name, LEAST_MB)
    seen: set[int] = set()
    for name in sorted(least, key=lambda path: -least[path]):
        path = Path(name)
        while not path.exists():
            path = path.parent
        if path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        room = os.statvfs(path)
        free = room.f_bavail * room.f_frsize // 1_000_000
        inodes = room.f_favail / room.f_files if room.f_files else 1
        means = "Runs, models or the log of the database cannot be written, now or soon."
        if free < max(least[name], p["free_mb"]):
            yield Finding(
                "error" if free < max(least[name], LEAST_MB) else "warning",
                f"The disk of {name} has {free} MB left.", means,
                f"df -h {path}; du -xsh {path}/* | sort -h: free some, or make it larger",
            )  # fmt: skip
        if inodes < 0.05:
            yield Finding(
                "error" if inodes < 0.01 else "warning",
                f"The disk of {name} has {room.f_favail} inodes left ({inodes:.1%}): room for so "
                "many files, however small.", means,
                f"df -i {path}; du -x --inodes {path} | sort -n | tail: remove some, or make it "
                "anew with more",
            )  # fmt: skip


@check("clock", "host", "client", after=("answer",))
def clock(p: Patient) -> Iterator[Finding]:
    """Whether this host's clock is right, as far as others and the kernel can tell."""
    if "server" in p.kinds:
        p.skews.update(database_clock(p))
    for whose, seconds in p.skews.items():
        yield from skew(seconds, whose)
    kernels_own = sys.platform == "linux" and not in_container()
    if not (kernels_own or p.skews):
        raise Unseen("a container has its host's clock, and here is no other to compare it with")
    if kernels_own and ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == UNKEPT:
        yield warning(
            "Nobody keeps this host's clock: it is not synchronised.",
            "It will drift from the clocks of other hosts.",
            "timedatectl set-ntp true (Debian: apt install systemd-timesyncd)",
        )


def in_container() -> bool:
    """Tell whether this is a container, whose clock is another host's affair."""
    return run(["systemd-detect-virt", "--quiet", "--container"]).returncode == 0


def database_clock(p: Patient) -> dict[str, float]:
    """Return how far a PostgreSQL on another host is ahead; nothing where there is none."""
    try:
        uri = p.databases["tracking"]
    except (Unseen, OSError, ValueError, KeyError):
        return {}  # said by another check
    if uri.startswith(SQLITE) or "host" in parse_qs(urlsplit(uri).query):
        return {}
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from mlflow_ops.server import database; print(database.connect("
        "sys.stdin.read()).execute('SELECT extract(epoch FROM clock_timestamp())').fetchone()[0])"
    )
    before = time.time()
    done = p.as_service([p.python, "-I", "-c", program, str(INSTALLED)], uri)
    middle = (before + time.time()) / 2
    return {} if done.returncode else {"the database's": float(done.stdout) - middle}


def of_record(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked, with what this host's record says of a server that should be here.

    Without a record nothing is where it should be, which the check of the installation says.
    """
    if not asked["server"]:
        return {**asked, "settings": "", "unit": "", "user": "", "backup_status": ""}
    try:
        here = record.read()
    except record.NotInstalled:
        here = record.Installation(
            "", "mlflow.service", "mlflow", asked["environment"], "/etc/mlflow", "", "", "", True
        )
    status = "/var/lib/mlflow-backup/status.json" if here.leader else ""
    return {
        **asked, "settings": str(here.settings), "unit": here.unit, "user": here.user,
        "environment": here.environment, "backup_status": status,
    }  # fmt: skip


# The examination -------------------------------------------------------------------------------


def examine(asked: dict[str, Any]) -> dict[str, Any]:
    """Make all checks that fit; return the report. A check that breaks ends no other."""
    os.environ.pop("MLFLOW_BACKEND_STORE_URI", None)  # the service's settings are in its file
    patient = Patient(asked)
    looked: list[str] = []
    unseen: dict[str, list[str]] = {}
    if "host" in patient.kinds and os.geteuid():
        return {"looked": [], "unseen": {"only root sees it": ["services"]}, "findings": []}
    findings: list[Finding] = []
    closed: dict[str, set[str]] = {}  # what others wait for in vain, and what is wrong there
    for one in CHECKS:
        if not patient.kinds & set(one.kinds):
            continue
        found: list[Finding] = []
        waits = {cause for name in one.after for cause in closed.get(name, ())}
        try:
            if waits:
                closed[one.name] = waits
                raise Unseen(f"first, {' and '.join(sorted(waits))}")
            found.extend(one.look(patient))
            looked.append(one.name)
        except Unseen as reason:
            unseen.setdefault(str(reason), []).append(one.name)
        except Exception as broken:
            # Of its words, which may hold a secret, only the system's.
            said = f" ({broken})" if isinstance(broken, OSError) else ""
            where = traceback.extract_tb(broken.__traceback__)[-1]
            found.append(
                error(
                    f"The doctor could not look at this: {type(broken).__name__}{said} in "
                    f"{where.name}, line {where.lineno}.",
                    "It may be well, or not.",
                    "Look at it by hand, and tell who maintains these playbooks.",
                )
            )
        findings += [Finding(**{**asdict(finding), "check": one.name}) for finding in found]
        if any(finding.severity == "error" for finding in found):
            closed[one.name] = {one.name}
    return {"looked": looked, "unseen": unseen, "findings": [asdict(one) for one in findings]}
