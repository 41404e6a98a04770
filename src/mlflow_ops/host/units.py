"""What systemd says of its units, and whether they have read what was changed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import TypedDict

PROPERTIES = (
    "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload",
    "ExecMainStartTimestamp", "ActiveEnterTimestamp", "StateChangeTimestamp",
)  # fmt: skip
SECONDS = 20  # in which systemd answers

# In a unit that nobody may reach, not even itself.
REACH = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), 1)
"""


class Unit(TypedDict, total=False):
    """What a unit reads.

    Attributes:
        reads: files, and links by themselves; directories among them are passed over, since their
            time is that of the data in them.
        at: when it reads them: `start`, or `reload`, at a start and at each reload.
    """

    reads: list[str]
    at: str


class State(TypedDict):
    """What systemd says of a unit.

    Attributes:
        state: ActiveState: active, activating, inactive, failed ...; '' where nobody says.
        active: whether it is active.
        enabled: whether it will run after the next boot.
        runs: both of these.
        unit_changed: whether its own files were changed, and systemd has not read them.
        unread: whether it is active, and what it reads was changed since it last read it.
    """

    state: str
    active: bool
    enabled: bool
    runs: bool
    unit_changed: bool
    unread: bool


def show(
    names: Sequence[str], properties: Sequence[str], times: str = "unix"
) -> list[dict[str, str]]:
    """Return what systemd says of units, one after another.

    Args:
        names: of units, or patterns, each of which stands for those of such a name that are loaded.
        properties: what is asked for, by systemd's own names.
        times: how a moment is told: `unix`, @ and seconds since 1970, or `pretty`, for people.

    Raises:
        OSError, subprocess.SubprocessError: systemd does not say.
    """
    wanted = [f"--timestamp={times}", f"--property={','.join(properties)}"]
    said = subprocess.run(
        ["systemctl", "show", *wanted, "--", *names],
        capture_output=True, text=True, errors="replace", timeout=SECONDS, check=True,
    ).stdout  # fmt: skip
    return [properties_of(part) for part in said.split("\n\n") if part.strip()]


def properties_of(paragraph: str) -> dict[str, str]:
    """Return what is said of one unit. A property with several values has a line for each."""
    found: dict[str, str] = {}
    for line in paragraph.strip().splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def ask(name: str, *properties: str, times: str = "unix") -> dict[str, str]:
    """Return what systemd says of a unit; '' for each property that it does not tell."""
    try:
        told = show([name], properties, times)
    except (OSError, subprocess.SubprocessError):
        told = []
    return {**dict.fromkeys(properties, ""), **(told[0] if told else {})}


def changed(paths: Sequence[str]) -> int:
    """Return when the newest of some files was changed, in seconds since 1970; 0 of none.

    Of a link it is also when the link was set: it may lead to an older file than before.
    """
    times = [os.lstat(path).st_mtime for path in paths if os.path.islink(path)]
    times += [os.stat(path).st_mtime for path in paths if os.path.isfile(path)]
    return int(max(times, default=0))


def moment(said: dict[str, str], *names: str) -> int:
    """Return the first of some properties that tells a moment, in seconds since 1970, or 0."""
    return next((int(said[name].lstrip("@")) for name in names if said.get(name)), 0)


def state(unit: Unit, said: dict[str, str]) -> State:
    """Return a unit's state from what systemd said of it.

    A run that was killed has changed files, and told neither the unit nor systemd of it.
    """
    started = ("ExecMainStartTimestamp", "ActiveEnterTimestamp")  # a timer has the second alone
    read = moment(said, *(("StateChangeTimestamp",) if unit.get("at") == "reload" else started))
    active = said.get("ActiveState") == "active"
    enabled = said.get("UnitFileState") == "enabled"
    return {
        "state": said.get("ActiveState", ""),
        "active": active,
        "enabled": enabled,
        "runs": active and enabled,
        "unit_changed": said.get("NeedDaemonReload") == "yes",
        "unread": active and changed(unit.get("reads", [])) > read,
    }


def states(units: Mapping[str, Unit]) -> dict[str, State]:
    """Return the state of each unit, by its name. systemd is asked once for all."""
    try:
        told = show(list(units), PROPERTIES) if units else []
    except (OSError, subprocess.SubprocessError):
        told = []
    if len(told) != len(units):
        told = [{} for _ in units]
    return {name: state(units[name], told[number]) for number, name in enumerate(units)}


def start(name: str, verb: str = "start", first: str = "", noise: str = "") -> str:
    """Start a unit, or restart it, for somebody who asked; return why that did not work, or ''.

    systemd counts starts, whoever asks for them, and refuses one too many as if the service had
    crashed so often (StartLimitBurst). What is asked for is no crash: the count begins anew.

    Args:
        name: the unit.
        verb: `start`, `restart`, or another of systemctl's.
        first: of the words of its journal, those that come first, a regular expression.
        noise: those that are left out, a regular expression.

    Raises:
        OSError: there is no systemctl.
    """
    subprocess.run(["systemctl", "reset-failed", "--", name], capture_output=True, check=False)
    before = ask(name, "InvocationID")
    done = subprocess.run(
        ["systemctl", verb, "--", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    return last_words(name, before, done.stdout, first, noise) if done.returncode else ""


def last_words(
    name: str, before: dict[str, str], said: str, first: str = "", noise: str = ""
) -> str:
    """Return why a start did not work.

    Where systemd refused it, the journal has a start before this one, which may have been a good
    one: then it is what systemctl said.

    Args:
        name: the unit.
        before: its InvocationID before the start, as `ask` tells it.
        said: what systemctl said.
        first: see `start`.
        noise: see `start`.
    """
    now = ask(name, "InvocationID")
    if now == before:
        return said.strip()
    read = ["journalctl", "--quiet", "--no-pager", "--output=cat",
            f"_SYSTEMD_INVOCATION_ID={now['InvocationID']}"]  # fmt: skip
    parts = [[f"--grep={first}", "--lines=1"]] if first else []
    lines: list[str] = []
    for part in [*parts, ["--lines=300"]]:
        told = subprocess.run([*read, *part], capture_output=True, check=False)
        heard = told.stdout.decode(errors="replace").splitlines()
        lines += [line for line in heard if not (noise and re.match(noise, line))][-30:]
    return "\n".join(lines).strip() or said.strip()


def keeps_addresses() -> bool:
    """Return whether systemd really keeps addresses from a unit. Where it cannot, it goes on."""
    alone = ["systemd-run", "--quiet", "--wait", "--collect", "--property=IPAddressDeny=any"]
    try:
        return subprocess.call([*alone, "/usr/bin/python3", "-I", "-c", REACH]) != 0
    except OSError:
        return False


def main_process_ended() -> bool:
    """Tell whether the main process, which systemd names at a start, is gone already."""
    try:
        os.kill(int(os.environ.get("MAINPID", "0")), 0)
    except ProcessLookupError:
        return True
    return False
