"""The role s3_bucket: what it refuses at once, and what a store's errors become."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from refusals import refused

from mlflow_ops import s3

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


def preflight(tmp_path: Path, variables: dict[str, object]) -> tuple[int, str]:
    """Run the role's check of its input; return its code and what it said."""
    play = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "tasks": [
            {"ansible.builtin.import_role": {"name": "s3_bucket", "tasks_from": "preflight"}}
        ],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play]))
    asked = {"s3_bucket_python": "python3", "s3_bucket_name": "mlflow", **variables}
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", tmp_path / "playbook.yml", "-e", json.dumps(asked)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "capitals": ({"s3_bucket_name": "MLflow"}, ["s3_bucket_name", '"MLflow"', "lower-case"]),
    "an address": ({"s3_bucket_name": "192.0.2.1"}, ["s3_bucket_name", "no IP address"]),
    "two dots": ({"s3_bucket_name": "a..b"}, ["s3_bucket_name"]),
    "a slash": ({"s3_bucket_prefix": "/runs/"}, ["s3_bucket_prefix", "slash"]),
    "half a key": ({"s3_bucket_secret_key": "x"}, ["s3_bucket_access_key", "both"]),
    "no scheme": (
        {"s3_bucket_endpoint_url": "s3.example.com"},
        ["s3_bucket_endpoint_url", "https://s3.example.com:9000"],
    ),
    "a bucket in the address": (
        {"s3_bucket_endpoint_url": "https://s3.example.com/models"},
        ["s3_bucket_endpoint_url", "without a bucket"],
    ),
    "days ago": ({"s3_bucket_lifecycle_abort_days": -1}, ["s3_bucket_lifecycle_abort_days", "0"]),
    "other names": (
        {"s3_bucket_name": "X", "s3_bucket_variables": {"s3_bucket_name": "mlflow_bucket"}},
        ["mlflow_bucket is"],
    ),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    common = {"s3_bucket_python": "python3", "s3_bucket_name": "mlflow"}
    return refused(tmp_path_factory.mktemp("bad"), cases, "s3_bucket", **common).errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, errors: dict[str, str]) -> None:
    """One error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]


def test_good_input_passes(tmp_path: Path) -> None:
    """What people really have is not refused."""
    code, said = preflight(
        tmp_path,
        {
            "s3_bucket_name": "team-1.models",
            "s3_bucket_prefix": "a/b",
            "s3_bucket_endpoint_url": "https://[2001:db8::1]:9000",
        },
    )
    assert code == 0, said


class ClientError(Exception):
    """botocore's, as far as the program looks at it."""

    def __init__(self, word: str, status: int, message: str = "", **headers: str) -> None:
        self.response = {
            "Error": {"Code": word, "Message": message},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "HTTPHeaders": {name.replace("_", "-"): value for name, value in headers.items()},
            },
        }


class Other(Exception):
    """Any other of botocore's errors."""


@pytest.fixture(autouse=True)
def boto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the package what it knows of boto3, which is on hosts only."""
    names = (
        "NoCredentialsError", "PartialCredentialsError", "NoRegionError", "BotoCoreError",
        "ParamValidationError", "HTTPClientError", "ConnectionError",
    )  # fmt: skip
    kinds = {name: type(name, (Other,), {}) for name in names}
    errors = SimpleNamespace(ClientError=ClientError, **kinds)
    monkeypatch.setattr(s3, "boto_errors", errors, raising=False)


def bucket(client: object = None, **asked: object) -> s3.Bucket:
    """Return a bucket, with a client of the test's own."""
    found = s3.Bucket.__new__(s3.Bucket)
    found.asked = {
        "apply": True, "create": True, "versioning": True, "public_access_block": True,
        "abort_days": 7, "noncurrent_days": 30, "prefix": "runs",
        "ca_bundle": "", "region": "", "addressing_style": "path",
        "variables": {"s3_bucket_access_key": "mlflow_server_s3_access_key"}, **asked,
    }  # fmt: skip
    found.name, found.endpoint, found.admin_kind = "models", "https://s3.example.com", "access_key"
    found.changes, found.skipped, found.admin, found.real = [], [], client, client
    return found


# S3's error: (words of the sentence)
REFUSALS = {
    "unknown key": (ClientError("InvalidAccessKeyId", 403), ["mlflow_server_s3_access_key"]),
    "old token": (ClientError("ExpiredToken", 400), ["s3_bucket_session_token"]),
    "wrong secret": (ClientError("SignatureDoesNotMatch", 403), ["s3_bucket_secret_key", "Host"]),
    "denied": (ClientError("AccessDenied", 403), ["the right PutObject", "AbortMultipartUpload"]),
    "no length": (ClientError("MissingContentLength", 411), ["s3_bucket_checksums: when_required"]),
    "no trailers": (
        ClientError("NotImplemented", 501, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ["s3_bucket_checksums: when_required"],
    ),
    "elsewhere": (
        ClientError("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1"),
        ["s3_bucket_region: eu-west-1"],
    ),
    "clock": (ClientError("RequestTimeTooSkewed", 403), ["clock", "timesyncd"]),
    "gone": (ClientError("NoSuchBucket", 404), ["s3_bucket_name", "s3_bucket_create: true"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_what_to_change(case: str) -> None:
    """Each error of S3 becomes one sentence with the variable as its reader knows it."""
    error, words = REFUSALS[case]
    with (
        pytest.raises(s3.Failed) as failed,
        bucket().explained("put an object", "PutObject"),
    ):
        raise error
    for word in [*words, "s3.example.com", "models"]:
        assert word in str(failed.value)


class Lifecycle:
    """A store that keeps lifecycle rules."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self.rules = rules

    def get_bucket_lifecycle_configuration(self, **_: str) -> dict[str, Any]:
        if not self.rules:
            raise ClientError("NoSuchLifecycleConfiguration", 404)
        return {"Rules": self.rules}

    def put_bucket_lifecycle_configuration(self, **given: Any) -> None:
        self.rules = given["LifecycleConfiguration"]["Rules"]

    def delete_bucket_lifecycle(self, **_: str) -> None:
        self.rules = []


def test_other_lifecycle_rules_stay() -> None:
    """Ours come beside them, once, and go alone."""
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 900}}
    store = Lifecycle([theirs])
    for changes in (1, 0):
        made = bucket(store)
        made.lifecycle()
        assert len(made.changes) == changes
        assert [rule["ID"] for rule in store.rules] == [
            "theirs", "s3_bucket-abort", "s3_bucket-noncurrent",
        ]  # fmt: skip
    assert {rule["Filter"].get("Prefix") for rule in store.rules[1:]} == {"runs/"}
    bucket(store, abort_days=0, noncurrent_days=0).lifecycle()
    assert store.rules == [theirs]
    looking = bucket(store, apply=False)
    looking.lifecycle()
    assert looking.changes and store.rules == [theirs]


def test_what_a_store_has_not_is_said() -> None:
    """A setting that is not there, or not allowed, is no failure; a wrong key is one."""

    class Poor(Lifecycle):
        def get_bucket_versioning(self, **_: str) -> None:
            raise ClientError("AccessDenied", 403)

        def get_public_access_block(self, **_: str) -> None:
            raise ClientError("NotImplemented", 501)

    poor = bucket(Poor([]))
    poor.settings()
    assert poor.skipped == [
        "versioning: this key may not see to it",
        "the block of public access: this store has no such setting",
    ]

    class Stranger(Poor):
        def get_bucket_versioning(self, **_: str) -> None:
            raise ClientError("InvalidAccessKeyId", 403)

    with pytest.raises(s3.Failed):
        bucket(Stranger([])).settings()


class Drawer:
    """A store that keeps objects, and says so if it is told to break at a step."""

    def __init__(self, breaks: str = "") -> None:
        self.objects: dict[str, bytes] = {}
        self.breaks = breaks

    def step(self, name: str) -> None:
        if name == self.breaks:
            raise ClientError("AccessDenied", 403)

    def put_object(self, Key: str, Body: bytes, **_: str) -> dict[str, Any]:
        self.step("put")
        self.objects[Key] = Body
        return {"ResponseMetadata": {"HTTPHeaders": {"date": "Tue, 24 Nov 2026 06:21:10 GMT"}}}

    def get_object(self, Key: str, **_: str) -> dict[str, Any]:
        self.step("get")
        return {"Body": SimpleNamespace(read=lambda: self.objects[Key])}

    def delete_object(self, Key: str, **_: str) -> None:
        self.step("delete")
        del self.objects[Key]

    def list_object_versions(self, **_: str) -> dict[str, Any]:
        return {}


def test_a_touch_changes_nothing() -> None:
    """One object comes and goes, also where a step is refused; no setting is looked at."""
    store = Drawer()
    touched = bucket(store, prefix="runs")
    touched.touch()
    assert touched.date and not store.objects and not touched.changes
    for step in ("put", "get", "delete"):
        store = Drawer(step)
        with pytest.raises(s3.Failed, match=f"{step} an object.*the right .*Object"):
            bucket(store).touch()
        assert not store.objects or step == "delete"


def test_it_is_a_program_of_its_own() -> None:
    """The doctor starts it, as the server's user; a Python without boto3 says so."""
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "src", "s3"],
        input="{}", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{sys.executable} has no boto3."]


def test_who_hangs_up_is_not_said_to_speak_no_tls() -> None:
    """As a socket of systemd does, whose store is down."""
    gate = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        client, _ = gate.accept()
        client.recv(1)
        client.close()

    Thread(target=hang_up, daemon=True).start()
    made = bucket()
    made.endpoint = f"https://127.0.0.1:{gate.getsockname()[1]}"
    assert "Does the store behind it run?" in made.no_connection(OSError("x"))
    gate.close()
