"""A project without a server, and `mlflow ui` in it: the role's activation, and real MLflows."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from mlflow_environments import environment
from versions import DEFAULT, ROOT, UNGUARDED

from mlflow_ops import local_store

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
DEADLINE = 120  # seconds until `mlflow ui` must answer

# What a data scientist does in an experiment; prints the run, and the model where there is one.
LOG = """
import sys
import mlflow
mlflow.set_experiment(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.9)
    mlflow.log_text(sys.argv[2], "notes/words.txt")
print(run.info.run_id)
"""
READ = """
import sys
import mlflow
print(mlflow.artifacts.load_text(f"runs:/{sys.argv[1]}/notes/words.txt"))
"""


class Project:
    """A project as the playbook makes it, with a space in its path, and a shell in it."""

    def __init__(self, folder: Path, version: str, store: str) -> None:
        self.path, self.folder, self.store = folder / "my project", folder, store
        self.environment = environment(version).parents[1]
        assert "failed=0" in self.play()

    def play(self) -> str:
        """Run the role; return what Ansible says."""
        book = [{"hosts": "localhost", "connection": "local", "gather_facts": False,
                 "roles": ["mlflow_client"]}]  # fmt: skip
        playbook = self.folder / "playbook.yml"
        playbook.write_text(yaml.safe_dump(book))
        extra = {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "__mlflow_client_jupyter": f"{self.folder}/jupyter",
            "mlflow_client_environment": str(self.environment),
            "mlflow_client_project": str(self.path), "mlflow_client_store": self.store,
        }  # fmt: skip
        return subprocess.run(
            [ANSIBLE, "-i", "localhost,", playbook, "-e", json.dumps(extra)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """Return the command that runs another as a person types it after `. activate`."""
        return ["/bin/sh", "-c", '. "$0"; exec "$@"', f"{self.path}/activate", *words]

    def python(self, program: str, *arguments: str, **variables: str) -> str:
        """Run a program in the activated project; return the last line that it prints."""
        done = subprocess.run(
            self.command("env", *(f"{name}={value}" for name, value in variables.items()),
                         "python", "-c", program, *arguments),
            cwd=self.path, env=clean(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split("\n")[-2]

    @property
    def uri(self) -> str:
        """The tracking URI, as the activation says it."""
        return self.python("import os; print(os.environ['MLFLOW_TRACKING_URI'])")

    @contextmanager
    def ui(self, command: str = "ui", **variables: str) -> Iterator[Callable[..., Any]]:
        """Start `mlflow ui` in the project; give what asks it, and end it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["env", *(f"{name}={value}" for name, value in variables.items())]
        with (self.folder / "ui.log").open("w") as log, subprocess.Popen(
            self.command(*words, "mlflow", command, "--port", str(port)),
            cwd=self.path, env=clean(), stdout=log, stderr=log,
        ) as process:  # fmt: skip

            def ask(path: str, /, body: Any = None, **query: str) -> Any:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/{path}?{urlencode(query)}",
                    None if body is None else json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                    said = answer.read().decode()
                return json.loads(said) if said[:1] == "{" else said

            try:
                end = time.monotonic() + DEADLINE
                while True:
                    try:
                        ask("health")
                        break
                    except OSError:
                        said = (self.folder / "ui.log").read_text()[-2000:]
                        assert process.poll() is None and time.monotonic() < end, said
                        time.sleep(0.3)
                ask.port = port  # type: ignore[attr-defined]
                yield ask
            finally:
                process.terminate()
                process.wait(30)


def clean() -> dict[str, str]:
    """Return this environment without what the tests' own Python is told."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "MLFLOW"))}  # fmt: skip


def locations(ask: Callable[..., Any]) -> dict[str, str]:
    """Return where each experiment has its artifacts."""
    found = ask("api/2.0/mlflow/experiments/search", max_results="99")["experiments"]
    return {one["name"]: one["artifact_location"] for one in found}


@pytest.mark.parametrize(
    ("version", "command", "store"),
    [(DEFAULT, "ui", "files"), (DEFAULT, "server", "sqlite"),
     (UNGUARDED, "server", "files"), (UNGUARDED, "ui", "sqlite")],
)  # fmt: skip
def test_who_looks_first_can_log_artifacts_afterwards(
    tmp_path: Path, version: str, command: str, store: str
) -> None:
    """To Default, and to what was made in the user interface, which shows them."""
    project = Project(tmp_path, version, store)
    with project.ui(command) as ask:
        ask("api/2.0/mlflow/experiments/create", {"name": "made there"})
        found = locations(ask)
        assert {*found} == {"Default", "made there"}
        for location in found.values():
            assert location.startswith(f"{project.path}/mlruns/")
        for name in found:
            run = project.python(LOG, name, f"of {name}")
            shown = ask("api/2.0/mlflow/artifacts/list", run_id=run, path="notes")
            assert [one["path"] for one in shown["files"]] == ["notes/words.txt"]
            assert ask("get-artifact", run_id=run, path="notes/words.txt") == f"of {name}"
            assert len([*project.path.glob(f"mlruns/*/{run}/artifacts/notes/words.txt")]) == 1
    assert not (project.path / "mlartifacts").exists()
    assert local_store.unreachable(project.uri) == []
    assert "changed=0" in project.play()


@pytest.mark.parametrize("store", ["files", "sqlite"])
def test_a_store_that_only_a_server_could_keep_is_mended(tmp_path: Path, store: str) -> None:
    """With all that is there: runs without artifacts, and those that a server received."""
    project = Project(tmp_path, DEFAULT, store)
    plain = LOG.replace("    mlflow.log_text", "    #")
    # What the playbook set up until now.
    with project.ui(MLFLOW_SERVE_ARTIFACTS="true", MLFLOW_DEFAULT_ARTIFACT_ROOT="") as ask:
        assert locations(ask) == {"Default": "mlflow-artifacts:/0"}
        here = f"http://127.0.0.1:{ask.port}"  # type: ignore[attr-defined]
        received = project.python(LOG, "Default", "received", MLFLOW_TRACKING_URI=here)
        assert project.python(READ, received, MLFLOW_TRACKING_URI=here) == "received"
        ask("api/2.0/mlflow/experiments/create", {"name": "gone"})
        [gone] = [one["experiment_id"] for one in ask(
            "api/2.0/mlflow/experiments/search", max_results="9", filter="name = 'gone'"
        )["experiments"]]  # fmt: skip
        ask("api/2.0/mlflow/experiments/delete", {"experiment_id": gone})
    empty = project.python(plain, "Default", "")
    project.python("import mlflow; print(mlflow.create_experiment('well'))")
    with pytest.raises(AssertionError, match="mlflow-artifacts"):
        project.python(LOG, "Default", "lost")

    mine, others = ["Default (0)", f"gone ({gone})"], local_store.unreachable(project.uri)
    assert sorted(others) == mine
    assert sorted(local_store.mend(project.uri, check=True)) == mine
    assert sorted(local_store.unreachable(project.uri)) == mine
    assert "changed=1" in project.play()
    assert local_store.unreachable(project.uri) == [] and "changed=0" in project.play()
    assert not (project.path / "mlartifacts").exists()

    with project.ui() as ask:
        for run, words in ((received, "received"),
                           (project.python(LOG, "Default", "after"), "after")):  # fmt: skip
            assert project.python(READ, run) == words
            assert ask("get-artifact", run_id=run, path="notes/words.txt") == words
        for run in (received, empty):
            told = ask("api/2.0/mlflow/runs/get", run_id=run)["run"]
            assert [one["value"] for one in told["data"]["metrics"]] == [0.9]
            assert "mlflow-artifacts" not in told["info"]["artifact_uri"]
        ask("api/2.0/mlflow/experiments/restore", {"experiment_id": gone})
        assert project.python(READ, project.python(LOG, "gone", "again")) == "again"


@pytest.mark.parametrize("inside", ["files", "nothing"])
def test_what_cannot_be_moved_stays_where_it_is_found(tmp_path: Path, inside: str) -> None:
    """And nothing is written over."""
    store = local_store.Store(f"file://{tmp_path}/mlruns")
    received, wanted = tmp_path / "mlartifacts/0/r/artifacts", tmp_path / "mlruns/0/r/artifacts"
    received.mkdir(parents=True)
    wanted.mkdir(parents=True)
    (received / "a").write_text("received")
    if inside == "files":
        (wanted / "a").write_text("here")
    there = received if inside == "files" else wanted
    assert store.place("mlflow-artifacts:/0/r/artifacts") == there.as_uri()
    assert (there / "a").read_text() == "received"
    assert (wanted / "a").read_text() == ("here" if inside == "files" else "received")
    assert store.place("mlflow-artifacts:/0/../../x") == "mlflow-artifacts:/0/../../x"


def test_a_project_without_a_store_has_nothing_to_mend(tmp_path: Path) -> None:
    assert local_store.mend(f"file://{tmp_path}/mlruns") == []
    assert local_store.mend(f"sqlite:///{tmp_path}/mlflow.db") == []
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mend what is another user's")
@pytest.mark.parametrize("link", ["mlruns", "project"])
def test_root_mends_nothing_that_a_person_links_to(tmp_path: Path, link: str) -> None:
    """Neither root's own nor another's, whether the store or the project is the link."""
    nobody = pwd.getpwnam("nobody")
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o755)
    theirs = tmp_path / "roots/mlruns"
    (theirs / "0").mkdir(parents=True)
    meta = theirs / "0/meta.yaml"
    text = "artifact_location: mlflow-artifacts:/0\nexperiment_id: '0'\nname: Default\n"
    meta.write_text(text)
    home = tmp_path / "home"
    home.mkdir()
    project = home / "project"
    if link == "mlruns":
        project.mkdir()
        (project / "mlruns").symlink_to(theirs)
        os.chown(project, nobody.pw_uid, nobody.pw_gid)
    else:
        project.symlink_to(theirs.parent)
    for path in (home, project / link if link == "mlruns" else project):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    with pytest.raises(OSError, match=r"Permission denied|is a link of user"):
        local_store.mend((project / "mlruns").as_uri())
    assert meta.read_text() == text and not list(project.glob("mlartifacts"))
