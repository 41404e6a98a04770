"""The role mlflow_model_serving: how versions change places, what nginx is told, what is refused.

What a model is asked, and nginx itself, are tested on hosts (molecule/scenario3).
"""

import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow_environments import environment
from versions import DEFAULT, SHIPPED

from mlflow_ops.host import units
from mlflow_ops.models import check, deploy, files
from plugins.plugin_utils import nginx

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/mlflow_model_serving"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


# versions that change places ---------------------------------------------------------------------


class Registry(BaseHTTPRequestHandler):
    """As much of a registry as is asked: two versions of iris, one of them the champion."""

    champion = "1"
    created = 0

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        version = self.champion if "alias=champion" in self.path else self.path[-1]
        known = "alias=champion" in self.path or self.path[-9:] in ("version=1", "version=2")
        found: dict[str, Any] = {"message": "Not found."}
        if known:
            found = {"model_version": {"version": version, "creation_timestamp": 7, "run_id": "r"}}
        elif "registered-models/get" in self.path:
            known = True
            aliases = [{"alias": "champion", "version": "1"}]
            latest = [{"version": "2"}]
            model = {"aliases": aliases, "latest_versions": latest}
            found = {"registered_model": {**model, "creation_timestamp": self.created}}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())


class Systemd:
    """What systemctl and the models' user would do, and in what order they were asked."""

    def __init__(self, host: Any) -> None:
        self.host, self.active, self.enabled = host, set[str](), set[str]()
        self.refused: set[str] = set()  # versions that do not come up
        self.did: list[str] = []
        self.fetched: list[str] = []
        self.steps: list[tuple[str, list[str]]] = []  # in words, and its settings
        self.unmet: list[str] = []  # of what the model requires, in the server's environment
        self.wanted = "scikit-learn"
        self.words = "It does not load: RuntimeError: no weights"
        self.index = True  # whether it has what is wanted

    def run(self, *command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        """Stand in for a command."""
        words = [str(word) for word in command]
        code, said = 0, ""
        unit = words[-1]
        instance = unit.partition("@")[2].removesuffix(".service")
        version = instance.rpartition("-")[0].rpartition("-")[2]
        match words[:2]:
            case ["systemctl", "list-units"]:
                said = "\n".join(f"{unit} loaded" for unit in self.active)
            case ["systemctl", "start"]:
                traffic = self.host.serving("iris")
                self.did.append(
                    f"start {version} while {traffic[5:6] or 'nothing'} has the traffic"
                )
                code = int(version in self.refused)
                self.active |= set() if code else {unit}
            case ["systemctl", "enable"]:
                self.enabled.add(unit)
            case ["systemctl", "stop" | "disable"]:
                if words[1] == "stop" and unit in self.active:
                    self.did.append(
                        f"stop {version} while {self.host.serving('iris')[5:6]} has the traffic"
                    )
                if words[1] == "stop" or "--now" in words:
                    self.active.discard(unit)
                if words[1] == "disable":
                    self.enabled.discard(unit)
            case ["journalctl", _]:
                said = self.words
            case ["systemd-run", _]:
                said = self.step(words, options)
                code = int("install" in words and not self.index)
            case ["rm", _]:
                for path in words[words.index("--") + 1 :]:
                    shutil.rmtree(path)
        return subprocess.CompletedProcess(words, code, said, "")

    def step(self, words: list[str], options: dict[str, Any]) -> str:
        """Stand in for a step in a sandbox; return what it prints."""
        settings = [word.partition("=")[2] for word in words if word.startswith("--property=")]
        self.steps.append((options["called"], settings))
        told = json.loads(options["input"])
        if "fetch" in words:
            self.fetched.append(told["model"])
            Path(words[-1], "MLmodel").write_text("flavors: {}")
        if "install" in words:
            [fresh] = [text.partition("=")[2].partition(":")[0] for text in settings
                       if text.startswith("BindPaths=")]  # fmt: skip
            Path(fresh, Path(told["environment"]).name, "lib").mkdir(parents=True)
        shared = words[-1].endswith("/model")  # and not in an environment of its own
        found = {
            "needs": {"unmet": self.unmet if shared else [], "python": "3.99.1"},
            "wants": [self.wanted],
        }
        return next((json.dumps(said) for verb, said in found.items() if verb in words), "")

    def ask(self, unit: str, *properties: str, times: str) -> dict[str, str]:
        """Stand in for what systemd says of a unit."""
        said = {
            "ActiveState": "active" if unit in self.active else "inactive",
            "UnitFileState": "enabled" if unit in self.enabled else "disabled",
            "MainPID": "0",
        }
        return {name: said.get(name, "") for name in properties}


@pytest.fixture
def registry() -> Iterator[str]:
    """Run the registry that there is not, and return its address."""
    Registry.champion, Registry.created = "1", 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Place:
    """A host on which models are served."""

    def __init__(self, root: Path, registry: str) -> None:
        self.host = deploy.Host(root / "models")
        self.systemd = Systemd(self.host)
        self.asked = {
            "state": "present", "model": "models:/iris@champion", "name": "iris",
            "root": str(root / "models"), "sandbox": "# Why.\nProtectSystem=strict",
            "tools": str(root),
            "mlflow": str(root / "env"), "environment": "auto", "index_url": "",
            "ca_bundle": "", "proxy": "", "tracking_uri": registry, "username": "",
            "password": "", "ca": "", "request": {}, "predictions": [],
            "proof": "predicts", "workers": 1,
            "memory_mb": 0, "timeout_seconds": 1, "start_seconds": 1, "allow": [], "keep": 1,
            "check": False, "dry_run": False,
        }  # fmt: skip

    def apply(self, **asked: Any) -> dict[str, Any]:
        """Do what the module does, and return its answer."""
        return deploy.apply({**self.asked, **asked})

    def versions(self) -> list[str]:
        """Return the versions whose files are here."""
        return sorted(path.name.split("-")[1] for path in self.host.deployments.glob("iris-*"))


@pytest.fixture
def place(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A host without models, whose systemd and user are stood in for."""
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    place = Place(tmp_path, registry)
    files_of_units = tmp_path / "units"
    files_of_units.mkdir()
    monkeypatch.setattr(deploy, "UNITS", files_of_units)
    monkeypatch.setattr(deploy, "run", place.systemd.run)
    monkeypatch.setattr(units, "ask", place.systemd.ask)
    monkeypatch.setattr(os, "fchown", lambda *_: None)  # whoever runs this
    monkeypatch.setattr(deploy.Host, "take_over", lambda _: None)
    return place


def test_the_new_is_up_before_the_old_goes(place: Place) -> None:
    """In check mode it is said; then it is done, in this order; then there is nothing to do."""
    assert place.apply(check=True)["changed"]
    assert not place.host.root.exists()
    assert place.apply()["actions"] == ["version 1 is served, for the first time"]
    Registry.champion = "2"
    answer = place.apply()
    assert answer["actions"] == ["version 2 is served, in place of version 1"]
    assert answer["kept"] == ["1"]
    assert place.systemd.did == [
        "start 1 while nothing has the traffic",
        "start 2 while 1 has the traffic",
        "stop 1 while 2 has the traffic",
    ]
    again = place.apply()
    assert (again["changed"], again["error"]) == (False, "")
    assert len(place.systemd.enabled) == len(place.systemd.active) == 1


def test_going_back_fetches_nothing(place: Place) -> None:
    """The files of the version before are here; so are those of one whose settings change."""
    for model in ("models:/iris/1", "models:/iris/2", "models:/iris/1"):
        assert place.apply(model=model)["changed"]
    said = place.apply(model="models:/iris/1", workers=2)
    assert said["actions"][0] == "version 1 is served, in place of itself, with other settings"
    assert place.systemd.fetched == ["models:/iris/1", "models:/iris/2"]
    assert place.versions() == ["1", "1"]  # one kept, and that was the last


def test_going_back_without_the_tracking_server(place: Place) -> None:
    """To a version whose files are here; an alias would have to be looked up."""
    place.apply(model="models:/iris/1")
    place.apply(model="models:/iris/2")
    nobody = "http://127.0.0.1:9"
    assert place.apply(model="models:/iris/1", tracking_uri=nobody)["version"] == "1"
    refused = place.apply(tracking_uri=nobody)
    assert "mlflow_model_serving_tracking_uri) does not answer" in refused["error"]
    assert refused["serving"]["version"] == "1"
    dry = place.apply(tracking_uri=nobody, check=True, dry_run=True)
    assert (dry["changed"], dry["error"]) == (True, "")


def test_a_bad_model_is_removed(place: Place) -> None:
    """It had no traffic; the old one has not stopped; why is said; nothing of it is left."""
    place.apply()
    place.systemd.refused, before = {"2"}, place.host.serving("iris")
    refused = place.apply(model="models:/iris/2")
    assert refused["error"].startswith("It does not load: RuntimeError: no weights\n")
    assert "It was logged with Python 3.99.1" in refused["error"]
    assert (refused["changed"], refused["serving"]["version"]) == (False, "1")
    assert place.host.serving("iris") == before
    assert place.systemd.did[1:] == ["start 2 while 1 has the traffic"]
    assert place.versions() == ["1"]
    assert [path.name for path in deploy.UNITS.iterdir()] == [f"mlflow-model@{before}.service.d"]


def test_another_python_is_no_reason_where_there_is_one(place: Place) -> None:
    """A library of the system that is not there is missed by every Python."""
    place.systemd.refused = {"1"}
    place.systemd.words = f"It does not load: name it in {deploy.EXPLAINED[1]}."
    assert "It was logged with Python" not in place.apply()["error"]


def test_what_a_killed_run_left_is_mended(place: Place) -> None:
    """Half the files; two that run; one that has the traffic and does not run, or not at boot."""
    instance = place.apply(check=True)["instance"]
    half = place.host.deployments / f".new-{instance}/model"
    half.mkdir(parents=True)
    place.apply()
    assert not half.parent.exists()

    killed = place.host.serving("iris")
    place.apply(model="models:/iris/2")
    place.systemd.active.add(f"mlflow-model@{killed}.service")  # before it was stopped
    place.systemd.enabled.clear()
    place.apply(model="models:/iris/2")
    assert "iris-2" in "".join(place.systemd.active | place.systemd.enabled)
    assert len(place.systemd.active) == len(place.systemd.enabled) == 1

    place.systemd.active.clear()
    assert place.apply(model="models:/iris/2")["actions"] == [
        "version 2 is started, which did not run"
    ]


def test_withdrawal(place: Place) -> None:
    """Nothing of that name is left; another name, which begins alike, is untouched."""
    place.apply(name="iris-2", model="models:/iris/2")
    place.apply()
    assert place.apply(state="absent", check=True)["changed"]
    assert place.apply(state="absent")["changed"]
    assert not place.apply(state="absent")["changed"]
    assert [link.name for link in place.host.links.iterdir()] == ["iris-2"]
    assert len(place.systemd.active) == 1


def test_what_is_not_in_the_registry(place: Place) -> None:
    """What there is instead is said."""
    for model in ("models:/iris@nobody", "models:/iris/9"):
        error = place.apply(model=model)["error"]
        assert "does not have it: Not found. Its aliases: @champion; its newest version: 2" in error


def test_status(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What is served, and which files are kept."""
    deploy.status(place.host.root)
    assert "No model is served" in capsys.readouterr().out
    place.apply(model="models:/iris/1")
    place.apply(model="models:/iris/2")
    deploy.status(place.host.root)
    said = capsys.readouterr().out
    assert "iris: version 2 of iris, active" in said
    assert "kept: iris-1-" in said


# predictions, requirements -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other, same",
    [
        ({"predictions": [1.0, "a"]}, {"predictions": [1.0000000001, "a"]}, True),
        ([1.0], [1.01], False),
        ([1.0], [1.0, 1.0], False),
        ([float("nan")], [float("nan")], True),
        ([0.0], [float("nan")], False),
        ({"a": 1}, {"b": 1}, False),
        ("x", ["x"], False),
    ],
)
def test_predictions_are_compared(one: Any, other: Any, same: bool) -> None:
    """As numbers are: nearly."""
    assert check.same(one, other) is same


def test_requirements_are_compared(tmp_path: Path) -> None:
    """With what is installed; an MLflow that is not older will do, options and markers are read."""
    from importlib.metadata import version

    (tmp_path / "more.txt").write_text("pluggy==0.0.1\n")
    (tmp_path / "requirements.txt").write_text(
        f"pyyaml=={version('pyyaml')}\n# a comment\n-r more.txt\n-c constraints.txt\n"
        "no-such-package>=1  # really\nnever; python_version < '3'\nPyYAML\npytest==0.0.1\n"
        "git+https://example.com/x\n"
    )
    words = files.unmet(tmp_path)
    assert words == [
        f"pluggy==0.0.1 ({version('pluggy')} is installed)",
        "no-such-package>=1 (not installed)",
        "git+https://example.com/x (which is no package of an index)",
    ]
    assert files.unmet(tmp_path / "none") == []
    # Of another environment: what is there by its files.
    there = tmp_path / "environment/lib/python3.11/site-packages/pluggy-0.0.1.dist-info"
    there.mkdir(parents=True)
    (there / "METADATA").write_text("Name: pluggy\nVersion: 0.0.1\n")
    words = files.unmet(tmp_path, str(tmp_path / "environment"))
    assert words[0] == f"pyyaml=={version('pyyaml')} (not installed)"
    assert not [text for text in words if "pluggy" in text]


def test_requirements_are_read_whole(tmp_path: Path) -> None:
    """An environment is made anew where any of it changes; what would be built is refused."""
    file = tmp_path / "requirements.txt"
    texts = {
        "requirements.txt": "a\n-c more.txt\n--extra-index-url https://e/\n",
        "more.txt": "b<2",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert files.texts(file) == [*texts.values()]
    for bad in ("-e ./hostile", " --editable=./hostile", "\ufeff-e./hostile"):
        (tmp_path / "more.txt").write_text(f"b\r{bad}")
        with pytest.raises(SystemExit, match="wheels alone"):
            files.texts(file)
    file.write_text("-r https://example.com/requirements.txt\n")
    with pytest.raises(FileNotFoundError):
        files.texts(file)


def test_pythons_are_compared(tmp_path: Path) -> None:
    """By their minor versions: code that was pickled for another may crash this one."""
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python, other in {f"{this}.99": "", "3.1.4": "3.1.4"}.items():
        (tmp_path / "MLmodel").write_text(f"flavors:\n  p:\n    python_version: {python}\n")
        assert files.other_python(tmp_path) == other


def test_each_step_is_in_the_sandbox(place: Place) -> None:
    """It sees the one model; what looks at what that has brought has no network."""
    place.apply(environment="own")
    model = f"{place.host.deployments}/.new-{place.host.serving('iris')}/model"
    [environment] = place.host.environments.iterdir()
    fresh = f"BindPaths={place.host.environments}/.new-{environment.name}:{environment.parent}"
    seen, there = f"BindReadOnlyPaths={model}", f"BindReadOnlyPaths={environment}"
    found = []
    for called, settings in place.systemd.steps:
        verb = called.partition(" model-files ")[2].split(" ")[0] or "compileall"
        assert verb in called
        assert {"ProtectSystem=strict", "DynamicUser=yes"} < {*settings}
        assert f"TemporaryFileSystem={place.host.root}:ro" in settings
        bound = [text for text in settings if text.startswith("Bind")]
        found.append((verb, bound, "PrivateNetwork=yes" not in settings))
    assert found == [
        ("fetch", [f"BindPaths={model}"], True),
        ("wants", [seen], False),
        ("install", [seen, fresh], True),
        ("compileall", [seen, fresh], False),
        ("needs", [seen, there], False),
    ]


def test_packages_are_of_one_model_alone(place: Place) -> None:
    """Two that require the same: a requirement may be a file that a model has brought."""
    for name in ("iris", "other"):
        place.apply(name=name, environment="own")
    found = {link.readlink() for link in place.host.deployments.glob("*/environment")}
    assert len(found) == 2
    drop_in = deploy.UNITS / f"{deploy.unit(place.host.serving('iris'))}.d/deployment.conf"
    [bound] = [line for line in drop_in.read_text().splitlines() if line.startswith("BindRead")]
    assert Path(bound.partition("=")[2]) in found
    place.apply(name="iris", state="absent")
    assert len([*place.host.environments.iterdir()]) == 1


def test_packages_are_the_server_s_where_these_will_do(place: Place) -> None:
    """Else its own, unless the server's are asked for; which, and why, is said."""
    shared = place.host.root.parent / "env"
    assert place.apply()["packages"] == f"those of {shared}"
    lacks = [f"package-{number}==1 (not installed)" for number in range(7)]
    place.systemd.unmet = lacks
    said = place.apply(model="models:/iris/2")
    assert said["error"] == ""
    told = f"{shared} does not have what it requires: {'; '.join(lacks[:5])}; and 2 more"
    assert said["packages"] == f"its own. {told}"
    assert len([*place.host.environments.iterdir()]) == 1
    refused = place.apply(model="models:/iris/2", environment="shared")["error"]
    assert refused.startswith(f"{told}. Set mlflow_model_serving_environment: auto")


def test_packages_that_cannot_be_brought(place: Place) -> None:
    """What the server lacks is said as well, which index the model names, and which Python."""
    place.systemd.unmet, place.systemd.index = ["torch==2.5+cpu (not installed)"], False
    place.systemd.wanted = "--extra-index-url https://me:secret@torch.example/whl/cpu\ntorch"
    error = place.apply()["error"]
    assert "mlflow_model_serving_index_url (PyPI)." in error
    assert "names https://torch.example/whl/cpu besides, which this host must reach" in error
    assert "It was logged with Python 3.99.1, which may have packages that" in error
    assert error.endswith("does not have what it requires: torch==2.5+cpu (not installed).")


def test_packages_need_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of a model that wants its own."""
    monkeypatch.setattr(deploy, "PACKAGES_MB", 10**9)
    assert place.apply()["error"] == ""
    place.systemd.unmet = ["torch==2.5 (not installed)"]
    error = place.apply(model="models:/iris/2")["error"]
    assert "(mlflow_model_serving_root) has" in error
    assert error.endswith("does not have what it requires: torch==2.5 (not installed).")


def test_the_model_is_known_by_when_it_was_made(place: Place) -> None:
    """A model that is renamed keeps that; without the server it is in the record."""
    Registry.created = 1700000000123
    assert place.apply(model="models:/iris/1")["registered"] == "1700000000123"
    nobody = "http://127.0.0.1:9"
    again = place.apply(model="models:/iris/1", tracking_uri=nobody)
    assert (again["registered"], again["changed"]) == ("1700000000123", False)


def test_what_somebody_has_made_is_root_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what he has linked to, nor what is another's; and nobody else writes it."""
    tree, elsewhere = tmp_path / "tree/in", tmp_path / "elsewhere"
    tree.mkdir(parents=True)
    elsewhere.write_text("")
    elsewhere.chmod(0o600)
    for name, mode in {"plain": 0o606, "program": 0o700, "suid": 0o4777}.items():
        (tree / name).touch()
        (tree / name).chmod(mode)
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to(elsewhere)
    (tree / "directory").symlink_to(tmp_path)
    given: list[tuple[int, int]] = []
    links: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "fchown", lambda _, *who: given.append(who))
    monkeypatch.setattr(os, "chown", lambda name, *_, **how: links.append((name, *how.values())))
    deploy.taken(tree.parent, group=1 << 20)
    assert given == []
    deploy.taken(tree.parent)
    assert {*given} == {(0, 0)}
    assert {(name, follow) for name, _, follow in links} == {("link", False), ("directory", False)}
    modes = {path.name: path.lstat().st_mode & 0o7777 for path in tree.iterdir()
             if not path.is_symlink()}  # fmt: skip
    assert modes == {"plain": 0o644, "program": 0o755, "suid": 0o755, "pipe": 0o644}
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    with pytest.raises(deploy.Refused, match="something else"):
        deploy.taken(tree / "directory")
    Path(tree, *"d" * (deploy.DEEPEST + 1)).mkdir(parents=True)
    with pytest.raises(deploy.Refused, match="one in another"):
        deploy.taken(tree.parent)


SILENT = "exec >/dev/null 2>/dev/null; sleep 20"  # its pipes are closed, and it goes on


@pytest.mark.parametrize(
    "script", ["exec yes", "exec yes >&2", "sleep 1000 & wait", SILENT, "exec cat"]
)
def test_root_hears_nobody_for_ever(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's requirements may be a file without end, or a pipe that nobody writes."""
    monkeypatch.setattr(deploy, "LONGEST", 0.2 if "sleep" in script else 60.0)
    if script == "exec cat":
        assert deploy.run("sh", "-c", script, input="all").stdout == "all"
        return
    with pytest.raises(deploy.Refused, match=f"was ended: sh -c {script}"):
        deploy.run("sh", "-c", script)


def test_root_reads_no_proof_without_an_end(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "RUNTIME", tmp_path)
    deployment = deploy.Deployment(place.host, place.asked, {"name": "i", "version": "1"})
    file = tmp_path / deployment.instance / "proof.json"
    file.parent.mkdir()
    file.write_text('{"source": "zeros"}')
    assert deployment.proof() == {"source": "zeros"}
    for text in ("[" * 100_000, "7"):
        file.write_text(text)
        assert "too long" in deployment.proof()["source"]
    with file.open("w") as endless:
        endless.truncate(10**13)
    assert "too long" in deployment.proof()["source"]


# Prints, for each model, what it is asked and where from, or why nothing is known.
MODELS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from mlflow_ops.models import app

X, y = numpy.array([[0.0, 1, 2], [1, 2, 0]]), [0, 1]
frame = pandas.DataFrame({"color": ["red", "blue"], "size": [1.0, 2.0]})
text = ["a word", "another one"]
colors = make_column_transformer((OneHotEncoder(), ["color"]), remainder="passthrough")
models = {
    "array": LogisticRegression().fit(X, y),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[["size"]], y),
    "neighbors": KNeighborsClassifier(1).fit(X, y),
    "text": make_pipeline(CountVectorizer(), LogisticRegression()).fit(text, y),
    "colors": make_pipeline(colors, LogisticRegression()).fit(frame, y),
}
asked = {}
for name, model in models.items():
    mlflow.sklearn.save_model(model, name, pip_requirements=["scikit-learn"],
                              serialization_format="cloudpickle")
    for proof in ("predicts", "unproved"):
        try:
            asked[f"{name} {proof}"] = app.proved(name, {}, proof)[1]
        except app.Unproven as error:
            asked[f"{name} {proof}"] = str(error)
with open("asked.json", "w") as file:
    json.dump(asked, file)
"""


@pytest.mark.parametrize("version", SHIPPED)
def test_a_model_is_asked_what_it_says_that_it_takes(tmp_path: Path, version: str) -> None:
    """Logged without an example and a signature; where nothing is known, the word says so."""
    subprocess.run(
        [environment(version), "-W", "ignore", "-c", MODELS], cwd=tmp_path, check=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/src",
             "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}, capture_output=True,
    )  # fmt: skip
    found = json.loads((tmp_path / "asked.json").read_text())
    requests = {
        "array": {"inputs": [[0.0, 0.0, 0.0]]},
        "pipeline": {"dataframe_split": {"columns": ["size"], "data": [[0.0]]}},
        "neighbors": {"inputs": [[0.0, 0.0, 0.0]]},
    }
    for name, request in requests.items():
        for proof in ("predicts", "unproved"):
            said = found[f"{name} {proof}"]
            assert (said["request"], said["unproved"], said["pickles"]) == (request, "", True)
            assert said["source"] == "zeros, as many as it says that it takes"
    for name, words in {
        "text": "nothing is known to ask it.",
        "colors": "It loads, and does not predict (zeros, as many as it says that it takes): ",
    }.items():
        refused, taken = found[f"{name} predicts"], found[f"{name} unproved"]
        assert words in refused
        assert refused.endswith("(mlflow_model_serving_proof: unproved).")
        assert words in taken["unproved"]
        assert "mlflow_model_serving" not in taken["unproved"]


def test_a_library_of_the_system_is_named() -> None:
    code = "from mlflow_ops.models import app; print(app.missing('OSError: libgomp.so.1: cannot "
    code += "open shared object file: No such file or directory'), app.missing('no weights'))"
    said = subprocess.run(
        [environment(DEFAULT), "-c", code], env={**os.environ, "PYTHONPATH": f"{ROOT}/src"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "libgomp.so.1 is the system's" in said
    assert said.endswith("mlflow_model_serving_system_packages. \n")


class Index:
    """A package index: a directory of it, served over HTTP, with empty wheels of some versions."""

    def __init__(self, root: Path, packages: dict[str, list[str]]) -> None:
        for name, versions in packages.items():
            place = root / name
            place.mkdir(parents=True)
            for number in versions:
                info = f"{name}-{number}.dist-info"
                with zipfile.ZipFile(place / f"{name}-{number}-py3-none-any.whl", "w") as wheel:
                    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
                    wheel.writestr(f"{info}/METADATA", about)
                    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
                    wheel.writestr(f"{info}/RECORD", "")
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(root))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_model_s_own_index_has_some_of_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's has old versions of others, which are then taken from the index of all."""
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    model, environment = tmp_path / "model", tmp_path / "environments/new"
    model.mkdir()
    environment.parent.mkdir()
    own = Index(tmp_path / "own", {"torch": ["2.5"], "numpy": ["1.0"]})
    all_else = Index(tmp_path / "all", {"numpy": ["1.0", "2.4.6"]})
    with own as extra, all_else as index:
        text = f"--extra-index-url {extra}\ntorch==2.5\nnumpy==2.4.6\n"
        (model / "requirements.txt").write_text(text)
        told = {
            "uv": str(Path(sys.executable).with_name("uv")), "python": sys.executable,
            "environment": str(environment), "settings": {"UV_DEFAULT_INDEX": index},
        }  # fmt: skip
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(told)))
        assert files.install(str(model)) == 0
    [packages] = environment.glob("lib/python3*/site-packages")
    assert {path.name for path in packages.glob("*.dist-info")} == {
        "torch-2.5.dist-info", "numpy-2.4.6.dist-info",
    }  # fmt: skip


# what nginx is told, what is refused -------------------------------------------------------------

INPUT: dict[str, object] = {
    "__mlflow_model_serving_ran": {},
    "mlflow_model_serving_model": "models:/iris@champion",
    "mlflow_model_serving_shared_environment": "/opt/mlflow/current",
    "mlflow_model_serving_tracking_uri": "https://mlflow.example.com",
}
LOOPBACK: dict[str, object] = {
    "mlflow_model_serving_tracking_uri": "http://localhost:5000",
    "mlflow_model_serving_auth": False,
}
TLS: dict[str, object] = {
    "mlflow_model_serving_listen": "0.0.0.0:443",
    "mlflow_model_serving_tls_certificate": "/etc/ssl/m.pem",
    "mlflow_model_serving_tls_key": "/etc/ssl/m.key",
}
GATEWAY: dict[str, object] = {
    "mlflow_model_serving_nginx_site": "/etc/nginx/mlflow.d",
    "mlflow_model_serving_auth_upstream": "https://mlflow",
    "mlflow_model_serving_url": "https://mlflow.example.com",
}
SITES: dict[str, dict[str, object]] = {
    "loopback": LOOPBACK,
    "tls": {**TLS, "mlflow_model_serving_ca": "/etc/ssl/ca.pem",
            "__mlflow_model_serving_ran": {"registered": "1700000000123"}},
    "gateway": {**GATEWAY, "mlflow_model_serving_model": "models:/Iris & co/3",
                "mlflow_model_serving_name": "iris"},
}  # fmt: skip


def play(directory: Path, hosts: dict[str, dict[str, object]], tasks: list[object]) -> str:
    """Run tasks on this machine, once for each host with its variables; return what it said."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        **INPUT,
    }
    inventory = directory / "hosts.yml"
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {name: {**common, **own} for name, own in hosts.items()}}})
    )
    playbook = directory / "playbook.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [ANSIBLE, "-i", inventory, playbook],
        cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return both files of each site as nginx reads them, without comments and indentation."""
    directory = tmp_path_factory.mktemp("sites")
    role = {"name": "mlflow_model_serving", "tasks_from": "preflight", "public": True}
    write = [
        {
            "ansible.builtin.template": {
                "src": f"{ROLE}/templates/{name}.conf.j2",
                "dest": f"{directory}/{{{{ inventory_hostname }}}}.{name}",
                "mode": "0600",
            }
        }
        for name in ("nginx-site", "nginx-location")
    ]
    said = play(directory, SITES, [{"ansible.builtin.import_role": role, "when": False}, *write])
    assert "failed=1" not in said, said
    found = {}
    for name in SITES:
        text = "".join((directory / f"{name}.{file}").read_text() for file in
                       ("nginx-site", "nginx-location"))  # fmt: skip
        bare = [line.partition(" #")[0].strip() for line in text.splitlines()]
        found[name] = "\n".join(line for line in bare if line and not line.startswith("#"))
    return found


def test_on_loopback_its_names_alone_are_answered(sites: dict[str, str]) -> None:
    """And nobody is asked who she is."""
    site = sites["loopback"]
    assert (
        "listen 127.0.0.1:5001 default_server;\nserver_name _;\nserver_tokens off;\nreturn 421;"
        in site
    )
    assert "server_name loopback localhost 127.0.0.1 [::1];" in site
    assert "auth_request" not in site
    assert "proxy_cache" not in site
    assert "proxy_pass http://unix:/var/lib/mlflow-models/serving/iris/http.sock:/;" in site


def test_a_site_of_its_own_has_tls_and_asks_the_tracking_server(sites: dict[str, str]) -> None:
    """Whose certificate it checks."""
    site = sites["tls"]
    assert site.count("listen 0.0.0.0:443 ssl") == 2
    assert "ssl_reject_handshake on;" in site
    assert f"ssl_certificate_key /etc/ssl/m.key;\n{nginx.tls()}\n" in site
    assert "auth_request /.models/iris;" in site
    address = "https://mlflow.example.com/api/2.0/mlflow/registered-models/get?name=iris"
    assert f"proxy_pass {address}&created=1700000000123;" in site
    # What was answered for one model is not the answer for another under the same address.
    assert "proxy_cache_key name=iris&created=1700000000123:$http_authorization;" in site
    assert "proxy_ssl_verify on;" in site
    assert "proxy_ssl_trusted_certificate /etc/ssl/ca.pem;" in site


def test_within_the_gateway_s_site(sites: dict[str, str]) -> None:
    """Its way to the servers is used, whatever a model is registered as; no server of ours."""
    site = sites["gateway"]
    assert "server {" not in site
    assert "proxy_ssl" not in site
    assert (
        "proxy_pass https://mlflow/api/2.0/mlflow/registered-models/get?name=Iris%20%26%20co;"
        in site
    )
    assert "proxy_set_header Host mlflow.example.com;" in site


def test_what_nginx_itself_refuses_is_in_words(sites: dict[str, str]) -> None:
    """As JSON; a model has no page of its site's."""
    for name, unasked in {"loopback": 0, "tls": 1, "gateway": 1}.items():
        assert sites[name].count("error_page 500 = @.models/iris/unasked;") == unasked
        answers = re.findall(r"return (413|429|404|500|503) '(.*)';", sites[name])
        assert [status for status, _ in answers] == [
            "413", "429", *(["404", "429", "500", "503"] * unasked)
        ]  # fmt: skip
        for _, text in answers:
            assert json.loads(text).keys() == {"error_code", "message"}
            assert "$" not in text


def test_a_model_sees_no_password(sites: dict[str, str]) -> None:
    """Only the tracking server does."""
    for name in SITES:
        model = sites[name].partition("location /models/iris/ {")[2].partition("}")[0]
        assert 'proxy_set_header Authorization "";' in model
        assert 'proxy_set_header Cookie "";' in model


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "no model": (
        {"mlflow_model_serving_model": ""}, ["which model version?", "models:/<name>@<alias>"],
    ),
    "the latest": (
        {"mlflow_model_serving_model": "models:/iris/latest"}, ['"models:/iris/latest"'],
    ),
    "a name that is no path": (
        {"mlflow_model_serving_model": "models:/iris flower/1"},
        ["mlflow_model_serving_name", '"iris flower"'],
    ),
    "nothing to withdraw": (
        {"mlflow_model_serving_model": "", "mlflow_model_serving_state": "absent"},
        ["mlflow_model_serving_name is empty"],
    ),
    "a password in the clear": (
        {"mlflow_model_serving_tracking_uri": "http://mlflow.example.com"},
        ["mlflow_model_serving_tracking_uri", "https://<host>"],
    ),
    "half a login": ({"mlflow_model_serving_username": "ada"}, ["mlflow_model_serving_password"]),
    "an answer without a question": (
        {"mlflow_model_serving_predictions": [1]}, ["mlflow_model_serving_request", "empty"],
    ),
    "no worker": ({"mlflow_model_serving_workers": 0}, ["_workers", "1 or more"]),
    "open to everybody": (
        {**TLS, "mlflow_model_serving_auth": False},
        ["mlflow_model_serving_auth", "0.0.0.0:443", "loopback"],
    ),
    "the gateway open to everybody": (
        {**GATEWAY, "mlflow_model_serving_auth": False}, ["mlflow_model_serving_auth"],
    ),
    "a network without TLS": (
        {"mlflow_model_serving_listen": "0.0.0.0:5001"},
        ["mlflow_model_serving_tls_certificate", "in the clear"],
    ),
    "a relative path": (
        {"mlflow_model_serving_root": "models"}, ["mlflow_model_serving_root", "absolute"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with."""
    hosts = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    role = {"name": "mlflow_model_serving", "tasks_from": "preflight"}
    said = play(tmp_path_factory.mktemp("bad"), hosts, [{"ansible.builtin.import_role": role}])
    found: dict[str, str] = {}
    for case in BAD_INPUT:
        _, _, rest = said.partition(f"fatal: [{case}]: FAILED!")
        found[case] = " ".join(rest.partition("Nothing was changed")[0].split())
    return found


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(refusals: dict[str, str], case: str) -> None:
    """The error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars"]:
        assert word in refusals[case]
