"""The role mlflow_doctor: what its program concludes and how it says so, and the report of it all.

That each thing is seen on a real host is shown by molecule/scenario2 and molecule/scenario3.
"""

import ctypes
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, ClassVar, NoReturn

import pytest
import yaml
from records import written

from mlflow_ops import doctor, installation, installed
from mlflow_ops.doctor import patient, report, tls

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_doctor"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
ASKED: dict[str, Any] = {
    "inventory": "inventories/team", "playbook": "scenario3",
    "playbook_called": "playbooks/%s.yml", "environment": "", "version": "",
    "settings": "", "tools": "", "unit": "mlflow.service", "user": "mlflow", "servers": 1,
    "names": [], "names_variable": "mlflow_public_aliases", "s3_variables": {},
    "units": [], "files": [], "certificates": [], "certificate_days": 60, "backup_status": "",
    "disks": {}, "free_mb": 0, "project": "", "tracking_uri": "", "store": "",
}  # fmt: skip

OF_RECORD = {"settings", "unit", "user", "backup_status"}  # what a host says itself


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no CAs and no credentials of whoever runs this."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("MLFLOW_", "REQUESTS_", "CURL_")):
            monkeypatch.delenv(name)
    # A socket's path has to be short.
    monkeypatch.setenv("ANSIBLE_SSH_CONTROL_PATH_DIR", str(Path.home() / ".ansible/cp"))
    monkeypatch.setenv("HOME", str(tmp_path))


def only(check: str, **asked: Any) -> list[Any]:
    """Make one check of what was asked, and return what it finds."""
    [one] = [one for one in doctor.CHECKS if one.name == check]
    return list(one.look(patient.Patient({"kind": "host", **ASKED, **asked})))


def words(found: list[Any]) -> str:
    """Return all that was said."""
    return " ".join(f"{one.severity}: {one.what} {one.means} {one.remedy}" for one in found)


def test_it_asks_for_just_what_the_role_sends() -> None:
    """What the program looks up is what vars/main.yml tells it, no more and no less."""
    sent = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__mlflow_doctor_asked"]
    assert {*sent} - {"server"} == {*ASKED, "kind"} - OF_RECORD


def not_for_us() -> NoReturn:
    """As the record is read by who is not root."""
    raise PermissionError(13, "Permission denied")


def test_where_a_server_is_stands_in_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it. Without one, nothing is where it is looked for, and another check says so."""
    place = {"environment": "/srv/e", "config_dir": "/srv/c", "user": "u", "unit": "x.service"}
    written(monkeypatch, tmp_path, **place)
    sent = {name: asked for name, asked in ASKED.items() if name not in OF_RECORD}
    backups = "/var/lib/mlflow-backup/status.json"
    found = {"settings": "/srv/c/server.env", "backup_status": backups, "user": "u",
             "unit": "x.service", "environment": "/srv/e"}  # fmt: skip
    asked = {**sent, "server": True, "environment": "/of/a/client"}
    assert doctor.of_record(asked) == {**asked, **found}
    written(monkeypatch, tmp_path, **place, leader=False)
    assert doctor.of_record(asked)["backup_status"] == ""
    (tmp_path / "installation.json").unlink()
    found = {"settings": "/etc/mlflow/server.env", "backup_status": backups, "user": "mlflow",
             "unit": "mlflow.service", "environment": "/of/a/client"}  # fmt: skip
    assert doctor.of_record(asked) == {**asked, **found}
    monkeypatch.setattr(installation, "read", not_for_us)
    assert doctor.of_record(asked) == {**asked, **found}
    other = {**sent, "server": False, "environment": "/of/a/client"}
    assert doctor.of_record(other) == {**other, **dict.fromkeys(OF_RECORD, "")}


@pytest.mark.parametrize("version, said", {"2.22.5": 1, "3.15.2": 0, "": 0}.items())
def test_an_unguarded_version_is_said(tmp_path: Path, version: str, said: int) -> None:
    """Below 3 there are holes that no release mends."""
    (tmp_path / f"lib/python3.11/site-packages/mlflow-{version}.dist-info").mkdir(parents=True)
    found = only("guarded version", environment=str(tmp_path) if version else "")
    assert len(found) == said and words(found).count("mlflow_version to 3 or later") == said


@pytest.mark.parametrize(
    "unit, remedy",
    {
        "mlflow.service": "mlflow_server_memory_mb",
        "mlflow-model@iris.service": "mlflow_model_serving_memory_mb",
        "seaweedfs.service": "free says",
    }.items(),
)
def test_who_was_out_of_memory_is_said(
    unit: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By what systemd wrote, recorded on a host whose kernel holds services to their limits."""
    lines = [
        f"2026-11-{day}T10:01:02+00:00 host systemd[1]: {unit}: A process of this unit has been "
        "killed by the OOM killer." for day in (21, 22)
    ]  # fmt: skip
    for program, said in (
        ("systemctl", f"Id={unit}\nActiveState=active"),
        ("journalctl", "\n".join(lines)),
    ):
        (tmp_path / program).write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat <<.\n{said}\n.\n'
        )
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    [found] = only("memory", units=[unit])
    assert "2 times in 7 days" in found.what and "last at 2026-11-22T10:01:02" in found.what
    assert remedy in found.remedy
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"_PID=1", f"UNIT={unit}"} <= {*asked[-1].split()}
    (tmp_path / "journalctl").write_text("#!/bin/sh\n")
    assert only("memory", units=[unit]) == []


def test_each_check_waits_for_earlier_ones_of_its_kind() -> None:
    """A wrong name in `after` would never be waited for."""
    before: set[str] = set()
    for one in doctor.CHECKS:
        assert set(one.after) <= before, one.name
        assert one.name not in before
        assert set(one.kinds) <= {"host", "server", "client", "local"}
        before.add(one.name)


def test_a_check_that_breaks_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error by itself; what waits for it is named with the cause, however far it is.

    An exception's words may hold a secret, and are not shown.
    """

    def breaks(_: Any) -> Any:
        raise KeyError("canary")

    def unseen(_: Any) -> Any:
        raise report.Unseen("it is dark")

    def well(_: Any) -> Any:
        return iter(())

    monkeypatch.setattr(
        doctor,
        "CHECKS",
        [
            report.Check("one", ("host",), (), breaks),
            report.Check("two", ("host",), ("one",), well),
            report.Check("three", ("host",), ("two",), well),
            report.Check("four", ("host",), (), unseen),
            report.Check("five", ("host",), ("four",), well),
            report.Check("six", ("client",), (), breaks),
        ],
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert doctor.examine({"kind": "host", **ASKED})["unseen"] == {
        "only root sees it": ["services"]
    }
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = doctor.examine({"kind": "host", **ASKED})
    assert said["looked"] == ["five"]
    assert said["unseen"] == {"first, one": ["two", "three"], "it is dark": ["four"]}
    [finding] = said["findings"]
    assert (finding["severity"], finding["check"]) == ("error", "one")
    assert "KeyError in breaks, line " in finding["what"]
    assert "canary" not in json.dumps(said)


def status(directory: Path, **said: Any) -> str:
    """Write what the backup says of itself; return the file."""
    file = directory / "status.json"
    file.write_text(json.dumps({"max_age_hours": 26, "error": "", **said}))
    return str(file)


def test_backup(tmp_path: Path) -> None:
    now = time.time()
    assert only("backup", backup_status=status(tmp_path, last_success=now - 3600)) == []
    no_alarm = status(tmp_path, last_success=now - 900 * 3600, max_age_hours=0)
    assert only("backup", backup_status=no_alarm) == []
    for said, severity, word in (
        (
            {"last_success": now - 30 * 3600},
            "error",
            "30 hours old, and should be no older than 26",
        ),
        ({"last_success": now - 3600, "error": "disk full"}, "warning", "disk full"),
        (
            {"last_success": 0, "error": "no key"},
            "error",
            "ever succeeded. The last attempt failed",
        ),
    ):
        found = only("backup", backup_status=status(tmp_path, **said))
        assert [one.severity for one in found] == [severity]
        assert word in words(found)
        assert "-i inventories/team playbooks/backup.yml" in words(found)
    [none] = only("backup", backup_status=str(tmp_path / "none"))
    assert none.severity == "note"
    with pytest.raises(report.Unseen):
        only("backup", backup_status="")


@pytest.mark.parametrize(
    "text, said",
    [
        ("[Service]\nNice=5\n", "nginx.service was changed by hand: "),
        ("#\n# Ansible managed\n#\n[Service]\nNice=5\n", ""),
    ],
)
def test_drop_ins_of_other_roles_are_not_made_by_hand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "nginx.service.d/more.conf"
    file.parent.mkdir()
    file.write_text(text)
    state = {"Id": "nginx.service", "DropInPaths": str(file)}
    monkeypatch.setattr(doctor.services, "show", lambda _: [state])
    found = only("units", units=["nginx.service"])
    assert bool(found) == bool(said)
    assert said in words(found)


@pytest.mark.parametrize(
    "seconds, severity, word",
    [
        (29, "", ""),
        (-29, "", ""),
        (31, "warning", "behind"),
        (-31, "warning", "ahead"),
        (301, "error", "behind"),
    ],
)
def test_clocks(seconds: float, severity: str, word: str) -> None:
    found = list(tls.skew(seconds, "the server's"))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert word in words(found)


@pytest.mark.parametrize("returned, findings", [(0, 0), (5, 1)])
def test_a_clock_that_nobody_keeps(
    monkeypatch: pytest.MonkeyPatch, returned: int, findings: int
) -> None:
    """Asked of the kernel; in a container it is another host's affair, and said to be unseen."""
    kernel = type("Kernel", (), {"adjtimex": staticmethod(lambda _: returned)})
    monkeypatch.setattr(ctypes, "CDLL", lambda _: kernel)
    monkeypatch.setattr(doctor.machine, "in_container", lambda: False)
    assert len(only("clock")) == findings
    monkeypatch.setattr(doctor.machine, "in_container", lambda: True)
    with pytest.raises(report.Unseen):
        only("clock")


@pytest.mark.parametrize(
    "free_mb, inodes, severities",
    [
        (5000, 0.5, []),
        (1900, 0.5, ["warning"]),
        (1000, 0.5, ["error"]),  # which the store needs
        (5000, 0.04, ["warning"]),
        (5000, 0.001, ["error"]),
        (100, 0.001, ["error", "error"]),
    ],
)
def test_disk(
    monkeypatch: pytest.MonkeyPatch,
    free_mb: int,
    inodes: float,
    severities: list[str],
) -> None:
    """Each disk once, by the name of what needs most of it."""
    files = {"f_files": 1000, "f_favail": int(inodes * 1000)}
    room = type("Room", (), {"f_bavail": free_mb, "f_frsize": 1_000_000, **files})
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    one = type("Status", (), {"st_dev": 1})
    monkeypatch.setattr(Path, "stat", lambda _: one)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    found = only("disk", free_mb=2000, disks={"/var/lib/store": 1100})
    assert [one.severity for one in found] == severities
    assert not found or "The disk of /var/lib/store has" in words(found)


def refusal(code: int, message: str = "") -> ssl.SSLCertVerificationError:
    """Return what Python raises for a certificate that OpenSSL refuses."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    "refused, said",
    [
        (refusal(20, "unable to get local issuer certificate"),
         ["is not trusted here", "/b.pem, which REQUESTS_CA_BUNDLE names", "mlflow_client_ca"]),
        (refusal(19, "self-signed certificate in chain"), ["is not trusted here"]),
        (refusal(62, "Hostname mismatch"), ["not for the name m.example.com", "mlflow_x"]),
        (refusal(47, "permitted subtree violation"), ["may not sign for m.example.com", "ca.pem"]),
        (refusal(10), ["has expired", "mlflow_tls_certificate"]),
        (refusal(9), ["not valid yet", "clocks"]),
        (ssl.SSLError(1, "wrong version number"), ["speaks no TLS (", "wrong version", "http://"]),
        (TimeoutError("timed out"), ["is silent, where TLS should begin: timed out"]),
        (ssl.SSLEOFError(8, "EOF occurred"), ["hangs up", "may be down"]),
    ],
)  # fmt: skip
def test_certificates_that_are_refused(refused: OSError, said: list[str]) -> None:
    finding = tls.distrust(
        "https://m.example.com", "m.example.com", refused, ("/b.pem", "REQUESTS_CA_BUNDLE"),
        "mlflow_x", "ansible-playbook again",
    )  # fmt: skip
    for word in said:
        assert word in words([finding])


class Answers(BaseHTTPRequestHandler):
    """Answers each path with what a test has set: a status and a text."""

    said: ClassVar[dict[str, tuple[int, str]]] = {}

    def do_GET(self) -> None:
        code, text = self.said.get(self.path, (404, "<html>nothing</html>"))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Any:
    """A server on loopback, and how to set what it says."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=web.serve_forever, daemon=True).start()

    def says(**said: tuple[int, str]) -> str:
        paths = {
            "health": "/health", "version": "/version",
            "search": "/api/2.0/mlflow/experiments/search",
            "info": "/api/3.0/mlflow/server-info",
        }  # fmt: skip
        Answers.said = {paths[name]: answer for name, answer in said.items()}
        return f"http://127.0.0.1:{web.server_port}"

    yield says
    web.shutdown()
    web.server_close()


def environment(directory: Path, version: str) -> str:
    """Make an environment, as far as its version is read; return its path."""
    (directory / f"lib/python3.11/site-packages/mlflow-{version}.dist-info").mkdir(parents=True)
    return str(directory)


# what the server says: (check, words; none where all is well)
CLIENTS: dict[str, tuple[dict[str, tuple[int, str]], str, list[str]]] = {
    "well": ({"health": (200, "OK")}, "answer", []),
    "no MLflow": ({"health": (200, "<html>portal")}, "answer", ["error", "is not MLflow"]),
    "a redirection": ({"health": (302, "")}, "answer", ["error", "HTTP 302"]),
    "down": ({"health": (502, "Bad Gateway")}, "answer", ["error", "(HTTP 502)", "error.log"]),
    "a refused name": (
        {"search": (403, "Invalid Host header - possible DNS rebinding attack detected")},
        "host header",
        ["error", "(403 Invalid Host header)", "mlflow_public_aliases in inventories/team/group_"],
    ),
    "another refusal": ({"search": (403, "Permission denied")}, "host header", []),
    "no credentials": ({"search": (401, "")}, "credentials", ["note", "has no name and password"]),
    "a broken server": ({"search": (500, "pool")}, "credentials", ["error", "HTTP 500: pool"]),
    "same version": ({"version": (200, "3.17.2")}, "client version", []),
    "older server": ({"version": (200, "3.16.0")}, "client version", ["warning", "3.16.0"]),
    "newer server": ({"version": (200, "4.0.0")}, "client version", ["warning", "What is new"]),
    "far older server": ({"version": (200, "2.22.5")}, "client version", ["error", "logged"]),
    "proxied": (
        {"info": (200, '{"multipart_downloads_enabled": false}')}, "presigned artifacts", [],
    ),
    "MLflow 2": ({"info": (404, "<html>")}, "presigned artifacts", []),
    "presigned": (
        {"info": (200, '{"multipart_downloads_enabled": true}')},
        "presigned artifacts",
        ["error", "does not reach: [Errno 111]", "mlflow_artifact_access"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLIENTS)
def test_what_a_client_is_told(case: str, server: Callable[..., str], tmp_path: Path) -> None:
    said, check, wanted = CLIENTS[case]
    found = only(
        check, kind="client", tracking_uri=server(**said), store="http://127.0.0.1:9",
        environment=environment(tmp_path / "environment", "3.17.2"),
    )  # fmt: skip
    assert len(found) == bool(wanted)
    for word in wanted:
        assert word in words(found)


def test_credentials(
    server: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Refused ones are named by the login, never with the password."""
    file = tmp_path / ".mlflow/credentials"
    file.parent.mkdir()
    for part in (doctor.client, patient):
        monkeypatch.setattr(part, "CREDENTIALS", file)
    file.write_text("[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = canary")
    file.chmod(0o644)
    found = only("credentials", kind="client", tracking_uri=server(search=(401, "")))
    assert [one.severity for one in found] == ["error", "error"]
    assert "has mode 0644" in found[0].what
    assert "(401)" in found[1].what
    assert "canary" not in words(found)

    file.write_text("[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = canary%!")
    [broken] = only("activation", kind="client", tracking_uri=server())
    assert "cannot be read (Interpolation" in broken.what
    assert "a % is doubled" in broken.remedy
    assert "canary" not in words([broken])


def test_a_proxy_is_seen_as_mlflow_would_use_it(
    server: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that swallows the name is an error; one that is told to leave it alone is not asked."""
    uri = server(health=(200, "OK"))
    monkeypatch.setenv("http_proxy", "http://someone:canary@127.0.0.1:9")
    found = only("proxy", kind="client", tracking_uri=uri)
    assert "Add 127.0.0.1 to NO_PROXY" in words(found)
    assert "the proxy http://127.0.0.1:9," in words(found)
    with pytest.raises(report.Unseen):
        only("connection", kind="client", tracking_uri=uri)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for check in ("proxy", "name", "connection", "answer"):
        assert only(check, kind="client", tracking_uri=uri) == []


def local(directory: Path, *lines: str) -> dict[str, Any]:
    """Make a project of scenario 1 with these variables; return what is asked of it."""
    directory.mkdir(exist_ok=True)
    (directory / "mlflow.env").write_text("\n".join(["# a comment", *lines]) + "\n")
    return {"kind": "local", "playbook": "scenario1", "project": str(directory)}


def test_scenario1(tmp_path: Path) -> None:
    """A project without what MLflow 3 wants, and one that is not there."""
    project = tmp_path / "project"
    uri = f"MLFLOW_TRACKING_URI=file://{project}/mlruns"
    assert only("store", **local(project, uri, "MLFLOW_ALLOW_FILE_STORE=true")) == []
    assert "maintenance mode" in words(only("store", **local(project, uri)))
    asked = local(project, uri)
    (project / "mlflow.env").unlink()
    found = words(only("activation", **asked))
    assert "There is no" in found
    assert "ansible-playbook -i inventories/team playbooks/scenario1.yml" in found


def test_experiments_that_only_a_server_could_keep(tmp_path: Path) -> None:
    """They are named, and the playbook, which mends them (tests/test_local_store.py)."""
    project = tmp_path / "project"
    uri = f"MLFLOW_TRACKING_URI=file://{project}/mlruns"
    asked = local(project, uri, "MLFLOW_ALLOW_FILE_STORE=true")
    assert only("experiments", **asked) == []
    for number, place in (("0", "mlflow-artifacts:/0"), ("1", f"{project}/mlruns/1")):
        (project / "mlruns" / number).mkdir(parents=True)
        meta = f"artifact_location: {place}\nexperiment_id: '{number}'\nname: penguins\n"
        (project / "mlruns" / number / "meta.yaml").write_text(meta)
    [found] = only("experiments", **asked)
    assert found.what.startswith("penguins (0): only a server could keep the artifacts of this")
    assert "ansible-playbook -i inventories/team playbooks/scenario1.yml" in found.remedy


def test_an_environment_that_does_not_run(tmp_path: Path) -> None:
    asked = local(tmp_path, "MLFLOW_TRACKING_URI=file:///x")
    found = words(only("activation", **asked, environment=str(tmp_path / "gone")))
    assert f"The environment {tmp_path}/gone does not run" in found


def test_file_modes(tmp_path: Path) -> None:
    """What is more open than it should be is a leak, what is less so is not."""
    file = tmp_path / "secrets.env"
    file.write_text("x")
    owner, group = file.owner(), file.group()
    wanted = {"path": str(file), "owner": owner, "group": group, "mode": "0640"}
    for mode, word in ((0o640, ""), (0o644, "no secret any more"), (0o600, "may not be able")):
        file.chmod(mode)
        found = only("file modes", files=[wanted])
        assert word in words(found)
        assert bool(found) == bool(word)
    file.chmod(0o640)
    changed = only("file modes", files=[{**wanted, "sha256": "0" * 64}])
    assert [one.severity for one in changed] == ["warning"]
    file.unlink()
    assert "is missing" in words(only("file modes", files=[wanted]))


def test_programs_changed_by_hand_or_of_another_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "new/mlflow_ops/ready.py"
    program.parent.mkdir(parents=True)
    program.write_text("it works\n")
    there = (tmp_path / "new").rename(tmp_path / installed.digest(tmp_path / "new"))
    current = tmp_path / "current"
    current.symlink_to(there.name)
    monkeypatch.setattr(doctor.services, "INSTALLED", current)
    assert only("file modes", tools=str(there)) == []
    said = f"warning: {current} is not what these playbooks install"
    assert words(only("file modes", tools=str(tmp_path / "another"))).startswith(said)
    (there / "mlflow_ops/ready.py").write_text("# hello\n")
    assert words(only("file modes", tools=str(there))).startswith(said)


def test_what_it_advises_goes_through_no_link(tmp_path: Path) -> None:
    """Root does it later; whoever owns the directory may have made a link there by then."""
    if os.geteuid():
        pytest.skip("only root can make files of two users")
    here = tmp_path / "state"
    here.mkdir()
    place, base = here / "artifacts_local", here / "mlflow.db"
    place.mkdir()
    os.chown(here, 1, 1)
    wanted = {"path": str(place), "owner": "daemon", "group": "daemon", "mode": "0750"}
    (found,) = only("file modes", files=[wanted])
    assert found.remedy == (
        f"chown -h daemon:daemon {place}; runuser -u daemon -- chmod 0750 {place}"
    )
    base.symlink_to("/etc/shadow")
    os.chown(base, 1, 1, follow_symlinks=False)
    settings = tmp_path / "server.env"
    settings.write_text(f"MLFLOW_BACKEND_STORE_URI=sqlite:///{base}\n")
    patient = {"settings": str(settings), "user": "daemon"}
    try:
        said = words(only("database", **patient))
    except Exception as error:  # it is none
        said = str(error)
    assert "belongs to" not in said
    base.unlink()
    base.touch()
    assert f"chown -h daemon: {base}" in words(only("database", **patient))


def test_places_that_the_guard_refuses_now_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "server.env"
    settings.write_text(
        f"MLFLOW_BACKEND_STORE_URI=sqlite:///{tmp_path}/none\nMLFLOW_ARTIFACTS_DESTINATION=/srv/a\n"
        'MLFLOW_GUARD_ARTIFACT_ROOTS="[\\"/srv/b\\"]"\n'
    )
    answer = {"databases": [], "places": ["2 experiments share a directory"]}
    asked: list[dict[str, Any]] = []

    def as_service(self: Any, command: list[str], given: str) -> Any:
        asked.append(json.loads(given))
        return subprocess.CompletedProcess(command, 0, json.dumps(answer))

    monkeypatch.setattr(patient.Patient, "as_service", as_service)
    monkeypatch.setattr(patient, "INSTALLED", tmp_path)
    said = words(only("database", settings=str(settings)))
    assert said.startswith("note: 2 experiments share a directory. They go on as they were")
    assert asked[0]["artifacts"] == {"destination": "/srv/a", "roots": ["/srv/b"]}
    monkeypatch.setattr(patient, "INSTALLED", tmp_path / "none")
    with pytest.raises(report.Unseen, match=r"there is no .*/none; .*scenario3.* brings it"):
        only("database", settings=str(settings))


def test_bundles_go_by_mlflow_s_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow's own variable, then that of requests; else the environment's CAs, not the host's."""
    certifi = tmp_path / "lib/python3.11/site-packages/certifi/cacert.pem"
    certifi.parent.mkdir(parents=True)
    certifi.touch()

    def seen() -> tuple[str, str]:
        asked = {"kind": "client", **ASKED, "environment": str(tmp_path)}
        bundle: tuple[str, str] = patient.Patient(asked).server_bundle
        return bundle

    assert seen() == (str(certifi), "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/r.pem")
    assert seen() == ("/r.pem", "REQUESTS_CA_BUNDLE")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/m.pem")
    assert seen() == ("/m.pem", "MLFLOW_TRACKING_SERVER_CERT_PATH")


# The role --------------------------------------------------------------------------------------


def consult(tmp_path: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Look at this machine twice, as what it is not, and report on it and on one that is away."""
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump(
            {"all": {"hosts": {
                "here": {"ansible_connection": "local",
                         "ansible_python_interpreter": sys.executable},
                # With a module in the pipe Ansible may say that the pipe broke, and not why.
                "away": {"ansible_host": "127.0.0.1", "ansible_port": 9,
                         "ansible_pipelining": False},
            }}}
        )
    )  # fmt: skip
    look = {
        "role": "mlflow_doctor", "mlflow_doctor_kind": "local",
        "mlflow_doctor_playbook": "scenario1", "mlflow_doctor_project": str(tmp_path / "none"),
    }  # fmt: skip
    report = {"ansible.builtin.import_role": {"name": "mlflow_doctor", "tasks_from": "report"}}
    plays = [
        {"hosts": "all", "gather_facts": False, "roles": [look]},
        {"hosts": "all", "gather_facts": False, "tasks": [report]},
    ]
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump(plays))
    return subprocess.run(
        [ANSIBLE, "-i", tmp_path / "hosts.yml", tmp_path / "playbook.yml", *arguments,
         "-e", json.dumps(variables)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path fits into one line of a report."""
    with TemporaryDirectory() as path:
        yield Path(path)


def test_one_report_for_all_hosts(short_path: Path) -> None:
    """A host that cannot be reached is a finding; the exit code says that something is wrong."""
    done = consult(short_path)
    said = " ".join(done.stdout.split())
    assert done.returncode == 2, said
    for word in (
        f"error activation: There is no {short_path}/none/mlflow.env",
        f"next: ansible-playbook -i {os.path.relpath(short_path, ROOT)} ops.mlflow.scenario1",
        "away: 0 things were looked at: 1 wrong error the way there: ",
        "port 9: Connection refused This host could not be looked at. next: ssh 127.0.0.1",
        "here: activation; see the report above.",
        "not looked at: store, experiments (first, activation)",
    ):
        assert word in said, done.stdout


def test_it_need_not_fail_and_works_in_check_mode(tmp_path: Path) -> None:
    done = consult(tmp_path, "--check", mlflow_doctor_fail="false")
    assert done.returncode == 0, done.stdout
    assert "error   activation" in done.stdout
    assert "changed=0" in done.stdout


@pytest.mark.parametrize(
    "left, lifetime, soon",
    [
        (61, 397, False),
        (59, 397, True),
        (59, 90, False),
        (29, 90, True),
        (2, 4, True),
        (6, 6, True),
    ],
)
def test_when_a_certificate_is_near_its_end(left: int, lifetime: int, soon: bool) -> None:
    """Two months before, unless it is good for a short time: such are renewed late."""
    assert tls.ends_soon(left * tls.DAY, lifetime * tls.DAY, 60) is soon
