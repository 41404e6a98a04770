"""What root opens, function by function and task by task: a new place fails until it is listed.

`root_opens.txt` says of each who could have written what is opened, and by which helper it is
opened where that is somebody else. What is only looked at (stat, exists) opens nothing.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/root_opens.txt"

# Python's own: which open, list or change what a path leads to.
METHODS = {
    "chmod", "extractall", "glob", "hardlink_to", "iterdir", "lchmod", "load_cert_chain",
    "load_verify_locations", "mkdir", "open", "read_bytes", "read_text", "rename", "rglob", "rmdir",
    "symlink_to", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip
FUNCTIONS = {
    "os": {
        "chmod", "chown", "chroot", "lchown", "link", "listdir", "makedirs", "mkdir", "mkfifo",
        "mknod", "open", "remove", "removedirs", "rename", "renames", "replace", "rmdir", "scandir",
        "symlink", "truncate", "unlink", "utime", "walk",
    },
    "shutil": {
        "chown", "copy", "copy2", "copyfile", "copytree", "move", "rmtree", "unpack_archive",
    },
    "tempfile": {"NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp"},
    "ssl": {"create_default_context"},
    "sqlite3": {"connect"},
    "tarfile": {"open"},
    "zipfile": {"ZipFile"},
    "runpy": {"run_path"},
}  # fmt: skip
# And programs, which do it for whoever starts them.
PROGRAMS = {
    "cat", "chgrp", "chmod", "chown", "cp", "find", "install", "ln", "mkdir", "mv", "openssl",
    "rclone", "rm", "sh", "tar", "touch",
}  # fmt: skip

# Modules with a path on the host, and the option that names it. (stat reads for a checksum.)
MODULES = {
    "assemble": "dest", "blockinfile": "path", "copy": "dest", "fetch": "src", "file": "path",
    "find": "paths", "get_url": "dest", "ini_file": "path", "lineinfile": "path",
    "openssl_privatekey": "path", "replace": "path", "slurp": "src", "stat": "path",
    "synchronize": "dest", "template": "dest", "unarchive": "dest", "tempfile": "path",
    "x509_certificate": "path", "certificate_bundle": "path", "empty_directories": "paths",
    "seaweedfs_keys": "path",
}  # fmt: skip
COMMANDS = {"command": "argv", "shell": "cmd"}
# Of /var/tmp, what Ansible has just made there by a name that nobody knows.
ROOTS = re.compile(r"/(etc(?!/postgresql/)|usr|run(?!/mlflow/)|var/www|var/tmp)(/|$)")
# Words that are no program there.
NO_PROGRAM = re.compile(r"--output[= ]cat|pip install|apt-get[^|;]* install")
BLOCKS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")

Place = tuple[str, str]  # a file, and a function or a task in it


def opens(call: ast.Call) -> bool:
    """Return whether a call opens, lists or changes what a path leads to, as far as text tells."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    owner = ast.unparse(function.value)
    if owner in FUNCTIONS:
        return function.attr in FUNCTIONS[owner]
    if function.attr == "replace":  # a path's has one argument, a string's two
        return len(call.args) == 1 and not call.keywords
    # A backup's target and a web address are opened too; what an object does, is seen there.
    return function.attr in METHODS and not re.search(r"^self$|\btarget$|build_opener", owner)


def starts(node: ast.AST) -> bool:
    """Return whether words are a command, or the end of one, that opens files."""
    words: list[ast.expr] = []
    if isinstance(node, ast.Call):
        words = node.args
    elif isinstance(node, ast.List | ast.Tuple):
        words = node.elts
    return len(words) > 1 and any(
        isinstance(word, ast.Constant) and word.value in PROGRAMS for word in words
    )


def functions(path: Path) -> Iterator[tuple[str, ast.AST, bool]]:
    """Yield each function of a file, nested ones within theirs, and whether it opens something."""

    def below(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, ast.AST, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from below(child, (*scope, child.name))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found = any(
                    starts(one) or (isinstance(one, ast.Call) and opens(one))
                    for one in ast.walk(child)
                )
                yield ".".join((*scope, child.name)), child, found

    yield from below(ast.parse(path.read_text(encoding="utf-8")), ())


def programs() -> dict[Place, ast.AST]:
    """Return the functions that open something, of what runs on hosts."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/modules/*.py")]
    return {
        (str(path.relative_to(ROOT)), name): node
        for path in files
        for name, node, found in functions(path)
        if found
    }


def tasks(node: Any, become: Any = None) -> Iterator[dict[str, Any]]:
    """Yield the tasks below a YAML node that root may run."""
    for one in node if isinstance(node, list) else []:
        of_root = one.get("become", become)
        if of_root is not False and one.get("become_user") is None:
            yield one
        for key in BLOCKS:
            yield from tasks(one.get(key), of_root)


def says(role: str, name: str) -> Any:
    """Return what a role's own variable or default says; None for what it does not have."""
    for file in (ROOT / role / "vars/main.yml", ROOT / role / "defaults/main.yml"):
        if file.is_file() and name in (found := yaml.safe_load(file.read_text()) or {}):
            return found[name]
    return None


def begins(role: str, path: Any, item: Any = None) -> set[str]:
    """Return what a path begins with: a directory that is written out, or a variable's name.

    A role's internal variables are looked up. `item` is what a loop gives, where that is known.
    """
    if isinstance(path, list):
        return {one for each in path for one in begins(role, each)}
    found = re.match(r"\{\{\s*([a-z_]\w*)((?:\.\w+)*)", str(path))
    if not found:
        return {"expression" if str(path).startswith("{{") else str(path)}
    name, attributes = found[1], found[2].split(".")[1:]
    value = item if name == "item" else says(role, name) if name.startswith("__") else None
    for attribute in attributes:
        value = value.get(attribute) if isinstance(value, dict) else None
        if isinstance(value, str) and (inner := re.fullmatch(r"\{\{ (__\w+) \}\}", value)):
            value = says(role, inner[1])
    return begins(role, value, item) if isinstance(value, str | list) else {name}


def leads(role: str, task: dict[str, Any]) -> set[str]:
    """Return what a task's paths begin with, and is not root's own by its name."""
    found: set[str] = set()
    loop = task.get("loop")
    items = loop if isinstance(loop, list) else [None]
    for key, options in task.items():
        module = key.rpartition(".")[2]
        if module in MODULES and isinstance(options, dict):
            # Without a path, where the system keeps what is temporary.
            said = options.get(MODULES[module]) or options.get("dest") or "/var/tmp"  # noqa: S108
            for item in items:
                found |= begins(role, said, item)
        elif module in COMMANDS and isinstance(options, dict):
            words = options.get(COMMANDS[module])
            text = " ".join(map(str, words)) if isinstance(words, list) else str(words)
            text = NO_PROGRAM.sub("", text)
            if {*re.findall(r"(?<![\w/.-])[\w-]+(?![\w/.-])", text)} & PROGRAMS:
                found.add("command")
    return {path for path in found if not ROOTS.match(path)}


def role_of(path: Path) -> str:
    """Return the role that a file is of, as a path; '' for a playbook's."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "roles" else "playbooks"


def playbooks() -> dict[Place, set[str]]:
    """Return the tasks that open something with paths that are not root's by their name."""
    patterns = ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml")
    files = [path for one in (*patterns, "playbooks/tasks/*.yml") for path in ROOT.glob(one)]
    return {
        (str(path.relative_to(ROOT)), str(task.get("name"))): found
        for path in files
        for task in tasks(yaml.safe_load(path.read_text()))
        if (found := leads(role_of(path), task))
    }


def listed() -> dict[str, list[list[str]]]:
    """Return the lines of the list by the heading that they stand below, each in columns."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    heading = ""
    for line in LIST.read_text().splitlines():
        text = line.partition("  #")[0].strip() if line.startswith("[") else line
        if text.startswith("["):
            heading = text.strip("[]")
        elif text and not text.startswith("#"):
            found[heading].append(re.split(r"\s{2,}", text))
    return found


LISTED = listed()
OTHER = ("never root", "variables", "tasks")
HELPED = [
    (heading, file, name)
    for heading, lines in LISTED.items()
    if heading not in OTHER
    for file, names, *_ in lines
    for name in names.split(",")
]


def test_every_place_in_a_program_is_listed() -> None:
    """And nothing that is gone."""
    never = {file for file, *_ in LISTED["never root"]}
    there = {place for place in programs() if place[0] not in never}
    known = {(file, name) for _, file, name in HELPED}
    assert len(known) == len(HELPED), "A place stands twice in root_opens.txt."
    new, gone = sorted(there - known), sorted(known - there)
    assert not new, (
        f"{new} opens files, and root may run it. Who could have written them? Open what others "
        "could with no more rights than theirs (rights_of, runuser); then list it in "
        "tests/root_opens.txt, below that helper or below [root]."
    )
    assert not gone, f"{gone} opens nothing any more: take it out of tests/root_opens.txt."
    assert {file for file, _ in programs()} >= never, "A whole file opens nothing any more."


@pytest.mark.parametrize(("heading", "file", "name"), [one for one in HELPED if one[0] != "root"])
def test_what_others_could_have_written_is_opened_by_its_helper(
    heading: str, file: str, name: str
) -> None:
    """The helper stands where the list says."""
    helper, _, elsewhere = heading.partition(" in ")
    bodies = {found: node for found, node, _ in functions(ROOT / file)}
    words = ast.unparse(bodies[elsewhere or name])
    assert re.search(rf"(?<!\w){re.escape(helper)}", words), f"{file}: {name} without {helper}"


@pytest.mark.parametrize("file", [line[0] for line in LISTED["never root"]])
def test_what_root_never_runs_is_started_so(file: str) -> None:
    """Where the list says that another user runs it, the word for that stands."""
    [(by, word)] = [line[1:] for line in LISTED["never root"] if line[0] == file]
    assert word in (ROOT / by).read_text(), f"{file}: {by} has no {word}"


def test_every_task_is_listed_or_keeps_to_what_is_roots() -> None:
    """By the variable that its path begins with, or else by its name."""
    variables = {name for name, *_ in LISTED["variables"]}
    known = {(file, name) for file, name, *_ in LISTED["tasks"]}
    paths = playbooks()
    there = {place for place, found in paths.items() if found - variables}
    new, gone = sorted(there - known), sorted(known - there)
    assert not new, (
        f"{[(*place, sorted(paths[place])) for place in new]}: who could have written there? Have "
        "whose directory it is do it (runuser), or see to it that root alone can change the way "
        "there (`ways` of ops.mlflow.host_look); then list it in tests/root_opens.txt."
    )
    assert not gone, f"{gone} is gone or needs no line: take it out of tests/root_opens.txt."
    unused = variables - {name for found in paths.values() for name in found}
    assert not unused, f"{unused}: no task has such a path; take it out of tests/root_opens.txt."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Path(p).read_text()", True),
        ("text.replace('a', 'b')", False),
        ("fresh.replace(path)", True),
        ("shutil.copy(a, b)", True),
        ("copy.copy(a)", False),
        ("self.target.open()", False),
        ("path.stat()", False),
        ("run('runuser', '--', 'cat', '--', file)", True),
        ("['chown', '-R', user, path]", True),
        ("words('cat')", False),
    ],
)
def test_what_counts_as_opening(text: str, found: bool) -> None:
    """The list is worth as much as what it is held against."""
    assert any(
        starts(node) or (isinstance(node, ast.Call) and opens(node))
        for node in ast.walk(ast.parse(text))
    ) is found  # fmt: skip


def test_what_a_tasks_path_begins_with() -> None:
    """Variables of a role are looked up, and what is nobody's but root's is not told."""
    role = "roles/seaweedfs"
    for path, expected in {
        "/etc/mlflow/server.env": set(),
        "/etc/postgresql/15/main/pg_hba.conf": {"/etc/postgresql/15/main/pg_hba.conf"},
        "{{ __seaweedfs_secrets.path }}": {"seaweedfs_config_dir"},
        "{{ __seaweedfs_ready.path }}": set(),
        "{{ item }}": {"item"},
    }.items():
        assert leads(role, {"ansible.builtin.slurp": {"src": path}}) == expected
    named = {"ansible.builtin.command": {"argv": ["runuser", "--", "cat", "{{ file }}"]}}
    assert leads(role, named) == {"command"}
    assert not [*tasks([{"become": False, "block": [{"ansible.builtin.copy": {"dest": "/x"}}]}])]
