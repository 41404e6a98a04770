"""What is looked at: a host or a client, and what several checks ask of it."""

from __future__ import annotations

import base64
import configparser
import functools
import os
import pwd
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import INSTALLED, client
from ..settings import databases, read_file
from .report import TIMEOUT, Unseen, paths, run, show
from .tls import Stay, trust

SQLITE = "sqlite:///"
SEARCH = "/api/2.0/mlflow/experiments/search"
ONE = b'{"max_results": 1}'
CREDENTIALS = Path.home() / ".mlflow/credentials"


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
        through = ["/var/tmp"] if any(one.startswith("s3:") for one in places) else []  # noqa: S108
        return [*databases, *through, *(place for place in places if place.startswith("/"))]

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
