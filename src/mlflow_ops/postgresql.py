"""Debian's PostgreSQL on a host: what is there, and whether it follows its files.

A role writes PostgreSQL's files, and its owner and databases are made by modules of
community.postgresql. This looks at the host, and has a running server follow: copies of the TLS
files, a reload, a restart where a setting needs one.

Runs as root; what needs PostgreSQL's superuser is done by `psql`, as the user `postgres`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .host import ports
from .host.files import read_by

POSTGRES = "postgres"  # whose the data, the log and the settings are


class Refusal(Exception):
    """What stands in the way, and what to do, in a sentence or two."""


@dataclass(frozen=True)
class Asked:
    """What a host's PostgreSQL should be.

    Attributes:
        port: where it listens.
        clients: other hosts that connect, by name or address.
        owner: the role that owns the databases.
        databases: their names.
        password_file: where the owner's password is kept.
        certificate: a PEM file, read by root; '' without clients.
        key: its key.
        least_connections: how many PostgreSQL must accept.
        files: mode by name, below the cluster's configuration.
        texts: what they say, by name, for those that are to be written.
    """

    port: int
    clients: list[str] = field(default_factory=list)
    owner: str = ""
    databases: list[str] = field(default_factory=list)
    password_file: str = ""
    certificate: str = ""
    key: str = ""
    least_connections: int = 0
    files: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class Steps:
    """What is not as it should be, and whether it is done or only said.

    Attributes:
        taken: a line for each.
    """

    def __init__(self, act: bool) -> None:
        self.act = act
        self.taken: list[str] = []

    def take(self, what: str) -> bool:
        """Note one thing that is not as it should be; return whether to do it."""
        self.taken.append(what)
        return self.act


class Cluster:
    """One of Debian's clusters, as `pg_lsclusters` lists it."""

    def __init__(self, line: str) -> None:
        self.version, self.name, port, _, _, self.data, self.log = line.split()[:7]
        self.port = int(port)  # what its settings say; see `running` for what is so
        self.config = Path("/etc/postgresql", self.version, self.name)
        self.settings = self.config / "conf.d/mlflow.conf"
        self.unit = f"postgresql@{self.version}-{self.name}.service"
        self.drop_in = Path(f"/etc/systemd/system/{self.unit}.d/mlflow.conf")

    def running(self) -> dict[str, Any]:
        """Return pid, port and socket directory of the running server, {} if there is none."""
        try:
            lines = read_own(Path(self.data, "postmaster.pid")).splitlines()
            pid = int(lines[0])
            if Path("/proc", str(pid), "comm").read_text().strip() != "postgres":
                return {}
            return {"pid": pid, "port": lines[3], "socket": lines[4].split(",")[0]}
        except (OSError, IndexError, ValueError):
            return {}

    def sql(self, statement: str) -> str:
        """Run SQL as the superuser, over the Unix socket; return what it answers.

        Raises Refusal with the server's words.
        """
        server = self.running()
        done = run(
            "runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--quiet", "--no-align",
            "--tuples-only", "--set=ON_ERROR_STOP=1", "--dbname=postgres", "--no-password",
            f"--host={server.get('socket')}", f"--port={server.get('port')}", stdin=statement,
        )  # fmt: skip
        if done.returncode:
            raise Refusal(f"It refused a statement: {done.stderr.strip()}")
        return done.stdout.strip()

    def last_words(self) -> str:
        """Return the end of its log."""
        try:
            lines = read_own(Path(self.log)).splitlines()[-8:]
        except OSError:
            lines = []
        return "\n  ".join([f"The end of {self.log}:", *lines])


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command, in no directory that `postgres` might not read, in no language but C."""
    return subprocess.run(
        command, input=stdin, cwd="/", env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def read_own(file: Path) -> str:
    """Return the text of a file in a directory of postgres'. Raises OSError."""
    return read_by(POSTGRES, file).decode(errors="replace")


def clusters() -> list[Cluster]:
    """Return all clusters of this host."""
    if not shutil.which("pg_lsclusters"):
        return []
    return [Cluster(line) for line in run("pg_lsclusters", "--no-header").stdout.splitlines()]


def chosen(found: list[Cluster], port: int) -> Cluster | None:
    """Return the only cluster, or the one of the port that is asked for."""
    if len(found) == 1:
        return found[0]
    return next((cluster for cluster in found if cluster.port == port), None)


# look --------------------------------------------------------------------------------------------


def system() -> dict[str, str]:
    """Return what the host says of its distribution."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def memory_mb() -> int:
    """Return the host's memory, or the part of it that a container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        pass
    return total // 2**20


def half_installed() -> bool:
    """Return whether an installation was cut off; apt refuses any other until it is finished."""
    states = run("dpkg-query", "--show", "--showformat=${db:Status-Status}\n").stdout.split()
    unfinished = {"unpacked", "half-configured", "half-installed", "triggers-pending"}
    return bool(unfinished & {*states}) or any(
        file.name.isdigit() for file in Path("/var/lib/dpkg/updates").glob("*")
    )


def listener(port: int, own_pid: int) -> str:
    """Return who else listens on a port, '' for nobody."""
    known = ports.processes({port}).get(port)
    if known is None or any(process.pid == own_pid for process in known):
        return ports.NOBODY
    return ports.listener({"port": port}, known)


def addresses(client: str) -> list[str]:
    """Return a client's addresses as pg_hba.conf writes them, [] for an unknown name."""
    try:
        known = socket.getaddrinfo(client, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    found = {str(entry[4][0]) for entry in known}
    # Debian's /etc/hosts calls the host itself 127.0.1.1; who connects to that is 127.0.0.1.
    if any(address == "::1" or address.startswith("127.") for address in found):
        found |= {"127.0.0.1", "::1"}
    found = {address for address in found if "%" not in address}  # link-local
    return [f"{address}/{128 if ':' in address else 32}" for address in sorted(found)]


@functools.cache
def databases(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return all databases but PostgreSQL's own."""
    found: dict[str, dict[str, Any]] = json.loads(
        cluster.sql("""
        SELECT coalesce(json_object_agg(datname, json_build_object(
            'owner', pg_get_userbyid(datdba),
            'encoding', pg_encoding_to_char(encoding),
            'public', has_database_privilege('public', oid, 'CONNECT')
                      OR has_database_privilege('public', oid, 'TEMPORARY'))), '{}')
        FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'""")
    )
    return found


def plain(cluster: Cluster, owner: str) -> bool:
    """Return whether the owner is there, may log in and no more, and has no password.

    With clients it has one, which is not compared here: what PostgreSQL keeps is a verifier.
    """
    statement = f"""
        SELECT rolcanlogin AND rolpassword IS NULL AND NOT
            (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
        FROM pg_authid WHERE rolname = '{owner}'"""  # noqa: S608 the role allows no quotes
    return cluster.sql(statement) == "t"


def digest(file: Path, mode: str, user: str = POSTGRES) -> str:
    """Return a file's sha256, '' where it is absent or not the user's own with this mode."""
    try:
        status, owner = file.lstat(), pwd.getpwnam(user)
        if (status.st_uid, status.st_gid) != (owner.pw_uid, owner.pw_gid):
            return ""
        if status.st_mode & 0o7777 != int(mode, 8):
            return ""
        return hashlib.sha256(read_by(POSTGRES, file)).hexdigest()
    except (OSError, KeyError):
        return ""


def link(cluster: Cluster) -> str:
    """Return a link in the place of one of the directories of settings that are postgres' own."""
    places = [cluster.settings.parent, *cluster.settings.parent.parents]
    made = [place for place in places if place.is_symlink() and place.parent.stat().st_uid != 0]
    return str(made[-1]) if made else ""


def behind(cluster: Cluster, asked: Asked) -> bool:
    """Return whether `follow` would do something, or refuse: else it need not be asked."""
    if asked.clients:  # the TLS files may be renewed after this look
        return True
    steps = Steps(act=False)
    try:
        follow(cluster, asked, steps)
    except Refusal:
        return True
    return bool(steps.taken)


def look(asked: Asked) -> dict[str, Any]:
    """Return what the role must know of the host. Raises Refusal where PostgreSQL does not say."""
    found = clusters()
    cluster = chosen(found, asked.port)
    server = cluster.running() if cluster else {}
    root = os.geteuid() == 0
    serving = cluster if server and root else None
    there = databases(serving) if serving else {}
    distribution = system()
    version = distribution.get("VERSION_ID", "99")  # testing has none
    nearest = Path("/var/lib/postgresql")
    while not nearest.exists():
        nearest = nearest.parent
    try:
        password = Path(asked.password_file).stat()
    except OSError:
        password = None
    installed = [path.parts[-3] for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    wanted = {"owner": asked.owner, "encoding": "UTF8"}
    return {
        "root": root,
        "systemd": Path("/run/systemd/system").is_dir(),
        "pid1": Path("/proc/1/comm").read_text().strip(),
        "system": distribution.get("PRETTY_NAME", "an unknown system"),
        "debian": distribution.get("ID") == "debian" and float(version) >= 12,
        "memory_mb": memory_mb(),
        "free_mb": shutil.disk_usage(str(nearest)).free // 1000000,
        "half_installed": bool(shutil.which("dpkg")) and half_installed(),
        "installed": max(installed, default=""),
        # With which Debian's own Python asks a database, as community.postgresql does.
        "driver": Path("/usr/lib/python3/dist-packages/psycopg2").is_dir(),
        "clusters": [f"{one.version}/{one.name} on {one.port}" for one in found],
        "cluster": (
            {"version": cluster.version, "name": cluster.name, "running": bool(server)}
            if cluster
            else {}
        ),
        "socket": server.get("socket", ""),
        "port": int(server.get("port", asked.port)),
        "link": link(cluster) if cluster else "",
        "listener": listener(asked.port, server.get("pid", 0)),
        "clients": {client: addresses(client) for client in asked.clients},
        # Once the cluster is this role's, a team may have put more into it.
        "foreign": (
            sorted({*there} - {*asked.databases})
            if cluster and not cluster.settings.exists()
            else []
        ),
        "refused": [
            f"{name} of {there[name]['owner']} ({there[name]['encoding']})"
            for name in asked.databases
            if name in there and not wanted.items() <= there[name].items()
        ],
        "password_file": bool(password),
        "password": bool(
            password and password.st_size and password.st_uid == 0 and password.st_mode & 0o077 == 0
        ),
        # Of files that are as the role would write them, and of a cluster that follows them, it
        # asks nothing more: each question costs a round trip.
        "digests": {
            name: digest(cluster.config / name, mode) if cluster else ""
            for name, mode in asked.files.items()
        },
        "drop_in": digest(cluster.drop_in, "0644", "root") if cluster else "",
        "behind": behind(serving, asked) if serving else True,
        "plain": plain(serving, asked.owner) if serving else False,
        "missing": [name for name in asked.databases if name not in there],
        "open": [name for name in asked.databases if name in there and there[name]["public"]],
    }


# follow -------------------------------------------------------------------------------------------


def put(file: Path, text: str, mode: str) -> None:
    """Write a file of postgres', all of it or nothing. Raises Refusal.

    As the directory's owner, so that root follows no link that it may have put there.
    """
    done = run(
        "runuser", "--user=postgres", "--", "sh", "-c",
        'umask 077; cat > "$1.new" && chmod "$2" "$1.new" && mv -T "$1.new" "$1"', "sh",
        str(file), mode, stdin=text,
    )  # fmt: skip
    if done.returncode:
        raise Refusal(f"{file} cannot be written: {done.stderr.strip()}")


def write(cluster: Cluster, asked: Asked, steps: Steps) -> list[dict[str, str]]:
    """Give its files their text; return how they differ, as Ansible shows it. Raises Refusal."""
    differences = []
    for name, text in asked.texts.items():
        file, before = cluster.config / name, ""
        if digest(file, asked.files[name]) == hashlib.sha256(text.encode()).hexdigest():
            continue
        with contextlib.suppress(OSError):
            before = read_own(file)
        if steps.take(f"wrote {file}"):
            put(file, text, asked.files[name])
        differences.append({"before_header": str(file), "before": before, "after": text})
    return differences


def install_tls(cluster: Cluster, asked: Asked, steps: Steps) -> list[Path]:
    """Give PostgreSQL copies of certificate and key, which it could not read where they are.

    Returns the copies. Raises Refusal where the two do not belong together.
    """
    if not asked.clients:
        return []
    sources = {"certificate": Path(asked.certificate), "key": Path(asked.key)}
    copies = {"certificate": cluster.config / "mlflow.pem", "key": cluster.config / "mlflow.key"}
    for what, source in sources.items():
        if not source.is_file():
            if not steps.act:  # a role before this one would have made it
                return []
            raise Refusal(f"postgresql_tls_{what} is {source}, which is not there.")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sources["certificate"], sources["key"], password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise Refusal(
            f"postgresql_tls_certificate ({sources['certificate']}) and postgresql_tls_key "
            f"({sources['key']}) are not a certificate with its key, in PEM, without a passphrase: "
            f"{error}"
        ) from error
    # The key first: a reload in between is refused, and PostgreSQL goes on with the old pair.
    for what in ("key", "certificate"):
        content = sources[what].read_bytes()
        with contextlib.suppress(OSError):  # it is not there, or is no file
            if read_by(POSTGRES, copies[what]) == content:
                continue
        if steps.take(f"TLS {what}"):
            put(copies[what], content.decode(), "0600")
    return list(copies.values())


def loaded(cluster: Cluster) -> float:
    """Return when PostgreSQL last read its files."""
    return float(cluster.sql("SELECT extract(epoch FROM pg_conf_load_time())"))


def load(cluster: Cluster, files: list[Path], steps: Steps) -> None:
    """Have PostgreSQL read what is newer than what it has, and restart for what it only reads then.

    Raises Refusal where it does not.
    """
    before = loaded(cluster)
    if max(path.stat().st_ctime for path in files) > before:
        # A reload would take the good half of a bad file, and a restart none: not with a bad file.
        bad = cluster.sql("""
            SELECT sourcefile || ':' || sourceline || ': ' || error FROM pg_file_settings
            WHERE error IS NOT NULL AND error <> 'setting could not be applied'
            UNION ALL SELECT 'pg_hba.conf:' || line_number || ': ' || error FROM pg_hba_file_rules
            WHERE error IS NOT NULL AND error NOT LIKE '%because SSL is disabled'""")
        if bad:
            raise Refusal(f"Its files have errors, and were not loaded: {bad}")
        if steps.take("reload"):
            cluster.sql("SELECT pg_reload_conf()")
            deadline = time.monotonic() + 15
            while loaded(cluster) <= before:
                if time.monotonic() > deadline:
                    raise Refusal(f"It was told to reload and did not. {cluster.last_words()}")
                time.sleep(0.05)
    settings = read_own(cluster.settings) if cluster.settings.exists() else ""
    ours = re.findall(r"(?m)^(\w+) *=", settings)
    pending = cluster.sql("SELECT name FROM pg_settings WHERE pending_restart ORDER BY 1").split()
    if wanting := [name for name in pending if name in ours]:
        restart = steps.take(f"restart, for {', '.join(wanting)}")
        if restart and run("systemctl", "restart", cluster.unit).returncode:
            raise Refusal(
                f"It does not start with its new settings ({cluster.settings}). "
                f"{cluster.last_words()}"
            )


def check_settings(cluster: Cluster, asked: Asked) -> None:
    """See that no other file or ALTER SYSTEM overrides what the rest relies on.

    Raises Refusal naming the place.
    """
    wanted = {"listen_addresses": "*" if asked.clients else "", "port": str(asked.port),
              "ssl": "on" if asked.clients else "off"}  # fmt: skip
    rows = json.loads(
        cluster.sql("""
        SELECT json_object_agg(name, json_build_array(setting, sourcefile || ':' || sourceline))
        FROM pg_settings WHERE name IN ('listen_addresses', 'port', 'ssl', 'max_connections')""")
    )
    wrong = [name for name, value in wanted.items() if rows[name][0] != value]
    if int(rows["max_connections"][0]) < asked.least_connections:
        wrong.append("max_connections")
    if wrong:
        places = ", ".join(f"{name} = '{rows[name][0]}' ({rows[name][1]})" for name in wrong)
        raise Refusal(
            f"{cluster.settings} does not decide: {places}. Remove that there (where it is "
            f"postgresql.auto.conf: ALTER SYSTEM RESET {wrong[0]}), and have it read: "
            "SELECT pg_reload_conf();"
        )


def check_tls(cluster: Cluster, certificate: Path, port: int) -> None:
    """See that PostgreSQL speaks TLS, with this certificate. Raises Refusal if it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # compared as a whole instead
    text = certificate.read_text()
    first = text[text.index("-----BEGIN CERT") : text.index("-----END CERT")] + ssl.PEM_FOOTER
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest
            if plain.recv(1) != b"S":
                raise Refusal(f"It offers no TLS. {cluster.last_words()}")
            with context.wrap_socket(plain) as speaking:
                shown = speaking.getpeercert(binary_form=True)
    except OSError as error:
        raise Refusal(f"It does not speak TLS: {error}. {cluster.last_words()}") from error
    if shown != ssl.PEM_cert_to_DER_cert(first):
        raise Refusal(f"It shows another certificate than {certificate}. {cluster.last_words()}")


def follow(cluster: Cluster | None, asked: Asked, steps: Steps, written: bool = True) -> None:
    """Bring the running server to what its files say.

    Args:
        cluster: the one that is meant; None where there is none, or more than one.
        asked: what it should be.
        steps: what is done, or would be.
        written: whether its files are what they will be; check mode writes none.

    Raises Refusal where that cannot be.
    """
    if not cluster:
        raise Refusal("There is no cluster, or more than one.")
    if not cluster.running():
        if not steps.take("start"):
            return
        if run("systemctl", "start", cluster.unit).returncode:
            raise Refusal(f"It does not start. {cluster.last_words()}")
    copies = install_tls(cluster, asked, steps)
    files = [cluster.settings, cluster.config / "pg_hba.conf", *copies]
    load(cluster, [path for path in files if path.exists()], steps)
    if written:
        check_settings(cluster, asked)
        if copies:
            check_tls(cluster, copies[0], asked.port)
