"""A restore into S3: what it replaces there comes back with the databases."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import versions
from disk import settled
from mlflow_environments import environment

from mlflow_ops.backup.bucket import EXCHANGE, Bucket

ROOT = Path(__file__).resolve().parent.parent
OBJECTS: dict[str, bytes] = {}


class S3(BaseHTTPRequestHandler):
    """As much of S3 as objects need."""

    def answer(self, code: int, body: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"0"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        found = OBJECTS.get(self.path.partition("?")[0])
        self.answer(200 if found is not None else 404, found or b"")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        OBJECTS[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a service whose artifacts are there."""
    OBJECTS.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////x.db",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/some/where",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    server.shutdown()
    server.server_close()


def test_what_is_replaced_is_kept_and_comes_back(service: dict[str, str], tmp_path: Path) -> None:
    """Also at a second try. What a cleaning has taken meanwhile is put again."""
    place = "/bucket/some/where"
    OBJECTS.update({f"{place}/1/a": b"newer", f"{place}/1/b": b"put before", f"{place}/2/x": b"x"})
    before = dict(OBJECTS)
    a_set, kept = tmp_path / "set", tmp_path / "kept"
    for path, text in {"1/a": "older", "1/b": "put before", "1/c": "cleaned"}.items():
        file = a_set / "artifacts" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    listed = [{"path": path, "over": path == "1/a"} for path in ("1/a", "1/b", "1/c")]
    (a_set / EXCHANGE).write_text("".join(json.dumps(one) + "\n" for one in listed))

    def bucket(*words: str | Path) -> None:
        done = subprocess.run(
            [environment(versions.DEFAULT), "-Es", ROOT / "src", "backup-bucket", *words],
            capture_output=True, text=True, check=False, env={**os.environ, **service},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    bucket("exchange", a_set, kept)
    bucket("exchange", a_set, kept)
    assert OBJECTS == {**before, f"{place}/1/a": b"older", f"{place}/1/c": b"cleaned"}
    bucket("back", kept)
    assert OBJECTS == {**before, f"{place}/1/c": b"cleaned"}


def test_what_is_replaced_is_on_the_disk_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what is put back after a power cut, and not an empty file of that name."""
    bucket = object.__new__(Bucket)
    bucket.name, bucket.prefix = "bucket", ""

    def download(_bucket: str, key: str, file: str) -> None:
        Path(file).write_text(key)

    bucket.client = SimpleNamespace(download_file=download)
    seen = settled(monkeypatch)
    bucket.keep("1/a", tmp_path)
    assert (tmp_path / "files/1/a").read_text() == "1/a"
    assert len(seen) == 2 and seen[1] == "1"
