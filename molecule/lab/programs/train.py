"""Train as several people until there is a file `stop`; then ask for all that was acknowledged.

  train.py EXPERIMENT PROCESSES

Prints a JSON object: acknowledged, how many writes were; refused, how many were not, after the
client's own repetitions; longest, the seconds that the slowest took; missing, what was acknowledged
and is not there, by run.
"""

import json
import multiprocessing
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow

STEPS, AT_ONCE, MOST = 20, 10, 1500.0  # of a run; metrics of a step; seconds
Acknowledged = dict[str, Any]


def train(experiment: str, queue: Any) -> None:
    """Log runs; put into the queue what of each was acknowledged, and then the totals."""
    experiment_id = mlflow.set_experiment(experiment).experiment_id
    client, refused, longest = mlflow.MlflowClient(), 0, 0.0
    until = time.monotonic() + MOST

    def acknowledged(write: Any) -> Any:
        nonlocal refused, longest
        began = time.monotonic()
        try:
            return write() or True
        except Exception:  # whatever it was, nobody relies on it now
            refused += 1
            return None
        finally:
            longest = max(longest, time.monotonic() - began)

    while not Path("stop").exists() and time.monotonic() < until:
        run = acknowledged(lambda: client.create_run(experiment_id))
        if not run:
            time.sleep(1)
            continue
        one: Acknowledged = {"id": run.info.run_id, "steps": [], "files": [], "finished": False}
        for step in range(STEPS):
            metrics = [mlflow.entities.Metric(f"m{i}", step, 0, step) for i in range(AT_ONCE)]
            if acknowledged(lambda: client.log_batch(one["id"], metrics)):  # noqa: B023 at once
                one["steps"].append(step)
            name = f"{step}.txt"
            if step % 5 == 0 and acknowledged(lambda: client.log_text(one["id"], name, name)):  # noqa: B023
                one["files"].append(name)
            time.sleep(0.05)
        one["finished"] = bool(acknowledged(lambda: client.set_terminated(one["id"])))  # noqa: B023
        queue.put(one)
    queue.put({"refused": refused, "longest": longest})


def missing(client: mlflow.MlflowClient, one: Acknowledged) -> list[str]:
    """Return, in words, what of a run was acknowledged and is not there."""
    try:
        run = client.get_run(one["id"])
    except mlflow.exceptions.MlflowException as error:
        return [f"the run: {error}"]
    gone = ["its end"] if one["finished"] and run.info.status != "FINISHED" else []
    for name in ("m0", f"m{AT_ONCE - 1}"):  # a step's are one transaction: the first and the last
        steps = {metric.step for metric in client.get_metric_history(one["id"], name)}
        gone += [f"{name} of step {step}" for step in one["steps"] if step not in steps]
    for name in one["files"]:
        try:
            path = f"runs:/{one['id']}/{name}"
            text = mlflow.artifacts.load_text(path)
        except Exception as error:
            text = str(error)
        gone += [f"{name}: {text}"] if text != name else []
    return gone


def main() -> None:
    """Do it."""
    experiment, processes = sys.argv[1], int(sys.argv[2])
    mlflow.set_experiment(experiment)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    people = [context.Process(target=train, args=(experiment, queue)) for _ in range(processes)]
    for person in people:
        person.start()
    runs: list[Acknowledged] = []
    totals: list[dict[str, float]] = []
    while len(totals) < processes:
        said = queue.get()
        (runs if "id" in said else totals).append(said)
    for person in people:
        person.join()
    client = mlflow.MlflowClient()
    with ThreadPoolExecutor(4) as pool:
        lost = pool.map(lambda one: missing(client, one), runs)
        gone = {one["id"]: what for one, what in zip(runs, lost, strict=True) if what}
    writes = sum(1 + len(one["steps"]) + len(one["files"]) + one["finished"] for one in runs)
    print(json.dumps({
        "runs": len(runs), "acknowledged": writes,
        "refused": sum(total["refused"] for total in totals),
        "longest": max(total["longest"] for total in totals), "missing": gone,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
