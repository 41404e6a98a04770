"""Where a backup comes from and goes to, reached by Debian's rclone: directories and S3 alike.

rclone is told everything by its environment: no secret is in an argument, no file is left behind.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import os
import re
import secrets
import select
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..remedies import remedy
from ..there import NO_ARTIFACTS
from .index import parts
from .sets import MANIFEST, Artifact, Trouble

SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
ATTEMPTS = 3  # at copying, where it stalls
RETRIES = ("--retries", "5", "--retries-sleep", "5s")  # rclone's own, where something fails
LONGEST, LONGEST_NAME, LONGEST_KEY = 4095, 255, 1024  # bytes in a path, its parts, a key of S3
STALLED, STALLED_BYTES = 600.0, 10_000  # in so many seconds rclone moves at least that
PATIENCE = 60  # seconds for what takes less than one
NOTHING_THERE = 3  # rclone's exit code for a directory that does not exist
MARK = "mlflow-backup.target"  # a directory is known by it: what a disk hides has none

# The variables of an S3 in the service's settings, and in ours.
SERVICE_S3 = {
    "endpoint_url": "MLFLOW_S3_ENDPOINT_URL",
    "region": "AWS_DEFAULT_REGION",
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "addressing_style": "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
    "ca_bundle": "AWS_CA_BUNDLE",
}
OUR_S3 = {key: f"MLFLOW_BACKUP_S3_{key.upper()}" for key in SERVICE_S3}

# What S3 or rclone says, and what to do. The first counts.
REMEDIES = {
    "InvalidAccessKeyId|SignatureDoesNotMatch": "does not accept this key. Set {prefix}access_key "
    "and {prefix}secret_key.",
    "AccessDenied|Forbidden|403": "does not let this key do that ({said}). It needs ListBucket, "
    "GetObject, PutObject, PutObjectAcl and DeleteObject.",
    "NoSuchBucket": "has no such bucket. Make it there, or set {place}.",
    "x509|certificate": "has a certificate that this host does not trust ({said}). Set "
    "{prefix}ca_bundle to a PEM file on this host with its CA.",
    "no such host|connection refused|i/o timeout|no route|network is unreachable": "does not "
    "answer ({said}). Set {prefix}endpoint_url.",
    "NoCredentialProviders|no valid credential": "wants a key. Set {prefix}access_key and "
    "{prefix}secret_key.",
    "AuthorizationHeaderMalformed|PermanentRedirect|301": "is of another region. Set "
    "{prefix}region.",
    "HTTP response to HTTPS client": "speaks no TLS. Set {prefix}endpoint_url to http://...",
    "no space left on device": "is full: {said}. Free some space, or set {place}.",
}


class Stalled(Trouble):
    """A program that should copy did nothing."""


def s3_environment(
    remote: str, settings: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment that makes an S3 known to rclone under a name."""
    found = {key: settings.get(name, "") for key, name in names.items()}
    style = found["addressing_style"] or ("path" if found["endpoint_url"] else "virtual")
    options = {
        "TYPE": "s3",
        "PROVIDER": "Other" if found["endpoint_url"] else "AWS",
        "ENDPOINT": found["endpoint_url"],
        "REGION": found["region"],
        "ACCESS_KEY_ID": found["access_key"],
        "SECRET_ACCESS_KEY": found["secret_key"],
        "SESSION_TOKEN": found["session_token"],
        "ENV_AUTH": "" if found["access_key"] else "true",  # the instance's role
        "FORCE_PATH_STYLE": str(style == "path").lower(),
        "NO_CHECK_BUCKET": "true",  # buckets are other people's to make
        "NO_HEAD": "true",  # what was put is read again, all of it
        "ACL": "bucket-owner-full-control",  # what buckets without ACLs accept; rclone sends one
    }
    return {f"RCLONE_CONFIG_{remote}_{key}": value for key, value in options.items() if value}


class Store:
    """A directory or an S3 prefix, as rclone sees it.

    Attributes:
        place: for people: /var/backups/mlflow, s3://bucket/prefix.
        local: its directory; None for S3.
    """

    def __init__(
        self, place: str, settings: Mapping[str, str], names: Mapping[str, str], variable: str
    ) -> None:
        self.place, self.variable = place, variable
        # Others' variables are for other S3s.
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RCLONE_", "AWS_"))
        } | {"RCLONE_CONFIG": "/dev/null", "RCLONE_FAST_LIST": "true", "RCLONE_CONTIMEOUT": "15s"}
        self.local: Path | None = None
        self.seen = False  # as somebody else's, with all that she may have put there
        self.ca: Path | None = None
        self.s3_prefix = ""
        if place.startswith("s3://"):
            remote = "SERVICE" if names is SERVICE_S3 else "TARGET"
            self.environment |= s3_environment(remote, settings, names)
            if ca := settings.get(names["ca_bundle"]):
                self.ca = Path(ca)
            self.remote = f"{remote}:{place[5:].rstrip('/')}"
            self.s3_prefix = "mlflow_server_s3_" if names is SERVICE_S3 else "mlflow_backup_s3_"
        else:
            self.local = Path(place).resolve()  # rclone does not follow it
            self.remote = str(self.local)

    def see(self, view: Path) -> None:
        """Read the directory where it is shown, and no link in it."""
        self.local, self.remote, self.seen = view, str(view), True
        self.environment["RCLONE_SKIP_LINKS"] = "true"

    def odd(self) -> tuple[set[str], set[str]]:
        """Return what is in a directory and no file of a set: what is not to be read, and too deep.

        The first is neither file nor directory: links, pipes. The others are directories whose
        files have paths that no program can open.
        """
        special, deep = set[str](), set[str]()
        root = os.fsencode(self.local or "")
        todo = [root] if root else []
        while todo:
            with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
                for entry in entries:
                    path = os.fsdecode(entry.path[len(root) + 1 :])
                    if path in NO_ARTIFACTS:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if len(entry.path) < LONGEST - 256:
                            todo.append(entry.path)
                        else:
                            deep.add(path)
                    elif not entry.is_file(follow_symlinks=False):
                        special.add(path)
        return special, deep

    def holds(self, path: str) -> bool:
        """Return whether there can be a file with a path that somebody else has made up."""
        if not self.local:
            return len(self.at(path).partition(":")[2].encode()) <= LONGEST_KEY
        longest = max(len(part.encode()) for part in path.split("/"))
        # With some room, since a set is also fetched to elsewhere.
        return longest <= LONGEST_NAME and len(self.at(path).encode()) <= LONGEST - 100

    @classmethod
    def directory(cls, path: Path) -> Store:
        """Return a directory of this host."""
        return cls(str(path), {}, OUR_S3, "another directory")

    def at(self, path: str = "") -> str:
        """Return the name that rclone knows a path by."""
        if not path:
            return self.remote
        return f"{self.remote}{'' if self.remote.endswith(':') else '/'}{path}"

    def rclone(
        self, *arguments: str, stdin: str = "", other: Store | None = None, ok: int = 0
    ) -> str:
        """Run rclone and return what it prints; see `said`."""
        return "".join(self.said(arguments, stdin, other, ok))

    def said(
        self, arguments: Iterable[str], stdin: str = "", other: Store | None = None, ok: int = 0
    ) -> Iterator[str]:
        """Run rclone and yield the lines that it prints, each with its end.

        Args:
            arguments: its own.
            stdin: what it reads.
            other: a second store that the arguments name.
            ok: a further exit code that is no failure.

        Raises Trouble with what it said, and what to do about it; Stalled where it did nothing any
        more, and was stopped.
        """
        stores = [self, *([other] if other else [])]
        environment = {name: value for store in stores for name, value in store.environment.items()}
        bundles = {store.ca for store in stores if store.ca}
        command = ["rclone", *arguments]
        with contextlib.ExitStack() as opened:
            if bundles:  # rclone takes but one file, and then forgets the host's own CAs
                trusted = opened.enter_context(tempfile.NamedTemporaryFile())
                for bundle in [SYSTEM_CA, *bundles]:
                    trusted.write(bundle.read_bytes() + b"\n")
                trusted.flush()
                environment["RCLONE_CA_CERT"] = trusted.name
            # In memory: it may be a password, and no pipe is ever full.
            told = opened.enter_context(os.fdopen(os.memfd_create("told"), "w+b"))
            told.write(stdin.encode())
            told.seek(0)
            errors = opened.enter_context(tempfile.TemporaryFile())
            process = opened.enter_context(
                subprocess.Popen(
                    command, env=environment, stdin=told, stdout=subprocess.PIPE, stderr=errors
                )
            )
            try:
                yield from self.heard(process)
            except BaseException:
                process.kill()
                raise
            if process.wait() not in (0, ok):
                errors.seek(0)
                raise Trouble(self.explained(command[1], errors.read().decode(errors="replace")))

    def heard(self, process: subprocess.Popen[bytes]) -> Iterator[str]:
        """Yield the lines that a process prints, with their ends. Raises Stalled."""
        assert process.stdout  # noqa: S101 it is a pipe
        pipe, rest, before = process.stdout.fileno(), b"", 0.0
        while True:
            if select.select([pipe], [], [], STALLED)[0]:
                if not (block := os.read(pipe, 1 << 16)):
                    break
                *lines, rest = (rest + block).split(b"\n")
                yield from (f"{line.decode(errors='replace')}\n" for line in lines)
            elif (now := transferred(process)) < before + STALLED_BYTES:
                raise Stalled(
                    f"{self.place}: nothing was copied for {STALLED / 60:.0f} minutes. Does a "
                    "share not answer? Or does the service put pipes in the place of its files?"
                )
            else:
                before = now
        if rest:
            yield rest.decode(errors="replace")

    def explained(self, verb: str, stderr: str) -> str:
        """Return what went wrong, and what to do."""
        lines = [re.sub(r"^[\d/]+ [\d:]+ ", "", line) for line in stderr.strip().splitlines()]
        said = next((line for line in lines if line.startswith("ERROR")), (lines or ["?"])[-1])
        said = " ".join(re.sub(r"\s*(status code|request id|host id):.*", "", said).split())
        if words := remedy(stderr, REMEDIES):
            facts = {"said": said, "prefix": self.s3_prefix, "place": self.variable}
            return f"{self.place} {words.format(**facts)}"
        hint = f" Look at the {self.s3_prefix}* variables." if self.s3_prefix else ""
        return f"{self.place}: rclone {verb}: {said}{hint}"

    def listed(self, path: str = "", *options: str) -> Iterator[Artifact]:
        """Yield all files below a path, each with its size and time."""
        if self.local and not (self.local / path).is_dir():
            return
        deep = {*NO_ARTIFACTS, *self.odd()[1]} if self.seen else ()
        without = "".join(f"/{re.sub('[^A-Za-z0-9/._-]+', '*', name)}/**\n" for name in deep)
        if without:
            options = (*options, "--exclude-from", "-")
        command = ("lsjson", "--recursive", "--files-only", "--no-mimetype", *options)
        for line in self.said((*command, self.at(path)), without, ok=NOTHING_THERE):
            if line.startswith("{"):  # one a line, in brackets
                entry = json.loads(line.rstrip(",\n"))
                yield Artifact(entry["Path"], entry["Size"], entry.get("ModTime", ""))

    def directories(self) -> set[str]:
        """Return the names of the directories that there are."""
        said = self.rclone("lsf", "--dirs-only", "--max-depth", "1", self.at(), ok=NOTHING_THERE)
        return {line.rstrip("/") for line in said.splitlines()}

    def hashes(self, paths: Iterable[str], path: str = "") -> dict[str, str]:
        """Read files and return their SHA-256; one that cannot be read is missing in it.

        Raises Trouble where the store as a whole does not answer.
        """
        names, found = [*paths], dict[str, str]()
        for _ in range(2):  # a store may fail for a moment
            rest = [name for name in names if name not in found]
            for some in parts(rest):
                command = ("hashsum", "SHA256", "--download", "--files-from-raw", "-")
                asked = lines(some)
                try:
                    for line in self.said((*command, self.at(path)), asked):
                        if re.match("[0-9a-f]{64}  ", line):
                            found[line[66:].rstrip("\n")] = line[:64]
                except Stalled:
                    raise
                except Trouble:
                    self.directories()
        return found

    def copy(self, paths: Iterable[str], source: str, to: Store, destination: str) -> None:
        """Copy files to another store; one that is gone meanwhile is no failure.

        Nor is a pipe that was put in the place of one, for which rclone waits without end: it is
        stopped, and begins again without it.
        """
        for some in parts(paths):
            self._copy(some, source, to, destination)

    def _copy(self, paths: list[str], source: str, to: Store, destination: str) -> None:
        again = ["--no-check-dest"]
        for attempt in range(1, ATTEMPTS + 1):
            place = self.local / source if self.local else None
            names = lines(path for path in paths if not (place and is_special(place / path)))
            if not names:
                return
            try:
                to.rclone(
                    "copy", "--files-from-raw", "-", "--no-traverse", *again,
                    *RETRIES,
                    self.at(source), to.at(destination), stdin=names, other=self,
                )  # fmt: skip
                return
            except Stalled:
                if attempt == ATTEMPTS:
                    raise
                again = []  # what is there whole has its file's time, and stays

    def read(self, path: str) -> str:
        """Return a file's text."""
        return self.rclone("cat", self.at(path))

    def write(self, path: str, text: str) -> None:
        """Write a file: all of it, or nothing."""
        self.rclone("rcat", self.at(f"{path}.new"), stdin=text)
        self.rclone("moveto", self.at(f"{path}.new"), self.at(path))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        for some in parts(paths):
            self.rclone("delete", "--files-from-raw", "-", self.at(), stdin=lines(some))


def is_special(path: Path) -> bool:
    """Return whether there is something that is no file."""
    with contextlib.suppress(OSError, ValueError):
        return not stat.S_ISREG(path.lstat().st_mode)
    return False


def transferred(process: subprocess.Popen[bytes]) -> float:
    """Return how many bytes a process has read and written; no end of them where nobody knows."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process.pid}/io").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))
    return math.inf


def lines(paths: Iterable[str]) -> str:
    """Return paths as rclone reads them. Raises Trouble for a name that has lines itself."""
    names = list(paths)
    if bad := [name for name in names if "\n" in name]:
        raise Trouble(f"The name of {bad[0]!r} has a line break, which rclone cannot be told.")
    return "".join(f"{name}\n" for name in names)


class Target:
    """Where the sets are: a store, or what is encrypted in it.

    Encrypted, every file is, with a password made once on the host. It lies beside the sets in
    `key.age`, encrypted to the recipient, whose identity alone opens it on another host. `key.json`
    says for whom, and which password it is. Everybody can encrypt to a recipient: so a password
    that an identity opens must be the host's own, or known by its mark to whoever restores.
    """

    def __init__(self, settings: Mapping[str, str], directory: str | Path) -> None:
        self.key_file = Path(directory, "backup.key")  # this host's password; root's
        self.recipient = settings.get("MLFLOW_BACKUP_RECIPIENT", "")
        self.identity = settings.get("MLFLOW_BACKUP_IDENTITY", "")
        self.key = settings.get("MLFLOW_BACKUP_KEY", "")
        if (place := settings["MLFLOW_BACKUP_TARGET"]).startswith("/"):
            answers(Path(place))
        self.plain = Store(place, settings, OUR_S3, "mlflow_backup_target")
        self.place, self.local = self.plain.place, self.plain.local
        self.store = self.plain

    def look(self) -> dict[str, str]:
        """Return what key.json says; nothing where the target is not encrypted, or still empty."""
        there = {entry.path for entry in self.plain.listed("", "--max-depth", "1", "--no-modtime")}
        if "key.json" not in there:
            return {}
        try:
            found = json.loads(self.plain.read("key.json"))
            return {"recipient": found["recipient"], "key": found["key"]}
        except (ValueError, KeyError, TypeError) as error:
            raise Trouble(f"{self.place}/key.json is damaged: {error!r}.") from error

    def see_that_it_is_there(self, been_here: bool) -> None:
        """Raise Trouble where a directory is not the one that sets were written to.

        Args:
            been_here: whether this host has written there before: then there must be a mark, which
                what a disk or a share hides has not.
        """
        if not self.local or (self.local / MARK).is_file():
            return
        if been_here:
            raise Trouble(
                f"{self.place} is not what backups went to: it has no {MARK}. Is a disk or a share "
                f"not mounted? If it is meant to be new and empty: touch {self.place}/{MARK}"
            )
        (self.local / MARK).write_text("Backups of MLflow are kept here.\n")

    def open(self) -> None:
        """Have the sets read and written as they are: with the host's password, or the identity.

        Raises Trouble where it is encrypted and neither fits; and where it should be and is not, as
        when somebody took key.json away to have sets of his own restored.
        """
        if known := self.look():
            self._encrypt(self._password(known))
        elif self.recipient or self.identity:
            variable = f"mlflow_backup_{'recipient' if self.recipient else 'identity'}"
            raise Trouble(
                f"{self.place} has no key.json, so nothing in it is encrypted, and {variable} says "
                f"that it should be. Set mlflow_backup_target to the right place; or {variable} to "
                "nothing, if sets in the clear are what you want."
            )

    def holds(self, path: str) -> bool:
        """Return whether there can be a file with a path that somebody else has made up."""
        return self.plain.holds(path if self.store is self.plain else f"{path}.bin")

    def _password(self, known: Mapping[str, str]) -> str:
        """Return the password that a target's files have. Raises Trouble where it may be forged."""
        own = self._host_password()
        if self.identity:
            with tempfile.TemporaryDirectory() as place:
                self.plain.rclone("copyto", self.plain.at("key.age"), f"{place}/key.age")
                password = age(
                    "--decrypt", "--identity", "-", f"{place}/key.age", stdin=self.identity
                )
            if mark(password) != (self.key or (own and mark(own))):
                told = f"mlflow_backup_key is {self.key}" if self.key else ""
                raise Trouble(
                    f"{self.place} has the key {mark(password)}, and "
                    f"{told or 'this host does not know it'}. Whoever can write "
                    "there can encrypt sets of his own to a public key. If this is the key that "
                    "the playbook backup named, set mlflow_backup_key to it; else look who writes."
                )
        elif own:
            password = own
        else:
            raise Trouble(
                f"{self.place} is encrypted to {known['recipient']}, and this host has no key for "
                "it. Set mlflow_backup_identity to the file with that recipient's identity."
            )
        if not mark(password).startswith(known["key"]):
            raise Trouble(
                f"{self.place} is encrypted with another key than that of this host. Set "
                "mlflow_backup_identity, by which the host takes that key over; or another "
                "mlflow_backup_target."
            )
        return password

    def _encrypt(self, password: str) -> None:
        """Put rclone's encryption in front of the store; names stay readable."""
        self.store = copy.copy(self.plain)
        self.store.remote = "SETS:"
        self.store.environment = {
            **self.plain.environment,
            "RCLONE_CONFIG_SETS_TYPE": "crypt",
            "RCLONE_CONFIG_SETS_REMOTE": self.plain.remote,
            "RCLONE_CONFIG_SETS_FILENAME_ENCRYPTION": "off",
            "RCLONE_CONFIG_SETS_DIRECTORY_NAME_ENCRYPTION": "false",
            "RCLONE_CONFIG_SETS_PASSWORD": self.plain.rclone(
                "obscure", "-", stdin=password
            ).strip(),
        }

    def manifests(self, *ends: str) -> list[str]:
        """Return the names of directories that have a manifest.

        Args:
            *ends: what its name may end with; by default as it does where it is encrypted, or not.
        """
        names = [f"{MANIFEST}{end}" for end in ends or [".bin" * (self.store is not self.plain)]]
        only = [word for name in names for word in ("--include", f"/*/{name}")]
        found = self.plain.listed("", "--max-depth", "2", "--no-modtime", *only)
        return sorted(entry.path.partition("/")[0] for entry in found)

    def prepare(self, been_here: bool) -> tuple[list[str], str]:
        """See that files come and go, and see to the key. Return what was changed, and its mark.

        Args:
            been_here: whether this host has written there before.

        Raises Trouble.
        """
        changes = []
        if self.local and not self.local.is_dir() and not been_here:
            self.local.mkdir(mode=0o700, parents=True)
            changes.append(f"made {self.local}")
        self.see_that_it_is_there(been_here)
        probe = f"probe-{secrets.token_hex(8)}"
        self.plain.write(probe, probe)
        if self.plain.read(probe) != probe:
            raise Trouble(f"{self.place} does not give back what was put there.")
        self.plain.remove([probe])

        known = self.look()
        if known and not self.recipient:
            raise Trouble(
                f"{self.place} is encrypted, and mlflow_backup_recipient is empty. Set it to "
                f"{known['recipient']}, or another mlflow_backup_target."
            )
        if not self.recipient:
            return changes, ""
        if known:
            password = self._password(known)
        elif self.manifests():
            raise Trouble(
                f"{self.place} holds sets that are not encrypted, and mlflow_backup_recipient is "
                "set. Set another mlflow_backup_target."
            )
        else:
            password = self._host_password() or secrets.token_hex(32)
        if self._host_password() != password:
            unfinished = self.key_file.with_name("backup.key.new")  # root's alone, by the umask
            unfinished.write_text(f"{password}\n")
            unfinished.rename(self.key_file)
            changes.append(f"wrote {self.key_file}")
        if known.get("recipient") != self.recipient:
            self.plain.write(
                "key.age", age("--armor", "--recipient", self.recipient, stdin=password)
            )
            text = json.dumps({"recipient": self.recipient, "key": mark(password)}) + "\n"
            self.plain.write("key.json", text)
            changes.append(f"encrypted the key to {self.recipient}")
        return changes, mark(password)

    def _host_password(self) -> str:
        """Return the password that this host encrypts with; '' where it has none."""
        return self.key_file.read_text().strip() if self.key_file.is_file() else ""


def answers(place: Path) -> None:
    """Raise Trouble where the file system of a directory does not answer, as a share may."""
    try:
        subprocess.run(["stat", "-f", "--", place], capture_output=True, check=False,
                       timeout=PATIENCE)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"{place} does not answer. Is it on a share whose server is down?") from error


def mark(password: str) -> str:
    """Return by what a password is known that nobody is told, and that nobody finds another for.

    In an older key.json it is half as long.
    """
    return hashlib.sha256(password.encode()).hexdigest()[:32]


def age(*arguments: str, stdin: str) -> str:
    """Run age and return what it prints. Raises Trouble."""
    try:
        done = subprocess.run(
            ["age", *arguments], input=stdin, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"age did not end within {PATIENCE} s.") from error
    if done.returncode == 0:
        return done.stdout.strip()
    said = next(iter(done.stderr.strip().splitlines()), "").removeprefix("age: ")
    variable = "recipient" if "--recipient" in arguments else "identity"
    raise Trouble(f"age does not take mlflow_backup_{variable}: {said}.")
