"""What a database that MLflow cannot use is answered with: a sentence with the variable to change.

The messages are those that PostgreSQL 15 and psycopg 3.3 gave when it was tried.
"""

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mlflow_ops import database
from mlflow_ops.database import command, fit, schema

PASSWORD = "p@ss:/?#[]%&' \"ä{host}"  # noqa: S105
FOUND = 'connection failed: connection to server at "192.0.2.7", port 5432 failed: '


# what was said: words that the answer must have
SAID = {
    "failed to resolve host 'db': [Errno -2] Name or service not known": [
        "mlflow_server_database_host",
        "getent hosts db",
    ],
    FOUND + "Connection refused\n\tIs the server running on that host and accepting TCP/IP?": [
        "mlflow_server_database_port",
        "db refuses connections on port 5433",
    ],
    "connection timeout expired": ["firewalls", "db does not answer on port 5433"],
    FOUND + "fe_sendauth: no password supplied": ["mlflow_server_database_password"],
    FOUND + "server does not support SSL, but SSL was required": [
        "mlflow_server_database_sslmode is verify-full"
    ],
    FOUND + "SSL error: certificate verify failed": ["mlflow_server_database_ca (/etc/ssl/x.pem)"],
    FOUND + 'root certificate file "/etc/ssl/x.pem" does not exist\nEither provide the file': [
        "mlflow_server_database_ca is /etc/ssl/x.pem"
    ],
    FOUND + 'server certificate for "pg" (and 1 other name) does not match host name "db"': [
        "mlflow_server_database_host",
        'certificate for "pg"',
    ],
    # A host that has no IPv4, and a name that has.
    f"{FOUND}Network is unreachable\n\tIs the server running on that host and accepting TCP/IP?\n"
    "Multiple connection attempts failed. All failures were:\n"
    f"- host: 'db', port: None, hostaddr: 'fd00::3': {FOUND}SSL error: certificate verify failed\n"
    f"- host: 'db', port: None, hostaddr: '192.0.2.7': {FOUND}Network is unreachable\n"
    "\tIs the server running on that host and accepting TCP/IP?": [
        "mlflow_server_database_ca (/etc/ssl/x.pem)"
    ],
    "something new": ["something new", "mlflow_server_database_*"],
}


# PostgreSQL's own refusals, of a server that speaks German: code and routine, words, how it is
# asked, and what the answer must have.
URI = (
    f"postgresql+psycopg://{quote('ml/flow', safe='')}:{quote(PASSWORD, safe='')}@db:5433/runs"
    "?sslmode=verify-full&sslrootcert=/etc/ssl/x.pem"
)
PLAIN = URI.replace("verify-full", "prefer")
LOCAL = "postgresql+psycopg://ml%2Fflow@/runs?host=%2Frun"
NO_ENTRY = "kein pg_hba.conf-Eintrag für Host »192.0.2.9«"
REFUSED = {
    ("28P01 auth_failed", "Passwort-Authentifizierung fehlgeschlagen", URI): [
        "mlflow_server_database_password",
        'user "ml/flow"',
    ],
    ("3D000 InitPostgres", "Datenbank »runs« existiert nicht", URI): [
        "mlflow_server_database_name",
        'CREATE DATABASE "runs" OWNER "ml/flow"',
    ],
    ("28000 ClientAuthentication", NO_ENTRY, PLAIN): [
        "mlflow_server_database_sslmode: verify-full",
        f": {NO_ENTRY}. Set",  # without SCHWERWIEGEND, and where it was found
    ],
    ("28000 ClientAuthentication", NO_ENTRY, URI): [
        'hostssl "runs" "ml/flow" <address of this host>/32',
        NO_ENTRY,
    ],
    ("28000 ClientAuthentication", NO_ENTRY, LOCAL): [
        'local "runs" "ml/flow" peer',
        "mlflow_server_database_name",
    ],
    ("28000 auth_failed", "Peer-Authentifizierung fehlgeschlagen", LOCAL): [
        "the value of mlflow_server_user"
    ],
    ("28000 InitializeSessionUserId", "Rolle »m« existiert nicht", URI): [
        'CREATE ROLE "ml/flow" LOGIN',
        'ALTER ROLE "ml/flow" LOGIN',
    ],
    ("53300 ProcArrayAdd", "zu viele Verbindungen", URI): ["mlflow_server_workers", "zu viele"],
    ("42501 CheckMyDatabase", "keine Berechtigung", URI): ['GRANT CONNECT ON DATABASE "runs"'],
    ("57P03 ProcessStartupPacket", "das Datenbanksystem startet", URI): [
        "das Datenbanksystem startet. Run the playbook again"
    ],
    ("XX000 anything", "etwas Neues", URI): ["etwas Neues", "mlflow_server_database_*"],
}


@pytest.mark.parametrize("said", SAID)
def test_each_failure_has_a_remedy(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "refused", lambda _: "")
    answer = fit.remedy("tracking", URI, said)
    for word in SAID[said]:
        assert word in answer
    assert "p@ss" not in answer
    assert "{" not in answer


@pytest.mark.parametrize("code, words, uri", REFUSED)
def test_a_refusal_is_known_by_its_code(
    code: str, words: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "refused", lambda _: code)
    answer = fit.remedy("tracking", uri, f"{FOUND}SCHWERWIEGEND:  {words}")
    for word in REFUSED[code, words, uri]:
        assert word in answer


def test_authentication_has_a_database_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "refused", lambda _: "3D000 InitPostgres")
    assert "mlflow_server_auth_database" in fit.remedy("auth", LOCAL, "nicht da")


TRACED = (
    '2026-11-28 02:53:29.142844\tB\t115\tErrorResponse\t S "SCHWERWIEGEND" V "FATAL" C "28P01" '
    'M "für »mlflow« C "99999" R "no"" F "auth.c" L "326" R "auth_failed" \\x00\n'
)


def test_the_code_is_read_off_the_trace() -> None:
    """And not off what the server says of a name that somebody has chosen."""
    assert database.REFUSED.findall(TRACED) == [("28P01", "auth_failed")]


def test_to_look_at_a_database_leaves_nothing(tmp_path: Path) -> None:
    """Not even SQLite's log, which it begins for a reader too; where there is one, it is read."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    writer = sqlite3.connect(tmp_path / "mlflow.db")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE alembic_version (version_num TEXT)")
    writer.execute("INSERT INTO alembic_version VALUES ('a1')")
    writer.commit()
    assert schema.tables_and_revision("tracking", uri) == (1, "a1")  # what only the log has
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert schema.tables_and_revision("tracking", uri) == (1, "a1")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_places_are_told_from_what_the_database_has(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "mlflow.db")
    writer.executescript("""
        CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT);
        CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER);
        CREATE TABLE model_versions (
            name TEXT, version INTEGER, source TEXT, run_id TEXT, current_stage TEXT);
        INSERT INTO experiments VALUES (1, 'a', 'mlflow-artifacts:/1'), (2, 'b', '/srv/a/1/b');
        INSERT INTO experiments VALUES (3, 'c', NULL);
        INSERT INTO runs VALUES ('r1', 1), ('r3', 3);
        INSERT INTO model_versions VALUES
            ('m', 1, 'mlflow-artifacts:/1/r1/m', 'r1', NULL), ('m', 2, '/srv/a/1/r1/m', 'r3', NULL),
            ('m', 3, '/etc', NULL, 'None'), ('m', 4, NULL, NULL, 'Deleted_Internal');
    """)
    writer.close()
    assert command.elsewhere(f"sqlite:///{tmp_path}/mlflow.db", "/srv/a", []) == [
        "1 model versions are outside of mlflow_server_artifacts_destination: m 3 (/etc)",
        "1 experiments share a directory with another: b (/srv/a/1/b)",
        "1 model versions come from the directory of an experiment and name no run of it: "
        "m 2 (/srv/a/1/r1/m)",
    ]


class Connection:
    """Answers every question with one row."""

    def __init__(self, *row: Any) -> None:
        self.row = row

    def execute(self, _: str) -> "Connection":
        return self

    def fetchone(self) -> tuple[Any, ...]:
        return self.row


@pytest.mark.parametrize(
    "row, workers, words",
    [
        ((97, -1, -1), 2, []),
        ((90, -1, -1), 2, []),  # the very last
        ((89, -1, -1), 2, ["89 connections (max_connections)", "may open 90", "to 14 together"]),
        ((97, 40, -1), 2, ["40 connections (CONNECTION LIMIT of the role)"]),
        ((97, None, 30), 2, ["30 connections (CONNECTION LIMIT of the database)"]),
        ((97, -1, -1), 40, ["mlflow_server_workers to 16"]),
    ],
)
def test_connections(row: tuple[Any, ...], workers: int, words: list[str]) -> None:
    """What all servers may open, against the least of what limits them."""
    asked = {"servers": 1, "workers": workers, "pools": 3, "each": 15}
    if not words:
        fit.check_connections(Connection(*row), **asked)
        return
    with pytest.raises(fit.Unfit) as refused:
        fit.check_connections(Connection(*row), **asked)
    for word in words:
        assert word in str(refused.value)
