"""The service's bucket, by the service's own means: its settings, its key, boto3.

  versions [--any]    print the present version of each object; --any: only see that it may, and
                      print for how many days older versions are kept, where that is known
  check               print what is wrong with the versions on standard input
  fetch DIR           bring the versions on standard input into a directory; print what is wrong
  put DIR             put the files on standard input, which are in a directory, as MLflow would
  exchange SET KEPT   put those of a fetched set that EXCHANGE lists, in the place of what is there,
                      which is brought into a directory first
  back KEPT           put back what an exchange has brought there

What it reads and prints are JSON objects, one a line, so that a million of them are no more memory
than a few: {"path", "why"} is what is wrong. Run with MLflow's Python, which has boto3.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import durable
from ..settings import read_settings
from .index import parts

# Of a fetched set: what the bucket has otherwise (`over`), and what it had not and has got since.
EXCHANGE = "exchange.jsonl"


class Bucket:
    """The service's bucket, below its prefix."""

    def __init__(self) -> None:
        import boto3
        from botocore.config import Config

        settings = read_settings()
        place = urlsplit(settings["MLFLOW_ARTIFACTS_DESTINATION"])
        if place.scheme != "s3":
            sys.exit("The service's artifacts are not in S3. Set mlflow_backup_artifacts: copy.")
        self.name, self.prefix = place.netloc, place.path.strip("/")
        self.put_options = json.loads(settings.get("MLFLOW_S3_UPLOAD_EXTRA_ARGS") or "{}")
        # boto3 reads the rest there itself.
        os.environ.update({key: value for key, value in settings.items() if key[:4] == "AWS_"})
        style = settings.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE")
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.get("MLFLOW_S3_ENDPOINT_URL"),
            config=Config(signature_version="s3v4", s3={"addressing_style": style or "auto"}),
        )

    def key(self, path: str) -> str:
        """Return an artifact's key."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def versions(self) -> Iterator[dict[str, Any]]:
        """Yield the present version of each object."""
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.name, Prefix=self.key("")
        )
        for page in pages:
            for version in page.get("Versions", []):
                if version["IsLatest"] and not version["Key"].endswith("/"):
                    yield {
                        "path": version["Key"][len(self.key("")) :],
                        "size": version["Size"],
                        "modified": version["VersionId"],
                        "sha256": version["ETag"].strip('"'),
                    }

    def keeps_versions(self) -> bool:
        """Return whether the bucket keeps what is overwritten or deleted."""
        answer = self.client.get_bucket_versioning(Bucket=self.name)
        return bool(answer.get("Status") == "Enabled")

    def days(self) -> int:
        """Return after how many days a version that is not the present one goes; 0: unknown."""
        from botocore.exceptions import ClientError

        try:
            found = self.client.get_bucket_lifecycle_configuration(Bucket=self.name)
        except ClientError:  # there is none, or this key may not ask
            return 0
        return min(
            (
                int(rule["NoncurrentVersionExpiration"]["NoncurrentDays"])
                for rule in found.get("Rules", [])
                if rule.get("Status") == "Enabled"
                and "NoncurrentDays" in rule.get("NoncurrentVersionExpiration", {})
                and self.concerns(rule)
            ),
            default=0,
        )

    def concerns(self, rule: dict[str, Any]) -> bool:
        """Return whether a rule of the bucket's life cycle may be about artifacts."""
        prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix")) or ""
        return self.key("").startswith(prefix) or prefix.startswith(self.key(""))

    def wrong(self, artifact: dict[str, Any]) -> str:
        """Return what is wrong with a version, or ''."""
        from botocore.exceptions import ClientError

        where = {"Key": self.key(artifact["path"]), "VersionId": artifact["modified"]}
        try:
            found = self.client.head_object(Bucket=self.name, **where)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return f"{artifact['path']}, version {artifact['modified']}: {code}."
        same = (found["ContentLength"], found["ETag"].strip('"')) == (
            artifact["size"], artifact["sha256"],
        )  # fmt: skip
        return "" if same else f"{artifact['path']}, version {artifact['modified']}: not the same."

    def fetch(self, artifact: dict[str, Any], directory: Path) -> str:
        """Bring a version; return what is wrong with it, or ''."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import ClientError

        file = directory / artifact["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.client.download_file(
                self.name, self.key(artifact["path"]), str(file),
                ExtraArgs={"VersionId": artifact["modified"]},
            )  # fmt: skip
        except (Boto3Error, ClientError) as error:
            return f"{artifact['path']}, version {artifact['modified']}: {error}"
        if file.stat().st_size != artifact["size"]:
            return f"{artifact['path']}: {file.stat().st_size} bytes, not {artifact['size']}."
        if "-" not in artifact["sha256"]:  # of an upload in parts it is no plain digest
            with file.open("rb") as content:
                digest = hashlib.md5(usedforsecurity=False)
                while block := content.read(1 << 20):
                    digest.update(block)
            if len(artifact["sha256"]) == 32 and digest.hexdigest() != artifact["sha256"]:
                return f"{artifact['path']}: its digest is not the one of the backup."
        return ""

    def put(self, artifact: dict[str, Any], directory: Path) -> str:
        """Put a file; return what is wrong with it, or ''."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import ClientError

        file = directory / artifact["path"]
        try:
            self.client.upload_file(
                str(file), self.name, self.key(artifact["path"]), ExtraArgs=self.put_options
            )
        except (Boto3Error, ClientError) as error:
            return f"{artifact['path']}: {error}"
        return ""

    def exchange(self, artifact: dict[str, Any], directory: Path, kept: Path) -> str:
        """Put a file in the place of what is there, which is kept; return what is wrong, or ''."""
        from botocore.exceptions import ClientError

        try:
            if artifact["over"]:
                self.keep(artifact["path"], kept)
            else:  # it was put there before; a cleaning may have come in between
                self.client.head_object(Bucket=self.name, Key=self.key(artifact["path"]))
                return ""
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                return f"{artifact['path']}: {error}"
        return self.put(artifact, directory)

    def keep(self, path: str, kept: Path) -> None:
        """Bring what is there into a directory, whole or not at all. Raises ClientError."""
        file, fresh = kept / "files" / path, kept / uuid.uuid4().hex
        if file.exists():  # by a try before: what is there now is the other
            return
        self.client.download_file(self.name, self.key(path), str(fresh))
        file.parent.mkdir(parents=True, exist_ok=True)
        # On the disk before another is put in its place: it may be the only one.
        durable.rename(fresh, file)


def listed(directory: Path, verb: str) -> Iterator[dict[str, Any]]:
    """Yield the artifacts that a verb is about; of `exchange` and `back` a directory has them."""
    if verb == "exchange":
        with (directory / EXCHANGE).open() as lines:
            yield from map(json.loads, lines)
    elif verb == "back":
        for top, _, names in os.walk(directory / "files"):
            place = Path(top).relative_to(directory / "files")
            yield from ({"path": str(place / name)} for name in names)
    else:
        yield from map(json.loads, sys.stdin)


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description="The service's bucket.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("versions").add_argument("--any", action="store_true")
    verbs.add_parser("check").set_defaults(directory=None)
    for verb in ("fetch", "put", "exchange", "back"):
        action = verbs.add_parser(verb)
        action.add_argument("directory", type=Path, metavar="DIR")
        if verb == "exchange":
            action.add_argument("kept", type=Path, metavar="KEPT")
    arguments = parser.parse_args()
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        bucket = Bucket()
        if arguments.verb == "versions":
            if not bucket.keeps_versions():
                sys.exit(
                    f"Bucket {bucket.name} keeps no versions. Turn versioning on, or set "
                    "mlflow_backup_artifacts: copy."
                )
            for one in [{"days": bucket.days()}] if arguments.any else bucket.versions():
                print(json.dumps(one))
            return 0
        verb, place = arguments.verb, arguments.directory
        if verb == "exchange":
            arguments.kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        act: Callable[[dict[str, Any]], str] = {
            "check": bucket.wrong,
            "fetch": lambda one: bucket.fetch(one, place),
            "put": lambda one: bucket.put(one, place),
            "exchange": lambda one: bucket.exchange(one, place / "artifacts", arguments.kept),
            "back": lambda one: bucket.put(one, place / "files"),
        }[verb]
        with ThreadPoolExecutor(8) as pool:
            for some in parts(listed(place, verb)):
                found = zip(some, pool.map(act, some), strict=True)
                wrong = [{"path": one["path"], "why": why} for one, why in found if why]
                if wrong and verb not in ("check", "fetch"):
                    sys.exit(f"Artifacts do not arrive, {len(wrong)} or more: {wrong[0]['why']}")
                for one in wrong:
                    print(json.dumps(one))
    except (BotoCoreError, ClientError, OSError) as error:
        sys.exit(f"The service's bucket: {error}")
    return 0
