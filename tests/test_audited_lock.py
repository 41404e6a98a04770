"""The lock of one version, and what is published about it; services that answer, and others."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tools/audited_lock.py"
ACCEPTED = ROOT / "tools/accepted_advisories.yml"
PAGE = (ROOT / "docs/security-release.md").read_text()
VERSION = yaml.safe_load((ROOT / "roles/mlflow/defaults/main.yml").read_text())["mlflow_version"]
SHIPPED = ROOT / f"roles/mlflow/files/locks/mlflow-{VERSION}.txt"

# A lock has a package twice where Pythons differ.
LOCK = """\
mlflow==3.17.2 \\
    --hash=sha256:00
numpy==2.2.6 ; python_full_version < '3.11' \\
    --hash=sha256:00
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:00
Flask.CORS==6.0.5 \\
    --hash=sha256:00
"""
PINNED = {("mlflow", "3.17.2"), ("numpy", "2.2.6"), ("numpy", "2.5.5"), ("flask-cors", "6.0.5")}
OLD = {("mlflow", "2.9.1"): [("PYSEC-2023-1", ["CVE-2023-6909"], ["2.9.2"])]}


class Service:
    """A service of advisories on this machine, in the form of OSV's and of PyPI's.

    Attributes:
        about: advisories by package and version: identifier, aliases, versions that mend it.
        lost: packages of which it knows nothing (PyPI's form).
        code: what it answers with.
        asked: about what it was asked.
        port: where it listens.
        tls: what it presents to who comes through it as a proxy.
    """

    def __init__(self) -> None:
        self.about: dict[tuple[str, str], list[Any]] = dict(OLD)
        self.lost: set[str] = set()
        self.code = 200
        self.asked: set[tuple[str, str]] = set()
        self.port = 0
        self.tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/query"

    def osv(self, package: str, version: str) -> dict[str, Any]:
        self.asked.add((package, version))
        found = [
            {
                "id": name,
                "aliases": aliases,
                "summary": "bad",
                "affected": [
                    {
                        "package": {"name": package, "ecosystem": "PyPI"},
                        "ranges": [
                            {"type": "ECOSYSTEM", "events": [{"fixed": fix} for fix in mended]}
                        ],
                    }
                ],
            }
            for name, aliases, mended in self.about.get((package, version), [])
        ]
        return {"vulns": found} if found else {}

    def pypi(self, package: str, version: str) -> dict[str, Any] | None:
        self.asked.add((package, version))
        if package in self.lost:
            return None
        return {
            "vulnerabilities": [
                {"id": name, "aliases": aliases, "summary": "bad", "fixed_in": mended}
                for name, aliases, mended in self.about.get((package, version), [])
            ]
        }


@pytest.fixture
def service() -> Iterator[Service]:
    told = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: dict[str, Any] | None) -> None:
            data = json.dumps(body).encode()
            self.send_response(told.code if body is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(told.osv(query["package"]["name"], query["version"]))

        def do_GET(self) -> None:
            _, _, package, version, _ = self.path.split("/")
            self.answer(told.pypi(package, version))

        def do_CONNECT(self) -> None:  # a proxy that answers itself
            assert told.tls
            self.send_response(200)
            self.end_headers()
            self.connection = told.tls.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)
            self.close_connection = False

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def instead_of_pypi(service: Service, tmp_path: Path) -> dict[str, str]:
    """Return the environment in which the service is reached as if it were PyPI's."""
    asks = importlib.util.find_spec("pip_audit._service.pypi")
    assert asks
    assert asks.origin
    found = re.search(r'url = f"https://([^/]+)/', Path(asks.origin).read_text())
    assert found
    host = found[1]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = tmp_path / "pypi.pem", tmp_path / "pypi.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    service.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    service.tls.load_cert_chain(pem, private)
    proxy = f"http://127.0.0.1:{service.port}"
    names = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
    return {**names, "NO_PROXY": "", "no_proxy": "", "REQUESTS_CA_BUNDLE": str(pem)}


Audit = Callable[..., str]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Run the program on LOCK, see its exit code, and return what it says, in one line."""
    (tmp_path / "lock.txt").write_text(LOCK)

    def run(*arguments: str, code: int = 0, what: str = "--lock=lock.txt", **more: str) -> str:
        # Whoever has a proxy has it for the package index, not for a server of this test.
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), what, *arguments], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return run


def test_all_that_a_lock_pins_is_asked_about(audit: Audit, service: Service) -> None:
    assert "no advisory that is not accepted" in audit("--osv-url", service.url)
    assert service.asked == PINNED | set(OLD)


@pytest.mark.parametrize("more", ["mine @ https://example.com/mine.whl", "-r other.txt", "flask"])
def test_what_cannot_be_asked_about_is_no_pass(
    audit: Audit, service: Service, tmp_path: Path, more: str
) -> None:
    (tmp_path / "lock.txt").write_text(f"# of mine\n{LOCK}{more}\n")
    assert f"it has what is no pinned version: {more}" in audit("--osv-url", service.url, code=1)


def test_what_is_accepted_is_named_with_its_reason(audit: Audit, service: Service) -> None:
    # By any of its names: services have their own.
    service.about["mlflow", "3.17.2"] = [("PYSEC-2026-1", ["GHSA-x", "CVE-2026-96775"], [])]
    said = audit("--osv-url", service.url)
    assert "accepted mlflow 3.17.2: PYSEC-2026-1" in said
    assert "A pickle in a model of dspy." in said


@pytest.mark.parametrize(
    ("pin", "name"),
    [
        (("mlflow", "3.17.2"), "CVE-2999-1"),
        (("numpy", "2.2.6"), "CVE-2999-1"),  # for another Python than this one
        (("numpy", "2.5.5"), "CVE-2999-1"),
        (("flask-cors", "6.0.5"), "CVE-2026-96775"),  # it is accepted of another package
    ],
)
def test_another_advisory_refuses_the_lock(
    audit: Audit, service: Service, pin: tuple[str, str], name: str
) -> None:
    service.about[pin] = [(name, [], ["9.9", "10.1"])]
    said = audit("--osv-url", service.url, code=1)
    assert f"{pin[0]} {pin[1]}: {name}; mended in 9.9, 10.1" in said
    assert "accepted_advisories.yml does not name" in said
    assert (f"mends them (--upgrade {pin[0]})" in said) == (pin[0] != "mlflow")
    assert "Nothing was changed." in said


def test_it_is_accepted_for_the_versions_that_are_named(
    audit: Audit, service: Service, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yml"
    entry = {"id": "CVE-2999-1", "package": "mlflow", "reason": "No such thing here."}
    service.about["mlflow", "3.17.2"] = [("CVE-2999-1", [], [])]
    for versions, code in ((">=3.17", 0), ("<3.17", 1)):
        mine.write_text(yaml.safe_dump([{**entry, "versions": versions}]))
        audit("--osv-url", service.url, "--accepted", str(mine), code=code)
    for bad in ({**entry, "versions": "3"}, {**entry, "versions": "", "reason": " "}, entry):
        mine.write_text(yaml.safe_dump([bad]))
        assert "mine.yml" in audit("--osv-url", service.url, "--accepted", str(mine), code=1)


CANNOT = "The advisories about lock.txt cannot be had from"


def test_no_service_is_no_pass(audit: Audit, service: Service) -> None:
    unreachable = "http://127.0.0.1:9/v1/query"
    said = audit("--osv-url", unreachable, code=1)
    assert f"{CANNOT} {unreachable}" in said
    assert "Connection refused" in said
    assert "--service pypi|osv|esms" in said
    service.code = 500
    assert CANNOT in audit("--osv-url", service.url, code=1)


def test_a_service_without_advisories_is_no_pass(audit: Audit, service: Service) -> None:
    service.about = {}
    said = audit("--osv-url", service.url, code=1)
    assert "knows of no advisory about mlflow 2.9.1, which has several" in said


def test_pypi_tells_of_all_or_it_is_no_pass(
    audit: Audit, service: Service, instead_of_pypi: dict[str, str]
) -> None:
    audit(**instead_of_pypi)
    assert service.asked == PINNED | set(OLD)
    service.about["numpy", "2.5.5"] = [("PYSEC-2999-1", ["CVE-2999-1"], [])]
    said = audit(code=1, **instead_of_pypi)
    assert "numpy 2.5.5: PYSEC-2999-1, CVE-2999-1; no version mends it" in said
    # pip-audit itself skips what is not found, and says that all is well.
    del service.about["numpy", "2.5.5"]
    service.lost = {"flask-cors"}
    said = audit(code=1, **instead_of_pypi)
    assert f"{CANNOT} pypi: nothing was told about flask-cors 6.0.5: " in said


def test_pypi_that_is_not_reached_is_no_pass(audit: Audit) -> None:
    closed = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    assert f"{CANNOT} pypi" in audit(code=1, NO_PROXY="", no_proxy="", **closed)


def test_a_lock_is_made_and_goes_where_it_is_wanted(
    audit: Audit, service: Service, tmp_path: Path
) -> None:
    """This one asks the package index."""
    lock = tmp_path / "locks" / f"mlflow-{VERSION}.txt"
    said = audit("--osv-url", service.url, what=VERSION)
    shown = re.search(r"(?s)ends with\n\n```\n(.*?)```", PAGE)
    assert shown
    words = " ".join(shown[1].split()).replace("3.18.1", VERSION)
    assert said.endswith(words.replace("/home/ada/mlflow", str(tmp_path)))
    made = lock.read_text()
    for name in ("mlflow", "mlflow-skinny", "mlflow-tracing"):
        assert re.search(rf"(?m)^{name}=={re.escape(VERSION)} \\\n +--hash=sha256:", made)
    assert re.search("(?m)^uv==", made)
    assert "/" not in made  # no address, and no path
    # What need not change has not.
    pins = re.compile(r"(?m)^[^\s=]+==\S+")
    assert pins.findall(made) == pins.findall(SHIPPED.read_text())
    assert len(service.asked) > len(pins.findall(made))

    service.about["mlflow", VERSION] = [("CVE-2999-1", [], [])]
    lock.write_text("what was there")
    said = audit("--osv-url", service.url, "--upgrade=certifi", what=VERSION, code=1)
    assert "No lock was written." in said
    assert {file.name: file.read_text() for file in lock.parent.iterdir()} == {
        lock.name: "what was there"
    }


@pytest.mark.parametrize(
    ("version", "words"),
    {
        "3.99.99": "No lock for MLflow 3.99.99 can be made from the package index",
        "1.30.0": "MLflow 1.30.0 is too far from",
        "newest": '"newest" is no version. Say MLFLOW=3.18.1, for example.',
    }.items(),
)
def test_no_such_version(audit: Audit, service: Service, version: str, words: str) -> None:
    assert words in audit("--osv-url", service.url, what=version, code=1)
    assert not service.asked


def test_what_the_page_says_can_be_typed(program: ModuleType) -> None:
    commands = [line for block in PAGE.split("```")[1::2] for line in block.splitlines()]
    commands += re.findall(r"`((?:make|ansible-playbook) [^`]+)`", PAGE)
    tried = 0
    for first, *words in filter(None, map(shlex.split, commands)):
        if first == "make":
            made = subprocess.run(
                ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=True
            )
            last = made.stdout.splitlines()[-1]
            if "audited_lock.py" in last:
                program.command_line(shlex.split(last)[2:])
            tried += 1
        elif first == "python":
            program.command_line(words[1:])
            tried += 1
        elif first == "ansible-playbook":
            assert (ROOT / words[2]).is_file()
            tried += 1
    assert tried == 13
    for arguments in re.findall(r'`ARGS="([^"]*)"`', PAGE):
        program.command_line([*shlex.split(arguments), VERSION])


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audited_lock", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["audited_lock"] = module
    spec.loader.exec_module(module)
    return module


def test_it_resolves_as_make_lock_does(program: ModuleType) -> None:
    makefile = (ROOT / "Makefile").read_text()
    common = re.search(r"(?m)^COMPILE := \$\(UV\) pip compile (.*)$", makefile)
    recipe = re.search(r"\$\(COMPILE\) (--universal .*) \$\$name.in", makefile)
    assert common
    assert recipe
    assert set(f"{common[1]} {recipe[1]}".split()) == {"--upgrade", *program.COMPILE.split()}


def test_what_is_accepted_is_explained() -> None:
    entries = yaml.safe_load(ACCEPTED.read_text())
    explained = (ROOT / "SECURITY.md").read_text()
    shipped = [
        path.stem.removeprefix("mlflow-") for path in ROOT.glob("roles/mlflow/files/locks/*.txt")
    ]
    for entry in entries:
        assert set(entry) == {"id", "package", "versions", "reason"}
        assert entry["id"] in explained, entry["id"]
        assert entry["reason"].endswith(".")
        # MLflow 2 is not guarded: nobody accepts for it.
        assert entry["package"] != "mlflow" or not SpecifierSet(entry["versions"]).contains(
            "2.22.5"
        )
        assert entry["package"] != "mlflow" or list(SpecifierSet(entry["versions"]).filter(shipped))
    assert len({entry["id"] for entry in entries}) == len(entries)
