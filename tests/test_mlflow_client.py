"""The role mlflow_client on a server's clients: on this machine, into a directory of the test's."""

import configparser
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from refusals import refused

from mlflow_ops import credentials

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
ME = pwd.getpwuid(os.getuid()).pw_name
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CHANGED, SAME = credentials.Result(True, []), credentials.Result(False, [])
TRUST = ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"]

GIVEN = {
    "mlflow_client_environment": "/opt/mlflow/current",
    "mlflow_client_store": "server",
    "mlflow_client_tracking_uri": "https://localhost",
}

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run the role here without facts, but for its notebook kernel, which is root's affair."""

    def run(*arguments: str, **variables: object) -> "subprocess.CompletedProcess[str]":
        book = [{
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "mlflow_client_project": f"{tmp_path}/client",
                **GIVEN,
            },
            "roles": ["mlflow_client"],
        }]  # fmt: skip
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(yaml.safe_dump(book, sort_keys=False))
        extra = {"__mlflow_client_jupyter": f"{tmp_path}/jupyter", **variables}
        return subprocess.run(
            [ANSIBLE, "-i", "localhost,", playbook, "-e", json.dumps(extra), *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def exported(activate: Path, after: str = "true", **before: str) -> dict[str, str]:
    """Return what a shell exports once it has sourced a file and run a command."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'. "$1"; {after}; env -0', "sh", activate],
        env={"PATH": os.environ["PATH"], **before}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_everything_leads_to_the_server(play: Play, tmp_path: Path) -> None:
    """Shell, file and kernel say the same, without a password; a second run changes nothing."""
    hers = [{"user": ME, "username": "ada", "password": "hush-hush-hush"}]
    check = play("--check", "--diff", "-vvv", mlflow_client_ca=CA, mlflow_client_credentials=hers)
    assert check.returncode == 0, check.stdout + check.stderr
    assert "hush" not in check.stdout + check.stderr
    assert not (tmp_path / "client").exists()
    done = play(mlflow_client_ca=CA)
    assert done.returncode == 0, done.stdout + done.stderr
    found = exported(tmp_path / "client/activate")
    expected = {
        "MLFLOW_TRACKING_URI": "https://localhost",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "600",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        **dict.fromkeys(TRUST, f"{tmp_path}/client/ca-bundle.pem"),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not [name for name in found if name.startswith("MLFLOW_") and name not in expected]
    lines = (tmp_path / "client/mlflow.env").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines if "=" in line) == expected
    (kernel,) = tmp_path.glob("jupyter/kernels/mlflow/kernel.json")
    assert json.loads(kernel.read_text())["env"].items() >= expected.items()
    assert "changed=0" in play(mlflow_client_ca=CA).stdout
    assert "changed=0" in play("--check", mlflow_client_ca=CA).stdout


def test_deactivate_takes_everything_back(play: Play, tmp_path: Path) -> None:
    """What a company's host trusts is trusted again."""
    assert play(mlflow_client_ca=CA).returncode == 0
    company = {"REQUESTS_CA_BUNDLE": "/etc/ssl/company.pem"}
    for before in ({}, company):
        plain = exported(Path("/dev/null"), **before)
        assert exported(tmp_path / "client/activate", "deactivate", **before) == plain


def test_trust_follows_the_host_and_the_ca(play: Play, tmp_path: Path) -> None:
    """The bundle holds the host's store and the CA; without a CA there is none."""
    bundle = tmp_path / "client/ca-bundle.pem"
    assert play(mlflow_client_ca=CA).returncode == 0
    store = Path("/etc/ssl/certs/ca-certificates.crt")
    content = store.read_text() if store.exists() else ""
    assert bundle.read_text() == f"{content.rstrip()}\n{CA}"
    bundle.write_text("an older store\n" + CA)
    assert "changed=1" in play(mlflow_client_ca=CA).stdout
    assert bundle.read_text().startswith(content.rstrip())
    assert play().returncode == 0
    assert not bundle.exists() and not exported(tmp_path / "client/activate").keys() & {*TRUST}


# This account has its home elsewhere.
GIVE = """
import json, os, pwd, sys
home, entry, check = json.loads(sys.stdin.read())
os.geteuid, me = lambda: 1, pwd.getpwuid(os.getuid())
pwd.getpwnam = lambda name: pwd.struct_passwd(me[:5] + (home, ''))
from mlflow_ops import credentials
print(json.dumps(credentials.write([entry], check)))
"""


def give(home: Path, entry: dict[str, str], check: bool = False) -> credentials.Result:
    """Write the credentials of this account, whose home is said to be elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", GIVE],
        input=json.dumps([str(home), {"user": ME, **entry}, check]),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert not done.stderr
    return credentials.Result(*json.loads(done.stdout))


@pytest.mark.parametrize("password", ["100%(sure)s", "a = b # c ; d", "ünïcode: 'quoted\"", "[x]"])
def test_any_password_reaches_mlflow(tmp_path: Path, password: str) -> None:
    """MLflow reads with configparser; nobody else reads at all."""
    entry = {"username": "ada%", "password": password}
    assert give(tmp_path, entry, check=True) == CHANGED
    assert not [*tmp_path.iterdir()]
    assert give(tmp_path, entry) == CHANGED
    path = tmp_path / ".mlflow/credentials"
    parser = configparser.ConfigParser()
    parser.read(path)
    assert parser["mlflow"]["mlflow_tracking_username"] == "ada%"
    assert parser["mlflow"]["mlflow_tracking_password"] == password
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert give(tmp_path, entry) == SAME
    path.chmod(0o644)
    assert give(tmp_path, entry) == CHANGED
    assert path.stat().st_mode & 0o777 == 0o600
    assert give(tmp_path, {"state": "absent"}) == CHANGED and not path.exists()
    assert give(tmp_path, {"state": "absent"}) == SAME


@pytest.mark.parametrize("what", ["pipe", "a link to one", "a link to what never ends"])
def test_nothing_in_a_home_is_waited_for(tmp_path: Path, what: str) -> None:
    """It is hers: whatever she has put there, root's run goes on."""
    path = tmp_path / ".mlflow/credentials"
    path.parent.mkdir()
    os.mkfifo(tmp_path / "pipe")
    places = {"a link to one": tmp_path / "pipe", "a link to what never ends": Path("/dev/zero")}
    for name in (path, path.with_name("credentials.new")):
        if what in places:
            name.symlink_to(places[what])
        else:
            os.mkfifo(name)
    assert give(tmp_path, {"username": "ada", "password": "hush"}) == CHANGED
    assert path.is_file() and not path.is_symlink()


def test_a_home_that_is_missing_is_named(tmp_path: Path) -> None:
    """One sentence, without a password in it."""
    result = give(tmp_path / "nowhere", {"username": "ada", "password": "hush-hush-hush"})
    [error] = result.errors
    assert error.startswith(f"{ME}: ") and "nowhere/.mlflow" in error
    assert "hush" not in error and not result.changed


def test_a_login_that_is_gone_has_no_credentials_to_take() -> None:
    """Who uninstalls may have removed it; who should get some is missed."""
    entry = {"user": "nobody-of-that-name", "username": "ada", "password": "hush"}
    assert credentials.write([{**entry, "state": "absent"}]) == SAME
    [error] = credentials.write([entry]).errors
    assert error.startswith("nobody-of-that-name: ") and "hush" not in error


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "no address": ({"mlflow_client_tracking_uri": ""}, ["mlflow_client_tracking_uri", "https://"]),
    "passwords in the clear": (
        {"mlflow_client_tracking_uri": "http://mlflow.example.com"},
        ["mlflow_client_tracking_uri", "localhost alone"],
    ),
    "a password in the address": (
        {"mlflow_client_tracking_uri": "https://ada:hush@mlflow.example.com"},
        ["mlflow_client_tracking_uri"],
    ),
    "a name that this host does not know": (
        {"mlflow_client_tracking_uri": "https://mlflow.invalid:8443/team"},
        ["mlflow_client_tracking_uri", "getent ahosts mlflow.invalid", "/etc/hosts"],
    ),
    "a path for a CA": ({"mlflow_client_ca": "/etc/ssl/ca.pem"}, ["mlflow_client_ca", "PEM"]),
    "a key for a CA": (
        {"mlflow_client_ca": f"{CA}-----BEGIN PRIVATE KEY-----\n"},
        ["mlflow_client_ca", "private key"],
    ),
    "half a login": (
        {"mlflow_client_credentials": [{"user": ME, "username": "ada"}]},
        ["mlflow_client_credentials", "password", ME],
    ),
    "a password of two lines": (
        {"mlflow_client_credentials": [{"user": ME, "username": "ada", "password": "hush\nhush"}]},
        ["mlflow_client_credentials", "one line", ME],
    ),
    "a stranger": (
        {"mlflow_client_credentials": [
            {"user": "nobody-of-that-name", "username": "ada", "password": "hush"}]},
        ["mlflow_client_credentials", "nobody-of-that-name", "a stranger"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run the role for each bad input; return where, and what each was answered with."""
    folder = tmp_path_factory.mktemp("bad")
    cases = {
        case: {**GIVEN, "mlflow_client_project": f"{folder}/{case}/client", **variables}
        for case, (variables, _) in BAD_INPUT.items()
    }
    playbook = folder / "playbook.yml"
    play = {"hosts": "all", "gather_facts": False, "roles": ["mlflow_client"]}
    playbook.write_text(yaml.safe_dump([play]))
    found = refused(folder, cases, playbook)
    assert "hush" not in found.said.replace("//ada:hush@mlflow", "")  # but in a bad address
    return folder, found.errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(ran: tuple[Path, dict[str, str]], case: str) -> None:
    """One error names the variable, what is allowed, and the file; nothing is written."""
    folder, errors = ran
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]
    assert not (folder / case).exists()
