"""A project's store without a server, and experiments in it that only a server could keep.

`mlflow ui` hands artifacts on for its clients, unless it is told not to, and then gives each
experiment that it makes, Default too, the address `mlflow-artifacts:/<id>`. Without a server
nothing leads there: whoever logs into the project itself can log no artifact to it. Such
experiments, and what is in them, get the place that they would have had, below the project's
`mlruns`. What a server has received for them, in `mlartifacts`, is moved there.

Nothing but the standard library is used, so that any Python 3.9 or later runs it, and a person may
have a Mac.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .durable import rename
from .host.accounts import rights_of
from .mlflow_internals import ADDRESSES, EXPERIMENTS_PROXIED, TRACE_LOCATION_TAG
from .view import Refused, opened

SQLITE = "sqlite:///"
SCHEME = "mlflow-artifacts:"
RECEIVED = "mlartifacts"  # where a server that is told nothing keeps artifacts
WAIT = 30.0  # seconds for the lock of a database that somebody writes to

# A file store writes an address on a line of its own, and never with a space or a quotation mark.
LINE = re.compile(
    rf"^(artifact_location|artifact_uri|source|storage_location): ({SCHEME}/\S*)$", re.MULTILINE
)
NAME = re.compile(r"^name: (.*)$", re.MULTILINE)


class Store:
    """What there is at a tracking URI.

    Attributes:
        path: the database, or the directory of files.
        project: the directory that it is in, with `mlruns`.
    """

    def __init__(self, uri: str) -> None:
        """Understand the URI. Raises ValueError where it is neither of a file nor of SQLite."""
        self.files = uri.startswith("file:")
        if not self.files and not uri.startswith(SQLITE):
            raise ValueError(f"{uri} is no store of a project")
        self.path = Path(unquote(urlsplit(uri).path) if self.files else uri[len(SQLITE) :])
        self.project = self.path.parent

    def owner(self) -> str:
        """Return with whose rights it is looked at. Raises PermissionError.

        Whoever put it there: a link is its maker's, and leads no further than that user comes.
        """
        number = self.path.lstat().st_uid
        if os.geteuid() == 0 and hasattr(os, "O_PATH"):  # root alone takes rights, on Linux
            number = self._seen_by_root()
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            raise PermissionError(
                f"{self.path} belongs to user {number}, whom this host does not know"
            ) from None

    def _seen_by_root(self) -> int:
        """Return the owner's number, by no link of one user's to what is another's."""
        try:
            directory = opened(self.project)
        except Refused as error:
            raise PermissionError(str(error)) from None
        try:
            above = os.fstat(directory).st_uid
            number = os.stat(self.path.name, dir_fd=directory, follow_symlinks=False).st_uid
        finally:
            os.close(directory)
        if number == 0 != above:
            raise PermissionError(
                f"{self.path} belongs to root, and its directory to user {above}: "
                f"chown -R {above}: {self.path}"
            )
        return number

    def place(self, address: str) -> str:
        """Return where something is, or is to be, whose address is of a server.

        What a server has received for it is moved there. Where that cannot be, as when it lies on
        another file system, it stays, and its own place is returned.
        """
        inner = address[len(SCHEME) :].strip("/")
        wanted, received = self.project / "mlruns" / inner, self.project / RECEIVED / inner
        if not inner or ".." in Path(inner).parts:
            return address
        # Of an experiment, the directory holds what has an address of its own.
        if "/" in inner and received.is_dir():
            try:
                wanted.parent.mkdir(parents=True, exist_ok=True)
                received.rename(wanted)  # over an empty directory, and no other
            except OSError:
                return received.as_uri()
            with contextlib.suppress(OSError):  # up to the first that holds something
                received.parent.rmdir()
                received.parent.parent.rmdir()
                received.parent.parent.parent.rmdir()
        return wanted.as_uri()

    def of_files(self) -> Iterator[tuple[Path, str]]:
        """Yield the experiments of a file store that have such an address, with their names."""
        for pattern in ("*/meta.yaml", ".trash/*/meta.yaml"):
            for file in sorted(self.path.glob(pattern)):
                text = file.read_text(encoding="utf-8")
                if LINE.search(text):
                    name = NAME.search(text)
                    yield file, f"{name[1] if name else '?'} ({file.parent.name})"

    def mend_file(self, file: Path) -> None:
        """Give what a file describes its place. Raises OSError."""
        text = file.read_text(encoding="utf-8")
        if file.name == TRACE_LOCATION_TAG.value:
            mended = self.place(text) if text.startswith(f"{SCHEME}/") else text
        else:
            mended = LINE.sub(lambda found: f"{found[1]}: {self.place(found[2])}", text)
        if mended != text:
            fresh = file.with_name(f".{file.name}.new")
            fresh.write_text(mended, encoding="utf-8")
            fresh.chmod(file.stat().st_mode & 0o777)
            rename(fresh, file)

    def mend_files(self) -> None:
        """Mend a file store. An experiment's own file is the last: until then it is found again."""
        found = [file for file, _ in self.of_files()]
        for experiment in found:
            inside = experiment.parent
            for pattern in ("*/meta.yaml", "models/*/meta.yaml",
                            f"traces/*/tags/{TRACE_LOCATION_TAG.value}"):  # fmt: skip
                for file in sorted(inside.glob(pattern)):
                    self.mend_file(file)
        for file in sorted(self.path.glob("models/*/*/meta.yaml")) if found else []:
            self.mend_file(file)
        for experiment in found:
            self.mend_file(experiment)

    def of_database(self) -> list[str]:
        """Return the names of such experiments in a database. Raises sqlite3.Error."""
        where = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=WAIT)) as connection:
            if "experiments" not in self.tables(connection):
                return []
            return [
                f"{name} ({number})" for number, name in connection.execute(EXPERIMENTS_PROXIED)
            ]

    @staticmethod
    def tables(connection: sqlite3.Connection) -> set[str]:
        """Return the names of a database's tables."""
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}

    def mend_database(self) -> None:
        """Mend a database, in one transaction. Raises sqlite3.Error."""
        database = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
        with contextlib.closing(database) as connection:
            connection.execute("BEGIN IMMEDIATE")
            tables = self.tables(connection)
            for found, moved in ADDRESSES:
                rows = connection.execute(found).fetchall() if found.table in tables else []
                for (address,) in rows:
                    connection.execute(moved, (self.place(address), address))
            connection.execute("COMMIT")


def unreachable(uri: str) -> list[str]:
    """Return the experiments of a store to which no artifact can be logged: name and number.

    Args:
        uri: the project's tracking URI.

    Raises:
        OSError: the store cannot be read.
        sqlite3.Error: nor can its database.
        ValueError: it is no store of a project.
    """
    store = Store(uri)
    if not store.path.exists():
        return []
    with rights_of(store.owner()):
        return [name for _, name in store.of_files()] if store.files else store.of_database()


def mend(uri: str, check: bool = False) -> list[str]:
    """Give such experiments, and all that is in them, a place in the project; return which.

    With the rights of the store's owner. What was interrupted is finished by the next time.

    Args:
        uri: the project's tracking URI.
        check: change nothing, and return what would be mended.

    Raises:
        OSError: the store cannot be read or written.
        sqlite3.Error: nor can its database.
        ValueError: it is no store of a project.
    """
    found = unreachable(uri)
    if found and not check:
        store = Store(uri)
        with rights_of(store.owner()):
            if store.files:
                store.mend_files()
            else:
                store.mend_database()
    return found
