"""What ada has logged locally comes to the server: all of it, once, and as it was."""

import base64
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from file_stores import FOUND, Damaged, check, damaged, unpacked

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12-server"

Run = Callable[..., str]
PROMOTE = "promote.yml"
PYTHON = "/opt/mlflow/current/bin/python"
LOCAL = "MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI=file:///home/ada/mlruns"
SERVER = "MLFLOW_TRACKING_URI=http://localhost:5000"

# Names that no earlier run of these tests has used: a server keeps those of deleted experiments.
PENGUINS, OWLS, HERONS = (
    f"{name}-{uuid.uuid4().hex[:8]}" for name in ("penguins", "owls", "herons")
)

TRAIN = (
    f"name = '{PENGUINS}'"
    + """
import json, math, mlflow
from mlflow.entities import Metric
from sklearn.linear_model import LogisticRegression

client = mlflow.MlflowClient()
mlflow.set_experiment(name)
with mlflow.start_run(run_name="sweep") as parent:
    mlflow.log_params({f"p{number}": "x" for number in range(101)})
    with mlflow.start_run(nested=True) as run:
        points = [Metric("loss", 1 / (n + 1), 1700000000000 + n, n) for n in range(1500)]
        for start in (0, 1000):
            client.log_batch(run.info.run_id, metrics=points[start:start + 1000])
        mlflow.log_metric("diverged/nan", math.nan, step=7)
        mlflow.log_text("gentoo", "notes/a b.txt")
        model = LogisticRegression(C=0.1).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
        for _ in range(2):
            mlflow.sklearn.log_model(
                model, name="models", pip_requirements=["scikit-learn"], registered_model_name=name
            )
client.delete_model_version(name, "1")
client.set_registered_model_alias(name, "champion", "2")
client.set_model_version_tag(name, "2", "checked", "yes")
mlflow.set_experiment("Default")
with mlflow.start_run(run_name="first try"):
    mlflow.set_tag("why", "to see")
probabilities = model.predict_proba([[0.3], [1.7]]).tolist()
print(json.dumps({"run": run.info.run_id, "parent": parent.info.run_id, "says": probabilities}))
"""
)

# What a colleague sees of one run on the server, by its old id.
LOOK = """
import json, mlflow
client = mlflow.MlflowClient()
where = [experiment.experiment_id for experiment in client.search_experiments()]
def promoted(old):
    [run] = client.search_runs(where, f"tags.`promote.source_run_id` = '{old}'")
    return run
run, parent = promoted(truth["run"]), promoted(truth["parent"])
[version] = client.search_model_versions(f"name = '{name}'")
champion = client.get_model_version_by_alias(name, "champion")
losses = client.get_metric_history(run.info.run_id, "loss")
[diverged] = client.get_metric_history(run.info.run_id, "diverged/nan")
print(json.dumps({
    "says": [
        mlflow.sklearn.load_model(uri).predict_proba([[0.3], [1.7]]).tolist()
        for uri in (f"runs:/{run.info.run_id}/models", f"models:/{name}@champion")
    ],
    "version": [version.version, champion.version, version.tags["checked"]],
    "its run": version.run_id == run.info.run_id,
    "steps": [(metric.step, metric.timestamp) for metric in losses],
    "nan": [str(diverged.value), diverged.step],
    "note": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a b.txt"),
    "params": len(parent.data.params),
    "nested": run.data.tags["mlflow.parentRunId"] == parent.info.run_id,
    "times": [run.info.status, run.info.end_time >= run.info.start_time > 1700000000000],
}))
"""


def python(ssh: Run, environment: str, program: str) -> Any:
    """Run a program as ada with the server's Python, and return what its last line holds."""
    run = f"env {environment} {PYTHON} - 2>/tmp/said || (cat /tmp/said; exit 1)"
    said = ssh(f"({run}) <<'END'\n{program}\nEND")
    return json.loads(said.splitlines()[-1])


def fingerprint(ssh: Run) -> str:
    return ssh("cd ~/mlruns && find . -printf '%p %s %m %u %T@\\n' | sort")


@pytest.fixture(scope="module")
def truth(ssh: Run) -> Iterator[dict[str, Any]]:
    """A store in ada's home, and what is in it; afterwards the server does not show it any more."""
    yield python(ssh, LOCAL, TRAIN)
    ssh("rm -rf ~/mlruns ~/herons")
    python(
        ssh,
        SERVER,
        f"""
import mlflow
client = mlflow.MlflowClient()
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        if "promote.source_run_id" in run.data.tags:
            client.delete_run(run.info.run_id)
    if experiment.name.startswith({PENGUINS, OWLS, HERONS, "damaged-"}):
        client.delete_experiment(experiment.experiment_id)
client.delete_registered_model("{PENGUINS}")
print(0)""",
    )
    ssh("sudo rm -rf /etc/canary", user="ops")


@pytest.fixture
def promote(play: Run) -> Callable[..., str]:
    """Run the shipped playbook on ada's store."""

    def run(*arguments: str, **extra: str) -> str:
        extra = {"mlflow_promote_source": "/home/ada/mlruns", **extra}
        return " ".join(play(PROMOTE, *arguments, user="ops", **extra).split())

    return run


@pytest.fixture
def refused(playbook: Callable[..., list[str]]) -> Callable[..., str]:
    """Run the playbook, see it fail once and change nothing, and return what it says."""

    def run(**extra: str) -> str:
        extra = {"mlflow_promote_source": "/home/ada/mlruns", **extra}
        command = playbook(PROMOTE, user="ops", **extra)
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        said = " ".join(done.stdout.split())
        assert said.count("fatal:") == 1, said
        assert "changed=0" in said
        return said

    return run


def test_check_mode_only_counts(truth: dict[str, Any], promote: Callable[..., str]) -> None:
    said = promote("--check")
    assert "would carry 3 runs, 0 were there already" in said
    assert "changed=0" in said


def test_what_cannot_be_sent_is_sent_later(
    ssh: Run, truth: dict[str, Any], playbook: Callable[..., list[str]], promote: Callable[..., str]
) -> None:
    """Stopped in the middle of a run, with metrics there and artifacts not, it goes on."""
    root = "sudo chmod {} /var/lib/mlflow/artifacts_local"
    ssh(root.format("u-w"), user="ops")
    try:
        done = subprocess.run(
            playbook(PROMOTE, user="ops", mlflow_promote_source="/home/ada/mlruns"),
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    finally:
        ssh(root.format("u+w"), user="ops")
    said = " ".join(done.stdout.split())
    assert f"{truth['run']}: the server fails with it" in said
    assert "the same command brings them" in said
    assert "2 runs carried" in said
    said = promote()
    assert "changed=1" in said
    for count in ("experiments 2 2", "runs 3 3", "params 101 101", "models 2 2",
                  "registered models 1 1", "model versions 1 1"):  # fmt: skip
        assert count in said


def test_all_of_it_is_there_as_it_was(ssh: Run, truth: dict[str, Any]) -> None:
    assert python(ssh, SERVER, f"truth, name = {truth}, '{PENGUINS}'\n{LOOK}") == {
        "says": [truth["says"], truth["says"]],
        "version": ["2", "2", "yes"],
        "its run": True,
        "steps": [[step, 1700000000000 + step] for step in range(1500)],
        "nan": ["nan", 7],
        "note": "gentoo",
        "params": 101,
        "nested": True,
        "times": ["FINISHED", True],
    }


def test_a_second_run_changes_nothing(
    ssh: Run, truth: dict[str, Any], promote: Callable[..., str]
) -> None:
    before = fingerprint(ssh)
    said = promote()
    assert "0 runs carried, 3 were there already" in said
    assert "changed=0" in said
    assert fingerprint(ssh) == before


def test_from_the_machine_that_runs_ansible(
    ssh: Run, truth: dict[str, Any], promote: Callable[..., str], tmp_path: Path
) -> None:
    packed = base64.b64decode(ssh("tar -C ~ -cz mlruns | base64"))
    subprocess.run(["tar", "-C", tmp_path, "-xz"], input=packed, check=True)
    source = str(tmp_path / "mlruns")
    said = promote(mlflow_promote_source=source, mlflow_promote_source_host="localhost")
    assert "0 runs carried, 3 were there already" in said


# Links of a person's to what is root's, where a store has files and directories; and a pipe.
STORE = """
import json, mlflow
mlflow.set_experiment("{name}")
for name in ("whole", "half"):
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_param("kept", 1)
        mlflow.log_metric("kept", 1)
        mlflow.log_text("{name}-of-ada", "notes/kept.txt")
print(json.dumps(run.info.experiment_id))
"""
TRAPS = """
set -eu
cd ~/herons/{experiment}
half=$(dirname $(grep -l 'run_name: half' */meta.yaml))
whole=$(dirname $(grep -l 'run_name: whole' */meta.yaml))
mv $half half; mv $whole whole
for place in half/artifacts/notes half/params half/tags half/metrics; do
    ln -s /etc/canary/file $place/file; ln -s /etc/canary $place/directory
done
mkfifo half/artifacts/pipe
rm -r whole/artifacts whole/params
ln -s /etc/canary whole/artifacts; ln -s /etc/canary whole/params
mv half $half; mv whole $whole
find . -type l -o -type p
"""


@pytest.mark.parametrize("where", ["", "localhost"])
def test_what_a_store_links_to_is_not_carried(
    where: str, ssh: Run, truth: dict[str, Any], promote: Callable[..., str], tmp_path: Path
) -> None:
    """Of the host that it is on, or, out of an archive, of the one that it comes to."""
    ssh("sudo sh -euc 'mkdir -p -m 700 /etc/canary; echo 17 0.5 0 of-root x > /etc/canary/file'",
        user="ops")  # fmt: skip
    local = LOCAL.replace("mlruns", "herons")
    experiment = python(ssh, local, STORE.format(name=f"{HERONS}{where}"))
    links = ssh(TRAPS.format(experiment=experiment)).split()
    source = "/home/ada/herons"
    if where:
        packed = base64.b64decode(ssh("tar -C ~ -cz herons | base64"))
        subprocess.run(["tar", "-C", tmp_path, "-xz"], input=packed, check=True)
        source = str(tmp_path / "herons")
    said = promote(
        mlflow_promote_source=source, mlflow_promote_source_host=where,
        mlflow_promote_incomplete="true",
    )  # fmt: skip
    assert "2 runs carried" in said
    assert f"links, pipes and the like: {len(links)}" in said
    for link in links:
        assert f"{experiment}{link[1:]}" in said
    assert ssh("sudo grep -rl of-root /var/lib/mlflow || true", user="ops") == ""
    mark = f"{HERONS}{where}-of-ada"
    kept = ssh(f"sudo grep -rl {mark} /var/lib/mlflow/artifacts_local", user="ops").split()
    assert [Path(file).name for file in kept] == ["kept.txt"]
    ssh("rm -r ~/herons")


@pytest.fixture(scope="module")
def sick(ssh: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    """A store with all that is known to go wrong, in ada's home."""
    above = tmp_path_factory.mktemp("sick")
    store = damaged(above)
    ssh(unpacked(above, "sick"))
    yield store
    ssh("rm -r ~/sick")


def test_what_can_be_carried_is(
    ssh: Run, truth: dict[str, Any], sick: Damaged, playbook: Callable[..., list[str]],
    promote: Callable[..., str],
) -> None:  # fmt: skip
    """What cannot is counted, named and in the exit; when it is mended, the same goes on."""
    source = {"mlflow_promote_source": "/home/ada/sick/mlruns"}
    done = subprocess.run(
        playbook(PROMOTE, user="ops", **source), capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    assert f"{sick.carried} runs carried" in said and f"runs: {sick.left}" in said, said
    for name in sick.named + sick.refused:
        assert name in said, name
    assert done.returncode == 2
    assert "things are not on the server; they are named above" in said
    assert "links, pipes" not in said

    check(python(ssh, SERVER, f"truth = {sick.runs}\n{FOUND}"), sick)

    # A file that she may not read herself, as a container leaves them.
    mended = sick.runs["empty metric"]
    ssh(f"chmod 000 ~/sick/mlruns/1/{sick.runs['windows']}/artifacts/a.txt")
    ssh(f"echo 1700000000000 0.1 0 > ~/sick/mlruns/1/{mended}/metrics/loss")
    said = promote(**source, mlflow_promote_incomplete="true")
    # It, its child, and the one that has a file less.
    assert f"3 runs carried, {sick.carried - 2} were there already" in said, said
    assert f"runs: {sick.left - 1}" in said and "artifacts/a.txt: its owner may not" in said
    found = python(ssh, SERVER, f"truth = {sick.runs}\n{FOUND}")
    child = found["child of one that is mended later"]
    assert child["parent"] == found["empty metric"]["id"]
    said = promote(**source, mlflow_promote_incomplete="true")
    assert f"0 runs carried, {sick.carried + 1} were there already" in said
    assert "changed=0" in said


def test_bad_sources_and_servers_are_refused(ssh: Run, refused: Callable[..., str]) -> None:
    ssh("mkdir -p ~/empty")
    for extra, words in (
        ({"mlflow_promote_source": "/home/ada/nothing"}, "no directory /home/ada/nothing"),
        ({"mlflow_promote_source": "/home/ada/empty"}, "/home/ada/empty is not a file store"),
        ({"mlflow_promote_tracking_uri": "http://localhost:5999"}, "Connection refused"),
    ):
        said = refused(**extra)
        assert words in said
        assert "nothing was changed" in said
    ssh("rmdir ~/empty")


def test_an_experiment_of_another_origin_is_not_mixed_with(
    ssh: Run, truth: dict[str, Any], refused: Callable[..., str], promote: Callable[..., str]
) -> None:
    begin = (
        f"import mlflow\nmlflow.set_experiment('{OWLS}')\nwith mlflow.start_run(): pass\nprint(0)"
    )
    python(ssh, LOCAL, begin)
    python(ssh, SERVER, begin)
    said = refused()
    assert f'"{OWLS}"' in said
    assert "mlflow_promote_into_existing" in said
    assert "1 runs carried, 3 were there already" in promote(
        "-e", "mlflow_promote_into_existing=true"
    )
