"""The role postgresql: what its templates say, what it refuses, and what it asks of a cluster."""

import getpass
import hashlib
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from refusals import refused

from mlflow_ops import postgresql

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/postgresql"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
TLS = {
    "postgresql_tls_certificate": "/etc/ssl/mlflow/postgresql.pem",
    "postgresql_tls_key": "/etc/ssl/mlflow/postgresql.key",
}
CLIENTS = {"postgresql_clients": ["server1", "server2"], **TLS}
# What the role sees of an ordinary host.
HOST = {
    "memory_mb": 8100,
    "cluster": {"version": "15", "name": "main", "running": True},
    "clients": {"server1": ["192.0.2.1/32"], "server2": ["192.0.2.2/32", "2001:db8::2/128"]},
}
CLUSTER = postgresql.Cluster("15 main 5432 online postgres /var/lib/postgresql/15/main /log")

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
                "__postgresql_probe": {"found": {**HOST, **(host or {})}},
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


def test_nothing_more_is_asked_of_a_cluster_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """But of one that does not, that refuses, or whose TLS files may be renewed after the look."""

    def refuse(*_: object) -> None:
        raise postgresql.Refusal("It shows another certificate.")

    def reload(_: object, __: object, steps: postgresql.Steps) -> None:
        assert not steps.take("reload")  # a look does nothing

    ways: list[tuple[list[str], Callable[..., object], bool]] = [
        ([], lambda *_: None, False),
        ([], reload, True),
        ([], refuse, True),
        (["server1"], lambda *_: None, True),
    ]
    for clients, follow, expected in ways:
        monkeypatch.setattr(postgresql, "follow", follow)
        asked = postgresql.Asked(port=5432, clients=clients)
        assert postgresql.behind(CLUSTER, asked) is expected


def test_a_file_is_in_order_with_its_owner_and_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it says: where these are wrong, it has no digest, and is written."""
    file = tmp_path / "pg_hba.conf"
    file.write_text("local all\n")
    file.chmod(0o640)
    status = file.stat()
    for uid, mode, in_order in ((0, "0640", True), (0, "0644", False), (1, "0640", False)):
        account = SimpleNamespace(pw_uid=status.st_uid + uid, pw_gid=status.st_gid)
        monkeypatch.setattr(pwd, "getpwnam", lambda _, account=account: account)
        expected = hashlib.sha256(b"local all\n").hexdigest() if in_order else ""
        assert postgresql.digest(file, mode) == expected
    assert postgresql.digest(tmp_path / "absent", "0640") == ""


@pytest.mark.parametrize("check", [False, True])
def test_its_files_are_written_as_postgres(
    check: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whose directory it is: root would follow a link there. One that is in order is left alone."""
    asked = postgresql.Asked(
        port=5432,
        files={"conf.d/mlflow.conf": "0644", "pg_hba.conf": "0640"},
        texts={"conf.d/mlflow.conf": "port = 5432\n", "pg_hba.conf": "local all\n"},
    )
    cluster = postgresql.Cluster(f"15 main 5432 online postgres {tmp_path} /log")
    cluster.config = tmp_path
    (tmp_path / "pg_hba.conf").write_text("host all\n")
    digests = {tmp_path / "conf.d/mlflow.conf": hashlib.sha256(b"port = 5432\n").hexdigest()}
    monkeypatch.setattr(postgresql, "POSTGRES", getpass.getuser())
    monkeypatch.setattr(postgresql, "digest", lambda file, _: digests.get(file, ""))
    ran: list[tuple[str, ...]] = []

    def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        ran.append((*command[:3], command[-2], command[-1], stdin))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(postgresql, "run", run)
    steps = postgresql.Steps(act=not check)
    file = str(tmp_path / "pg_hba.conf")
    assert postgresql.write(cluster, asked, steps) == [
        {"before_header": file, "before": "host all\n", "after": "local all\n"}
    ]
    written = ("runuser", "--user=postgres", "--", file, "0640", "local all\n")
    assert ran == ([] if check else [written])
    assert steps.taken == [f"wrote {file}"]


def test_no_link_of_postgres_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor is a pipe of its making waited for: root would show what is not for it to read."""
    monkeypatch.setattr(postgresql, "POSTGRES", getpass.getuser())
    (tmp_path / "secret").write_text("of root alone\n")
    os.mkfifo(tmp_path / "pipe")
    for name, leads_to in (("log", "secret"), ("postmaster.pid", "pipe")):
        (tmp_path / name).symlink_to(leads_to)
    os.mkfifo(tmp_path / "15.log")
    for log in ("log", "15.log"):
        cluster = postgresql.Cluster(f"15 main 5432 online postgres {tmp_path} {tmp_path / log}")
        assert cluster.last_words() == f"The end of {tmp_path / log}:"
        assert cluster.running() == {}
    assert postgresql.digest(tmp_path / "log", "0644") == ""


def test_a_client_on_the_host_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian calls a host 127.0.1.1 in its own /etc/hosts, and connections come from 127.0.0.1."""
    answer = [(2, 1, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    assert postgresql.addresses("db") == ["127.0.0.1/32", "127.0.1.1/32", "::1/128"]


def test_a_clusters_configuration_is_checked_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who overrides the role's settings is named, with the place."""
    rows = {
        "listen_addresses": ["*", "/etc/postgresql/15/main/conf.d/zz-local.conf:1"],
        "port": ["5432", "a:1"], "ssl": ["off", "a:2"], "max_connections": ["50", "a:3"],
    }  # fmt: skip
    monkeypatch.setattr(postgresql.Cluster, "sql", lambda *_: json.dumps(rows))
    with pytest.raises(postgresql.Refusal, match="does not decide: listen_addresses") as said:
        postgresql.check_settings(CLUSTER, postgresql.Asked(port=5432, least_connections=95))
    for words in ("zz-local.conf:1", "max_connections = '50'"):
        assert words in str(said.value)


def test_the_owners_password_is_never_logged() -> None:
    """It is sent as it is: whatever the server's settings say, that session is quiet."""
    tasks = yaml.safe_load((ROLE / "tasks/databases.yml").read_text())
    [block] = [task for task in tasks if "block" in task]
    quiet = block["environment"]["PGOPTIONS"].split()
    for setting in ("log_statement=none", "log_min_error_statement=panic",
                    "log_min_duration_statement=-1"):  # fmt: skip
        assert setting in quiet
    for task in [*tasks, *block["block"]]:
        told = "password" in json.dumps(task.get("community.postgresql.postgresql_user", ""))
        if told or "ansible.builtin.slurp" in task:
            assert task["no_log"] == "{{ postgresql_no_log }}"
