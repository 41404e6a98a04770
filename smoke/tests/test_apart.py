"""Who starts the parts, and what each of them is told."""

import io
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mlflow_smoke import apart, cli
from mlflow_smoke.cli import run
from mlflow_smoke.installation import Installation
from mlflow_smoke.report import NO_REPORT

USERS = {"a": ["smoke-a-0123", "a's password"], "b": ["smoke-b-0123", "b's password"]}
WHO = {"administrator": ["admin", "her password"], "default_permission": "READ"}


class Host(apart.Host):
    """Keeps what each part is told, and passes it unless it is to fail."""

    def __init__(self, failing: str = "") -> None:
        super().__init__("/env/bin/python", [])
        self.failing = failing
        self.told: list[tuple[str, str]] = []

    def run(self, part: str, command: list[str], told: list[dict[str, Any]]) -> apart.Outcome:
        """Run nothing."""
        assert command[:2] == ["scenario2", part]
        self.told.append((part, json.dumps(told)))
        said: dict[str, Any] = {"scenario": "scenario2", "passed": part != self.failing}
        extra: dict[str, dict[str, Any]] = {"begin": {"users": USERS}, "end": {"before": {}}}
        said |= extra.get(part, {})
        return apart.Outcome(0, json.dumps(said), "")

    @property
    def parts(self) -> list[str]:
        """What ran."""
        return [part for part, _ in self.told]


def test_nobody_is_told_more_than_she_needs() -> None:
    host = Host()
    apart.scenario2(host, [], WHO)
    assert host.parts == ["look", "begin", "log", "see", "look", "end", "look"]
    for part, told in host.told:
        knows = {word for word in ("a's", "b's", "her") if f"{word} password" in told}
        assert knows == {"begin": {"her"}, "log": {"a's"}, "see": {"b's"}, "look": set(),
                         "end": {"a's", "b's", "her"}}[part], part  # fmt: skip


def test_without_users_there_is_no_b() -> None:
    host = Host()
    apart.scenario2(host, [], {})
    assert host.parts == ["look", "begin", "log", "look", "end", "look"]


@pytest.mark.parametrize("failing", ["begin", "log", "see"])
def test_a_part_that_failed_is_the_last_but_for_the_end(failing: str) -> None:
    host = Host(failing)
    apart.scenario2(host, [], WHO)
    assert host.parts[-3:] == [failing, "end", "look"]


@pytest.mark.parametrize(
    "nonsense", ["}", ": " + "9" * 5000 + "}", ": " + "[" * 90_000 + "]" * 90_000 + "}",
                 ": " + "[" * 900 + "]" * 900 + "}"]
)  # fmt: skip
def test_what_no_program_can_read_is_no_report(nonsense: str) -> None:
    """A model may have written it; the parts after it are run all the same."""
    text = f'{{"scenario"{nonsense}'
    assert apart.Outcome(0, text, "").report is None
    assert apart.documents(f'{{"a": 1}}\n\n{{}}\n{text}\n') == [{"a": 1}, {}, NO_REPORT]


def told(*command: str) -> subprocess.Popen[bytes]:
    """A program that talks."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_part_is_heard_to_its_end() -> None:
    with told("sh", "-c", "cat; printf '\\377' >&2") as process:
        assert apart.heard(process, "a" * 900_000) == ("a" * 900_000, "\ufffd")
    with told("true") as process:  # which reads nothing
        assert apart.heard(process, "a" * 900_000) == ("", "")


@pytest.mark.parametrize("stream", [1, 2])
def test_a_part_that_never_stops_talking_is_not_heard_for_ever(stream: int) -> None:
    """Root keeps what it says in memory, and a model may have it say anything."""
    with told("sh", "-c", f"exec yes >&{stream}") as process, pytest.raises(apart.TooMuch):
        apart.heard(process, "")


@pytest.fixture
def server(tmp_path: Path) -> Installation:
    """A server with a record, all of whose places are unusual."""
    made = Installation("m.service", "mel", "/srv/env", f"{tmp_path}/config", "/srv/data", "admin")
    (tmp_path / "config").mkdir()
    (tmp_path / "record").write_text(json.dumps({**asdict(made), "scenario": "scenario2"}))
    return made


def test_how_people_log_in(
    tmp_path: Path, server: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apart.access(server) == {}
    server.settings.write_text('MLFLOW_PORT="5000"\n')
    assert apart.access(server) == {}
    server.settings.write_text(f'MLFLOW_AUTH_CONFIG_PATH="{tmp_path}/auth.ini"\n')
    ini = "[mlflow]\ndefault_permission = EDIT\nadmin_username = 50%%\n"
    (tmp_path / "auth.ini").write_text(ini)
    server.password.write_text("her password\n")
    who = {**WHO, "default_permission": "EDIT"}
    assert apart.access(server) == who
    assert run(["apart", "--record", f"{tmp_path}/record", "access"]) == 0
    assert json.loads(capsys.readouterr().out) == {"passed": True, **who}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"user": "mlflow"}'])
def test_a_record_that_is_missing_is_said_in_a_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or one of another release."""
    record = tmp_path / "installation.json"
    if text:
        record.write_text(text)
    assert run(["apart", "--record", str(record), "access"]) == 3
    said = capsys.readouterr()
    assert (f"{record} on " in said.err) and "Run the playbook scenario2" in said.err
    assert said.err.startswith("There is no ") == (not text) and not said.out


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What root would start: with which Python, as whom, and what it is told."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pathlib.Path.is_dir", lambda _: True)
    monkeypatch.setattr("mlflow_smoke.interruption.heed", lambda: None)
    monkeypatch.setattr("mlflow_smoke.interruption.ignore", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"scenario": "scenario3"})))
    seen: list[dict[str, Any]] = []

    def run_part(self: apart.Host, part: str, command: list[str], told: Any) -> apart.Outcome:
        seen.append({"part": part, "python": self.python, "server": self.server,
                     "command": command, "told": told})  # fmt: skip
        return apart.Outcome(0, "", "")

    monkeypatch.setattr("mlflow_smoke.apart.Host.run", run_part)
    return seen


def test_where_the_server_has_its_things_says_the_record(
    tmp_path: Path, server: Installation, started: list[dict[str, Any]]
) -> None:
    """Unless somebody says herself, later."""
    begin = ["apart", "--record", f"{tmp_path}/record"]
    assert run([*begin, "scenario3", "look", "--settings", "/mine"]) == 0
    [look] = started
    assert look["python"] == "/srv/env/bin/python" and look["server"] == server
    assert look["told"] == [{"scenario": "scenario3"}]
    options = cli.parser().parse_args(look["command"])
    assert options.settings == Path("/mine")
    assert [*map(str, options.disk)] == "/srv/data /tmp /var/tmp".split()
    assert f"--settings {server.settings}" in " ".join(look["command"])

    where = ["--tracking-uri", "http://localhost:1", "--database", "/d/b", "--artifacts", "/a"]
    for python, expected in (([], server.python), (["--python", "/new"], "/new")):
        started.clear()
        assert run([*begin, *python, "scenario2", *where]) == 0
        assert started[0]["part"] == "look" and started[0]["server"] == server
        assert {part["python"] for part in started} == {expected}


def test_a_client_has_no_record(tmp_path: Path, started: list[dict[str, Any]]) -> None:
    begin = ["apart", "--record", f"{tmp_path}/none", "--python", "/env/bin/python"]
    assert run([*begin, "scenario3", "see"]) == 0
    assert started[0]["python"] == "/env/bin/python" and started[0]["server"] is None
    assert run([*begin, "scenario3", "look"]) == 3
    assert len(started) == 1


def test_what_a_part_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.9:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert apart.reachable(["http://localhost:5000"]).addresses == {"localhost"}
    assert apart.reachable(["http://192.0.2.7:5000"]).addresses == {"192.0.2.7"}
    found = apart.reachable(["https://outside.example"])
    assert found.addresses == {"127.0.0.9"}
    assert found.proxies == {"https_proxy": "http://127.0.0.9:3128"}


def test_a_host_that_cannot_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    arguments = ["--tracking-uri", "http://localhost:1", "--database", "/d", "--artifacts", "/a"]
    assert run(["apart", "scenario2", *arguments]) == 3
    said = capsys.readouterr().err
    assert "must run systemd, and this must be root (become)" in said and "Traceback" not in said


def test_root_loads_no_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    begun = {"scenario": "scenario2", "passed": True, "token": "0123", "users": {}}
    monkeypatch.setattr("sys.stdin", iter([json.dumps(begun)]))
    monkeypatch.setattr("mlflow_smoke.interruption.heed", lambda: None)
    monkeypatch.setattr("mlflow_smoke.parts.Known.read", lambda: apart_known(begun))
    arguments = ["--tracking-uri", "http://localhost:1", "--database", "/d", "--artifacts", "/a"]
    assert run(["scenario2", "log", *arguments]) == 3
    assert "somebody of no rank" in capsys.readouterr().err


def apart_known(begun: dict[str, Any]) -> Any:
    """What the part `log` knows."""
    from mlflow_smoke.parts import Known

    return Known([begun])
