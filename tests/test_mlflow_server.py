"""The role mlflow_server: what its templates say, and what it refuses before it asks a host."""

import configparser
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from refusals import refused

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_server"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

# What the look at an ordinary host sees.
HOST = {"cores": 4, "memory_mb": 8000, "names": ["team1"], "addresses": ["192.0.2.20"]}
SCHEMA: dict[str, object] = {"databases": []}

Render = Callable[..., str]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render one of the role's templates by Ansible, with the role's own variables."""

    def run(template: str, host: dict[str, object] | None = None, **variables: object) -> str:
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
            "vars": {
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "mlflow_server_environment": "/opt/mlflow/current",
                "__mlflow_server_found": {**HOST, **(host or {})},
                "__mlflow_server_schema": {"answer": SCHEMA},
            },
            "tasks": [{
                "ansible.builtin.template": {
                    "src": f"{ROLE}/templates/{template}.j2",
                    "dest": f"{tmp_path}/{template}",
                    "mode": "0600",
                }
            }],
        }  # fmt: skip
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        # Extra variables stand above vars_files, as an inventory's do above a role's defaults.
        done = subprocess.run(
            [ANSIBLE, "-i", "localhost,", playbook, "-e", json.dumps(variables)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return (tmp_path / template).read_text()

    return run


def settings(text: str) -> dict[str, str]:
    """Return what an environment file says; its quoting is that of a shell, without expansion."""
    return dict(line.split("=", 1) for line in shlex.split(text, comments=True))


def test_sqlite_is_the_default(render: Render) -> None:
    """The service's environment, without anything that was not asked for."""
    found = settings(render("server.env"))
    assert found["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////var/lib/mlflow/mlflow.db"
    assert found["MLFLOW_ARTIFACTS_DESTINATION"] == "/var/lib/mlflow/artifacts_local"
    assert found["MLFLOW_HOST"] == "127.0.0.1"
    assert found["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert found["MLFLOW_BASIC_AUTH_FAIL_CLOSED"] == "true"
    assert not [name for name in found if name.startswith("MLFLOW_GUARD")]
    assert not [name for name in found if name.startswith(("AWS_", "MLFLOW_S3", "MLFLOW_AUTH"))]


@pytest.mark.parametrize("password", ["p/ss:w@rd", "100%", 'a"b\\c$d e#f', "ünïcode?&="])
def test_any_password_reaches_postgresql(render: Render, password: str) -> None:
    """A password of any characters survives the address and the environment file."""
    text = render(
        "server.env",
        mlflow_server_database_kind="postgresql",
        mlflow_server_database_host="db.example.com",
        mlflow_server_database_password=password,
        mlflow_server_database_ca="/etc/ssl/db.pem",
    )
    uri = urlsplit(settings(text)["MLFLOW_BACKEND_STORE_URI"])
    assert uri.scheme == "postgresql+psycopg"
    assert unquote(uri.password or "") == password
    assert (uri.username, uri.hostname, uri.port, uri.path) == (
        "mlflow", "db.example.com", 5432, "/mlflow",
    )  # fmt: skip
    assert parse_qs(uri.query) == {"sslmode": ["verify-full"], "sslrootcert": ["/etc/ssl/db.pem"]}


def test_peer_authentication_has_no_password(render: Render) -> None:
    """On a Unix socket the operating system vouches for the user."""
    text = render("server.env", mlflow_server_database_kind="postgresql")
    uri = urlsplit(settings(text)["MLFLOW_BACKEND_STORE_URI"])
    assert (uri.username, uri.password, uri.hostname) == ("mlflow", None, None)
    assert parse_qs(uri.query)["host"] == ["/var/run/postgresql"]


def test_names_with_and_without_port(render: Render) -> None:
    """MLflow compares the Host header as text; addresses count only beyond loopback."""
    names = settings(render("server.env", mlflow_server_allowed_hosts=["alias.example"]))
    hosts = names["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for name in ("localhost", "127.0.0.1", "team1", "alias.example"):
        assert {name, f"{name}:5000"} <= {*hosts}
    assert "192.0.2.20" not in hosts
    assert "http://team1:5000" in names["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    other = {"mlflow_server_allowed_hosts": ["Alias.Example", "2001:DB8::7", "[2001:db8::8]"]}
    opened = settings(render("server.env", mlflow_server_host="0.0.0.0", **other))  # noqa: S104
    hosts = opened["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for name in ("192.0.2.20", "alias.example", "[2001:db8::7]", "[2001:db8::8]"):
        assert {name, f"{name}:5000"} <= {*hosts}


@pytest.mark.parametrize(
    "host, variables, workers",
    [
        ({}, {}, "2"),  # SQLite has one writer
        ({}, {"mlflow_server_database_kind": "postgresql"}, "4"),
        ({"cores": 1}, {}, "1"),
        ({"memory_mb": 1900}, {"mlflow_server_database_kind": "postgresql"}, "1"),
        ({"memory_mb": 500}, {}, "1"),
        ({}, {"mlflow_server_workers": "7"}, "7"),
    ],
)
def test_workers(
    render: Render, host: dict[str, object], variables: dict[str, object], workers: str
) -> None:
    """Cores, memory and database decide, unless a number is given."""
    assert settings(render("server.env", host, **variables))["MLFLOW_WORKERS"] == workers


@pytest.mark.parametrize(
    "variables, limit",
    [
        ({}, "60%"),
        ({"mlflow_server_jobs": True}, "80%"),
        ({"mlflow_server_memory_mb": 3000}, "3000M"),
        ({"mlflow_server_memory_mb": 0}, "infinity"),
    ],
)
def test_memory(render: Render, variables: dict[str, object], limit: str) -> None:
    """A share of the host's, whatever that is. The kernel takes a worker, no database."""
    unit = render("mlflow.service", {"memory_mb": 8100}, **variables)
    assert unit == render("mlflow.service", {"memory_mb": 900, "cores": 1}, **variables)
    assert f"\nMemoryMax={limit}\n" in unit
    assert ("\nMemorySwapMax=512M\n" in unit) == (limit != "infinity")
    assert "\nOOMPolicy=continue\nOOMScoreAdjust=500\n" in unit


def test_s3(render: Render) -> None:
    """An endpoint of one's own, with its key and arguments."""
    found = settings(
        render(
            "server.env",
            mlflow_server_artifacts_destination="s3://models/mlflow",
            mlflow_server_s3_endpoint_url="https://s3.example.com",
            mlflow_server_s3_access_key="AKIAEXAMPLE",
            mlflow_server_s3_secret_key='se"cret/',  # noqa: S106
            mlflow_server_s3_upload_extra_args={"ServerSideEncryption": "AES256"},
        )
    )
    assert found["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert found["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
    assert found["AWS_SECRET_ACCESS_KEY"] == 'se"cret/'  # noqa: S105
    assert json.loads(found["MLFLOW_S3_UPLOAD_EXTRA_ARGS"]) == {"ServerSideEncryption": "AES256"}


def test_authentication_file(render: Render) -> None:
    """MLflow reads it with configparser, to which a % is special."""
    text = render(
        "basic_auth.ini",
        mlflow_server_auth=True,
        mlflow_server_database_kind="postgresql",
        mlflow_server_database_password="p/%",  # noqa: S106
    )
    parser = configparser.ConfigParser()
    parser.read_string(text)
    section = parser["mlflow"]
    assert section["admin_password"] == ""  # root alone has it
    uri = urlsplit(section["database_uri"])
    assert (unquote(uri.password or ""), uri.path) == ("p/%", "/mlflow_auth")
    assert section["auth_cache_ttl_seconds"] == "60"


def test_unit_follows_the_environment(render: Render) -> None:
    """One link moves between versions, and the unit need not be written anew."""
    unit = render("mlflow.service")
    python = "/opt/mlflow/current/bin/python"
    tools = "/usr/local/lib/mlflow/current"
    # What serves has forgotten the old secrets when a rotation forgets them.
    serves = f"/usr/bin/env --unset=MLFLOW_ROTATION {python} -Es {tools} serve"
    assert f"ExecStart={serves}\n" in unit
    assert f"ExecStartPre=+{python} -BEs {tools} reconcile --user mlflow\n" in unit
    assert "basic-auth" not in unit
    assert "chgrp" not in unit


def test_unit_guards_a_socket(render: Render) -> None:
    """A reverse proxy's group reaches the socket's directory, and nobody else does."""
    unit = render(
        "mlflow.service",
        mlflow_server_socket="/run/mlflow/mlflow.sock",
        mlflow_server_socket_group="www-data",
        mlflow_server_auth=True,
    )
    # Before each other command systemd gives the directory to the service's own group again.
    commands = [line for line in unit.splitlines() if line.startswith("Exec")]
    assert commands[-1] == "ExecStartPost=+/usr/bin/chgrp --no-dereference www-data /run/mlflow"
    assert "RuntimeDirectoryMode=0750" in unit
    assert "current serve --app-name basic-auth" in unit


@pytest.mark.parametrize(
    ("destination", "apart"),
    [
        ("/var/lib/mlflow/artifacts_local", False),
        ("/var/lib/mlflow/a/b", False),
        ("/var/lib/mlflow-more", True),
    ],
)
def test_unit_opens_paths_of_root_s_directories_alone(
    render: Render, destination: str, apart: bool
) -> None:
    """systemd, as root, follows a link in them; below the first, the service could make one."""
    unit = render("mlflow.service", mlflow_server_artifacts_destination=destination)
    opened = f"ReadWritePaths=/var/lib/mlflow{' ' + destination if apart else ''}\n"
    assert opened in unit


TLS: dict[str, object] = {
    "inventory_hostname": "team1",
    "mlflow_server_host": "0.0.0.0",  # noqa: S104
    "mlflow_server_tls_certificate": "/etc/ssl/own.pem",
    "mlflow_server_tls_key": "/etc/ssl/own.key",
    "mlflow_server_tls_client_ca": "/etc/ssl/ca.pem",
}


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_mutual_tls(render: Render, server: str) -> None:
    """The service has a copy of the key, and asks everybody for a certificate."""
    unit = render("mlflow.service", **TLS)
    copied = next(line for line in unit.splitlines() if line.startswith("ExecStartPre=+"))
    assert "/usr/bin/setpriv --reuid=mlflow " in copied  # who writes it: the directory is hers
    assert copied.endswith(" /etc/ssl/own.key /run/mlflow/tls.key")
    found = settings(render("server.env", **TLS))
    assert found["MLFLOW_LISTEN_TLS_NAME"] == "team1"
    assert {name for name in found if "_TLS_CLIENT_" in name} == {"MLFLOW_LISTEN_TLS_CLIENT_CA"}
    done = served(f'print(*serve.adapted(["python", "-m", "{server}", "app"], {found!r}))')
    prefix = "--ssl-" if server == "uvicorn" else "--"
    for words in (
        "certfile /etc/ssl/own.pem",
        "keyfile /run/mlflow/tls.key",
        "ca-certs /etc/ssl/ca.pem",
        "cert-reqs 2",
    ):
        assert prefix + words in done.stdout
    if server == "uvicorn":
        # MLflow's application is inside the guard.
        assert f"--app-dir {ROOT}/src " in done.stdout
        assert " --factory " in done.stdout
        assert done.stdout.endswith(" mlflow_ops.server.guard:application\n")
    else:
        assert " --timeout 600 " in done.stdout  # a large artifact and a slow store
        assert done.stdout.endswith(" app\n")


def test_a_certificate_of_its_own_for_who_asks(render: Render) -> None:
    """mlflow-ready shows the server a certificate for clients, whose key is copied likewise."""
    asks: dict[str, object] = {
        "mlflow_server_tls_client_certificate": "/etc/ssl/client.pem",
        "mlflow_server_tls_client_key": "/etc/ssl/client.key",
    }
    unit = render("mlflow.service", **TLS, **asks)
    assert " /etc/ssl/own.key /run/mlflow/tls.key\n" in unit
    assert " /etc/ssl/client.key /run/mlflow/client.key\n" in unit
    found = settings(render("server.env", **TLS, **asks))
    assert found["MLFLOW_LISTEN_TLS_CERTIFICATE"] == "/etc/ssl/own.pem"
    assert found["MLFLOW_LISTEN_TLS_CLIENT_CERTIFICATE"] == "/etc/ssl/client.pem"
    assert found["MLFLOW_LISTEN_TLS_CLIENT_KEY"] == "/run/mlflow/client.key"


def test_the_unit_comes_before_the_file_without_the_password() -> None:
    """A run may be killed after each: an older unit starts with the older file alone."""
    parts = re.findall(r"import_tasks: (\w+\.yml)", (ROLE / "tasks/main.yml").read_text())
    tasks = [task for part in parts for task in yaml.safe_load((ROLE / "tasks" / part).read_text())]
    written = [
        task["ansible.builtin.template"]["src"]
        for task in tasks
        if "ansible.builtin.template" in task
    ]
    assert written.index("mlflow.service.j2") < written.index("basic_auth.ini.j2")


def served(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has what is in server/serve.py.

    MLflow is not installed here, and what is looked at does not use it.
    """
    start = """
import sys, types
mlflow = types.ModuleType("mlflow")
mlflow.server, mlflow.cli = mlflow, None
mlflow.VERSION = "3.17.2"
names = ("mlflow", "mlflow.server", "mlflow.cli", "mlflow.version")
sys.modules.update(dict.fromkeys(names, mlflow))
from mlflow_ops.server import serve
"""
    return subprocess.run(
        [sys.executable, "-c", start + program], env={**os.environ, "PYTHONPATH": f"{ROOT}/src"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 nobody listens
def test_nobody_else_is_localhost(host: str) -> None:
    """It means ::1 to clients as well, before the server's own address; that is held, and shut."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            port = listening.getsockname()[1]
            told = {"MLFLOW_HOST": host, "MLFLOW_PORT": str(port)}
            hold = f"held = serve.held({told!r}, patience=0.1)\n"
            done = served(hold)
    except OSError:
        pytest.skip("no IPv6 here")
    assert done.returncode and f"Somebody else has port {port} of ::" in done.stderr
    assert "Traceback" not in done.stderr
    done = served(
        hold
        + f"""
import errno, os, socket
assert os.get_inheritable(held.fileno())
with socket.socket() as own:
    own.bind(("{host}", {port}))
    own.listen()
    for reuse in 0, 1:
        with socket.socket(socket.AF_INET6) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            try:
                other.bind(("::1", {port}))
                print("bound")
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
    print(socket.create_connection(("localhost", {port})).getpeername()[0])
"""
    )
    assert done.stdout == "127.0.0.1\n", done.stderr


@pytest.mark.parametrize("both", [True, False])
def test_everywhere_is_ipv4_and_ipv6(both: bool) -> None:
    """As uvicorn and gunicorn are told; on a kernel without IPv6, IPv4 alone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"MLFLOW_HOST": "::", "MLFLOW_PORT": str(port)}
    done = served(f"""
import os, socket
both = {both} and socket.has_dualstack_ipv6()
socket.has_dualstack_ipv6 = lambda: both
place = serve.everywhere({told!r})
assert os.get_inheritable(place.fileno()) and place.fileno() > 2
for command in (["uvicorn"], ["gunicorn", "-b", "[::]:{port}"]):
    print(*serve.adapted([*command, "app"], {told!r}, place))
listening = socket.socket(fileno=os.dup(place.fileno()))
listening.listen()
for address in ["127.0.0.1"] + ["::1"] * both:
    socket.create_connection((address, {port})).close()
print(place.fileno())
""")
    assert not done.returncode, done.stderr
    uvicorn, gunicorn, number = done.stdout.splitlines()
    assert f" --fd {number} " in uvicorn
    assert f" -b fd://{number} " in gunicorn


def test_what_is_not_localhost_holds_nothing() -> None:
    for told in (
        {"MLFLOW_LISTEN_SOCKET": "/run/mlflow/s"},
        {"MLFLOW_HOST": "192.0.2.7"},
        {"MLFLOW_HOST": "localhost"},
    ):
        assert served(f"print(serve.held({told!r}))").stdout == "None\n"


# name: (of what the look says of the unit, what is not as usual; whether it must be started anew)
STATES: dict[str, tuple[dict[str, object], bool]] = {
    "all is well": ({}, False),
    "a run was killed before the restart": ({"unread": True}, True),
    "systemd has not read the unit": ({"unit_changed": True}, True),
    "its environment was made for another Python": ({}, True),
    "it never comes up": ({"state": "activating", "active": False}, True),
    "stopped": ({"state": "inactive", "active": False, "unit_changed": True}, False),
}


def test_a_service_that_has_not_read_its_files_is_started_anew(tmp_path: Path) -> None:
    """Or one that is not up, and may never be."""
    usual = {"state": "active", "active": True, "unit_changed": False, "unread": False}
    hosts = {
        case.replace(" ", "_"): {
            "__mlflow_server_found": {
                "units": {"mlflow.service": {**usual, **said}},
                "unusable": {"/opt/mlflow/3": "Why."} if "Python" in case else {},
            },
            "stale": stale,
        }
        for case, (said, stale) in STATES.items()
    }
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
        "tasks": [{"ansible.builtin.assert": {"that": "__mlflow_server_stale == stale"}}],
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    done = subprocess.run(
        [ANSIBLE, "-i", tmp_path / "hosts.yml", tmp_path / "playbook.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.count("All assertions passed") == len(STATES), done.stdout


# name: (hosts that have keys, each with its leader; where s1, whose leader is s1, has its own from)
SOURCES: dict[str, tuple[dict[str, str], str]] = {
    "nobody has any": ({}, "s1"),
    "all have": ({"s1": "s1", "s2": "s1"}, "s1"),
    "the leader lost them": ({"s2": "s1"}, "s2"),
    "the other is a stranger": ({"s2": "s2"}, "s1"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_keys_come_from_the_leader(case: str, tmp_path: Path) -> None:
    """Or from a server that had them from it, and never from one that has another leader."""
    having, source = SOURCES[case]
    seen = {
        host: {
            "question": {"about": having.get(host, "s1")},
            "absent": [] if host in having else ["/etc/mlflow/secrets.env"],
        }
        for host in ("s1", "s2")
    }
    play = {
        "hosts": "s1,s2",
        "gather_facts": False,
        "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
        "tasks": [
            {"ansible.builtin.set_fact": {"__mlflow_server_found": "{{ seen[host] }}"}},
            {"ansible.builtin.debug": {"msg": "source={{ __mlflow_server_source }}"}},
        ],
    }  # fmt: skip
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(yaml.safe_dump([play], sort_keys=False))
    extra = {"mlflow_server_leader": "s1", "host": "{{ inventory_hostname }}", "seen": seen}
    done = subprocess.run(
        [ANSIBLE, "-i", "s1,s2", playbook, "-e", json.dumps(extra)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"source={source}") == 2, done.stdout


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "no workers": ({"mlflow_server_workers": 0}, ["mlflow_server_workers", '"0"', "auto"]),
    "a word for memory": (
        {"mlflow_server_memory_mb": "2G"},
        ["mlflow_server_memory_mb", '"2G"', "auto", "0 for no limit"],
    ),
    "fewer than no failures": (
        {"mlflow_server_auth_failures_per_minute": -1},
        ["mlflow_server_auth_failures_per_minute", "0 or more"],
    ),
    "a name with a space": (
        {"mlflow_server_allowed_hosts": ["my host"]},
        ["mlflow_server_allowed_hosts", '"my host"', "mlflow.example.com"],
    ),
    "open without users": (
        {"mlflow_server_host": "0.0.0.0"},  # noqa: S104
        ["mlflow_server_host", "mlflow_server_auth: true", "mlflow_server_allow_anonymous: true"],
    ),
    "the guard switched off": (
        {
            "mlflow_server_extra_environment": {"MLFLOW_BASIC_AUTH_FAIL_CLOSED": "false"},
            "mlflow_server_artifact_roots": ["/srv/models", "/srv/../etc", "models"],
        },
        ["MLFLOW_BASIC_AUTH_FAIL_CLOSED", "artifact_roots", '"models", "/srv/../etc"'],
    ),
    "no such port": ({"mlflow_server_port": 70000}, ["mlflow_server_port", "70000", "65535"]),
    "a socket anywhere": (
        {"mlflow_server_socket": "/srv/s"},
        ["mlflow_server_socket", "/run/mlflow/"],
    ),
    "half of TLS": (
        {"mlflow_server_tls_certificate": "/etc/ssl/own.pem"},
        ["mlflow_server_tls_key", "mlflow_server_tls_client_ca", "all be set"],
    ),
    "an unknown leader": ({"mlflow_server_leader": "nobody"}, ["mlflow_server_leader", "nobody"]),
    "a relative directory": (
        {"mlflow_server_state_dir": "data"},
        ["mlflow_server_state_dir", "absolute"],
    ),
    "half a key": (
        {"mlflow_server_s3_access_key": "AKIA"},
        ["mlflow_server_s3_access_key", "mlflow_server_s3_secret_key"],
    ),
    "a short password": (
        {"mlflow_server_auth_admin_password": "short"},
        ["mlflow_server_auth_admin_password", "12"],
    ),
    "an origin without a scheme": (
        {"mlflow_server_cors_origins": ["mlflow.example.com"]},
        ["mlflow_server_cors_origins", "https://mlflow.example.com"],
    ),
}


# Without sudo: what is refused is refused before it would be needed.
PLAY = (ROOT / "playbooks/scenario2.yml", "--check")
COMMON: dict[str, Any] = {"group": "scenario2", "ansible_become": False}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what scenario 2, on this machine in check mode, answers each bad input with."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    return refused(tmp_path_factory.mktemp("bad"), cases, *PLAY, **COMMON).errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, errors: dict[str, str]) -> None:
    """One error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_a_host_without_systemd_is_refused(tmp_path: Path) -> None:
    """One line says so, and what to do; and another, what its workers need of its memory."""
    cases: dict[str, dict[str, object]] = {"here": {}, "small": {"mlflow_server_memory_mb": 300}}
    errors = refused(tmp_path, cases, *PLAY, **COMMON).errors
    for word in ("not run by systemd", "process 1", "group_vars", "Nothing was changed"):
        assert word in errors["here"]
    assert re.search(r"_memory_mb is 300, and \d workers on small need \d+00[.]", errors["small"])
    assert "_memory_mb" not in errors["here"]
