"""The role postgresql: what its templates say, what it refuses, and how it keeps a password."""

import base64
import hashlib
import hmac
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from refusals import refused

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/postgresql"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
TLS = {
    "postgresql_tls_certificate": "/etc/ssl/mlflow/postgresql.pem",
    "postgresql_tls_key": "/etc/ssl/mlflow/postgresql.key",
}
CLIENTS = {"postgresql_clients": ["server1", "server2"], **TLS}
# What the role's program sees of an ordinary host.
HOST = {
    "memory_mb": 8100,
    "cluster": {"version": "15", "name": "main", "running": True},
    "clients": {"server1": ["192.0.2.1/32"], "server2": ["192.0.2.2/32", "2001:db8::2/128"]},
}

Render = Callable[..., str]


def run(tmp_path: Path, play: dict[str, Any], variables: dict[str, object]) -> tuple[int, str]:
    """Run a play on this machine, without root; return its exit code and what it said."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        yaml.safe_dump(
            [{"hosts": "localhost", "connection": "local", "gather_facts": False, **play}]
        )
    )
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", playbook, "-e", json.dumps(variables)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render one of the role's templates by Ansible, with the role's own variables."""

    def template(name: str, host: dict[str, object] | None = None, **variables: object) -> str:
        play = {
            "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
            "vars": {
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "__postgresql_probe": {"stdout": json.dumps({**HOST, **(host or {})})},
            },
            "tasks": [
                {
                    "ansible.builtin.template": {
                        "src": f"{ROLE}/templates/{name}.j2",
                        "dest": f"{tmp_path}/{name}",
                        "mode": "0600",
                    }
                }
            ],
        }
        code, said = run(tmp_path, play, variables)
        assert code == 0, said
        return (tmp_path / name).read_text()

    return template


def settings(text: str) -> dict[str, str]:
    """Return what a PostgreSQL configuration file says."""
    lines = [line.partition(" = ") for line in text.splitlines() if not line.startswith("#")]
    return {name: value.strip("'") for name, _, value in lines if name}


def rules(text: str) -> list[list[str]]:
    """Return the lines of a pg_hba.conf that count."""
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_alone_it_listens_nowhere(render: Render) -> None:
    """Without other hosts there is a Unix socket, and the operating system vouches."""
    found = settings(render("mlflow.conf"))
    assert (found["listen_addresses"], found["ssl"]) == ("", "off")
    assert "ssl_key_file" not in found
    assert rules(render("pg_hba.conf")) == [
        ["local", "all,replication", "postgres", "peer"],
        ["local", '"mlflow","mlflow_auth"', '"mlflow"', "peer"],
    ]


def test_exactly_the_clients_are_admitted(render: Render) -> None:
    """Over TLS, by password, from their addresses and to our databases; nobody else."""
    found = settings(render("mlflow.conf", **CLIENTS))
    assert (found["listen_addresses"], found["ssl"]) == ("*", "on")
    assert found["ssl_min_protocol_version"] == "TLSv1.2"
    # PostgreSQL's own copies: it could not read root's.
    assert found["ssl_key_file"] == "/etc/postgresql/15/main/mlflow.key"
    ours = ['"mlflow","mlflow_auth"', '"mlflow"']
    assert rules(render("pg_hba.conf", **CLIENTS)) == [
        ["local", "all,replication", "postgres", "peer"],
        ["hostssl", *ours, "192.0.2.1/32", "scram-sha-256"],
        ["hostssl", *ours, "192.0.2.2/32", "scram-sha-256"],
        ["hostssl", *ours, "2001:db8::2/128", "scram-sha-256"],
    ]


@pytest.mark.parametrize(
    "memory, variables, expected",
    [
        (8100, {}, ("100", "1612MB", "20MB")),
        (500, {}, ("100", "96MB", "2MB")),
        (512000, {}, ("100", "8192MB", "32MB")),
        (8100, {"postgresql_needed_connections": 360}, ("380", "1612MB", "5MB")),
        (8100, {"postgresql_max_connections": 300}, ("300", "1612MB", "6MB")),
    ],
)
def test_settings_suit_the_machine(
    render: Render, memory: int, variables: dict[str, object], expected: tuple[str, ...]
) -> None:
    """Memory is shared with MLflow; all connections together do not outgrow it."""
    found = settings(render("mlflow.conf", {"memory_mb": memory}, **variables))
    names = ("max_connections", "shared_buffers", "work_mem")
    assert tuple(found[name] for name in names) == expected


def test_the_log_keeps_no_values(render: Render) -> None:
    """Statements carry password hashes and keys as parameters."""
    found = settings(render("mlflow.conf"))
    assert found["log_statement"] == "none"
    assert found["log_parameter_max_length"] == found["log_parameter_max_length_on_error"] == "0"


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "clients without TLS": (
        {"postgresql_clients": ["server1"]},
        ["postgresql_tls_certificate", "postgresql_tls_key"],
    ),
    "too few connections": (
        {"postgresql_max_connections": 50, "postgresql_needed_connections": 90},
        ["postgresql_max_connections is 50", "may open 90", "95 or more"],
    ),
    "a name with a quote": (
        {"postgresql_databases": ['ml"flow']},
        ["postgresql_databases", 'ml"flow', "lower-case"],
    ),
    "PostgreSQL's own role": ({"postgresql_owner": "postgres"}, ["postgresql_owner", '"postgres"']),
    "a database twice": ({"postgresql_databases": ["a", "a"]}, ["postgresql_databases", "once"]),
    "a whole network": (
        {"postgresql_clients": ["10.0.0.0/8"], **TLS},
        ["postgresql_clients", "10.0.0.0/8", "one host"],
    ),
    "a short password": ({"postgresql_password": "short"}, ["postgresql_password", "12"]),
    "a relative key": (
        {**CLIENTS, "postgresql_tls_key": "db.key"},
        ["postgresql_tls_key", "absolute"],
    ),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with; the hosts are not even asked."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    found = refused(tmp_path_factory.mktemp("bad"), cases, "postgresql")
    assert "Look at the host" not in found.said
    return found.errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(errors: dict[str, str], case: str) -> None:
    """One error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the role's program as a module; it reads its arguments when it is loaded."""
    monkeypatch.setattr(sys, "argv", ["cluster.py", "look", "{}"])
    spec = importlib.util.spec_from_file_location("cluster", ROLE / "files/cluster.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cluster", module)
    spec.loader.exec_module(module)
    return module


def test_password_is_kept_as_scram_has_it(cluster: ModuleType) -> None:
    """The example of RFC 7677: the server proves itself with the key that we compute."""
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    message = (f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}").encode()
    kept = cluster.verifier("pencil", base64.b64decode(salt), 4096)
    keys = kept.rpartition("$")[2]
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    signature = hmac.digest(server, message, "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    mask = hmac.digest(stored, message, "sha256")
    client = bytes(one ^ other for one, other in zip(proof, mask, strict=True))
    assert hashlib.sha256(client).digest() == stored
    assert cluster.is_verifier(kept, "pencil")
    assert not cluster.is_verifier(kept, "pencils")
    assert not cluster.is_verifier("", "pencil")


def test_nothing_more_is_asked_of_a_cluster_that_follows(
    cluster: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But of one that does not, that refuses, or whose TLS files may be renewed after the look."""

    def refuse(_: object) -> None:
        raise cluster.Refusal("It shows another certificate.")

    ways: list[tuple[list[str], Callable[[object], object], bool]] = [
        ([], lambda _: None, False),
        ([], lambda _: cluster.did("reload"), True),
        ([], refuse, True),
        (["server1"], lambda _: None, True),
    ]
    for clients, apply, expected in ways:
        monkeypatch.setattr(cluster, "ASKED", {"clients": clients})
        monkeypatch.setattr(cluster, "apply", apply)
        assert cluster.behind(None) is expected


def test_a_file_is_in_order_with_its_owner_and_mode(
    cluster: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it says: where these are wrong, it has no digest, and is written."""
    file = tmp_path / "pg_hba.conf"
    file.write_text("local all\n")
    file.chmod(0o640)
    status = file.stat()
    for uid, mode, in_order in ((0, "0640", True), (0, "0644", False), (1, "0640", False)):
        account = SimpleNamespace(pw_uid=status.st_uid + uid, pw_gid=status.st_gid)
        monkeypatch.setattr(cluster.pwd, "getpwnam", lambda _, account=account: account)
        expected = hashlib.sha256(b"local all\n").hexdigest() if in_order else ""
        assert cluster.digest(file, mode) == expected
    assert cluster.digest(tmp_path / "absent", "0640") == ""


def test_a_client_on_the_host_itself(cluster: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian calls a host 127.0.1.1 in its own /etc/hosts, and connections come from 127.0.0.1."""
    answer = [(2, 1, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(cluster.socket, "getaddrinfo", lambda *_, **__: answer)
    assert cluster.addresses("db") == ["127.0.0.1/32", "127.0.1.1/32", "::1/128"]
