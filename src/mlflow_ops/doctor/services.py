"""A host of services: whether they run, as the playbook wrote them."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from .. import INSTALLED, installed
from .. import installation as record
from .patient import Patient
from .report import MANAGED, Finding, check, error, give, names, paths, run, show, warning


@check("services", "host", after=("installation",))
def services(p: Patient) -> Iterator[Finding]:
    """Whether each service runs, and will after a boot."""
    for pattern in ([p["unit"]] if "server" in p.kinds else []) + p["units"]:
        states = show(pattern)
        if not states:  # a pattern stands for units that are loaded, and a stopped one is not
            yield error(
                f"No {pattern} runs here.",
                "What needs it does not work.",
                f"systemctl restart {pattern.partition('@')[0]}; or, if it was never there: "
                f"{p.again}",
            )
        elif states[0]["LoadState"] == "not-found":
            yield error(f"There is no {pattern} here.", "What needs it does not work.", p.again)
        for state in states:
            name, means = state["Id"], "Whoever uses it gets no answer."
            if state["LoadState"] == "masked":
                yield error(f"{name} is masked.", means, f"systemctl unmask --now {name}")
            elif state["LoadState"] == "loaded" and state["ActiveState"] != "active":
                words = run(["journalctl", "--no-pager", "--output=cat", "--lines=3",
                             f"--unit={name}"]).stdout.split("\n")  # fmt: skip
                yield error(
                    f"{name} does not run; it is {state['ActiveState']} ({state['SubState']}). "
                    f"Its last words: {' / '.join(filter(None, words)) or 'none'}",
                    means,
                    f"journalctl -fu {name} shows it start, or fail again and again"
                    if state["ActiveState"] == "activating"
                    else f"systemctl reset-failed {name}; systemctl start {name}",
                )
            elif state["LoadState"] == "loaded" and state["UnitFileState"] == "disabled":
                yield warning(
                    f"{name} runs, and is disabled.",
                    "It will not be there after a boot.",
                    f"systemctl enable {name}",
                )


# systemd's word for a process of a unit that the kernel ended since there was no memory for it.
OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"
# What sets how much a unit may have, by the beginning of its name.
LIMITS = {"mlflow.": "mlflow_server_memory_mb", "mlflow-model@": "mlflow_model_serving_memory_mb"}


@check("memory", "host", after=("installation",))
def memory(p: Patient) -> Iterator[Finding]:
    """Whether services wanted more memory than they may have, or than there was."""
    for pattern in ([p["unit"]] if "server" in p.kinds else []) + p["units"]:
        for name in (state["Id"] for state in show(pattern)):
            # Of systemd alone: everybody else may write such a line, too.
            said = run(["journalctl", "--no-pager", "--quiet", "--output=short-iso", "--since=-7d",
                        "_PID=1", f"MESSAGE_ID={OUT_OF_MEMORY}", f"UNIT={name}"])  # fmt: skip
            if times := [line.split()[0] for line in said.stdout.splitlines() if line]:
                limit = [word for start, word in LIMITS.items() if name.startswith(start)]
                yield warning(
                    f"{name} was out of memory {len(times)} times in 7 days, and lost a process "
                    f"each time; last at {times[-1]}.",
                    "Whom that process was answering got no answer.",
                    f"journalctl -u {name} says what it did then. "
                    + (f"If it needs more: {limit[0]} in {p.variables}; or fewer workers"
                       if limit else "If it needs more, the host does, too: free says what it has"),
                )  # fmt: skip


@check("units", "host", after=("installation",))
def units(p: Patient) -> Iterator[Finding]:
    """Whether the units are those that the playbook wrote, and are what runs."""
    wanted = {file["path"]: file.get("sha256") for file in p["files"]}
    for path, digest in wanted.items():
        if digest and path.startswith("/etc/systemd/") and Path(path).exists():
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
                yield warning(
                    f"{path} is not what the playbook writes: it was changed by hand, or the "
                    "inventory was since.",
                    "The service is another than the inventory says, until the playbook takes it "
                    "back.",
                    f"{p.again} --check --diff shows what differs. What should stay goes into "
                    f"{p.variables}.",
                )
    for pattern in ([p["unit"]] if "server" in p.kinds else []) + p["units"]:
        for state in show(pattern):
            name, read = state["Id"], state.get("DropInPaths", "").split()
            # systemd may not know of a first one yet; /usr is the distribution's, and what a role
            # of some other playbook has added says so.
            there = [str(path) for path in paths(f"/etc/systemd/system/{name}.d/*.conf")]
            by_hand = [
                path
                for path in dict.fromkeys([*read, *there])
                if not path.startswith(("/usr/", "/lib/"))
                and Path(path).parent.name == f"{name}.d"
                and path not in wanted
                and MANAGED not in Path(path).read_text(errors="replace")
            ]
            if by_hand:
                yield warning(
                    f"{name} was changed by hand: {', '.join(by_hand)}.",
                    "The service is another than the inventory says, and no playbook takes this "
                    "back.",
                    f"systemctl cat {name} shows it. To undo it: rm {' '.join(by_hand)}; systemctl "
                    f"daemon-reload; systemctl restart {name}",
                )
            if state.get("NeedDaemonReload") == "yes" or set(there) - set(read):
                yield warning(
                    f"{name} was changed, and systemd has not read it since.",
                    "What runs is the old one; the change comes at some later start.",
                    f"systemctl daemon-reload; systemctl restart {name}",
                )


@check("settings", "server", after=("installation", "services"))
def settings_read(p: Patient) -> Iterator[Finding]:
    """Whether the service has read its files since they were changed."""
    started = int(p.unit["ExecMainStartTimestamp"].lstrip("@") or 0)
    own = [str(Path(p["settings"]).parent), f"/etc/systemd/system/{p['unit']}"]
    files = [
        Path(file["path"]) for file in p["files"]
        if file["path"].startswith(tuple(own)) and file["path"] != str(record.RECORD)
    ]  # fmt: skip
    newer = [str(path) for path in files if path.is_file() and path.stat().st_mtime > started + 1]
    for link in (Path(p["environment"]), INSTALLED):
        if link.is_symlink() and link.lstat().st_mtime > started + 1:
            newer.append(str(link))
    if newer:
        yield warning(
            f"{p['unit']} was started before {' and '.join(newer)} changed.",
            "It works with what was there before.",
            f"systemctl restart {p['unit']}",
        )


def strange(path: str | Path, p: Patient) -> Finding:
    """Return what is said of a program of somebody else's."""
    return warning(
        f"{path} is not what these playbooks install: it was changed by hand, or "
        "comes from another release of them.",
        "It may do something else than the documents say.",
        f"{p.again} installs it anew.",
    )


@check("file modes", "host", after=("installation",))
def file_modes(p: Patient) -> Iterator[Finding]:
    """Whether files have the owner, group, mode and content that the playbook gave them."""
    for wanted in p["files"]:
        path = wanted["path"]
        try:
            entry, status = Path(path).lstat(), Path(path).stat()
            if stat.S_ISLNK(entry.st_mode) and entry.st_uid != 0:
                yield error(
                    f"{path} is a link to {Path(path).readlink()}, which "
                    f"{names(entry.st_uid, entry.st_gid).split(':')[0]} made.",
                    "Nothing may be done through it: it may lead anywhere.",
                    f"rm {path}; {p.again}",
                )
                continue
        except FileNotFoundError:
            yield error(f"{path} is missing.", "What needs it does not work.", p.again)
            continue
        owner, mode = names(status.st_uid, status.st_gid), status.st_mode & 0o7777
        should, bits = f"{wanted['owner']}:{wanted['group']}", int(wanted["mode"], 8)
        if (owner, mode) != (should, bits):
            leaks = mode & ~bits & 0o077
            yield error(
                f"{path} is {owner} {mode:04o}, and should be {should} {bits:04o}.",
                "Others on this host can read or change it, and what it holds is no secret any "
                "more." if leaks else "The service may not be able to use it.",
                give(Path(path), should, f"{bits:04o}")
                + ("; then think of changing what it holds" if leaks and path.endswith(
                    (".env", ".ini", "password", ".key")) else ""),
            )  # fmt: skip
        content = wanted.get("sha256")
        if content and not path.startswith("/etc/systemd/"):
            if hashlib.sha256(Path(path).read_bytes()).hexdigest() != content:
                yield strange(path, p)
    there = INSTALLED.resolve()
    if INSTALLED.exists() and (str(there) != p["tools"] or installed.digest(there) != there.name):
        yield strange(INSTALLED, p)
