"""The role smoke: what each part is told, what it says, and what follows from it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as Ansible finds plugins: by the collection's own root
from plugins.plugin_utils import smoke  # noqa: E402

USERS = {"a": ["smoke-a-0123", "a's password"], "b": ["smoke-b-0123", "b's password"]}
ASKED: dict[str, Any] = {
    "scenario": "scenario3", "part": "see", "python": "/env/bin/python", "addresses": [],
    "arguments": [], "keep": False, "told": [],
}  # fmt: skip
# As a host's own Python: it runs no smoke, but says what one would, and notes what it was told.
PYTHON = f"""#!{sys.executable}
import json, os, pathlib, sys
arguments = sys.argv[sys.argv.index("apart") + 1:]
part = next(word for word in arguments if word in "access begin log see look end".split())
told = [json.loads(line) for line in sys.stdin.read().splitlines()[1:]]
with open(os.environ["NOTES"], "a") as notes:
    print(json.dumps([os.environ["ON"], part, arguments, told]), file=notes)
last = part == "look" and told[0].get("part") == "end"
if part == os.environ["BROKEN"] or (last and os.environ["BROKEN"] == "last look"):
    sys.exit(f"{{part}} cannot.")
said = {{"scenario": "scenario3", "passed": True, "exit_code": 0, "part": part}}
if part == "access":
    said = {{"passed": True, "administrator": ["admin", "her password"]}}
elif part == "begin":
    said["users"] = {USERS}
elif part == "end":
    lost = [each for each in told if "lost" in each]
    said |= {{"passed": not lost, "table": ["a table"], "failure": json.dumps(lost), "seconds": 7}}
    said |= {{"token": "7"}} if any(each.get("part") == "begin" for each in told) else {{}}
elif last:
    said = {{**told[0], "part": "look", "table": [*told[0]["table"], "the last word"]}}
print("for people", file=sys.stderr)
print(json.dumps(said))
"""


class Hosts:
    """A server and two clients, and what was run there.

    Attributes:
        notes: of each part that ran: where, which, with what arguments, and what it was told.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.notes = folder, list[list[Any]]()
        (folder / "python3").write_text(PYTHON)
        (folder / "python3").chmod(0o755)

    def play(self, broken: str = "", code: int = 0, **extra: Any) -> str:
        """Run the role on the clients, and return what that says, each run of space as one."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
                 "ansible_become": False}  # fmt: skip
        hosts = {"all": {"hosts": dict.fromkeys(["server", "cl1", "cl2"], local)}}
        variables = {
            "smoke_scenario": "scenario3", "smoke_python": "/env/bin/python",
            "smoke_server": "server", "smoke_addresses": ["https://m.example.com"],
        }  # fmt: skip
        environment = {
            "PATH": f"{self.folder}:/usr/bin:/bin", "ON": "{{ inventory_hostname }}",
            "NOTES": f"{self.folder}/notes", "BROKEN": broken,
        }  # fmt: skip
        play = {
            "hosts": "cl1,cl2", "gather_facts": False, "roles": ["smoke"], "vars": variables,
            "environment": environment,
            "post_tasks": [{"ansible.builtin.debug": {"msg": "{{ smoke_summary }}"}}],
        }  # fmt: skip
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        command: list[str | Path] = [
            Path(sys.executable).with_name("ansible-playbook"), "-i", self.folder / "hosts.yml",
            self.folder / "play.yml", "-e", json.dumps(extra),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        notes = self.folder / "notes"
        if notes.exists():
            self.notes = [json.loads(line) for line in notes.read_text().splitlines()]
        assert done.returncode == code, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Hosts on which nothing has run yet."""
    return Hosts(tmp_path)


def test_each_part_runs_where_it_must_and_knows_no_more_than_it_needs(hosts: Hosts) -> None:
    said = hosts.play()
    assert (
        "a table" in said
        and "the last word" in said
        and "in 7 s: run" in said
        and "password" not in said
    )
    assert sorted(note[1] for note in hosts.notes) == [
        "access", "begin", "end", "log", "look", "look", "see", "see"
    ]  # fmt: skip
    for _, part, arguments, told in hosts.notes:
        text = json.dumps(told)
        knows = {word for word in ("a's", "b's", "her") if f"{word} password" in text}
        assert knows == {"begin": {"her"}, "log": {"a's"}, "see": {"b's"},
                         "end": {"a's", "b's", "her"}}.get(part, set()), part  # fmt: skip
        assert ("--python" in arguments) == (part not in ("access", "look"))
        if part != "access":
            assert arguments[arguments.index("--address") + 1] == "https://m.example.com"
    [end] = [note[3] for note in hosts.notes if note[1] == "end"]
    assert [each.get("part") for each in end] == [None, "begin", "log", "see", "see", "look"]
    assert {note[0] for note in hosts.notes if note[1] == "see"} == {"cl1", "cl2"}


@pytest.mark.parametrize(
    ("broken", "ran"),
    [("access", "access end"), ("see", "access begin end log look look see see")],
)
def test_a_part_that_cannot_start_is_named_and_the_rest_is_removed(
    broken: str, ran: str, hosts: Hosts
) -> None:
    said = hosts.play(broken, code=2)
    assert sorted(note[1] for note in hosts.notes) == ran.split()
    [lost] = [[each["lost"] for each in note[3] if "lost" in each]
              for note in hosts.notes if note[1] == "end"]  # fmt: skip
    assert lost == {"access": ["access on server"], "see": ["see on cl1", "see on cl2"]}[broken]
    assert f"{broken} cannot." in said and "Look at its Python" in said
    assert "Traceback" not in said and "password" not in said


def test_a_last_word_that_is_missing_is_no_success(hosts: Hosts) -> None:
    said = hosts.play("last look", code=2)
    assert "a table" in said
    assert "What the smoke has deleted may still have rows: look cannot." in said


def test_one_that_says_nothing_at_the_end_is_answered(hosts: Hosts) -> None:
    said = hosts.play("end", code=2)
    assert "end cannot. The smoke could not start. Look at smoke_python, /env/bin/python" in said


def test_variables_that_are_gone_are_refused(hosts: Hosts) -> None:
    said = hosts.play(code=2, smoke_server_user="ada")
    assert "smoke_server_user is set" in said and "mlflow_server_user sets it" in said
    assert not hosts.notes


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "1", '{"a": ' + "9" * 5000 + "}", '{"a": "\\ud800"}',
             '{"a": ' + "[" * 90_000 + "]" * 90_000 + "}", '{"a": ' + "[" * 90 + "]" * 90 + "}"]
)  # fmt: skip
def test_what_no_program_can_read_is_no_report(line: str) -> None:
    """A model may have written it."""
    said = smoke.answer(ASKED, {"rc": 0, "stdout": f"x\n{line}", "stderr": "a\nb"}, "cl1")
    assert (said["passed"], said["report"], said["lines"]) == (False, {}, ["a", "b"])
    assert said["handed_on"]["lost"] == "see on cl1" and said["handed_on"]["said"] == "a\nb"
    assert "/env/bin/python" in said["handed_on"]["advice"]


def test_one_that_could_not_start_says_why() -> None:
    gone = {"rc": 2, "msg": "[Errno 2] No such file or directory: b'python3'", "failed": True}
    said = smoke.answer({**ASKED, "part": "look"}, gone, "server")
    assert said["lines"] == [gone["msg"]] and "failed" not in said
    assert "installation.json" in said["handed_on"]["advice"]


@pytest.mark.parametrize(("code", "passed"), [(0, False), (3, True), (3, False)])
def test_what_has_not_passed_has_not_passed(code: int, passed: bool) -> None:
    report = {"scenario": "scenario3", "passed": passed}
    said = smoke.answer(ASKED, {"rc": code, "stdout": json.dumps(report)}, "cl1")
    assert not said["passed"] and said["handed_on"] == said["report"] == report
    assert said["lines"] == []  # what is for programs may be secret


def test_the_smoke_that_is_sent_runs(tmp_path: Path) -> None:
    """Of scenario 1, as its person."""
    arguments = ["--project", f"{tmp_path}/nowhere"]
    asked = {**ASKED, "scenario": "scenario1", "part": "", "python": sys.executable,
             "arguments": arguments, "keep": True}  # fmt: skip
    done = subprocess.run(
        smoke.command(asked), input=smoke.read(asked), capture_output=True, text=True, check=False
    )
    ran = {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    said = smoke.answer(asked, ran, "localhost")
    assert said["report"]["exit_code"] == done.returncode == 3
    assert said["lines"] == done.stderr.splitlines() and "nowhere/activate" in done.stderr
    assert smoke.command(asked)[-1] == "--keep"
