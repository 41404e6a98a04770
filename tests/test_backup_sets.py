"""Backups from the first set to the last, of a host whose database is a file.

By rclone and age themselves, in directories. What needs a host - units, users, PostgreSQL, S3 - is
seen there: molecule/*/tests/test_backup.py.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from debian import see_to
from disk import settled
from records import written

from mlflow_ops import lock
from mlflow_ops.backup import index, processes, run, sets, state, stores
from mlflow_ops.backup.bucket import EXCHANGE

DAY = 86400


class Host:
    """A host with artifacts, and a clock that is set."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.artifacts, self.target = folder / "artifacts", folder / "target"
        self.settings = {"MLFLOW_BACKUP_TARGET": str(self.target)}
        self.state = folder / "state"
        for place in (self.artifacts, self.state):
            place.mkdir()
        (folder / "server.env").write_text(f"MLFLOW_ARTIFACTS_DESTINATION={self.artifacts}\n")
        (folder / "secrets.env").write_text("# keys\n")
        written(monkeypatch, folder, artifacts=str(self.artifacts), config_dir=str(folder))
        monkeypatch.setattr(state, "STATE", self.state)
        monkeypatch.setattr(state, "LIVE_RESERVE", (0, 0))
        monkeypatch.setattr(run, "of_root", lambda directory, **_: directory)
        monkeypatch.setattr(run.Backup, "databases", self.databases)
        monkeypatch.setattr(run.Backup, "artifacts", self.opened)
        self.now = time.time

    def databases(self, verb: str, *arguments: Path) -> str:
        """Do what `database` does, of one database that is a line."""
        if verb == "status":
            return json.dumps({"databases": [{"kind": "tracking", "bytes": 4}]})
        if verb == "save":
            (arguments[0] / "tracking.db").write_text("rows")
            saved = {"file": "tracking.db", "kind": "sqlite", "moment": time.time(), "bytes": 4,
                     "sha256": sets.sha256(arguments[0] / "tracking.db"), "counts": {}}  # fmt: skip
            return json.dumps({"mlflow": "3", "host": "h", "databases": {"tracking": saved}})
        return ""

    @contextmanager
    def opened(self) -> Iterator[stores.Store]:
        """Show the artifacts, without a mount of their own."""
        yield self.backup().artifacts_store()

    def backup(self) -> run.Backup:
        """Return a backup that has opened nothing yet."""
        return run.Backup(self.settings)

    def reader(self) -> run.Backup:
        """Return one that reads sets."""
        backup = self.backup()
        backup.target.open()
        return backup

    def prepare(self) -> None:
        """Do what the playbook does first."""
        backup = self.backup()
        backup.prepare()
        state.note(max_age_hours=30, target=backup.target.place)

    def log(self, name: str, text: str) -> None:
        """Log an artifact, an hour ago."""
        file = self.artifacts / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def create(self, ahead: float = 0) -> str:
        """Take a backup by a clock that is so many seconds ahead; return the set's name."""
        real = self.now
        self.monkeypatch.setattr(time, "time", lambda: real() + ahead)
        run.create(self.backup())
        self.monkeypatch.setattr(time, "time", real)
        return str(state.told()["set"])

    def files(self, name: str) -> list[Path]:
        """Return where the target has an artifact."""
        return sorted(self.target.glob(f"*/artifacts/{name}*"))

    def fetched(self, stamp: str, without: int = 0) -> dict[str, str]:
        """Fetch a set; return its artifacts' texts by name."""
        place = self.folder / "fetched"
        self.reader().fetch(stamp, place, without)
        below = place / "artifacts"
        return {str(file.relative_to(below)): file.read_text()
                for file in below.rglob("*") if file.is_file()}  # fmt: skip


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One with two artifacts."""
    see_to("rclone")
    made = Host(tmp_path, monkeypatch)
    monkeypatch.setattr(run, "bounded", lambda *_: "")  # the disk of all that runs here
    made.log("1/a/model.pkl", "the model")
    made.log("1/b/notes ü.txt", "the notes")
    return made


def encrypt(host: Host) -> None:
    """Have the host encrypt its sets."""
    see_to("age")
    file = host.folder / "identity.txt"
    subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
    public = subprocess.check_output(["age-keygen", "-y", file], text=True).strip()
    host.settings["MLFLOW_BACKUP_RECIPIENT"] = public


def spoil(file: Path) -> None:
    """Flip bits of a file, by which neither its size nor its time changes."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


EVERYTHING = {"1/a/model.pkl": "the model", "1/b/notes ü.txt": "the notes"}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_one_damaged_file_costs_that_file_and_no_other(host: Host, encrypted: bool) -> None:
    """Sets share files: the databases and all that is whole come back from each of them."""
    if encrypted:
        encrypt(host)
        host.monkeypatch.setattr(stores, "RETRIES", ("--retries", "1"))
    host.prepare()
    first, second = host.create(), host.create()
    [file] = host.files("1/a/model.pkl")
    spoil(file)
    third = host.create()
    assert host.files("1/a/model.pkl") == [file], "its size is right: nobody knows yet"

    for stamp in (first, third):
        with pytest.raises(sets.Trouble) as refused:
            host.fetched(stamp)
        for words in ("of 2 artifacts 1 are missing", "'1/a/model.pkl'", "Nothing was fetched",
                      "mlflow_backup_without=1"):  # fmt: skip
            assert words in str(refused.value)
        assert not (host.folder / "fetched").exists()
        assert host.fetched(stamp, without=1) == {"1/b/notes ü.txt": "the notes"}
        manifest = json.loads((host.folder / "fetched/manifest.json").read_text())
        assert manifest["artifacts_damaged"] == ["1/a/model.pkl"]
        assert (host.folder / "fetched/tracking.db").read_text() == "rows"
        shutil.rmtree(host.folder / "fetched")

    backup = host.reader()
    found = backup.verify(backup.sets(), whole=True)
    assert {stamp: len(wrong) for stamp, wrong in found.items()} == {first: 1, second: 1, third: 1}
    assert f"{first}/artifacts/1/a/model.pkl is missing or damaged" in found[third][0]
    assert state.told()["damaged"] == 1
    assert "1 files are damaged" in state.status(time.time())

    fourth = host.create()
    assert len(host.files("1/a/model.pkl")) == 2, "copied anew"
    backup = host.reader()
    assert not any(backup.verify(backup.sets(), whole=True).values()), "and mended where it was"
    assert state.told()["damaged"] == 0
    for stamp in (first, fourth):
        assert host.fetched(stamp) == EVERYTHING


def test_what_is_lost_for_good_is_named_and_the_next_set_is_whole(host: Host) -> None:
    host.prepare()
    first = host.create()
    spoil(host.files("1/a/model.pkl")[0])
    host.log("1/a/model.pkl", "the model of today")
    host.reader().verify([first])
    second = host.create()
    assert host.fetched(second)["1/a/model.pkl"] == "the model of today"
    found = host.reader().verify([first, second], whole=True)
    assert [len(found[first]), len(found[second])] == [1, 0]


def test_a_damaged_database_is_refused_whatever_the_word(host: Host) -> None:
    host.prepare()
    stamp = host.create()
    spoil(host.target / stamp / "tracking.db")
    with pytest.raises(sets.Trouble, match=r"tracking\.db.*Name another set"):
        host.fetched(stamp, without=9)


def test_a_damaged_list_costs_its_set_alone(host: Host) -> None:
    host.prepare()
    first, second = host.create(), host.create()
    spoil(host.target / second / sets.LIST)
    third = host.create()
    found = host.reader().verify([first, second, third], whole=True)
    assert [bool(found[stamp]) for stamp in (first, second, third)] == [False, True, False]
    assert host.reader().manifest(third)["based_on"] == first
    assert host.fetched(third) == EVERYTHING


def test_a_damaged_manifest_is_counted_too(host: Host) -> None:
    """As a power cut may leave it. What is counted is what the alarm hears of."""
    host.prepare()
    first, second = host.create(), host.create()
    (host.target / second / sets.MANIFEST).write_text("")
    backup = host.reader()
    found = backup.verify(backup.sets(), whole=True)
    assert [bool(found[stamp]) for stamp in (first, second)] == [False, True]
    assert state.told()["damaged"] == 1


def test_a_set_is_on_the_disk_before_it_counts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its manifest too; and where the disk says that it did not keep it, it is no backup."""
    host.prepare()
    seen: list[bool] = []

    def sync(*command: str) -> str:
        assert command == ("sync", "-f", str(host.target))
        seen.append(any(host.target.glob(f"*/{sets.MANIFEST}")))
        return "Input/output error" if len(seen) > 2 else ""

    monkeypatch.setattr(run, "bounded", sync)
    first = host.create()
    assert seen == [False, True]
    with pytest.raises(sets.Trouble, match="does not keep what is written to it: Input/output"):
        host.create()
    assert (state.told()["set"], bool(state.told()["error"])) == (first, True)


def test_sets_where_this_host_keeps_its_state_are_not_what_was_fetched(host: Host) -> None:
    """What was fetched, and nobody needed, goes after a week. Sets have their own time."""
    host.settings["MLFLOW_BACKUP_TARGET"] = str(host.state)
    host.prepare()
    first = host.create()
    os.utime(host.state / first / sets.MANIFEST, (0, 0))
    host.create()
    assert host.fetched(first) == EVERYTHING


def test_a_set_of_an_earlier_release_is_built_on_and_comes_back(host: Host) -> None:
    """Its manifest has the artifacts themselves."""
    host.prepare()
    first = host.create()
    backup = host.reader()
    manifest = backup.manifest(first)
    artifacts = [vars(one) for one in backup.listed(manifest)]
    for name in ("list", "based_on", "digest"):
        del manifest[name]
    (host.target / first / sets.LIST).unlink()
    (host.target / first / sets.MANIFEST).write_text(
        sets.written({**manifest, "artifacts": artifacts})
    )
    second = host.create()
    assert not (host.target / second / "artifacts").exists()
    for stamp in (first, second):
        assert host.fetched(stamp) == EVERYTHING
    backup = host.reader()
    assert not any(backup.verify(backup.sets()).values())
    host.settings |= {"MLFLOW_BACKUP_KEEP_DAYS": "0", "MLFLOW_BACKUP_KEEP_SETS": "1"}
    assert host.backup().prune() == [first]
    assert host.fetched(second) == EVERYTHING


def test_files_of_sets_that_go_stay_while_one_needs_them(host: Host) -> None:
    """Through a chain of sets, of which the oldest that stays alone is read."""
    host.prepare()
    first = host.create(-9 * DAY)
    host.log("2/c", "second")
    second = host.create(-8 * DAY)
    (host.artifacts / "1/a/model.pkl").unlink()
    rest = [host.create(-7 * DAY + day * 3600) for day in range(3)]
    backup = host.reader()
    read: list[str] = []
    listed = backup.listed

    def noted(_: Any, manifest: Any) -> Any:
        read.append(manifest["set"])
        return listed(manifest)

    host.monkeypatch.setattr(run.Backup, "listed", noted)
    host.settings |= {"MLFLOW_BACKUP_KEEP_DAYS": "1", "MLFLOW_BACKUP_KEEP_SETS": "3"}
    assert host.backup().prune() == [first, second]
    assert read == rest[:1]
    assert host.files("1/a/model.pkl") == [], "no set has it any more"
    assert not (host.target / first / sets.MANIFEST).exists()
    for stamp in rest:
        assert host.fetched(stamp) == {"1/b/notes ü.txt": "the notes", "2/c": "second"}


def test_a_clock_that_was_ahead_once_costs_nothing(host: Host) -> None:
    """Neither older sets, nor the name of the newest, nor the alarm."""
    host.prepare()
    host.settings["MLFLOW_BACKUP_KEEP_SETS"] = "3"
    daily = [host.create((day - 5) * DAY) for day in range(5)]
    ahead = host.create(9 * 365 * DAY)
    assert host.reader().sets() == [*daily, ahead], "of forty 33 had gone"
    with pytest.raises(sets.Trouble, match=f"{ahead}, is from the future: the clock"):
        state.status(time.time())
    assert host.reader().named("newest") == daily[-1]
    host.log("3/today", "logged since")
    newest = host.create()
    backup = host.reader()
    assert backup.named("newest") == newest
    assert backup.manifest(newest)["based_on"] == daily[-1]
    assert f" s old: {newest}" in state.status(time.time())
    assert host.fetched(newest) == {**EVERYTHING, "3/today": "logged since"}
    # Somebody wants it gone.
    backup.target.store.remove([f"{ahead}/{sets.MANIFEST}"])
    host.backup().prune()
    assert not (host.target / ahead).exists()
    assert host.fetched(newest)["3/today"] == "logged since"


def test_a_clock_that_is_behind_builds_on_what_there_is(host: Host) -> None:
    host.prepare()
    real = host.create()
    behind = host.create(-20 * 365 * DAY)
    assert not (host.target / behind / "artifacts").exists(), "nothing was copied again"
    assert host.reader().sets() == [behind, real]
    assert host.reader().named("newest") == real


@pytest.mark.parametrize("days", [30, 7])
def test_the_hole_in_a_schedule_is_no_age(days: int) -> None:
    """By a clock that jumped, or of a host that was off: days count, in which sets were made."""
    now = sets.seconds("20350101T000000Z")
    later = [sets.name(now - day * DAY) for day in range(3)]
    earlier = [sets.name(now - 9 * 365 * DAY - day * DAY) for day in range(40)]
    gone = sets.expired([*later, *earlier], now, days, 5)
    assert len(gone) == len(later) + len(earlier) - days - 1
    assert set(gone) == set(sorted(earlier)[: len(gone)])
    monthly = [sets.name(now - month * 31 * DAY) for month in range(12)]
    assert len(sets.expired(monthly, now, 7, 5)) == 7, "a rare schedule is none"


def test_a_directory_that_another_clock_has_made_is_not_left_out(host: Host) -> None:
    """The database knows its run; what a network share's clock says does not count."""
    host.prepare()
    born = host.now() + 300
    host.monkeypatch.setattr(run, "born_after", lambda _, paths, __: dict.fromkeys(paths, born))
    assert host.fetched(host.create()) == EVERYTHING
    born = host.now() - 1
    host.log("4/late", "of a run that began since")
    second = host.create()
    assert "4/late" not in host.fetched(second)


def test_a_target_that_is_not_mounted_is_not_written_to(host: Host) -> None:
    host.prepare()
    host.create()
    host.target.rename(host.folder / "share")
    for there in (False, True):
        if there:
            host.target.mkdir()
        for act in (host.create, host.prepare, lambda: host.backup().prune()):
            with pytest.raises(sets.Trouble, match=r"not mounted.*touch .*/mlflow-backup\.target"):
                act()
        assert not there or not any(host.target.iterdir())
    (host.target / stores.MARK).touch()
    host.create()


def test_a_target_of_an_earlier_release_gets_its_mark(host: Host) -> None:
    """It had none; without a set it is not the one that it was."""
    host.prepare()
    host.create()
    (host.target / stores.MARK).unlink()
    told = state.told()
    del told["target"]
    state.put(host.state / "status.json", json.dumps(told))
    share = host.target.rename(host.folder / "share")
    host.target.mkdir()
    with pytest.raises(sets.Trouble, match="not mounted"):
        host.create()
    host.target.rmdir()
    share.rename(host.target)
    state.put(host.state / "status.json", json.dumps(told))
    host.create()
    assert (host.target / stores.MARK).is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", "\0" * 30, '{"last_success": 1}'])
def test_a_status_that_a_power_cut_left_fails_no_backup(host: Host, content: str) -> None:
    host.prepare()
    (host.state / "status.json").write_text(content)
    stamp = host.create()
    assert f" s old: {stamp}" in state.status(time.time())


def test_a_status_is_on_the_disk_before_it_has_its_name(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = settled(monkeypatch)
    state.note(error="")
    assert seen == ["status.json.new", host.state.name]


def test_room_is_left_to_a_database_that_lives(host: Host) -> None:
    host.prepare()
    disk = shutil.disk_usage(host.folder)
    host.monkeypatch.setattr(state, "LIVE_RESERVE", (disk.total, disk.total))
    with pytest.raises(sets.Trouble, match=r"databases: there are .* and leaves .* Free some"):
        host.create()
    assert list(host.state.glob("work-*")) == []


def test_nothing_is_held_while_a_share_does_not_answer(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.prepare()
    programs = host.folder / "bin"
    programs.mkdir()
    for name in ("stat", "rclone"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(stores, "PATIENCE", 0.2)
    monkeypatch.setattr(stores, "STALLED", 0.2)
    with pytest.raises(sets.Trouble, match=r"does not answer\. Is it on a share"):
        host.create()
    (programs / "stat").unlink()
    with pytest.raises(sets.Trouble, match="Does a share not answer"):
        host.reader()


def test_a_program_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_dump does, which waits for a table that somebody has locked."""
    monkeypatch.setattr(processes, "IDLE", 0.3)
    work = iter([0.0, 2.0, 2.1])
    monkeypatch.setattr(processes, "worked", lambda: next(work))
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    process = subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with pytest.raises(sets.Trouble, match=r"database save has done nothing for .* lock its"):
        processes.ended(process, "", "database save")
    child = (tmp_path / "pid").read_text().strip()
    time.sleep(0.2)
    there = Path(f"/proc/{child}/stat")
    assert not there.exists() or there.read_text().split()[2] == "Z"


def test_a_restore_puts_what_is_absent_and_notes_what_differs(host: Host) -> None:
    """What is the same stays, what somebody wrote again is for the switch to exchange."""
    host.log("2/gone", "it is deleted")
    host.prepare()
    host.reader().fetch(host.create(), place := host.folder / "fetched")
    (host.artifacts / "2/gone").unlink()
    host.log("1/a/model.pkl", "another model")
    host.log("3/new", "logged since")
    s3 = host.backup().artifacts_store()
    s3.local = None  # as of S3
    host.monkeypatch.setattr(run.Backup, "artifacts_store", lambda _: s3)
    asked: list[tuple[Any, ...]] = []

    @contextmanager
    def bucket(_: Any, *words: Any, artifacts: Any) -> Iterator[Iterator[Any]]:
        for one in artifacts:
            asked.append((*words, one.path))
            host.log(one.path, (words[1] / one.path).read_text())
        yield iter(())

    host.monkeypatch.setattr(run.Backup, "bucket", bucket)
    assert host.backup().put_artifacts(place).startswith("Put 1 of 3 artifacts")
    assert asked == [("put", place / "artifacts", "2/gone")]
    listed = [*map(json.loads, (place / EXCHANGE).read_text().splitlines())]
    assert listed == [{"path": "2/gone", "over": False}, {"path": "1/a/model.pkl", "over": True}]
    assert (host.artifacts / "1/a/model.pkl").read_text() == "another model"

    needed: list[int] = []
    host.monkeypatch.setattr(run, "need_room", lambda wanted: needed.extend(wanted.values()))
    host.backup().put_artifacts(place)
    assert needed == [len("another model") + len("it is deleted")], "what is there, and is kept"


def test_many_are_done_in_parts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of all is in memory, nor told to one program."""
    monkeypatch.setattr(index, "BATCH", 3)
    monkeypatch.setattr(index.parts, "__defaults__", (3,))
    for number in range(5):
        host.log(f"5/{number}", str(number))
    host.prepare()
    first, second = host.create(), host.create()
    assert len(host.fetched(second)) == 7
    assert not any(host.reader().verify([first, second]).values())
    host.settings |= {"MLFLOW_BACKUP_KEEP_DAYS": "0", "MLFLOW_BACKUP_KEEP_SETS": "1"}
    host.backup().prune()
    assert len(host.fetched(second)) == 7


def test_what_an_earlier_try_has_brought_is_not_brought_again(host: Host) -> None:
    """Of the same set, what is whole, and nothing else that lies there."""
    host.prepare()
    stamp, place = host.create(), host.folder / "fetched"
    brought: list[str] = []
    real, cut = stores.Store.copy, True

    def copy(source: stores.Store, paths: Any, folder: str, to: stores.Store, into: str) -> None:
        names = [*paths]
        if to.local and to.local.name == "fetched.unfinished":
            brought.extend(names)
            if cut and into:
                real(source, names[:1], folder, to, into)
                raise stores.Stalled("the network is gone")
        real(source, names, folder, to, into)

    host.monkeypatch.setattr(stores.Store, "copy", copy)
    with pytest.raises(stores.Stalled):
        host.fetched(stamp)
    assert not place.exists()
    first, second = brought[-2:]
    there = host.folder / "fetched.unfinished"
    (there / "artifacts" / second).parent.mkdir(parents=True, exist_ok=True)
    (there / "artifacts" / second).write_text("hal")
    (there / "artifacts/1/other.partial").write_text("of a copy")
    (there / "service").mkdir()
    (there / "service/tracking.db").write_text("what a service had")
    cut = False
    brought.clear()
    assert host.fetched(stamp) == EVERYTHING
    assert brought == [second]
    assert not (place / "service").exists() and not there.exists()
    brought.clear()
    assert host.fetched(stamp) == EVERYTHING
    assert brought == []
    host.log(first, "another")
    assert host.fetched(host.create()) == {**EVERYTHING, first: "another"}


def test_room_for_all_of_a_restore_is_counted_before_anything_is_brought(host: Host) -> None:
    """The set, what is saved before, and the databases as they become; what is there counts."""
    host.prepare()
    stamp, place = host.create(), host.folder / "fetched"
    with (host.folder / "server.env").open("a") as settings:
        settings.write(f"MLFLOW_BACKEND_STORE_URI=sqlite:///{host.folder}/mlflow.db\n")
    asked: list[dict[Path, int]] = []
    host.monkeypatch.setattr(run, "need_room", asked.append)
    artifacts = sum(len(text.encode()) for text in EVERYTHING.values())
    assert host.reader().restorable(stamp, place)["set"] == stamp
    assert asked.pop() == {place: 4 + artifacts, lock.SWITCH: 8, host.folder / "mlflow.db": 4}
    assert not place.exists()
    host.monkeypatch.setattr(run, "disk_of", lambda path: path == host.artifacts)
    host.reader().restorable(stamp, place)
    assert asked.pop()[host.artifacts] == artifacts
    host.fetched(stamp)
    host.reader().restorable(stamp, place)
    assert asked.pop()[place] == 0


def test_disks_are_added_up(host: Host) -> None:
    """Two directories of one disk need room for both."""
    free = shutil.disk_usage(host.folder).free
    with pytest.raises(sets.Trouble, match=f"{host.folder}/a and {host.folder}/b: there are"):
        state.need_room({host.folder / "a": free * 2 // 3, host.folder / "b": free * 2 // 3})
    state.need_room({host.folder / "a": free * 2 // 3, Path("/proc"): 0})
