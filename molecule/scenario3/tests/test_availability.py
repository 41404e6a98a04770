"""Whom nobody let in keeps nobody from working; and what is killed comes back by itself."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hosts import Lab

SERVER, ADA, GRACE = "mlflow.example.com", "login1.example.com", "login2.example.com"
SECONDS = 15
# What MLflow may take beyond what it has when asked nothing. A body was kept whole, and twice.
GROWTH_MB = 150

# Log until the time is over; then compare what was acknowledged with what is there.
TRAIN = """
import json, sys, time
import mlflow

mlflow.set_experiment("under-fire-of-" + sys.argv[1])
logged, files, longest, end = [], [], 0.0, time.monotonic() + float(sys.argv[2])
with mlflow.start_run() as run:
    while time.monotonic() < end:
        began = time.monotonic()
        mlflow.log_metric("step", len(logged), step=len(logged))
        logged.append(len(logged))
        if len(logged) % 10 == 0:
            name = f"{len(logged)}.txt"
            mlflow.log_text(name, name)
            files.append(name)
        longest = max(longest, time.monotonic() - began)
client = mlflow.MlflowClient()
there = [metric.step for metric in client.get_metric_history(run.info.run_id, "step")]
kept = sorted(file.path for file in client.list_artifacts(run.info.run_id))
print(json.dumps({
    "steps": len(logged), "longest": longest, "lost": sorted({*logged} - {*there}),
    "files lost": sorted({*files} - {*kept}), "status": client.get_run(run.info.run_id).info.status,
}))
"""
METRIC = """
import mlflow

mlflow.set_experiment("without-artifacts")
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1.0)
print(mlflow.get_run(run.info.run_id).data.metrics["m"])
"""
# What all processes of MLflow have resident, in kB.
RESIDENT = "ps -o rss= -u mlflow | awk '{ sum += $1 } END { print sum }'"


def most_resident(lab: Lab, over: threading.Event) -> int:
    """Return the most that MLflow has resident until it is over, in MB."""
    most = 0
    while not over.is_set():
        most = max(
            most,
            *map(int, lab.root(SERVER, f"for i in 1 2 3; do {RESIDENT}; sleep 0.3; done").split()),
        )
    return most // 1024


@pytest.fixture(scope="module")
def fire(lab: Lab) -> dict[str, Any]:
    """Two people train, and somebody at Grace's address does what he can."""
    before = int(lab.root(SERVER, RESIDENT)) // 1024
    over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        typed = (
            "export MLFLOW_TRACKING_USERNAME=grace "
            f"MLFLOW_TRACKING_PASSWORD='{lab.variables['vault_mlflow_users']['grace']}'"
        )
        trainers = [
            pool.submit(lab.python, host, user, TRAIN, user, str(SECONDS + 5), before=before)
            for host, user, before in ((ADA, "ada", ""), (GRACE, "grace", typed))
        ]
        most = pool.submit(most_resident, lab, over)
        try:
            said = lab.program(GRACE, "flood", "python3", "grace", arguments=f"{SERVER} {SECONDS}")
            trained = [trainer.result() for trainer in trainers]
        finally:
            over.set()
    return {"growth": most.result() - before, "said": json.loads(said), "trained": trained}


def test_nothing_acknowledged_is_lost_and_no_trainer_fails(fire: dict[str, Any]) -> None:
    for trained in fire["trained"]:
        assert trained["lost"] == trained["files lost"] == []
        assert trained["status"] == "FINISHED"
        assert trained["longest"] < 15 and trained["steps"] > SECONDS, trained


def test_the_attack_took_place_and_got_nothing(fire: dict[str, Any]) -> None:
    large, guesses, slow = (fire["said"][kind] for kind in ("large", "guesses", "slow"))
    assert {*large} <= {"200", "401", "413", "429", "cut"} and {"401", "413"} <= {*large}
    assert large["401"] > 20  # at once: none of them had to be read
    assert {*guesses} <= {"401", "429", "cut"} and guesses["401"] > 0
    assert sum(guesses.values()) > 50  # each waits for its turn, and none is forgotten
    assert slow["cut"] >= 500  # each after 10 seconds


def test_memory_stays_where_it_was(fire: dict[str, Any]) -> None:
    assert fire["growth"] < GROWTH_MB


def test_without_its_store_mlflow_serves_what_it_can(lab: Lab) -> None:
    """It was ended and started over and over, and took no metrics either."""
    lab.root(SERVER, "systemctl stop --no-block seaweedfs")  # before MLflow is up again
    try:
        main = "systemctl show -P MainPID mlflow"
        lab.root(
            SERVER,
            f"kill -9 $({main}); for i in $(seq 60); do sleep 1; "
            "systemctl is-active --quiet mlflow && exit 0; done; exit 1",
        )
        assert lab.python(ADA, "ada", METRIC) == 1.0
        said = lab.root(
            SERVER, "journalctl --no-pager --since=-10min -o cat -u mlflow; mlflow-ready || true"
        )
        assert "MLflow serves, and has no artifacts: Put an artifact: " in said
    finally:
        lab.root(SERVER, "systemctl start seaweedfs; mlflow-ready --wait 60")


def test_a_killed_database_comes_back(lab: Lab) -> None:
    """And the kernel would take MLflow, whose memory clients fill, before it."""
    pid = "cat /var/lib/postgresql/*/main/postmaster.pid | head -n 1"
    main = "systemctl show -P MainPID mlflow"
    scores = lab.root(SERVER, f"cd /proc; cat $({pid})/oom_score_adj $({main})/oom_score_adj")
    database, mlflow = map(int, scores.split())
    assert database < mlflow == 500
    lab.root(SERVER, f"kill -9 $({pid})")
    trained = lab.python(ADA, "ada", TRAIN, "ada", "5")
    assert (trained["status"], trained["lost"]) == ("FINISHED", [])
