"""What a look at a host tells: of real files, sockets and links, made by the tests."""

import hashlib
import os
import pwd
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import written

from mlflow_ops import host, installation
from mlflow_ops.host import accounts, files, machine, mlflow, nginx, ports, units, ways

ME = pwd.getpwuid(os.getuid()).pw_name
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is others'")


# A question ---------------------------------------------------------------------------------------


def test_what_nobody_asks_for_is_not_looked_for() -> None:
    """Who looks, and what runs the host: that is told in any case, and nothing else."""
    assert host.look({}).keys() == {"root", "systemd", "pid1", "ipv6"}
    assert host.look({})["root"] == (os.geteuid() == 0)


def test_every_question_has_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that plugins/modules/host_look.py describes."""
    question = {
        "about": "s1", "contents": [], "databases": [], "environments": [], "files": [],
        "free": [str(tmp_path / "not/there/yet")], "installation": True, "keeps_addresses": False,
        "keeps": {"owner": "project", "file": "/-", "wanted": {}}, "machine": True,
        "nginx": True, "packages": [], "pairs": [], "paths": [], "ports": [],
        "python_modules": ["json", "no_such"],
        "resolve": ["https://localhost:5000", "https://[2001:db8::7]/", "https://team.invalid"],
        "texts": [], "tools": "/usr/local/lib/mlflow/current", "units": {},
        "users": [ME, "nobody-of-that-name"], "ways": {},
    }  # fmt: skip
    assert question.keys() == host.ANSWERS.keys()
    here = written(monkeypatch, tmp_path, user=ME)
    found = host.look(question)
    module = Path(host.__file__).parents[3] / "plugins/modules/host_look.py"
    told = module.read_text().partition("RETURN")[2]
    for name in found:
        assert f"\n{name}:\n" in told, name
    for name in question:
        assert f"- C({name})," in module.read_text(), name
    assert found["free_mb"][str(tmp_path / "not/there/yet")] > 0
    assert found["python_modules"] == {"json": True, "no_such": False}
    assert found["users"]["nobody-of-that-name"] == {"exists": False, "person": False}
    assert found["users"][ME]["exists"]
    assert found["keeps_addresses"]
    assert found["unresolved"] == ["team.invalid"]
    assert found["installation"] == here.facts() and here.user == ME


def test_without_a_record_there_is_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who asks is told."""
    written(monkeypatch, tmp_path)
    (tmp_path / "installation.json").unlink()
    assert host.look({"installation": True})["installation"] == {}
    assert "installation" not in host.look({"installation": False})


def test_a_wrong_question_is_answered_with_what_can_be_asked() -> None:
    """One sentence, for who writes a role."""
    with pytest.raises(host.UnknownQuestion, match=r"answer unit; .* units"):
        host.look({"unit": "nginx.service"})


# Files --------------------------------------------------------------------------------------------


def wanted(like: Path, **more: str) -> files.Wanted:
    """Return how a file should be: just as it is, but for what is said."""
    status = like.lstat()
    own: files.Wanted = {
        "path": str(like),
        "owner": accounts.user_name(status.st_uid),
        "group": accounts.group_name(status.st_gid),
        "mode": f"{status.st_mode & 0o7777:04o}",
    }
    return {**own, **more}  # type: ignore[typeddict-item]


def test_a_file_is_in_order_as_it_should_be(tmp_path: Path) -> None:
    """Owner, group, mode and content all count; a directory has no content."""
    file = tmp_path / "mlflow.conf"
    file.write_text("content")
    digest = hashlib.sha256(b"content").hexdigest()
    for good in (wanted(file), wanted(file, sha256=digest), wanted(file, sha256="")):
        assert files.as_wanted(good)
    for bad in (
        wanted(file, owner="daemon"),
        wanted(file, owner="nobody-of-that-name"),
        wanted(file, group="daemon"),
        wanted(file, mode="0640"),
        wanted(file, sha256=digest[::-1]),
        wanted(tmp_path, sha256=digest),
        wanted(file, path=str(tmp_path / "absent")),
    ):
        assert not files.as_wanted(bad), bad
    assert files.as_wanted(wanted(tmp_path))


def test_only_what_is_in_order_has_a_digest(tmp_path: Path) -> None:
    """Whatever it says: where owner or mode are wrong, it is to be written."""
    good, bad, absent = (tmp_path / name for name in ("good", "bad", "absent"))
    for file in (good, bad):
        file.write_text("content")
    asked = [wanted(good), wanted(bad, mode="0600"), wanted(good)]
    asked[2]["path"] = str(absent)
    for one in asked:
        one["digest"] = True
    said = files.in_order([*asked, wanted(tmp_path)])
    digest = hashlib.sha256(b"content").hexdigest()
    assert said["digests"] == {str(good): digest, str(bad): "", str(absent): ""}
    assert said["amiss"] == [str(bad), str(absent)]
    assert said["absent"] == [str(absent)]


@ROOT_ONLY
def test_a_link_of_another_leads_root_nowhere(tmp_path: Path) -> None:
    """With the rights of whoever may have put it there, and of the link itself."""
    user = pwd.getpwnam("daemon")
    tmp_path.chmod(0o755)
    for parent in [*tmp_path.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    hers, secret = tmp_path / "hers", tmp_path / "secret"
    for directory, owner in ((hers, user.pw_uid), (secret, 0)):
        directory.mkdir(0o700)
        os.chown(directory, owner, user.pw_gid)
        (directory / "inner").mkdir()
    (hers / "link").symlink_to("inner")
    (hers / "away").symlink_to(secret)
    assert files.as_wanted(wanted(hers / "inner", by="daemon"))
    for real, path in ((hers / "inner", hers / "link"), (secret / "inner", hers / "away/inner")):
        assert files.as_wanted(wanted(real, path=str(path)))
        assert not files.as_wanted(wanted(real, path=str(path), by="daemon"))
    assert os.geteuid() == 0


def test_what_is_at_a_path(tmp_path: Path) -> None:
    """A link is seen through, and its target told; a pipe is neither file nor directory."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("to file", "file"), ("to nothing", "nowhere")):
        (tmp_path / name).symlink_to(target)
    expected = {
        ".": ("directory", ""), "file": ("file", ""), "pipe": ("other", ""),
        "absent": ("absent", ""), "to file": ("file", "file"), "to nothing": ("absent", "nowhere"),
    }  # fmt: skip
    found = files.places([str(tmp_path / name) for name in expected])
    for name, (kind, link) in expected.items():
        owner = "" if name == "absent" else ME
        place = {"kind": kind, "link": link, "owner": owner, "led": {}}
        assert found[str(tmp_path / name)] == place


def test_the_first_link_on_the_way_is_told(tmp_path: Path) -> None:
    """Of those below a directory; be it the path itself."""
    (tmp_path / "real/artifacts").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/again").symlink_to("artifacts")
    ways = {"real/artifacts": "", "link/again": "link", "real/again": "real/again"}
    for way, link in ways.items():
        path = str(tmp_path / way)
        [found] = files.places([{"path": path, "below": str(tmp_path)}]).values()
        assert found["led"].get("path", "") == (str(tmp_path / link) if link else "")
    [found] = files.places([{"path": path, "below": "/elsewhere"}]).values()
    assert found["led"] == {}


@ROOT_ONLY
def test_what_its_user_cannot_see_is_hidden(tmp_path: Path) -> None:
    """Though root looks."""
    for parent in [tmp_path, *tmp_path.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    (tmp_path / "closed").mkdir(0o700)
    path = tmp_path / "closed/mlflow.db"
    path.touch()
    [found] = files.places([{"path": str(path), "by": "daemon"}]).values()
    assert (found["kind"], found["owner"]) == ("hidden", "")
    assert files.database({"path": str(path), "by": "daemon"}) == "hidden"
    assert files.places([str(path)])[str(path)]["owner"] == "root"
    path = tmp_path / "private.db"
    path.touch(0o600)
    assert files.database({"path": str(path), "by": "daemon"}) == "hidden"


def test_what_a_database_is(tmp_path: Path) -> None:
    """Only SQLite's own file is one, or one that is still empty."""
    made = sqlite3.connect(tmp_path / "sqlite")
    made.execute("create table t (c)")
    made.close()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("SQLite format 4")
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "sqlite": "sqlite", "empty": "empty", "text": "other", "pipe": "other", ".": "other",
        "absent": "absent",
    }  # fmt: skip
    for name, kind in expected.items():
        assert files.database({"path": str(tmp_path / name)}) == kind


def test_contents_are_told_to_the_letter(tmp_path: Path) -> None:
    """Of what is there; with a space at the end, too."""
    (tmp_path / "file").write_text(" a secret \n")
    asked = [str(tmp_path / name) for name in ("file", "absent", ".")]
    assert files.contents(asked) == {str(tmp_path / "file"): " a secret \n"}


def test_a_text_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n PEM \n\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    said = [files.text(str(tmp_path / name)) for name in ("text", "binary", "absent", ".")]
    assert said == ["PEM", "", "", ""]


# Ports --------------------------------------------------------------------------------------------


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which this process listens."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        yield server.getsockname()[1]


def test_who_listens_is_named(port: int) -> None:
    """With number and name; of a free port, nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    said = ports.listeners([{"port": port}, {"port": free}])
    name = Path("/proc/self/comm").read_text().strip()
    who = f"process {os.getpid()} ({name})"
    assert said == {"listeners": {str(port): who, str(free): ""}, "taken": {str(port): who}}


def test_of_a_process_and_its_children_the_process_is_named(port: int) -> None:
    """Who stops that, stops all."""
    held = {one.name for one in ports.sockets() if one.port == port}
    fd = next(
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and str(link.readlink()) in held
    )
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, pass_fds=[fd]) as child:
        assert [known.pid for known in ports.processes({port})[port]] == [os.getpid(), child.pid]
        assert f"process {os.getpid()} " in ports.listeners([{"port": port}])["taken"][str(port)]
        assert child.stdin
        child.stdin.close()


@pytest.mark.parametrize(
    ("groups", "ours"),
    [
        ("0::/system.slice/nginx.service", True),
        ("1:name=systemd:/system.slice/nginx.service\n0::/x", True),
        ("0::/system.slice/nginx.service/worker", True),
        ("0::/system.slice/nginx.service.d", False),
        ("0::/system.slice/my-nginx.service", False),
        ("0::/system.slice/nginxservice", False),
    ],
)
def test_a_unit_knows_its_own(groups: str, ours: bool, tmp_path: Path) -> None:
    """By the control group, and that exactly; and only where the role has set the unit up."""
    mark = tmp_path / "mark"
    known = [ports.Process(0, 812, "nginx", groups)]
    asked: ports.Port = {"port": 80, "ours": ["other.service", "nginx.service"]}
    said = "ours" if ours else "process 812 (nginx)"
    assert ports.listener(asked, known) == said
    assert ports.listener({**asked, "ours_if": str(mark)}, known) == "process 812 (nginx)"
    mark.touch()
    assert ports.listener({**asked, "ours_if": str(mark)}, known) == said


def test_who_began_first_is_the_parent() -> None:
    """Not who has the lower number: numbers begin again at their end."""
    known = sorted([ports.Process(90, 3773, "cat", ""), ports.Process(10, 26791, "python", "")])
    assert ports.listener({"port": 80}, known) == "process 26791 (python)"


def test_a_port_that_is_held_by_nobody_visible_is_taken() -> None:
    """As by another container's process, or for who is not root."""
    assert ports.listener({"port": 80, "ours": ["nginx.service"]}, []) == ports.HIDDEN


# Units --------------------------------------------------------------------------------------------

STARTED = 1_700_000_000
# name: (what systemd says that is not as usual, seconds from the start to a file's change, at which
# moment the unit reads, (runs, unit_changed, unread))
STATES: dict[str, tuple[dict[str, str], int, str, tuple[bool, bool, bool]]] = {
    "all is well": ({}, -10, "start", (True, False, False)),
    "written in the second of the start": ({}, 0, "start", (True, False, False)),
    "a run was killed before the restart": ({}, 10, "start", (True, False, True)),
    "a reload is no start": (
        {"StateChangeTimestamp": f"@{STARTED + 20}"}, 10, "start", (True, False, True)),
    "it was reloaded": (
        {"StateChangeTimestamp": f"@{STARTED + 20}"}, 10, "reload", (True, False, False)),
    "it was not reloaded": ({}, 10, "reload", (True, False, True)),
    "a timer": ({"ExecMainStartTimestamp": ""}, -10, "start", (True, False, False)),
    "a timer that is old": ({"ExecMainStartTimestamp": ""}, 10, "start", (True, False, True)),
    "systemd has not read the unit": (
        {"NeedDaemonReload": "yes"}, -10, "start", (True, True, False)),
    "not at boot": ({"UnitFileState": "disabled"}, -10, "start", (False, False, False)),
    "it never comes up": ({"ActiveState": "activating"}, -10, "start", (False, False, False)),
    "stopped": ({"ActiveState": "inactive"}, 10, "start", (False, False, False)),
    "none": (
        {"ActiveState": "inactive", "UnitFileState": "", "ExecMainStartTimestamp": ""},
        10, "start", (False, False, False)),
}  # fmt: skip


def says(folder: Path, *units_said: dict[str, str]) -> dict[str, str]:
    """Return an environment in which systemctl says something, a paragraph for each unit."""
    text = "\n\n".join("\n".join(f"{k}={v}" for k, v in said.items()) for said in units_said)
    program = folder / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


USUAL = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "ExecMainStartTimestamp": f"@{STARTED}",
    "ActiveEnterTimestamp": f"@{STARTED}",
    "StateChangeTimestamp": f"@{STARTED}",
}


@pytest.mark.parametrize("case", STATES)
def test_whether_a_unit_needs_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or must be started, or has not read what an earlier run wrote."""
    said, seconds, at, (runs, unit_changed, unread) = STATES[case]
    file = tmp_path / "server.env"
    file.touch()
    os.utime(file, (STARTED + seconds, STARTED + seconds))
    reads = [str(path) for path in (file, tmp_path, tmp_path / "absent")]
    for name, value in says(tmp_path, {**USUAL, **said}, USUAL).items():
        monkeypatch.setenv(name, value)
    found = units.states({"mlflow.service": {"reads": reads, "at": at}, "other.service": {}})
    mine = found["mlflow.service"]
    assert (mine["runs"], mine["unit_changed"], mine["unread"]) == (runs, unit_changed, unread)
    assert mine["state"] == {**USUAL, **said}["ActiveState"]
    assert found["other.service"]["runs"] and not found["other.service"]["unread"]


def test_what_systemd_says_of_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that it reads besides another is not passed over; what it does not say is empty."""
    first_said = {"User": "a=b", "EnvironmentFiles": "/1\nEnvironmentFiles=/2"}
    for name, value in says(tmp_path, first_said, {"User": ""}).items():
        monkeypatch.setenv(name, value)
    first, second = units.show(["a*"], ["User", "EnvironmentFiles"])
    assert first == {"User": "a=b", "EnvironmentFiles": "/1\n/2"}
    assert second == {"User": ""}
    assert units.ask("a", "User", "Slice") == {**first, "Slice": ""}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert units.ask("a", "User") == {"User": ""}


# As systemd is with StartLimitBurst=5. The journal has what a start says: `serves`, or why not.
COUNTS = """#!/bin/sh
cd {folder}
case "$1" in
  show) echo "InvocationID=$(cat start)" ;;
  reset-failed) echo 0 > count ;;
  restart)
    if test "$(cat count)" -ge 5; then echo 'attempted too often' >&2; exit 1; fi
    if test -e masked; then echo 'Unit is masked.' >&2; exit 1; fi
    echo $(($(cat count) + 1)) > count; date +%N > start
    if test -e broken; then echo 'see journalctl -xe' >&2; exit 1; fi ;;
esac
"""
JOURNAL = """#!/bin/sh
case "$*" in *--grep*) grep '^mlflow-ready' {folder}/words; exit 0 ;; esac
test "$4" = "_SYSTEMD_INVOCATION_ID=$(cat {folder}/start)" && cat {folder}/words
"""


def test_what_somebody_asks_for_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as she likes; and what systemd refuses is said in its words, not the journal's."""
    for name, text in {"systemctl": COUNTS, "journalctl": JOURNAL}.items():
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "count").write_text("0")
    (tmp_path / "start").write_text("")
    (tmp_path / "words").write_text("I0001 chatter\nserves\n")
    assert [units.start("mlflow.service", "restart") for _ in range(7)] == [""] * 7
    (tmp_path / "masked").touch()
    assert units.start("mlflow.service", "restart") == "Unit is masked."
    (tmp_path / "masked").unlink()
    (tmp_path / "broken").touch()
    assert units.start("mlflow.service", "restart", noise="I[0-9]{4} ") == "serves"
    (tmp_path / "words").write_text("mlflow-ready: no database\nmuch\n")
    said = units.start("mlflow.service", "restart", first="^mlflow-ready:")
    assert said.splitlines() == ["mlflow-ready: no database", "mlflow-ready: no database", "much"]


ROOT = Path(__file__).resolve().parent.parent


def test_whoever_starts_a_unit_that_counts_has_it_begin_anew() -> None:
    """The module ops.mlflow.unit does, and programs do; Ansible's own module does not."""
    counting = {path.parts[-3] for path in ROOT.glob("roles/*/templates/*")
                if re.search("^StartLimitBurst=", path.read_text(), re.MULTILINE)}  # fmt: skip
    assert counting == {"mlflow_model_serving", "mlflow_server"}
    for path in (path for role in sorted(counting) for path in ROOT.glob(f"roles/{role}/*/*.yml")):
        for task in path.read_text().split("- name:"):
            starts = re.search(r"state: (re)?started|__mlflow_server_state }}", task)
            assert not (starts and "builtin.systemd_service" in task), f"{path}: {task}"
    for path in ROOT.glob("src/mlflow_ops/**/*.py"):
        text = path.read_text()
        if re.search(r'"systemctl", (f"try-|"(re)?start|verb)', text):
            counts_anew = "reset-failed" in text
            others = ("postgresql.py", "drill.py")  # units that do not count, or run to their end
            assert counts_anew or path.name in others, path


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """Though what it leads to is old."""
    old = tmp_path / "old"
    old.mkdir()
    (tmp_path / "file").touch()
    for path in (old, tmp_path / "file"):
        os.utime(path, (STARTED, STARTED))
    (tmp_path / "current").symlink_to("old")
    assert units.changed([str(tmp_path / "file"), str(old)]) == STARTED
    assert units.changed([str(tmp_path / "current")]) > STARTED
    assert units.changed([str(tmp_path / "nowhere")]) == 0


def test_without_systemd_no_unit_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = units.states({"mlflow.service": {}})["mlflow.service"]
    assert said["state"] == "" and not any(said.values())
    assert not units.keeps_addresses()
    assert not ports.socket_active("mlflow.socket")


# Ways ---------------------------------------------------------------------------------------------


@ROOT_ONLY
def test_who_could_lead_root_astray_is_named(tmp_path: Path) -> None:
    """On the way to a path, through links too; and no place that is administrators' alone."""
    daemon, staff, stranger = 1, 50, 54321
    made: dict[str, tuple[int, int, int, str]] = {  # owner, group, mode; of whom it is said
        "hers": (daemon, daemon, 0o755, "daemon"),
        "open": (0, 0, 0o777, "everybody"),
        "group": (0, daemon, 0o775, "the group daemon"),
        "sticky": (0, 0, 0o1777, ""),
        "staff": (0, staff, 0o2775, ""),
        "nas": (stranger, stranger, 0o770, ""),
        "own": (0, 0, 0o755, ""),
    }
    asked = {}
    for name, (owner, group, mode, _) in made.items():
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, owner, group)
        (tmp_path / name).chmod(mode)
        asked[name] = f"{tmp_path}/{name}/data"
    (tmp_path / "own/link").symlink_to("../hers")
    asked["link"] = f"{tmp_path}/own/link/data"
    asked["dots"] = f"{tmp_path}/own/../hers/data"
    (tmp_path / "sticky/hers").mkdir()
    os.chown(tmp_path / "sticky/hers", daemon, daemon)
    asked["hers in sticky"] = f"{tmp_path}/sticky/hers/data"
    asked["hers itself"] = f"{tmp_path}/hers"  # she may have it
    (tmp_path / "own/round").symlink_to("round")
    asked["round"] = f"{tmp_path}/own/round/data"
    found = ways.traps(asked)
    expected = {name: who for name, (*_, who) in made.items() if who}
    expected |= {"link": "daemon", "dots": "daemon", "hers in sticky": "daemon"}
    assert {name: trap["by"] for name, trap in found.items()} == expected
    for name, who in expected.items():
        why = found[name]["why"]
        assert f"{name} ({asked[name]}) lies in {found[name]['place']} on " in why
        assert f"which {who} can change" in why
        assert f"chown root: {found[name]['place']}; chmod go-w" in why
        assert found[name]["place"].startswith(str(tmp_path))


# nginx --------------------------------------------------------------------------------------------


def test_what_nginx_says_of_itself(tmp_path: Path) -> None:
    """As Debian's says it, on its second output; and of none, nothing."""
    program = tmp_path / "nginx"
    for word, version in (
        ("nginx/1.26.3", "1.26.3"),
        ("nginx/1.22.1 (Debian)", "1.22.1"),
        ("", ""),
    ):
        program.write_text(f"#!/bin/sh\necho 'nginx version: {word}' >&2\n")
        program.chmod(0o755)
        assert nginx.version(str(program)) == version
    assert nginx.version(str(tmp_path / "none")) == ""


def test_what_sites_include(tmp_path: Path) -> None:
    """Each line that is none of a comment's."""
    lines = "include /etc/nginx/mlflow.d/*.conf;\n  include mime.types ;\n# include other.conf;\n"
    (tmp_path / "a.conf").write_text(f"server {{\n{lines}}}\n")
    (tmp_path / "b").write_text("include not-a-site;\n")
    assert nginx.includes(tmp_path) == ["/etc/nginx/mlflow.d/*.conf", "mime.types"]
    assert nginx.includes(tmp_path / "absent") == []


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's page as its package brought it, and served."""
    available, enabled = tmp_path / "sites-available/default", tmp_path / "sites-enabled/default"
    for place in (available, enabled):
        place.parent.mkdir()
    available.write_text("server { listen 80 default_server; }")
    enabled.symlink_to(available)
    brought = hashlib.md5(available.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(nginx, "WELCOME", enabled)
    monkeypatch.setattr(nginx, "AVAILABLE", available)
    monkeypatch.setattr(nginx, "packaged", {str(available): brought}.get)
    return enabled


def test_only_debians_page_is_debians(page: Path) -> None:
    """Whoever has put a file in its place keeps it."""
    assert nginx.state()["welcome_page"] and not nginx.state()["own_page"]
    assert nginx.state()["defaults"] == []  # it goes
    page.unlink()
    assert not nginx.state()["welcome_page"]
    page.write_text("server {}")
    assert not nginx.state()["welcome_page"]


def test_an_edited_page_is_somebodys_site(page: Path) -> None:
    """And of which ports it is the default server, since there can be one."""
    page.resolve().write_text("""
    server { listen 80; listen [::]:443 ssl default_server; server_name own; }
    server { # listen 8080 default_server;
        listen 127.0.0.1:5001 default; listen 192.0.2.7 default_server;
        listen [2001:db8::7] default_server;
    }""")
    found = nginx.state()
    assert (found["welcome_page"], found["own_page"]) == (False, True)
    assert found["defaults"] == [80, 443, 5001]
    page.unlink()
    assert nginx.state()["own_page"] and nginx.state()["defaults"] == []


def test_what_a_package_brought_is_asked_of_dpkg(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\n /etc/default/nginx 8f\n /etc/nginx/sites-available/default 1b obsolete\n"
    done = subprocess.CompletedProcess([], 0, stdout=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert nginx.packaged("/etc/nginx/sites-available/default") == "1b"
    assert nginx.packaged("/etc/nginx") == ""


def test_what_is_in_memory(tmp_path: Path) -> None:
    """By the file system that a path is in, and the last one that was mounted there."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw\nb {tmp_path} tmpfs rw\nc {tmp_path}/disk ext4 rw\n")
    for path, expected in {"": True, "/x/y": True, "/disk/x": False, "x": False}.items():
        assert files.in_memory(f"{tmp_path}{path}", mounts) is expected
    mounts.write_text(mounts.read_text() + f"d {tmp_path} ext4 rw\n")
    assert not files.in_memory(str(tmp_path), mounts)
    assert not files.in_memory("/", tmp_path / "a Mac has none")


# MLflow -------------------------------------------------------------------------------------------


def test_the_version_of_an_environment_is_read_off(tmp_path: Path) -> None:
    """Nothing is started for it; and mlflow-skinny is no MLflow."""
    site = tmp_path / "lib/python3.11/site-packages"
    for name in ("mlflow_skinny-3.17.2", "mlflow-3.17.2"):
        assert mlflow.installed(str(tmp_path)) == ""
        (site / f"{name}.dist-info").mkdir(parents=True)
    assert mlflow.installed(str(tmp_path)) == "3.17.2"


def test_which_programs_there_are(tmp_path: Path) -> None:
    """Those in use, those of before, and whether those of before have begun something."""
    current, plan = tmp_path / "mlflow/current", tmp_path / "plan.json"
    none = {"directory": "", "others": False, "earlier_switch": False}
    assert mlflow.tools(current, plan) == none
    new = tmp_path / "mlflow/1a2b3c"
    new.mkdir(parents=True)
    current.symlink_to(new.name)
    plan.touch()
    assert mlflow.tools(current, plan) == {**none, "directory": str(new)}
    (tmp_path / "mlflow/switch.py").touch()
    both = {"directory": str(new), "others": True, "earlier_switch": True}
    assert mlflow.tools(current, plan) == both
    plan.unlink()
    assert not mlflow.tools(current, plan)["earlier_switch"]


def test_any_python_of_a_host_can_look() -> None:
    """The package is Python's standard library alone, and imports nothing that a host lacks."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import mlflow_ops.host as h; h.look({})"
    source = str(Path(host.__file__).parents[2])
    for program in {"/usr/bin/python3", sys.executable}:
        if Path(program).exists():
            subprocess.run([program, "-I", "-c", code, source], check=True)


def test_a_record_of_another_release_is_not_a_host_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server would not be measured, and nobody be told."""
    monkeypatch.setattr(installation, "RECORD", tmp_path / "installation.json")
    assert host.look({"installation": True})["installation"] == {}
    (tmp_path / "installation.json").write_text("{}")
    with pytest.raises(installation.OtherRelease):
        host.look({"installation": True})


def test_missing_packages() -> None:
    """Without Debian's own program nothing is known to be there."""
    if not shutil.which("dpkg-query"):
        assert machine.missing_packages(["dpkg"]) == ["dpkg"]
        return
    assert host.look({"packages": ["dpkg", "no-such-package"]})["missing_packages"] == [
        "no-such-package"
    ]
    assert machine.missing_packages([]) == []
