"""Time an artifact of 1 GiB, up and down: through the server, and with boto3 straight to its store.

Run as root on a host of scenario 3 with the environment's Python, `client`'s variables and the
credentials of a user. Prints a JSON object: for each way its times in seconds.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import boto3
import mlflow
from botocore.config import Config

SIZE, ROUNDS, CHUNK = 1 << 30, 3, 1 << 24  # bytes, times, bytes
BUCKET = "mlflow"

lines = Path("/etc/mlflow/server.env").read_text(encoding="utf-8").splitlines()
server = {
    name: value.strip('"')
    for name, _, value in (line.partition("=") for line in lines if line[:1] != "#")
}
store = boto3.client(
    "s3",
    endpoint_url=server["MLFLOW_S3_ENDPOINT_URL"],
    region_name=server["AWS_DEFAULT_REGION"],
    aws_access_key_id=server["AWS_ACCESS_KEY_ID"],
    aws_secret_access_key=server["AWS_SECRET_ACCESS_KEY"],
    config=Config(s3={"addressing_style": "path"}),
)


def through_the_server(file: Path, folder: Path) -> None:
    """Log a file as an artifact of a run, and download it."""
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(file))
    mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path=file.name, dst_path=str(folder)
    )


def straight(file: Path, folder: Path) -> None:
    """Put a file into the bucket and get it, as boto3 does it by itself."""
    key = f"artifacts/bench/{time.time_ns()}"
    store.upload_file(str(file), BUCKET, key)
    store.download_file(BUCKET, key, str(folder / file.name))
    store.delete_object(Bucket=BUCKET, Key=key)


times: dict[str, list[float]] = {"mlflow": [], "boto3": []}
mlflow.set_experiment("bench of artifacts")
with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # /tmp is memory here
    file = Path(place, "large.bin")
    with file.open("wb") as content:
        for _ in range(SIZE // CHUNK):
            content.write(os.urandom(CHUNK))
    for _ in range(ROUNDS):
        for name, way in (("mlflow", through_the_server), ("boto3", straight)):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                start = time.perf_counter()
                way(file, Path(folder))
                times[name].append(round(time.perf_counter() - start, 2))
print(json.dumps(times))
