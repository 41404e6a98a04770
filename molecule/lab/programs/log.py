"""Log runs until there is a file `stop`; print how many were acknowledged, and are whole."""

import json
import time
from pathlib import Path

import mlflow

METRICS = {f"m{i}": float(i) for i in range(10)}

mlflow.set_experiment("while-something-changes")
done, until = [], time.monotonic() + 840
while not Path("stop").exists() and time.monotonic() < until:
    with mlflow.start_run() as run:
        mlflow.log_metrics(METRICS)
    done.append(run.info.run_id)
    time.sleep(0.2)
found = [mlflow.get_run(run_id) for run_id in done]
whole = [one for one in found if one.info.status == "FINISHED" and one.data.metrics == METRICS]
print(json.dumps([len(done), len(whole)]))
