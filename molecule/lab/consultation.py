"""The doctor as the playbook asks it, to be asked again directly: a second each, not five.

What the playbook sent to a host is taken from what Ansible says of it, so that a test looks with
just the questions that people's runs have.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Finding = dict[str, str]


@dataclass(frozen=True)
class Look:
    """One look of the playbook at one host: what was asked, and what came of it."""

    host: str
    kind: str
    asked: dict[str, Any]
    report: dict[str, Any]


# What looks again: the package, which is not on every host, from the first line of its input; what
# the playbook asks, from the second; and what a test asks otherwise.
AGAIN = """
import importlib.abc, importlib.util, json, sys
sources, asked, otherwise = map(json.loads, sys.stdin)
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        for file in (name.replace(".", "/") + "/__init__.py", name.replace(".", "/") + ".py"):
            if file in sources:
                package = file.endswith("__init__.py")
                return importlib.util.spec_from_loader(name, self, origin=file, is_package=package)
    def get_source(self, name):
        file = name.replace(".", "/")
        return sources.get(file + ".py") or sources[file + "/__init__.py"]
    def exec_module(self, module):
        module.__file__ = "/sent/" + module.__spec__.origin
        exec(compile(sources[module.__spec__.origin], module.__file__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from mlflow_ops import doctor
print(json.dumps(doctor.examine({**doctor.of_record(asked), **otherwise})))
"""
SOURCES = {
    path.relative_to(ROOT / "src").as_posix(): path.read_text()
    for path in (ROOT / "src/mlflow_ops").rglob("*.py")
}


@dataclass(frozen=True)
class Case:
    """Something to break on a host, and the words by which the doctor must name it.

    Attributes:
        words: parts of what it says.
        harm: a script, run by root, that breaks it.
        mend: ... and one that takes it back.
        kind: who sees it: `host`, or `client`.
        severity: how bad it is.
        asked: what the doctor is told otherwise than by the playbook.
        before: what the shell runs before it, for a client's environment.
        elsewhere: whether it is broken on another host than that which looks.
    """

    words: list[str] = field(default_factory=list)
    harm: str = "true"
    mend: str = "true"
    kind: str = "host"
    severity: str = "error"
    asked: dict[str, Any] = field(default_factory=dict)
    before: str = "true"
    elsewhere: bool = False


def consult(command: list[str]) -> list[Look]:
    """Run the playbook, see that it finds nothing wrong, and return its looks."""
    done = subprocess.run(
        ["env", "ANSIBLE_STDOUT_CALLBACK=ansible.posix.json", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)
    looks = []
    for play in json.loads(done.stdout[done.stdout.index("{") :])["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                sent = (result.get("invocation") or {}).get("module_args", {})
                if task["task"]["name"].endswith("Look at everything that could be wrong"):
                    report = {name: result[name] for name in ("looked", "unseen", "findings")}
                    looks.append(Look(host, sent["kind"], sent, report))
    return looks


def findings(ops: Callable[[str], str], look: Look, case: Case, person: str) -> list[Finding]:
    """Break something, look again as the one who looked, and take it back; in one SSH connection.

    Args:
        ops: a shell of somebody with sudo.
        look: the playbook's.
        case: what to break.
        person: who a client is.

    Returns:
        What the doctor says.
    """
    said = ops(f"""mend() {{
sudo sh -eu <<'END_OF_MEND'
{case.mend}
END_OF_MEND
}}
trap 'mend || exit 99' EXIT
sudo sh -eu <<'END_OF_HARM' >/dev/null
{case.harm}
END_OF_HARM
sudo --login --user {"root" if look.kind == "host" else person} sh <<'END_OF_LOOK'
{case.before}
python3 -I -c {shlex.quote(AGAIN)} <<'END_OF_STDIN'
{json.dumps(SOURCES)}
{json.dumps(look.asked)}
{json.dumps(case.asked)}
END_OF_STDIN
END_OF_LOOK
""")
    return list(json.loads(said.splitlines()[-1])["findings"])


def serious(found: Iterable[Finding]) -> list[Finding]:
    """Return what is wrong, or will be; not what is merely said."""
    return [finding for finding in found if finding["severity"] != "note"]


def see_named(found: list[Finding], case: Case) -> None:
    """See that one finding has all the words, the severity, and says what to do."""
    texts = [
        " ".join([finding["what"], finding["means"], finding["remedy"]])
        for finding in found
        if finding["severity"] == case.severity and finding["means"] and finding["remedy"]
    ]
    assert any(all(word in text for word in case.words) for text in texts), found
    assert not [finding for finding in found if "could not look at this" in finding["what"]], found
