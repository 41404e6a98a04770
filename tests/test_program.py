"""The module ops.mlflow.program: what it returns of a program, and how it starts one."""

import hashlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
SECRET = "canary-1f7c93"  # noqa: S105
NOBODY = pwd.getpwnam("nobody")

# As the package's: it is told a name and arguments.
PROGRAMS = """
import hashlib, json, os, sys, time
name, *arguments = sys.argv[1:]
given = sys.stdin.read()
if name == "tells":
    print("It begins.")
    print(json.dumps({
        "arguments": arguments, "given": hashlib.sha256(given.encode()).hexdigest(),
        "user": os.getuid(), "group": os.getgid(), "groups": os.getgroups(), "cwd": os.getcwd(),
        "kept": sorted({"PGPASSWORD", "HTTPS_PROXY"} & {*os.environ}),
        "home": os.environ["HOME"], "name": os.environ.get("USER"), "locale": os.environ["LC_ALL"],
        "isolated": [sys.flags.ignore_environment, sys.flags.no_user_site],
        "bytecode": not sys.flags.dont_write_bytecode,
    }))
elif name == "writes":
    open(arguments[0], "w").close()
    print(json.dumps({"wrote": True}))
elif name == "talks":
    print("No document, but words.")
elif name == "repeats":
    print(json.dumps({"said": given}))
    sys.exit("It was told " + given)
elif name == "refuses":
    print(json.dumps({"phase": "begun"}))
    sys.exit("The disk is full.\\nFree some room.")
elif name == "breaks":
    {}["the last line"]
elif name == "is mute":
    sys.exit(3)
elif name == "goes on":
    open(arguments[0], "w").write("a half of it\\n")
    time.sleep(4)
    print(json.dumps({"done": True}))
elif name == "is ended":
    os.kill(0, 9)  # with whoever started it
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory of programs that all users can read."""
    with TemporaryDirectory() as path:
        (Path(path) / "programs").mkdir()
        (Path(path) / "programs/__main__.py").write_text(PROGRAMS)
        Path(path).chmod(0o755)
        yield Path(path)


# name: how the module is asked, besides `directory` and `python`
ASKED: dict[str, dict[str, Any]] = {
    "answers": {"name": "tells", "arguments": ["a b", "$HOME", "-x"], "stdin": "{{ secret }}"},
    "only looks": {"name": "tells", "changes": False},
    "writes": {"name": "writes"},  # which file, `run` says
    "writes only what may be": {"name": "writes", "changes": False},
    "says no document": {"name": "talks"},
    "says nothing": {"name": "silent"},
    "refuses": {"name": "refuses"},
    "refuses with its own end": {"name": "refuses", "otherwise": "The service runs on."},
    "may refuse": {"name": "refuses", "may_fail": True},
    "breaks": {"name": "breaks"},
    "is mute": {"name": "is mute", "changes": False},
    "repeats a secret": {"name": "repeats", "stdin": "{{ secret }}", "changes": False},
    "is not there": {"name": "tells", "python": "/nowhere/python3", "changes": False},
    "may not be there": {"name": "tells", "python": "/nowhere/python3", "may_fail": True},
    "for nobody": {"name": "tells", "user": "no-such-user", "changes": False},
    "tells how far it is": {"name": "goes on"},  # into which file, `run` says
    "is ended from outside": {"name": "is ended"},
    "as itself": {"name": "tells", "user": pwd.getpwuid(os.geteuid()).pw_name, "changes": False},
}
if os.geteuid() == 0:
    ASKED["as another"] = {
        "name": "tells", "user": "nobody", "python": "/usr/bin/python3", "changes": False,
        "stdin": "{{ secret }}",
    }  # fmt: skip


def run(folder: Path, *arguments: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Ask all that is in ASKED, in one run; return what came of each, and all that was said."""
    tasks: list[dict[str, Any]] = []
    for number, (name, asked) in enumerate(ASKED.items()):
        asked = {"directory": f"{folder}/programs", "python": sys.executable, **asked}
        if asked["name"] == "writes":
            asked["arguments"] = [f"{folder}/{name}"]
        if asked["name"] in ("goes on", "is ended"):
            asked["progress"] = f"{folder}/{name}"
            asked["arguments"] = [asked["progress"]]
        tasks.append({
            "ops.mlflow.program": asked, "register": f"found{number}", "ignore_errors": True,
        })  # fmt: skip
    all_of_it = ", ".join(f"found{number}" for number in range(len(ASKED)))
    tasks.append({
        "ansible.builtin.copy": {
            "content": f"{{{{ [{all_of_it}] | to_json }}}}", "dest": f"{folder}/found.json",
        },
        "check_mode": False, "no_log": True,
    })  # fmt: skip
    play = {
        "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks,
        "vars": {"ansible_python_interpreter": sys.executable},
    }  # fmt: skip
    (folder / "playbook.yml").write_text(yaml.safe_dump([play]))
    given = (
        folder / "given.yml"
    )  # the secret's own: Ansible shows the lines of a playbook that fail
    given.write_text(yaml.safe_dump({"secret": SECRET}))
    given.chmod(0o600)
    done = subprocess.run(
        [ANSIBLE, "-vvv", "-i", "localhost,", folder / "playbook.yml", "-e", f"@{given}",
         *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PGPASSWORD": "of root's shell", "HTTPS_PROXY": "http://proxy:3128"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "found.json").read_text())
    return dict(zip(ASKED, found, strict=True)), done.stdout + done.stderr


Ran = tuple[dict[str, dict[str, Any]], str]


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """What came of each, and what Ansible told with -vvv."""
    return run(folder)


def test_what_it_answers(ran: Ran) -> None:
    """Its last line is a document; it has arguments as they are, and no module of anybody else."""
    found = ran[0]["answers"]
    assert found["changed"] and not found["failed"] and found["problem"] == ""
    assert found["stdout"].startswith("It begins.\n{")
    answer = found["answer"]
    assert answer["arguments"] == ["a b", "$HOME", "-x"]
    assert answer["given"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert answer["user"] == os.geteuid() and answer["cwd"] == "/"
    assert answer["locale"] == "C.UTF-8"
    assert answer["isolated"] == [1, 1] and not answer["bytecode"]
    assert not ran[0]["only looks"]["changed"] and ran[0]["only looks"]["answer"]["user"] >= 0


def test_what_is_no_document(ran: Ran) -> None:
    found = ran[0]["says no document"]
    assert (found["answer"], found["stdout"]) == ({}, "No document, but words.\n")
    assert not found["failed"]
    found = ran[0]["says nothing"]
    assert (found["answer"], found["stdout"], found["failed"]) == ({}, "", False)


def test_why_it_failed(ran: Ran) -> None:
    """In its own words; of a traceback the last line; and then what is as it was."""
    found = ran[0]["refuses"]
    assert found["failed"]
    assert found["msg"] == "The disk is full.\nFree some room.\nNothing was changed."
    assert found["problem"] == "The disk is full.\nFree some room."
    assert found["answer"] == {"phase": "begun"}
    found = ran[0]["refuses with its own end"]
    assert found["msg"] == "The disk is full.\nFree some room.\nThe service runs on."
    assert ran[0]["breaks"]["msg"] == "KeyError: 'the last line'\nNothing was changed."
    assert ran[0]["is mute"]["msg"] == "It said nothing.\nNothing was changed."


def test_a_failure_that_somebody_sees_to(ran: Ran) -> None:
    """It is told, and ends nothing."""
    found = ran[0]["may refuse"]
    assert not found["failed"] and "msg" not in found
    assert found["problem"] == "The disk is full.\nFree some room."
    assert found["answer"] == {"phase": "begun"}
    found = ran[0]["may not be there"]
    assert not found["failed"] and found["problem"].startswith("tells cannot be run: ")


def test_how_far_it_is(ran: Ran) -> None:
    """It is shown while the program works; the answer is as any other."""
    results, said = ran
    found = results["tells how far it is"]
    assert found["answer"] == {"done": True} and found["changed"] and not found["failed"]
    assert "localhost: a half of it\n" in said
    assert not {"ansible_job_id", "finished"} & found.keys()


def test_it_is_ended_from_outside(ran: Ran) -> None:
    """With all that would tell of its end: nobody waits for that."""
    found = ran[0]["is ended from outside"]
    assert found["failed"] and found["problem"].startswith("It was ended from outside.")
    assert found["answer"] == {}


def test_what_cannot_be_started(ran: Ran) -> None:
    """One sentence, and no traceback of the module."""
    for name, why in ("is not there", "/nowhere/python3"), ("for nobody", "no-such-user"):
        found = ran[0][name]
        assert found["failed"] and found["answer"] == {}
        assert found["msg"].startswith("tells cannot be run: ") and why in found["msg"]
        assert found["msg"].endswith("\nNothing was changed.")
        assert "Traceback" not in json.dumps(found)


def test_no_secret_is_told(ran: Ran) -> None:
    """Not what it was asked, nor what the program repeats of it; even with -vvv."""
    results, said = ran
    for name in ("answers", "repeats a secret"):
        assert SECRET not in json.dumps(results[name])
    assert "It was told ********" in results["repeats a secret"]["msg"]
    assert "stdin: VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in said and SECRET not in said


def test_as_itself(ran: Ran) -> None:
    """A user who is who she is needs no right to become her."""
    answer = ran[0]["as itself"]["answer"]
    me = pwd.getpwuid(os.geteuid())
    assert (answer["user"], answer["name"], answer["home"]) == (me.pw_uid, me.pw_name, me.pw_dir)
    assert answer["kept"] == ["HTTPS_PROXY", "PGPASSWORD"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_as_another_user(ran: Ran) -> None:
    """With her groups and her home, and none of root's."""
    answer = ran[0]["as another"]["answer"]
    assert (answer["user"], answer["group"]) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert {*answer["groups"]} == {*os.getgrouplist("nobody", NOBODY.pw_gid)}
    assert (answer["name"], answer["home"]) == ("nobody", NOBODY.pw_dir)
    assert answer["kept"] == ["HTTPS_PROXY"]
    assert answer["given"] == hashlib.sha256(SECRET.encode()).hexdigest()


def test_check_mode(ran: Ran, folder: Path) -> None:
    """What may change something is not run, and counts as a change; what only looks is run."""
    files = [folder / name for name in ("writes", "writes only what may be")]
    for file in files:
        assert file.exists()
        file.unlink()
    results, _ = run(folder, "--check")
    assert [file.exists() for file in files] == [False, True]
    found = results["writes"]
    assert found["changed"] and not found["failed"]
    assert (found["answer"], found["problem"], found["stdout"]) == ({}, "", "")
    for name in ("refuses", "breaks"):
        assert results[name]["changed"] and not results[name]["failed"]
    found = results["writes only what may be"]
    assert not found["changed"] and found["answer"] == {"wrote": True}
    assert results["is mute"]["failed"]
