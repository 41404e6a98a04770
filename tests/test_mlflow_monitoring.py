"""The role mlflow_monitoring: what it measures, how it listens, and what it refuses."""

import json
import os
import pwd
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import DASHBOARD, RULES, expressions, names, samples
from records import command, saved

from mlflow_ops import health, installation

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_monitoring"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


# What the program measures ------------------------------------------------------------------------


class MLflow(ThreadingHTTPServer):
    """As much of the server as its health is asked for; `broken` fails."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = ""
        self.artifacts: dict[str, bytes] = {}

    @property
    def settings(self) -> dict[str, str]:
        """What the service's environment says."""
        return {
            "MLFLOW_PORT": str(self.server_address[1]),
            "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://mlflow:secret@db/mlflow",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://models/mlflow",
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: MLflow

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do(self) -> None:
        """Answer, unless just this is broken."""
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT":
            self.server.artifacts[self.path] = sent
        broken = self.server.broken and self.server.broken in f"{self.command} {self.path}"
        answer = b"3.17.2" if self.path == "/version" else self.server.artifacts.get(self.path, b"")
        self.send_response(500 if broken else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = do


@pytest.fixture
def mlflow() -> Iterator[MLflow]:
    """Run the server that there is not."""
    with MLflow() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Host:
    """A server's, whose databases say `schemas`; and a place for what is measured.

    Without its record it is another host.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment, self.backups = folder / "environment", folder / "status.json"
        (self.environment / "bin").mkdir(parents=True)
        self.schemas()
        self.leads()

    def leads(self, leader: bool = True) -> None:
        """Say whether this server is the first of those that share the data."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.record = saved(
            self.folder, environment=str(self.environment), user=user, leader=leader
        )

    def schemas(self, **states: str) -> None:
        """Say what the databases' states are."""
        answer = {"databases": [{"kind": kind, "state": state} for kind, state in states.items()]}
        python = self.environment / "bin/python"
        asked = f"-Es {ROOT}/src database status"
        python.write_text(f"#!/bin/sh -eu\ntest \"$*\" = '{asked}'\necho '{json.dumps(answer)}'\n")
        python.chmod(0o755)

    def measure(self, *arguments: str | Path, **settings: str) -> tuple[dict[str, float], str]:
        """Run the program; return what it found, by series, and what it tells the journal."""
        output = self.folder / "mlflow.prom"
        places = {"installation.RECORD": self.record, "health.BACKUPS": self.backups}
        done = subprocess.run(
            command(places, "health", "--output", output, *arguments),
            env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = samples(output.read_text())
        assert found.pop("mlflow_health_last_run_timestamp_seconds") > 1.7e9
        return found, done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host."""
    return Host(tmp_path)


FILE_SYSTEM = {
    f"mlflow_filesystem_{what}" for what in ("size_bytes", "avail_bytes", "files", "files_free")
}
STEPS = ["server", "database", "artifact_put", "artifact_get", "artifact_delete"]
INFO = 'mlflow_info{version="3.17.2",database="postgresql",artifacts="s3"}'


# What is broken: (verdicts; steps that have a time; words for the journal)
@pytest.mark.parametrize(
    "broken, verdicts, steps, words",
    [
        ("", {"up": 1, "database_up": 1, "artifacts_up": 1}, 5, ""),
        ("GET /health", {"up": 0}, 0, "<4>Server: HTTP 500"),
        ("POST /api", {"up": 1, "database_up": 0}, 1, "<4>Database: HTTP 500"),
        ("PUT", {"up": 1, "database_up": 1, "artifacts_up": 0}, 2, "<4>Put an artifact: HTTP 500"),
        ("DELETE", {"up": 1, "database_up": 1, "artifacts_up": 0}, 4, "<4>Delete an artifact"),
    ],
)
def test_what_is_not_known_is_left_out(
    host: Host, mlflow: MLflow, broken: str, verdicts: dict[str, float], steps: int, words: str
) -> None:
    """Nobody knows of the artifacts of a server whose database is down."""
    mlflow.broken = broken
    found, said = host.measure(**mlflow.settings)
    assert {name: value for name, value in found.items() if name.endswith("_up")} == {
        f"mlflow_{name}": value for name, value in verdicts.items()
    }
    timed = [name for name in found if name.startswith("mlflow_health_step_seconds")]
    assert timed == [f'mlflow_health_step_seconds{{step="{step}"}}' for step in STEPS[:steps]]
    assert (INFO in found) == ("database_up" in verdicts and verdicts["database_up"] == 1)
    assert said.startswith(words) and bool(said) == bool(words)
    assert "secret" not in said + str(found)


@pytest.mark.parametrize("broken, known", [("", True), ("GET /metrics", False), ("POST", False)])
def test_what_mlflow_counts_itself(host: Host, mlflow: MLflow, broken: str, known: bool) -> None:
    """Is told with the rest, where it counts, and where it can be asked."""
    counter = 'mlflow_http_request_total{status="200"}'
    mlflow.artifacts["/metrics"] = (
        f"# TYPE mlflow_http_request_total counter\n{counter} 3\n".encode()
    )
    mlflow.broken = broken
    found, _ = host.measure(**mlflow.settings)
    assert counter not in found
    found, said = host.measure(MLFLOW_EXPOSE_PROMETHEUS="/run", **mlflow.settings)
    assert found.get(counter) == (3 if known else None)
    assert ("Metrics: HTTP 500" in said) == (broken == "GET /metrics")


def test_a_server_that_is_not_there(host: Host) -> None:
    """Its schema is known all the same: that may be why it does not start."""
    host.schemas(tracking="different", auth="current", other="unreachable")
    with MLflow() as mlflow:
        settings = mlflow.settings
    found, said = host.measure(**settings)
    assert found == {
        "mlflow_up": 0,
        "mlflow_backup_last_success_timestamp_seconds": 0,
        'mlflow_schema_current{database="tracking"}': 0,
        'mlflow_schema_current{database="auth"}': 1,
    }
    assert "no answer from 127.0.0.1" in said


def test_an_environment_that_is_broken(host: Host, mlflow: MLflow) -> None:
    """The rest is measured, by the host's own Python."""
    (host.environment / "bin/python").unlink()
    found, said = host.measure(**mlflow.settings)
    assert found["mlflow_artifacts_up"] == 1
    assert "Schema: " in said


@pytest.mark.parametrize(
    "status, expected, words",
    [
        (
            '{"last_success": 1795500000, "error": "", "max_age_hours": 9, "damaged": 2}',
            [1, 32400, 1.7955e9, 2], "",
        ),
        (
            '{"last_success": 1795500000, "error": "x", "max_age_hours": 1}',
            [0, 3600, 1.7955e9, 0], "",
        ),
        ('{"last_success": null, "error": "x", "max_age_hours": 1}', [0, 3600, 0, 0], "Backup"),
        ('{"last_success": 7, "error": "", "max_age_hours": 0}', [1, None, 7, 0], ""),
        ("", [None, None, 0, None], "Backup"),
        (None, [None, None, 0, None], ""),
    ],
)  # fmt: skip
def test_backups(
    host: Host, mlflow: MLflow, status: str | None, expected: list[float | None], words: str
) -> None:
    """One that never was, or that nobody can tell of, counts as none; the first server makes it."""
    if status is not None:
        host.backups.write_text(status)
    found, said = host.measure(**mlflow.settings)
    start = "mlflow_backup_"
    ends = ["last_attempt_successful", "max_age_seconds", "last_success_timestamp_seconds",
            "damaged_files"]  # fmt: skip
    assert [found.pop(start + end, None) for end in ends] == expected
    assert not [name for name in found if name.startswith(start)]
    assert bool(words) == bool(said) and words in said
    host.leads(False)
    others, said = host.measure(**mlflow.settings)
    assert others.keys() == found.keys() and said == ""


def test_a_host_without_a_server(host: Host) -> None:
    """There is no record."""
    host.record.unlink()
    found, said = host.measure("--directory", host.folder)
    assert {name.partition("{")[0] for name in found} == FILE_SYSTEM and said == ""


def test_a_server_that_came_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record is not for the exporters' user, who measures on: until the role runs again."""

    def closed() -> None:
        raise PermissionError(13, "Permission denied", "/etc/mlflow/installation.json")

    monkeypatch.setattr(installation, "read", closed)
    output = tmp_path / "mlflow.prom"
    words = ["mlflow-health", "--output", str(output), "--directory", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    health.main()
    found = {name.partition("{")[0] for name in samples(output.read_text())}
    assert found == FILE_SYSTEM | {"mlflow_health_last_run_timestamp_seconds"}
    assert capsys.readouterr().err == ""


def test_certificates(host: Host) -> None:
    """Of several in a file, the first to end; what cannot be read has ended."""

    def certificate(days: int) -> str:
        """Return one that is good for so many days."""
        command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
        command += f" -subj /CN=x -keyout /dev/null -days {days}"
        return subprocess.check_output(command.split(), text=True, stderr=subprocess.DEVNULL)

    host.record.unlink()
    (host.folder / "one.pem").write_text(certificate(10))
    (host.folder / "chain.pem").write_text(certificate(30) + certificate(20) + certificate(40))
    (host.folder / "none.pem").write_text("-----BEGIN NOTHING-----\n")
    patterns = [f"{host.folder}/*.pem", f"{host.folder}/missing", f"{host.folder}/*.crt"]
    found, said = host.measure(
        *(word for pattern in patterns for word in ("--certificate", pattern))
    )
    now = (host.folder / "mlflow.prom").stat().st_mtime
    days = {
        name.partition(f"{host.folder}/")[2].rstrip('"}'): round((value - now) / 86400)
        for name, value in found.items() if value and "expiry" in name
    }  # fmt: skip
    assert days == {"one.pem": 10, "chain.pem": 20}
    lifetime = f'mlflow_certificate_lifetime_seconds{{file="{host.folder}/chain.pem"}}'
    assert found[lifetime] == 20 * 86400
    ended = {name.partition(f"{host.folder}/")[2] for name, value in found.items() if not value}
    assert ended == {'none.pem"}', 'missing"}', '*.crt"}'}
    assert said.count("<4>Certificate") == 3


def test_each_file_system_once(host: Host) -> None:
    """By the directory that was named first; one that is missing is said."""
    host.record.unlink()
    found, said = host.measure(
        "--directory", host.folder, "--directory", host.environment, "--directory", "/missing"
    )
    assert len(found) == 4
    where = f'{{directory="{host.folder}"}}'
    space = os.statvfs(host.folder)
    assert found[f"mlflow_filesystem_size_bytes{where}"] == space.f_blocks * space.f_frsize
    assert found[f"mlflow_filesystem_files{where}"] == space.f_files
    assert said.count("<4>") == 1 and "/missing" in said


def test_a_text_that_cannot_be_written_anew_stays(host: Host, mlflow: MLflow) -> None:
    """It is replaced in one step, or not at all."""
    host.measure(**mlflow.settings)
    before = (host.folder / "mlflow.prom").read_text()
    with pytest.raises(AssertionError, match="broken"):
        broken = {**mlflow.settings, "MLFLOW_PORT": "broken"}
        host.measure(**broken)
    assert (host.folder / "mlflow.prom").read_text() == before


# What alerts and is shown -------------------------------------------------------------------------

ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """In a sentence about what is wrong, and with a command that there is."""
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["for"]
    summary, description = (alert["annotations"][name] for name in ("summary", "description"))
    assert summary.endswith(".") and "{{ $labels.instance }}" in summary
    assert re.search(r"(systemctl|journalctl|mlflow-ready|openssl|du|top|playbook)", description)
    for playbook in re.findall(r"the playbook (\w+)", description):
        assert (ROOT / f"playbooks/{playbook}.yml").is_file(), playbook


def test_what_is_measured_is_what_is_asked_for() -> None:
    """By rules and dashboard; and each metric is asked for by one of them."""
    asked = {name for name in names(" ".join(expressions())) if name.startswith("mlflow_")}
    assert {name for name in asked if "_http_" not in name} == {*health.METRICS}


def test_the_dashboard() -> None:
    """Each panel has a place of its own, and the source that the reader chooses."""
    dashboard = json.loads(DASHBOARD.read_text())
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# What the role writes, and refuses ----------------------------------------------------------------

SHOWN: dict[str, dict[str, object]] = {
    "server": {
        "looked": {
            "installation": {"user": "tracker", "settings": "/etc/tracker/server.env"},
        },
    },
    "elsewhere": {
        "looked": {"installation": {}},
        "mlflow_monitoring_certificates": ["/etc/ssl/a.pem", "/etc/ssl/b/*.pem"],
        "mlflow_monitoring_directories": ["/srv", "/"],
    },
    "asked by others": {
        "looked": {"installation": {}},
        "mlflow_monitoring_nginx_status": "http://127.0.0.1/stub_status",
        "mlflow_monitoring_allow": ["192.0.2.7", "2001:db8::/32"],
    },
}

# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "too often": (
        {"mlflow_monitoring_interval_seconds": 1}, ["mlflow_monitoring_interval_seconds", "10"],
    ),
    "a relative directory": (
        {"mlflow_monitoring_directories": ["/srv", "data"]},
        ["mlflow_monitoring_directories", "absolute"],
    ),
    "a certificate with a space": (
        {"mlflow_monitoring_certificates": ["/etc/ssl/a b.pem"]},
        ["mlflow_monitoring_certificates", "absolute"],
    ),
    "a name where an address belongs": (
        {"mlflow_monitoring_allow": ["prometheus.example.com"]},
        ["mlflow_monitoring_allow", '"prometheus.example.com"', "192.0.2.7"],
    ),
    "a status without a scheme": (
        {"mlflow_monitoring_nginx_status": "127.0.0.1/stub_status"},
        ["mlflow_monitoring_nginx_status", "http://127.0.0.1/stub_status"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Write the templates for each of SHOWN, refuse each of BAD_INPUT; return where and the words.

    One run for all, since each run of Ansible takes seconds.
    """
    folder = tmp_path_factory.mktemp("monitoring")
    cases = {**SHOWN, **{case: variables for case, (variables, _) in BAD_INPUT.items()}}
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"hosts": {name: {**common, **own} for name, own in cases.items()}}
    templates = ["mlflow-health.service", "mlflow-health.timer", "exporter.conf"]
    write = {
        "src": f"{ROLE}/templates/{{{{ template }}}}.j2",
        "dest": f"{folder}/{{{{ inventory_hostname }}}} {{{{ template }}}} {{{{ item.unit }}}}",
        "mode": "0600",
    }
    role = {"name": "mlflow_monitoring", "tasks_from": "preflight"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            # Skipped, the role only lends its variables.
            {"ansible.builtin.import_role": {**role, "public": True}, "when": False},
            {
                "ansible.builtin.set_fact": {"__mlflow_monitoring_looked": "{{ looked }}"},
                "when": f"inventory_hostname in {[*SHOWN]}",
            },
            *(
                {
                    "ansible.builtin.template": write,
                    "vars": {"template": template},
                    "loop": "{{ __mlflow_monitoring_exporters }}",
                    "when": f"inventory_hostname in {[*SHOWN]}",
                }
                for template in templates
            ),
            {
                "ansible.builtin.import_role": role,
                "when": f"inventory_hostname not in {[*SHOWN]}",
            },
        ],
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    (folder / "playbook.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [ANSIBLE, "-i", folder / "hosts.yml", folder / "playbook.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return folder, done.stdout + done.stderr


def written(ran: tuple[Path, str], case: str, template: str, unit: str = "node") -> str:
    """Return what a template became."""
    file = ran[0] / f"{case} {template} prometheus-{unit}-exporter"
    assert file.exists(), ran[1]
    return file.read_text()


def test_the_unit_says_what_is_measured(ran: tuple[Path, str]) -> None:
    """With the service's settings where there is a server, and without them elsewhere."""
    unit = written(ran, "server", "mlflow-health.service")
    assert "EnvironmentFile=/etc/tracker/server.env\n" in unit
    assert "User=tracker\nGroup=tracker\n" in unit
    assert (
        "ExecStart=!/usr/bin/python3 -BEs /usr/local/lib/mlflow/current health "
        "--output /var/lib/mlflow-health/mlflow.prom --directory /\n"
    ) in unit
    unit = written(ran, "elsewhere", "mlflow-health.service")
    assert "EnvironmentFile" not in unit and "User=prometheus\nGroup=prometheus\n" in unit
    assert "ExecStart=/usr/bin/python3 " in unit
    assert (
        "mlflow.prom --certificate /etc/ssl/a.pem --certificate /etc/ssl/b/*.pem "
        "--directory /srv --directory /\n"
    ) in unit
    assert "OnUnitActiveSec=60s" in written(ran, "server", "mlflow-health.timer")


def test_exporters_are_closed(ran: tuple[Path, str]) -> None:
    """Loopback; or everywhere, and systemd lets nobody through but those who are named."""
    drop_in = written(ran, "server", "exporter.conf")
    assert "ExecStart=\nExecStart=/usr/bin/prometheus-node-exporter " in drop_in
    assert "--web.listen-address=127.0.0.1:9100 $ARGS" in drop_in
    assert "IPAddressDeny=any\nIPAddressAllow=localhost\n" in drop_in
    assert "ProtectProc=default\nProcSubset=all\n" in drop_in
    for unit, port in ("node", 9100), ("nginx", 9113):
        drop_in = written(ran, "asked by others", "exporter.conf", unit)
        assert f"--web.listen-address=:{port} " in drop_in
        assert "IPAddressDeny=any\nIPAddressAllow=localhost 192.0.2.7 2001:db8::/32\n" in drop_in
    assert "--nginx.scrape-uri=http://127.0.0.1/stub_status $ARGS" in drop_in


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(ran: tuple[Path, str], case: str) -> None:
    """The error names the variable, what is allowed, and the file."""
    _, _, rest = ran[1].partition(f"fatal: [{case}]: FAILED!")
    said = " ".join(rest.partition("Nothing was changed")[0].split())
    for word in [*BAD_INPUT[case][1], "group_vars"]:
        assert word in said
