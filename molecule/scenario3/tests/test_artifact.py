"""A large artifact goes up and comes down by the whole way, and nobody holds it in memory."""

from hosts import Lab

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
SIZE = 1 << 30  # bytes

PROGRAM = """
import hashlib, json, os, tempfile
import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

mlflow.set_experiment("large-artifacts")
with mlflow.start_run() as run:
    mlflow.log_artifact("large.bin")
sent = digest("large.bin")
os.unlink("large.bin")
with tempfile.TemporaryDirectory(dir=".") as folder:
    got = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="large.bin", dst_path=folder
    )
    print(json.dumps({"size": os.stat(got).st_size, "same": digest(got) == sent}))
# Other tests back up, drill and restore what is there: they need no gigabyte.
get_artifact_repository(run.info.artifact_uri).delete_artifacts()
"""

# Peak resident memory of a user's processes, in kB, since it was last forgotten.
FORGET = "for pid in $(pgrep -u {0}); do echo 5 > /proc/$pid/clear_refs; done"
PEAK = "for pid in $(pgrep -u {0}); do grep VmHWM /proc/$pid/status; done"


def peak(lab: Lab, user: str) -> float:
    """Return the peak resident memory of a user's processes, in MB."""
    lines = lab.root(SERVER, PEAK.format(user)).splitlines()
    return sum(int(line.split()[1]) for line in lines) / 1024


def test_a_gigabyte_passes_and_memory_stays_flat(lab: Lab) -> None:
    users = ("mlflow", "www-data")
    for user in users:
        lab.root(SERVER, FORGET.format(user))
    before = {user: peak(lab, user) for user in users}
    make = f"head -c {SIZE} /dev/urandom > large.bin"
    assert lab.python(CLIENT, "ada", PROGRAM, before=make) == {"size": SIZE, "same": True}
    assert peak(lab, "mlflow") - before["mlflow"] < 200
    assert peak(lab, "www-data") - before["www-data"] < 50
