"""What playbooks/promote.yml refuses before it asks a host."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_bad_values_are_named_all_at_once() -> None:
    command = ["ansible-playbook", "-i", "inventories/scenario2", "playbooks/promote.yml"]
    for variable in (
        "mlflow_promote_source=mlruns",
        "mlflow_promote_source_host=laptop",
        "mlflow_promote_tracking_uri=localhost:5000",
        "mlflow_promote_username=ada",
    ):
        command += ["-e", variable]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    said = " ".join(done.stdout.split())
    for words in (
        'mlflow_promote_source is "mlruns"; it must be an absolute path',
        "mlflow_promote_source_host is laptop, which is no host of the inventory",
        'mlflow_promote_tracking_uri is "localhost:5000"; it must be like http://localhost:5000',
        "mlflow_promote_username and mlflow_promote_password must both be set",
        "Nothing was changed.",
    ):
        assert words in said
    assert said.count("fatal:") == 1
