"""The role seaweedfs: what its templates say, and what it refuses before it asks a host."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import refused

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/seaweedfs"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
TLS = {
    "seaweedfs_listen": "0.0.0.0",  # noqa: S104
    "seaweedfs_tls_certificate": "/etc/ssl/store.pem",
    "seaweedfs_tls_key": "/etc/ssl/store.key",
}

Render = Callable[..., str]


def run(playbook: Path, play: dict[str, Any], variables: dict[str, Any]) -> tuple[int, str]:
    """Run a play on this machine; return its code and what it said."""
    base = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    playbook.write_text(yaml.safe_dump([{**base, **play}], sort_keys=False))
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", playbook,
         "-e", json.dumps({"ansible_python_interpreter": sys.executable, **variables})],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render one of the role's templates by Ansible, with the role's own variables."""

    def template(name: str, kept: dict[str, Any] | None = None, **variables: object) -> str:
        content = {"content": "{{ kept | to_json | b64encode }}"} if kept else {"skipped": True}
        target = f"{tmp_path}/{name}"
        code, said = run(
            tmp_path / "playbook.yml",
            {
                "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
                "vars": {"kept": kept, "__seaweedfs_kept": content},
                "tasks": [{"ansible.builtin.template": {
                    "src": f"{ROLE}/templates/{name}.j2", "dest": target, "mode": "0600",
                }}],
            },
            # What the role looks up among its own files.
            {"__seaweedfs_requirement": (ROLE / "files/seaweedfs.txt").read_text(),
             "__seaweedfs_ready": {"path": "/usr/local/sbin/seaweedfs-ready"}, **variables},
        )  # fmt: skip
        assert code == 0, said
        return (tmp_path / name).read_text()

    return template


def test_everything_but_s3_is_closed(render: Render) -> None:
    """Each unsafe default of SeaweedFS, by the option that closes it."""
    unit = render("seaweedfs.service")
    for option in (
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-disableHttp", "-filer.disableHttp",
        "-master.telemetry=false", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false", "-s3.port=8333",
    ):  # fmt: skip
        assert option in unit.split(), option
    assert "IPAddressDeny=any" in unit
    assert "cert.file" not in unit
    security = render("security.toml")
    for part in ("master", "volume", "filer", "s3", "client"):
        assert re.search(rf"\[grpc\.{part}\]\ncert = \".+\"\nkey = \".+\"", security)


def test_other_hosts_reach_tls_and_nothing_else(render: Render) -> None:
    """The public port is systemd's; SeaweedFS stays on loopback, S3 and its gRPC too."""
    unit = render("seaweedfs.service", **TLS)
    assert "s3.ip.bind" not in unit and "https" not in unit.partition("[Service]")[2]
    assert "-s3.port=8337" in unit and "-s3.cert.file=/run/seaweedfs/tls.pem" in unit
    # The directory is the service's: root writes nothing there.
    copies = [line for line in unit.splitlines() if line.startswith("ExecStartPre=+")]
    assert len(copies) == 2
    for line in copies:
        assert "/usr/bin/setpriv --reuid=seaweedfs --regid=seaweedfs --clear-groups " in line
    assert copies[1].endswith(" /etc/ssl/store.key /run/seaweedfs/tls.key")
    assert "--port 8337 --tls" in unit
    assert "ListenStream=0.0.0.0:8333\n" in render("seaweedfs-s3.socket", **TLS)
    assert "127.0.0.1:8337\n" in render("seaweedfs-s3.service", **TLS)
    opened = render("seaweedfs-s3.socket", **{**TLS, "seaweedfs_listen": "::"})
    assert "ListenStream=[::]:8333\n" in opened


def identities(text: str) -> dict[str, dict[str, Any]]:
    """Return the identities of the file of keys by name."""
    return {entry["name"]: entry for entry in json.loads(text)["identities"]}


def test_keys_are_made_kept_and_given(render: Render) -> None:
    """New ones where there are none; then the same ones; a variable stands above both."""
    first = render("s3.json")
    made = identities(first)
    keys = [made[name]["credentials"][0][part]
            for name in ("admin", "client") for part in ("accessKey", "secretKey")]  # fmt: skip
    assert len({*keys}) == 4
    assert [len(key) for key in keys] == [20, 40, 20, 40]
    assert render("s3.json", kept=json.loads(first)) == first
    given = {"seaweedfs_access_key": "AKIA", "seaweedfs_secret_key": 'a"b/c'}
    text = identities(render("s3.json", kept=json.loads(first), **given))
    assert text["client"]["credentials"][0]["accessKey"] == "AKIA"
    assert text["admin"] == made["admin"]


def test_the_ordinary_key_is_for_one_bucket(render: Render) -> None:
    """Its policy names the bucket, and nothing that changes the bucket itself."""
    text = render("s3.json", seaweedfs_bucket="models")
    assert identities(text)["client"].get("actions") is None
    (policy,) = json.loads(text)["policies"]
    statements = json.loads(policy["content"])["Statement"]
    assert {resource for statement in statements for resource in statement["Resource"]} == {
        "arn:aws:s3:::models",
        "arn:aws:s3:::models/*",
    }
    actions = {action for statement in statements for action in statement["Action"]}
    assert not [action for action in actions if "*" in action or action.startswith("s3:PutBucket")]


def test_the_program_is_pinned() -> None:
    """One version with a hash for each kind of machine, and no address."""
    text = (ROLE / "files/seaweedfs.txt").read_text()
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) == 2
    assert "http" not in text


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "open without TLS": (
        {"seaweedfs_listen": "0.0.0.0"},  # noqa: S104
        ["seaweedfs_listen", "seaweedfs_tls_certificate", "127.0.0.1"],
    ),
    "half a certificate": (
        {"seaweedfs_tls_key": "/etc/ssl/store.key"},
        ["seaweedfs_tls_certificate", "seaweedfs_tls_key", "both"],
    ),
    "half a key": ({"seaweedfs_access_key": "AKIA"}, ["seaweedfs_secret_key", "both"]),
    "a port without room above": ({"seaweedfs_port": 60000}, ["seaweedfs_port", "60000", "55000"]),
    "a name for an address": ({"seaweedfs_listen": "s3 host"}, ["seaweedfs_listen", "s3 host"]),
    "no such wheelhouse": ({"seaweedfs_wheelhouse": "/nowhere"}, ["seaweedfs_wheelhouse"]),
    "a relative directory": ({"seaweedfs_data_dir": "data"}, ["seaweedfs_data_dir", "absolute"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    return refused(tmp_path_factory.mktemp("bad"), cases, "seaweedfs").errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, errors: dict[str, str]) -> None:
    """One error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]
