"""Back up what MLflow's service of this host keeps: its databases, its artifacts, its keys.

  create            a new set: the databases as of one moment, and the artifacts that they refer to
  list              the sets there are
  verify [SET]      read every file of a set (of all sets) and compare it with its manifest; what is
                    damaged is copied anew by the next backup
  restorable SET DIR  what a set is, as JSON, if this host has room to fetch it into DIR and to
                    restore it
  fetch SET DIR     a whole set into a new directory, verified; SET may be `newest`. Where artifacts
                    are damaged, --without N, as many as they are, brings the others
  forget SET        take a set for none from now on; the next `prune` removes what no other needs
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
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from .. import installation, places, program
from ..lock import SWITCH, data_lock
from ..settings import parse, read_file
from ..view import Refused, without_links
from . import sets, state
from .bucket import EXCHANGE
from .index import ABSENT, FRESH, OTHER, TAKE_OVER, Index, parts
from .processes import bounded, ended
from .sets import LIST, MANIFEST, Artifact, Trouble
from .state import (
    damaged_files,
    disk_of,
    from_the_future,
    need_room,
    note,
    note_damaged,
    room,
    say,
    status,
    told,
)  # fmt: skip
from .stores import SERVICE_S3, Stalled, Store, Target

UPLOADING = "/.artifact.uploading."
AUTHORITY = ["ca.key", "ca.pem"]  # of the private CA, as its role names them
UNFINISHED = ".unfinished"  # behind the name of what is being fetched
FETCHED_DAYS = 7  # for which what was fetched waits for a restore
WRITING = ("create", "prune", "prepare", "forget")  # verbs that change the target


class Backup:
    """The service's data on one side, the target's sets on the other."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings
        self.installation = installation.read()
        self.target = Target(settings, self.installation.config_dir)

    # The service's side ------------------------------------------------------------------------

    def mlflow(
        self, name: str, *arguments: str | Path, stdin: str | IO[str] = "",
        stdout: int | IO[str] = subprocess.PIPE, user: str = "",
    ) -> str:  # fmt: skip
        """Run one of the package's programs with MLflow's Python, and return what it prints.

        Args:
            name: its name.
            *arguments: its own.
            stdin: what it reads, or where from.
            stdout: where it prints to, by default what is returned.
            user: whom to run it as; '' means root.

        Raises Trouble with what it said, or where it hangs.
        """
        path = [
            self.settings.get("MLFLOW_BACKUP_POSTGRESQL_BIN"),
            os.environ.get("PATH", os.defpath),
        ]
        options: dict[str, Any] = {}
        if user:
            account = pwd.getpwnam(user)
            options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        command = program(self.installation.python, name, *arguments)
        environment = {"PATH": ":".join(filter(None, path)), "HOME": "/nonexistent",
                       "LC_ALL": "C.UTF-8"}  # fmt: skip
        done = ended(
            subprocess.Popen(
                command, stdin=subprocess.PIPE if isinstance(stdin, str) else stdin,
                stdout=stdout, stderr=subprocess.PIPE, text=True, cwd="/", env=environment,
                start_new_session=True, **options,
            ),
            stdin if isinstance(stdin, str) else None, " ".join(map(str, (name, *arguments))),
        )  # fmt: skip
        if done.returncode == 0:
            return str(done.stdout or "")
        words = done.stderr.strip().splitlines()
        said = "\n".join(words[-1:] if "Traceback" in done.stderr else words[-5:])
        if "server version mismatch" in said:
            said += "\nSet mlflow_backup_postgresql_bin to the directory of a newer pg_dump."
        raise Trouble(said)

    def databases(self, *arguments: str | Path) -> str:
        """Have `database` do something as the service's user: PostgreSQL may know no other."""
        return self.mlflow("database", *arguments, user=self.installation.user)

    @contextlib.contextmanager
    def bucket(
        self, *arguments: str | Path, artifacts: Iterable[Artifact] = ()
    ) -> Iterator[Iterator[Any]]:
        """Have bucket.py do something with artifacts; yield the objects that it prints, by line."""
        with (
            room() as place,
            (place / "asked").open("w+") as asked,
            (place / "said").open("w+") as out,
        ):
            asked.writelines(json.dumps(vars(artifact)) + "\n" for artifact in artifacts)
            asked.seek(0)
            self.mlflow("backup-bucket", *arguments, stdin=asked, stdout=out)
            out.seek(0)
            yield map(json.loads, out)

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
            room() as place,
            contextlib.ExitStack() as shown,
        ):
            try:
                view = without_links(Path(store.place), place)
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

    def see_target(self) -> None:
        """Open the target to write there. Raises Trouble where it is not the one it was."""
        self.target.see_that_it_is_there(self.known())
        self.target.open()

    def known(self) -> bool:
        """Return whether this host has written to the target before."""
        said = told()
        if "target" in said:
            return bool(said["target"] == self.target.place)
        # An earlier release did not say where, and left no mark there.
        return bool(said.get("last_success") and not self.target.manifests("", ".bin"))

    def sets(self) -> list[str]:
        """Return the names of the sets that are whole, the oldest first."""
        there = self.target.manifests()
        return [stamp for stamp in there if sets.NAME.fullmatch(stamp)]

    def manifest(self, stamp: str) -> dict[str, Any]:
        """Return a set's manifest. Raises Trouble where it is damaged."""
        try:
            text = self.target.store.read(f"{stamp}/{MANIFEST}")
        except Stalled:
            raise
        except Trouble as error:
            raise Trouble(f"Set {stamp} is damaged: {MANIFEST}: {error}") from error
        return sets.read(stamp, text)

    def listed(self, manifest: Mapping[str, Any]) -> Iterator[Artifact]:
        """Yield a set's artifacts. Raises Trouble where their list is damaged."""
        with room() as place:
            if "list" in manifest:
                here = Store.directory(place)
                try:
                    self.target.store.copy([LIST], manifest["set"], here, "")
                except Stalled:
                    raise
                except Trouble as error:
                    raise Trouble(f"Set {manifest['set']} is damaged: {LIST}: {error}") from error
            yield from sets.listed(manifest, place / LIST)

    def newest(self, stamps: Sequence[str], index: Index) -> dict[str, Any]:
        """Return the newest set that can be read, or nothing; its artifacts go into `before`."""
        now = sets.present(stamps, time.time())
        # From the future: only where there is no other.
        for stamp in [*reversed(now), *reversed([one for one in stamps if one not in now])]:
            try:
                manifest = self.manifest(stamp)
                index.fill("before", self.listed(manifest))
                return manifest
            except Trouble as error:
                say(f"{error} The new set does not build on it.")
        index.fill("before", [])
        return {}

    def named(self, stamp: str) -> str:
        """Return the name of a set that is there. Raises Trouble where there is none."""
        there = self.sets()
        if not there:
            raise Trouble(f"There is no backup in {self.target.place}.")
        if stamp == "newest":
            now = sets.present(there, time.time())
            if now != there:
                say(from_the_future([one for one in there if one not in now]))
            return (now or there)[-1]
        if stamp not in there:
            raise Trouble(
                f"There is no set {stamp} in {self.target.place}. There are: {', '.join(there)}."
            )
        return stamp

    # create ------------------------------------------------------------------------------------

    def create(self) -> dict[str, Any]:
        """Make a set and return its manifest. Raises Trouble, OSError."""
        self.see_target()
        for leftover in state.STATE.glob("work-*"):
            shutil.rmtree(leftover)
        for fetched in state.STATE.glob(f"*/{MANIFEST}"):  # and nobody has tried again
            aged = fetched.stat().st_mtime < time.time() - FETCHED_DAYS * sets.DAY
            # A target may be there, too: its sets have such names.
            if aged and not sets.NAME.fullmatch(fetched.parent.name):
                shutil.rmtree(fetched.parent)
        with room() as work:
            work.chmod(0o711)
            index = Index(work)
            saved = self.save_databases(work / "databases")
            moment = saved["databases"]["tracking"]["moment"]
            taken = self.target.store.directories()
            while (stamp := sets.name(time.time())) in taken:
                time.sleep(0.2)
            base = ""
            if self.versioned():
                with self.bucket("versions") as found:
                    index.fill("now", (Artifact(**one) for one in found))
                left_out = {path for some in index.paths() for path in some
                            if not sets.stays_below(path)}  # fmt: skip
                index.drop("now", left_out)
            else:
                with self.artifacts() as source:
                    base, left_out = self.copy_artifacts(source, stamp, moment, index)
            if left_out:
                say(
                    f"Left out of the artifacts: {len(left_out)} links, pipes, names that are too "
                    f"long and the like, which no set holds: {named_some(sorted(left_out))}"
                )

            # Beside what the service's user wrote, and never in her directory.
            shutil.copy(self.installation.secrets, work / "secrets.env")
            sha256 = {LIST: sets.write_list(work / LIST, index.artifacts()),
                      "secrets.env": sets.sha256(work / "secrets.env")}  # fmt: skip
            Store.directory(work).copy(sha256, "", self.target.store, stamp)
            copies = [entry["file"] for entry in saved["databases"].values()]
            Store.directory(work / "databases").copy(copies, "", self.target.store, stamp)
            authority = self.save_authority(stamp)
            count, size = index.total()
            manifest = {
                **saved,
                "set": stamp,
                "based_on": base,
                "files": [{"file": "secrets.env", "sha256": sha256["secrets.env"]}],
                **({"authority": authority} if authority else {}),
                "list": {"file": LIST, "sha256": sha256[LIST]},
                "artifacts_in": "versions" if self.versioned() else "sets",
                "artifacts_count": count,
                "artifacts_bytes": size,
                "artifacts_left_out": len(left_out),
                "added": index.total("now", f"\"set\" = '{stamp}'")[1]
                + sum(entry["bytes"] for entry in saved["databases"].values()),
            }
            self.see_arrived(sets.own_files(manifest))
            self.settle()  # before there is a manifest that names it
            # Last: without it there is no set, and the next one removes what lies there.
            self.target.store.write(f"{stamp}/{MANIFEST}", sets.written(manifest))
            self.settle()
        return manifest

    def settle(self) -> None:
        """Have what was written to a directory on its disk. Raises Trouble where that fails."""
        if self.target.local and (said := bounded("sync", "-f", str(self.target.local))):
            raise Trouble(f"{self.target.place} does not keep what is written to it: {said}")

    def see_arrived(self, files: Mapping[str, str]) -> None:
        """Raise Trouble where a file of the target is not what it should be."""
        hashes = self.target.store.hashes(files)
        for file, sha256 in files.items():
            if hashes.get(file) != sha256:
                raise Trouble(f"{self.target.place}/{file} is not what was put there.")

    def save_databases(self, place: Path) -> dict[str, Any]:
        """Copy the databases into a directory; return what `database` says of them."""
        account = pwd.getpwnam(self.installation.user)
        found = json.loads(self.databases("status"))["databases"]
        need_room({place: sum(one.get("bytes", 0) for one in found)})  # a dump has no indexes
        place.mkdir(mode=0o700)
        os.chown(place, account.pw_uid, account.pw_gid)
        saved: dict[str, Any] = json.loads(self.databases("save", place).splitlines()[-1])
        # It was the service's; from here on root reads what is in it, and nobody changes that.
        os.chown(place, 0, 0)
        for kind, entry in saved["databases"].items():
            file = place / entry["file"]
            entry["live_bytes"] = sum(one.get("bytes", 0) for one in found if one["kind"] == kind)
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
        self, source: Store, stamp: str, moment: float, index: Index
    ) -> tuple[str, set[str]]:
        """Copy the artifacts that no set has into this one; all there are go into `now`.

        Return the set on which this one builds, and the names of what no set can hold.
        """
        left_out = set[str]()

        def found() -> Iterator[Artifact]:
            for artifact in source.listed():
                # Uploads under way are none yet: MLflow names them when they are whole.
                if UPLOADING in artifact.path:
                    continue
                if self.can_hold(stamp, source, artifact.path):
                    yield artifact
                else:
                    left_out.add(artifact.path)

        index.fill("now", found())
        last = self.newest(self.sets(), index)
        count, before = index.total()[0], index.total("before")[0]
        if before and not count:
            raise Trouble(
                f"{source.place} is empty, and set {last['set']} has {before} artifacts. Is a "
                "disk not mounted? If all were deleted, set another mlflow_backup_target."
            )
        index.files(self.target.store.listed("", "--no-modtime"))
        damaged = damaged_files(self.target.place)
        index.drop("there", damaged)
        # S3 knows whole seconds: an object of the very second may have been written once more in
        # it. And a clock that was ahead says nothing of what came after it.
        since = last["databases"]["tracking"]["moment"] if last else 0
        settled = time.strftime("%Y-%m-%dT%H:%M:%S",
                                time.gmtime(since - 2 if since < time.time() else 0))  # fmt: skip
        index.db.execute(TAKE_OVER, {"settled": settled})
        if source.local:
            # Of runs that began after the databases' moment, and that they do not know.
            births: dict[str, float] = {}
            for paths in index.paths("now", FRESH):
                births |= born_after(source.local, paths, moment)
            # One that is yet to come is another clock's, by which nothing can be told.
            if births and max(births.values()) <= time.time():
                index.drop("now", births)
        fresh, size = index.total("now", FRESH)
        say(f"{count} artifacts, {fresh} of them new ({sets.amount(size)}).")
        if self.target.local:
            need_room({self.target.local: size})
        folder = f"{stamp}/artifacts"
        for paths in index.paths("now", FRESH):
            source.copy(paths, "", self.target.store, folder)
        left_out = left_out.union(*source.odd())  # only now: there may be more of it
        if fresh:
            self.take_note(source, stamp, folder, index)
            self.mend(stamp, damaged, index)
        return str(last.get("set", "")), left_out

    def take_note(self, source: Store, stamp: str, folder: str, index: Index) -> None:
        """Note what has arrived in a set. Raises Trouble where something did not that is there."""
        # Their own size counts: a file may have been written anew after it was listed.
        index.files(self.target.store.listed(folder, "--no-modtime"))
        for paths in index.paths("now", FRESH):
            hashes = self.target.store.hashes(paths, folder)
            index.many(
                'UPDATE now SET sha256 = ?, "set" = ?, size = there.size FROM there '
                "WHERE now.path = ? AND there.path = now.path",
                ((sha256, stamp, path) for path, sha256 in hashes.items()),
            )
        missing = {path for paths in index.paths("now", FRESH) for path in paths}
        if not missing:
            return
        still = (one.path for one in source.listed() if one.path in missing)
        if lost := sorted(still):
            raise Trouble(
                f"{len(lost)} artifacts did not arrive in {self.target.place}, the first of them "
                f"{lost[0]}."
            )
        index.drop("now", missing)

    def mend(self, stamp: str, damaged: Mapping[str, str], index: Index) -> None:
        """Put what was copied anew also where earlier sets have it, and it is damaged."""
        query = 'SELECT sha256 FROM now WHERE path = ? AND "set" = ?'
        by_set: dict[str, list[str]] = {}
        for file, sha256 in damaged.items():
            old, _, path = file.partition("/artifacts/")
            if path and index.db.execute(query, [path, stamp]).fetchone() == (sha256,):
                by_set.setdefault(old, []).append(path)
        mended = set[str]()
        for old, paths in by_set.items():
            folder = f"{old}/artifacts"
            self.target.store.copy(paths, f"{stamp}/artifacts", self.target.store, folder)
            for path, sha256 in self.target.store.hashes(paths, folder).items():
                if damaged[f"{folder}/{path}"] == sha256:
                    mended.add(f"{folder}/{path}")
        if mended:
            say(f"Mended in earlier sets: {len(mended)} files that were damaged.")
            rest = {file: sha256 for file, sha256 in damaged.items() if file not in mended}
            note_damaged(self.target.place, rest)

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
        self.see_target()
        stamps, now = self.sets(), time.time()
        if future := [one for one in stamps if one not in sets.present(stamps, now)]:
            say(from_the_future(future))
        least = int(self.settings.get("MLFLOW_BACKUP_KEEP_SETS", "7"))
        old = sets.expired(
            stamps, now, int(self.settings.get("MLFLOW_BACKUP_KEEP_DAYS", "28")),
            1 if self.versioned() else least,
        )  # fmt: skip
        kept = [stamp for stamp in stamps if stamp not in old]
        with room() as place:
            index = Index(place)
            # Of sets that are not kept: expired, forgotten, unfinished.
            index.files(
                one for one in self.target.store.listed("", "--no-modtime")
                if (top := one.path.partition("/")[0]) not in kept and sets.NAME.fullmatch(top)
            )  # fmt: skip
            if not index.total("there")[0]:
                return old
            try:
                for manifest in map(self.manifest, kept):
                    # What is not its own it has from the set on which it builds.
                    if manifest.get("based_on", "?") not in ("", *kept):
                        for some in parts(self.listed(manifest)):
                            index.drop("there", (one.file for one in some))
            except Trouble as error:
                raise Trouble(
                    f"{error} Nothing was removed, since it may need files of others. If you can "
                    "do without it: mlflow-backup forget SET."
                ) from error
            # The manifest first: a set that is not whole any more is none.
            self.target.store.remove(f"{stamp}/{MANIFEST}" for stamp in old)
            for paths in index.paths("there"):
                self.target.store.remove(paths)
        if self.target.local:
            self.target.plain.rclone("rmdirs", "--leave-root", self.target.plain.at())
        return old

    # verify and fetch --------------------------------------------------------------------------

    def verify(self, stamps: Sequence[str], whole: bool = False) -> dict[str, list[str]]:
        """Read every file of the sets; return what is damaged or missing, by set.

        Args:
            stamps: the sets.
            whole: they are all that there are: what was found damaged before is forgotten.
        """
        damaged: dict[str, list[str]] = {stamp: [] for stamp in stamps}
        bad: dict[str, str] = {}
        with room() as place:
            index = Index(place)
            for stamp in stamps:
                try:
                    manifest = self.manifest(stamp)
                except Stalled:
                    raise
                except Trouble as error:
                    damaged[stamp].append(str(error))
                    bad[f"{stamp}/{MANIFEST}"] = ""  # a set that is none any more
                    continue
                try:
                    add = "INSERT OR IGNORE INTO wanted VALUES (?, ?)"
                    index.many(add, self.files(manifest))
                    if manifest["artifacts_in"] == "versions":
                        with self.bucket("check", artifacts=self.listed(manifest)) as wrong:
                            for one in wrong:
                                damaged[stamp].append(one["why"])
                                bad[f"{stamp}/versions/{one['path']}"] = ""
                except Stalled:
                    raise
                except Trouble as error:
                    damaged[stamp].append(str(error))
            for paths in index.paths("wanted"):
                hashes = self.target.store.hashes(paths)
                wanted = {path: index.sha256(path, "wanted") for path in paths}
                bad |= {path: wanted[path] for path in differing(wanted, hashes)}
        for stamp in stamps if bad else ():
            with contextlib.suppress(Trouble):  # named above
                damaged[stamp] += [
                    f"{file} is missing or damaged: it is not what the manifest says."
                    for file, _ in self.files(self.manifest(stamp))
                    if file in bad
                ]
        before = {} if whole else damaged_files(self.target.place)
        note_damaged(self.target.place, {**before, **bad})
        return damaged

    def files(self, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the files below the target that a set needs, with their SHA-256."""
        yield from sets.own_files(manifest).items()
        for artifact in self.listed(manifest):
            if artifact.set:
                yield artifact.file, artifact.sha256

    def fetch(
        self, stamp: str, directory: Path, without: int = 0, beside: bool = False
    ) -> dict[str, Any]:
        """Bring a whole set into a directory; return its manifest.

        The directory is new, empty, or holds what was fetched before, which is replaced: what is
        whole of it, and of a fetch that was cut off, is not brought again. Raises Trouble, with
        nothing in its place, where a file is damaged or missing.

        Args:
            stamp: the set.
            directory: where it goes.
            without: so many artifacts may be damaged: then it is brought without them.
            beside: there must also be room to restore the databases.
        """
        directory = of_root(directory)
        unfinished = directory.with_name(f"{directory.name}{UNFINISHED}")
        if directory.exists() and not fetched_before(directory):
            raise Trouble(f"{directory} is there already. Name a new directory, or an empty one.")
        manifest = self.manifest(stamp)
        if directory.exists() and not unfinished.exists():
            directory.rename(unfinished)
        unfinished.mkdir(mode=0o700, exist_ok=True)
        take_up(unfinished, manifest)
        size, restored = sizes(manifest)
        need_room({directory: max(0, size - used(unfinished)) + restored * beside})
        try:
            manifest = self.bring(manifest, unfinished, without)
        except Trouble as error:
            if beside:
                raise
            waits = f"What was brought waits in {unfinished} for another try."
            raise type(error)(f"{error} {waits}") from error
        (unfinished / MANIFEST).write_text(sets.written(manifest))
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)
        return {key: value for key, value in manifest.items() if key != "artifacts"}

    def restorable(self, stamp: str, directory: Path) -> dict[str, Any]:
        """Return a set's manifest, once it is sure that there is room to restore it on this host.

        Args:
            stamp: the set.
            directory: into which it would be fetched.

        Raises Trouble.
        """
        manifest = self.manifest(stamp)
        size, restored = sizes(manifest)
        unfinished = directory.with_name(f"{directory.name}{UNFINISHED}")
        wanted = {directory: max(0, size - used(directory) - used(unfinished))}
        with contextlib.suppress(Trouble, ValueError):  # a server that is broken
            found = json.loads(self.databases("status"))["databases"]
            # They are saved before, and again where what replaced them is not kept.
            wanted[SWITCH] = 2 * sum(one.get("bytes", 0) for one in found)
        service = read_file(self.installation.settings)
        uri = service["MLFLOW_BACKEND_STORE_URI"]
        if uri.startswith("sqlite:"):
            wanted[Path(places.path_of(uri))] = restored
        elif not places.here(urlsplit(uri).hostname or ""):
            wanted[Path("/var/lib/postgresql")] = restored
        place = Path(service["MLFLOW_ARTIFACTS_DESTINATION"])
        if place.is_absolute() and disk_of(place) != disk_of(directory):
            wanted[place] = manifest["artifacts_bytes"]
        need_room(wanted)
        return {key: value for key, value in manifest.items() if key != "artifacts"}

    def bring(self, manifest: dict[str, Any], to: Path, without: int = 0) -> dict[str, Any]:
        """Bring a set's files, and see that they are what the manifest says.

        Return the manifest of what was brought. Raises Trouble.
        """
        stamp, here = manifest["set"], Store.directory(to)
        # Who gets a set, a drill or the service, gets no CA.
        own = {file.partition("/")[2]: sha256 for file, sha256 in
               sets.own_files({**manifest, "authority": []}).items()}  # fmt: skip
        again = (to / "artifacts").exists()  # an earlier try has brought some of it
        said = self.brought(lacking(here, own) if again else own, stamp, here, "")
        if wrong := lacking(here, own):
            raise Trouble(
                f"Set {stamp} is damaged: {', '.join(wrong)}: missing or not what the manifest "
                f"says. {said}Nothing was fetched. Name another set: mlflow-backup list"
            )
        (to / "artifacts").mkdir(exist_ok=True)
        with room() as place:
            index = Index(place)
            index.fill("now", sets.listed(manifest, to / LIST))
            index.files(here.listed("artifacts", "--no-modtime"))
            for some in index.paths("there", ABSENT):  # of a copy that was cut off
                here.remove(f"artifacts/{path}" for path in some)
            bad = self.bring_artifacts(index, here, again)
            if manifest["artifacts_in"] == "versions":
                with self.bucket("fetch", to / "artifacts", artifacts=index.artifacts()) as lost:
                    bad |= {one["path"]: "" for one in lost}
            if not bad:
                return manifest
            count = index.total()[0]
            note_damaged(self.target.place, {**damaged_files(self.target.place), **{
                one.file: one.sha256 for one in index.artifacts() if one.path in bad and one.set
            }})  # fmt: skip
            words = (
                f"Set {stamp} is damaged: of {count} artifacts {len(bad)} are missing or not what "
                f"the manifest says: {named_some(sorted(bad))}."
            )
            if len(bad) > without:
                raise Trouble(
                    f"{words} Nothing was fetched. All else of it is whole: to have that without "
                    f"these, say mlflow_backup_without={len(bad)} (mlflow-backup fetch --without "
                    f"{len(bad)}). mlflow-backup verify {stamp} names all of them."
                )
            say(f"{words} It was fetched without these.")
            for path in bad:
                (to / "artifacts" / path).unlink(missing_ok=True)
            index.drop("now", bad)
            digest = sets.write_list(to / LIST, index.artifacts())
            count, size = index.total()
        return {
            **{key: value for key, value in manifest.items() if key != "artifacts"},
            "list": {"file": LIST, "sha256": digest},
            "artifacts_count": count,
            "artifacts_bytes": size,
            "artifacts_damaged": sorted(bad),
        }

    def brought(self, paths: Iterable[str], source: str, here: Store, to: str) -> str:
        """Copy files from the target; return what was said where some of them cannot be read."""
        try:
            self.target.store.copy(paths, source, here, to)
        except Stalled:
            raise
        except Trouble as error:
            return f"{error} "
        return ""

    def bring_artifacts(self, index: Index, here: Store, again: bool) -> dict[str, str]:
        """Bring the artifacts in `now`; return those that are damaged in the target, and how.

        Args:
            index: has them.
            here: where they go, below artifacts/.
            again: some of them may be there.
        """
        bad: dict[str, str] = {}
        for source in index.sets():
            for paths in index.paths("now", f"\"set\" = '{source}'"):
                folder = f"{source}/artifacts"
                wanted = {path: index.sha256(path) for path in paths}
                absent = lacking(here, wanted, "artifacts") if again else paths
                said = self.brought(absent, folder, here, "artifacts")
                if not (wrong := lacking(here, wanted, "artifacts")):
                    continue
                there = self.target.store.hashes(wrong, folder)
                if lost := [path for path in wrong if there.get(path) == wanted[path]]:
                    raise Trouble(f"{len(lost)} artifacts did not arrive: {lost[0]}. {said}")
                bad |= dict.fromkeys(wrong, said)
        return bad

    def fetch_authority(self, stamp: str, directory: Path) -> dict[str, Any]:
        """Bring a set's private CA into a directory, which is made anew; return what it is.

        Raises Trouble, with nothing in its place, where there is none, or not what was saved.
        """
        directory = of_root(directory)
        manifest = self.manifest(stamp)
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
        manifest = sets.read(None, (directory / MANIFEST).read_text())
        with room() as place:
            index = Index(place)
            index.fill("before", sets.listed(manifest, directory / LIST))
            if manifest["artifacts_in"] == "versions":
                with self.bucket("versions") as found:
                    index.fill("now", (Artifact(**one) for one in found))
            else:
                index.fill("now", store.listed())
            # What the bucket has had since the backup and nobody wrote to stays as it is. What
            # somebody wrote again is the switch's to exchange, which keeps it, and brings it back
            # if need be.
            need_room({SWITCH: index.total("now", OTHER)[1]})
            put = index.artifacts("before", ABSENT)
            with self.bucket("put", directory / "artifacts", artifacts=put):
                pass
            index.files(store.listed("", "--no-modtime"))
            gone = "path NOT IN (SELECT path FROM there WHERE there.size = before.size)"
            for lost in index.paths("before", f"{ABSENT} AND {gone}"):
                raise Trouble(f"Artifacts did not arrive in {store.place}: {lost[0]} ...")
            with (directory / EXCHANGE).open("w") as exchange:
                for where, over in ((ABSENT, False), (OTHER, True)):
                    for one in index.artifacts("before", where):
                        exchange.write(json.dumps({"path": one.path, "over": over}) + "\n")
            count, size = index.total("before", ABSENT)
            return (
                f"Put {count} of {index.total('before')[0]} artifacts ({sets.amount(size)}) into "
                f"{store.place}."
            )

    # prepare -----------------------------------------------------------------------------------

    def prepare(self) -> tuple[list[str], str]:
        """See that a backup will work; return what was changed for it, and the key's mark.

        Raises Trouble.
        """
        self.databases("savable")
        if self.versioned():
            with self.bucket("versions", "--any") as found:
                self.see_time([*found])
        else:
            with self.artifacts() as source:
                next(source.listed("", "--max-depth", "1"), None)
        return self.target.prepare(self.known())

    def see_time(self, said: Sequence[Mapping[str, Any]]) -> None:
        """Raise Trouble where sets would stay longer than the bucket keeps what they name."""
        days = int(self.settings.get("MLFLOW_BACKUP_KEEP_DAYS", "28"))
        bucket = next((one["days"] for one in said if one.get("days")), 0)
        if bucket and days >= bucket:
            raise Trouble(
                f"mlflow_backup_keep_days is {days}, and the service's bucket keeps older versions "
                f"for {bucket} days: sets of which artifacts were deleted could not be restored. "
                f"Set mlflow_backup_keep_days to less than {bucket}, or have the bucket keep them "
                "longer (s3_bucket_lifecycle_noncurrent_days, where the playbooks made it)."
            )


def born_after(root: Path, paths: Sequence[str], moment: float) -> dict[str, float]:
    """Return those of the files whose directory did not exist at a moment, and its birth.

    A run that began later has a directory that was made later. The files' own times do not tell:
    MLflow replaces one that a run writes again, and it belongs to that run all the time. Where a
    file system knows no birth, nothing counts as late.
    """
    directories = {(root / path).parent for path in paths}
    recent = sorted(
        str(place) for place in directories if place.is_dir() and place.stat().st_ctime > moment
    )
    late: dict[str, float] = {}
    for some in parts(recent, 1000):
        said = subprocess.run(
            ["stat", "--printf=%w %n\\0", *some],
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": os.defpath}, capture_output=True, text=True,
            check=False,
        ).stdout  # fmt: skip
        for line in said.split("\0"):
            # 2026-11-24 06:14:07.783958944 +0000 /path, or where it is not known: - /path
            if line.startswith("2"):
                born = datetime.fromisoformat(f"{line[:26]}+00:00").timestamp()
                if born > moment:
                    late[line[36:]] = born
    places = ((path, str((root / path).parent)) for path in paths)
    return {path: late[place] for path, place in places if place in late}


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the files that do not have the digest that they should."""
    return [file for file, sha256 in wanted.items() if found.get(file) != sha256]


def lacking(here: Store, wanted: Mapping[str, str], folder: str = "") -> list[str]:
    """Return the files of a directory of this host that are not there, or not what they should be.

    Args:
        here: the directory.
        wanted: their digests.
        folder: in it, where they are.
    """
    return differing(wanted, here.hashes(wanted, folder))


def sizes(manifest: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many bytes a set has, and how many its databases have where they are in use."""
    saved = manifest["databases"].values()
    size = sum(entry["bytes"] for entry in saved) + manifest["artifacts_bytes"]
    # What a dump of PostgreSQL becomes, an earlier set does not say.
    return size, sum(entry.get("live_bytes", 8 * entry["bytes"]) for entry in saved)


def used(directory: Path) -> int:
    """Return how many bytes the files below a directory have."""
    found = ((Path(top), names) for top, _, names in os.walk(directory))
    return sum((top / name).lstat().st_size for top, names in found for name in names)


def take_up(unfinished: Path, manifest: Mapping[str, Any]) -> None:
    """Keep, of what an earlier fetch has brought, what can be of a set; note which set it is.

    What was prepared for others since goes, and all of it where it was another set.
    """
    text, noted = sets.written(manifest), unfinished / MANIFEST
    names = {MANIFEST, "artifacts", *(Path(file).name for file in sets.own_files(manifest))}
    same = not noted.is_symlink() and noted.is_file() and noted.read_text() == text
    unfinished.chmod(0o700)
    for path in [*unfinished.iterdir()]:
        if same and path.name in names and path.lstat().st_uid == os.geteuid():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    noted.write_text(text)


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


@contextlib.contextmanager
def target_lock(kind: int) -> Iterator[None]:
    """Keep those apart who change sets (exclusive) and who read them (shared)."""
    state.STATE.mkdir(exist_ok=True)
    state.STATE.chmod(0o755)
    with (state.STATE / "lock").open("w") as file:
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
        place = backup.target.place
        note(last_success=moment, set=manifest["set"], error="", target=place)
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
    stamps = backup.sets()
    found: list[dict[str, Any]] = []
    for stamp in stamps:
        try:
            manifest = backup.manifest(stamp)
            found.append({key: value for key, value in manifest.items() if key != "artifacts"})
        except Trouble as error:
            found.append({"set": stamp, "damaged": str(error)})
    if future := [one for one in stamps if one not in sets.present(stamps, time.time())]:
        say(from_the_future(future))
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
    fetch.add_argument("--without", type=int, default=0, metavar="N", help="artifacts, see above")
    restorable = verbs.add_parser("restorable")
    for action in (fetch, authority, restorable, verbs.add_parser("forget")):
        action.add_argument("set", metavar="SET")
    for action in (fetch, authority, restorable, verbs.add_parser("artifacts")):
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
    with target_lock(fcntl.LOCK_EX if verb in WRITING else fcntl.LOCK_SH):
        if verb == "prepare":
            changed, key = backup.prepare()
            print(json.dumps({"changed": changed, "key": key}))
            limit = int(backup.settings.get("MLFLOW_BACKUP_MAX_AGE_HOURS", "0"))
            note(max_age_hours=limit, target=backup.target.place)
        elif verb == "create":
            create(backup)
        elif verb == "prune":
            print(f"Removed: {', '.join(backup.prune()) or 'nothing'}.")
        elif verb == "forget":
            backup.see_target()
            stamp = backup.named(arguments.set)
            backup.target.store.remove([f"{stamp}/{MANIFEST}"])
            print(f"{stamp} is no set any more. mlflow-backup prune removes what no other needs.")
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
        # Even without a set it says so: a share may not be mounted.
        named = backup.named(arguments.set or "newest")
        damaged = backup.verify([named] if arguments.set else backup.sets(), not arguments.set)
        for stamp, wrong in damaged.items():
            print("\n  ".join([f"{stamp} is {'damaged:' if wrong else 'whole.'}", *wrong]))
        return 1 if any(damaged.values()) else 0
    elif arguments.verb == "ca":
        stamp = backup.named(arguments.set)
        print(json.dumps(backup.fetch_authority(stamp, arguments.directory)))
    elif arguments.verb == "restorable":
        stamp = backup.named(arguments.set)
        print(json.dumps(backup.restorable(stamp, arguments.directory)))
    elif arguments.verb == "fetch":
        stamp, directory = backup.named(arguments.set), arguments.directory
        manifest = backup.fetch(stamp, directory, arguments.without)
        print(json.dumps({**manifest, "directory": str(arguments.directory.absolute())}))
    return 0
