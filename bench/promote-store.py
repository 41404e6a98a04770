"""Write a file store of many runs, as a sweep leaves it: promote-store.py DIRECTORY RUNS."""

import sys
import uuid
from pathlib import Path

WHEN = 1_700_000_000_000  # ms
experiment = Path(sys.argv[1]) / "1"
experiment.mkdir(parents=True)
(experiment / "meta.yaml").write_text(
    "artifact_location: file:///home/ada/mlruns/1\nexperiment_id: '1'\nlifecycle_stage: active\n"
    f"name: sweep-{uuid.uuid4().hex}\n"
)
for number in range(int(sys.argv[2])):
    key = uuid.uuid4().hex
    run = experiment / key
    for part in ("metrics", "params", "tags", "artifacts"):
        (run / part).mkdir(parents=True)
    (run / "meta.yaml").write_text(
        f"artifact_uri: file:///home/ada/mlruns/1/{key}/artifacts\nend_time: {WHEN + number + 9}\n"
        f"experiment_id: '1'\nlifecycle_stage: active\nrun_id: {key}\nrun_name: trial {number}\n"
        f"run_uuid: {key}\nstart_time: {WHEN + number}\nstatus: 3\ntags: []\nuser_id: ada\n"
    )
    for index in range(5):
        (run / f"metrics/m{index}").write_text(f"{WHEN + number} {index / 7} 0\n")
        (run / f"params/p{index}").write_text(str(index * number))
    for tag in ("mlflow.user", "mlflow.source.name", "mlflow.source.type"):
        (run / "tags" / tag).write_text("ada")
