"""Back up what MLflow's service of this host keeps: its databases, its artifacts, its keys.

  create            a new set: the databases as of one moment, and the artifacts that they refer to
  list              the sets there are
  verify [SET]      read every file of a set (of all sets) and compare it with its manifest
  fetch SET DIR     a whole set into a new directory, verified; SET may be `newest`
  ca SET DIR        the private CA of a set into a new directory, which `fetch` leaves out
  artifacts DIR     put a fetched set's artifacts into the service's S3, where it has none of that
                    name, and note in DIR which others a restore has to exchange
  prune             remove what has had its time
  drill             restore the newest set beside the service, use it, compare, remove it again
  status            whether the last good backup is recent enough: the exit code, and a sentence
  prepare           see that the target and the database's programs work (for the playbook)

Run as root. Settings come from backup.env beside the service's own (/etc/mlflow), or with
`--settings -` from standard input.
Tools do the copying: Debian's rclone, pg_dump or SQLite's own backup, age.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import installation, program
from ..lock import SWITCH, data_lock
from ..settings import parse, read_file
from ..view import Refused, without_links
from . import sets
from .bucket import EXCHANGE
from .sets import MANIFEST, Artifact, Trouble
from .stores import SERVICE_S3, Store, Target

STATE = Path("/var/lib/mlflow-backup")
UPLOADING = "/.artifact.uploading."
AUTHORITY = ["ca.key", "ca.pem"]  # of the private CA, as its role names them
RESERVE = 100_000_000  # bytes that stay free on a disk


def say(words: str) -> None:
    """Tell who runs this, or the journal, how far it is; standard output is for results."""
    print(words, file=sys.stderr, flush=True)


class Backup:
    """The service's data on one side, the target's sets on the other."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings
        self.installation = installation.read()
        self.target = Target(settings, self.installation.config_dir)

    # The service's side ------------------------------------------------------------------------

    def mlflow(self, name: str, *arguments: str | Path, stdin: str = "", user: str = "") -> str:
        """Run one of the package's programs with MLflow's Python. Raises Trouble with what it said.

        Args:
            name: its name.
            *arguments: its own.
            stdin: what it reads.
            user: whom to run it as; '' means root.
        """
        path = [
            self.settings.get("MLFLOW_BACKUP_POSTGRESQL_BIN"),
            os.environ.get("PATH", os.defpath),
        ]
        options: dict[str, Any] = {}
        if user:
            account = pwd.getpwnam(user)
            options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        python = self.installation.python
        done = subprocess.run(
            program(python, name, *arguments), input=stdin, capture_output=True,
            text=True, check=False, cwd="/", **options,
            env={"PATH": ":".join(filter(None, path)), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        if done.returncode == 0:
            return str(done.stdout)
        words = done.stderr.strip().splitlines()
        said = "\n".join(words[-1:] if "Traceback" in done.stderr else words[-5:])
        if "server version mismatch" in said:
            said += "\nSet mlflow_backup_postgresql_bin to the directory of a newer pg_dump."
        raise Trouble(said)

    def databases(self, *arguments: str | Path) -> str:
        """Have `database` do something as the service's user: PostgreSQL may know no other."""
        return self.mlflow("database", *arguments, user=self.installation.user)

    def bucket(self, *arguments: str | Path, artifacts: Sequence[Artifact] = ()) -> str:
        """Have bucket.py do something with artifacts."""
        stdin = json.dumps([vars(artifact) for artifact in artifacts])
        return self.mlflow("backup-bucket", *arguments, stdin=stdin)

    def artifacts_store(self) -> Store:
        """Return where the service keeps its artifacts."""
        service = read_file(self.installation.settings)
        place = service["MLFLOW_ARTIFACTS_DESTINATION"]
        store = Store(place, service, SERVICE_S3, "mlflow_server_artifacts_destination")
        # An object's own time, as S3 lists it; asking for the file's would be a request for each.
        store.environment["RCLONE_USE_SERVER_MODTIME"] = "true"
        return store

    @contextlib.contextmanager
    def artifacts(self) -> Iterator[Store]:
        """Open where the service keeps its artifacts, to be read.

        A directory is the service's own, and root reads it: no link in it is followed, see
        view.py. Raises Trouble where it is not there.
        """
        store = self.artifacts_store()
        if not store.local:
            yield store
            return
        with (
            tempfile.TemporaryDirectory(prefix="work-", dir=STATE) as room,
            contextlib.ExitStack() as shown,
        ):
            try:
                view = without_links(Path(store.place), Path(room))
                store.see(shown.enter_context(view))
            except FileNotFoundError as error:
                raise Trouble(
                    f"{store.place}, where the service keeps its artifacts, is not there."
                ) from error
            except Refused as error:
                raise Trouble(f"The service's artifacts: {error}") from error
            except OSError as error:
                raise Trouble(
                    f"{store.place} cannot be mounted, to be read without its links: {error}. Root "
                    "may, and the unit as the playbook backup writes it."
                ) from error
            yield store

    def versioned(self) -> bool:
        """Return whether the bucket's versions are the backup of the artifacts."""
        return self.settings.get("MLFLOW_BACKUP_ARTIFACTS") == "versioning"

    # The target's side -------------------------------------------------------------------------

    def sets(self, there: Mapping[str, int]) -> list[str]:
        """Return the names of the sets that are whole, the oldest first."""
        names = (path.partition("/") for path in there)
        return sorted(
            stamp for stamp, _, rest in names if rest == MANIFEST and sets.NAME.fullmatch(stamp)
        )

    def manifest(self, stamp: str) -> tuple[dict[str, Any], list[Artifact]]:
        """Return a set's manifest and its artifacts. Raises Trouble where it is damaged."""
        try:
            text = self.target.store.read(f"{stamp}/{MANIFEST}")
        except Trouble as error:
            raise Trouble(f"Set {stamp} is damaged: {MANIFEST}: {error}") from error
        return sets.read(stamp, text)

    def newest(self, stamps: Sequence[str]) -> tuple[dict[str, Any], list[Artifact]]:
        """Return the newest set whose manifest can be read; nothing where there is none."""
        for stamp in reversed(stamps):
            try:
                return self.manifest(stamp)
            except Trouble as error:
                say(f"{error} The new set does not build on it.")
        return {}, []

    def named(self, stamp: str) -> str:
        """Return the name of a set that is there. Raises Trouble where there is none."""
        there = self.sets(self.target.store.sizes())
        if not there:
            raise Trouble(f"There is no backup in {self.target.place}.")
        if stamp == "newest":
            return there[-1]
        if stamp not in there:
            raise Trouble(
                f"There is no set {stamp} in {self.target.place}. There are: {', '.join(there)}."
            )
        return stamp

    # create ------------------------------------------------------------------------------------

    def create(self) -> dict[str, Any]:
        """Make a set and return its manifest without the artifacts. Raises Trouble, OSError."""
        self.target.open()
        for leftover in STATE.glob("work-*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix="work-", dir=STATE) as place:
            work = Path(place)
            work.chmod(0o711)
            saved = self.save_databases(work / "databases")
            moment = saved["databases"]["tracking"]["moment"]
            there = self.target.store.sizes()
            taken = {path.partition("/")[0] for path in there}
            while (stamp := sets.name(time.time())) in taken:
                time.sleep(0.2)
            if self.versioned():
                listed = json.loads(self.bucket("versions"))
                artifacts = [Artifact(**one) for one in listed if sets.stays_below(one["path"])]
                left_out = {one["path"] for one in listed} - {one.path for one in artifacts}
            else:
                with self.artifacts() as source:
                    artifacts, left_out = self.copy_artifacts(source, stamp, moment, there)
            if left_out:
                say(
                    f"Left out of the artifacts: {len(left_out)} links, pipes, names that are too "
                    f"long and the like, which no set holds: {named_some(sorted(left_out))}"
                )

            # Beside what the service's user wrote, and never in her directory.
            shutil.copy(self.installation.secrets, work / "secrets.env")
            keys = Store.directory(work)
            keys.copy(["secrets.env"], "", self.target.store, stamp)
            copies = [entry["file"] for entry in saved["databases"].values()]
            Store.directory(work / "databases").copy(copies, "", self.target.store, stamp)
            authority = self.save_authority(stamp)
            own = [*copies, "secrets.env", *(one["file"] for one in authority)]
            hashes = self.target.store.hashes(own, stamp)
            secret = {"file": "secrets.env", "sha256": keys.hashes(["secrets.env"])["secrets.env"]}
            manifest = {
                **saved,
                "set": stamp,
                "files": [secret],
                **({"authority": authority} if authority else {}),
                "artifacts_in": "versions" if self.versioned() else "sets",
                "artifacts_count": len(artifacts),
                "artifacts_bytes": sum(artifact.size for artifact in artifacts),
                "artifacts_left_out": len(left_out),
                "added": sum(artifact.size for artifact in artifacts if artifact.set == stamp)
                + sum(entry["bytes"] for entry in saved["databases"].values()),
            }
            for file, sha256 in sets.files(manifest, []).items():
                if hashes.get(file.partition("/")[2]) != sha256:
                    raise Trouble(f"{self.target.place}/{file} is not what was put there.")
            if self.target.local:
                os.sync()  # what a manifest names is on the disk
            # Last: without it there is no set, and the next one removes what lies there.
            self.target.store.write(f"{stamp}/{MANIFEST}", sets.written(manifest, artifacts))
        return manifest

    def save_databases(self, place: Path) -> dict[str, Any]:
        """Copy the databases into a directory; return what `database` says of them."""
        account = pwd.getpwnam(self.installation.user)
        place.mkdir(mode=0o700)
        os.chown(place, account.pw_uid, account.pw_gid)
        saved: dict[str, Any] = json.loads(self.databases("save", place).splitlines()[-1])
        # It was the service's; from here on root reads what is in it, and nobody changes that.
        os.chown(place, 0, 0)
        for entry in saved["databases"].values():
            file = place / entry["file"]
            if "/" in entry["file"] or not stat.S_ISREG(file.lstat().st_mode):
                raise Trouble(f"{file} is not the copy of a database.")
        return saved

    def save_authority(self, stamp: str) -> list[dict[str, str]]:
        """Copy the private CA, where there is one, into a set; return its files."""
        place = self.settings.get("MLFLOW_BACKUP_CA_DIRECTORY", "")
        if not place or not Path(place, AUTHORITY[0]).exists():
            return []
        here = Store.directory(of_root(Path(place), whole=True))
        here.copy(AUTHORITY, "", self.target.store, stamp)
        found = here.hashes(AUTHORITY)
        if {*found} != {*AUTHORITY}:
            raise Trouble(f"The private CA in {place} lacks its key or its certificate.")
        return [{"file": name, "sha256": found[name]} for name in AUTHORITY]

    def copy_artifacts(
        self, source: Store, stamp: str, moment: float, there: Mapping[str, int]
    ) -> tuple[list[Artifact], set[str]]:
        """Copy the artifacts that no set has into this one.

        Return all there are, and the names of what is there and no set can hold.
        """
        # Uploads under way are none yet: MLflow gives them their names when they are whole.
        listed = [artifact for artifact in source.listed() if UPLOADING not in artifact.path]
        now = [one for one in listed if self.can_hold(stamp, source, one.path)]
        left_out = {one.path for one in listed} - {one.path for one in now}
        last, before = self.newest(self.sets(there))
        since = last["databases"]["tracking"]["moment"] if last else 0
        if before and not now:
            raise Trouble(
                f"{source.place} is empty, and set {last['set']} has {len(before)} artifacts. Is a "
                "disk not mounted? If all were deleted, set another mlflow_backup_target."
            )
        kept, fresh = sets.to_copy(now, before, since, there)
        if source.local:
            # Of runs that began after the databases' moment, and that they do not know.
            late = born_after(source.local, [artifact.path for artifact in fresh], moment)
            fresh = [artifact for artifact in fresh if artifact.path not in late]
        size = sum(artifact.size for artifact in fresh)
        say(f"{len(now)} artifacts, {len(fresh)} of them new ({sets.amount(size)}).")
        if self.target.local:
            need_room(self.target.local, size)
        folder = f"{stamp}/artifacts"
        source.copy([artifact.path for artifact in fresh], "", self.target.store, folder)
        left_out = left_out.union(*source.odd())  # only now: there may be more of it
        if not fresh:
            return kept, left_out
        sizes = self.target.store.sizes(folder)
        hashes = self.target.store.hashes(sizes, folder)
        done, missing = sets.copied(fresh, stamp, hashes, sizes)
        if missing:
            still = set(source.sizes())
            if lost := [artifact.path for artifact in missing if artifact.path in still]:
                raise Trouble(
                    f"{len(lost)} artifacts did not arrive in {self.target.place}, the first of "
                    f"them {lost[0]}."
                )
        return sorted([*kept, *done], key=lambda artifact: artifact.path), left_out

    def can_hold(self, stamp: str, source: Store, path: str) -> bool:
        """Return whether a set can have an artifact, which is named by whoever logged it."""
        # What is no UTF-8 has no name that a manifest could say.
        mangled = "\ufffd" in path and source.local and not os.path.lexists(source.local / path)
        there = self.target.holds(f"{stamp}/artifacts/{path}")
        return sets.stays_below(path) and there and not mangled

    # prune -------------------------------------------------------------------------------------

    def prune(self) -> list[str]:
        """Remove sets that have had their time, and all that no set needs. Return their names.

        Raises Trouble before anything is removed where a set that stays cannot be read: it may need
        files of the others.
        """
        self.target.open()
        there = self.target.store.sizes()
        stamps = self.sets(there)
        old = sets.expired(
            stamps, time.time(), int(self.settings.get("MLFLOW_BACKUP_KEEP_DAYS", "30")),
            int(self.settings.get("MLFLOW_BACKUP_KEEP_SETS", "7")),
        )  # fmt: skip
        kept = [stamp for stamp in stamps if stamp not in old]
        if not sets.unneeded(there, kept, set()):
            return old
        needed: set[str] = set()
        try:
            for stamp in kept:
                needed |= sets.files(*self.manifest(stamp)).keys()
        except Trouble as error:
            raise Trouble(
                f"{error} Nothing was removed, since it may need files of others. If you can do "
                f"without it, remove its {MANIFEST}."
            ) from error
        # The manifest first: a set that is not whole any more is none.
        self.target.store.remove(f"{stamp}/{MANIFEST}" for stamp in old)
        self.target.store.remove(sets.unneeded(there, kept, needed))
        if self.target.local:
            self.target.plain.rclone("rmdirs", "--leave-root", self.target.plain.at())
        return old

    # verify and fetch --------------------------------------------------------------------------

    def verify(self, stamps: Sequence[str]) -> dict[str, list[str]]:
        """Read every file of the sets; return what is damaged or missing, by set."""
        damaged: dict[str, list[str]] = {stamp: [] for stamp in stamps}
        needed: dict[str, dict[str, str]] = {}
        for stamp in stamps:
            try:
                manifest, artifacts = self.manifest(stamp)
                needed[stamp] = sets.files(manifest, artifacts)
                if manifest["artifacts_in"] == "versions":
                    damaged[stamp] += json.loads(self.bucket("check", artifacts=artifacts))
            except Trouble as error:
                damaged[stamp].append(str(error))
        hashes = self.target.store.hashes(sorted({file for one in needed.values() for file in one}))
        for stamp, files in needed.items():
            damaged[stamp] += [
                f"{file} is missing or damaged: it is not what the manifest says."
                for file, sha256 in files.items()
                if hashes.get(file) != sha256
            ]
        return damaged

    def fetch(self, stamp: str, directory: Path) -> dict[str, Any]:
        """Bring a whole set into a directory; return its manifest without the artifacts.

        The directory is new, empty, or holds what was fetched before, which is replaced. Raises
        Trouble, with nothing in its place, where a file is damaged or missing.
        """
        directory = of_root(directory)
        if directory.exists() and not fetched_before(directory):
            raise Trouble(f"{directory} is there already. Name a new directory, or an empty one.")
        manifest, artifacts = self.manifest(stamp)
        size = sum(entry["bytes"] for entry in manifest["databases"].values())
        need_room(directory, size + sum(artifact.size for artifact in artifacts))
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        try:
            self.bring(manifest, artifacts, unfinished)
            (unfinished / MANIFEST).write_text(sets.written(manifest, artifacts))
            shutil.rmtree(directory, ignore_errors=True)
            unfinished.rename(directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return manifest

    def bring(self, manifest: dict[str, Any], artifacts: list[Artifact], to: Path) -> None:
        """Bring a set's files, and see that they are what the manifest says. Raises Trouble."""
        stamp = manifest["set"]
        here = Store.directory(to)
        own = [entry["file"] for entry in (*manifest["databases"].values(), *manifest["files"])]
        self.target.store.copy(own, stamp, here, "")
        (to / "artifacts").mkdir()
        for source in sorted({artifact.set for artifact in artifacts if artifact.set}):
            paths = [artifact.path for artifact in artifacts if artifact.set == source]
            self.target.store.copy(paths, f"{source}/artifacts", here, "artifacts")
        # Who gets a set, a drill or the service, gets no CA.
        without = {**manifest, "authority": []}
        wanted = {file.partition("/")[2]: sha256 for file, sha256 in
                  sets.files(without, artifacts).items()}  # fmt: skip
        found = here.hashes(wanted)
        if wrong := sorted(file for file, sha256 in wanted.items() if found.get(file) != sha256):
            raise Trouble(
                f"Set {stamp} is damaged: of {len(wanted)} files {len(wrong)} are missing or not "
                f"what the manifest says: {', '.join(wrong[:5])}{' ...' if wrong[5:] else ''}. "
                "Nothing was fetched."
            )
        if manifest["artifacts_in"] == "versions":
            self.bucket("fetch", to / "artifacts", artifacts=artifacts)

    def fetch_authority(self, stamp: str, directory: Path) -> dict[str, Any]:
        """Bring a set's private CA into a directory, which is made anew; return what it is.

        Raises Trouble, with nothing in its place, where there is none, or not what was saved.
        """
        directory = of_root(directory)
        manifest, _ = self.manifest(stamp)
        wanted = {one["file"]: one["sha256"] for one in manifest.get("authority", [])}
        if {*wanted} != {*AUTHORITY}:
            raise Trouble(f"Set {stamp} has no private CA. Name another: mlflow-backup list")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        here = Store.directory(directory)
        self.target.store.copy(wanted, stamp, here, "")
        if here.hashes(wanted) != wanted:
            shutil.rmtree(directory)
            raise Trouble(f"Set {stamp} is damaged: its private CA is not what was saved.")
        return {"set": stamp, "directory": str(directory)}

    def put_artifacts(self, directory: Path) -> str:
        """Put a fetched set's artifacts into the service's S3; return what was done."""
        store = self.artifacts_store()
        if store.local:
            return "The service's artifacts are a directory: nothing to put into S3."
        directory = of_root(directory, whole=True)
        manifest, artifacts = sets.read(None, (directory / MANIFEST).read_text())
        if manifest["artifacts_in"] == "versions":
            now = [Artifact(**entry) for entry in json.loads(self.bucket("versions"))]
        else:
            now = store.listed()
        there = {entry.path: (entry.size, entry.modified) for entry in now}
        # What the bucket has had since the backup and nobody wrote to stays as it is. What somebody
        # wrote again is the switch's to exchange, which keeps it, and brings it back if need be.
        absent = [entry for entry in artifacts if entry.path not in there]
        other = [
            entry.path for entry in artifacts
            if there.get(entry.path, (entry.size, entry.modified)) != (entry.size, entry.modified)
        ]  # fmt: skip
        need_room(SWITCH, sum(there[path][0] for path in other))
        self.bucket("put", directory / "artifacts", artifacts=absent)
        sizes = store.sizes()
        if lost := [entry.path for entry in absent if sizes.get(entry.path) != entry.size]:
            raise Trouble(f"{len(lost)} artifacts did not arrive in {store.place}: {lost[0]} ...")
        listed = [{"path": entry.path, "over": False} for entry in absent]
        listed += [{"path": path, "over": True} for path in other]
        (directory / EXCHANGE).write_text(json.dumps(listed))
        size = sets.amount(sum(entry.size for entry in absent))
        return f"Put {len(absent)} of {len(artifacts)} artifacts ({size}) into {store.place}."

    # prepare -----------------------------------------------------------------------------------

    def prepare(self) -> tuple[list[str], str]:
        """See that a backup will work; return what was changed for it, and the key's mark.

        Raises Trouble.
        """
        self.databases("savable")
        if self.versioned():
            self.bucket("versions", "--any")
        else:
            with self.artifacts() as source:
                source.listed("", "--max-depth", "1")
        return self.target.prepare()


def born_after(root: Path, paths: Sequence[str], moment: float) -> set[str]:
    """Return those of the files whose directory did not exist at a moment.

    A run that began later has a directory that was made later. The files' own times do not tell:
    MLflow replaces one that a run writes again, and it belongs to that run all the time. Where a
    file system knows no birth, nothing counts as late.
    """
    directories = {(root / path).parent for path in paths}
    recent = sorted(
        str(place) for place in directories if place.is_dir() and place.stat().st_ctime > moment
    )
    late: set[str] = set()
    for start in range(0, len(recent), 1000):
        said = subprocess.run(
            ["stat", "--printf=%w %n\\0", *recent[start : start + 1000]],
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": os.defpath}, capture_output=True, text=True,
            check=False,
        ).stdout  # fmt: skip
        for line in said.split("\0"):
            # 2026-11-24 06:14:07.783958944 +0000 /path, or where it is not known: - /path
            if line.startswith("2"):
                born = datetime.fromisoformat(f"{line[:26]}+00:00").timestamp()
                if born > moment:
                    late.add(line[36:])
    return {path for path in paths if str((root / path).parent) in late}


def named_some(names: Sequence[str]) -> str:
    """Return the first of many names, as text of one line whatever is in them."""
    some = [f"{name[:200]}..." if name[200:] else name for name in names[:20]]
    return ", ".join(map(repr, some)) + (" ..." if names[20:] else "")


def fetched_before(directory: Path) -> bool:
    """Return whether a directory holds nothing, or a set that was fetched into it."""
    if not directory.is_dir() or not any(directory.iterdir()):
        return directory.is_dir()
    # After a restore it is the service's user's: no link in it is followed, no pipe is waited for.
    try:
        file = os.open(directory / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(file, encoding="utf-8") as text:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return False
            sets.read(None, text.read())
    except (Trouble, OSError, ValueError):
        return False
    return True


def of_root(directory: Path, *, whole: bool = False) -> Path:
    """Return a directory's real path. Raises Trouble where others than root could replace it.

    Args:
        directory: what root writes into.
        whole: it is there, and must be root's itself: root reads what is in it.
    """
    real = directory.parent.resolve() / directory.name
    for place in [*([real] if whole else []), *real.parents]:
        status = place.lstat() if place.exists() or place.is_symlink() else None
        if not status:
            continue
        open_to_all = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid or open_to_all or not stat.S_ISDIR(status.st_mode):
            raise Trouble(
                f"{directory} could be replaced, or what is in it, by others than root: {place} is "
                "not root's alone. Name a directory such as /root/mlflow-set"
                + (", fetched anew." if whole else ".")
            )
    return real


def need_room(directory: Path, size: int) -> None:
    """Raise Trouble where a directory's disk has no room for so many bytes."""
    nearest = directory.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    free = shutil.disk_usage(nearest).free
    if free < size + RESERVE:
        raise Trouble(
            f"{directory} has {sets.amount(free)} free, and this needs "
            f"{sets.amount(size + RESERVE)}. Free some, or use a larger disk."
        )


# What other programs read -------------------------------------------------------------------------


def note(**changes: Any) -> None:
    """Change what status.json says: monitoring and people read it."""
    file = STATE / "status.json"
    before = json.loads(file.read_text()) if file.is_file() else {"last_success": 0, "set": ""}
    unfinished = file.with_name("status.json.new")
    unfinished.write_text(json.dumps({**before, **changes}) + "\n")
    unfinished.chmod(0o644)
    unfinished.rename(file)


def status(now: float) -> str:
    """Return a sentence about the last good backup. Raises Trouble where it is too old."""
    file = STATE / "status.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    limit, last = found.get("max_age_hours", 0), found.get("last_success", 0)
    if not last:
        words = "No backup was ever made here."
    else:
        words = f"The last good backup is {sets.ago(now - last)} old: {found['set']}."
    if found.get("error"):
        words += f" Since then: {found['error']}"
    if limit and now - last > limit * 3600:
        raise Trouble(
            f"{words} It must not be older than {limit} hours (mlflow_backup_max_age_hours): "
            "journalctl -u mlflow-backup; then systemctl start mlflow-backup."
        )
    return words


@contextlib.contextmanager
def target_lock(kind: int) -> Iterator[None]:
    """Keep those apart who change sets (exclusive) and who read them (shared)."""
    STATE.mkdir(exist_ok=True)
    STATE.chmod(0o755)
    with (STATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another mlflow-backup (lslocks | grep mlflow-backup).")
            fcntl.flock(file, kind)
        yield


def create(backup: Backup) -> None:
    """Make a set, tell how it went, and remove what has had its time."""
    began = time.time()
    limit = int(backup.settings.get("MLFLOW_BACKUP_MAX_AGE_HOURS", "0"))
    note(last_attempt=int(began), max_age_hours=limit)
    try:
        with data_lock():
            manifest = backup.create()
        moment = int(manifest["databases"]["tracking"]["moment"])
        note(last_success=moment, set=manifest["set"], error="")
        removed = backup.prune()
    except BaseException as error:
        note(error=str(error) or type(error).__name__)
        raise
    count, whole = manifest["artifacts_count"], sets.amount(manifest["artifacts_bytes"])
    left_out = manifest["artifacts_left_out"]
    say(
        f"Backed up: {sets.counted(manifest['databases'])}; {count} artifacts ({whole}). Set "
        f"{manifest['set']} adds {sets.amount(manifest['added'])} to {backup.target.place}."
        + (f" Left out: {left_out} links, pipes and the like, named above." if left_out else "")
        + (f" Removed: {', '.join(removed)}." if removed else "")
    )


def show(backup: Backup, as_json: bool) -> None:
    """Print the sets."""
    stamps = backup.sets(backup.target.store.sizes())
    found: list[dict[str, Any]] = []
    for stamp in stamps:
        try:
            found.append(backup.manifest(stamp)[0])
        except Trouble as error:
            found.append({"set": stamp, "damaged": str(error)})
    if as_json:
        print(json.dumps(found))
        return
    for manifest in found:
        if "damaged" in manifest:
            print(manifest["damaged"])
            continue
        print(
            f"{manifest['set']}  MLflow {manifest['mlflow']}  "
            f"{sets.counted(manifest['databases'])}; {manifest['artifacts_count']} artifacts, "
            f"{sets.amount(manifest['artifacts_bytes'])}; adds {sets.amount(manifest['added'])}"
            + ("; the private CA" if manifest.get("authority") else "")
        )
    if not found:
        print(f"There is no backup in {backup.target.place}.")


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="mlflow-backup", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--settings", choices=["-"], help="from standard input")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("create", "prune", "prepare", "status", "drill"):
        verbs.add_parser(verb)
    verbs.add_parser("list").add_argument("--json", action="store_true")
    verbs.add_parser("verify").add_argument("set", nargs="?", metavar="SET")
    fetch, authority = verbs.add_parser("fetch"), verbs.add_parser("ca")
    for action in (fetch, authority):
        action.add_argument("set", metavar="SET")
    for action in (fetch, authority, verbs.add_parser("artifacts")):
        action.add_argument("directory", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    # systemd and people stop it so: what it made for a while goes, see TemporaryDirectory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    os.umask(0o077)
    try:
        return act(arguments)
    except (Trouble, installation.NotInstalled, OSError) as error:
        print(f"mlflow-backup: {error}", file=sys.stderr)
        return 1


def own_settings() -> dict[str, str]:
    """Return what the playbook has set here. Raises NotInstalled, OSError."""
    return read_file(Path(installation.read().config_dir, "backup.env"))


def act(arguments: argparse.Namespace) -> int:
    """Do one verb; return the exit code. Raises Trouble, OSError."""
    verb = arguments.verb
    if verb == "status":
        print(status(time.time()))
        return 0
    if verb == "drill":
        from .drill import start

        return start()
    backup = Backup(parse(sys.stdin.read()) if arguments.settings else own_settings())
    with target_lock(fcntl.LOCK_EX if verb in ("create", "prune", "prepare") else fcntl.LOCK_SH):
        if verb == "prepare":
            changed, key = backup.prepare()
            print(json.dumps({"changed": changed, "key": key}))
            note(max_age_hours=int(backup.settings.get("MLFLOW_BACKUP_MAX_AGE_HOURS", "0")))
        elif verb == "create":
            create(backup)
        elif verb == "prune":
            print(f"Removed: {', '.join(backup.prune()) or 'nothing'}.")
        elif verb == "artifacts":
            print(backup.put_artifacts(arguments.directory))
        else:
            backup.target.open()
            return look(backup, arguments)
    return 0


def look(backup: Backup, arguments: argparse.Namespace) -> int:
    """Do one of the verbs that only read the target; return the exit code. Raises Trouble."""
    if arguments.verb == "list":
        show(backup, arguments.json)
    elif arguments.verb == "verify":
        stamps = backup.sets(backup.target.store.sizes())
        if arguments.set:
            stamps = [backup.named(arguments.set)]
        damaged = backup.verify(stamps)
        for stamp, wrong in damaged.items():
            print("\n  ".join([f"{stamp} is {'damaged:' if wrong else 'whole.'}", *wrong]))
        return 1 if any(damaged.values()) else 0
    elif arguments.verb == "ca":
        stamp = backup.named(arguments.set)
        print(json.dumps(backup.fetch_authority(stamp, arguments.directory)))
    elif arguments.verb == "fetch":
        manifest = backup.fetch(backup.named(arguments.set), arguments.directory)
        print(json.dumps({**manifest, "directory": str(arguments.directory.absolute())}))
    return 0
