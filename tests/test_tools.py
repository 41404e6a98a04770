"""The package on a host: how it comes there, in which order, and what goes when nothing uses it."""

import ast
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from mlflow_ops import installed

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


class Host:
    """A host: where programs are installed, and all that may use them.

    Attributes:
        folder: what `directory`, units, commands and processes are below.
        directory: as /usr/local/lib/mlflow.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.directory = folder, folder / "lib/mlflow"
        for name in ("UNITS", "COMMANDS", "PROC"):
            (folder / name).mkdir()
            monkeypatch.setattr(installed, name, folder / name)

    def release(self, words: str) -> tuple[installed.Tools, str]:
        """Return a package that differs from others by some words, and its archive."""
        source = self.folder / "source"
        (source / "mlflow_ops/server").mkdir(parents=True)
        (source / "__main__.py").write_text(f"print({words!r})\n")
        (source / "mlflow_ops/server/ready.py").write_text("READY = True\n")
        (source / "mlflow_ops/server/routes.txt").write_text("GET /\n")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as target:
            for path in source.rglob("*"):
                target.write(path, path.relative_to(source))
        digest = installed.digest(source)
        shutil.rmtree(source)
        return installed.Tools(self.directory, digest), base64.b64encode(packed.getvalue()).decode()

    def install(self, words: str) -> installed.Tools:
        """Install a release, and return it."""
        tools, archive = self.release(words)
        tools.install(archive)
        return tools

    def says(self) -> str:
        """Return what the programs say that are in use."""
        command = [sys.executable, "-Es", f"{self.directory}/current"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def loose(self, *names: str) -> list[Path]:
        """Put programs there as earlier releases did; return their paths."""
        self.directory.mkdir(parents=True, exist_ok=True)
        paths = [self.directory / name for name in names]
        for path in paths:
            path.write_text("#\n")
        return paths

    def use(self, how: str, path: Path) -> None:
        """Let something use a path."""
        process = self.folder / "PROC/4242"
        if how == "unit":
            unit = self.folder / "UNITS/mlflow-switch.service"
            unit.write_text(f"[Service]\nExecStart=/usr/bin/python3 -Es {path} rollout\n")
        elif how == "drop-in":
            (self.folder / "UNITS/a.service.d").mkdir()
            (self.folder / "UNITS/a.service.d/own.conf").write_text(f"ExecStart={path}\n")
        elif how == "command":
            (self.folder / "COMMANDS/mlflow-ready").symlink_to(path)
        elif how == "command line":
            process.mkdir()
            (process / "cmdline").write_bytes(f"python3\0-Es\0{path}\0rollout\0".encode())
        else:
            (process / "fd").mkdir(parents=True)
            (process / "fd/0").symlink_to("/dev/null")
            (process / "fd/3").symlink_to(path)


USES = ["unit", "drop-in", "command", "command line", "held open"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without anything of ours."""
    return Host(tmp_path, monkeypatch)


# How it comes there ------------------------------------------------------------------------------


def test_it_is_installed_and_replaced(host: Host) -> None:
    """For all to read and nobody else to write, compiled, and beside the release before."""
    assert not host.release("one")[0].whole()
    before = os.umask(0o077)
    try:
        one = host.install("one")
    finally:
        os.umask(before)
    assert one.whole() and one.leads() and host.says() == "one"
    for path in host.directory.rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path
    [compiled] = one.path.glob("mlflow_ops/server/__pycache__/ready.*.pyc")
    assert f"{one.path}/mlflow_ops/server/ready.py".encode() in compiled.read_bytes()
    two = host.install("two")
    assert two.leads() and not one.leads() and host.says() == "two"
    assert one.whole()
    assert {path.name for path in host.directory.iterdir()} == {one.digest, two.digest, "current"}


@pytest.mark.parametrize("change", ["written", "removed", "added"])
def test_what_was_changed_by_hand_is_put_right(host: Host, change: str) -> None:
    one = host.install("one")
    file = one.path / "mlflow_ops/server" / ("own.py" if change == "added" else "ready.py")
    file.unlink() if change == "removed" else file.write_text("READY = False\n")
    assert not one.whole()
    host.install("one")
    assert one.whole() and not (one.path / "mlflow_ops/server/own.py").exists()


def test_the_link_moves_last(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off anywhere, what was in use before still is; and the next run mends it."""
    host.install("one")

    def cut_off(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    for where in ("compileall.compile_dir", "zipfile.ZipFile.extractall", "pathlib.Path.rename"):
        with monkeypatch.context() as patch:
            patch.setattr(where, cut_off)
            with pytest.raises(OSError, match="No space left"):
                host.install("two")
        assert host.says() == "one", where
        assert len([*host.directory.iterdir()]) == 2, where
    with monkeypatch.context() as patch:
        patch.setattr(installed.Tools, "lead", cut_off)
        with pytest.raises(OSError, match="No space left"):
            host.install("two")
    two, _ = host.release("two")
    assert host.says() == "one" and two.whole() and not two.leads()
    two.lead()
    assert host.says() == "two"


def test_another_package_is_not_installed(host: Host) -> None:
    one = host.install("one")
    two, _ = host.release("two")
    with pytest.raises(ValueError, match=f"has the package {one.digest}, not {two.digest}"):
        two.install(host.release("one")[1])
    assert one.leads() and not two.path.exists()


# What goes when nothing uses it ------------------------------------------------------------------


def test_what_nothing_uses_is_removed(host: Host) -> None:
    """The newest stays, whoever uses it; in check mode all does."""
    one, two = host.install("one"), host.install("two")
    assert two.tidy(dry=True) == [str(one.path)] and one.whole()
    assert two.tidy() == [str(one.path)]
    assert {path.name for path in host.directory.iterdir()} == {two.digest, "current"}
    assert two.tidy() == [] and two.whole() and two.leads()


@pytest.mark.parametrize("how", USES)
def test_what_is_used_stays(host: Host, how: str) -> None:
    """A rollout, a drill and a deployment go on with the programs that they began with."""
    one = host.install("one")
    host.install("two")
    three = host.install("three")
    host.use(how, one.path)
    assert len(three.tidy()) == 1
    assert one.whole() and three.whole()


def test_what_ends_meanwhile_hides_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server closes one file while its others are read; a unit's link leads nowhere."""
    one, two = host.install("one"), host.install("two")
    host.use("held open", one.path)
    (host.folder / "UNITS/gone.service").symlink_to("/nowhere/gone.service")
    readlink = Path.readlink

    def closed(path: Path) -> Path:
        if path.name == "0":
            raise FileNotFoundError(path)
        return readlink(path)

    monkeypatch.setattr(Path, "readlink", closed)
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(path.glob("*"))))
    assert two.tidy() == [] and one.whole()


LOOSE = ("ready.py", "serve.py", "service_client.py", "guard_routes.txt")


@pytest.mark.parametrize("how", USES)
def test_loose_programs_go_together_or_not_at_all(host: Host, how: str) -> None:
    """They import one another."""
    paths = host.loose(*LOOSE)
    cache = host.directory / "__pycache__"
    cache.mkdir()
    host.use(how, paths[0])
    two = host.install("two")
    assert two.tidy() == []
    assert all(path.exists() for path in (*paths, cache))
    for place in ("UNITS", "COMMANDS", "PROC"):
        shutil.rmtree(host.folder / place)
        (host.folder / place).mkdir()
    assert {*two.tidy()} == {str(path) for path in (*paths, cache)}
    assert two.whole() and two.leads() and not any(path.exists() for path in (*paths, cache))


def test_loose_programs_of_a_server_that_still_runs_stay(host: Host) -> None:
    """It was told their directory, and takes the modules of its workers from there."""
    paths = host.loose(*LOOSE)
    two = host.install("two")
    host.use("command line", host.directory)
    assert two.tidy() == [] and all(path.exists() for path in paths)


def test_loose_programs_of_a_backup_that_still_runs_stay(host: Host) -> None:
    """It was started by its command, a link that leads to this release's program by now."""
    paths = host.loose(*LOOSE)
    two = host.install("two")
    host.use("command line", installed.COMMANDS / "mlflow-backup")
    assert two.tidy() == [] and all(path.exists() for path in paths)


def test_what_a_killed_installation_has_left_goes(host: Host) -> None:
    """Whatever it was about to install."""
    left = host.directory / ".new.0123456789abcdef"
    left.mkdir(parents=True)
    assert host.install("one").whole() and not left.exists()


def test_programs_of_this_release_hold_no_loose_ones(host: Host) -> None:
    paths = host.loose(*LOOSE)
    two = host.install("two")
    host.use("unit", two.current)
    host.use("command line", two.path / "mlflow_ops/models/app.py")
    assert {*two.tidy()} == {str(path) for path in paths}


@pytest.mark.parametrize("how", USES)
def test_programs_that_served_models_go_when_nothing_uses_them(host: Host, how: str) -> None:
    """Earlier releases had them in a directory of their own."""
    two = host.install("two")
    models = host.folder / "lib/mlflow-model"
    models.mkdir()
    (models / "model_app.py").touch()
    host.use(how, models / "model_app.py")
    assert two.tidy() == [] and models.is_dir()
    shutil.rmtree(host.folder / "PROC")
    (host.folder / "PROC").mkdir()
    for path in [*host.folder.glob("UNITS/**/*.*"), *host.folder.glob("COMMANDS/*")]:
        path.unlink() if path.is_file() or path.is_symlink() else None
    assert two.tidy(dry=True) == two.tidy() == [str(models)]
    assert not models.exists() and two.whole()


def test_nothing_is_removed_while_a_unit_needs_it(host: Host) -> None:
    """The server is uninstalled before its backups, or after them."""
    one, two = host.install("one"), host.install("two")
    models = host.folder / "lib/mlflow-model"
    models.mkdir()
    host.use("unit", two.current)
    assert two.remove() == [str(models)]
    assert one.whole() and two.leads() and not models.exists()
    (host.folder / "UNITS/mlflow-switch.service").unlink()
    # Another directory whose name begins alike is none of ours.
    host.use("unit", models / "model_app.py")
    assert two.remove(dry=True) == [str(host.directory)] and two.whole()
    assert two.remove() == [str(host.directory)]
    assert not host.directory.exists() and two.remove() == []


# The module --------------------------------------------------------------------------------------

# What is done, how, and whether it changes anything.
STEPS: list[tuple[str, dict[str, object], bool]] = [
    ("check", {"check_mode": True}, True),
    ("first", {}, True),
    ("second", {}, False),
    ("damage", {}, True),
    ("mended", {}, True),
    ("as before", {}, False),
    ("nothing to tidy", {"ops.mlflow.tools": {"state": "tidied"}}, False),
    ("before it goes", {"ops.mlflow.tools": {"state": "absent"}, "check_mode": True}, True),
    ("still there", {}, False),
    ("gone", {"ops.mlflow.tools": {"state": "absent"}}, True),
    ("gone already", {"ops.mlflow.tools": {"state": "absent"}}, False),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, object]]]:
    """Return where the module has installed the package, and what it said at each step.

    The collection is a copy, which installs below the test's own directory.
    """
    folder = tmp_path_factory.mktemp("module")
    collection = folder / "collections/ansible_collections/ops/mlflow"
    for name in ("plugins", "src", "meta"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, collection / name, symlinks=True, ignore=ignored)
    plugin = collection / "plugins/plugin_utils/tools.py"
    line = '\nDIRECTORY = "/usr/local/lib/mlflow"\n'
    assert line in plugin.read_text()
    directory = folder / "host/lib/mlflow"
    plugin.write_text(plugin.read_text().replace(line, f'\nDIRECTORY = "{directory}"\n'))
    ready = f"{directory}/current/mlflow_ops/server/ready.py"
    tasks: list[dict[str, object]] = []
    for name, arguments, _ in STEPS:
        module = {"ops.mlflow.tools": {}} if name != "damage" else {
            "ansible.builtin.copy": {"content": "# by hand\n", "dest": ready, "mode": "0644"}
        }  # fmt: skip
        seen = f"{directory} is {{{{ 'there' if '{directory}' is exists else 'absent' }}}}"
        tasks.append({"name": name, **module, **arguments, "register": "said"})
        say = {
            "{{ said | combine({'seen': seen, 'asked': lookup('ops.mlflow.tools')}) | to_json }}"
        }
        copy = {"content": say.pop(), "dest": f"{folder}/{name}.json", "mode": "0600"}
        tasks.append({"ansible.builtin.copy": copy, "vars": {"seen": seen}})
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "playbook.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (folder / "ansible.cfg").write_text("[defaults]\ncollections_path = collections\n")
    mine = {name: value for name, value in os.environ.items() if "ANSIBLE" not in name}
    done = subprocess.run(
        [ANSIBLE, "-i", "localhost,", "playbook.yml", "-vvv",
         "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=folder, env=mine, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said").write_text(done.stdout)
    return directory, {
        name: json.loads((folder / f"{name}.json").read_text()) for name, _, _ in STEPS
    }


@pytest.mark.parametrize("step", range(len(STEPS)), ids=[name for name, _, _ in STEPS])
def test_the_module(step: int, ran: tuple[Path, dict[str, dict[str, object]]]) -> None:
    """A second time changes nothing, and check mode neither."""
    name, _, changes = STEPS[step]
    directory, said = ran
    assert said[name]["changed"] == changes
    absent = name in ("check", "gone", "gone already")
    assert said[name]["seen"] == f"{directory} is {'absent' if absent else 'there'}"
    if name != "damage":
        assert said[name]["directory"] == said[name]["asked"]
        assert str(said[name]["directory"]).startswith(f"{directory}/")


def test_the_module_says_no_archive(ran: tuple[Path, dict[str, dict[str, object]]]) -> None:
    """Not even to whoever asks for all."""
    assert "UEsDB" not in (ran[0].parents[2] / "said").read_text()


# The package -------------------------------------------------------------------------------------


def test_both_sides_agree_on_the_digest(tmp_path: Path) -> None:
    """The controller's of src/, and the host's of what it has unpacked."""
    program = (
        "import json; from plugins.plugin_utils import tools; "
        "print(json.dumps([tools.digest(), tools.directory(), tools.archive()]))"
    )
    said = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    digest, directory, archive = json.loads(said)
    assert directory == f"/usr/local/lib/mlflow/{digest}"
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(archive))) as packed:
        packed.extractall(tmp_path)
    assert installed.digest(tmp_path) == installed.digest(ROOT / "src") == digest
    for path in ("__main__.py", "mlflow_ops/server/guard_routes.txt", "mlflow_ops/gc.py"):
        assert (tmp_path / path).read_bytes() == (ROOT / "src" / path).read_bytes()


def known() -> dict[str, Path]:
    """Return the programs that __main__.py knows, by name."""
    tree = ast.parse((ROOT / "src/__main__.py").read_text())
    [value] = [
        statement.value for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "PROGRAMS"
    ]  # fmt: skip
    modules: dict[str, str] = ast.literal_eval(value)
    folder = ROOT / "src/mlflow_ops"
    return {name: folder / f"{path.replace('.', '/')}.py" for name, path in modules.items()}


PROGRAMS = known()


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the clone, as CONTRIBUTING.md says."""
    return subprocess.run(
        [sys.executable, "src", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_programs_are_named() -> None:
    for words in ([], ["no-such-program"]):
        done = start(*words)
        assert done.returncode == 2
        assert f"one of {', '.join(PROGRAMS)}\n" in done.stderr
    for name, path in PROGRAMS.items():
        assert "\ndef main() ->" in path.read_text(), name


def test_a_program_says_what_it_does() -> None:
    """Those that CONTRIBUTING.md names, and all others that read a command line."""
    told = re.findall(r"`python3 src (\S+) --help`", (ROOT / "CONTRIBUTING.md").read_text())
    parse = [name for name, path in PROGRAMS.items() if "ArgumentParser(" in path.read_text()]
    assert told and {*told} <= {*parse} and len(parse) > 5
    for name in parse:
        done = start(name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: mlflow-{name} "), done.stdout
