#!/usr/bin/env python3
"""Make the lock of one version of MLflow, and hold it against published advisories.

The lock is written only when the advisories could be had, and it has none but those that
accepted_advisories.yml names. With --lock an existing one is held against them, and nothing is
made. `make audited-lock MLFLOW=3.18.1` calls this.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).resolve().parent
ROLE = HERE.parent / "roles/mlflow/files"
ACCEPTED = HERE / "accepted_advisories.yml"
# As the Makefile's for the locks that are shipped, but for --upgrade.
COMPILE = "--quiet --generate-hashes --no-emit-index-url --no-annotate --no-header --universal"
COMPILE += " --python-version 3.11 --fork-strategy fewest"
PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
# What has advisories since 2023: a service that knows none of it has no advisories at all.
KNOWN_BAD = ("mlflow", "2.9.1")
SERVICES = ("pypi", "osv", "esms")


class Refused(Exception):
    """What ends the program; its text is for the person who ran it."""


class Advisory(NamedTuple):
    """One that a service has about a package.

    Attributes:
        package: its name.
        version: its version.
        ids: all of its names, the service's own first.
        mended: the versions that mend it, with commas; empty for none.
    """

    package: str
    version: str
    ids: tuple[str, ...]
    mended: str

    def __str__(self) -> str:
        mended = f"mended in {self.mended}" if self.mended else "no version mends it"
        return f"{self.package} {self.version}: {', '.join(self.ids)}; {mended}"


class Accepted(NamedTuple):
    """An advisory that a lock may have.

    Attributes:
        id: one of its names.
        package: the package that it is about.
        versions: for which of its versions it is accepted.
        reason: why.
    """

    id: str
    package: str
    versions: SpecifierSet
    reason: str

    def covers(self, advisory: Advisory) -> bool:
        """Tell whether this is about an advisory, and that version."""
        return (
            self.id in advisory.ids
            and self.package == advisory.package
            and self.versions.contains(advisory.version, prereleases=True)
        )


def accepted(file: Path) -> list[Accepted]:
    """Return what a file accepts. Raises Refused where it has another form."""
    try:
        found = [
            Accepted(**{**entry, "versions": SpecifierSet(entry["versions"])})
            for entry in yaml.safe_load(file.read_text(encoding="utf-8")) or []
        ]
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"{file} is not as it should be: {error}.") from error
    if unexplained := [entry.id for entry in found if not entry.reason.strip()]:
        raise Refused(f"{file} gives no reason for {', '.join(unexplained)}.")
    return found


def shipped() -> list[str]:
    """Return the versions of MLflow that have a lock here, the newest first."""
    found = (file.stem.removeprefix("mlflow-") for file in ROLE.glob("locks/mlflow-*.txt"))
    return sorted(found, key=Version, reverse=True)


def nearest(version: str) -> str:
    """Return the newest version with a lock here that has a version's major number.

    Raises Refused.
    """
    try:
        major = Version(version).major
    except InvalidVersion:
        raise Refused(f'"{version}" is no version. Say MLFLOW=3.18.1, for example.') from None
    alike = [known for known in shipped() if Version(known).major == major]
    if not alike:
        raise Refused(f"MLflow {version} is too far from {', '.join(shipped())}, which are known.")
    return alike[0]


def made(version: str, upgrades: list[str], folder: Path) -> str:
    """Resolve a version's lock, and return its text. Raises Refused.

    What need not change keeps the version that it has in the nearest lock, which was tested.

    Args:
        version: MLflow's.
        upgrades: the packages that may change; "all" for all.
        folder: an empty one.
    """
    known = nearest(version)
    text = (ROLE / f"locks/mlflow-{known}.in").read_text(encoding="utf-8")
    text = re.sub(rf"(?<===){re.escape(known)}$", version, text, flags=re.MULTILINE)
    source, lock = folder / "lock.in", folder / "lock.txt"
    source.write_text(text.replace("-r ../uv.in", f"-r {ROLE / 'uv.in'}"), encoding="utf-8")
    if "all" not in upgrades:
        shutil.copyfile(ROLE / f"locks/mlflow-{known}.txt", lock)
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", *COMPILE.split()]
    uv += [f"--upgrade-package={name}" for name in upgrades if name != "all"]
    done = subprocess.run(
        [*uv, source.name, "--output-file", lock.name], cwd=folder, capture_output=True, text=True,
        check=False, env={"UV_SYSTEM_CERTS": "true", **os.environ},
    )  # fmt: skip
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise Refused(f"No lock for MLflow {version} can be made from the package index: {said}")
    return lock.read_text(encoding="utf-8")


def rounds(pins: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return a lock's packages in as few lots as have each package in one version alone.

    A lock has a package in several versions where Pythons differ, and all of them are installed
    somewhere.
    """
    found: list[dict[str, str]] = []
    for name, version in sorted({(canonicalize_name(name), version) for name, version in pins}):
        free = (lot for lot in found if name not in lot)
        lot = next(free, None)
        if lot is None:
            found.append(lot := {})
        lot[name] = version
    return found


def asked(lot: Mapping[str, str], service: list[str], folder: Path) -> list[Advisory]:
    """Return what a service has about packages. Raises Refused unless it has told of each.

    Args:
        lot: their names and versions.
        service: the arguments that name it to pip-audit.
        folder: an empty one, for what was asked and is answered.
    """
    file = folder / "packages.txt"
    file.write_text("".join(f"{name}=={version}\n" for name, version in lot.items()))
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip_audit", "--requirement", str(file), "--no-deps",
         "--disable-pip", "--progress-spinner=off", "--format=json", "--desc=off", "--aliases=on",
         # What an earlier run was told is not what is known now.
         f"--cache-dir={folder / 'cache'}", *service],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise Refused(f"pip-audit has no answer: {said}") from None
    # pip-audit counts what it could not ask about as good.
    silent = [answer for answer in answers if "skip_reason" in answer]
    told = {canonicalize_name(answer["name"]) for answer in answers} - {
        canonicalize_name(answer["name"]) for answer in silent
    }
    if untold := sorted(set(lot) - told):
        more = f" and {len(untold) - 1} more" if len(untold) > 1 else ""
        why = next((answer["skip_reason"] for answer in silent), "it left them out")
        raise Refused(f"nothing was told about {untold[0]} {lot[untold[0]]}{more}: {why}")
    return [
        Advisory(
            canonicalize_name(answer["name"]), answer["version"],
            (found["id"], *found["aliases"]), ", ".join(found["fix_versions"]),
        )
        for answer in answers
        for found in answer["vulns"]
    ]  # fmt: skip


def audited(text: str, service: list[str]) -> list[Advisory]:
    """Return all advisories about what a lock pins. Raises Refused where they cannot be had."""
    pins = PIN.findall(text)
    others = [line for line in re.findall(r"(?m)^[^\s#].*", text) if not PIN.match(line)]
    if others or not pins:
        raise Refused(f"it has what is no pinned version: {others[0] if others else 'nothing'}")
    found: list[Advisory] = []
    for lot in rounds([*pins, KNOWN_BAD]):
        with tempfile.TemporaryDirectory() as folder:
            found += asked(lot, service, Path(folder))
    known = [advisory for advisory in found if advisory[:2] == KNOWN_BAD]
    if not known:
        name, version = KNOWN_BAD
        raise Refused(f"the service knows of no advisory about {name} {version}, which has several")
    return found if KNOWN_BAD in pins else [one for one in found if one not in known]


def command_line(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="MLflow's, like 3.18.1")
    what.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock against them")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where it goes (locks/mlflow-VERSION.txt)"
    )
    parser.add_argument(
        "--upgrade", action="append", default=[], metavar="PACKAGE",
        help="take the newest of this one, too, or of all",
    )  # fmt: skip
    parser.add_argument(
        "--service", choices=SERVICES, default="pypi", help="whose advisories (%(default)s)"
    )
    parser.add_argument("--osv-url", metavar="URL", help="a service in the form of osv's")
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Make and audit, or audit alone, and say what was found. Raises Refused."""
    may_have = accepted(options.accepted)
    service = [f"--vulnerability-service={'osv' if options.osv_url else options.service}"]
    if options.osv_url:
        service.append(f"--osv-url={options.osv_url}")
    outcome = "Nothing was changed." if options.lock else "No lock was written."
    if options.lock:
        text, name = options.lock.read_text(encoding="utf-8"), str(options.lock)
    else:
        print(f"Making the lock of MLflow {options.version}: some seconds.", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            text = made(options.version, options.upgrade, Path(folder))
        name = f"the lock of MLflow {options.version}"
    print(f"Asking for advisories about {len({*PIN.findall(text)})} packages.", flush=True)
    try:
        found = audited(text, service)
    except Refused as error:
        raise Refused(
            f"The advisories about {name} cannot be had from {options.osv_url or options.service}: "
            f"{error}.\n{outcome} Ask another service (--service {'|'.join(SERVICES)}, or "
            "--osv-url), or run this where one can be reached."
        ) from error

    known = {advisory: entry for advisory in found for entry in may_have if entry.covers(advisory)}
    for advisory, entry in known.items():
        print(f"  accepted  {advisory}\n            {entry.reason}")
    if unknown := [advisory for advisory in found if advisory not in known]:
        listed = "\n  ".join(map(str, unknown))
        below = {one.package for one in unknown if one.mended and one.package != "mlflow"}
        newer = " ".join(f"--upgrade {package}" for package in sorted(below))
        how = f" ({newer})" if newer else ""
        raise Refused(
            f"There are advisories about {name} that {options.accepted.name} does not name:\n"
            f"  {listed}\n{outcome} Take a version that mends them{how}; "
            f"or, where they do not concern you, say so with the reason in {options.accepted}."
        )
    if options.lock:
        print(f"{name}: no advisory that is not accepted.")
        return
    lock = options.output or Path("locks", f"mlflow-{options.version}.txt")
    lock.parent.mkdir(parents=True, exist_ok=True)
    beside = lock.with_name(f".{lock.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(lock)
    print(
        f"{lock}: no advisory that is not accepted. Next, in your inventory:\n"
        f"  mlflow_version: {options.version}\n  mlflow_lock: {lock.resolve()}\n"
        "and playbooks/upgrade.yml."
    )


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    try:
        run(command_line(arguments))
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
