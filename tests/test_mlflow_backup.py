"""The role mlflow_backup: which files a set needs, what is removed when, and what people are told.

That copies are whole, encrypted and restorable is seen on hosts: molecule/*/tests/test_backup.py.
"""

import inspect
import json
import math
import os
import pwd
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from debian import see_to
from records import written
from refusals import refused

from mlflow_ops import lock, settings
from mlflow_ops.backup import bucket, drill, index, run, sets, state, stores, unpack

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_backup"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

MOMENT = 1_795_000_000.5  # 2026-11-18T11:06:40.5Z
LAST = "20261118T110640Z"
NEXT = "20261119T110640Z"


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of the test's own."""
    monkeypatch.setattr(state, "STATE", tmp_path)


def test_a_name_is_its_moment() -> None:
    assert sets.name(MOMENT) == LAST
    assert sets.seconds(LAST) == int(MOMENT)


def manifest(stamp: str, **more: Any) -> str:
    """Return a manifest's text."""
    databases = {"tracking": {"file": "tracking.db", "sha256": "d" + stamp, "counts": {}}}
    asked = {"set": stamp, "databases": databases, "files": [{"file": "s", "sha256": "s"}]}
    return str(sets.written({**asked, **more}))


def in_a_list(folder: Path, *artifacts: Any) -> list[Any]:
    """Return a set's artifacts, written and read again."""
    file = folder / sets.LIST
    listed = {"file": sets.LIST, "sha256": sets.write_list(file, artifacts)}
    return list(sets.listed(sets.read(NEXT, manifest(NEXT, list=listed)), file))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    artifact = sets.Artifact("1/a b/ü", 3, "2026-11-18T11:06:39.5Z", "abc", LAST)
    assert in_a_list(tmp_path, artifact) == [artifact]
    found = sets.read(NEXT, manifest(NEXT, artifacts=[vars(artifact)]))
    assert sets.own_files(found) == {f"{NEXT}/tracking.db": f"d{NEXT}", f"{NEXT}/s": "s"}
    assert list(sets.listed(found, tmp_path)) == [artifact], "of an earlier release"


@pytest.mark.parametrize(
    ("path", "place"),
    [("../../etc/passwd", LAST), ("/etc/passwd", LAST), ("a/../../../b", LAST), ("a//b", ""),
     ("a", "../.."), ("a", "x' OR '1")],
)  # fmt: skip
def test_a_manifest_does_not_reach_out_of_its_set(tmp_path: Path, path: str, place: str) -> None:
    """Who writes into a target that is not encrypted does not write elsewhere on this host."""
    with pytest.raises(sets.Trouble, match="it names a "):
        in_a_list(tmp_path, sets.Artifact(path, 3, "t", "abc", place))
    databases = {"tracking": {"file": "../x", "sha256": ""}}
    with pytest.raises(sets.Trouble, match="it names a file"):
        sets.read(NEXT, manifest(NEXT, databases=databases))


def test_a_damaged_list_is_named_before_anything_is_read_of_it(tmp_path: Path) -> None:
    file = tmp_path / sets.LIST
    listed = {"file": sets.LIST, "sha256": sets.write_list(file, [])}
    found = sets.read(NEXT, manifest(NEXT, list=listed))
    sets.write_list(file, [sets.Artifact("a", 3, "t", "abc", LAST)])
    with pytest.raises(sets.Trouble, match=f"Set {NEXT} is damaged: artifacts.jsonl.gz: it is not"):
        list(sets.listed(found, file))
    file.unlink()
    with pytest.raises(sets.Trouble, match="No such file"):
        list(sets.listed(found, file))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "",
        lambda text: text.replace('"size": 3', '"size": 4'),
        lambda text: text.replace('"digest"', '"digets"'),
    ],
)
def test_a_damaged_manifest_is_named(damage: Any) -> None:
    text = manifest(LAST, artifacts=[{"size": 3}])
    with pytest.raises(sets.Trouble, match=f"Set {LAST} is damaged: manifest.json"):
        sets.read(LAST, damage(text))


def test_an_old_manifest_is_not_taken_for_a_newer_one() -> None:
    text = manifest(LAST)
    with pytest.raises(sets.Trouble, match=f"Set {NEXT} is damaged: .* that of set {LAST}"):
        sets.read(NEXT, text)
    assert sets.read(None, text)["set"] == LAST


@pytest.mark.parametrize("variable", ["recipient", "identity"])
def test_what_is_not_encrypted_is_not_taken_for_what_is(tmp_path: Path, variable: str) -> None:
    """Who can write in the target takes key.json away, and puts sets of his own there."""
    settings = {
        "MLFLOW_BACKUP_TARGET": str(tmp_path / "without-key.json"),
        f"MLFLOW_BACKUP_{variable.upper()}": "AGE",
    }
    with pytest.raises(sets.Trouble, match=f"no key.json.* mlflow_backup_{variable} says"):
        stores.Target(settings, tmp_path).open()


@pytest.mark.parametrize(
    ("own", "key", "opened", "taken"),
    [
        ("mine", "", "mine", True),
        ("", "mine", "mine", True),
        ("another's", "mine", "mine", True),
        ("", "", "forged", False),
        ("", "", "", False),  # of no host either
        ("mine", "", "forged", False),
        ("mine", "mine", "forged", False),
    ],
)
def test_a_target_of_somebody_else_is_not_taken_for_ours(
    tmp_path: Path, own: str, key: str, opened: str, taken: bool
) -> None:
    """Everybody can encrypt sets of his own to a public key, and whoever has its identity reads."""
    if own:
        (tmp_path / "backup.key").write_text(f"{own}\n")
    see_to("age", "rclone")
    identity = subprocess.check_output(["age-keygen"], stderr=subprocess.DEVNULL, text=True)
    recipient = subprocess.check_output(["age-keygen", "-y"], input=identity, text=True).strip()
    (tmp_path / "key.age").write_text(stores.age("--armor", "--recipient", recipient, stdin=opened))
    settings = {
        "MLFLOW_BACKUP_TARGET": str(tmp_path), "MLFLOW_BACKUP_IDENTITY": identity,
        "MLFLOW_BACKUP_KEY": stores.mark(key) if key else "",
    }  # fmt: skip
    target = stores.Target(settings, tmp_path)
    known = {"recipient": recipient, "key": stores.mark(opened)}
    if taken:
        older = {**known, "key": known["key"][:16]}
        assert target._password(known) == target._password(older) == opened
        return
    with pytest.raises(sets.Trouble, match=f"key {known['key']}, and .* set mlflow_backup_key"):
        target._password(known)


# name: (what is different now, what the target has of it, whether the file is copied)
CHANGES: dict[str, tuple[dict[str, Any], int | None, bool]] = {
    "nothing": ({}, 3, False),
    "the size": ({"size": 4}, 3, True),
    "the time": ({"modified": "2026-11-18T11:06:39.600000000Z"}, 3, True),
    "it is gone from the target": ({}, None, True),
    "it was cut off in the target": ({}, 2, True),
}


def taken_over(folder: Path, now: Any, before: Any, size: int | None) -> Any:
    """Return what becomes of an artifact of the last set, whose file has a size in the target."""
    made = index.Index(folder)
    made.fill("now", [now])
    made.fill("before", [before])
    made.files([] if size is None else [sets.Artifact(before.file, size, "")])
    made.db.execute(index.TAKE_OVER, {"settled": "2026-11-18T11:06:38"})
    [found] = made.artifacts()
    return found


@pytest.mark.parametrize("case", CHANGES)
def test_only_what_no_set_has_is_copied(tmp_path: Path, case: str) -> None:
    change, size, copied = CHANGES[case]
    usual: dict[str, Any] = {"path": "a", "size": 3, "modified": "2026-11-18T11:06:39.500000000Z"}
    before = sets.Artifact(**usual, sha256="abc", set="20261101T000000Z")
    now = sets.Artifact(**{**usual, **change})
    assert taken_over(tmp_path, now, before, size) == (now if copied else before)


@pytest.mark.parametrize(
    "modified, copied",
    [("2026-11-18T11:06:39.000000000Z", True), ("2026-11-18T11:06:37.000000000Z", False)],
)
def test_an_object_of_the_backup_s_second_is_copied_again(
    tmp_path: Path, modified: str, copied: bool
) -> None:
    """S3 says no more than the second: it could have been written twice in it."""
    artifact = sets.Artifact("a", 3, modified, "abc", LAST)
    now = sets.Artifact("a", 3, modified)
    assert taken_over(tmp_path, now, artifact, 3) == (now if copied else artifact)


@pytest.mark.parametrize("gone", [True, False])
def test_what_did_not_arrive_is_told_from_what_did(tmp_path: Path, gone: bool) -> None:
    """The copy's own size counts, since a file may have been written anew after it was listed."""
    made = object.__new__(run.Backup)
    store = SimpleNamespace(
        listed=lambda *_: [sets.Artifact("a", 5, ""), sets.Artifact("c", 3, "")],
        hashes=lambda *_: {"a": "abc"},
    )
    target: Any = SimpleNamespace(store=store, place="/b")
    made.target = target
    rows = index.Index(tmp_path)
    rows.fill("now", [sets.Artifact(path, 3, "t") for path in "abc"])
    source: Any = Listed(tmp_path, [] if gone else [sets.Artifact("b", 3, "t")])
    if not gone:
        with pytest.raises(sets.Trouble, match=r"1 artifacts did not arrive .* b"):
            made.take_note(source, NEXT, "", rows)
        return
    made.take_note(source, NEXT, "", rows)
    assert list(rows.artifacts()) == [sets.Artifact("a", 5, "t", "abc", NEXT)]


# name: (ages of the sets in days, days, sets that stay at least, ages of those that go)
RETENTION: dict[str, tuple[list[float], int, int, list[float]]] = {
    "by age": ([1, 5, 29.9, 30.1, 40], 30, 1, [40, 30.1]),
    "old ones stay where there are no others": ([50, 60, 70], 30, 2, [70]),
    "the newest always stays": ([50], 0, 0, []),
    "by number alone": ([0.1, 0.2, 0.3], 0, 2, [0.3]),
    "nothing to remove": ([], 30, 7, []),
}


@pytest.mark.parametrize("case", RETENTION)
def test_retention(case: str) -> None:
    ages, days, least, gone = RETENTION[case]
    stamps = [sets.name(MOMENT - age * 86400) for age in ages]
    expected = [sets.name(MOMENT - age * 86400) for age in gone]
    assert sets.expired(stamps, MOMENT, days, least) == expected


def test_amounts_and_ages_for_people() -> None:
    amounts = [sets.amount(count) for count in (0, 999, 1000, 15_500, 3.2e9, 5e15)]
    assert amounts == ["0 bytes", "999 bytes", "1.0 kB", "16 kB", "3.2 GB", "5000 TB"]
    ages = [sets.ago(span) for span in (5, 60, 7199, 7200, 86400, 172800)]
    assert ages == ["5 s", "1 minute", "119 minutes", "2 hours", "24 hours", "2 days"]


# name: (what status.json says, words of the sentence, whether it is an alarm)
STATUS: dict[str, tuple[dict[str, Any], list[str], bool]] = {
    "fresh": ({"last_success": MOMENT - 3600, "set": LAST}, ["60 minutes old", LAST], False),
    "too old": (
        {"last_success": MOMENT - 31 * 3600, "set": LAST},
        ["31 hours old", "mlflow_backup_max_age_hours", "systemctl start mlflow-backup"], True,
    ),
    "failing, and not too old yet": (
        {"last_success": MOMENT - 3600, "set": LAST, "error": "s3://b has no such bucket."},
        ["Since then: s3://b has no such bucket."], False,
    ),
    "of a clock that was ahead": (
        {"last_success": MOMENT + 3600, "set": NEXT}, [NEXT, "is from the future", "clock"], True,
    ),
    "damage that was found": (
        {"last_success": MOMENT - 3600, "set": LAST, "damaged": 2}, ["2 files are damaged"], False,
    ),
    "never": ({"last_success": 0, "set": ""}, ["No backup was ever made"], True),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUS)
@pytest.mark.usefixtures("own_state")
def test_the_alarm(case: str) -> None:
    says, words, alarm = STATUS[case]
    state.note(max_age_hours=30, **says)
    assert (state.STATE / "status.json").stat().st_mode & 0o777 == 0o644
    if alarm:
        with pytest.raises(sets.Trouble) as raised:
            state.status(MOMENT)
        sentence = str(raised.value)
    else:
        sentence = state.status(MOMENT)
    for word in words:
        assert word in sentence


def test_files_of_later_runs_are_left_out(tmp_path: Path) -> None:
    """One that an earlier run has written anew since is not: MLflow replaces it by a new file."""
    moments = []
    for name in ("early", "late"):
        (tmp_path / name).mkdir()
        born = subprocess.check_output(["stat", "--format=%.9W", tmp_path / name], text=True)
        if born.startswith("0"):
            pytest.fail("This file system knows no birth of files.")
        moments.append(float(born))
        (tmp_path / name / "file").write_text("1")
        subprocess.run(["sleep", "0.1"], check=True)
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(tmp_path / "early/file")
    names = ["early/file", "late/file", "gone/file"]
    between = (moments[0] + moments[1]) / 2
    assert run.born_after(tmp_path, names, between) == {"late/file": pytest.approx(moments[1])}
    assert run.born_after(tmp_path, names, moments[1] + 1) == {}


def test_root_writes_only_where_nobody_else_can(tmp_path: Path) -> None:
    """Whoever may rename a directory puts a link in its place while it is written."""
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(sets.Trouble, match=f"{place} is not root's alone. Name a directory"):
        run.of_root(place / "set")
    with pytest.raises(sets.Trouble, match="fetched anew"):
        run.of_root(place, whole=True)
    assert run.of_root(Path("/tmp/set")) == Path("/tmp/set"), "others' names are safe there"  # noqa: S108 not made


def test_a_fetched_set_that_is_the_service_s_by_now_is_read_with_care(tmp_path: Path) -> None:
    text = manifest(LAST)
    (tmp_path / "elsewhere").write_text(text)
    file = tmp_path / "fetched/manifest.json"
    file.parent.mkdir()
    file.write_text(text)
    assert run.fetched_before(file.parent)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert not run.fetched_before(file.parent)
    file.unlink()
    os.mkfifo(file)
    assert not run.fetched_before(file.parent), "and nobody waits for a writer"


# rclone itself, which copies one file after the other, and slowly.
SLOWLY = """#!/bin/sh
echo "$@" >> {log}
export RCLONE_TRANSFERS=1 RCLONE_ORDER_BY=size,descending RCLONE_BWLIMIT=1M
exec {rclone} "$@"
"""


@pytest.mark.parametrize("attempts", [1, 2])
def test_nobody_waits_for_a_pipe_in_the_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """The service may put one there at any time, and it ends or holds up no backup."""
    see_to("rclone")
    source, target, log = tmp_path / "source", tmp_path / "target", tmp_path / "log"
    slow = tmp_path / "bin/rclone"
    slow.parent.mkdir()
    slow.write_text(SLOWLY.format(log=log, rclone=shutil.which("rclone")))
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=os.pathsep)
    monkeypatch.setattr(stores, "STALLED", 1)
    monkeypatch.setattr(stores, "ATTEMPTS", attempts)
    source.mkdir()
    content = {"a": "a" * 1_000_000, "b": "bb", "c": "c"}
    for name, text in content.items():
        (source / name).write_text(text)

    def exchange() -> None:
        while not any(target.glob("a*")):  # that b is a file it has seen by then
            time.sleep(0.01)
        (source / "b").unlink()
        os.mkfifo(source / "b")

    threading.Thread(target=exchange, daemon=True).start()
    here, there = stores.Store.directory(source), stores.Store.directory(target)
    if attempts == 1:
        with pytest.raises(sets.Trouble, match=r"nothing was copied for .* pipes in the place"):
            here.copy("bac", "", there, "")
        return
    here.copy("bac", "", there, "")
    del content["b"]
    assert {path.name: path.read_text() for path in target.iterdir()} == content
    first, second = log.read_text().splitlines()
    assert "--no-check-dest" in first and "--no-check-dest" not in second
    assert here.odd() == ({"b"}, set())


def test_what_moves_is_told_from_what_stalls() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"x" * 50_000)
        process.stdin.flush()
        process.stdout.read(50_000)
        before = stores.transferred(process)
        assert before >= 100_000 and stores.transferred(process) == before


class Listed:
    """What a backup asks of a store, of which a few artifacts are listed."""

    place = "/artifacts"

    def __init__(self, local: Path, artifacts: list[Any]) -> None:
        self.local, self.artifacts = local, artifacts
        self.copied: list[str] = []

    def listed(self, folder: str = "", *_: Any) -> list[Any]:
        return [sets.Artifact(path, 3, "") for path in self.copied] if folder else self.artifacts

    def odd(self) -> tuple[set[str], set[str]]:
        return {"a link"}, {"too/deep"}

    def copy(self, paths: list[str], *_: Any) -> None:
        self.copied += paths

    def hashes(self, *_: Any) -> dict[str, str]:
        return dict.fromkeys(self.copied, "abc")


@pytest.fixture
def backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Backup:
    """A backup of a host with a private CA, and a set of it in its target."""
    see_to("rclone")
    for place in ("ca", "target"):
        (tmp_path / place).mkdir()
    for name in run.AUTHORITY:
        (tmp_path / "ca" / name).write_text(f"of {name}")
    monkeypatch.setattr(run, "of_root", lambda directory, **_: directory)
    monkeypatch.setattr(state, "STATE", tmp_path)
    made = object.__new__(run.Backup)
    made.settings = {"MLFLOW_BACKUP_CA_DIRECTORY": str(tmp_path / "ca")}
    made.target = stores.Target({"MLFLOW_BACKUP_TARGET": f"{tmp_path}/target"}, tmp_path)
    saved = {"set": LAST, "databases": {}, "files": [], "artifacts_in": "sets",
             "artifacts": [], "authority": made.save_authority(LAST)}  # fmt: skip
    (tmp_path / "target" / LAST / sets.MANIFEST).write_text(sets.written(saved))
    return made


def test_a_private_ca_is_in_a_set_and_comes_back_alone(backup: run.Backup, tmp_path: Path) -> None:
    """A set that is fetched, which a drill or the service gets, has none; it is verified."""
    manifest = backup.manifest(LAST)
    assert [*sets.own_files(manifest)] == [f"{LAST}/ca.key", f"{LAST}/ca.pem"]
    assert backup.verify([LAST]) == {LAST: []}
    (tmp_path / "set").mkdir()
    backup.bring(manifest, tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").rglob("*")] == ["artifacts"]

    place = tmp_path / "back"
    assert backup.fetch_authority(LAST, place) == {"set": LAST, "directory": str(place)}
    assert {path.name: path.read_text() for path in place.iterdir()} == {
        "ca.key": "of ca.key", "ca.pem": "of ca.pem"
    }  # fmt: skip
    assert place.stat().st_mode & 0o777 == 0o700
    (tmp_path / "target" / LAST / "ca.key").write_text("of somebody")
    assert backup.verify([LAST])[LAST]
    with pytest.raises(sets.Trouble, match="its private CA is not what was saved"):
        backup.fetch_authority(LAST, place)
    assert not place.exists()


def test_a_host_without_a_private_ca(backup: run.Backup, tmp_path: Path) -> None:
    """Where none was set up, none is saved; half of one is no backup."""
    (tmp_path / "ca/ca.pem").unlink()
    with pytest.raises(sets.Trouble, match="lacks its key or its certificate"):
        backup.save_authority(NEXT)
    (tmp_path / "ca/ca.key").unlink()
    assert backup.save_authority(NEXT) == []
    (tmp_path / "target" / NEXT).mkdir(exist_ok=True)
    saved = {"set": NEXT, "databases": {}, "files": []}
    (tmp_path / "target" / NEXT / sets.MANIFEST).write_text(sets.written(saved))
    with pytest.raises(sets.Trouble, match="has no private CA"):
        backup.fetch_authority(NEXT, tmp_path / "back")


# name: (what the target is, whether it is encrypted, whether it can hold the name)
NAMES: dict[str, tuple[str, bool, bool]] = {
    "0/good": ("/b", True, True),
    "0/" + "a" * 255: ("/b", False, True),
    "1/" + "a" * 255: ("/b", True, False),  # rclone makes it longer
    "/".join(["a" * 200] * 19): ("/b", False, True),
    "/".join(["b" * 200] * 20): ("/b", False, False),
    "/".join(["a" * 200] * 4): ("s3://bucket/prefix", True, True),
    "/".join(["b" * 200] * 5): ("s3://bucket/prefix", True, False),
    "up/../../out": ("/b", False, False),
    "a//b": ("s3://bucket/prefix", False, False),
    "bad\ufffdutf": ("/b", False, False),  # so rclone says what is no UTF-8
    "good\ufffd": ("/b", False, True),
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:9])
def test_no_name_ends_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever may log an artifact names it."""
    target, encrypted, good = NAMES[name]
    written(monkeypatch, tmp_path)
    (tmp_path / "good\ufffd").touch()
    source: Any = Listed(tmp_path, [sets.Artifact(path, 3, "t") for path in {"0/good", name}])
    made = run.Backup({"MLFLOW_BACKUP_TARGET": target})
    made.target.local = None  # nobody asks for room there
    made.target.store = source if encrypted else made.target.plain
    for method in ("listed", "hashes"):
        monkeypatch.setattr(made.target.plain, method, getattr(source, method))
    monkeypatch.setattr(state, "STATE", tmp_path)
    monkeypatch.setattr(run.Backup, "sets", lambda _: [])
    rows = index.Index(tmp_path)
    _, left_out = made.copy_artifacts(source, NEXT, 4e9, rows)
    arrived = {"0/good", name} if good else {"0/good"}
    assert {one.path for one in rows.artifacts()} == {*source.copied} == arrived
    assert left_out == {"a link", "too/deep", "0/good", name} - arrived


def test_what_is_odd_in_a_directory_is_found_however_deep(tmp_path: Path) -> None:
    store = stores.Store.directory(tmp_path)
    assert store.odd() == (set(), set())
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").touch()
    (tmp_path / "d/link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "d/two\nlines")
    below = os.open(tmp_path / "d", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("e" * 200, dir_fd=below)
        deeper = os.open("e" * 200, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    special, [deep] = store.odd()
    assert special == {"d/link", "d/two\nlines"}
    assert 3600 < len(deep) < 4096 and deep.startswith("d/eee")
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


# What rclone 1.60 said when it was tried: words of the answer.
SAID = {
    "2026/11/24 06:29:17 ERROR : probe: Failed to copy: SignatureDoesNotMatch: The request "
    "signature we calculated\n\tstatus code: 403, request id: X, host id: \n2026/11/24 06:29:17 "
    "Failed to rcat: SignatureDoesNotMatch": [
        "does not accept this key", "mlflow_backup_s3_secret_key",
    ],
    "ERROR : probe: Failed to copy: NoSuchBucket: The specified bucket does not exist": [
        "s3://b/p has no such bucket", "mlflow_backup_target",
    ],
    'Put "https://s3/b/p": x509: certificate signed by unknown authority': [
        "does not trust", "mlflow_backup_s3_ca_bundle",
    ],
    'Put "https://s3/b/p": dial tcp: lookup s3: no such host': ["mlflow_backup_s3_endpoint_url"],
    "Failed to copy: Forbidden: Forbidden": ["PutObjectAcl"],
    'Put "https://s3": http: server gave HTTP response to HTTPS client': ["speaks no TLS"],
    "something new": ["something new", "mlflow_backup_s3_*"],
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_what_rclone_says_becomes_a_sentence(said: str) -> None:
    store = stores.Store("s3://b/p", {}, stores.OUR_S3, "mlflow_backup_target")
    sentence = store.explained("rcat", said)
    assert sentence.startswith("s3://b/p")
    for word in SAID[said]:
        assert word in sentence


def test_no_secret_of_another_s3_reaches_rclone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("RCLONE_CONFIG", "/root/.rclone.conf")
    settings = {"MLFLOW_BACKUP_S3_SECRET_KEY": "ours", "MLFLOW_BACKUP_S3_ACCESS_KEY": "key"}
    found = stores.Store("s3://b/p", settings, stores.OUR_S3, "").environment
    assert "canary" not in found.values()
    assert found["RCLONE_CONFIG"] == "/dev/null"
    assert found["RCLONE_CONFIG_TARGET_SECRET_ACCESS_KEY"] == "ours"  # noqa: S105
    assert "RCLONE_CONFIG_TARGET_ENV_AUTH" not in found


# name: (files that differ, gone from the service, what the sandbox saw, words, whether it is good)
MODELS: dict[str, tuple[list[str], bool, dict[str, Any] | None, list[str], bool]] = {
    "equal": ([], False, {"predictions": 3, "same": True, "settled": True}, ["3 pred"], True),
    "files differ": (["model.skops"], False, None, ["differs", "model.skops"], False),
    "it predicts something else": (
        [], False, {"predictions": 3, "same": False, "settled": True}, ["something else"], False,
    ),
    "it rolls dice": (
        [], False, {"predictions": 3, "same": False, "settled": False}, ["each time"], True,
    ),
    "not this host's kind": (
        [], False, {"backup_error": "no torch", "service_error": "no torch"}, ["no torch"], True,
    ),
    "broken in the backup alone": ([], False, {"backup_error": "x"}, ["from the backup"], False),
    "deleted since": ([], True, {"predictions": 3, "settled": True}, ["gone", "loads"], True),
    "no example": ([], False, {"input": "unknown"}, ["neither an example"], True),
    "not looked at": ([], False, None, ["the same files"], True),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_what_a_drill_says_of_a_model(case: str) -> None:
    different, gone, found, words, good = MODELS[case]
    said, is_good = drill.verdict(different, gone, found)
    assert is_good == good
    for word in words:
        assert word in said


def test_what_a_drill_says_is_text() -> None:
    """Root reads it at a terminal, and whoever registers a model names it."""
    made = drill.Drill()
    made.line("model \x1b]52;c;eA==\x07", "as it was\n  all  well: ü", good=False)
    assert drill.table(made.report()).splitlines()[1:-1] == [
        "  model ?]52;c;eA==?  NOT AS IT SHOULD BE: as it was all well: ü"
    ]


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Drills of a user who is who runs the test, in a sandbox that does nothing."""
    monkeypatch.setattr(drill, "USER", pwd.getpwuid(os.geteuid()).pw_name)
    monkeypatch.setattr(drill, "WORK", tmp_path)
    monkeypatch.setattr(drill, "REPORT", tmp_path / "drill.json")
    monkeypatch.setattr(os, "umask", lambda _: 0)
    real = subprocess.run

    def no_root(command: Any, **options: Any) -> Any:
        rights = ("user", "group", "extra_groups") if os.geteuid() else ()
        options = {name: value for name, value in options.items() if name not in rights}
        return real(["true"] if command[0] == "systemctl" else command, **options)

    monkeypatch.setattr(subprocess, "run", no_root)


@pytest.mark.usefixtures("sandbox")
def test_what_a_sandbox_leaves_is_not_read_for_ever(tmp_path: Path) -> None:
    """A model may leave a file of any size, or one that no program can read."""
    report = tmp_path / "restore.json"
    with report.open("w") as file:
        file.truncate(10**13)
    with pytest.raises(sets.Trouble, match=r"more than .* bytes, as no drill leaves"):
        drill.sandbox("restore")
    report.write_text("[" * 100_000)
    with pytest.raises(sets.Trouble, match="failed: journalctl"):
        drill.sandbox("restore")
    report.write_text('{"counts": {}}')
    assert drill.sandbox("restore") == {"counts": {}}


@pytest.mark.usefixtures("sandbox")
def test_a_report_that_makes_no_sense_fails_the_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "restore.json").write_text('{"counts": 5}')

    def senseless(self: Any) -> None:
        self.line("many", "9" * 10_000)
        drill.sandbox("restore")["counts"].get("tracking")

    monkeypatch.setattr(drill.Drill, "run", senseless)
    assert drill.main() == 1
    found = json.loads(drill.REPORT.read_text())
    assert not found["passed"] and "makes no sense" in found["lines"][-1]["found"]
    assert max(len(line["found"]) for line in found["lines"]) < 10_000


def play(tmp_path: Path, task: dict[str, Any], variables: dict[str, Any]) -> tuple[int, str]:
    """Run a task with the role's variables; return its code and what it said."""
    tasks = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"], "tasks": [task],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([tasks]))
    asked = {
        "ansible_python_interpreter": "{{ ansible_playbook_python }}", **variables,
    }  # fmt: skip
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", tmp_path / "playbook.yml", "-e", json.dumps(asked)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())


RECIPIENT = "age1nj75272n6n7p5zmkq7vxpd72npcucdruyy88m6vdkxsfae7nfqpsk2ewkq"
# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "no place": ({"mlflow_backup_target": "backups"}, ["mlflow_backup_target", "absolute"]),
    "a home": ({"mlflow_backup_target": "/home/ops/b"}, ["mlflow_backup_target", "/home"]),
    "S3 in the clear": (
        {"mlflow_backup_target": "s3://b/p"}, ["mlflow_backup_recipient", "age-keygen", "plain"],
    ),
    "not a key": ({"mlflow_backup_recipient": "age1x"}, ["mlflow_backup_recipient", "58"]),
    "an identity": (
        {"mlflow_backup_recipient": "AGE-SECRET-KEY-1X"}, ["mlflow_backup_recipient", "public"],
    ),
    "no key": ({"mlflow_backup_key": "x"}, ["mlflow_backup_key", "32"]),
    "no identity": ({"mlflow_backup_identity": "/nowhere"}, ["mlflow_backup_identity", "no such"]),
    "half a key": ({"mlflow_backup_s3_secret_key": "x"}, ["mlflow_backup_s3_access_key", "both"]),
    "no set": ({"mlflow_backup_keep_sets": 0}, ["mlflow_backup_keep_sets is 0"]),
    "a file": ({"mlflow_backup_postgresql_bin": "pg"}, ["mlflow_backup_postgresql_bin"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with."""
    cases = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    return refused(tmp_path_factory.mktemp("bad"), cases, "mlflow_backup").errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, errors: dict[str, str]) -> None:
    """One error names the variable, what is allowed and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars", "Nothing was changed"]:
        assert word in errors[case]


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Passwords of any kind, and an identity of several lines."""
    secret, identity = '50% "quoted" \\ $HOME & #', "# made\nAGE-SECRET-KEY-1X\n"
    task = {
        "ansible.builtin.template": {
            "src": f"{ROLE}/templates/backup.env.j2", "dest": f"{tmp_path}/env", "mode": "0600",
        },
        "vars": {"__mlflow_backup_settings": {"SECRET": secret, "IDENTITY": identity, "NO": ""}},
    }  # fmt: skip
    code, said = play(tmp_path, task, {})
    assert code == 0, said
    found = settings.parse((tmp_path / "env").read_text())
    assert found == {"SECRET": secret, "IDENTITY": identity}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("MLFLOW_CRYPTO_KEK_PASSPHRASE=abc123", []),
        ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=a-_b/c+d=", []),
        ("#", []),
        ("LD_PRELOAD=/var/lib/mlflow/x.so", ["LD_PRELOAD"]),
        ("# made once \\", ["# made once \\"]),  # systemd goes on in the next line
        ('MLFLOW_FLASK_SERVER_SECRET_KEY="a', ["MLFLOW_FLASK_SERVER_SECRET_KEY"]),
    ],
)
def test_keys_of_a_set_are_keys_alone(line: str, names: list[str]) -> None:
    """The service's unit reads them as root: another variable there could start anything."""
    assert unpack.strange(f"# Made once.\n{line}\n") == names


def test_artifacts_of_a_set_are_on_the_disk_before_a_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was brought is removed when all is well."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "secrets.env").touch()
    (tmp_path / sets.MANIFEST).write_text('{"databases": {}}')
    did: list[str] = []
    monkeypatch.setattr(unpack, "run", lambda *words: did.append(" ".join(map(str, words))))
    unpack.hand(tmp_path, "mlflow", "/srv/artifacts")
    assert "/artifacts/.mlflow-aside/new" in did[-2]
    assert did[-1] == (
        "runuser --user=mlflow -- sync --file-system -- /srv/artifacts/.mlflow-aside/new"
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [("{", "JSONDecodeError"), ('{"tracking": 7}', "mlflow-database"), ("[]", "mlflow-database")],
)
def test_no_answer_is_a_traceback(said: str, words: str) -> None:
    """Of any program: what it did not foresee is one line, and says where it was."""
    command = [sys.executable, "-Es", str(ROOT / "src"), "database", "count", "--stdin"]
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and words in done.stderr
    assert done.stderr.count("\n") == 1 and ".py:" in done.stderr


def test_the_lock_on_the_data_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read the directory of settings may hold it: the service, too."""
    written(monkeypatch, tmp_path, config_dir=str(tmp_path))
    patience = inspect.signature(lock.data_lock).parameters["patience"].default
    assert patience == lock.PATIENCE < math.inf
    with lock.data_lock():
        refused = pytest.raises(lock.Held, match=rf"lslocks \| grep {tmp_path}")
        with refused, lock.data_lock(patience=0.3):
            pass
    with lock.data_lock():
        pass


NONCURRENT = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}, "Status": "Enabled"}
# name: (rules of a bucket's life cycle, the days after which versions of artifacts may go)
RULES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "ours": ([{**NONCURRENT, "Filter": {"Prefix": ""}}], 30),
    "of all artifacts": ([{**NONCURRENT, "Prefix": "art"}], 30),
    "of some": ([{**NONCURRENT, "Filter": {"Prefix": "artifacts/7/"}}], 30),
    "of something else": ([{**NONCURRENT, "Filter": {"Prefix": "logs/"}}], 0),
    "not in force": ([{**NONCURRENT, "Status": "Disabled"}], 0),
    "uploads alone": ([{"AbortIncompleteMultipartUpload": {}, "Status": "Enabled"}], 0),
}


@pytest.mark.parametrize("case", RULES)
def test_how_long_a_bucket_keeps_versions(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    rules, days = RULES[case]
    said = SimpleNamespace(ClientError=OSError)
    monkeypatch.setitem(sys.modules, "botocore", SimpleNamespace(exceptions=said))
    monkeypatch.setitem(sys.modules, "botocore.exceptions", said)
    made = object.__new__(bucket.Bucket)
    made.name, made.prefix = "b", "artifacts"
    made.client = SimpleNamespace(get_bucket_lifecycle_configuration=lambda **_: {"Rules": rules})
    assert made.days() == days


@pytest.mark.parametrize(("days", "good"), [("29", True), ("30", False)])
def test_no_set_outlives_the_versions_that_it_names(days: str, good: bool) -> None:
    made = object.__new__(run.Backup)
    made.settings = {"MLFLOW_BACKUP_KEEP_DAYS": days}
    if good:
        made.see_time([{"days": 30}])
        made.see_time([{"days": 0}])
        return
    with pytest.raises(sets.Trouble, match=r"mlflow_backup_keep_days is 30.* less than 30"):
        made.see_time([{"days": 30}])


def test_uninstalling_leaves_what_others_have_in_the_target(tmp_path: Path) -> None:
    """Also in a directory whose name is that of a set, and in a set."""
    target = tmp_path / "share"
    ours = ["20261128T120637Z/manifest.json", "20261128T120637Z/artifacts/1/a/model.pkl",
            "20261128T120637Z/tracking.db", "20261128T120638Z/auth.dump.bin", "key.age",
            "mlflow-backup.target"]  # fmt: skip
    others = ["mine.txt", "20250101T000000Z/photo.jpg", "20261128T120637Z/foreign/y",
              "holidays/manifest.json", "holidays/20261128T120637Z/manifest.json"]  # fmt: skip
    for name in ours + others:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).touch()
    tasks = yaml.safe_load((ROLE / "tasks/uninstall.yml").read_text())
    first = next(i for i, one in enumerate(tasks) if one["name"].endswith("Look for the sets"))
    play = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [f"{ROLE}/{kind}/main.yml" for kind in ("defaults", "vars")],
        "tasks": tasks[first:],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    given = {"mlflow_backup_target": str(target), "mlflow_backup_uninstall_data": True,
             "ansible_python_interpreter": sys.executable}  # fmt: skip
    subprocess.run(
        ["ansible-playbook", "--inventory=localhost,", tmp_path / "playbook.yml",
         "--extra-vars", json.dumps(given)],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    left = [path for path in target.rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(target)) for path in left) == sorted(others)
    assert not (target / "20261128T120638Z").exists()
