"""Eight people train while parts die, and while operations go on: nothing acknowledged is lost.

Run by `make proof`, which writes docs/proof.md; no part of `make test`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import ROOT, Lab
from versions import DEFAULT, LOCKS

from bench._report import machine

SERVER, LOGINS = "mlflow.example.com", {"ada": "login1.example.com", "grace": "login2.example.com"}
PEOPLE = 4  # on each of the two
SECONDS = 600  # with faults
TIMEOUT = 120  # seconds: MLflow's own, where nothing is set
CALM = 20  # seconds between the end of one fault and the next
PAGE = ROOT / "docs/proof.md"
PROGRAM = (ROOT / "molecule/lab/programs/train.py").read_text()
DATABASE = "$(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)"
# What dies, each by itself, and by which command on the server.
FAULTS = {
    "MLflow, all of it": "systemctl kill --signal=KILL mlflow",
    "a worker of MLflow": "kill -9 $(pgrep -u mlflow | tail -n 1)",
    "PostgreSQL's postmaster": f"kill -9 {DATABASE}",
    "a connection's backend": f"kill -9 $(pgrep -P {DATABASE} | tail -n 1)",
    "the store": "systemctl kill --signal=KILL seaweedfs",
    "nginx": "systemctl kill --signal=KILL nginx; systemctl start nginx",
    "the network, for 20 s": "ip link set eth0 down; sleep 20; ip link set eth0 up",
    "the host": "",  # it boots again
}


def start(lab: Lab, user: str, experiment: str) -> None:
    """Have people train from now on, in the background of a login."""
    typed = "" if user == "ada" else (
        f"export MLFLOW_TRACKING_USERNAME={user} "
        f"MLFLOW_TRACKING_PASSWORD='{lab.variables['vault_mlflow_users'][user]}'\n"
    )  # fmt: skip
    lab.ssh(
        LOGINS[user],
        # Where a host died, a client waits as long for an answer that does not come.
        f"{typed}. /opt/mlflow/client/activate; export MLFLOW_HTTP_REQUEST_TIMEOUT={TIMEOUT}\n"
        "rm -f stop said\n"
        f"cat > train.py <<'END_OF_PROGRAM'\n{PROGRAM}\nEND_OF_PROGRAM\n"
        f"setsid sh -c 'python train.py {experiment} {PEOPLE} > out 2> err; mv out said' "
        "< /dev/null > /dev/null 2>&1 &",
        user,
    )


def ended(lab: Lab, user: str) -> dict[str, Any]:
    """Have them end, and return what they found."""
    lab.ssh(LOGINS[user], "touch stop", user)
    deadline = time.monotonic() + 1500
    while not (said := lab.ssh(LOGINS[user], "cat said 2>/dev/null || true", user)):
        assert time.monotonic() < deadline, lab.ssh(LOGINS[user], "tail -n 20 err", user)
        time.sleep(2)
    if not said.strip():
        pytest.fail(lab.ssh(LOGINS[user], "tail -n 20 err", user))
    return dict(json.loads(said.splitlines()[-1]))


Training = Callable[[str], contextlib.AbstractContextManager[None]]
ROWS: list[list[str]] = []


@pytest.fixture(scope="module")
def training(lab: Lab) -> Training:
    """Eight people who train meanwhile; in the end nothing that was acknowledged is missing."""

    @contextlib.contextmanager
    def meanwhile(what: str) -> Iterator[None]:
        began = time.monotonic()
        for user in LOGINS:
            start(lab, user, f"proof-{len(ROWS)}-of-{user}")
        time.sleep(CALM)
        try:
            yield
            time.sleep(CALM)
        finally:
            found = [ended(lab, user) for user in LOGINS]
        acknowledged, refused = (
            sum(one[key] for one in found) for key in ("acknowledged", "refused")
        )
        missing = {run: what for one in found for run, what in one["missing"].items()}
        # Whom the new version served while it was on trial, and then went back: kept beside.
        beside = [run for run in missing if kept(lab, run)]
        lost = {run: missing[run] for run in {*missing} - {*beside}}
        ROWS.append([
            what, f"{time.monotonic() - began:.0f} s", str(sum(one["runs"] for one in found)),
            str(acknowledged), str(refused), f"{max(one['longest'] for one in found):.0f} s",
            str(len(beside)), str(sum(map(len, lost.values()))),
        ])  # fmt: skip
        assert lost == {}
        assert acknowledged > 200

    return meanwhile


def kept(lab: Lab, run: str) -> bool:
    """Return whether a run is in what a switch has kept of a trial."""
    look = (
        "for file in $(find /var/lib/mlflow-switch -path '*came-meanwhile*' -type f); do "
        f"zgrep -aqs {run} $file || pg_restore -f - $file 2>/dev/null | grep -q {run} "
        "&& echo kept && exit; done; true"
    )
    return "kept" in lab.root(SERVER, look)


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[None]:
    """Write down what was seen, with the commit and the machine."""
    yield
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, text=True,
        capture_output=True, check=True,
    ).stdout.strip()  # fmt: skip
    titles = ["meanwhile", "lasted", "runs", "acknowledged writes", "refused", "longest write",
              "runs kept beside", "lost"]  # fmt: skip
    table = "\n".join(
        "| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *ROWS]
    )
    described = "\n".join(
        f"- {name}: {value}" for name, value in machine().items() if name != "Python"
    )
    PAGE.write_text(
        "# Nothing acknowledged is lost\n\n"
        f"Eight people train on scenario 3, on one host, MLflow {DEFAULT}. What was acknowledged "
        "to them is asked for\nafterwards. What was refused they were told, after the client's own "
        "repetitions.\n\n"
        f"{table}\n\nFaults, in turn: {'; '.join(FAULTS)}.\n\n"
        f"Commit {commit}, {time.strftime('%Y-%m-%d')}. The machine, for all hosts together:\n\n"
        f"{described}\n\n"
        "Written by `make proof`.\n"
    )


def test_faults(lab: Lab, training: Training) -> None:
    with training("parts die"):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for command in FAULTS.values():
                if command:
                    lab.root(SERVER, command)
                else:
                    subprocess.run(
                        [sys.executable, ROOT / "molecule/lab/lab.py", "restart", lab.name, SERVER],
                        check=True, capture_output=True,
                    )  # fmt: skip
                    time.sleep(5)
                lab.root(SERVER, "mlflow-ready --wait 120 >/dev/null")
                time.sleep(CALM)
                if time.monotonic() > until:
                    break


def test_a_backup(lab: Lab, training: Training) -> None:
    lab.play("backup.yml")
    with training("a backup"):
        lab.root(SERVER, "systemctl start mlflow-backup")


def test_a_restore_that_fails(lab: Lab, training: Training) -> None:
    with training("a restore that fails"):
        said = lab.play(
            "restore.yml", code=2, mlflow_restore_confirm=SERVER,
            smoke_arguments=["--settings", "/nowhere"],
        )  # fmt: skip
        assert "serves the old data again" in " ".join(said.split())


def test_an_upgrade(lab: Lab, training: Training, tmp_path: Path) -> None:
    # The same packages by another lock: another environment, as any new version is.
    lock = tmp_path / f"mlflow-{DEFAULT}.txt"
    lock.write_text(f"{LOCKS[DEFAULT].read_text()}# of the proof\n")
    with training("an upgrade that fails, and one that works"):
        lab.play(
            "upgrade.yml", code=2, mlflow_lock=str(lock), smoke_arguments=["--settings", "/nowhere"]
        )
        lab.play("upgrade.yml", "--skip-tags", "smoke", mlflow_lock=str(lock))


def test_a_rotation(lab: Lab, training: Training) -> None:
    with training("a rotation of the store's key and MLflow's own"):
        lab.play("rotate.yml", rotate="s3_key,secret_keys")


STALLS = 150  # seconds, more than MLflow's own clients wait
LARGE = """
import hashlib, os, time, mlflow
from pathlib import Path
file = Path("large.bin")
file.write_bytes(os.urandom(300_000_000))
mlflow.set_experiment("large")
began = time.monotonic()
with mlflow.start_run() as run:
    mlflow.log_artifact(str(file))
took = time.monotonic() - began
back = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/large.bin"))
same = hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()
file.unlink()
print(took if same else "another file")
"""


def test_a_store_that_stalls(lab: Lab) -> None:
    """A large file arrives whole, whichever clock of the way is the shortest."""
    lab.root(
        SERVER,
        "systemctl kill --signal=STOP seaweedfs; systemd-run --quiet "
        f"--on-active={STALLS} systemctl kill --signal=CONT seaweedfs",
    )
    said = lab.ssh(
        LOGINS["ada"],
        f". /opt/mlflow/client/activate; python - <<'END_OF_PROGRAM'\n{LARGE}\nEND_OF_PROGRAM",
        "ada",
    )
    took = float(said.splitlines()[-1])
    ROWS.append([f"a store that stalls for {STALLS} s, and 300 MB", f"{took:.0f} s", "1", "1", "0",
                 f"{took:.0f} s", "0", "0"])  # fmt: skip
    assert took > STALLS - 20
