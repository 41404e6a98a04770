"""Runs the parts of a smoke, each as somebody who may nothing else. For root, who loads no model.

A model is a program, and on its way to a server and back others may have put theirs in its place.
So whatever trains, logs, downloads or loads, and whatever logs in, runs as a user whom systemd
makes for that time alone, in a sandbox from which nothing but the server is reached; and whoever
looks into the server's files and database has the server's own account, and loads nothing.

  apart scenario2 [ARGUMENT...]        all parts of scenario 2, one after another, and one report
  apart scenario3 PART [ARGUMENT...]   one part of scenario 3, which reads on standard input what
                                       that part reads
  apart access                         how people log in at the server on this host, as one line
                                       that the parts `begin` and `end` read

Where the server of this host has its settings, its account and its data says the record of its
installation. Of the parts of scenario 3, `look` alone needs a server here.

It comes packed (pack.py), is run by the host's own Python, and needs nothing else.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import contextlib
import json
import os
import pkgutil
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from mlflow_smoke import installation, interruption, residence
from mlflow_smoke.installation import Installation
from mlflow_smoke.report import NO_REPORT

LONGEST = "15min"  # for one part; a model that never ends would keep the smoke for ever
MOST = 1_000_000  # bytes that one part may say; a model that never stops would fill the memory
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
REPORT = '{"scenario"'  # how a part's report begins
DEEPEST = 50  # how many objects and lists may be within one another
AUTH = "MLFLOW_AUTH_CONFIG_PATH"

SANDBOX = """
ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes PrivateUsers=yes
ProtectProc=invisible ProcSubset=pid ProtectClock=yes ProtectControlGroups=yes ProtectHostname=yes
ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes NoNewPrivileges=yes
CapabilityBoundingSet= AmbientCapabilities= RestrictNamespaces=yes RestrictRealtime=yes
RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes RemoveIPC=yes
KeyringMode=private SystemCallArchitectures=native SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM UMask=0077 WorkingDirectory=/tmp Environment=HOME=/tmp
""".split()
SANDBOX += ["SystemCallFilter=~@privileged @resources", f"RuntimeMaxSec={LONGEST}"]

# Sockets and files of services that the host may have, whatever their own modes are.
HIDDEN = "-/etc/mlflow -/run/mlflow -/run/mlflow-model -/run/postgresql -/run/dbus"


class TooMuch(Exception):
    """A part does not stop talking."""


class Unable(Exception):
    """Why no part can be run here, in a sentence for people."""


@dataclass
class Host:
    """How parts are run here.

    Attributes:
        python: the interpreter of the environment that has MLflow.
        addresses: the server, and what else it sends its clients to: all that a part reaches.
        server: the server of this host, if a part is to look at it.
        writable: what that account may write, as SQLite wants even of those who only read.
        removable: what it may write as well when it takes away for good what the smoke has made.
        login: whether people log in. Parts then see whose the server's port is.
    """

    python: str
    addresses: list[str]
    server: Installation | None = None
    writable: list[str] = field(default_factory=list)
    removable: list[str] = field(default_factory=list)
    login: bool = False

    def run(self, part: str, command: list[str], told: list[dict[str, Any]]) -> Outcome:
        """Runs one part, and waits for its end.

        Args:
            part: `look` has the server's account; all others are nobody.
            command: the program's arguments.
            told: what the part reads.
        """
        unit = f"mlflow-smoke-{secrets.token_hex(6)}"
        # Below /run, which is root's: for addresses that a part knows without asking the network.
        folder = Path(tempfile.mkdtemp(prefix=f"{unit}-", dir="/run"))
        try:
            if part == "look":
                assert self.server  # noqa: S101 for the types
                properties = [f"User={self.server.user}", f"JoinsNamespaceOf={self.server.unit}"]
                properties += ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"]
                properties += [f"ReadWritePaths=-{path}" for path in self.writable]
            else:
                found = reachable(self.addresses)
                told = [{"environment": found.proxies}, *told]
                properties = ["DynamicUser=yes", f"InaccessiblePaths={HIDDEN}"]
                if self.server:
                    properties += [f"InaccessiblePaths=-{self.server.config_dir}"]
                properties += ["PrivateUsers=no"] * self.login  # in one's own, all others are one
                properties += ["RestrictAddressFamilies=AF_INET AF_INET6", "IPAddressDeny=any"]
                properties += [f"IPAddressAllow={address}" for address in found.addresses]
                hosts = folder / "hosts"
                hosts.write_text(found.names + Path("/etc/hosts").read_text())
                hosts.chmod(0o644)
                properties += [f"BindReadOnlyPaths={hosts}:/etc/hosts"]
            settings = [f"--property={text}" for text in [*SANDBOX, *properties]]
            load = (pkgutil.get_data("mlflow_smoke", "load.py") or b"").decode()
            with subprocess.Popen(
                ["systemd-run", "--pipe", "--wait", "--collect", "--quiet", "--service-type=exec",
                 f"--unit={unit}", f"--description=The smoke's part {part}", *settings,
                 self.python, "-I", "-c", load, *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as process:  # fmt: skip
                try:
                    lines = [packed(), *(json.dumps(document) for document in told)]
                    stdout, stderr = heard(process, "\n".join(lines) + "\n")
                except BaseException:  # before it is waited for
                    subprocess.run(["systemctl", "stop", unit], check=False, capture_output=True)
                    raise
        except TooMuch:
            words = f"It says more than {MOST} bytes, as somebody else's model may have it do.\n"
            return Outcome(1, "", words)
        finally:
            shutil.rmtree(folder)
        nothing = f"It ended with {process.returncode} and no word: journalctl -u {unit}.\n"
        return Outcome(process.returncode, stdout, stderr or ("" if stdout else nothing))


def heard(process: subprocess.Popen[bytes], told: str) -> tuple[str, str]:
    """Tells a process something, and returns what it says until its end. Raises TooMuch."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 for the types

    def tell(stdin: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(told.encode())

    threading.Thread(target=tell, args=[process.stdin], daemon=True).start()
    said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as ready:
        for stream in said:
            ready.register(stream, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select():
                more = os.read(key.fd, 1 << 16)
                said[key.fd] += more
                if len(said[key.fd]) > MOST:
                    raise TooMuch
                if not more:
                    ready.unregister(key.fd)
    process.wait()
    stdout, stderr = (text.decode(errors="replace") for text in said.values())
    return stdout, stderr


@dataclass
class Outcome:
    """How a part ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any] | None:
        """The part's own report, if it made one."""
        last = (self.stdout.splitlines() or [""])[-1]
        return document(last) if last.startswith(REPORT) else None


def document(line: str) -> dict[str, Any] | None:
    """A JSON object that other parts can read as well; nothing where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for item in level if isinstance(item, dict | list)
                 for inner in (item.values() if isinstance(item, dict) else item)]  # fmt: skip
    return found if isinstance(found, dict) and not level else None


def documents(text: str) -> list[dict[str, Any]]:
    """What is told on standard input, a line each."""
    found = [document(line) for line in text.splitlines() if line.strip()]
    return [NO_REPORT if told is None else told for told in found]


@dataclass
class Reachable:
    """What a part reaches: addresses, names for them (lines of /etc/hosts), and proxies."""

    addresses: set[str] = field(default_factory=set)
    names: str = ""
    proxies: dict[str, str] = field(default_factory=dict)


def reachable(urls: list[str]) -> Reachable:
    """Finds what a part must reach for some addresses; what has no address is left to the part."""
    found = Reachable()
    proxies = getproxies_environment()
    for url in urls:
        place = urlsplit(url)
        name, proxy = place.hostname or "", proxies.get(place.scheme, "")
        if name in LOOPBACK:
            found.addresses.add("localhost")
            continue
        if proxy and not proxy_bypass_environment(name, proxies):
            found.proxies[f"{place.scheme}_proxy"] = proxy
            name = urlsplit(proxy if "//" in proxy else f"//{proxy}").hostname or ""
        else:
            found.proxies["no_proxy"] = ",".join(
                filter(None, [found.proxies.get("no_proxy"), name])
            )
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            continue
        there = dict.fromkeys(str(answer[4][0]) for answer in answers)
        found.addresses |= there.keys()
        found.names += "".join(f"{address} {name}\n" for address in there if address != name)
    return found


def packed() -> str:
    """The program itself, as load.py reads it."""
    archive = getattr(sys.modules["mlflow_smoke"].__spec__.loader, "archive", None)  # type: ignore[union-attr]
    if archive is None:
        raise Unable("`apart` is run from the packed program: python3 smoke/pack.py makes it.")
    return base64.b64encode(Path(archive).read_bytes()).decode()


def access(server: Installation) -> dict[str, Any]:
    """How people log in at a server: what its own files say, which are root's.

    Returns:
        `administrator`, a name and a password, and `default_permission`; nothing where the server
        asks nobody who she is.
    """
    found = residence.settings(server.settings) if server.settings.is_file() else {}
    if not found.get(AUTH):
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(found[AUTH])
    permission = parser.get("mlflow", "default_permission", fallback="READ")
    known = server.password.read_text().strip() if server.password.is_file() else ""
    return {"administrator": [server.admin_user, known], "default_permission": permission}


def only(document: dict[str, Any], letter: str) -> dict[str, Any]:
    """The report of `begin` as who acts as A, or as B, reads it: without the other's password."""
    users = {key: user for key, user in document.get("users", {}).items() if key == letter}
    return {**document, "users": users}


def scenario2(host: Host, arguments: list[str], who: dict[str, Any]) -> Outcome:
    """Runs all parts of scenario 2.

    Nobody is told more than she needs: no password but her own, and the administrator's is for
    those parts alone that load nothing.
    """
    lost: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []

    def run(part: str, told: list[dict[str, Any]]) -> Outcome:
        outcome = host.run(part, ["scenario2", part, *arguments], told)
        if outcome.report is None:
            said = outcome.stderr or outcome.stdout or f"exit code {outcome.code}"
            advice = f"Look at its Python, {host.python}, and at who can write at the server."
            lost.append({"lost": part, "said": said, "advice": advice})
        else:
            reports.append(outcome.report)
        return outcome

    def passed() -> bool:
        return not lost and reports[-1].get("passed") is True

    administrator = [who] if who else []
    try:
        run("look", [])
        if passed():
            run("begin", administrator)
        if passed():
            begun = reports[-1]
            run("log", [only(begun, "a")])
            logged = reports[-1]
            if passed() and who:
                run("see", [only(begun, "b"), logged])
            if passed():
                run("look", [only(begun, ""), logged])
    except interruption.InterruptedBySignal as end:
        said = f"stopped by signal {end.number}"
        lost.append({"lost": "the smoke", "said": said, "advice": "Run it again."})
    interruption.ignore()
    told = [*administrator, *reports, *lost]
    lost.clear()
    outcome = run("end", told)
    if outcome.report and "before" in outcome.report:
        host.writable += host.removable
        last = run("look", [outcome.report])
        outcome = last if last.report else outcome
    return outcome


def run(arguments: list[str]) -> int:
    """Does what the command line says; returns the exit code that the part, or the smoke, has."""
    parser = argparse.ArgumentParser(
        prog="mlflow_smoke apart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", help="of an environment with MLflow (the server's own)")
    parser.add_argument("--record", type=Path, default=installation.RECORD, metavar="FILE",
                        help="which says where the server's things are (%(default)s)")  # fmt: skip
    parser.add_argument("--address", action="append", default=[], metavar="URL",
                        help="scenario 3: what a part reaches; may be given again")  # fmt: skip
    parser.add_argument("what", choices=["scenario2", "scenario3", "access"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        if options.what == "access":
            print(json.dumps({"passed": True, **access(installation.read(options.record))}))
            return 0
        outcome = parts(options)
    except interruption.InterruptedBySignal as end:
        return 128 + end.number
    except (Unable, installation.NotInstalledError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 3
    sys.stderr.write(outcome.stderr)
    sys.stdout.write(outcome.stdout)
    return outcome.code


def parts(options: argparse.Namespace) -> Outcome:
    """Runs what is wanted of a scenario."""
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir():
        raise Unable(
            f"{socket.gethostname()} must run systemd, and this must be root (become): "
            "systemd makes the user of no rank as whom the smoke loads a model."
        )
    from mlflow_smoke import cli

    wanted = cli.parser().parse_args(
        [options.what, *(["look"] if options.what == "scenario2" else []), *options.arguments]
    )
    looks = options.what == "scenario2" or wanted.part == "look"
    server = installation.read(options.record) if looks or not options.python else None
    python = options.python or (server.python if server else "")
    host = Host(python, options.address, server if looks else None)
    interruption.heed()
    if options.what == "scenario3":
        # What somebody says herself comes later, and holds.
        arguments = [*(places(server) if server and looks else []), *options.arguments]
        return host.run(wanted.part, ["scenario3", *arguments], documents(sys.stdin.read()))
    assert server  # noqa: S101 for the types
    host.addresses, host.writable = [wanted.tracking_uri], [str(wanted.database.parent)]
    host.removable = [str(wanted.artifacts)]
    who = access(server)
    host.login = bool(who)
    return scenario2(host, options.arguments, who)


def places(server: Installation) -> list[str]:
    """What `look` of scenario 3 is told of a server, as arguments."""
    disks = [server.state_dir, "/tmp", "/var/tmp"]  # noqa: S108 where there must be nothing
    return ["--settings", str(server.settings), *(f"--disk={disk}" for disk in disks)]
